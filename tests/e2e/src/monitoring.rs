//! Real monitoring: Prometheus, a blackbox exporter that plays the users, and a node exporter for each site. All from
//! Debian's packages, on free ports of loopback, with their files in one folder.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::process::{Daemon, bound};

/// How long one of the programs may take to come up; the machine may be busy.
const TO_START: Duration = Duration::from_secs(60);
/// A free port may be taken before the program gets it; then another one is tried.
const TRIES: u32 = 3;
/// What Prometheus is told to scrape.
const CONFIG: &str = "prometheus.json";

/// The node exporter of one site.
#[derive(Debug)]
pub struct Exporter {
    site: String,
    address: SocketAddr,
    /// Held for as long as it is to run.
    _daemon: Daemon,
}

impl Exporter {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(site: &str, folder: &Path) -> anyhow::Result<Self> {
        let log = folder.join(format!("node-exporter-{site}.log"));
        let (daemon, address) = start("prometheus-node-exporter", &log, |command, address| {
            command
                .arg(format!("--web.listen-address={address}"))
                .arg("--collector.disable-defaults")
                .args(["--collector.cpu", "--collector.loadavg", "--collector.meminfo", "--collector.rapl"]);
        })
        .await?;
        Ok(Self { site: site.to_owned(), address, _daemon: daemon })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What is measured: how long users of a group wait for an answer from a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The user group; becomes the label `users`.
    pub users: String,
    /// The site; becomes the label `site`.
    pub site: String,
    /// Where the way from the users to the site's exporter begins.
    pub door: SocketAddr,
}

/// The running programs. Dropped, they end.
#[derive(Debug)]
pub struct Monitoring {
    /// `None` while it is away.
    prometheus: Option<Daemon>,
    /// Held for as long as they are to run.
    _exporters: (Daemon, Vec<Exporter>),
    folder: PathBuf,
    address: SocketAddr,
    client: reqwest::Client,
}

/// One series of an answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Series {
    /// The labels.
    pub metric: std::collections::BTreeMap<String, String>,
    /// Time in seconds, and the value.
    pub value: (f64, String),
}

impl Monitoring {
    /// Starts the blackbox exporter and Prometheus over exporters that run already; waits until Prometheus is ready.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub async fn start(exporters: Vec<Exporter>, probes: &[Probe], folder: &Path) -> anyhow::Result<Self> {
        let modules = folder.join("blackbox.json");
        write(&modules, &blackbox_modules())?;
        let (blackbox, blackbox_address) =
            start("prometheus-blackbox-exporter", &folder.join("blackbox.log"), |command, address| {
                command
                    .arg(format!("--web.listen-address={address}"))
                    .arg(format!("--config.file={}", modules.display()));
            })
            .await?;
        write(&folder.join(CONFIG), &prometheus_config(&exporters, probes, blackbox_address))?;
        let (prometheus, address) =
            start("prometheus", &folder.join("prometheus.log"), |command, address| {
                prometheus_arguments(command, folder, address);
            })
            .await?;
        Ok(Self {
            prometheus: Some(prometheus),
            _exporters: (blackbox, exporters),
            folder: folder.to_owned(),
            address,
            client: client()?,
        })
    }

    /// Ends Prometheus; the exporters go on.
    pub fn prometheus_goes(&mut self) {
        self.prometheus = None;
    }

    /// Starts Prometheus again, at the same address, with what it had stored.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn prometheus_returns(&mut self) -> anyhow::Result<()> {
        let log = self.folder.join("prometheus-again.log");
        let mut attempt = 1;
        loop {
            let mut command = bound(Path::new("prometheus"));
            prometheus_arguments(&mut command, &self.folder, self.address);
            match come_up("prometheus", command, &log, self.address, &self.client).await {
                Ok(prometheus) => {
                    self.prometheus = Some(prometheus);
                    return Ok(());
                }
                // Its port may be taken for a moment.
                Err(error) if attempt >= TRIES => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    /// Address of Prometheus.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks Prometheus.
    ///
    /// # Errors
    /// When it can't be reached or refuses the query.
    pub async fn query(&self, promql: &str) -> anyhow::Result<Vec<Series>> {
        #[derive(Deserialize)]
        struct Answer {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            result: Vec<Series>,
        }
        let request = self.client.get(format!("{}/api/v1/query", self.url())).query(&[("query", promql)]);
        let answer: Answer =
            request.send().await?.error_for_status().with_context(|| promql.to_owned())?.json().await?;
        Ok(answer.data.result)
    }

    /// Asks Prometheus for the value of the one series that the query gives; `None` where it gives none.
    ///
    /// # Errors
    /// As [`Monitoring::query`], and when there are several.
    pub async fn value(&self, promql: &str) -> anyhow::Result<Option<f64>> {
        match self.query(promql).await?.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one.value.1.parse()?)),
            several => bail!("{promql} gives {} series", several.len()),
        }
    }
}

fn client() -> anyhow::Result<reqwest::Client> {
    // The client wants a TLS provider to be there, also for plain addresses.
    let _already = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build()?)
}

async fn start(
    program: &str,
    log: &Path,
    arguments: impl Fn(&mut tokio::process::Command, SocketAddr),
) -> anyhow::Result<(Daemon, SocketAddr)> {
    let client = client()?;
    let mut attempt = 1;
    loop {
        let address = free_address().await?;
        let mut command = bound(Path::new(program));
        arguments(&mut command, address);
        match come_up(program, command, log, address, &client).await {
            Ok(daemon) => return Ok((daemon, address)),
            Err(error) if attempt >= TRIES => return Err(error),
            Err(_) => attempt += 1,
        }
    }
}

async fn come_up(
    program: &str,
    command: tokio::process::Command,
    log: &Path,
    address: SocketAddr,
    client: &reqwest::Client,
) -> anyhow::Result<Daemon> {
    let mut daemon = Daemon::start(program, command, PathBuf::from(log))?;
    // All three answer here once they are up; Prometheus has a page of its own for that.
    let page = if program == "prometheus" { "-/ready" } else { "metrics" };
    let url = format!("http://{address}/{page}");
    let up = || async { client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) };
    daemon.until(TO_START, up).await?;
    Ok(daemon)
}

fn prometheus_arguments(command: &mut tokio::process::Command, folder: &Path, address: SocketAddr) {
    command
        .arg(format!("--web.listen-address={address}"))
        .arg(format!("--config.file={}", folder.join(CONFIG).display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("prometheus-data").display()))
        .arg("--storage.tsdb.retention.time=2h");
}

async fn free_address() -> std::io::Result<SocketAddr> {
    tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()
}

/// Both programs read YAML, of which JSON is a part.
fn write(path: &Path, value: &serde_json::Value) -> anyhow::Result<()> {
    std::fs::write(path, serde_json::to_vec_pretty(value)?).with_context(|| path.display().to_string())
}

fn blackbox_modules() -> serde_json::Value {
    serde_json::json!({ "modules": { "http": {
        "prober": "http",
        "timeout": "900ms",
        "http": { "preferred_ip_protocol": "ip4", "follow_redirects": false },
    } } })
}

fn prometheus_config(exporters: &[Exporter], probes: &[Probe], blackbox: SocketAddr) -> serde_json::Value {
    let nodes: Vec<_> = exporters
        .iter()
        .map(|one| serde_json::json!({ "targets": [one.address], "labels": { "site": one.site } }))
        .collect();
    let doors: Vec<_> = probes
        .iter()
        .map(|one| {
            serde_json::json!({
                "targets": [format!("http://{}/", one.door)],
                "labels": { "users": one.users, "site": one.site },
            })
        })
        .collect();
    serde_json::json!({
        "global": { "scrape_interval": "1s", "scrape_timeout": "1s" },
        "scrape_configs": [
            { "job_name": "node", "static_configs": nodes },
            {
                "job_name": "blackbox",
                "metrics_path": "/probe",
                "params": { "module": ["http"] },
                "static_configs": doors,
                "relabel_configs": [
                    { "source_labels": ["__address__"], "target_label": "__param_target" },
                    { "source_labels": ["__param_target"], "target_label": "instance" },
                    { "target_label": "__address__", "replacement": blackbox },
                ],
            },
        ],
    })
}
