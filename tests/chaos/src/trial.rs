//! One run: a move is ordered, a fault strikes at its point, what must heal is healed, all settles, and the referee looks.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::sleep;

use crate::clock;
use crate::injection::{self, Fault, Injection, Service};
use crate::judge::{self, Before, Found};
use crate::order::{Giver, SHORT_LEASE};
use crate::platform;
use crate::strike::{self, Ends};
use crate::world::{NODES, World};

/// Time for the agent to come to the point.
const TO_REACH: Duration = Duration::from_secs(15);
/// Time for the agents to settle after the fault has healed: a few of their longest pauses, and the start of a node.
pub const TO_SETTLE: Duration = Duration::from_secs(60);
/// What a cut may take away from the scheduler.
const LOOK: Duration = Duration::from_millis(5);

/// How a run ended, as far as that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The service goes on at the destination.
    Moved,
    /// The same process goes on at the source.
    RolledBack,
    /// Nothing was touched.
    Refused,
    /// The fault destroyed the node that owned the service, and its processes; it was started anew on its owner.
    NodeLost,
    /// None of these.
    Unknown,
}

/// What a run showed.
#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    /// Which, from 1.
    pub number: usize,
    /// What struck.
    pub injection: Injection,
    /// Where the service was.
    pub from: String,
    /// Where it was to go.
    pub to: String,
    /// Whether the migration came to the point at all.
    pub reached: bool,
    /// Whether the register said `commit` by then.
    pub committed: bool,
    /// How it ended.
    pub ended: Ended,
    /// What the migration itself says of its end.
    pub said: Option<String>,
    /// How long the source stood frozen before it went on, by the agent's own account; of runs that were rolled back.
    pub frozen_in_vain: Option<String>,
    /// The longest time without a token.
    pub longest_gap_ms: u64,
    /// Writes that were acknowledged during the run.
    pub writes: u64,
    /// What must not be.
    pub found: Vec<Found>,
    /// What `sterna run` printed, in all its lives; only where something was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub printed: Option<String>,
    /// Seconds that the run took.
    pub seconds: f64,
}

/// Carries out one run.
///
/// # Errors
/// When the run itself can't be carried out; what the fault did is in the answer.
pub async fn run(
    world: &mut World,
    number: usize,
    injection: Injection,
    before: &Before,
) -> anyhow::Result<Trial> {
    let began = Instant::now();
    let from = before.owner(injection.service).to_owned();
    let others: Vec<&str> = NODES.into_iter().filter(|node| *node != from).collect();
    let mut to = others[usize::from(injection.second)];
    if injection.fault == Fault::DiskFull && to == before.owner(Service::Redis) {
        // It would end there by itself.
        to = others[usize::from(!injection.second)];
    }
    let ends = Ends { to: to.to_owned(), from };
    if let Fault::ClockStep(end) = injection.fault
        && clock::give(world.node(ends.at(end))).await?
    {
        world.ready().await?;
    }
    world.tokens.log().begin();
    let known = known(world)?;

    let at = ends.at(injection::end_of(injection.point)).to_owned();
    world.node(&at).arm(injection.point)?;
    let mut giver = Giver::start(world, injection, &ends)?;
    let mut reached = wait_for(world, &at, &mut giver).await;
    if reached {
        let killed = matches!(injection.fault, Fault::SchedulerKilled | Fault::DaemonKilled);
        let early = injection.fault == Fault::DaemonKilled && injection.long;
        if killed {
            giver.kill().await?;
        }
        if early {
            giver.start_again(world, injection, &ends)?;
            giver.look_once().await;
        }
        if injection.fault == Fault::LeaseExpired {
            sleep(SHORT_LEASE + Duration::from_millis(300)).await;
        }
        let heal = strike::strike(world, injection, &ends).await;
        world.node(&at).let_go();
        strike::heal(world, heal?, injection).await?;
        if killed && !early {
            giver.start_again(world, injection, &ends)?;
        }
    } else {
        world.node(&at).let_go();
    }

    let (settled, history) = giver.finish(world, injection).await?;
    reached &= !world.node(&at).is_up() || !world.node(&at).path("run/sterna/faults/armed").exists();
    let judged = judge::judge(world, before, injection, &ends, &known, settled, history.as_ref()).await;
    let printed = history.filter(|_| !judged.found.is_empty()).map(|history| history.printed);
    let log = world.tokens.log();
    Ok(Trial {
        number,
        injection,
        from: ends.from.clone(),
        to: ends.to.clone(),
        reached,
        committed: injection::is_committed(injection.point),
        ended: judged.ended,
        said: judged.said,
        frozen_in_vain: judged.frozen_in_vain,
        longest_gap_ms: u64::try_from(log.longest_gap().as_millis()).unwrap_or(u64::MAX),
        writes: judged.writes,
        found: judged.found,
        printed,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// Migrations that were there before.
fn known(world: &World) -> anyhow::Result<BTreeSet<String>> {
    let registers = world.registers()?;
    Ok(registers.into_iter().flat_map(|one| one.departures).map(|one| one.id).collect())
}

/// Waits until the agent stands at the point, or the migration is over.
async fn wait_for(world: &World, node: &str, giver: &mut Giver) -> bool {
    let start = Instant::now();
    while start.elapsed() < TO_REACH {
        if world.node(node).has_reached() {
            return true;
        }
        if !giver.runs() {
            // The last points lie behind the last word.
            sleep(Duration::from_millis(200)).await;
            return world.node(node).has_reached();
        }
        sleep(LOOK).await;
    }
    false
}

/// Waits until no agent has anything left to do. What is left if they do not get there.
pub async fn settle(world: &World) -> Result<(), Vec<String>> {
    let start = Instant::now();
    loop {
        let open = world.open_ends();
        if open.is_empty() {
            return Ok(());
        }
        if start.elapsed() > TO_SETTLE {
            return Err(open);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Whether the fault took a node, with all its processes, that owned the service then. `moved` is whether the service was brought to
/// the destination in the end.
pub fn took_owner(injection: Injection, ends: &Ends, service: Service, before: &Before, moved: bool) -> bool {
    let taken = ends.taken_by(injection.fault);
    let took = |node: &str| taken.contains(&node);
    if service != injection.service {
        return took(before.owner(service));
    }
    let committed = injection::is_committed(injection.point);
    let runs_there = injection::runs_there(injection.point);
    let source = took(&ends.from) && !committed;
    let destination = match platform::is_in_order(injection.fault) {
        // While it is given time to end the migration may go on, and the service come to run there.
        true => moved,
        false => runs_there,
    };
    // Where both go, nothing is left that held its memory.
    let both = took(&ends.from) && took(&ends.to);
    source || both || (took(&ends.to) && destination)
}
