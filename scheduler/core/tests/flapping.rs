//! One service between two sites whose prices swing: it never flies back within the policy's time, and what it costs stays close
//! to what an all-knowing scheduler would have paid.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use fixture::*;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use sterna_core::continuum::*;
use sterna_core::history::{History, Outcome, PastMigration};
use sterna_core::observation::{Observation, Sample, Source};
use sterna_policies::policy::*;
use sterna_policies::quantity::*;

const LOOKS: usize = 240;
/// Between two looks.
const INTERVAL: i64 = 10;
/// What the service's own processor and memory cost wherever it is is left aside.
const NODES: [&str; 2] = ["a1", "b1"];
const SITES: [&str; 2] = ["edge-a", "edge-b"];

/// USD/h of both sites at each look.
type Prices = Vec<[f64; 2]>;
/// The prices at a look, by where the service is.
type Trace = Box<dyn FnMut(usize, usize) -> [f64; 2]>;

fn policy_with(regret: &str, no_return_within: &str) -> Policy {
    let mut wanted = policy();
    wanted.objective = lexicographic(vec![exactly(Metric::CostRate)]);
    wanted.select.exclude_sites = vec!["cloud".into()];
    wanted.hysteresis.regret = q(regret);
    wanted.hysteresis.no_return_within = q(no_return_within);
    wanted.metrics.clear();
    wanted
}

struct Went {
    moves: Vec<usize>,
    /// USD, for nodes and moves.
    cost: f64,
    /// The same of the cheapest way.
    least: f64,
}

fn play(prices: &mut dyn FnMut(usize, usize) -> [f64; 2], wanted: &Policy) -> Went {
    let mut seen = observation();
    Arc::make_mut(&mut seen.continuum).users.clear();
    Arc::make_mut(&mut seen.continuum).sites.values_mut().for_each(|site| site.price = Price::default());
    Arc::make_mut(&mut seen.continuum).links[0].egress = q("0.5USD/GiB");
    let mut history = History::default();
    let (mut at, mut moved, mut cost, mut once) = (0, Vec::new(), 0.0, None);
    let mut all: Prices = Vec::new();
    for look in 0..LOOKS {
        let now = noon() + SignedDuration::from_secs(INTERVAL * look as i64);
        let here = prices(look, at);
        all.push(here);
        show(&mut seen, here, at);
        let decision = sterna_core::decide(&seen, wanted, &history, now, 7);
        history.standing = decision.standing.clone();
        if let Some(one) = decision.plan.moves.first() {
            let to = NODES.iter().position(|node| one.to.as_str() == *node).unwrap();
            let bytes = one.predicted.bytes;
            let price = seen.continuum.links[0].price_of(bytes).as_f64();
            cost += price;
            once = Some(price);
            arrive(&mut history, one.from.clone(), one.to.clone(), now, bytes);
            moved.push(look);
            at = to;
        }
        cost += here[at] * INTERVAL as f64 / 3600.0;
    }
    Went { moves: moved, cost, least: least(&all, once.unwrap_or(0.033)) }
}

fn show(seen: &mut Observation, prices: [f64; 2], at: usize) {
    for (site, price) in SITES.iter().zip(prices) {
        let value = UsdPerHour::from_f64(price).unwrap();
        let sample = Sample { value, age: Millis::ZERO, source: Source::Measured };
        seen.price.insert((*site).into(), sample);
    }
    seen.placement.insert("redis".into(), NODES[at].into());
}

fn arrive(history: &mut History, from: NodeName, to: NodeName, ended: Timestamp, bytes: Bytes) {
    let (downtime, duration) = (q("350ms"), q("2s"));
    let past = PastMigration { ended, from, to, outcome: Outcome::Moved, downtime, bytes, duration };
    history.record("redis".into(), past);
}

/// The least that any way costs which knows all prices, by dynamic programming over where the service is.
fn least(prices: &Prices, of_move: f64) -> f64 {
    let mut best = [0.0, of_move];
    for here in prices {
        let dearest = |to: usize| best[to].min(best[1 - to] + of_move);
        best = [dearest(0), dearest(1)].map(|cost: f64| cost);
        for (best, price) in best.iter_mut().zip(here) {
            *best += price * INTERVAL as f64 / 3600.0;
        }
    }
    best[0].min(best[1])
}

/// Moves back to where it came from, within so many looks.
fn returns(moves: &[usize], looks: usize) -> usize {
    // Between two nodes every move goes back.
    moves.windows(2).filter(|pair| pair[1] - pair[0] < looks).count()
}

/// Both swing around the same mean, each dear while the other is cheap.
fn against(high: f64, low: f64, share: f64) -> [f64; 2] {
    let price = |share: f64| low + (high - low) * share;
    [price(share), price(1.0 - share)]
}

#[test]
fn prices_that_swing_cost_at_most_twice_what_the_best_way_costs() {
    let wanted = policy_with("100%", "2m");
    let mut noise = fastrand::Rng::with_seed(11);
    let mut walk = 0.5f64;
    let mut traces: Vec<(&str, Trace)> = vec![
        ("sine", Box::new(|look, _| against(1.0, 0.05, 0.5 + 0.5 * (look as f64 / 19.0).sin()))),
        ("fast sine", Box::new(|look, _| against(1.0, 0.05, 0.5 + 0.5 * (look as f64 / 2.0).sin()))),
        ("step", Box::new(|look, _| against(1.0, 0.05, if look < LOOKS / 2 { 1.0 } else { 0.0 }))),
        ("noise", {
            let mut noise = noise.clone();
            Box::new(move |_, _| against(1.0, 0.05, noise.f64()))
        }),
        (
            "walk",
            Box::new(move |_, _| {
                walk = (walk + noise.f64() * 0.2 - 0.1).clamp(0.0, 1.0);
                against(1.0, 0.05, walk)
            }),
        ),
    ];
    for (name, trace) in &mut traces {
        let went = play(trace, &wanted);
        let ratio = went.cost / went.least;
        let line = format!(
            "{name}: {} moves, {:.4} USD, at least {:.4}: {ratio:.3}",
            went.moves.len(),
            went.cost,
            went.least
        );
        assert_eq!(returns(&went.moves, 12), 0, "{line}");
        assert!(ratio <= 2.0, "{line}");
        eprintln!("{line}");
    }
}

/// Whoever knows where the service is can make it pay: no rule that doesn't know the future does better than three times the
/// best way (Borodin, Linial, Saks: An optimal on-line algorithm for metrical task system, J. ACM 1992, for two states).
#[test]
fn a_price_that_follows_the_service_costs_at_most_three_times_what_the_best_way_costs() {
    let wanted = policy_with("100%", "0s");
    let went = play(&mut |_, at| if at == 0 { [1.0, 0.0] } else { [0.0, 1.0] }, &wanted);
    let ratio = went.cost / went.least;
    let line =
        format!("{} moves, {:.4} USD, at least {:.4}: {ratio:.3}", went.moves.len(), went.cost, went.least);
    // A look that is half too late or too early for each move.
    let between_looks = went.moves.len() as f64 * INTERVAL as f64 / 3600.0;
    assert!(went.moves.len() > 3 && went.cost <= 3.0 * went.least + between_looks, "{line}");
    eprintln!("adversary: {line}");
    // Without patience it flies at every look.
    let eager = play(&mut |_, at| if at == 0 { [1.0, 0.0] } else { [0.0, 1.0] }, &policy_with("0%", "0s"));
    assert_eq!(eager.moves.len(), LOOKS);
    assert!(eager.cost / eager.least > 5.0, "{} of {}", eager.cost, eager.least);
    // With a rest after each move it never flies back sooner.
    let rested = play(&mut |_, at| if at == 0 { [1.0, 0.0] } else { [0.0, 1.0] }, &policy_with("0%", "2m"));
    assert_eq!(returns(&rested.moves, 12), 0, "{:?}", rested.moves);
}
