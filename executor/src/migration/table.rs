//! The migration as data: who owns the service in each phase, how its source stands, and what a failure calls for.
//!
//! The [machine](super::machine) walks this table; nothing about the order of a migration stands anywhere else.

use serde::{Deserialize, Serialize};

use super::phase::Phase;

/// Who may run the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The node it leaves.
    Source,
    /// The node it goes to.
    Destination,
}

/// How the service stands at its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtSource {
    /// It runs.
    Running,
    /// It stands frozen, whole, and can be thawed.
    Frozen,
    /// It stands frozen and must never run again.
    Fenced,
    /// It is gone.
    Gone,
}

/// One thing to be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// Let the source go on, with its restart policy as it was. Comes first: every moment of it is downtime.
    ThawSource,
    /// Remove the memory image at the source.
    DeleteImage,
    /// Remove the destination's container, held or not started, and all that was sent.
    DiscardDestination,
}

impl Undo {
    /// What was done, once it was, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::ThawSource => "the source was let go on",
            Self::DeleteImage => "its memory image was removed",
            Self::DiscardDestination => "the destination gave up what it held",
        }
    }
}

/// What is to be done when a phase can't be reached, or when the agent starts again and finds that it was on the way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Set the register to `abort` and undo, in this order.
    Undo(&'static [Undo]),
    /// Try again, for ever: there is no way back.
    Forward,
}

/// What the table says of one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The phase.
    pub phase: Phase,
    /// The owner once the phase is reached.
    pub owner: Owner,
    /// The source once the phase is reached.
    pub at_source: AtSource,
    /// What to do when it can't be reached.
    pub on_failure: OnFailure,
}

const BEFORE: OnFailure = OnFailure::Undo(&[]);
const PREPARED: OnFailure = OnFailure::Undo(&[Undo::DiscardDestination]);
const STANDING: OnFailure = OnFailure::Undo(&[Undo::ThawSource, Undo::DeleteImage, Undo::DiscardDestination]);

const fn row(phase: Phase, owner: Owner, at_source: AtSource, on_failure: OnFailure) -> Row {
    Row { phase, owner, at_source, on_failure }
}

/// The table, one row per phase, in order.
pub const TABLE: [Row; 12] = [
    row(Phase::Planned, Owner::Source, AtSource::Running, BEFORE),
    row(Phase::Checked, Owner::Source, AtSource::Running, BEFORE),
    row(Phase::Reserved, Owner::Source, AtSource::Running, PREPARED),
    row(Phase::Synced, Owner::Source, AtSource::Running, PREPARED),
    row(Phase::Frozen, Owner::Source, AtSource::Frozen, STANDING),
    row(Phase::Dumped, Owner::Source, AtSource::Frozen, STANDING),
    row(Phase::Transferred, Owner::Source, AtSource::Frozen, STANDING),
    row(Phase::Restored, Owner::Source, AtSource::Frozen, STANDING),
    row(Phase::Verified, Owner::Source, AtSource::Frozen, STANDING),
    row(Phase::Committed, Owner::Destination, AtSource::Fenced, STANDING),
    row(Phase::Released, Owner::Destination, AtSource::Fenced, OnFailure::Forward),
    row(Phase::Cleaned, Owner::Destination, AtSource::Gone, OnFailure::Forward),
];

/// The row of a phase.
pub const fn of(phase: Phase) -> Row {
    TABLE[phase as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_the_phases() {
        for (row, phase) in TABLE.iter().zip(Phase::ALL) {
            assert_eq!(row.phase, phase);
            assert_eq!(of(phase), *row);
        }
    }

    #[test]
    fn the_page_has_the_table() {
        let row = |row: &Row| {
            let owner = match row.owner {
                Owner::Source => "source",
                Owner::Destination => "destination",
            };
            let source = match row.at_source {
                AtSource::Running => "runs",
                AtSource::Frozen => "stands frozen, whole",
                AtSource::Fenced => "never runs again",
                AtSource::Gone => "is gone",
            };
            let failure = match row.on_failure {
                OnFailure::Undo([]) => "nothing to undo".to_owned(),
                OnFailure::Undo(steps) => steps.iter().map(|one| one.words()).collect::<Vec<_>>().join("; "),
                OnFailure::Forward => "tried again, for ever".to_owned(),
            };
            format!("| {} | {owner} | {source} | {failure} |", row.phase)
        };
        let rows: Vec<String> = TABLE.iter().map(row).collect();
        let page = include_str!("../../../docs/migration.md");
        let there: Vec<&str> = page.lines().filter(|line| rows.iter().any(|row| row == line)).collect();
        assert_eq!(there, rows, "docs/migration.md must have exactly these rows");
    }

    #[test]
    fn whatever_may_be_frozen_is_thawed_first_and_ownership_changes_once() {
        for row in TABLE {
            let before = row.phase as usize;
            let may_be_frozen = row.at_source == AtSource::Frozen || row.phase == Phase::Committed;
            if let OnFailure::Undo(steps) = row.on_failure {
                assert_eq!(may_be_frozen, steps.first() == Some(&Undo::ThawSource), "{before}");
            }
            assert_eq!(row.owner == Owner::Destination, row.phase >= Phase::Committed);
            assert_eq!(row.on_failure == OnFailure::Forward, row.phase > Phase::Committed);
        }
    }
}
