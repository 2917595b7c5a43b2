//! Several moves that are one change: a bin is emptied, a closed one is opened, items go with those that hold them.
//!
//! Each item goes to the best of some bins, and what all of them together change is taken or not by the same luck as single moves;
//! if not, all go back.

use fastrand::Rng;

use super::proposal::Proposer;
use crate::assignment::state::{Change, State};

/// The share of work that goes into changes of several moves.
pub(super) const SHARE: f64 = 0.5;
/// Bins with more items are not emptied at once.
const EMPTIED: usize = 32;
/// Items that go together at most.
const TOGETHER: usize = 16;
/// Items that it is tried to pull into a bin that is opened.
const PULLED: usize = 24;
/// Bins that are tried for an item: beside where it is, beside each of some of its partners, and anywhere.
const TRIED: (usize, usize, usize) = (6, 3, 3);
/// Bins that are looked at to find one that is open, or closed.
const LOOKS: usize = 8;

/// Moves that were made, so that they can be taken back.
#[derive(Debug, Default)]
pub(super) struct Made {
    back: Vec<Change>,
    more: i64,
    work: u64,
}

impl Made {
    fn begin(state: &mut State<'_>) -> Self {
        state.begin();
        Self::default()
    }

    fn go(&mut self, state: &mut State<'_>, item: usize, to: u32, more: i64) {
        self.back.push((item, state.at()[item]));
        self.more = self.more.saturating_add(more);
        self.work += 1;
        state.step(item, to);
    }

    fn undo(&mut self, state: &mut State<'_>) {
        for (item, from) in self.back.drain(..).rev() {
            state.step(item, from);
        }
    }
}

impl Proposer {
    /// Proposes one change of several moves; how many evaluations it took.
    pub(super) fn compound(&mut self, state: &mut State<'_>, item: usize) -> u64 {
        let kind = if self.opening.is_some() { self.random.u32(..4) } else { 0 };
        let most = self.most();
        let mut made = Made::begin(state);
        let done = match kind {
            0 | 1 => self.together(state, item, &mut made),
            2 => self.empty(state, most, &mut made),
            _ => self.open(state, &mut made),
        };
        if !done || made.more > most || !state.keeps_since() || !state.within_limits() {
            made.undo(state);
        }
        made.work.max(1)
    }

    /// What it changes that an item goes to a bin, with what counts only while it is hot; nothing if it may not, or if it is
    /// more than `most`.
    fn priced(&self, state: &State<'_>, item: usize, to: u32, most: i64) -> Option<i64> {
        let hot = self.hot(state, item, to);
        state.shift_within(item, to, most.saturating_sub(hot)).map(|more| more.saturating_add(hot))
    }

    /// The best of some bins for an item, with what that changes.
    fn best(
        &self,
        state: &State<'_>,
        item: usize,
        bins: &[u32],
        most: i64,
        work: &mut u64,
    ) -> Option<(u32, i64)> {
        let (mut best, mut least) = (None, most);
        for to in bins {
            *work += 1;
            if let Some(more) = self.priced(state, item, *to, least) {
                (best, least) = (Some((*to, more)), more.saturating_sub(1));
            }
        }
        best
    }

    /// A bin that is open, or one that is not, if one is met.
    fn bin(&mut self, state: &State<'_>, open: bool) -> Option<u32> {
        let count = state.problem().bins();
        (0..LOOKS)
            .map(|_| self.random.usize(..count))
            .find(|bin| state.on(*bin).is_empty() != open)
            .map(|bin| bin as u32)
    }

    /// Some bins that an item may go to, none of them closed but the one that is named.
    fn candidates(&mut self, state: &State<'_>, item: usize, instead: Option<u32>, found: &mut Vec<u32>) {
        found.clear();
        let Some(near) = &self.near else { return };
        let from = state.at()[item];
        let count = state.problem().bins();
        if count <= TRIED.0 + 2 * TRIED.1 + TRIED.2 {
            found.extend(0..count as u32);
        } else {
            some(near.beside(from), TRIED.0, &mut self.random, found);
            let partners = near.partners(item);
            for at in 0..TRIED.1.min(partners.len()) {
                let partner =
                    if partners.len() <= TRIED.1 { at } else { self.random.usize(..partners.len()) };
                let there = state.at()[partners[partner] as usize];
                found.push(there);
                some(near.beside(there), 1, &mut self.random, found);
            }
            found.extend((0..TRIED.2).map(|_| self.random.usize(..count) as u32));
            found.push(state.problem().now[item]);
        }
        found.extend(instead);
        found.sort_unstable();
        found.dedup();
        found.retain(|bin| *bin != from && (Some(*bin) == instead || !state.on(*bin as usize).is_empty()));
    }

    /// Empties an open bin: each item goes to the best of some open ones, or all of them may go to one that was closed.
    fn empty(&mut self, state: &mut State<'_>, most: i64, made: &mut Made) -> bool {
        let Some(bin) = self.bin(state, true) else { return false };
        if state.on(bin as usize).len() > EMPTIED {
            return false;
        }
        let mut items = state.on(bin as usize).to_vec();
        let instead = if self.random.bool() { self.bin(state, false) } else { None };
        // The largest first: they have the least choice.
        if let Some(opening) = &self.opening {
            let size = |item: &u32| opening.share(bin as usize, state.problem().uses(*item as usize));
            items.sort_by(|one, other| size(other).total_cmp(&size(one)).then(one.cmp(other)));
        }
        let saved = state.problem().worths[state.objective].opening(bin as usize);
        let mut bins = Vec::new();
        let mut late = Vec::new();
        // Some may go only after others have.
        for round in 0..2 {
            for item in std::mem::take(if round == 0 { &mut items } else { &mut late }) {
                let item = item as usize;
                self.candidates(state, item, instead, &mut bins);
                let left = most.saturating_add(saved).saturating_sub(made.more);
                match self.best(state, item, &bins, left, &mut made.work) {
                    Some((to, more)) => made.go(state, item, to, more),
                    None if round == 0 => late.push(item as u32),
                    None => return false,
                }
            }
        }
        true
    }

    /// Opens a closed bin: the best of some items goes there, then all that gain.
    fn open(&mut self, state: &mut State<'_>, made: &mut Made) -> bool {
        let Some(bin) = self.bin(state, false) else { return false };
        let mut items = Vec::with_capacity(PULLED * 2);
        for at in 0..PULLED {
            let item = if at % 2 == 0 { self.beside_item(state, bin) } else { None };
            items.push(item.unwrap_or_else(|| self.choice.any(&mut self.random)));
        }
        items.sort_unstable();
        items.dedup();
        let (mut first, mut least) = (None, i64::MAX);
        for item in &items {
            made.work += 1;
            if let Some(more) = self.priced(state, *item, bin, least) {
                (first, least) = (Some(*item), more);
            }
        }
        let Some(first) = first else { return false };
        made.go(state, first, bin, least);
        let mut at = 0;
        let mut pull = vec![first];
        while at < pull.len() && pull.len() < PULLED * 2 {
            if let Some(near) = &self.near {
                let partners = near.partners(pull[at]).iter().map(|item| *item as usize);
                pull.extend(partners.take(TOGETHER).filter(|item| state.at()[*item] != bin));
            }
            at += 1;
            if at == 1 {
                pull.extend(items.iter().copied().filter(|item| *item != first));
            }
            let Some(item) = pull.get(at).copied().filter(|item| state.at()[*item] != bin) else { continue };
            made.work += 1;
            if let Some(more) = self.priced(state, item, bin, -1) {
                made.go(state, item, bin, more);
            }
        }
        true
    }

    /// An item on a bin beside one, if one is met.
    fn beside_item(&mut self, state: &State<'_>, bin: u32) -> Option<usize> {
        let beside = self.near.as_ref()?.beside(bin);
        let other = beside[self.random.usize(..beside.len())] as usize;
        let on = state.on(other);
        (!on.is_empty()).then(|| on[self.random.usize(..on.len())] as usize)
    }

    /// Lets an item go with some of those that hold it to bins beside each other.
    fn together(&mut self, state: &mut State<'_>, item: usize, made: &mut Made) -> bool {
        let Some(near) = &self.near else { return false };
        let partners = near.partners(item);
        let there = match self.random.u32(..3) {
            0 if !partners.is_empty() => state.at()[partners[self.random.usize(..partners.len())] as usize],
            1 => state.problem().now[item],
            _ => self.random.usize(..state.problem().bins()) as u32,
        };
        let limit = 1 << self.random.u32(1..=TOGETHER.ilog2());
        let mut items = vec![item];
        let mut at = 0;
        while at < items.len() && items.len() < limit {
            // Somebody may talk to everybody.
            let mut more = Vec::new();
            some(near.partners(items[at]), 2 * TOGETHER, &mut self.random, &mut more);
            self.random.shuffle(&mut more);
            for item in more {
                let item = item as usize;
                if items.len() < limit && !items.contains(&item) {
                    items.push(item);
                }
            }
            at += 1;
        }
        items.retain(|item| !near.are(state.at()[*item], there));
        let mut bins = Vec::new();
        some(near.beside(there), 2 * TRIED.0, &mut self.random, &mut bins);
        bins.sort_unstable();
        bins.dedup();
        if items.is_empty() {
            return false;
        }
        self.gather(state, items, &bins, made)
    }

    /// Lets each item go to the best of some bins; whether all went. Those that a rule holds back go after the others, and if all
    /// are held back, one goes all the same: it is the end that counts.
    fn gather(&self, state: &mut State<'_>, mut items: Vec<usize>, bins: &[u32], made: &mut Made) -> bool {
        let mut forced = false;
        while !items.is_empty() {
            let before = items.len();
            let mut late = Vec::new();
            for item in items {
                match self.best(state, item, bins, i64::MAX, &mut made.work) {
                    Some((to, more)) => made.go(state, item, to, more),
                    None => late.push(item),
                }
            }
            if late.len() == before {
                let item = late.remove(0);
                made.work += bins.len() as u64;
                let roomy = bins.iter().copied().filter(|to| state.takes(item, *to));
                let Some(to) = roomy.min_by_key(|to| state.stake(item, *to)).filter(|_| !forced) else {
                    return false;
                };
                forced = true;
                let (value, hot) = (state.value(), self.hot(state, item, to));
                made.go(state, item, to, hot);
                made.more = made.more.saturating_add(state.value() - value);
            }
            items = late;
        }
        true
    }
}

/// So many of some bins, or all of them if they are no more.
fn some(bins: &[u32], most: usize, random: &mut Rng, found: &mut Vec<u32>) {
    if bins.len() <= most {
        found.extend(bins);
    } else {
        found.extend((0..most).map(|_| bins[random.usize(..bins.len())]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::model::{
        Bin, Dimension, Flow, Group, Item, Level, Model, Objective, Rule, Scope, Term,
    };
    use crate::assignment::problem::Problem;

    fn model(bins: usize, items: &[(i64, u32)], terms: Vec<Term>) -> Model {
        let bin = |_| Bin { name: String::new(), capacity: vec![10] };
        let item =
            |(uses, now): &(i64, u32)| Item { name: String::new(), uses: vec![*uses], now: *now, bins: None };
        Model {
            dimensions: vec![Dimension { name: String::new(), transient: false }],
            bins: (0..bins).map(bin).collect(),
            items: items.iter().map(item).collect(),
            objectives: vec![Objective { terms, ..Objective::default() }],
            ..Model::default()
        }
    }

    /// What is reached from where everything is by so many proposals without any heat, single ones alone or with the others.
    fn reached(model: &Model, compound: bool) -> Vec<u32> {
        let problem = Problem::new(model).unwrap();
        let mut state = State::new(&problem, &problem.now);
        let items: Vec<u32> = (0..problem.items() as u32).collect();
        let mut proposer = Proposer::new(&state, &items, Rng::with_seed(1)).unwrap();
        for step in 0..2000 {
            let before = state.value();
            if compound {
                proposer.compound(&mut state, step % problem.items());
            } else {
                proposer.single(&mut state, step % problem.items());
            }
            assert!(state.value() <= before && state.broken() == 0);
            let fresh = State::new(&problem, state.at());
            assert_eq!(state.values(), fresh.values());
            assert!((0..problem.bins()).all(|bin| state.slack(bin) == fresh.slack(bin)));
        }
        state.at().to_vec()
    }

    #[test]
    fn a_bin_is_emptied_where_each_move_costs_and_all_together_save() {
        let items = [(2, 0), (3, 0), (2, 0), (4, 1), (3, 2), (2, 2)];
        let terms = || vec![Term::Open { cost: vec![100; 3] }, Term::ItemMove { cost: vec![10; 6] }];
        let still: Vec<u32> = items.iter().map(|(_, now)| *now).collect();
        // Singles can take the one that is alone away, but not two from a bin.
        let two = model(
            2,
            &[(2, 0), (3, 0), (2, 1), (3, 1)],
            vec![Term::Open { cost: vec![100; 2] }, Term::ItemMove { cost: vec![10; 4] }],
        );
        assert_eq!(reached(&two, false), [0, 0, 1, 1]);
        let at = reached(&two, true);
        assert!(at == [0; 4] || at == [1; 4]);
        let three = reached(&model(3, &items, terms()), true);
        assert!(three.iter().zip(&still).filter(|(at, now)| at != now).count() <= 3);
        let mut open = three;
        open.sort_unstable();
        open.dedup();
        assert_eq!(open.len(), 2);
        // Where moving costs more than a bin, everything stays.
        let dear =
            model(3, &items, vec![Term::Open { cost: vec![9; 3] }, Term::ItemMove { cost: vec![10; 6] }]);
        assert_eq!(reached(&dear, true), still);
    }

    #[test]
    fn a_bin_is_opened_where_several_gain_by_it_and_one_does_not() {
        // 120 are beyond; one that leaves saves 60, and the bin costs 70.
        let beyond = Term::Headroom { dimension: 0, level: vec![4; 2], weight: 30 };
        let full =
            model(2, &[(2, 0), (2, 0), (2, 0), (2, 0)], vec![Term::Open { cost: vec![70; 2] }, beyond]);
        assert_eq!(reached(&full, false), [0; 4]);
        assert_eq!(reached(&full, true).iter().filter(|bin| **bin == 0).count(), 2);
    }

    /// Two that talk gain nothing by going alone; a third stands on the first of three bins at two sites.
    fn pair(rules: Vec<Rule>) -> Model {
        let flows = vec![Flow { one: 0, other: 1, volume: 10 }];
        let distance = vec![vec![0, 1], vec![1, 0]];
        let table = vec![vec![5, 0], vec![0, 0]];
        let terms = vec![
            Term::Traffic { level: Level::Scope(0), distance, flows },
            Term::Pair { level: Level::Scope(0), row: vec![0, 0, 1], table },
        ];
        let group = |items: Vec<u32>| Group { name: String::new(), items };
        Model {
            scopes: vec![Scope { name: String::new(), part: vec![0, 1, 1] }],
            groups: vec![group(vec![0]), group(vec![1]), group(vec![0, 1])],
            rules,
            ..model(3, &[(6, 0), (3, 0), (1, 0)], terms)
        }
    }

    #[test]
    fn those_that_talk_go_together() {
        assert_eq!(reached(&pair(Vec::new()), false), [0, 0, 0]);
        let at = reached(&pair(Vec::new()), true);
        assert!(at[0] != 0 && at[1] != 0);
    }

    /// Each needs the other, so no order of going keeps the rules on the way.
    #[test]
    fn those_that_rules_tie_go_together() {
        let level = Level::Scope(0);
        let rules = vec![
            Rule::Dependency { group: 0, needs: 1, level },
            Rule::Dependency { group: 1, needs: 0, level },
            Rule::CoLocation { group: 2, level },
        ];
        let at = reached(&pair(rules), true);
        assert!(at[0] != 0 && at[1] != 0);
    }
}
