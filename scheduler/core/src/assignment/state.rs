//! An assignment with everything counted. A change takes time by what it touches, not by how large the problem is.

use super::counts::{Counts, Places};
use super::problem::Problem;

/// An assignment: where each item is, and what that means.
///
/// No change makes a broken rule or an overloaded bin worse, and what holds goes on holding.
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
    log: Vec<(usize, i64)>,
}

/// Items that are elsewhere than now.
#[derive(Debug, Clone)]
struct Moved {
    items: u32,
    of_group: Vec<u32>,
    /// How many groups have so many.
    groups: Vec<u32>,
    most: u32,
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

    /// What a bin is worth in the objective that is minimised.
    pub fn bin_value(&self, bin: usize) -> i64 {
        self.bins[self.objective][bin]
    }

    /// What is left of a bin, in each dimension.
    pub fn slack(&self, bin: usize) -> &[i64] {
        &self.slack[bin * self.problem.dimensions..][..self.problem.dimensions]
    }

    /// What is used of a bin, in each dimension, by the items that are on it.
    pub fn used(&self, bin: usize) -> &[i64] {
        &self.used[bin * self.problem.dimensions..][..self.problem.dimensions]
    }

    /// How many items are elsewhere than now.
    pub const fn moved(&self) -> u32 {
        self.moved.items
    }

    /// How often hard rules are broken, each bin without room counted once for each dimension.
    pub fn broken(&self) -> i64 {
        self.counts.hard + self.slack.iter().filter(|slack| **slack < 0).count() as i64
    }

    fn worth_of(&self, objective: usize, bin: usize) -> i64 {
        let (used, slack) = (self.used(bin), self.slack(bin));
        let carries = !self.on[bin].is_empty();
        self.problem.worths[objective].bin(self.problem, bin, |at| used[at], |at| slack[at], carries)
    }

    fn places(&self) -> Places<'_> {
        Places { at: &self.at, parts: &self.problem.parts }
    }

    /// Whether a bin has room for an item that is not on it.
    #[inline]
    fn has_room(&self, item: usize, bin: usize) -> bool {
        let back = self.problem.now[item] as usize == bin;
        let uses = self.problem.uses(item);
        let slack = self.slack(bin);
        uses.iter()
            .zip(slack)
            .zip(&self.problem.transient)
            .all(|((uses, slack), transient)| uses <= slack || *uses == 0 || (back && *transient))
    }

    /// What it changes in the objective that an item goes elsewhere; nothing if it may not.
    #[inline]
    pub fn shift(&self, item: usize, to: u32) -> Option<i64> {
        let problem = self.problem;
        let from = self.at[item];
        if from == to || !self.has_room(item, to as usize) || !problem.allows(item, to as usize) {
            return None;
        }
        let now = problem.now[item];
        if let Some(most) = problem.most_moved
            && from == now
            && self.moved.items >= most
        {
            return None;
        }
        let soft = self.counts.change(&problem.laws, self.places(), item, (from, to), self.objective)?;
        let worth = &problem.worths[self.objective];
        let uses = problem.uses(item);
        let (here, there) = (from as usize, to as usize);
        let (used, slack) = (self.used(here), self.slack(here));
        let leaving = now == from;
        let without = worth.bin(
            problem,
            here,
            |at| used[at] - uses[at],
            |at| if leaving && problem.transient[at] { slack[at] } else { slack[at] + uses[at] },
            self.on[here].len() > 1,
        );
        let (used, slack) = (self.used(there), self.slack(there));
        let back = now == to;
        let with = worth.bin(
            problem,
            there,
            |at| used[at] + uses[at],
            |at| if back && problem.transient[at] { slack[at] } else { slack[at] - uses[at] },
            true,
        );
        let bins = &self.bins[self.objective];
        let mut more = without + with - bins[here] - bins[there] + soft;
        more += worth.item(problem, &self.at, item, to) - worth.item(problem, &self.at, item, from);
        if worth.group_move != 0 && (leaving || back) {
            let groups = problem.laws.groups.of(item);
            let (leaving, back) = if leaving { (groups, &[][..]) } else { (&[][..], groups) };
            more += worth.group_move * self.moved.change(&[leaving], &[back]);
        }
        Some(more)
    }

    /// What it changes in the objective that two items on different bins change places; nothing if they may not, or if a rule
    /// has to do with both.
    #[inline]
    pub fn swap(&self, one: usize, other: usize) -> Option<i64> {
        let problem = self.problem;
        let (here, there) = (self.at[one], self.at[other]);
        if here == there {
            return None;
        }
        let ((a, b), dimensions) = ((problem.uses(one), problem.uses(other)), problem.dimensions);
        let (now_one, now_other) = (problem.now[one], problem.now[other]);
        let (slack_here, slack_there) = (self.slack(here as usize), self.slack(there as usize));
        // What a bin's slack falls by when `comes` comes and `goes` goes.
        let (one_leaves, other_back) = (now_one == here, now_other == here);
        let (other_leaves, one_back) = (now_other == there, now_one == there);
        let fall = |at: usize, comes: i64, goes: i64, back: bool, leaves: bool| {
            if problem.transient[at] {
                (if back { 0 } else { comes }) - (if leaves { 0 } else { goes })
            } else {
                comes - goes
            }
        };
        let fits = (0..dimensions).all(|at| {
            let first = fall(at, b[at], a[at], other_back, one_leaves);
            let second = fall(at, a[at], b[at], one_back, other_leaves);
            (first <= slack_here[at] || first <= 0) && (second <= slack_there[at] || second <= 0)
        });
        if !fits
            || !problem.allows(one, there as usize)
            || !problem.allows(other, here as usize)
            || problem.laws.entangled(one, other)
        {
            return None;
        }
        if let Some(most) = problem.most_moved {
            let more = i64::from(one_leaves) + i64::from(other_leaves) - i64::from(one_back) - i64::from(other_back);
            if more > 0 && i64::from(self.moved.items) + more > i64::from(most) {
                return None;
            }
        }
        let (laws, places) = (&problem.laws, self.places());
        let mut more = self.counts.change(laws, places, one, (here, there), self.objective)?;
        more += self.counts.change(laws, places, other, (there, here), self.objective)?;
        let worth = &problem.worths[self.objective];
        let used = self.used(here as usize);
        more += worth.bin(
            problem,
            here as usize,
            |at| used[at] - a[at] + b[at],
            |at| slack_here[at] - fall(at, b[at], a[at], other_back, one_leaves),
            true,
        );
        let used = self.used(there as usize);
        more += worth.bin(
            problem,
            there as usize,
            |at| used[at] - b[at] + a[at],
            |at| slack_there[at] - fall(at, a[at], b[at], one_back, other_leaves),
            true,
        );
        let bins = &self.bins[self.objective];
        more -= bins[here as usize] + bins[there as usize];
        more += worth.item(problem, &self.at, one, there) - worth.item(problem, &self.at, one, here);
        more += worth.item(problem, &self.at, other, here) - worth.item(problem, &self.at, other, there);
        more += worth.between(problem, (one, here, there), (other, there, here));
        if worth.group_move != 0 && (one_leaves || one_back || other_leaves || other_back) {
            let groups = |item: usize, counts: bool| if counts { laws.groups.of(item) } else { &[] };
            more += worth.group_move
                * self.moved.change(
                    &[groups(one, one_leaves), groups(other, other_leaves)],
                    &[groups(one, one_back), groups(other, other_back)],
                );
        }
        Some(more)
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
        self.log.clear();
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
        self.log.clear();
        self.step(item, to);
    }

    fn step(&mut self, item: usize, to: u32) {
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

impl Moved {
    fn new(problem: &Problem) -> Self {
        let count = problem.laws.members.len();
        let largest = (0..count).map(|group| problem.laws.members.of(group).len()).max().unwrap_or(0);
        let mut groups = vec![0; largest + 1];
        groups[0] = count as u32;
        Self { items: 0, of_group: vec![0; count], groups, most: 0 }
    }

    fn leaves(&mut self, groups: &[u32]) {
        self.items += 1;
        for group in groups {
            let moved = &mut self.of_group[*group as usize];
            self.groups[*moved as usize] -= 1;
            *moved += 1;
            self.groups[*moved as usize] += 1;
            self.most = self.most.max(*moved);
        }
    }

    fn returns(&mut self, groups: &[u32]) {
        self.items -= 1;
        for group in groups {
            let moved = &mut self.of_group[*group as usize];
            self.groups[*moved as usize] -= 1;
            *moved -= 1;
            self.groups[*moved as usize] += 1;
        }
        while self.most > 0 && self.groups[self.most as usize] == 0 {
            self.most -= 1;
        }
    }

    /// What the most of a group changes by when items of these groups leave and return, none of them in two.
    #[inline]
    fn change(&self, leaving: &[&[u32]], returning: &[&[u32]]) -> i64 {
        let count = |group: &u32| self.of_group[*group as usize];
        let reached = leaving.iter().flat_map(|groups| groups.iter()).map(count).max();
        if reached == Some(self.most) {
            return 1;
        }
        let falls = |group: &&u32| count(group) == self.most;
        let falling = returning.iter().flat_map(|groups| groups.iter()).filter(falls).count() as u32;
        let stays = reached.is_some_and(|reached| reached + 1 == self.most);
        -i64::from(self.most > 0 && falling > 0 && !stays && self.groups[self.most as usize] == falling)
    }
}
