//! A line through times: `constant + per_mib · MiB`.
//!
//! What a phase takes scatters by a share of itself, so that is what is made small: weights go with one over the square of the line,
//! found anew until nothing changes. Who lies far off counts less (Huber's weights at 1.345 deviations, found from the median). A
//! line neither falls nor begins below nothing.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// A time, and what it is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// In MiB.
    pub at: f64,
    /// In milliseconds.
    pub took: f64,
}

/// A line, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fit {
    /// How many times it goes through.
    pub migrations: usize,
    /// What it takes without any.
    #[serde(rename = "constant_ms")]
    pub constant: f64,
    /// What each MiB adds.
    #[serde(rename = "per_mib_ms")]
    pub per_mib: f64,
    /// Where the constant lies with 95 % confidence.
    #[serde(rename = "constant_interval_ms")]
    pub constant_interval: [f64; 2],
    /// Where the slope lies with 95 % confidence.
    #[serde(rename = "per_mib_interval_ms")]
    pub per_mib_interval: [f64; 2],
    /// How far one time is from the line, as a share of it: the standard deviation, to which those far off add less.
    pub spread: f64,
    #[serde(skip)]
    certainty: Certainty,
}

/// What prediction intervals are made of.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Certainty {
    /// Of constant, of both, of slope.
    covariance: [f64; 3],
    /// As many deviations hold 95 %.
    deviations: f64,
    /// The line is at least this for all that is relative to it.
    floor: f64,
}

/// Both ends of what holds this much.
const CONFIDENCE: f64 = 0.95;
/// Beyond as many deviations a time counts less.
const FAR: f64 = 1.345;
/// The median of what is spread normally is this part of its deviation.
const MEDIAN: f64 = 0.674_489_750_196_081_7;
/// It has long changed nothing any more.
const MOST_STEPS: usize = 200;

/// Sums over weighted points.
struct Sums {
    weight: f64,
    at: f64,
    at_at: f64,
    took: f64,
    at_took: f64,
}

impl Sums {
    fn of(points: &[Point], weights: &[f64]) -> Self {
        let mut sums = Self { weight: 0.0, at: 0.0, at_at: 0.0, took: 0.0, at_took: 0.0 };
        for (point, weight) in points.iter().zip(weights) {
            sums.weight += weight;
            sums.at += weight * point.at;
            sums.at_at += weight * point.at * point.at;
            sums.took += weight * point.took;
            sums.at_took += weight * point.at * point.took;
        }
        sums
    }

    /// Nothing where all are at one place.
    fn determinant(&self) -> Option<f64> {
        let determinant = self.weight * self.at_at - self.at * self.at;
        (determinant > 1e-9 * self.weight * self.at_at).then_some(determinant)
    }

    fn flat(&self) -> (f64, f64) {
        (self.took / self.weight, 0.0)
    }

    /// Constant and slope, as they come.
    fn free(&self) -> (f64, f64) {
        let Some(determinant) = self.determinant() else { return self.flat() };
        let slope = (self.weight * self.at_took - self.at * self.took) / determinant;
        ((self.took - slope * self.at) / self.weight, slope)
    }

    /// Constant and slope, neither less than nothing.
    fn line(&self) -> (f64, f64) {
        match self.free() {
            (_, slope) if slope < 0.0 => self.flat(),
            (constant, _) if constant < 0.0 => (0.0, self.at_took / self.at_at),
            line => line,
        }
    }
}

impl Fit {
    /// The line through some times; `None` where there is none.
    pub fn of(points: &[Point]) -> Option<Self> {
        let count = points.len() as f64;
        let mean = points.iter().map(|point| point.took).sum::<f64>() / count;
        if points.is_empty() || !mean.is_finite() {
            return None;
        }
        let floor = (mean / 1000.0).max(1e-6);
        let value = |(constant, slope): (f64, f64), at: f64| (constant + slope * at).max(floor);
        let relative = |line, point: &Point| point.took / value(line, point.at) - 1.0;
        let mut line = Sums::of(points, &vec![1.0; points.len()]).line();
        let mut near = vec![1.0; points.len()];
        for _ in 0..MOST_STEPS {
            let off: Vec<f64> = points.iter().map(|point| relative(line, point)).collect();
            near = nearness(&off);
            let weight = |(point, near): (&Point, &f64)| near / value(line, point.at).powi(2);
            let weights: Vec<f64> = points.iter().zip(&near).map(weight).collect();
            let next = Sums::of(points, &weights).line();
            let still = |a: f64, b: f64| (a - b).abs() <= 1e-12 * mean.max(1e-9);
            let done = still(next.0, line.0) && still(next.1, line.1);
            line = next;
            if done {
                break;
            }
        }
        let off: Vec<f64> = points.iter().map(|point| relative(line, point)).collect();
        let weights: Vec<f64> = points.iter().map(|point| value(line, point.at).powi(-2)).collect();
        let near_weights: Vec<f64> = weights.iter().zip(&near).map(|(weight, near)| weight * near).collect();
        let (sums, free) = (Sums::of(points, &weights), Sums::of(points, &near_weights).free());
        let parameters = if sums.determinant().is_some() { 2.0 } else { 1.0 };
        let freedom = (count - parameters).max(1.0);
        let variance = variance(&off, &near, parameters, freedom);
        let spread = variance.max(0.0).sqrt();
        let covariance = match sums.determinant() {
            Some(determinant) => {
                [sums.at_at, -sums.at, sums.weight].map(|part| variance * part / determinant)
            }
            None => [variance / sums.weight, 0.0, 0.0],
        };
        let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
        let deviations = student.inverse_cdf(0.5 + CONFIDENCE / 2.0);
        let around = |value: f64, variance: f64| {
            let half = deviations * variance.max(0.0).sqrt();
            [value - half, value + half]
        };
        Some(Self {
            migrations: points.len(),
            constant: line.0,
            per_mib: line.1,
            constant_interval: around(free.0, covariance[0]),
            per_mib_interval: around(free.1, covariance[2]),
            spread,
            certainty: Certainty { covariance, deviations, floor },
        })
    }

    /// The time at so many MiB.
    pub fn at(&self, mib: f64) -> f64 {
        self.constant + self.per_mib * mib
    }

    /// Half of what holds one more time at so many MiB with 95 % confidence.
    pub fn half_interval(&self, mib: f64) -> f64 {
        let Certainty { covariance: [constant, both, slope], deviations, floor } = self.certainty;
        let of_line = constant + 2.0 * mib * both + mib * mib * slope;
        let of_time = (self.spread * self.at(mib).max(floor)).powi(2);
        deviations * (of_line.max(0.0) + of_time).sqrt()
    }
}

/// How much each counts, by how far it is off.
fn nearness(off: &[f64]) -> Vec<f64> {
    let mut sizes: Vec<f64> = off.iter().map(|off| off.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    // A line goes through two points exactly: these say nothing of how far times lie from it.
    let told = &sizes[sizes.len().min(2)..];
    let limit = told.get(told.len() / 2).map_or(0.0, |middle| FAR * middle / MEDIAN);
    off.iter().map(|off| if off.abs() <= limit || limit == 0.0 { 1.0 } else { limit / off.abs() }).collect()
}

/// Variance of relative errors, where those far off count less (Huber 1981, with his correction for small numbers).
fn variance(off: &[f64], near: &[f64], parameters: f64, freedom: f64) -> f64 {
    let count = off.len() as f64;
    let whole = near.iter().filter(|near| **near >= 1.0).count() as f64 / count;
    if whole <= 0.0 {
        return 0.0;
    }
    let correction = 1.0 + parameters / count * (1.0 - whole) / whole;
    let sum: f64 = off.iter().zip(near).map(|(off, near)| (off * near).powi(2)).sum();
    (correction / whole).powi(2) * sum / freedom
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn points(pairs: &[(f64, f64)]) -> Vec<Point> {
        pairs.iter().map(|&(at, took)| Point { at, took }).collect()
    }

    #[test]
    fn a_line_is_found_again() {
        let of = |at: f64| 100.0 + 0.5 * at;
        let fit = Fit::of(&points(&[4.0, 64.0, 256.0, 1024.0].map(|at| (at, of(at))))).unwrap();
        assert!((fit.constant - 100.0).abs() < 1e-6 && (fit.per_mib - 0.5).abs() < 1e-9, "{fit:?}");
        assert!(fit.spread < 1e-9 && fit.half_interval(500.0) < 1e-6);
        assert!((fit.at(512.0) - of(512.0)).abs() < 1e-6);
    }

    #[test]
    fn intervals_are_students() {
        // All at one place: the mean of 9, 10 and 11, its deviation a tenth, and t(0.975; 2) = 4.302653.
        let fit = Fit::of(&points(&[(5.0, 9.0), (5.0, 10.0), (5.0, 11.0)])).unwrap();
        assert!((fit.constant - 10.0).abs() < 1e-9 && fit.per_mib == 0.0);
        assert!((fit.spread - 0.1).abs() < 1e-9, "{}", fit.spread);
        let half = 4.302_653 / 3f64.sqrt();
        assert!((fit.constant_interval[1] - 10.0 - half).abs() < 1e-4, "{fit:?}");
        let one_more = 4.302_653 * (1.0f64 + 1.0 / 3.0).sqrt();
        assert!((fit.half_interval(5.0) - one_more).abs() < 1e-4);
    }

    #[test]
    fn small_times_count_as_much_as_large_ones() {
        // The large ones scatter by what the small ones take; the line goes through the small ones nevertheless.
        let fit = Fit::of(&points(&[
            (1.0, 10.1),
            (1.0, 9.9),
            (2.0, 20.3),
            (2.0, 19.9),
            (1000.0, 9000.0),
            (1000.0, 11_000.0),
        ]))
        .unwrap();
        assert!((fit.at(1.0) / 10.0 - 1.0).abs() < 0.05, "{fit:?}");
        assert!((fit.at(2.0) / 20.0 - 1.0).abs() < 0.05, "{fit:?}");
    }

    #[test]
    fn one_that_is_far_off_hardly_counts() {
        let of = |odd: f64| {
            let mut times: Vec<(f64, f64)> = Vec::new();
            for at in [64.0, 256.0, 512.0] {
                times.extend([0.97, 0.99, 1.0, 1.01, 1.03].map(|part| (at, part * (100.0 + at))));
            }
            times[7].1 *= odd;
            Fit::of(&points(&times)).unwrap().at(256.0)
        };
        assert!((of(8.0) / of(1.0) - 1.0).abs() < 0.02, "{} {}", of(8.0), of(1.0));
    }

    #[test]
    fn a_line_neither_falls_nor_begins_below_nothing() {
        let falls = Fit::of(&points(&[(1.0, 30.0), (2.0, 20.0), (3.0, 10.0), (4.0, 9.0)])).unwrap();
        assert_eq!(falls.per_mib, 0.0);
        assert!(falls.per_mib_interval[0] < 0.0, "what was seen is told nevertheless");
        let below = Fit::of(&points(&[(10.0, 1.0), (20.0, 11.0), (30.0, 21.0), (40.0, 31.0)])).unwrap();
        assert!(below.constant == 0.0 && below.per_mib > 0.0, "{below:?}");
        let nothing = Fit::of(&points(&[(1.0, 0.0), (2.0, 0.0), (3.0, 0.0)])).unwrap();
        assert_eq!((nothing.constant, nothing.per_mib), (0.0, 0.0));
        assert_eq!(Fit::of(&[]), None);
    }

    proptest! {
        /// Of times that scatter by a tenth about a line, the intervals hold the line mostly, and one more time nearly always.
        #[test]
        fn intervals_hold_what_they_should(seed in prop::collection::vec(-1.0f64..1.0, 60)) {
            let at = |n: usize| [4.0, 64.0, 256.0, 512.0, 1024.0][n % 5];
            let times: Vec<(f64, f64)> = seed
                .iter()
                .enumerate()
                .map(|(n, off)| (at(n), (100.0 + 0.5 * at(n)) * (1.0 + 0.1 * off)))
                .collect();
            let fit = Fit::of(&points(&times)).unwrap();
            // Two and a half times as wide: no accident reaches beyond.
            let wide = |[low, high]: [f64; 2], value: f64| ((low + high) / 2.0 - value).abs() <= 1.25 * (high - low) + 1e-6;
            prop_assert!(wide(fit.constant_interval, 100.0) && wide(fit.per_mib_interval, 0.5));
            let outside = times.iter().filter(|(at, took)| (took - fit.at(*at)).abs() > fit.half_interval(*at)).count();
            prop_assert!(outside <= 6, "{outside}");
        }

        #[test]
        fn whatever_the_times_there_is_a_line_or_none(
            times in prop::collection::vec((0.0f64..1e9, 0.0f64..1e12), 0..20)
        ) {
            if let Some(fit) = Fit::of(&points(&times)) {
                prop_assert!(fit.constant >= 0.0 && fit.per_mib >= 0.0);
                prop_assert!(fit.at(1e6).is_finite() && fit.half_interval(1e6).is_finite());
            } else {
                prop_assert!(times.is_empty());
            }
        }
    }
}
