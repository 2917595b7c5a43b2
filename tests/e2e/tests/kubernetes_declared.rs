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
use sterna_e2e::dataset::Dataset;
use sterna_e2e::digest::{Digest, PORT, Reference};
use sterna_e2e::docker;
use sterna_e2e::guardian::Guardian;
use sterna_e2e::process::Running;
use sterna_e2e::resp::Connection;
use sterna_e2e::sterna::Sterna;
use sterna_e2e::two_nodes::{NODES, TwoNodes};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

#[path = "kubernetes_service/clients.rs"]
#[expect(dead_code, reason = "other tests have more kinds of clients")]
mod clients;

use clients::{Clients, Seen};

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
    _guardian: Guardian,
    cluster: TwoNodes,
    sterna: Sterna,
    folder: TempDir,
}

impl Ground {
    async fn up() -> anyhow::Result<Self> {
        let sterna = Sterna::built()?;
        let cluster = TwoNodes::up().await?;
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("inventory.toml"), inventory())?;
        std::fs::write(at("policy.toml"), POLICY)?;
        let (file, state) = (at("inventory.toml"), at("state"));
        let environment = [("KUBECONFIG", cluster.kubeconfig())];
        let guardian = Guardian::over_with(sterna.path(), &file, &state, &at("none"), &environment)?;
        let must = async |arguments: &[&str]| {
            let finished = sterna.run_in(folder.path(), &environment, arguments).await?;
            ensure!(
                finished.status.success(),
                "sterna {arguments:?}: {}\n{}",
                finished.stdout,
                finished.stderr
            );
            anyhow::Ok(finished.stdout)
        };
        let image = must(&["sites", "image", "--out", "node.tar"]).await?.trim().to_owned();
        cluster.load(&at("node.tar")).await?;
        std::fs::remove_file(at("node.tar"))?;
        must(&["sites", "up", "inventory.toml", "--state", "state"]).await?;
        let services = docker::service_image().await?;
        must(&["services", "load", "inventory.toml", &services, "--state", "state"]).await?;
        cluster.kubectl(&["create", "namespace", APPS]).await?;
        let label = "pod-security.kubernetes.io/enforce=restricted";
        cluster.kubectl(&["label", "namespace", APPS, label]).await?;
        std::fs::write(at("crd.yaml"), must(&["crd", "services"]).await?)?;
        cluster.kubectl(&["apply", "-f", &at("crd.yaml").display().to_string()]).await?;
        cluster
            .kubectl(&["wait", "--for", "condition=established", "crd/migratableservices.sterna.io"])
            .await?;
        let settings = format!(
            "inventory = \"inventory.toml\"\npolicy = \"policy.toml\"\nstate = \"state\"\nlisten = \"127.0.0.1:0\"\n\
             [kubernetes]\nservices = \"{APPS}\"\nstand_in_image = \"{image}\"\n"
        );
        std::fs::write(at("sterna.toml"), settings)?;
        let mut command = sterna.command();
        command.current_dir(folder.path()).env("KUBECONFIG", cluster.kubeconfig()).env("STERNA_LOG", "warn");
        command.args(["run", "--config", "sterna.toml"]);
        let log = std::fs::File::create(at("log"))?;
        command.stdout(log.try_clone()?).stderr(Stdio::from(log));
        let scheduler = Running::start(&mut command)?;
        Ok(Self { scheduler, _guardian: guardian, cluster, sterna, folder })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.cluster.kubectl(&[&["-n", APPS], arguments].concat()).await
    }

    async fn apply(&self, object: &Value) -> anyhow::Result<()> {
        let file = self.folder.path().join("object.json");
        std::fs::write(&file, object.to_string())?;
        self.kubectl(&["apply", "-f", &file.display().to_string()]).await.map(drop)
    }

    /// Declares a service with this pod.
    async fn declare(&self, name: &str, protocols: Value, pod: Value) -> anyhow::Result<()> {
        let template = json!({ "metadata": { "labels": { "app": name } }, "spec": pod });
        self.apply(&json!({
            "apiVersion": "sterna.io/v1alpha1",
            "kind": "MigratableService",
            "metadata": { "name": name },
            "spec": { "on": "n1", "protocols": protocols, "template": template },
        }))
        .await
    }

    async fn stand_in(&self, name: &str) -> anyhow::Result<Value> {
        let pod = self.kubectl(&["get", "pod", &format!("{name}-stand-in"), "--output", "json"]).await?;
        Ok(serde_json::from_str(&pod)?)
    }

    /// Moves a service.
    async fn migrate(&self, service: &str, to: &str) -> anyhow::Result<()> {
        let order = ["migrate", service, "--to", to, "--inventory", "inventory.toml", "--state", "state"];
        let environment = [("KUBECONFIG", self.cluster.kubeconfig())];
        let arguments = [&order[..], &["--output", "json"]].concat();
        let finished = self.sterna.run_in(self.folder.path(), &environment, &arguments).await?;
        ensure!(finished.status.success(), "{}\n{}", finished.stdout, finished.stderr);
        let report: Value = serde_json::from_str(&finished.stdout)?;
        ensure!(report["outcome"]["outcome"] == "moved", "{report}");
        println!("{service} to {to}: downtime {}", report["downtime"]);
        // Clients go on there before it leaves again.
        sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    async fn eventually<T>(&self, what: &str, so: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let began = Instant::now();
        loop {
            match so().await {
                Err(error) if began.elapsed() > SOON => {
                    let objects = self.kubectl(&["get", "msvc,pods", "-o", "wide"]).await.unwrap_or_default();
                    let told = self.kubectl(&["describe", "msvc,pods"]).await.unwrap_or_default();
                    return Err(error.context(format!("{what}\n{objects}\n{told}\n{}", self.log())));
                }
                Err(_) => sleep(Duration::from_millis(200)).await,
                Ok(value) => return Ok(value),
            }
        }
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

fn told(what: &str, seen: &Seen) -> anyhow::Result<()> {
    let Seen { requests, failed, closed, longest, first } = seen;
    println!(
        "{what}: {requests} requests, {failed} failed, longest wait {longest:?}, connections closed {closed:?}"
    );
    ensure!(*failed == 0, "{what}: {failed} of {requests} requests failed, the first with: {first:?}");
    Ok(())
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
        "metadata": { "name": "cache" },
        "spec": { "selector": { "app": "redis" }, "ports": [{ "port": PORT, "targetPort": "redis" }] },
    });
    ground.apply(&service).await?;
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
    told("redis", &seen)?;
    for (index, write) in known.into_iter().flatten() {
        dataset.acknowledged(index, write);
    }
    let expected = Reference::start("sterna-e2e-standing-reference").await?.digest_of(&dataset).await?;
    let held = Connection::open(address).await?.command(&["DEBUG", "DIGEST"]).await?;
    let held = held.text().context("no digest")?;
    ensure!(Digest::read(&held)? == expected, "Redis holds {held}, clients were told of {expected:?}");
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
