//! What people read, and the way of a decision through JSON.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use std::collections::BTreeMap;
use std::sync::Arc;

use fixture::*;
use sterna_core::explain;
use sterna_core::history::{History, Outcome};
use sterna_core::record::Recorded;
use sterna_policies::policy::{Level, Metric, OnMissing, SourceUnit};

/// The text, whichever solver is built in.
fn said(decision: &sterna_core::report::Decision) -> String {
    explain::text(decision).replace("solver: microlp", "solver: highs")
}

#[test]
fn a_move() {
    insta::assert_snapshot!(said(&decide(&observation(), &policy())));
}

#[test]
fn held_back_and_excluded() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).services.insert("web".into(), service("3500m", "1GiB"));
    seen.placement.insert("web".into(), "b1".into());
    Arc::make_mut(&mut seen.continuum).services.insert("batch".into(), service("1", "1GiB"));
    let mut wanted = policy();
    wanted.select.exclude_sites = vec!["cloud".into()];
    wanted.constraints.max = BTreeMap::from([(Metric::UserLatency, Level::UserLatency(q("50ms")))]);
    wanted.hysteresis.cooldown = q("10m");
    let decision = decide_after(&seen, &wanted, &migrated(60, "a1", Outcome::RolledBack));
    insta::assert_snapshot!(said(&decision));
}

#[test]
fn a_gain_that_is_too_small() {
    let mut wanted = policy();
    wanted.hysteresis.min_gain = q("90%");
    insta::assert_snapshot!(said(&decide(&observation(), &wanted)));
}

#[test]
fn a_number_that_is_missing() {
    let mut seen = observation();
    seen.latency.clear();
    insta::assert_snapshot!(said(&decide(&seen, &policy())));
}

#[test]
fn a_recorded_decision_is_made_again_to_the_same_bytes() {
    let mut wanted = policy();
    wanted.constraints.max = BTreeMap::from([(Metric::UserLatency, Level::UserLatency(q("20ms")))]);
    wanted.metrics.insert(Metric::CostRate, source(SourceUnit::UsdPerHour, OnMissing::Modelled));
    let history: History = migrated(3600, "a1", Outcome::Moved);
    let recorded = Recorded::make(observation(), wanted, history, noon(), 7);
    assert_eq!(moves(&recorded.decision), ["redis a1>b1"]);
    let text = serde_json::to_string(&recorded).unwrap();
    let read: Recorded = serde_json::from_str(&text).unwrap();
    assert_eq!(read, recorded);
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    assert_eq!(
        serde_json::to_string(&read.replay()).unwrap(),
        serde_json::to_string(&recorded.decision).unwrap()
    );
}

/// Every outcome, hold and exclusion goes through JSON and has words.
#[test]
fn every_rule_can_be_stored_and_said() {
    use sterna_core::report::{Exclusion, Hold, Limited, Verdict};
    let metric = Metric::CostRate;
    let holds = vec![
        Hold::PolicyOff,
        Hold::MetricsMissing { metric },
        Hold::GainTooSmall { metric, gain: q("5%"), min_gain: q("10%") },
        Hold::PaysBackTooLate { metric, payback: q("30h"), within: q("1d") },
        Hold::Untriggered { left: Some(q("90s")) },
        Hold::Untriggered { left: None },
        Hold::GainTooNew { left: q("90s") },
        Hold::RegretTooSmall { metric, regret: q("40%"), wanted: q("100%") },
        Hold::Return { left: q("90s") },
        Hold::Residency { left: q("90s") },
        Hold::Cooldown { left: q("90s") },
        Hold::Settling { site: "north".into(), left: None },
        Hold::Settling { site: "north".into(), left: Some(q("40s")) },
        Hold::Concurrent { limit: 2 },
        Hold::BudgetSpent { budget: Limited::MovesPerHour, left: Some(q("90s")) },
        Hold::BudgetSpent { budget: Limited::BytesPerDay, left: None },
        Hold::CircuitOpen { failures: 3, within: q("1h"), left: q("5h") },
        Hold::WindowClosed { window: Some("0 8 * * 1-5".into()), until: Some(noon()) },
        Hold::WindowClosed { window: None, until: None },
        Hold::WindowTooShort { duration: q("20s"), left: q("5s") },
        Hold::UnderWay,
        Hold::NotRunning,
        Hold::Infeasible,
        Hold::NoRoom,
        Hold::Solver { message: "highs: no".into() },
        Hold::Checker { finding: "the plan was made from another state".into() },
    ];
    let exclusions = [
        Exclusion::Unreachable,
        Exclusion::Draining,
        Exclusion::Pinned,
        Exclusion::SiteNotSelected,
        Exclusion::Tier,
        Exclusion::Region,
        Exclusion::Capacity,
        Exclusion::Spread {
            label: "app".into(),
            value: "shop".into(),
            per: sterna_policies::policy::Per::Site,
        },
        Exclusion::Max { metric },
        Exclusion::MetricMissing { metric },
    ];
    let mut lines: Vec<String> = holds.iter().map(Hold::to_string).collect();
    lines.extend(exclusions.iter().map(Exclusion::to_string));
    insta::assert_snapshot!(lines.join("\n"));
    for verdict in [Verdict::Move, Verdict::Stay, Verdict::Held { by: holds }] {
        let text = serde_json::to_string(&verdict).unwrap();
        assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), verdict);
    }
    let text = serde_json::to_string(&exclusions).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Exclusion>>(&text).unwrap(), exclusions);
}
