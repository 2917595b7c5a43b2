//! A recorded past under other policies: recorded here from simulated worlds, which are the judges of what would have been.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};

use sterna_core::history::{History, Outcome};
use sterna_core::record::Recorded;
use sterna_core::report::Verdict;
use sterna_policies::policy::{Mode, Policy};
use sterna_policies::quantity::Millis;
use sterna_simulator::clock::SimTime;
use sterna_simulator::replay::Replay;
use sterna_simulator::replay::report::Compared;
use sterna_simulator::run;
use sterna_simulator::scenario::{Scenario, load};
use sterna_simulator::world::World;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn scenario(name: &str) -> Scenario {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    let mut scenario =
        load::load(name, &text, &|path| std::fs::read_to_string(folder().join(path))).unwrap().scenario;
    // The way to work, and not the way back.
    scenario.duration = SimTime::from_millis("10h".parse().unwrap());
    scenario
}

fn policy(name: &str, mode: Mode) -> Policy {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    let mut policy = sterna_policies::load::policy(name, &text).unwrap().value;
    policy.trigger.interval = "5m".parse().unwrap();
    Policy { mode, ..policy }
}

/// What a scheduler would have recorded in this world. In mode `auto` it carries its plans out, in others nothing moves.
fn record(scenario: &Scenario, policy: &Policy) -> Vec<Recorded> {
    let mut world = World::new(scenario);
    let (mut history, mut all) = (History::default(), Vec::new());
    let mut changes = scenario.changes().into_iter().peekable();
    let mut at = SimTime::START;
    while at < scenario.duration {
        while let Some(change) = changes.next_if(|change| *change <= at) {
            world.advance(change);
            world.refresh();
        }
        world.advance(at);
        let now = at.on_calendar(scenario.start);
        let recorded = Recorded::make(world.observe(policy), policy.clone(), history.clone(), now, 7);
        history.standing = recorded.decision.standing.clone();
        if recorded.decision.report.verdict == Verdict::Move && policy.mode == Mode::Auto {
            for order in &recorded.decision.plan.moves {
                let course = world.begin(order, &policy.migration, &[]).unwrap();
                world.advance(at.after(course.ends));
                let past = world.end(&order.service).unwrap();
                assert_eq!(past.outcome, Outcome::Moved);
                history.record(order.service.clone(), past);
            }
        }
        all.push(recorded);
        at = at.after(policy.trigger.interval);
    }
    all
}

fn replay(past: &[Recorded], policy: &Policy) -> Compared {
    let mut replay = Replay::new(policy.clone());
    past.iter().for_each(|recorded| replay.look(recorded));
    replay.finish()
}

#[test]
fn the_same_policy_decides_the_same_and_changes_nothing() {
    let scenario = scenario("commuters.toml");
    let policy = policy("latency-first.toml", Mode::Auto);
    let past = record(&scenario, &policy);
    let found = replay(&past, &policy);
    assert_eq!((found.looks, found.alike), (past.len() as u64, past.len() as u64));
    assert_eq!((found.apart, found.wanted), (None, 1));
    assert_eq!(found.was, found.with);
    assert_eq!(found.was.moves, 1);
    assert!(found.was.downtime > Millis::ZERO && found.moves.is_empty());
    assert_eq!((found.first, found.last), (Some(past[0].now), Some(past[past.len() - 1].now)));
}

#[test]
fn a_week_of_recommending_tells_what_acting_would_have_brought() {
    let scenario = scenario("commuters.toml");
    let past = record(&scenario, &policy("latency-first.toml", Mode::Recommend));
    let acts = policy("latency-first.toml", Mode::Auto);
    let found = replay(&past, &acts);
    // The simulator itself, in the world that was recorded.
    let simulated = run::run(&scenario, &acts, 7, &mut |_| {}).unwrap();
    let legs: Vec<_> = found
        .moves
        .iter()
        .map(|one| (one.began, one.service.clone(), one.to.clone(), one.downtime))
        .collect();
    let judge: Vec<_> = simulated
        .moves
        .iter()
        .map(|one| (one.at, one.service.clone(), one.to.clone(), one.end.as_ref().unwrap().downtime))
        .collect();
    assert_eq!(legs, judge);
    assert_eq!(found.apart, Some(judge[0].0));
    assert_eq!(found.placement, simulated.placement);
    assert_eq!(found.with.downtime, simulated.totals.downtime);
    assert_eq!((found.was.moves, found.was.downtime), (0, Millis::ZERO));
    assert!(found.with.user_latency_mean < found.was.user_latency_mean);
    // Between two looks all stands still in a replay; the world goes on from minute to minute.
    let near = |a: i64, b: i64| assert!((a - b).abs() * 50 <= b, "{a} and {b}");
    near(found.with.energy.as_micros(), simulated.totals.energy.as_micros());
    near(found.with.cost.as_micros(), simulated.totals.cost.as_micros());
    let mean = |latency: Option<Millis>| latency.unwrap().as_micros();
    near(mean(found.with.user_latency_mean), mean(simulated.totals.user_latency_mean));
}

#[test]
fn a_policy_that_is_off_would_have_left_all_where_it_was() {
    let scenario = scenario("commuters.toml");
    let past = record(&scenario, &policy("latency-first.toml", Mode::Auto));
    let found = replay(&past, &policy("latency-first.toml", Mode::Off));
    assert_eq!((found.with.moves, found.wanted, found.was.moves), (0, 0, 1));
    assert!(found.moves.is_empty() && found.apart.is_some());
    assert!(found.with.user_latency_mean > found.was.user_latency_mean);
    assert_eq!(found.placement[&"sessions".into()].as_str(), "north-1");
}

#[test]
fn what_nobody_looked_at_does_not_count() {
    let scenario = scenario("commuters.toml");
    let policy = policy("latency-first.toml", Mode::Recommend);
    let whole = record(&scenario, &policy);
    let interval = policy.trigger.interval;
    // Ten looks, nothing for hours, ten looks.
    let mut past = whole[..10].to_vec();
    past.extend_from_slice(&whole[whole.len() - 10..]);
    let found = replay(&past, &policy);
    let looks = |count: i64| Millis::from_micros(interval.as_micros() * count);
    assert_eq!(found.counted, looks(9 + 10 + 9));
    let hours = past[10].now.duration_since(past[9].now).as_nanos();
    assert_eq!(i128::from(found.not_known.as_micros()), hours - i128::from(looks(10).as_micros()));
}

#[test]
fn a_policy_that_looks_less_often_skips_looks() {
    let scenario = scenario("commuters.toml");
    let often = policy("latency-first.toml", Mode::Recommend);
    let past = record(&scenario, &often);
    let mut seldom = often.clone();
    seldom.trigger.interval = Millis::from_micros(often.trigger.interval.as_micros() * 4);
    assert_eq!(replay(&past, &seldom).looks, (past.len() as u64).div_ceil(4));
}
