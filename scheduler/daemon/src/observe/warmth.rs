//! Whether rates rest on enough samples.
//!
//! `rate` gives a number from two samples on. With two it is what happened between two scrapes, stretched over the whole
//! window: a series that has just begun, as after a restart, may say anything. Such a value is *warming up* and counts as missing.

use std::time::Duration;

use promql_parser::parser::{MatrixSelector, VectorSelector};

use super::store::{Answer, Row};
use super::witness::{self, Witness, WitnessError};

/// A rate rests on at least so many samples, two stretches between scrapes.
pub const ENOUGH: f64 = 3.0;

/// Expressions that count the samples behind each value's rates. None for an expression without a rate.
///
/// # Errors
/// As for [ages](super::age::witnesses).
pub fn witnesses(query: &str) -> Result<Vec<String>, WitnessError> {
    witness::of(query, &Count)
}

struct Count;

impl Witness for Count {
    const NEEDED: bool = false;

    fn instant(&self, _: &VectorSelector) -> Option<String> {
        None
    }

    fn range(&self, range: &MatrixSelector, function: &str) -> Option<String> {
        matches!(function, "rate" | "increase" | "deriv").then(|| format!("count_over_time({range})"))
    }

    fn subquery(&self, inner: String, range: Duration) -> String {
        // What was still cold at the beginning of the range goes into its mean.
        format!("min_over_time(({inner})[{0}ms:{1}ms])", range.as_millis(), (range / 10).as_millis().max(1))
    }
}

/// The least number of samples behind a value's rates, where that is too few.
pub fn too_few(row: &Row, answers: &[Answer]) -> Option<f64> {
    let rows = answers.iter().flat_map(|answer| &answer.rows);
    let counts = rows.filter(|one| witness::speaks_for(one, row)).filter_map(|one| one.value);
    counts.filter(|count| *count < ENOUGH).min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rates_need_warmth() {
        assert!(witnesses("avg_over_time(x[5m]) + y").unwrap().is_empty());
        assert_eq!(
            witnesses("1 - avg by (site) (rate(x{mode=\"idle\"}[1m]))").unwrap(),
            ["min by (site) (count_over_time(x{mode=\"idle\"}[1m]))"]
        );
        assert_eq!(witnesses("rate(a[1m]) / on (i) b").unwrap(), ["min by (i) (count_over_time(a[1m]))"]);
        assert_eq!(
            witnesses("max_over_time(rate(a[1m])[10m:1m])").unwrap(),
            ["min_over_time((count_over_time(a[1m]))[600000ms:60000ms])"]
        );
        assert!(witnesses("x or y").unwrap().is_empty());
        assert_eq!(witnesses("rate(a[1m]) or b").unwrap(), ["count_over_time(a[1m])"]);
    }

    #[test]
    fn the_coldest_sample_speaks() {
        let row = |site: &str, value| Row {
            labels: [("site".to_owned(), site.to_owned())].into(),
            value: Some(value),
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let answers =
            [Answer { rows: vec![row("a", 9.0), row("b", 2.0)] }, Answer { rows: vec![row("a", 3.0)] }];
        assert_eq!(too_few(&row("a", 0.5), &answers), None);
        assert_eq!(too_few(&row("b", 0.5), &answers), Some(2.0));
        assert_eq!(too_few(&row("c", 0.5), &answers), None, "silence is told by the age");
    }
}
