//! What moves gain, and when that has paid for them.
//!
//! What a move costs is told in the unit of what it gains. While it is made both ends are in use, so what its service adds at
//! the new place is spent twice for that time; what crosses a link is paid once. Who asks while a service stands still waits
//! half of the downtime on average, for as long as it lasts: a downtime of 400 ms is as much waiting as 10 ms more for 8 s.

use std::collections::BTreeMap;

use sterna_policies::policy::{Level, Metric, Objective, Policy, Tolerance};
use sterna_policies::quantity::{Millis, Percent, Usd};

use crate::observation::Observation;
use crate::placement::evaluate::Evaluator;
use crate::placement::numbers::narrow;
use crate::planning;
use crate::report::{Gain, Outlay};

const MICRO: i128 = 1_000_000;
/// A hundred percent in millionths of a percent.
const WHOLE: i128 = 100 * MICRO;
/// Milliseconds of an hour.
const HOUR: i128 = 3_600_000;

/// What each service that an assignment moves gains by it, and in which metric.
///
/// What counts is the first term of the objective in which a service improves by more than the term's tolerance, relative to
/// its value now. Services whose moves together start or stop the use of a node gain or lose its price, power and carbon
/// together, so in these metrics they are judged as one.
pub fn gains(
    observation: &Observation,
    evaluator: &Evaluator<'_>,
    policy: &Policy,
    target: &[usize],
) -> BTreeMap<usize, Gain> {
    let movers: Vec<usize> = (0..target.len()).filter(|s| target[*s] != evaluator.now[*s]).collect();
    let groups = Groups::new(evaluator, target, &movers);
    let of = |service: usize| {
        let group = groups.of(service);
        let change = decisive(evaluator, policy, target, service, &group)?;
        let members = if change.alone { vec![service] } else { group.members.clone() };
        let spent = Spent::new(observation, evaluator, policy, target, &members);
        Some((service, change.gain(policy, evaluator, target, &group, &spent)))
    };
    movers.iter().filter_map(|service| of(*service)).collect()
}

/// What moving some services costs.
struct Spent {
    /// The longest downtime.
    downtime: Millis,
    /// How long both ends are in use: the longest, or all of them one after the other where the policy moves few at a time.
    both_ends: Millis,
    /// What crosses links costs.
    egress: Usd,
}

impl Spent {
    fn new(
        observation: &Observation,
        evaluator: &Evaluator<'_>,
        policy: &Policy,
        target: &[usize],
        members: &[usize],
    ) -> Self {
        let mut spent = Self { downtime: Millis::ZERO, both_ends: Millis::ZERO, egress: Usd::ZERO };
        let mut all: i64 = 0;
        for service in members {
            let (from, to) = (evaluator.now[*service], target[*service]);
            let cost = planning::cost(observation, evaluator, policy, *service, (from, to));
            spent.downtime = spent.downtime.max(cost.downtime);
            spent.both_ends = spent.both_ends.max(cost.duration);
            all = all.saturating_add(cost.duration.as_micros());
            let (from, to) = (&evaluator.nodes[from].1.site, &evaluator.nodes[to].1.site);
            let link = observation.continuum.link(from, to).filter(|_| from != to);
            let price = link.map_or(Usd::ZERO, |link| link.price_of(cost.bytes));
            spent.egress = spent.egress.saturating_add(price);
        }
        let in_turn = all / i64::from(policy.budget.concurrent.max(1));
        spent.both_ends = spent.both_ends.max(Millis::from_micros(in_turn));
        spent
    }

    /// Waiting: millionths of a millisecond, for so many milliseconds.
    fn waiting(&self) -> i128 {
        let downtime = i128::from(self.downtime.as_micros());
        downtime * downtime / MICRO / 2
    }

    /// What has a rate, for as long as both ends are in use: millionths for so many milliseconds.
    fn twice(&self, rate: i128) -> i128 {
        rate.max(0).saturating_mul(self.both_ends.as_micros().into()) / MICRO
    }

    /// Money that is paid once: millionths of USD/h for so many milliseconds.
    fn once(&self) -> i128 {
        i128::from(self.egress.as_micros()) * HOUR
    }
}

/// A value now, after, and how much worse still counts as equal.
struct Change {
    metric: Metric,
    /// Whether the values are the money that all terms of a priced objective come to, and not the metric's own.
    money: bool,
    /// Whether it is the service's own, and not of all that start or stop the use of a node with it.
    alone: bool,
    before: i128,
    after: i128,
    tolerance: i128,
    /// Both values in full: below what satisfies they no longer count, but are paid and spared all the same.
    full: (i128, i128),
}

impl Change {
    fn share(&self) -> Percent {
        let better = self.before - self.after;
        let micros = match self.before {
            before if before > 0 => better.saturating_mul(WHOLE) / before,
            _ if better > 0 => WHOLE,
            _ if better < 0 => -WHOLE,
            _ => 0,
        };
        Percent::from_micros(narrow(micros))
    }

    fn level(&self, value: i128) -> Level {
        let metric = if self.money { Metric::CostRate } else { self.metric };
        Level::new(metric, narrow(value))
    }

    fn gain(
        &self,
        policy: &Policy,
        evaluator: &Evaluator<'_>,
        target: &[usize],
        group: &Group,
        spent: &Spent,
    ) -> Gain {
        let (spent_on, outlay) = if self.money {
            let priced = priced(policy, evaluator, target, group, spent);
            (priced, Outlay::Money { sum: Usd::from_micros(narrow(priced / HOUR)) })
        } else if self.metric == Metric::UserLatency {
            (spent.waiting(), Outlay::Waiting { downtime: spent.downtime })
        } else {
            let once = if self.metric == Metric::CostRate { spent.egress } else { Usd::ZERO };
            let paid = if self.metric == Metric::CostRate { spent.once() } else { 0 };
            let outlay =
                Outlay::BothEnds { rate: self.level(self.full.1.max(0)), both_ends: spent.both_ends, once };
            (spent.twice(self.full.1) + paid, outlay)
        };
        let better = self.full.0 - self.full.1;
        Gain {
            metric: self.metric,
            now: self.level(self.full.0),
            then: self.level(self.full.1),
            share: self.share(),
            payback: (better > 0)
                .then(|| Millis::from_micros(narrow(spent_on.saturating_mul(MICRO) / better))),
            outlay,
        }
    }
}

/// What moving costs by the prices of a priced objective: millionths of USD/h for so many milliseconds.
fn priced(
    policy: &Policy,
    evaluator: &Evaluator<'_>,
    target: &[usize],
    group: &Group,
    spent: &Spent,
) -> i128 {
    let Objective::Priced { terms } = &policy.objective else { return 0 };
    let of = |metric: Metric| match metric {
        Metric::UserLatency => {
            // Each for itself: who has no users makes nobody wait.
            let asked = group.members.iter().filter(|s| evaluator.own(**s, target[**s], metric) > 0).count();
            spent.waiting().saturating_mul(asked as i128)
        }
        Metric::CostRate => spent.twice(group.value(evaluator, target, metric).1) + spent.once(),
        _ => spent.twice(group.value(evaluator, target, metric).1),
    };
    terms.iter().map(|term| of(term.metric).saturating_mul(term.price.as_micros().into()) / MICRO).sum()
}

/// The change that counts of those that a service's move makes.
fn decisive(
    evaluator: &Evaluator<'_>,
    policy: &Policy,
    target: &[usize],
    service: usize,
    group: &Group,
) -> Option<Change> {
    let mut changes = match &policy.objective {
        Objective::Lexicographic { terms } => terms
            .iter()
            .map(|term| {
                let both = |value: &dyn Fn(usize) -> i64| -> (i128, i128) {
                    (value(evaluator.now[service]).into(), value(target[service]).into())
                };
                let (alone, full) = match (term.satisfied_at, term.metric) {
                    (Some(_), metric) => {
                        (true, both(&|node| evaluator.value(service, node, metric).unwrap_or(0)))
                    }
                    (None, Metric::UserLatency) => {
                        (true, both(&|node| evaluator.own(service, node, term.metric)))
                    }
                    (None, metric) => (false, group.value(evaluator, target, metric)),
                };
                let counts = |value: i128| {
                    term.satisfied_at.map_or(value, |level| value.max(level.as_micros().into()))
                };
                let (before, after) = (counts(full.0), counts(full.1));
                let members = if alone { 1 } else { group.members.len() };
                let tolerance = match term.tolerance {
                    Tolerance::Absolute(level) => i128::from(level.as_micros()) * members as i128,
                    Tolerance::Relative(share) => {
                        after.abs().saturating_mul(share.as_micros().into()) / WHOLE
                    }
                };
                Change { metric: term.metric, money: false, alone, before, after, tolerance, full }
            })
            .collect::<Vec<_>>(),
        Objective::Priced { terms } => {
            // All terms are one sum of money; the metric that is named is the first that improves.
            let parts: Vec<(Metric, i128, i128)> = terms
                .iter()
                .map(|term| {
                    let money = |value: i128| value.saturating_mul(term.price.as_micros().into()) / MICRO;
                    let (before, after) = group.value(evaluator, target, term.metric);
                    (term.metric, money(before), money(after))
                })
                .collect();
            let before = parts.iter().map(|(_, before, _)| before).sum();
            let after = parts.iter().map(|(_, _, after)| after).sum();
            let named = parts.iter().find(|(_, before, after)| after < before).or(parts.first());
            named
                .map(|(metric, ..)| Change {
                    metric: *metric,
                    money: true,
                    alone: false,
                    before,
                    after,
                    tolerance: 0,
                    full: (before, after),
                })
                .into_iter()
                .collect()
        }
    };
    let at = changes
        .iter()
        .position(|change| change.before - change.after > change.tolerance)
        .or_else(|| changes.iter().position(|change| change.before > change.after))
        .unwrap_or(0);
    (at < changes.len()).then(|| changes.swap_remove(at))
}

/// Services whose moves together start or stop the use of nodes.
struct Group {
    members: Vec<usize>,
    closing: Vec<usize>,
    opening: Vec<usize>,
}

impl Group {
    /// What the metric is for the members and the nodes that they start or stop using, before and after.
    fn value(&self, evaluator: &Evaluator<'_>, target: &[usize], metric: Metric) -> (i128, i128) {
        let of_nodes = evaluator.opening(metric);
        let nodes = |nodes: &[usize]| -> i128 {
            nodes.iter().map(|node| i128::from(of_nodes.get(*node).copied().unwrap_or(0))).sum()
        };
        let services = |at: &[usize]| -> i128 {
            self.members.iter().map(|s| i128::from(evaluator.own(*s, at[*s], metric))).sum()
        };
        (services(&evaluator.now) + nodes(&self.closing), services(target) + nodes(&self.opening))
    }
}

struct Groups {
    /// By service that moves: the least service of its group.
    leader: BTreeMap<usize, usize>,
    closing: BTreeMap<usize, usize>,
    opening: BTreeMap<usize, usize>,
}

impl Groups {
    fn new(evaluator: &Evaluator<'_>, target: &[usize], movers: &[usize]) -> Self {
        let (before, after) = (evaluator.open(&evaluator.now), evaluator.open(target));
        let mut leader: BTreeMap<usize, usize> = movers.iter().map(|s| (*s, *s)).collect();
        let (mut closing, mut opening) = (BTreeMap::new(), BTreeMap::new());
        for node in (0..before.len()).filter(|node| before[*node] != after[*node]) {
            let touched: Vec<usize> = movers
                .iter()
                .copied()
                .filter(|s| if before[node] { evaluator.now[*s] == node } else { target[*s] == node })
                .collect();
            let Some(first) = touched.first() else { continue };
            if before[node] { &mut closing } else { &mut opening }.insert(node, *first);
            let joined: Vec<usize> = touched.iter().filter_map(|s| leader.get(s).copied()).collect();
            let least = joined.iter().copied().min().unwrap_or(*first);
            for one in leader.values_mut().filter(|one| joined.contains(one)) {
                *one = least;
            }
        }
        Self { leader, closing, opening }
    }

    fn of(&self, service: usize) -> Group {
        let leader = self.leader.get(&service);
        let here = |s: &usize| self.leader.get(s) == leader;
        let nodes =
            |nodes: &BTreeMap<usize, usize>| nodes.iter().filter(|(_, s)| here(s)).map(|(n, _)| *n).collect();
        Group {
            members: self.leader.keys().copied().filter(|s| here(s)).collect(),
            closing: nodes(&self.closing),
            opening: nodes(&self.opening),
        }
    }
}
