//! That the rights which are printed suffice to lead services of a cluster, and that each is needed.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::Deserialize as _;
use serde_json::{Value, json};
use sterna_executor::platform::kubernetes::service_endpoints::objects::{self, EndpointError, Slices as _};
use sterna_executor::platform::kubernetes::service_endpoints::reconcile::reconcile;
use sterna_executor::traffic::announcement::{Announced, Standing};
use sterna_executor::traffic::hearing::Known;
use sterna_executor::traffic::place::Owned;

use super::{Ground, PORT, eventually, own};

const CONTINUUM: &str = "shop";

/// All that is done: a slice is made, leads elsewhere, and goes. Gives what is refused.
async fn all_of_it(ground: &Ground, namespace: &objects::Namespace) -> anyhow::Result<Option<String>> {
    ground.slices().delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    for (host, named) in [("10.0.0.1", Some("redis")), ("10.0.0.2", Some("redis")), ("10.0.0.2", None)] {
        ground.name("cache", named).await?;
        let announced =
            Announced { epoch: 1, standing: Standing::Runs, ports: BTreeMap::from([(PORT, PORT)]) };
        let owned = Owned { node: "n1".into(), host: host.parse()?, announced };
        let known = BTreeMap::from([("redis".into(), Known::At(owned))]);
        for look in 0.. {
            ensure!(look < 10, "it does not come to rest");
            let went = async {
                let seen = namespace.list(CONTINUUM).await?;
                let due = reconcile(CONTINUUM, &known, &seen.services, &seen.slices);
                for step in &due.steps {
                    namespace.write(step).await?;
                }
                Ok(due.steps.is_empty())
            };
            match went.await {
                Ok(true) => break,
                Ok(false) => {}
                Err(EndpointError::Forbidden { verb, resource, .. }) => {
                    return Ok(Some(format!("{verb} {resource}")));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    let left = ground.slices().list(&ListParams::default()).await?.items;
    ensure!(left.is_empty(), "{left:?}");
    Ok(None)
}

#[tokio::test]
async fn the_rights_that_are_printed_suffice_and_each_is_needed() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let namespace = ground.namespace.as_str();
    ground.service("cache", "redis", json!(null)).await?;
    let rbac = ["rbac", "--namespace", namespace, "--account", "leader", "--endpoints", namespace];
    let documents: Vec<Value> = serde_saphyr::from_multiple(&ground.sterna.must(&rbac).await?)?;
    let [account, _, _, role, binding] = &documents[..] else { bail!("five objects: {documents:?}") };
    let (client, creates) = (|| ground.client.clone(), PostParams::default());
    Api::namespaced(client(), namespace).create(&creates, &ServiceAccount::deserialize(account)?).await?;
    let roles: Api<Role> = Api::namespaced(client(), namespace);
    let role = roles.create(&creates, &Role::deserialize(role)?).await?;
    Api::namespaced(client(), namespace).create(&creates, &RoleBinding::deserialize(binding)?).await?;
    let of_account = own::of_account(&ground.cluster, &ground.client, namespace, "leader").await?;
    let objects = objects::Namespace::new(of_account, namespace);
    let works = async || Ok(all_of_it(&ground, &objects).await?.is_none());
    eventually("the rights suffice", &works).await?;

    let name = role.metadata.name.context("the role has no name")?;
    let rules = role.rules.context("the role allows nothing")?;
    let with = |rules: &[PolicyRule]| Patch::Merge(json!({ "rules": rules }));
    let mut verbs = Vec::new();
    for (number, rule) in rules.iter().enumerate() {
        let resource = rule.resources.iter().flatten().next().context("a rule for nothing")?;
        for removed in &rule.verbs {
            let mut fewer = rules.clone();
            fewer[number].verbs.retain(|verb| verb != removed);
            fewer.retain(|rule| !rule.verbs.is_empty());
            roles.patch(&name, &PatchParams::default(), &with(&fewer)).await?;
            let expected = format!("{removed} {resource}");
            let missed = async || Ok(all_of_it(&ground, &objects).await?.as_ref() == Some(&expected));
            eventually(&format!("{expected} is missed"), &missed).await?;
            roles.patch(&name, &PatchParams::default(), &with(&rules)).await?;
            eventually("it is given back", &works).await?;
            verbs.push(expected);
        }
    }
    ensure!(verbs.len() == 5, "{verbs:?}");
    own::remove(ground.client, &ground.namespace).await
}
