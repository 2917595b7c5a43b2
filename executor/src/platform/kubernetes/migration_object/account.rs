//! What is known of a migration, as whoever shows it is told.

use sterna_core::continuum::{NodeName, ServiceName};
use sterna_core::history::Outcome;
use sterna_core::plan::MoveCost;
use sterna_policies::quantity::{Bytes, Millis};

use crate::migration::order::MigrationId;
use crate::migration::phase::Phase;

/// What is known of one migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Which.
    pub id: MigrationId,
    /// The service.
    pub service: ServiceName,
    /// Where from.
    pub from: NodeName,
    /// Where to.
    pub to: NodeName,
    /// The policy by which it was ordered; `None` where a person did, or where that is not known.
    pub policy: Option<String>,
    /// Number of the decision that ordered it, as above.
    pub decision: Option<i64>,
    /// Why, in a line.
    pub reason: Option<String>,
    /// What it was predicted to cost.
    pub predicted: MoveCost,
    /// How far it has come.
    pub course: Course,
    /// Whether its object has been seen: then one that is absent was removed, and is not made again once the migration has ended.
    pub shown: bool,
}

/// How far a migration has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// It runs, or its end has not been seen yet.
    UnderWay {
        /// The last phase that was heard of.
        reached: Option<Phase>,
    },
    /// It has ended.
    Ended(End),
}

/// How a migration ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// What came of it.
    pub outcome: Outcome,
    /// The last phase that was reached, where that is known.
    pub reached: Option<Phase>,
    /// Why, where it did not move.
    pub reason: Option<String>,
    /// How long the service stood still, where it was measured.
    pub downtime: Option<Millis>,
    /// From start to end, as above.
    pub duration: Option<Millis>,
    /// What crossed the link, as above.
    pub bytes: Option<Bytes>,
}

/// All that is known when objects are looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The continuum's name.
    pub continuum: String,
    /// Migrations: all that run, and of those that have ended at least those whose objects are there.
    pub accounts: Vec<Account>,
    /// Whether the agents have been asked: only then is a migration of which there is no account one that nobody knows.
    pub asked: bool,
    /// How many objects of migrations that have ended are kept, the newest.
    pub keep: usize,
}

impl Account {
    /// Whether it can still be undone, as far as is known.
    pub const fn can_be_undone(&self) -> bool {
        match &self.course {
            Course::UnderWay { reached: Some(phase) } => !phase.is_forward_only(),
            Course::UnderWay { reached: None } => true,
            Course::Ended(_) => false,
        }
    }

    /// Whether it has ended.
    pub const fn has_ended(&self) -> bool {
        matches!(self.course, Course::Ended(_))
    }
}
