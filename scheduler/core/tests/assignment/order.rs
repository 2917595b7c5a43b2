//! Orders against a judge that replays them, and against trying everything.

use proptest::prelude::*;
use proptest::sample::Index;
use sterna_core::assignment::model::{Bin, Dimension, Item, Model};
use sterna_core::assignment::order::timetable::{Limits, Timed, least, timetable};
use sterna_core::assignment::order::{Allowed, Order, Step, order};
use sterna_core::checker::assignment::judge;

use crate::models;

/// Rules, seen by somebody who lets one item go after the other.
fn breaches(model: &Model, at: &[u32]) -> Vec<i64> {
    judge(model, at).rules
}

/// Whether an item can go: it uses both bins meanwhile, and no rule is worse after.
fn can_go(model: &Model, at: &[u32], item: usize, to: u32) -> bool {
    let allowed = &model.items[item];
    let own = to == allowed.now || allowed.bins.as_ref().is_none_or(|bins| bins.contains(&to));
    let room = (0..model.dimensions.len()).all(|dimension| {
        let used: i64 = (0..at.len())
            .filter(|other| at[*other] == to)
            .map(|other| model.items[other].uses[dimension])
            .sum();
        let uses = allowed.uses[dimension];
        uses == 0 || used + uses <= model.bins[to as usize].capacity[dimension]
    });
    let mut after = at.to_vec();
    after[item] = to;
    let kept =
        breaches(model, at).iter().zip(breaches(model, &after)).all(|(before, after)| after <= *before);
    own && room && kept
}

/// Replays an order; where the items are in the end.
fn replay(model: &Model, steps: &[Step]) -> Result<Vec<u32>, TestCaseError> {
    let mut at = model.now();
    for step in steps {
        prop_assert_eq!(at[step.item as usize], step.from);
        prop_assert!(can_go(model, &at, step.item as usize, step.to), "{step:?}");
        at[step.item as usize] = step.to;
    }
    Ok(at)
}

/// Whether there is an order in which each item goes once.
fn any_order(model: &Model, at: &mut Vec<u32>, target: &[u32]) -> bool {
    let left: Vec<usize> = (0..at.len()).filter(|item| at[*item] != target[*item]).collect();
    left.is_empty()
        || left.iter().any(|item| {
            if !can_go(model, at, *item, target[*item]) {
                return false;
            }
            let from = std::mem::replace(&mut at[*item], target[*item]);
            let found = any_order(model, at, target);
            at[*item] = from;
            found
        })
}

/// Whether at no instant too much is on a bin, each step counting at both of its ends, and limits hold.
fn replay_times(model: &Model, times: &[Timed], limits: Limits) -> Result<(), TestCaseError> {
    let mut instants: Vec<i64> = times.iter().map(|timed| timed.start).collect();
    instants.sort_unstable();
    instants.dedup();
    for instant in instants {
        let under_way: Vec<&Timed> =
            times.iter().filter(|timed| timed.start <= instant && instant < timed.end).collect();
        prop_assert!(under_way.len() <= limits.total as usize);
        let mut at = model.now();
        let mut over: Vec<&Timed> = times.iter().filter(|timed| timed.end <= instant).collect();
        over.sort_by_key(|timed| (timed.end, timed.start));
        for timed in over {
            at[timed.step.item as usize] = timed.step.to;
        }
        for (bin, it) in model.bins.iter().enumerate() {
            let busy = under_way
                .iter()
                .filter(|timed| timed.step.from as usize == bin || timed.step.to as usize == bin);
            prop_assert!(busy.count() <= limits.bin as usize);
            for dimension in 0..model.dimensions.len() {
                let sum = |at: &[u32]| -> i64 {
                    (0..at.len())
                        .filter(|item| at[*item] as usize == bin)
                        .map(|item| model.items[item].uses[dimension])
                        .sum()
                };
                let coming: i64 = under_way
                    .iter()
                    .filter(|timed| timed.step.to as usize == bin)
                    .map(|timed| model.items[timed.step.item as usize].uses[dimension])
                    .sum();
                let most = it.capacity[dimension].max(sum(&model.now()));
                prop_assert!(sum(&at) + coming <= most, "bin {bin} at {instant}");
            }
        }
    }
    Ok(())
}

fn length(step: &Step) -> i64 {
    i64::from(step.item % 3 + 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(std::env::var("STERNA_ORDERS").map_or(2000, |cases| cases.parse().unwrap())))]

    /// Every step can be made, all that is not said to be unreachable is reached, and where trying everything finds an order, so is
    /// all of it, without parking anything.
    #[test]
    fn every_step_can_be_made_and_what_can_be_reached_is(
        model in models::model(),
        targets in prop::collection::vec((any::<Index>(), any::<Index>()), 0..6),
    ) {
        let mut target = model.now();
        for (item, bin) in targets {
            target[item.index(model.items.len())] = bin.index(model.bins.len()) as u32;
        }
        let found = order(&model, &target, Allowed::default()).unwrap();
        let end = replay(&model, &found.steps)?;
        for item in 0..target.len() {
            let missed = found.unreachable.contains(&(item as u32, target[item]));
            prop_assert_eq!(end[item], if missed { model.items[item].now } else { target[item] });
        }
        if any_order(&model, &mut model.now(), &target) {
            prop_assert_eq!(&found.unreachable, &[]);
            prop_assert!(found.steps.iter().all(|step| !step.parks));
        }
        let limits = Limits { total: 3, bin: 2 };
        let times = timetable(&model, &found.steps, limits, length).unwrap();
        prop_assert_eq!(times.len(), found.steps.len());
        replay_times(&model, &times, limits)?;
        let last = times.iter().map(|timed| timed.end).max().unwrap_or(0);
        prop_assert!(last >= least(&found.steps, limits, length));
    }
}

/// Bins with so much room, and items as `(uses, now)`.
fn plain(room: &[i64], items: &[(i64, u32)]) -> Model {
    let bin = |(number, room): (usize, &i64)| Bin { name: number.to_string(), capacity: vec![*room] };
    let item = |(number, (uses, now)): (usize, &(i64, u32))| Item {
        name: number.to_string(),
        uses: vec![*uses],
        now: *now,
        bins: None,
    };
    Model {
        dimensions: vec![Dimension { name: "memory".to_owned(), transient: false }],
        bins: room.iter().enumerate().map(bin).collect(),
        items: items.iter().enumerate().map(item).collect(),
        ..Model::default()
    }
}

fn told(order: &Order) -> Vec<String> {
    let told = |step: &Step| {
        format!("{}: {}>{}{}", step.item, step.from, step.to, if step.parks { " parks" } else { "" })
    };
    order.steps.iter().map(told).collect()
}

#[test]
fn two_that_want_each_others_place_go_by_a_third() {
    let model = plain(&[4, 4, 2], &[(4, 0), (2, 1), (2, 1)]);
    let found = order(&model, &[1, 0, 0], Allowed { cost: &[9, 1, 1], ..Allowed::default() }).unwrap();
    // 0 fits nowhere else, and one of the others alone does not make room for it.
    assert_eq!(found.unreachable, [(0, 1), (1, 0), (2, 0)]);
    let model = plain(&[4, 4, 4], &[(4, 0), (4, 1)]);
    let found = order(&model, &[1, 0], Allowed { cost: &[9, 1], ..Allowed::default() }).unwrap();
    assert_eq!(told(&found), ["1: 1>2 parks", "0: 0>1", "1: 2>0"]);
    let strict = order(&model, &[1, 0], Allowed { parking: false, ..Allowed::default() }).unwrap();
    assert_eq!(strict.unreachable, [(0, 1), (1, 0)]);
    assert_eq!(strict.steps, []);
}

#[test]
fn what_goes_first_can_shut_the_way() {
    // 0 could go to 1 at once, and then nothing else could.
    let model = plain(&[9, 10, 3], &[(5, 0), (3, 2), (3, 1), (2, 1)]);
    let found = order(&model, &[1, 1, 2, 1], Allowed { parking: false, ..Allowed::default() }).unwrap();
    assert_eq!(found.unreachable, []);
    assert_eq!(told(&found), ["1: 2>1", "2: 1>2", "0: 0>1"]);
}
