//! What a decision remembers of earlier ones.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sterna_policies::quantity::{Bytes, Millis};

use crate::continuum::{NodeName, ServiceName};
use crate::placement::numbers::narrow;
use crate::standing::Standing;

/// Past migrations, newest last, per service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// What happened to each service.
    pub migrations: BTreeMap<ServiceName, Vec<PastMigration>>,
    /// What lasted, as the decision before saw it.
    #[serde(default, skip_serializing_if = "Standing::is_empty")]
    pub standing: Standing,
}

impl History {
    /// The last migration of a service, whatever came of it.
    pub fn last(&self, service: &ServiceName) -> Option<&PastMigration> {
        self.migrations.get(service).and_then(|all| all.last())
    }

    /// The last migration that moved the service.
    pub fn last_arrival(&self, service: &ServiceName) -> Option<&PastMigration> {
        self.migrations.get(service)?.iter().rev().find(|one| one.outcome == Outcome::Moved)
    }

    /// When the service last left a node for good.
    pub fn last_departure(&self, service: &ServiceName, node: &NodeName) -> Option<Timestamp> {
        let left = |one: &&PastMigration| one.outcome == Outcome::Moved && one.from == *node;
        self.migrations.get(service)?.iter().rev().find(left).map(|one| one.ended)
    }

    /// Adds a migration that ended.
    pub fn record(&mut self, service: ServiceName, migration: PastMigration) {
        self.migrations.entry(service).or_default().push(migration);
    }
}

/// What is left at a time of a span that began at another; nothing once it is over. What is said to lie ahead was written by a
/// clock that was ahead, and began no later than now.
pub(crate) fn left(began: Timestamp, span: Millis, now: Timestamp) -> Option<Millis> {
    // A millionth of a millisecond is a nanosecond.
    let left = i128::from(span.as_micros()) - now.duration_since(began).as_nanos().max(0);
    (left > 0).then(|| Millis::from_micros(narrow(left)))
}

/// One migration that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastMigration {
    /// When it ended.
    pub ended: Timestamp,
    /// Where from.
    pub from: NodeName,
    /// Where to.
    pub to: NodeName,
    /// What came of it.
    pub outcome: Outcome,
    /// How long the service stood still, also where that was in vain; what was predicted, where it is not known.
    pub downtime: Millis,
    /// Bytes that crossed the link; what was predicted, where it is not known.
    pub bytes: Bytes,
    /// From planned to cleaned; what was predicted, where it is not known.
    pub duration: Millis,
}

/// What came of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The service runs at the destination.
    Moved,
    /// Undone: the same process goes on at the source.
    RolledBack,
    /// Refused before anything was touched.
    Refused,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_lasts_longer_because_a_clock_was_ahead() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let minute: Millis = "1m".parse().unwrap();
        let left = |began| left(at(began), minute, at(1000));
        assert_eq!(left(940), None);
        assert_eq!(left(990), Some("50s".parse().unwrap()));
        assert_eq!(left(1_000_000), Some(minute));
    }
}
