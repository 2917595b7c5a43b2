//! An API server for what the chart makes, and looking into it.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
    ValidationDirective,
};
use kube::{Api, Client};
use serde_json::{Value, json};
use sterna_e2e::charts::{self, Charts};
use sterna_e2e::cluster::Cluster;
use sterna_executor::platform::kubernetes::connection;

/// What makes a kind of object known to a cluster.
pub const DEFINITION: &str = "CustomResourceDefinition";

/// Helm and kustomize; `None`, said loudly, where they can't be had.
#[expect(clippy::print_stderr, reason = "a part that is skipped must be seen")]
pub async fn tools() -> anyhow::Result<Option<Charts>> {
    if let Some(reason) = charts::unavailable() {
        ensure!(std::env::var("CI").as_deref() != Ok("true"), "CI=true, and there is no Helm: {reason}");
        eprintln!("\n!! SKIPPED: the chart: {reason}");
        return Ok(None);
    }
    Charts::obtain().await.map(Some)
}

pub fn documents(rendered: &str) -> anyhow::Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(rendered)?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Documents of a kind, by their names.
pub fn named<'d>(documents: &'d [Value], kind: &str) -> BTreeMap<&'d str, &'d Value> {
    let found = documents.iter().filter(|document| document["kind"] == kind);
    found.filter_map(|document| Some((document["metadata"]["name"].as_str()?, document))).collect()
}

pub fn of_kind<'d>(documents: &'d [Value], kind: &str) -> anyhow::Result<&'d Value> {
    let mut found = documents.iter().filter(|document| document["kind"] == kind);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (one, _) => bail!("{} of kind {kind}", if one.is_some() { "several" } else { "none" }),
    }
}

/// An API server, and a namespace in which pods must be restricted.
pub struct Ground {
    pub cluster: Cluster,
    client: Client,
    pub namespace: String,
}

impl Ground {
    pub async fn up() -> anyhow::Result<Self> {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster::up().await?;
        let client = connection::client(Some(cluster.kubeconfig())).await?;
        let namespace: Namespace = serde_json::from_value(json!({ "metadata": {
            "generateName": "sterna-e2e-",
            "labels": { "pod-security.kubernetes.io/enforce": "restricted" },
        } }))?;
        let made = Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        let namespace = made.metadata.name.context("the namespace has no name")?;
        Ok(Self { cluster, client, namespace })
    }

    /// Asks the API server whether it would take an object, by `kubectl apply`'s own way.
    pub async fn would_take(&self, document: &Value) -> kube::Result<DynamicObject> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let version = text(&document["apiVersion"]);
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let kind = GroupVersionKind::gvk(group, version, &text(&document["kind"]));
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = if document["kind"] == DEFINITION {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
        };
        let mut asked = PatchParams::apply("sterna-e2e").force();
        asked.dry_run = true;
        asked.field_validation = Some(ValidationDirective::Strict);
        api.patch(&text(&document["metadata"]["name"]), &asked, &Patch::Apply(document)).await
    }

    pub async fn down(self) -> anyhow::Result<()> {
        let all = Api::<Namespace>::all(self.client);
        all.delete(&self.namespace, &DeleteParams::default()).await?;
        Ok(())
    }
}

/// The pod that a deployment makes.
pub fn pod(deployment: &Value) -> Value {
    let template = &deployment["spec"]["template"];
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "one",
            "labels": template["metadata"]["labels"],
            "annotations": template["metadata"]["annotations"],
        },
        "spec": template["spec"],
    })
}

pub fn refused(answer: kube::Result<DynamicObject>, why: &str) -> anyhow::Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if status.message.contains(why) => Ok(()),
        other => bail!("it was to be refused for `{why}`: {other:?}"),
    }
}
