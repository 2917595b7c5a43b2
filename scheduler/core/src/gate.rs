//! When a service may move: windows, residency, cooldown, the least gain, and when it must have paid for the move.
//!
//! | module | what lives there |
//! |---|---|
//! | `settle` | numbers that a migration has disturbed |

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sterna_policies::policy::Policy;
use sterna_policies::quantity::{Millis, Percent};
use sterna_policies::window;

use crate::continuum::{NodeName, ServiceName};
use crate::history::{History, left};
use crate::placement::evaluate::Evaluator;
use crate::placement::exclude::Rules;
use crate::placement::room::Room;
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

/// The services whose moves mend a rule that is broken, or without which more of their node would be used than should be.
///
/// Of those that leave a node which is beyond its limits only so many are needed as bring it within: those that gain most.
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
        !mends && room.is_beyond(now[*service])
    });
    // Whoever can stay beside those that have stayed before needs no help to go.
    moved.sort_by_key(|service| (gains.get(service).map(|gain| gain.share), *service));
    let mut placed = target.to_vec();
    for service in moved {
        if room.would_hold(evaluator, &placed, service, now[service]) {
            placed[service] = now[service];
        } else {
            mending.insert(service);
        }
    }
    mending
}
