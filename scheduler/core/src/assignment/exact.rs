//! The assignment problem, or a part of it, as mixed-integer programs: proved answers where they are small, bounds where not.
//!
//! Solvers count in floating point, so nothing that one says is believed: its answer is read as an assignment, and a
//! [`State`] says in exact integers what that is worth and whether anything is worse. Only bounds rest on what is assumed of the
//! solver: see [`Answer::bound`].
//!
//! | module | what lives there |
//! |---|---|
//! | `program` | columns and rows in whole numbers |
//! | `choice` | which item is where |
//! | `rules` | rules and capacities as rows |
//! | `terms` | objectives as sums |
//! | `engine` | which solver, and why there is no answer |
//! | `solver` | how they are asked, and what is assumed of them |
//! | `stop` | when HiGHS stops |

use super::model::Model;
use super::problem::Problem;
use super::state::{Change, State};
use super::worth::Worth;

pub(super) mod choice;
mod engine;
pub(super) mod program;
pub(super) mod rules;
pub(super) mod solver;
#[cfg(feature = "highs")]
mod stop;
pub(super) mod terms;

pub use engine::{Engine, MICROLP_COLUMNS, SolveError};
pub use solver::Effort;

use choice::Choice;
use program::{Program, Sum};
use rules::Limits;

/// What may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Every item may go wherever its own list allows.
    Whole,
    /// These items may go to these bins; all others stand where they are.
    Of {
        /// The items.
        items: &'a [u32],
        /// The bins.
        bins: &'a [u32],
    },
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// A better assignment, if one was found.
    pub better: Option<Better>,
    /// No assignment that differs in the part alone and makes nothing worse is worth less. It is what the solver says, less a
    /// thousandth where the largest factor of what is minimised is scaled to about ten thousand, and less a ten-thousand-millionth
    /// of itself; then rounded up to what the factors allow.
    pub bound: Option<i128>,
    /// By how much the bound is lower than what the solver said. What is worth no more than both together is the best, as far as a
    /// solver that counts in floating point can tell.
    pub slack: i128,
    /// Whether there is nothing better than what was found, or than what was given if nothing was.
    pub proved: bool,
    /// Columns of the program; none where nothing makes a difference and no solver was asked.
    pub columns: usize,
    /// Rows of the program.
    pub rows: usize,
    /// Whether it is the time that ran out, so that on another machine something else might have been found.
    pub out_of_time: bool,
}

/// A better assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Better {
    /// The bin of each item.
    pub at: Vec<u32>,
    /// What the objectives are worth.
    pub values: Vec<i64>,
}

/// Looks for a better assignment than that of a state of this model, by the objective that the state minimises, such that no
/// rule, no capacity and no list is broken more than it is there.
///
/// # Errors
/// Where the program is too large for the engine, or the engine fails.
pub fn solve(model: &Model, state: &State<'_>, part: Part<'_>, effort: Effort) -> Result<Answer, SolveError> {
    let best = Better { at: state.at().to_vec(), values: state.values().to_vec() };
    step(model, state, part, (state.objective, &best), &[], effort)
}

/// Looks for something better than the best so far by an objective, which makes nothing worse than a state has it. The first
/// objectives may come to what is said of them at most.
pub(super) fn step(
    model: &Model,
    state: &State<'_>,
    part: Part<'_>,
    (objective, best): (usize, &Better),
    most: &[i64],
    effort: Effort,
) -> Result<Answer, SolveError> {
    let mut program = Program::default();
    let limits = Limits::as_in(model, state.at());
    let choice = Choice::new(model, &best.at, &limits, options(state, part), &mut program);
    limits.hold(&choice, &mut program);
    for (number, most) in most.iter().enumerate() {
        let sum = terms::numbered(&choice, model, number, &limits.capacity, &mut program);
        program.at_most_nothing(&sum.plus(-1, &Sum::of((*most).into())));
    }
    let sum = terms::numbered(&choice, model, objective, &limits.capacity, &mut program);
    if sum.factors().is_empty() {
        let bound = Some(best.values[objective].into());
        return Ok(Answer {
            better: None,
            bound,
            slack: 0,
            proved: true,
            columns: 0,
            rows: 0,
            out_of_time: false,
        });
    }
    let said = solver::solve(&program, &sum, effort)?;
    let better = choice.read(&said, &best.at).and_then(|at| checked(state, at)).filter(|found| {
        // Else the solver was wrong by its own tolerance.
        let within = found.values.iter().zip(most).all(|(value, most)| value <= most);
        within && found.values[objective] < best.values[objective]
    });
    let value = i128::from(better.as_ref().unwrap_or(best).values[objective]);
    let (columns, rows) = program.size();
    // What was found is an answer, so a bound above it is the solver's own error.
    let bound = said.bound.map(|bound| bound.min(value));
    let proved = bound == Some(value);
    Ok(Answer { better, bound, slack: said.slack, proved, columns, rows, out_of_time: said.out_of_time })
}

/// The bins that an item may go to.
fn options<'s>(state: &'s State<'_>, part: Part<'_>) -> impl Fn(usize) -> Option<Vec<u32>> + use<'s> {
    let problem = state.problem();
    let mut free = vec![matches!(part, Part::Whole); problem.items()];
    let all: Vec<u32> = (0..problem.bins() as u32).collect();
    let bins = match part {
        Part::Whole => all,
        Part::Of { items, bins } => {
            for item in items {
                free[*item as usize] = true;
            }
            bins.to_vec()
        }
    };
    let at = state.at();
    move |item| {
        let allowed = bins.iter().copied().filter(|bin| problem.allows(item, *bin as usize));
        Some(if free[item] { allowed.chain([at[item]]).collect() } else { Vec::new() })
    }
}

/// How many columns the program of a whole model has, or more: what is chosen, what is open, and who is where together.
pub(super) fn columns(problem: &Problem) -> usize {
    let options = |item: usize| problem.allowed(item).map_or(problem.bins(), <[u32]>::len);
    let chosen =
        (0..problem.items()).map(options).filter(|options| *options > 1).fold(0, usize::saturating_add);
    let flows = problem.worths.iter().flat_map(Worth::flows);
    let together = flows.map(|(one, other, parts)| options(one).min(parts) * options(other).min(parts));
    together.fold(chosen, usize::saturating_add).saturating_add(problem.bins())
}

/// What an assignment is worth, if it makes nothing worse than a state has it.
fn checked(state: &State<'_>, at: Vec<u32>) -> Option<Better> {
    let differs = at.iter().enumerate().filter(|(item, bin)| state.at()[*item] != **bin);
    let changes: Vec<Change> = differs.map(|(item, bin)| (item, *bin)).collect();
    let mut tried = state.clone();
    tried.relax(&[]);
    tried.attempt(&changes)?;
    let values = tried.values().to_vec();
    Some(Better { at, values })
}
