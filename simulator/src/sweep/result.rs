//! What came of many policies over many seeds, as values; the cli puts them into words.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::estimate::Estimate;
use super::front::beaten_by;
use super::grid::Settings;
use super::matrix::{Fared, Matrix};
use super::measure::Measure;
use crate::clock::SimTime;
use crate::scenario::Scenario;

/// How policies compare.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The scenario's own name.
    pub scenario: String,
    /// The calendar's time at its start.
    pub start: Timestamp,
    /// How long it lasts.
    pub duration: SimTime,
    /// Failures that were asked for beside those of the scenario's file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub injected: Vec<String>,
    /// Whether seeds make a difference to it. If not, one was run, and there are no intervals.
    pub random: bool,
    /// The seeds that were run; all policies met the same world with the same seed.
    pub seeds: Vec<u64>,
    /// What the front is over: those that were asked for, as far as they differ between policies.
    pub objectives: Vec<Measure>,
    /// With nothing moving.
    pub unmoved: BTreeMap<Measure, Estimate>,
    /// One per policy, in the order they were given.
    pub policies: Vec<Compared>,
}

/// How one policy compares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// Its name.
    pub policy: String,
    /// Where it differs from the policy that it is a variant of: key and value, as a sweep file has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Settings,
    /// What it came to. What is not known with every seed is missing.
    pub measures: BTreeMap<Measure, Estimate>,
    /// By how much it came to more than if nothing had moved.
    pub beyond_unmoved: BTreeMap<Measure, Estimate>,
    /// By how much it came to more than the first policy; empty for the first.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub beyond_first: BTreeMap<Measure, Estimate>,
    /// Which policy is at least as good in all objectives, and better in one; `None` for those of the front.
    pub beaten_by: Option<String>,
    /// How it fared with each seed.
    pub fared: Vec<Fared>,
}

impl Comparison {
    /// Of runs of policies, each with its name and its settings, by some objectives.
    pub fn of(scenario: &Scenario, names: &[(String, Settings)], matrix: Matrix, wanted: &[Measure]) -> Self {
        let objectives: Vec<Measure> =
            wanted.iter().copied().filter(|measure| varies(*measure, &matrix.fared)).collect();
        let points: Vec<Vec<i128>> = matrix.fared.iter().map(|fared| point(&objectives, fared)).collect();
        let beaten = beaten_by(&points);
        let first = matrix.fared.first().cloned().unwrap_or_default();
        let policies = names.iter().zip(matrix.fared).zip(beaten).enumerate();
        let policies = policies.map(|(at, (((policy, settings), fared), beaten))| Compared {
            policy: policy.clone(),
            settings: settings.clone(),
            measures: estimates(&fared, |values, _| Estimate::of(values)),
            beyond_unmoved: differences(&fared, &matrix.unmoved),
            beyond_first: if at == 0 { BTreeMap::new() } else { differences(&fared, &first) },
            beaten_by: beaten.and_then(|by| names.get(by)).map(|(name, _)| name.clone()),
            fared,
        });
        Self {
            scenario: scenario.name.clone(),
            start: scenario.start,
            duration: scenario.duration,
            injected: scenario.injected.clone(),
            random: scenario.is_random(),
            objectives,
            policies: policies.collect(),
            unmoved: estimates(&matrix.unmoved, |values, _| Estimate::of(values)),
            seeds: matrix.seeds,
        }
    }

    /// blake3 over its canonical JSON, as hex: the same for the same files and seeds, whatever the number of threads.
    ///
    /// # Errors
    /// If it can't be put into JSON.
    pub fn hash(&self) -> Result<String, serde_json::Error> {
        Ok(blake3::hash(&serde_json::to_vec(self)?).to_hex().to_string())
    }
}

/// Whether a measure is known everywhere, and differs.
fn varies(measure: Measure, fared: &[Vec<Fared>]) -> bool {
    let sums: Option<Vec<i128>> = fared.iter().map(|fared| sum(measure, fared)).collect();
    sums.is_some_and(|sums| sums.windows(2).any(|pair| pair[0] != pair[1]))
}

/// Over all seeds, exactly.
fn sum(measure: Measure, fared: &[Fared]) -> Option<i128> {
    fared.iter().map(|one| measure.micros(one).map(i128::from)).sum()
}

fn point(objectives: &[Measure], fared: &[Fared]) -> Vec<i128> {
    objectives.iter().filter_map(|measure| sum(*measure, fared)).collect()
}

fn values(measure: Measure, fared: &[Fared]) -> Option<Vec<f64>> {
    fared.iter().map(|one| measure.micros(one).map(|micros| micros as f64 / 1e6)).collect()
}

fn estimates(
    fared: &[Fared],
    of: impl Fn(&[f64], Measure) -> Option<Estimate>,
) -> BTreeMap<Measure, Estimate> {
    let one = |measure: Measure| Some((measure, of(&values(measure, fared)?, measure)?));
    Measure::ALL.into_iter().filter_map(one).collect()
}

fn differences(fared: &[Fared], others: &[Fared]) -> BTreeMap<Measure, Estimate> {
    estimates(fared, |own, measure| Estimate::of_differences(own, &values(measure, others)?))
}
