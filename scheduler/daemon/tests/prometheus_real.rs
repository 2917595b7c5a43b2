//! Observation against a real Prometheus, which scrapes exporters that the test serves.
//!
//! Without a `prometheus` binary on the path the test says so and ends; with `CI=true` that is a failure.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says aloud what is wrong"
)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sterna_core::continuum::{Continuum, SiteName, inventory};
use sterna_core::observation::Source;
use sterna_daemon::observe::prometheus::Prometheus;
use sterna_daemon::observe::store::{MetricStore, StoreError};
use sterna_daemon::observe::{Observed, observe};
use sterna_executor::fleet::FleetView;
use sterna_policies::policy::{Metric, MetricSource, Mode, OnMissing, Policy, SourceUnit};
use sterna_policies::quantity::Millis;

const INVENTORY: &str = r#"
schema_version = 1
name = "real"
[[site]]
name = "a"
tier = "edge"
region = "eu"
power = { idle = "20W", full = "80W" }
price = { node = "0.10USD/h" }
node = [{ name = "a1", cpu = "4", memory = "8GiB" }]
[[site]]
name = "b"
tier = "edge"
region = "eu"
power = { idle = "20W", full = "80W" }
price = { node = "0.20USD/h" }
node = [{ name = "b1", cpu = "4", memory = "8GiB" }]
[[site]]
name = "c"
tier = "cloud"
region = "eu"
power = { idle = "20W", full = "80W" }
price = { node = "0.30USD/h" }
node = [{ name = "c1", cpu = "4", memory = "8GiB" }]
[[link]]
between = ["a", "b"]
rtt = "5ms"
bandwidth = "1Gbit/s"
[[link]]
between = ["a", "c"]
rtt = "20ms"
bandwidth = "1Gbit/s"
[[link]]
between = ["b", "c"]
rtt = "20ms"
bandwidth = "1Gbit/s"
[[service]]
name = "shop"
cpu = "1"
memory = "256MiB"
[[users]]
name = "north"
rates = { shop = "50/s" }
"#;

/// What an exporter says; `None` and it refuses to answer.
type Page = Arc<Mutex<Option<String>>>;

async fn exporter(page: Page) -> SocketAddr {
    use axum::http::StatusCode;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        let page = page.lock().unwrap().clone();
        async move { page.ok_or(StatusCode::SERVICE_UNAVAILABLE) }
    };
    let routes = axum::Router::new().route("/metrics", axum::routing::get(serve));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

/// Ends with the test, also when that fails.
struct Server {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(targets: &[SocketAddr]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let targets = targets.iter().map(|target| format!("'{target}'")).collect::<Vec<_>>().join(", ");
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
             scrape_configs:\n- job_name: test\n  static_configs:\n  - targets: [{targets}]\n"
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        // A port that was free a moment ago.
        let port = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=warn")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, url: format!("http://127.0.0.1:{port}"), _folder: folder }
    }

    fn stop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn prometheus_is_there() -> bool {
    let found =
        Command::new("prometheus").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok() {
        return true;
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "no `prometheus` on the path: install the package prometheus"
    );
    eprintln!("SKIPPED: no `prometheus` on the path, so nothing was tested; install the package prometheus");
    false
}

fn source(query: &str, unit: SourceUnit, max_age: &str, on_missing: OnMissing) -> MetricSource {
    MetricSource {
        query: query.to_owned(),
        site_label: "site".to_owned(),
        users_label: (unit == SourceUnit::Seconds).then(|| "users".to_owned()),
        unit,
        max_age: max_age.parse().unwrap(),
        plausible: (0.0, 1e9),
        on_missing,
    }
}

fn policy(metrics: BTreeMap<Metric, MetricSource>) -> Policy {
    let text = "schema_version = 1\nname = \"p\"\n[objective]\nterm = [{ metric = \"cost_rate\" }]\n";
    let policy = sterna_policies::load::policy("p", text).unwrap().value;
    Policy { mode: Mode::Observe, metrics, ..policy }
}

struct Bench {
    store: Prometheus,
    continuum: Continuum,
}

impl Bench {
    async fn see(&self, metric: Metric, source: MetricSource) -> Observed {
        let policy = policy(BTreeMap::from([(metric, source)]));
        observe(&self.store, &self.continuum, FleetView::default(), &policy, Timestamp::now()).await
    }

    /// Looks again until `good` or half a minute is over.
    async fn see_until(
        &self,
        metric: Metric,
        source: &MetricSource,
        good: impl Fn(&Observed) -> bool,
    ) -> Observed {
        let began = Instant::now();
        loop {
            let observed = self.see(metric, source.clone()).await;
            if good(&observed) {
                return observed;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{:#?}", observed.observation.unknown);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[track_caller]
fn reason<'a>(observed: &'a Observed, site: &str) -> &'a str {
    let unknown = observed.observation.unknown.iter();
    let site = Some(SiteName::from(site));
    let mut found = unknown.filter(|one| one.site.is_none() || one.site == site);
    &found.next().unwrap_or_else(|| panic!("nothing unknown of {site:?}: {observed:#?}")).reason
}

#[track_caller]
fn unknown(observed: &Observed, site: &str, word: &str) {
    let reason = reason(observed, site);
    assert!(reason.contains(word), "`{reason}` does not say `{word}`");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_ages_and_absence_are_seen_as_they_are() {
    if !prometheus_is_there() {
        return;
    }
    let _already = rustls::crypto::ring::default_provider().install_default();

    // `stamped` carries the exporter's own time: no staleness marker ever ends it, and its age is known exactly.
    let stamp = Timestamp::now().as_millisecond() - 4_000;
    let steady: Page = Arc::new(Mutex::new(Some(format!(
        "rtt_seconds{{site=\"a\",users=\"north\"}} 0.0125\n\
         rtt_seconds{{site=\"b\",users=\"north\"}} NaN\n\
         rtt_seconds{{site=\"c\",users=\"north\"}} +Inf\n\
         rtt_seconds{{site=\"egde\",users=\"north\"}} 0.001\n\
         rtt_seconds{{users=\"north\"}} 0.001\n\
         watts{{site=\"a\",socket=\"0\"}} 31.5e6\n\
         watts{{site=\"b\",socket=\"0\"}} 20e6\n\
         watts{{site=\"b\",socket=\"1\"}} 22e6\n\
         stamped{{site=\"a\"}} 7 {stamp}\n\
         stamped{{site=\"b\"}} 8\n\
         price{{site=\"a\"}} 0.5\n"
    ))));
    let dying: Page = Arc::new(Mutex::new(Some("mortal{site=\"c\"} 3\n".to_owned())));
    let targets = [exporter(steady).await, exporter(Arc::clone(&dying)).await];
    let mut server = Server::start(&targets);
    let bench = Bench {
        store: Prometheus::new(&server.url, "5s".parse().unwrap()).unwrap(),
        continuum: inventory::load("real.toml", INVENTORY).unwrap_or_else(|error| panic!("{error}")).value,
    };
    let (a, b, c): (SiteName, SiteName, SiteName) = ("a".into(), "b".into(), "c".into());
    let hold = OnMissing::Hold;

    // Latency: converted, with the sample's own age; NaN, infinity, strangers are said.
    let rtt = source("rtt_seconds", SourceUnit::Seconds, "10s", hold);
    let seen = bench.see_until(Metric::UserLatency, &rtt, |seen| !seen.observation.latency.is_empty()).await;
    let north = &seen.observation.latency[&"north".into()];
    assert_eq!(north.keys().collect::<Vec<_>>(), [&a]);
    assert_eq!((north[&a].value, north[&a].source), ("12.5ms".parse().unwrap(), Source::Measured));
    assert!(north[&a].age <= "3s".parse().unwrap(), "{}", north[&a].age);
    unknown(&seen, "b", "NaN");
    unknown(&seen, "c", "inf");
    assert!(seen.notes.iter().any(|note| note.contains("site `egde`")), "{:?}", seen.notes);
    assert!(seen.notes.iter().any(|note| note.contains("without the label `site`")), "{:?}", seen.notes);
    // The store's clock is this machine's, and one instant serves all queries.
    assert!((seen.observation.at.as_second() - Timestamp::now().as_second()).abs() <= 2);

    // Power: two values for one site are none; aggregated they are one, and keep their age.
    let watts = |query: &str| source(query, SourceUnit::Microwatts, "10s", hold);
    let seen = bench.see(Metric::Power, watts("watts")).await;
    assert_eq!(seen.observation.power[&a].value, "31.5W".parse().unwrap());
    unknown(&seen, "b", "2 values");
    unknown(&seen, "c", "no value for it");
    let seen = bench.see(Metric::Power, watts("sum by (site) (watts)")).await;
    assert_eq!(seen.observation.power[&b].value, "42W".parse().unwrap());
    assert!(seen.observation.power[&b].age <= "3s".parse().unwrap());

    // An exact age, through operators and aggregation; and too old by its own timestamp.
    let stamped = |query: &str, max_age: &str| source(query, SourceUnit::UsdPerHour, max_age, hold);
    for query in ["stamped", "2 * max by (site) (stamped)", "last_over_time(stamped[2m])"] {
        let seen = bench.see(Metric::CostRate, stamped(query, "60s")).await;
        let exact = Millis::from_micros((seen.observation.at.as_millisecond() - stamp) * 1_000_000);
        assert!(
            seen.observation.unknown.iter().all(|one| one.site.as_ref() == Some(&c)),
            "{query}: {seen:#?}"
        );
        assert_eq!(seen.observation.price[&a].age, exact, "{query}");
        assert!(seen.observation.price[&b].age < exact, "{query}");
    }
    for query in
        ["stamped", "sum by (site) (stamped)", "last_over_time(stamped[2m])", "avg_over_time(stamped[2m:1s])"]
    {
        let seen = bench.see(Metric::CostRate, stamped(query, "3s")).await;
        assert!(!seen.observation.price.contains_key(&a), "{query}: {:?}", seen.observation.price);
        // A server that knows `lookback_delta` leaves old samples out; an older one gives them, and their age tells.
        let reason = reason(&seen, "a");
        assert!(reason.contains("no value for it") || reason.contains("`max_age`"), "{query}: {reason}");
    }

    // Modelled where the policy allows it: the inventory's number, marked, never zero.
    let price = source("price", SourceUnit::UsdPerHour, "10s", OnMissing::Modelled);
    let seen = bench.see(Metric::CostRate, price).await;
    let prices = &seen.observation.price;
    assert_eq!((prices[&a].value, prices[&a].source), ("0.5USD/h".parse().unwrap(), Source::Measured));
    assert_eq!((prices[&b].value, prices[&b].source), ("0.2USD/h".parse().unwrap(), Source::Modelled));
    assert!(seen.observation.unknown.is_empty());
    assert!(seen.notes.iter().any(|note| note.contains("cost_rate of `b` is modelled")), "{:?}", seen.notes);

    // A target that dies: gone at once as an instant value, and a range that still has it does not pass for fresh.
    let mortal = |query: &str, max_age: &str| source(query, SourceUnit::UsdPerHour, max_age, hold);
    let has_c = |seen: &Observed| seen.observation.price.contains_key(&c);
    bench.see_until(Metric::CostRate, &mortal("mortal", "10s"), has_c).await;
    let range = "sum by (site) (max_over_time(mortal[5m]))";
    bench.see_until(Metric::CostRate, &mortal(range, "4s"), has_c).await;
    *dying.lock().unwrap() = None;
    let gone = |seen: &Observed| !seen.observation.price.contains_key(&c);
    bench.see_until(Metric::CostRate, &mortal("mortal", "10s"), gone).await;
    let seen = bench.see_until(Metric::CostRate, &mortal(range, "4s"), gone).await;
    unknown(&seen, "c", "max_age");
    let still = bench.store.instant(range, seen.observation.at, "4s".parse().unwrap()).await.unwrap();
    assert_eq!(still.rows.len(), 1, "Prometheus itself still gives the dead value");

    // Queries that make no sense.
    unknown(&bench.see(Metric::CostRate, mortal("absent_metric", "10s")).await, "a", "no series at all");
    unknown(&bench.see(Metric::CostRate, mortal("sum by (", "10s")).await, "a", "not valid PromQL");
    unknown(
        &bench.see(Metric::CostRate, mortal("watts * on (site) watts", "10s")).await,
        "a",
        "many-to-many",
    );
    unknown(&bench.see(Metric::CostRate, mortal("scalar(price)", "10s")).await, "a", "not an instant vector");

    // The server goes away.
    server.stop();
    let seen = bench.see(Metric::UserLatency, rtt).await;
    assert_eq!(seen.store_up, Some(false));
    assert!(seen.observation.latency.is_empty());
    unknown(&seen, "a", "can't be reached");
    assert!(matches!(bench.store.now().await, Err(StoreError::Unreachable { .. })));
}
