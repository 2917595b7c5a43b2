//! What must last before a service moves for a gain: a trigger, a better place, and what staying costs; and that it does not go
//! back too soon.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use fixture::*;
use jiff::SignedDuration;
use std::sync::Arc;
use sterna_core::history::{History, Outcome};
use sterna_core::observation::Observation;
use sterna_core::record::Recorded;
use sterna_core::report::{Decision, Hold};
use sterna_policies::policy::*;

/// Decides again and again; each decision remembers the one before.
struct Looks {
    wanted: Policy,
    history: History,
    seconds: i64,
}

impl Looks {
    fn new(wanted: Policy) -> Self {
        Self { wanted, history: History::default(), seconds: 0 }
    }

    /// So many seconds after the last look.
    fn after(&mut self, seconds: i64, seen: &Observation) -> Decision {
        self.seconds += seconds;
        let now = noon() + SignedDuration::from_secs(self.seconds);
        let recorded = Recorded::make(seen.clone(), self.wanted.clone(), self.history.clone(), now, 7);
        assert_eq!(recorded.replay(), recorded.decision);
        let text = serde_json::to_string(&recorded).unwrap();
        assert_eq!(serde_json::from_str::<Recorded>(&text).unwrap(), recorded);
        self.history.standing = recorded.decision.standing.clone();
        recorded.decision
    }
}

fn above(metric: Metric, level: Level, lasts: &str) -> Option<Vec<Condition>> {
    Some(vec![Condition { metric, above: level, lasts: q(lasts) }])
}

fn with_latency(here: f64) -> Observation {
    let mut seen = observation();
    seen.latency.get_mut(&"town".into()).unwrap().insert("edge-a".into(), ms(here));
    seen
}

const GO: [&str; 1] = ["redis a1>b1"];

#[test]
fn without_a_condition_that_holds_nothing_moves_for_a_gain() {
    let mut wanted = policy();
    wanted.trigger.any = Some(Vec::new());
    assert_eq!(held(&decide(&observation(), &wanted)), [Hold::Untriggered { left: None }]);
    // What mends needs none.
    let mut drained = observation();
    Arc::make_mut(&mut drained.continuum).nodes.get_mut(&"a1".into()).unwrap().drain = true;
    assert_eq!(moves(&decide(&drained, &wanted)), GO);

    wanted.trigger.any = above(Metric::UserLatency, Level::UserLatency(q("60ms")), "0s");
    assert_eq!(held(&decide(&observation(), &wanted)), [Hold::Untriggered { left: None }]);
    assert_eq!(moves(&decide(&with_latency(60.1), &wanted)), GO);
    // Any of several will do.
    let other = Condition { metric: Metric::CostRate, above: Level::CostRate(q("0.1USD/h")), lasts: q("0s") };
    wanted.trigger.any.as_mut().unwrap().push(other);
    assert_eq!(moves(&decide(&observation(), &wanted)), GO);
}

#[test]
fn a_condition_must_have_held_at_every_look() {
    let mut wanted = policy();
    wanted.trigger.any = above(Metric::UserLatency, Level::UserLatency(q("50ms")), "20s");
    let mut looks = Looks::new(wanted);
    let (high, low) = (with_latency(60.0), with_latency(40.0));
    let waits = |left: &str| [Hold::Untriggered { left: Some(q(left)) }];
    assert_eq!(held(&looks.after(0, &high)), waits("20s"));
    assert_eq!(held(&looks.after(10, &high)), waits("10s"));
    assert_eq!(held(&looks.after(9, &low)), [Hold::Untriggered { left: None }]);
    assert_eq!(held(&looks.after(10, &high)), waits("20s"));
    assert_eq!(moves(&looks.after(20, &high)), GO);
    // Nobody looked for too long: what was in between is not known.
    assert_eq!(held(&looks.after(301, &high)), waits("20s"));
    // Another condition is another matter.
    looks.after(20, &high);
    looks.wanted.trigger.any = above(Metric::UserLatency, Level::UserLatency(q("51ms")), "20s");
    assert_eq!(held(&looks.after(10, &high)), waits("20s"));
}

#[test]
fn what_is_not_known_triggers_nothing() {
    let mut wanted = policy();
    wanted.trigger.any = above(Metric::UserLatency, Level::UserLatency(q("50ms")), "0s");
    wanted.metrics.get_mut(&Metric::UserLatency).unwrap().on_missing = OnMissing::ExcludeSite;
    let mut seen = observation();
    seen.latency.get_mut(&"town".into()).unwrap().remove(&"edge-a".into());
    assert_eq!(moves(&decide(&seen, &wanted)), Vec::<String>::new());
}

#[test]
fn a_better_place_must_have_been_there_for_a_while() {
    let mut wanted = policy();
    wanted.hysteresis.gain_lasts = q("30s");
    let mut looks = Looks::new(wanted);
    let (better, alike) = (with_latency(60.0), with_latency(10.0));
    let waits = |left: &str| [Hold::GainTooNew { left: q(left) }];
    assert_eq!(held(&looks.after(0, &better)), waits("30s"));
    assert_eq!(held(&looks.after(20, &better)), waits("10s"));
    // Not at this look, so it begins anew.
    assert_eq!(moves(&looks.after(5, &alike)), Vec::<String>::new());
    assert_eq!(held(&looks.after(5, &better)), waits("30s"));
    // A drained node does not wait.
    let mut drained = better.clone();
    Arc::make_mut(&mut drained.continuum).nodes.get_mut(&"a1".into()).unwrap().drain = true;
    assert_eq!(moves(&looks.after(1, &drained)), GO);
    assert_eq!(moves(&looks.after(29, &better)), GO);
}

/// What staying costs is counted from look to look, and melts while it is better to stay.
#[test]
fn staying_must_have_cost_as_much_as_the_move() {
    let mut wanted = policy();
    wanted.objective = lexicographic(vec![exactly(Metric::CostRate)]);
    wanted.select.exclude_sites = vec!["cloud".into()];
    wanted.hysteresis.regret = q("100%");
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).links[0].egress = q("0.5USD/GiB");
    let cheap = |seen: &Observation, b: &str| {
        let mut seen = seen.clone();
        Arc::make_mut(&mut seen.continuum).sites.get_mut(&"edge-b".into()).unwrap().price.node = q(b);
        seen
    };
    // 0.1 USD/h less, for a move that costs 0.033 USD: after 20 minutes.
    let (better, worse) = (cheap(&seen, "0.1USD/h"), cheap(&seen, "0.3USD/h"));
    let share = |decision: &Decision| match held(decision)[..] {
        [Hold::RegretTooSmall { metric: Metric::CostRate, regret, wanted }] => {
            assert_eq!(wanted, q("100%"));
            regret.as_f64()
        }
        ref other => panic!("{other:?}"),
    };
    let mut looks = Looks::new(wanted);
    assert_eq!(share(&looks.after(0, &better)), 0.0);
    let after_two = share(&looks.after(120, &better));
    assert!((9.0..11.0).contains(&after_two), "{after_two}");
    assert!((share(&looks.after(120, &better)) - 2.0 * after_two).abs() < 0.01);
    // Two minutes in which it is better to stay take away what two have brought.
    looks.after(120, &worse);
    let melted = share(&looks.after(120, &better));
    assert!((melted - 2.0 * after_two).abs() < 0.01, "{melted}");
    let mut rounds = 0;
    while moves(&looks.after(120, &better)).is_empty() {
        rounds += 1;
        assert!(rounds < 20);
    }
    assert_eq!(rounds, 7);
}

#[test]
fn a_service_does_not_go_back_too_soon() {
    let mut wanted = policy();
    wanted.hysteresis.no_return_within = q("10m");
    // It came from b1, where it would be best.
    let history = migrated(599, "a1", Outcome::Moved);
    let decision = decide_after(&observation(), &wanted, &history);
    // So it goes where it is second best.
    assert_eq!(moves(&decision), ["redis a1>c1"]);
    wanted.select.exclude_sites = vec!["cloud".into()];
    let decision = decide_after(&observation(), &wanted, &history);
    assert_eq!(held(&decision), [Hold::Return { left: q("1s") }]);
    assert_eq!(best(&decision, "redis"), "b1");
    assert_eq!(moves(&decide_after(&observation(), &wanted, &migrated(600, "a1", Outcome::Moved))), GO);
    // It never left, or something is broken where it is.
    assert_eq!(moves(&decide_after(&observation(), &wanted, &migrated(1, "a1", Outcome::RolledBack))), GO);
    let mut drained = observation();
    Arc::make_mut(&mut drained.continuum).nodes.get_mut(&"a1".into()).unwrap().drain = true;
    assert_eq!(moves(&decide_after(&drained, &wanted, &history)), GO);
}

/// Twice the cost where it goes back: there and back again must have been worth it.
#[test]
fn going_back_takes_twice_the_regret() {
    let mut wanted = policy();
    wanted.hysteresis.regret = q("100%");
    wanted.trigger.interval = q("1s");
    let came_from = |node: &str| {
        let mut history = migrated(5000, "a1", Outcome::Moved);
        history.migrations.get_mut(&"redis".into()).unwrap()[0].from = node.into();
        history
    };
    // The move makes who asks wait some 60 ms in all; staying costs 50 ms in every second, and half of the next counts.
    let after_one_second = |history: History| {
        let mut looks = Looks { history, ..Looks::new(wanted.clone()) };
        looks.after(0, &observation());
        moves(&looks.after(1, &observation())).len()
    };
    assert_eq!(after_one_second(came_from("c1")), 1);
    assert_eq!(after_one_second(came_from("b1")), 0);
}

/// A window that opens finds what has lasted meanwhile.
#[test]
fn time_passes_also_while_a_window_is_closed() {
    let mut wanted = policy();
    wanted.hysteresis.gain_lasts = q("10m");
    wanted.windows = vec![Window {
        kind: WindowKind::Deny,
        schedule: "0 12 * * *".into(),
        duration: q("1h"),
        timezone: "UTC".into(),
        allow_mending: false,
        overrun: Default::default(),
    }];
    let mut looks = Looks::new(wanted);
    for _ in 0..17 {
        assert!(matches!(held(&looks.after(200, &observation()))[..], [Hold::WindowClosed { .. }]));
    }
    // The window ends at 13:00, after 3600 s.
    assert_eq!(moves(&looks.after(200, &observation())), GO);
}

/// A look at which a number is missing begins nothing and ends nothing.
#[test]
fn not_to_know_for_a_moment_ends_nothing() {
    let mut blind = observation();
    blind.latency.clear();
    let missing = [Hold::MetricsMissing { metric: Metric::UserLatency }];
    let mut wanted = policy();
    wanted.hysteresis.gain_lasts = q("30s");
    let mut triggered = policy();
    triggered.trigger.any = above(Metric::UserLatency, Level::UserLatency(q("50ms")), "30s");
    for wanted in [wanted, triggered] {
        let mut looks = Looks::new(wanted);
        looks.after(0, &observation());
        assert_eq!(held(&looks.after(10, &blind)), missing);
        assert_eq!(moves(&looks.after(20, &observation())), GO);
        // For too long: nobody knows what was in between.
        looks.after(1, &observation());
        looks.after(200, &blind);
        looks.after(101, &blind);
        assert_eq!(moves(&looks.after(1, &observation())), Vec::<String>::new());
    }
}

/// What a service of a drained node needs room for goes as well, whatever it gains.
#[test]
fn who_is_in_the_way_of_what_mends_goes_with_it() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).users.clear();
    for (name, cpu, on, pinned) in [("small", "2", "b1", false), ("fixed", "1500m", "c1", true)] {
        let mut about = service(cpu, "1GiB");
        about.pinned = pinned;
        Arc::make_mut(&mut seen.continuum).services.insert(name.into(), about);
        seen.placement.insert(name.into(), on.into());
    }
    Arc::make_mut(&mut seen.continuum).services.get_mut(&"redis".into()).unwrap().cpu = q("3");
    Arc::make_mut(&mut seen.continuum).nodes.get_mut(&"a1".into()).unwrap().drain = true;
    let mut wanted = policy();
    wanted.trigger.any = Some(Vec::new());
    wanted.hysteresis.min_gain = q("50%");
    assert_eq!(moves(&decide(&seen, &wanted)), ["small b1>c1", "redis a1>b1"]);
}
