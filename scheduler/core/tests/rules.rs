//! Every rule that a decision keeps, one test each.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use std::collections::BTreeMap;
use std::sync::Arc;

use fixture::*;
use sterna_core::continuum::{NodeName, SiteName, Users};
use sterna_core::observation::{Observation, Sample, Source, UnderWay};
use sterna_core::report::{Exclusion, Hold, Verdict};
use sterna_policies::policy::*;
use sterna_policies::quantity::*;

// ---- the objective ----

#[test]
fn a_service_goes_to_the_nearest_node() {
    let decision = decide(&observation(), &policy());
    assert_eq!(decision.report.verdict, Verdict::Move);
    assert_eq!(moves(&decision), ["redis a1>b1"]);
    assert_eq!(decision.plan.before.user_latency, Some(q("60ms")));
    assert_eq!(decision.plan.after.user_latency, Some(q("10ms")));
    assert_eq!(decision.plan.after.cost_rate, q("0.262USD/h"));
    assert_eq!(decision.plan.after.power, q("56.25W"));
    assert_eq!(decision.plan.after.carbon_rate, Some(q("11.25g/h")));
    assert_eq!(decision.plan.placement[&"redis".into()], NodeName::from("b1"));
    let solver = decision.report.solver.unwrap();
    assert!(solver.proved);
    assert_eq!(solver.engine, if cfg!(feature = "highs") { "highs" } else { "microlp" });
}

#[test]
fn a_service_in_the_best_place_stays() {
    let mut seen = observation();
    seen.placement.insert("redis".into(), "b1".into());
    let decision = decide(&seen, &policy());
    assert_eq!(decision.report.verdict, Verdict::Stay);
    assert_eq!(decision.plan.before, decision.plan.after);
}

#[test]
fn the_first_term_outweighs_all_others() {
    let mut wanted = policy();
    wanted.objective = lexicographic(vec![exactly(Metric::CostRate), exactly(Metric::UserLatency)]);
    assert_eq!(moves(&decide(&observation(), &wanted)), ["redis a1>c1"]);
    wanted.objective = lexicographic(vec![exactly(Metric::Power), exactly(Metric::UserLatency)]);
    assert_eq!(decide(&observation(), &wanted).report.verdict, Verdict::Stay);
}

#[test]
fn within_the_tolerance_the_next_term_decides() {
    let mut wanted = policy();
    let latency = |level| term(Metric::UserLatency, Tolerance::Absolute(Level::UserLatency(level)));
    wanted.objective = lexicographic(vec![latency(q("29ms")), exactly(Metric::CostRate)]);
    assert_eq!(moves(&decide(&observation(), &wanted)), ["redis a1>b1"]);
    wanted.objective = lexicographic(vec![latency(q("30ms")), exactly(Metric::CostRate)]);
    assert_eq!(moves(&decide(&observation(), &wanted)), ["redis a1>c1"]);
    let relative = term(Metric::UserLatency, Tolerance::Relative(q("300%")));
    wanted.objective = lexicographic(vec![relative, exactly(Metric::CostRate)]);
    assert_eq!(moves(&decide(&observation(), &wanted)), ["redis a1>c1"]);
}

#[test]
fn a_relative_tolerance_is_a_share_of_the_best() {
    let of = |share: &str| {
        let mut wanted = policy();
        let tolerance = Tolerance::Relative(q(share));
        wanted.objective =
            lexicographic(vec![term(Metric::CostRate, tolerance), exactly(Metric::UserLatency)]);
        moves(&decide(&observation(), &wanted))
    };
    // 0.112 USD/h in the cloud, 0.212 at edge-a, 0.262 at edge-b.
    assert_eq!(of("5%"), ["redis a1>c1"]);
    assert_eq!(of("133%"), ["redis a1>c1"]);
    assert_eq!(of("134%"), ["redis a1>b1"]);
}

#[test]
fn what_is_satisfied_no_longer_counts() {
    let mut wanted = policy();
    let satisfied =
        Term { satisfied_at: Some(Level::UserLatency(q("45ms"))), ..exactly(Metric::UserLatency) };
    wanted.objective = lexicographic(vec![satisfied, exactly(Metric::CostRate)]);
    assert_eq!(moves(&decide(&observation(), &wanted)), ["redis a1>c1"]);
    let all = Term { satisfied_at: Some(Level::UserLatency(q("60ms"))), ..exactly(Metric::UserLatency) };
    wanted.objective = lexicographic(vec![all]);
    assert_eq!(decide(&observation(), &wanted).report.verdict, Verdict::Stay);
}

#[test]
fn prices_weigh_terms_against_each_other() {
    let mut wanted = policy();
    let priced = |latency| Objective::Priced {
        terms: vec![
            PricedTerm { metric: Metric::UserLatency, price: q(latency) },
            PricedTerm { metric: Metric::CostRate, price: q("1USD/h") },
        ],
    };
    // 30 ms less against 0.15 USD/h more.
    wanted.objective = priced("0.0049USD/h");
    assert_eq!(moves(&decide(&observation(), &wanted)), ["redis a1>c1"]);
    wanted.objective = priced("0.0051USD/h");
    assert_eq!(moves(&decide(&observation(), &wanted)), ["redis a1>b1"]);
}

#[test]
fn latency_is_weighted_by_request_rate() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).users.insert(
        "port".into(),
        Users { rates: BTreeMap::from([("redis".into(), q("300/s"))]), ..Users::default() },
    );
    seen.latency.insert(
        "port".into(),
        BTreeMap::from([
            ("edge-a".into(), ms(20.0)),
            ("edge-b".into(), ms(50.0)),
            ("cloud".into(), ms(40.0)),
        ]),
    );
    let decision = decide(&seen, &policy());
    let latency = |node| option(&decision, "redis", node).effect.unwrap().user_latency.unwrap().as_f64();
    assert_eq!((latency("a1"), latency("b1"), latency("c1")), (30.0, 40.0, 40.0));
    assert_eq!(decision.report.verdict, Verdict::Stay);
}

#[test]
fn services_share_the_price_of_a_node() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).users.clear();
    for name in ["one", "two"] {
        Arc::make_mut(&mut seen.continuum).services.insert(name.into(), service("1", "1GiB"));
    }
    seen.placement = BTreeMap::from([
        ("redis".into(), "a1".into()),
        ("one".into(), "c1".into()),
        ("two".into(), "c1".into()),
    ]);
    let mut wanted = policy();
    wanted.objective = lexicographic(vec![exactly(Metric::CostRate)]);
    wanted.hysteresis.min_gain = q("20%");
    let decision = decide(&seen, &wanted);
    assert_eq!(moves(&decision), ["redis a1>c1"]);
    assert_eq!(option(&decision, "redis", "c1").effect.unwrap().cost_rate, q("0.012USD/h"));
    assert_eq!(decision.plan.after.cost_rate, q("0.136USD/h"));
}

#[test]
fn the_price_that_was_measured_replaces_the_inventory() {
    let mut seen = observation();
    let price = |text| Sample { value: q(text), age: Millis::ZERO, source: Source::Measured };
    seen.price = BTreeMap::from([("cloud".into(), price("0.90USD/h"))]);
    let mut wanted = policy();
    wanted.objective = lexicographic(vec![exactly(Metric::CostRate)]);
    let decision = decide(&seen, &wanted);
    assert_eq!(decision.report.verdict, Verdict::Stay);
    assert_eq!(option(&decision, "redis", "c1").effect.unwrap().cost_rate, q("0.912USD/h"));
}

#[test]
fn a_sensor_moves_the_power_line() {
    let mut seen = observation();
    let reading = |text| Sample { value: q(text), age: Millis::ZERO, source: Source::Measured };
    // One of four cores is asked for: 10 W of the reading are load.
    seen.power = BTreeMap::from([("edge-a".into(), reading("70W")), ("edge-b".into(), reading("0W"))]);
    let decision = decide(&seen, &policy());
    assert_eq!(decision.plan.before.power, q("70W"));
    assert_eq!(option(&decision, "redis", "a1").modelled, []);
    // edge-b's node may be off: its reading says nothing of what it will draw.
    assert_eq!(decision.plan.after.power, q("56.25W"));
    assert_eq!(option(&decision, "redis", "b1").modelled, [Metric::Power]);
    // With a measured use of a half, 20 W are load, so idle is 50 W.
    seen.cpu_use = BTreeMap::from([(
        "edge-a".into(),
        Sample { value: 500_000, age: Millis::ZERO, source: Source::Measured },
    )]);
    assert_eq!(decide(&seen, &policy()).plan.before.power, q("60W"));
}

#[test]
fn nodes_that_are_never_switched_off_draw_in_any_case() {
    let mut seen = observation();
    for site in Arc::make_mut(&mut seen.continuum).sites.values_mut() {
        site.power.off_when_empty = false;
    }
    let decision = decide(&seen, &policy());
    assert_eq!(decision.plan.before.power, q("195W"));
    assert_eq!(decision.plan.after.power, q("196.25W"));
    assert_eq!(option(&decision, "redis", "a1").effect.unwrap().power, q("10W"));
}

#[test]
fn of_equal_placements_the_one_with_fewest_moves_is_taken() {
    let mut seen = observation();
    for sample in seen.latency.get_mut(&"town".into()).unwrap().values_mut() {
        *sample = ms(10.0);
    }
    let mut wanted = policy();
    wanted.objective = lexicographic(vec![exactly(Metric::UserLatency)]);
    assert_eq!(decide(&seen, &wanted).report.verdict, Verdict::Stay);
    // Where it must leave, the first by name.
    Arc::make_mut(&mut seen.continuum).nodes.get_mut(&"a1".into()).unwrap().drain = true;
    assert_eq!(moves(&decide(&seen, &wanted)), ["redis a1>b1"]);
}

// ---- exclusions ----

#[test]
fn a_node_that_does_not_answer_receives_nothing() {
    let mut seen = observation();
    seen.reachable = vec!["a1".into(), "c1".into()];
    let decision = decide(&seen, &policy());
    assert_eq!(excluded(&decision, "redis", "b1"), [Exclusion::Unreachable]);
    assert_eq!(moves(&decision), ["redis a1>c1"]);
}

#[test]
fn what_runs_on_a_node_that_does_not_answer_stays() {
    let mut seen = observation();
    seen.reachable = vec!["b1".into(), "c1".into()];
    assert_eq!(held(&decide(&seen, &policy())), [Hold::NotRunning]);
}

#[test]
fn a_draining_node_receives_nothing_and_is_left() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).nodes.get_mut(&"b1".into()).unwrap().drain = true;
    let decision = decide(&seen, &policy());
    assert_eq!(excluded(&decision, "redis", "b1"), [Exclusion::Draining]);
    assert_eq!(moves(&decision), ["redis a1>c1"]);

    // Leaving needs no gain.
    seen.placement.insert("redis".into(), "b1".into());
    let mut wanted = policy();
    wanted.hysteresis.min_gain = q("10%");
    assert_eq!(moves(&decide(&seen, &wanted)), ["redis b1>c1"]);
    wanted.select.sites = vec!["edge-*".into()];
    assert_eq!(moves(&decide(&seen, &wanted)), ["redis b1>a1"]);
    // Nowhere to go.
    wanted.select.sites = vec!["edge-b".into()];
    assert_eq!(held(&decide(&seen, &wanted)), [Hold::Infeasible]);
}

#[test]
fn a_pinned_service_stays() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).services.get_mut(&"redis".into()).unwrap().pinned = true;
    let decision = decide(&seen, &policy());
    assert_eq!(decision.report.verdict, Verdict::Stay);
    assert_eq!(excluded(&decision, "redis", "b1"), [Exclusion::Pinned]);
}

#[test]
fn only_selected_services_and_sites_take_part() {
    let mut wanted = policy();
    wanted.select.exclude_sites = vec!["*-b".into()];
    let decision = decide(&observation(), &wanted);
    assert_eq!(excluded(&decision, "redis", "b1"), [Exclusion::SiteNotSelected]);
    assert_eq!(moves(&decision), ["redis a1>c1"]);
    wanted.select.services = vec!["web-*".into()];
    let decision = decide(&observation(), &wanted);
    assert_eq!(decision.report.verdict, Verdict::Stay);
    assert_eq!(decision.report.services, []);
}

#[test]
fn tiers_and_regions_are_kept_and_broken_ones_mended() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).sites.get_mut(&"edge-b".into()).unwrap().region = "us".into();
    let mut wanted = policy();
    wanted.constraints.regions = vec!["eu".into()];
    let decision = decide(&seen, &wanted);
    assert_eq!(excluded(&decision, "redis", "b1"), [Exclusion::Region]);
    assert_eq!(moves(&decision), ["redis a1>c1"]);
    // Where it runs is no longer allowed: it goes although it gets slower and nothing improves.
    let mut wanted = policy();
    seen.placement.insert("redis".into(), "b1".into());
    wanted.constraints.tiers = vec!["cloud".into()];
    wanted.hysteresis.min_gain = q("50%");
    let decision = decide(&seen, &wanted);
    assert_eq!(excluded(&decision, "redis", "b1"), [Exclusion::Tier]);
    assert_eq!(excluded(&decision, "redis", "a1"), [Exclusion::Tier]);
    assert_eq!(moves(&decision), ["redis b1>c1"]);
}

#[test]
fn a_full_node_receives_nothing() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).services.insert("big".into(), service("500m", "7.5GiB"));
    seen.placement.insert("big".into(), "b1".into());
    Arc::make_mut(&mut seen.continuum).services.get_mut(&"big".into()).unwrap().pinned = true;
    let decision = decide(&seen, &policy());
    assert_eq!(excluded(&decision, "redis", "b1"), [Exclusion::Capacity]);
    assert_eq!(moves(&decision), ["redis a1>c1"]);
}

#[test]
fn headroom_stays_free() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).services.get_mut(&"redis".into()).unwrap().cpu = q("3");
    let mut wanted = policy();
    wanted.constraints.min_free = q("25%");
    assert_eq!(moves(&decide(&seen, &wanted)), ["redis a1>b1"]);
    wanted.constraints.min_free = q("26%");
    let decision = decide(&seen, &wanted);
    assert_eq!(excluded(&decision, "redis", "b1"), [Exclusion::Capacity]);
    assert_eq!(held(&decision), [Hold::Infeasible]);
}

#[test]
fn a_migration_under_way_counts_on_both_ends() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).services.insert("other".into(), service("3500m", "1GiB"));
    seen.placement.insert("other".into(), "c1".into());
    let mut wanted = policy();
    wanted.budget.concurrent = 2;
    wanted.select.services = vec!["redis".into()];
    assert_eq!(moves(&decide(&seen, &wanted)), ["redis a1>b1"]);
    seen.under_way = vec![UnderWay { service: "other".into(), from: "c1".into(), to: "b1".into() }];
    let decision = decide(&seen, &wanted);
    assert_eq!(excluded(&decision, "redis", "b1"), [Exclusion::Capacity]);
    assert_eq!(excluded(&decision, "redis", "c1"), [Exclusion::Capacity]);
    assert_eq!(moves(&decision), Vec::<String>::new());
    // Both nodes are paid for as long as it lasts.
    assert_eq!(decision.plan.before.cost_rate, q("0.636USD/h"));
}

#[test]
fn max_is_hard_and_never_worse_than_now() {
    let mut wanted = policy();
    wanted.objective = lexicographic(vec![exactly(Metric::CostRate)]);
    wanted.constraints.max = BTreeMap::from([(Metric::UserLatency, Level::UserLatency(q("20ms")))]);
    // Broken now, so it is mended before money is looked at.
    let decision = decide(&observation(), &wanted);
    assert_eq!(moves(&decision), ["redis a1>b1"]);
    assert_eq!(excluded(&decision, "redis", "c1"), []);
    assert_eq!(excluded(&decision, "redis", "a1"), [Exclusion::Max { metric: Metric::UserLatency }]);
    // Kept now, so it stays kept.
    let mut seen = observation();
    seen.placement.insert("redis".into(), "b1".into());
    let decision = decide(&seen, &wanted);
    assert_eq!(excluded(&decision, "redis", "c1"), [Exclusion::Max { metric: Metric::UserLatency }]);
    assert_eq!(decision.report.verdict, Verdict::Stay);
    // Can't be mended: better is allowed, worse is not.
    wanted.constraints.max = BTreeMap::from([(Metric::UserLatency, Level::UserLatency(q("5ms")))]);
    seen.placement.insert("redis".into(), "c1".into());
    wanted.objective = lexicographic(vec![exactly(Metric::Power)]);
    let decision = decide(&seen, &wanted);
    assert_eq!(excluded(&decision, "redis", "a1"), [Exclusion::Max { metric: Metric::UserLatency }]);
    assert_eq!(moves(&decision), ["redis c1>b1"]);
}

// ---- missing numbers ----

fn without(site: &str) -> Observation {
    let mut seen = observation();
    seen.latency.get_mut(&"town".into()).unwrap().remove(&SiteName::from(site));
    seen
}

fn on_missing(what: OnMissing) -> Policy {
    let mut wanted = policy();
    wanted.metrics.insert(Metric::UserLatency, source(SourceUnit::Seconds, what));
    wanted
}

#[test]
fn a_missing_number_holds() {
    let decision = decide(&without("cloud"), &policy());
    assert_eq!(held(&decision), [Hold::MetricsMissing { metric: Metric::UserLatency }]);
    assert_eq!(option(&decision, "redis", "c1").effect, None);
    assert_eq!(decision.report.unknown.len(), 1);
    assert_eq!(decision.report.unknown[0].site, Some("cloud".into()));
    assert_eq!(decision.report.unknown[0].users, Some("town".into()));
    // Not where the site is of no concern.
    let mut wanted = policy();
    wanted.select.sites = vec!["edge-*".into()];
    assert_eq!(moves(&decide(&without("cloud"), &wanted)), ["redis a1>b1"]);
    // Nor where the policy does not ask for it.
    wanted.objective = lexicographic(vec![exactly(Metric::CostRate)]);
    wanted.select.sites = Vec::new();
    let decision = decide(&without("cloud"), &wanted);
    assert_eq!(moves(&decision), ["redis a1>c1"]);
    assert_eq!(decision.plan.after.user_latency, None);
}

#[test]
fn what_the_observer_said_is_not_said_again() {
    let mut seen = without("cloud");
    seen.unknown.push(sterna_core::observation::Unknown {
        metric: Metric::UserLatency,
        site: Some("cloud".into()),
        users: Some("town".into()),
        reason: "the sample is 3 minutes old".into(),
    });
    assert_eq!(decide(&seen, &policy()).report.unknown, seen.unknown);
}

#[test]
fn a_site_with_a_missing_number_may_be_excluded() {
    let decision = decide(&without("edge-b"), &on_missing(OnMissing::ExcludeSite));
    assert_eq!(
        excluded(&decision, "redis", "b1"),
        [Exclusion::MetricMissing { metric: Metric::UserLatency }]
    );
    assert_eq!(moves(&decision), ["redis a1>c1"]);
    // Without the number of where it runs, no gain can be told.
    let decision = decide(&without("edge-a"), &on_missing(OnMissing::ExcludeSite));
    assert_eq!(held(&decision), [Hold::MetricsMissing { metric: Metric::UserLatency }]);
}

#[test]
fn the_inventory_may_stand_in() {
    let wanted = on_missing(OnMissing::Modelled);
    let decision = decide(&without("edge-b"), &wanted);
    assert_eq!(moves(&decision), ["redis a1>b1"]);
    assert_eq!(decision.plan.after.user_latency, Some(q("5ms")));
    assert!(option(&decision, "redis", "b1").modelled.contains(&Metric::UserLatency));
    assert!(!option(&decision, "redis", "a1").modelled.contains(&Metric::UserLatency));
    let mut seen = without("edge-b");
    Arc::make_mut(&mut seen.continuum).users.get_mut(&"town".into()).unwrap().latency.clear();
    assert_eq!(held(&decide(&seen, &wanted)), [Hold::MetricsMissing { metric: Metric::UserLatency }]);
}

#[test]
fn a_price_or_power_that_is_asked_for_must_be_there() {
    let mut wanted = policy();
    wanted.metrics.insert(Metric::CostRate, source(SourceUnit::UsdPerHour, OnMissing::Hold));
    assert_eq!(held(&decide(&observation(), &wanted)), [Hold::MetricsMissing { metric: Metric::CostRate }]);
    wanted.metrics.insert(Metric::CostRate, source(SourceUnit::UsdPerHour, OnMissing::Modelled));
    assert_eq!(moves(&decide(&observation(), &wanted)), ["redis a1>b1"]);
    wanted.metrics.insert(Metric::CpuUse, source(SourceUnit::Ratio, OnMissing::Hold));
    assert_eq!(held(&decide(&observation(), &wanted)), [Hold::MetricsMissing { metric: Metric::CpuUse }]);
}

#[test]
fn what_is_emitted_is_not_known_in_part() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).sites.get_mut(&"edge-b".into()).unwrap().carbon = None;
    // The objective asks for no intensity, and half a sum would look like less carbon.
    let decision = decide(&seen, &policy());
    assert_eq!(moves(&decision), ["redis a1>b1"]);
    assert_eq!((decision.plan.before.carbon_rate, decision.plan.after.carbon_rate), (Some(q("10g/h")), None));
    assert_eq!(option(&decision, "redis", "b1").effect.unwrap().carbon_rate, None);
}

#[test]
fn carbon_needs_an_intensity() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).sites.get_mut(&"cloud".into()).unwrap().carbon = None;
    let mut wanted = policy();
    wanted.objective = lexicographic(vec![exactly(Metric::CarbonRate)]);
    assert_eq!(held(&decide(&seen, &wanted)), [Hold::MetricsMissing { metric: Metric::CarbonRate }]);
    wanted.metrics.insert(Metric::CarbonRate, source(SourceUnit::GramsPerKwh, OnMissing::ExcludeSite));
    let decision = decide(&seen, &wanted);
    assert_eq!(decision.report.verdict, Verdict::Stay);
    assert_eq!(option(&decision, "redis", "c1").effect, None);
}

// ---- what a plan says ----

#[test]
fn a_move_is_predicted_from_memory_and_link() {
    let decision = decide(&observation(), &policy());
    let predicted = decision.plan.moves[0].predicted;
    // Around it 46 ms, dump 90 and 64 · 0.5, restore 105 and 64 · 0.7, what changed (1 MiB and 2 %) at 100 MiB/s, one round trip.
    assert_eq!(predicted.downtime.as_f64().round(), 46.0 + 122.0 + 150.0 + 23.0 + 12.0);
    // Beside it 300 ms, all of the memory at 100 MiB/s, six round trips.
    assert_eq!(predicted.duration.as_f64().round(), 353.0 + 300.0 + 640.0 + 72.0);
    assert_eq!(
        predicted.bytes,
        Bytes(Bytes::from_mib(64).0 + sterna_core::cost::left(Bytes::from_mib(64)).0)
    );
    // All of it while it is frozen, over a link of which it may have half.
    let mut slow = policy();
    (slow.migration.memory, slow.migration.bandwidth) = (Memory::WhileFrozen, Some(q("50MiB/s")));
    let predicted = decide(&observation(), &slow).plan.moves[0].predicted;
    assert_eq!(predicted.downtime.as_f64().round(), 46.0 + 122.0 + 150.0 + 1280.0 + 12.0);
    // What it asks for stands in where its memory is not known.
    let mut seen = observation();
    seen.memory.clear();
    let asked = decide(&seen, &policy()).plan.moves[0].predicted.bytes;
    assert_eq!(asked.0 - sterna_core::cost::left(q("1GiB")).0, Bytes::from_mib(1024).0);
}

#[test]
fn the_state_is_what_was_seen() {
    let of = |seen: &Observation| decide(seen, &policy()).plan.state;
    let state = of(&observation());
    assert_eq!(state, sterna_core::state::hash(&observation()));
    let mut seen = observation();
    seen.reachable.reverse();
    assert_eq!(of(&seen), state);
    seen.placement.insert("redis".into(), "c1".into());
    assert_ne!(of(&seen), state);
}
