//! One decision, made from what was recorded of it: the simulator's only way to decide, and everybody's way to look at a past
//! decision again.

use sterna_core::decide;
use sterna_core::record::Recorded;
use sterna_core::report::Decision;

/// Decides from recorded inputs. The same record gives the same bytes as it did when it was made.
pub fn decision(recorded: &Recorded) -> Decision {
    decide(&recorded.observation, &recorded.policy, &recorded.history, recorded.now, recorded.seed)
}
