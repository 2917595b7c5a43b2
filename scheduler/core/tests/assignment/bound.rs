//! The bound against every assignment of small problems, and where it is known how close it is.

use proptest::prelude::*;
use sterna_core::assignment::bound::{least, least_within};
use sterna_core::assignment::model::{
    Bin, Dimension, Flow, Group, Item, Level, Model, Objective, Rule, Scope, Term,
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

/// So much on the second bin, or on the first.
fn at_second(cost: i64, items: u32) -> Term {
    let row = vec![0; items as usize];
    Term::Pair { level: Level::Bin, row, table: vec![vec![0, cost]] }
}

fn group(items: &[u32]) -> Group {
    Group { name: format!("{items:?}"), items: items.to_vec() }
}

#[test]
fn an_item_opens_a_bin_however_small_it_is() {
    let mut model = pair(1, vec![Term::Open { cost: vec![100, 0] }, at_second(50, 1)]);
    model.items[0].uses = vec![1];
    assert_eq!(bound(&model), 50);
    // And so does one that stays.
    model.bins.push(Bin { name: "2".to_owned(), capacity: vec![10] });
    let table = vec![vec![0, 50, 50]];
    model.objectives[0].terms =
        vec![Term::Open { cost: vec![100, 0, 0] }, Term::Pair { level: Level::Bin, row: vec![0], table }];
    assert_eq!(bound(&model), 50);
}

#[test]
fn items_in_conflict_open_as_many_bins() {
    let mut model = pair(2, vec![Term::Open { cost: vec![30, 30] }]);
    model.items[1].now = 1;
    assert_eq!(bound(&model), 30);
    model.groups = vec![group(&[0, 1])];
    model.rules = vec![Rule::Conflict { group: 0, level: Level::Bin, most: 1 }];
    assert_eq!(bound(&model), 60);
}

#[test]
fn items_that_are_spread_are_not_all_where_they_cost_least() {
    let part = vec![0, 1];
    for rule in [
        Rule::Spread { group: 0, level: Level::Scope(0), least: 2 },
        Rule::Conflict { group: 0, level: Level::Scope(0), most: 1 },
    ] {
        let mut model = pair(2, vec![at_second(40, 2)]);
        model.scopes = vec![Scope { name: "site".to_owned(), part: part.clone() }];
        model.items[1].now = 1;
        model.groups = vec![group(&[0, 1])];
        assert_eq!(bound(&model), 0);
        model.rules = vec![rule];
        assert_eq!(bound(&model), 40);
    }
}

#[test]
fn items_follow_one_of_those_that_they_need() {
    let table = vec![vec![30, 0], vec![0, 20]];
    let mut model = pair(3, vec![Term::Pair { level: Level::Bin, row: vec![0, 1, 1], table }]);
    model.bins.iter_mut().for_each(|bin| bin.capacity = vec![20]);
    model.scopes = vec![Scope { name: "site".to_owned(), part: vec![0, 1] }];
    model.groups = vec![group(&[0]), group(&[1, 2])];
    assert_eq!(bound(&model), 0);
    model.rules = vec![Rule::Dependency { group: 0, needs: 1, level: Level::Scope(0) }];
    assert_eq!(bound(&model), 20);
}

#[test]
fn flows_in_a_circle_are_all_looked_at() {
    let flow = |one, other| Flow { one, other, volume: 1 };
    let model = pair(
        3,
        vec![
            // The first two stay apart, the third is with one of them only.
            Term::Pair {
                level: Level::Bin,
                row: vec![0, 1, 2],
                table: vec![vec![0, 99], vec![99, 0], vec![0, 0]],
            },
            Term::Traffic {
                level: Level::Bin,
                distance: vec![vec![0, 10], vec![10, 0]],
                flows: vec![flow(0, 1), flow(0, 2), flow(1, 2)],
            },
        ],
    );
    assert_eq!(bound(&model), 20);
}

#[test]
fn no_item_is_on_several_bins_that_are_too_small_for_it() {
    let table = vec![vec![50, 0, 0]];
    let mut model = pair(1, vec![Term::Pair { level: Level::Scope(0), row: vec![0], table }]);
    model.bins = [20, 10, 10]
        .iter()
        .zip(0..)
        .map(|(room, number): (&i64, u32)| Bin { name: number.to_string(), capacity: vec![*room] })
        .collect();
    model.scopes = vec![Scope { name: "site".to_owned(), part: vec![0, 1, 1] }];
    assert_eq!(bound(&model), 0);
    model.items[0].uses = vec![15];
    assert_eq!(bound(&model), 50);
}
