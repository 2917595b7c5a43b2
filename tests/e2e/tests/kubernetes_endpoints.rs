//! Services of a cluster that lead straight to where a service runs: real moves of Redis between real nodes, beside a real API server.

#![expect(clippy::print_stdout, reason = "what was measured is shown")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde::Deserialize as _;
use serde_json::{Value, json};
use sterna_core::continuum::inventory;
use sterna_e2e::continuum::Continuum;
use sterna_e2e::namespace::Ground;
use sterna_e2e::patience::eventually;
use sterna_e2e::process::Running;
use sterna_e2e::resp::{Connection, Reply};
use sterna_e2e::zoo::Workload as _;
use sterna_e2e::zoo::redis::Redis;
use sterna_executor::identity::Credentials;
use sterna_executor::traffic::announcement::Standing;
use sterna_executor::traffic::hearing::{Hearing, Known};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

#[path = "kubernetes_endpoints/rights.rs"]
mod rights;

const IMAGE: &str = "sterna-services:latest";
const NAME: &str = "e2e-endpoints";
const SLICE: &str = "cache-sterna-e2e-endpoints";
const PORT: u16 = 6379;
/// How long anything may take that takes a moment on an idle machine.
const SOON: Duration = Duration::from_secs(30);

/// Makes a service of the cluster that names one of the inventory.
async fn lead(ground: &Ground, name: &str, named: &str, selector: Value) -> anyhow::Result<()> {
    let service = json!({
        "metadata": { "name": name, "labels": { "sterna.io/service": named } },
        "spec": { "selector": selector, "ports": [{ "name": "redis", "port": 80, "targetPort": PORT }] },
    });
    let services: Api<Service> = ground.api();
    services.create(&PostParams::default(), &Service::deserialize(service)?).await?;
    Ok(())
}

/// Has a service of the cluster name another one, or none.
async fn name(ground: &Ground, service: &str, named: Option<&str>) -> anyhow::Result<()> {
    let labels = Patch::Merge(json!({ "metadata": { "labels": { "sterna.io/service": named } } }));
    ground.api::<Service>().patch(service, &PatchParams::default(), &labels).await?;
    Ok(())
}

/// Where a slice leads, and whether it is ready.
type Leads = Option<(SocketAddr, bool)>;

fn leads(slice: &EndpointSlice) -> Leads {
    let endpoint = slice.endpoints.first()?;
    let port = slice.ports.as_ref()?.first()?.port?;
    let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let ready = endpoint.conditions.as_ref()?.ready?;
    Some((SocketAddr::new(address, u16::try_from(port).ok()?), ready))
}

/// All that a slice has said, and when that was seen.
type Seen = Arc<Mutex<Vec<(Instant, Leads)>>>;

/// Writes down what the slice says, each version of it, until it is dropped.
fn watch(slices: Api<EndpointSlice>) -> (Seen, JoinSet<()>) {
    let (seen, mut tasks) = (Seen::default(), JoinSet::new());
    let write = Arc::clone(&seen);
    tasks.spawn(async move {
        let parameters = WatchParams::default().fields(&format!("metadata.name={SLICE}")).timeout(250);
        let mut version = "0".to_owned();
        loop {
            let Ok(events) = slices.watch(&parameters, &version).await else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            let mut events = std::pin::pin!(events);
            while let Some(Ok(event)) = events.next().await {
                if let WatchEvent::Added(slice) | WatchEvent::Modified(slice) = &event {
                    version = slice.metadata.resource_version.clone().unwrap_or_default();
                    let leads = leads(slice);
                    let mut seen = write.lock().unwrap_or_else(PoisonError::into_inner);
                    if seen.last().is_none_or(|(_, last)| *last != leads) {
                        seen.push((Instant::now(), leads));
                    }
                }
            }
        }
    });
    (seen, tasks)
}

fn two_sites() -> anyhow::Result<String> {
    let mut text = format!("schema_version = 1\nname = \"{NAME}\"\n");
    for (site, node) in [("a", "a1"), ("b", "b1")] {
        text.push_str(&format!(
            "[[site]]\nname = \"{site}\"\ntier = \"edge\"\nregion = \"eu\"\nprice = {{ node = \"0.1USD/h\" }}\n\
             power = {{ idle = \"5W\", full = \"20W\" }}\n\
             [[site.node]]\nname = \"{node}\"\ncpu = \"2\"\nmemory = \"4GiB\"\n"
        ));
    }
    text.push_str("[[link]]\nbetween = [\"a\", \"b\"]\nrtt = \"1ms\"\nbandwidth = \"1Gbit/s\"\n");
    Ok(text + &Redis::default().service().image(IMAGE).table("a1")?)
}

/// Nodes, and the scheduler that looks on.
struct Stage<'g> {
    ground: &'g Ground,
    continuum: Continuum,
    folder: PathBuf,
    seen: Seen,
}

impl Stage<'_> {
    fn scheduler(&self) -> anyhow::Result<Running> {
        let settings = format!(
            "inventory = \"{}\"\npolicy = \"policy.toml\"\nstate = \"{}\"\nlisten = \"127.0.0.1:0\"\n\
             [kubernetes]\nendpoints = [\"{}\"]\nkubeconfig = \"{}\"\n",
            self.continuum.file().display(),
            self.continuum.state().display(),
            self.ground.namespace,
            self.ground.cluster.kubeconfig().display(),
        );
        std::fs::write(self.folder.join("sterna.toml"), settings)?;
        std::fs::write(
            self.folder.join("policy.toml"),
            "schema_version = 1\nname = \"looks\"\nmode = \"observe\"\n[objective]\nmethod = \"lexicographic\"\n\
             [[objective.term]]\nmetric = \"cost_rate\"\n",
        )?;
        let mut command = self.ground.sterna.command();
        command.env("STERNA_LOG", "info").args(["run", "--config"]).arg(self.folder.join("sterna.toml"));
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log"))?;
        command.stdout(log.try_clone()?).stderr(Stdio::from(log));
        Ok(Running::start(&mut command)?)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    async fn address(&self, node: &str) -> anyhow::Result<SocketAddr> {
        Ok(SocketAddr::new(self.continuum.address(node).await?, PORT))
    }

    /// When the slice said that, once it does.
    async fn said(&self, wanted: Leads) -> anyhow::Result<Instant> {
        let start = Instant::now();
        loop {
            if let Some((at, leads)) = self.seen.lock().unwrap_or_else(PoisonError::into_inner).last()
                && *leads == wanted
            {
                return Ok(*at);
            }
            let all = || {
                self.seen
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .iter()
                    .map(|(_, leads)| *leads)
                    .collect::<Vec<_>>()
            };
            ensure!(start.elapsed() < SOON, "the slice has said {:?}, not {wanted:?}\n{}", all(), self.log());
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Moves it; what the report says.
    async fn migrate(&self, to: &str) -> anyhow::Result<Value> {
        let (file, state) = (self.continuum.file().display().to_string(), self.state());
        let order =
            ["migrate", "redis", "--to", to, "--inventory", &file, "--state", &state, "--output", "json"];
        let report: Value = serde_json::from_str(&self.ground.sterna.must(&order).await?)?;
        ensure!(report["outcome"]["outcome"] == "moved", "{report}");
        Ok(report)
    }

    fn state(&self) -> String {
        self.continuum.state().display().to_string()
    }

    /// When the agent of a node says that it runs there, as fronts are told it.
    async fn announced(&self, node: &str) -> anyhow::Result<(Instant, Hearing)> {
        let (file, state) = (self.continuum.file().display().to_string(), self.state());
        let identity = self.folder.join("identity");
        let given = identity.display().to_string();
        self.ground
            .sterna
            .must(&["front", "--issue", &given, "--inventory", &file, "--state", &state])
            .await?;
        let continuum = inventory::load("inventory.toml", &two_sites()?)?.value;
        let mut hearing = Hearing::new(Credentials::load(&identity)?);
        hearing.listen(&Arc::new(continuum), BTreeSet::from(["redis".into()])).await;
        loop {
            if let Known::At(owned) = hearing.of(&"redis".into())
                && owned.node.as_str() == node
                && owned.announced.standing == Standing::Runs
            {
                return Ok((Instant::now(), hearing));
            }
            timeout(SOON, hearing.news())
                .await
                .with_context(|| format!("{node} does not say that it has it"))?;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_the_cluster_leads_to_where_its_service_runs() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let continuum = Continuum::up(&ground.sterna, &two_sites()?).await?;
    continuum.services_up().await?;
    let folder = continuum.folder().join("daemon");
    std::fs::create_dir(&folder)?;
    let (seen, _watching) = watch(ground.api());
    let stage = Stage { ground: &ground, continuum, folder, seen };
    let [a1, b1] = [stage.address("a1").await?, stage.address("b1").await?];
    let mut scheduler = stage.scheduler()?;

    lead(&ground, "cache", "redis", json!(null)).await?;
    lead(&ground, "selects", "redis", json!({ "app": "x" })).await?;
    lead(&ground, "nobody", "rediss", json!(null)).await?;
    stage.said(Some((a1, true))).await?;
    ensure!(Connection::open(a1).await?.command(&["PING"]).await? == Reply::Simple("PONG".into()));

    it_follows_a_move_at_once(&stage, a1, b1).await?;
    others_are_left_alone(&stage).await?;
    a_killed_scheduler_leaves_what_the_next_puts_right(&stage, &mut scheduler, a1, b1).await?;
    a_cluster_that_is_away_learns_of_a_move(&stage, a1, b1).await?;

    // It goes with the label.
    name(&ground, "cache", None).await?;
    let gone = async || Ok(ground.api::<EndpointSlice>().get_opt(SLICE).await?.is_none());
    eventually(SOON, "the slice goes with the label", gone).await.with_context(|| stage.log())?;
    scheduler.ask_to_end();
    let ended = timeout(SOON, scheduler.child().wait()).await.context("it does not end")??;
    ensure!(ended.success(), "{ended}\n{}", stage.log());
    stage.continuum.down().await?;
    ground.down().await
}

async fn it_follows_a_move_at_once(stage: &Stage<'_>, a1: SocketAddr, b1: SocketAddr) -> anyhow::Result<()> {
    let before = stage.seen.lock().unwrap_or_else(PoisonError::into_inner).len();
    let (report, announced) = tokio::join!(stage.migrate("b1"), stage.announced("b1"));
    let (report, (announced, _)) = (report?, announced?);
    let said = stage.said(Some((b1, true))).await?;
    let late = said.saturating_duration_since(announced);
    let phases = report["phases"].as_array().context("no phases")?;
    let released = phases.iter().find(|one| one["phase"] == "released").map(|one| one["took"].to_string());
    println!(
        "downtime {}; from the commit to the release {released:?}; the slice said so {late:?} after the agent",
        report["downtime"]
    );
    ensure!(late < Duration::from_secs(2), "only after {late:?}");
    let seen: Vec<Leads> = stage.seen.lock().unwrap_or_else(PoisonError::into_inner)[before..]
        .iter()
        .map(|(_, leads)| *leads)
        .collect();
    // While it stood still nothing else was led there.
    ensure!(seen == [Some((a1, false)), Some((b1, true))], "{seen:?}");
    Ok(())
}

async fn others_are_left_alone(stage: &Stage<'_>) -> anyhow::Result<()> {
    let all = stage.ground.api::<EndpointSlice>().list(&kube::api::ListParams::default()).await?;
    let names: Vec<_> = all.items.iter().filter_map(|slice| slice.metadata.name.as_deref()).collect();
    ensure!(names == [SLICE], "{names:?}");
    let log = stage.log();
    for word in ["it has a selector", "the inventory has no service `rediss`"] {
        ensure!(log.matches(word).count() == 1, "`{word}` is not said once:\n{log}");
    }
    Ok(())
}

async fn a_killed_scheduler_leaves_what_the_next_puts_right(
    stage: &Stage<'_>,
    scheduler: &mut Running,
    a1: SocketAddr,
    b1: SocketAddr,
) -> anyhow::Result<()> {
    scheduler.child().kill().await?;
    let before = stage.seen.lock().unwrap_or_else(PoisonError::into_inner).len();
    stage.migrate("a1").await?;
    stage.said(Some((b1, true))).await?;
    *scheduler = stage.scheduler()?;
    stage.said(Some((a1, true))).await?;
    let seen = stage.seen.lock().unwrap_or_else(PoisonError::into_inner)[before..].to_vec();
    ensure!(seen.len() == 1, "what a new one has not heard yet it must not say: {seen:?}");
    Ok(())
}

async fn a_cluster_that_is_away_learns_of_a_move(
    stage: &Stage<'_>,
    a1: SocketAddr,
    b1: SocketAddr,
) -> anyhow::Result<()> {
    if !stage.ground.cluster.is_own() {
        return Ok(());
    }
    stage.ground.cluster.suspend();
    let moved = stage.migrate("b1").await;
    stage.ground.cluster.resume();
    println!("downtime {} while the cluster was away", moved?["downtime"]);
    stage.said(Some((b1, true))).await?;
    ensure!(Connection::open(a1).await.is_err(), "it is on both nodes");
    Ok(())
}
