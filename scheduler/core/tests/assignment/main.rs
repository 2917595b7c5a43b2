//! The search's counting against the judge's, on small random problems.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "all of it is test code")]

use proptest::prelude::*;
use sterna_core::assignment::bound::least;
use sterna_core::assignment::model::Model;
use sterna_core::assignment::problem::Problem;
use sterna_core::assignment::search::{best, budget::Proposals};
use sterna_core::assignment::state::State;
use sterna_core::checker::assignment::{Judgement, judge};

mod bound;
mod conflict;
mod exact;
mod explain;
mod models;
mod order;
mod repair;
mod stages;

/// What the judge says, as the state says it.
fn wide(values: &[i64]) -> Vec<i128> {
    values.iter().map(|value| i128::from(*value)).collect()
}

/// How much each bin lacks in each dimension.
fn lacks(model: &Model, judgement: &Judgement) -> Vec<i128> {
    let mut lacks = vec![0; model.bins.len() * model.dimensions.len()];
    for (bin, dimension, beyond) in &judgement.overloads {
        lacks[bin * model.dimensions.len() + dimension] = *beyond;
    }
    lacks
}

/// Whether nothing that holds is broken by going from one assignment to another, and nothing that is broken more so.
fn no_worse(model: &Model, before: &Judgement, after: &Judgement) -> bool {
    before.rules.iter().zip(&after.rules).all(|(before, after)| after <= before)
        && lacks(model, before).iter().zip(lacks(model, after)).all(|(before, after)| after <= *before)
        && after.misplaced.iter().all(|item| before.misplaced.contains(item))
        && (!after.too_many_moved || after.moved <= before.moved)
}

fn broken(judgement: &Judgement) -> i64 {
    judgement.rules.iter().sum::<i64>() + judgement.overloads.len() as i64
}

/// Compares a state with the judge and with a fresh one.
fn same(model: &Model, problem: &Problem, state: &State<'_>) -> Result<(), TestCaseError> {
    let judgement = judge(model, state.at());
    prop_assert_eq!(&wide(state.values()), &judgement.values);
    let fresh = State::new(problem, state.at());
    prop_assert_eq!(state.values(), fresh.values());
    prop_assert_eq!(state.moved(), judgement.moved);
    prop_assert_eq!(state.moved(), fresh.moved());
    let expected = broken(&judgement);
    prop_assert_eq!(state.broken(), expected);
    prop_assert_eq!(fresh.broken(), expected);
    for bin in 0..problem.bins() {
        prop_assert_eq!(state.slack(bin), fresh.slack(bin));
        prop_assert_eq!(state.used(bin), fresh.used(bin));
        let mut on = state.on(bin).to_vec();
        on.sort_unstable();
        prop_assert_eq!(&on, fresh.on(bin));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is changed one by one, everything is counted as if it had been counted from the start.
    #[test]
    fn what_is_counted_step_by_step_is_what_the_judge_counts(
        model in models::model(),
        steps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..40),
    ) {
        let problem = Problem::new(&model).unwrap();
        let mut state = State::new(&problem, &problem.now);
        same(&model, &problem, &state)?;
        for (item, bin) in steps {
            let (item, to) = (item.index(problem.items()), bin.index(problem.bins()) as u32);
            state.go(item, to);
            same(&model, &problem, &state)?;
        }
    }

    /// A move is allowed if and only if the judge finds nothing worse after it, and changes what it says that it changes.
    #[test]
    fn a_shift_is_judged_before_as_after(
        model in models::model(),
        steps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..40),
    ) {
        let problem = Problem::new(&model).unwrap();
        let mut state = State::new(&problem, &problem.now);
        for (item, bin) in steps {
            let (item, to) = (item.index(problem.items()), bin.index(problem.bins()) as u32);
            if state.at()[item] == to {
                prop_assert_eq!(state.shift(item, to), None);
                continue;
            }
            let before = judge(&model, state.at());
            let mut moved = state.at().to_vec();
            moved[item] = to;
            let after = judge(&model, &moved);
            let said = state.shift(item, to);
            let mut tried = state.clone();
            let attempted = tried.attempt(&[(item, to)]);
            if no_worse(&model, &before, &after) {
                let more = after.values.iter().zip(&before.values).map(|(after, before)| after - before).next().unwrap();
                prop_assert_eq!(attempted.map(i128::from), Some(more));
                prop_assert_eq!(tried.at(), &moved[..]);
                if !models::tangled(&model, item) {
                    prop_assert_eq!(said.map(i128::from), Some(more));
                }
                state.go(item, to);
            } else {
                prop_assert_eq!(attempted, None);
                prop_assert_eq!(said, None);
                same(&model, &problem, &tried)?;
                prop_assert_eq!(tried.at(), state.at());
            }
        }
    }

    /// The same for two that change places; those that a rule has to do with both are left to attempts.
    #[test]
    fn a_swap_is_judged_before_as_after(
        model in models::model(),
        steps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..40),
    ) {
        let problem = Problem::new(&model).unwrap();
        let mut state = State::new(&problem, &problem.now);
        for (one, other) in steps {
            let (one, other) = (one.index(problem.items()), other.index(problem.items()));
            let (here, there) = (state.at()[one], state.at()[other]);
            if here == there {
                prop_assert_eq!(state.swap(one, other, i64::MAX), None);
                continue;
            }
            let before = judge(&model, state.at());
            let mut moved = state.at().to_vec();
            (moved[one], moved[other]) = (there, here);
            let after = judge(&model, &moved);
            let said = state.swap(one, other, i64::MAX);
            let mut tried = state.clone();
            let attempted = tried.attempt(&[(one, there), (other, here)]);
            if no_worse(&model, &before, &after) {
                let more = after.values.iter().zip(&before.values).map(|(after, before)| after - before).next().unwrap();
                prop_assert_eq!(attempted.map(i128::from), Some(more));
                let apart = !state.entangled(one, other) && !models::tangled(&model, one) && !models::tangled(&model, other);
                if apart {
                    prop_assert_eq!(said.map(i128::from), Some(more));
                }
                state = tried;
            } else {
                prop_assert_eq!(attempted, None);
                prop_assert_eq!(said, None);
                prop_assert_eq!(tried.at(), state.at());
            }
        }
    }

    /// The same for one that goes where another makes way.
    #[test]
    fn a_chain_is_judged_before_as_after(
        model in models::model(),
        steps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..40),
    ) {
        let problem = Problem::new(&model).unwrap();
        let mut state = State::new(&problem, &problem.now);
        for (one, other, to) in steps {
            let (one, other) = (one.index(problem.items()), other.index(problem.items()));
            let to = to.index(problem.bins()) as u32;
            let (here, there) = (state.at()[one], state.at()[other]);
            let said = state.chain(one, other, to, i64::MAX);
            if here == there || there == to {
                prop_assert_eq!(said, None);
                continue;
            }
            let before = judge(&model, state.at());
            let mut moved = state.at().to_vec();
            (moved[one], moved[other]) = (there, to);
            let after = judge(&model, &moved);
            let apart = !state.entangled(one, other) && !models::tangled(&model, one) && !models::tangled(&model, other);
            if !no_worse(&model, &before, &after) {
                prop_assert_eq!(said, None);
            } else if apart {
                prop_assert_eq!(said.map(i128::from), Some(after.values[0] - before.values[0]));
                prop_assert_eq!(state.chain(one, other, to, said.unwrap_or(0) - 1), None);
                state.go(other, to);
                state.go(one, there);
            }
        }
    }

    /// At a price bins may carry too much, and what a change says counts the price in.
    #[test]
    fn a_relaxed_change_counts_what_is_beyond_capacity(
        model in models::model(),
        prices in prop::collection::vec(0..9u8, 2),
        steps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..40),
    ) {
        let problem = Problem::new(&model).unwrap();
        let mut state = State::new(&problem, &problem.now);
        state.relax(&prices.iter().map(|price| f64::from(*price)).collect::<Vec<_>>());
        let priced = |judgement: &Judgement| {
            let beyond = judgement.overloads.iter().map(|(_, at, beyond)| i128::from(prices[*at]) * beyond).sum::<i128>();
            judgement.values[0] + beyond
        };
        let but_capacity = |before: &Judgement, after: &Judgement| {
            no_worse(&model, &Judgement { overloads: Vec::new(), ..before.clone() }, &Judgement { overloads: Vec::new(), ..after.clone() })
        };
        for (one, other) in steps {
            let (item, to) = (one.index(problem.items()), other.index(problem.bins()) as u32);
            let partner = other.index(problem.items());
            let before = judge(&model, state.at());
            let (here, there) = (state.at()[item], state.at()[partner]);
            let mut moved = state.at().to_vec();
            (moved[item], moved[partner]) = (there, here);
            let after = judge(&model, &moved);
            let apart = !state.entangled(item, partner) && !models::tangled(&model, item) && !models::tangled(&model, partner);
            if here != there && apart {
                let more = but_capacity(&before, &after).then(|| priced(&after) - priced(&before));
                prop_assert_eq!(state.swap(item, partner, i64::MAX).map(i128::from), more);
            }
            let mut moved = state.at().to_vec();
            moved[item] = to;
            let after = judge(&model, &moved);
            if here != to && !models::tangled(&model, item) {
                let more = but_capacity(&before, &after).then(|| priced(&after) - priced(&before));
                prop_assert_eq!(state.shift(item, to).map(i128::from), more);
                if more.is_some() {
                    state.go(item, to);
                    same(&model, &problem, &state)?;
                }
            }
        }
        state.relax(&[]);
        same(&model, &problem, &state)?;
    }

    /// Nothing that makes nothing worse is worth less than the bound, and what is found by the search is not either.
    #[test]
    fn no_assignment_is_worth_less_than_the_bound(
        model in models::model(),
        steps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..40),
    ) {
        let problem = Problem::new(&model).unwrap();
        let mut state = State::new(&problem, &problem.now);
        let bounds: Vec<i128> = model.objectives.iter().map(|objective| least(&model, objective)).collect();
        for (item, bin) in steps {
            let judgement = judge(&model, state.at());
            prop_assert!(judgement.values.iter().zip(&bounds).all(|(value, bound)| value >= bound));
            let (item, to) = (item.index(problem.items()), bin.index(problem.bins()) as u32);
            if state.at()[item] != to {
                state.attempt(&[(item, to)]);
            }
        }
        let found = best(&problem, 1, 1, &Proposals(20_000), &|_| {});
        prop_assert!(i128::from(found.values[0]) >= bounds[0]);
    }

    /// What the search finds is no worse than the start in anything, worth what it says, and the same again.
    #[test]
    fn a_search_makes_nothing_worse_and_repeats_itself(model in models::model(), seed in any::<u64>()) {
        let problem = Problem::new(&model).unwrap();
        let found = best(&problem, 2, seed, &Proposals(20_000), &|_| {});
        let (before, after) = (judge(&model, &model.now()), judge(&model, &found.at));
        prop_assert!(no_worse(&model, &before, &after));
        prop_assert_eq!(&after.values, &wide(&found.values));
        let as_broken = before.rules == after.rules && before.overloads == after.overloads;
        prop_assert!(!as_broken || after.values[0] <= before.values[0]);
        prop_assert_eq!(best(&problem, 2, seed, &Proposals(20_000), &|_| {}), found);
    }
}
