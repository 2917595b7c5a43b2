//! Breadth first through all states, so that what is found is shown by one of the shortest ways there.

use std::collections::{HashMap, VecDeque};

use super::model::{Action, Budget, State, Weakness};

/// What the exploration found.
pub enum Found {
    /// Every state is as it should be.
    Nothing {
        /// How many there are.
        states: usize,
    },
    /// A state that must not be.
    Violation {
        /// What is wrong with it.
        what: String,
        /// The actions that lead there.
        trace: Vec<String>,
    },
}

/// Visits every state that can be reached.
pub fn explore(budget: Budget, weakness: Weakness) -> Found {
    let start = State::start(budget);
    let mut came_by: HashMap<State, Option<(State, Action)>> = HashMap::from([(start, None)]);
    let mut waiting = VecDeque::from([start]);
    while let Some(state) = waiting.pop_front() {
        if let Err(what) = state.judge(weakness) {
            return Found::Violation { what, trace: trace(&came_by, state) };
        }
        for (action, next) in state.successors(weakness) {
            came_by.entry(next).or_insert_with(|| {
                waiting.push_back(next);
                Some((state, action))
            });
        }
    }
    Found::Nothing { states: came_by.len() }
}

fn trace(came_by: &HashMap<State, Option<(State, Action)>>, mut state: State) -> Vec<String> {
    let mut actions = Vec::new();
    while let Some(Some((before, action))) = came_by.get(&state) {
        actions.push(format!("{action:?}"));
        state = *before;
    }
    actions.reverse();
    actions
}
