//! Letting a fault strike, and healing what does not heal by itself.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use sterna_executor::migration::order::{MigrationId, Order};
use sterna_executor::platform::agent::AGENT_PORT;
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::cluster::{Going, machine_of};
use crate::disk::Full;
use crate::home::Ground;
use crate::injection::{End, Fault, Injection, Lost, Removal};
use crate::platform;
use crate::register::{Departure, Register};
use crate::world::{NODES, RECENT, World};

/// The two ends of the move that is struck.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The node that the service leaves.
    pub from: String,
    /// The node that it goes to.
    pub to: String,
}

impl Ends {
    /// The node at one end.
    pub fn at(&self, end: End) -> &str {
        match end {
            End::Source => &self.from,
            End::Destination => &self.to,
        }
    }

    /// The nodes that a fault ends.
    pub fn taken_by(&self, fault: Fault) -> Vec<&'static str> {
        let Some(end) = platform::ends_node(fault) else { return Vec::new() };
        let struck = self.at(end);
        let goes = |node: &&str| match fault {
            Fault::Removed(Removal::Drained, _) => machine_of(node) == machine_of(struck),
            _ => *node == struck,
        };
        NODES.into_iter().filter(goes).collect()
    }
}

/// What remains to be done after a fault has struck.
#[derive(Debug)]
pub enum Heal {
    /// Nothing.
    Nothing,
    /// Take packet filter rules away again: the node, and the rules.
    Filter(String, Vec<Vec<String>>),
    /// Make room again.
    Room(Full),
    /// Start a node again.
    Start(String),
    /// Wait until pods are gone, and make their nodes anew.
    Remake(Box<Removed>),
    /// Set an agent's clock right.
    Clock(String),
}

/// Pods on their way out.
#[derive(Debug)]
pub struct Removed {
    going: Going,
    /// What writes down their last words.
    _listening: Vec<Child>,
}

/// How long what passes by itself lasts: short is over before anyone gives up, long outlasts the freeze lease.
const SHORT: Duration = Duration::from_millis(1200);
const LONG: Duration = Duration::from_millis(6500);
/// Time that a node is down.
const DOWN: Duration = Duration::from_millis(500);
/// How far a clock steps, in seconds.
const HOUR: i32 = 3600;
const PATIENCE: Duration = Duration::from_secs(5);
/// Time for the agents of nodes that are removed to end, while the migration stands still.
const AGENTS_END: Duration = Duration::from_secs(15);

/// Lets the fault strike. The scheduler itself is killed by whoever started it.
///
/// # Errors
/// When it could not strike.
pub async fn strike(world: &mut World, injection: Injection, ends: &Ends) -> anyhow::Result<Heal> {
    Ok(match injection.fault {
        Fault::Killed(program, end) => {
            world.node(ends.at(end)).kill(program.process()).await?;
            Heal::Nothing
        }
        Fault::NodeKilled(end) => {
            let name = ends.at(end).to_owned();
            world.node_mut(&name).kill_all().await?;
            Heal::Start(name)
        }
        Fault::Removed(removal, _) => remove(world, removal, injection, ends).await?,
        Fault::Cut(lost) => {
            let peer = world.node(&ends.from).address.to_string();
            let mut rules = Vec::new();
            if lost != Lost::ToSource {
                rules.push(["INPUT", "--source", &peer, "--jump", "DROP"].map(str::to_owned).to_vec());
            }
            if lost != Lost::ToDestination {
                rules.push(["OUTPUT", "--destination", &peer, "--jump", "DROP"].map(str::to_owned).to_vec());
            }
            filter(world, &ends.to, rules).await?
        }
        Fault::SchedulerCut => {
            let (host, port) = (world.tokens.address().ip().to_string(), AGENT_PORT.to_string());
            let input = ["INPUT", "--source", &host, "--protocol", "tcp", "--dport", &port, "--jump", "DROP"];
            let output =
                ["OUTPUT", "--destination", &host, "--protocol", "tcp", "--sport", &port, "--jump", "DROP"];
            let rules = vec![input.map(str::to_owned).to_vec(), output.map(str::to_owned).to_vec()];
            filter(world, &ends.from, rules).await?
        }
        Fault::DiskFull => {
            let node = world.node(&ends.to);
            Heal::Room(Full::fill(&["var/lib/docker", "var/lib/sterna"].map(|path| node.path(path)))?)
        }
        Fault::StagingFull => Heal::Room(Full::fill(&[world.node(&ends.to).path("dev/shm")])?),
        Fault::Stale => {
            stale_orders(world, injection, ends).await?;
            Heal::Nothing
        }
        Fault::Cancelled => {
            let register = Register::read(world.node(&ends.from), RECENT)?;
            // Not the canary that the check of this migration may have sent ahead.
            let named = |one: &&Departure| one.service == injection.service.name();
            let last = register.departures.iter().rev().find(named).context("nothing leaves")?;
            let agent = world.agent(&ends.from).await?;
            // After the commit it is refused, and must be.
            let _refused = timeout(PATIENCE, agent.cancel(last.id.parse()?, "a fault")).await;
            Heal::Nothing
        }
        Fault::ClockStep(end) => {
            let name = ends.at(end).to_owned();
            clock::set(world.node(&name), if injection.second { HOUR } else { -HOUR })?;
            Heal::Clock(name)
        }
        Fault::SchedulerKilled
        | Fault::DaemonKilled
        | Fault::LeaseExpired
        | Fault::Corrupted
        | Fault::Truncated
        | Fault::Broken
        | Fault::Duplicated
        | Fault::Raced
        | Fault::AnswerLost => Heal::Nothing,
    })
}

/// Has the cluster remove the pods of nodes. A long fault waits until their agents have ended.
async fn remove(world: &World, removal: Removal, injection: Injection, ends: &Ends) -> anyhow::Result<Heal> {
    let Ground::Cluster(cluster) = &world.ground else { bail!("there is no cluster to remove pods from") };
    let nodes: Vec<_> = ends.taken_by(injection.fault).into_iter().map(|node| world.node(node)).collect();
    let mut listening = Vec::new();
    for node in &nodes {
        let file = std::fs::File::create(last_words(world, &node.name))?;
        let mut command = node.home.log("30s");
        command
            .arg("--follow")
            .stdout(file.try_clone()?)
            .stderr(file)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        listening.push(command.spawn().context("can't start kubectl")?);
    }
    let pods: Vec<String> = nodes.iter().map(|node| node.home.name().to_owned()).collect();
    let going = cluster.remove(removal, &pods).await?;
    let start = Instant::now();
    while injection.long
        && nodes.iter().any(|node| !node.processes("sterna").is_empty())
        && start.elapsed() < AGENTS_END
    {
        sleep(Duration::from_millis(20)).await;
    }
    Ok(Heal::Remake(Box::new(Removed { going, _listening: listening })))
}

/// Where the last words of a node's pod go that was removed.
pub fn last_words(world: &World, node: &str) -> PathBuf {
    world.continuum.folder().join(format!("{node}-last.log"))
}

async fn filter(world: &World, node: &str, rules: Vec<Vec<String>>) -> anyhow::Result<Heal> {
    for rule in &rules {
        let rule: Vec<&str> = ["--insert"].into_iter().chain(rule.iter().map(String::as_str)).collect();
        world.node(node).filter(&rule).await?;
    }
    Ok(Heal::Filter(node.to_owned(), rules))
}

/// Gives orders that are no longer true: the one under way once more, each older one of these nodes' registers that moved
/// this service, and a new one from what was true before the move. None may have any effect of its own.
///
/// # Errors
/// When a register can't be read.
pub async fn stale_orders(world: &World, injection: Injection, ends: &Ends) -> anyhow::Result<()> {
    for node in NODES {
        let register = Register::read(world.node(node), RECENT)?;
        let mut orders: Vec<Order> = Vec::new();
        for one in register.departures.iter().filter(|one| one.service == injection.service.name()) {
            orders.push(serde_json::from_value(one.order.clone()).context("an order in the register")?);
        }
        // The newest few suffice.
        let skipped = orders.len().saturating_sub(3);
        let mut orders = orders.split_off(skipped);
        if node == ends.from
            && let Some(last) = orders.last()
        {
            let third =
                NODES.iter().find(|one| **one != ends.from && **one != ends.to).copied().unwrap_or(NODES[0]);
            let address = format!("{}:{AGENT_PORT}", world.node(third).address);
            orders.push(Order {
                id: MigrationId::new(),
                to: third.into(),
                to_address: address,
                ..last.clone()
            });
        }
        let agent = world.agent(node).await?;
        for order in orders {
            // Refused, or taken for what it is: known.
            let _refused = timeout(PATIENCE, agent.migrate(&order)).await;
        }
    }
    Ok(())
}

/// Lasts as long as the fault is to last, and heals it.
///
/// # Errors
/// When a node can't be started or a rule not be taken away.
pub async fn heal(world: &mut World, heal: Heal, injection: Injection) -> anyhow::Result<()> {
    let lasts = if injection.long { LONG } else { SHORT };
    match heal {
        Heal::Nothing => {}
        Heal::Filter(node, rules) => {
            sleep(lasts).await;
            for rule in &rules {
                let rule: Vec<&str> =
                    ["--delete"].into_iter().chain(rule.iter().map(String::as_str)).collect();
                world.node(&node).filter(&rule).await?;
            }
        }
        Heal::Room(full) => {
            sleep(lasts).await;
            drop(full);
        }
        Heal::Clock(name) => {
            sleep(lasts).await;
            clock::set(world.node(&name), 0)?;
        }
        Heal::Start(name) => {
            sleep(DOWN).await;
            world.start(&name).await?;
        }
        Heal::Remake(removed) => {
            if let Ground::Cluster(cluster) = &world.ground {
                cluster.gone(removed.going).await?;
            }
            world.up_again().await?;
        }
    }
    Ok(())
}
