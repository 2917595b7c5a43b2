//! Two policies on the same inputs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use fixture::*;
use sterna_core::compare::{Comparison, compare};
use sterna_core::history::History;
use sterna_core::record::Recorded;
use sterna_policies::policy::{Level, Metric, Policy};

fn against(change: impl FnOnce(&mut Policy)) -> Comparison {
    let (old, mut new) = (policy(), policy());
    change(&mut new);
    let decided = |policy| Recorded::make(observation(), policy, History::default(), noon(), 7);
    compare(&decided(old), &decided(new)).unwrap()
}

#[test]
fn what_is_decided_differently_stands_side_by_side() {
    let comparison = against(|new| {
        new.hysteresis.min_gain = q("90%");
        new.constraints.max.insert(Metric::CostRate, Level::CostRate(q("1USD/h")));
    });
    assert!(comparison.differs());
    insta::assert_snapshot!(comparison.to_string());
    let json = serde_json::to_string(&comparison).unwrap();
    assert_eq!(serde_json::from_str::<Comparison>(&json).unwrap(), comparison);
}

#[test]
fn another_text_may_decide_the_same() {
    let comparison = against(|new| new.hysteresis.min_gain = q("5%"));
    assert!(!comparison.differs() && comparison.fields.len() == 1);
    insta::assert_snapshot!(comparison.to_string());
    assert!(!against(|_| {}).differs());
}

#[test]
fn a_service_that_is_left_out_is_a_difference() {
    let comparison = against(|new| new.select.services = vec!["web".into()]);
    let sides = &comparison.decisions.as_ref().unwrap().services;
    assert_eq!(
        (sides.len(), sides[0].new.selected, sides[0].old.goes.clone()),
        (1, false, Some("b1".into()))
    );
    assert!(comparison.differs());
}
