//! Simulated annealing: random changes, worse ones taken less and less.
//!
//! Kirkpatrick, Gelatt, Vecchi: Optimization by Simulated Annealing, Science 220, 1983. The temperatures come from the problem:
//! after a descent, by how much random neighbours are worse.

use fastrand::Rng;

use super::budget::Budget;
use super::proposal::Proposer;
use super::relax::{Prices, Ruled};
use super::schedule::Schedule;
use crate::assignment::state::State;

/// Proposals between two looks at the budget.
const BATCH: u64 = 4096;
/// The share of a budget in which only what is better is taken.
const DESCENT: f64 = 0.02;
/// The share after which it is known at which temperatures much happens.
const SOUNDED: f64 = 0.1;
/// The share after which nothing worse is taken any more.
const COLD: f64 = 0.97;
/// The first temperature, by the median of how much worse neighbours are.
const HOT: f64 = 10.0;
/// The same where what was found is searched once more.
const WARM: f64 = 0.2;
/// The last temperature, by what a hundredth of worse neighbours are worse by less than.
const LAST: f64 = 0.01;
/// Neighbours that are looked at to find the temperatures.
const SAMPLES: usize = 20_000;

/// What holds while a search goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// Every bin's capacity.
    Strict,
    /// It may be exceeded at a price that rises: in tight problems most ways lead through what does not fit.
    Relaxed,
}

/// How hot it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heat {
    /// So hot that it does not matter where it begins.
    Hot,
    /// So that most of what was found stays, and only what small differences decide is decided anew.
    Warm,
}

/// Where a search stands; the one that goes on from what others found begins anew.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Proposals made.
    pub proposals: u64,
    /// The least that the objective was worth.
    pub value: i64,
}

/// Makes an assignment better until the budget is spent, and ends at the best in which nothing is worse broken than at first.
pub fn anneal(
    state: &mut State<'_>,
    capacity: Capacity,
    heat: Heat,
    seed: u64,
    budget: &dyn Budget,
    mut look: impl FnMut(Seen),
) {
    let problem = state.problem();
    let movable: Vec<u32> = (0..problem.items() as u32)
        .filter(|item| problem.allowed(*item as usize).is_none_or(|bins| bins.len() > 1))
        .collect();
    let Some(mut proposer) = Proposer::new(state, &movable, Rng::with_seed(seed)) else { return };
    let mut proposals = 0;
    let mut best = Best::of(state);
    let mut schedule: Option<Schedule> = None;
    let mut prices: Option<Prices> = None;
    loop {
        let spent = budget.spent(proposals);
        look(Seen { proposals, value: best.value });
        if spent >= 1.0 {
            break;
        }
        let mut temperature = 0.0;
        if spent > DESCENT && spent < COLD {
            let schedule = schedule.get_or_insert_with(|| {
                let worse = proposer.worse(state, SAMPLES);
                let at = |index: usize| worse.get(index).map_or(1.0, |more| *more as f64);
                let (median, least) = (at(worse.len() / 2), at(worse.len() / 100));
                // Relaxing an assignment that does not fit would hide what is to be repaired; and where bins can be opened, there
                // is room at a cost, which a price for doing without it would only hide until the end.
                if capacity == Capacity::Relaxed && state.fits() && !proposer.opens() {
                    prices = Some(Prices::new(problem, median));
                }
                let first = if heat == Heat::Hot { HOT } else { WARM };
                Schedule::new(median * first, (least * LAST).max(0.5))
            });
            if spent < SOUNDED {
                let share = (spent - DESCENT) / (SOUNDED - DESCENT);
                temperature = schedule.temperature(share);
                schedule.see(share, state.value());
            } else {
                schedule.adapt();
                temperature = schedule.temperature((spent - SOUNDED) / (COLD - SOUNDED));
            }
        }
        if let Some(on) = &mut prices {
            let ruled = on.rule(state, spent);
            if ruled == Ruled::Failed {
                state.reset(&best.at);
            }
            if ruled != Ruled::Relaxed {
                prices = None;
            }
        }
        proposer.heat(temperature);
        let mut made = 0;
        while made < BATCH {
            made += proposer.step(state);
        }
        proposals += made;
        // What is better because bins carry too much does not count.
        if prices.is_none() || state.fits() {
            best.see(state);
        }
    }
    let worse = !state.within_limits() || (best.broken, best.value) < (state.broken(), state.value());
    if prices.is_some() || worse {
        state.reset(&best.at);
    }
}

/// The best that was met.
struct Best {
    broken: i64,
    value: i64,
    at: Vec<u32>,
}

impl Best {
    fn of(state: &State<'_>) -> Self {
        Self { broken: state.broken(), value: state.value(), at: state.at().to_vec() }
    }

    fn see(&mut self, state: &State<'_>) {
        // Counting what is broken takes long, and where nothing is, only what is worth less can be better.
        let may = state.within_limits() && (state.value() < self.value || self.broken > 0);
        if may && (state.broken(), state.value()) < (self.broken, self.value) {
            *self = Self::of(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::model::{Bin, Dimension, Item, Model, Objective, Term};
    use crate::assignment::problem::Problem;
    use crate::assignment::search::budget::Proposals;

    /// The least, and where everything is, after a search of a packing in which the bins are nearly full.
    fn ends(capacity: Capacity, opens: i64) -> (i64, Vec<u32>) {
        let bin = || Bin { name: String::new(), capacity: vec![100] };
        let item = |at: u32| Item {
            name: String::new(),
            uses: vec![i64::from(at % 7) * 5 + 10],
            now: at % 12,
            bins: None,
        };
        let table = (0..30).map(|row| (0..12).map(|part| (row * 7 + part * 5) % 11).collect()).collect();
        let level = crate::assignment::model::Level::Bin;
        let terms =
            vec![Term::Open { cost: vec![opens; 12] }, Term::Pair { level, row: (0..30).collect(), table }];
        let model = Model {
            dimensions: vec![Dimension { name: String::new(), transient: false }],
            bins: (0..12).map(|_| bin()).collect(),
            items: (0..30).map(item).collect(),
            objectives: vec![Objective { terms, ..Objective::default() }],
            ..Model::default()
        };
        let problem = Problem::new(&model).unwrap();
        let mut state = State::new(&problem, &problem.now);
        anneal(&mut state, capacity, Heat::Hot, 1, &Proposals(100_000), |_| {});
        (state.value(), state.at().to_vec())
    }

    #[test]
    fn where_bins_can_be_opened_capacity_is_not_exceeded_on_the_way() {
        assert_eq!(ends(Capacity::Relaxed, 50), ends(Capacity::Strict, 50));
        assert_ne!(ends(Capacity::Relaxed, 0), ends(Capacity::Strict, 0));
    }
}
