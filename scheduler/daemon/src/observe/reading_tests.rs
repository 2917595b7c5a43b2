//! Every way in which a row can fail to be a reading.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use sterna_policies::policy::{Metric, MetricQuery, SourceUnit};
use sterna_policies::quantity::Millis;

use super::*;
use crate::fixture::{continuum, query};
use crate::observe::store::{Answer, Row};

fn at() -> Timestamp {
    Timestamp::from_second(1_000).unwrap()
}

fn row(labels: &[(&str, &str)], value: f64) -> Row {
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>();
    Row { labels, value: Some(value), at: at() }
}

fn latency() -> MetricQuery {
    query("rtt", SourceUnit::Seconds)
}

fn aged(ages: &[Answer]) -> Beside<'_> {
    Beside { ages, counts: &[] }
}

/// Each row's sample is `age` seconds old.
fn read_rows(rows: Vec<Row>, age: f64) -> Readings {
    let witnesses = rows.iter().map(|one| Row { value: Some(1_000.0 - age), ..one.clone() }).collect();
    let continuum = continuum();
    let ages = [Answer { rows: witnesses }];
    read(Metric::UserLatency, &latency(), &continuum, at(), &Answer { rows }, aged(&ages))
}

fn of<'a>(readings: &'a Readings, site: &str) -> &'a Result<Reading, String> {
    let subject = Subject { site: site.into(), users: Some("north".into()) };
    &readings.by_subject[&subject]
}

#[track_caller]
fn refused(readings: &Readings, site: &str, word: &str) {
    let reason = of(readings, site).as_ref().unwrap_err();
    assert!(reason.contains(word), "`{reason}` does not say `{word}`");
}

#[test]
fn a_good_row_is_converted_and_keeps_its_age() {
    let readings = read_rows(vec![row(&[("site", "a"), ("users", "north"), ("job", "probe")], 0.0125)], 4.25);
    assert_eq!(of(&readings, "a"), &Ok(Reading { value: 12.5, age: Millis::from_f64(4250.0).unwrap() }));
    refused(&readings, "b", "no value for it");
    assert_eq!(readings.by_subject.len(), 3);
    assert!(readings.ignored.is_empty());
}

#[test]
fn numbers_that_are_none_are_refused() {
    for (value, word) in [
        (f64::NAN, "NaN"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "inf"),
        (-0.001, "plausible"),
        (10.5, "plausible"),
    ] {
        let readings = read_rows(vec![row(&[("site", "a"), ("users", "north")], value)], 1.0);
        refused(&readings, "a", word);
    }
    let mut histogram = row(&[("site", "a"), ("users", "north")], 0.0);
    histogram.value = None;
    refused(&read_rows(vec![histogram], 1.0), "a", "histogram");
}

#[test]
fn old_samples_are_missing() {
    let rows = vec![row(&[("site", "a"), ("users", "north")], 0.01)];
    assert!(of(&read_rows(rows.clone(), 30.0), "a").is_ok());
    refused(&read_rows(rows.clone(), 30.001), "a", "max_age");
    let continuum = continuum();
    let silent = [Answer::default()];
    let readings = read(Metric::UserLatency, &latency(), &continuum, at(), &Answer { rows }, aged(&silent));
    refused(&readings, "a", "older than `max_age`");
}

#[test]
fn two_values_for_one_subject_are_none() {
    let twice = |job| row(&[("site", "a"), ("users", "north"), ("job", job)], 0.01);
    let readings = read_rows(vec![twice("x"), twice("y")], 1.0);
    refused(&readings, "a", "2 values");
    refused(&readings, "a", "max by (site, users)");
}

#[test]
fn labels_that_lead_nowhere_are_named() {
    let readings = read_rows(
        vec![
            row(&[("users", "north")], 0.01),
            row(&[("site", ""), ("users", "north")], 0.01),
            row(&[("site", "egde"), ("users", "north")], 0.01),
            row(&[("site", "a"), ("users", "nowhere")], 0.01),
            row(&[("site", "a")], 0.01),
        ],
        1.0,
    );
    let said: Vec<String> = readings.ignored.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(said.join("\n"), @r"
    2 series without the label `site`
    1 series without the label `users`
    1 series for site `egde`, which the inventory does not have
    1 series for user group `nowhere`, which the inventory does not have
    ");
    refused(&readings, "a", "check the labels");
    refused(&read_rows(Vec::new(), 1.0), "a", "no series at all");
}

#[test]
fn the_nearest_name_is_said_to_whom_it_concerns() {
    let readings = read_rows(
        vec![row(&[("site", "clowd"), ("users", "north")], 0.01), row(&[("site", "x")], 0.01)],
        1.0,
    );
    refused(
        &readings,
        "cloud",
        "1 series for site `clowd`, which the inventory does not have (nearest: `cloud`)",
    );
    let reason = of(&readings, "cloud").as_ref().unwrap_err();
    assert!(!reason.contains("`x`"), "{reason}");
    refused(&readings, "a", "site `x`");
}

#[test]
fn a_wrong_unit_is_told_where_the_range_catches_it() {
    // 12.5 ms and 31.5 W, said in the wrong units.
    let readings = read_rows(vec![row(&[("site", "a"), ("users", "north")], 12.5)], 1.0);
    refused(&readings, "a", "in `ms` it would be: check `unit`");
    let watts = query("w", SourceUnit::Watts);
    let answer = Answer { rows: vec![row(&[("site", "a")], 3_150_000.0)] };
    let readings = read(Metric::Power, &watts, &continuum(), at(), &answer, Beside::default());
    let reason = readings.by_subject[&Subject { site: "a".into(), users: None }].as_ref().unwrap_err();
    assert!(reason.contains("in `uW` it would be"), "{reason}");
    // Nothing helps here.
    let reason = read_rows(vec![row(&[("site", "a"), ("users", "north")], -1.0)], 1.0);
    assert!(!of(&reason, "a").as_ref().unwrap_err().contains("check `unit`"));
}

#[test]
fn rates_over_two_samples_are_warming_up() {
    let rows = vec![row(&[("site", "a"), ("users", "north")], 0.01)];
    let ages = [Answer { rows: vec![row(&[("site", "a")], 999.0)] }];
    let seen = |samples: f64| {
        let counts = [Answer { rows: vec![row(&[("site", "a")], samples)] }];
        let beside = Beside { ages: &ages, counts: &counts };
        read(Metric::UserLatency, &latency(), &continuum(), at(), &Answer { rows: rows.clone() }, beside)
    };
    refused(&seen(2.0), "a", "warming up");
    assert!(of(&seen(3.0), "a").is_ok());
}

#[test]
fn users_who_ask_for_nothing_need_no_latency() {
    let mut continuum = continuum();
    continuum.users.get_mut(&"north".into()).unwrap().rates.clear();
    assert!(subjects(Metric::UserLatency, &continuum).is_empty());
    assert_eq!(subjects(Metric::Power, &continuum).len(), 3);
}

proptest! {
    /// Whatever a store answers: each subject comes out once, and what is accepted is finite, plausible and fresh.
    #[test]
    fn only_sound_numbers_come_through(
        rows in prop::collection::vec(
            (prop::sample::select(vec!["a", "b", "cloud", "x", ""]), any::<f64>(), -50.0f64..80.0), 0..12),
    ) {
        let continuum = continuum();
        let source = query("w", SourceUnit::Microwatts);
        let values = rows.iter().map(|(site, value, _)| row(&[("site", site)], *value)).collect();
        let ages = rows.iter().map(|(site, _, age)| row(&[("site", site)], 1_000.0 - age)).collect();
        let readings = read(Metric::Power, &source, &continuum, at(), &Answer { rows: values }, aged(&[Answer { rows: ages }]));
        prop_assert_eq!(readings.by_subject.len(), 3);
        for (subject, reading) in &readings.by_subject {
            let theirs: Vec<_> = rows.iter().filter(|(site, ..)| *site == subject.site.as_str()).collect();
            match reading {
                Ok(reading) => {
                    prop_assert_eq!(theirs.len(), 1);
                    let (_, value, age) = theirs[0];
                    prop_assert_eq!(reading.value, value * 1e-6);
                    prop_assert!((0.0..=10.0).contains(value) && *age < 30.001);
                    prop_assert!(reading.age >= Millis::ZERO && reading.age <= source.max_age);
                }
                Err(_) => {
                    let sound = |(_, value, age): &(&str, f64, f64)| (0.0..=10.0).contains(value) && *age <= 29.999;
                    prop_assert!(theirs.len() != 1 || !sound(theirs[0]));
                }
            }
        }
    }
}
