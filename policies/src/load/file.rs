//! A policy file as it is written. Doc comments here become the texts of the JSON Schema, and so the editor's hints.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{At, Written};
use crate::policy::{Memory, Method, Metric, Mode, OnMissing, Overrun, Per, SourceUnit, WindowKind};
use crate::quantity::{Bytes, GramsPerHour, MibPerSecond, Millis, Percent, UsdPerHour, Watts};

/// Labels, each with its values.
pub(crate) type LabelsFile = BTreeMap<At<String>, At<Vec<At<String>>>>;

/// A policy of Sterna: what is wanted, and what is allowed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Policy")]
pub(crate) struct PolicyFile {
    /// The version of this format: 1.
    pub schema_version: At<u32>,
    /// The policy's own name.
    pub name: At<String>,
    /// How far Sterna may go on its own. Left out: `observe`, which can't move anything.
    pub mode: Option<Mode>,
    /// Of several policies that select a service the one with the highest priority has it. Left out: 0.
    pub priority: Option<i32>,
    /// Which services and sites the policy is about. Left out: all.
    pub select: Option<SelectFile>,
    /// What is better.
    pub objective: At<ObjectiveFile>,
    /// What must hold after a move.
    pub constraints: Option<ConstraintsFile>,
    /// When to look.
    pub trigger: Option<TriggerFile>,
    /// What keeps services from moving to and fro.
    pub hysteresis: Option<HysteresisFile>,
    /// How much moving, at once and within a time.
    pub budget: Option<BudgetFile>,
    /// When moving stops because it fails.
    pub breaker: Option<BreakerFile>,
    /// When moves may be made, `[[window]]`. Left out: always.
    pub window: Option<Vec<At<WindowFile>>>,
    /// Where the numbers come from, by metric.
    pub metrics: Option<MetricsFile>,
    /// How a move is made.
    pub migration: Option<MigrationFile>,
    /// How plans are approved, in mode `approve`.
    pub approval: Option<ApprovalFile>,
}

/// Which services and sites the policy is about. A pattern is a name in which `*` stands for any run of characters.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Select")]
pub(crate) struct SelectFile {
    /// Patterns of services. Left out: all.
    pub services: Option<At<Vec<At<String>>>>,
    /// Labels that services have, each with one of its values, such as `{ tier = ["edge", "web"] }`. Left out: all.
    pub service_labels: Option<LabelsFile>,
    /// Patterns of services that never move under this policy.
    pub exclude_services: Option<At<Vec<At<String>>>>,
    /// Patterns of sites that may be moved to. Left out: all.
    pub sites: Option<At<Vec<At<String>>>>,
    /// Labels that sites have which may be moved to, each with one of its values. Left out: all.
    pub site_labels: Option<LabelsFile>,
    /// Patterns of sites that are never moved to.
    pub exclude_sites: Option<At<Vec<At<String>>>>,
}

/// How the terms of an objective are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ObjectiveMethod {
    /// Terms in order: a later one decides only among placements that are equally good in all before it.
    #[default]
    Lexicographic,
    /// Every term in money per hour, added up.
    Priced,
}

/// What is better. Less is better of every metric.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Objective")]
pub(crate) struct ObjectiveFile {
    /// How the terms are put together. Left out: `lexicographic`.
    pub method: Option<ObjectiveMethod>,
    /// The terms, `[[objective.term]]`, most important first; no metric twice.
    pub term: At<Vec<At<TermFile>>>,
}

/// One term of the objective.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Term")]
pub(crate) struct TermFile {
    /// What is measured.
    pub metric: At<Metric>,
    /// Lexicographic only. At or below this value, in the metric's unit, it no longer counts and the next term decides.
    pub satisfied_at: Option<At<String>>,
    /// Lexicographic only. How much worse still counts as equal: in the metric's unit, or in percent. Left out: `0%`.
    pub tolerance: Option<At<String>>,
    /// Priced only. What one unit of the metric (1 ms, 1 USD/h, 1 W or 1 g/h) is worth in money per hour.
    pub price: Option<Written<UsdPerHour>>,
}

/// What must hold of the predicted state after a move.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Constraints")]
pub(crate) struct ConstraintsFile {
    /// The highest value per service, by metric. A service that is above it already may not get worse.
    pub max: Option<MaxFile>,
    /// Tiers that services may be placed in. Left out: all.
    pub tiers: Option<At<Vec<At<String>>>>,
    /// Regions that services may be placed in. Left out: all.
    pub regions: Option<At<Vec<At<String>>>>,
    /// The share of a node's processor and memory that must stay free. Left out: `0%`.
    pub min_free: Option<Written<Percent>>,
    /// Services of which only so many may be in one place, such as `[{ label = "app", max = 2 }]`. Left out: none.
    pub spread: Option<Vec<At<SpreadFile>>>,
}

/// Services that have one label in common, of which only so many may be in one place.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Spread")]
pub(crate) struct SpreadFile {
    /// The label of services; those with one value are a group of their own, and those without it are in none.
    pub label: At<String>,
    /// What a place is. Left out: `site`.
    pub per: Option<Per>,
    /// So many of a group may be in one place, at least 1.
    pub max: At<u32>,
}

/// The highest value per service, by metric.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Max")]
pub(crate) struct MaxFile {
    /// Latency between users and service.
    pub user_latency: Option<Written<Millis>>,
    /// What the service costs.
    pub cost_rate: Option<Written<UsdPerHour>>,
    /// What the service draws.
    pub power: Option<Written<Watts>>,
    /// What the service emits.
    pub carbon_rate: Option<Written<GramsPerHour>>,
}

/// When to look, and what must be the matter before a service is moved for a gain.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Trigger")]
pub(crate) struct TriggerFile {
    /// Time between two looks. Left out: `30s`.
    pub interval: Option<Written<Millis>>,
    /// Time after a migration for which the numbers of both its sites decide no move from or to them. Left out: `1m`.
    pub settle: Option<Written<Millis>>,
    /// A service is moved for a gain only while one of these holds for it; of an empty list never. What mends something that is
    /// broken needs none. Left out: any gain will do.
    pub any: Option<At<Vec<At<ConditionFile>>>>,
}

/// A value of a service, where it runs now, that has been too high for a while.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Condition")]
pub(crate) struct ConditionFile {
    /// What is measured.
    pub metric: At<Metric>,
    /// It is above this, in the metric's unit.
    pub above: At<String>,
    /// At every look for so long. Left out: `0s`, at the look that decides.
    #[serde(rename = "for")]
    pub lasts: Option<Written<Millis>>,
}

/// What keeps services from moving to and fro.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Hysteresis")]
pub(crate) struct HysteresisFile {
    /// The least gain in the first term that improves, as a share of its value now. Left out: `10%`.
    pub min_gain: Option<Written<Percent>>,
    /// Time that a service stays where it arrived. Left out: `10m`.
    pub min_residency: Option<Written<Millis>>,
    /// Time after any migration, also a failed one, before the same service is moved again. Left out: `5m`.
    pub cooldown: Option<Written<Millis>>,
    /// Time within which what a move gains makes up for what it costs: waiting, traffic, both ends in use. Left out: `1d`.
    pub payback_within: Option<Written<Millis>>,
    /// Time for which a better place must have been there, at every look, before a service goes. Left out: `0s`.
    pub gain_lasts: Option<Written<Millis>>,
    /// The share of what a move costs that staying must have cost before, by not being where it is better; twice of it where
    /// the service would go back to where it came from. `100%` is the rule for skis: rent until the rent would have bought
    /// them. Left out: `0%`.
    pub regret: Option<Written<Percent>>,
    /// Time for which a service does not go back to the node that it left. Left out: `30m`.
    pub no_return_within: Option<Written<Millis>>,
}

/// How much moving, at once and within a time. Of two limits the one that is reached first counts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Budget")]
pub(crate) struct BudgetFile {
    /// Moves under way at one time, at least 1. Left out: 1.
    pub concurrent: Option<At<u32>>,
    /// Of them so many from or to any one site, at least 1. Left out: no limit.
    pub concurrent_per_site: Option<At<u32>>,
    /// Of them so many between any two sites, at least 1. Left out: no limit.
    pub concurrent_per_link: Option<At<u32>>,
    /// Moves within any hour, at least 1. Left out: no limit.
    pub moves_per_hour: Option<At<u32>>,
    /// Moves within any 24 hours, at least 1. Left out: no limit.
    pub moves_per_day: Option<At<u32>>,
    /// Moves of any one service within any 24 hours, at least 1. Left out: no limit.
    pub moves_per_service_per_day: Option<At<u32>>,
    /// What moves may send within any 24 hours. Left out: no limit.
    pub bytes_per_day: Option<Written<Bytes>>,
    /// What moves may send over any one link within any 24 hours. Left out: no limit.
    pub bytes_per_link_per_day: Option<Written<Bytes>>,
    /// How long any one service may stand still for moves within any 24 hours. Left out: no limit.
    pub downtime_per_day: Option<Written<Millis>>,
}

/// When moving stops because it fails: after so many migrations that were undone within a time, for a while.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Breaker")]
pub(crate) struct BreakerFile {
    /// How many; 0 for never. Left out: 3.
    pub failures: Option<At<u32>>,
    /// Within which time. Left out: `1h`.
    pub within: Option<Written<Millis>>,
    /// For how long, from the last of them. Left out: `6h`.
    pub pause: Option<Written<Millis>>,
}

/// A time in which moves are made, or not. Of two that are open at one time `deny` wins.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Window")]
pub(crate) struct WindowFile {
    /// `allow`: moves are made only while such a window is open. `deny`: none are made while it is.
    pub kind: WindowKind,
    /// When it begins, as in crontabs: minute, hour, day of month, month and weekday, such as `0 8 * * 1-5`.
    pub schedule: At<String>,
    /// For how long it is open.
    pub duration: Written<Millis>,
    /// The time zone of the schedule, such as `Europe/Paris`. Left out: `UTC`.
    pub timezone: Option<At<String>>,
    /// Whether moves that mend what is broken (a node that is drained or beyond its limits, a constraint) are made all the same.
    /// Left out: `false`.
    pub allow_mending: Option<bool>,
    /// What becomes of a migration that is under way when moves are kept back: `finish`, it goes on to its end; `abort`, it is
    /// undone where it has not come to its commit, and none is begun that is predicted to take longer. Left out: `finish`.
    pub overrun: Option<At<Overrun>>,
}

/// Where the numbers come from, by metric.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Metrics")]
pub(crate) struct MetricsFile {
    /// Latency from a user group to a site; unit `s` or `ms`, with a `users_label`.
    pub user_latency: Option<At<SourceFile>>,
    /// Price of one node of a site while it is in use; unit `USD/h`.
    pub cost_rate: Option<At<SourceFile>>,
    /// Power of one node of a site; unit `W` or `uW`.
    pub power: Option<At<SourceFile>>,
    /// Carbon intensity of a site's electricity; unit `g/kWh`.
    pub carbon_rate: Option<At<SourceFile>>,
    /// Share of the processor in use at a site; unit `ratio`.
    pub cpu_use: Option<At<SourceFile>>,
}

/// Where one metric comes from: a `query` with its `unit`, or a `builtin` query.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Source")]
pub(crate) struct SourceFile {
    /// A query that comes with Sterna; `sterna policy builtins` lists them.
    pub builtin: Option<At<String>>,
    /// Built-in queries only. The time over which the query takes its mean or rate. Left out: as the query has it.
    pub window: Option<Written<Millis>>,
    /// A PromQL expression that gives an instant vector.
    pub query: Option<At<String>>,
    /// The label that holds the site's name. Left out: `site`.
    pub site_label: Option<At<String>>,
    /// The label that holds the user group's name; `user_latency` needs it, the others don't have it. Built-in queries: left
    /// out: `users`.
    pub users_label: Option<At<String>>,
    /// The unit of the values that the query gives. A built-in query knows its own.
    pub unit: Option<At<SourceUnit>>,
    /// Older samples count as missing. Left out: `2m`, or as a built-in query has it.
    pub max_age: Option<Written<Millis>>,
    /// `[lowest, highest]` in the query's own unit; values outside count as missing.
    pub plausible: Option<At<[f64; 2]>>,
    /// What to do where a value is missing, after all fallbacks. Left out: `hold`.
    pub on_missing: Option<At<OnMissing>>,
    /// Further sources, tried in this order for each site (and user group) that has no usable value before. Same keys, but no
    /// `on_missing` and no `fallback` of their own.
    pub fallback: Option<At<Vec<At<SourceFile>>>>,
}

/// How a move is made.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Migration")]
pub(crate) struct MigrationFile {
    /// The method. Left out: `checkpoint`.
    pub method: Option<Method>,
    /// When the memory crosses: `ahead`, most of it while the service runs, or `while-frozen`. Left out: `ahead`.
    pub memory: Option<Memory>,
    /// A service that would stand still for longer than this is not frozen and stays where it is. Left out: no limit but the
    /// freeze lease.
    pub max_downtime: Option<Written<Millis>>,
    /// What one migration may take of a link. Left out: all it can.
    pub bandwidth: Option<Written<MibPerSecond>>,
    /// The whole migration must reach its commit within this time, or it is undone. Left out: `10m`.
    pub deadline: Option<Written<Millis>>,
    /// The longest time that a service may stand frozen before its source thaws it again. Left out: `30s`.
    pub freeze_lease: Option<Written<Millis>>,
}

/// How plans are approved, in mode `approve`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Approval")]
pub(crate) struct ApprovalFile {
    /// How long a plan may be approved after it was put up. Left out: `15m`.
    pub expires: Option<Written<Millis>>,
}
