//! In which order to move: waves that are feasible at every instant, and what each move is predicted to cost.
//!
//! | module | what lives there |
//! |---|---|
//! | [`abreast`] | how many moves may be under way at one time |

use std::collections::BTreeMap;

use sterna_policies::policy::Policy;
use sterna_policies::quantity::{MibPerSecond, Millis};

use self::abreast::Abreast;
use crate::assignment::model::Model;
use crate::assignment::order::timetable::{self, Limits, timetable_in};
use crate::assignment::order::{Allowed, Step, one_by_one, order_in};
use crate::assignment::validity::Invalid;
use crate::continuum::{Continuum, SiteName};
use crate::observation::Observation;
use crate::placement::evaluate::Evaluator;
use crate::plan::{Move, MoveCost};
use crate::report::Makespan;

pub mod abreast;

/// Between nodes of one site, where inventories name no link: a gigabit network is assumed.
const WITHIN_SITE: MibPerSecond = MibPerSecond::from_micros(119_209_290);
/// Between sites without a link in the inventory: 100 Mbit/s and 50 ms are assumed.
const UNKNOWN_LINK: (MibPerSecond, Millis) =
    (MibPerSecond::from_micros(11_920_929), Millis::from_micros(50_000_000));

/// The way from a placement to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Way {
    /// Steps by wave; those of one wave may be under way together. Items are services, bins are nodes.
    pub waves: Vec<Vec<Step>>,
    /// Services for which there is no way, and the nodes that they should have gone to.
    pub unreachable: Vec<(usize, usize)>,
}

/// Steps from where services are to where they should be, in waves of as many as the budget leaves, such that no node is too full and no
/// rule worse at any instant, while each service that moves counts on both nodes. Where services wait for each other in a
/// circle, the one that is moved most cheaply is parked.
///
/// # Errors
/// What is wrong with the model.
pub fn way(model: &Model, target: &[usize], costs: &[i64], abreast: &Abreast<'_>) -> Result<Way, Invalid> {
    let mut at: Vec<u32> = model.now();
    at.iter_mut().zip(target).for_each(|(at, to)| *at = *to as u32);
    let problem = one_by_one(model)?;
    let order = order_in(&problem, &at, Allowed { cost: costs, ..Allowed::default() });
    let mut way = Way::default();
    // As if all took equally long, what starts together is a wave.
    for timed in timetable_in(&problem, &order.steps, limits(abreast.total), |_| 1) {
        let wave = usize::try_from(timed.start).unwrap_or(0);
        if way.waves.len() <= wave {
            way.waves.resize(wave + 1, Vec::new());
        }
        way.waves[wave].push(timed.step);
    }
    way.waves = abreast.split(way.waves);
    way.unreachable = order.unreachable.into_iter().map(|(item, to)| (item as usize, to as usize)).collect();
    Ok(way)
}

/// As many moves at one time in all, and on any node.
fn limits(width: usize) -> Limits {
    Limits { total: u32::try_from(width).unwrap_or(u32::MAX), bin: u32::MAX }
}

/// How long some moves are predicted to take, wave after wave, and what no order of as many at a time could be faster than.
/// `direct` are the steps if each service goes straight to where it should be, and `takes` says how long they take.
pub fn makespan(
    moves: &[Move],
    direct: &[Step],
    width: usize,
    takes: impl Fn(usize, usize) -> Millis,
) -> Makespan {
    let mut waves = BTreeMap::<u32, Millis>::new();
    for one in moves {
        let wave = waves.entry(one.wave).or_insert(Millis::ZERO);
        *wave = one.predicted.duration.max(*wave);
    }
    let predicted = waves.into_values().fold(0i64, |sum, wave| sum.saturating_add(wave.as_micros()));
    let takes = |step: &Step| takes(step.item as usize, step.to as usize).as_micros();
    Makespan {
        predicted: Millis::from_micros(predicted),
        least: Millis::from_micros(timetable::least(direct, limits(width), takes)),
    }
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
                service: evaluator.services[step.item as usize].0.clone(),
                from: evaluator.nodes[step.from as usize].0.clone(),
                to: evaluator.nodes[step.to as usize].0.clone(),
                method: policy.migration.method,
                wave,
                parks: step.parks,
                predicted: cost(
                    observation,
                    evaluator,
                    policy,
                    step.item as usize,
                    (step.from as usize, step.to as usize),
                ),
            });
        }
    }
    moves
}

/// What a service's move is predicted to cost.
///
/// The bytes are the memory that the service holds now, or what it asks for where that is not known.
pub fn cost(
    observation: &Observation,
    evaluator: &Evaluator<'_>,
    policy: &Policy,
    service: usize,
    (from, to): (usize, usize),
) -> MoveCost {
    let (name, service) = evaluator.services[service];
    let memory = observation.memory.get(name).copied().unwrap_or(service.memory);
    let (from, to) = (&evaluator.nodes[from].1.site, &evaluator.nodes[to].1.site);
    let (link, rtt) = path(&observation.continuum, from, to);
    let bandwidth = policy.migration.bandwidth.map_or(link, |most| most.min(link));
    observation.costs.of_move(memory, policy.migration.memory, bandwidth, rtt)
}

/// What the path between two sites carries, and its round trip.
pub fn path(continuum: &Continuum, from: &SiteName, to: &SiteName) -> (MibPerSecond, Millis) {
    if from == to {
        return (WITHIN_SITE, Millis::ZERO);
    }
    continuum.link(from, to).map_or(UNKNOWN_LINK, |link| (link.bandwidth, link.rtt))
}
