//! When a decision moves services: the policy's mode, what is under way, least gain, residency, cooldown; one test for each.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use fixture::*;
use std::sync::Arc;
use sterna_core::history::Outcome;
use sterna_core::observation::UnderWay;
use sterna_core::report::Hold;
use sterna_policies::policy::*;

#[test]
fn a_policy_that_is_off_decides_nothing() {
    let mut wanted = policy();
    wanted.mode = Mode::Off;
    let decision = decide(&observation(), &wanted);
    assert_eq!(held(&decision), [Hold::PolicyOff]);
    assert_eq!(decision.report.services, []);
    for mode in [Mode::Observe, Mode::Recommend] {
        wanted.mode = mode;
        assert_eq!(moves(&decide(&observation(), &wanted)), ["redis a1>b1"]);
    }
}

#[test]
fn a_service_that_is_not_found_is_named() {
    let mut seen = observation();
    seen.placement.clear();
    let decision = decide(&seen, &policy());
    assert_eq!(held(&decision), [Hold::NotRunning]);
    assert_eq!(report(&decision, "redis").on, None);
}

#[test]
fn a_service_that_is_being_moved_is_left_alone() {
    let mut seen = observation();
    seen.under_way = vec![UnderWay { service: "redis".into(), from: "a1".into(), to: "c1".into() }];
    assert_eq!(held(&decide(&seen, &policy())), [Hold::UnderWay]);
}

#[test]
fn the_gain_must_reach_the_minimum() {
    let mut wanted = policy();
    // From 60 ms to 10 ms are 83.3 %.
    wanted.hysteresis.min_gain = q("83.3%");
    assert_eq!(moves(&decide(&observation(), &wanted)), ["redis a1>b1"]);
    wanted.hysteresis.min_gain = q("83.4%");
    let decision = decide(&observation(), &wanted);
    assert_eq!(
        held(&decision),
        [Hold::GainTooSmall { metric: Metric::UserLatency, gain: q("83.333333%"), min_gain: q("83.4%") }]
    );
    assert_eq!(best(&decision, "redis"), "b1");
}

#[test]
fn the_gain_is_that_of_the_first_term_that_improves() {
    let mut seen = observation();
    seen.latency.get_mut(&"town".into()).unwrap().insert("cloud".into(), ms(59.0));
    let mut wanted = policy();
    wanted.select.exclude_sites = vec!["edge-b".into()];
    let five = Tolerance::Absolute(Level::UserLatency(q("5ms")));
    wanted.objective = lexicographic(vec![term(Metric::UserLatency, five), exactly(Metric::CostRate)]);
    wanted.hysteresis.min_gain = q("40%");
    // One millisecond is within the tolerance; the money saved is 47 %.
    assert_eq!(moves(&decide(&seen, &wanted)), ["redis a1>c1"]);
    wanted.hysteresis.min_gain = q("50%");
    let by = held(&decide(&seen, &wanted));
    assert!(matches!(by[..], [Hold::GainTooSmall { metric: Metric::CostRate, .. }]), "{by:?}");
}

#[test]
fn services_that_empty_a_node_together_are_judged_together() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).users.clear();
    Arc::make_mut(&mut seen.continuum).services.insert("one".into(), service("1", "1GiB"));
    seen.placement.insert("one".into(), "a1".into());
    let mut wanted = policy();
    wanted.objective = lexicographic(vec![exactly(Metric::CostRate)]);
    wanted.budget.concurrent = 2;
    // Alone, either would only open a second node; together they save 0.10 of 0.224 USD/h.
    wanted.hysteresis.min_gain = q("44%");
    assert_eq!(moves(&decide(&seen, &wanted)), ["one a1>c1", "redis a1>c1"]);
    wanted.hysteresis.min_gain = q("45%");
    let decision = decide(&seen, &wanted);
    assert_eq!(moves(&decision), Vec::<String>::new());
    assert!(matches!(held_by(&decision, "one")[..], [Hold::GainTooSmall { metric: Metric::CostRate, .. }]));
    assert!(matches!(held_by(&decision, "redis")[..], [Hold::GainTooSmall { metric: Metric::CostRate, .. }]));
}

#[test]
fn a_held_service_does_not_hold_the_others() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).services.insert("web".into(), service("1", "1GiB"));
    seen.placement.insert("web".into(), "a1".into());
    Arc::make_mut(&mut seen.continuum)
        .users
        .get_mut(&"town".into())
        .unwrap()
        .rates
        .insert("web".into(), q("1/s"));
    let mut wanted = policy();
    wanted.hysteresis.cooldown = q("10m");
    let decision = decide_after(&seen, &wanted, &migrated(60, "a1", Outcome::RolledBack));
    assert_eq!(moves(&decision), ["web a1>b1"]);
    assert_eq!(held_by(&decision, "redis"), [Hold::Cooldown { left: q("9m") }]);
    assert_eq!(best(&decision, "redis"), "b1");
}

#[test]
fn a_service_stays_a_while_where_it_arrived() {
    let mut wanted = policy();
    wanted.hysteresis.min_residency = q("5m");
    let decision = decide_after(&observation(), &wanted, &migrated(299, "a1", Outcome::Moved));
    assert_eq!(held(&decision), [Hold::Residency { left: q("1s") }]);
    let decision = decide_after(&observation(), &wanted, &migrated(300, "a1", Outcome::Moved));
    assert_eq!(moves(&decision), ["redis a1>b1"]);
    // It did not arrive, or not here.
    for history in [migrated(10, "a1", Outcome::RolledBack), migrated(10, "c1", Outcome::Moved)] {
        assert_eq!(moves(&decide_after(&observation(), &wanted, &history)), ["redis a1>b1"]);
    }
}

#[test]
fn any_migration_is_followed_by_a_cooldown() {
    let mut wanted = policy();
    wanted.hysteresis.cooldown = q("1m");
    for outcome in [Outcome::Moved, Outcome::RolledBack, Outcome::Refused] {
        let decision = decide_after(&observation(), &wanted, &migrated(59, "c1", outcome));
        assert_eq!(held(&decision), [Hold::Cooldown { left: q("1s") }]);
        assert_eq!(
            moves(&decide_after(&observation(), &wanted, &migrated(60, "c1", outcome))),
            ["redis a1>b1"]
        );
    }
}

#[test]
fn disturbed_sites_decide_nothing() {
    let mut wanted = policy();
    wanted.trigger.settle = q("1m");
    wanted.metrics.insert(Metric::UserLatency, source(SourceUnit::Seconds, OnMissing::Hold));
    let settling = |left: Option<&str>| vec![Hold::Settling { site: "edge-a".into(), left: left.map(q) }];
    // A migration of another service, from `b1` to `a1`, ended so long ago.
    let after = |seconds: i64, outcome: Outcome| {
        let mut history = sterna_core::history::History::default();
        let past = migrated(seconds, "a1", outcome).migrations.remove(&"redis".into()).unwrap();
        history.migrations.insert("other".into(), past);
        decide_after(&observation(), &wanted, &history)
    };
    for outcome in [Outcome::Moved, Outcome::RolledBack] {
        assert_eq!(held(&after(59, outcome)), settling(Some("1s")));
        assert_eq!(moves(&after(60, outcome)), ["redis a1>b1"]);
    }
    assert_eq!(moves(&after(10, Outcome::Refused)), ["redis a1>b1"], "nothing was touched");

    // While it is under way; at the place where `redis` would go, too.
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).services.insert("web".into(), service("1", "1GiB"));
    seen.placement.insert("web".into(), "c1".into());
    let disturbing =
        |from: &str, to: &str| UnderWay { service: "web".into(), from: from.into(), to: to.into() };
    wanted.budget.concurrent = 2;
    seen.under_way = vec![disturbing("c1", "a1")];
    assert_eq!(held_by(&decide(&seen, &wanted), "redis"), settling(None));
    seen.under_way = vec![disturbing("c1", "b1")];
    assert_eq!(
        held_by(&decide(&seen, &wanted), "redis"),
        [Hold::Settling { site: "edge-b".into(), left: None }]
    );

    seen.overdue = ["web".into()].into();
    assert_eq!(moves(&decide(&seen, &wanted)), ["redis a1>b1"], "nothing is sent for it any more");
    seen.overdue.clear();

    // A node that is drained doesn't wait for numbers.
    seen.under_way = vec![disturbing("c1", "a1")];
    Arc::make_mut(&mut seen.continuum).nodes.get_mut(&"a1".into()).unwrap().drain = true;
    assert_eq!(moves(&decide(&seen, &wanted)), ["redis a1>b1"]);
    Arc::make_mut(&mut seen.continuum).nodes.get_mut(&"a1".into()).unwrap().drain = false;

    // Nor does anybody where nothing is measured that a migration could disturb, or where the policy says so.
    let unmeasured = Policy { metrics: Default::default(), ..wanted.clone() };
    assert_eq!(moves(&decide(&seen, &unmeasured)), ["redis a1>b1"]);
    wanted.trigger.settle = q("0s");
    assert_eq!(moves(&decide(&seen, &wanted)), ["redis a1>b1"]);
}
