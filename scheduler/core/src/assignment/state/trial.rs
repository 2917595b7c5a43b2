//! What changes would come to, without making them: an item goes, two change places, one makes way for another.

use super::State;

/// An item that leaves its bin, and what that changes there.
#[derive(Debug, Clone, Copy)]
pub struct Leave {
    item: usize,
    more: i64,
    pressure: f64,
}

impl State<'_> {
    /// Whether a bin has room for an item that is not on it.
    #[inline]
    pub(super) fn has_room(&self, item: usize, bin: usize) -> bool {
        let back = self.problem.now[item] as usize == bin;
        let uses = self.problem.uses(item);
        let slack = self.slack(bin);
        uses.iter()
            .zip(slack)
            .zip(&self.problem.transient)
            .all(|((uses, slack), transient)| uses <= slack || *uses == 0 || (back && *transient))
    }

    /// What it changes in the objective that an item goes elsewhere; nothing if it may not.
    pub fn shift(&self, item: usize, to: u32) -> Option<i64> {
        self.enter(&self.leave(item), to, i64::MAX)
    }

    /// The same; nothing too if it is more than `most`.
    pub(in crate::assignment) fn shift_within(&self, item: usize, to: u32, most: i64) -> Option<i64> {
        self.enter(&self.leave(item), to, most)
    }

    /// What it changes for the bin that an item is on that it leaves.
    #[inline]
    pub fn leave(&self, item: usize) -> Leave {
        let problem = self.problem;
        let worth = &problem.worths[self.objective];
        let from = self.at[item] as usize;
        let uses = &problem.uses(item)[..problem.dimensions];
        let stays = problem.now[item] as usize == from;
        let change = |at: usize| (-uses[at], if stays && problem.transient[at] { 0 } else { -uses[at] });
        let carries = self.on[from].len() > 1;
        let (value, pressure) = worth.bin(problem, from, self.load(from), change, &self.prices, carries);
        let before = self.pressures.get(from).copied().unwrap_or(0.0);
        Leave {
            item,
            more: value - self.bins[self.objective][from] - worth.item(problem, &self.at, item, from as u32),
            pressure: pressure - before,
        }
    }

    /// What it changes in the objective that an item that leaves its bin goes to another; nothing if it may not, or if it is
    /// more than `most`.
    #[inline]
    pub fn enter(&self, leave: &Leave, to: u32, most: i64) -> Option<i64> {
        let problem = self.problem;
        let item = leave.item;
        let (from, there, now) = (self.at[item], to as usize, problem.now[item]);
        let strict = self.prices.is_empty();
        if from == to || (strict && !self.has_room(item, there)) {
            return None;
        }
        let worth = &problem.worths[self.objective];
        let uses = &problem.uses(item)[..problem.dimensions];
        let back = now == to;
        let change = |at: usize| (uses[at], if back && problem.transient[at] { 0 } else { uses[at] });
        let (value, pressure) = worth.bin(problem, there, self.load(there), change, &self.prices, true);
        let before = self.pressures.get(there).copied().unwrap_or(0.0);
        let mut more = leave.more + value - self.bins[self.objective][there];
        more += (leave.pressure + pressure - before) as i64;
        more += worth.item(problem, &self.at, item, to);
        let leaving = now == from;
        if worth.group_move != 0 && (leaving || back) {
            let groups = problem.laws.groups.of(item);
            let (leaving, back) = if leaving { (groups, &[][..]) } else { (&[][..], groups) };
            more += worth.group_move * self.moved.change(&[leaving], &[back]);
        }
        // Looking at rules is what takes longest, and soft rules are few.
        if more > most && !problem.laws.any_soft() {
            return None;
        }
        let too_many = leaving && problem.most_moved.is_some_and(|most| self.moved.items >= most);
        if too_many || !problem.allows(item, there) {
            return None;
        }
        more += self.counts.change(&problem.laws, self.places(), item, (from, to), self.objective)?;
        (more <= most).then_some(more)
    }

    /// Whether no rule would be worse broken if an item went to a bin.
    pub fn keeps(&self, item: usize, to: u32) -> bool {
        let (laws, from) = (&self.problem.laws, self.at[item]);
        self.problem.allows(item, to as usize)
            && self.counts.change(laws, self.places(), item, (from, to), self.objective).is_some()
    }

    /// What it would change in the objective that an item goes elsewhere if nothing forbade it, groups left aside.
    pub fn stake(&self, item: usize, to: u32) -> i64 {
        let problem = self.problem;
        let worth = &problem.worths[self.objective];
        let (from, there) = (self.at[item], to as usize);
        if from == to {
            return 0;
        }
        let uses = problem.uses(item);
        let change = |at: usize| (uses[at], uses[at]);
        let (value, _) = worth.bin(problem, there, self.load(there), change, &[], true);
        let more = self.leave(item).more + value - self.bins[self.objective][there];
        more + worth.item(problem, &self.at, item, to)
    }

    /// What it changes in the objective that two items on different bins change places; nothing if they may not, if a rule has
    /// to do with both, or if it is more than `most`.
    #[inline]
    pub fn swap(&self, one: usize, other: usize, most: i64) -> Option<i64> {
        self.chain(one, other, self.at[one], most)
    }

    /// What it changes in the objective that an item goes to the bin of another, which goes elsewhere; nothing if they may not, if
    /// a rule has to do with both, or if it is more than `most`.
    #[inline]
    pub fn chain(&self, one: usize, other: usize, to: u32, most: i64) -> Option<i64> {
        let problem = self.problem;
        let (here, there) = (self.at[one], self.at[other]);
        if here == there || there == to {
            return None;
        }
        let dimensions = problem.dimensions;
        let (a, b) = (&problem.uses(one)[..dimensions], &problem.uses(other)[..dimensions]);
        let (now_one, now_other) = (problem.now[one], problem.now[other]);
        let (one_leaves, other_back) = (now_one == here, now_other == to);
        let (other_leaves, one_back) = (now_other == there, now_one == there);
        // By how much more is used and less is left when `comes` comes and `goes` goes.
        let change = |at: usize, comes: i64, goes: i64, back: bool, leaves: bool| {
            let less = if problem.transient[at] {
                (if back { 0 } else { comes }) - (if leaves { 0 } else { goes })
            } else {
                comes - goes
            };
            (comes - goes, less)
        };
        let exchange = here == to;
        let at_here = |at: usize| change(at, if exchange { b[at] } else { 0 }, a[at], other_back, one_leaves);
        let at_there = |at: usize| change(at, a[at], b[at], one_back, other_leaves);
        let at_away = |at: usize| change(at, b[at], 0, other_back, false);
        let (bin_here, bin_there, bin_away) = (here as usize, there as usize, to as usize);
        if self.prices.is_empty() {
            let fits = |less: i64, slack: i64| less <= slack || less <= 0;
            let (slack_there, slack_away) = (self.slack(bin_there), self.slack(bin_away));
            let last = |at: usize| if exchange { at_here(at).1 } else { at_away(at).1 };
            if !(0..dimensions)
                .all(|at| fits(at_there(at).1, slack_there[at]) && fits(last(at), slack_away[at]))
            {
                return None;
            }
        }
        let worth = &problem.worths[self.objective];
        let bins = &self.bins[self.objective];
        let carries = exchange || self.on[bin_here].len() > 1;
        let (value, pressure) =
            worth.bin(problem, bin_here, self.load(bin_here), at_here, &self.prices, carries);
        let mut more = value - bins[bin_here];
        let mut pressed = pressure;
        let (value, pressure) =
            worth.bin(problem, bin_there, self.load(bin_there), at_there, &self.prices, true);
        more += value - bins[bin_there];
        pressed += pressure;
        if !exchange {
            let (value, pressure) =
                worth.bin(problem, bin_away, self.load(bin_away), at_away, &self.prices, true);
            more += value - bins[bin_away];
            pressed += pressure;
        }
        if !self.pressures.is_empty() {
            let before = self.pressures[bin_here] + self.pressures[bin_there];
            more += (pressed - before - if exchange { 0.0 } else { self.pressures[bin_away] }) as i64;
        }
        more += worth.item(problem, &self.at, one, there) - worth.item(problem, &self.at, one, here);
        more += worth.item(problem, &self.at, other, to) - worth.item(problem, &self.at, other, there);
        more += worth.between(problem, (one, here, there), (other, there, to));
        let (laws, places) = (&problem.laws, self.places());
        if worth.group_move != 0 && (one_leaves || one_back || other_leaves || other_back) {
            let groups = |item: usize, counts: bool| if counts { laws.groups.of(item) } else { &[] };
            more += worth.group_move
                * self.moved.change(
                    &[groups(one, one_leaves), groups(other, other_leaves)],
                    &[groups(one, one_back), groups(other, other_back)],
                );
        }
        if more > most && !laws.any_soft() {
            return None;
        }
        if !problem.allows(one, bin_there) || !problem.allows(other, bin_away) || laws.entangled(one, other) {
            return None;
        }
        if let Some(most) = problem.most_moved {
            let more =
                i64::from(one_leaves) + i64::from(other_leaves) - i64::from(one_back) - i64::from(other_back);
            if more > 0 && i64::from(self.moved.items) + more > i64::from(most) {
                return None;
            }
        }
        more += self.counts.change(laws, places, one, (here, there), self.objective)?;
        more += self.counts.change(laws, places, other, (there, to), self.objective)?;
        (more <= most).then_some(more)
    }
}
