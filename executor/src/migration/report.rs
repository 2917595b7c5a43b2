//! What a migration says while it runs, and when it has ended.

use serde::{Deserialize, Serialize};
use sterna_core::continuum::{NodeName, ServiceName};
use sterna_core::history;
use sterna_policies::quantity::{Bytes, Millis};

use super::finding::Finding;
use super::forecast::{Forecast, Load};
use super::order::MigrationId;
use super::phase::Phase;
use super::table::Undo;

/// A sign of life from a running migration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// A phase was reached.
    Reached(PhaseRecord),
    /// Bytes that crossed so far in the phase under way, of how many where that is known.
    Progress {
        /// So far.
        bytes: Bytes,
        /// Of how many.
        of: Option<Bytes>,
        /// In the last second.
        #[serde(default)]
        per_second: Bytes,
    },
    /// It has ended. Always the last event.
    Ended(Report),
}

/// What reaching one phase took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// The phase.
    pub phase: Phase,
    /// Time since the phase before it.
    pub took: Millis,
    /// What crossed the link.
    pub bytes: Bytes,
}

/// How a migration ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which.
    pub id: MigrationId,
    /// The service.
    pub service: ServiceName,
    /// Where from.
    pub from: NodeName,
    /// Where to.
    pub to: NodeName,
    /// What came of it.
    pub outcome: Outcome,
    /// The phases that were reached, in order.
    pub phases: Vec<PhaseRecord>,
    /// From before the source was frozen to after the destination was released, by the source agent's clock: never less
    /// than what the service itself could tell. `None` where it was not moved.
    pub downtime: Option<Millis>,
    /// What it had to carry, as the check has measured it.
    #[serde(default)]
    pub load: Option<Load>,
    /// What it was predicted to cost by the source's agent, from this and from earlier moves between the two nodes.
    #[serde(default)]
    pub forecast: Option<Forecast>,
    /// How long the source stood frozen before it was thawed again; zero where it was not.
    pub frozen_in_vain: Millis,
    /// What was undone, in order; what could not be undone within some tries is left to the agents and not in it.
    #[serde(default)]
    pub undone: Vec<Undo>,
    /// Why the service was started anew from its image and files, where it was: its processes, and with them its memory,
    /// were lost with the node that held them. `None` for a service that goes on where it stopped.
    #[serde(default)]
    pub started_anew: Option<String>,
}

impl Report {
    /// What crossed the link, all phases together.
    pub fn bytes(&self) -> Bytes {
        Bytes(self.phases.iter().fold(0, |sum, one| one.bytes.0.saturating_add(sum)))
    }

    /// From start to end.
    pub fn duration(&self) -> Millis {
        self.phases.iter().fold(Millis::ZERO, |sum, one| sum.saturating_add(one.took))
    }

    /// The outcome as history keeps it.
    pub fn past_outcome(&self) -> history::Outcome {
        match self.outcome {
            Outcome::Moved => history::Outcome::Moved,
            Outcome::RolledBack { .. } => history::Outcome::RolledBack,
            Outcome::Refused { .. } => history::Outcome::Refused,
        }
    }
}

#[cfg(test)]
impl Report {
    /// One of a service that was moved, for tests.
    pub(crate) fn example(id: MigrationId) -> Self {
        Self {
            id,
            service: "redis".into(),
            from: "a".into(),
            to: "b".into(),
            outcome: Outcome::Moved,
            phases: vec![],
            downtime: None,
            load: None,
            forecast: None,
            frozen_in_vain: Millis::ZERO,
            undone: vec![],
            started_anew: None,
        }
    }
}

/// What came of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// The service runs at the destination.
    Moved,
    /// Undone: the same process goes on at the source.
    RolledBack {
        /// The last phase that was reached.
        after: Phase,
        /// What went wrong.
        reason: String,
    },
    /// Refused before anything was touched.
    Refused {
        /// Each thing that speaks against it.
        findings: Vec<Finding>,
    },
}
