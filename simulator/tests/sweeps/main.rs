//! Many policies over many seeds: the same worlds for all, the same results whoever runs what, and variants from a file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sterna_core::decide::Memo;
use sterna_policies::policy::Policy;
use sterna_policies::quantity::Percent;
use sterna_simulator::run::{self, Deciding};
use sterna_simulator::scenario::{Noise, Scenario, load};
use sterna_simulator::sweep::grid::{self, Grid};
use sterna_simulator::sweep::{self, Comparison, Measure, Runs};

mod random;

/// Random scenarios of each property; `STERNA_CASES` for another number.
fn cases() -> u64 {
    std::env::var("STERNA_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(40)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// Commuters, of whom not every day as many ask.
fn commuters() -> Scenario {
    let read = load::load("commuters.toml", &text("commuters.toml"), &|path| {
        std::fs::read_to_string(folder().join(path))
    });
    Scenario {
        noise: Some(Noise { rate: Percent::from_micros(30_000_000), every: 3_600_000_000_000 }),
        ..read.unwrap().scenario
    }
}

fn variants(sweep: &str) -> Grid {
    grid::load("sweep.toml", sweep, &text("latency-first.toml"), 1)
        .unwrap_or_else(|invalid| panic!("{invalid}"))
        .0
}

const SWEEP: &str = "schema_version = 1\n[grid]\n\"hysteresis.min_gain\" = [\"15%\", \"90%\"]\n\"trigger.interval\" = [\"5m\", \"30m\"]\n";

fn compared(scenario: &Scenario, grid: &Grid, seeds: u32, threads: usize) -> Comparison {
    let policies: Vec<Policy> = grid.variants.iter().map(|one| one.policy.clone()).collect();
    let runs = Runs { scenario, policies: &policies, seed: 3, seeds, threads: Some(threads) };
    let matrix = sweep::run(runs, &|| {}).unwrap();
    let names: Vec<_> =
        grid.variants.iter().map(|one| (format!("{:?}", one.settings), one.settings.clone())).collect();
    Comparison::of(scenario, &names, matrix, &grid.objectives)
}

/// What a run leaves out, and what it takes from before, changes nothing.
#[test]
fn brief_decisions_are_the_whole_ones() {
    let (mut moves, mut holds) = (0, 0);
    let memo = Memo::new(1000);
    for seed in 0..cases() {
        let (scenario, policies) = random::case(seed);
        for policy in &policies {
            let of = |deciding| run::run_as(&scenario, policy, seed, deciding, &mut |_| {}).unwrap();
            let anew = of(Deciding::Anew);
            assert_eq!(anew, of(Deciding::Briefly(&memo)), "case {seed}, {}", policy.name);
            moves += anew.moves.len();
            holds += anew.holds.len();
        }
    }
    assert!(moves > 0 && holds > 0, "{moves} moves, {holds} holds");
    assert!(memo.used().known > 0);
}

/// Policies that go together for as long as they do the same come to what each comes to alone, every decision made anew.
#[test]
fn together_they_come_to_what_each_comes_to_alone() {
    let mut moves = BTreeSet::new();
    // Each is run many times over.
    let cases = cases().div_ceil(5);
    for seed in 0..cases {
        let (scenario, mut policies) = random::case(seed);
        // The same wishes with more and less patience.
        for policy in policies.clone() {
            for (gain, rest) in [("1%", "5m"), ("1%", "40m"), ("40%", "5m")] {
                let mut variant = policy.clone();
                variant.hysteresis.min_gain = gain.parse().unwrap();
                variant.hysteresis.min_residency = rest.parse().unwrap();
                variant.hysteresis.cooldown = "7m".parse().unwrap();
                policies.push(variant);
            }
        }
        let runs = Runs { scenario: &scenario, policies: &policies, seed, seeds: 1, threads: Some(2) };
        let matrix = sweep::run(runs, &|| {}).unwrap();
        for (policy, fared) in policies.iter().zip(&matrix.fared) {
            let alone = run::run_as(&scenario, policy, seed, Deciding::Anew, &mut |_| {}).unwrap();
            let hash = blake3::hash(&serde_json::to_vec(&alone).unwrap()).to_hex().to_string();
            assert_eq!(fared[0].hash, hash, "case {seed}, {}", policy.name);
            moves.insert((seed, fared[0].moves));
        }
    }
    // In some of them they parted.
    assert!(moves.len() as u64 > cases, "{moves:?}");
}

/// What policies see alike is placed once, also of those that never share a branch.
#[test]
fn what_several_see_is_placed_once() {
    let scenario = commuters();
    let [mut patient, mut windowed] = [(); 2].map(|()| variants(SWEEP).variants.swap_remove(0).policy);
    // Whoever waits for something to last decides at every look.
    for policy in [&mut patient, &mut windowed] {
        policy.hysteresis.gain_lasts = "1m".parse().unwrap();
    }
    let always =
        "[[window]]\nkind = \"allow\"\nschedule = \"0 * * * *\"\nduration = \"2h\"\ntimezone = \"UTC\"\n";
    let text = text("latency-first.toml") + always;
    windowed.windows = sterna_policies::load::policy("windowed.toml", &text).unwrap().value.windows;
    let asked = |policies: &[Policy]| {
        let runs = Runs { scenario: &scenario, policies, seed: 3, seeds: 1, threads: Some(2) };
        let matrix = sweep::run(runs, &|| {}).unwrap();
        assert!(matrix.fared.iter().all(|fared| fared[0].moves > 0));
        matrix.used.asked
    };
    let alone = asked(&[patient.clone()]);
    assert!(alone > 0);
    assert_eq!(asked(&[patient, windowed]), alone);
}

#[test]
fn random_scenarios_come_to_the_same_with_any_number_of_threads() {
    for seed in 0..cases() {
        let (scenario, policies) = random::case(seed);
        let hash = |threads| {
            let runs =
                Runs { scenario: &scenario, policies: &policies, seed, seeds: 2, threads: Some(threads) };
            let matrix = sweep::run(runs, &|| {}).unwrap();
            let names: Vec<_> = policies.iter().map(|policy| (policy.name.clone(), Vec::new())).collect();
            Comparison::of(&scenario, &names, matrix, &Measure::USUAL).hash().unwrap()
        };
        let hashes: BTreeSet<String> = [1, 1, 2, 16].into_iter().map(hash).collect();
        assert_eq!(hashes.len(), 1, "case {seed}");
    }
}

#[test]
fn variants_meet_the_same_worlds_and_are_compared_seed_by_seed() {
    let scenario = commuters();
    let grid = variants(SWEEP);
    let one = compared(&scenario, &grid, 3, 1);
    assert_eq!(one.hash().unwrap(), compared(&scenario, &grid, 3, 16).hash().unwrap());
    assert!(one.random);
    assert_eq!(one.seeds, [3, 4, 5]);
    // Of every 90 % nothing moves, so those come to what comes to pass if nothing moves.
    let still = &one.policies[2];
    assert_eq!(still.settings[0], ("hysteresis.min_gain".to_owned(), "90%".to_owned()));
    assert_eq!(still.measures[&Measure::Moves].mean, 0.0);
    assert_eq!(still.measures[&Measure::UserLatency], one.unmoved[&Measure::UserLatency]);
    let latency = still.beyond_first[&Measure::UserLatency];
    assert!(latency.is_not_zero() && latency.mean > 0.0);
    // The worlds differ, and by more than the policies' difference does.
    assert!(still.measures[&Measure::UserLatency].within.unwrap() > 0.0);
    // Nothing is lost by a seed more.
    let more = compared(&scenario, &grid, 4, 2);
    assert_eq!(more.policies[0].fared[..3], one.policies[0].fared[..]);
}

#[test]
fn where_nothing_is_left_to_chance_one_run_says_all() {
    let scenario = Scenario { noise: None, ..commuters() };
    let comparison = compared(&scenario, &variants(SWEEP), 5, 2);
    assert!(!comparison.random);
    assert_eq!(comparison.seeds, [3]);
    assert!(comparison.policies.iter().flat_map(|one| one.measures.values()).all(|it| it.within.is_none()));
}

#[test]
fn whoever_is_beaten_says_by_whom() {
    let comparison = compared(&commuters(), &variants(SWEEP), 2, 2);
    for one in &comparison.policies {
        let value = |of: &sweep::result::Compared, measure| of.measures[measure].mean;
        if let Some(by) = &one.beaten_by {
            let by = comparison.policies.iter().find(|other| other.policy == *by).unwrap();
            assert!(by.beaten_by.is_none());
            assert!(comparison.objectives.iter().all(|it| value(by, it) <= value(one, it)));
        }
    }
    assert!(comparison.policies.iter().any(|one| one.beaten_by.is_none()));
    // Everything that differs counts, and nothing else.
    assert!(comparison.objectives.contains(&Measure::UserLatency));
}

#[test]
fn one_group_of_users_more_changes_nothing_for_the_others() {
    let one = commuters();
    let mut more = one.clone();
    let residents = more.continuum.users[&"residents".into()].clone();
    more.continuum.users.insert("aliens".into(), residents);
    let (one, more) = (one.drawn(5).into_owned(), more.drawn(5).into_owned());
    assert!(!one.is_random());
    for (key, track) in &one.tracks.rate {
        assert_eq!(more.tracks.rate.get(key), Some(track));
    }
    assert!(more.tracks.rate.len() > one.tracks.rate.len());
    assert_ne!(one.tracks.rate, commuters().drawn(6).tracks.rate);
}

#[test]
fn every_combination_is_a_variant_and_the_last_key_changes_first() {
    let grid = variants(SWEEP);
    let settings: Vec<String> = grid
        .variants
        .iter()
        .map(|one| one.settings.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(settings, ["15% 5m", "15% 30m", "90% 5m", "90% 30m"]);
    let last = &grid.variants[3].policy;
    assert_eq!(last.hysteresis.min_gain, "90%".parse().unwrap());
    assert_eq!(last.trigger.interval, "30m".parse().unwrap());
    assert_eq!(grid.objectives, Measure::USUAL);
    // What is not named stays as it is.
    assert_eq!(last.hysteresis.cooldown, "10m".parse().unwrap());
}

#[test]
fn parts_of_lists_are_named_by_number() {
    let grid = variants(
        "schema_version = 1\nobjectives = [\"moves\"]\n[grid]\n\"objective.term.0.satisfied_at\" = [\"3ms\"]\n\"budget.concurrent\" = [1, 2]\n",
    );
    let term = |one: &grid::Variant| format!("{:?}", one.policy.objective);
    assert!(term(&grid.variants[0]).contains("micros: 3000000"), "{}", term(&grid.variants[0]));
    assert_eq!(grid.variants[1].policy.budget.concurrent, 2);
    assert_eq!(grid.objectives, [Measure::Moves]);
}

#[test]
fn some_are_drawn_of_many() {
    let many = |seed| {
        let sweep = "schema_version = 1\nrandom = 7\n[grid]\n\"hysteresis.min_gain\" = [\"1%\", \"2%\", \"3%\", \"4%\", \"5%\"]\n\
                     \"hysteresis.cooldown\" = [\"1m\", \"2m\", \"3m\", \"4m\"]\n";
        let grid = grid::load("sweep.toml", sweep, &text("latency-first.toml"), seed).unwrap().0;
        grid.variants.into_iter().map(|one| one.settings).collect::<Vec<_>>()
    };
    assert_eq!(many(1).len(), 7);
    assert_eq!(many(1).iter().collect::<BTreeSet<_>>().len(), 7);
    assert_eq!(many(1), many(1));
    assert_ne!(many(1), many(2));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let refused = |sweep: &str| {
        let sweep = format!("schema_version = 1\n{sweep}");
        grid::load("sweep.toml", &sweep, &text("latency-first.toml"), 1).unwrap_err().to_string()
    };
    let files = [
        "[grid]\n\"hysteresis.min_gian\" = [\"5%\"]\n\"trigger.interval\" = [\"5m\", \"5 parsecs\"]\n\"budget.concurrent\" = []\n",
        "[grid]\n",
        "random = 0\nobjectives = [\"cost\", \"cost\"]\n[grid]\n\"hysteresis.min_gain\" = [\"5%\", \"5%\"]\n",
        "[grid]\n\"name.first\" = [1]\n\"objective.term.7.metric\" = [\"power\"]\n",
        "objectives = [\"speed\"]\nfoo = 1\n[grid]\n\"hysteresis.min_gain\" = \"5%\"\n",
        // Each alone would do.
        "[grid]\n\"constraints.max.user_latency\" = [\"12ms\"]\n\"objective.term.0.satisfied_at\" = [\"11ms\", \"15ms\"]\n",
    ];
    let all: Vec<String> = files.into_iter().map(refused).collect();
    insta::assert_snapshot!(all.join("\n\n"));
}
