//! What the policy's `on_missing` makes of absence.

use std::collections::BTreeMap;

use sterna_core::continuum::SiteName;
use sterna_policies::policy::{Mode, SourceUnit};

use super::store::{Answer, Row, StoreError};
use super::*;
use crate::fixture;

/// Knows site `a` only, or nothing at all.
struct Sparse {
    dead: bool,
}

impl MetricStore for Sparse {
    async fn now(&self) -> Result<Timestamp, StoreError> {
        let error = StoreError::Unreachable { url: "http://p".to_owned(), reason: "refused".to_owned() };
        if self.dead { Err(error) } else { Ok(Timestamp::from_second(100).unwrap()) }
    }
    async fn instant(&self, query: &str, at: Timestamp, _: Millis) -> Result<Answer, StoreError> {
        let value = if query.starts_with("timestamp") { 99.0 } else { 0.5 };
        let labels = [("site", "a"), ("users", "north")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        Ok(Answer { rows: vec![Row { labels, value: Some(value), at }] })
    }
}

async fn see(metrics: &[(Metric, SourceUnit)], on_missing: OnMissing, dead: bool) -> Observed {
    let mut policy = fixture::policy(Mode::Auto);
    policy.metrics = metrics
        .iter()
        .map(|(metric, unit)| (*metric, MetricSource { on_missing, ..fixture::source("x", *unit) }))
        .collect();
    observe(&Sparse { dead }, &fixture::continuum(), fixture::view(), &policy, Timestamp::UNIX_EPOCH).await
}

fn keys<T>(map: &BTreeMap<SiteName, T>) -> Vec<&str> {
    map.keys().map(SiteName::as_str).collect()
}

const ALL: [(Metric, SourceUnit); 5] = [
    (Metric::UserLatency, SourceUnit::Seconds),
    (Metric::CostRate, SourceUnit::UsdPerHour),
    (Metric::Power, SourceUnit::Watts),
    (Metric::CarbonRate, SourceUnit::GramsPerKwh),
    (Metric::CpuUse, SourceUnit::Ratio),
];

#[tokio::test]
async fn what_is_missing_is_absent_and_never_zero() {
    let seen = see(&ALL, OnMissing::Hold, false).await.observation;
    let north = &seen.latency[&"north".into()];
    assert_eq!((keys(north), keys(&seen.price)), (vec!["a"], vec!["a"]));
    assert_eq!((keys(&seen.power), keys(&seen.cpu_use)), (vec!["a"], vec!["a"]));
    let carbon: Vec<_> = seen.continuum.sites.values().map(|site| site.carbon).collect();
    assert_eq!(carbon, ["0.5g/kWh".parse().ok(), None, None]);
    assert_eq!(seen.unknown.len(), 2 * ALL.len());
    assert_eq!(seen.cpu_use[&"a".into()].value, 500_000);
    assert_eq!(seen.at, Timestamp::from_second(100).unwrap());
}

#[tokio::test]
async fn what_may_be_modelled_is_the_inventorys_and_marked() {
    let observed = see(&ALL, OnMissing::Modelled, false).await;
    let seen = &observed.observation;
    let north = &seen.latency[&"north".into()];
    // The inventory knows a latency to the cloud only.
    assert_eq!(keys(north), ["a", "cloud"]);
    assert_eq!(north[&"cloud".into()], modelled("70ms".parse().unwrap()));
    assert_eq!(seen.price[&"b".into()], modelled("0.5USD/h".parse().unwrap()));
    assert_eq!(seen.continuum.sites[&"b".into()].carbon, "300g/kWh".parse().ok());
    assert_eq!(keys(&seen.power), ["a"]);
    let unknown: Vec<_> = seen.unknown.iter().map(|one| (one.metric, one.site.clone())).collect();
    assert_eq!(unknown, [(Metric::UserLatency, Some("b".into()))]);
    assert!(observed.notes.iter().any(|note| note.starts_with("cost_rate of `b` is modelled")));
}

#[tokio::test]
async fn a_known_load_gives_a_modelled_power() {
    let metrics = [(Metric::Power, SourceUnit::Watts), (Metric::CpuUse, SourceUnit::Ratio)];
    let mut policy = fixture::policy(Mode::Auto);
    policy.metrics = metrics
        .iter()
        .map(|(metric, unit)| {
            // No power is plausible, so that it is missing where the load is known.
            let plausible = if *metric == Metric::Power { (5.0, 9.0) } else { (0.0, 1.0) };
            let mut source = fixture::source("x", *unit);
            source.first.plausible = plausible;
            (*metric, MetricSource { on_missing: OnMissing::Modelled, ..source })
        })
        .collect();
    let store = Sparse { dead: false };
    let observed =
        observe(&store, &fixture::continuum(), fixture::view(), &policy, Timestamp::UNIX_EPOCH).await;
    // 20 W idle, 100 W full, half in use.
    assert_eq!(observed.observation.power[&"a".into()], modelled("60W".parse().unwrap()));
}

#[tokio::test]
async fn a_dead_store_is_said_once_per_metric() {
    let observed = see(&ALL, OnMissing::ExcludeSite, true).await;
    assert_eq!(observed.store_up, Some(false));
    assert_eq!(observed.observation.unknown.len(), ALL.len());
    assert!(
        observed.observation.unknown.iter().all(|one| one.site.is_none() && one.reason.contains("http://p"))
    );
    assert!(observed.observation.continuum.sites.values().all(|site| site.carbon.is_none()));

    let observed = see(&ALL, OnMissing::Modelled, true).await;
    assert_eq!(observed.notes.iter().filter(|note| note.contains("http://p")).count(), ALL.len());
    // Latencies to both edges are not in the inventory.
    assert_eq!(observed.observation.unknown.len(), 2);
}

/// Notes the instants at which it is asked; has nothing.
#[derive(Default)]
struct Instants(std::sync::Mutex<Vec<Timestamp>>);

impl MetricStore for Instants {
    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::from_second(100).unwrap())
    }
    async fn instant(&self, _: &str, at: Timestamp, _: Millis) -> Result<Answer, StoreError> {
        self.0.lock().unwrap().push(at);
        Ok(Answer::default())
    }
}

#[tokio::test]
async fn all_queries_of_one_look_share_one_instant() {
    let store = Instants::default();
    let mut policy = fixture::policy(Mode::Auto);
    policy.metrics = ALL
        .iter()
        .map(|(metric, unit)| {
            let mut source = fixture::source("sum by (site) (rate(x[5m]))", *unit);
            source.fallback = vec![fixture::query("y", *unit)];
            (*metric, source)
        })
        .collect();
    let now = Timestamp::from_second(7_000).unwrap();
    let observed = observe(&store, &fixture::continuum(), fixture::view(), &policy, now).await;
    let instants = store.0.into_inner().unwrap();
    // Of each metric two queries, the ages of both and the samples of the rate.
    assert_eq!(instants.len(), 5 * ALL.len());
    assert!(instants.iter().all(|at| *at == observed.observation.at), "{instants:?}");
}
