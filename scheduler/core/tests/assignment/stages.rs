//! Objectives one after the other, against every assignment.

use proptest::prelude::*;
use sterna_core::assignment::exact::Engine;
use sterna_core::assignment::model::{Model, Tolerance};
use sterna_core::assignment::problem::Problem;
use sterna_core::assignment::search::repair::repair;
use sterna_core::assignment::stages::{Means, Stage, Staged, minimise};
use sterna_core::assignment::state::State;
use sterna_core::checker::assignment::{Judgement, judge};

use crate::exact::{cases, effort, judged, options};
use crate::{models, no_worse, wide};

/// A model whose objectives tolerate something.
fn tolerant() -> impl Strategy<Value = Model> {
    let tolerance = prop_oneof![
        Just(Tolerance::Sum(0)),
        (0..20i64).prop_map(Tolerance::Sum),
        (0..100_000_000i64).prop_map(Tolerance::Share),
    ];
    (models::small(), prop::collection::vec(tolerance, 2)).prop_map(|(mut model, tolerances)| {
        for (objective, tolerance) in model.objectives.iter_mut().zip(tolerances) {
            objective.tolerance = tolerance;
        }
        model
    })
}

fn means(largest: usize) -> Means {
    Means {
        effort: effort(Engine::built_in()),
        largest,
        small: largest,
        searches: 2,
        proposals: 20_000,
        bounding: 1 << 20,
    }
}

/// Where it begins: what is broken is repaired.
fn start(model: &Model, problem: &Problem) -> Vec<u32> {
    let mut state = State::new(problem, &model.now());
    repair(&mut state, &[]);
    state.at().to_vec()
}

fn all(model: &Model, start: &[u32]) -> Vec<Judgement> {
    let bins: Vec<u32> = (0..model.bins.len() as u32).collect();
    judged(model, start, &options(model, start, |_| true, &bins))
}

/// What the judge says of an answer agrees with what it says of itself, and each objective keeps to what it came to.
fn honest(model: &Model, start: &[u32], staged: &Staged) -> Result<(), TestCaseError> {
    let after = judge(model, &staged.at);
    prop_assert!(no_worse(model, &judge(model, start), &after));
    prop_assert_eq!(&wide(&staged.values), &after.values);
    for ((stage, objective), value) in staged.stages.iter().zip(&model.objectives).zip(&staged.values) {
        prop_assert!(*value <= objective.tolerance.worst(stage.value));
        prop_assert!(stage.bound <= stage.value.into());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(100), ..ProptestConfig::default() })]

    /// Exactly: each objective is the least of all that are as good by those before it.
    #[test]
    fn each_objective_is_the_least_of_what_is_as_good(model in tolerant()) {
        let problem = Problem::new(&model).unwrap();
        let staged = minimise(&model, &problem, means(usize::MAX)).unwrap();
        let start = start(&model, &problem);
        honest(&model, &start, &staged)?;
        let mut left = all(&model, &start);
        for (number, stage) in staged.stages.iter().enumerate() {
            let least = left.iter().map(|judgement| judgement.values[number]).min().unwrap();
            prop_assert_eq!(i128::from(stage.value), least);
            prop_assert!(stage.proved() && !stage.searched);
            let worst = model.objectives[number].tolerance.worst(stage.value);
            left.retain(|judgement| judgement.values[number] <= worst.into());
        }
        let values = wide(&staged.values);
        prop_assert!(left.iter().any(|judgement| judgement.values == values));
    }

    /// By search: nothing better than possible is claimed, and what was reached first is kept.
    #[test]
    fn the_search_keeps_to_what_it_reached(model in tolerant()) {
        let problem = Problem::new(&model).unwrap();
        let staged = minimise(&model, &problem, means(0)).unwrap();
        let start = start(&model, &problem);
        honest(&model, &start, &staged)?;
        let least = all(&model, &start).iter().map(|judgement| judgement.values[0]).min().unwrap();
        prop_assert!(staged.stages[0].bound <= least && least <= staged.stages[0].value.into());
        prop_assert!(staged.stages.iter().all(|stage| stage.program.is_none() && (stage.searched || stage.proved())));
        prop_assert_eq!(minimise(&model, &problem, means(0)).unwrap(), staged);
    }

    /// Items that have no choice need no solver.
    #[test]
    fn nothing_to_choose_is_nothing_to_solve(mut model in models::small()) {
        for item in &mut model.items {
            item.bins = Some(Vec::new());
        }
        let problem = Problem::new(&model).unwrap();
        let staged = minimise(&model, &problem, means(usize::MAX)).unwrap();
        prop_assert_eq!(staged.at, model.now());
        let untouched = |stage: &Stage| stage.proved() && stage.program.is_none() && !stage.searched;
        prop_assert!(staged.stages.iter().all(untouched));
        prop_assert_eq!(staged.stages.len(), model.objectives.len());
    }
}
