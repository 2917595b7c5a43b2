//! The independent judge of assignments.
//!
//! [`judge`] says what an assignment is, [`replay`] whether it can be come to step by step. Written apart from the search,
//! straight from what the words of the model mean, and counting everything from the start.

use std::collections::{BTreeMap, BTreeSet};

use crate::assignment::model::{Level, Model, Rule, Term};
use crate::assignment::order::Step;

/// What an assignment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What each objective is worth, the most important first.
    pub values: Vec<i128>,
    /// What each term of each objective is worth.
    pub terms: Vec<Vec<i128>>,
    /// How often each rule is broken.
    pub rules: Vec<i64>,
    /// What is used beyond capacity: bin, dimension and how much. Transient dimensions count at both ends.
    pub overloads: Vec<(usize, usize, i128)>,
    /// Items on bins that their own lists don't have.
    pub misplaced: Vec<usize>,
    /// How many items are elsewhere than now.
    pub moved: u32,
    /// Whether more are than may be.
    pub too_many_moved: bool,
}

impl Judgement {
    /// Whether nothing is broken.
    pub fn holds(&self) -> bool {
        self.rules.iter().all(|breaches| *breaches == 0)
            && self.overloads.is_empty()
            && self.misplaced.is_empty()
            && !self.too_many_moved
    }
}

/// Judges an assignment of a valid model, which names a bin for each item.
pub fn judge(model: &Model, at: &[u32]) -> Judgement {
    let mut used = vec![vec![0i128; model.dimensions.len()]; model.bins.len()];
    let mut held = used.clone();
    let mut misplaced = Vec::new();
    let mut moved = 0;
    for (number, (item, bin)) in model.items.iter().zip(at).enumerate() {
        for (dimension, uses) in item.uses.iter().enumerate() {
            used[*bin as usize][dimension] += i128::from(*uses);
            held[*bin as usize][dimension] += i128::from(*uses);
            if *bin != item.now && model.dimensions[dimension].transient {
                held[item.now as usize][dimension] += i128::from(*uses);
            }
        }
        if *bin != item.now {
            moved += 1;
            if item.bins.as_ref().is_some_and(|bins| !bins.contains(bin)) {
                misplaced.push(number);
            }
        }
    }
    let mut overloads = Vec::new();
    for (bin, held) in held.iter().enumerate() {
        for (dimension, held) in held.iter().enumerate() {
            let beyond = held - i128::from(model.bins[bin].capacity[dimension]);
            if beyond > 0 {
                overloads.push((bin, dimension, beyond));
            }
        }
    }
    let beyond: i128 = overloads.iter().map(|(_, _, beyond)| beyond).sum();
    let terms: Vec<Vec<i128>> = model
        .objectives
        .iter()
        .map(|objective| objective.terms.iter().map(|term| worth(model, at, term, &used, beyond)).collect())
        .collect();
    Judgement {
        values: terms.iter().map(|terms| terms.iter().sum()).collect(),
        terms,
        rules: model.rules.iter().map(|rule| breaches(model, at, rule)).collect(),
        overloads,
        misplaced,
        moved,
        too_many_moved: model.most_moved.is_some_and(|most| moved > most),
    }
}

fn part(model: &Model, level: Level, bin: u32) -> usize {
    match level {
        Level::Bin => bin as usize,
        Level::Scope(scope) => model.scopes[scope as usize].part[bin as usize] as usize,
    }
}

/// How many items of a group are on each part that has any.
fn whereabouts(model: &Model, at: &[u32], group: u32, level: Level) -> BTreeMap<usize, i64> {
    let mut parts = BTreeMap::new();
    for item in &model.groups[group as usize].items {
        *parts.entry(part(model, level, at[*item as usize])).or_default() += 1;
    }
    parts
}

fn breaches(model: &Model, at: &[u32], rule: &Rule) -> i64 {
    let there = |group: u32, level: Level| whereabouts(model, at, group, level);
    match *rule {
        Rule::Conflict { group, level, most } => {
            there(group, level).values().map(|count| (count - i64::from(most)).max(0)).sum()
        }
        Rule::Spread { group, level, least } => {
            let empty = model.groups[group as usize].items.is_empty();
            if empty { 0 } else { (i64::from(least) - there(group, level).len() as i64).max(0) }
        }
        Rule::Dependency { group, needs, level } => {
            let needed: BTreeSet<usize> = there(needs, level).into_keys().collect();
            there(group, level).keys().filter(|part| !needed.contains(part)).count() as i64
        }
        Rule::CoLocation { group, level } => (there(group, level).len() as i64 - 1).max(0),
    }
}

fn worth(model: &Model, at: &[u32], term: &Term, used: &[Vec<i128>], beyond: i128) -> i128 {
    let bins = 0..model.bins.len();
    let capacity = |bin: usize, dimension: u32| i128::from(model.bins[bin].capacity[dimension as usize]);
    let moved = || model.items.iter().zip(at).enumerate().filter(|(_, (item, bin))| item.now != **bin);
    match term {
        Term::Overload { weight } => i128::from(*weight) * beyond,
        Term::Headroom { dimension, level, weight } => bins
            .map(|bin| (used[bin][*dimension as usize] - i128::from(level[bin])).max(0) * i128::from(*weight))
            .sum(),
        Term::Balance { free, wanted, ratio, weight } => bins
            .map(|bin| {
                let left = |dimension: u32| capacity(bin, dimension) - used[bin][dimension as usize];
                (i128::from(*ratio) * left(*free) - left(*wanted)).max(0) * i128::from(*weight)
            })
            .sum(),
        Term::Open { cost } => {
            let open: BTreeSet<u32> = at.iter().copied().collect();
            open.iter().map(|bin| i128::from(cost[*bin as usize])).sum()
        }
        Term::Pair { level, row, table } => at
            .iter()
            .zip(row)
            .map(|(bin, row)| i128::from(table[*row as usize][part(model, *level, *bin)]))
            .sum(),
        Term::Traffic { level, distance, flows } => flows
            .iter()
            .map(|flow| {
                let end = |item: u32| part(model, *level, at[item as usize]);
                i128::from(flow.volume) * i128::from(distance[end(flow.one)][end(flow.other)])
            })
            .sum(),
        Term::ItemMove { cost } => moved().map(|(item, _)| i128::from(cost[item])).sum(),
        Term::GroupMove { weight } => {
            let away = |item: &&u32| model.items[**item as usize].now != at[**item as usize];
            let of_group = model.groups.iter().map(|group| group.items.iter().filter(away).count());
            i128::from(*weight) * of_group.max().unwrap_or(0) as i128
        }
        Term::BinMove { level, cost, weight } => moved()
            .map(|(_, (item, bin))| {
                let (from, to) = (part(model, *level, item.now), part(model, *level, *bin));
                i128::from(*weight) * i128::from(cost[from][to])
            })
            .sum(),
        Term::Breach { rule, weight } => i128::from(*weight) * i128::from(breaches(model, at, rule)),
    }
}

/// What is wrong with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misstep {
    /// The item is not where the step says.
    Elsewhere(Step),
    /// The item may not be there.
    Misplaced(Step),
    /// The bin has no room for the item beside what is on it: dimension and how much is lacking.
    NoRoom(Step, usize, i128),
    /// A rule is broken more than before: its number.
    Rule(Step, usize),
}

/// Makes steps one after the other, each item using both bins while it goes; all that is wrong with them, and where the items are
/// in the end.
pub fn replay(model: &Model, steps: &[Step]) -> (Vec<Misstep>, Vec<u32>) {
    let mut at = model.now();
    let mut used = vec![vec![0i128; model.dimensions.len()]; model.bins.len()];
    for (item, bin) in model.items.iter().zip(&at) {
        for (sum, uses) in used[*bin as usize].iter_mut().zip(&item.uses) {
            *sum += i128::from(*uses);
        }
    }
    let mut rules_of: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); model.items.len()];
    for (number, rule) in model.rules.iter().enumerate() {
        let needs = if let Rule::Dependency { needs, .. } = rule { Some(*needs) } else { None };
        for group in [Some(rule.about().0), needs].into_iter().flatten() {
            for item in &model.groups[group as usize].items {
                rules_of[*item as usize].insert(number);
            }
        }
    }
    let mut missteps = Vec::new();
    for step in steps {
        let (number, to) = (step.item as usize, step.to as usize);
        let item = &model.items[number];
        if at[number] != step.from {
            missteps.push(Misstep::Elsewhere(*step));
        }
        if step.to != item.now && item.bins.as_ref().is_some_and(|bins| !bins.contains(&step.to)) {
            missteps.push(Misstep::Misplaced(*step));
        }
        let before: Vec<i64> =
            rules_of[number].iter().map(|rule| breaches(model, &at, &model.rules[*rule])).collect();
        for (dimension, uses) in item.uses.iter().enumerate() {
            used[to][dimension] += i128::from(*uses);
            let lacks = used[to][dimension] - i128::from(model.bins[to].capacity[dimension]);
            if *uses > 0 && lacks > 0 {
                missteps.push(Misstep::NoRoom(*step, dimension, lacks));
            }
            used[at[number] as usize][dimension] -= i128::from(*uses);
        }
        at[number] = step.to;
        for (rule, before) in rules_of[number].iter().zip(before) {
            if breaches(model, &at, &model.rules[*rule]) > before {
                missteps.push(Misstep::Rule(*step, *rule));
            }
        }
    }
    (missteps, at)
}
