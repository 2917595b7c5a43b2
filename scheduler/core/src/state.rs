//! The fingerprint of the state that a plan was made from, and what is no longer as it was.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::continuum::{Continuum, NodeName, Placement};
use crate::directive::Ask;
use crate::observation::Observation;

mod change;

pub use change::{Change, changes};

#[derive(Serialize)]
struct State<'a> {
    continuum: &'a Continuum,
    placement: &'a Placement,
    reachable: BTreeSet<&'a NodeName>,
    /// Left out where there are none: plans from before there were any stay the same.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    directives: BTreeSet<&'a Ask>,
}

/// Hash of continuum, placement, reachable nodes and directives, in hexadecimal: what [`crate::plan::Plan::state`] holds.
///
/// It is the same for the same state on every machine; the order in which nodes were reached does not matter.
pub fn hash(observation: &Observation) -> String {
    let state = State {
        continuum: &observation.continuum,
        placement: &observation.placement,
        reachable: observation.reachable.iter().collect(),
        directives: observation.directives.asks().collect(),
    };
    match serde_json::to_vec(&state) {
        Ok(canonical) => blake3::hash(&canonical).to_hex().to_string(),
        // All keys are names, so this is not reached; it must not look like the hash of another state.
        Err(error) => format!("unhashable: {error}"),
    }
}
