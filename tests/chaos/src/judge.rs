//! The referee: looks at the nodes, the tokens and the client's writes from outside, and believes no report.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::sleep;

use crate::history::{self, History};
use crate::injection::{Fault, Injection, Service};
use crate::node::Holds;
use crate::platform;
use crate::register::Departure;
use crate::strike::Ends;
use crate::token::Event;
use crate::trial::{Ended, took_owner};
use crate::world::{NODES, World};

/// Time for a service to be back after all is settled: engine and agent of a node that was started again.
const TO_RUN: Duration = Duration::from_secs(30);
/// Tokens come a hundred times as often.
const LATELY: Duration = Duration::from_millis(400);

/// What must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "found")]
pub enum Found {
    /// A service runs nowhere, or its memory is gone and nothing allows that.
    Lost {
        /// How that was seen.
        what: String,
    },
    /// Writes that were acknowledged are not there.
    LostWrites {
        /// Some of them.
        what: Vec<String>,
    },
    /// Two copies ran.
    Twice {
        /// How that was seen.
        what: String,
    },
    /// The end is none of those that are known.
    Unknown {
        /// What there is instead.
        what: String,
    },
    /// Something is left that should be gone.
    Left {
        /// Where and what.
        what: Vec<String>,
    },
    /// The next life of `sterna run` did not take up what it found, or wrote down what is not so.
    NotTakenUp {
        /// What is wrong.
        what: Vec<String>,
    },
}

/// How things stood when a run began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Before {
    owners: [String; 2],
    processes: [String; 2],
    run_id: String,
}

const fn index(service: Service) -> usize {
    service as usize
}

impl Before {
    /// The node that a service is on.
    pub fn owner(&self, service: Service) -> &str {
        &self.owners[index(service)]
    }
}

/// How a run is judged.
#[derive(Debug, Clone)]
pub struct Judged {
    /// How it ended.
    pub ended: Ended,
    /// What the migration says of its end.
    pub said: Option<String>,
    /// Time frozen in vain, as the agent says.
    pub frozen_in_vain: Option<String>,
    /// Acknowledged writes.
    pub writes: u64,
    /// What must not be.
    pub found: Vec<Found>,
}

/// The nodes whose engines run a service.
fn running(holds: &[Holds], service: Service) -> Vec<&'static str> {
    let pairs = NODES.into_iter().zip(holds);
    pairs.filter(|(_, holds)| holds.runs(service.name())).map(|(node, _)| node).collect()
}

/// Looks until each service runs on one node, tokens come from that node alone, and time is up. The last look is what counts.
async fn look(world: &World) -> anyhow::Result<Vec<Holds>> {
    let start = Instant::now();
    loop {
        let holds = world.holds().await;
        if let Ok(holds) = &holds {
            let all = Service::ALL.map(|service| running(holds, service));
            let from = world.tokens.log().lately_from(world.tokens.now(), LATELY);
            let senders: Vec<&str> = from.into_iter().filter_map(|address| world.at(address)).collect();
            if all.iter().all(|nodes| nodes.len() == 1) && senders == all[index(Service::Token)] {
                break;
            }
        }
        if start.elapsed() > TO_RUN {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    world.holds().await
}

/// How things stand now, when they stand well.
///
/// # Errors
/// What is wrong.
pub async fn stand(world: &mut World) -> anyhow::Result<Before> {
    world.ready().await?;
    let holds = look(world).await?;
    let mut before = Before::default();
    for service in Service::ALL {
        let nodes = running(&holds, service);
        let [node] = nodes[..] else { anyhow::bail!("{} runs on {nodes:?}", service.name()) };
        before.owners[index(service)] = node.to_owned();
        before.processes[index(service)] = process(&holds, node, service);
    }
    let (lost, run_id) = world.look_up(before.owner(Service::Redis).to_owned().as_str()).await?;
    anyhow::ensure!(lost.is_empty(), "acknowledged writes are not there: {lost:?}");
    before.run_id = run_id;
    Ok(before)
}

fn process(holds: &[Holds], node: &str, service: Service) -> String {
    let found = NODES.into_iter().zip(holds).find(|(name, _)| *name == node);
    found.and_then(|(_, holds)| holds.processes.get(service.name()).cloned()).unwrap_or_default()
}

/// Judges a run.
pub async fn judge(
    world: &mut World,
    before: &Before,
    injection: Injection,
    ends: &Ends,
    known: &BTreeSet<String>,
    settled: Result<(), Vec<String>>,
    history: Option<&History>,
) -> Judged {
    let mut judged =
        Judged { ended: Ended::Unknown, said: None, frozen_in_vain: None, writes: 0, found: Vec::new() };
    if let Err(open) = settled {
        judged.found.push(Found::Unknown { what: format!("not settled: {}", open.join("; ")) });
    }
    let holds = match look(world).await {
        Ok(holds) => holds,
        Err(error) => {
            judged.found.push(Found::Unknown { what: format!("the engines do not answer: {error:#}") });
            return judged;
        }
    };
    let migrations = match migrations(world, injection, known) {
        Ok(migrations) => migrations,
        Err(error) => {
            judged.found.push(Found::Unknown { what: format!("the registers can't be read: {error:#}") });
            return judged;
        }
    };
    if let Some(history) = history {
        let what = history::wrong(history, injection.service.name(), &migrations);
        if !what.is_empty() {
            judged.found.push(Found::NotTakenUp { what });
        }
    }
    judged.ended = ended(&migrations);
    let last = migrations.iter().rev().find(|one| one.report.is_some());
    judged.said = last.and_then(|one| {
        let outcome = one.report.as_ref()?.get("outcome")?;
        let why = outcome.get("reason").or_else(|| outcome.get("reasons"));
        Some(format!("{}: {}", one.outcome()?, why.map(ToString::to_string).unwrap_or_default()))
    });
    judged.frozen_in_vain = migrations
        .iter()
        .find(|one| one.outcome() == Some("rolled-back"))
        .and_then(|one| one.said("frozen_in_vain").map(str::to_owned));
    if injection.fault == Fault::Stale && migrations.len() > 1 {
        judged.found.push(Found::Unknown { what: "a stale order was carried out".to_owned() });
    }

    // By the registers the service is where the last move that was made has brought it.
    let mut moved = migrations.iter().filter(|one| one.outcome() == Some("moved"));
    let owner = moved.next_back().map_or(ends.from.as_str(), |one| one.end("to")).to_owned();
    for service in Service::ALL {
        let due = if service == injection.service { owner.as_str() } else { before.owner(service) };
        place(&holds, service, due, &mut judged.found);
    }
    let may = may_start_anew(before, injection, ends, judged.ended == Ended::Moved);
    let told = last.is_some_and(|one| one.said("started_anew").is_some());
    tokens(world, injection, ends, may, told, &mut judged);
    let redis =
        if injection.service == Service::Redis { owner } else { before.owner(Service::Redis).to_owned() };
    redis_memory(world, before, injection, may, &redis, &mut judged).await;
    if matches!(judged.ended, Ended::RolledBack | Ended::Refused) {
        let now = process(&holds, &ends.from, injection.service);
        let then = &before.processes[index(injection.service)];
        if now != *then && !may[index(injection.service)] {
            let what =
                format!("{} was rolled back, but is process {now} and was {then}", injection.service.name());
            judged.found.push(Found::Lost { what });
        }
    }
    left(&holds, &mut judged.found);
    judged
}

/// The migrations of the service that began in this run, oldest first.
fn migrations(
    world: &World,
    injection: Injection,
    known: &BTreeSet<String>,
) -> anyhow::Result<Vec<Departure>> {
    let all = world.registers()?.into_iter().flat_map(|one| one.departures);
    let mut new: Vec<Departure> =
        all.filter(|one| one.service == injection.service.name() && !known.contains(&one.id)).collect();
    new.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(new)
}

fn ended(migrations: &[Departure]) -> Ended {
    let outcomes: Vec<&str> = migrations.iter().filter_map(Departure::outcome).collect();
    // Where a scheduler was killed, the order was given again: what counts is whether it came to pass.
    for (word, ended) in
        [("moved", Ended::Moved), ("rolled-back", Ended::RolledBack), ("refused", Ended::Refused)]
    {
        if outcomes.contains(&word) {
            return ended;
        }
    }
    Ended::Unknown
}

/// Whether each service may have lost its memory, for the fault took the node that owned it.
fn may_start_anew(before: &Before, injection: Injection, ends: &Ends, moved: bool) -> [bool; 2] {
    Service::ALL.map(|service| took_owner(injection, ends, service, before, moved))
}

/// Each service on the node that owns it, and on no other.
fn place(holds: &[Holds], service: Service, due: &str, found: &mut Vec<Found>) {
    let name = service.name();
    match running(holds, service)[..] {
        [] => {
            let states: Vec<String> = NODES
                .into_iter()
                .zip(holds)
                .filter_map(|(node, holds)| Some(format!("{node}: {}", holds.containers.get(name)?)))
                .collect();
            found.push(Found::Lost {
                what: format!("{name} runs nowhere; its containers: {}", states.join(", ")),
            });
        }
        [node] if node == due => {}
        [node] => found.push(Found::Unknown { what: format!("{name} runs on {node}, and {due} owns it") }),
        ref nodes => found.push(Found::Twice { what: format!("{name} runs on {}", nodes.join(" and ")) }),
    }
}

/// What the tokens tell. Of a service that was started anew on its way, its migration has to say that: `told`.
fn tokens(world: &World, injection: Injection, ends: &Ends, may: [bool; 2], told: bool, judged: &mut Judged) {
    let log = world.tokens.log();
    let mut cold = 0;
    for event in &log.events {
        match event {
            Event::Cold { after, came, in_order } => {
                cold += 1;
                if !may[index(Service::Token)] || cold > 1 {
                    let what = format!(
                        "started cold after token {}: another process from token {}",
                        after.number, came.number
                    );
                    judged.found.push(Found::Lost { what });
                    continue;
                }
                // Where both ends went, it may have stood frozen by the commit, and must not run again to be told.
                let both = ends.taken_by(injection.fault).len() > 1;
                if platform::is_in_order(injection.fault) && !both && !in_order {
                    let what = "its node was to end in order, and it was killed without being asked to end";
                    judged.found.push(Found::Unknown { what: what.to_owned() });
                }
                if injection.service == Service::Token {
                    judged.ended = Ended::NodeLost;
                    let [was, is] = [after.from, came.from].map(|address| world.at(address));
                    if was == Some(ends.from.as_str()) && is == Some(ends.to.as_str()) && !told {
                        let what = "it was started anew on its way, and its migration does not say so";
                        judged.found.push(Found::Unknown { what: what.to_owned() });
                    }
                }
            }
            Event::Twice { after, came } => {
                let what = format!(
                    "token {} from {} after {} from {}",
                    came.number, came.from, after.number, after.from
                );
                judged.found.push(Found::Twice { what });
                return;
            }
            Event::Returned { came } => {
                let what =
                    format!("a process that was replaced sent token {} from {}", came.number, came.from);
                judged.found.push(Found::Twice { what });
                return;
            }
        }
    }
    if log.lately_from(world.tokens.now(), LATELY).is_empty() {
        judged.found.push(Found::Lost { what: "no token comes any more".to_owned() });
    }
}

/// What the client's writes and the server's own name tell.
async fn redis_memory(
    world: &mut World,
    before: &Before,
    injection: Injection,
    may: [bool; 2],
    node: &str,
    judged: &mut Judged,
) {
    judged.writes = world.acknowledged();
    match world.look_up(node).await {
        Err(error) => {
            judged.found.push(Found::Lost { what: format!("redis on {node} does not answer: {error:#}") })
        }
        Ok((lost, run_id)) => {
            if !lost.is_empty() {
                judged.found.push(Found::LostWrites { what: lost });
            }
            if run_id != before.run_id {
                if !may[index(Service::Redis)] {
                    let what = format!("redis was started cold: run_id {run_id}, before {}", before.run_id);
                    judged.found.push(Found::Lost { what });
                } else if injection.service == Service::Redis {
                    judged.ended = Ended::NodeLost;
                }
            }
        }
    }
}

/// Nothing but each service on its node.
fn left(holds: &[Holds], found: &mut Vec<Found>) {
    let mut what = Vec::new();
    for (node, holds) in NODES.into_iter().zip(holds) {
        for (name, state) in holds.containers.iter().filter(|(_, state)| *state != "running") {
            what.push(format!("{node}: container {name}, {state}"));
        }
        if !holds.runs(Service::Redis.name()) {
            what.extend(holds.volumes.iter().map(|name| format!("{node}: volume {name}")));
        }
        what.extend(holds.staged.iter().map(|path| format!("{node}: {path}")));
    }
    if !what.is_empty() {
        found.push(Found::Left { what });
    }
}
