//! A decision with all that it was made from, so that it can be made again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sterna_policies::policy::Policy;

use crate::decide::decide;
use crate::history::History;
use crate::observation::Observation;
use crate::report::Decision;

/// One decision and its inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// What was seen.
    pub observation: Observation,
    /// What was wanted and allowed.
    pub policy: Policy,
    /// What was remembered.
    pub history: History,
    /// When it was made.
    pub now: Timestamp,
    /// The seed that it was made with.
    pub seed: u64,
    /// What was decided.
    pub decision: Decision,
}

impl Recorded {
    /// Decides, and keeps the inputs with the decision.
    pub fn make(
        observation: Observation,
        policy: Policy,
        history: History,
        now: Timestamp,
        seed: u64,
    ) -> Self {
        let decision = decide(&observation, &policy, &history, now, seed);
        Self { observation, policy, history, now, seed, decision }
    }

    /// Decides again from the recorded inputs. The same program gives the same decision, byte for byte.
    pub fn replay(&self) -> Decision {
        decide(&self.observation, &self.policy, &self.history, self.now, self.seed)
    }
}
