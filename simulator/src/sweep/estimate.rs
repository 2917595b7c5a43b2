//! Means over seeds, and how sure they are.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// How sure an interval is.
pub const CONFIDENCE: f64 = 0.95;

/// A mean over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The true mean is within so much of it, with 95 % confidence, if what seeds come to is distributed about normally
    /// (Student, Biometrika 6, 1908). `None` where one value says nothing of how values scatter.
    pub within: Option<f64>,
}

impl Estimate {
    /// Of values, one for each seed; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let within = StudentsT::new(0.0, 1.0, count - 1.0).ok().map(|student| {
            let deviations = student.inverse_cdf(0.5 + CONFIDENCE / 2.0);
            deviations * (squares / (count - 1.0) / count).sqrt()
        });
        Some(Self { mean, within })
    }

    /// Of the differences between values and others, each of the same seed.
    pub fn of_differences(values: &[f64], others: &[f64]) -> Option<Self> {
        let differences: Vec<f64> = values.iter().zip(others).map(|(value, other)| value - other).collect();
        Self::of(&differences)
    }

    /// Whether zero is outside the interval.
    pub fn is_not_zero(&self) -> bool {
        self.within.is_some_and(|within| self.mean.abs() > within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_students() {
        // Two-sided 95 % points of t: 4.3027 for 2 and 2.7764 for 4 degrees of freedom.
        let of = |values: &[f64]| Estimate::of(values).unwrap();
        let three = of(&[1.0, 2.0, 3.0]);
        assert!((three.mean - 2.0).abs() < 1e-12);
        assert!((three.within.unwrap() - 4.302_653 / 3f64.sqrt()).abs() < 1e-5);
        let five = of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!((five.within.unwrap() - 2.776_445 * (2.5f64 / 5.0).sqrt()).abs() < 1e-5);
        assert_eq!(of(&[7.0]), Estimate { mean: 7.0, within: None });
        assert_eq!(Estimate::of(&[]), None);
    }

    #[test]
    fn differences_scatter_less_than_values() {
        let (one, other) = ([10.0, 20.0, 30.0], [11.0, 21.5, 31.0]);
        let difference = Estimate::of_differences(&other, &one).unwrap();
        assert!(difference.is_not_zero());
        assert!(difference.within.unwrap() < Estimate::of(&one).unwrap().within.unwrap() / 10.0);
        assert!(!Estimate::of(&one).unwrap().is_not_zero());
    }
}
