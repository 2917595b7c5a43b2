//! Small random problems with every kind of rule and term.

use std::ops::Range;

use proptest::prelude::*;
use proptest::sample::Index;
use sterna_core::assignment::model::{
    Bin, Dimension, Flow, Group, Item, Level, Model, Objective, Rule, Scope, Term,
};

const DIMENSIONS: usize = 2;
const SCOPES: usize = 2;
/// Costs of so much are made nothing, and lower ones pay.
const FREE: i64 = 2;

/// Whether a rule counts an item on both of its sides.
pub fn tangled(model: &Model, item: usize) -> bool {
    let soft = model.objectives.iter().flat_map(|objective| &objective.terms).filter_map(|term| match term {
        Term::Breach { rule, .. } => Some(rule),
        _ => None,
    });
    model.rules.iter().chain(soft).any(|rule| match rule {
        Rule::Dependency { group, needs, .. } => {
            let has = |group: &u32| model.groups[*group as usize].items.contains(&(item as u32));
            group != needs && has(group) && has(needs)
        }
        _ => false,
    })
}

fn level() -> impl Strategy<Value = Level> {
    (0..=SCOPES as u32).prop_map(|at| if at == 0 { Level::Bin } else { Level::Scope(at - 1) })
}

fn rule(groups: u32) -> impl Strategy<Value = Rule> {
    (0..4u8, 0..groups, 0..groups, level(), 1..4u32).prop_map(
        |(kind, group, needs, level, number)| match kind {
            0 => Rule::Conflict { group, level, most: number },
            1 => Rule::Spread { group, level, least: number },
            2 => Rule::Dependency { group, needs, level },
            _ => Rule::CoLocation { group, level },
        },
    )
}

/// The model.
pub fn model() -> impl Strategy<Value = Model> {
    sized(2..6, 1..14)
}

/// One small enough to look at every assignment.
pub fn small() -> impl Strategy<Value = Model> {
    prop_oneof![sized(2..4, 1..7), sized(4..6, 1..5)]
}

fn sized(bins: Range<usize>, items: Range<usize>) -> impl Strategy<Value = Model> {
    (bins, items, 1..5usize).prop_flat_map(|(bins, items, groups)| {
        let bin = prop::collection::vec(0..40i64, DIMENSIONS);
        let item = (
            prop::collection::vec(0..12i64, DIMENSIONS),
            0..bins as u32,
            prop::option::weighted(0.2, prop::collection::vec(0..bins as u32, 0..bins)),
        );
        let group = prop::collection::vec(any::<Index>(), 0..=items.min(10));
        (
            prop::collection::vec(any::<bool>(), DIMENSIONS),
            prop::collection::vec(prop::collection::vec(0..bins.min(3) as u32, bins), SCOPES),
            prop::collection::vec(bin, bins),
            prop::collection::vec(item, items),
            prop::collection::vec(group, groups),
            prop::collection::vec(rule(groups as u32), 0..6),
            prop::collection::vec(prop::collection::vec(term(bins, items, groups as u32), 1..6), 1..3),
            prop::option::weighted(0.2, 0..items as u32),
        )
            .prop_map(|(transient, scopes, bins, items, groups, rules, objectives, most_moved)| {
                let count = items.len();
                let mut model = Model {
                    dimensions: named(transient, |name, transient| Dimension { name, transient }),
                    scopes: named(scopes, |name, part| Scope { name, part }),
                    bins: named(bins, |name, capacity| Bin { name, capacity }),
                    items: named(items, |name, (uses, now, bins)| Item { name, uses, now, bins }),
                    groups: named(groups, |name, items: Vec<Index>| {
                        let mut items: Vec<u32> = items.iter().map(|item| item.index(count) as u32).collect();
                        items.sort_unstable();
                        items.dedup();
                        Group { name, items }
                    }),
                    rules,
                    objectives: Vec::new(),
                    most_moved,
                };
                model.objectives = named(objectives, |name, terms: Vec<Made>| {
                    let terms = terms.into_iter().map(|made| made.term(&model)).collect();
                    Objective { name, terms, ..Objective::default() }
                });
                model
            })
    })
}

fn named<T, U>(all: Vec<T>, make: impl Fn(String, T) -> U) -> Vec<U> {
    all.into_iter().enumerate().map(|(number, one)| make(number.to_string(), one)).collect()
}

/// What a term is made from: numbers enough for any kind.
#[derive(Debug, Clone)]
struct Made {
    kind: u8,
    level: Level,
    weight: i64,
    dimensions: (u32, u32),
    bins: Vec<i64>,
    items: Vec<i64>,
    square: Vec<i64>,
    flows: Vec<(Index, Index, i64)>,
    rule: Rule,
}

fn term(bins: usize, items: usize, groups: u32) -> impl Strategy<Value = Made> {
    (
        (0..10u8, level(), 0..5i64, (0..DIMENSIONS as u32, 0..DIMENSIONS as u32)),
        prop::collection::vec(0..30i64, bins),
        prop::collection::vec(0..9i64, items),
        prop::collection::vec(0..9i64, bins * bins),
        prop::collection::vec((any::<Index>(), any::<Index>(), 0..5i64), 0..6),
        rule(groups),
    )
        .prop_map(|((kind, level, weight, dimensions), bins, items, square, flows, rule)| Made {
            kind,
            level,
            weight,
            dimensions,
            bins,
            items,
            square,
            flows,
            rule,
        })
}

impl Made {
    fn term(self, model: &Model) -> Term {
        let (parts, count) = (model.parts(self.level), model.items.len());
        let at = |row: usize, column: usize| {
            self.square[(row * model.bins.len() + column) % self.square.len()] - FREE
        };
        let rows = |rows: usize| -> Vec<Vec<i64>> {
            (0..rows).map(|row| (0..parts).map(|column| at(row, column)).collect()).collect()
        };
        match self.kind {
            0 => Term::Overload { weight: self.weight },
            1 => Term::Headroom { dimension: self.dimensions.0, level: self.bins, weight: self.weight },
            2 => Term::Balance {
                free: self.dimensions.0,
                wanted: self.dimensions.1,
                ratio: self.weight,
                weight: self.weight,
            },
            3 => Term::Open { cost: self.bins.iter().map(|cost| cost - FREE).collect() },
            4 => Term::Pair {
                level: self.level,
                row: self.items.iter().map(|row| (*row % 3) as u32).collect(),
                table: rows(3),
            },
            5 => Term::Traffic {
                level: self.level,
                distance: (0..parts)
                    .map(|row| (0..parts).map(|column| at(row.min(column), row.max(column))).collect())
                    .collect(),
                flows: self
                    .flows
                    .iter()
                    .map(|(one, other, volume)| (one.index(count) as u32, other.index(count) as u32, *volume))
                    .filter(|(one, other, _)| one != other)
                    .map(|(one, other, volume)| Flow { one, other, volume })
                    .collect(),
            },
            6 => Term::ItemMove { cost: self.items.iter().map(|cost| cost - FREE).collect() },
            7 => Term::GroupMove { weight: self.weight },
            8 => Term::BinMove { level: self.level, cost: rows(parts), weight: self.weight },
            _ => Term::Breach { rule: self.rule, weight: self.weight },
        }
    }
}
