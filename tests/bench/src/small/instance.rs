//! Random problems with every kind of rule and term.

use fastrand::Rng;
use sterna_core::assignment::model::{
    Bin, Dimension, Flow, Group, Item, Level, Model, Objective, Rule, Scope, Term,
};

const DIMENSIONS: usize = 2;
const SCOPES: usize = 2;
const GROUPS: usize = 4;

/// The problem of a seed.
pub fn instance(seed: u64) -> Model {
    let random = &mut Rng::with_seed(seed);
    let (bins, items) = (random.usize(3..=6), random.usize(6..=14));
    let mut model = Model {
        dimensions: (0..DIMENSIONS)
            .map(|at| Dimension { name: format!("dimension {at}"), transient: random.u8(..4) == 0 })
            .collect(),
        scopes: (0..SCOPES)
            .map(|at| Scope { name: format!("scope {at}"), part: many(bins, || random.u32(..3)) })
            .collect(),
        ..Model::default()
    };
    model.items = (0..items)
        .map(|number| Item {
            name: format!("item {number}"),
            uses: many(DIMENSIONS, || random.i64(1..20)),
            now: random.u32(..bins as u32),
            bins: None,
        })
        .collect();
    for item in &mut model.items {
        if random.u8(..5) == 0 {
            item.bins = Some((0..bins as u32).filter(|_| random.bool()).collect());
        }
    }
    // Room for a tenth more than all items use, to twice as much.
    let loose = random.i64(11..=20);
    let used = |at: usize| model.items.iter().map(|item| item.uses[at]).sum::<i64>();
    let shares: Vec<i64> = (0..DIMENSIONS).map(|at| used(at) * loose / 10 / bins as i64).collect();
    model.bins = (0..bins)
        .map(|number| Bin {
            name: format!("bin {number}"),
            capacity: shares.iter().map(|share| share * random.i64(8..=12) / 10 + 4).collect(),
        })
        .collect();
    model.groups = (0..GROUPS)
        .map(|number| Group {
            name: format!("group {number}"),
            items: (0..items as u32).filter(|_| random.u8(..3) == 0).collect(),
        })
        .collect();
    model.rules = many(random.usize(..4), || rule(random));
    if random.u8(..4) == 0 {
        model.most_moved = Some(random.u32(1..items as u32));
    }
    let kinds = 10;
    let first = random.usize(..kinds);
    let terms = (0..random.usize(1..=6)).map(|at| term(&model, (first + at * 3) % kinds, random)).collect();
    model.objectives = vec![Objective { name: "cost".to_owned(), terms, ..Objective::default() }];
    model
}

fn many<T>(count: usize, make: impl FnMut() -> T) -> Vec<T> {
    std::iter::repeat_with(make).take(count).collect()
}

fn level(random: &mut Rng) -> Level {
    match random.usize(..=SCOPES) {
        0 => Level::Bin,
        at => Level::Scope(at as u32 - 1),
    }
}

fn rule(random: &mut Rng) -> Rule {
    let (group, level) = (random.u32(..GROUPS as u32), level(random));
    match random.u8(..4) {
        0 => Rule::Conflict { group, level, most: random.u32(1..4) },
        1 => Rule::Spread { group, level, least: random.u32(1..4) },
        2 => Rule::Dependency { group, needs: random.u32(..GROUPS as u32), level },
        _ => Rule::CoLocation { group, level },
    }
}

/// A term of a kind.
fn term(model: &Model, kind: usize, random: &mut Rng) -> Term {
    let (bins, items) = (model.bins.len(), model.items.len());
    let level = level(random);
    let parts = model.parts(level);
    let weight = random.i64(1..10);
    match kind {
        0 => Term::Overload { weight },
        1 => {
            let dimension = random.u32(..DIMENSIONS as u32);
            let half = |bin: &Bin| bin.capacity[dimension as usize] / 2;
            Term::Headroom { dimension, level: model.bins.iter().map(half).collect(), weight }
        }
        2 => Term::Balance { free: 0, wanted: 1, ratio: random.i64(1..3), weight },
        3 => Term::Open { cost: many(bins, || random.i64(-10..200)) },
        4 => Term::Pair {
            level,
            row: many(items, || random.u32(..5)),
            table: many(5, || many(parts, || random.i64(-5..30))),
        },
        5 => {
            let far: Vec<i64> = many(parts * parts, || random.i64(1..10));
            let apart = |from: usize, to: usize| {
                if from == to { 0 } else { far[from.min(to) * parts + from.max(to)] }
            };
            let distance = (0..parts).map(|from| (0..parts).map(|to| apart(from, to)).collect()).collect();
            let flows = many(items, || Flow {
                one: random.u32(..items as u32),
                other: random.u32(..items as u32),
                volume: random.i64(1..6),
            });
            Term::Traffic {
                level,
                distance,
                flows: flows.into_iter().filter(|flow| flow.one != flow.other).collect(),
            }
        }
        6 => Term::ItemMove { cost: many(items, || random.i64(0..20)) },
        7 => Term::GroupMove { weight },
        8 => Term::BinMove { level, cost: many(parts, || many(parts, || random.i64(0..10))), weight },
        _ => Term::Breach { rule: rule(random), weight },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sterna_core::assignment::problem::Problem;

    #[test]
    fn every_problem_is_valid_and_the_same_again() {
        for seed in 0..500 {
            let model = instance(seed);
            assert_eq!(model, instance(seed));
            Problem::new(&model).unwrap();
        }
    }

    #[test]
    fn there_is_every_kind_of_rule_and_term() {
        let models: Vec<Model> = (0..100).map(instance).collect();
        let kind = |text: String| text.split([' ', '{']).next().unwrap_or_default().to_owned();
        let rules: std::collections::BTreeSet<String> =
            models.iter().flat_map(|model| &model.rules).map(|rule| kind(format!("{rule:?}"))).collect();
        let terms: std::collections::BTreeSet<String> = models
            .iter()
            .flat_map(|model| &model.objectives[0].terms)
            .map(|term| kind(format!("{term:?}")))
            .collect();
        assert_eq!((rules.len(), terms.len()), (4, 10));
        assert!(models.iter().any(|model| model.most_moved.is_some()));
        assert!(models.iter().flat_map(|model| &model.items).any(|item| item.bins.is_some()));
    }
}
