//! What can't hold together against every assignment, on problems small enough for that; and on large ones with known answers.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sterna_core::assignment::conflict::{Demand, Holding, Relaxation, cheapest, holding};
use sterna_core::assignment::exact::{Effort, Engine};
use sterna_core::assignment::model::{Bin, Dimension, Group, Item, Level, Model, Rule};
use sterna_core::checker::assignment::judge;

use crate::exact::{cases, effort, every};
use crate::models;

/// What an assignment breaks, and how often.
fn broken(model: &Model, at: &[u32]) -> BTreeMap<Demand, i64> {
    let judgement = judge(model, at);
    let mut broken = BTreeMap::new();
    for (rule, breaches) in judgement.rules.iter().enumerate().filter(|(_, breaches)| **breaches > 0) {
        broken.insert(Demand::Rule { rule: rule as u32 }, *breaches);
    }
    for (bin, dimension, _) in judgement.overloads {
        broken.insert(Demand::Capacity { bin: bin as u32, dimension: dimension as u32 }, 1);
    }
    for item in judgement.misplaced {
        broken.insert(Demand::List { item: item as u32 }, 1);
    }
    if judgement.too_many_moved {
        broken.insert(Demand::MostMoved, i64::from(judgement.moved - model.most_moved.unwrap()));
    }
    broken
}

/// What every assignment breaks, those among them that items' lists don't have.
fn all(model: &Model) -> Vec<BTreeMap<Demand, i64>> {
    let bins: Vec<u32> = (0..model.bins.len() as u32).collect();
    every(&vec![bins; model.items.len()]).iter().map(|at| broken(model, at)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(150)))]

    /// Everything holds if it can; if not, what is named can't be met, and without any one of it can.
    #[test]
    fn what_can_not_hold_is_named_and_no_more(model in models::small()) {
        let all = all(&model);
        let can = |demands: &BTreeSet<Demand>| {
            all.iter().any(|broken| demands.iter().all(|demand| !broken.contains_key(demand)))
        };
        match holding(&model, effort(Engine::built_in())).unwrap() {
            Holding::Possible(at) => prop_assert!(judge(&model, &at).holds()),
            Holding::Impossible { demands, minimal } => {
                prop_assert!(minimal);
                let demands: BTreeSet<Demand> = demands.into_iter().collect();
                prop_assert!(!can(&demands));
                for demand in &demands {
                    let mut fewer = demands.clone();
                    fewer.remove(demand);
                    prop_assert!(can(&fewer), "{demand} is not needed in {demands:?}");
                }
            }
            Holding::Unknown => prop_assert!(false, "time enough"),
        }
    }

    /// Nothing is cheaper to give up than what is found.
    #[test]
    fn nothing_is_cheaper_to_give_up(model in models::small(), weights in prop::collection::vec(0..5i64, 12)) {
        let weight = |demand: Demand| match demand {
            Demand::Rule { rule } => weights[rule as usize % 4],
            Demand::Capacity { bin, dimension } => weights[4 + (bin + dimension) as usize % 4],
            Demand::List { item } => weights[8 + item as usize % 3],
            Demand::MostMoved => weights[11],
        };
        let cost = |broken: &BTreeMap<Demand, i64>| {
            broken.iter().map(|(demand, times)| i128::from(weight(*demand)) * i128::from(*times)).sum::<i128>()
        };
        let found = cheapest(&model, &weight, effort(Engine::built_in())).unwrap();
        let given_up: BTreeMap<Demand, i64> = found.given_up.iter().copied().collect();
        prop_assert_eq!(&given_up, &broken(&model, &found.at));
        prop_assert_eq!(found.cost, cost(&given_up));
        prop_assert_eq!(Some(found.cost), all(&model).iter().map(cost).min());
        prop_assert!(found.proved());
    }
}

const ITEMS: u32 = 1000;
const BINS: u32 = 50;

/// A thousand items on fifty bins in two dimensions, each bin with room for a quarter more than its share.
fn large() -> Model {
    let uses = |item: u32| vec![i64::from(1 + item * 7919 % 13), i64::from(1 + item * 104_729 % 17)];
    let items: Vec<Item> = (0..ITEMS)
        .map(|item| Item { name: item.to_string(), uses: uses(item), now: item % BINS, bins: None })
        .collect();
    let sum = |at: usize| items.iter().map(|item| item.uses[at]).sum::<i64>();
    let room: Vec<i64> = (0..2).map(|at| sum(at) * 5 / 4 / i64::from(BINS)).collect();
    Model {
        dimensions: ["memory", "processors"]
            .map(|name| Dimension { name: name.to_owned(), transient: false })
            .to_vec(),
        bins: (0..BINS).map(|bin| Bin { name: bin.to_string(), capacity: room.clone() }).collect(),
        items,
        ..Model::default()
    }
}

fn group(model: &mut Model, items: impl IntoIterator<Item = u32>) -> u32 {
    model.groups.push(Group { name: String::new(), items: items.into_iter().collect() });
    model.groups.len() as u32 - 1
}

/// Demands that can't be met, and what is cheapest to give up.
fn explained(name: &str, model: &Model) -> (Vec<Demand>, Relaxation) {
    let effort = Effort { seconds: 1.0, ..effort(Engine::built_in()) };
    let start = std::time::Instant::now();
    let held = holding(model, effort).unwrap();
    let between = start.elapsed();
    let Holding::Impossible { demands, minimal } = held else { panic!("{name}: {held:?}") };
    assert!(minimal);
    let found = cheapest(model, &|_| 1, effort).unwrap();
    let took = start.elapsed() - between;
    println!(
        "{name}: {} demands in {between:?}; {} to {} in {took:?}",
        demands.len(),
        found.bound,
        found.cost
    );
    (demands, found)
}

#[test]
fn where_there_is_room_everything_is_mended() {
    let mut model = large();
    model.items.iter_mut().for_each(|item| item.now /= 2);
    let Holding::Possible(at) = holding(&model, effort(Engine::built_in())).unwrap() else { panic!() };
    assert!(judge(&model, &at).holds());
}

#[test]
fn too_little_memory_is_all_of_the_memory() {
    let mut model = large();
    model
        .bins
        .iter_mut()
        .for_each(|bin| bin.capacity = vec![bin.capacity[0] * 79 / 100, bin.capacity[1] * 2]);
    let all: Vec<Demand> = (0..BINS).map(|bin| Demand::Capacity { bin, dimension: 0 }).collect();
    let (demands, found) = explained("too little memory", &model);
    assert_eq!((demands, found.cost, found.bound), (all, 1, 1));
}

#[test]
fn too_many_on_two_bins_are_their_lists() {
    let mut model = large();
    for (item, it) in model.items.iter_mut().enumerate().filter(|(item, _)| item % 25 == 0) {
        it.bins = Some(vec![0, 1]);
        it.now = item as u32 / 25 % 2;
        it.uses[1] = 20;
    }
    // Forty that use 20 each, where two bins have 223 each: 23 are too many, and any one of them is one too many.
    assert_eq!(model.bins[0].capacity[1] / 20, 11);
    let (demands, found) = explained("two bins", &model);
    let lists = demands.iter().filter(|demand| matches!(demand, Demand::List { .. })).count();
    let capacities =
        demands.iter().filter(|demand| matches!(demand, Demand::Capacity { dimension: 1, .. })).count();
    assert_eq!((lists, capacities, demands.len()), (23, 2, 25));
    assert_eq!((found.cost, found.bound), (1, 1));
}

#[test]
fn rules_that_exclude_each_other_are_named() {
    let mut model = large();
    let one = group(&mut model, (0..60).map(|item| item * 3));
    model.rules.push(Rule::Conflict { group: one, level: Level::Bin, most: 1 });
    let other = group(&mut model, [5, 505, 705]);
    model.rules.push(Rule::Spread { group: other, level: Level::Bin, least: 2 });
    model.rules.push(Rule::CoLocation { group: other, level: Level::Bin });
    model.rules.remove(0);
    let rules = vec![Demand::Rule { rule: 0 }, Demand::Rule { rule: 1 }];
    let (demands, found) = explained("rules", &model);
    assert_eq!((demands, found.cost, found.bound), (rules, 1, 1));
}

#[test]
fn more_than_there_are_bins_can_not_keep_apart() {
    let mut model = large();
    let one = group(&mut model, (0..60).map(|item| item * 3));
    model.rules.push(Rule::Conflict { group: one, level: Level::Bin, most: 1 });
    let (demands, found) = explained("keep apart", &model);
    assert_eq!((demands, found.cost, found.bound), (vec![Demand::Rule { rule: 0 }], 10, 10));
}

#[test]
fn a_group_that_fits_nowhere_together_is_named() {
    let mut model = large();
    let one = group(&mut model, (0..60).map(|item| item * 3));
    model.rules.push(Rule::CoLocation { group: one, level: Level::Bin });
    let (demands, found) = explained("together", &model);
    // The rule, and on each bin one dimension.
    assert_eq!(demands.len(), 1 + BINS as usize);
    // Both capacities of one bin, or the rule twice.
    assert_eq!(found.cost, 2);
}
