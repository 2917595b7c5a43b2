//! Services that are declared as objects of a cluster: started on real nodes, moved by a policy and ended, beside a real API server.
//! Without nodes of the cluster the pods that stand for them are made there and run nowhere; `kubernetes_declared` has those.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sterna_e2e::continuum::Continuum;
use sterna_e2e::docker;
use sterna_e2e::namespace::Ground;
use sterna_e2e::patience::eventually;
use sterna_e2e::process::Running;
use sterna_executor::platform::kubernetes::migratable_service::resource::{
    MigratableService, MigratableServiceSpec,
};
use sterna_executor::platform::kubernetes::migratable_service::stand_in;
use tokio::time::{Instant, sleep};

#[path = "kubernetes_services/rights.rs"]
mod rights;

/// How long anything may take that takes a moment on an idle machine.
const SOON: Duration = Duration::from_secs(60);
const IMAGE: &str = "sterna-services:latest";

fn services(ground: &Ground) -> Api<MigratableService> {
    ground.api()
}

/// An API server that knows such services.
async fn raised() -> anyhow::Result<Ground> {
    let ground = Ground::up().await?;
    // As people do it.
    ground.apply(&ground.printed(&["crd", "services"]).await?).await?;
    let served = async || Ok(services(&ground).list(&ListParams::default()).await.is_ok());
    eventually(SOON, "such services are known", served).await?;
    Ok(ground)
}

async fn declare(ground: &Ground, name: &str, more: Value) -> anyhow::Result<()> {
    let spec = MigratableServiceSpec {
        on: None,
        pinned: false,
        protocols: [].into(),
        template: template(name, more),
    };
    services(ground).create(&PostParams::default(), &MigratableService::new(name, spec)).await?;
    Ok(())
}

/// Waits for an event, which is written a moment after what it tells.
async fn told(ground: &Ground, name: &str, reason: &str) -> anyhow::Result<()> {
    let told = async || Ok(ground.events(&ground.namespace, name).await?.iter().any(|event| event == reason));
    eventually(SOON, &format!("an event {reason} of {name}"), told).await
}

/// A Redis that a policy may select by its label, with `more` fields of its pod.
fn template(name: &str, more: Value) -> Value {
    let mut pod = json!({
        "containers": [{
            "name": "redis",
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "command": ["redis-server"],
            "args": ["--save", "", "--protected-mode", "no", "--maxmemory", "$(MOST)"],
            "env": [{ "name": "MOST", "value": "32mb" }],
            "resources": { "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "memory": "128Mi" } },
            "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["NET_RAW"] } },
        }]
    });
    if let (Some(pod), Value::Object(more)) = (pod.as_object_mut(), more) {
        pod.extend(more);
    }
    json!({ "metadata": { "labels": { "app": name } }, "spec": pod })
}

fn phase(object: &MigratableService) -> String {
    object.said().phase.unwrap_or_default()
}

/// Status and reason of a condition.
fn condition(object: &MigratableService, kind: &str) -> (String, String) {
    let said = object.said();
    let found = said.conditions.into_iter().find(|one| one.type_ == kind);
    found.map_or_else(Default::default, |one| (one.status, one.reason))
}

/// Two nodes, and no service.
fn inventory(name: &str, prices: [&str; 2]) -> String {
    let mut text = format!("schema_version = 1\nname = \"{name}\"\n");
    for ((site, node), price) in [("a", "a1"), ("b", "b1")].into_iter().zip(prices) {
        text.push_str(&format!(
            "[[site]]\nname = \"{site}\"\ntier = \"edge\"\nregion = \"eu\"\nprice = {{ node = \"{price}USD/h\" }}\n\
             power = {{ idle = \"5W\", full = \"20W\" }}\n\
             [[site.node]]\nname = \"{node}\"\ncpu = \"2\"\nmemory = \"4GiB\"\n"
        ));
    }
    text + "[[link]]\nbetween = [\"a\", \"b\"]\nrtt = \"1ms\"\nbandwidth = \"1Gbit/s\"\n"
}

/// A policy that wants the cheapest place at once for what has that label.
const POLICY: &str = "schema_version = 1\nname = \"cheapest\"\nmode = \"auto\"\nselect = { service_labels = { app = [\"shop\"] } }\n\
    [objective]\nmethod = \"lexicographic\"\n[[objective.term]]\nmetric = \"cost_rate\"\n\
    [trigger]\ninterval = \"500ms\"\nsettle = \"0s\"\n\
    [hysteresis]\nmin_gain = \"1%\"\nmin_residency = \"0s\"\ncooldown = \"0s\"\nno_return_within = \"0s\"\n\
    [breaker]\nfailures = 0\n";

/// Nodes, and the scheduler over them.
struct Stage<'g> {
    ground: &'g Ground,
    continuum: Continuum,
    folder: PathBuf,
}

impl<'g> Stage<'g> {
    async fn raise(ground: &'g Ground) -> anyhow::Result<Self> {
        let continuum = Continuum::up(&ground.sterna, &inventory("e2e-declared", ["0.1", "0.1"])).await?;
        docker::service_image().await?;
        let (file, state) = (continuum.file().display().to_string(), continuum.state().display().to_string());
        ground.sterna.must(&["services", "load", &file, IMAGE, "--state", &state]).await?;
        let folder = continuum.folder().join("daemon");
        std::fs::create_dir(&folder)?;
        let stage = Self { ground, continuum, folder };
        stage.write("policy.toml", POLICY)?;
        stage.prices(["0.1", "0.1"])?;
        Ok(stage)
    }

    fn prices(&self, prices: [&str; 2]) -> anyhow::Result<()> {
        self.write("inventory.toml", &inventory(self.continuum.name(), prices))
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
             [kubernetes]\nservices = \"{}\"\n",
            self.continuum.state().display(),
            self.ground.namespace
        );
        self.write("sterna.toml", &settings)?;
        let mut command = self.ground.sterna.command();
        command.env("KUBECONFIG", self.ground.cluster.kubeconfig()).env("STERNA_LOG", "warn");
        command.args(["run", "--config"]).arg(self.folder.join("sterna.toml"));
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log"))?;
        command.stdout(log.try_clone()?).stderr(Stdio::from(log));
        Ok(Running::start(&mut command)?)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The object, once it is so.
    async fn object(
        &self,
        name: &str,
        what: &str,
        so: impl Fn(&MigratableService) -> bool,
    ) -> anyhow::Result<MigratableService> {
        let start = Instant::now();
        loop {
            let object = services(self.ground).get(name).await?;
            if so(&object) {
                return Ok(object);
            }
            let status = serde_json::to_string(&object.status)?;
            ensure!(start.elapsed() < SOON, "not so: {what}: {status}\n{}", self.log());
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// How many containers of a service there are, running or not.
    async fn containers(&self, name: &str) -> anyhow::Result<usize> {
        let mut all = 0;
        let filter = format!("label=sterna.service={name}");
        for (node, _) in self.continuum.nodes() {
            let node = self.continuum.container(node);
            let list = ["exec", &node, "docker", "ps", "--all", "--quiet", "--filter", &filter];
            all += docker::docker(&list).await?.lines().count();
        }
        Ok(all)
    }

    async fn redis(&self, node: &str, name: &str, words: &[&str]) -> anyhow::Result<String> {
        Ok(self.continuum.exec(node, name, &[&["redis-cli"], words].concat()).await?.trim().to_owned())
    }
}

#[tokio::test]
async fn a_declared_service_runs_once_is_moved_as_any_other_and_ends_with_its_object() -> anyhow::Result<()> {
    let ground = raised().await?;
    let stage = Stage::raise(&ground).await?;
    let mut scheduler = stage.scheduler()?;
    it_is_started_and_shown(&stage).await?;
    a_policy_moves_it(&stage, &mut scheduler).await?;
    what_cannot_be_honoured_is_said(&stage).await?;
    schedulers_that_are_killed_start_none_twice(&stage, &mut scheduler).await?;
    deleting_the_object_ends_it(&stage).await?;
    scheduler.ask_to_end();
    let ended = tokio::time::timeout(SOON, scheduler.child().wait()).await.context("it does not end")??;
    ensure!(ended.success(), "{ended}\n{}", stage.log());
    stage.continuum.down().await?;
    ground.down().await
}

async fn it_is_started_and_shown(stage: &Stage<'_>) -> anyhow::Result<()> {
    let ground = stage.ground;
    declare(ground, "shop", json!({ "terminationGracePeriodSeconds": 3 })).await?;
    let object = stage.object("shop", "it runs", |one| phase(one) == "Running").await?;
    let said = object.said();
    let node = said.node.clone().context("it says no node")?;
    ensure!(said.first_on.as_ref() == Some(&node) && said.started, "{said:?}");
    ensure!(
        condition(&object, "Accepted").0 == "True" && condition(&object, "Started").0 == "True",
        "{said:?}"
    );
    ensure!(stage.continuum.runs_on("shop").await? == Some(node.as_str()), "{}", stage.log());
    // What the template says, also where that is a reference.
    let most = stage.redis(&node, "shop", &["config", "get", "maxmemory"]).await?;
    ensure!(most.ends_with("33554432"), "{most}");
    let container = stage.continuum.container(&node);
    let asked = [
        "exec",
        &container,
        "docker",
        "inspect",
        "--format",
        "{{.HostConfig.Memory}} {{.HostConfig.CapDrop}}",
        "shop",
    ];
    let limits = docker::docker(&asked).await?;
    ensure!(limits.starts_with("134217728") && limits.contains("NET_RAW"), "{limits}");

    let name = stand_in::name("shop");
    let made = async || Ok(ground.api::<Pod>().get_opt(&name).await?.is_some());
    eventually(SOON, "its stand-in is made", made).await.with_context(|| stage.log())?;
    let pod = ground.api::<Pod>().get(&name).await?;
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    ensure!(labels.get("app").is_some_and(|app| app == "shop"), "{labels:?}");
    let config = ground.api::<ConfigMap>().get(&name).await?.data.unwrap_or_default();
    for node in ["a1", "b1"] {
        let address = stage.continuum.address(node).await?.to_string();
        ensure!(config["agents.toml"].contains(&address), "{config:?}");
    }
    ensure!(config["front.toml"].contains("service = \"shop\""), "{config:?}");
    let secrets = ground.api::<Secret>().list(&ListParams::default()).await?.items;
    ensure!(
        !secrets.is_empty() && secrets.iter().all(|one| one.metadata.owner_references.is_some()),
        "{} secrets",
        secrets.len()
    );
    // A cluster without nodes runs no pod, and says so.
    ensure!(condition(&object, "Ready").0 == "False", "{object:?}");
    for reason in ["Honoured", "Starting", "Running"] {
        told(ground, "shop", reason).await?;
    }
    Ok(())
}

/// Also with the cluster away from the start: what was declared once is known.
async fn a_policy_moves_it(stage: &Stage<'_>, scheduler: &mut Running) -> anyhow::Result<()> {
    let from = stage.continuum.runs_on("shop").await?.context("it runs nowhere")?.to_owned();
    stage.redis(&from, "shop", &["set", "kept", "yes"]).await?;
    let own = stage.ground.cluster.is_own();
    if own {
        stage.ground.cluster.suspend();
    }
    scheduler.child().kill().await?;
    *scheduler = stage.scheduler()?;
    let (to, prices) = if from == "a1" { ("b1", ["0.9", "0.1"]) } else { ("a1", ["0.1", "0.9"]) };
    stage.prices(prices)?;
    let there = async || Ok(matches!(stage.continuum.runs_on("shop").await, Ok(Some(node)) if node == to));
    let moved = eventually(SOON, "the policy moves it", there).await;
    if own {
        stage.ground.cluster.resume();
    }
    moved.with_context(|| stage.log())?;
    ensure!(stage.redis(to, "shop", &["get", "kept"]).await? == "yes");
    let shown = |one: &MigratableService| phase(one) == "Running" && one.said().node.as_deref() == Some(to);
    stage.object("shop", "it is shown where it is", shown).await?;
    stage.prices(["0.1", "0.1"])
}

async fn what_cannot_be_honoured_is_said(stage: &Stage<'_>) -> anyhow::Result<()> {
    let ground = stage.ground;
    declare(ground, "bold", json!({ "hostNetwork": true, "fromTheFuture": 1 })).await?;
    let object = stage.object("bold", "it is refused", |one| phase(one) == "Refused").await?;
    let said = serde_json::to_string(&object.status)?;
    ensure!(said.contains("spec.hostNetwork") && said.contains("spec.fromTheFuture"), "{said}");
    ensure!(!object.is_held(), "{object:?}");
    told(ground, "bold", "Refused").await?;
    services(ground).delete("bold", &DeleteParams::default()).await?;
    let gone = async || Ok(services(ground).get_opt("bold").await?.is_none());
    eventually(SOON, "what is refused goes at once", gone).await?;

    // Another template is not applied to what runs, and nothing of it is taken over in silence.
    let before = services(ground).get("shop").await?.spec.template;
    let other = template("shop", json!({ "terminationGracePeriodSeconds": 4 }));
    let edit = |template: Value| Patch::Merge(json!({ "spec": { "template": template } }));
    services(ground).patch("shop", &PatchParams::default(), &edit(other)).await?;
    let told = |one: &MigratableService| condition(one, "Accepted").1 == "NotApplied";
    stage.object("shop", "it is said that it is not applied", told).await?;
    services(ground).patch("shop", &PatchParams::default(), &edit(before)).await?;
    let told = |one: &MigratableService| condition(one, "Accepted").1 == "Honoured";
    stage.object("shop", "it is as it was", told).await?;

    // An image that no node has.
    declare(ground, "pale", json!({})).await?;
    let pale = json!({ "spec": { "template": template("pale", json!({ "containers": [{ "name": "pale", "image": "none:1",
        "imagePullPolicy": "Never", "resources": { "requests": { "cpu": "1m", "memory": "1Mi" } } }] })) } });
    services(ground).delete("pale", &DeleteParams::default()).await?;
    let gone = async || Ok(services(ground).get_opt("pale").await?.is_none());
    eventually(SOON, "it goes", &gone).await.with_context(|| stage.log())?;
    let spec: MigratableServiceSpec = serde_json::from_value(pale["spec"].clone())?;
    ground
        .api::<MigratableService>()
        .create(&PostParams::default(), &MigratableService::new("pale", spec))
        .await?;
    let told = |one: &MigratableService| condition(one, "Started").1 == "NoImage";
    stage.object("pale", "its image is missing", told).await?;
    services(ground).delete("pale", &DeleteParams::default()).await?;
    eventually(SOON, "it goes", gone).await.with_context(|| stage.log())
}

async fn schedulers_that_are_killed_start_none_twice(
    stage: &Stage<'_>,
    scheduler: &mut Running,
) -> anyhow::Result<()> {
    let names = ["one", "two", "three", "four"];
    for (at, name) in names.into_iter().enumerate() {
        declare(stage.ground, name, json!({})).await?;
        // Somewhere between its first sight and its being shown.
        sleep(Duration::from_millis(400 * u64::try_from(at)?)).await;
        scheduler.child().kill().await?;
        *scheduler = stage.scheduler()?;
    }
    for name in names {
        stage.object(name, "it runs", |one| phase(one) == "Running").await?;
        ensure!(stage.containers(name).await? == 1, "{name} has several containers\n{}", stage.log());
        ensure!(stage.continuum.runs_on(name).await?.is_some(), "{}", stage.log());
        services(stage.ground).delete(name, &DeleteParams::default()).await?;
    }
    for name in names {
        let gone = async || Ok(services(stage.ground).get_opt(name).await?.is_none());
        eventually(SOON, "it goes", gone).await.with_context(|| stage.log())?;
        ensure!(stage.containers(name).await? == 0, "{name} is left\n{}", stage.log());
    }
    Ok(())
}

async fn deleting_the_object_ends_it(stage: &Stage<'_>) -> anyhow::Result<()> {
    services(stage.ground).delete("shop", &DeleteParams::default()).await?;
    let gone = async || Ok(services(stage.ground).get_opt("shop").await?.is_none());
    eventually(SOON, "its object goes", gone).await.with_context(|| stage.log())?;
    ensure!(stage.containers("shop").await? == 0, "its container is left\n{}", stage.log());
    let pod = stage.ground.api::<Pod>().get_opt(&stand_in::name("shop")).await?;
    ensure!(pod.is_none(), "its stand-in is left");
    Ok(())
}
