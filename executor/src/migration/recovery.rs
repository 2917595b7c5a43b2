//! What an agent does with a migration that it finds under way when it starts.

use super::holding::Holding;
use super::phase::Phase;
use super::register::Decision;

/// What the destination says when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct There {
    /// How far the service has come in.
    pub holding: Holding,
    /// Whether it stands there restored, proved to be a restore, every process of it stopped.
    pub standing: bool,
}

/// What an agent that starts again decides about a migration that nothing was decided about. `alive` tells whether the
/// source's processes are still there; `there` is `None` where the destination does not answer or knows nothing of it.
///
/// Two things make it a commit. Somebody took this node for gone and had the destination take over: then the service runs
/// there. Or this node went down and took the source's processes with it, while the destination holds them whole: then what is
/// held there is the service, and thawing would start it anew from its files.
pub fn decision(alive: bool, there: Option<There>) -> Decision {
    match there {
        Some(there) if there.holding.owns() => Decision::Commit,
        Some(There { holding: Holding::Held, standing: true }) if !alive => Decision::Commit,
        _ => Decision::Abort,
    }
}

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
    fn the_last_copy_of_the_memory_is_not_given_up() {
        let held = |standing| Some(There { holding: Holding::Held, standing });
        assert_eq!(decision(false, held(true)), Decision::Commit);
        assert_eq!(decision(true, held(true)), Decision::Abort, "the same process goes on");
        assert_eq!(decision(false, held(false)), Decision::Abort);
        assert_eq!(decision(false, None), Decision::Abort);
        let owned = Some(There { holding: Holding::Finished, standing: false });
        assert_eq!(decision(true, owned), Decision::Commit, "it was told to take over");
    }

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
