//! How old the numbers of a query are.
//!
//! Prometheus gives every value of an instant query the time of evaluation, so a number that rests on an hour-old sample
//! looks as fresh as any. The age is asked for apart, by [witnesses](super::witness) that give the time of the oldest sample
//! behind each value. The policy's own expression is sent as it was written.
//!
//! - an instant selector `x` is witnessed by `timestamp(x)`;
//! - a range `x[5m]` goes on giving values for five minutes after its series has ended, so its witness looks for the newest
//!   sample in the range: `timestamp(x)` where there still is one, or `max_over_time(timestamp(x)[5m:step])`, too old by
//!   one step at most, never too young;
//! - an aggregation is as old as the oldest series in it, an operator as its older side.

use std::time::Duration;

use jiff::Timestamp;
use promql_parser::parser::{MatrixSelector, VectorSelector};
use sterna_policies::quantity::Millis;

use super::store::{Answer, Row};
use super::witness::{self, Witness, WitnessError, speaks_for};

/// The witnesses of an expression. None for one that rests on no sample at all.
///
/// `step` is the resolution with which ranges are searched.
///
/// # Errors
/// When the expression can't be parsed, or the age can't be followed through a part of it.
pub fn witnesses(query: &str, step: Duration) -> Result<Vec<String>, WitnessError> {
    witness::of(query, &Age { step })
}

struct Age {
    step: Duration,
}

impl Witness for Age {
    const NEEDED: bool = true;

    fn instant(&self, selector: &VectorSelector) -> Option<String> {
        Some(format!("timestamp({selector})"))
    }

    fn range(&self, range: &MatrixSelector, _: &str) -> Option<String> {
        Some(newest(&format!("timestamp({})", range.vs), range.range, self.step))
    }

    fn subquery(&self, inner: String, range: Duration) -> String {
        newest(&inner, range, self.step)
    }
}

/// The newest timestamp that `witness` gave within `range`.
fn newest(witness: &str, range: Duration, step: Duration) -> String {
    // A step longer than the range would find nothing.
    let step = step.min(range / 2).max(Duration::from_millis(1));
    format!("({witness}) or max_over_time(({witness})[{}ms:{}ms])", range.as_millis(), step.as_millis())
}

/// Age of a value by the answers of all witnesses: by the oldest that speaks for it. `None` where one has nothing to say,
/// which means that the samples behind the value are too old to be seen.
pub fn age(row: &Row, at: Timestamp, answers: &[Answer]) -> Option<Millis> {
    let mut oldest = Millis::ZERO;
    for answer in answers {
        let mut heard = false;
        for witness in answer.rows.iter().filter(|witness| speaks_for(witness, row)) {
            let seconds = witness.value.filter(|value| value.is_finite())?;
            let age = (at.as_millisecond() as f64 - seconds * 1e3).round();
            // An exporter's clock may be ahead of the store's.
            oldest = oldest.max(Millis::from_f64(age.max(0.0))?);
            heard = true;
        }
        if !heard {
            return None;
        }
    }
    Some(oldest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Vec<String> {
        witnesses(query, Duration::from_secs(6)).unwrap()
    }

    #[test]
    fn selectors_are_witnessed_as_they_stand() {
        assert_eq!(of(r#"up{job=~"a\\d+",x!="\"q\""}"#), [r#"timestamp(up{job=~"a\\d+",x!="\"q\""})"#]);
        assert_eq!(of("up offset 5m"), ["timestamp(up offset 5m)"]);
        assert_eq!(of("1000 * (x > 0)"), ["timestamp(x)"]);
        assert_eq!(of("clamp_min(-x, 3)"), ["timestamp(x)"]);
    }

    #[test]
    fn a_range_is_as_old_as_its_newest_sample() {
        assert_eq!(of("rate(x[5m])"), ["(timestamp(x)) or max_over_time((timestamp(x))[300000ms:6000ms])"]);
        assert_eq!(
            of("last_over_time(x[2s])"),
            ["(timestamp(x)) or max_over_time((timestamp(x))[2000ms:1000ms])"]
        );
        assert_eq!(
            of("quantile_over_time(0.95, (x and on (i) ok == 1)[5m:15s])"),
            [
                "(min by (i) (timestamp(ok))) or max_over_time((min by (i) (timestamp(ok)))[300000ms:6000ms])",
                "(timestamp(x)) or max_over_time((timestamp(x))[300000ms:6000ms])"
            ]
        );
    }

    #[test]
    fn aggregations_and_operators_are_as_old_as_their_oldest_part() {
        assert_eq!(of("sum by (site) (x)"), ["min by (site) (timestamp(x))"]);
        assert_eq!(of("max(x)"), ["min(timestamp(x))"]);
        assert_eq!(of("topk(1, x)"), ["timestamp(x)"]);
        assert_eq!(
            of("a * on (i) group_left (site) b"),
            ["min by (i) (timestamp(b))", "min without (site) (timestamp(a))"]
        );
        assert_eq!(of("a unless b"), ["timestamp(a)"]);
        assert_eq!(of("a or b"), ["(timestamp(a)) or (timestamp(b))"]);
        assert_eq!(
            of("a + b or c"),
            ["(((timestamp(a)) < (timestamp(b))) or ((timestamp(b)) <= (timestamp(a)))) or (timestamp(c))"]
        );
        assert_eq!(of("a * scalar(b)"), ["min(timestamp(b))", "timestamp(a)"]);
        assert_eq!(
            of("histogram_quantile(0.5, sum by (le, s) (rate(x[1m])))"),
            [
                "min without (le) (min by (le, s) ((timestamp(x)) or max_over_time((timestamp(x))[60000ms:6000ms])))"
            ]
        );
        assert_eq!(
            of(r#"label_replace(x, "site", "$1", "host", "(.*)")"#),
            [r#"label_replace(timestamp(x), "site", "$1", "host", "(.*)")"#]
        );
        assert!(of("vector(1)").is_empty());
    }

    #[test]
    fn built_in_queries_can_all_be_followed() {
        for builtin in sterna_policies::builtin::ALL {
            let query = builtin.query("site", "users", None);
            let found = witnesses(&query, Duration::from_secs(6)).unwrap_or_else(|error| panic!("{error}"));
            assert!(!found.is_empty(), "{query}");
            super::super::warmth::witnesses(&query).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn what_cannot_be_followed_is_said() {
        assert!(matches!(witnesses("absent(up)", Duration::from_secs(1)), Err(WitnessError::Opaque(_))));
        assert!(matches!(witnesses("x or vector(0)", Duration::from_secs(1)), Err(WitnessError::Opaque(_))));
        assert!(matches!(witnesses("a + b + c or d", Duration::from_secs(1)), Err(WitnessError::Opaque(_))));
        assert!(matches!(witnesses("sum by (", Duration::from_secs(1)), Err(WitnessError::Syntax(_))));
    }

    fn row(labels: &[(&str, &str)], value: f64) -> Row {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Row { labels, value: Some(value), at: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn the_oldest_witness_counts_and_silence_is_no_age() {
        let at = Timestamp::from_second(1000).unwrap();
        let value = row(&[("site", "a"), ("job", "j")], 1.0);
        let fresh = Answer { rows: vec![row(&[("site", "a")], 990.0), row(&[("site", "b")], 1.0)] };
        let old = Answer { rows: vec![row(&[], 970.5)] };
        assert_eq!(age(&value, at, &[fresh.clone(), old]), Millis::from_f64(29_500.0));
        assert_eq!(age(&value, at, &[fresh.clone(), Answer::default()]), None);
        assert_eq!(age(&value, at, &[]), Some(Millis::ZERO));
        let ahead = Answer { rows: vec![row(&[], 1003.0)] };
        assert_eq!(age(&value, at, &[ahead]), Some(Millis::ZERO));
    }
}
