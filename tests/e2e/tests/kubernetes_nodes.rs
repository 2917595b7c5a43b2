//! Nodes that are pods of a whole cluster: a real service moves between them, and to and from a node outside of the cluster, under
//! load; and what a real cluster refuses is told. They need root and minutes:
//!
//!     cargo test --workspace --test kubernetes_nodes -- --ignored --test-threads=1 --nocapture

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use sterna_e2e::dataset::Dataset;
use sterna_e2e::digest::{Digest, PORT, Reference};
use sterna_e2e::docker;
use sterna_e2e::guardian::Guardian;
use sterna_e2e::inventory::Service;
use sterna_e2e::process::Finished;
use sterna_e2e::resp::Connection;
use sterna_e2e::sterna::Sterna;
use sterna_e2e::two_nodes::{NODES, TwoNodes};
use sterna_e2e::writer::Writer;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

const KEYS: usize = 20_000;
const NAME: &str = "e2e-nodes";
const NAMESPACE: &str = "edge";
/// What the claim of a node is bound to: a folder of the cluster's node.
const VOLUME: &str = r#"{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "one"}, "spec": {
  "capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
  "hostPath": {"path": "/var/lib/volume", "type": "DirectoryOrCreate"}}}"#;
/// Where the accounts are that it is run with.
const HOME: &str = "default";

/// Two nodes as pods, one outside of the cluster, and what is put into them.
fn inventory(services: &str) -> String {
    let mut text = format!("schema_version = 1\nname = \"{NAME}\"\n");
    let pod = |node, storage| {
        format!(
            "kubernetes = {{ namespace = \"{NAMESPACE}\", node = \"{node}\", storage = \"{storage}\" }}\n"
        )
    };
    for (site, node, place) in [
        ("a", "n1", pod(NODES[0], "emptyDir")),
        ("b", "n2", pod(NODES[1], "4GiB")),
        ("c", "home", String::new()),
    ] {
        text.push_str(&format!(
            "[[site]]\nname = \"{site}\"\ntier = \"edge\"\nregion = \"eu\"\nprice = {{ node = \"0.1USD/h\" }}\n\
             power = {{ idle = \"5W\", full = \"20W\" }}\n\
             [[site.node]]\nname = \"{node}\"\ncpu = \"1\"\nmemory = \"2GiB\"\n{place}"
        ));
    }
    for [a, b] in [["a", "b"], ["b", "c"], ["a", "c"]] {
        text.push_str(&format!(
            "[[link]]\nbetween = [\"{a}\", \"{b}\"]\nrtt = \"1ms\"\nbandwidth = \"1Gbit/s\"\n"
        ));
    }
    text + services
}

/// A cluster, and a continuum partly in it.
struct Ground {
    // Before the cluster: the node outside goes by `sterna sites down`, which asks the cluster too.
    _guardian: Guardian,
    cluster: TwoNodes,
    sterna: Sterna,
    /// With fewer rights than the administrator's.
    kubeconfig: Option<String>,
    folder: TempDir,
}

impl Ground {
    async fn up(services: &str) -> anyhow::Result<Self> {
        let sterna = Sterna::built()?;
        let cluster = TwoNodes::up().await?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("inventory.toml");
        std::fs::write(&file, inventory(services))?;
        let state = folder.path().join("state");
        let guardian = Guardian::over_with(
            sterna.path(),
            &file,
            &state,
            &folder.path().join("none"),
            &[("KUBECONFIG", cluster.kubeconfig())],
        )?;
        Ok(Self { _guardian: guardian, cluster, sterna, kubeconfig: None, folder })
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        let kubeconfig = self.kubeconfig.as_deref().unwrap_or(self.cluster.kubeconfig());
        self.sterna.run_in(self.folder.path(), &[("KUBECONFIG", kubeconfig)], arguments).await
    }

    /// From now on with no more rights than `sterna rbac` prints.
    async fn with_rights(&mut self, mode: &str) -> anyhow::Result<()> {
        let rbac = ["rbac", "--namespace", HOME, "--account", mode, "--nodes", NAMESPACE, "--mode", mode];
        let file = self.folder.path().join(format!("{mode}.yaml"));
        std::fs::write(&file, self.sterna.must(&rbac).await?)?;
        self.cluster.kubectl(&["apply", "-f", &file.display().to_string()]).await?;
        let token = self.cluster.kubectl(&["-n", HOME, "create", "token", mode]).await?;
        let config = self.folder.path().join(format!("{mode}.kubeconfig"));
        std::fs::copy(self.cluster.kubeconfig(), &config)?;
        let config = config.display().to_string();
        let own = ["config", "--kubeconfig", &config];
        self.cluster
            .kubectl_alone(&[&own[..], &["set-credentials", mode, "--token", &token]].concat())
            .await?;
        self.cluster
            .kubectl_alone(&[&own[..], &["set-context", "--current", "--user", mode]].concat())
            .await?;
        self.kubeconfig = Some(config);
        Ok(())
    }

    async fn must(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let finished = self.run(arguments).await?;
        ensure!(finished.status.success(), "sterna {arguments:?}: {}\n{}", finished.stdout, finished.stderr);
        Ok(finished.stdout)
    }

    async fn sites(&self, what: &str) -> anyhow::Result<Finished> {
        self.run(&["sites", what, "inventory.toml", "--state", "state"]).await
    }

    async fn nodes(&self) -> anyhow::Result<Vec<Node>> {
        let shown =
            self.run(&["sites", "status", "inventory.toml", "--state", "state", "--output", "json"]).await?;
        serde_json::from_str(&shown.stdout).with_context(|| format!("{}{}", shown.stdout, shown.stderr))
    }

    /// Loads the node image on the nodes of the cluster; tells how long that took.
    async fn load(&self) -> anyhow::Result<String> {
        let archive = self.folder.path().join("node.tar");
        let began = Instant::now();
        let name = self.must(&["sites", "image", "--out", "node.tar"]).await?;
        let (written, began) = (began.elapsed(), Instant::now());
        self.cluster.load(&archive).await?;
        let loaded = began.elapsed();
        std::fs::remove_file(archive)?;
        Ok(format!("{} written in {written:?}, loaded on both nodes in {loaded:?}", name.trim()))
    }

    /// Which node runs a service, as all agents say.
    async fn runs_on(&self, service: &str) -> anyhow::Result<String> {
        let shown = self
            .run(&["services", "status", "inventory.toml", "--state", "state", "--output", "json"])
            .await?;
        let rows: Vec<Value> = serde_json::from_str(&shown.stdout)?;
        let running: Vec<_> =
            rows.iter().filter(|row| row["service"] == service && row["running"] == true).collect();
        let [row] = running[..] else { bail!("{service} runs {} times: {}", running.len(), shown.stdout) };
        Ok(row["node"].as_str().context("no node")?.to_owned())
    }
}

#[derive(Debug, Deserialize)]
struct Node {
    node: String,
    platform: String,
    state: String,
    host: Option<String>,
    address: Option<String>,
    #[expect(dead_code, reason = "told when a node is not as it should be")]
    remedy: Option<String>,
    #[expect(dead_code, reason = "as above")]
    notes: Vec<String>,
}

/// What a Redis says of itself that a cold start would change.
async fn life(address: SocketAddr) -> anyhow::Result<(String, String, u64)> {
    let mut redis = Connection::open(address).await?;
    let info = redis.command(&["INFO", "server"]).await?.text().context("no INFO")?;
    let of = |key: &str| {
        let line = info.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':'));
        line.map(str::to_owned).with_context(|| format!("Redis tells no {key}"))
    };
    Ok((of("run_id")?, of("process_id")?, of("uptime_in_seconds")?.parse()?))
}

/// Whether a process of this name is in a service's group that is in that of a pod, so that the pod's limits hold for it.
fn is_within_a_pod(program: &str) -> anyhow::Result<bool> {
    for process in std::fs::read_dir("/proc")? {
        let folder = process?.path();
        // Others may end meanwhile.
        let read = |file| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        if read("comm").trim() != program {
            continue;
        }
        let groups = read("cgroup");
        let memory = groups.lines().find(|line| line.contains(":memory:") || line.starts_with("0::/"));
        if memory.is_some_and(|line| line.contains("/kubepods") && line.contains("/docker/")) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[tokio::test]
#[ignore = "a whole cluster takes minutes; see the head of this file"]
async fn redis_goes_from_pod_to_pod_to_a_node_outside_and_back_while_a_client_writes() -> anyhow::Result<()> {
    let image = docker::service_image().await?;
    let command = ["redis-server", "--save", "", "--protected-mode", "no", "--enable-debug-command", "yes"];
    let redis = Service::new("redis", &image, &command).port(PORT).table("n1")?;
    let mut ground = Ground::up(&redis).await?;
    println!("{}", ground.load().await?);
    let volume = ground.folder.path().join("volume.yaml");
    std::fs::write(&volume, VOLUME)?;
    ground.cluster.kubectl(&["apply", "-f", &volume.display().to_string()]).await?;
    ground.with_rights("act").await?;
    let began = Instant::now();
    ground.must(&["sites", "up", "inventory.toml", "--state", "state"]).await?;
    println!("nodes up in {:?}", began.elapsed());
    // Again, it changes nothing.
    let before = ground.cluster.kubectl(&["-n", NAMESPACE, "get", "pods", "-o", "name"]).await?;
    ground.must(&["sites", "up", "inventory.toml", "--state", "state"]).await?;
    ensure!(before == ground.cluster.kubectl(&["-n", NAMESPACE, "get", "pods", "-o", "name"]).await?);

    // All that moves services needs less.
    ground.with_rights("observe").await?;
    let nodes = ground.nodes().await?;
    ensure!(nodes.iter().all(|node| node.state == "ready"), "{nodes:?}");
    let mut addresses = Vec::new();
    for (name, platform, host) in
        [("n1", "kubernetes", Some(NODES[0])), ("n2", "kubernetes", Some(NODES[1])), ("home", "docker", None)]
    {
        let node = nodes.iter().find(|node| node.node == name).context("a node is missing")?;
        ensure!((node.platform.as_str(), node.host.as_deref()) == (platform, host), "{node:?}");
        let agent: SocketAddr = node.address.as_deref().context("no address")?.parse()?;
        addresses.push(SocketAddr::new(agent.ip(), PORT));
    }
    ground.must(&["services", "up", "inventory.toml", "--state", "state"]).await?;
    let dataset = Dataset::new(KEYS);
    let start = Instant::now();
    while Connection::open(addresses[0]).await.is_err() {
        ensure!(start.elapsed() < Duration::from_secs(20), "Redis does not answer");
        sleep(Duration::from_millis(100)).await;
    }
    ensure!(is_within_a_pod("redis-server")?, "the limits of its pod do not hold for Redis");
    dataset.load(addresses[0]).await?;
    let (run, process, uptime) = life(addresses[0]).await?;
    let began = Instant::now();
    let mut writer = Writer::start(&addresses, dataset);
    for (to, index) in [("n2", 1), ("home", 2), ("n1", 0)] {
        let before = writer.seen().writes;
        let report = ground
            .must(&[
                "migrate",
                "redis",
                "--to",
                to,
                "--inventory",
                "inventory.toml",
                "--state",
                "state",
                "--output",
                "json",
            ])
            .await?;
        let report: Value = serde_json::from_str(&report)?;
        ensure!(report["outcome"]["outcome"] == "moved", "{report}");
        println!("redis to {to}: downtime {}", report["downtime"]);
        ensure!(ground.runs_on("redis").await? == to);
        let goes_on =
            |seen: &sterna_e2e::writer::Seen| seen.served_by == Some(index) && seen.writes > before + 200;
        writer.wait_until(Duration::from_secs(30), goes_on).await?;
        let (now, number, up) = life(addresses[index]).await?;
        ensure!((&now, &number) == (&run, &process), "another process runs on {to}: {now} {number}");
        ensure!(
            up >= uptime + began.elapsed().as_secs().saturating_sub(2),
            "started anew on {to}: up {up} s"
        );
    }
    let (dataset, seen) = writer.stop().await?;
    println!("{} writes acknowledged, longest gap {:?}", seen.writes, seen.longest_gap);
    let expected = Reference::start("sterna-e2e-nodes-reference").await?.digest_of(&dataset).await?;
    let mut redis = Connection::open(addresses[0]).await?;
    let held = redis.command(&["DEBUG", "DIGEST"]).await?.text().context("no digest")?;
    ensure!(Digest::read(&held)? == expected, "Redis holds {held}, the client was told of {expected}");

    ground.with_rights("act").await?;
    ground.must(&["sites", "down", "inventory.toml", "--state", "state"]).await?;
    let left = ground.cluster.kubectl(&["-n", NAMESPACE, "get", "pods,secrets,pvc", "-o", "name"]).await?;
    ensure!(left.is_empty(), "{left}");
    ensure!(docker::left_over(&format!("sterna-{NAME}")).await?.is_empty());
    Ok(())
}

#[tokio::test]
#[ignore = "a whole cluster takes minutes; see the head of this file"]
async fn what_a_whole_cluster_refuses_is_told_and_nothing_is_left() -> anyhow::Result<()> {
    let ground = Ground::up("").await?;
    let kubectl = async |arguments: &[&str]| ground.cluster.kubectl(arguments).await;
    let refused = async |words: &[&str]| -> anyhow::Result<()> {
        let began = Instant::now();
        let finished = ground.sites("up").await?;
        ensure!(!finished.status.success());
        for word in words {
            ensure!(finished.stderr.contains(word), "`{word}` is not said:\n{}", finished.stderr);
        }
        let left = kubectl(&["-n", NAMESPACE, "get", "pods,secrets,pvc", "-o", "name"]).await?;
        ensure!(left.is_empty(), "{left}");
        println!("told in {:?}: {}", began.elapsed(), words[0]);
        Ok(())
    };
    // No node has the image, and nobody asks a registry for it.
    refused(&["is not present with pull policy of Never", "sterna sites image --out"]).await?;
    let nodes = ground.nodes().await?;
    ensure!(nodes.iter().all(|node| node.state == "missing"), "{nodes:?}");

    let file = ground.folder.path().join("inventory.toml");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replace("memory = \"2GiB\"", "memory = \"20TiB\""))?;
    refused(&["Insufficient memory", "Give the node less"]).await?;
    // Nothing in the cluster provides volumes.
    std::fs::write(&file, text.replace("emptyDir", "1GiB"))?;
    refused(&["unbound immediate PersistentVolumeClaims"]).await?;
    std::fs::write(&file, &text)?;

    kubectl(&["-n", NAMESPACE, "create", "quota", "small", "--hard=requests.cpu=500m"]).await?;
    let began = Instant::now();
    while kubectl(&["-n", NAMESPACE, "get", "quota", "small", "-o", "jsonpath={.status.hard}"])
        .await?
        .is_empty()
    {
        ensure!(began.elapsed() < Duration::from_secs(30), "nobody counts");
        sleep(Duration::from_millis(200)).await;
    }
    refused(&["exceeded quota: small", "describe quota"]).await?;
    kubectl(&["-n", NAMESPACE, "delete", "quota", "small"]).await?;
    let label = "pod-security.kubernetes.io/enforce=restricted";
    kubectl(&["label", "namespace", NAMESPACE, label, "--overwrite"]).await?;
    refused(&["violates PodSecurity \"restricted", "pod-security.kubernetes.io/enforce=privileged"]).await?;
    Ok(())
}
