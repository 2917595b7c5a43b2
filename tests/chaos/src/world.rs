//! What the faults strike: three nodes with small disks of their own, the two services, and those who watch them from outside.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use sterna_e2e::continuum::Continuum;
use sterna_e2e::dataset::Dataset;
use sterna_e2e::digest::PORT;
use sterna_e2e::resp::Connection;
use sterna_e2e::sterna::Sterna;
use sterna_e2e::writer::Writer;
use sterna_executor::identity::{Authority, Credentials, Role};
use sterna_executor::node::client::AgentClient;
use sterna_executor::platform::agent::AGENT_PORT;
use tokio::time::sleep;

use crate::disk::Disks;
use crate::home::Ground;
use crate::injection::Service;
use crate::node::{Holds, Node};
use crate::register::Register;
use crate::token::{self, Receiver};

/// Nodes, each at a site of its own.
pub const NODES: [&str; 3] = ["a", "b", "c"];
/// Keys of the Redis.
const KEYS: usize = 500;
/// Time for engines and agents to accept calls again after they were killed.
const TO_BE_READY: Duration = Duration::from_secs(30);
/// Migrations that are read back from a register.
pub const RECENT: u32 = 12;

/// The client of the Redis, and what it was told is safe.
#[derive(Debug)]
pub struct Client {
    writer: Option<Writer>,
    dataset: Dataset,
    next: u64,
}

/// All of it. Dropped, it is taken down.
#[derive(Debug)]
pub struct World {
    /// The binary with fault points.
    pub sterna: Sterna,
    /// The nodes' continuum.
    pub continuum: Continuum,
    /// The nodes, in the order of [`NODES`].
    pub nodes: Vec<Node>,
    /// Where tokens arrive.
    pub tokens: Receiver,
    /// What the nodes are made on.
    pub ground: Ground,
    /// Whose each address was last.
    addresses: HashMap<IpAddr, String>,
    /// The inventory's `[[service]]` tables.
    services: String,
    client: Client,
    scheduler: Credentials,
    _disks: Disks,
}

impl World {
    /// Brings it up, and moves each service round once, so that every node has the image.
    ///
    /// # Errors
    /// When anything of that fails.
    pub async fn up(binary: &Path, name: &str, ground: &Ground) -> anyhow::Result<Self> {
        let sterna = ground.asked_by(Sterna::at(binary));
        let mut disks = None;
        let prepare = async |name: &str| {
            disks = Some(ground.disks(name, &NODES).await?);
            Ok(())
        };
        let bare = inventory(name, ground, None);
        let continuum = Continuum::up_on(&sterna, &bare, prepare).await?;
        let disks = disks.context("the nodes have no disks")?;
        let mut nodes = Vec::new();
        for node in NODES {
            nodes.push(Node::find(node, ground.home(continuum.container(node))).await?);
        }
        let tokens = Receiver::open(ground.host(name).await?).await?;
        let services = [token::service(tokens.address(), NODES[0]), redis(NODES[0])].concat();
        std::fs::write(continuum.file(), bare + &services)?;
        let ready = async || nodes.iter().all(Node::is_ready);
        until(TO_BE_READY, "the agents run again", ready).await?;
        continuum.services_up().await?;
        let authority = Authority::open(&continuum.state().join(name).join("authority"))?;
        let scheduler = authority.issue(&Role::Scheduler)?;
        let dataset = Dataset::new(KEYS);
        let client = Client { writer: None, dataset, next: 1 };
        let (ground, addresses) = (ground.clone(), HashMap::new());
        let mut world = Self {
            sterna,
            continuum,
            nodes,
            tokens,
            ground,
            addresses,
            services,
            client,
            scheduler,
            _disks: disks,
        };
        world.note_addresses();
        let first = SocketAddr::new(world.nodes[0].address, PORT);
        until(Duration::from_secs(30), "the Redis answers", async || Connection::open(first).await.is_ok())
            .await?;
        world.client.dataset.load(first).await?;
        for to in [NODES[1], NODES[2], NODES[0]] {
            for service in Service::ALL {
                let mut command =
                    world.migrate(service, to, Duration::from_secs(120), Duration::from_secs(30));
                let output = command.output().await?;
                let said = String::from_utf8_lossy(&output.stderr);
                ensure!(
                    output.status.success(),
                    "{} can't be moved to {to}: {}",
                    service.name(),
                    said.trim()
                );
            }
        }
        world.write();
        Ok(world)
    }

    /// The node of this name.
    ///
    /// # Panics
    /// Never: names are those of [`NODES`].
    pub fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).unwrap_or(&self.nodes[0])
    }

    /// As [`World::node`], to be changed.
    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        let at = self.nodes.iter().position(|node| node.name == name).unwrap_or(0);
        &mut self.nodes[at]
    }

    /// The node that has this address, or had it last.
    pub fn at(&self, address: IpAddr) -> Option<&str> {
        self.addresses.get(&address).map(String::as_str)
    }

    /// Takes note of the nodes' addresses, and tells them to the client.
    fn note_addresses(&mut self) {
        self.addresses.extend(self.nodes.iter().map(|node| (node.address, node.name.clone())));
        if let Some(writer) = &self.client.writer {
            writer.look_at(&self.ports());
        }
    }

    /// Where the Redis may answer.
    fn ports(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| SocketAddr::new(node.address, PORT)).collect()
    }

    /// Makes nodes anew that are gone.
    ///
    /// # Errors
    /// When they do not come up.
    pub async fn up_again(&mut self) -> anyhow::Result<()> {
        self.continuum.up_again().await?;
        for node in &mut self.nodes {
            node.look().await?;
        }
        self.note_addresses();
        Ok(())
    }

    /// Starts a node that was killed.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn start(&mut self, name: &str) -> anyhow::Result<()> {
        self.node_mut(name).start().await?;
        self.note_addresses();
        Ok(())
    }

    /// A scheduler's connection to the agent of a node.
    ///
    /// # Errors
    /// When there is no such address.
    pub async fn agent(&self, node: &str) -> anyhow::Result<AgentClient> {
        let address = SocketAddr::new(self.node(node).address, AGENT_PORT).to_string();
        Ok(AgentClient::new(&self.scheduler, &node.into(), &address).await?)
    }

    /// Waits until every node's engine and agent accept calls.
    ///
    /// # Errors
    /// When one does not within half a minute.
    pub async fn ready(&self) -> anyhow::Result<()> {
        until(TO_BE_READY, "all engines and agents accept calls", async || {
            self.nodes.iter().all(Node::is_ready)
        })
        .await
    }

    /// The command that has a service moved.
    pub fn migrate(
        &self,
        service: Service,
        to: &str,
        deadline: Duration,
        lease: Duration,
    ) -> tokio::process::Command {
        let mut command = self.sterna.command();
        command.args(["migrate", service.name(), "--to", to, "--output", "json"]);
        command.arg("--inventory").arg(self.continuum.file()).arg("--state").arg(self.continuum.state());
        command.args(["--deadline", &millis(deadline), "--freeze-lease", &millis(lease)]);
        command
    }

    /// The inventory with other prices: none of its nodes is as cheap as this one.
    pub fn inventory_with_cheapest(&self, node: &str) -> String {
        inventory(self.continuum.name(), &self.ground, Some(node)) + &self.services
    }

    /// Has the client write.
    fn write(&mut self) {
        let addresses = self.ports();
        let dataset = self.client.dataset.clone();
        self.client.writer = Some(Writer::go_on(&addresses, dataset, self.client.next));
    }

    /// How many writes were acknowledged since the client was looked at last.
    pub fn acknowledged(&self) -> u64 {
        self.client.writer.as_ref().map_or(0, |writer| writer.seen().writes)
    }

    /// The longest time that the client was kept waiting since then.
    pub fn longest_wait(&self) -> Duration {
        self.client.writer.as_ref().map_or(Duration::ZERO, |writer| writer.seen().longest_gap)
    }

    /// Stops the client, looks every acknowledged write up on this node, and has the client go on. Gives the writes that are
    /// not there, a few of them, and the `run_id` of the Redis.
    ///
    /// # Errors
    /// When the Redis does not answer.
    pub async fn look_up(&mut self, node: &str) -> anyhow::Result<(Vec<String>, String)> {
        if let Some(writer) = self.client.writer.take() {
            let writes = writer.seen().writes;
            // One write may be under way beyond those that were acknowledged.
            self.client.next += writes + 2;
            (self.client.dataset, _) = writer.stop().await?;
        }
        let address = SocketAddr::new(self.node(node).address, PORT);
        let lost = self.client.dataset.differences(address, 5).await?;
        if !lost.is_empty() {
            // What is lost is told once, not again after each run to come.
            self.client.dataset.load(address).await?;
        }
        let info = Connection::open(address).await?.command(&["INFO", "server"]).await?;
        let info = info.text().context("no answer to INFO")?;
        let id = info
            .lines()
            .find_map(|line| line.strip_prefix("run_id:"))
            .context("no run_id")?
            .trim()
            .to_owned();
        self.write();
        Ok((lost, id))
    }

    /// What the engines of all nodes hold, in the order of [`NODES`].
    ///
    /// # Errors
    /// When one does not answer.
    pub async fn holds(&self) -> anyhow::Result<Vec<Holds>> {
        let (a, b, c) = tokio::join!(self.nodes[0].holds(), self.nodes[1].holds(), self.nodes[2].holds());
        Ok(vec![a?, b?, c?])
    }

    /// What the registers of all nodes say, in the order of [`NODES`].
    ///
    /// # Errors
    /// When a node is down.
    pub fn registers(&self) -> anyhow::Result<Vec<Register>> {
        self.nodes.iter().map(|node| Register::read(node, RECENT)).collect()
    }

    /// What is not settled on any node.
    pub fn open_ends(&self) -> Vec<String> {
        let of = |node: &Node| {
            if !node.is_up() {
                return vec!["it is down".to_owned()];
            }
            match Register::read(node, RECENT) {
                Err(error) => vec![format!("its register can't be read: {error}")],
                Ok(_) if node.processes("sterna").is_empty() => vec!["its agent does not run".to_owned()],
                Ok(register) => register.open_ends(),
            }
        };
        let all = self
            .nodes
            .iter()
            .flat_map(|node| of(node).into_iter().map(|what| format!("{}: {what}", node.name)));
        all.collect()
    }

    /// Writes down what there is to know about the nodes, for whoever looks into a run that went wrong.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub async fn evidence(&self, folder: &Path, since: Duration) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)?;
        let since = format!("{}s", since.as_secs() + 2);
        for node in &self.nodes {
            let output = node.home.log(&since).output().await?;
            let mut log = output.stdout;
            log.extend(output.stderr);
            std::fs::write(folder.join(format!("{}.log", node.name)), log)?;
            let last = crate::strike::last_words(self, &node.name);
            if last.exists() {
                std::fs::copy(last, folder.join(format!("{}-last.log", node.name)))?;
            }
            let register = Register::read(node, RECENT).map_err(|error| error.to_string());
            std::fs::write(
                folder.join(format!("{}-register.json", node.name)),
                serde_json::to_string_pretty(&register.ok())?,
            )?;
            let holds = node.holds().await.map_err(|error| error.to_string());
            std::fs::write(folder.join(format!("{}-holds.txt", node.name)), format!("{holds:#?}\n"))?;
        }
        let log = serde_json::to_string(&self.tokens.log().tokens)?;
        Ok(std::fs::write(folder.join("tokens.json"), log)?)
    }

    /// Takes it down.
    ///
    /// # Errors
    /// When something is left.
    pub async fn down(self) -> anyhow::Result<()> {
        let Self { continuum, client, .. } = self;
        drop(client);
        continuum.down().await
    }
}

/// Waits until something is so.
///
/// # Errors
/// When it is not so within `most`.
pub async fn until(most: Duration, what: &str, mut is_so: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    let start = Instant::now();
    while !is_so().await {
        ensure!(start.elapsed() < most, "not within {most:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// A time as commands and policies read it.
pub fn millis(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

fn redis(on: &str) -> String {
    format!(
        "[[service]]\nname = \"redis\"\ncpu = \"0.2\"\nmemory = \"128MiB\"\n[service.run]\n\
         image = \"sterna-services:latest\"\n\
         command = [\"redis-server\", \"--save\", \"\", \"--appendonly\", \"yes\", \"--appendfsync\", \"always\", \
         \"--dir\", \"/data\", \"--protected-mode\", \"no\"]\n\
         ports = [\"{PORT}/tcp\"]\nvolumes = [\"redis-data:/data\"]\non = \"{on}\"\n"
    )
}

/// The nodes and links. With a cheapest node, what a core costs differs by more than the use of one more node does.
fn inventory(name: &str, ground: &Ground, cheapest: Option<&str>) -> String {
    let mut text = format!("schema_version = 1\nname = \"{name}\"\n");
    for site in NODES {
        let described = ground.described(site);
        let core = if cheapest == Some(site) { 1 } else { 10 };
        text.push_str(&format!(
            "[[site]]\nname = \"site-{site}\"\ntier = \"edge\"\nregion = \"eu\"\n\
             price = {{ node = \"0.1USD/h\", core = \"{core}USD/h\" }}\n\
             power = {{ idle = \"5W\", full = \"20W\" }}\n\
             [[site.node]]\nname = \"{site}\"\ncpu = \"{}\"\nmemory = \"1GiB\"\n{described}",
            ground.cpu()
        ));
    }
    for pair in [[0, 1], [1, 2], [0, 2]].map(|pair| pair.map(|at: usize| NODES[at])) {
        text.push_str(&format!(
            "[[link]]\nbetween = [\"site-{}\", \"site-{}\"]\nrtt = \"1ms\"\nbandwidth = \"1Gbit/s\"\n",
            pair[0], pair[1]
        ));
    }
    text
}

/// Where a run's evidence goes.
pub fn evidence_folder(out: &Path, number: usize) -> PathBuf {
    out.join(format!("run-{number:03}"))
}

/// Refuses to begin where it can't be done.
///
/// # Errors
/// When we are not root, who alone may kill processes of nodes and cut their networks.
pub fn must_be_root() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "faults strike processes, disks and networks of nodes: only root may do that; run it with sudo"
        );
    }
    Ok(())
}
