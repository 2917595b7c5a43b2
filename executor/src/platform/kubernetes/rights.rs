//! What a scheduler or a front must be allowed to do in a cluster: no more than what the code beside this asks for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::api::ObjectMeta;

use super::lease::Place;
use super::node::manifest;

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

/// How far an account may go with nodes that are pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To find them: for fronts.
    Find,
    /// To find them and see them end: for `sterna run` and all that moves services, and for `sterna sites status`.
    Observe,
    /// To make and remove them too: for `sterna sites up` and `down`.
    Act,
}

/// What an account may do with the nodes in a namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRights {
    /// The namespace, in which pods may be privileged; only where pods are to be made.
    pub namespace: Option<Namespace>,
    /// What it may do there.
    pub role: Role,
    /// That it may.
    pub binding: RoleBinding,
}

/// What schedulers of this account need to contend for that lease.
pub fn rights(place: &Place, account: &str) -> Rights {
    let leases = |verbs: &[&str], names: Option<&str>| PolicyRule {
        resource_names: names.map(|name| vec![name.to_owned()]),
        ..rule("coordination.k8s.io", "leases", verbs)
    };
    let metadata = || metadata(account, &place.namespace);
    Rights {
        account: service_account(account, &place.namespace),
        role: Role {
            metadata: metadata(),
            // What is to be made has no name yet that could be asked about.
            rules: Some(vec![leases(&["create"], None), leases(&["get", "update"], Some(&place.name))]),
        },
        binding: binding(metadata(), account, &place.namespace),
    }
}

/// The account of fronts, which need nothing in their own namespace.
pub fn service_account(account: &str, namespace: &str) -> ServiceAccount {
    ServiceAccount { metadata: metadata(account, namespace), ..ServiceAccount::default() }
}

/// What an account may do with objects in a namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectRights {
    /// What it may do there.
    pub role: Role,
    /// That it may.
    pub binding: RoleBinding,
}

/// What that account of the namespace `home` needs to show migrations as objects in a namespace.
pub fn migration_rights(namespace: &str, account: &str, home: &str) -> ObjectRights {
    let metadata = || metadata(&format!("{account}-migrations"), namespace);
    let rules = vec![
        rule("sterna.io", "migrations", &["list", "create", "patch", "delete"]),
        rule("sterna.io", "migrations/status", &["patch"]),
        events(),
    ];
    ObjectRights {
        role: Role { metadata: metadata(), rules: Some(rules) },
        binding: binding(metadata(), account, home),
    }
}

/// What that account of the namespace `home` needs to look after the services that are declared in a namespace.
pub fn service_rights(namespace: &str, account: &str, home: &str) -> ObjectRights {
    let metadata = || metadata(&format!("{account}-services"), namespace);
    let rules = vec![
        rule("sterna.io", "migratableservices", &["list", "patch"]),
        rule("sterna.io", "migratableservices/status", &["patch"]),
        rule("", "pods", &["list", "create", "patch", "delete"]),
        // What is applied is made where it is absent.
        rule("", "configmaps", &["create", "patch"]),
        // Never read: the keys of stand-ins are in them.
        rule("", "secrets", &["create"]),
        events(),
    ];
    ObjectRights {
        role: Role { metadata: metadata(), rules: Some(rules) },
        binding: binding(metadata(), account, home),
    }
}

/// What an account may do with the services of the cluster in a namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointRights {
    /// What it may do there.
    pub role: Role,
    /// That it may.
    pub binding: RoleBinding,
}

/// What that account of the namespace `home` needs to have services of the cluster lead to where services run.
pub fn endpoint_rights(namespace: &str, account: &str, home: &str) -> EndpointRights {
    let metadata = || metadata(&format!("{account}-endpoints"), namespace);
    let rules = vec![
        rule("", "services", &["list"]),
        rule("discovery.k8s.io", "endpointslices", &["list", "create", "patch", "delete"]),
    ];
    EndpointRights {
        role: Role { metadata: metadata(), rules: Some(rules) },
        binding: binding(metadata(), account, home),
    }
}

/// What it takes to tell what happens in a namespace.
pub fn events() -> PolicyRule {
    rule("events.k8s.io", "events", &["create"])
}

/// What that account of the namespace `home` needs for the nodes in a namespace; `tells`: also to write there what happens to them.
pub fn node_rights(namespace: &str, reach: Reach, tells: bool, account: &str, home: &str) -> NodeRights {
    let metadata = || metadata(&format!("{account}-nodes"), namespace);
    let mut rules = match reach {
        Reach::Find => vec![rule("", "pods", &["list"])],
        Reach::Observe => vec![rule("", "pods", &["list", "watch"])],
        Reach::Act => vec![
            rule("", "pods", &["list", "watch", "create", "delete"]),
            // Never read: the keys of nodes are in them.
            rule("", "secrets", &["create", "delete"]),
            rule("", "persistentvolumeclaims", &["list", "create", "delete"]),
        ],
    };
    rules.extend(tells.then(events));
    NodeRights {
        namespace: (reach == Reach::Act).then(|| manifest::namespace(namespace)),
        role: Role { metadata: metadata(), rules: Some(rules) },
        binding: binding(metadata(), account, home),
    }
}

fn metadata(name: &str, namespace: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(BTreeMap::from([("app.kubernetes.io/name".to_owned(), "sterna".to_owned())])),
        ..ObjectMeta::default()
    }
}

fn rule(group: &str, resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

/// Binds the role of the same name to an account.
fn binding(metadata: ObjectMeta, account: &str, home: &str) -> RoleBinding {
    RoleBinding {
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: metadata.name.clone().unwrap_or_default(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: account.to_owned(),
            namespace: Some(home.to_owned()),
            ..Subject::default()
        }]),
        metadata,
    }
}
