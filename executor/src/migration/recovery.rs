//! What an agent does with a migration that it finds under way when it starts.

use super::phase::Phase;
use super::register::Decision;

/// The way out of a migration that was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The destination owns the service: go on to this phase, for ever.
    Forward(Phase),
    /// The source keeps it: undo what was done on the way to this phase.
    Back(Phase),
}

/// The way out, by what the register says and the last phase that is known to have been reached. What was begun after that
/// phase may or may not have been done, so the way back is that of the phase after it.
pub fn way(decision: Decision, reached: Option<Phase>) -> Way {
    if decision == Decision::Commit {
        return Way::Forward(if reached >= Some(Phase::Released) { Phase::Cleaned } else { Phase::Released });
    }
    Way::Back(Phase::ALL.into_iter().find(|phase| Some(*phase) > reached).unwrap_or(Phase::Committed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::table::{self, OnFailure, Undo};

    #[test]
    fn whatever_was_reached_there_is_a_way_that_the_table_knows() {
        for reached in [None].into_iter().chain(Phase::ALL.map(Some)) {
            let Way::Forward(next) = way(Decision::Commit, reached) else { panic!("{reached:?}") };
            assert!(next >= Phase::Released);
            if reached >= Some(Phase::Committed) {
                continue;
            }
            let Way::Back(next) = way(Decision::Abort, reached) else { panic!("{reached:?}") };
            let OnFailure::Undo(steps) = table::of(next).on_failure else { panic!("{reached:?}") };
            assert_eq!(reached >= Some(Phase::Synced), steps.contains(&Undo::ThawSource), "{reached:?}");
        }
    }
}
