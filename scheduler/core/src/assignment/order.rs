//! In which order items go from where they are to where they should be.
//!
//! While an item goes, it uses both bins. Each step leaves no bin without room and no rule worse than it found it, so that every
//! beginning of the order can be the end of it. Where items wait for each other in a circle, one is parked on a third bin.
//!
//! | module | what lives there |
//! |---|---|
//! | [`exhaustive`] | every order of few steps |
//! | [`timetable`] | when each step starts and ends |

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::model::{Dimension, Model, Objective};
use super::problem::Problem;
use super::state::State;
use super::validity::Invalid;

pub mod exhaustive;
pub mod timetable;

/// Up to so many steps that have to do with each other are tried in every order.
const FEW: usize = 24;
/// Bins on which it is tried to park an item.
const PARKINGS: usize = 8;

/// An item that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The item.
    pub item: u32,
    /// Where it is.
    pub from: u32,
    /// Where it goes.
    pub to: u32,
    /// Whether it only makes way there, and goes on later.
    pub parks: bool,
}

/// Steps in an order, and what no order was found for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// The steps.
    pub steps: Vec<Step>,
    /// Items that stay where they are, each with the bin that it should have gone to.
    pub unreachable: Vec<(u32, u32)>,
}

/// What an order may do.
#[derive(Debug, Clone, Copy)]
pub struct Allowed<'a> {
    /// Whether items may be parked.
    pub parking: bool,
    /// What it costs to let an item go once more than needed; one each where nothing is said.
    pub cost: &'a [i64],
    /// How many states are looked at where few steps are tried in every order.
    pub states: usize,
}

impl Default for Allowed<'_> {
    fn default() -> Self {
        Self { parking: true, cost: &[], states: 100_000 }
    }
}

/// An order for going from where the items of a model are to where `target` has them.
///
/// # Errors
/// What is wrong with the model.
pub fn order(model: &Model, target: &[u32], allowed: Allowed<'_>) -> Result<Order, Invalid> {
    Ok(order_in(&one_by_one(model)?, target, allowed))
}

/// The same of a model that is [laid out](one_by_one) already.
pub(crate) fn order_in(problem: &Problem, target: &[u32], allowed: Allowed<'_>) -> Order {
    let mut yard = Yard { state: State::new(problem, &problem.now), target, allowed, steps: Vec::new() };
    let mut unreachable = Vec::new();
    for together in yard.together() {
        unreachable.extend(yard.carry_out(together));
    }
    unreachable.sort_unstable();
    Order { steps: yard.steps, unreachable }
}

/// The model, laid out for somebody who lets one item go after the other: a bin is free again as soon as an item has left.
pub(crate) fn one_by_one(model: &Model) -> Result<Problem, Invalid> {
    // What is wanted plays no part, and is most of it.
    let Model { dimensions, scopes, bins, items, groups, rules, objectives: _, most_moved: _ } = model;
    let dimensions = dimensions.iter().map(|one| Dimension { name: one.name.clone(), transient: false });
    Problem::new(&Model {
        dimensions: dimensions.collect(),
        scopes: scopes.clone(),
        bins: bins.clone(),
        items: items.clone(),
        groups: groups.clone(),
        rules: rules.clone(),
        objectives: vec![Objective::default()],
        most_moved: None,
    })
}

/// Items on their way.
struct Yard<'p, 't> {
    state: State<'p>,
    target: &'t [u32],
    allowed: Allowed<'t>,
    steps: Vec<Step>,
}

impl Yard<'_, '_> {
    /// The items that have to go, those together that share bins or rules.
    fn together(&self) -> Vec<Vec<u32>> {
        let problem = self.state.problem();
        let going: Vec<u32> = (0..problem.items() as u32)
            .filter(|item| self.state.at()[*item as usize] != self.target[*item as usize])
            .collect();
        let mut sets = Sets::new(problem.bins() + problem.laws.groups_count());
        for item in &going {
            let at = *item as usize;
            let bin = self.state.at()[at] as usize;
            sets.join(bin, self.target[at] as usize);
            for group in problem.laws.related_to(at) {
                sets.join(bin, problem.bins() + group as usize);
            }
        }
        let mut together: Vec<(usize, Vec<u32>)> = Vec::new();
        let mut place = BTreeMap::new();
        for item in going {
            let root = sets.root(self.state.at()[item as usize] as usize);
            let at = *place.entry(root).or_insert_with(|| {
                together.push((root, Vec::new()));
                together.len() - 1
            });
            together[at].1.push(item);
        }
        together.into_iter().map(|(_, items)| items).collect()
    }

    /// Lets items go that have to do with each other; returns those that can't, with where they should have gone.
    fn carry_out(&mut self, items: Vec<u32>) -> Vec<(u32, u32)> {
        let begin = self.steps.len();
        let mut left = items.clone();
        self.let_go(&mut left);
        if left.is_empty() {
            return Vec::new();
        }
        if items.len() <= FEW {
            let reached = self.steps.split_off(begin);
            self.take_back(&reached);
            if let Some(steps) = exhaustive::every(&mut self.state, &items, self.target, self.allowed.states)
            {
                self.steps.extend(steps);
                return Vec::new();
            }
            for step in &reached {
                self.state.go(step.item as usize, step.to);
            }
            self.steps.extend(reached);
        }
        if self.allowed.parking {
            self.park(&mut left);
        }
        left.into_iter().map(|item| (item, self.target[item as usize])).collect()
    }

    /// Lets go whatever can, until nothing more can.
    fn let_go(&mut self, left: &mut Vec<u32>) {
        // Where many want to go, those who are there go first.
        let mut wanted = BTreeMap::new();
        for item in left.iter() {
            *wanted.entry(self.target[*item as usize]).or_insert(0u32) += 1;
        }
        let crowd = |item: &u32, state: &State<'_>| {
            let at = state.at()[*item as usize];
            Reverse(wanted.get(&at).copied().unwrap_or(0))
        };
        left.sort_by_key(|item| (crowd(item, &self.state), *item));
        loop {
            let before = left.len();
            left.retain(|item| !self.step(*item, self.target[*item as usize], false));
            if left.len() == before {
                return;
            }
        }
    }

    fn step(&mut self, item: u32, to: u32, parks: bool) -> bool {
        let from = self.state.at()[item as usize];
        if self.state.attempt(&[(item as usize, to)]).is_none() {
            return false;
        }
        self.steps.push(Step { item, from, to, parks });
        true
    }

    fn take_back(&mut self, steps: &[Step]) {
        for step in steps.iter().rev() {
            self.state.go(step.item as usize, step.from);
        }
    }

    /// Parks items so that others can go, as long as that helps. An item that can't go on from there is taken back.
    fn park(&mut self, left: &mut Vec<u32>) {
        let mut parked = BTreeSet::new();
        while !left.is_empty() {
            let begin = self.steps.len();
            let before = left.clone();
            let Some(item) = self.make_way(left, &parked) else { break };
            parked.insert(item);
            self.let_go(left);
            // What is parked and can't go on keeps on waiting only if something else has gone meanwhile.
            if left.len() == before.len() {
                let made = self.steps.split_off(begin);
                self.take_back(&made);
                *left = before;
                break;
            }
        }
        self.bring_home(left);
    }

    /// Parks the cheapest item whose place lets another go; which one.
    fn make_way(&mut self, left: &[u32], parked: &BTreeSet<u32>) -> Option<u32> {
        let mut candidates: Vec<u32> = left.iter().copied().filter(|item| !parked.contains(item)).collect();
        candidates.sort_by_key(|item| (self.cost(*item), *item));
        for item in candidates {
            let from = self.state.at()[item as usize];
            let waits = |other: &&u32| **other != item && self.target[**other as usize] == from;
            let waiting: Vec<u32> = left.iter().filter(waits).copied().collect();
            if waiting.is_empty() {
                continue;
            }
            let mut tried = 0;
            for bin in 0..self.state.problem().bins() as u32 {
                if tried == PARKINGS {
                    break;
                }
                if bin == from || !self.step(item, bin, true) {
                    continue;
                }
                tried += 1;
                let helps = waiting.iter().any(|other| {
                    let (other, to) = (*other as usize, self.target[*other as usize]);
                    let at = self.state.at()[other];
                    let can = self.state.attempt(&[(other, to)]).is_some();
                    if can {
                        self.state.go(other, at);
                    }
                    can
                });
                if helps {
                    return Some(item);
                }
                let made = self.steps.split_off(self.steps.len() - 1);
                self.take_back(&made);
            }
        }
        None
    }

    fn cost(&self, item: u32) -> i64 {
        self.allowed.cost.get(item as usize).copied().unwrap_or(1)
    }

    /// Takes back all that was done since an item was parked that is still where it was parked, until there is none.
    fn bring_home(&mut self, left: &mut Vec<u32>) {
        loop {
            let stranded = |step: &Step| step.parks && left.contains(&step.item);
            let Some(first) = self.steps.iter().position(stranded) else { break };
            let made = self.steps.split_off(first);
            self.take_back(&made);
            for step in &made {
                if !left.contains(&step.item) {
                    left.push(step.item);
                }
            }
        }
        // Much of that did not need it.
        self.let_go(left);
    }
}

/// Things that belong together.
struct Sets(Vec<u32>);

impl Sets {
    fn new(count: usize) -> Self {
        Self((0..count as u32).collect())
    }

    fn root(&mut self, of: usize) -> usize {
        let mut at = of;
        while self.0[at] as usize != at {
            self.0[at] = self.0[self.0[at] as usize];
            at = self.0[at] as usize;
        }
        at
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        self.0[one.max(other)] = one.min(other) as u32;
    }
}
