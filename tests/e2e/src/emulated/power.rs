//! Power cuts: an emulated node loses power at a seeded moment of a migration, comes back with its disk, and everything that
//! was promised must hold.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, sleep, timeout};

use super::Emulated;
use super::register::Register;
use crate::dataset::Dataset;
use crate::inventory::Service;
use crate::process::{self, Finished};
use crate::sterna::Sterna;
use crate::writer::Writer;

const NODES: [&str; 2] = ["a1", "b1"];
const SERVICE: &str = "redis";
const PORT: u16 = 6379;
const KEYS: usize = 500;
/// After so many cuts a migration is let alone, and shows how long one takes.
const UNDISTURBED: u32 = 3;
/// How long the power is off.
const OFF: Duration = Duration::from_secs(2);
/// How long agents may take to settle after both answer again.
const TO_SETTLE: Duration = Duration::from_secs(300);
/// How long the client may take to be served again after that.
const TO_SERVE: Duration = Duration::from_secs(120);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many cuts.
    pub runs: u32,
    /// The moments and nodes follow from it; the moments also from how long migrations take here.
    pub seed: u64,
}

/// Which end of the migration loses power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The node that the service leaves.
    Source,
    /// The node that it goes to.
    Destination,
}

/// What came of one cut.
#[derive(Debug, Clone)]
pub struct Cut {
    /// Its number, from 1.
    pub number: u32,
    /// Which node lost power.
    pub end: End,
    /// When, after the order, and out of how long.
    pub at: (Duration, Duration),
    /// The last phase that the scheduler had heard of.
    pub phase: String,
    /// What the source's register says in the end.
    pub decision: String,
    /// The node that owns the service in the end.
    pub owner: String,
    /// From the return of the power until all was settled.
    pub settled: Duration,
    /// Acknowledged writes until then.
    pub writes: u64,
    /// What was broken; nothing if empty.
    pub broken: Vec<String>,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = match self.end {
            End::Source => "source",
            End::Destination => "destination",
        };
        write!(
            f,
            "{:>3}  {end:<11}  {:>5.1} s of {:>5.1} s  {:<12}  {:<9}  {:<4}  {:>6.1} s  {:>7}  {}",
            self.number,
            self.at.0.as_secs_f64(),
            self.at.1.as_secs_f64(),
            self.phase,
            self.decision,
            self.owner,
            self.settled.as_secs_f64(),
            self.writes,
            if self.broken.is_empty() {
                "held".to_owned()
            } else {
                format!("BROKEN: {}", self.broken.join("; "))
            }
        )
    }
}

/// Head of the table whose rows are [`Cut`]s.
pub const HEAD: &str =
    "cut  power off at   moment             phase seen    decision   owner   settled   writes  promises";

/// Redis that has on disk whatever it acknowledged.
fn service() -> Service {
    let command =
        ["redis-server", "--dir", "/data", "--appendonly", "yes", "--appendfsync", "always", "--save", ""];
    Service::new(SERVICE, "sterna-services:latest", &[&command[..], &["--protected-mode", "no"]].concat())
        .port(PORT)
        .volume("redisdata:/data")
}

fn inventory() -> anyhow::Result<String> {
    let mut text = "schema_version = 1\nname = \"power-cuts\"\n".to_owned();
    for (site, node) in ["a", "b"].into_iter().zip(NODES) {
        text.push_str(&format!(
            "[[site]]\nname = \"{site}\"\ntier = \"edge\"\nregion = \"eu\"\nprice = {{ node = \"0.1USD/h\" }}\n\
             power = {{ idle = \"5W\", full = \"20W\" }}\n\
             [[site.node]]\nname = \"{node}\"\ncpu = \"1\"\nmemory = \"1GiB\"\nagent = \"emulated\"\n"
        ));
    }
    text.push_str("[[link]]\nbetween = [\"a\", \"b\"]\nrtt = \"1ms\"\nbandwidth = \"1Gbit/s\"\n");
    Ok(text + &service().table(NODES[0])?)
}

/// Two emulated nodes, Redis, and its client.
#[derive(Debug)]
struct Scene {
    hosts: Emulated,
    writer: Option<Writer>,
    owner: usize,
    /// How long a migration takes that nothing disturbs.
    takes: Duration,
}

/// Cuts the power as planned, telling of each cut when it has been judged. After a broken promise the next cut begins on new
/// nodes. Call it on a thread that lives until it is done.
///
/// # Errors
/// When nodes can't be made, or don't work before anything was cut.
pub async fn run(sterna: &Sterna, plan: Plan, mut tell: impl FnMut(&Cut)) -> anyhow::Result<Vec<Cut>> {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut cuts: Vec<Cut> = Vec::new();
    let mut scene: Option<Scene> = None;
    for number in 1..=plan.runs {
        // Drawn first, so that what came of one cut does not change the next.
        let end = if random.bool() { End::Source } else { End::Destination };
        let share = random.f64();
        let mut now = match scene.take() {
            Some(scene) => scene,
            None => Scene::set(sterna).await?,
        };
        let cut = now.cut(number, end, share).await;
        tell(&cut);
        if cut.broken.is_empty() {
            scene = Some(now);
        } else {
            now.writer = None;
            now.hosts.down().await?;
        }
        cuts.push(cut);
    }
    if let Some(scene) = scene {
        drop(scene.writer);
        scene.hosts.down().await?;
    }
    Ok(cuts)
}

impl Scene {
    async fn set(sterna: &Sterna) -> anyhow::Result<Self> {
        let hosts = Emulated::up(sterna, &inventory()?).await?;
        hosts.services_up().await?;
        let addresses = hosts.addresses(PORT).await?;
        let dataset = Dataset::new(KEYS);
        let start = Instant::now();
        while let Err(error) = dataset.load(addresses[0]).await {
            ensure!(start.elapsed() < TO_SERVE, "Redis does not come up: {error:#}");
            sleep(Duration::from_millis(500)).await;
        }
        let writer = Some(Writer::start(&addresses, dataset));
        let mut scene = Self { hosts, writer, owner: 0, takes: Duration::ZERO };
        scene.move_undisturbed().await.context("before anything was cut")?;
        Ok(scene)
    }

    /// Moves the service to the other node and learns how long that takes.
    async fn move_undisturbed(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        let report = self.hosts.migrate(SERVICE, NODES[1 - self.owner]).await?;
        ensure!(report["outcome"]["outcome"] == "moved", "not moved: {}", report["outcome"]);
        self.takes = start.elapsed();
        self.owner = 1 - self.owner;
        Ok(())
    }

    async fn cut(&mut self, number: u32, end: End, share: f64) -> Cut {
        let at = self.takes.mul_f64(share);
        let mut cut = Cut {
            number,
            end,
            at: (at, self.takes),
            phase: "-".to_owned(),
            decision: "-".to_owned(),
            owner: "-".to_owned(),
            settled: Duration::ZERO,
            writes: 0,
            broken: Vec::new(),
        };
        if let Err(error) = self.strike(&mut cut).await {
            cut.broken.push(format!("{error:#}"));
        }
        cut
    }

    /// An error is a broken promise.
    async fn strike(&mut self, cut: &mut Cut) -> anyhow::Result<()> {
        let (from, to) = (NODES[self.owner], NODES[1 - self.owner]);
        let known = Register::of(&self.hosts, from).await?.departures.len();
        let victim = if cut.end == End::Source { from } else { to };
        let mut command = self.hosts.migration(SERVICE, to);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let migrating = async {
            // It gives up by itself some time after it has lost sight of the source.
            timeout(TO_SETTLE, process::run(&mut command)).await.ok()?.ok()
        };
        let cutting = async {
            sleep(cut.at.0).await;
            let machine = self.hosts.machine(victim)?;
            machine.power_cut().await?;
            sleep(OFF).await;
            machine.boot()?;
            anyhow::Ok(())
        };
        let (migrated, was_cut): (Option<Finished>, _) = tokio::join!(migrating, cutting);
        was_cut?;
        let heard = migrated.map(|finished| finished.stderr).unwrap_or_default();
        let mut phases = heard.lines().filter_map(|line| line.split_whitespace().next());
        cut.phase = phases.rfind(|word| PHASES.contains(word)).unwrap_or("none").to_owned();

        let start = Instant::now();
        self.hosts.ready().await?;
        let owner = self.settled().await?;
        cut.settled = start.elapsed();
        NODES[owner].clone_into(&mut cut.owner);
        let registers =
            [Register::of(&self.hosts, NODES[0]).await?, Register::of(&self.hosts, NODES[1]).await?];
        let [a, b] = &registers;
        let contradictions = [a.contradictions(b), b.contradictions(a)].concat();
        ensure!(
            contradictions.is_empty(),
            "the registers contradict each other: {}",
            contradictions.join("; ")
        );
        // The order may have been lost with the node: then it is as if it had never been given.
        let order = registers[self.owner].departures.get(known);
        let decision = order.map_or("abort", |order| order.decision.as_str());
        order.map_or("no order", |order| order.decision.as_str()).clone_into(&mut cut.decision);
        let expected = if decision == "commit" { 1 - self.owner } else { self.owner };
        ensure!(owner == expected, "{} runs it, but the register says {decision}", NODES[owner]);
        self.owner = owner;

        let mut writer = self.writer.take().context("there is no client")?;
        let enough = writer.seen().writes + 20;
        writer.wait_until(TO_SERVE, |seen| seen.writes > enough && seen.served_by == Some(owner)).await?;
        let (dataset, seen) = writer.stop().await?;
        cut.writes = seen.writes;
        let address = self.hosts.addresses(PORT).await?[owner];
        let differences = dataset.differences(address, 3).await?;
        ensure!(differences.is_empty(), "acknowledged writes are lost: {}", differences.join("; "));
        self.writer = Some(Writer::start(&self.hosts.addresses(PORT).await?, dataset));
        // The migration that is cut next starts from here too; one in three is let alone to its end.
        if cut.number.is_multiple_of(UNDISTURBED) {
            self.move_undisturbed().await.context("the next migration")?;
        }
        Ok(())
    }

    /// Waits until one node owns and runs the service, the other has nothing of it, and no register has an open end; gives
    /// the owner.
    async fn settled(&self) -> anyhow::Result<usize> {
        let start = Instant::now();
        loop {
            match self.unsettled().await {
                Ok(Ok(owner)) => return Ok(owner),
                Ok(Err(why)) | Err(why) if start.elapsed() > TO_SETTLE => {
                    return Err(why.context(format!("not settled after {TO_SETTLE:?}")));
                }
                _ => sleep(Duration::from_secs(2)).await,
            }
        }
    }

    async fn unsettled(&self) -> anyhow::Result<anyhow::Result<usize>> {
        let mut why = Vec::new();
        let mut containers = [Vec::new(), Vec::new()];
        for (node, found) in NODES.iter().zip(&mut containers) {
            let register = Register::of(&self.hosts, node).await?;
            why.extend(register.open_ends().into_iter().map(|end| format!("{node}: {end}")));
            let listed =
                self.hosts.run(node, &["docker", "ps", "--all", "--format", "{{.Names}} {{.State}}"]).await?;
            *found = listed.lines().map(str::to_owned).collect();
        }
        let services = self.hosts.services().await?;
        let running: Vec<&str> = services
            .as_array()
            .into_iter()
            .flatten()
            .filter(|row| row["service"] == SERVICE && row["running"] == true && row["frozen"] == false)
            .filter_map(|row| row["node"].as_str())
            .collect();
        let owner = match running[..] {
            [one] => NODES.iter().position(|node| *node == one),
            _ => None,
        };
        let Some(owner) = owner else {
            why.push(format!("running on {running:?}; containers: {containers:?}"));
            return Ok(Err(anyhow::anyhow!(why.join("; "))));
        };
        if containers[owner] != [format!("{SERVICE} running")] || !containers[1 - owner].is_empty() {
            why.push(format!("{} owns it; containers: {containers:?}", NODES[owner]));
        }
        Ok(if why.is_empty() { Ok(owner) } else { Err(anyhow::anyhow!(why.join("; "))) })
    }
}

/// Words that `sterna migrate` begins its lines of progress with.
const PHASES: [&str; 12] = [
    "planned",
    "checked",
    "reserved",
    "synced",
    "frozen",
    "dumped",
    "transferred",
    "restored",
    "verified",
    "committed",
    "released",
    "cleaned",
];
