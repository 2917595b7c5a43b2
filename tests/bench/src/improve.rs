//! An assignment made better while somebody watches: a budget of time or of proposals, the curve, and the judge at the end.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Serialize;
use sterna_core::assignment::model::Model;
use sterna_core::assignment::problem::Problem;
use sterna_core::assignment::search;
use sterna_core::assignment::search::budget::{Budget, Proposals};
use sterna_core::checker::assignment::{Judgement, judge};

/// How to search.
#[derive(Debug, clap::Args)]
pub struct Effort {
    /// How long to search, in seconds; 300 for the challenge, 30 for the continuum if not said.
    #[arg(long, value_parser = positive)]
    time: Option<f64>,
    /// How many proposals each search makes, whatever time that takes: the same result on every machine.
    #[arg(long, conflicts_with = "time")]
    proposals: Option<u64>,
    /// How many searches run side by side.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// Decides what is tried in which order.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds.is_finite() => Ok(seconds),
        _ => Err("a number of seconds above 0".to_owned()),
    }
}

/// What came of a search.
#[derive(Debug)]
pub struct Improved {
    /// The bin of each item.
    pub at: Vec<u32>,
    /// What the judge says of it.
    pub judgement: Judgement,
    /// Proposals made.
    pub proposals: u64,
    /// What was seen on the way.
    pub curve: Curve,
}

/// Ends with the time.
#[derive(Debug, Clone, Copy)]
struct Clock {
    start: Instant,
    limit: Duration,
}

impl Budget for Clock {
    fn spent(&self, _: u64) -> f64 {
        self.start.elapsed().as_secs_f64() / self.limit.as_secs_f64()
    }
}

impl Effort {
    /// Searches from where the items are now. Time counts from `start`, and lasts `usual` seconds if nothing else was asked for.
    ///
    /// # Errors
    /// When the model can't be used, or the search and the judge don't agree.
    pub fn improve(&self, model: &Model, start: Instant, usual: f64) -> anyhow::Result<Improved> {
        let problem = Problem::new(model)?;
        let proposals = self.proposals.map(Proposals);
        let clock = Clock { start, limit: Duration::from_secs_f64(self.time.unwrap_or(usual)) };
        let curve = Mutex::new(Curve { start, first: None, points: Vec::new() });
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads as usize).build()?;
        let budget: &dyn Budget = proposals.as_ref().map_or(&clock, |proposals| proposals);
        let found = pool.install(|| {
            search::best(&problem, self.threads, self.seed, budget, &|seen| {
                if let Ok(mut curve) = curve.lock() {
                    curve.add(seen.value);
                }
            })
        });
        let judgement = judge(model, &found.at);
        anyhow::ensure!(
            judgement.values == found.values.iter().map(|value| i128::from(*value)).collect::<Vec<_>>(),
            "the search and the judge don't agree: {:?} and {:?}; this is a bug",
            found.values,
            judgement.values,
        );
        let curve = curve.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(Improved { at: found.at, judgement, proposals: found.proposals, curve })
    }
}

/// The least cost over time.
#[derive(Debug, Serialize)]
pub struct Curve {
    #[serde(skip)]
    start: Instant,
    /// Seconds until something was better than at first.
    pub first: Option<f64>,
    /// Seconds and the least cost by then.
    pub points: Vec<(f64, i64)>,
}

impl Curve {
    /// A point each time that the least cost has fallen and the time since the point before has grown by a twentieth.
    fn add(&mut self, value: i64) {
        let seconds = self.start.elapsed().as_secs_f64();
        if self.points.first().is_some_and(|(_, initial)| value < *initial) {
            self.first.get_or_insert(seconds);
        }
        let due = self.points.last().is_none_or(|(at, least)| seconds > at * 1.05 && value < *least);
        if due {
            self.points.push((seconds, value));
        }
    }
}

/// By how much a cost is above what is possible at most, in percent.
pub fn gap(cost: i128, bound: i128) -> f64 {
    100.0 * (cost - bound) as f64 / bound.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_falls_and_knows_when_it_first_did() {
        let mut curve = Curve { start: Instant::now(), first: None, points: Vec::new() };
        curve.add(10);
        curve.add(10);
        assert!(curve.first.is_none() && curve.points.len() == 1);
        curve.add(9);
        curve.add(12);
        assert!(curve.first.is_some());
        assert!(curve.points.windows(2).all(|pair| pair[1].1 < pair[0].1));
    }

    #[test]
    fn a_gap_is_a_share_of_the_bound() {
        assert!((gap(110, 100) - 10.0).abs() < 1e-9);
        assert!((gap(5, 0) - 500.0).abs() < 1e-9);
    }
}
