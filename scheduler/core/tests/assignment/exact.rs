//! The exact engine against every assignment, on problems small enough for that.

use proptest::prelude::*;
use proptest::sample::Index;
use sterna_core::assignment::exact::{Answer, Effort, Engine, Part, SolveError, solve};
use sterna_core::assignment::model::{Bin, Dimension, Item, Level, Model, Objective, Term};
use sterna_core::assignment::problem::Problem;
use sterna_core::assignment::state::State;
use sterna_core::checker::assignment::{Judgement, judge};

use crate::{models, no_worse, wide};

/// How many cases; more by the environment variable `STERNA_EXACT`.
pub fn cases(few: u32) -> u32 {
    std::env::var("STERNA_EXACT").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

pub fn effort(engine: Engine) -> Effort {
    Effort { engine, seed: 1, work: u64::MAX, seconds: 60.0 }
}

/// Every assignment in which each item is on one of its bins.
pub fn every(options: &[Vec<u32>]) -> Vec<Vec<u32>> {
    options.iter().fold(vec![Vec::new()], |all, bins| {
        all.iter().flat_map(|at| bins.iter().map(|bin| [&at[..], &[*bin]].concat())).collect()
    })
}

/// The bins that each item may be on: where it stands, and if it is free, those of its own list and where it is now.
pub fn options(model: &Model, at: &[u32], free: impl Fn(u32) -> bool, bins: &[u32]) -> Vec<Vec<u32>> {
    let of = |(number, item): (usize, &Item)| {
        let may = |bin: &u32| {
            *bin == at[number]
                || (free(number as u32)
                    && bins.contains(bin)
                    && (*bin == item.now || item.bins.as_ref().is_none_or(|bins| bins.contains(bin))))
        };
        (0..model.bins.len() as u32).filter(may).collect()
    };
    model.items.iter().enumerate().map(of).collect()
}

/// What is no worse than an assignment, of those that are possible.
pub fn judged(model: &Model, at: &[u32], options: &[Vec<u32>]) -> Vec<Judgement> {
    let before = judge(model, at);
    let all = every(options).into_iter().map(|at| judge(model, &at));
    all.filter(|after| no_worse(model, &before, after)).collect()
}

/// A state of a problem after some changes, whatever they break.
fn changed<'p>(problem: &'p Problem, steps: &[(Index, Index)]) -> State<'p> {
    let mut state = State::new(problem, &problem.now);
    for (item, bin) in steps {
        state.go(item.index(problem.items()), bin.index(problem.bins()) as u32);
    }
    state
}

/// The answer is the best of all, or says that it is not sure; it is that of the judge, and its bound is none too high.
fn right(model: &Model, state: &State<'_>, all: &[Judgement], answer: &Answer) -> Result<(), TestCaseError> {
    let least = all.iter().map(|judgement| judgement.values[state.objective]).min().unwrap();
    prop_assert!(answer.proved);
    prop_assert_eq!(answer.bound, Some(least));
    let before = judge(model, state.at());
    prop_assert_eq!(answer.better.is_some(), least < before.values[state.objective]);
    if let Some(better) = &answer.better {
        let after = judge(model, &better.at);
        prop_assert!(no_worse(model, &before, &after));
        prop_assert_eq!(&wide(&better.values), &after.values);
        prop_assert_eq!(after.values[state.objective], least);
    }
    Ok(())
}

fn any_steps() -> impl Strategy<Value = Vec<(Index, Index)>> {
    prop::collection::vec((any::<Index>(), any::<Index>()), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(150)))]

    /// The whole problem.
    #[test]
    fn nothing_is_better_than_what_is_proved(model in models::small(), steps in any_steps()) {
        let problem = Problem::new(&model).unwrap();
        let mut state = changed(&problem, &steps);
        state.objective = model.objectives.len() - 1;
        let bins: Vec<u32> = (0..model.bins.len() as u32).collect();
        let all = judged(&model, state.at(), &options(&model, state.at(), |_| true, &bins));
        right(&model, &state, &all, &solve(&model, &state, Part::Whole, effort(Engine::built_in())).unwrap())?;
    }

    /// The other solver.
    #[test]
    fn microlp_proves_the_same(model in models::small(), steps in any_steps()) {
        let problem = Problem::new(&model).unwrap();
        let state = changed(&problem, &steps);
        let bins: Vec<u32> = (0..model.bins.len() as u32).collect();
        let all = judged(&model, state.at(), &options(&model, state.at(), |_| true, &bins));
        match solve(&model, &state, Part::Whole, effort(Engine::Microlp)) {
            Ok(answer) => right(&model, &state, &all, &answer)?,
            Err(error) => {
                let too_large = matches!(error, SolveError::TooLarge { .. });
                prop_assert!(too_large);
            }
        }
    }

    /// A part of it.
    #[test]
    fn nothing_in_a_part_is_better_than_what_is_proved(
        model in models::small(),
        steps in any_steps(),
        items in prop::collection::vec(any::<Index>(), 0..5),
        bins in prop::collection::vec(any::<Index>(), 0..4),
    ) {
        let problem = Problem::new(&model).unwrap();
        let state = changed(&problem, &steps);
        let items: Vec<u32> = items.iter().map(|item| item.index(problem.items()) as u32).collect();
        let bins: Vec<u32> = bins.iter().map(|bin| bin.index(problem.bins()) as u32).collect();
        let all = judged(&model, state.at(), &options(&model, state.at(), |item| items.contains(&item), &bins));
        let part = Part::Of { items: &items, bins: &bins };
        right(&model, &state, &all, &solve(&model, &state, part, effort(Engine::built_in())).unwrap())?;
    }

    /// Time that runs out costs the proof, not the truth.
    #[test]
    fn without_time_nothing_false_is_said(model in models::model(), steps in any_steps()) {
        let problem = Problem::new(&model).unwrap();
        let state = changed(&problem, &steps);
        let hasty = Effort { seconds: 0.0, ..effort(Engine::built_in()) };
        let answer = solve(&model, &state, Part::Whole, hasty).unwrap();
        let patient = solve(&model, &state, Part::Whole, effort(Engine::built_in())).unwrap();
        prop_assert!(patient.proved);
        let least = patient.better.map_or(state.value(), |better| better.values[0]);
        prop_assert!(answer.better.is_none_or(|better| better.values[0] >= least));
        prop_assert!(answer.bound.is_none_or(|bound| bound <= i128::from(least)));
    }
}

/// Items of odd sizes on bins that are nearly full: a root alone proves nothing.
fn hard() -> Model {
    let (items, bins) = (36u32, 9u32);
    let cost =
        |row: u32| (0..bins).map(|bin| i64::from((row * 37 + bin * 61 + row * bin * 13) % 101)).collect();
    Model {
        dimensions: vec![Dimension { name: "size".to_owned(), transient: false }],
        bins: (0..bins)
            .map(|bin| Bin { name: bin.to_string(), capacity: vec![61 + i64::from(bin % 3) * 4] })
            .collect(),
        items: (0..items)
            .map(|item| Item {
                name: item.to_string(),
                uses: vec![9 + i64::from(item * 7 % 11)],
                now: item % bins,
                bins: None,
            })
            .collect(),
        objectives: vec![Objective {
            terms: vec![Term::Pair {
                level: Level::Bin,
                row: (0..items).collect(),
                table: (0..items).map(cost).collect(),
            }],
            ..Objective::default()
        }],
        ..Model::default()
    }
}

/// What ends little work is that it is done, and not the time: the same each time.
#[test]
fn work_ends_where_it_is_done() {
    let model = hard();
    let problem = Problem::new(&model).unwrap();
    let state = State::new(&problem, &problem.now);
    let of = |work: u64| {
        let effort = Effort { work, ..effort(Engine::built_in()) };
        solve(&model, &state, Part::Whole, effort).unwrap()
    };
    let little = of(1);
    assert!(!little.proved && !little.out_of_time);
    assert_eq!(little, of(1));
    let all = of(u64::MAX);
    assert!(all.proved && !all.out_of_time);
    let least = all.bound.unwrap();
    assert!(little.bound.is_none_or(|bound| bound <= least));
    assert!(little.better.is_none_or(|better| i128::from(better.values[0]) >= least));
}

/// Without time that is what is said.
#[test]
fn time_that_runs_out_is_told() {
    let model = hard();
    let problem = Problem::new(&model).unwrap();
    let state = State::new(&problem, &problem.now);
    let hasty = Effort { seconds: 0.0, ..effort(Engine::built_in()) };
    assert!(solve(&model, &state, Part::Whole, hasty).unwrap().out_of_time);
}
