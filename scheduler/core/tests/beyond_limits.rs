//! Nodes on which more is used than should be are relieved, before anything else that a policy wants but rules.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use fixture::*;
use std::sync::Arc;
use sterna_core::observation::{Observation, UnderWay};
use sterna_core::report::{Exclusion, Hold, Verdict};

/// Redis is where its users are nearest, beside a batch job without users; together they have half a core more than there is.
fn crowded() -> Observation {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).services.insert("batch".into(), service("3500m", "1GiB"));
    seen.placement.insert("batch".into(), "b1".into());
    seen.placement.insert("redis".into(), "b1".into());
    seen
}

#[test]
fn a_node_beyond_its_size_is_relieved_by_whom_it_costs_least() {
    let decision = decide(&crowded(), &policy());
    assert_eq!(moves(&decision), ["batch b1>c1"]);
    let mut seen = crowded();
    Arc::make_mut(&mut seen.continuum).services.get_mut(&"batch".into()).unwrap().pinned = true;
    let decision = decide(&seen, &policy());
    assert_eq!(moves(&decision), ["redis b1>c1"]);
    assert_eq!(excluded(&decision, "redis", "b1"), [Exclusion::Capacity]);
}

#[test]
fn it_needs_no_gain() {
    let mut wanted = policy();
    wanted.hysteresis.min_gain = q("99%");
    assert_eq!(moves(&decide(&crowded(), &wanted)), ["batch b1>c1"]);
    // What is not needed for it does.
    let mut seen = crowded();
    Arc::make_mut(&mut seen.continuum).services.insert("web".into(), service("100m", "64MiB"));
    seen.placement.insert("web".into(), "b1".into());
    assert_eq!(moves(&decide(&seen, &wanted)), ["batch b1>c1"]);
}

/// Either of two would do, and both are worth leaving for, but too little: one goes all the same.
#[test]
fn where_either_would_do_one_needs_no_gain() {
    let mut seen = crowded();
    Arc::make_mut(&mut seen.continuum).services.insert("redis".into(), service("3", "1GiB"));
    Arc::make_mut(&mut seen.continuum).services.insert("batch".into(), service("3", "1GiB"));
    Arc::make_mut(&mut seen.continuum)
        .services
        .insert("small".into(), sterna_core::continuum::Service { pinned: true, ..service("500m", "1GiB") });
    seen.placement.insert("small".into(), "b1".into());
    Arc::make_mut(&mut seen.continuum)
        .users
        .get_mut(&"town".into())
        .unwrap()
        .rates
        .insert("batch".into(), q("100/s"));
    let latency = [("edge-a", 9.6), ("edge-b", 10.0), ("cloud", 9.5)];
    seen.latency.insert("town".into(), latency.map(|(site, latency)| (site.into(), ms(latency))).into());
    let mut wanted = policy();
    assert_eq!(decide(&seen, &wanted).plan.moves.len(), 2);
    wanted.hysteresis.min_gain = q("10%");
    let decision = decide(&seen, &wanted);
    assert_eq!(decision.plan.moves.len(), 1);
    let stays = if decision.plan.moves[0].service == "redis".into() { "batch" } else { "redis" };
    assert!(matches!(held_by(&decision, stays)[..], [Hold::GainTooSmall { .. }]));
}

/// However many nodes there are.
#[test]
fn one_of_many_nodes_is_relieved() {
    let mut seen = crowded();
    let node = seen.continuum.nodes[&"b1".into()].clone();
    for number in 0..2100 {
        let name = sterna_core::continuum::NodeName::from(format!("n{number}").as_str());
        Arc::make_mut(&mut seen.continuum).nodes.insert(name, node.clone());
    }
    let wanted = policy();
    let evaluator = sterna_core::placement::evaluate::Evaluator::new(&seen, &wanted);
    let rules = sterna_core::placement::exclude::Rules::new(&seen, &wanted, &evaluator);
    let room = sterna_core::placement::room::Room::new(&evaluator, &wanted);
    let model = sterna_core::placement::model::model(
        &evaluator,
        &rules,
        &room,
        &wanted,
        &(0..2).collect(),
        &Default::default(),
    );
    assert!(sterna_core::assignment::problem::Problem::new(&model).is_ok());
}

#[test]
fn the_share_that_must_stay_free_is_made_free() {
    let mut seen = crowded();
    Arc::make_mut(&mut seen.continuum).services.get_mut(&"batch".into()).unwrap().cpu = q("2500m");
    let mut wanted = policy();
    assert_eq!(decide(&seen, &wanted).report.verdict, Verdict::Stay);
    wanted.constraints.min_free = q("20%");
    assert_eq!(moves(&decide(&seen, &wanted)), ["batch b1>c1"]);
}

#[test]
fn memory_counts_before_processor() {
    let mut seen = crowded();
    let mut size = |name: &str, cpu: &str, memory: &str| {
        *Arc::make_mut(&mut seen.continuum).services.get_mut(&name.into()).unwrap() = service(cpu, memory);
    };
    // One of the two can go to the only other node, whichever it is; memory is beyond by what only redis has.
    size("batch", "3500m", "1GiB");
    size("redis", "3", "7.5GiB");
    Arc::make_mut(&mut seen.continuum).services.insert("big".into(), service("1", "1GiB"));
    Arc::make_mut(&mut seen.continuum).services.get_mut(&"big".into()).unwrap().pinned = true;
    seen.placement.insert("big".into(), "b1".into());
    seen.reachable.retain(|node| *node != "a1".into());
    assert_eq!(moves(&decide(&seen, &policy())), ["redis b1>c1"]);
}

#[test]
fn what_is_about_to_leave_is_not_made_room_for_twice() {
    let mut seen = crowded();
    seen.under_way = vec![UnderWay { service: "batch".into(), from: "b1".into(), to: "c1".into() }];
    let mut wanted = policy();
    wanted.budget.concurrent = 2;
    let decision = decide(&seen, &wanted);
    assert_eq!(moves(&decision), Vec::<String>::new());
    assert_eq!(excluded(&decision, "redis", "b1"), []);
}

#[test]
fn where_nothing_can_go_all_stay() {
    let mut seen = crowded();
    seen.reachable = vec!["b1".into()];
    let decision = decide(&seen, &policy());
    assert_eq!(held(&decision), [Hold::Infeasible]);
    assert_eq!(excluded(&decision, "batch", "b1"), [Exclusion::Capacity]);
}
