//! What a move costs is paid back by what it gains, within the time that the policy gives.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use fixture::*;
use std::sync::Arc;
use sterna_core::observation::Observation;
use sterna_core::report::{Decision, Gain, Hold, Outlay};
use sterna_policies::policy::*;
use sterna_policies::quantity::*;

fn gain(decision: &Decision, service: &str) -> Gain {
    report(decision, service).gain.unwrap()
}

fn cost(seen: &Observation, wanted: &Policy) -> sterna_core::plan::MoveCost {
    decide(seen, wanted).plan.moves[0].predicted
}

/// Milliseconds.
fn of(time: Millis) -> f64 {
    time.as_f64()
}

#[test]
fn who_waits_once_waits_less_from_then_on() {
    let (seen, mut wanted) = (observation(), policy());
    let down = cost(&seen, &wanted).downtime;
    let found = gain(&decide(&seen, &wanted), "redis");
    assert_eq!(found.outlay, Outlay::Waiting { downtime: down });
    assert_eq!((found.now, found.then), (Level::UserLatency(q("60ms")), Level::UserLatency(q("10ms"))));
    // 353 ms x 353 ms / 2 are as much as 50 ms for 1.25 s.
    let payback = found.payback.unwrap();
    assert!((of(payback) - of(down) * of(down) / 2.0 / 50.0).abs() < 0.001, "{payback}");
    wanted.hysteresis.payback_within = payback;
    assert_eq!(moves(&decide(&seen, &wanted)), ["redis a1>b1"]);
    let within = Millis::from_micros(payback.as_micros() - 1);
    wanted.hysteresis.payback_within = within;
    let decision = decide(&seen, &wanted);
    assert_eq!(held(&decision), [Hold::PaysBackTooLate { metric: Metric::UserLatency, payback, within }]);
    // What it would gain is told all the same.
    assert_eq!(gain(&decision, "redis"), found);
}

#[test]
fn traffic_and_both_ends_are_paid_for() {
    let (mut seen, mut wanted) = (observation(), policy());
    wanted.objective = lexicographic(vec![exactly(Metric::CostRate)]);
    let free = gain(&decide(&seen, &wanted), "redis");
    let took = cost(&seen, &wanted);
    assert_eq!(
        free.outlay,
        Outlay::BothEnds {
            rate: Level::CostRate(q("0.112USD/h")),
            both_ends: took.duration,
            once: Usd::ZERO
        }
    );
    // 0.112 USD/h for as long as it takes, against 0.1 USD/h less.
    assert!((of(free.payback.unwrap()) - of(took.duration) * 1.12).abs() < 0.01);
    let mut link = seen.continuum.links[0].clone();
    link.between = ["edge-a".into(), "cloud".into()];
    link.egress = q("16USD/GiB");
    Arc::make_mut(&mut seen.continuum).links.push(link);
    let took = cost(&seen, &wanted);
    let dear = gain(&decide(&seen, &wanted), "redis");
    let Outlay::BothEnds { once, .. } = dear.outlay else { panic!("{dear:?}") };
    assert!((once.as_f64() - took.bytes.0 as f64 / 1024_f64.powi(3) * 16.0).abs() < 1e-5, "{once}");
    let hours = (once.as_f64() + 0.112 * of(took.duration) / 3.6e6) / 0.1;
    assert!((of(dear.payback.unwrap()) / 3.6e6 - hours).abs() < 1e-4);
    wanted.hysteresis.payback_within = q("10h");
    assert!(matches!(
        held(&decide(&seen, &wanted))[..],
        [Hold::PaysBackTooLate { metric: Metric::CostRate, .. }]
    ));
    wanted.hysteresis.payback_within = q("11h");
    assert_eq!(moves(&decide(&seen, &wanted)), ["redis a1>c1"]);
}

#[test]
fn under_prices_all_of_it_is_money() {
    let (seen, mut wanted) = (observation(), policy());
    let term = |metric, price: &str| PricedTerm { metric, price: q(price) };
    let terms = vec![term(Metric::UserLatency, "0.01USD/h"), term(Metric::CostRate, "1USD/h")];
    wanted.objective = Objective::Priced { terms };
    let took = cost(&seen, &wanted);
    let found = gain(&decide(&seen, &wanted), "redis");
    // 60 ms and 0.212 USD/h become 10 ms and 0.262 USD/h.
    assert_eq!((found.now, found.then), (Level::CostRate(q("0.812USD/h")), Level::CostRate(q("0.362USD/h"))));
    let waiting = 0.01 * of(took.downtime) * of(took.downtime) / 2.0;
    let crosses = took.bytes.0 as f64 / 1024_f64.powi(3) * 0.01;
    let spent = waiting + 0.262 * of(took.duration) + crosses * 3.6e6;
    let Outlay::Money { sum } = found.outlay else { panic!("{found:?}") };
    assert!((sum.as_f64() - spent / 3.6e6).abs() < 2e-6, "{sum}");
    // Money is counted in millionths of a dollar.
    assert!((of(found.payback.unwrap()) - spent / 0.45).abs() < 10.0);
}

#[test]
fn a_move_that_mends_need_not_pay_back() {
    let (mut seen, mut wanted) = (observation(), policy());
    wanted.hysteresis.payback_within = Millis::from_micros(1);
    assert_eq!(moves(&decide(&seen, &wanted)), Vec::<String>::new());
    Arc::make_mut(&mut seen.continuum).nodes.get_mut(&"a1".into()).unwrap().drain = true;
    assert_eq!(moves(&decide(&seen, &wanted)), ["redis a1>b1"]);
}

/// Several that empty a node together share what it saves, and all of their moves are paid for.
#[test]
fn what_is_gained_together_is_paid_for_together() {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).services.insert("web".into(), service("1", "1GiB"));
    seen.placement.insert("web".into(), "a1".into());
    let mut wanted = policy();
    wanted.objective = lexicographic(vec![exactly(Metric::CostRate)]);
    wanted.budget.concurrent = 2;
    let decision = decide(&seen, &wanted);
    assert_eq!(decision.plan.moves.len(), 2);
    let (one, other) = (gain(&decision, "redis"), gain(&decision, "web"));
    assert_eq!(one, other);
    let longest = decision.plan.moves.iter().map(|one| one.predicted.duration).max().unwrap();
    let Outlay::BothEnds { both_ends, .. } = one.outlay else { panic!("{one:?}") };
    assert_eq!(both_ends, longest);
}
