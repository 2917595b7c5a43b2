//! What has to hold, and what of it does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::assignment::exact::rules::Limits;
use crate::assignment::model::{Bin, Dimension, Item, Model, Objective, Rule, Term};
use crate::checker::assignment::Judgement;

/// Something that has to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Demand {
    /// A rule.
    Rule {
        /// Its number.
        rule: u32,
    },
    /// A bin's capacity.
    Capacity {
        /// In which dimension.
        dimension: u32,
        /// The bin.
        bin: u32,
    },
    /// An item's own list of bins.
    List {
        /// The item.
        item: u32,
    },
    /// How many items may be elsewhere than now.
    MostMoved,
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { rule } => write!(f, "rule {rule}"),
            Self::Capacity { bin, dimension } => {
                write!(f, "the capacity of bin {bin} in dimension {dimension}")
            }
            Self::List { item } => write!(f, "the bins of item {item}"),
            Self::MostMoved => f.write_str("how many items may move"),
        }
    }
}

/// Some of a model's demands, laid out.
#[derive(Debug)]
pub(super) struct Active {
    /// For each bin and dimension.
    pub(super) capacity: Vec<bool>,
    pub(super) rules: Vec<bool>,
    pub(super) lists: Vec<bool>,
    pub(super) most_moved: bool,
    /// Items that a rule is about.
    pub(super) ruled: Vec<bool>,
}

impl Active {
    pub(super) fn new(model: &Model, demands: &BTreeSet<Demand>) -> Self {
        let mut active = Self {
            capacity: vec![false; model.bins.len() * model.dimensions.len()],
            rules: vec![false; model.rules.len()],
            lists: vec![false; model.items.len()],
            most_moved: false,
            ruled: vec![false; model.items.len()],
        };
        for demand in demands {
            match *demand {
                Demand::Capacity { bin, dimension } => {
                    active.capacity[bin as usize * model.dimensions.len() + dimension as usize] = true;
                }
                Demand::Rule { rule } => {
                    active.rules[rule as usize] = true;
                    for group in about(&model.rules[rule as usize]) {
                        for item in &model.groups[group as usize].items {
                            active.ruled[*item as usize] = true;
                        }
                    }
                }
                Demand::List { item } => active.lists[item as usize] = true,
                Demand::MostMoved => active.most_moved = true,
            }
        }
        active
    }

    /// Whether an item may be on a bin.
    pub(super) fn allows(&self, model: &Model, item: usize, bin: u32) -> bool {
        let it = &model.items[item];
        !self.lists[item] || bin == it.now || it.bins.as_ref().is_none_or(|bins| bins.contains(&bin))
    }

    /// Whether no demand looks at an item on a bin, beside rules: it uses nothing there that it does not use anyway.
    pub(super) fn overlooks(&self, model: &Model, item: usize, bin: u32) -> bool {
        let it = &model.items[item];
        let capacity = &self.capacity[bin as usize * model.dimensions.len()..][..model.dimensions.len()];
        let unseen = |(at, uses): (usize, &i64)| {
            *uses == 0 || !capacity[at] || (bin == it.now && model.dimensions[at].transient)
        };
        (bin == it.now || !self.most_moved) && it.uses.iter().enumerate().all(unseen)
    }

    /// Whether a rule or its own list says something of an item.
    pub(super) fn names(&self, item: usize) -> bool {
        self.ruled[item] || self.lists[item]
    }

    /// What has to hold of capacities, rules and moves.
    pub(super) fn limits(&self, model: &Model) -> Limits {
        let mut limits = Limits::all(model);
        let drop = |active: &bool| !active;
        limits
            .capacity
            .iter_mut()
            .zip(&self.capacity)
            .filter(|(_, on)| drop(on))
            .for_each(|(room, _)| *room = None);
        limits
            .breaches
            .iter_mut()
            .zip(&self.rules)
            .filter(|(_, on)| drop(on))
            .for_each(|(most, _)| *most = None);
        limits.moved = limits.moved.filter(|_| self.most_moved);
        limits
    }

    /// The model with these demands alone; the others are what is minimised.
    pub(super) fn model(&self, model: &Model) -> Model {
        let dimensions = model.dimensions.len();
        let used = |at: usize| model.items.iter().map(|item| item.uses[at]).sum::<i64>();
        let used: Vec<i64> = (0..dimensions).map(used).collect();
        let bin = |(number, bin): (usize, &Bin)| {
            let room = bin.capacity.iter().enumerate().map(|(at, room)| {
                if self.capacity[number * dimensions + at] { *room } else { (*room).max(used[at]) }
            });
            Bin { name: String::new(), capacity: room.collect() }
        };
        let item = |(number, item): (usize, &Item)| Item {
            name: String::new(),
            bins: item.bins.clone().filter(|_| self.lists[number]),
            uses: item.uses.clone(),
            now: item.now,
        };
        let level = |at: usize| model.bins.iter().map(|bin| bin.capacity[at]).collect();
        let mut terms: Vec<Term> = (0..dimensions)
            .map(|at| Term::Headroom { dimension: at as u32, level: level(at), weight: 1 })
            .collect();
        let sorted = |on: bool| model.rules.iter().zip(&self.rules).filter(move |(_, is)| **is == on);
        terms.extend(sorted(false).map(|(rule, _)| Term::Breach { rule: rule.clone(), weight: 1 }));
        Model {
            dimensions: model.dimensions.iter().map(Dimension::clone).collect(),
            scopes: model.scopes.clone(),
            bins: model.bins.iter().enumerate().map(bin).collect(),
            items: model.items.iter().enumerate().map(item).collect(),
            groups: model.groups.clone(),
            rules: sorted(true).map(|(rule, _)| rule.clone()).collect(),
            objectives: vec![Objective { terms, ..Objective::default() }],
            most_moved: model.most_moved.filter(|_| self.most_moved),
        }
    }
}

/// The groups that a rule is about.
pub(super) fn about(rule: &Rule) -> impl Iterator<Item = u32> {
    let needs = if let Rule::Dependency { needs, .. } = rule { Some(*needs) } else { None };
    [Some(rule.about().0), needs].into_iter().flatten()
}

/// What does not hold, and how often: each breach of a rule, each bin without room in a dimension, each item off its list, each
/// item too many that moved.
pub(super) fn broken(model: &Model, judgement: &Judgement) -> BTreeMap<Demand, i64> {
    let rules = judgement.rules.iter().enumerate().filter(|(_, breaches)| **breaches > 0);
    let mut broken: BTreeMap<Demand, i64> =
        rules.map(|(rule, breaches)| (Demand::Rule { rule: rule as u32 }, *breaches)).collect();
    broken.extend(
        judgement.overloads.iter().map(|(bin, dimension, _)| {
            (Demand::Capacity { bin: *bin as u32, dimension: *dimension as u32 }, 1)
        }),
    );
    broken.extend(judgement.misplaced.iter().map(|item| (Demand::List { item: *item as u32 }, 1)));
    if let Some(most) = model.most_moved.filter(|_| judgement.too_many_moved) {
        broken.insert(Demand::MostMoved, i64::from(judgement.moved) - i64::from(most));
    }
    broken
}
