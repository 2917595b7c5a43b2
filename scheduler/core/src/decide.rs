//! The one function that ties everything.

use jiff::Timestamp;
use sterna_policies::policy::Policy;

use crate::history::History;
use crate::observation::Observation;
use crate::report::Decision;

/// Decides what to move, and says why.
///
/// The same arguments give the same bytes, on every machine and in the simulator as in production.
pub fn decide(
    _observation: &Observation,
    _policy: &Policy,
    _history: &History,
    _now: Timestamp,
    _seed: u64,
) -> Decision {
    unimplemented!()
}
