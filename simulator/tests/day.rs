//! Whole simulated days: what moves, what doesn't and why, and that the numbers add up.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};

use sterna_core::history::Outcome as MigrationOutcome;
use sterna_core::record::Recorded;
use sterna_core::report::{Hold, Verdict};
use sterna_policies::policy::{Metric, Mode, Policy};
use sterna_policies::quantity::{Bytes, Millis, Percent, Usd, WattHours};
use sterna_simulator::clock::SimTime;
use sterna_simulator::report::{Happening, Outcome, Report};
use sterna_simulator::scenario::{Scenario, load};
use sterna_simulator::world::World;
use sterna_simulator::{replay, run};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn scenario(name: &str) -> Scenario {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    let read = load::load(name, &text, &|path| std::fs::read_to_string(folder().join(path))).unwrap();
    let warnings: Vec<String> = read.warnings.iter().map(ToString::to_string).collect();
    assert!(read.warnings.iter().all(|report| report.is_empty()), "{warnings:?}");
    read.scenario
}

fn policy(name: &str) -> Policy {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    let loaded = sterna_policies::load::policy(name, &text).unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    loaded.value
}

fn compare(scenario: &Scenario, policies: &[Policy]) -> Report {
    run::compare(scenario, policies, 7, &mut |_, _| {}).unwrap()
}

fn run_one(scenario: &Scenario, policy: &Policy) -> Outcome {
    run::run(scenario, policy, 7, &mut |_| {}).unwrap()
}

fn time(text: &str) -> SimTime {
    SimTime::from_millis(text.parse().unwrap())
}

#[test]
fn sessions_follow_the_commuters_there_and_back() {
    let report = compare(&scenario("commuters.toml"), &[policy("latency-first.toml")]);
    let outcome = &report.outcomes[0];
    let legs: Vec<(&str, &str, &str)> =
        outcome.moves.iter().map(|one| (one.service.as_str(), one.from.as_str(), one.to.as_str())).collect();
    assert_eq!(legs, [("sessions", "north-1", "south-1"), ("sessions", "south-1", "north-1")]);
    let [out, back] = &outcome.moves[..] else { unreachable!() };
    // Not before they are on their way, and not after they have arrived.
    assert!((time("7.5h")..time("8.5h")).contains(&out.began), "{}", out.began);
    assert!((time("17h")..time("18h")).contains(&back.began), "{}", back.began);
    for one in &outcome.moves {
        let gain = one.gain.as_ref().unwrap();
        assert!(gain.gain >= "15%".parse::<Percent>().unwrap());
        let end = one.end.as_ref().unwrap();
        assert_eq!(end.outcome, MigrationOutcome::Moved);
        assert!(end.downtime > Millis::ZERO);
        assert_eq!(end.bytes.0, Bytes::from_mib(256).0 + sterna_core::cost::left(Bytes::from_mib(256)).0);
    }
    assert_eq!(out.gain.as_ref().unwrap().metric, Metric::UserLatency);
    let (moved, unmoved) = (&outcome.totals, &report.unmoved);
    assert!(moved.user_latency_mean < unmoved.user_latency_mean);
    assert!(moved.user_latency_p95 < unmoved.user_latency_p95);
    assert_eq!(moved.requests, unmoved.requests);
    assert_eq!(unmoved.downtime, Millis::ZERO);
    let downtime = outcome.moves.iter().filter_map(|one| one.end.as_ref());
    let downtime = downtime.fold(Millis::ZERO, |sum, end| sum.saturating_add(end.downtime));
    assert_eq!(moved.downtime, downtime);
    assert_eq!(outcome.placement[&"sessions".into()].as_str(), "north-1");
}

#[test]
fn below_the_minimum_gain_nothing_moves_and_the_reason_is_told() {
    let outcome = run_one(&scenario("commuters.toml"), &policy("latency-first-stubborn.toml"));
    assert_eq!(outcome.moves, []);
    let hold = outcome.holds.iter().find(|one| one.service == Some("sessions".into())).unwrap();
    let Hold::GainTooSmall { metric, gain, min_gain } = &hold.hold else { panic!("{hold:?}") };
    assert_eq!((*metric, *min_gain), (Metric::UserLatency, "90%".parse().unwrap()));
    assert!(*gain > "15%".parse().unwrap() && gain < min_gain, "{gain}");
    assert!(hold.looks > 400, "{}", hold.looks);
    assert!(time("7.5h") < hold.first && hold.last < time("18h"));
}

#[test]
fn where_nothing_changes_nothing_moves() {
    let report = compare(&scenario("quiet.toml"), &[policy("latency-first.toml")]);
    let outcome = &report.outcomes[0];
    assert_eq!((outcome.looks, outcome.moves.len()), (24 * 60, 0));
    assert_eq!(outcome.totals, report.unmoved);
    assert_eq!(outcome.placement, scenario("quiet.toml").placement);
    assert_eq!(outcome.holds, []);
    assert!(matches!(
        &outcome.timeline[..],
        [first] if first.event == Happening::Look { verdict: Verdict::Stay }
    ));
}

#[test]
fn a_policy_that_is_off_moves_nothing_and_any_other_acts() {
    let scenario = scenario("commuters.toml");
    let of = |mode| run_one(&scenario, &Policy { mode, ..policy("latency-first.toml") });
    let off = of(Mode::Off);
    assert_eq!(off.moves, []);
    assert!(matches!(&off.holds[..], [only] if only.hold == Hold::PolicyOff && only.looks == off.looks));
    let auto = of(Mode::Auto);
    for mode in [Mode::Observe, Mode::Recommend] {
        assert_eq!(Outcome { mode: Mode::Auto, ..of(mode) }, auto);
    }
}

#[test]
fn the_same_inputs_give_the_same_report() {
    let policies = ["latency-first.toml", "cost-first.toml", "latency-first-stubborn.toml"].map(policy);
    let first = compare(&scenario("commuters.toml"), &policies);
    let second = compare(&scenario("commuters.toml"), &policies);
    assert_eq!(first, second);
    assert_eq!(first.hash().unwrap(), second.hash().unwrap());
    // The same on every machine, in every build, with either solver.
    insta::assert_snapshot!("hash_of_three_policies", first.hash().unwrap());
    let one_less = compare(&scenario("commuters.toml"), &policies[..2]);
    assert_ne!(first.hash().unwrap(), one_less.hash().unwrap());
    // A policy's result does not hang on those beside it.
    assert_eq!(first.outcomes[..2], one_less.outcomes);
}

/// What a day of standing still must come to, by hand.
#[test]
fn a_quiet_day_adds_up() {
    let report = compare(&scenario("quiet.toml"), &[]);
    let totals = report.unmoved;
    // north-1: 8 W + 22 W * 1.5 cores of 4; cloud-1: 60 W idle; south-1 is off.
    assert_eq!(totals.energy, "1830Wh".parse::<WattHours>().unwrap());
    // 16.25 W at 220 g/kWh and 60 W at 300 g/kWh.
    assert_eq!(totals.carbon.unwrap(), "517.8g".parse().unwrap());
    // The node, 1.5 cores and 1.5 GiB.
    assert_eq!(totals.cost, "2.832USD".parse::<Usd>().unwrap());
    // 40/s at 4 ms and 10/s at 5 ms.
    assert_eq!(totals.user_latency_mean, Some("4.2ms".parse().unwrap()));
    assert_eq!(totals.user_latency_p95, Some("5ms".parse().unwrap()));
    assert_eq!(totals.requests, 50 * 86_400);
}

/// The decision reckons with its own account of the present, the world with another; they must agree.
#[test]
fn the_decision_and_the_world_count_alike() {
    let scenario = scenario("commuters.toml");
    let policy = policy("latency-first.toml");
    let mut world = World::new(&scenario);
    for at in scenario.changes() {
        world.advance(at);
        world.refresh();
        let mut policy = policy.clone();
        // Its price is a track's, which only a policy with a source sees.
        assert!(policy.metrics.contains_key(&Metric::CostRate));
        policy.mode = Mode::Auto;
        let observation = world.observe(&policy);
        let decision = replay::step(&observation, &policy, &Default::default(), observation.at, 7);
        let (theirs, ours) = (decision.plan.before, world.effect());
        assert_eq!(theirs.user_latency, ours.user_latency);
        let near = |a: i64, b: i64| (a - b).abs() <= 10;
        assert!(near(theirs.cost_rate.as_micros(), ours.cost_rate.as_micros()), "{theirs:?} {ours:?}");
        assert!(near(theirs.power.as_micros(), ours.power.as_micros()), "{theirs:?} {ours:?}");
    }
}

/// The simulator decides by the very function that makes and replays the scheduler's records.
#[test]
fn a_recorded_decision_is_replayed_to_the_same_bytes() {
    let scenario = scenario("commuters.toml");
    let policy = policy("latency-first.toml");
    let mut world = World::new(&scenario);
    let mut verdicts = Vec::new();
    for at in ["0h", "7h", "8.5h", "12h"].map(time) {
        world.advance(at);
        world.refresh();
        let observation = world.observe(&policy);
        let now = observation.at;
        let recorded = Recorded::make(observation, policy.clone(), Default::default(), now, 7);
        let text = serde_json::to_string(&recorded).unwrap();
        let read: Recorded = serde_json::from_str(&text).unwrap();
        let again = replay::decision(&read);
        assert_eq!(
            serde_json::to_string(&again).unwrap(),
            serde_json::to_string(&recorded.decision).unwrap(),
            "at {at}"
        );
        verdicts.push(again.report.verdict == Verdict::Move);
    }
    assert_eq!(verdicts, [false, false, true, true]);
}
