//! A pod that has ended is proof that its node is gone, and a pod that is merely absent is not: against a real API server without
//! nodes of its own, with real nodes whose agents believe that they run in pods. The test says what a kubelet would.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde::Deserialize as _;
use serde_json::{Value, json};
use sterna_e2e::continuum::Continuum;
use sterna_e2e::dataset::Dataset;
use sterna_e2e::digest::{self, PORT, Reference, run_id};
use sterna_e2e::docker::{self, docker};
use sterna_e2e::inventory::Service;
use sterna_e2e::namespace;
use sterna_e2e::node_process::{self, Agent};
use sterna_e2e::patience::eventually;
use sterna_e2e::policy::preset;
use sterna_e2e::process::Running;
use sterna_e2e::writer::{Seen, Writer};
use sterna_executor::identity::{Authority, Role};
use sterna_executor::migration::holding::Holding;
use sterna_executor::node::api::Arriving;
use sterna_executor::node::client::AgentClient;
use sterna_executor::platform::agent::AGENT_PORT;
use tokio::time::{Instant, sleep};

const NAME: &str = "e2e-fencing";
const SERVICE: &str = "redis";
const NODES: [&str; 2] = ["a1", "b1"];
const KEYS: usize = 50_000;
const SOON: Duration = Duration::from_secs(30);
const POD: &str = "sterna-e2e-fencing-a1";

/// Two nodes; `place` is where the first one is.
fn inventory(place: &str, services: &str) -> String {
    let mut text = format!("schema_version = 1\nname = \"{NAME}\"\n");
    for (site, node, place) in [("a", NODES[0], place), ("b", NODES[1], "")] {
        text.push_str(&format!(
            "[[site]]\nname = \"{site}\"\ntier = \"edge\"\nregion = \"eu\"\nprice = {{ node = \"0.1USD/h\" }}\n\
             power = {{ idle = \"5W\", full = \"20W\" }}\n\
             [[site.node]]\nname = \"{node}\"\ncpu = \"2\"\nmemory = \"4GiB\"\n{place}"
        ));
    }
    text + "[[link]]\nbetween = [\"a\", \"b\"]\nrtt = \"1ms\"\nbandwidth = \"1Gbit/s\"\n" + services
}

/// Two local nodes, and an API server that is told of a pod for the first.
struct Ground {
    continuum: Continuum,
    server: namespace::Ground,
    /// The inventory in which the first node is a pod.
    as_pod: PathBuf,
    b1: AgentClient,
    a1: AgentClient,
    addresses: Vec<SocketAddr>,
}

impl Ground {
    async fn up() -> anyhow::Result<Self> {
        let server = namespace::Ground::up().await?;
        let image = docker::service_image().await?;
        let command =
            ["redis-server", "--save", "", "--protected-mode", "no", "--enable-debug-command", "yes"];
        let redis = Service::new(SERVICE, &image, &command).port(PORT).table(NODES[0])?;
        let continuum = Continuum::up(&server.sterna, &inventory("", &redis)).await?;
        continuum.services_up().await?;
        let as_pod = continuum.folder().join("as-pod.toml");
        let place = format!("kubernetes = {{ namespace = \"{}\" }}\n", server.namespace);
        std::fs::write(&as_pod, inventory(&place, &redis))?;
        let authority = Authority::open(&continuum.state().join(NAME).join("authority"))?;
        let credentials = authority.issue(&Role::Scheduler)?;
        let mut agents = Vec::new();
        for node in NODES {
            let address = SocketAddr::new(continuum.address(node).await?, AGENT_PORT).to_string();
            agents.push(AgentClient::new(&credentials, &node.into(), &address).await?);
        }
        let (b1, a1) = (agents.pop().context("no agent")?, agents.pop().context("no agent")?);
        let addresses = continuum.addresses(PORT).await?;
        Ok(Self { continuum, server, as_pod, b1, a1, addresses })
    }

    fn pods(&self) -> Api<Pod> {
        self.server.api()
    }

    /// Makes the pod of the first node, running, and has its agent know of it.
    async fn make_pod(&self) -> anyhow::Result<()> {
        let pod = json!({
            "metadata": { "name": POD, "labels": { "sterna.continuum": NAME, "sterna.node": NODES[0] } },
            "spec": {
                // On some node of the cluster, so that it is deleted as pods are that run.
                "nodeName": "worker", "restartPolicy": "Always",
                "containers": [{ "name": "node", "image": "i" }],
                "volumes": [{ "name": "engine", "emptyDir": {} }, { "name": "state", "emptyDir": {} }] },
        });
        let pod = self.pods().create(&PostParams::default(), &Pod::deserialize(pod)?).await?;
        let uid = pod.metadata.uid.context("a pod without a UID")?;
        let address = self.continuum.address(NODES[0]).await?;
        let running = json!({ "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
            "containerStatuses": [container(&json!({ "running": {} }))] });
        self.say(&running).await?;
        let told = format!(
            "sed -i '/^pod = /d' /etc/sterna/agent.toml; echo 'pod = \"{uid}\"' >>/etc/sterna/agent.toml; pkill -TERM -x sterna"
        );
        docker(&["exec", &self.continuum.container(NODES[0]), "sh", "-c", &told]).await?;
        // It is started again after a second.
        sleep(Duration::from_millis(900)).await;
        eventually(SOON, "the agent comes back", async || Ok(self.a1.facts().await.is_ok())).await
    }

    /// What a kubelet says of the pod.
    async fn say(&self, status: &Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({ "status": status }));
        self.pods().patch_status(POD, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Ends the node as a pod ends: all that runs in it first, whatever it does.
    async fn end_node(&self) -> anyhow::Result<()> {
        let container = self.continuum.container(NODES[0]);
        docker(&["exec", &container, "/usr/lib/sterna/boot", "thaw"]).await?;
        docker(&["rm", "--force", &container]).await?;
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = self.server.sterna.command();
        command.args(arguments).env("KUBECONFIG", self.server.cluster.kubeconfig()).env("STERNA_LOG", "warn");
        command
    }

    /// Starts `sterna run`, which prints into that file.
    fn run(&self, into: &Path) -> anyhow::Result<Running> {
        let folder = self.continuum.folder();
        std::fs::write(
            folder.join("policy.toml"),
            preset("latency-first", &[("mode", "observe"), ("trigger.interval", "1s")])?,
        )?;
        let settings = format!(
            "inventory = \"as-pod.toml\"\npolicy = \"policy.toml\"\nstate = \"{}\"\nlisten = \"127.0.0.1:0\"\n\
             [prometheus]\nurl = \"http://127.0.0.1:9\"\n",
            self.continuum.state().display()
        );
        let config = folder.join("sterna.toml");
        std::fs::write(&config, settings)?;
        let out = std::fs::File::create(into)?;
        let mut command = self.command(&["run", "--config", &config.display().to_string()]);
        command.stdout(out.try_clone()?).stderr(out);
        Ok(Running::start(&mut command)?)
    }

    /// Has Redis move from the first node to the second, and stops the first one's agent while it is restored there. The command
    /// goes on beside us.
    async fn held(&self) -> anyhow::Result<(Running, Arriving)> {
        let agent = Agent::of(&self.continuum.container(NODES[0])).await?;
        let (inventory, state) =
            (self.as_pod.display().to_string(), self.continuum.state().display().to_string());
        let migrate = ["migrate", SERVICE, "--to", NODES[1], "--inventory", &inventory, "--state", &state];
        let mut command = self.command(&migrate);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let moving = Running::start(&mut command)?;
        // The trial before goes by another name.
        eventually(SOON, "it is reserved", async || Ok(self.arriving().await?.is_some())).await?;
        node_process::runs("criu", &self.continuum.container(NODES[1]), SOON).await?;
        agent.suspend()?;
        eventually(SOON, "it stands held", async || {
            Ok(self.arriving().await?.is_some_and(|one| one.standing))
        })
        .await?;
        let held = self.arriving().await?.context("it is gone again")?;
        ensure!(held.holding == Holding::Held, "too late: {held:?}");
        Ok((moving, held))
    }

    /// What the second node's agent says of Redis on its way there.
    async fn arriving(&self) -> anyhow::Result<Option<Arriving>> {
        let all = self.b1.coming_in().await?;
        Ok(all.into_iter().find(|one| one.order.service.as_str() == SERVICE))
    }

    async fn down(self) -> anyhow::Result<()> {
        self.server.down().await?;
        self.continuum.down().await
    }
}

fn container(state: &Value) -> Value {
    json!({ "name": "node", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state })
}

async fn epoch(agent: &AgentClient) -> anyhow::Result<u64> {
    let all = agent.services().await?;
    let one = all.iter().find(|one| one.service.as_str() == SERVICE && one.running);
    Ok(one.context("it does not run there")?.epoch)
}

#[tokio::test]
async fn what_is_held_runs_once_the_pod_of_its_source_has_ended_and_not_when_it_is_merely_gone()
-> anyhow::Result<()> {
    let ground = Ground::up().await?;
    ground.make_pod().await?;
    let dataset = Dataset::new(KEYS);
    let start = ground.addresses[0];
    eventually(SOON, "Redis answers", async || Ok(dataset.load(start).await.is_ok())).await?;
    let run = run_id(ground.addresses[0]).await?;
    let mut writer = Writer::start(&ground.addresses, dataset);
    let said = ground.continuum.folder().join("run.log");
    let _scheduler = ground.run(&said)?;
    let says = async |words: &str| {
        eventually(SOON, words, async || Ok(std::fs::read_to_string(&said)?.contains(words))).await
    };
    says("serving").await?;
    let serves = |place: usize, before: u64| {
        move |seen: &Seen| seen.served_by == Some(place) && seen.writes > before + 200
    };

    // Deleted by force, it may run on, as this one does.
    let (mut moving, _) = ground.held().await?;
    ground.pods().delete(POD, &DeleteParams::default().grace_period(0)).await?;
    sleep(Duration::from_secs(4)).await;
    let held = ground.arriving().await?.context("it is gone")?;
    ensure!(held.holding == Holding::Held, "{held:?}");
    ensure!(!std::fs::read_to_string(&said)?.contains("is gone"), "it is said to be gone");
    Agent::of(&ground.continuum.container(NODES[0])).await?.resume()?;
    let before = writer.seen().writes;
    writer.wait_until(SOON, |seen| seen.writes > before + 200).await?;
    let _status = moving.child().wait().await?;

    // Back, if it went, to a pod of another UID.
    if ground.continuum.runs_on(SERVICE).await? == Some(NODES[1]) {
        ground.continuum.migrate(SERVICE, NODES[0]).await?;
    }
    ground.make_pod().await?;
    let before = writer.seen().writes;
    writer.wait_until(SOON, serves(0, before)).await?;
    let at = epoch(&ground.a1).await?;

    // Deleted in order, it ends before it is gone.
    let (_moving, held) = ground.held().await?;
    ensure!(held.epoch == at, "{held:?}");
    ground.pods().delete(POD, &DeleteParams::default()).await?;
    ground.end_node().await?;
    let ended = json!({ "terminated": { "exitCode": 0, "reason": "Completed", "containerID": "containerd://1",
        "finishedAt": jiff::Timestamp::now().strftime("%FT%TZ").to_string() } });
    ground.say(&json!({ "phase": "Succeeded", "containerStatuses": [container(&ended)] })).await?;
    let gone = Instant::now();
    ground.pods().delete(POD, &DeleteParams::default().grace_period(0)).await?;
    says("promoted at `b1`").await?;
    println!("promoted after {:?}", gone.elapsed());
    let before = writer.seen().writes;
    writer.wait_until(SOON, serves(1, before)).await?;
    ensure!(epoch(&ground.b1).await? == at + 1, "epoch {} after {at}", epoch(&ground.b1).await?);
    ensure!(run_id(ground.addresses[1]).await? == run, "it was started anew");

    let (dataset, seen) = writer.stop().await?;
    println!("{} writes acknowledged, longest gap {:?}", seen.writes, seen.longest_gap);
    let expected = Reference::start("sterna-e2e-fencing-reference").await?.digest_of(&dataset).await?;
    let found = digest::held(ground.addresses[1]).await?;
    if found != expected {
        let differences = dataset.differences(ground.addresses[1], 5).await?;
        bail!("Redis holds {found}, the client was told of {expected}:\n{}", differences.join("\n"));
    }
    let log = std::fs::read_to_string(&said)?;
    ensure!(log.contains("node `a1` is gone: pod "), "{log}");
    ground.down().await
}
