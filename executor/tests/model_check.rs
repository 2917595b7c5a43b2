//! Exhaustive check of the migration's rules: every interleaving of crashes, reboots, timeouts, cancels, lost, late and repeated
//! messages, over two migrations that follow each other. The model walks the same table and the same rules as the agents:
//! [`table`](sterna_executor::migration::table), [`holding`](sterna_executor::migration::holding),
//! [`register`](sterna_executor::migration::register) and [`recovery`](sterna_executor::migration::recovery).
//!
//! In every state that can be reached:
//! - at most one copy runs, and it runs where it is owned; at most one node owns the service;
//! - it runs from its memory unless a reboot took the last copy of that;
//! - once faults end, the agents find by themselves to exactly one running copy with nothing left over.
//!
//! Each rule that carries this is weakened once on purpose, and the check must notice.

mod model_check {
    pub mod explore;
    pub mod model;
}

use model_check::explore::{Found, explore};
use model_check::model::{Budget, Weakness};

#[expect(clippy::panic, reason = "a violation ends the test")]
fn check(budget: Budget) -> usize {
    match explore(budget, Weakness::None) {
        Found::Nothing { states } => states,
        Found::Violation { what, trace } => panic!("{what}\n{}", trace.join("\n")),
    }
}

#[test]
fn crashes_and_timeouts_alone() {
    let states = check(Budget { crashes: 3, reboots: 0, destroyed: 0 });
    println!("{states} states");
    assert!(states > 10_000, "the model does not move: {states}");
}

#[test]
fn crashes_and_reboots_together() {
    let states = check(Budget { crashes: 1, reboots: 2, destroyed: 0 });
    println!("{states} states");
    assert!(states > 10_000, "the model does not move: {states}");
}

#[test]
fn a_node_that_never_comes_back() {
    let states = check(Budget { crashes: 1, reboots: 0, destroyed: 1 });
    println!("{states} states");
    assert!(states > 10_000, "the model does not move: {states}");
}

#[test]
fn every_weakened_rule_is_noticed() {
    for weakness in Weakness::ALL {
        let budget = Budget { crashes: 1, reboots: 1, destroyed: 0 };
        let Found::Violation { what, trace } = explore(budget, weakness) else {
            panic!("{weakness:?} is not noticed")
        };
        println!("{weakness:?}: {what}, after {}", trace.join(", "));
        assert!(trace.len() > 1);
    }
}
