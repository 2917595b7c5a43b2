//! Answers against the judge, who is shown what would be if the item went.

use proptest::prelude::*;
use proptest::sample::Index;
use sterna_core::assignment::explain::{Answer, Blocker, Difference, Why};
use sterna_core::assignment::model::{
    Bin, Dimension, Flow, Group, Item, Level, Model, Objective, Rule, Scope, Term,
};
use sterna_core::assignment::problem::Problem;
use sterna_core::assignment::search::{best, budget::Proposals};
use sterna_core::assignment::state::State;
use sterna_core::checker::assignment::{Judgement, judge};

use crate::{lacks, models, no_worse};

fn cases() -> u32 {
    std::env::var("STERNA_EXPLANATIONS").map_or(300, |cases| cases.parse().unwrap())
}

/// What the judge says that changes, term by term.
fn judged(before: &Judgement, after: &Judgement) -> Vec<Vec<i128>> {
    let terms = before.terms.iter().zip(&after.terms);
    terms
        .map(|(before, after)| after.iter().zip(before).map(|(after, before)| after - before).collect())
        .collect()
}

fn said(differences: &[Difference]) -> Vec<Vec<i128>> {
    differences.iter().map(|one| one.terms.iter().map(|(_, difference)| *difference).collect()).collect()
}

fn sums(differences: &[Vec<i128>]) -> Vec<i128> {
    differences.iter().map(|terms| terms.iter().sum()).collect()
}

fn with(at: &[u32], changes: &[(usize, u32)]) -> Vec<u32> {
    let mut at = at.to_vec();
    for (item, to) in changes {
        at[*item] = *to;
    }
    at
}

/// All that the judge finds worse, as an answer says it: rules, dimensions of the bin, the list, the number of moves.
fn found(
    model: &Model,
    (item, to): (usize, u32),
    before: &Judgement,
    after: &Judgement,
) -> Vec<(u8, u32, i128)> {
    let mut found = Vec::new();
    if after.misplaced.contains(&item) {
        found.push((0, 0, 0));
    }
    let now = lacks(model, after);
    for (at, (was, is)) in lacks(model, before).iter().zip(&now).enumerate() {
        if is > was {
            assert_eq!(at / model.dimensions.len(), to as usize, "only where it goes there can be less room");
            found.push((1, (at % model.dimensions.len()) as u32, *is));
        }
    }
    for (rule, (was, is)) in before.rules.iter().zip(&after.rules).enumerate() {
        if is > was {
            found.push((2, rule as u32, i128::from(is - was)));
        }
    }
    if after.too_many_moved && after.moved > before.moved {
        found.push((3, 0, i128::from(after.moved)));
    }
    found
}

fn named(blocker: &Blocker) -> (u8, u32, i128) {
    match blocker {
        Blocker::List => (0, 0, 0),
        Blocker::Room { dimension, lacks } => (1, dimension.number, i128::from(*lacks)),
        Blocker::Rule { rule, more } => (2, rule.number, i128::from(*more)),
        Blocker::MostMoved { needed, .. } => (3, 0, i128::from(*needed)),
    }
}

/// The model without some of what blocks.
fn without(model: &Model, (item, to): (usize, u32), blockers: &[Blocker]) -> Model {
    let mut model = model.clone();
    let mut rules = Vec::new();
    for blocker in blockers {
        match blocker {
            Blocker::List => model.items[item].bins.as_mut().unwrap().push(to),
            Blocker::Room { dimension, lacks } => {
                model.bins[to as usize].capacity[dimension.number as usize] += lacks;
            }
            Blocker::Rule { rule, .. } => rules.push(rule.number as usize),
            Blocker::MostMoved { needed, .. } => model.most_moved = Some(*needed),
        }
    }
    let mut number = 0..;
    model.rules.retain(|_| !rules.contains(&number.next().unwrap()));
    model
}

fn possible(model: &Model, at: &[u32], changes: &[(usize, u32)]) -> Option<i64> {
    let problem = Problem::new(model).unwrap();
    State::new(&problem, at).attempt(changes)
}

/// Whether an answer says exactly what the judge finds.
fn agrees(model: &Model, at: &[u32], (item, to): (usize, u32), answer: &Answer) -> Result<(), TestCaseError> {
    let there = with(at, &[(item, to)]);
    let (before, after) = (judge(model, at), judge(model, &there));
    let blockers: Vec<_> = answer.blockers.iter().map(named).collect();
    prop_assert_eq!(&blockers, &found(model, (item, to), &before, &after));
    prop_assert_eq!(answer.allowed(), no_worse(model, &before, &after));
    prop_assert_eq!(answer.allowed(), possible(model, at, &[(item, to)]).is_some());
    if !answer.blockers.iter().any(|blocker| matches!(blocker, Blocker::Room { .. })) {
        prop_assert_eq!(said(&answer.differences), judged(&before, &after));
    }
    for one in &answer.differences {
        prop_assert_eq!(one.sum, one.terms.iter().map(|(_, difference)| difference).sum::<i128>());
    }
    // Without what blocks, it goes, and costs what was said.
    let free = without(model, (item, to), &answer.blockers);
    prop_assert_eq!(said(&answer.differences), judged(&judge(&free, at), &judge(&free, &there)));
    let first = possible(&free, at, &[(item, to)]).map(i128::from);
    prop_assert_eq!(first, Some(answer.differences[0].sum));
    // With any of it, it does not.
    for left in 0..answer.blockers.len() {
        let mut others = answer.blockers.clone();
        let left = others.remove(left);
        let not_free = without(model, (item, to), &others);
        prop_assert_eq!(possible(&not_free, at, &[(item, to)]), None);
        if let Blocker::Room { lacks, .. } | Blocker::Rule { more: lacks, .. } = &left {
            prop_assert!(*lacks > 0);
        }
        // Almost enough room is not enough.
        if let Blocker::Room { dimension, lacks } = left {
            others.push(Blocker::Room { dimension, lacks: lacks - 1 });
            prop_assert_eq!(possible(&without(model, (item, to), &others), at, &[(item, to)]), None);
        }
    }
    way_agrees(model, at, (item, to), answer)
}

/// Whether the way is what one other item can do most cheaply.
fn way_agrees(
    model: &Model,
    at: &[u32],
    (item, to): (usize, u32),
    answer: &Answer,
) -> Result<(), TestCaseError> {
    if answer.allowed() {
        prop_assert_eq!(&answer.way, &None);
        return Ok(());
    }
    let before = judge(model, at);
    let mut least: Option<Vec<i128>> = None;
    for other in (0..at.len()).filter(|other| *other != item) {
        for away in (0..model.bins.len() as u32).filter(|away| *away != at[other]) {
            let after = judge(model, &with(at, &[(item, to), (other, away)]));
            let sums = sums(&judged(&before, &after));
            if no_worse(model, &before, &after) && least.as_ref().is_none_or(|least| sums < *least) {
                least = Some(sums);
            }
        }
    }
    prop_assert!(answer.tried_all);
    let Some(way) = &answer.way else {
        prop_assert_eq!(least, None);
        return Ok(());
    };
    let other = way.other.number as usize;
    let after = judge(model, &with(at, &[(item, to), (other, way.to.number)]));
    prop_assert!(no_worse(model, &before, &after));
    prop_assert_eq!(said(&way.differences), judged(&before, &after));
    prop_assert_eq!(Some(sums(&said(&way.differences))), least);
    prop_assert_eq!(way.from.number, at[other]);
    prop_assert_eq!(way.exchange, at[other] == to && way.to.number == at[item]);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// Wherever the items are, every answer says what the judge finds if the item is forced there.
    #[test]
    fn an_answer_is_what_forcing_the_move_shows(
        model in models::model(),
        steps in prop::collection::vec((any::<Index>(), any::<Index>()), 0..12),
        asked in prop::collection::vec((any::<Index>(), any::<Index>()), 1..5),
    ) {
        let problem = Problem::new(&model).unwrap();
        let mut state = State::new(&problem, &problem.now);
        for (item, bin) in steps {
            let (item, to) = (item.index(problem.items()), bin.index(problem.bins()));
            if problem.allows(item, to) {
                state.go(item, to as u32);
            }
        }
        let why = Why::new(&model, &state);
        for (item, bin) in asked {
            let (item, to) = (item.index(problem.items()), bin.index(problem.bins()) as u32);
            let answer = why.not(item as u32, to).unwrap();
            agrees(&model, state.at(), (item, to), &answer)?;
            let text = serde_json::to_string(&answer).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Answer>(&text).unwrap(), &answer);
        }
    }

    /// What a search moved would not come back for nothing, unless something keeps it, and the judge says the same.
    #[test]
    fn what_was_moved_is_answered_for(model in models::model(), seed in any::<u64>()) {
        let problem = Problem::new(&model).unwrap();
        let found = best(&problem, 1, seed, &Proposals(5_000), &|_| {});
        let state = State::new(&problem, &found.at);
        let why = Why::new(&model, &state);
        for (item, it) in model.items.iter().enumerate() {
            match why.moved(item as u32).unwrap() {
                None => prop_assert_eq!(found.at[item], it.now),
                Some(answer) => {
                    prop_assert!(answer.back && answer.from.number != it.now);
                    agrees(&model, &found.at, (item, it.now), &answer)?;
                }
            }
        }
    }
}

fn owned(name: &str) -> String {
    name.to_owned()
}

/// Two sites with two nodes each; everything that can keep an item from going does so somewhere.
fn example() -> Model {
    let bin = |name: &str, capacity: [i64; 2]| Bin { name: owned(name), capacity: capacity.to_vec() };
    let item = |name: &str, uses: [i64; 2], now: u32, bins: Option<Vec<u32>>| Item {
        name: owned(name),
        uses: uses.to_vec(),
        now,
        bins,
    };
    let site = Level::Scope(0);
    Model {
        dimensions: vec![
            Dimension { name: owned("cpu"), transient: false },
            Dimension { name: owned("memory"), transient: true },
        ],
        scopes: vec![Scope { name: owned("site"), part: vec![0, 0, 1, 1] }],
        bins: vec![
            bin("edge-1", [4, 10]),
            bin("edge-2", [4, 10]),
            bin("cloud-1", [16, 64]),
            bin("cloud-2", [16, 64]),
        ],
        items: vec![
            item("web-1", [3, 4], 0, None),
            item("web-2", [3, 4], 2, None),
            item("cache", [2, 6], 1, None),
            item("db", [8, 32], 2, Some(vec![3])),
        ],
        groups: vec![
            Group { name: owned("web"), items: vec![0, 1] },
            Group { name: owned("cache"), items: vec![2] },
        ],
        rules: vec![
            Rule::Spread { group: 0, level: site, least: 2 },
            Rule::Conflict { group: 0, level: site, most: 1 },
            Rule::Dependency { group: 1, needs: 0, level: site },
        ],
        objectives: vec![
            Objective {
                name: owned("cost"),
                terms: vec![
                    Term::Open { cost: vec![5, 5, 9, 9] },
                    Term::Pair { level: site, row: vec![0, 0, 0, 0], table: vec![vec![2, 7]] },
                    Term::Traffic {
                        level: site,
                        distance: vec![vec![0, 3], vec![3, 0]],
                        flows: vec![
                            Flow { one: 0, other: 2, volume: 4 },
                            Flow { one: 1, other: 3, volume: 2 },
                        ],
                    },
                ],
                ..Objective::default()
            },
            Objective {
                name: owned("moves"),
                terms: vec![
                    Term::ItemMove { cost: vec![1, 1, 2, 8] },
                    Term::Headroom { dimension: 0, level: vec![3, 3, 12, 12], weight: 1 },
                ],
                ..Objective::default()
            },
        ],
        most_moved: Some(2),
    }
}

fn answer(at: &[u32], item: u32, to: u32) -> String {
    let model = example();
    let problem = Problem::new(&model).unwrap();
    let state = State::new(&problem, at);
    Why::new(&model, &state).not(item, to).unwrap().to_string()
}

#[test]
fn what_can_go_says_what_it_changes() {
    insta::assert_snapshot!(answer(&[0, 2, 1, 2], 3, 3));
}

#[test]
fn what_is_kept_says_by_what_and_who_could_make_way() {
    let texts = [
        answer(&[0, 2, 1, 2], 0, 1),
        answer(&[0, 2, 1, 2], 0, 3),
        answer(&[0, 2, 1, 2], 3, 0),
        answer(&[0, 3, 2, 2], 3, 3),
        answer(&[0, 3, 1, 2], 1, 2),
        answer(&[0, 2, 2, 3], 0, 3),
        answer(&[0, 2, 1, 2], 2, 2),
        answer(&[0, 2, 1, 2], 2, 1),
    ];
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn what_is_not_there_is_not_answered_for() {
    let model = example();
    let problem = Problem::new(&model).unwrap();
    let state = State::new(&problem, &problem.now);
    let why = Why::new(&model, &state);
    assert_eq!(why.not(4, 0).unwrap_err().to_string(), "there is no item 4");
    assert_eq!(why.not(0, 4).unwrap_err().to_string(), "there is no bin 4");
    assert_eq!(why.moved(9).unwrap_err().to_string(), "there is no item 9");
    assert_eq!(why.moved(0), Ok(None));
}
