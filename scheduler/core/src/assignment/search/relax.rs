//! Prices for what is beyond capacity, ruled so that fewer and fewer bins carry too much.

use super::repair::{repair, retreat};
use crate::assignment::problem::Problem;
use crate::assignment::state::State;

/// The share of bins that may carry too much at first, in each dimension.
const FIRST: f64 = 0.3;
/// The share of the budget after which none should.
const NONE: f64 = 0.6;
/// The share of the budget after which prices only rise, and are given up as soon as everything fits.
const RISE: f64 = 0.85;
/// The share of the budget after which everything is made to fit.
const END: f64 = 0.92;
/// What a price rises by when too many bins carry too much, and falls by when too few do.
const GENTLY: f64 = 1.02;
/// The same once prices only rise.
const STRONGLY: f64 = 1.05;

/// What a unit beyond capacity costs, in each dimension.
#[derive(Debug, Clone)]
pub struct Prices(Vec<f64>);

/// What came of ruling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruled {
    /// Bins may still carry too much.
    Relaxed,
    /// Everything fits, from now on.
    Strict,
    /// It could not be made to fit.
    Failed,
}

impl Prices {
    /// At first a mean item that does not fit costs as much as `worse`.
    pub(super) fn new(problem: &Problem, worse: f64) -> Self {
        let mean = |at: usize| {
            let all: f64 = (0..problem.items()).map(|item| problem.uses(item)[at] as f64).sum();
            (all / problem.items() as f64).max(1.0)
        };
        Self((0..problem.dimensions).map(|at| worse / mean(at)).collect())
    }

    /// Lets prices rise and fall, and ends where everything fits.
    pub(super) fn rule(&mut self, state: &mut State<'_>, spent: f64) -> Ruled {
        if spent > RISE && state.fits() {
            state.relax(&[]);
            return Ruled::Strict;
        }
        if spent > END {
            state.relax(&[]);
            return if repair(state, &[]) || retreat(state) { Ruled::Strict } else { Ruled::Failed };
        }
        let bins = state.problem().bins() as f64 * FIRST * (1.0 - spent / NONE).max(0.0);
        for (price, overloaded) in self.0.iter_mut().zip(state.overloaded()) {
            let too_many = overloaded as f64 > bins;
            let factor = match (spent > RISE, too_many) {
                (true, true) => STRONGLY,
                (true, false) => 1.0,
                (false, true) => GENTLY,
                (false, false) => 1.0 / GENTLY,
            };
            *price = (*price * factor).clamp(1e-9, 1e15);
        }
        state.relax(&self.0);
        Ruled::Relaxed
    }
}
