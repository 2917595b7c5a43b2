//! Prices for what is beyond capacity, ruled so that fewer and fewer bins carry too much.

use crate::assignment::problem::Problem;
use crate::assignment::state::State;

/// The share of bins that may carry too much at first, in each dimension.
const FIRST: f64 = 0.3;
/// The share of the budget after which none should.
const NONE: f64 = 0.6;
/// The share of the budget after which prices don't fall any more.
const RISE: f64 = 0.85;
/// How fast a price rises when too many bins carry too much, and falls when too few do: by so many e-folds in a whole budget.
/// Prices that outrun the temperature would freeze the search where it is.
const PACE: f64 = 40.0;

/// What a unit beyond capacity costs, in each dimension.
#[derive(Debug, Clone)]
pub struct Prices {
    prices: Vec<f64>,
    /// The share of the budget when they were ruled last.
    since: f64,
}

impl Prices {
    /// At first a mean item that does not fit costs as much as `worse`.
    pub(super) fn new(problem: &Problem, worse: f64, since: f64) -> Self {
        let mean = |at: usize| {
            let all: f64 = (0..problem.items()).map(|item| problem.uses(item)[at] as f64).sum();
            (all / problem.items() as f64).max(1.0)
        };
        Self { prices: (0..problem.dimensions).map(|at| worse / mean(at)).collect(), since }
    }

    /// Lets prices rise and fall; whether there still are prices, because at the end there are none.
    pub(super) fn rule(&mut self, state: &mut State<'_>, spent: f64) -> bool {
        let overloaded = state.overloaded();
        if spent > RISE && overloaded.iter().all(|bins| *bins == 0) {
            state.relax(&[]);
            return false;
        }
        let bins = state.problem().bins() as f64 * FIRST * (1.0 - spent / NONE).max(0.0);
        let pace = PACE * (spent - self.since);
        self.since = spent;
        for (price, overloaded) in self.prices.iter_mut().zip(overloaded) {
            let too_many = overloaded as f64 > bins;
            if too_many {
                *price *= pace.exp();
            } else if spent < RISE {
                *price /= pace.exp();
            }
        }
        state.relax(&self.prices);
        true
    }
}
