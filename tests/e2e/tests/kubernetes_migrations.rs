//! Migrations as objects of a cluster: real moves between real nodes, beside a real API server.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::Deserialize as _;
use serde_json::{Value, json};
use sterna_e2e::continuum::Continuum;
use sterna_e2e::namespace::Ground;
use sterna_e2e::patience::eventually;
use sterna_e2e::process::Running;
use sterna_e2e::ticker;
use sterna_executor::migration::phase::Phase;
use sterna_executor::platform::kubernetes::migration_object::objects::{self, ObjectError, Objects as _};
use sterna_executor::platform::kubernetes::migration_object::resource::Migration;
use tokio::time::{Instant, sleep};

#[path = "kubernetes_migrations/grants.rs"]
mod grants;
#[path = "kubernetes_migrations/written.rs"]
mod written;

const SERVICE: &str = "ticker";
/// Reasons of the events of a move that succeeds.
const TOLD: [&str; 3] = ["MigrationStarted", "MigrationCommitted", "MigrationSucceeded"];
/// How long anything may take that takes a moment on an idle machine.
const SOON: Duration = Duration::from_secs(60);
/// A move at full speed, and one that gives time to say something.
const FAST: &str = "1Gbit/s";
const SLOW: &str = "60Mbit/s";
/// Memory of the service: five seconds and more at the slow rate.
const MIB: u32 = 40;

fn migrations(ground: &Ground) -> Api<Migration> {
    ground.api()
}

/// An API server that knows migrations.
async fn raised() -> anyhow::Result<Ground> {
    let ground = Ground::up().await?;
    if ground.cluster.is_own() {
        let early = objects::Namespace::new(ground.client.clone(), &ground.namespace).list().await;
        ensure!(matches!(early, Err(ObjectError::Absent { .. })), "{early:?}");
    }
    // As people do it.
    ground.apply(&ground.printed(&["crd", "migrations"]).await?).await?;
    let served = async || Ok(all(&ground).await.is_ok());
    eventually(SOON, "migrations are known", served).await?;
    Ok(ground)
}

async fn all(ground: &Ground) -> anyhow::Result<Vec<Migration>> {
    Ok(migrations(ground).list(&ListParams::default()).await?.items)
}

fn condition(object: &Migration, kind: &str) -> (String, String) {
    object.condition(kind).map_or_else(Default::default, |one| (one.status.clone(), one.reason.clone()))
}

fn outcome(object: &Migration) -> Option<&str> {
    object.status.as_ref()?.outcome.as_deref()
}

/// Two nodes; `pod`: what makes the first one a pod in the eyes of the scheduler.
fn inventory(name: &str, prices: [&str; 2], pod: &str) -> String {
    let mut text = format!("schema_version = 1\nname = \"{name}\"\n");
    for ((site, node), (price, kind)) in
        [("a", "a1"), ("b", "b1")].into_iter().zip(prices.into_iter().zip([pod, ""]))
    {
        text.push_str(&format!(
            "[[site]]\nname = \"{site}\"\ntier = \"edge\"\nregion = \"eu\"\nprice = {{ node = \"{price}USD/h\" }}\n\
             power = {{ idle = \"5W\", full = \"20W\" }}\n\
             [[site.node]]\nname = \"{node}\"\ncpu = \"2\"\nmemory = \"4GiB\"\n{kind}"
        ));
    }
    text.push_str("[[link]]\nbetween = [\"a\", \"b\"]\nrtt = \"1ms\"\nbandwidth = \"1Gbit/s\"\n");
    text + &ticker::service(SERVICE, MIB, "a1")
}

/// A policy that wants the cheapest place at once.
fn policy(bandwidth: &str) -> String {
    format!(
        "schema_version = 1\nname = \"cheapest\"\nmode = \"auto\"\n\
         [objective]\nmethod = \"lexicographic\"\n[[objective.term]]\nmetric = \"cost_rate\"\n\
         [trigger]\ninterval = \"200ms\"\nsettle = \"0s\"\n\
         [hysteresis]\nmin_gain = \"1%\"\nmin_residency = \"0s\"\ncooldown = \"0s\"\nno_return_within = \"0s\"\n\
         [breaker]\nfailures = 0\n[migration]\nbandwidth = \"{bandwidth}\"\n"
    )
}

/// Nodes, and the scheduler over them, which has no more rights than `sterna rbac` prints.
struct Stage<'g> {
    ground: &'g Ground,
    continuum: Continuum,
    folder: PathBuf,
    /// A node, and the namespace in which it is.
    pod: String,
    nodes: String,
    /// The scheduler's.
    kubeconfig: String,
}

impl<'g> Stage<'g> {
    async fn raise(ground: &'g Ground) -> anyhow::Result<Self> {
        let name = "e2e-migrations";
        let continuum = Continuum::up(&ground.sterna, &inventory(name, ["0.1", "0.1"], "")).await?;
        continuum.services_up().await?;
        ticker::ready(&continuum, "a1", SERVICE).await?;
        let folder = continuum.folder().join("daemon");
        std::fs::create_dir(&folder)?;
        // The node is what it is; its pod says where it is.
        let pod = Pod::deserialize(json!({
            "metadata": {
                "name": format!("sterna-{name}-a1"),
                "labels": { "sterna.continuum": name, "sterna.node": "a1" },
            },
            "spec": { "containers": [{ "name": "node", "image": "i" }] },
        }))?;
        let nodes = format!("{}-nodes", ground.namespace);
        ground.make(&nodes, Value::Null).await?;
        let pods: Api<Pod> = Api::namespaced(ground.client.clone(), &nodes);
        let pod = pods.create(&PostParams::default(), &pod).await?.metadata.name.context("no name")?;
        let address = continuum.address("a1").await?.to_string();
        let status = json!({ "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
            "containerStatuses": [{ "name": "node", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
                "state": { "running": {} } }] } });
        pods.patch_status(&pod, &PatchParams::default(), &Patch::Merge(status)).await?;
        let kubeconfig = grants::grant(ground, &nodes).await?;
        Ok(Self { ground, continuum, folder, pod, nodes, kubeconfig })
    }

    /// Has a node be the cheapest from the next look on.
    fn cheapest(&self, node: &str) -> anyhow::Result<()> {
        let prices = if node == "a1" { ["0.1", "0.9"] } else { ["0.9", "0.1"] };
        let pod = format!("kubernetes = {{ namespace = \"{}\" }}\n", self.nodes);
        self.write("inventory.toml", &inventory(self.continuum.name(), prices, &pod))
    }

    fn moves_at(&self, bandwidth: &str) -> anyhow::Result<()> {
        self.write("policy.toml", &policy(bandwidth))
    }

    /// As an editor does it: the file is never half there.
    fn write(&self, file: &str, text: &str) -> anyhow::Result<()> {
        let new = self.folder.join("new");
        std::fs::write(&new, text)?;
        Ok(std::fs::rename(new, self.folder.join(file))?)
    }

    fn scheduler(&self) -> anyhow::Result<Running> {
        let settings = format!(
            "inventory = \"inventory.toml\"\npolicy = \"policy.toml\"\nstate = \"{}\"\nlisten = \"127.0.0.1:0\"\n\
             [kubernetes]\nmigrations = \"{}\"\nkeep = 3\n",
            self.continuum.state().display(),
            self.ground.namespace
        );
        self.write("sterna.toml", &settings)?;
        let mut command = self.ground.sterna.command();
        command.env("KUBECONFIG", &self.kubeconfig).env("STERNA_LOG", "warn");
        command.args(["run", "--config"]).arg(self.folder.join("sterna.toml"));
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log"))?;
        command.stdout(log.try_clone()?).stderr(Stdio::from(log));
        Ok(Running::start(&mut command)?)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The object that is not among those, once there is one of which it is so.
    async fn object(
        &self,
        known: &BTreeSet<String>,
        what: &str,
        so: impl Fn(&Migration) -> bool,
    ) -> anyhow::Result<Migration> {
        let start = Instant::now();
        loop {
            let all = all(self.ground).await?;
            let new: Vec<_> = all.into_iter().filter(|one| !known.contains(one.name())).collect();
            ensure!(new.len() < 2, "{what}: several were made: {new:?}\n{}", self.log());
            match new.into_iter().next() {
                Some(one) if so(&one) => return Ok(one),
                one if start.elapsed() > SOON => bail!("not so: {what}: {one:?}\n{}", self.log()),
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn names(&self) -> anyhow::Result<BTreeSet<String>> {
        Ok(all(self.ground).await?.iter().map(|one| one.name().to_owned()).collect())
    }

    async fn is_whole_on(&self, node: &str) -> anyhow::Result<()> {
        ensure!(self.continuum.runs_on(SERVICE).await? == Some(node), "it is not on {node}\n{}", self.log());
        ticker::whole(&self.continuum, node, SERVICE, SOON).await?;
        Ok(())
    }
}

fn rests(object: &Migration) -> bool {
    outcome(object).is_some() && !object.is_held()
}

fn moves(object: &Migration) -> bool {
    let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.is_some_and(|phase| ["checked", "reserved", "synced"].contains(&phase))
}

#[tokio::test]
async fn migrations_are_shown_and_whoever_deletes_one_cancels_it() -> anyhow::Result<()> {
    let ground = raised().await?;
    let stage = Stage::raise(&ground).await?;
    stage.moves_at(FAST)?;
    stage.cheapest("a1")?;
    let mut scheduler = stage.scheduler()?;
    it_is_shown_from_start_to_end_though_others_write_it(&stage).await?;
    // What follows is told of its objects alone.
    grants::take_away(&ground, &stage.nodes, "events").await?;
    deleting_it_has_it_undone(&stage).await?;
    a_killed_scheduler_leaves_nothing_that_the_next_does_not_put_right(&stage, &mut scheduler).await?;
    a_cluster_that_is_away_delays_no_move(&stage).await?;
    scheduler.ask_to_end();
    let ended = tokio::time::timeout(SOON, scheduler.child().wait()).await.context("it does not end")??;
    ensure!(ended.success(), "{ended}\n{}", stage.log());
    stage.continuum.down().await?;
    ground.remove(&stage.nodes).await?;
    ground.down().await
}

async fn it_is_shown_from_start_to_end_though_others_write_it(stage: &Stage<'_>) -> anyhow::Result<()> {
    let storm = async {
        let api = migrations(stage.ground);
        for number in 0_u64.. {
            for one in all(stage.ground).await? {
                let patch =
                    Patch::Merge(json!({ "metadata": { "annotations": { "storm": number.to_string() } } }));
                let written = api.patch(one.name(), &PatchParams::default(), &patch).await;
                ensure!(written.is_ok(), "{written:?}");
            }
            sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    let mut phases = Vec::new();
    let course = async {
        stage.cheapest("b1")?;
        let none = BTreeSet::new();
        let start = Instant::now();
        loop {
            let one = stage.object(&none, "it is shown", |_| true).await?;
            let phase = one.status.as_ref().and_then(|status| status.phase.clone());
            phases.extend(phase.filter(|phase| phases.last() != Some(phase)));
            if rests(&one) {
                return anyhow::Ok(one);
            }
            ensure!(start.elapsed() < SOON, "it does not rest: {one:?}\n{}", stage.log());
            sleep(Duration::from_millis(10)).await;
        }
    };
    let object = tokio::select! {
        stormed = storm => { stormed?; bail!("the storm has ended") }
        object = course => object?,
    };
    let order = |phase: &String| Phase::ALL.iter().position(|one| one.name() == *phase);
    ensure!(phases.is_sorted_by_key(order) && phases.len() > 2, "{phases:?}");
    for (kind, status) in
        [("Progressing", "False"), ("Committed", "True"), ("Succeeded", "True"), ("Cancelled", "False")]
    {
        ensure!(condition(&object, kind).0 == status, "{kind}: {object:?}");
    }
    let status = object.status.as_ref().context("it says nothing")?;
    ensure!(
        status.outcome.as_deref() == Some("moved") && status.phase.as_deref() == Some("cleaned"),
        "{status:?}"
    );
    ensure!(status.downtime.is_some() && status.bytes.is_some_and(|bytes| bytes > 1 << 20), "{status:?}");
    let spec = &object.spec;
    ensure!(
        (spec.from.as_str(), spec.to.as_str(), spec.service.as_str()) == ("a1", "b1", SERVICE),
        "{spec:?}"
    );
    ensure!(spec.policy.as_deref() == Some("cheapest") && spec.decision.is_some(), "{spec:?}");
    ensure!(spec.reason.as_deref().is_some_and(|reason| reason.contains("cost_rate")), "{spec:?}");
    for (namespace, on) in [(&stage.ground.namespace, object.name()), (&stage.nodes, &stage.pod)] {
        let events = stage.ground.events(namespace, on).await?;
        ensure!(events == TOLD, "of {on}: {events:?}\n{}", stage.log());
    }
    stage.is_whole_on("b1").await
}

async fn deleting_it_has_it_undone(stage: &Stage<'_>) -> anyhow::Result<()> {
    let known = stage.names().await?;
    stage.moves_at(SLOW)?;
    stage.cheapest("a1")?;
    let object = stage.object(&known, "it moves back", moves).await?;
    // It is not to begin again; what runs goes on.
    stage.cheapest("b1")?;
    migrations(stage.ground).delete(object.name(), &DeleteParams::default()).await?;
    let asked = Instant::now();
    let gone = async || Ok(migrations(stage.ground).get_opt(object.name()).await?.is_none());
    eventually(SOON, "a cancelled migration's object goes", gone).await.with_context(|| stage.log())?;
    ensure!(asked.elapsed() < Duration::from_secs(10), "only after {:?}", asked.elapsed());
    let events = stage.ground.events(&stage.ground.namespace, object.name()).await?;
    for reason in ["CancelAsked", "MigrationUndone", "MigrationCancelled"] {
        ensure!(events.iter().any(|event| event == reason), "no {reason}: {events:?}\n{}", stage.log());
    }
    ensure!(stage.log().contains("its object in Kubernetes was deleted"), "{}", stage.log());
    let events = stage.ground.events(&stage.nodes, &stage.pod).await?;
    ensure!(events == TOLD, "without the right to it was written: {events:?}");
    stage.is_whole_on("b1").await
}

async fn a_killed_scheduler_leaves_nothing_that_the_next_does_not_put_right(
    stage: &Stage<'_>,
    scheduler: &mut Running,
) -> anyhow::Result<()> {
    let known = stage.names().await?;
    stage.cheapest("a1")?;
    let object = stage.object(&known, "it moves back", moves).await?;
    scheduler.child().kill().await?;
    let arrived = async || Ok(matches!(stage.continuum.runs_on(SERVICE).await, Ok(Some("a1"))));
    eventually(SOON, "the agents bring it to its end", arrived).await?;
    let stale = migrations(stage.ground).get(object.name()).await?;
    ensure!(stale.is_held() && outcome(&stale).is_none(), "{stale:?}");
    *scheduler = stage.scheduler()?;
    let object = stage.object(&known, "the next one puts it right", rests).await?;
    ensure!(outcome(&object) == Some("moved"), "{object:?}");
    stage.is_whole_on("a1").await
}

async fn a_cluster_that_is_away_delays_no_move(stage: &Stage<'_>) -> anyhow::Result<()> {
    if !stage.ground.cluster.is_own() {
        return Ok(());
    }
    let known = stage.names().await?;
    stage.cheapest("b1")?;
    let _begun = stage.object(&known, "it moves", moves).await?;
    stage.ground.cluster.suspend();
    let arrived = async || Ok(matches!(stage.continuum.runs_on(SERVICE).await, Ok(Some("b1"))));
    let moved = eventually(SOON, "it moves though the cluster is away", arrived).await;
    sleep(Duration::from_secs(1)).await;
    stage.ground.cluster.resume();
    moved.with_context(|| stage.log())?;
    let object = stage.object(&known, "the cluster learns of it", rests).await?;
    ensure!(outcome(&object) == Some("moved"), "{object:?}");
    stage.is_whole_on("b1").await
}
