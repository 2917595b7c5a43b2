//! What is found, and what is said of what is not.

use std::collections::BTreeMap;

use sterna_policies::policy::{Mode, SourceUnit};

use super::*;
use crate::fixture;
use crate::observe::store::{Answer, Row, StoreError};

/// Series of `watts` by job and site; ages are a second, counts are asked with `count by`.
#[derive(Default)]
struct Series {
    watts: Vec<(&'static str, &'static str)>,
    dead: bool,
}

impl MetricStore for Series {
    async fn now(&self) -> Result<Timestamp, StoreError> {
        let error = StoreError::Unreachable { url: "http://p".to_owned(), reason: "refused".to_owned() };
        if self.dead { Err(error) } else { Ok(at()) }
    }

    async fn instant(&self, query: &str, at: Timestamp, _: Millis) -> Result<Answer, StoreError> {
        if !query.contains("watts") {
            return Ok(Answer::default());
        }
        let value = match () {
            () if query.starts_with("timestamp") => 99.0,
            () if query.starts_with("count") => 1.0,
            () => 7.0,
        };
        let row = |(job, site): &(&str, &str)| {
            let labels: BTreeMap<String, String> =
                [("job", *job), ("site", *site)].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            Row {
                labels: labels.into_iter().filter(|(_, v)| !v.is_empty()).collect(),
                value: Some(value),
                at,
            }
        };
        Ok(Answer { rows: self.watts.iter().map(row).collect() })
    }
}

fn at() -> Timestamp {
    Timestamp::from_second(100).unwrap()
}

fn policy(on_missing: OnMissing, queries: &[&str]) -> Policy {
    let mut source = fixture::source(queries[0], SourceUnit::Watts);
    source.on_missing = on_missing;
    source.fallback = queries[1..].iter().map(|text| fixture::query(text, SourceUnit::Watts)).collect();
    let mut policy = fixture::policy(Mode::Observe);
    policy.objective = sterna_policies::policy::Objective::Priced { terms: Vec::new() };
    policy.metrics = BTreeMap::from([(Metric::Power, source)]);
    policy
}

async fn checkup(series: &Series, policy: &Policy) -> Checkup {
    examine(series, Ok(fixture::view()), &fixture::continuum(), policy, at()).await
}

fn told(checkup: &Checkup) -> Vec<String> {
    let one = |value: &ValueCheck| format!("{} {:?} {:?}", value.site, value.value, value.source);
    checkup.metrics.iter().flat_map(|metric| &metric.values).map(one).collect()
}

fn advice(checkup: &Checkup) -> String {
    let all = checkup.metrics.iter().flat_map(|metric| &metric.sources).flat_map(|source| &source.advice);
    all.map(|advice| format!("{}\n{}\n", advice.finding, advice.remedy)).collect()
}

#[tokio::test]
async fn all_is_well_where_each_site_has_its_series() {
    let series = Series { watts: vec![("j", "a"), ("j", "b"), ("j", "cloud")], dead: false };
    let found = checkup(&series, &policy(OnMissing::Hold, &["watts"])).await;
    assert!(found.metrics_suffice() && found.agents_answer(), "{found:#?}");
    assert_eq!(told(&found)[0], "a Some(7.0) Some(Measured)");
    assert_eq!(found.metrics[0].values[0].age, "1s".parse().ok());
    assert_eq!(advice(&found), "");
    assert_eq!(found.store, StoreCheck { problem: None, clock_ahead_ms: Some(0) });
}

#[tokio::test]
async fn names_that_are_nearly_right_and_labels_that_lack_are_mended() {
    let series = Series { watts: vec![("j", "a"), ("j", "clowd"), ("k", "")], dead: false };
    let found = checkup(&series, &policy(OnMissing::Hold, &["watts"])).await;
    assert!(!found.metrics_suffice());
    assert_eq!(told(&found)[1..], ["b None None", "cloud None None"]);
    insta::assert_snapshot!(advice(&found));
}

#[tokio::test]
async fn a_source_without_any_series_is_told_apart() {
    let series = Series { watts: vec![("j", "a"), ("j", "b"), ("j", "cloud")], dead: false };
    let found = checkup(&series, &policy(OnMissing::Hold, &["joules", "watts"])).await;
    assert!(found.metrics_suffice(), "the fallback has it");
    assert_eq!(told(&found)[0], "a Some(7.0) Some(Fallback(1))");
    let sources: Vec<_> =
        found.metrics[0].sources.iter().map(|one| (one.number, one.found, one.of)).collect();
    assert_eq!(sources, [(0, 0, 3), (1, 3, 3)]);
    insta::assert_snapshot!(advice(&found));
}

#[tokio::test]
async fn own_probes_are_set_up_by_inventory_settings_and_a_scrape() {
    let mut policy = fixture::policy(Mode::Observe);
    let source = policy.metrics.get_mut(&Metric::UserLatency).unwrap();
    source.first.builtin = Some("probes".to_owned());
    source.first.query = "sterna_probe_user_round_trip_seconds".to_owned();
    let mut continuum = fixture::continuum();
    let look = async |continuum: &Continuum| {
        advice(&examine(&Series::default(), Ok(fixture::view()), continuum, &policy, at()).await)
    };
    // Nobody is probed before the inventory says where.
    let said = look(&continuum).await;
    assert!(said.contains("`north`") && said.contains("probe = [\"HOST:PORT\"]"), "{said}");
    continuum.users.get_mut(&"north".into()).unwrap().probe = vec!["gate:443".to_owned()];
    insta::assert_snapshot!(look(&continuum).await);
}

#[tokio::test]
async fn who_has_no_prober_is_told_of_the_agents() {
    let found = checkup(&Series::default(), &fixture::policy(Mode::Observe)).await;
    assert!(advice(&found).contains("builtin = \"probes\""), "{}", advice(&found));
}

#[tokio::test]
async fn what_is_modelled_suffices_and_is_called_so() {
    let series = Series { watts: vec![("j", "a")], dead: false };
    let found = checkup(&series, &policy(OnMissing::Modelled, &["watts"])).await;
    assert!(found.metrics_suffice());
    assert_eq!(told(&found)[1], "b None Some(Modelled)");
}

#[tokio::test]
async fn a_dead_store_and_silent_agents_are_said() {
    let series = Series { dead: true, ..Series::default() };
    let mut view = fixture::view();
    view.reachable.retain(|node| *node != "b1".into());
    view.unreachable.insert("b1".into(), "connection refused".to_owned());
    let (continuum, policy) = (fixture::continuum(), policy(OnMissing::Hold, &["watts"]));
    let found = examine(&series, Ok(view), &continuum, &policy, at()).await;
    assert!(!found.metrics_suffice() && !found.agents_answer());
    assert!(found.store.problem.as_ref().unwrap().contains("http://p"));
    let silent: Vec<_> = found.agents.iter().filter(|agent| agent.problem.is_some()).collect();
    assert_eq!(silent.len(), 1);
    assert_eq!(silent[0].problem.as_deref(), Some("connection refused"));

    let found = examine(&series, Err("no engine".to_owned()), &continuum, &policy, at()).await;
    assert!(found.agents.iter().all(|agent| agent.problem.as_deref() == Some("no engine")));
}

#[tokio::test]
async fn a_latency_that_nothing_measures_is_missing() {
    let policy = Policy { metrics: BTreeMap::new(), ..fixture::policy(Mode::Observe) };
    let found = checkup(&Series::default(), &policy).await;
    assert!(!found.metrics_suffice());
    assert_eq!(found.metrics[0].values.len(), 3);
    assert!(found.store.problem.is_none());
}
