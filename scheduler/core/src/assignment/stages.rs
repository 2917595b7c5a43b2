//! All objectives of a model, the most important first: at once where every item can have its own best, else exactly where the
//! program is small, and by search where it is not.
//!
//! What an objective comes to at best, and what is as good, limits it while those after it are minimised.

use super::apart::{Apart, Worths};
use super::bound;
use super::exact::{self, Answer, Better, Effort, Part, SolveError};
use super::model::Model;
use super::problem::Problem;
use super::search::budget::Proposals;
use super::search::repair;
use super::search::{self, Found};
use super::state::State;

/// How much may be spent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Means {
    /// For exact answers; work and seconds are shared out evenly between objectives.
    pub effort: Effort,
    /// Larger programs are not given to the solver, in columns.
    pub largest: usize,
    /// Programs of more columns are searched before the solver is asked.
    pub small: usize,
    /// Searches side by side.
    pub searches: u32,
    /// Proposals of each search, for each objective.
    pub proposals: u64,
    /// Numbers that are looked at to bound each objective.
    pub bounding: u64,
}

/// How one objective was minimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stage {
    /// What it came to; later objectives may have made it worse by its tolerance.
    pub value: i64,
    /// What it can't be less than, as long as those before it stay within their tolerances.
    pub bound: i128,
    /// By how much the bound may be lower than what a solver proved, because it counts in floating point.
    pub slack: i128,
    /// Columns and rows that the solver was given; none if it was not asked.
    pub program: Option<(usize, usize)>,
    /// Whether it was searched.
    pub searched: bool,
    /// Whether the solver's time ran out, so that on another machine something else might have been found.
    pub out_of_time: bool,
}

impl Stage {
    /// Whether nothing is better, as far as a solver can tell.
    pub const fn proved(&self) -> bool {
        self.bound + self.slack >= self.value as i128
    }
}

/// The best that was found for all objectives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// The bin of each item.
    pub at: Vec<u32>,
    /// What the objectives come to in the end.
    pub values: Vec<i64>,
    /// How each was minimised.
    pub stages: Vec<Stage>,
}

/// Minimises all objectives of a model, from where its items are now. What is broken is repaired first, as far as that is
/// easy; then nothing is made worse.
///
/// # Errors
/// Where the solver fails. A program that is too large for it is no failure: then there is only what the search found.
pub fn minimise(model: &Model, problem: &Problem, means: Means) -> Result<Staged, SolveError> {
    let mut state = State::new(problem, &problem.now);
    repair::repair(&mut state, &[]);
    // What an objective mends on its way, a later one may break again, as long as it is no worse than at the start.
    let start = state.clone();
    let columns = exact::columns(problem);
    let free = (0..problem.items()).any(|item| problem.allowed(item).is_none_or(|bins| bins.len() > 1));
    let (seconds, work) = (means.effort.seconds, means.effort.work);
    let (seconds, work) = match problem.objectives().max(1) {
        count if work < u64::MAX => (seconds / count as f64, work / count as u64),
        count => (seconds / count as f64, work),
    };
    let mut stages = Vec::with_capacity(problem.objectives());
    let mut apart = Apart::new(problem);
    for objective in 0..problem.objectives() {
        state.objective = objective;
        let worths = apart.worths(&model.objectives[objective]);
        let reached = worths.as_ref().is_some_and(|worths| {
            i128::from(state.value()) == worths.bound() || apart.reach(worths, &mut state)
        });
        let mut stage = Stage { value: state.value(), ..Stage::default() };
        stage.bound = if free && !reached {
            let least = bound::least_within(model, &model.objectives[objective], means.bounding);
            least.max(worths.as_ref().map_or(i128::MIN, Worths::bound)).min(stage.value.into())
        } else {
            stage.value.into()
        };
        if !stage.proved() && columns > means.small.min(means.largest) {
            look_around(&mut state, means);
            stage.searched = true;
        }
        if i128::from(state.value()) > stage.bound && columns <= means.largest {
            match exactly(model, &start, &mut state, Effort { seconds, work, ..means.effort }) {
                Ok(answer) => {
                    // The slack is the solver's, and says nothing about a bound of our own.
                    let proven =
                        answer.bound.map_or(stage.bound, |bound| (bound + answer.slack).max(stage.bound));
                    stage.bound = answer.bound.map_or(stage.bound, |bound| bound.max(stage.bound));
                    stage.slack = proven - stage.bound;
                    stage.out_of_time = answer.out_of_time;
                    stage.program = (answer.columns > 0).then_some((answer.columns, answer.rows));
                }
                Err(SolveError::TooLarge { .. }) => {
                    if !stage.searched {
                        look_around(&mut state, means);
                        stage.searched = true;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        stage.value = state.value();
        let most = model.objectives[objective].tolerance.worst(stage.value);
        state.limit(most);
        if let Some(worths) = &worths {
            apart.narrow(worths, most);
        }
        stages.push(stage);
    }
    Ok(Staged { at: state.at().to_vec(), values: state.values().to_vec(), stages })
}

/// Searches for something better, and goes there.
fn look_around(state: &mut State<'_>, means: Means) {
    let budget = Proposals(means.proposals);
    let Found { at, .. } = search::improve(state, means.searches, means.effort.seed, &budget, &|_| {});
    state.reset(&at);
}

/// Asks the solver for something better that is no worse broken than the start, and goes there.
fn exactly(
    model: &Model,
    start: &State<'_>,
    state: &mut State<'_>,
    effort: Effort,
) -> Result<Answer, SolveError> {
    let best = Better { at: state.at().to_vec(), values: state.values().to_vec() };
    let limits = state.limits().to_vec();
    let answer = exact::step(model, start, Part::Whole, (state.objective, &best), &limits, effort)?;
    if let Some(better) = &answer.better {
        state.reset(&better.at);
    }
    Ok(answer)
}
