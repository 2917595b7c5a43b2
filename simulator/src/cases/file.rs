//! The file of cases as it is written. Doc comments here are what people read where a key is missing.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sterna_core::history::Outcome;
use sterna_policies::load::{At, Written};
use sterna_policies::policy::Metric;
use sterna_policies::quantity::{Bytes, GramsPerKwh, Millis, PerSecond, Percent, UsdPerHour, Watts};

/// Cases: what a policy must decide in described situations.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Cases")]
pub struct CasesFile {
    /// The version of this format: 1.
    pub schema_version: At<u32>,
    /// The inventory file, relative to this one.
    pub inventory: At<String>,
    /// The policy file, relative to this one. Left out: it is named when the cases are tried.
    pub policy: Option<At<String>>,
    /// When the cases are, such as "2026-03-02T12:00:00Z", unless one says otherwise. Left out: that very instant.
    pub at: Option<At<String>>,
    /// What holds in every case, as far as it does not say otherwise.
    pub given: Option<GivenFile>,
    /// The cases, `[[case]]`.
    pub case: At<Vec<At<CaseFile>>>,
}

/// One situation, and what must come of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Case")]
pub struct CaseFile {
    /// What it shows, in a few words.
    pub name: At<String>,
    /// When it is.
    pub at: Option<At<String>>,
    /// What is, beside what holds in every case.
    pub given: Option<GivenFile>,
    /// What must come of it.
    pub expect: At<ExpectFile>,
}

/// What is. A number that is not given is not known.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Given")]
pub struct GivenFile {
    /// Node of each service; the inventory's `run.on` where it is left out, else it runs nowhere.
    #[serde(default)]
    pub placement: BTreeMap<At<String>, At<String>>,
    /// Nodes that don't answer.
    #[serde(default)]
    pub unreachable: Vec<At<String>>,
    /// Nodes that are drained.
    #[serde(default)]
    pub drain: Vec<At<String>>,
    /// Latency by user group and site.
    #[serde(default)]
    pub latency: BTreeMap<At<String>, BTreeMap<At<String>, Written<Millis>>>,
    /// Requests per second by user group and service; the inventory's where it is left out.
    #[serde(default)]
    pub rate: BTreeMap<At<String>, BTreeMap<At<String>, Written<PerSecond>>>,
    /// Price of a node by site.
    #[serde(default)]
    pub price: BTreeMap<At<String>, Written<UsdPerHour>>,
    /// Power of a node by site.
    #[serde(default)]
    pub power: BTreeMap<At<String>, Written<Watts>>,
    /// Share of the processor in use by site.
    #[serde(default)]
    pub cpu_use: BTreeMap<At<String>, Written<Percent>>,
    /// Carbon intensity by site.
    #[serde(default)]
    pub carbon: BTreeMap<At<String>, Written<GramsPerKwh>>,
    /// Memory that services hold.
    #[serde(default)]
    pub memory: BTreeMap<At<String>, Written<Bytes>>,
    /// For how long all of this has been so, at every look of the scheduler, but not from before what has migrated last. Left
    /// out: it has just become so.
    pub lasting: Option<Written<Millis>>,
    /// Numbers that hold in every other case, and are not known in this one.
    #[serde(default)]
    pub missing: Vec<MissingFile>,
    /// Migrations under way.
    #[serde(default)]
    pub moving: Vec<MovingFile>,
    /// Migrations that ended before.
    #[serde(default)]
    pub migrated: Vec<MigratedFile>,
}

/// A number that is not known.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Missing")]
pub struct MissingFile {
    /// The metric.
    pub metric: Metric,
    /// The site. Left out: all.
    pub site: Option<At<String>>,
}

/// A migration under way.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Moving")]
pub struct MovingFile {
    /// The service.
    pub service: At<String>,
    /// The node that it leaves.
    pub from: At<String>,
    /// The node that it goes to.
    pub to: At<String>,
}

/// A migration that ended before.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Migrated")]
pub struct MigratedFile {
    /// The service.
    pub service: At<String>,
    /// The node that it left.
    pub from: At<String>,
    /// The node that it went to.
    pub to: At<String>,
    /// How long before it ended.
    pub ago: Written<Millis>,
    /// What came of it. Left out: `moved`.
    pub outcome: Option<Came>,
    /// For how long the service stood still. Left out: `1s`.
    pub downtime: Option<Written<Millis>>,
    /// What crossed the link. Left out: nothing.
    pub bytes: Option<Written<Bytes>>,
}

/// What came of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Came {
    /// The service runs at the destination.
    #[default]
    Moved,
    /// It was undone.
    RolledBack,
    /// It was refused before anything was touched.
    Refused,
}

impl From<Came> for Outcome {
    fn from(came: Came) -> Self {
        match came {
            Came::Moved => Self::Moved,
            Came::RolledBack => Self::RolledBack,
            Came::Refused => Self::Refused,
        }
    }
}

/// What must come of a case: at least one of these.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Expect")]
pub struct ExpectFile {
    /// The outcome: `move`, `stay` or `held`.
    pub verdict: Option<Outlook>,
    /// All moves: the service and the node that it ends up on. `{}` for none.
    pub moves: Option<BTreeMap<At<String>, At<String>>>,
    /// Rules that hold a service, such as { shop = ["residency"] }; others may as well.
    #[serde(default)]
    pub held: BTreeMap<At<String>, Vec<String>>,
    /// Rules that exclude a node for a service, such as { shop = { cloud-1 = ["region"] } }; others may as well.
    #[serde(default)]
    pub excluded: BTreeMap<At<String>, BTreeMap<At<String>, Vec<String>>>,
}

/// What comes of a decision, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outlook {
    /// Something is moved.
    Move,
    /// Everything stays, for nothing is better.
    Stay,
    /// Something would be better, but is held.
    Held,
}
