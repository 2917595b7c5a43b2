//! What items that are elsewhere hold of bins' room at both ends, and what that costs while it is hot.
//!
//! Where leaving frees nothing until everything has moved, items that go anywhere for no gain fill what room there is, and then
//! nothing can move that would gain much. As a gas needs a pressure that keeps it together, being elsewhere costs a share of the
//! temperature, and so nothing at the end.

use crate::assignment::problem::Problem;
use crate::assignment::state::State;

/// How much of the room that is free each item holds by being elsewhere, as a multiple of what is there for each.
#[derive(Debug)]
pub struct Holding(Vec<f64>);

impl Holding {
    pub(super) fn new(problem: &Problem) -> Self {
        let held: Vec<usize> = (0..problem.dimensions).filter(|at| problem.transient[*at]).collect();
        let free = |at: usize| {
            let room: f64 = (0..problem.bins()).map(|bin| problem.capacity(bin)[at] as f64).sum();
            let used: f64 = (0..problem.items()).map(|item| problem.uses(item)[at] as f64).sum();
            (room - used).max(1.0)
        };
        let free: Vec<(usize, f64)> = held.into_iter().map(|at| (at, free(at))).collect();
        let items = problem.items() as f64;
        let share =
            |item: usize| free.iter().map(|(at, free)| problem.uses(item)[*at] as f64 / free).sum::<f64>();
        Self((0..problem.items()).map(|item| items * share(item)).collect())
    }

    /// What it costs more that an item goes to a bin.
    #[inline]
    pub(super) fn more(&self, state: &State<'_>, item: usize, to: u32, temperature: f64) -> i64 {
        let now = state.problem().now[item];
        let cost = || (temperature * self.0[item]) as i64;
        match (state.at()[item] == now, to == now) {
            (true, false) => cost(),
            (false, true) => -cost(),
            _ => 0,
        }
    }
}
