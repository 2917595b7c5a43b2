//! How much may be moved within a time, and when moving stops because it fails.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use fixture::*;
use jiff::SignedDuration;
use std::sync::Arc;
use sterna_core::continuum::Users;
use sterna_core::history::{History, Outcome, PastMigration};
use sterna_core::observation::{Observation, UnderWay};
use sterna_core::report::{Decision, Hold, Limited, Verdict};
use sterna_policies::policy::*;
use sterna_policies::quantity::*;

/// A migration of some service that ended so many minutes before noon.
fn ended(minutes: i64, outcome: Outcome) -> PastMigration {
    PastMigration {
        ended: noon() - SignedDuration::from_mins(minutes),
        from: "a1".into(),
        to: "b1".into(),
        outcome,
        downtime: q("400ms"),
        bytes: Bytes::from_mib(100),
        duration: q("2s"),
    }
}

fn after(past: &[(&str, i64, Outcome)]) -> History {
    let mut history = History::default();
    for (service, minutes, outcome) in past {
        history.record((*service).into(), ended(*minutes, *outcome));
    }
    history
}

/// Beside redis two services whose users would gain less: 15 ms instead of 20.
fn three() -> Observation {
    let mut seen = observation();
    let names = ["web", "batch"];
    for name in names {
        Arc::make_mut(&mut seen.continuum).services.insert(name.into(), service("500m", "1GiB"));
        seen.placement.insert(name.into(), "a1".into());
    }
    let sites = [("edge-a", 20.0), ("edge-b", 15.0), ("cloud", 40.0)];
    let users = Users {
        rates: names.map(|name| (name.into(), q("10/s"))).into(),
        latency: sites.map(|(site, latency)| (site.into(), ms(latency).value)).into(),
        probe: Vec::new(),
    };
    Arc::make_mut(&mut seen.continuum).users.insert("village".into(), users);
    seen.latency.insert("village".into(), sites.map(|(site, latency)| (site.into(), ms(latency))).into());
    seen
}

fn spent(budget: Limited, left: &str) -> Vec<Hold> {
    vec![Hold::BudgetSpent { budget, left: Some(q(left)) }]
}

#[test]
fn no_more_moves_an_hour_or_a_day_than_the_policy_allows() {
    let mut wanted = policy();
    wanted.budget.moves_per_hour = Some(2);
    let moved = Outcome::Moved;
    let two = after(&[("web", 59, moved), ("batch", 10, Outcome::RolledBack)]);
    let decision = decide_after(&observation(), &wanted, &two);
    assert_eq!(held(&decision), spent(Limited::MovesPerHour, "60s"));
    // What ended an hour ago no longer counts, nor what was refused.
    for past in
        [[("web", 60, moved), ("batch", 10, moved)], [("web", 59, Outcome::Refused), ("batch", 10, moved)]]
    {
        assert_eq!(moves(&decide_after(&observation(), &wanted, &after(&past))), ["redis a1>b1"]);
    }
    wanted.budget.moves_per_hour = None;
    wanted.budget.moves_per_day = Some(1);
    let decision = decide_after(&observation(), &wanted, &after(&[("web", 23 * 60, moved)]));
    assert_eq!(held(&decision), spent(Limited::MovesPerDay, "1h"));
    assert_eq!(
        moves(&decide_after(&observation(), &wanted, &after(&[("web", 24 * 60, moved)]))),
        ["redis a1>b1"]
    );
}

#[test]
fn what_is_under_way_counts_already() {
    let mut seen = three();
    seen.under_way = vec![UnderWay { service: "batch".into(), from: "a1".into(), to: "b1".into() }];
    let mut wanted = policy();
    wanted.select.services = vec!["redis".into()];
    wanted.budget.concurrent = 3;
    wanted.budget.moves_per_hour = Some(2);
    assert_eq!(moves(&decide(&seen, &wanted)), ["redis a1>b1"]);
    wanted.budget.moves_per_hour = Some(1);
    assert_eq!(held(&decide(&seen, &wanted)), spent(Limited::MovesPerHour, "1h"));
    // Nor does it stand in the way for ever once nobody can tell what came of it.
    wanted.budget.concurrent = 1;
    wanted.budget.concurrent_per_site = Some(1);
    seen.overdue = ["batch".into()].into();
    assert_eq!(moves(&decide(&seen, &wanted)), ["redis a1>b1"]);
    wanted.select.services = vec!["batch".into()];
    assert_eq!(held(&decide(&seen, &wanted)), [Hold::UnderWay]);
}

/// Those that gain most, and what they were held for is said of the others.
#[test]
fn what_is_left_goes_to_those_that_gain_most() {
    let mut seen = three();
    let mut wanted = policy();
    wanted.budget.concurrent = 3;
    assert_eq!(decide(&seen, &wanted).plan.moves.len(), 3);
    wanted.budget.moves_per_day = Some(1);
    let decision = decide(&seen, &wanted);
    assert_eq!(moves(&decision), ["redis a1>b1"]);
    assert_eq!(held_by(&decision, "web"), spent(Limited::MovesPerDay, "1d"));
    // One that mends goes before all that gain.
    seen.placement.insert("batch".into(), "c1".into());
    Arc::make_mut(&mut seen.continuum).nodes.get_mut(&"c1".into()).unwrap().drain = true;
    assert_eq!(moves(&decide(&seen, &wanted)), ["batch c1>b1"]);
}

#[test]
fn no_more_bytes_a_day() {
    let mut wanted = policy();
    let needs = decide(&observation(), &wanted).plan.moves[0].predicted.bytes;
    wanted.budget.bytes_per_day = Some(needs);
    assert_eq!(moves(&decide(&observation(), &wanted)), ["redis a1>b1"]);
    wanted.budget.bytes_per_day = Some(Bytes(needs.0 - 1));
    let never = Hold::BudgetSpent { budget: Limited::BytesPerDay, left: None };
    assert_eq!(held(&decide(&observation(), &wanted)), [never]);
    let past = after(&[("web", 60, Outcome::Moved)]);
    let with = |more: u64, wanted: &mut Policy| {
        wanted.budget.bytes_per_day = Some(Bytes(needs.0 + more));
        decide_after(&observation(), wanted, &past)
    };
    assert_eq!(held(&with(Bytes::from_mib(100).0 - 1, &mut wanted)), spent(Limited::BytesPerDay, "23h"));
    assert_eq!(moves(&with(Bytes::from_mib(100).0, &mut wanted)), ["redis a1>b1"]);
}

/// Each service has its own.
#[test]
fn no_service_stands_still_for_longer_a_day() {
    let mut wanted = policy();
    let needs = decide(&observation(), &wanted).plan.moves[0].predicted.downtime;
    wanted.budget.downtime_per_day = Some(needs.saturating_add(q("399ms")));
    let of =
        |service: &str| decide_after(&observation(), &wanted, &after(&[(service, 120, Outcome::RolledBack)]));
    assert_eq!(held(&of("redis")), spent(Limited::DowntimePerDay, "22h"));
    assert_eq!(moves(&of("web")), ["redis a1>b1"]);
}

#[test]
fn too_many_that_were_undone_stop_all_moves_for_a_while() {
    let undone = Outcome::RolledBack;
    let wanted = policy();
    let three =
        |last: i64| after(&[("web", last, undone), ("batch", last + 20, undone), ("web", last + 60, undone)]);
    let open = |left: &str| vec![Hold::CircuitOpen { failures: 3, within: q("1h"), left: q(left) }];
    let mut past = three(10);
    past.migrations.values_mut().for_each(|all| all.sort_by_key(|one| one.ended));
    assert_eq!(held(&decide_after(&observation(), &wanted, &past)), open("350m"));
    // It closes by itself.
    assert_eq!(moves(&decide_after(&observation(), &wanted, &three(360))), ["redis a1>b1"]);
    // Farther apart, or of another outcome, they are no such series.
    for past in [
        after(&[("web", 10, undone), ("batch", 30, undone), ("web", 71, undone)]),
        after(&[("web", 10, Outcome::Moved), ("batch", 30, undone), ("web", 40, Outcome::Refused)]),
    ] {
        assert_eq!(decide_after(&observation(), &wanted, &past).report.verdict, Verdict::Move);
    }
    let mut never = wanted;
    never.breaker.failures = 0;
    assert_eq!(moves(&decide_after(&observation(), &never, &three(10))), ["redis a1>b1"]);
}

#[test]
fn no_more_moves_of_a_service_a_day() {
    let mut wanted = policy();
    wanted.budget.moves_per_service_per_day = Some(2);
    let moved = Outcome::Moved;
    let twice = after(&[("redis", 23 * 60, moved), ("redis", 10, Outcome::RolledBack)]);
    assert_eq!(
        held(&decide_after(&observation(), &wanted, &twice)),
        spent(Limited::MovesPerServicePerDay, "1h")
    );
    // Those of others don't count.
    let once = after(&[("redis", 10, moved), ("web", 10, moved), ("batch", 10, moved)]);
    assert_eq!(moves(&decide_after(&observation(), &wanted, &once)), ["redis a1>b1"]);
}

#[test]
fn no_more_bytes_over_a_link_a_day() {
    let mut wanted = policy();
    let needs = decide(&observation(), &wanted).plan.moves[0].predicted.bytes;
    let past = after(&[("web", 60, Outcome::Moved)]);
    wanted.budget.bytes_per_link_per_day = Some(Bytes(needs.0 + Bytes::from_mib(100).0 - 1));
    assert_eq!(
        held(&decide_after(&observation(), &wanted, &past)),
        spent(Limited::BytesPerLinkPerDay, "23h")
    );
    wanted.budget.bytes_per_link_per_day = Some(Bytes(needs.0 + Bytes::from_mib(100).0));
    assert_eq!(moves(&decide_after(&observation(), &wanted, &past)), ["redis a1>b1"]);
    // What crossed another link doesn't count, in either direction.
    wanted.budget.bytes_per_link_per_day = Some(needs);
    let mut other = past.clone();
    other.migrations.get_mut(&"web".into()).unwrap()[0].from = "c1".into();
    assert_eq!(moves(&decide_after(&observation(), &wanted, &other)), ["redis a1>b1"]);
    let mut back = past;
    back.migrations.get_mut(&"web".into()).unwrap()[0].from = "b1".into();
    back.migrations.get_mut(&"web".into()).unwrap()[0].to = "a1".into();
    assert_eq!(
        held(&decide_after(&observation(), &wanted, &back)),
        spent(Limited::BytesPerLinkPerDay, "23h")
    );
    // What is under way counts already.
    let mut seen = three();
    seen.under_way = vec![UnderWay { service: "batch".into(), from: "b1".into(), to: "a1".into() }];
    wanted.select.services = vec!["redis".into()];
    wanted.budget.concurrent = 3;
    assert_eq!(held(&decide(&seen, &wanted)), spent(Limited::BytesPerLinkPerDay, "1d"));
}

/// Waves by their number of moves.
fn waves(decision: &Decision) -> Vec<usize> {
    let last = decision.plan.moves.iter().map(|one| one.wave).max();
    let of = |wave| decision.plan.moves.iter().filter(|one| one.wave == wave).count();
    (0..=last.unwrap_or(0)).map(of).collect()
}

#[test]
fn sites_and_links_have_limits_of_their_own() {
    let mut seen = three();
    let mut wanted = policy();
    wanted.budget.concurrent = 3;
    assert_eq!(waves(&decide(&seen, &wanted)), [3]);
    wanted.budget.concurrent_per_link = Some(2);
    assert_eq!(waves(&decide(&seen, &wanted)), [2, 1]);
    wanted.budget.concurrent_per_site = Some(1);
    assert_eq!(waves(&decide(&seen, &wanted)), [1, 1, 1]);
    // What is under way has its share: nothing more leaves its site, or comes over its link.
    seen.under_way = vec![UnderWay { service: "batch".into(), from: "a1".into(), to: "c1".into() }];
    let decision = decide(&seen, &wanted);
    assert_eq!(moves(&decision), Vec::<String>::new());
    assert_eq!(held_by(&decision, "redis"), [Hold::Concurrent { limit: 1 }]);
    wanted.budget.concurrent_per_site = None;
    assert_eq!(waves(&decide(&seen, &wanted)), [2]);
}
