//! In which order to move: waves that are feasible at every instant, and what each move is predicted to cost.

use sterna_policies::policy::Policy;
use sterna_policies::quantity::{MibPerSecond, Millis};

use crate::continuum::SiteName;
use crate::cost;
use crate::observation::Observation;
use crate::placement::evaluate::Evaluator;
use crate::placement::model::{Load, Room};
use crate::plan::{Move, MoveCost};

/// Between nodes of one site, where inventories name no link: a gigabit network is assumed.
const WITHIN_SITE: MibPerSecond = MibPerSecond::from_micros(119_209_290);
/// Between sites without a link in the inventory: 100 Mbit/s and 50 ms are assumed.
const UNKNOWN_LINK: (MibPerSecond, Millis) =
    (MibPerSecond::from_micros(11_920_929), Millis::from_micros(50_000_000));
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
                predicted: cost(observation, evaluator, policy, *step),
            });
        }
    }
    moves
}

/// What a step is predicted to cost.
///
/// The bytes are the memory that the service holds now, or what it asks for where that is not known.
fn cost(observation: &Observation, evaluator: &Evaluator<'_>, policy: &Policy, step: Step) -> MoveCost {
    let (name, service) = evaluator.services[step.service];
    let memory = observation.memory.get(name).copied().unwrap_or(service.memory);
    let (from, to) = (&evaluator.nodes[step.from].1.site, &evaluator.nodes[step.to].1.site);
    let (link, rtt) = path(observation, from, to);
    let bandwidth = policy.migration.bandwidth.map_or(link, |most| most.min(link));
    cost::of_move(memory, policy.migration.memory, bandwidth, rtt)
}

fn path(observation: &Observation, from: &SiteName, to: &SiteName) -> (MibPerSecond, Millis) {
    if from == to {
        return (WITHIN_SITE, Millis::ZERO);
    }
    observation.continuum.link(from, to).map_or(UNKNOWN_LINK, |link| (link.bandwidth, link.rtt))
}
