//! Repair against the judge.

use proptest::prelude::*;
use sterna_core::assignment::model::{Bin, Dimension, Group, Item, Level, Model, Rule};
use sterna_core::assignment::problem::Problem;
use sterna_core::assignment::search::repair::{repair, retreat};
use sterna_core::assignment::state::State;
use sterna_core::checker::assignment::judge;

use crate::{broken, models, no_worse};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Nothing becomes worse, and what says that it is whole is.
    #[test]
    fn a_repair_breaks_nothing_else(model in models::model()) {
        let problem = Problem::new(&model).unwrap();
        let mut state = State::new(&problem, &problem.now);
        let whole = repair(&mut state, &[]);
        let (before, after) = (judge(&model, &model.now()), judge(&model, state.at()));
        prop_assert!(no_worse(&model, &before, &after));
        prop_assert_eq!(whole, broken(&after) == 0);
        if broken(&before) == 0 {
            prop_assert_eq!(after.moved, 0);
        }
    }

    /// Where there is a bin with room for everything, nothing stays without room.
    #[test]
    fn with_room_enough_all_fit(
        room in prop::collection::vec(0..20i64, 1..6),
        items in prop::collection::vec((0..9i64, any::<prop::sample::Index>()), 1..30),
    ) {
        let mut bins: Vec<Bin> = room.iter().map(|room| bin(*room)).collect();
        bins.push(bin(1000));
        let items = items.iter().map(|(uses, now)| item(*uses, now.index(bins.len()) as u32)).collect();
        let model = Model { dimensions: vec![memory()], bins, items, ..Model::default() };
        let model = Model { objectives: vec![Default::default()], ..model };
        let problem = Problem::new(&model).unwrap();
        let mut state = State::new(&problem, &problem.now);
        prop_assert!(repair(&mut state, &[]));
        prop_assert!(judge(&model, state.at()).holds());
    }

    /// However overloaded bins have become, going back makes everything fit that fits now.
    #[test]
    fn a_retreat_ends_where_everything_fits(
        bins in 2..6usize,
        items in prop::collection::vec((0..9i64, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..30),
        transient in any::<bool>(),
    ) {
        let made: Vec<Item> = items.iter().map(|(uses, now, _)| item(*uses, now.index(bins) as u32)).collect();
        let full = |at: usize| made.iter().filter(|item| item.now as usize == at).map(|item| item.uses[0]).sum();
        let bins: Vec<Bin> = (0..bins).map(|at| bin(full(at))).collect();
        let at: Vec<u32> = items.iter().map(|(_, _, to)| to.index(bins.len()) as u32).collect();
        let dimensions = vec![Dimension { transient, ..memory() }];
        let model = Model { dimensions, bins, items: made, objectives: vec![Default::default()], ..Model::default() };
        let problem = Problem::new(&model).unwrap();
        let mut state = State::new(&problem, &at);
        prop_assert!(retreat(&mut state));
        prop_assert!(judge(&model, state.at()).holds());
    }
}

fn memory() -> Dimension {
    Dimension { name: "memory".to_owned(), transient: false }
}

fn bin(room: i64) -> Bin {
    Bin { name: "bin".to_owned(), capacity: vec![room] }
}

fn item(uses: i64, now: u32) -> Item {
    Item { name: "item".to_owned(), uses: vec![uses], now, bins: None }
}

fn repaired(model: Model, cost: &[i64]) -> (bool, Vec<u32>) {
    let model = Model { dimensions: vec![memory()], objectives: vec![Default::default()], ..model };
    let problem = Problem::new(&model).unwrap();
    let mut state = State::new(&problem, &problem.now);
    let whole = repair(&mut state, cost);
    (whole, state.at().to_vec())
}

#[test]
fn the_cheapest_that_suffices_alone_goes() {
    let model = Model {
        bins: vec![bin(10), bin(9)],
        items: vec![item(2, 0), item(4, 0), item(4, 0), item(3, 0)],
        ..Model::default()
    };
    // 13 of 10: 0 does not suffice, 3 is the smallest that does, and 1 is cheaper than that.
    assert_eq!(repaired(model.clone(), &[1, 1, 1, 1]), (true, vec![0, 0, 0, 1]));
    assert_eq!(repaired(model, &[1, 1, 5, 5]), (true, vec![0, 1, 0, 0]));
}

#[test]
fn another_makes_way_where_nobody_has_room() {
    let bins = vec![bin(4), bin(6), bin(3)];
    let items = vec![item(5, 0), item(3, 1)];
    assert_eq!(repaired(Model { bins, items, ..Model::default() }, &[]), (true, vec![1, 2]));
}

#[test]
fn what_stands_against_a_rule_goes() {
    let model = Model {
        bins: vec![bin(9), bin(9)],
        items: vec![item(1, 0), item(1, 0)],
        groups: vec![Group { name: "pair".to_owned(), items: vec![0, 1] }],
        rules: vec![Rule::Conflict { group: 0, level: Level::Bin, most: 1 }],
        ..Model::default()
    };
    assert_eq!(repaired(model, &[]), (true, vec![1, 0]));
}
