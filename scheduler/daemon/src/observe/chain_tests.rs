//! Which source a number comes from, and what is said of it.

use std::sync::Mutex;

use sterna_policies::policy::{OnMissing, SourceUnit};
use sterna_policies::quantity::Millis;

use super::super::store::Row;
use super::*;
use crate::fixture::{continuum, query, source};

/// Knows the sites that each query's name spells, and notes what it was asked. `dead` fails.
#[derive(Default)]
struct Spelt {
    asked: Mutex<Vec<String>>,
}

impl MetricStore for Spelt {
    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(at())
    }

    async fn instant(&self, query: &str, at: Timestamp, _: Millis) -> Result<Answer, StoreError> {
        let inner = query.trim_start_matches("timestamp(").trim_end_matches(')');
        let value = if inner == query { inner.len() as f64 } else { 99.0 };
        if inner == query {
            self.asked.lock().unwrap().push(query.to_owned());
        }
        if inner.starts_with("dead") {
            return Err(StoreError::Partial(inner.to_owned()));
        }
        let row = |site: &str| Row {
            labels: [("site".to_owned(), site.to_owned())].into(),
            value: Some(value),
            at,
        };
        Ok(Answer { rows: inner.split('_').map(row).collect() })
    }
}

fn at() -> Timestamp {
    Timestamp::from_second(100).unwrap()
}

fn chain(queries: &[&str]) -> MetricSource {
    let mut source = MetricSource { on_missing: OnMissing::Hold, ..source(queries[0], SourceUnit::Watts) };
    source.first.plausible = (0.0, 100.0);
    let other = |text: &&str| MetricQuery { plausible: (0.0, 100.0), ..query(text, SourceUnit::Watts) };
    source.fallback = queries[1..].iter().map(other).collect();
    source
}

/// Each site's value and source, or its reason; the notes; and what was asked.
async fn seen(queries: &[&str]) -> (Vec<String>, Vec<String>, Vec<String>) {
    let store = Spelt::default();
    let found = ask(&store, Metric::Power, &chain(queries), &continuum(), at()).await;
    let asked = store.asked.into_inner().unwrap();
    let Chained { by_subject, notes } = match found {
        Ok(found) => found,
        Err(reason) => return (vec![reason], Vec::new(), asked),
    };
    let one = |(subject, reading): (&Subject, &Result<(Reading, Source), String>)| match reading {
        Ok((reading, source)) => format!("{} {} {source:?}", subject.site, reading.value),
        Err(reason) => format!("{} {reason}", subject.site),
    };
    (by_subject.iter().map(one).collect(), notes, asked)
}

#[tokio::test]
async fn each_site_takes_the_first_source_that_has_it() {
    let (values, notes, asked) = seen(&["a", "b_a", "a_b_cloud"]).await;
    assert_eq!(values, ["a 1 Measured", "b 3 Fallback(1)", "cloud 9 Fallback(2)"]);
    assert_eq!(asked, ["a", "b_a", "a_b_cloud"]);
    assert!(
        notes[0].starts_with(
            "power of `b` is from fallback 1 (own query): first (own query): the query gives no"
        ),
        "{notes:?}"
    );
    assert_eq!(notes.len(), 2);
}

#[tokio::test]
async fn what_is_not_needed_is_not_asked() {
    let (values, notes, asked) = seen(&["a_b_cloud", "a_b_cloud"]).await;
    assert_eq!(values.len(), 3);
    assert_eq!(asked, ["a_b_cloud"]);
    assert!(notes.is_empty());
}

#[tokio::test]
async fn a_source_that_fails_is_passed_over() {
    let (values, notes, _) = seen(&["dead", "a_b"]).await;
    assert_eq!(values[..2], ["a 3 Fallback(1)", "b 3 Fallback(1)"]);
    assert!(values[2].contains("first (own query): the store answered with warnings"), "{values:?}");
    assert!(values[2].contains("; fallback 1 (own query): the query gives no value for it"), "{values:?}");
    assert!(notes[0].contains("may be partial"), "{notes:?}");
}

#[tokio::test]
async fn where_none_answers_it_is_said_once() {
    let (values, ..) = seen(&["dead", "dead_too"]).await;
    assert_eq!(values.len(), 1);
    assert!(values[0].contains("first (own query)") && values[0].contains("fallback 1"), "{values:?}");
}

#[tokio::test]
async fn without_fallbacks_nothing_speaks_of_them() {
    let (values, ..) = seen(&["a"]).await;
    assert_eq!(values[0], "a 1 Measured");
    assert!(values[1].starts_with("b the query gives no value"), "{values:?}");
}
