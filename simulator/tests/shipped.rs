//! The scenarios in folders of their own: each with a policy that does something sensible in it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;

use sterna_core::history::Outcome as MigrationOutcome;
use sterna_policies::quantity::Millis;
use sterna_simulator::clock::SimTime;
use sterna_simulator::models::fault::Part;
use sterna_simulator::report::{MoveRecord, Report};
use sterna_simulator::run;
use sterna_simulator::scenario::{Scenario, load};

fn scenario(folder: &str) -> Scenario {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(folder);
    let text = std::fs::read_to_string(all.join("scenario.toml")).unwrap();
    let read = load::load("scenario.toml", &text, &|path| std::fs::read_to_string(all.join(path)));
    read.unwrap_or_else(|invalid| panic!("{invalid}")).scenario
}

/// Its policy's report, which is the same a second time.
fn report(folder: &str, scenario: &Scenario) -> Report {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(folder).join("policy.toml");
    let loaded =
        sterna_policies::load::policy("policy.toml", &std::fs::read_to_string(file).unwrap()).unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let once = || run::compare(scenario, std::slice::from_ref(&loaded.value), 7, &mut |_, _| {}).unwrap();
    let (first, second) = (once(), once());
    assert_eq!(first.hash().unwrap(), second.hash().unwrap());
    assert_eq!(first.undecided().count(), 0);
    first
}

fn arrived(report: &Report) -> usize {
    let of = |outcome| {
        report.outcomes[0]
            .moves
            .iter()
            .filter(move |one| one.end.as_ref().is_some_and(|end| end.outcome == outcome))
    };
    of(MigrationOutcome::Moved).count()
}

fn time(text: &str) -> SimTime {
    SimTime::from_millis(text.parse().unwrap())
}

#[test]
fn in_melbourne_services_go_with_the_crowds() {
    let scenario = scenario("melbourne");
    assert_eq!(scenario.continuum.sites.len(), 128);
    let report = report("melbourne", &scenario);
    let (moved, unmoved) = (&report.outcomes[0].totals, &report.unmoved);
    assert!(arrived(&report) >= 10, "{}", arrived(&report));
    let [moved, unmoved] = [moved, unmoved].map(|totals| totals.user_latency_mean.unwrap().as_f64());
    assert!(moved < 0.8 * unmoved, "{moved} {unmoved}");
}

#[test]
fn work_follows_the_sun() {
    let report = report("follow-the-sun", &scenario("follow-the-sun"));
    let (moved, unmoved) = (&report.outcomes[0].totals, &report.unmoved);
    assert!((60..400).contains(&arrived(&report)), "{}", arrived(&report));
    let [moved, unmoved] = [moved, unmoved].map(|totals| totals.carbon.unwrap().as_f64());
    assert!(moved < 0.9 * unmoved, "{moved} {unmoved} with {} moves", arrived(&report));
}

#[test]
fn spot_nodes_are_left_when_they_become_dear_or_go() {
    let scenario = scenario("price-spike");
    let report = report("price-spike", &scenario);
    let outcome = &report.outcomes[0];
    let left = |one: &MoveRecord, from, to| {
        one.from.as_str().starts_with("spot") && from <= one.began && one.began < to
    };
    // When the price rises.
    assert!(outcome.moves.iter().any(|one| left(one, time("4h"), time("4.2h"))), "{:?}", outcome.moves);
    // Between a notice and what it announces; so nothing ever stands still with its node.
    let drawn = scenario.drawn(7);
    let announced = drawn.drawn.outages.iter().filter(|outage| {
        outcome.moves.iter().any(|one| {
            outage.part == Part::Node(one.from.clone()) && left(one, outage.notice.unwrap(), outage.from)
        })
    });
    assert!(announced.count() >= 2, "{:?}", drawn.drawn.outages);
    let ends = outcome.moves.iter().filter_map(|one| one.end.as_ref());
    let frozen = ends.fold(Millis::ZERO, |sum, end| sum.saturating_add(end.downtime));
    assert_eq!(outcome.totals.downtime, frozen);
    assert!(outcome.totals.cost < report.unmoved.cost);
    assert!(outcome.totals.downtime < report.unmoved.downtime);
}

#[test]
fn a_site_that_fails_receives_nothing_until_it_is_back() {
    let scenario = scenario("site-failure");
    let report = report("site-failure", &scenario);
    let outcome = &report.outcomes[0];
    let to_harbour: Vec<SimTime> =
        outcome.moves.iter().filter(|one| one.to.as_str() == "harbour-1").map(|one| one.began).collect();
    assert!(to_harbour.iter().all(|at| !(time("6h")..time("7.5h")).contains(at)), "{to_harbour:?}");
    assert!(to_harbour.iter().any(|at| (time("7.5h")..time("8h")).contains(at)), "{to_harbour:?}");
    let refused = outcome.moves.iter().filter_map(|one| one.end.as_ref());
    assert!(refused.filter(|end| end.outcome == MigrationOutcome::Refused).count() > 0, "the link is cut");
    // The news stand still with their site, and with the hill while it fails; nobody moves them from there.
    assert!(outcome.totals.downtime >= "1.5h".parse().unwrap());
    assert!(scenario.drawn(7).drawn.outages.iter().any(|outage| outage.part == Part::Node("hill-1".into())));
}
