//! Pods of a whole cluster that are deleted in the middle of a move: what is held runs once its source's pod has ended, and a
//! move to a pod that has ended is undone. It needs root and minutes:
//!
//!     cargo test --workspace --test kubernetes_deletion -- --ignored --nocapture

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use sterna_e2e::dataset::Dataset;
use sterna_e2e::desk::Desk;
use sterna_e2e::digest::{self, PORT, Reference, run_id};
use sterna_e2e::docker;
use sterna_e2e::inventory::Service;
use sterna_e2e::patience::{eventually, succeeds};
use sterna_e2e::pods::Pods;
use sterna_e2e::policy::preset;
use sterna_e2e::process::{Running, named, signal};
use sterna_e2e::two_nodes::NODES;
use sterna_e2e::writer::Writer;
use sterna_executor::identity::{Authority, Role};
use sterna_executor::node::api::Arriving;
use sterna_executor::node::client::AgentClient;
use sterna_executor::platform::agent::AGENT_PORT;
use tokio::time::{Instant, sleep};

const KEYS: usize = 50_000;
const NAME: &str = "e2e-deletion";
const NAMESPACE: &str = "edge";
const SERVICE: &str = "redis";
const SOON: Duration = Duration::from_secs(120);

/// A node as a pod on each node of the cluster.
fn inventory(services: &str) -> String {
    let mut text = format!("schema_version = 1\nname = \"{NAME}\"\n");
    for (site, node, on) in [("a", "n1", NODES[0]), ("b", "n2", NODES[1])] {
        text.push_str(&format!(
            "[[site]]\nname = \"{site}\"\ntier = \"edge\"\nregion = \"eu\"\nprice = {{ node = \"0.1USD/h\" }}\n\
             power = {{ idle = \"5W\", full = \"20W\" }}\n\
             [[site.node]]\nname = \"{node}\"\ncpu = \"1\"\nmemory = \"2GiB\"\n\
             kubernetes = {{ namespace = \"{NAMESPACE}\", node = \"{on}\" }}\n"
        ));
    }
    text + "[[link]]\nbetween = [\"a\", \"b\"]\nrtt = \"1ms\"\nbandwidth = \"1Gbit/s\"\n" + services
}

struct Ground {
    pods: Pods,
    /// The kubeconfig of those who look on.
    observer: String,
}

impl Ground {
    /// Starts a command in the background, with no more rights than those who look on have.
    fn start(&self, arguments: &[&str], into: Option<&PathBuf>) -> anyhow::Result<Running> {
        let mut command = self.pods.desk.command();
        command.args(arguments).env("STERNA_LOG", "warn").env("KUBECONFIG", &self.observer);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(path) = into {
            let file = std::fs::File::create(path)?;
            command.stdout(file.try_clone()?).stderr(file);
        }
        Ok(Running::start(&mut command)?)
    }

    async fn pod(&self, node: &str, what: &str) -> anyhow::Result<String> {
        let (name, path) = (format!("sterna-{NAME}-{node}"), format!("jsonpath={{{what}}}"));
        self.pods.cluster.kubectl(&["-n", NAMESPACE, "get", "pod", &name, "-o", &path]).await
    }

    async fn address(&self, node: &str) -> anyhow::Result<SocketAddr> {
        Ok(SocketAddr::new(self.pod(node, ".status.podIP").await?.parse()?, PORT))
    }

    /// Processes of that name in the pod of a node.
    async fn processes(&self, node: &str, name: &str) -> anyhow::Result<Vec<u32>> {
        Ok(processes(&self.pod(node, ".metadata.uid").await?, name))
    }

    /// Has Redis move, and stops its source's agent while it is restored at its destination. Gives the command, which goes on beside us,
    /// and the agent.
    async fn held(&self, from: &str, to: &str) -> anyhow::Result<(Running, u32)> {
        let agent = *self.processes(from, "sterna").await?.first().context("no agent")?;
        let there = self.pod(to, ".metadata.uid").await?;
        let order = Desk::migration(SERVICE, to);
        // The trial before it is over by then.
        let judged = self.pods.desk.run(&[&order[..], &["--dry-run"]].concat()).await?;
        ensure!(judged.status.code() == Some(2), "{}{}", judged.stdout, judged.stderr);
        let moving = self.start(&order, None)?;
        let began = Instant::now();
        // CRIU is asked for its version before that.
        let destination = self.agent(to).await?;
        while arriving(&destination).await?.is_none() {
            ensure!(began.elapsed() < SOON, "nothing is reserved on {to}");
            sleep(Duration::from_millis(5)).await;
        }
        while processes(&there, "criu").is_empty() {
            ensure!(began.elapsed() < SOON, "nothing is restored on {to}");
            sleep(Duration::from_millis(1)).await;
        }
        signal("-STOP", agent)?;
        // The restore ends without it.
        let stands = async || Ok(arriving(&destination).await?.is_some_and(|one| one.standing));
        eventually(SOON, &format!("it stands held on {to}"), stands).await?;
        Ok((moving, agent))
    }

    async fn agent(&self, node: &str) -> anyhow::Result<AgentClient> {
        let authority = Authority::open(&self.pods.desk.state().join(NAME).join("authority"))?;
        let address = SocketAddr::new(self.address(node).await?.ip(), AGENT_PORT).to_string();
        Ok(AgentClient::new(&authority.issue(&Role::Scheduler)?, &node.into(), &address).await?)
    }

    /// Waits until the pod of a node is on its way out, and then ends its agent, which hangs: all else is its own affair.
    async fn is_leaving(&self, node: &str, agent: u32) -> anyhow::Result<()> {
        let deleted = async || Ok(!self.pod(node, ".metadata.deletionTimestamp").await?.is_empty());
        eventually(SOON, &format!("{node} is deleted"), deleted).await?;
        sleep(Duration::from_secs(3)).await;
        signal("-KILL", agent)
    }
}

/// What an agent says of Redis on its way there.
async fn arriving(agent: &AgentClient) -> anyhow::Result<Option<Arriving>> {
    Ok(agent.coming_in().await?.into_iter().find(|one| one.order.service.as_str() == SERVICE))
}

/// Processes of that name in the pod of that UID.
fn processes(uid: &str, name: &str) -> Vec<u32> {
    let within = |process: &u32| {
        std::fs::read_to_string(format!("/proc/{process}/cgroup")).is_ok_and(|groups| groups.contains(uid))
    };
    named(name).filter(within).collect()
}

/// Stops the client, and compares what it was told with what Redis holds. Gives what it had written, and the next write's number.
async fn compare(writer: Writer, address: SocketAddr, first: u64) -> anyhow::Result<(Dataset, u64)> {
    let (dataset, seen) = writer.stop().await?;
    let expected = Reference::start("sterna-e2e-deletion-reference").await?.digest_of(&dataset).await?;
    let held = digest::held(address).await?;
    if held != expected {
        let differences = dataset.differences(address, 5).await?;
        bail!("Redis holds {held}, the client was told of {expected}:\n{}", differences.join("\n"));
    }
    Ok((dataset, first + seen.writes))
}

#[tokio::test]
#[ignore = "a whole cluster takes minutes; see the head of this file"]
async fn pods_deleted_in_the_middle_of_a_move_lose_nothing_that_was_acknowledged() -> anyhow::Result<()> {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let image = docker::service_image().await?;
    let command = ["redis-server", "--save", "", "--protected-mode", "no", "--enable-debug-command", "yes"];
    let redis = Service::new(SERVICE, &image, &command).port(PORT).table("n1")?;
    let pods = Pods::up(&inventory(&redis)).await?;
    pods.load_node_image().await?;
    pods.desk.must_all(["sites", "up"]).await?;
    pods.desk.must_all(["services", "up"]).await?;
    let ground = Ground { observer: pods.rights(NAMESPACE, "observe").await?, pods };
    let (cluster, desk) = (&ground.pods.cluster, &ground.pods.desk);
    let (n1, n2) = (ground.address("n1").await?, ground.address("n2").await?);
    let dataset = Dataset::new(KEYS);
    succeeds(SOON, "Redis answers", async || dataset.load(n1).await).await?;
    let run = run_id(n1).await?;

    let policy = preset("latency-first", &[("mode", "observe"), ("trigger.interval", "2s")])?;
    std::fs::write(desk.file("policy.toml"), policy)?;
    let settings = "inventory = \"inventory.toml\"\npolicy = \"policy.toml\"\nstate = \"state\"\nlisten = \"127.0.0.1:0\"\n\
                    [prometheus]\nurl = \"http://127.0.0.1:9\"\n";
    std::fs::write(desk.file("sterna.toml"), settings)?;
    let log = desk.file("run.log");
    let _scheduler = ground.start(&["run", "--config", "sterna.toml"], Some(&log))?;
    let read = || std::fs::read_to_string(&log);
    let says = async |words: &str| {
        let said = eventually(SOON, words, async || Ok(read()?.contains(words))).await;
        said.with_context(|| read().unwrap_or_default())
    };
    says("serving").await?;

    // Deleted by somebody.
    let mut writer = Writer::start(&[n1, n2], dataset);
    writer.wait_until(SOON, |seen| seen.writes > 500).await?;
    let (_moving, agent) = ground.held("n1", "n2").await?;
    let pod = format!("sterna-{NAME}-n1");
    cluster.kubectl(&["-n", NAMESPACE, "delete", "pod", &pod, "--wait=false"]).await?;
    ground.is_leaving("n1", agent).await?;
    says("promoted at `n2`").await?;
    let before = writer.seen().writes;
    writer.wait_until(SOON, |seen| seen.served_by == Some(1) && seen.writes > before + 500).await?;
    ensure!(run_id(n2).await? == run, "it was started anew");
    println!("deleted: {:?}", writer.seen());
    let (dataset, next) = compare(writer, n2, 1).await?;

    // Drained with its node of the cluster.
    desk.must_all(["sites", "up"]).await?;
    let n1 = ground.address("n1").await?;
    let mut writer = Writer::go_on(&[n1, n2], dataset, next);
    writer.wait_until(SOON, |seen| seen.writes > 500).await?;
    let (_moving, agent) = ground.held("n2", "n1").await?;
    let drain =
        ["drain", NODES[1], "--force", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s"];
    let (drained, left) = tokio::join!(cluster.kubectl(&drain), ground.is_leaving("n2", agent));
    left?;
    println!("{}", drained?);
    says("promoted at `n1`").await?;
    let before = writer.seen().writes;
    writer.wait_until(SOON, |seen| seen.served_by == Some(0) && seen.writes > before + 500).await?;
    ensure!(run_id(n1).await? == run, "it was started anew");
    println!("drained: {:?}", writer.seen());
    let (dataset, next) = compare(writer, n1, next).await?;
    cluster.kubectl(&["uncordon", NODES[1]]).await?;

    // The destination's: it is undone.
    desk.must_all(["sites", "up"]).await?;
    let n2 = ground.address("n2").await?;
    let mut writer = Writer::go_on(&[n1, n2], dataset, next);
    writer.wait_until(SOON, |seen| seen.writes > 500).await?;
    let (_moving, agent) = ground.held("n1", "n2").await?;
    let pod = format!("sterna-{NAME}-n2");
    cluster.kubectl(&["-n", NAMESPACE, "delete", "pod", &pod]).await?;
    signal("-CONT", agent)?;
    let before = writer.seen().writes;
    writer.wait_until(SOON, |seen| seen.served_by == Some(0) && seen.writes > before + 500).await?;
    ensure!(run_id(n1).await? == run, "it was started anew");
    println!("destination deleted: {:?}", writer.seen());
    compare(writer, n1, next).await?;
    println!("{:?}", desk.status("sites").await);

    desk.must_all(["sites", "down"]).await?;
    let left = cluster.kubectl(&["-n", NAMESPACE, "get", "pods,secrets", "-o", "name"]).await?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}
