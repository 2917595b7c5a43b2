//! Own probes all the way: what agents say is scraped from the real page, and comes back by the built-in query.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use sterna_core::continuum::{Continuum, NodeName};
use sterna_core::observation::Source;
use sterna_daemon::observe::Observed;
use sterna_daemon::observe::probes::{Agents, Prober, round};
use sterna_daemon::observe::store::MetricStore as _;
use sterna_daemon::telemetry::{self, Telemetry};
use sterna_executor::fleet::FleetError;
use sterna_executor::node::api::{Probed, Unanswered};
use sterna_policies::policy::Metric;

use crate::stage::{Setup, prometheus_is_there, unknown, written};

/// What each node's agent measures to the users' place, in milliseconds; what is not here does not answer.
#[derive(Clone, Default)]
struct Measured(Arc<Mutex<BTreeMap<NodeName, &'static str>>>);

impl Prober for Measured {
    type Agents = Self;
    async fn find(&self, _: &Continuum) -> Result<Self, FleetError> {
        Ok(self.clone())
    }
}

impl Agents for Measured {
    fn address(&self, node: &NodeName) -> Option<String> {
        Some(format!("{node}:7500"))
    }
    async fn probe(&self, node: &NodeName, targets: &[String]) -> Result<Vec<Probed>, FleetError> {
        let found = self.0.lock().unwrap().get(node).map(|text| text.parse().unwrap());
        let one = |target: &String| match found.filter(|_| target == "north.example:443") {
            Some(time) => Probed::RoundTrip(time),
            None => Probed::Unanswered(Unanswered::Timeout),
        };
        Ok(targets.iter().map(one).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_agents_measure_is_what_a_decision_gets() {
    if !prometheus_is_there() {
        return;
    }
    let telemetry = Arc::new(Telemetry::new());
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let page = listener.local_addr().unwrap();
    tokio::spawn(telemetry::serve(listener, telemetry::routes(Arc::clone(&telemetry))));
    let server = Setup::scraping(&[page]).start();
    let mut bench = server.bench();
    bench.continuum.users.get_mut(&"north".into()).unwrap().probe = vec!["north.example:443".to_owned()];
    let measured = Measured::default();
    let probe = async |all: &[(&str, &'static str)]| {
        *measured.0.lock().unwrap() = all.iter().map(|(node, time)| ((*node).into(), *time)).collect();
        let round = round(&measured, &bench.continuum, &mut BTreeSet::new()).await;
        telemetry.probes.put(round, Timestamp::now(), Duration::from_secs(150));
    };
    let north = |seen: &Observed| seen.observation.latency.get(&"north".into()).cloned().unwrap_or_default();
    // Over a short window, so that a change is seen at once.
    let source = written("user_latency", "builtin = \"probes\"\nwindow = \"2s\"\nmax_age = \"4s\"");

    probe(&[("a1", "12.5ms"), ("b1", "40ms"), ("c1", "80ms")]).await;
    let all = |seen: &Observed| north(seen).len() == 3;
    let seen = bench.see_until(Metric::UserLatency, &source, all).await;
    let values: Vec<_> = north(&seen).into_values().map(|one| (one.value.as_f64(), one.source)).collect();
    assert_eq!(values, [12.5, 40.0, 80.0].map(|value| (value, Source::Measured)));
    assert!(north(&seen).values().all(|one| one.age <= "3s".parse().unwrap()));
    assert!(seen.observation.unknown.is_empty());

    // One site is nearer now, and another falls silent: its last value does not stay.
    probe(&[("a1", "12.5ms"), ("b1", "8ms")]).await;
    let changed = |seen: &Observed| {
        let (a, b, c) = ("a".into(), "b".into(), "c".into());
        let near = |site| north(seen).get(site).is_some_and(|one| one.value == "8ms".parse().unwrap());
        north(seen).contains_key(&a) && near(&b) && !north(seen).contains_key(&c)
    };
    let seen = bench.see_until(Metric::UserLatency, &source, changed).await;
    unknown(&seen, "c", "");

    // The failures are there to be seen and alerted on.
    let failures = "sum by (site) (sterna_probe_failures_total{reason=\"timeout\"}) > 0";
    let at = seen.observation.at;
    let rows = bench.store.instant(failures, at, "10s".parse().unwrap()).await.unwrap().rows;
    let sites: BTreeSet<&str> =
        rows.iter().filter_map(|row| row.labels.get("site")).map(String::as_str).collect();
    assert!(sites.contains("c"), "{rows:?}");
}
