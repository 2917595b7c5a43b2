//! What is cheapest to give up, so that the rest can hold.

use std::collections::BTreeSet;

use super::demands::{Active, Demand, broken};
use super::oracle::{Oracle, Rest, mend, settle};
use super::{ConflictError, Holding, ask as ask_all};
use crate::assignment::exact::choice::Choice;
use crate::assignment::exact::program::{Program, Sum};
use crate::assignment::exact::rules::breaches;
use crate::assignment::exact::{Effort, solver};
use crate::assignment::model::Model;
use crate::assignment::problem::Problem;
use crate::assignment::state::State;
use crate::checker::assignment::judge;

/// Demands of a conflict that are tried to be given up alone, before the solver is asked.
const ALONE: usize = 16;
/// Those that are tried with a repair, which takes longer.
const THOROUGHLY: usize = 2;

/// What is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relaxation {
    /// What is broken, and how often: each breach of a rule, each bin without room in a dimension, each item off its list, each
    /// item too many that moved.
    pub given_up: Vec<(Demand, i64)>,
    /// What that costs.
    pub cost: i128,
    /// Nothing costs less.
    pub bound: i128,
    /// The bin of each item.
    pub at: Vec<u32>,
}

impl Relaxation {
    /// Whether nothing is cheaper.
    pub const fn proved(&self) -> bool {
        self.cost == self.bound
    }

    fn new(model: &Model, at: Vec<u32>, weight: &dyn Fn(Demand) -> i64) -> Self {
        let given_up: Vec<(Demand, i64)> = broken(model, &judge(model, &at)).into_iter().collect();
        let cost =
            given_up.iter().map(|(demand, times)| i128::from(weight(*demand)) * i128::from(*times)).sum();
        Self { given_up, cost, bound: 0, at }
    }
}

/// The cheapest to give up of a model's demands. `weight` is what it costs to break each once; what costs nothing or less may be
/// broken at will. The seconds are for each question to the solver.
///
/// # Errors
/// Where the model is invalid, a program is too large for the engine, or the engine fails.
pub fn cheapest(
    model: &Model,
    weight: &dyn Fn(Demand) -> i64,
    effort: Effort,
) -> Result<Relaxation, ConflictError> {
    let weight = &|demand| weight(demand).max(0);
    let mut oracle = Oracle::new(model, effort)?;
    let held = ask_all(&mut oracle)?;
    let mut bound = 0;
    let mut active = BTreeSet::new();
    let mut conflict = Vec::new();
    if let Holding::Impossible { demands, .. } = held {
        // One of them has to go.
        bound = demands.iter().map(|demand| i128::from(weight(*demand))).min().unwrap_or(0);
        active.extend(demands.iter().copied());
        conflict = demands;
    }
    // What was looked at is known; else where everything is now.
    let known = oracle.known().map(|at| Relaxation::new(model, at.to_vec(), weight));
    let cheapest = known.min_by_key(|relaxation| relaxation.cost);
    let mut best = cheapest.unwrap_or_else(|| Relaxation::new(model, model.now(), weight));
    conflict.sort_by_key(|demand| weight(*demand));
    let tries =
        |how: fn(&mut State<'_>), count: usize| conflict.iter().take(count).map(move |demand| (*demand, how));
    for (demand, how) in tries(settle, ALONE).chain(tries(mend, THOROUGHLY)) {
        if best.cost > bound
            && let Some(at) = without(model, demand, how)
        {
            let found = Relaxation::new(model, at, weight);
            best = if found.cost < best.cost { found } else { best };
        }
    }
    active.extend(broken(model, &judge(model, &best.at)).into_keys());
    let cost = |demand: &Demand, times: &i64| i128::from(weight(*demand)) * i128::from(*times);
    let mut grown = true;
    while best.cost > bound && grown {
        active.retain(|demand| weight(*demand) > 0);
        let (before, looked) = (active.len(), active.clone());
        let (found, least) = ask(&oracle, &active, &best.at, weight)?;
        // What some of the demands cost at least, all of them do.
        bound = bound.max(least);
        let Some(found) = found else { break };
        let found = Relaxation::new(model, oracle.mended(&found, settle), weight);
        active.extend(found.given_up.iter().map(|(demand, _)| *demand).filter(|demand| weight(*demand) > 0));
        // Where time ran out, it would with more demands.
        let done = found.given_up.iter().filter(|(demand, _)| looked.contains(demand));
        grown =
            active.len() > before && done.map(|(demand, times)| cost(demand, times)).sum::<i128>() <= least;
        if found.cost < best.cost {
            best = found;
        }
    }
    best.bound = bound.min(best.cost);
    Ok(best)
}

/// An assignment that meets all but one demand, if it is found that way.
fn without(model: &Model, demand: Demand, how: fn(&mut State<'_>)) -> Option<Vec<u32>> {
    let mut demands = all(model);
    demands.remove(&demand);
    let problem = Problem::new(&Active::new(model, &demands).model(model)).ok()?;
    let mut state = State::new(&problem, &problem.now);
    how(&mut state);
    (state.broken() == 0).then(|| state.at().to_vec())
}

/// Every demand of a model.
fn all(model: &Model) -> BTreeSet<Demand> {
    let (bins, dimensions) = (model.bins.len() as u32, model.dimensions.len() as u32);
    let capacities =
        (0..bins).flat_map(|bin| (0..dimensions).map(move |dimension| Demand::Capacity { bin, dimension }));
    let rules = (0..model.rules.len() as u32).map(|rule| Demand::Rule { rule });
    let listed = model.items.iter().enumerate().filter(|(_, item)| item.bins.is_some());
    let lists = listed.map(|(item, _)| Demand::List { item: item as u32 });
    let moved = model.most_moved.map(|_| Demand::MostMoved);
    capacities.chain(rules).chain(lists).chain(moved).collect()
}

/// The cheapest to give up of some demands, as if there were no others, and what it costs at least.
fn ask(
    oracle: &Oracle<'_>,
    active: &BTreeSet<Demand>,
    at: &[u32],
    weight: &dyn Fn(Demand) -> i64,
) -> Result<(Option<Vec<u32>>, i128), ConflictError> {
    let model = oracle.model;
    let laid = Active::new(model, active);
    let Rest { at: placed, items } = oracle.rest(&laid, at);
    let stands: Vec<u32> =
        (0..at.len()).map(|item| if items[item] { at[item] } else { placed[item] }).collect();
    let mut program = Program::default();
    let bins = |item: usize| Some((0..model.bins.len() as u32).filter(|_| items[item]).collect());
    let nothing = Active::new(model, &BTreeSet::new()).limits(model);
    let choice = Choice::new(model, &stands, &nothing, bins, &mut program);
    let mut cost = Sum::default();
    for demand in active {
        let breaches = match *demand {
            Demand::Capacity { bin, dimension } => {
                let room = model.bins[bin as usize].capacity[dimension as usize];
                let beyond = choice.held(bin as usize, dimension as usize).plus(-1, &Sum::of(room.into()));
                program.given_up(&beyond)
            }
            Demand::Rule { rule } => breaches(&choice, &model.rules[rule as usize], &mut program),
            Demand::List { item } => {
                let off = |bin: u32| i128::from(!laid.allows(model, item as usize, bin));
                choice.by_bin(item as usize, off)
            }
            Demand::MostMoved => {
                let most = Sum::of(model.most_moved.unwrap_or(u32::MAX).into());
                let moved = (0..at.len()).fold(Sum::default(), |sum, item| sum.plus(1, &choice.moved(item)));
                program.above(&[moved.plus(-1, &most)])
            }
        };
        cost.add(weight(*demand).into(), &breaches);
    }
    let said = solver::solve(&program, &cost, oracle.effort)?;
    Ok((choice.read(&said, &stands), said.bound.unwrap_or(0)))
}
