//! The kind of object that declares a service.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, CustomResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::traffic::config::Protocol;

/// Keeps an object until its service is gone.
pub const FINALIZER: &str = "sterna.io/service";

/// A service that Sterna starts and moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "sterna.io",
    version = "v1alpha1",
    kind = "MigratableService",
    namespaced,
    status = "MigratableServiceStatus",
    derive = "PartialEq",
    shortname = "msvc",
    category = "sterna",
    doc = "A service that `sterna run` starts on one of its nodes and moves live between them. A pod with the labels of its template \
           stands for it in the cluster. Deleting it ends the service.",
    label("app.kubernetes.io/name", "sterna"),
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Node","type":"string","jsonPath":".status.node"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct MigratableServiceSpec {
    /// The node that it is first started on, as the inventory calls it. Left out: the one with the most memory to spare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// It stays where it is, whatever a policy says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// What is spoken at its ports, by their names or numbers: `tcp`, `http` or `redis`. A port that is not named here is `tcp`, whose
    /// connections are closed when the service moves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub protocols: BTreeMap<String, Protocol>,
    /// A pod template, as in a Deployment, with one container. A field that can't be honoured is refused.
    #[schemars(schema_with = "as_it_is")]
    pub template: serde_json::Value,
}

/// Kubernetes itself must not judge the template: it would drop what it does not know, and say nothing.
fn as_it_is(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "description": "A pod template, as in a Deployment, with one container. A field that can't be honoured is refused.",
        "x-kubernetes-preserve-unknown-fields": true
    })
}

/// How a service stands.
// What is not known is written as `null`: a merge then removes what another has put there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigratableServiceStatus {
    /// `Refused`, `Pending`, `Running`, `Moving`, `Held`, `Ended`, `Lost`, `Unknown` or `Leaving`.
    pub phase: Option<String>,
    /// The node that has it.
    pub node: Option<String>,
    /// The node that it was or is to be started on first. Written before that is done, and never changed.
    pub first_on: Option<String>,
    /// Whether it has been started. It is never started again by itself.
    #[serde(default)]
    pub started: bool,
    /// Digest of the template that it was started from.
    pub template: Option<String>,
    /// Digest of what its stand-in was told last.
    pub told: Option<String>,
    /// `Accepted`, `Started` and `Ready`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// The definition that a cluster must have before it takes such objects.
pub fn definition() -> CustomResourceDefinition {
    MigratableService::crd()
}

impl MigratableService {
    /// Its name, which is the service's.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Whether somebody has asked for its deletion.
    pub const fn is_to_go(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether it is kept until its service is gone.
    pub fn is_held(&self) -> bool {
        self.metadata.finalizers.iter().flatten().any(|one| one == FINALIZER)
    }

    /// What was said of it last.
    pub fn said(&self) -> MigratableServiceStatus {
        self.status.clone().unwrap_or_default()
    }

    /// A digest of all that its container is made from.
    pub fn digest(&self) -> String {
        // Plain data with text keys, sorted: writing it as JSON can't fail, and gives the same bytes for the same value.
        let text = serde_json::to_vec(&self.spec.template).unwrap_or_default();
        blake3::hash(&text).to_hex()[..16].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_told_to_keep_all_of_a_template() {
        let definition = serde_json::to_value(definition()).unwrap();
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        assert_eq!(spec["template"]["x-kubernetes-preserve-unknown-fields"], true);
        assert_eq!(spec["template"]["type"], "object");
    }
}
