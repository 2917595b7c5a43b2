//! The bound against every assignment of small problems, and where it is known how close it is.

use proptest::prelude::*;
use sterna_core::assignment::bound::{least, least_within};
use sterna_core::assignment::model::{
    Bin, Dimension, Flow, Group, Item, Level, Model, Objective, Rule, Term,
};
use sterna_core::checker::assignment::judge;

use crate::{models, no_worse};

fn cases() -> u32 {
    std::env::var("STERNA_BOUNDS").map_or(150, |cases| cases.parse().unwrap())
}

/// What each objective is worth at least, of all assignments that leave nothing worse.
fn all_tried(model: &Model) -> Vec<i128> {
    let before = judge(model, &model.now());
    let mut least = before.values.clone();
    let (items, bins) = (model.items.len(), model.bins.len());
    for number in 0..bins.pow(items as u32) {
        let at: Vec<u32> = (0..items).map(|item| (number / bins.pow(item as u32) % bins) as u32).collect();
        let after = judge(model, &at);
        if no_worse(model, &before, &after) {
            least.iter_mut().zip(after.values).for_each(|(least, value)| *least = value.min(*least));
        }
    }
    least
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// However much work it may take, no assignment that leaves nothing worse is worth less.
    #[test]
    fn nothing_is_worth_less_than_the_bound(
        model in models::model().prop_filter("few items", |model| model.items.len() <= 5),
    ) {
        let best = all_tried(&model);
        for (objective, best) in model.objectives.iter().zip(best) {
            for work in [0, 5_000, u64::MAX] {
                let bound = least_within(&model, objective, work);
                prop_assert!(bound <= best, "{bound} of {best} with {work}");
            }
        }
    }
}

/// One dimension, two bins with room for 10, items that use 5 each and are on the first.
fn pair(items: u32, terms: Vec<Term>) -> Model {
    let item = |number: u32| Item { name: number.to_string(), uses: vec![5], now: 0, bins: None };
    let bin = |number: u32| Bin { name: number.to_string(), capacity: vec![10] };
    Model {
        dimensions: vec![Dimension { name: "cpu".to_owned(), transient: false }],
        bins: (0..2).map(bin).collect(),
        items: (0..items).map(item).collect(),
        objectives: vec![Objective { name: "cost".to_owned(), terms, ..Objective::default() }],
        ..Model::default()
    }
}

fn bound(model: &Model) -> i128 {
    let bound = least(model, &model.objectives[0]);
    assert!(bound <= all_tried(model)[0]);
    bound
}

#[test]
fn where_a_bin_costs_what_an_item_would_save_nothing_is_saved() {
    // Either the one bin for 100, or the other for 0 where both items cost 50.
    let terms = vec![
        Term::Open { cost: vec![100, 0] },
        Term::Pair { level: Level::Bin, row: vec![0, 0], table: vec![vec![0, 50]] },
    ];
    assert_eq!(bound(&pair(2, terms)), 100);
}

#[test]
fn items_that_talk_are_not_apart_for_nothing() {
    let talk = |distance: i64| {
        vec![
            Term::Pair { level: Level::Bin, row: vec![0, 1], table: vec![vec![0, 30], vec![20, 0]] },
            Term::Traffic {
                level: Level::Bin,
                distance: vec![vec![0, distance], vec![distance, 0]],
                flows: vec![Flow { one: 0, other: 1, volume: 3 }, Flow { one: 1, other: 0, volume: 2 }],
            },
        ]
    };
    assert_eq!(bound(&pair(2, talk(3))), 15);
    assert_eq!(bound(&pair(2, talk(9))), 20);
}

#[test]
fn items_that_a_rule_keeps_together_are() {
    let terms =
        vec![Term::Pair { level: Level::Bin, row: vec![0, 1], table: vec![vec![0, 30], vec![20, 0]] }];
    let group = |item: u32| Group { name: item.to_string(), items: vec![item] };
    let mut model = pair(2, terms);
    assert_eq!(bound(&model), 0);
    model.groups = vec![group(0), group(1)];
    model.rules = vec![Rule::Dependency { group: 0, needs: 1, level: Level::Bin }];
    assert_eq!(bound(&model), 20);
    model.groups = vec![Group { name: "both".to_owned(), items: vec![0, 1] }];
    model.rules = vec![Rule::CoLocation { group: 0, level: Level::Bin }];
    assert_eq!(bound(&model), 20);
    // What is broken may stay broken.
    model.items[0].now = 1;
    assert_eq!(bound(&model), 0);
}

#[test]
fn what_leaves_takes_room_until_it_has_left() {
    // Two of three on the second bin could save 20 each, if the third made way at once.
    let terms =
        vec![Term::Pair { level: Level::Bin, row: vec![0, 0, 1], table: vec![vec![20, 0], vec![0, 0]] }];
    let mut model = pair(3, terms);
    model.items[2].now = 1;
    assert_eq!(bound(&model), 0);
    model.dimensions[0].transient = true;
    assert_eq!(bound(&model), 20);
}
