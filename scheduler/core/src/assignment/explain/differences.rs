//! What some moves change, term by term, looking at what they touch alone.

use std::collections::BTreeMap;

use super::{Difference, words};
use crate::assignment::model::{Level, Model, Rule, Term};
use crate::assignment::state::{Change, State};

/// Items that go at once.
#[derive(Debug)]
pub struct Moves<'a, 'p> {
    model: &'a Model,
    state: &'a State<'p>,
    /// Each item that really goes, with its bin then.
    changes: Vec<Change>,
    bins: BTreeMap<u32, Touched>,
}

/// A bin that items leave or come to.
#[derive(Debug, Clone)]
struct Touched {
    /// How much more the items on it use.
    more: Vec<i64>,
    /// How much less is left of it: what left may still be used until all moves are made.
    less: Vec<i64>,
    /// How many items more are on it.
    items: i64,
    /// Room that it is taken to have beside its own.
    room: Vec<i64>,
}

/// Before the moves, or after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    After,
}

impl<'a, 'p> Moves<'a, 'p> {
    /// Each of these items, named once, to its bin.
    pub fn new(model: &'a Model, state: &'a State<'p>, changes: &[Change]) -> Self {
        let none = vec![0; model.dimensions.len()];
        let none = Touched { more: none.clone(), less: none.clone(), items: 0, room: none };
        let mut bins: BTreeMap<u32, Touched> = BTreeMap::new();
        let changes: Vec<Change> =
            changes.iter().copied().filter(|(item, to)| state.at()[*item] != *to).collect();
        for (number, to) in &changes {
            let item = &model.items[*number];
            for (bin, sign) in [(state.at()[*number], -1), (*to, 1)] {
                let touched = bins.entry(bin).or_insert_with(|| none.clone());
                touched.items += sign;
                for (at, uses) in item.uses.iter().enumerate() {
                    touched.more[at] += sign * uses;
                    if bin != item.now || !model.dimensions[at].transient {
                        touched.less[at] += sign * uses;
                    }
                }
            }
        }
        Self { model, state, changes, bins }
    }

    /// The same on a bin with so much more room in some dimensions.
    #[must_use]
    pub fn with_room(mut self, bin: u32, room: &[(u32, i64)]) -> Self {
        if let Some(touched) = self.bins.get_mut(&bin) {
            for (dimension, room) in room {
                touched.room[*dimension as usize] += room;
            }
        }
        self
    }

    /// How much less is left of a bin.
    pub fn less(&self, bin: u32, dimension: usize) -> i64 {
        self.bins.get(&bin).map_or(0, |touched| touched.less[dimension])
    }

    /// By how much each objective changes.
    pub fn differences(&self) -> Vec<Difference> {
        let objectives = self.model.objectives.iter().enumerate();
        objectives
            .map(|(number, objective)| {
                let terms = objective.terms.iter().enumerate();
                let terms: Vec<_> = terms
                    .map(|(at, term)| (words::term(self.model, at as u32, term), self.difference(term)))
                    .collect();
                Difference {
                    objective: words::objective(self.model, number as u32),
                    sum: terms.iter().map(|(_, difference)| difference).sum(),
                    terms,
                }
            })
            .collect()
    }

    /// How much more often a rule is broken.
    pub fn more_breaches(&self, rule: &Rule) -> i64 {
        let moves = |group: u32| {
            let items = &self.model.groups[group as usize].items;
            self.changes.iter().any(|(item, _)| items.contains(&(*item as u32)))
        };
        let needs = if let Rule::Dependency { needs, .. } = rule { Some(*needs) } else { None };
        if moves(rule.about().0) || needs.is_some_and(moves) {
            self.breaches(rule, When::After) - self.breaches(rule, When::Before)
        } else {
            0
        }
    }

    fn difference(&self, term: &Term) -> i128 {
        match term {
            Term::Overload { weight } => wide(*weight) * self.over_bins(|bin, when| self.beyond(bin, when)),
            Term::Headroom { dimension, level, weight } => {
                let beyond =
                    |bin: u32, when| (self.used(bin, *dimension, when) - wide(level[bin as usize])).max(0);
                wide(*weight) * self.over_bins(beyond)
            }
            Term::Balance { free, wanted, ratio, weight } => {
                let missing = |bin: u32, when| {
                    let left = |dimension| self.capacity(bin, dimension) - self.used(bin, dimension, when);
                    (wide(*ratio) * left(*free) - left(*wanted)).max(0)
                };
                wide(*weight) * self.over_bins(missing)
            }
            Term::Open { cost } => self.over_bins(|bin, when| {
                let more = self.bins.get(&bin).map_or(0, |touched| touched.items);
                let before = self.state.on(bin as usize).len() as i64;
                let on = if when == When::After { before + more } else { before };
                if on > 0 { wide(cost[bin as usize]) } else { 0 }
            }),
            Term::Pair { level, row, table } => self.over_items(|item, bin| {
                let row = &table[row[item] as usize];
                wide(row[self.part(*level, bin)])
            }),
            Term::Traffic { level, distance, flows } => flows
                .iter()
                .filter(|flow| self.goes(flow.one) || self.goes(flow.other))
                .map(|flow| {
                    let apart = |when| {
                        let end = |item: u32| self.part(*level, self.at(item as usize, when));
                        wide(distance[end(flow.one)][end(flow.other)])
                    };
                    wide(flow.volume) * (apart(When::After) - apart(When::Before))
                })
                .sum(),
            Term::ItemMove { cost } => self
                .over_items(|item, bin| if bin == self.model.items[item].now { 0 } else { wide(cost[item]) }),
            Term::GroupMove { weight } => {
                wide(*weight) * (self.most_of_group(When::After) - self.most_of_group(When::Before))
            }
            Term::BinMove { level, cost, weight } => {
                let way = |item: usize, bin: u32| {
                    let now = self.model.items[item].now;
                    let cost = || wide(cost[self.part(*level, now)][self.part(*level, bin)]);
                    if bin == now { 0 } else { cost() }
                };
                wide(*weight) * self.over_items(way)
            }
            Term::Breach { rule, weight } => wide(*weight) * wide(self.more_breaches(rule)),
        }
    }

    fn over_bins(&self, of: impl Fn(u32, When) -> i128) -> i128 {
        self.bins.keys().map(|bin| of(*bin, When::After) - of(*bin, When::Before)).sum()
    }

    fn over_items(&self, of: impl Fn(usize, u32) -> i128) -> i128 {
        self.changes.iter().map(|(item, to)| of(*item, *to) - of(*item, self.state.at()[*item])).sum()
    }

    /// Where an item is.
    fn at(&self, item: usize, when: When) -> u32 {
        let goes = self.changes.iter().find(|(one, _)| *one == item && when == When::After);
        goes.map_or_else(|| self.state.at()[item], |(_, to)| *to)
    }

    fn goes(&self, item: u32) -> bool {
        self.changes.iter().any(|(one, _)| *one == item as usize)
    }

    fn used(&self, bin: u32, dimension: u32, when: When) -> i128 {
        let more = self.bins.get(&bin).map_or(0, |touched| touched.more[dimension as usize]);
        let before = wide(self.state.used(bin as usize)[dimension as usize]);
        if when == When::After { before + wide(more) } else { before }
    }

    fn capacity(&self, bin: u32, dimension: u32) -> i128 {
        let room = self.bins.get(&bin).map_or(0, |touched| touched.room[dimension as usize]);
        wide(self.model.bins[bin as usize].capacity[dimension as usize]) + wide(room)
    }

    /// What is used of a bin beyond its capacity, in all dimensions.
    fn beyond(&self, bin: u32, when: When) -> i128 {
        let slack = self.state.slack(bin as usize).iter().enumerate();
        slack
            .map(|(at, slack)| {
                let (less, room) =
                    self.bins.get(&bin).map_or((0, 0), |touched| (touched.less[at], touched.room[at]));
                let less = if when == When::After { less } else { 0 };
                (wide(less) - wide(*slack) - wide(room)).max(0)
            })
            .sum()
    }

    /// How many items of a group are elsewhere than now, of the group with most of them.
    fn most_of_group(&self, when: When) -> i128 {
        let away = |item: &&u32| self.at(**item as usize, when) != self.model.items[**item as usize].now;
        let of_group = self.model.groups.iter().map(|group| group.items.iter().filter(away).count());
        of_group.max().unwrap_or(0) as i128
    }

    fn part(&self, level: Level, bin: u32) -> usize {
        match level {
            Level::Bin => bin as usize,
            Level::Scope(scope) => self.model.scopes[scope as usize].part[bin as usize] as usize,
        }
    }

    /// How often a rule is broken.
    fn breaches(&self, rule: &Rule, when: When) -> i64 {
        let (group, level) = rule.about();
        let there = |group: u32| {
            let mut parts: BTreeMap<usize, i64> = BTreeMap::new();
            for item in &self.model.groups[group as usize].items {
                *parts.entry(self.part(level, self.at(*item as usize, when))).or_default() += 1;
            }
            parts
        };
        let parts = there(group);
        match *rule {
            Rule::Conflict { most, .. } => parts.values().map(|items| (items - i64::from(most)).max(0)).sum(),
            Rule::Spread { .. } if parts.is_empty() => 0,
            Rule::Spread { least, .. } => (i64::from(least) - parts.len() as i64).max(0),
            Rule::Dependency { needs, .. } => {
                let needed = there(needs);
                parts.keys().filter(|part| !needed.contains_key(part)).count() as i64
            }
            Rule::CoLocation { .. } => (parts.len() as i64 - 1).max(0),
        }
    }
}

fn wide(number: i64) -> i128 {
    i128::from(number)
}
