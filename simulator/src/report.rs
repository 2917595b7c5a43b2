//! What a simulation found, as values; the cli puts them into words.
//!
//! | module | what lives there |
//! |---|---|
//! | [`html`] | a page to look at, in one file |
//! | [`chart`], [`timeline`], [`map`] | the pictures on it |
//! | [`answer`], [`comparison`] | which policy is better in what, in words and side by side |
//! | [`placements`] | which service was where when |
//! | [`tables`] | CSV |
//! | [`words`] | how values are said |

use jiff::Timestamp;
use serde::Serialize;
use sterna_core::continuum::{NodeName, Placement, ServiceName, SiteName};
use sterna_core::history::Outcome as MigrationOutcome;
use sterna_core::plan::Effect;
use sterna_core::report::{Exclusion, Hold, Verdict};
use sterna_policies::policy::{Level, Metric, Mode};
use sterna_policies::quantity::{Bytes, Grams, Millis, Percent, Usd, UsdPerHour, WattHours};

use crate::clock::SimTime;
use crate::models::fault::Part;
use crate::world::outages::Standing;

pub mod answer;
mod axis;
pub mod chart;
pub mod comparison;
pub mod html;
pub mod map;
pub mod placements;
pub mod tables;
pub mod timeline;
pub mod words;

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
    /// Failures that were asked for beside those of the scenario's file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub injected: Vec<String>,
    /// What it would have been if nothing ever moved: the yardstick.
    pub unmoved: Totals,
    /// How that goes.
    #[serde(skip)]
    pub unmoved_course: Vec<Point>,
    /// For how long each policy's rules would have been broken then, in the order of the outcomes.
    #[serde(skip_serializing_if = "none_broken")]
    pub unmoved_violations: Vec<Option<Vec<Violation>>>,
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
    /// as hex. The same inputs give the same hash; for another platform see docs/simulation.md.
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
    /// For how long services broke a rule of the policy where they ran; `None` where it has no such rule.
    #[serde(skip_serializing_if = "not_broken")]
    pub violations: Option<Vec<Violation>>,
    /// What happened, in order. Looks with the same verdict as the one before are told once.
    pub timeline: Vec<Entry>,
    /// How what the placement is worth goes.
    #[serde(skip)]
    pub course: Vec<Point>,
}

impl Outcome {
    /// How many moves were made, whatever came of them. What is refused before anything is touched is none.
    pub fn made(&self) -> usize {
        self.moves.len() - self.refused()
    }

    /// How many moves were refused.
    pub fn refused(&self) -> usize {
        self.moves.iter().filter(|one| one.is_refused()).count()
    }
}

/// What a placement is worth from an instant on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The instant.
    pub at: SimTime,
    /// What it is worth, as the world counts it.
    pub effect: Effect,
}

fn not_broken(violations: &Option<Vec<Violation>>) -> bool {
    violations.as_ref().is_none_or(Vec::is_empty)
}

fn none_broken(violations: &[Option<Vec<Violation>>]) -> bool {
    violations.iter().all(not_broken)
}

/// For how long one service broke one rule of the policy where it ran; see [`crate::violation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The service.
    pub service: ServiceName,
    /// The rule.
    pub rule: Exclusion,
    /// For how long, all in all.
    pub time: Millis,
}

/// What a move was chosen from, as its decision saw it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// What the service would add where it went; `None` where that was not known.
    pub taken: Option<Effect>,
    /// The best few other places: the one that it left first, those that a rule excludes last.
    pub others: Vec<Alternative>,
    /// How many more there were.
    pub untold: usize,
}

/// A node that a move could have gone to.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// The node.
    pub node: NodeName,
    /// What the service would have added there; `None` where that was not known.
    pub effect: Option<Effect>,
    /// What spoke against it.
    pub against: Against,
}

/// What spoke against a place for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Against {
    /// Rules exclude it.
    Rules {
        /// Which.
        rules: Vec<Exclusion>,
    },
    /// A number that the policy needs is missing.
    Unknown,
    /// The first term of the objective in which it differs from the place that was taken is worse.
    Worse {
        /// The metric.
        metric: Metric,
        /// By how much, of what counts.
        by: Level,
    },
    /// All terms of a priced objective come to more.
    Dearer {
        /// By how much.
        by: UsdPerHour,
    },
    /// By itself the service would have been better there: what all services come to together, or room, decided.
    Together,
    /// Nothing: it is as good.
    Equal,
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
    /// Where else the service could have gone.
    #[serde(skip)]
    pub choice: Choice,
    /// When the service began to run at the destination, where that was before the end: it fetched its memory since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrived: Option<SimTime>,
    /// What came of it; `None` where the scenario ended first.
    pub end: Option<MoveEnd>,
}

impl MoveRecord {
    /// Whether it was refused before anything was touched.
    pub fn is_refused(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.outcome == MigrationOutcome::Refused)
    }
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
    /// What moves sent over priced links; of those still under way at the end, what they had sent by then.
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
    /// The service runs at the destination, and its memory is still being fetched.
    Resumed {
        /// The service.
        service: ServiceName,
        /// Where it runs now.
        on: NodeName,
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
