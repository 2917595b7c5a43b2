//! What the scheduler of a test may do: what `sterna rbac` prints, and less.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde::Deserialize as _;
use serde_json::json;
use sterna_e2e::namespace::Ground;
use sterna_e2e::patience::eventually;

use super::SOON;

const ACCOUNT: &str = "shower";

/// Grants an account all that showing migrations takes where nodes are pods of that namespace; gives its kubeconfig.
pub async fn grant(ground: &Ground, nodes: &str) -> anyhow::Result<String> {
    let home = ground.namespace.as_str();
    let rbac = ["rbac", "--namespace", home, "--account", ACCOUNT, "--nodes", nodes, "--migrations", home];
    let objects = ground.printed(&rbac).await?;
    ensure!(objects.len() == 7, "an account, and three roles with their bindings: {objects:?}");
    ground.apply(&objects).await?;
    eventually(SOON, "the rights are there", async || may(ground, nodes, "events").await).await?;
    ground.kubeconfig_of(ACCOUNT).await
}

/// Takes the rule for a resource in the namespace of the nodes away.
pub async fn take_away(ground: &Ground, nodes: &str, resource: &str) -> anyhow::Result<()> {
    let roles: Api<Role> = Api::namespaced(ground.client.clone(), nodes);
    let name = format!("{ACCOUNT}-nodes");
    let mut rules = roles.get(&name).await?.rules.context("the role allows nothing")?;
    let all = rules.len();
    rules.retain(|rule| rule.resources.iter().flatten().all(|one| one != resource));
    ensure!(rules.len() + 1 == all, "no rule of its own for {resource}: {rules:?}");
    roles.patch(&name, &PatchParams::default(), &Patch::Merge(json!({ "rules": rules }))).await?;
    eventually(SOON, "it is taken away", async || Ok(!may(ground, nodes, resource).await?)).await
}

/// Whether the account may make those there.
async fn may(ground: &Ground, namespace: &str, resource: &str) -> anyhow::Result<bool> {
    let asked = json!({
        "metadata": {},
        "spec": {
            "user": format!("system:serviceaccount:{}:{ACCOUNT}", ground.namespace),
            "resourceAttributes": {
                "namespace": namespace, "verb": "create", "group": "events.k8s.io", "resource": resource,
            },
        },
    });
    let all: Api<SubjectAccessReview> = Api::all(ground.client.clone());
    let answer = all.create(&PostParams::default(), &SubjectAccessReview::deserialize(asked)?).await?;
    Ok(answer.status.context("no answer")?.allowed)
}
