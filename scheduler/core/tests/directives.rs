//! What people say while the scheduler runs holds moves, with their name on it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use fixture::*;
use std::sync::Arc;
use sterna_core::checker::{self, Finding};
use sterna_core::directive::{Ask, Directive, Place};
use sterna_core::gate;
use sterna_core::observation::Observation;
use sterna_core::report::{Exclusion, Hold, Verdict};
use sterna_core::state::{self, Change};

fn with(asks: &[Ask]) -> Observation {
    let mut seen = observation();
    for ask in asks {
        let reason = Some("a test".to_owned());
        seen.directives.0.push(Directive { ask: ask.clone(), by: "eve".into(), at: noon(), reason });
    }
    seen
}

fn node(name: &str) -> Place {
    Place::Node(name.into())
}

#[test]
fn a_pause_holds_what_would_move_and_nothing_else() {
    let mut seen = with(&[Ask::Pause]);
    let decision = decide(&seen, &policy());
    let paused = Hold::Paused { by: "eve".into(), at: noon(), reason: Some("a test".into()) };
    assert_eq!(held(&decision), std::slice::from_ref(&paused));
    assert_eq!(
        paused.to_string(),
        format!("paused by eve at {}: a test", noon().strftime("%Y-%m-%d %H:%M UTC"))
    );
    // What would be better is told all the same.
    assert_eq!(best(&decision, "redis"), "b1");
    seen.placement.insert("redis".into(), "b1".into());
    assert_eq!(decide(&seen, &policy()).report.verdict, Verdict::Stay);
}

#[test]
fn a_cordoned_place_receives_nothing_and_is_not_left() {
    for place in [node("b1"), Place::Site("edge-b".into())] {
        let mut seen = with(&[Ask::Cordon { place }]);
        let decision = decide(&seen, &policy());
        assert_eq!(excluded(&decision, "redis", "b1"), [Exclusion::Cordoned]);
        assert_eq!(moves(&decision), ["redis a1>c1"]);
        seen.placement.insert("redis".into(), "b1".into());
        assert_eq!(decide(&seen, &policy()).report.verdict, Verdict::Stay);
    }
}

#[test]
fn a_drained_place_is_left() {
    for place in [node("b1"), Place::Site("edge-b".into())] {
        let mut seen = with(&[Ask::Drain { place }]);
        seen.placement.insert("redis".into(), "b1".into());
        let mut wanted = policy();
        wanted.hysteresis.min_gain = q("10%");
        // Leaving needs no gain.
        assert_eq!(moves(&decide(&seen, &wanted)), ["redis b1>c1"]);
    }
}

#[test]
fn a_service_that_is_opted_out_stays_also_on_a_node_that_is_drained() {
    let out = Ask::OptOut { service: "redis".into() };
    for asks in [vec![out.clone()], vec![out, Ask::Drain { place: node("a1") }]] {
        let decision = decide(&with(&asks), &policy());
        assert!(matches!(&held(&decision)[..], [Hold::OptedOut { by, .. }] if by == "eve"), "{decision:?}");
        assert_eq!(best(&decision, "redis"), "b1");
    }
}

#[test]
fn the_checker_knows_them_too() {
    let plan = decide(&observation(), &policy()).plan;
    let verdict = |ask: Ask| {
        let seen = with(&[ask]);
        let mut plan = plan.clone();
        assert_eq!(checker::check(&seen, &policy(), &plan), Err(Finding::State));
        plan.state = state::hash(&seen);
        checker::check(&seen, &policy(), &plan)
    };
    for ask in [Ask::Pause, Ask::OptOut { service: "redis".into() }] {
        assert!(matches!(verdict(ask), Err(Finding::NotMovable { .. })));
    }
    for (ask, expected) in [
        (Ask::Cordon { place: node("b1") }, Exclusion::Cordoned),
        (Ask::Drain { place: Place::Site("edge-b".into()) }, Exclusion::Draining),
    ] {
        assert!(matches!(verdict(ask), Err(Finding::Excluded { rule, .. }) if rule == expected));
    }
    assert_eq!(verdict(Ask::Cordon { place: node("a1") }), Ok(()));
}

#[test]
fn what_changed_between_two_states_is_said() {
    let old = observation();
    let between = |a: &Observation, b: &Observation| state::changes((a, &policy()), (b, &policy())).unwrap();
    assert_eq!(between(&old, &old), []);
    let mut new = with(&[Ask::Cordon { place: node("c1") }]);
    new.placement.insert("redis".into(), "b1".into());
    new.reachable.retain(|node| *node != "c1".into());
    Arc::make_mut(&mut new.continuum).nodes.get_mut(&"b1".into()).unwrap().drain = true;
    let changes = between(&old, &new);
    let said: Vec<String> = changes.iter().map(Change::to_string).collect();
    assert_eq!(
        said,
        [
            "`redis` ran on `a1` and runs on `b1`",
            "`c1` answered and does not any more",
            "cordon of node `c1` was asked for",
            "continuum, nodes.b1.drain: false -> true",
        ]
    );
    assert_ne!(state::hash(&old), state::hash(&new));
}

#[test]
fn what_shuts_everything_also_stops_a_plan_that_was_made_before() {
    let shut = |seen: &Observation, history| gate::shut(seen, &policy(), history, noon());
    let nothing = Default::default();
    assert_eq!(shut(&observation(), &nothing), None);
    assert!(matches!(shut(&with(&[Ask::Pause]), &nothing), Some(Hold::Paused { .. })));
}

/// A plan that waits for approval is judged by its moves; its numbers are those of another minute.
#[test]
fn the_moves_of_a_plan_are_judged_without_its_numbers() {
    let mut seen = observation();
    let plan = decide(&seen, &policy()).plan;
    seen.latency.get_mut(&"town".into()).unwrap().get_mut(&"edge-b".into()).unwrap().value = ms(12.0).value;
    assert!(matches!(checker::check(&seen, &policy(), &plan), Err(Finding::Effect { .. })));
    assert_eq!(checker::rules(&seen, &policy(), &plan.moves), Ok(()));
}
