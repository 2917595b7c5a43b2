//! The kind of object that a migration is shown as.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ObjectMeta;
use kube::{CustomResource, CustomResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sterna_core::plan::MoveCost;
use sterna_policies::quantity::{Bytes, Millis};

use super::account::Account;
use crate::migration::order::MigrationId;

/// Keeps an object until its migration has ended.
pub const FINALIZER: &str = "sterna.io/migration";
/// The label that names an object's continuum.
pub const CONTINUUM: &str = "sterna.io/continuum";
/// The label that names the service.
pub const SERVICE: &str = "sterna.io/service";

/// What is moved, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "sterna.io",
    version = "v1alpha1",
    kind = "Migration",
    namespaced,
    status = "MigrationStatus",
    derive = "PartialEq",
    shortname = "mig",
    category = "sterna",
    doc = "One migration of a service, as the scheduler `sterna run` shows it. Deleting it asks for the migration to be undone.",
    label("app.kubernetes.io/name", "sterna"),
    printcolumn = r#"{"name":"Service","type":"string","jsonPath":".spec.service"}"#,
    printcolumn = r#"{"name":"From","type":"string","jsonPath":".spec.from"}"#,
    printcolumn = r#"{"name":"To","type":"string","jsonPath":".spec.to"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Outcome","type":"string","jsonPath":".status.outcome"}"#,
    printcolumn = r#"{"name":"Downtime","type":"string","jsonPath":".status.downtime"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct MigrationSpec {
    /// The migration's id, as `sterna history` has it.
    pub migration: String,
    /// The continuum.
    pub continuum: String,
    /// The service.
    pub service: String,
    /// The node that it leaves.
    pub from: String,
    /// The node that it goes to.
    pub to: String,
    /// The policy by which it was ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Number of the decision that ordered it, as `sterna history` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<i64>,
    /// Why, in a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it was predicted to cost.
    pub predicted: Predicted,
}

/// What a migration was predicted to cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Predicted {
    /// How long the service stands still.
    pub downtime: String,
    /// From start to end.
    pub duration: String,
    /// What crosses the link.
    pub bytes: i64,
}

/// How far a migration has come, and what came of it.
// What is not known is written as `null`: a merge then removes what another has put there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationStatus {
    /// The last phase that was reached: planned, checked, reserved, synced, frozen, dumped, transferred, restored, verified,
    /// committed, released or cleaned.
    pub phase: Option<String>,
    /// What came of it: moved, rolled-back, refused, or unknown where nobody knows; absent while it runs.
    pub outcome: Option<String>,
    /// How long the service stood still, as measured.
    pub downtime: Option<String>,
    /// From start to end, as measured.
    pub duration: Option<String>,
    /// What crossed the link.
    pub bytes: Option<i64>,
    /// What happened, in a line.
    pub report: Option<String>,
    /// `Progressing`, `Committed`, `Succeeded` and `Cancelled`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// The definition that a cluster must have before it takes such objects.
pub fn definition() -> CustomResourceDefinition {
    Migration::crd()
}

impl Migration {
    /// The object of a migration: made, nothing said of it yet.
    pub fn of(account: &Account, continuum: &str) -> Self {
        let labels = [
            ("app.kubernetes.io/name", "sterna"),
            ("app.kubernetes.io/managed-by", "sterna"),
            (CONTINUUM, continuum),
            (SERVICE, account.service.as_str()),
        ];
        let labels: BTreeMap<_, _> =
            labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let MoveCost { downtime, duration, bytes } = account.predicted;
        Self {
            metadata: ObjectMeta {
                name: Some(account.id.to_string()),
                labels: Some(labels),
                finalizers: Some(vec![FINALIZER.to_owned()]),
                ..ObjectMeta::default()
            },
            spec: MigrationSpec {
                migration: account.id.to_string(),
                continuum: continuum.to_owned(),
                service: account.service.to_string(),
                from: account.from.to_string(),
                to: account.to.to_string(),
                policy: account.policy.clone(),
                decision: account.decision,
                reason: account.reason.clone(),
                predicted: Predicted {
                    downtime: span(downtime),
                    duration: span(duration),
                    bytes: size(bytes),
                },
            },
            status: None,
        }
    }

    /// Its name; empty only before it is made.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The migration that it shows; `None` of one that somebody else has made.
    ///
    /// By its name, which can't be changed.
    pub fn id(&self) -> Option<MigrationId> {
        self.name().parse().ok()
    }

    /// Whether somebody has asked for its deletion.
    pub const fn is_to_go(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether it is kept until its migration has ended.
    pub fn is_held(&self) -> bool {
        self.metadata.finalizers.iter().flatten().any(|one| one == FINALIZER)
    }

    /// A condition of it.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.as_ref()?.conditions.iter().find(|one| one.type_ == kind)
    }
}

/// A time as people read it.
pub(super) fn span(time: Millis) -> String {
    let millis = time.as_f64();
    if millis >= 1000.0 { format!("{:.2}s", millis / 1e3) } else { format!("{millis:.0}ms") }
}

/// Kubernetes' integers have a sign.
pub(super) fn size(bytes: Bytes) -> i64 {
    i64::try_from(bytes.0).unwrap_or(i64::MAX)
}
