//! Services whose moves follow a model of their own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod commuters;

use commuters::{policy, read, writes};
use sterna_core::history::Outcome as MigrationOutcome;
use sterna_policies::policy::Policy;
use sterna_policies::quantity::{Bytes, Millis};
use sterna_simulator::report::{Happening, MoveRecord, Outcome};
use sterna_simulator::run;

fn outcome(more: &str, policy: &Policy) -> Outcome {
    run::run(&read(more).unwrap().scenario, policy, 7, &mut |_| {}).unwrap()
}

/// The first move of the day: `sessions`, with 256 MiB, over 1 Gbit/s with a round trip of 12 ms.
fn moved(more: &str, policy: &Policy) -> MoveRecord {
    outcome(more, policy).moves[0].clone()
}

fn model(rest: &str) -> String {
    format!("[[migration]]\nservice = \"sessions\"\n{rest}\n")
}

/// Milliseconds that so many MiB take over 1 Gbit/s.
fn sent(mib: f64) -> f64 {
    mib * 1_048_576.0 * 8.0 / 1e6 + 12.0
}

#[track_caller]
fn near(value: Millis, millis: f64) {
    assert!((value.as_f64() - millis).abs() < 0.01, "{value}, and not {millis}");
}

#[test]
fn pre_copy_stands_still_for_what_its_last_round_leaves() {
    let of = |writes: String, more: &str| {
        let one = moved(&(writes + &model(&format!("model = \"pre-copy\"\n{more}"))), &policy());
        let end = one.end.unwrap();
        assert_eq!((end.outcome, one.arrived), (MigrationOutcome::Moved, None));
        (end.downtime, end.bytes, end.ended.since(one.began) as f64 / 1e6)
    };
    // Written slower than sent: what the first round leaves is little enough.
    let (downtime, bytes, took) = of(writes("10MiB/s", "256MiB"), "");
    let left = sent(256.0) * 10.0 / 1000.0;
    near(downtime, sent(left) + 40.0);
    assert!((bytes.as_mib() - 256.0 - left).abs() < 0.001);
    // Made ready as long as the migrations of the default costs are.
    assert!((took - 300.0 - sent(256.0) - downtime.as_f64()).abs() < 0.01, "{took}");
    // Written faster, it never gets less than all that is written: it does not converge, and that is what is waited for.
    let (downtime, bytes, _) = of(writes("900MiB/s", "256MiB"), "");
    near(downtime, sent(256.0) + 40.0);
    assert_eq!(bytes, Bytes::from_mib(3 * 256));
    let (downtime, bytes, _) = of(writes("900MiB/s", "64MiB"), "");
    near(downtime, sent(64.0) + 40.0);
    assert_eq!(bytes, Bytes::from_mib(256 + 64 + 64));
    // Its stop rule.
    let (downtime, bytes, _) =
        of(writes("900MiB/s", "64MiB"), "downtime_limit = \"600ms\"\nresume = \"5ms\"");
    near(downtime, sent(64.0) + 5.0);
    assert_eq!(bytes, Bytes::from_mib(256 + 64));
    let (_, bytes, _) = of(writes("900MiB/s", "64MiB"), "stall = \"200%\"\nrounds = 5");
    assert_eq!(bytes, Bytes::from_mib(256 + 5 * 64));
    let (_, bytes, _) = of(writes("900MiB/s", "64MiB"), "stall = \"200%\"\nsent = \"150%\"");
    assert_eq!(bytes, Bytes::from_mib(256 + 3 * 64));
}

#[test]
fn post_copy_runs_first_and_fetches_its_pages_afterwards() {
    let post_copy = model("model = \"post-copy\"");
    let day = outcome(&post_copy, &policy());
    let one = &day.moves[0];
    let (arrived, end) = (one.arrived.unwrap(), one.end.as_ref().unwrap());
    assert_eq!((end.outcome, end.bytes), (MigrationOutcome::Moved, Bytes::from_mib(256)));
    // A dump of nothing and all around it, 1 MiB, and a restore of nothing: whatever the memory.
    near(end.downtime, 90.0 + 40.0 + sent(1.0) + 105.0);
    assert!((end.ended.since(arrived) as f64 / 1e6 - sent(255.0)).abs() < 0.01);
    let told: Vec<_> =
        day.timeline.iter().filter(|entry| entry.at == arrived).map(|entry| &entry.event).collect();
    assert_eq!(told, [&Happening::Resumed { service: one.service.clone(), on: one.to.clone() }]);
    // The users are served from there as soon as it runs.
    let at =
        |when| day.course.iter().rev().find(|point| point.at <= when).unwrap().effect.user_latency.unwrap();
    assert!(at(arrived) < at(one.began), "{} {}", at(arrived), at(one.began));
    assert_eq!(at(arrived), at(end.ended));
    let more = moved(
        &model("model = \"post-copy\"\nstate = \"101MiB\"\nfreeze = \"1ms\"\nresume = \"2ms\""),
        &policy(),
    );
    near(more.end.unwrap().downtime, sent(101.0) + 3.0);
}

#[test]
fn a_service_that_has_gone_ahead_of_its_memory_can_only_go_on() {
    let post_copy = model("model = \"post-copy\"");
    let whole = moved(&post_copy, &policy());
    let end = whole.end.as_ref().unwrap();
    let failing = |what: &str, at_nanos: u64| {
        let at = at_nanos as f64 / 1e6;
        moved(&format!("{post_copy}[[failure]]\n{what}\nat = \"{at}ms\"\nfor = \"10m\"\n"), &policy())
    };
    let fetching = whole.arrived.unwrap().as_nanos() + 1_000_000_000;
    for what in ["link = [\"edge-north\", \"edge-south\"]", "node = \"north-1\"", "node = \"south-1\""] {
        let held = failing(what, fetching);
        let held_end = held.end.unwrap();
        assert_eq!((held.arrived, held_end.outcome), (whole.arrived, MigrationOutcome::Moved), "{what}");
        near(held_end.downtime, end.downtime.as_f64() + 600_000.0);
        assert_eq!(held_end.ended.since(end.ended), 600_000_000_000, "{what}");
        assert_eq!(held_end.bytes, end.bytes);
    }
    // Once its state is there and before it runs, too.
    let sent = whole.arrived.unwrap().as_nanos() - 50_000_000;
    let held = failing("node = \"south-1\"", sent);
    assert_eq!(held.arrived.unwrap().since(whole.arrived.unwrap()), 600_000_000_000);
    near(held.end.unwrap().downtime, end.downtime.as_f64() + 600_000.0);
    // While both ends are made ready nothing has happened yet.
    let early =
        failing("link = [\"edge-north\", \"edge-south\"]", whole.began.as_nanos() + 100_000_000).end.unwrap();
    assert_eq!(
        (early.outcome, early.downtime, early.bytes),
        (MigrationOutcome::RolledBack, Millis::ZERO, Bytes::ZERO)
    );
}

#[test]
fn a_cold_move_stands_still_from_stop_to_start() {
    let cold = model("model = \"cold\"\nstop = \"2s\"\nstart = \"5s\"\nprepare = \"1s\"");
    let one = moved(&cold, &policy());
    let end = one.end.unwrap();
    assert_eq!((end.outcome, end.bytes, one.arrived), (MigrationOutcome::Moved, Bytes::ZERO, None));
    near(end.downtime, 7000.0);
    assert_eq!(end.ended.since(one.began), 8_000_000_000);
    // What was stopped is not there to be thawed: it is started anew where it was.
    let mut leased = policy();
    leased.migration.freeze_lease = "500ms".parse().unwrap();
    let undone = moved(&cold, &leased).end.unwrap();
    assert_eq!(undone.outcome, MigrationOutcome::RolledBack);
    near(undone.downtime, 5500.0);
    // The same when its destination fails: it is let go on when the lease runs out.
    let at = one.began.as_nanos() / 1_000_000 + 4000;
    let failure = format!("[[failure]]\nnode = \"south-1\"\nat = \"{at}ms\"\nfor = \"10m\"\n");
    let mut patient = policy();
    patient.migration.freeze_lease = "20s".parse().unwrap();
    let broken = moved(&(cold + &failure), &patient).end.unwrap();
    assert_eq!(broken.outcome, MigrationOutcome::RolledBack);
    near(broken.downtime, 25_000.0);
}

#[test]
fn the_policys_limits_hold_for_every_model() {
    let hard = writes("900MiB/s", "256MiB") + &model("model = \"pre-copy\"");
    let mut limited = policy();
    limited.migration.max_downtime = Some("1s".parse().unwrap());
    let held = moved(&hard, &limited).end.unwrap();
    assert_eq!((held.outcome, held.downtime), (MigrationOutcome::RolledBack, Millis::ZERO));
    // All rounds were for nothing.
    assert_eq!(held.bytes, Bytes::from_mib(2 * 256));
    let mut late = policy();
    late.migration.deadline = "1300ms".parse().unwrap();
    let cut = moved(&hard, &late).end.unwrap();
    assert_eq!((cut.outcome, cut.downtime), (MigrationOutcome::RolledBack, Millis::ZERO));
    let share = 256.0 * 1000.0 / sent(256.0);
    assert!((cut.bytes.as_mib() - share).abs() < 0.01, "{} {share}", cut.bytes);
    // What runs at the destination already is not undone by a deadline.
    let mut short = policy();
    short.migration.deadline = "1s".parse().unwrap();
    assert_eq!(moved(&model("model = \"post-copy\""), &short).end.unwrap().outcome, MigrationOutcome::Moved);
    let mut slow = policy();
    slow.migration.bandwidth = Some("20MiB/s".parse().unwrap());
    let end = moved(&(writes("900MiB/s", "64MiB") + &model("model = \"pre-copy\"")), &slow).end.unwrap();
    near(end.downtime, 64.0 / 20.0 * 1000.0 + 12.0 + 40.0);
}

#[test]
fn models_hold_of_one_service_or_of_all_others() {
    let cold = "[[migration]]\nmodel = \"cold\"\nstop = \"2s\"\nstart = \"5s\"\n";
    near(moved(cold, &policy()).end.unwrap().downtime, 7000.0);
    let but = cold.to_owned() + &model("model = \"checkpoint\"");
    assert_eq!(moved(&but, &policy()), moved("", &policy()));
    let all = "[[writes]]\nrate = \"900MiB/s\"\n[[migration]]\nmodel = \"pre-copy\"\n";
    near(moved(all, &policy()).end.unwrap().downtime, sent(256.0) + 40.0);
}

#[test]
fn mistakes_are_told_with_their_place() {
    let cold = "model = \"cold\"\nstop = \"2s\"\nstart = \"5s\"";
    let wrong = [
        model("model = \"warm\""),
        model("model = \"cold\"\nstop = \"2s\""),
        model(&format!("{cold}\nrounds = 3\nstate = \"1MiB\"")),
        model("model = \"pre-copy\""),
        writes("1MiB/s", "1MiB")
            + &model("model = \"pre-copy\"\nrounds = 0\nstall = \"-1%\"\ndowntime_limit = \"300\""),
        model("model = \"post-copy\"\nstate = \"0MiB\""),
        model("model = \"checkpoint\"\nprepare = \"1s\""),
        model(cold) + &model(cold),
        model(cold).replace("sessions", "session"),
        writes("1MiB/s", "1MiB") + &model(cold),
        model(cold) + &model(cold).replace("sessions", "catalog") + "[[migration]]\n" + cold + "\n",
    ];
    let told = wrong.map(|text| read(&text).map(|_| ()).unwrap_err().report().lines());
    insta::assert_snapshot!(told.join("\n"));
}
