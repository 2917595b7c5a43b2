//! The checker refuses every way of spoiling a good plan.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use std::collections::BTreeMap;
use std::sync::Arc;

use fixture::*;
use sterna_core::checker::{Finding, check};
use sterna_core::observation::{Observation, UnderWay};
use sterna_core::plan::Plan;
use sterna_core::report::Exclusion;
use sterna_core::state;
use sterna_policies::policy::{Level, Metric, Mode, Policy};

/// A good plan, spoilt: what the checker says. Where the observation is changed, the plan is of that state.
fn verdict(spoil: impl FnOnce(&mut Observation, &mut Policy, &mut Plan)) -> Result<(), Finding> {
    let (mut seen, mut wanted) = (observation(), policy());
    let mut plan = decide(&seen, &wanted).plan;
    assert_eq!(check(&seen, &wanted, &plan), Ok(()));
    let state = plan.state.clone();
    spoil(&mut seen, &mut wanted, &mut plan);
    if plan.state == state {
        plan.state = state::hash(&seen);
    }
    check(&seen, &wanted, &plan)
}

fn excluded_by(result: Result<(), Finding>) -> Exclusion {
    match result {
        Err(Finding::Excluded { rule, .. }) => rule,
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_state() {
    assert_eq!(verdict(|_, _, plan| plan.state = "0".into()), Err(Finding::State));
}

#[test]
fn services_that_may_not_move() {
    assert!(matches!(verdict(|_, wanted, _| wanted.mode = Mode::Off), Err(Finding::Off(_))));
    for spoil in [
        (|seen, _, _| {
            Arc::make_mut(&mut seen.continuum).services.get_mut(&"redis".into()).unwrap().pinned = true
        }) as fn(&mut Observation, &mut Policy, &mut Plan),
        |_, wanted, _| wanted.select.exclude_services = vec!["redis".into()],
        |seen, wanted, _| {
            wanted.budget.concurrent = 5;
            seen.under_way = vec![UnderWay { service: "redis".into(), from: "a1".into(), to: "c1".into() }];
        },
        |seen, _, _| seen.reachable = vec!["b1".into()],
        |_, _, plan| plan.moves.push(plan.moves[0].clone()),
        |_, _, plan| plan.moves[0].service = "nobody".into(),
    ] {
        let result = verdict(spoil);
        assert!(matches!(result, Err(Finding::NotMovable { .. })), "{result:?}");
    }
}

#[test]
fn wrong_ends() {
    for (from, to) in [("c1", "b1"), ("a1", "a1")] {
        let result = verdict(|_, _, plan| {
            plan.moves[0].from = from.into();
            plan.moves[0].to = to.into();
        });
        assert!(matches!(result, Err(Finding::Ends { .. })), "{result:?}");
    }
}

#[test]
fn excluded_nodes() {
    let of = |spoil: fn(&mut Observation, &mut Policy, &mut Plan)| excluded_by(verdict(spoil));
    assert_eq!(of(|seen, _, _| seen.reachable = vec!["a1".into()]), Exclusion::Unreachable);
    assert_eq!(
        of(|seen, _, _| Arc::make_mut(&mut seen.continuum).nodes.get_mut(&"b1".into()).unwrap().drain = true),
        Exclusion::Draining
    );
    assert_eq!(of(|_, wanted, _| wanted.select.sites = vec!["cloud".into()]), Exclusion::SiteNotSelected);
    assert_eq!(of(|_, wanted, _| wanted.constraints.tiers = vec!["cloud".into()]), Exclusion::Tier);
    assert_eq!(of(|_, wanted, _| wanted.constraints.regions = vec!["us".into()]), Exclusion::Region);
    assert_eq!(
        of(|seen, _, _| _ = seen.latency.get_mut(&"town".into()).unwrap().remove(&"edge-b".into())),
        Exclusion::MetricMissing { metric: Metric::UserLatency }
    );
    assert_eq!(
        of(|_, wanted, _| {
            wanted.constraints.max = BTreeMap::from([(Metric::CostRate, Level::CostRate(q("0.25USD/h")))]);
        }),
        Exclusion::Max { metric: Metric::CostRate }
    );
}

#[test]
fn full_nodes() {
    for cpu in [true, false] {
        let result = verdict(|seen, _, _| {
            let size = Arc::make_mut(&mut seen.continuum).nodes.get_mut(&"b1".into()).unwrap();
            if cpu { size.cpu = q("900m") } else { size.memory = q("1000MiB") }
        });
        assert!(matches!(result, Err(Finding::Full { wave: 0, .. })), "{result:?}");
    }
    let result = verdict(|_, wanted, _| wanted.constraints.min_free = q("80%"));
    assert!(matches!(result, Err(Finding::Full { wave: 0, .. })), "{result:?}");
}

#[test]
fn waves_and_budget() {
    assert_eq!(verdict(|_, _, plan| plan.moves[0].wave = 1), Err(Finding::Waves(1)));
    assert!(matches!(
        verdict(|_, wanted, _| wanted.budget.concurrent = 0),
        Err(Finding::Budget { moves: 1, left: 0, .. })
    ));
}

#[test]
fn claims() {
    assert_eq!(verdict(|_, _, plan| plan.placement.clear()), Err(Finding::Placement));
    for before in [true, false] {
        let result = verdict(|_, _, plan| {
            let effect = if before { &mut plan.before } else { &mut plan.after };
            effect.cost_rate =
                effect.cost_rate.saturating_add(sterna_policies::quantity::UsdPerHour::from_micros(1));
        });
        assert!(matches!(result, Err(Finding::Effect { .. })), "{result:?}");
    }
}
