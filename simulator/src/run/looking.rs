//! Decisions of branches that see the same at the same time: what they see is read once.

use sterna_core::decide::{Asking, Brief, Memo, Telling};
use sterna_core::history::History;
use sterna_core::observation::Observation;

use super::Deciding;
use super::branch::Branch;
use crate::replay;

/// Decides for all policies that would not decide again what they did. The branches [see the same](see_the_same).
pub(super) fn decide(branches: &mut [&mut Branch<'_>]) {
    let Some(first) = branches.first() else { return };
    let now = first.world.now();
    let at = now.on_calendar(first.scenario.start);
    let (effect, seed) = (first.world.effect(), first.seed);
    let mut observation: Option<Observation> = None;
    for branch in branches.iter_mut() {
        for follower in &mut branch.followers {
            follower.outcome.looks += 1;
            follower.decision = None;
            if follower.is_steady(at) {
                follower.holds.note_again(now);
            } else {
                observation.get_or_insert_with(|| branch.world.observe(follower.policy));
            }
        }
    }
    let Some(observation) = observation else { return };
    let asking: Vec<Asking<'_>> = branches
        .iter()
        .flat_map(|branch| {
            let deciding = branch.followers.iter().filter(|follower| !follower.is_steady(at));
            deciding.map(|follower| Asking {
                policy: follower.policy,
                history: &branch.history,
                standing: &follower.standing,
            })
        })
        .collect();
    let briefly = |memo: &Memo, telling| replay::briefly(&observation, &asking, at, seed, (memo, telling));
    let anew = |asking: &Asking<'_>| {
        let history = History { standing: asking.standing.clone(), ..asking.history.clone() };
        let decision = replay::step(&observation, asking.policy, &history, at, seed);
        Brief { decision, steady_until: None }
    };
    let briefs: Vec<Brief> = match branches[0].deciding {
        Deciding::Anew => asking.iter().map(anew).collect(),
        Deciding::Briefly(memo) => briefly(memo, Telling::Changes),
        Deciding::Barely(memo) => briefly(memo, Telling::Ends),
    };
    let followers = branches.iter_mut().flat_map(|branch| &mut branch.followers);
    for (follower, brief) in followers.filter(|follower| !follower.is_steady(at)).zip(briefs) {
        follower.decided(now, effect, brief);
    }
}

/// Whether what one branch sees, another sees too.
pub(super) fn see_the_same(one: &Branch<'_>, other: &Branch<'_>) -> bool {
    let (one_asks, other_asks) = (one.followers.first(), other.followers.first());
    let asks = one_asks.zip(other_asks);
    let alike = asks.is_some_and(|(one, other)| one.policy.metrics == other.policy.metrics);
    alike && one.world.is_as(&other.world)
}
