//! What opening a bin costs while it is hot: partly spread over what the bin carries.
//!
//! Nothing is saved until the last item leaves a bin, so single moves feel no slope towards emptying it. While it is hot, what a bin
//! costs rises with the share of its room that is used, steeply at first: with `u / (u + blur)`, which is the true step where
//! nothing is blurred, and even where all is. An item then loses less by leaving a bin with little on it for one with much. The
//! blur goes with the temperature, and so to nothing; what counts for the best is the true cost.

use crate::assignment::problem::Problem;
use crate::assignment::state::State;

/// How blurred the step is where the temperature is what the bin costs.
const BLUR: f64 = 3.0;

/// What bins cost, and how much of them items use.
#[derive(Debug)]
pub struct Opening {
    dimensions: usize,
    cost: Vec<f64>,
    /// What a unit is of a bin's room, the scarcest dimensions counting most; all dimensions of one bin after the other.
    unit: Vec<f64>,
    temperature: f64,
}

impl Opening {
    /// Nothing where no bin costs anything.
    pub(super) fn new(problem: &Problem, objective: usize) -> Option<Self> {
        let worth = &problem.worths[objective];
        if !worth.opens() {
            return None;
        }
        let dimensions = problem.dimensions;
        let scarcity = |at: usize| {
            let room: f64 = (0..problem.bins()).map(|bin| problem.capacity(bin)[at] as f64).sum();
            let used: f64 = (0..problem.items()).map(|item| problem.uses(item)[at] as f64).sum();
            used / room.max(1.0)
        };
        let scarcity: Vec<f64> = (0..dimensions).map(scarcity).collect();
        let all = scarcity.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let unit = (0..problem.bins()).flat_map(|bin| {
            let capacity = problem.capacity(bin);
            scarcity.iter().zip(capacity).map(move |(scarce, room)| scarce / all / (*room as f64).max(1.0))
        });
        let cost = (0..problem.bins()).map(|bin| worth.opening(bin).max(0) as f64).collect();
        Some(Self { dimensions, cost, unit: unit.collect(), temperature: 0.0 })
    }

    /// From now on it is so hot.
    pub(super) fn heat(&mut self, temperature: f64) {
        self.temperature = temperature;
    }

    /// The share of a bin's room that so much is.
    #[inline]
    pub(super) fn share(&self, bin: usize, uses: &[i64]) -> f64 {
        let unit = &self.unit[bin * self.dimensions..][..self.dimensions];
        unit.iter().zip(uses).map(|(unit, uses)| unit * *uses as f64).sum()
    }

    /// By how much more a bin costs than its true step, with so many items that use such a share.
    #[inline]
    fn beside(&self, bin: usize, share: f64, items: usize) -> f64 {
        if items == 0 {
            return 0.0;
        }
        let cost = self.cost[bin];
        let blur = BLUR * self.temperature;
        // cost · ((1 + b) · u / (u + b) − 1) with b = blur / cost.
        if cost > 0.0 { cost * ((cost + blur) * share / (cost * share + blur) - 1.0) } else { 0.0 }
    }

    /// What it costs more than the true steps say that some items leave a bin and others come.
    #[inline]
    fn change(&self, state: &State<'_>, bin: u32, leaves: Option<usize>, comes: Option<usize>) -> f64 {
        let (problem, bin) = (state.problem(), bin as usize);
        let (share, items) = (self.share(bin, state.used(bin)), state.on(bin).len());
        let of = |item: Option<usize>| item.map_or(0.0, |item| self.share(bin, problem.uses(item)));
        let after = items + usize::from(comes.is_some()) - usize::from(leaves.is_some());
        self.beside(bin, (share + of(comes) - of(leaves)).max(0.0), after) - self.beside(bin, share, items)
    }

    /// The same for an item that goes to another bin.
    #[inline]
    pub(super) fn shift(&self, state: &State<'_>, item: usize, to: u32) -> i64 {
        let from = state.at()[item];
        if self.temperature <= 0.0 || from == to {
            return 0;
        }
        (self.change(state, from, Some(item), None) + self.change(state, to, None, Some(item))) as i64
    }

    /// The same for an item that goes to the bin of another, which goes elsewhere.
    #[inline]
    pub(super) fn chain(&self, state: &State<'_>, one: usize, other: usize, to: u32) -> i64 {
        let (here, there) = (state.at()[one], state.at()[other]);
        if self.temperature <= 0.0 || here == there || there == to {
            return 0;
        }
        let middle = self.change(state, there, Some(other), Some(one));
        let ends = if here == to {
            self.change(state, here, Some(one), Some(other))
        } else {
            self.change(state, here, Some(one), None) + self.change(state, to, None, Some(other))
        };
        (middle + ends) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::model::{Bin, Dimension, Item, Model, Objective, Term};

    /// Three of four bins carry 1, 6 and 2 of 10.
    fn model(terms: Vec<Term>) -> Model {
        let bin = || Bin { name: String::new(), capacity: vec![10] };
        let item = |uses: i64, now: u32| Item { name: String::new(), uses: vec![uses], now, bins: None };
        Model {
            dimensions: vec![Dimension { name: String::new(), transient: false }],
            bins: vec![bin(), bin(), bin(), bin()],
            items: vec![item(1, 0), item(6, 1), item(1, 2), item(1, 2)],
            objectives: vec![Objective { terms, ..Objective::default() }],
            ..Model::default()
        }
    }

    #[test]
    fn while_it_is_hot_items_fall_towards_bins_that_carry_much() {
        let problem = Problem::new(&model(vec![Term::Open { cost: vec![1_000_000; 4] }])).unwrap();
        let state = State::new(&problem, &problem.now);
        let mut opening = Opening::new(&problem, 0).unwrap();
        let all = |opening: &Opening, item: usize, to: u32| {
            state.shift(item, to).unwrap() + opening.shift(&state, item, to)
        };
        // Cold there is the step and no more: one of two items that leaves saves nothing.
        assert_eq!(
            [opening.shift(&state, 2, 1), all(&opening, 2, 1), all(&opening, 0, 1)],
            [0, 0, -1_000_000]
        );
        opening.heat(100_000.0);
        assert!(all(&opening, 2, 1) < -50_000);
        // A bin that is opened costs less than the step, and one that is closed saves less.
        assert!((1..1_000_000).contains(&all(&opening, 2, 3)));
        assert!((-999_999..0).contains(&all(&opening, 0, 1)));
    }

    #[test]
    fn a_chain_is_two_shifts() {
        let problem =
            Problem::new(&model(vec![Term::Open { cost: vec![500_000, 900_000, 700_000, 0] }])).unwrap();
        let mut opening = Opening::new(&problem, 0).unwrap();
        opening.heat(200_000.0);
        for (one, other, to) in [(0, 1, 3), (0, 1, 2), (0, 1, 0), (2, 0, 1), (2, 3, 1)] {
            let mut state = State::new(&problem, &problem.now);
            let said = opening.chain(&state, one, other, to);
            let there = state.at()[other];
            let mut sum = 0;
            for (item, to) in [(other, to), (one, there)] {
                sum += opening.shift(&state, item, to);
                state.go(item, to);
            }
            let apart = problem.now[one] != there;
            assert!((said - if apart { sum } else { 0 }).abs() <= 3, "{one} {other} {to}: {said} {sum}");
        }
    }

    #[test]
    fn where_no_bin_costs_anything_there_is_nothing_to_spread() {
        assert!(Opening::new(&Problem::new(&model(Vec::new())).unwrap(), 0).is_none());
    }
}
