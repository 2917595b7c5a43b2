//! What one other item could do so that an item can go where something keeps it from going.

use super::Blocker;
use crate::assignment::model::{Model, Rule};
use crate::assignment::state::{Change, State};

/// Moves of other items that are tried at most.
const TRIES: usize = 1 << 16;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sought {
    /// The other item, and where it goes.
    pub way: Option<Change>,
    /// Whether everything was tried.
    pub tried_all: bool,
}

/// The cheapest move of another item with which an item can go; the first objective counts first. Where there are too many to try,
/// exchanges are tried first, and some bins for each other item.
pub fn cheapest(model: &Model, state: &State<'_>, (item, to): Change, blockers: &[Blocker]) -> Sought {
    let mut sought = Sought { way: None, tried_all: true };
    if blockers.is_empty() || blockers.contains(&Blocker::List) {
        return sought;
    }
    let others = others(model, state, (item, to), blockers);
    let problem = state.problem();
    let (from, bins) = (state.at()[item], problem.bins());
    let mut tried = state.clone();
    tried.relax(&[]);
    let before: Vec<i64> = state.values().to_vec();
    let mut least: Option<Vec<i64>> = None;
    let mut attempt = |other: usize, away: u32| {
        let was = state.at()[other];
        if away == was || tried.attempt(&[(other, away), (item, to)]).is_none() {
            return;
        }
        let more: Vec<i64> =
            tried.values().iter().zip(&before).map(|(after, before)| after - before).collect();
        if least.as_ref().is_none_or(|least| more < *least) {
            least = Some(more);
            sought.way = Some((other, away));
        }
        tried.go(item, from);
        tried.go(other, was);
    };
    for other in others.iter().take(TRIES) {
        if state.at()[*other] == to {
            attempt(*other, from);
        }
    }
    let each = (TRIES / others.len().max(1)).max(1);
    for other in others.iter().take(TRIES) {
        match problem.allowed(*other) {
            Some(allowed) => allowed.iter().take(each).for_each(|away| attempt(*other, *away)),
            // Begin somewhere else for each item, so that all bins are looked at by some.
            None => (0..bins).take(each).for_each(|at| attempt(*other, ((other + at) % bins) as u32)),
        }
    }
    sought.tried_all = others.len() <= TRIES && bins <= each;
    sought
}

/// Items that could do something about everything that keeps one from going.
fn others(model: &Model, state: &State<'_>, (item, to): Change, blockers: &[Blocker]) -> Vec<usize> {
    let mut others: Option<Vec<usize>> = None;
    for blocker in blockers {
        let mut able: Vec<usize> = match blocker {
            Blocker::List => Vec::new(),
            Blocker::Room { .. } => state.on(to as usize).iter().map(|other| *other as usize).collect(),
            Blocker::Rule { rule, .. } => {
                let rule = &model.rules[rule.number as usize];
                let needs = if let Rule::Dependency { needs, .. } = rule { Some(*needs) } else { None };
                let groups = [Some(rule.about().0), needs];
                let items = groups.iter().flatten().flat_map(|group| &model.groups[*group as usize].items);
                items.map(|other| *other as usize).collect()
            }
            Blocker::MostMoved { .. } => {
                let away = |other: &usize| state.at()[*other] != model.items[*other].now;
                (0..model.items.len()).filter(away).collect()
            }
        };
        able.sort_unstable();
        able.dedup();
        match &mut others {
            None => others = Some(able),
            Some(others) => others.retain(|other| able.binary_search(other).is_ok()),
        }
    }
    let mut others = others.unwrap_or_default();
    others.retain(|other| *other != item);
    others
}
