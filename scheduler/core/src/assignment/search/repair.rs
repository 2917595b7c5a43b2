//! Repair: what is broken is mended by moving little, before anything is made better.
//!
//! A bin without room gives away the cheapest items that make it fit; where nobody has room for one, another makes way first. An
//! item that stands against a rule goes where it does not.

use crate::assignment::state::State;

/// Items of a bin that it is tried to give away.
const CANDIDATES: usize = 64;
/// Bins on which it is tried to make way for an item, and items on each.
const MAKE_WAY: (usize, usize) = (48, 16);

/// Makes overloaded bins fit and broken rules hold, as far as single moves and pairs of them can. `cost` is what it costs to
/// let each item go; one each where nothing is said. Whether nothing is broken any more.
pub fn repair(state: &mut State<'_>, cost: &[i64]) -> bool {
    let mut bins: Vec<usize> = (0..state.problem().bins()).filter(|bin| lacks(state, *bin)).collect();
    // Those with the least on them first: they have the least choice.
    bins.sort_by_key(|bin| (state.on(*bin).len(), *bin));
    for bin in bins {
        while lacks(state, bin) && unload(state, bin, cost) {}
    }
    for item in state.in_breach() {
        mend(state, item);
    }
    state.broken() == 0
}

/// Lets items of overloaded bins go back to where they are now, even where that overloads other bins, until everything fits: at
/// the latest when all are back, if everything fits now. Whether nothing is broken any more.
pub fn retreat(state: &mut State<'_>) -> bool {
    let problem = state.problem();
    let mut open: Vec<usize> = (0..problem.bins()).filter(|bin| lacks(state, *bin)).collect();
    while let Some(bin) = open.pop() {
        while lacks(state, bin) {
            let mut items = state.on(bin).to_vec();
            items.retain(|item| problem.now[*item as usize] as usize != bin && gives(state, bin, *item) > 0);
            items.sort_by_cached_key(|item| {
                let size: i64 = state
                    .problem()
                    .uses(*item as usize)
                    .iter()
                    .fold(0, |sum, uses| sum.saturating_add(*uses));
                (!suffices(state, bin, *item), size, *item)
            });
            let mut went = None;
            for item in items {
                let item = item as usize;
                if let Some(to) = best_target(state, item) {
                    state.go(item, to);
                    went = Some(bin);
                    break;
                }
                let now = problem.now[item];
                if state.keeps(item, now) {
                    state.go(item, now);
                    went = Some(now as usize);
                    break;
                }
            }
            let Some(to) = went else { break };
            if to != bin && lacks(state, to) && !open.contains(&to) {
                open.push(to);
            }
        }
    }
    state.broken() == 0
}

fn lacks(state: &State<'_>, bin: usize) -> bool {
    state.slack(bin).iter().any(|slack| *slack < 0)
}

/// Gives one item away; whether one went.
fn unload(state: &mut State<'_>, bin: usize, cost: &[i64]) -> bool {
    let mut items = state.on(bin).to_vec();
    items.retain(|item| gives(state, bin, *item) > 0);
    // One that suffices alone, else the one that gives most; the cheapest and smallest of those.
    items.sort_by_cached_key(|item| {
        let (enough, gives) = (suffices(state, bin, *item), gives(state, bin, *item));
        let size = size(state, *item);
        let price = cost.get(*item as usize).copied().unwrap_or(1);
        if enough { (0, price, size, *item) } else { (1, -gives, size, *item) }
    });
    items.truncate(CANDIDATES);
    for item in &items {
        if let Some(to) = best_target(state, *item as usize) {
            state.go(*item as usize, to);
            return true;
        }
    }
    items.iter().any(|item| make_way(state, *item as usize))
}

/// How much of what a bin lacks an item gives back by leaving.
fn gives(state: &State<'_>, bin: usize, item: u32) -> i64 {
    freed(state, bin, item).map(|(lack, freed)| lack.min(freed)).fold(0, i64::saturating_add)
}

/// What an item uses, in all dimensions together.
fn size(state: &State<'_>, item: u32) -> i64 {
    state.problem().uses(item as usize).iter().fold(0, |sum, uses| sum.saturating_add(*uses))
}

fn suffices(state: &State<'_>, bin: usize, item: u32) -> bool {
    freed(state, bin, item).all(|(lack, freed)| freed >= lack)
}

/// What a bin lacks in each dimension, and what an item frees of it by leaving.
fn freed<'s>(state: &'s State<'_>, bin: usize, item: u32) -> impl Iterator<Item = (i64, i64)> + 's {
    let problem = state.problem();
    let stays = problem.now[item as usize] as usize == bin;
    let uses = problem.uses(item as usize);
    let held = move |at: usize| stays && problem.transient[at];
    state
        .slack(bin)
        .iter()
        .enumerate()
        .map(move |(at, slack)| ((-slack).max(0), if held(at) { 0 } else { uses[at] }))
}

/// The bin that suits an item best, of those that may take it.
fn best_target(state: &State<'_>, item: usize) -> Option<u32> {
    let leave = state.leave(item);
    let all = 0..state.problem().bins() as u32;
    let (mut best, mut least) = (None, i64::MAX);
    for to in all {
        if let Some(more) = state.enter(&leave, to, least.saturating_sub(1)) {
            (best, least) = (Some(to), more);
        }
    }
    best
}

/// Lets an item go to a bin that another leaves for it; whether that could be done.
fn make_way(state: &mut State<'_>, item: usize) -> bool {
    let from = state.at()[item];
    let bins = state.problem().bins();
    // Begin somewhere else for each item, so that not all bother the same bins.
    let start = item % bins;
    let targets = (0..bins).map(|at| ((start + at) % bins) as u32).filter(|to| *to != from).take(MAKE_WAY.0);
    for to in targets.collect::<Vec<u32>>() {
        for other in state.on(to as usize).iter().copied().take(MAKE_WAY.1).collect::<Vec<u32>>() {
            let other = other as usize;
            let Some(away) = best_target(state, other).filter(|away| *away != from) else { continue };
            state.go(other, away);
            if state.shift(item, to).is_some() {
                state.go(item, to);
                return true;
            }
            state.go(other, to);
        }
    }
    false
}

/// Lets an item go to the first bin on which less is broken.
fn mend(state: &mut State<'_>, item: usize) {
    let (from, before) = (state.at()[item], state.broken());
    for to in 0..state.problem().bins() as u32 {
        if state.attempt(&[(item, to)]).is_some() {
            if state.broken() < before {
                return;
            }
            state.go(item, from);
        }
    }
}
