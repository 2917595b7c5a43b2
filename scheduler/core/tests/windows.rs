//! Windows keep moves back, but those that mend where the policy says so.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use fixture::*;
use std::sync::Arc;
use sterna_core::report::Hold;
use sterna_policies::policy::*;

/// It is noon, UTC.
fn with(kind: WindowKind, schedule: &str, duration: &str) -> Policy {
    let window = Window {
        kind,
        schedule: schedule.into(),
        duration: q(duration),
        timezone: "UTC".into(),
        allow_mending: false,
        overrun: Default::default(),
    };
    Policy { windows: vec![window], ..policy() }
}

#[test]
fn what_a_window_denies_is_held_until_it_ends() {
    let wanted = with(WindowKind::Deny, "0 8 * * *", "10h");
    let decision = decide(&observation(), &wanted);
    let until = noon() + jiff::SignedDuration::from_hours(6);
    assert_eq!(
        held(&decision),
        [Hold::WindowClosed { window: Some("0 8 * * *".into()), until: Some(until) }]
    );
    // What would be better is told all the same.
    assert_eq!(best(&decision, "redis"), "b1");
    assert_eq!(moves(&decide(&observation(), &with(WindowKind::Deny, "0 8 * * *", "4h"))), ["redis a1>b1"]);
}

#[test]
fn where_windows_allow_moves_there_are_none_outside() {
    let wanted = with(WindowKind::Allow, "0 22 * * *", "6h");
    let until = noon() + jiff::SignedDuration::from_hours(10);
    assert_eq!(
        held(&decide(&observation(), &wanted)),
        [Hold::WindowClosed { window: None, until: Some(until) }]
    );
    assert_eq!(moves(&decide(&observation(), &with(WindowKind::Allow, "0 11 * * *", "2h"))), ["redis a1>b1"]);
}

#[test]
fn what_a_window_would_abort_is_not_begun() {
    // It would take more than a second, and half of one is left.
    let mut wanted = with(WindowKind::Deny, "0 13 * * *", "10h");
    let mut seen = observation();
    let late = noon() + jiff::SignedDuration::from_millis(3_599_500);
    seen.at = late;
    let decided = |seen: &_, wanted: &_| sterna_core::decide(seen, wanted, &Default::default(), late, 0);
    assert_eq!(moves(&decided(&seen, &wanted)), ["redis a1>b1"]);
    wanted.windows[0].overrun = Overrun::Abort;
    let held = held(&decided(&seen, &wanted));
    assert!(
        matches!(held[..], [Hold::WindowTooShort { duration, left }] if left == q("500ms") && duration > left),
        "{held:?}"
    );
    assert_eq!(moves(&decide(&observation(), &wanted)), ["redis a1>b1"]);
    // It would be aborted as well, whatever it mends.
    Arc::make_mut(&mut seen.continuum).nodes.get_mut(&"a1".into()).unwrap().drain = true;
    assert_eq!(moves(&decided(&seen, &wanted)), Vec::<String>::new());
}

#[test]
fn moves_that_mend_are_made_where_the_window_says_so() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).nodes.get_mut(&"a1".into()).unwrap().drain = true;
    let mut wanted = with(WindowKind::Deny, "0 8 * * *", "10h");
    assert_eq!(moves(&decide(&seen, &wanted)), Vec::<String>::new());
    wanted.windows[0].allow_mending = true;
    assert_eq!(moves(&decide(&seen, &wanted)), ["redis a1>b1"]);
    assert_eq!(moves(&decide(&observation(), &wanted)), Vec::<String>::new());
}
