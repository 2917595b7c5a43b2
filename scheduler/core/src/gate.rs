//! When a service may move: windows, residency, cooldown, the least gain, and when it must have paid for the move.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sterna_policies::policy::Policy;
use sterna_policies::quantity::{Millis, Percent};
use sterna_policies::window;

use crate::continuum::{NodeName, ServiceName};
use crate::history::History;
use crate::placement::evaluate::Evaluator;
use crate::placement::exclude::Rules;
use crate::placement::numbers::narrow;
use crate::placement::room::Room;
use crate::report::{Gain, Hold};

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

/// The services that a window keeps where they are, of those that an assignment moves.
pub fn outside_windows(
    evaluator: &Evaluator<'_>,
    rules: &Rules<'_>,
    room: &Room,
    policy: &Policy,
    target: &[usize],
    now: Timestamp,
) -> BTreeMap<usize, Vec<Hold>> {
    let Some(closed) = window::closed(&policy.windows, now) else { return BTreeMap::new() };
    let hold = Hold::WindowClosed { window: closed.by, until: closed.until };
    let moved = (0..target.len()).filter(|service| target[*service] != evaluator.now[*service]);
    moved
        .filter(|service| !(closed.allow_mending && mends(evaluator, rules, room, target, *service)))
        .map(|service| (service, vec![hold.clone()]))
        .collect()
}

/// The services whose move gains less than the policy wants, or pays back too late, of those that an assignment moves, by what
/// they [gain](crate::gain::gains). A move that mends a broken rule needs no gain, nor one without which more
/// of its node would be used than should be.
pub fn too_weak(
    evaluator: &Evaluator<'_>,
    rules: &Rules<'_>,
    room: &Room,
    policy: &Policy,
    target: &[usize],
    gains: &BTreeMap<usize, Gain>,
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
    let mends = |service: usize| mends(evaluator, rules, room, target, service);
    weak.filter(|(service, holds)| !holds.is_empty() && !mends(*service)).collect()
}

/// Whether a move mends a rule that is broken, or its node needs it to come within its limits.
pub fn mends(
    evaluator: &Evaluator<'_>,
    rules: &Rules<'_>,
    room: &Room,
    target: &[usize],
    service: usize,
) -> bool {
    let from = evaluator.now[service];
    rules.broken(service, from) > rules.broken(service, target[service])
        || !room.would_hold(evaluator, target, service, from)
}
