//! Every order of few steps.

use std::collections::BTreeSet;

use super::Step;
use crate::assignment::state::State;

/// An order in which all of these items go to their targets, if there is one and it is found among so many states. The state is
/// then the last one, else as it was.
pub(super) fn every(
    state: &mut State<'_>,
    items: &[u32],
    target: &[u32],
    states: usize,
) -> Option<Vec<Step>> {
    let mut search = Search { items, target, seen: BTreeSet::new(), states, steps: Vec::new() };
    search.go_on(state, 0).then_some(search.steps)
}

struct Search<'a> {
    items: &'a [u32],
    target: &'a [u32],
    /// Sets of items that have gone, from which nothing leads to the end.
    seen: BTreeSet<u32>,
    states: usize,
    steps: Vec<Step>,
}

impl Search<'_> {
    fn go_on(&mut self, state: &mut State<'_>, gone: u32) -> bool {
        if self.steps.len() == self.items.len() {
            return true;
        }
        if self.seen.len() >= self.states || !self.seen.insert(gone) {
            return false;
        }
        for (number, item) in self.items.iter().enumerate() {
            if gone & (1 << number) != 0 {
                continue;
            }
            let (at, to) = (*item as usize, self.target[*item as usize]);
            let from = state.at()[at];
            if state.attempt(&[(at, to)]).is_none() {
                continue;
            }
            self.steps.push(Step { item: *item, from, to, parks: false });
            if self.go_on(state, gone | (1 << number)) {
                return true;
            }
            self.steps.pop();
            state.go(at, from);
        }
        false
    }
}
