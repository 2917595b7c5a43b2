//! Services that write their memory while it is sent ahead.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod commuters;

use commuters::{policy, read, writes};
use sterna_core::history::Outcome;
use sterna_policies::policy::Policy;
use sterna_policies::quantity::{Bytes, Millis};
use sterna_simulator::report::MoveEnd;
use sterna_simulator::run;

/// The first move of a day on which `sessions`, with 256 MiB, write so.
fn moved(writes: &str, policy: &Policy) -> MoveEnd {
    let outcome = run::run(&read(writes).unwrap().scenario, policy, 7, &mut |_| {}).unwrap();
    outcome.moves[0].end.clone().unwrap()
}

#[test]
fn the_more_it_writes_the_longer_it_stands_still() {
    let policy = policy();
    let of = |rate, working_set| moved(&writes(rate, working_set), &policy);
    let (nothing, little, much, most) = (
        of("0MiB/s", "256MiB"),
        of("0.5MiB/s", "256MiB"),
        of("900MiB/s", "100MiB"),
        of("900MiB/s", "256MiB"),
    );
    let ends = [&nothing, &little, &much, &most];
    assert!(ends.iter().all(|end| end.outcome == Outcome::Moved), "{ends:?}");
    assert!(ends.windows(2).all(|pair| pair[0].downtime < pair[1].downtime), "{ends:?}");
    assert_eq!(nothing.bytes, Bytes::from_mib(256));
    // It does not converge: twice all it writes, once in the round in which that shows and once while it stands still.
    assert_eq!(much.bytes, Bytes::from_mib(256 + 100 + 100));
    assert_eq!(most.bytes, Bytes::from_mib(256 + 256 + 256));
}

#[test]
fn the_policys_limits_hold_what_was_not_predicted() {
    let wanted = policy();
    let hard = writes("900MiB/s", "256MiB");
    let mut limited = wanted.clone();
    limited.migration.max_downtime = Some("1s".parse().unwrap());
    let held = moved(&hard, &limited);
    assert_eq!((held.outcome, held.downtime), (Outcome::RolledBack, Millis::ZERO));
    let mut leased = wanted;
    leased.migration.freeze_lease = "500ms".parse().unwrap();
    let thawed = moved(&hard, &leased);
    assert_eq!((thawed.outcome, thawed.downtime), (Outcome::RolledBack, "500ms".parse().unwrap()));
}

#[test]
fn where_nothing_crosses_ahead_it_goes_as_predicted() {
    let mut policy = policy();
    policy.migration.memory = sterna_policies::policy::Memory::WhileFrozen;
    assert_eq!(moved(&writes("900MiB/s", "256MiB"), &policy), moved("", &policy));
}

#[test]
fn who_writes_is_said_once_and_is_a_service() {
    let twice = writes("1MiB/s", "1MiB") + &writes("2MiB/s", "1MiB");
    let report = |text: &str| read(text).unwrap_err().report().lines();
    insta::assert_snapshot!(
        [
            report(&twice),
            report(&writes("1MiB", "1MiB")),
            report(&writes("1MiB/s", "0MiB")),
            report(&writes("1MiB/s", "1MiB").replace("sessions", "session")),
        ]
        .join("\n")
    );
}
