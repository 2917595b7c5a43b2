//! Nodes that are pods of a whole cluster: a real service moves between them, and to and from a node outside of the cluster, under
//! load; and what a real cluster refuses is told. They need root and minutes:
//!
//!     cargo test --workspace --test kubernetes_nodes -- --ignored --test-threads=1 --nocapture

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use sterna_e2e::dataset::Dataset;
use sterna_e2e::digest::{self, PORT, Reference};
use sterna_e2e::docker;
use sterna_e2e::inventory::Service;
use sterna_e2e::patience::{eventually, succeeds};
use sterna_e2e::pods::Pods;
use sterna_e2e::process::named;
use sterna_e2e::resp::Connection;
use sterna_e2e::two_nodes::NODES;
use sterna_e2e::writer::Writer;
use tokio::time::Instant;

const KEYS: usize = 20_000;
const NAME: &str = "e2e-nodes";
const NAMESPACE: &str = "edge";
/// What the claim of a node is bound to: a folder of the cluster's node.
const VOLUME: &str = r#"{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "one"}, "spec": {
  "capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
  "hostPath": {"path": "/var/lib/volume", "type": "DirectoryOrCreate"}}}"#;

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

async fn nodes(pods: &Pods) -> anyhow::Result<Vec<Node>> {
    Ok(serde_json::from_value(pods.desk.status("sites").await?.into())?)
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
fn is_within_a_pod(program: &str) -> bool {
    for process in named(program) {
        // Others may end meanwhile.
        let groups = std::fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
        let memory = groups.lines().find(|line| line.contains(":memory:") || line.starts_with("0::/"));
        if memory.is_some_and(|line| line.contains("/kubepods") && line.contains("/docker/")) {
            return true;
        }
    }
    false
}

#[tokio::test]
#[ignore = "a whole cluster takes minutes; see the head of this file"]
async fn redis_goes_from_pod_to_pod_to_a_node_outside_and_back_while_a_client_writes() -> anyhow::Result<()> {
    let image = docker::service_image().await?;
    let command = ["redis-server", "--save", "", "--protected-mode", "no", "--enable-debug-command", "yes"];
    let redis = Service::new("redis", &image, &command).port(PORT).table("n1")?;
    let mut ground = Pods::up(&inventory(&redis)).await?;
    let began = Instant::now();
    let name = ground.load_node_image().await?;
    println!("{name} written, and loaded on both nodes, in {:?}", began.elapsed());
    ground.cluster.apply(VOLUME).await?;
    ground.desk.kubeconfig = ground.rights(NAMESPACE, "act").await?;
    let began = Instant::now();
    ground.desk.must_all(["sites", "up"]).await?;
    println!("nodes up in {:?}", began.elapsed());
    // Again, it changes nothing.
    let before = ground.cluster.kubectl(&["-n", NAMESPACE, "get", "pods", "-o", "name"]).await?;
    ground.desk.must_all(["sites", "up"]).await?;
    ensure!(before == ground.cluster.kubectl(&["-n", NAMESPACE, "get", "pods", "-o", "name"]).await?);

    // All that moves services needs less.
    ground.desk.kubeconfig = ground.rights(NAMESPACE, "observe").await?;
    let all = nodes(&ground).await?;
    ensure!(all.iter().all(|node| node.state == "ready"), "{all:?}");
    let mut addresses = Vec::new();
    for (name, platform, host) in
        [("n1", "kubernetes", Some(NODES[0])), ("n2", "kubernetes", Some(NODES[1])), ("home", "docker", None)]
    {
        let node = all.iter().find(|node| node.node == name).context("a node is missing")?;
        ensure!((node.platform.as_str(), node.host.as_deref()) == (platform, host), "{node:?}");
        let agent: SocketAddr = node.address.as_deref().context("no address")?.parse()?;
        addresses.push(SocketAddr::new(agent.ip(), PORT));
    }
    ground.desk.must_all(["services", "up"]).await?;
    let dataset = Dataset::new(KEYS);
    let answers = async || Ok(Connection::open(addresses[0]).await?);
    succeeds(Duration::from_secs(20), "Redis answers", answers).await?;
    ensure!(is_within_a_pod("redis-server"), "the limits of its pod do not hold for Redis");
    dataset.load(addresses[0]).await?;
    let (run, process, uptime) = life(addresses[0]).await?;
    let began = Instant::now();
    let mut writer = Writer::start(&addresses, dataset);
    for (to, index) in [("n2", 1), ("home", 2), ("n1", 0)] {
        let before = writer.seen().writes;
        let report = ground.desk.migrate("redis", to).await?;
        println!("redis to {to}: downtime {}", report["downtime"]);
        ensure!(ground.desk.runs_on("redis").await? == to);
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
    let held = digest::held(addresses[0]).await?;
    ensure!(held == expected, "Redis holds {held}, the client was told of {expected}");

    ground.desk.kubeconfig = ground.rights(NAMESPACE, "act").await?;
    ground.desk.must_all(["sites", "down"]).await?;
    let left = ground.cluster.kubectl(&["-n", NAMESPACE, "get", "pods,secrets,pvc", "-o", "name"]).await?;
    ensure!(left.is_empty(), "{left}");
    ensure!(docker::left_over(&format!("sterna-{NAME}")).await?.is_empty());
    Ok(())
}

#[tokio::test]
#[ignore = "a whole cluster takes minutes; see the head of this file"]
async fn what_a_whole_cluster_refuses_is_told_and_nothing_is_left() -> anyhow::Result<()> {
    let ground = Pods::up(&inventory("")).await?;
    let kubectl = async |arguments: &[&str]| ground.cluster.kubectl(arguments).await;
    let refused = async |words: &[&str]| -> anyhow::Result<()> {
        let began = Instant::now();
        let finished = ground.desk.about_all(["sites", "up"]).await?;
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
    let all = nodes(&ground).await?;
    ensure!(all.iter().all(|node| node.state == "missing"), "{all:?}");

    let file = ground.desk.inventory();
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replace("memory = \"2GiB\"", "memory = \"20TiB\""))?;
    refused(&["Insufficient memory", "Give the node less"]).await?;
    // Nothing in the cluster provides volumes.
    std::fs::write(&file, text.replace("emptyDir", "1GiB"))?;
    refused(&["unbound immediate PersistentVolumeClaims"]).await?;
    std::fs::write(&file, &text)?;

    kubectl(&["-n", NAMESPACE, "create", "quota", "small", "--hard=requests.cpu=500m"]).await?;
    let hard = ["-n", NAMESPACE, "get", "quota", "small", "-o", "jsonpath={.status.hard}"];
    let counted = async || Ok(!kubectl(&hard).await?.is_empty());
    eventually(Duration::from_secs(30), "somebody counts", counted).await?;
    refused(&["exceeded quota: small", "describe quota"]).await?;
    kubectl(&["-n", NAMESPACE, "delete", "quota", "small"]).await?;
    let label = "pod-security.kubernetes.io/enforce=restricted";
    kubectl(&["label", "namespace", NAMESPACE, label, "--overwrite"]).await?;
    refused(&["violates PodSecurity \"restricted", "pod-security.kubernetes.io/enforce=privileged"]).await?;
    Ok(())
}
