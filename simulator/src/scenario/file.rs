//! The scenario file as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use sterna_policies::load::{At, Written};
use sterna_policies::quantity::{Bytes, GramsPerKwh, Millis, PerSecond, Percent, UsdPerHour};

use super::Shape;
use super::faults::{FailureFile, PreemptionFile};
use super::moves::{MigrationFile, WritesFile};
use super::people::{DistanceFile, MobilityFile};
use super::series::{BurstsFile, DailyFile};

/// A scenario file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Scenario")]
pub struct ScenarioFile {
    /// The version of this format: 1.
    pub schema_version: At<u32>,
    /// Its own name.
    pub name: At<String>,
    /// The inventory file, relative to this one.
    pub inventory: At<String>,
    /// The calendar's time at the start, such as "2026-03-02T00:00:00Z".
    pub start: At<String>,
    /// How long it lasts.
    pub duration: Written<Millis>,
    /// How often linear tracks are read; one minute where it is left out.
    pub step: Option<Written<Millis>>,
    /// The calibration file, relative to this one: what the parts of a move take. What Sterna has measured elsewhere where it is
    /// left out.
    pub calibration: Option<At<String>>,
    /// Node of each service at the start; the inventory's `run.on` where it is left out.
    #[serde(default)]
    pub placement: BTreeMap<At<String>, At<String>>,
    /// Latency from user groups to sites.
    #[serde(default)]
    pub latency: Vec<LatencyTrack>,
    /// Requests per second of user groups.
    #[serde(default)]
    pub rate: Vec<RateTrack>,
    /// Prices of nodes.
    #[serde(default)]
    pub price: Vec<PriceTrack>,
    /// Carbon intensities of sites.
    #[serde(default)]
    pub carbon: Vec<CarbonTrack>,
    /// Memory that services hold.
    #[serde(default)]
    pub memory: Vec<MemoryTrack>,
    /// How services write it.
    #[serde(default)]
    pub writes: Vec<WritesFile>,
    /// How moves of services go.
    #[serde(default)]
    pub migration: Vec<MigrationFile>,
    /// Where user groups are.
    #[serde(default)]
    pub mobility: Vec<MobilityFile>,
    /// Latency over distance.
    #[serde(default)]
    pub distance: Vec<DistanceFile>,
    /// What fails.
    #[serde(default)]
    pub failure: Vec<At<FailureFile>>,
    /// Spot nodes that are taken away.
    #[serde(default)]
    pub preemption: Vec<At<PreemptionFile>>,
    /// Whether what can have no effect is let through with a warning. Left out: it is refused.
    #[serde(default)]
    pub allow_unused: bool,
    /// How far what is asked for strays from what is said here, drawn anew for each seed.
    pub noise: Option<At<NoiseFile>>,
}

/// How far what is asked for strays from what is said.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Noise")]
pub struct NoiseFile {
    /// The request rates of each user group, up to this share more or less, such as "20%".
    pub rate: Written<Percent>,
    /// For so long by the same share, such as "1h".
    pub every: Written<Millis>,
}

/// Time since the start, and value.
pub type Point<Q> = (Written<Millis>, Written<Q>);

/// Latency from a user group to a site.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LatencyTrack {
    /// The user group.
    pub users: At<String>,
    /// The site.
    pub site: At<String>,
    /// How to get from point to point.
    #[serde(default)]
    pub shape: Shape,
    /// Times since the start, each with the latency from then on.
    pub points: Option<At<Vec<Point<Millis>>>>,
    /// Or a CSV or Parquet file with the columns `time` and `value`, relative to this one. Times are seconds or spans since the start,
    /// or points in time; what lies outside the scenario is passed over.
    pub file: Option<At<String>>,
    /// The unit of bare numbers in the file.
    pub unit: Option<At<String>>,
}

/// Requests per second of a user group for a service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateTrack {
    /// The user group.
    pub users: At<String>,
    /// The service.
    pub service: At<String>,
    /// How to get from point to point.
    #[serde(default)]
    pub shape: Shape,
    /// Times since the start, each with the rate from then on.
    pub points: Option<At<Vec<Point<PerSecond>>>>,
    /// Or a CSV or Parquet file with the columns `time` and `value`, relative to this one. Times are seconds or spans since the start,
    /// or points in time; what lies outside the scenario is passed over.
    pub file: Option<At<String>>,
    /// The unit of bare numbers in the file.
    pub unit: Option<At<String>>,
    /// Or once up and down a day.
    pub daily: Option<DailyFile>,
    /// Or much higher now and then, by chance.
    pub bursts: Option<BurstsFile>,
}

/// Price of one node of a site while it is in use.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceTrack {
    /// The site.
    pub site: At<String>,
    /// How to get from point to point.
    #[serde(default)]
    pub shape: Shape,
    /// Times since the start, each with the price from then on.
    pub points: Option<At<Vec<Point<UsdPerHour>>>>,
    /// Or a CSV or Parquet file with the columns `time` and `value`, relative to this one. Times are seconds or spans since the start,
    /// or points in time; what lies outside the scenario is passed over.
    pub file: Option<At<String>>,
    /// The unit of bare numbers in the file.
    pub unit: Option<At<String>>,
}

/// Carbon intensity of a site's electricity.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CarbonTrack {
    /// The site.
    pub site: At<String>,
    /// How to get from point to point.
    #[serde(default)]
    pub shape: Shape,
    /// Times since the start, each with the intensity from then on.
    pub points: Option<At<Vec<Point<GramsPerKwh>>>>,
    /// Or a CSV or Parquet file with the columns `time` and `value`, relative to this one. Times are seconds or spans since the start,
    /// or points in time; what lies outside the scenario is passed over.
    pub file: Option<At<String>>,
    /// The unit of bare numbers in the file.
    pub unit: Option<At<String>>,
}

/// Memory that a service holds: what a move has to carry.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryTrack {
    /// The service.
    pub service: At<String>,
    /// How to get from point to point.
    #[serde(default)]
    pub shape: Shape,
    /// Times since the start, each with the memory from then on.
    pub points: Option<At<Vec<Point<Bytes>>>>,
    /// Or a CSV or Parquet file with the columns `time` and `value`, relative to this one. Times are seconds or spans since the start,
    /// or points in time; what lies outside the scenario is passed over.
    pub file: Option<At<String>>,
    /// The unit of bare numbers in the file.
    pub unit: Option<At<String>>,
}
