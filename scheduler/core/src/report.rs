//! The report that comes with every decision: what was looked at, what was left, and which rule held it, as values.

use std::mem::discriminant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sterna_policies::policy::{Level, Metric, Per};
use sterna_policies::quantity::{Millis, Percent, Usd};
use sterna_policies::window::Closed;

use crate::continuum::{NodeName, ServiceName, SiteName};
use crate::observation::Unknown;
use crate::plan::{Effect, Plan};
use crate::standing::Standing;

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What to do; no moves where there is nothing to be done or something holds it.
    pub plan: Plan,
    /// Why.
    pub report: Report,
    /// What the next decision remembers of this one.
    #[serde(default, skip_serializing_if = "Standing::is_empty")]
    pub standing: Standing,
}

/// Why a decision is what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The policy that decided.
    pub policy: String,
    /// The outcome in one value.
    pub verdict: Verdict,
    /// Each service of the policy, with each node and what speaks for and against it.
    pub services: Vec<ServiceReport>,
    /// How the placement was found; `None` where it did not come to that.
    pub solver: Option<SolverReport>,
    /// How long the plan takes; `None` where it moves nothing.
    #[serde(default)]
    pub makespan: Option<Makespan>,
    /// What could not be learnt.
    pub unknown: Vec<Unknown>,
}

/// How long a plan takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Makespan {
    /// From the start of the first move to the end of the last, as predicted.
    pub predicted: Millis,
    /// No order of the same moves takes less, with as many at one time as the budget allows.
    pub least: Millis,
}

/// The outcome in one value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// There are moves, and nothing holds them.
    Move,
    /// No better placement exists within the rules.
    Stay,
    /// A better placement exists, or may exist, but a rule holds every move. The services say which.
    Held {
        /// The rules, each once.
        by: Vec<Hold>,
    },
}

/// A rule that holds a move or a whole decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "hold")]
pub enum Hold {
    /// The policy is off.
    PolicyOff,
    /// Numbers are missing and the policy says `hold`.
    MetricsMissing {
        /// The metric.
        metric: Metric,
    },
    /// The gain is below the policy's `min_gain`.
    GainTooSmall {
        /// The metric of the first term that improves.
        metric: Metric,
        /// The gain.
        gain: Percent,
        /// What it would have to be.
        min_gain: Percent,
    },
    /// What the move costs is paid back later than the policy's `payback_within`.
    PaysBackTooLate {
        /// The metric that it gains in.
        metric: Metric,
        /// When it would be.
        payback: Millis,
        /// When it has to be.
        within: Millis,
    },
    /// None of the policy's triggers holds for the service, or not for long enough.
    Untriggered {
        /// Time until one has lasted long enough; `None` where none holds.
        left: Option<Millis>,
    },
    /// A better place has not been there for long enough.
    GainTooNew {
        /// Time until it has.
        left: Millis,
    },
    /// Staying has not cost enough yet.
    RegretTooSmall {
        /// The metric that the move gains in.
        metric: Metric,
        /// What staying has cost, as a share of what the move costs, there and back where it goes back.
        regret: Percent,
        /// What it would have to be.
        wanted: Percent,
    },
    /// The service left that node too recently.
    Return {
        /// Time until it may go back.
        left: Millis,
    },
    /// The service arrived too recently.
    Residency {
        /// Time until it may go.
        left: Millis,
    },
    /// The service was migrated, or tried, too recently.
    Cooldown {
        /// Time until it may be tried again.
        left: Millis,
    },
    /// A migration disturbs what is measured at a site that the move would leave or reach.
    Settling {
        /// The site.
        site: SiteName,
        /// Time until it counts again; `None` while the migration is under way.
        left: Option<Millis>,
    },
    /// As many moves are under way as the budget allows.
    Concurrent {
        /// The budget.
        limit: u32,
    },
    /// A budget has too little left for the move.
    BudgetSpent {
        /// Which.
        budget: Limited,
        /// Time until there is enough; `None` where the move needs more than the whole budget.
        left: Option<Millis>,
    },
    /// Too many migrations were undone: nothing is moved for a while.
    CircuitOpen {
        /// How many.
        failures: u32,
        /// Within which time.
        within: Millis,
        /// Time until moves are made again.
        left: Millis,
    },
    /// A window keeps moves back.
    WindowClosed {
        /// The schedule of the window that denies them; `None` where none is open that allows any.
        window: Option<String>,
        /// When that ends.
        until: Option<Timestamp>,
    },
    /// A window would keep moves back before the migration is over, and abort it.
    WindowTooShort {
        /// How long the migration is predicted to take.
        duration: Millis,
        /// How long it could.
        left: Millis,
    },
    /// Everything is paused.
    Paused {
        /// Who said so.
        by: String,
        /// Since when.
        at: Timestamp,
        /// Why, where they said so.
        reason: Option<String>,
    },
    /// Somebody wants the service to stay where it is.
    OptedOut {
        /// Who.
        by: String,
        /// Since when.
        at: Timestamp,
        /// Why, where they said so.
        reason: Option<String>,
    },
    /// The service itself is being moved.
    UnderWay,
    /// The service was not found on any node that answered.
    NotRunning,
    /// No placement keeps every rule.
    Infeasible,
    /// The destination has no room before another service has left it, and that one waits for room as well.
    NoRoom,
    /// The solver gave no answer.
    Solver {
        /// What it said.
        message: String,
    },
    /// The independent checker refused the plan: a bug to be reported.
    Checker {
        /// What it found.
        finding: String,
    },
}

impl Hold {
    /// For how long it holds, where time alone ends it.
    pub const fn left(&self) -> Option<Millis> {
        match self {
            Self::GainTooNew { left }
            | Self::Return { left }
            | Self::Residency { left }
            | Self::Cooldown { left }
            | Self::CircuitOpen { left, .. } => Some(*left),
            Self::Untriggered { left } | Self::Settling { left, .. } | Self::BudgetSpent { left, .. } => {
                *left
            }
            _ => None,
        }
    }

    /// Whether another hold is the same rule, whatever its numbers.
    pub fn is_same_rule(&self, other: &Self) -> bool {
        let metric = |hold: &Self| match hold {
            Self::MetricsMissing { metric }
            | Self::GainTooSmall { metric, .. }
            | Self::PaysBackTooLate { metric, .. }
            | Self::RegretTooSmall { metric, .. } => Some(*metric),
            _ => None,
        };
        let budget = |hold: &Self| match hold {
            Self::BudgetSpent { budget, .. } => Some(*budget),
            _ => None,
        };
        discriminant(self) == discriminant(other)
            && metric(self) == metric(other)
            && budget(self) == budget(other)
    }
}

impl Verdict {
    /// Whether another verdict says the same, whatever its numbers.
    pub fn is_alike(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Held { by: a }, Self::Held { by: b }) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_same_rule(b))
            }
            _ => discriminant(self) == discriminant(other),
        }
    }
}

impl From<Closed> for Hold {
    fn from(closed: Closed) -> Self {
        Self::WindowClosed { window: closed.by, until: closed.until }
    }
}

/// What a budget limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limited {
    /// Moves within an hour.
    MovesPerHour,
    /// Moves within a day.
    MovesPerDay,
    /// Moves of one service within a day.
    MovesPerServicePerDay,
    /// What crosses links within a day.
    BytesPerDay,
    /// What crosses one link within a day.
    BytesPerLinkPerDay,
    /// How long one service stands still within a day.
    DowntimePerDay,
}

impl Limited {
    /// The name that policy files use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MovesPerHour => "moves_per_hour",
            Self::MovesPerDay => "moves_per_day",
            Self::MovesPerServicePerDay => "moves_per_service_per_day",
            Self::BytesPerDay => "bytes_per_day",
            Self::BytesPerLinkPerDay => "bytes_per_link_per_day",
            Self::DowntimePerDay => "downtime_per_day",
        }
    }
}

/// One service, with each node and what speaks for and against it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// The service.
    pub service: ServiceName,
    /// Where it runs.
    pub on: Option<NodeName>,
    /// Where it should run; the same as `on` where it should stay.
    pub best: Option<NodeName>,
    /// What it gains by that; `None` where it should stay.
    #[serde(default)]
    pub gain: Option<Gain>,
    /// The rules that hold its move.
    pub held_by: Vec<Hold>,
    /// Every node.
    pub options: Vec<NodeOption>,
}

/// What a move gains, and when that has paid for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gain {
    /// The first metric that improves.
    pub metric: Metric,
    /// Its value now, of all services that gain by the same node; under a priced objective the money that all terms come to.
    pub now: Level,
    /// The same after the move.
    pub then: Level,
    /// By how much that is less, as a share of the value now; what is below the level that satisfies does not count.
    pub share: Percent,
    /// What moving costs.
    pub outlay: Outlay,
    /// When the gain has made up for that; `None` where there is no gain.
    pub payback: Option<Millis>,
}

/// What moving costs, in the unit of what it gains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outlay")]
pub enum Outlay {
    /// Whoever asks meanwhile waits half of the downtime, on average.
    Waiting {
        /// How long the service stands still.
        downtime: Millis,
    },
    /// Both ends are in use while it moves.
    BothEnds {
        /// What the new place adds.
        rate: Level,
        /// For how long.
        both_ends: Millis,
        /// What is paid once, for what crosses the link.
        once: Usd,
    },
    /// All of that at the prices of a priced objective.
    Money {
        /// The sum.
        sum: Usd,
    },
}

/// One node as a place for one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeOption {
    /// The node.
    pub node: NodeName,
    /// What the service adds there, all else as it is, the node's own price and idle power among it where nothing else uses the
    /// node; `None` where a number that the policy needs is missing.
    pub effect: Option<Effect>,
    /// The metrics whose value in `effect` is computed from the inventory, not measured.
    #[serde(default)]
    pub modelled: Vec<Metric>,
    /// The rules that exclude it; empty for a node that may be chosen. For the node that the service runs on, the rules that it
    /// breaks there.
    pub excluded_by: Vec<Exclusion>,
}

/// A rule that excludes a node for a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "exclusion")]
pub enum Exclusion {
    /// Its agent did not answer.
    Unreachable,
    /// It is being drained.
    Draining,
    /// It is cordoned: nothing is moved to it.
    Cordoned,
    /// The service is pinned where it is.
    Pinned,
    /// The policy does not select the site.
    SiteNotSelected,
    /// Its tier is not among the policy's.
    Tier,
    /// Its region is not among the policy's.
    Region,
    /// It has not enough processor or memory free.
    Capacity,
    /// Too many services of one label's value would be there.
    Spread {
        /// The label.
        label: String,
        /// Its value.
        value: String,
        /// What a place is.
        per: Per,
    },
    /// A constraint's highest value would be exceeded.
    Max {
        /// The metric.
        metric: Metric,
    },
    /// A number is missing and the policy says `exclude-site`.
    MetricMissing {
        /// The metric.
        metric: Metric,
    },
}

/// How a placement was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SolverReport {
    /// `highs` or `microlp`, `search`, both, or `none` where nothing was to be solved.
    pub engine: String,
    /// Binary and continuous columns of the last model.
    pub columns: usize,
    /// Rows of the last model.
    pub rows: usize,
    /// Models solved and searched, one per objective that makes a difference.
    pub models: usize,
    /// Whether the answer is proved best within the terms' tolerances.
    pub proved: bool,
    /// Whether the solver's time ran out before its work was done: then another machine may find something else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out_of_time: bool,
    /// The objectives in their order: broken rules, what is beyond nodes' limits if anything is, the policy's terms, moves.
    #[serde(default)]
    pub objectives: Vec<Reached>,
}

/// What an objective came to, and how much better it could be at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Its name.
    pub name: String,
    /// Its best, in its own smallest units, those services that may not move left aside.
    pub value: i64,
    /// It can't be less, as long as the objectives before it are within their tolerances.
    pub bound: i64,
}

impl Reached {
    /// How far it is from what is possible, at most, as a share of the value.
    pub fn gap(&self) -> Percent {
        let gap = i128::from(self.value) - i128::from(self.bound);
        let share =
            if self.value == 0 { 0 } else { gap.saturating_mul(100_000_000) / i128::from(self.value).abs() };
        Percent::from_micros(i64::try_from(share).unwrap_or(i64::MAX))
    }
}
