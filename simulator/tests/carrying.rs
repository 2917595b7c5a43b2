//! Plans on their way: what may still begin when its turn comes, and what limits it by then.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io;
use std::path::Path;

use sterna_core::history::Outcome as MigrationOutcome;
use sterna_policies::policy::Policy;
use sterna_simulator::clock::SimTime;
use sterna_simulator::report::Outcome;
use sterna_simulator::run;
use sterna_simulator::scenario::{Scenario, load};

/// Both services are near nobody where they start, and near all who ask in the south.
const INVENTORY: &str = r#"schema_version = 1
name = "town"
[[site]]
name = "north"
tier = "edge"
region = "au"
price = { node = "0.10USD/h" }
power = { idle = "8W", full = "30W" }
[[site.node]]
name = "north-1"
cpu = "4cores"
memory = "8GiB"
[[site]]
name = "south"
tier = "edge"
region = "au"
price = { node = "0.10USD/h" }
power = { idle = "8W", full = "30W" }
[[site.node]]
name = "south-1"
cpu = "4cores"
memory = "8GiB"
[[link]]
between = ["north", "south"]
rtt = "12ms"
bandwidth = "100Mbit/s"
egress = "1USD/GiB"
[[users]]
name = "riders"
rates = { maps = "10/s", chat = "10/s" }
latency = { north = "90ms", south = "5ms" }
[[service]]
name = "maps"
cpu = "1cores"
memory = "1GiB"
[[service]]
name = "chat"
cpu = "1cores"
memory = "1GiB"
"#;

const HEAD: &str = r#"schema_version = 1
name = "carrying"
inventory = "town.toml"
start = "2026-03-02T00:00:00Z"
duration = "1h"
[placement]
maps = "north-1"
chat = "north-1"
"#;

fn scenario(more: &str) -> Scenario {
    let read = |path: &Path| match path.to_str() {
        Some("town.toml") => Ok(INVENTORY.to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    let read = load::load("carrying.toml", &format!("{HEAD}{more}"), &read);
    read.unwrap_or_else(|invalid| panic!("{invalid}")).scenario
}

fn policy(concurrent: u32, more: &str) -> Policy {
    let text = format!(
        r#"schema_version = 1
name = "near"
mode = "auto"
[[objective.term]]
metric = "user_latency"
[trigger]
interval = "5m"
[budget]
concurrent = {concurrent}
[metrics.user_latency]
query = "avg by (site, users) (probe_duration_seconds)"
users_label = "users"
unit = "s"
on_missing = "exclude-site"
{more}"#
    );
    sterna_policies::load::policy("near.toml", &text).unwrap_or_else(|invalid| panic!("{invalid}")).value
}

/// Ten past midnight, for two minutes: a move takes a minute and a half.
fn window(overrun: &str) -> String {
    format!(
        "[[window]]\nkind = \"allow\"\nschedule = \"10 0 * * *\"\nduration = \"2m\"\noverrun = \"{overrun}\"\n"
    )
}

fn run_one(scenario: &Scenario, policy: &Policy) -> Outcome {
    run::run(scenario, policy, 7, &mut |_| {}).unwrap()
}

fn time(text: &str) -> SimTime {
    SimTime::from_millis(text.parse().unwrap())
}

#[test]
fn no_move_begins_that_a_window_would_abort() {
    let scenario = scenario("");
    let aborted = run_one(&scenario, &policy(1, &window("abort")));
    let [only] = &aborted.moves[..] else { panic!("{:?}", aborted.moves) };
    assert_eq!((only.began, only.end.as_ref().unwrap().outcome), (time("10m"), MigrationOutcome::Moved));
    // What has begun goes on to its end, so both do.
    let finished = run_one(&scenario, &policy(1, &window("finish")));
    let [_, second] = &finished.moves[..] else { panic!("{:?}", finished.moves) };
    assert!(second.began < time("12m") && second.end.as_ref().unwrap().ended > time("12m"));
}

/// Alone each would be over in time; of half a link neither is.
#[test]
fn a_window_that_aborts_undoes_what_takes_longer_than_predicted() {
    let outcome = run_one(&scenario(""), &policy(2, &window("abort")));
    let [one, other] = &outcome.moves[..] else { panic!("{:?}", outcome.moves) };
    for end in [one, other].map(|one| one.end.as_ref().unwrap()) {
        assert_eq!((end.outcome, end.ended), (MigrationOutcome::RolledBack, time("12m")));
    }
}

#[test]
fn nothing_more_begins_to_a_node_that_is_said_to_go() {
    let noticed =
        scenario("[[preemption]]\nnode = \"south-1\"\nnotice = \"10m\"\nat = \"11m\"\nfor = \"10m\"\n");
    let (before, after) = (run_one(&scenario(""), &policy(1, "")), run_one(&noticed, &policy(1, "")));
    let second = |outcome: &Outcome| (outcome.moves[1].began, outcome.moves[1].to.to_string());
    let (began, to) = second(&before);
    assert_eq!(to, "south-1");
    assert!(began > time("1m") && began < time("2m"), "the notice is at a minute: {began}");
    // The first had begun before it. The other waits until the node is back.
    let there = after.moves.iter().filter(|one| one.to.as_str() == "south-1");
    let began: Vec<SimTime> = there.map(|one| one.began).collect();
    assert!(began.len() >= 2 && began[0] == SimTime::START, "{began:?}");
    assert!(began[1..].iter().all(|at| *at >= time("21m")), "{began:?}");
}

#[test]
fn what_the_end_cuts_short_is_paid_as_far_as_it_went() {
    let mut scenario = scenario("");
    let whole = run_one(&scenario, &policy(1, ""));
    let first = &whole.moves[0];
    let end = first.end.as_ref().unwrap();
    let (took, price) = (end.ended.since(first.began) as f64, end.bytes.as_mib() / 1024.0);
    scenario.duration = time("45s");
    let cut = run_one(&scenario, &policy(1, ""));
    let [open] = &cut.moves[..] else { panic!("{:?}", cut.moves) };
    assert_eq!((open.began, open.end.as_ref()), (SimTime::START, None));
    let paid = cut.totals.cost_egress.as_f64();
    assert!((paid / (price * 45e9 / took) - 1.0).abs() < 0.02, "{paid} of {price}");
    assert!(cut.totals.cost >= cut.totals.cost_egress);
}
