//! An assignment with everything counted. A change takes time by what it touches, not by how large the problem is.
//!
//! | module | what lives there |
//! |---|---|
//! | `trial` | what changes would come to, without making them |

use super::counts::{Counts, Places};
use super::moved::Moved;
use super::problem::Problem;

mod trial;

pub use trial::Leave;

/// An assignment: where each item is, and what that means.
///
/// [`State::shift`], [`State::swap`] and [`State::attempt`] allow nothing that makes a broken rule or an overloaded bin worse, or
/// breaks what holds; [`State::go`] does as it is told.
#[derive(Debug, Clone)]
pub struct State<'p> {
    problem: &'p Problem,
    at: Vec<u32>,
    used: Vec<i64>,
    /// Capacity less what is used, and less what is still used by items that were there and left.
    slack: Vec<i64>,
    /// The items on each bin.
    on: Vec<Vec<u32>>,
    /// Where each item stands in its bin's list.
    position: Vec<u32>,
    counts: Counts,
    moved: Moved,
    /// What each bin is worth, for each objective.
    bins: Vec<Vec<i64>>,
    values: Vec<i64>,
    /// The objective that is minimised.
    pub objective: usize,
    /// What the first objectives may come to at most.
    limits: Vec<i64>,
    /// What each unit beyond capacity costs, in each dimension; nothing where capacity holds strictly.
    prices: Vec<f64>,
    /// What is beyond capacity costs, of each bin.
    pressures: Vec<f64>,
    log: Vec<(usize, i64)>,
}

/// An item and where it goes.
pub type Change = (usize, u32);

impl<'p> State<'p> {
    /// The assignment with each item on the bin that is named.
    pub fn new(problem: &'p Problem, at: &[u32]) -> Self {
        let dimensions = problem.dimensions;
        let mut used = vec![0; problem.bins() * dimensions];
        let mut slack = problem.capacity.clone();
        let mut on: Vec<Vec<u32>> = vec![Vec::new(); problem.bins()];
        let mut position = Vec::with_capacity(at.len());
        let mut moved = Moved::new(problem);
        for (item, bin) in at.iter().enumerate() {
            let bin = *bin as usize;
            position.push(on[bin].len() as u32);
            on[bin].push(item as u32);
            let now = problem.now[item] as usize;
            for (dimension, uses) in problem.uses(item).iter().enumerate() {
                used[bin * dimensions + dimension] += uses;
                slack[bin * dimensions + dimension] -= uses;
                if now != bin && problem.transient[dimension] {
                    slack[now * dimensions + dimension] -= uses;
                }
            }
            if now != bin {
                moved.leaves(problem.laws.groups.of(item));
            }
        }
        let places = Places { at, parts: &problem.parts };
        let mut state = Self {
            counts: Counts::new(&problem.laws, places),
            problem,
            at: at.to_vec(),
            used,
            slack,
            on,
            position,
            moved,
            bins: Vec::new(),
            values: Vec::new(),
            objective: 0,
            limits: Vec::new(),
            prices: Vec::new(),
            pressures: Vec::new(),
            log: Vec::new(),
        };
        for objective in 0..problem.objectives() {
            let bins: Vec<i64> = (0..problem.bins()).map(|bin| state.worth_of(objective, bin)).collect();
            let worth = &problem.worths[objective];
            state.values.push(
                bins.iter().sum::<i64>()
                    + worth.items(problem, at)
                    + worth.group_move * i64::from(state.moved.most)
                    + state.counts.soft(&problem.laws, objective),
            );
            state.bins.push(bins);
        }
        state
    }

    /// Everything to where it is named, with the same objective and limits, and with capacities that hold.
    pub fn reset(&mut self, at: &[u32]) {
        let limits = std::mem::take(&mut self.limits);
        *self = Self { objective: self.objective, limits, ..Self::new(self.problem, at) };
    }

    /// Limits the next objective that is not limited yet. The search keeps to limits; [`Self::shift`] and the like don't look at
    /// them.
    pub fn limit(&mut self, most: i64) {
        self.limits.push(most);
    }

    /// What the first objectives may come to at most.
    pub fn limits(&self) -> &[i64] {
        &self.limits
    }

    /// Whether no objective comes to more than it may.
    pub fn within_limits(&self) -> bool {
        self.limits.iter().zip(&self.values).all(|(most, value)| value <= most)
    }

    /// The problem.
    pub const fn problem(&self) -> &'p Problem {
        self.problem
    }

    /// The bin of each item.
    pub fn at(&self) -> &[u32] {
        &self.at
    }

    /// The items on a bin.
    pub fn on(&self, bin: usize) -> &[u32] {
        &self.on[bin]
    }

    /// What the objectives are worth, the most important first.
    pub fn values(&self) -> &[i64] {
        &self.values
    }

    /// What the objective that is minimised is worth.
    pub fn value(&self) -> i64 {
        self.values[self.objective]
    }

    /// What is left of a bin, in each dimension.
    pub fn slack(&self, bin: usize) -> &[i64] {
        &self.slack[bin * self.problem.dimensions..][..self.problem.dimensions]
    }

    /// What is used of a bin, in each dimension, by the items that are on it.
    pub fn used(&self, bin: usize) -> &[i64] {
        &self.used[bin * self.problem.dimensions..][..self.problem.dimensions]
    }

    /// Lets bins carry more than they have room for, at a price for each unit in each dimension; or no longer, where there are no
    /// prices. What [`Self::shift`] and [`Self::swap`] say then counts the price in.
    pub fn relax(&mut self, prices: &[f64]) {
        self.prices = prices.to_vec();
        self.pressures = (0..self.problem.bins())
            .map(|bin| pressure(&self.prices, self.slack(bin).iter().copied()))
            .collect();
    }

    /// Whether no bin carries more than it has room for.
    pub fn fits(&self) -> bool {
        self.slack.iter().all(|slack| *slack >= 0)
    }

    /// How many bins carry more than they have room for, in each dimension.
    pub fn overloaded(&self) -> Vec<usize> {
        let dimensions = self.problem.dimensions;
        let mut overloaded = vec![0; dimensions];
        for bin in self.slack.chunks(dimensions.max(1)) {
            for (count, slack) in overloaded.iter_mut().zip(bin) {
                *count += usize::from(*slack < 0);
            }
        }
        overloaded
    }

    /// How many items are elsewhere than now.
    pub const fn moved(&self) -> u32 {
        self.moved.items
    }

    /// How often hard rules are broken, each bin without room counted once for each dimension.
    pub fn broken(&self) -> i64 {
        self.counts.hard + self.slack.iter().filter(|slack| **slack < 0).count() as i64
    }

    /// Items that a broken hard rule is about.
    pub fn in_breach(&self) -> Vec<usize> {
        self.counts.in_breach(&self.problem.laws)
    }

    fn worth_of(&self, objective: usize, bin: usize) -> i64 {
        let carries = !self.on[bin].is_empty();
        self.problem.worths[objective].bin(self.problem, bin, self.load(bin), |_| (0, 0), &[], carries).0
    }

    fn load(&self, bin: usize) -> (&[i64], &[i64]) {
        (self.used(bin), self.slack(bin))
    }

    fn places(&self) -> Places<'_> {
        Places { at: &self.at, parts: &self.problem.parts }
    }

    /// Makes some changes one after the other, if no rule and no bin is worse after all of them, and says what that changed in
    /// the objective. If they may not be made, nothing is changed.
    pub fn attempt(&mut self, changes: &[Change]) -> Option<i64> {
        let before = self.value();
        let back: Vec<Change> = changes.iter().map(|(item, _)| (*item, self.at[*item])).collect();
        if !changes.iter().all(|(item, to)| self.problem.allows(*item, *to as usize)) {
            return None;
        }
        let mut bins: Vec<usize> = changes.iter().chain(&back).map(|(_, bin)| *bin as usize).collect();
        bins.sort_unstable();
        bins.dedup();
        let slacks: Vec<i64> = bins.iter().flat_map(|bin| self.slack(*bin).to_vec()).collect();
        let moved = self.moved.items;
        self.begin();
        for (item, to) in changes {
            self.step(*item, *to);
        }
        let fits = bins
            .iter()
            .flat_map(|bin| self.slack(*bin))
            .zip(&slacks)
            .all(|(slack, was)| *slack >= 0 || slack >= was);
        let within = self.problem.most_moved.is_none_or(|most| self.moved.items <= most.max(moved));
        if fits && within && self.counts.none_worse(&self.log) {
            return Some(self.value() - before);
        }
        for (item, to) in back.iter().rev() {
            self.step(*item, *to);
        }
        None
    }

    /// Lets an item go to a bin, which [`Self::shift`] allowed.
    pub fn go(&mut self, item: usize, to: u32) {
        self.begin();
        self.step(item, to);
    }

    /// From here on [`Self::keeps_since`] looks at what [`Self::step`] does.
    pub(super) fn begin(&mut self) {
        self.log.clear();
    }

    /// Whether no rule is worse broken than where it was begun.
    pub(super) fn keeps_since(&self) -> bool {
        self.counts.none_worse(&self.log)
    }

    /// Whether an item that is elsewhere may go to a bin and has room there, whatever rules say.
    pub(super) fn takes(&self, item: usize, to: u32) -> bool {
        let within = self.problem.most_moved.is_none_or(|most| self.moved.items < most);
        within && self.problem.allows(item, to as usize) && self.has_room(item, to as usize)
    }

    /// Lets an item go to a bin, as one of several changes that are one.
    pub(super) fn step(&mut self, item: usize, to: u32) {
        let problem = self.problem;
        let from = self.at[item];
        if from == to {
            return;
        }
        let (here, there, now) = (from as usize, to as usize, problem.now[item]);
        for objective in 0..self.values.len() {
            let worth = &problem.worths[objective];
            self.values[objective] +=
                worth.item(problem, &self.at, item, to) - worth.item(problem, &self.at, item, from);
        }
        let places = Places { at: &self.at, parts: &problem.parts };
        self.counts.go(&problem.laws, places, item, (from, to), &mut self.values, &mut self.log);
        self.at[item] = to;
        if problem.laws.tangled(item) {
            let places = Places { at: &self.at, parts: &problem.parts };
            self.counts.untangle(&problem.laws, places, item, &mut self.values, &mut self.log);
        }
        let dimensions = problem.dimensions;
        for (dimension, uses) in problem.uses(item).iter().enumerate() {
            let transient = problem.transient[dimension];
            self.used[here * dimensions + dimension] -= uses;
            self.used[there * dimensions + dimension] += uses;
            if !(transient && now == from) {
                self.slack[here * dimensions + dimension] += uses;
            }
            if !(transient && now == to) {
                self.slack[there * dimensions + dimension] -= uses;
            }
        }
        let position = self.position[item] as usize;
        self.on[here].swap_remove(position);
        if let Some(last) = self.on[here].get(position) {
            self.position[*last as usize] = position as u32;
        }
        self.position[item] = self.on[there].len() as u32;
        self.on[there].push(item as u32);
        let most = self.moved.most;
        if now == from {
            self.moved.leaves(problem.laws.groups.of(item));
        } else if now == to {
            self.moved.returns(problem.laws.groups.of(item));
        }
        if !self.prices.is_empty() {
            for bin in [here, there] {
                self.pressures[bin] = pressure(&self.prices, self.slack(bin).iter().copied());
            }
        }
        let risen = i64::from(self.moved.most) - i64::from(most);
        for objective in 0..self.values.len() {
            for bin in [here, there] {
                let value = self.worth_of(objective, bin);
                self.values[objective] += value - self.bins[objective][bin];
                self.bins[objective][bin] = value;
            }
            self.values[objective] += problem.worths[objective].group_move * risen;
        }
    }

    /// Whether what one item does can change what a rule says of the other.
    pub fn entangled(&self, one: usize, other: usize) -> bool {
        self.problem.laws.entangled(one, other)
    }
}

/// What is beyond capacity costs.
#[inline]
fn pressure(prices: &[f64], slack: impl Iterator<Item = i64>) -> f64 {
    prices.iter().zip(slack).map(|(price, slack)| price * (-slack).max(0) as f64).sum()
}
