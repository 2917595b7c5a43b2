//! When a service may move: windows, residency, cooldown, returns, the least gain, and when it must have paid for the move.
//!
//! | module | what lives there |
//! |---|---|
//! | `settle` | numbers that a migration has disturbed |

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sterna_policies::policy::Policy;
use sterna_policies::quantity::{Millis, Percent};
use sterna_policies::window;

use crate::budget;
use crate::continuum::{NodeName, ServiceName};
use crate::directive::Directive;
use crate::history::{History, left};
use crate::observation::Observation;
use crate::placement::evaluate::Evaluator;
use crate::placement::exclude::Rules;
use crate::placement::numbers::narrow;
use crate::placement::room::{Load, Room};
use crate::report::{Gain, Hold};

mod settle;

pub use settle::{disturbed, settling};

/// The rules by which a service must rest where it is: residency counts from its arrival on this node, cooldown from the end of
/// any migration of it, also of a failed one.
pub fn resting(
    history: &History,
    policy: &Policy,
    service: &ServiceName,
    on: &NodeName,
    now: Timestamp,
) -> Vec<Hold> {
    let left = |ended: Timestamp, span: Millis| left(ended, span, now);
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

/// What keeps everything where it is because somebody said so.
pub fn paused(observation: &Observation) -> Option<Hold> {
    let Directive { by, at, reason, .. } = observation.directives.pause()?.clone();
    Some(Hold::Paused { by, at, reason })
}

/// What keeps a service where it is because somebody said so.
pub fn opted_out(observation: &Observation, service: &ServiceName) -> Option<Hold> {
    let Directive { by, at, reason, .. } = observation.directives.opt_out(service)?.clone();
    Some(Hold::OptedOut { by, at, reason })
}

/// What keeps all moves back, also those of a plan that was made before: a word to pause, a window, failures, or budgets.
pub fn shut(observation: &Observation, policy: &Policy, history: &History, now: Timestamp) -> Option<Hold> {
    let window = || window::shut(&policy.windows, now).map(Hold::from);
    let failures = || budget::broken_circuit(policy, history, now);
    let spent = || budget::no_moves_left(policy, history, observation.counted().count(), now);
    paused(observation).or_else(window).or_else(failures).or_else(spent)
}

/// The services that a window keeps where they are, of those that an assignment moves.
pub fn outside_windows(
    evaluator: &Evaluator<'_>,
    policy: &Policy,
    target: &[usize],
    mending: &BTreeSet<usize>,
    now: Timestamp,
) -> BTreeMap<usize, Vec<Hold>> {
    let Some(closed) = window::closed(&policy.windows, now) else { return BTreeMap::new() };
    let allow_mending = closed.allow_mending;
    let hold = Hold::from(closed);
    let moved = (0..target.len()).filter(|service| target[*service] != evaluator.now[*service]);
    moved
        .filter(|service| !(allow_mending && mending.contains(service)))
        .map(|service| (service, vec![hold.clone()]))
        .collect()
}

/// The services whose move would not be over when a window aborts it, of those that an assignment moves, each taking as long as
/// `takes` says.
pub fn overrunning(
    evaluator: &Evaluator<'_>,
    policy: &Policy,
    target: &[usize],
    takes: impl Fn(usize) -> Millis,
    now: Timestamp,
) -> BTreeMap<usize, Hold> {
    let Some(aborts) = window::aborts(&policy.windows, now) else { return BTreeMap::new() };
    let left = Millis::from_micros(narrow(aborts.duration_since(now).as_nanos()));
    let moved = (0..target.len()).filter(|service| target[*service] != evaluator.now[*service]);
    moved
        .map(|service| (service, takes(service)))
        .filter(|(_, duration)| *duration > left)
        .map(|(service, duration)| (service, Hold::WindowTooShort { duration, left }))
        .collect()
}

/// The services whose move gains less than the policy wants, or pays back too late, of those that an assignment moves, by what
/// they [gain](crate::gain::gains). A move that [mends](mending) needs no gain.
pub fn too_weak(
    policy: &Policy,
    gains: &BTreeMap<usize, Gain>,
    mending: &BTreeSet<usize>,
) -> BTreeMap<usize, Vec<Hold>> {
    let (min_gain, within) = (policy.hysteresis.min_gain, policy.hysteresis.payback_within);
    let holds = |gain: &Gain| {
        let Gain { metric, share, payback, .. } = *gain;
        let small = min_gain > Percent::ZERO && share < min_gain;
        let small = small.then_some(Hold::GainTooSmall { metric, gain: share, min_gain });
        let late = payback.filter(|payback| *payback > within);
        let late = late.map(|payback| Hold::PaysBackTooLate { metric, payback, within });
        small.into_iter().chain(late).collect::<Vec<Hold>>()
    };
    let weak = gains.iter().map(|(service, gain)| (*service, holds(gain)));
    weak.filter(|(service, holds)| !holds.is_empty() && !mending.contains(service)).collect()
}

/// The services whose moves mend a rule that is broken, or without which more of their node would be used than should be, and
/// those that make room for them.
///
/// Of those that leave a node which is beyond its limits, or a place where too many of their group are, only so many are needed
/// as bring it within: those that gain most.
pub fn mending(
    evaluator: &Evaluator<'_>,
    rules: &Rules<'_>,
    room: &Room,
    target: &[usize],
    gains: &BTreeMap<usize, Gain>,
) -> BTreeSet<usize> {
    let now = &evaluator.now;
    let mut moved: Vec<usize> =
        (0..target.len()).filter(|service| target[*service] != now[*service]).collect();
    let mut mending = BTreeSet::new();
    moved.retain(|service| {
        let mends = rules.broken(*service, now[*service]) > rules.broken(*service, target[*service]);
        if mends {
            mending.insert(*service);
        }
        !mends
    });
    // Whoever can stay beside those that have stayed before needs no help to go.
    moved.sort_by_key(|service| (gains.get(service).map(|gain| gain.share), *service));
    let mut placed = target.to_vec();
    let mut crowds = rules.spreads.after(evaluator, target);
    let mut stay = Vec::new();
    for service in moved {
        let (there, here) = (target[service], now[service]);
        if room.would_hold(evaluator, &placed, service, here)
            && !rules.spreads.would_crowd(&crowds, service, there, here)
        {
            placed[service] = here;
            rules.spreads.go(&mut crowds, service, there, here);
            stay.push(service);
        } else {
            mending.insert(service);
        }
    }
    // Nor may they be in the way of those that mend: whoever has to make room goes with them.
    let mut used = room.used_by(evaluator, &placed);
    while let Some(at) =
        stay.iter().rposition(|service| !used[now[*service]].within(room.limit[now[*service]]))
    {
        let service = stay.remove(at);
        let load = Load::of(evaluator.services[service].1);
        used[now[service]] = used[now[service]] - load;
        used[target[service]] = used[target[service]] + load;
        mending.insert(service);
    }
    mending
}

/// The services that an assignment takes back to a node that they left too recently.
pub fn returns_too_soon(
    evaluator: &Evaluator<'_>,
    policy: &Policy,
    history: &History,
    target: &[usize],
    now: Timestamp,
) -> BTreeMap<usize, Hold> {
    let moved = (0..target.len()).filter(|service| target[*service] != evaluator.now[*service]);
    let hold = |service: usize| {
        let to = evaluator.nodes[target[service]].0;
        let went = history.last_departure(evaluator.services[service].0, to)?;
        let left = left(went, policy.hysteresis.no_return_within, now)?;
        Some((service, Hold::Return { left }))
    };
    moved.filter_map(hold).collect()
}
