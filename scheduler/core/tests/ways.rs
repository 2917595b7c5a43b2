//! In which order a decision moves services, and what it does where they wait for each other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use std::collections::BTreeMap;
use std::sync::Arc;

use fixture::{best, decide, held, held_by, moves, ms, observation, policy, q, service};
use sterna_core::checker;
use sterna_core::continuum::Users;
use sterna_core::observation::{Observation, UnderWay};
use sterna_core::report::Hold;

/// Redis and three others on a1, all of them better off on b1.
fn crowd() -> Observation {
    let mut seen = observation();
    for name in ["one", "two", "three"] {
        Arc::make_mut(&mut seen.continuum).services.insert(name.into(), service("1", "1GiB"));
        seen.placement.insert(name.into(), "a1".into());
        Arc::make_mut(&mut seen.continuum)
            .users
            .get_mut(&"town".into())
            .unwrap()
            .rates
            .insert(name.into(), q("1/s"));
    }
    seen
}

/// Redis fills a1 and web fills b1; each has its users at the other's.
fn crossed() -> Observation {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).services.get_mut(&"redis".into()).unwrap().cpu = q("4");
    Arc::make_mut(&mut seen.continuum).services.insert("web".into(), service("4", "1GiB"));
    seen.placement.insert("web".into(), "b1".into());
    far(&mut seen, &["web"], [20.0, 60.0, 40.0]);
    seen
}

/// Users of some services, with the milliseconds that they see at edge-a, at edge-b and in the cloud.
fn far(seen: &mut Observation, services: &[&str], [edge_a, edge_b, cloud]: [f64; 3]) {
    let rates = services.iter().map(|name| ((*name).into(), q("1/s"))).collect();
    Arc::make_mut(&mut seen.continuum).users.insert("far".into(), Users { rates, ..Users::default() });
    let latency = [("edge-a", edge_a), ("edge-b", edge_b), ("cloud", cloud)];
    let latency = latency.map(|(site, value)| (site.into(), ms(value)));
    seen.latency.insert("far".into(), BTreeMap::from(latency));
}

#[test]
fn no_more_moves_at_one_time_than_the_budget_allows() {
    let mut wanted = policy();
    wanted.budget.concurrent = 3;
    let waves = |decision: &sterna_core::report::Decision| -> Vec<u32> {
        decision.plan.moves.iter().map(|one| one.wave).collect()
    };
    assert_eq!(waves(&decide(&crowd(), &wanted)), [0, 0, 0, 1]);
    let mut seen = crowd();
    seen.under_way = vec![UnderWay { service: "one".into(), from: "a1".into(), to: "b1".into() }];
    assert_eq!(waves(&decide(&seen, &wanted)), [0, 0, 1]);
    wanted.budget.concurrent = 1;
    let decision = decide(&seen, &wanted);
    assert_eq!(moves(&decision), Vec::<String>::new());
    assert_eq!(held_by(&decision, "redis"), [Hold::Concurrent { limit: 1 }]);
    assert_eq!(held_by(&decision, "one"), [Hold::UnderWay]);
}

#[test]
fn a_move_waits_until_there_is_room() {
    let mut seen = crowd();
    // b1 is full of what belongs on c1; the town wants a1's services on b1.
    for name in ["u", "v", "w", "x"] {
        Arc::make_mut(&mut seen.continuum).services.insert(name.into(), service("1", "1GiB"));
        seen.placement.insert(name.into(), "b1".into());
    }
    far(&mut seen, &["u", "v", "w", "x"], [60.0, 60.0, 10.0]);
    let mut wanted = policy();
    wanted.budget.concurrent = 4;
    let decision = decide(&seen, &wanted);
    let of_wave =
        |wave| decision.plan.moves.iter().filter(|one| one.wave == wave).map(|one| one.to.as_str()).collect();
    let (first, second): (Vec<&str>, Vec<&str>) = (of_wave(0), of_wave(1));
    assert_eq!(first, ["c1"; 4]);
    assert_eq!(second, ["b1"; 4]);
}

#[test]
fn two_that_wait_for_each_other_are_left() {
    let mut wanted = policy();
    wanted.select.exclude_sites = vec!["cloud".into()];
    let decision = decide(&crossed(), &wanted);
    assert_eq!(held(&decision), [Hold::NoRoom]);
    assert_eq!(best(&decision, "redis"), "b1");
    assert_eq!(best(&decision, "web"), "a1");
}

#[test]
fn one_of_two_that_wait_for_each_other_is_parked() {
    let mut seen = crossed();
    let wanted = policy();
    // Web holds less, so it is moved twice.
    seen.memory.insert("web".into(), q("1MiB"));
    let decision = decide(&seen, &wanted);
    assert_eq!(moves(&decision), ["web b1>c1", "redis a1>b1", "web c1>a1"]);
    let (waves, parks): (Vec<u32>, Vec<bool>) =
        decision.plan.moves.iter().map(|one| (one.wave, one.parks)).unzip();
    assert_eq!((waves, parks), (vec![0, 1, 2], vec![true, false, false]));
    seen.memory.insert("web".into(), q("900MiB"));
    assert_eq!(moves(&decide(&seen, &wanted)), ["redis a1>c1", "web b1>a1", "redis c1>b1"]);
}

#[test]
fn how_long_it_takes_is_said_beside_what_it_must() {
    let mut wanted = policy();
    wanted.budget.concurrent = 3;
    let decision = decide(&crowd(), &wanted);
    let takes: Vec<f64> = decision.plan.moves.iter().map(|one| one.predicted.duration.as_f64()).collect();
    let makespan = decision.report.makespan.unwrap();
    // Three in the first wave, one in the second; at best a third of all, or the longest.
    let first = takes[..3].iter().copied().fold(0.0, f64::max);
    assert!((makespan.predicted.as_f64() - first - takes[3]).abs() < 1e-3);
    let least = (takes.iter().sum::<f64>() / 3.0).max(takes.iter().copied().fold(0.0, f64::max));
    assert!((makespan.least.as_f64() - least).abs() < 1e-3);
    // Parking takes longer than it must.
    wanted.budget.concurrent = 1;
    let makespan = decide(&crossed(), &wanted).report.makespan.unwrap();
    assert!(makespan.predicted > makespan.least);
}

#[test]
fn a_parked_service_must_go_on() {
    let (seen, wanted) = (crossed(), policy());
    let plan = decide(&seen, &wanted).plan;
    assert_eq!(checker::check(&seen, &wanted, &plan), Ok(()));
    let refused = |change: &dyn Fn(&mut sterna_core::plan::Plan)| {
        let mut plan = plan.clone();
        change(&mut plan);
        checker::check(&seen, &wanted, &plan).unwrap_err().to_string()
    };
    assert!(refused(&|plan| plan.moves[0].parks = false).contains("moved twice"));
    assert!(refused(&|plan| plan.moves[2].parks = true).contains("goes nowhere from there"));
    assert!(refused(&|plan| plan.moves[2].from = plan.moves[0].from.clone()).contains("does not start"));
    assert!(refused(&|plan| _ = plan.moves.pop()).contains("goes nowhere from there"));
}

#[test]
fn who_has_no_way_to_the_best_place_goes_to_the_next() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).services.get_mut(&"redis".into()).unwrap().cpu = q("4");
    for (name, on) in [("u", "b1"), ("v", "b1"), ("other", "c1")] {
        Arc::make_mut(&mut seen.continuum).services.insert(name.into(), service("2", "1GiB"));
        seen.placement.insert(name.into(), on.into());
    }
    Arc::make_mut(&mut seen.continuum).services.get_mut(&"other".into()).unwrap().pinned = true;
    far(&mut seen, &["u", "v"], [20.0, 60.0, 40.0]);
    // Redis could go to b1 only when both have left it, and in the cloud there is room for one.
    let decision = decide(&seen, &policy());
    assert_eq!(moves(&decision), ["u b1>c1"]);
    assert_eq!(held_by(&decision, "redis"), [Hold::NoRoom]);
    assert_eq!(held_by(&decision, "v"), [Hold::NoRoom]);
    assert_eq!((&*best(&decision, "redis"), &*best(&decision, "v")), ("b1", "a1"));
}
