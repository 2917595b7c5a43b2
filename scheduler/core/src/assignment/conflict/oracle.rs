//! Whether some demands can be met together.
//!
//! Asked are, one after the other: assignments that are known; what uses more than there is; the repair; the solver.

use std::collections::BTreeSet;

use super::ConflictError;
use super::demands::{Active, Demand, broken};
use crate::assignment::exact::choice::Choice;
use crate::assignment::exact::program::{Program, Sum};
use crate::assignment::exact::{Effort, solver};
use crate::assignment::model::{Model, Objective};
use crate::assignment::problem::Problem;
use crate::assignment::search::repair::repair;
use crate::assignment::state::State;
use crate::assignment::validity::check;
use crate::checker::assignment::judge;

/// Whether demands can be met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Can {
    /// They can: the bin of each item.
    Yes(Vec<u32>),
    /// They can't.
    No,
    /// Time ran out.
    Unknown,
}

/// Who says whether demands can be met.
pub(super) struct Oracle<'m> {
    pub(super) model: &'m Model,
    /// The same laid out, with nothing to be minimised.
    problem: Problem,
    pub(super) effort: Effort,
    /// Assignments that are known, and what they break.
    known: Vec<(Vec<u32>, BTreeSet<Demand>)>,
}

/// What is left of a problem by some demands.
pub(super) struct Rest {
    /// The bin of each item; those that are left out stand where nobody looks at them.
    pub(super) at: Vec<u32>,
    /// Items that demands look at wherever they may be.
    pub(super) items: Vec<bool>,
}

impl<'m> Oracle<'m> {
    pub(super) fn new(model: &'m Model, effort: Effort) -> Result<Self, ConflictError> {
        check(model)?;
        let objectives = vec![Objective::default()];
        let problem = Problem::new(&Model { objectives, ..model.clone() })?;
        Ok(Self { model, problem, effort, known: Vec::new() })
    }

    /// An assignment with less broken, and nothing more so, which is known from then on.
    pub(super) fn mended(&mut self, at: &[u32], how: fn(&mut State<'_>)) -> Vec<u32> {
        let mut state = State::new(&self.problem, at);
        how(&mut state);
        self.known.push((state.at().to_vec(), self.broken(state.at())));
        state.at().to_vec()
    }

    /// The assignments that are known.
    pub(super) fn known(&self) -> impl Iterator<Item = &[u32]> {
        self.known.iter().map(|(at, _)| &at[..])
    }

    fn broken(&self, at: &[u32]) -> BTreeSet<Demand> {
        broken(self.model, &judge(self.model, at)).into_keys().collect()
    }

    /// Demands of which one look tells that they can't be met: what is used is more than there is. None if there are none.
    pub(super) fn too_little(&self) -> Vec<Demand> {
        let everything = Active {
            capacity: vec![true; self.model.bins.len() * self.model.dimensions.len()],
            rules: vec![true; self.model.rules.len()],
            lists: vec![true; self.model.items.len()],
            most_moved: true,
            ruled: vec![true; self.model.items.len()],
        };
        overfull(self.model, &everything, &vec![true; self.model.items.len()])
    }

    /// Whether demands can be met; `at` is where to begin.
    pub(super) fn can(&mut self, demands: &BTreeSet<Demand>, at: &[u32]) -> Result<Can, ConflictError> {
        if let Some((known, _)) = self.known.iter().find(|(_, broken)| broken.is_disjoint(demands)) {
            return Ok(Can::Yes(known.clone()));
        }
        let can = self.ask(&Active::new(self.model, demands), demands, at)?;
        let Can::Yes(found) = can else { return Ok(can) };
        let broken = self.broken(&found);
        if !broken.is_disjoint(demands) {
            // The solver was wrong by its own tolerance.
            return Ok(Can::Unknown);
        }
        self.known.push((found.clone(), broken));
        Ok(Can::Yes(found))
    }

    fn ask(&self, active: &Active, demands: &BTreeSet<Demand>, at: &[u32]) -> Result<Can, ConflictError> {
        let model = self.model;
        let rest = self.rest(active, at);
        if !rest.items.contains(&true) {
            // Only what items go on using where they were can be too much then.
            let met = self.broken(&rest.at).is_disjoint(demands);
            return Ok(if met { Can::Yes(rest.at) } else { Can::No });
        }
        if !overfull(model, active, &rest.items).is_empty() {
            return Ok(Can::No);
        }
        // What few items can't, all can't. What they can is a start for all.
        let few: Vec<bool> = (0..at.len()).map(|item| rest.items[item] && active.names(item)).collect();
        let mut start = rest.at.clone();
        if few != rest.items && few.contains(&true) {
            match self.solve(active, &rest, &few)? {
                Can::No => return Ok(Can::No),
                Can::Yes(found) => start = found,
                Can::Unknown => {}
            }
        }
        // A model that is at the limit of what can be added up may be beyond it with other capacities.
        if let Ok(problem) = Problem::new(&active.model(model)) {
            for begin in [&rest.at, &start] {
                let mut state = State::new(&problem, begin);
                let within = model.most_moved.filter(|_| active.most_moved);
                mend(&mut state);
                if state.broken() == 0 && within.is_none_or(|most| state.moved() <= most) {
                    return Ok(Can::Yes(state.at().to_vec()));
                }
                if start == rest.at {
                    break;
                }
            }
        }
        let items = rest.items.clone();
        self.solve(active, &Rest { at: start, ..rest }, &items)
    }

    /// Whether some of the items that are left can meet demands, as if the others were nowhere.
    fn solve(&self, active: &Active, rest: &Rest, items: &[bool]) -> Result<Can, ConflictError> {
        let model = self.model;
        let mut program = Program::default();
        let options = |item: usize| {
            let bins = (0..model.bins.len() as u32)
                .filter(|bin| rest.items[item] && active.allows(model, item, *bin));
            (items[item] || !rest.items[item]).then(|| bins.collect())
        };
        let limits = active.limits(model);
        let choice = Choice::new(model, &rest.at, &limits, options, &mut program);
        limits.hold(&choice, &mut program);
        let said = solver::solve(&program, &Sum::default(), self.effort)?;
        Ok(match choice.read(&said, &rest.at) {
            Some(found) => Can::Yes(found),
            None if said.impossible => Can::No,
            None => Can::Unknown,
        })
    }

    /// Leaves out items that have a bin on which no demand looks at them: preferably where they stand, or where there is room.
    pub(super) fn rest(&self, active: &Active, at: &[u32]) -> Rest {
        let model = self.model;
        let mut rest = Rest { at: at.to_vec(), items: vec![true; at.len()] };
        let mut slack: Vec<i64> = model.bins.iter().flat_map(|bin| bin.capacity.iter().copied()).collect();
        let width = model.dimensions.len();
        let take = |slack: &mut [i64], item: usize, bin: u32| {
            let room = &mut slack[bin as usize * width..][..width];
            room.iter_mut().zip(&model.items[item].uses).for_each(|(room, uses)| *room -= uses);
        };
        let mut homeless = Vec::new();
        for (item, it) in model.items.iter().enumerate() {
            let here =
                if active.most_moved || !active.allows(model, item, at[item]) { it.now } else { at[item] };
            rest.at[item] = here;
            let free = |bin: u32| active.allows(model, item, bin) && active.overlooks(model, item, bin);
            if active.ruled[item] {
                take(&mut slack, item, here);
            } else if free(here) {
                rest.items[item] = false;
                take(&mut slack, item, here);
            } else if (0..model.bins.len() as u32).any(free) {
                rest.items[item] = false;
                homeless.push(item);
            } else {
                take(&mut slack, item, here);
            }
        }
        for item in homeless {
            let listed = |bin: u32| self.problem.allows(item, bin as usize);
            let free: Vec<u32> = (0..model.bins.len() as u32)
                .filter(|bin| active.allows(model, item, *bin) && active.overlooks(model, item, *bin))
                .collect();
            let room = |bin: u32| {
                let room = &slack[bin as usize * width..][..width];
                room.iter().zip(&model.items[item].uses).map(|(room, uses)| room - uses).min().unwrap_or(0)
            };
            let best =
                free.iter().copied().max_by_key(|bin| (listed(*bin), room(*bin), std::cmp::Reverse(*bin)));
            if let Some(bin) = best {
                rest.at[item] = bin;
                take(&mut slack, item, bin);
            }
        }
        rest
    }
}

/// Demands on bins that some of the items share among themselves, if all of them together have less than these items use.
fn overfull(model: &Model, active: &Active, items: &[bool]) -> Vec<Demand> {
    let mut shared = Shared((0..model.bins.len() as u32).collect());
    for item in (0..items.len()).filter(|item| items[*item]) {
        let mut bins = (0..model.bins.len() as u32).filter(|bin| active.allows(model, item, *bin));
        if let Some(first) = bins.next() {
            bins.for_each(|bin| shared.join(first, bin));
        }
    }
    let width = model.dimensions.len();
    for dimension in 0..width {
        let mut left = vec![Some(0i128); model.bins.len()];
        for (bin, it) in model.bins.iter().enumerate() {
            let room = active.capacity[bin * width + dimension].then(|| i128::from(it.capacity[dimension]));
            let left = &mut left[shared.root(bin as u32) as usize];
            *left = left.zip(room).map(|(left, room)| left + room);
        }
        for (it, _) in model.items.iter().zip(items).filter(|(_, left)| **left) {
            if let Some(left) = &mut left[shared.root(it.now) as usize] {
                *left -= i128::from(it.uses[dimension]);
            }
        }
        let Some(root) = left.iter().position(|left| left.is_some_and(|left| left < 0)) else { continue };
        let here = |shared: &mut Shared, bin: u32| shared.root(bin) as usize == root;
        let mut demands: Vec<Demand> = Vec::new();
        for bin in 0..model.bins.len() as u32 {
            if here(&mut shared, bin) {
                demands.push(Demand::Capacity { bin, dimension: dimension as u32 });
            }
        }
        // Who may not go elsewhere because there is nowhere else needs no list.
        let all = demands.len() == model.bins.len();
        for (item, it) in model.items.iter().enumerate().filter(|_| !all) {
            if it.bins.is_some() && active.lists[item] && items[item] && here(&mut shared, it.now) {
                demands.push(Demand::List { item: item as u32 });
            }
        }
        return demands;
    }
    Vec::new()
}

/// Which bins belong together.
struct Shared(Vec<u32>);

impl Shared {
    fn root(&mut self, bin: u32) -> u32 {
        let mut at = bin;
        while self.0[at as usize] != at {
            let above = self.0[self.0[at as usize] as usize];
            self.0[at as usize] = above;
            at = above;
        }
        at
    }

    fn join(&mut self, one: u32, other: u32) {
        let (one, other) = (self.root(one), self.root(other));
        self.0[one.max(other) as usize] = one.min(other);
    }
}

/// Lets items go from bins that have no room for them to where they suit best; one by one, which takes less time than a repair.
pub(super) fn settle(state: &mut State<'_>) {
    for bin in 0..state.problem().bins() {
        while let Some((item, to)) = leaving(state, bin) {
            state.go(item, to);
        }
    }
}

/// An item that leaves a bin without room, and where it goes: the smallest that suffices, or else the largest.
fn leaving(state: &State<'_>, bin: usize) -> Option<(usize, u32)> {
    let slack = state.slack(bin);
    if slack.iter().all(|slack| *slack >= 0) {
        return None;
    }
    let mut items = state.on(bin).to_vec();
    items.sort_by_cached_key(|item| {
        let uses = state.problem().uses(*item as usize);
        let size: i128 = uses.iter().map(|uses| i128::from(*uses)).sum();
        let suffices = uses.iter().zip(slack).all(|(uses, slack)| slack + uses >= 0);
        if suffices { (0, size, *item) } else { (1, -size, *item) }
    });
    items.into_iter().find_map(|item| {
        let leave = state.leave(item as usize);
        let (mut best, mut least) = (None, i64::MAX);
        for to in 0..state.problem().bins() as u32 {
            if let Some(more) = state.enter(&leave, to, least.saturating_sub(1)) {
                (best, least) = (Some((item as usize, to)), more);
            }
        }
        best
    })
}

/// Settles, and repairs what is left.
pub(super) fn mend(state: &mut State<'_>) {
    settle(state);
    if state.broken() > 0 {
        repair(state, &[]);
    }
}
