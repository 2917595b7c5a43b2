//! The answer to: may this service go there, and what would that cost?

use serde::{Deserialize, Serialize};
use sterna_policies::quantity::Millis;

use crate::migration::finding::Finding;
use crate::migration::forecast::{Forecast, Load};

/// What both ends say of a move, before anything is touched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assessment {
    /// Each thing that speaks against it; nothing if it may be made.
    pub findings: Vec<Finding>,
    /// What there is to carry.
    pub load: Load,
    /// Whether the destination has the image already; `None` where it was not asked, as the service does not run.
    pub has_image: Option<bool>,
    /// The trial between the two nodes that the answer rests on; `None` where something else spoke against the move.
    pub canary: Option<Canary>,
    /// What it would cost; `None` where it can't be made.
    pub forecast: Option<Forecast>,
}

/// A trial between two nodes: a small container, dumped at the one and restored at the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Why it failed; `None` if it did not.
    pub trouble: Option<String>,
    /// How long it took.
    pub took: Millis,
    /// How long ago it was made.
    pub age: Millis,
}
