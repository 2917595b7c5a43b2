//! When a service may move: residency, cooldown, and the least gain.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sterna_policies::policy::{Metric, Objective, Policy, Tolerance};
use sterna_policies::quantity::{Millis, Percent};

use crate::continuum::{NodeName, ServiceName};
use crate::history::History;
use crate::placement::evaluate::Evaluator;
use crate::placement::exclude::Rules;
use crate::placement::numbers::narrow;
use crate::placement::room::Room;
use crate::report::Hold;

const MICRO: i128 = 1_000_000;
/// A hundred percent in millionths of a percent.
const WHOLE: i128 = 100 * MICRO;

/// The rules by which a service must rest where it is: residency counts from its arrival on this node, cooldown from the end of
/// any migration of it, also of a failed one.
pub fn resting(
    history: &History,
    policy: &Policy,
    service: &ServiceName,
    on: &NodeName,
    now: Timestamp,
) -> Vec<Hold> {
    let left = |ended: Timestamp, span: Millis| {
        let gone = now.duration_since(ended).as_nanos();
        // A millionth of a millisecond is a nanosecond.
        let left = i128::from(span.as_micros()) - gone;
        (left > 0).then(|| Millis::from_micros(narrow(left)))
    };
    let mut holds = Vec::new();
    let arrival = history.last_arrival(service).filter(|arrival| arrival.to == *on);
    if let Some(left) = arrival.and_then(|arrival| left(arrival.ended, policy.hysteresis.min_residency)) {
        holds.push(Hold::Residency { left });
    }
    if let Some(left) = history.last(service).and_then(|last| left(last.ended, policy.hysteresis.cooldown)) {
        holds.push(Hold::Cooldown { left });
    }
    holds
}

/// The services whose move gains less than the policy wants, of those that an assignment moves.
///
/// What counts is the first term of the objective in which a service improves by more than the term's tolerance, relative to
/// its value now. Services whose moves together start or stop the use of a node gain or lose its price, power and carbon
/// together, so in these metrics they are judged as one. A move that mends a broken rule needs no gain, nor one without which more
/// of its node would be used than should be.
pub fn too_weak(
    evaluator: &Evaluator<'_>,
    rules: &Rules<'_>,
    room: &Room,
    policy: &Policy,
    target: &[usize],
) -> BTreeMap<usize, Hold> {
    let min_gain = policy.hysteresis.min_gain;
    if min_gain <= Percent::ZERO {
        return BTreeMap::new();
    }
    let mends = |service: usize| {
        let from = evaluator.now[service];
        rules.broken(service, from) > rules.broken(service, target[service])
            || !room.would_hold(evaluator, target, service, from)
    };
    gains(evaluator, policy, target)
        .into_iter()
        .filter(|(service, (_, gain))| !mends(*service) && *gain < min_gain)
        .map(|(service, (metric, gain))| (service, Hold::GainTooSmall { metric, gain, min_gain }))
        .collect()
}

/// What each service that an assignment moves gains by it, and in which metric: what [`too_weak`] judges.
pub fn gains(
    evaluator: &Evaluator<'_>,
    policy: &Policy,
    target: &[usize],
) -> BTreeMap<usize, (Metric, Percent)> {
    let movers: Vec<usize> = (0..target.len()).filter(|s| target[*s] != evaluator.now[*s]).collect();
    let groups = Groups::new(evaluator, target, &movers);
    let gain = |service: usize| gain(evaluator, policy, target, service, &groups.of(service));
    movers.iter().map(|service| (*service, gain(*service))).collect()
}

/// A value now, after, and how much worse still counts as equal.
struct Change {
    metric: Metric,
    before: i128,
    after: i128,
    tolerance: i128,
}

impl Change {
    fn gain(&self) -> Percent {
        let better = self.before - self.after;
        let micros = match self.before {
            before if before > 0 => better.saturating_mul(WHOLE) / before,
            _ if better > 0 => WHOLE,
            _ if better < 0 => -WHOLE,
            _ => 0,
        };
        Percent::from_micros(narrow(micros))
    }
}

fn gain(
    evaluator: &Evaluator<'_>,
    policy: &Policy,
    target: &[usize],
    service: usize,
    group: &Group,
) -> (Metric, Percent) {
    let changes = match &policy.objective {
        Objective::Lexicographic { terms } => terms
            .iter()
            .map(|term| {
                let alone = [service];
                let (members, before, after): (&[usize], i128, i128) = match (term.satisfied_at, term.metric)
                {
                    (Some(level), metric) => {
                        let value =
                            |node| evaluator.value(service, node, metric).unwrap_or(0).max(level.as_micros());
                        (&alone, value(evaluator.now[service]).into(), value(target[service]).into())
                    }
                    (None, Metric::UserLatency) => {
                        let value = |node| evaluator.own(service, node, term.metric);
                        (&alone, value(evaluator.now[service]).into(), value(target[service]).into())
                    }
                    (None, metric) => {
                        let (before, after) = group.value(evaluator, target, metric);
                        (&group.members, before, after)
                    }
                };
                let tolerance = match term.tolerance {
                    Tolerance::Absolute(level) => i128::from(level.as_micros()) * members.len() as i128,
                    Tolerance::Relative(share) => {
                        after.abs().saturating_mul(share.as_micros().into()) / WHOLE
                    }
                };
                Change { metric: term.metric, before, after, tolerance }
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
                .map(|(metric, ..)| Change { metric: *metric, before, after, tolerance: 0 })
                .into_iter()
                .collect()
        }
    };
    let decisive = changes
        .iter()
        .find(|change| change.before - change.after > change.tolerance)
        .or_else(|| changes.iter().find(|change| change.before > change.after))
        .or(changes.first());
    decisive.map_or((Metric::UserLatency, Percent::ZERO), |change| (change.metric, change.gain()))
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
