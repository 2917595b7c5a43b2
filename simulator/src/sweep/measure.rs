//! What policies are compared by. Less is always better.

use serde::{Deserialize, Serialize};

use super::matrix::Fared;

/// Something that policies are compared by.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Mean latency over all requests that met a running service, in ms.
    UserLatency,
    /// The latency that 95 % of them did not exceed, in ms.
    UserLatencyP95,
    /// Hosting and egress, in USD.
    Cost,
    /// Energy of all nodes, in Wh.
    Energy,
    /// Carbon, in g.
    Carbon,
    /// Time that services stood still, added up, in ms.
    Downtime,
    /// Moves.
    Moves,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::UserLatency,
        Self::UserLatencyP95,
        Self::Cost,
        Self::Energy,
        Self::Carbon,
        Self::Downtime,
        Self::Moves,
    ];
    /// Those that a front is over where nobody says otherwise.
    pub const USUAL: [Self; 5] = [Self::UserLatency, Self::Cost, Self::Energy, Self::Carbon, Self::Downtime];

    /// The name that sweep files use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserLatency => "user_latency",
            Self::UserLatencyP95 => "user_latency_p95",
            Self::Cost => "cost",
            Self::Energy => "energy",
            Self::Carbon => "carbon",
            Self::Downtime => "downtime",
            Self::Moves => "moves",
        }
    }

    /// Its unit; empty for a number of things.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::UserLatency | Self::UserLatencyP95 | Self::Downtime => "ms",
            Self::Cost => "USD",
            Self::Energy => "Wh",
            Self::Carbon => "g",
            Self::Moves => "",
        }
    }

    /// What a run came to, in millionths of the unit; `None` where it is not known.
    pub fn micros(self, fared: &Fared) -> Option<i64> {
        let totals = &fared.totals;
        match self {
            Self::UserLatency => totals.user_latency_mean.map(|latency| latency.as_micros()),
            Self::UserLatencyP95 => totals.user_latency_p95.map(|latency| latency.as_micros()),
            Self::Cost => Some(totals.cost.as_micros()),
            Self::Energy => Some(totals.energy.as_micros()),
            Self::Carbon => totals.carbon.map(|carbon| carbon.as_micros()),
            Self::Downtime => Some(totals.downtime.as_micros()),
            Self::Moves => i64::try_from(fared.moves).ok()?.checked_mul(1_000_000),
        }
    }
}
