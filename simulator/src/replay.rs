//! One decision from its inputs: what the simulator does at every look, and what anybody does who looks at a past decision again.

use jiff::Timestamp;
use sterna_core::decide;
use sterna_core::history::History;
use sterna_core::observation::Observation;
use sterna_core::record::Recorded;
use sterna_core::report::Decision;
use sterna_policies::policy::Policy;

/// Decides: the only place in the simulator that does.
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
