//! A real Prometheus, what it scrapes or has, and how it is looked at.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sterna_core::continuum::{Continuum, SiteName, inventory};
use sterna_daemon::observe::prometheus::Prometheus;
use sterna_daemon::observe::store::MetricStore;
use sterna_daemon::observe::{Observed, observe};
use sterna_executor::fleet::FleetView;
use sterna_policies::policy::{Metric, MetricQuery, MetricSource, Mode, OnMissing, Policy, SourceUnit};

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
pub type Page = Arc<Mutex<Option<String>>>;

pub async fn exporter(page: Page) -> SocketAddr {
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

/// How a server is started.
#[derive(Default)]
pub struct Setup {
    config: String,
    flags: Vec<String>,
    series: Option<String>,
}

impl Setup {
    /// One that scrapes the targets each second.
    pub fn scraping(targets: &[SocketAddr]) -> Self {
        let targets = targets.iter().map(|target| format!("'{target}'")).collect::<Vec<_>>().join(", ");
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
             scrape_configs:\n- job_name: test\n  static_configs:\n  - targets: [{targets}]\n"
        );
        Self { config, ..Self::default() }
    }

    /// One that has these series.
    pub fn with(series: &Series) -> Self {
        Self { series: Some(series.text()), ..Self::default() }
    }

    /// With more lines of configuration.
    pub fn configured(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self
    }

    /// With another flag.
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    pub fn start(self) -> Server {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        if let Some(text) = &self.series {
            let file = folder.path().join("series.txt");
            std::fs::write(&file, text).unwrap();
            let made = Command::new("promtool")
                .args(["tsdb", "create-blocks-from", "openmetrics"])
                .args([&file, &data])
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, &self.config).unwrap();
        // A port that was free a moment ago.
        let port = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=warn")
            .args(&self.flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Server { process, url: format!("http://127.0.0.1:{port}"), _folder: folder }
    }
}

/// Ends with the test, also when that fails.
pub struct Server {
    process: Child,
    pub url: String,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Looks at it with the inventory of this file.
    pub fn bench(&self) -> Bench {
        Bench {
            store: Prometheus::new(&self.url, "5s".parse().unwrap()).unwrap(),
            continuum: inventory::load("real.toml", INVENTORY)
                .unwrap_or_else(|error| panic!("{error}"))
                .value,
        }
    }

    /// The same once it answers.
    pub async fn ready(&self) -> Bench {
        let (bench, began) = (self.bench(), Instant::now());
        while let Err(error) = bench.store.now().await {
            assert!(began.elapsed() < Duration::from_secs(30), "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bench
    }

    /// Sends it a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.process.id().to_string()]).status();
        assert!(sent.unwrap().success());
        if name == "STOP" {
            let start = Instant::now();
            // Each of its threads stops in its own time, and until then it may answer.
            while !self.stands_still() {
                assert!(start.elapsed() < Duration::from_secs(10), "it does not stop");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Whether all of its threads are stopped.
    fn stands_still(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        tasks.flatten().all(|task| {
            let status = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // Behind the name, which stands in brackets and may be anything.
            status.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    pub fn stop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Series to be written, one sample each fifteen seconds from half an hour ago until some minutes from now.
#[derive(Default)]
pub struct Series {
    /// By metric, as all lines of one must stand together.
    lines: BTreeMap<String, Vec<String>>,
}

impl Series {
    /// A series of `name{labels}` whose value is that of its age in seconds (negative: in the future), twice: as two Prometheus
    /// servers that write to one store give it.
    pub fn twice(&mut self, name: &str, labels: &str, value: impl Fn(f64) -> f64) -> &mut Self {
        let comma = if labels.is_empty() { "" } else { "," };
        for replica in ["r1", "r2"] {
            self.once(name, &format!("{labels}{comma}replica=\"{replica}\""), &value);
        }
        self
    }

    /// The same once.
    pub fn once(&mut self, name: &str, labels: &str, value: impl Fn(f64) -> f64) -> &mut Self {
        let ages = (-20i32..=120).rev().map(|step| f64::from(step) * 15.0);
        self.at(name, labels, ages, value)
    }

    /// At ages of one's own, the oldest first.
    pub fn at(
        &mut self,
        name: &str,
        labels: &str,
        ages: impl Iterator<Item = f64>,
        value: impl Fn(f64) -> f64,
    ) -> &mut Self {
        let now = Timestamp::now().as_millisecond() as f64 / 1e3;
        let line = |age: f64| format!("{name}{{{labels}}} {} {:.3}\n", value(age), now - age);
        self.lines.entry(name.to_owned()).or_default().extend(ages.map(line));
        self
    }

    fn text(&self) -> String {
        self.lines.values().flatten().cloned().chain(["# EOF\n".to_owned()]).collect()
    }
}

/// A counter that grows so much each second.
pub fn counter(per_second: f64) -> impl Fn(f64) -> f64 {
    move |age| (10_000.0 - age) * per_second
}

/// A gauge.
pub fn steady(value: f64) -> impl Fn(f64) -> f64 {
    move |_| value
}

pub fn prometheus_is_there() -> bool {
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

pub fn source(query: &str, unit: SourceUnit, max_age: &str, on_missing: OnMissing) -> MetricSource {
    let first = MetricQuery {
        builtin: None,
        query: query.to_owned(),
        site_label: "site".to_owned(),
        users_label: (unit == SourceUnit::Seconds).then(|| "users".to_owned()),
        unit,
        max_age: max_age.parse().unwrap(),
        plausible: (0.0, 1e9),
    };
    MetricSource { first, fallback: Vec::new(), on_missing }
}

pub fn policy(metrics: BTreeMap<Metric, MetricSource>) -> Policy {
    let text = "schema_version = 1\nname = \"p\"\n[objective]\nterm = [{ metric = \"cost_rate\" }]\n";
    let policy = sterna_policies::load::policy("p", text).unwrap().value;
    Policy { mode: Mode::Observe, metrics, ..policy }
}

/// A metric's table as a policy file has it.
pub fn written(metric: &str, table: &str) -> MetricSource {
    let text = format!(
        "schema_version = 1\nname = \"p\"\n[objective]\nterm = [{{ metric = \"cost_rate\" }}]\n\
         [metrics.{metric}]\n{table}\n"
    );
    let policy = sterna_policies::load::policy("p", &text).unwrap_or_else(|error| panic!("{error}")).value;
    policy.metrics.into_values().next().unwrap()
}

pub struct Bench {
    pub store: Prometheus,
    pub continuum: Continuum,
}

impl Bench {
    pub async fn see(&self, metric: Metric, source: MetricSource) -> Observed {
        let policy = policy(BTreeMap::from([(metric, source)]));
        observe(&self.store, &self.continuum, FleetView::default(), &policy, Timestamp::now()).await
    }

    /// Looks again until `good` or half a minute is over.
    pub async fn see_until(
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
pub fn reason<'a>(observed: &'a Observed, site: &str) -> &'a str {
    let unknown = observed.observation.unknown.iter();
    let site = Some(SiteName::from(site));
    let mut found = unknown.filter(|one| one.site.is_none() || one.site == site);
    &found.next().unwrap_or_else(|| panic!("nothing unknown of {site:?}: {observed:#?}")).reason
}

#[track_caller]
pub fn unknown(observed: &Observed, site: &str, word: &str) {
    let reason = reason(observed, site);
    assert!(reason.contains(word), "`{reason}` does not say `{word}`");
}
