//! Services of one label's value share a place only up to a number: now, on the way, and in what is said about it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use fixture::*;
use std::sync::Arc;
use sterna_core::checker::{self, Finding};
use sterna_core::continuum::Users;
use sterna_core::observation::{Observation, UnderWay};
use sterna_core::report::{Exclusion, Hold};
use sterna_core::why;
use sterna_policies::policy::*;

/// Redis and a second one, both of the app `shop`, whose users are nearest to edge-b; a third service of no app.
fn seen() -> Observation {
    let mut seen = observation();
    for name in ["second", "other"] {
        Arc::make_mut(&mut seen.continuum).services.insert(name.into(), service("500m", "512MiB"));
        seen.placement.insert(name.into(), "a1".into());
        let town: &mut Users = Arc::make_mut(&mut seen.continuum).users.get_mut(&"town".into()).unwrap();
        town.rates.insert(name.into(), q("50/s"));
    }
    for name in ["redis", "second"] {
        let labels = &mut Arc::make_mut(&mut seen.continuum).services.get_mut(&name.into()).unwrap().labels;
        labels.insert("app".into(), "shop".into());
    }
    seen
}

fn spread(per: Per, most: u32) -> Policy {
    let mut wanted = policy();
    wanted.budget.concurrent = 3;
    wanted.objective = lexicographic(vec![exactly(Metric::UserLatency)]);
    wanted.constraints.spread = vec![Spread { label: "app".into(), per, most }];
    wanted
}

fn shop(per: Per) -> Exclusion {
    Exclusion::Spread { label: "app".into(), value: "shop".into(), per }
}

#[test]
fn only_so_many_go_to_the_best_place() {
    let seen = seen();
    assert_eq!(moves(&decide(&seen, &spread(Per::Site, 2))), ["other a1>b1", "redis a1>b1", "second a1>b1"]);
    // Both are on edge-a now, which is one too many; that is mended, and the third is free to go.
    let decision = decide(&seen, &spread(Per::Site, 1));
    assert_eq!(decision.plan.placement[&"other".into()], "b1".into());
    let both: Vec<_> = ["redis", "second"].map(|name| decision.plan.placement[&name.into()].clone()).into();
    assert!(both.contains(&"b1".into()) && both.contains(&"c1".into()), "{both:?}");
    // The two edges are one tier; in the cloud there may be another.
    let decision = decide(&seen, &spread(Per::Tier, 1));
    let both: Vec<_> = ["redis", "second"].map(|name| decision.plan.placement[&name.into()].clone()).into();
    assert!(both.contains(&"b1".into()) && both.contains(&"c1".into()), "{both:?}");
}

/// What is broken is mended whatever it gains, and only by as many as are needed.
#[test]
fn what_is_too_close_is_mended_without_a_gain() {
    let mut seen = seen();
    Arc::make_mut(&mut seen.continuum).users.clear();
    let mut wanted = spread(Per::Site, 1);
    wanted.trigger.any = Some(Vec::new());
    assert_eq!(decide(&seen, &wanted).plan.moves.len(), 1);
    wanted.constraints.spread[0].most = 2;
    assert_eq!(moves(&decide(&seen, &wanted)), Vec::<String>::new());
}

/// Both would gain elsewhere; only one has to go.
#[test]
fn of_those_that_are_too_close_only_as_many_go_without_a_gain_as_must() {
    let mut wanted = spread(Per::Site, 1);
    wanted.select.exclude_services = vec!["other".into()];
    assert_eq!(decide(&seen(), &wanted).plan.moves.len(), 2);
    wanted.trigger.any = Some(Vec::new());
    let decision = decide(&seen(), &wanted);
    assert_eq!(decision.plan.moves.len(), 1);
    assert_eq!(decision.report.verdict, sterna_core::report::Verdict::Move);
}

/// All regions are one, so nothing can be mended; it is said, and nothing gets worse.
#[test]
fn what_can_not_be_mended_is_told() {
    let decision = decide(&seen(), &spread(Per::Region, 1));
    assert_eq!(held_by(&decision, "redis"), Vec::<Hold>::new());
    assert_eq!(decision.plan.moves.len(), 3, "no more of them are in the region than before");
    let mut wanted = spread(Per::Region, 1);
    wanted.objective = lexicographic(vec![exactly(Metric::CostRate)]);
    let mut seen = seen();
    seen.placement.values_mut().for_each(|on| *on = "c1".into());
    let decision = decide(&seen, &wanted);
    assert_eq!(held_by(&decision, "redis"), [Hold::Infeasible]);
    assert_eq!(held_by(&decision, "other"), Vec::<Hold>::new());
}

#[test]
fn who_is_on_the_way_counts_on_both_ends() {
    let mut seen = seen();
    seen.placement.insert("redis".into(), "c1".into());
    seen.placement.remove(&"other".into());
    let wanted = spread(Per::Site, 1);
    assert_eq!(moves(&decide(&seen, &wanted)), ["second a1>b1"]);
    seen.under_way = vec![UnderWay { service: "second".into(), from: "a1".into(), to: "b1".into() }];
    assert_eq!(moves(&decide(&seen, &wanted)), Vec::<String>::new());
}

#[test]
fn what_keeps_a_service_from_a_place_is_named() {
    let mut seen = seen();
    seen.placement.insert("redis".into(), "b1".into());
    seen.placement.insert("second".into(), "c1".into());
    let wanted = spread(Per::Site, 1);
    let decision = decide(&seen, &wanted);
    assert_eq!(option(&decision, "second", "b1").excluded_by, [shop(Per::Site)]);
    assert_eq!(option(&decision, "second", "a1").excluded_by, []);
    let answer = why::not(&seen, &wanted, &decision, &"second".into(), &"b1".into()).unwrap();
    assert_eq!(answer.excluded_by, [shop(Per::Site)]);
    assert!(answer.to_string().contains("excluded: too many with app=shop on one site"), "{answer}");
}

/// The judge comes to it by its own way.
#[test]
fn the_checker_refuses_a_plan_that_brings_them_together() {
    let seen = seen();
    let plan = decide(&seen, &spread(Per::Site, 2)).plan;
    assert_eq!(checker::check(&seen, &spread(Per::Site, 2), &plan), Ok(()));
    let mut apart = seen.clone();
    apart.placement.insert("second".into(), "c1".into());
    let plan = decide(&apart, &spread(Per::Site, 2)).plan;
    let found = checker::check(&apart, &spread(Per::Site, 1), &plan);
    assert!(matches!(found, Err(Finding::Spread { per: Per::Site, .. })), "{found:?}");
    // On nodes they are together at b1 as well; in a tier they were never apart enough.
    assert!(matches!(checker::check(&apart, &spread(Per::Node, 1), &plan), Err(Finding::Spread { .. })));
}
