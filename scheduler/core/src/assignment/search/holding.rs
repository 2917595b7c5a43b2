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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::model::{Bin, Dimension, Item, Model};

    fn costs(transient: bool) -> [i64; 3] {
        let bin = || Bin { name: String::new(), capacity: vec![100] };
        let item = || Item { name: String::new(), uses: vec![10], now: 0, bins: None };
        let model = Model {
            dimensions: vec![Dimension { name: String::new(), transient }],
            bins: vec![bin(), bin(), bin()],
            items: vec![item(), item()],
            objectives: vec![crate::assignment::model::Objective::default()],
            ..Model::default()
        };
        let problem = Problem::new(&model).unwrap();
        let holding = Holding::new(&problem);
        let mut state = State::new(&problem, &problem.now);
        let leaves = holding.more(&state, 0, 1, 1e6);
        state.go(0, 1);
        [leaves, holding.more(&state, 0, 2, 1e6), holding.more(&state, 0, 0, 1e6)]
    }

    #[test]
    fn being_elsewhere_costs_by_the_room_that_is_held() {
        // Two items, and each holds 10 of the 280 that are free.
        assert_eq!(costs(true), [71_428, 0, -71_428]);
    }

    #[test]
    fn where_leaving_frees_the_room_it_costs_nothing() {
        assert_eq!(costs(false), [0, 0, 0]);
    }
}
