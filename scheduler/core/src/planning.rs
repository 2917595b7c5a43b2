//! In which order to move: waves that are feasible at every instant, and what each move is predicted to cost.

use sterna_policies::policy::Policy;
use sterna_policies::quantity::{Bytes, MibPerSecond, Millis};

use crate::continuum::SiteName;
use crate::observation::Observation;
use crate::placement::evaluate::Evaluator;
use crate::placement::model::{Load, Room};
use crate::placement::numbers::narrow;
use crate::plan::{Move, MoveCost};

/// Time of a dump, apart from its size. This and the next three were measured with CRIU 4.2 and runc 1.3 into memory, on nested
/// Docker engines, from 4 MiB to 1 GiB: dump `0.3 s + 0.5 ms/MiB`, restore `0.35 s + 0.5 ms/MiB`.
const DUMP: Millis = Millis::from_micros(300_000_000);
const DUMP_PER_MIB: Millis = Millis::from_micros(500_000);
const RESTORE: Millis = Millis::from_micros(350_000_000);
const RESTORE_PER_MIB: Millis = Millis::from_micros(500_000);
/// Between nodes of one site, where inventories name no link: a gigabit network is assumed.
const WITHIN_SITE: MibPerSecond = MibPerSecond::from_micros(119_209_290);
/// Between sites without a link in the inventory: 100 Mbit/s and 50 ms are assumed.
const UNKNOWN_LINK: (MibPerSecond, Millis) =
    (MibPerSecond::from_micros(11_920_929), Millis::from_micros(50_000_000));
/// Round trips of a migration's phases besides its data: check, reserve, sync, certificate, release, clean.
const ROUND_TRIPS: i64 = 6;
const MIB: i128 = 1 << 20;

/// A service's number with the numbers of the nodes that it leaves and goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The service.
    pub service: usize,
    /// Where it runs.
    pub from: usize,
    /// Where it goes.
    pub to: usize,
}

/// The steps from the present assignment to another.
pub fn steps(evaluator: &Evaluator<'_>, target: &[usize]) -> Vec<Step> {
    (0..target.len())
        .map(|service| Step { service, from: evaluator.now[service], to: target[service] })
        .filter(|step| step.from != step.to)
        .collect()
}

/// Steps in waves of at most `width`, and those that no order makes room for.
///
/// While a step runs, its service counts on both nodes; a wave starts when the one before has ended.
pub fn order(
    evaluator: &Evaluator<'_>,
    room: &Room,
    steps: Vec<Step>,
    width: usize,
) -> (Vec<Vec<Step>>, Vec<Step>) {
    let mut used = room.used.clone();
    let mut left = steps;
    let mut waves = Vec::new();
    while !left.is_empty() {
        let (mut wave, mut later) = (Vec::new(), Vec::new());
        for step in left {
            let load = Load::of(evaluator.services[step.service].1);
            if wave.len() < width && (used[step.to] + load).within(room.limit[step.to]) {
                used[step.to] = used[step.to] + load;
                wave.push(step);
            } else {
                later.push(step);
            }
        }
        if wave.is_empty() {
            return (waves, later);
        }
        for step in &wave {
            used[step.from] = used[step.from] - Load::of(evaluator.services[step.service].1);
        }
        waves.push(wave);
        left = later;
    }
    (waves, left)
}

/// The moves of a plan, complete.
pub fn moves(
    observation: &Observation,
    evaluator: &Evaluator<'_>,
    policy: &Policy,
    waves: &[Vec<Step>],
) -> Vec<Move> {
    let mut moves = Vec::new();
    for (wave, steps) in (0u32..).zip(waves) {
        for step in steps {
            moves.push(Move {
                service: evaluator.services[step.service].0.clone(),
                from: evaluator.nodes[step.from].0.clone(),
                to: evaluator.nodes[step.to].0.clone(),
                method: policy.migration.method,
                wave,
                predicted: cost(observation, evaluator, *step),
            });
        }
    }
    moves
}

/// What a step is predicted to cost: dump, transfer and restore while the service stands still.
///
/// The bytes are the memory that the service holds now, or what it asks for where that is not known.
fn cost(observation: &Observation, evaluator: &Evaluator<'_>, step: Step) -> MoveCost {
    let (name, service) = evaluator.services[step.service];
    let bytes = observation.memory.get(name).copied().unwrap_or(service.memory);
    let (from, to) = (&evaluator.nodes[step.from].1.site, &evaluator.nodes[step.to].1.site);
    let (bandwidth, rtt) = path(observation, from, to);
    let per_mib = |span: Millis| i128::from(span.as_micros()) * i128::from(bytes.0) / MIB;
    let dump = i128::from(DUMP.as_micros()) + per_mib(DUMP_PER_MIB);
    let restore = i128::from(RESTORE.as_micros()) + per_mib(RESTORE_PER_MIB);
    let transfer = transfer(bytes, bandwidth) + i128::from(rtt.as_micros());
    let downtime = dump + transfer + restore;
    let duration = downtime + i128::from(rtt.as_micros()) * i128::from(ROUND_TRIPS);
    MoveCost {
        downtime: Millis::from_micros(narrow(downtime)),
        duration: Millis::from_micros(narrow(duration)),
        bytes,
    }
}

fn path(observation: &Observation, from: &SiteName, to: &SiteName) -> (MibPerSecond, Millis) {
    if from == to {
        return (WITHIN_SITE, Millis::ZERO);
    }
    observation.continuum.link(from, to).map_or(UNKNOWN_LINK, |link| (link.bandwidth, link.rtt))
}

/// Time to send some bytes, in nanoseconds.
fn transfer(bytes: Bytes, bandwidth: MibPerSecond) -> i128 {
    // bytes / (millionths of MiB per second * 2^20 / 1e6) seconds, times 1e9.
    let rate = i128::from(bandwidth.as_micros().max(1)) * MIB;
    i128::from(bytes.0) * 1_000_000_000_000_000 / rate
}
