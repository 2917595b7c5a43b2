//! Why a service is not on a node.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use std::collections::BTreeMap;
use std::sync::Arc;

use fixture::*;
use sterna_core::observation::Observation;
use sterna_core::report::Exclusion;
use sterna_core::why::{self, Lack, NoAnswer, WhyNot};
use sterna_policies::policy::{Level, Metric, Policy};

fn not(seen: &Observation, wanted: &Policy, service: &str, node: &str) -> Result<WhyNot, NoAnswer> {
    why::not(seen, wanted, &decide(seen, wanted), &service.into(), &node.into())
}

#[test]
fn what_would_be_worse() {
    let answer = not(&observation(), &policy(), "redis", "c1").unwrap();
    assert_eq!((answer.excluded_by.len(), answer.lacks.len(), answer.way.is_none()), (0, 0, true));
    // What is claimed is what a decision comes to that has it there.
    let mut moved = observation();
    moved.placement.insert("redis".into(), "c1".into());
    let mut off = policy();
    off.mode = sterna_policies::policy::Mode::Off;
    assert_eq!(answer.there, decide(&moved, &off).plan.before);
    assert_eq!(answer.planned, decide(&observation(), &policy()).plan.after);
    insta::assert_snapshot!(answer);
}

#[test]
fn a_rule_that_excludes_it() {
    let mut wanted = policy();
    wanted.constraints.max = BTreeMap::from([(Metric::UserLatency, Level::UserLatency(q("20ms")))]);
    wanted.select.exclude_sites = vec!["cloud".into()];
    let mut seen = observation();
    seen.placement.insert("redis".into(), "b1".into());
    let answer = not(&seen, &wanted, "redis", "c1").unwrap();
    assert_eq!(
        answer.excluded_by,
        [Exclusion::SiteNotSelected, Exclusion::Max { metric: Metric::UserLatency }]
    );
    insta::assert_snapshot!(answer);
}

/// Room is lacking, and another one could make it: with that one elsewhere the decision is the one that was asked about.
#[test]
fn room_that_another_one_could_make() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).services.insert("web".into(), service("3500m", "1GiB"));
    seen.placement.insert("web".into(), "b1".into());
    let mut wanted = policy();
    wanted.select.services = vec!["redis".into(), "web".into()];
    wanted.hysteresis.min_gain = q("99%");
    let answer = not(&seen, &wanted, "redis", "b1").unwrap();
    assert_eq!(answer.lacks.len(), 1);
    assert!(matches!(answer.lacks[0], Lack::Processor(_)));
    let way = answer.way.as_ref().unwrap();
    assert_eq!(way.service, "web".into());
    insta::assert_snapshot!(answer);
}

#[test]
fn what_does_not_exist() {
    let error = |service, node| not(&observation(), &policy(), service, node).unwrap_err().to_string();
    assert_eq!(error("redis", "nowhere"), "the continuum has no node `nowhere`");
    assert_eq!(error("nobody", "b1"), "service `nobody` was not found on any node that answers");
}
