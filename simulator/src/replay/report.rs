//! What a replay found, as values; the cli puts them into words.

use jiff::Timestamp;
use serde::Serialize;
use sterna_core::continuum::{NodeName, Placement, ServiceName};
use sterna_core::history::Outcome;
use sterna_core::plan::{Effect, Move};
use sterna_policies::policy::{Mode, Policy};
use sterna_policies::quantity::{Grams, Millis, PerSecond, Usd, WattHours};

use crate::clock::per_hour;
use crate::models::latency::Latencies;

/// A recorded past under another policy, beside what it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// The policy's own name.
    pub policy: String,
    /// The mode that its file asks for. Unless it is `off`, its plans count as carried out.
    pub mode: Mode,
    /// When the first look was that counts; `None` where there was none.
    pub first: Option<Timestamp>,
    /// When the last was.
    pub last: Option<Timestamp>,
    /// How often the policy looked.
    pub looks: u64,
    /// At how many of them its decision is the recorded one, byte for byte.
    pub alike: u64,
    /// At how many of them it wanted to move something.
    pub wanted: u64,
    /// From when on it did otherwise than was done; `None` where it never did.
    pub apart: Option<Timestamp>,
    /// The time that counts.
    pub counted: Millis,
    /// The time in which nobody looked for long, which does not count.
    pub not_known: Millis,
    /// What it was, by the numbers that this policy goes by.
    pub was: Totals,
    /// What it would have been.
    pub with: Totals,
    /// What it would have moved, once it did otherwise, in the order of the beginnings.
    pub moves: Vec<Replacement>,
    /// Where its services would be at the end, once it did otherwise.
    pub placement: Placement,
}

impl Compared {
    /// Before the first look.
    pub(super) fn begin(policy: &Policy) -> Self {
        Self {
            policy: policy.name.clone(),
            mode: policy.mode,
            first: None,
            last: None,
            looks: 0,
            alike: 0,
            wanted: 0,
            apart: None,
            counted: Millis::ZERO,
            not_known: Millis::ZERO,
            was: Totals::default(),
            with: Totals::default(),
            moves: Vec::new(),
            placement: Placement::default(),
        }
    }
}

/// What adds up over the time that counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// Mean latency over all requests; `None` where nothing was asked for, or where it was not known.
    pub user_latency_mean: Option<Millis>,
    /// Hosting.
    pub cost: Usd,
    /// Energy of all nodes.
    pub energy: WattHours,
    /// Carbon; `None` where the intensity of a site that drew power was not known all the time.
    pub carbon: Option<Grams>,
    /// Migrations that ended, those that were undone included.
    pub moves: u64,
    /// For how long services stood still for them.
    pub downtime: Millis,
}

/// A move that would have been made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replacement {
    /// When it would have begun.
    pub began: Timestamp,
    /// The service.
    pub service: ServiceName,
    /// Where from.
    pub from: NodeName,
    /// Where to.
    pub to: NodeName,
    /// What would have come of it; `None` where the recording ends first.
    pub outcome: Option<Outcome>,
    /// For how long the service would have stood still.
    pub downtime: Millis,
}

impl Replacement {
    pub(super) fn begun(order: &Move, began: Timestamp) -> Self {
        Self {
            began,
            service: order.service.clone(),
            from: order.from.clone(),
            to: order.to.clone(),
            outcome: None,
            downtime: Millis::ZERO,
        }
    }
}

/// What adds up, exactly.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// Each rate in millionths, times nanoseconds.
    cost: i128,
    energy: i128,
    carbon: i128,
    carbon_unknown: bool,
    latency: Latencies,
    pub moves: u64,
    pub downtime: Millis,
}

impl Sums {
    /// Adds what held for a span.
    pub fn add(&mut self, effect: &Effect, demand: i128, nanos: u64) {
        let span = i128::from(nanos);
        self.cost += i128::from(effect.cost_rate.as_micros()) * span;
        self.energy += i128::from(effect.power.as_micros()) * span;
        match effect.carbon_rate {
            Some(rate) => self.carbon += i128::from(rate.as_micros()) * span,
            None => self.carbon_unknown |= nanos > 0,
        }
        if let Some(latency) = effect.user_latency {
            let rate = PerSecond::from_micros(i64::try_from(demand).unwrap_or(i64::MAX));
            self.latency.add(latency, rate, nanos);
        }
    }

    /// What it comes to.
    pub fn totals(&self) -> Totals {
        Totals {
            user_latency_mean: self.latency.mean(),
            cost: Usd::from_micros(per_hour(self.cost)),
            energy: WattHours::from_micros(per_hour(self.energy)),
            carbon: (!self.carbon_unknown).then(|| Grams::from_micros(per_hour(self.carbon))),
            moves: self.moves,
            downtime: self.downtime,
        }
    }
}
