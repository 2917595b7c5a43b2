//! What a scheduler must be allowed to do in a cluster: no more than what the code beside this asks for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::api::ObjectMeta;

use super::lease::Place;

/// A service account, and what it may do.
#[derive(Debug, Clone, PartialEq)]
pub struct Rights {
    /// The account that a scheduler's pod names.
    pub account: ServiceAccount,
    /// What it may do.
    pub role: Role,
    /// That it may.
    pub binding: RoleBinding,
}

/// What schedulers of this account need to contend for that lease.
pub fn rights(place: &Place, account: &str) -> Rights {
    let metadata = || ObjectMeta {
        name: Some(account.to_owned()),
        namespace: Some(place.namespace.clone()),
        labels: Some(BTreeMap::from([("app.kubernetes.io/name".to_owned(), "sterna".to_owned())])),
        ..ObjectMeta::default()
    };
    let leases = |verbs: &[&str], names: Option<&str>| PolicyRule {
        api_groups: Some(vec!["coordination.k8s.io".to_owned()]),
        resources: Some(vec!["leases".to_owned()]),
        resource_names: names.map(|name| vec![name.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    };
    Rights {
        account: ServiceAccount { metadata: metadata(), ..ServiceAccount::default() },
        role: Role {
            metadata: metadata(),
            // What is to be made has no name yet that could be asked about.
            rules: Some(vec![leases(&["create"], None), leases(&["get", "update"], Some(&place.name))]),
        },
        binding: RoleBinding {
            metadata: metadata(),
            role_ref: RoleRef {
                api_group: "rbac.authorization.k8s.io".to_owned(),
                kind: "Role".to_owned(),
                name: account.to_owned(),
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".to_owned(),
                name: account.to_owned(),
                namespace: Some(place.namespace.clone()),
                ..Subject::default()
            }]),
        },
    }
}
