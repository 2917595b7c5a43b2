//! Rules and capacities as rows.

use std::collections::{BTreeMap, BTreeSet};

use super::choice::Choice;
use super::program::{Program, Sum};
use crate::assignment::model::{Level, Model, Rule};
use crate::checker::assignment::judge;

/// What has to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::assignment) struct Limits {
    /// What may be used, one bin after the other; anything if not said.
    pub(in crate::assignment) capacity: Vec<Option<i128>>,
    /// How often each rule may be broken; any number of times if not said.
    pub(in crate::assignment) breaches: Vec<Option<i64>>,
    /// How many items may be elsewhere than now.
    pub(in crate::assignment) moved: Option<u32>,
}

impl Limits {
    /// Everything holds.
    pub(in crate::assignment) fn all(model: &Model) -> Self {
        let capacity = model.bins.iter().flat_map(|bin| bin.capacity.iter().map(|room| Some((*room).into())));
        Self {
            capacity: capacity.collect(),
            breaches: vec![Some(0); model.rules.len()],
            moved: model.most_moved,
        }
    }

    /// Nothing is worse than in an assignment.
    pub(super) fn as_in(model: &Model, at: &[u32]) -> Self {
        let mut limits = Self::all(model);
        let judgement = judge(model, at);
        for (bin, dimension, beyond) in &judgement.overloads {
            if let Some(room) = &mut limits.capacity[bin * model.dimensions.len() + dimension] {
                *room += beyond;
            }
        }
        limits.breaches = judgement.rules.iter().map(|breaches| Some(*breaches)).collect();
        limits.moved = limits.moved.map(|most| most.max(judgement.moved));
        limits
    }

    /// For each item the first of those that have to be on one bin with it.
    pub(super) fn together(&self, model: &Model) -> Vec<u32> {
        let mut first: Vec<u32> = (0..model.items.len() as u32).collect();
        for (rule, most) in model.rules.iter().zip(&self.breaches) {
            if let (Rule::CoLocation { group, level: Level::Bin }, Some(0)) = (rule, most) {
                let group = &model.groups[*group as usize].items;
                let all: BTreeSet<u32> = group.iter().map(|item| first[*item as usize]).collect();
                if let Some(least) = all.first() {
                    first.iter_mut().filter(|of| all.contains(of)).for_each(|of| *of = *least);
                }
            }
        }
        first
    }

    /// Adds the rows.
    pub(in crate::assignment) fn hold(&self, choice: &Choice<'_>, program: &mut Program) {
        let model = choice.model;
        let dimensions = model.dimensions.len();
        for (at, room) in self.capacity.iter().enumerate() {
            if let Some(room) = room {
                let held = choice.held(at / dimensions, at % dimensions);
                program.at_most_nothing(&held.plus(-1, &Sum::of(*room)));
            }
        }
        for (rule, most) in model.rules.iter().zip(&self.breaches) {
            match most {
                Some(0) => keep(choice, rule, program),
                Some(most) => {
                    let breaches = breaches(choice, rule, program);
                    program.at_most_nothing(&breaches.plus(-1, &Sum::of((*most).into())));
                }
                None => {}
            }
        }
        if let Some(most) = self.moved {
            let moved =
                (0..model.items.len()).fold(Sum::default(), |sum, item| sum.plus(1, &choice.moved(item)));
            program.at_most_nothing(&moved.plus(-1, &Sum::of(most.into())));
        }
    }
}

/// Which parts each item of a group can be on.
struct Parts {
    items: Vec<BTreeMap<usize, Sum>>,
    /// How many are on each.
    count: BTreeMap<usize, Sum>,
}

impl Parts {
    fn new(choice: &Choice<'_>, group: u32, level: Level) -> Self {
        let group = &choice.model.groups[group as usize];
        let items: Vec<_> = group.items.iter().map(|item| choice.parts(*item as usize, level)).collect();
        let mut count = BTreeMap::<usize, Sum>::new();
        for (part, is) in items.iter().flatten() {
            count.entry(*part).or_default().add(1, is);
        }
        Self { items, count }
    }

    /// Each item that can be on a part, with one if it is.
    fn on(&self, part: usize) -> impl Iterator<Item = &Sum> {
        self.items.iter().filter_map(move |parts| parts.get(&part))
    }
}

/// Adds the rows that keep a rule.
fn keep(choice: &Choice<'_>, rule: &Rule, program: &mut Program) {
    let (group, level) = rule.about();
    let parts = Parts::new(choice, group, level);
    match *rule {
        Rule::Conflict { most, .. } => {
            for count in parts.count.values() {
                program.at_most_nothing(&count.clone().plus(-1, &Sum::of(most.into())));
            }
        }
        Rule::Spread { least, .. } if !parts.items.is_empty() => {
            let sum = parts
                .count
                .values()
                .fold(Sum::of(least.into()), |sum, count| sum.plus(-1, &program.any(count)));
            program.at_most_nothing(&sum);
        }
        Rule::Spread { .. } => {}
        Rule::Dependency { needs, .. } => {
            let needed = Parts::new(choice, needs, level);
            for (part, is) in parts.items.iter().flatten() {
                let there = needed.count.get(part).cloned().unwrap_or_default();
                program.at_most_nothing(&is.clone().plus(-1, &there));
            }
        }
        Rule::CoLocation { .. } => {
            let all: BTreeSet<usize> = parts.count.keys().copied().collect();
            for pair in parts.items.windows(2) {
                for part in &all {
                    let is = |item: usize| pair[item].get(part).cloned().unwrap_or_default();
                    let apart = is(0).plus(-1, &is(1));
                    if apart != Sum::default() {
                        program.nothing(&apart);
                    }
                }
            }
        }
    }
}

/// How often a rule is broken, if that is minimised.
pub(in crate::assignment) fn breaches(choice: &Choice<'_>, rule: &Rule, program: &mut Program) -> Sum {
    let (group, level) = rule.about();
    let parts = Parts::new(choice, group, level);
    let mut sum = Sum::default();
    match *rule {
        Rule::Conflict { most, .. } => {
            for count in parts.count.values() {
                sum.add(1, &program.above(&[count.clone().plus(-1, &Sum::of(most.into()))]));
            }
        }
        Rule::Spread { least, .. } if !parts.items.is_empty() => {
            let few = parts
                .count
                .values()
                .fold(Sum::of(least.into()), |sum, count| sum.plus(-1, &program.any(count)));
            sum = program.above(&[few]);
        }
        Rule::Spread { .. } => {}
        Rule::Dependency { needs, .. } => {
            let needed = Parts::new(choice, needs, level);
            for part in parts.count.keys() {
                let there = needed.count.get(part).cloned().unwrap_or_default();
                let lacks: Vec<Sum> = parts.on(*part).map(|is| is.clone().plus(-1, &there)).collect();
                sum.add(1, &program.above(&lacks));
            }
        }
        Rule::CoLocation { .. } if !parts.items.is_empty() => {
            sum = Sum::of(-1);
            for part in parts.count.keys() {
                let here: Vec<Sum> = parts.on(*part).cloned().collect();
                sum.add(1, &program.above(&here));
            }
        }
        Rule::CoLocation { .. } => {}
    }
    sum
}
