//! A plan as a file: what it keeps, and what is refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use fixture::*;
use std::sync::Arc;
use sterna_core::checker::{Finding, rules};
use sterna_core::history::History;
use sterna_core::observation::Observation;
use sterna_core::record::Recorded;
use sterna_core::saved::{SavedError, SavedPlan};
use sterna_core::state::changes;
use sterna_policies::policy::{Level, Metric, Mode, OnMissing, Policy, SourceUnit};

fn saved() -> SavedPlan {
    SavedPlan::of(Recorded::make(observation(), policy(), History::default(), noon(), 7))
}

#[test]
fn a_plan_is_read_as_it_was_written_and_can_be_made_again() {
    let saved = saved();
    assert_eq!(moves(&saved.recorded.decision), ["redis a1>b1"]);
    let read = SavedPlan::read(&saved.text().unwrap()).unwrap();
    assert_eq!(read, saved);
    assert_eq!(read.recorded.replay(), saved.recorded.decision);
}

#[test]
fn what_is_no_plan_is_refused() {
    let text = saved().text().unwrap();
    let newer = text.replacen("\"format\": 1", "\"format\": 2", 1);
    assert!(matches!(SavedPlan::read(&newer), Err(SavedError::Format { found: 2 })));
    assert!(matches!(SavedPlan::read("{}"), Err(SavedError::Form(_))));
    assert!(matches!(SavedPlan::read(&text[..text.len() / 2]), Err(SavedError::Form(_))));
    let edited = text.replacen("\"to\": \"b1\"", "\"to\": \"c1\"", 1);
    assert_ne!(edited, text);
    assert!(matches!(SavedPlan::read(&edited), Err(SavedError::Changed(_))));
}

fn told(change: impl FnOnce(&mut Observation, &mut Policy)) -> Vec<String> {
    let (mut seen, mut wanted) = (observation(), policy());
    change(&mut seen, &mut wanted);
    let changes = changes((&observation(), &policy()), (&seen, &wanted)).unwrap();
    changes.iter().map(ToString::to_string).collect()
}

#[test]
fn what_changed_is_said() {
    let nothing = told(|seen, wanted| {
        // Numbers move all the time, and nodes answer in any order.
        seen.latency.clear();
        seen.reachable.reverse();
        wanted.mode = Mode::Observe;
    });
    assert_eq!(nothing, Vec::<String>::new());
    let all = told(|seen, wanted| {
        seen.placement.insert("redis".into(), "c1".into());
        seen.placement.insert("new".into(), "a1".into());
        seen.reachable.pop();
        Arc::make_mut(&mut seen.continuum).nodes.get_mut(&"a1".into()).unwrap().cpu = q("8");
        Arc::make_mut(&mut seen.continuum).sites.get_mut(&"cloud".into()).unwrap().carbon = None;
        wanted.hysteresis.min_gain = q("5%");
    });
    assert_eq!(
        all,
        [
            "`new` was not found and runs on `a1`",
            "`redis` ran on `a1` and runs on `c1`",
            "`c1` answered and does not any more",
            "continuum, nodes.a1.cpu: 4cores -> 8cores",
            "continuum, sites.cloud.carbon: 200g/kWh -> nothing",
            "policy, hysteresis.min_gain: 0% -> 5%",
        ]
    );
}

#[test]
fn a_carbon_intensity_that_is_measured_is_no_state() {
    let mut wanted = policy();
    wanted.metrics.insert(Metric::CarbonRate, source(SourceUnit::GramsPerKwh, OnMissing::Hold));
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).sites.get_mut(&"cloud".into()).unwrap().carbon = Some(q("7g/kWh"));
    assert_eq!(changes((&observation(), &wanted), (&seen, &wanted)).unwrap(), []);
}

#[test]
fn rules_are_judged_by_the_numbers_of_now() {
    let saved = saved();
    let plan = &saved.recorded.decision.plan;
    let mut seen = observation();
    seen.latency.get_mut(&"town".into()).unwrap().insert("edge-b".into(), ms(30.0));
    assert_eq!(rules(&seen, &policy(), &plan.moves), Ok(()));
    let mut limited = policy();
    limited.constraints.max.insert(Metric::UserLatency, Level::UserLatency(q("20ms")));
    assert!(matches!(rules(&seen, &limited, &plan.moves), Ok(())), "it gets better than it is");
    seen.latency.get_mut(&"town".into()).unwrap().insert("edge-b".into(), ms(70.0));
    let finding = rules(&seen, &limited, &plan.moves).unwrap_err();
    assert!(matches!(finding, Finding::Excluded { .. }) && !finding.is_unknown(), "{finding}");
    seen.latency.get_mut(&"town".into()).unwrap().remove(&"edge-b".into());
    assert!(rules(&seen, &policy(), &plan.moves).unwrap_err().is_unknown());
    seen.latency.clear();
    assert!(rules(&seen, &policy(), &plan.moves).unwrap_err().is_unknown());
}
