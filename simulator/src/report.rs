//! What a simulation found, as values; the cli puts them into words.

use jiff::Timestamp;
use serde::Serialize;
use sterna_core::continuum::{NodeName, Placement, ServiceName, SiteName};
use sterna_core::history::Outcome as MigrationOutcome;
use sterna_core::plan::Effect;
use sterna_core::report::{Hold, Verdict};
use sterna_policies::policy::{Level, Metric, Mode};
use sterna_policies::quantity::{Bytes, Grams, Millis, Percent, Usd, WattHours};

use crate::clock::SimTime;
use crate::models::fault::Part;
use crate::world::outages::Standing;

/// A scenario under one or more policies, and under none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The scenario's own name.
    pub scenario: String,
    /// The calendar's time at its start.
    pub start: Timestamp,
    /// How long it lasts.
    pub duration: SimTime,
    /// The seed that every decision got.
    pub seed: u64,
    /// What it would have been if nothing ever moved: the yardstick.
    pub unmoved: Totals,
    /// One per policy, in the order they were given.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// The policies that decided nothing at all: they moved nothing, and no rule of theirs held anything back. Of those that are
    /// off nothing else is expected.
    pub fn undecided(&self) -> impl Iterator<Item = &Outcome> {
        let idle = |one: &&Outcome| one.mode != Mode::Off && one.moves.is_empty() && one.holds.is_empty();
        self.outcomes.iter().filter(idle)
    }

    /// The report's hash: blake3 over its canonical JSON (fields in the order of the types, maps sorted, quantities exact),
    /// as hex. The same inputs give the same hash on every machine.
    pub fn hash(&self) -> Result<String, serde_json::Error> {
        Ok(blake3::hash(&serde_json::to_vec(self)?).to_hex().to_string())
    }
}

/// A scenario under one policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The policy's own name.
    pub policy: String,
    /// The mode that its file asks for. Unless it is `off`, the simulation carried every plan out as if it were `auto`.
    pub mode: Mode,
    /// How often it decided.
    pub looks: u64,
    /// What moved, in the order of the beginnings.
    pub moves: Vec<MoveRecord>,
    /// What held moves back.
    pub holds: Vec<HoldRecord>,
    /// Where everything runs at the end.
    pub placement: Placement,
    /// What added up.
    pub totals: Totals,
    /// What happened, in order. Looks with the same verdict as the one before are told once.
    pub timeline: Vec<Entry>,
}

/// One simulated migration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MoveRecord {
    /// When it began.
    pub began: SimTime,
    /// The same on the calendar.
    pub at: Timestamp,
    /// The service.
    pub service: ServiceName,
    /// Where from.
    pub from: NodeName,
    /// Where to.
    pub to: NodeName,
    /// Why, in the decision's own numbers. `None` where nothing gets better by this move alone: it makes room, or mends a rule.
    pub gain: Option<Gain>,
    /// What came of it; `None` where the scenario ended first.
    pub end: Option<MoveEnd>,
}

/// What a move gains, as its decision reckoned it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gain {
    /// The metric of the first term that improves.
    pub metric: Metric,
    /// Its value for the service where it was.
    pub before: Level,
    /// Its predicted value for the service where it went, all else as it was.
    pub after: Level,
    /// The gain that was held against the policy's `min_gain`: what is below a term's `satisfied_at` does not count, and services
    /// that start or stop using a node together are judged together.
    pub gain: Percent,
}

/// How a simulated migration ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MoveEnd {
    /// When.
    pub ended: SimTime,
    /// What came of it.
    pub outcome: MigrationOutcome,
    /// How long the service stood still.
    pub downtime: Millis,
    /// What crossed the link.
    pub bytes: Bytes,
}

/// A rule that held a move back, told once for all the looks at which it did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HoldRecord {
    /// The service; `None` where the rule held the whole decision.
    pub service: Option<ServiceName>,
    /// The rule. Of gains that were too small, the largest; else as it was first.
    pub hold: Hold,
    /// At how many looks.
    pub looks: u64,
    /// The first of them.
    pub first: SimTime,
    /// The last of them.
    pub last: SimTime,
}

/// What adds up over the whole scenario.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// Mean latency over all requests that met a running service; `None` where there were none.
    pub user_latency_mean: Option<Millis>,
    /// The latency that 95 % of them did not exceed.
    pub user_latency_p95: Option<Millis>,
    /// Requests, rounded.
    pub requests: u64,
    /// Those that came while their service stood still, and waited.
    pub requests_held: u64,
    /// Hosting and egress.
    pub cost: Usd,
    /// What moves sent over priced links.
    pub cost_egress: Usd,
    /// Energy of all nodes.
    pub energy: WattHours,
    /// Carbon; `None` where power was drawn at a site whose carbon intensity is not known.
    pub carbon: Option<Grams>,
    /// Those sites.
    pub carbon_unknown_at: Vec<SiteName>,
    /// Time that services stood still, added up.
    pub downtime: Millis,
    /// The services that stood still at all.
    pub services: Vec<ServiceTotals>,
}

/// One service's standstill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceTotals {
    /// The service.
    pub service: ServiceName,
    /// How long it stood still.
    pub downtime: Millis,
    /// Requests that came meanwhile, rounded.
    pub requests_held: u64,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// When.
    pub at: SimTime,
    /// What.
    pub event: Happening,
    /// What the placement was worth just after it, as the world counts it.
    pub effect: Effect,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "happening")]
pub enum Happening {
    /// The policy looked, and came to another verdict than the look before.
    Look {
        /// The verdict.
        verdict: Verdict,
    },
    /// A move began.
    Began {
        /// The service.
        service: ServiceName,
        /// Where it leaves.
        from: NodeName,
        /// Where it goes.
        to: NodeName,
    },
    /// A node or a link went, came back, or was announced to go.
    Fault {
        /// Which.
        part: Part,
        /// How it stands now.
        standing: Standing,
    },
    /// The service was frozen.
    Frozen {
        /// The service.
        service: ServiceName,
    },
    /// The move ended.
    Ended {
        /// The service.
        service: ServiceName,
        /// Where it runs now.
        on: NodeName,
        /// What came of the move.
        outcome: MigrationOutcome,
    },
}
