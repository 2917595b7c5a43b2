//! Nodes on which more is used than should be are relieved, before anything else that a policy wants but rules.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use fixture::*;
use sterna_core::observation::{Observation, UnderWay};
use sterna_core::report::{Exclusion, Verdict};

/// Redis is where its users are nearest, beside a batch job without users; together they have half a core more than there is.
fn crowded() -> Observation {
    let mut seen = observation();
    seen.continuum.services.insert("batch".into(), service("3500m", "1GiB"));
    seen.placement.insert("batch".into(), "b1".into());
    seen.placement.insert("redis".into(), "b1".into());
    seen
}

#[test]
fn a_node_beyond_its_size_is_relieved_by_whom_it_costs_least() {
    let decision = decide(&crowded(), &policy());
    assert_eq!(moves(&decision), ["batch b1>c1"]);
    let mut seen = crowded();
    seen.continuum.services.get_mut(&"batch".into()).unwrap().pinned = true;
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
    seen.continuum.services.insert("web".into(), service("100m", "64MiB"));
    seen.placement.insert("web".into(), "b1".into());
    assert_eq!(moves(&decide(&seen, &wanted)), ["batch b1>c1"]);
}

#[test]
fn the_share_that_must_stay_free_is_made_free() {
    let mut seen = crowded();
    seen.continuum.services.get_mut(&"batch".into()).unwrap().cpu = q("2500m");
    let mut wanted = policy();
    assert_eq!(decide(&seen, &wanted).report.verdict, Verdict::Stay);
    wanted.constraints.min_free = q("20%");
    assert_eq!(moves(&decide(&seen, &wanted)), ["batch b1>c1"]);
}

#[test]
fn memory_counts_before_processor() {
    let mut seen = crowded();
    let mut size = |name: &str, cpu: &str, memory: &str| {
        *seen.continuum.services.get_mut(&name.into()).unwrap() = service(cpu, memory);
    };
    // One of the two can go to the only other node, whichever it is; memory is beyond by what only redis has.
    size("batch", "3500m", "1GiB");
    size("redis", "3", "7.5GiB");
    seen.continuum.services.insert("big".into(), service("1", "1GiB"));
    seen.continuum.services.get_mut(&"big".into()).unwrap().pinned = true;
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
    assert_eq!(decision.report.verdict, Verdict::Stay);
    assert_eq!(excluded(&decision, "batch", "b1"), [Exclusion::Capacity]);
}
