//! Services declared as objects of a whole cluster look to their users like any other: reached under the name of a Kubernetes service,
//! read by `kubectl logs`, ready when they are, ended with their exit code; and all of it while they move. Needs root and minutes:
//!
//!     cargo test --workspace --test kubernetes_declared -- --ignored --test-threads=1 --nocapture

#![expect(clippy::print_stdout, reason = "what was measured is shown")]

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sterna_e2e::clients::{self, Clients};
use sterna_e2e::dataset::Dataset;
use sterna_e2e::digest::{self, PORT, Reference};
use sterna_e2e::docker;
use sterna_e2e::patience::succeeds;
use sterna_e2e::pods::Pods;
use sterna_e2e::process::Running;
use sterna_e2e::resp::Connection;
use sterna_e2e::two_nodes::NODES;
use tokio::time::Instant;

const KEYS: usize = 10_000;
const CLIENTS: usize = 8;
const NAME: &str = "e2e-standing";
/// Where the nodes are, and where services are declared.
const NAMESPACE: &str = "edge";
const APPS: &str = "apps";
const SOON: Duration = Duration::from_secs(90);
/// What a job writes, line by line, and what it ends with.
const LINES: usize = 1000;
const CODE: i64 = 7;

fn inventory() -> String {
    let mut text = format!("schema_version = 1\nname = \"{NAME}\"\n");
    for (site, node, place) in [("a", "n1", NODES[0]), ("b", "n2", NODES[1])] {
        text.push_str(&format!(
            "[[site]]\nname = \"{site}\"\ntier = \"edge\"\nregion = \"eu\"\nprice = {{ node = \"0.1USD/h\" }}\n\
             power = {{ idle = \"5W\", full = \"20W\" }}\n\
             [[site.node]]\nname = \"{node}\"\ncpu = \"1\"\nmemory = \"2GiB\"\n\
             kubernetes = {{ namespace = \"{NAMESPACE}\", node = \"{place}\" }}\n"
        ));
    }
    text + "[[link]]\nbetween = [\"a\", \"b\"]\nrtt = \"1ms\"\nbandwidth = \"1Gbit/s\"\n"
}

const POLICY: &str = "schema_version = 1\nname = \"watch\"\nmode = \"observe\"\n\
    [objective]\nmethod = \"lexicographic\"\n[[objective.term]]\nmetric = \"cost_rate\"\n";

/// A cluster with nodes as pods, and a scheduler that takes what is declared there.
struct Ground {
    // Before the cluster, which it asks.
    scheduler: Running,
    pods: Pods,
}

impl Ground {
    async fn up() -> anyhow::Result<Self> {
        let pods = Pods::up(&inventory()).await?;
        let (cluster, desk) = (&pods.cluster, &pods.desk);
        std::fs::write(desk.file("policy.toml"), POLICY)?;
        let image = pods.load_node_image().await?;
        desk.must_all(["sites", "up"]).await?;
        let services = docker::service_image().await?;
        desk.must(&["services", "load", "inventory.toml", &services, "--state", "state"]).await?;
        cluster.make_restricted(APPS).await?;
        cluster.apply(&desk.must(&["crd", "services"]).await?).await?;
        cluster
            .kubectl(&["wait", "--for", "condition=established", "crd/migratableservices.sterna.io"])
            .await?;
        let settings = format!(
            "inventory = \"inventory.toml\"\npolicy = \"policy.toml\"\nstate = \"state\"\nlisten = \"127.0.0.1:0\"\n\
             [kubernetes]\nservices = \"{APPS}\"\nstand_in_image = \"{image}\"\n"
        );
        std::fs::write(desk.file("sterna.toml"), settings)?;
        let mut command = desk.command();
        command.env("STERNA_LOG", "warn").args(["run", "--config", "sterna.toml"]);
        let log = std::fs::File::create(desk.file("log"))?;
        command.stdout(log.try_clone()?).stderr(Stdio::from(log));
        Ok(Self { scheduler: Running::start(&mut command)?, pods })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.pods.desk.file("log")).unwrap_or_default()
    }

    async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.pods.cluster.kubectl(&[&["-n", APPS], arguments].concat()).await
    }

    /// Declares a service with this pod.
    async fn declare(&self, name: &str, protocols: Value, pod: Value) -> anyhow::Result<()> {
        let template = json!({ "metadata": { "labels": { "app": name } }, "spec": pod });
        let object = json!({
            "apiVersion": "sterna.io/v1alpha1",
            "kind": "MigratableService",
            "metadata": { "name": name, "namespace": APPS },
            "spec": { "on": "n1", "protocols": protocols, "template": template },
        });
        self.pods.cluster.apply(&object.to_string()).await
    }

    async fn stand_in(&self, name: &str) -> anyhow::Result<Value> {
        let pod = self.kubectl(&["get", "pod", &format!("{name}-stand-in"), "--output", "json"]).await?;
        Ok(serde_json::from_str(&pod)?)
    }

    /// Moves a service.
    async fn migrate(&self, service: &str, to: &str) -> anyhow::Result<()> {
        let report = self.pods.desk.migrate(service, to).await?;
        println!("{service} to {to}: downtime {}", report["downtime"]);
        Ok(())
    }

    async fn eventually<T>(&self, what: &str, so: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let waited = succeeds(SOON, what, so).await;
        if waited.is_err() {
            let objects = self.kubectl(&["get", "msvc,pods", "-o", "wide"]).await.unwrap_or_default();
            let told = self.kubectl(&["describe", "msvc,pods"]).await.unwrap_or_default();
            return waited.context(format!("{objects}\n{told}\n{}", self.log()));
        }
        waited
    }

    async fn ready(&self, name: &str) -> anyhow::Result<()> {
        let path = "jsonpath={.status.phase} {.status.conditions[?(@.type==\"Ready\")].status}";
        let said = async || {
            let said = self.kubectl(&["get", "msvc", name, "-o", path]).await?;
            ensure!(said == "Running True", "it says `{said}`");
            Ok(())
        };
        self.eventually("it runs and is ready", said).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a whole cluster takes minutes; see the head of this file"]
async fn a_declared_service_looks_like_any_other_while_it_moves() -> anyhow::Result<()> {
    let mut ground = Ground::up().await?;
    clients_reach_it_and_read_what_it_writes(&ground).await?;
    a_job_is_heard_to_its_end_and_ends_with_its_code(&ground).await?;
    a_stand_in_that_is_lost_is_made_anew(&ground).await?;
    ground.kubectl(&["delete", "msvc", "--all", "--timeout", "60s"]).await.with_context(|| ground.log())?;
    let left = async || {
        let left = ground
            .kubectl(&["get", "pods,configmaps,secrets", "-l", "sterna.io/stands-for", "-o", "name"])
            .await?;
        ensure!(left.is_empty(), "left: {left}");
        Ok(())
    };
    ground.eventually("nothing is left of them", left).await?;
    ground.scheduler.ask_to_end();
    let ended =
        tokio::time::timeout(SOON, ground.scheduler.child().wait()).await.context("it does not end")??;
    ensure!(ended.success(), "{ended}\n{}", ground.log());
    Ok(())
}

async fn clients_reach_it_and_read_what_it_writes(ground: &Ground) -> anyhow::Result<()> {
    let image = docker::service_image().await?;
    let pod = json!({
        "containers": [{
            "name": "redis",
            "image": image,
            "imagePullPolicy": "Never",
            "command": ["redis-server"],
            "args": ["--save", "", "--protected-mode", "no", "--enable-debug-command", "yes"],
            "ports": [{ "name": "redis", "containerPort": PORT }],
            "readinessProbe": { "tcpSocket": { "port": "redis" }, "periodSeconds": 1 },
            "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
        }]
    });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "cache", "namespace": APPS },
        "spec": { "selector": { "app": "redis" }, "ports": [{ "port": PORT, "targetPort": "redis" }] },
    });
    ground.pods.cluster.apply(&service.to_string()).await?;
    let began = Instant::now();
    ground.declare("redis", json!({ "redis": "redis" }), pod).await?;
    ground.ready("redis").await?;
    println!("declared, started and ready within {:?}", began.elapsed());
    let address = ground.kubectl(&["get", "service", "cache", "-o", "jsonpath={.spec.clusterIP}"]).await?;
    let address = SocketAddr::new(address.parse()?, PORT);
    let mut dataset = Dataset::new(KEYS);
    ground.eventually("clients reach it", async || dataset_is_there(address).await).await?;
    dataset.load(address).await?;
    let writing =
        Clients::start(CLIENTS, |number, stop| clients::writes(address, KEYS, number, CLIENTS, stop));
    for to in ["n2", "n1", "n2"] {
        ground.migrate("redis", to).await?;
        ground.ready("redis").await?;
        let pod = ground.stand_in("redis").await?;
        ensure!(pod["status"]["containerStatuses"][0]["restartCount"] == 0, "{pod}");
    }
    let (seen, known) = writing.stop().await?;
    println!("{}", seen.told("redis")?);
    for (index, write) in known.into_iter().flatten() {
        dataset.acknowledged(index, write);
    }
    let expected = Reference::start("sterna-e2e-standing-reference").await?.digest_of(&dataset).await?;
    let held = digest::held(address).await?;
    ensure!(held == expected, "Redis holds {held}, clients were told of {expected}");
    let written = ground.kubectl(&["logs", "redis-stand-in"]).await?;
    ensure!(written.contains("Ready to accept connections"), "{written}");
    Ok(())
}

async fn dataset_is_there(address: SocketAddr) -> anyhow::Result<()> {
    Connection::open(address).await?.command(&["PING"]).await?;
    Ok(())
}

async fn a_job_is_heard_to_its_end_and_ends_with_its_code(ground: &Ground) -> anyhow::Result<()> {
    let image = docker::service_image().await?;
    let script = format!(
        "i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; [ $((i % 10)) -ne 0 ] || echo tenth $i >&2; sleep 0.03; done; exit {CODE}"
    );
    let pod = json!({
        "restartPolicy": "Never",
        "containers": [{
            "name": "job",
            "image": image,
            "imagePullPolicy": "Never",
            "command": ["bash", "-c", script],
            "resources": { "requests": { "cpu": "50m", "memory": "32Mi" } },
        }]
    });
    ground.declare("job", json!({}), pod).await?;
    // What it wrote at a node that it has left before anybody stood in for it would be gone with its container there.
    ground.ready("job").await?;
    ground.migrate("job", "n2").await?;
    ground.migrate("job", "n1").await?;
    let ended = async || {
        let pod = ground.stand_in("job").await?;
        let code = pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64();
        // The pod's own phase is written a moment later.
        ensure!(pod["status"]["phase"] == "Failed", "the pod: {}", pod["status"]);
        code.with_context(|| format!("it has not ended: {}", pod["status"]))
    };
    let code = ground.eventually("the job ends", ended).await?;
    ensure!(code == CODE, "it ended with {code}");
    let written = ground.kubectl(&["logs", "job-stand-in"]).await?;
    let lines: Vec<&str> = written.lines().filter(|line| line.starts_with("line ")).collect();
    let expected: Vec<String> = (1..=LINES).map(|number| format!("line {number}")).collect();
    ensure!(lines == expected, "{} lines of {LINES}:\n{written}", lines.len());
    ensure!(written.lines().filter(|line| line.starts_with("tenth ")).count() == LINES / 10, "{written}");
    let said = async || {
        let phase = ground.kubectl(&["get", "msvc", "job", "-o", "jsonpath={.status.phase}"]).await?;
        ensure!(phase == "Ended", "{phase}");
        Ok(())
    };
    ground.eventually("it is said that it ended", said).await
}

async fn a_stand_in_that_is_lost_is_made_anew(ground: &Ground) -> anyhow::Result<()> {
    let before = ground.stand_in("redis").await?["metadata"]["uid"].clone();
    ground.kubectl(&["delete", "pod", "redis-stand-in"]).await?;
    let another = async || {
        let uid = ground.stand_in("redis").await?["metadata"]["uid"].clone();
        ensure!(uid != before, "it is the same");
        Ok(())
    };
    ground.eventually("another one stands in", another).await?;
    ground.ready("redis").await
}
