//! Emulated nodes: ordinary hosts (cgroup v2, Debian's cloud kernel, every capability) under qemu's software emulation, as
//! nodes of a continuum. Slow, so nothing timed on them means anything; but a killed emulator is a power cut.
//!
//! | module | what lives there |
//! |---|---|
//! | [`link`] | what is wrong with the link between two hosts |
//! | [`machine`] | one emulated host: its disk, its boot, its power cut |
//! | [`power`] | power cuts at seeded moments of a migration |
//! | [`register`] | what the register of a host's agent says |
//! | [`wire`] | the network between the hosts and us |

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::future::try_join_all;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::docker;
use crate::guardian::Guardian;
use crate::process::{self, bound};
use crate::sterna::Sterna;
use crate::zoo::Ground;

pub mod link;
pub mod machine;
pub mod power;
pub mod register;
pub mod wire;

use machine::{Base, Machine};
use wire::Wire;

/// Port of an agent.
const AGENT: u16 = 7420;
/// What an inventory says in place of the address of an emulated node's agent, which is known only when it is made.
pub const EMULATED: &str = "emulated";
/// How long a host may take to boot. Under emulation half a minute is usual, where the processor is not shared.
const TO_BOOT: Duration = Duration::from_secs(300);
/// Emulation makes everything slow, so nobody may give up early: time until the commit, and time frozen.
const DEADLINE: &str = "60m";
const FREEZE_LEASE: &str = "20m";

/// As much of an inventory as is needed here.
#[derive(Debug, Deserialize)]
struct Inventory {
    name: String,
    site: Vec<Site>,
}

#[derive(Debug, Deserialize)]
struct Site {
    #[serde(default)]
    node: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    name: String,
    agent: Option<String>,
}

/// Why hosts can't be emulated here; `None` where they can.
pub fn unavailable() -> Option<String> {
    if std::env::consts::ARCH != "x86_64" {
        return Some(format!("no machine of architecture {} is emulated", std::env::consts::ARCH));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    ["qemu-system-x86_64", "qemu-img", "busybox", "modprobe", "mkfs.ext4"]
        .into_iter()
        .find(|program| !folders.iter().any(|folder| folder.join(program).is_file()))
        .map(|program| format!("{program} is not installed"))
}

/// A continuum some of whose nodes are emulated hosts. Dropped, all of it is gone, also when this process is killed.
#[derive(Debug)]
pub struct Emulated {
    sterna: Sterna,
    name: String,
    nodes: Vec<String>,
    file: PathBuf,
    folder: PathBuf,
    // Before the guardian: first the machines go, then the network that they hang on.
    machines: Vec<Machine>,
    _wire: Wire,
    guardian: Guardian,
}

impl Emulated {
    /// Brings up the nodes of an inventory: those with `agent = "emulated"` as emulated hosts, those without `agent` as
    /// containers of this host's engine. What emulated hosts boot from is made where that was never done, which takes
    /// minutes.
    ///
    /// # Errors
    /// When a node can't be made or does not come up.
    pub async fn up(sterna: &Sterna, inventory: &str) -> anyhow::Result<Self> {
        let parsed: Inventory = toml::from_str(inventory).context("the inventory")?;
        let base = base(sterna).await?;
        let folder = tempfile::Builder::new().prefix(&format!("sterna-{}-", parsed.name)).tempdir()?.keep();
        let (file, state) = (folder.join("inventory.toml"), folder.join("state"));
        // Names alone are enough to take down what an earlier life may have left.
        let nodes: Vec<Node> = parsed.site.into_iter().flat_map(|site| site.node).collect();
        std::fs::write(&file, with_addresses(inventory, (1..).map(|last| [127, 0, 0, last].into())))?;
        let guardian = Guardian::over(sterna.path(), &file, &state, &folder)?;
        let (file_text, state_text) = (file.display().to_string(), state.display().to_string());
        sterna.must(&["sites", "down", &file_text, "--state", &state_text]).await?;

        let wire = Wire::lay(&parsed.name, &folder).await?;
        let emulated: Vec<&Node> =
            nodes.iter().filter(|node| node.agent.as_deref() == Some(EMULATED)).collect();
        let addresses = (0_u8..).map(|number| wire.address(number));
        std::fs::write(&file, with_addresses(inventory, addresses))?;
        let mut machines = Vec::new();
        for (number, node) in (0_u8..).zip(emulated) {
            let packed = folder.join(format!("{}.tar", node.name));
            let out = packed.display().to_string();
            sterna
                .must(&["sites", "pack", &file_text, &node.name, "--out", &out, "--state", &state_text])
                .await?;
            machines.push(Machine::make(&node.name, &base, &packed, &wire, number, &folder).await?);
        }
        let nodes = nodes.into_iter().map(|node| node.name).collect();
        let name = parsed.name;
        let mut all =
            Self { sterna: sterna.clone(), name, nodes, file, folder, machines, _wire: wire, guardian };
        for machine in &mut all.machines {
            machine.boot()?;
        }
        if all.nodes.len() > all.machines.len() {
            all.sterna(&["sites", "up"]).await?;
        }
        all.ready().await?;
        Ok(all)
    }

    /// Waits until the agents of all nodes answer, with one deadline for all.
    ///
    /// # Errors
    /// When one does not; with the end of its machine's console.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        for machine in &mut self.machines {
            machine.listens(AGENT, TO_BOOT.saturating_sub(start.elapsed())).await?;
        }
        loop {
            let (file, state) = (self.file.display().to_string(), self.state().display().to_string());
            let asked = ["services", "status", &file, "--state", &state];
            let finished = self.sterna.run_in(&self.folder, &[], &asked).await?;
            if !finished.stderr.contains("warning") {
                return Ok(());
            }
            if start.elapsed() > TO_BOOT {
                bail!("after {TO_BOOT:?} not all agents answer: {}", finished.stderr.trim());
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    async fn sterna(&self, command: &[&str]) -> anyhow::Result<String> {
        let (file, state) = (self.file.display().to_string(), self.state().display().to_string());
        let mut arguments = command.to_vec();
        arguments.extend([file.as_str(), "--state", &state]);
        self.sterna.must(&arguments).await
    }

    /// Starts the services of the inventory on the nodes that it names.
    ///
    /// # Errors
    /// When `sterna services up` fails.
    pub async fn services_up(&self) -> anyhow::Result<String> {
        docker::service_image().await?;
        self.sterna(&["services", "up"]).await
    }

    /// What the agents say of their services, as JSON.
    ///
    /// # Errors
    /// When the command can't be run.
    pub async fn services(&self) -> anyhow::Result<serde_json::Value> {
        let (file, state) = (self.file.display().to_string(), self.state().display().to_string());
        let asked = ["services", "status", &file, "--state", &state, "--output", "json"];
        // It fails where a service of the inventory does not run, which is an answer too.
        let finished = self.sterna.run_in(&self.folder, &[], &asked).await?;
        serde_json::from_str(&finished.stdout)
            .with_context(|| format!("no answer: {}", finished.stderr.trim()))
    }

    /// The command that moves a service, to be started; its report is printed as JSON.
    pub fn migration(&self, service: &str, to: &str) -> tokio::process::Command {
        let mut command = self.sterna.command();
        command.args(["migrate", service, "--to", to, "--output", "json"]);
        command.args(["--deadline", DEADLINE, "--freeze-lease", FREEZE_LEASE, "--inventory"]);
        command.arg(&self.file).arg("--state").arg(self.state());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Moves a service now and gives the report, whatever came of it.
    ///
    /// # Errors
    /// When there is no report.
    pub async fn migrate(&self, service: &str, to: &str) -> anyhow::Result<serde_json::Value> {
        let finished = process::run(&mut self.migration(service, to)).await?;
        serde_json::from_str(&finished.stdout).with_context(|| {
            format!("{service} to {to}: no report: {} {}", finished.stdout, finished.stderr.trim())
        })
    }

    /// The folder of the state.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// A folder that goes with the continuum.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names of all nodes, in the inventory's order.
    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// An emulated host.
    ///
    /// # Errors
    /// When no emulated node has that name.
    pub fn machine(&mut self, node: &str) -> anyhow::Result<&mut Machine> {
        self.machines
            .iter_mut()
            .find(|machine| machine.name() == node)
            .with_context(|| format!("{node} is not emulated"))
    }

    /// What stands on the console of an emulated host.
    ///
    /// # Errors
    /// When no emulated node has that name, or it can't be read.
    pub fn console(&self, node: &str) -> anyhow::Result<String> {
        let machine = self.machines.iter().find(|machine| machine.name() == node);
        machine.with_context(|| format!("{node} is not emulated"))?.console()
    }

    /// Address of a node, on which its services' ports are published.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn address(&self, node: &str) -> anyhow::Result<IpAddr> {
        match self.machines.iter().find(|machine| machine.name() == node) {
            Some(machine) => Ok(machine.address()),
            None => docker::address(&self.container(node)).await,
        }
    }

    /// Where a port is reached on every node, in the inventory's order.
    ///
    /// # Errors
    /// When a node does not run.
    pub async fn addresses(&self, port: u16) -> anyhow::Result<Vec<SocketAddr>> {
        try_join_all(self.nodes.iter().map(async |node| Ok(SocketAddr::new(self.address(node).await?, port))))
            .await
    }

    /// Runs a command on a node and gives what it prints.
    ///
    /// # Errors
    /// When it fails or the node does not answer.
    pub async fn run(&self, node: &str, command: &[&str]) -> anyhow::Result<String> {
        if let Some(machine) = self.machines.iter().find(|machine| machine.name() == node) {
            return machine.run(command).await;
        }
        let container = self.container(node);
        docker::docker(&[&["exec", container.as_str()], command].concat()).await
    }

    /// Runs a command within a service and gives what it prints.
    ///
    /// # Errors
    /// When the service does not run on that node or the command fails.
    pub async fn exec(&self, node: &str, service: &str, command: &[&str]) -> anyhow::Result<String> {
        self.run(node, &[&["docker", "exec", service], command].concat()).await
    }

    /// The node whose engine runs a service, as the engines themselves say; `None` where none does.
    ///
    /// # Errors
    /// When an engine does not answer, or when several run it: a service must never run twice.
    pub async fn runs_on(&self, service: &str) -> anyhow::Result<Option<&str>> {
        let filter = format!("name=^/?{service}$");
        let question = ["docker", "ps", "--quiet", "--filter", &filter, "--filter", "status=running"];
        let mut found = Vec::new();
        for node in &self.nodes {
            if !self.run(node, &question).await?.is_empty() {
                found.push(node.as_str());
            }
        }
        if found.len() > 1 {
            bail!("{service} runs on several nodes at once: {}", found.join(", "));
        }
        Ok(found.pop())
    }

    fn container(&self, node: &str) -> String {
        format!("sterna-{}-{node}", self.name)
    }

    /// Takes it down, and makes sure that nothing is left.
    ///
    /// # Errors
    /// When something is left.
    pub async fn down(mut self) -> anyhow::Result<()> {
        for machine in &mut self.machines {
            machine.power_cut().await?;
        }
        let taps: Vec<PathBuf> =
            self.machines.iter().map(|machine| Path::new("/sys/class/net").join(machine.tap())).collect();
        self.sterna(&["sites", "down"]).await?;
        let mut left = docker::left_over(&format!("sterna-{}", self.name)).await?;
        left.extend(taps.iter().filter(|tap| tap.exists()).map(|tap| tap.display().to_string()));
        if !left.is_empty() {
            bail!("left behind: {}", left.join(", "));
        }
        self.guardian.only_folder();
        Ok(())
    }
}

impl Ground for Emulated {
    fn nodes(&self) -> Vec<String> {
        self.nodes.clone()
    }

    async fn exec(&self, node: &str, service: &str, command: &[&str]) -> anyhow::Result<String> {
        Emulated::exec(self, node, service, command).await
    }

    async fn address(&self, node: &str, port: u16) -> anyhow::Result<SocketAddr> {
        Ok(SocketAddr::new(Emulated::address(self, node).await?, port))
    }
}

/// The inventory with an address in place of each [`EMULATED`].
fn with_addresses(inventory: &str, addresses: impl Iterator<Item = IpAddr>) -> String {
    let mark = format!("\"{EMULATED}\"");
    let mut pieces = inventory.split(&mark);
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for (piece, address) in pieces.zip(addresses) {
        text.push_str(&format!("\"{}\"{piece}", SocketAddr::new(address, AGENT)));
    }
    text
}

/// What emulated hosts boot from, made where that was never done.
async fn base(sterna: &Sterna) -> anyhow::Result<Base> {
    let rootfs = sterna.must(&["sites", "rootfs"]).await?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("emulated/make");
    let mut command = bound(&script);
    command.arg(rootfs.trim()).stdout(Stdio::piped());
    let finished =
        process::run(&mut command).await.with_context(|| format!("can't start {}", script.display()))?;
    if !finished.status.success() {
        bail!("{} failed; what it said stands above", script.display());
    }
    Base::open(Path::new(finished.stdout.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_emulated_node_gets_its_own_address() {
        let text = "a = \"emulated\"\nb = \"emulated\"\nc = \"emulated\"";
        let addresses = (1..).map(|last| IpAddr::from([10, 0, 0, last]));
        let with = with_addresses(text, addresses);
        assert_eq!(with, "a = \"10.0.0.1:7420\"\nb = \"10.0.0.2:7420\"\nc = \"10.0.0.3:7420\"");
    }
}
