//! Decisions from their recorded inputs: one, or a whole past under another policy.
//!
//! | module | what lives there |
//! |---|---|
//! | [`course`] | a recorded past once more, look by look |
//! | [`overlay`] | what would have been observed, had services run elsewhere |
//! | [`report`] | what came of it |

use jiff::Timestamp;
use sterna_core::decide::{Asking, Brief, Memo, Telling, decide, decide_briefly};
use sterna_core::history::History;
use sterna_core::observation::Observation;
use sterna_core::record::Recorded;
use sterna_core::report::Decision;
use sterna_policies::policy::Policy;

pub mod course;
pub mod overlay;
pub mod report;

pub use course::Replay;

/// Decides for some policies, as far as a run looks at it: what is moved, and what holds the rest. This and [`step`] are the only
/// places in the simulator that decide.
pub fn briefly(
    observation: &Observation,
    asking: &[Asking<'_>],
    now: Timestamp,
    seed: u64,
    how: (&Memo, Telling),
) -> Vec<Brief> {
    decide_briefly(observation, asking, now, seed, how)
}

/// Decides, with all that there is to say about it.
pub fn step(
    observation: &Observation,
    policy: &Policy,
    history: &History,
    now: Timestamp,
    seed: u64,
) -> Decision {
    decide(observation, policy, history, now, seed)
}

/// Decides again from what was recorded of a decision, by the simulator or by a live scheduler: the same bytes.
pub fn decision(recorded: &Recorded) -> Decision {
    step(&recorded.observation, &recorded.policy, &recorded.history, recorded.now, recorded.seed)
}
