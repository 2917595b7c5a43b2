//! One policy: what is wanted and what is allowed.
//!
//! These are the values that the decision engine works on. [`crate::load`] makes them from a TOML file and refuses what
//! contradicts itself; nothing else in the house reads policy files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::window::{Overrun, Window, WindowKind};

use crate::quantity::{Bytes, GramsPerHour, MibPerSecond, Millis, Percent, UsdPerHour, Watts};

/// How far Sterna may go on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The policy is not looked at.
    Off,
    /// Decide and record, show nothing to be done. The default: a file without a mode can't move anything.
    #[default]
    Observe,
    /// Decide, record, and print the plan that would be carried out.
    Recommend,
    /// Put plans up for approval, and carry out what a person approves.
    Approve,
    /// Carry plans out by itself.
    Auto,
}

impl Mode {
    /// The name that policy files use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Recommend => "recommend",
            Self::Approve => "approve",
            Self::Auto => "auto",
        }
    }
}

/// A policy that was read and found consistent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// The policy's own name.
    pub name: String,
    /// How far Sterna may go.
    pub mode: Mode,
    /// Of several policies that select a service the one with the highest has it.
    #[serde(default, skip_serializing_if = "is_ordinary")]
    pub priority: i32,
    /// Which services and nodes it is about.
    pub select: Select,
    /// What is better.
    pub objective: Objective,
    /// What must hold of the predicted state after a move.
    pub constraints: Constraints,
    /// When to look.
    pub trigger: Trigger,
    /// What keeps services from moving to and fro.
    pub hysteresis: Hysteresis,
    /// How much moving.
    pub budget: Budget,
    /// When moving stops because it fails.
    #[serde(default = "Breaker::never")]
    pub breaker: Breaker,
    /// When moves may be made; none: always.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// Where the numbers come from, by metric.
    pub metrics: BTreeMap<Metric, MetricSource>,
    /// How a move is made.
    pub migration: Migration,
    /// How plans are approved.
    #[serde(default)]
    pub approval: Approval,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_ordinary(priority: &i32) -> bool {
    *priority == 0
}

/// Which services and sites a policy is about. Patterns are names with `*` for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Select {
    /// Service names; empty for all.
    pub services: Vec<String>,
    /// Labels that services have, each with one of its values; empty for all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub service_labels: BTreeMap<String, Vec<String>>,
    /// Services that never move under this policy.
    pub exclude_services: Vec<String>,
    /// Services that another policy in force has, each with that policy's name; [`crate::precedence`] fills it in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, String>,
    /// Sites that may be moved to; empty for all.
    pub sites: Vec<String>,
    /// Labels that sites have which may be moved to, each with one of its values; empty for all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub site_labels: BTreeMap<String, Vec<String>>,
    /// Sites that are never moved to.
    pub exclude_sites: Vec<String>,
}

/// What a term of the objective measures, per service where it can be told apart.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Latency between users and service, weighted by request rate, in milliseconds.
    UserLatency,
    /// What the placement costs, in USD/h.
    CostRate,
    /// What the placement draws, in watts.
    Power,
    /// What the placement emits, in g/h.
    CarbonRate,
    /// Share of a node's processor that is in use, 0 to 1; an input to the power model, never an objective.
    CpuUse,
}

impl Metric {
    /// The name that policy files use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserLatency => "user_latency",
            Self::CostRate => "cost_rate",
            Self::Power => "power",
            Self::CarbonRate => "carbon_rate",
            Self::CpuUse => "cpu_use",
        }
    }
}

/// A value of a metric, in that metric's own unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Of [`Metric::UserLatency`].
    UserLatency(Millis),
    /// Of [`Metric::CostRate`].
    CostRate(UsdPerHour),
    /// Of [`Metric::Power`].
    Power(Watts),
    /// Of [`Metric::CarbonRate`].
    CarbonRate(GramsPerHour),
}

impl Level {
    /// So many millionths of a metric's unit. The share of [`Metric::CpuUse`], which has no levels, is read as a latency.
    pub const fn new(metric: Metric, micros: i64) -> Self {
        match metric {
            Metric::UserLatency | Metric::CpuUse => Self::UserLatency(Millis::from_micros(micros)),
            Metric::CostRate => Self::CostRate(UsdPerHour::from_micros(micros)),
            Metric::Power => Self::Power(Watts::from_micros(micros)),
            Metric::CarbonRate => Self::CarbonRate(GramsPerHour::from_micros(micros)),
        }
    }

    /// The value in millionths of the metric's unit, the scale on which the solver and the checker count.
    pub const fn as_micros(self) -> i64 {
        match self {
            Self::UserLatency(v) => v.as_micros(),
            Self::CostRate(v) => v.as_micros(),
            Self::Power(v) => v.as_micros(),
            Self::CarbonRate(v) => v.as_micros(),
        }
    }
}

/// What is better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "method")]
pub enum Objective {
    /// Terms in order: a later one decides only among placements that are equally good, within tolerance, in all before it.
    Lexicographic {
        /// The terms, most important first; at least one, no metric twice.
        terms: Vec<Term>,
    },
    /// Every term in money per hour, added up.
    Priced {
        /// The terms; at least one, no metric twice.
        terms: Vec<PricedTerm>,
    },
}

/// A term of a lexicographic objective. Less is always better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Term {
    /// What is measured.
    pub metric: Metric,
    /// At or below this a service's value no longer counts; the next term decides.
    pub satisfied_at: Option<Level>,
    /// How much worse than the best found still counts as equal.
    pub tolerance: Tolerance,
}

/// How much worse still counts as equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tolerance {
    /// By an amount per service, in the metric's unit.
    Absolute(Level),
    /// By a share of the best.
    Relative(Percent),
}

/// A term of a priced objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PricedTerm {
    /// What is measured.
    pub metric: Metric,
    /// What one unit of the metric is worth: USD/h per ms, per USD/h, per W or per g/h.
    pub price: UsdPerHour,
}

/// What must hold of the predicted state after a move.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Constraints {
    /// Highest value per service, by metric. A service that is above it already may not get worse.
    pub max: BTreeMap<Metric, Level>,
    /// Tiers that services may be placed in; empty for all.
    pub tiers: Vec<String>,
    /// Regions that services may be placed in; empty for all.
    pub regions: Vec<String>,
    /// Share of a node's processor and memory that must stay free.
    pub min_free: Percent,
    /// Services that share a place only up to a number.
    #[serde(default)]
    pub spread: Vec<Spread>,
}

/// Services that have one label in common, of which only so many may be in one place. Where more are already, they may not
/// become more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// The label; each of its values makes a group of its own, and services without it are in none.
    pub label: String,
    /// What a place is.
    pub per: Per,
    /// So many, at least 1.
    pub most: u32,
}

/// What shares a fate.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// One node.
    Node,
    /// All nodes of a site.
    #[default]
    Site,
    /// All sites of a region.
    Region,
    /// All sites of a tier.
    Tier,
}

impl Per {
    /// The word that policy files use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Site => "site",
            Self::Region => "region",
            Self::Tier => "tier",
        }
    }
}

/// When to look, and what must be the matter before a service is moved for a gain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Time between two looks.
    pub interval: Millis,
    /// Time after a migration for which the numbers of both its sites decide nothing: it has disturbed them itself.
    #[serde(default)]
    pub settle: Millis,
    /// A service moves for a gain only while one of these holds for it, so never if there are none. `None`: any gain will do.
    #[serde(default)]
    pub any: Option<Vec<Condition>>,
}

/// A value of a service, where it runs now, that has been too high for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Of what.
    pub metric: Metric,
    /// It is above this.
    pub above: Level,
    /// At every look for so long; zero: at this one.
    pub lasts: Millis,
}

/// What keeps services from moving to and fro.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hysteresis {
    /// Least gain in the first term that improves, as a share of its value now.
    pub min_gain: Percent,
    /// Time that a service stays where it arrived.
    pub min_residency: Millis,
    /// Time after any migration, also a failed one, before the same service is moved again.
    pub cooldown: Millis,
    /// Time within which what a move gains makes up for what it costs.
    #[serde(default = "unlimited")]
    pub payback_within: Millis,
    /// Time for which a better place must have been there, at every look, before a service goes.
    #[serde(default)]
    pub gain_lasts: Millis,
    /// Share of what a move costs that staying must have cost before, by not being where it is better; twice of it where the
    /// service would go back to where it came from.
    #[serde(default)]
    pub regret: Percent,
    /// Time for which a service does not go back to the node that it left.
    #[serde(default)]
    pub no_return_within: Millis,
}

/// Policies that were recorded before there was a limit had none.
const fn unlimited() -> Millis {
    Millis::from_micros(i64::MAX)
}

/// How much moving, at once and within a time. `None`: as much as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Moves under way at one time, at least 1.
    pub concurrent: u32,
    /// Of them so many from or to any one site, at least 1.
    #[serde(default)]
    pub concurrent_per_site: Option<u32>,
    /// Of them so many between any two sites, at least 1.
    #[serde(default)]
    pub concurrent_per_link: Option<u32>,
    /// Moves within an hour, at least 1.
    #[serde(default)]
    pub moves_per_hour: Option<u32>,
    /// Moves within a day, at least 1.
    #[serde(default)]
    pub moves_per_day: Option<u32>,
    /// Moves of any one service within a day, at least 1.
    #[serde(default)]
    pub moves_per_service_per_day: Option<u32>,
    /// What crosses links within a day.
    #[serde(default)]
    pub bytes_per_day: Option<Bytes>,
    /// What crosses any one link within a day.
    #[serde(default)]
    pub bytes_per_link_per_day: Option<Bytes>,
    /// How long any one service stands still within a day.
    #[serde(default)]
    pub downtime_per_day: Option<Millis>,
}

/// When moving stops because it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// So many migrations that were undone; 0: never.
    pub failures: u32,
    /// Within so long.
    pub within: Millis,
    /// For so long, from the last of them.
    pub pause: Millis,
}

impl Breaker {
    /// One that never stops anything, as policies had it that were recorded before there was one.
    pub fn never() -> Self {
        Self { failures: 0, ..Self::default() }
    }
}

impl Default for Breaker {
    /// Three within an hour stop it for six.
    fn default() -> Self {
        const HOUR: i64 = 3_600_000_000_000;
        Self { failures: 3, within: Millis::from_micros(HOUR), pause: Millis::from_micros(6 * HOUR) }
    }
}

/// How plans are approved, in [`Mode::Approve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// A plan may be approved for so long after it was put up.
    pub expires: Millis,
}

impl Default for Approval {
    /// Numbers of a quarter of an hour ago are old enough.
    fn default() -> Self {
        const MINUTE: i64 = 60_000_000_000;
        Self { expires: Millis::from_micros(15 * MINUTE) }
    }
}

/// Where a metric comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricSource {
    /// What is asked first.
    #[serde(flatten)]
    pub first: MetricQuery,
    /// What is asked for the values that are missing after it, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<MetricQuery>,
    /// What to do where a value is missing after all of them.
    pub on_missing: OnMissing,
}

impl MetricSource {
    /// All queries, in the order in which they are asked.
    pub fn queries(&self) -> impl Iterator<Item = &MetricQuery> {
        std::iter::once(&self.first).chain(&self.fallback)
    }
}

/// One query for a metric, and how to read its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricQuery {
    /// The [built-in query](crate::builtin) that it is; `None` for one of the policy's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<String>,
    /// A PromQL expression that gives an instant vector.
    pub query: String,
    /// The label that holds the site's name.
    pub site_label: String,
    /// The label that holds the user group's name; only for [`Metric::UserLatency`].
    pub users_label: Option<String>,
    /// The unit of the values that the query gives.
    pub unit: SourceUnit,
    /// Older samples count as missing.
    pub max_age: Millis,
    /// Values outside count as missing, in the query's own unit.
    pub plausible: (f64, f64),
}

impl MetricQuery {
    /// The name by which people know it, if it has one.
    pub fn name(&self) -> &str {
        self.builtin.as_deref().unwrap_or("own query")
    }
}

/// Units in which exporters give numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum SourceUnit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Millis,
    /// Watts.
    #[serde(rename = "W")]
    Watts,
    /// Microwatts.
    #[serde(rename = "uW")]
    Microwatts,
    /// US dollars per hour.
    #[serde(rename = "USD/h")]
    UsdPerHour,
    /// Grams of CO2 equivalent per kilowatt-hour.
    #[serde(rename = "g/kWh")]
    GramsPerKwh,
    /// A share from 0 to 1.
    #[serde(rename = "ratio")]
    Ratio,
}

impl SourceUnit {
    /// The word that policy files use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Millis => "ms",
            Self::Watts => "W",
            Self::Microwatts => "uW",
            Self::UsdPerHour => "USD/h",
            Self::GramsPerKwh => "g/kWh",
            Self::Ratio => "ratio",
        }
    }
}

/// What to do where a value is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnMissing {
    /// No move in this cycle.
    #[default]
    Hold,
    /// The site is not moved to.
    ExcludeSite,
    /// The inventory's own number is used and marked as modelled; where there is none, hold.
    Modelled,
}

/// How a service is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Docker-in-Docker checkpoint and restore by CRIU.
    #[default]
    Checkpoint,
}

/// When a service's memory crosses the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Memory {
    /// Most of it while the service runs; what changed since then while it stands frozen.
    #[default]
    Ahead,
    /// All of it while the service stands frozen. It loads the link less, and the service stands still for longer.
    WhileFrozen,
}

/// How a move is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// The method.
    pub method: Method,
    /// When the memory crosses.
    pub memory: Memory,
    /// A service that would stand still for longer than this, by what was measured just before it is frozen, is not frozen and
    /// stays. `None`: it may stand still for as long as the freeze lease allows.
    pub max_downtime: Option<Millis>,
    /// What one migration may take of a link; `None`: all it can.
    pub bandwidth: Option<MibPerSecond>,
    /// The whole migration must reach its commit within this time, or it is undone.
    pub deadline: Millis,
    /// The longest time that a service may stand frozen before its source thaws it again.
    pub freeze_lease: Millis,
}
