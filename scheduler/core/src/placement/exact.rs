//! The assignment problem as mixed-integer models, solved by good_lp: one after another, each stage's best (and its
//! tolerance) a row of the next.
//!
//! Solvers count in floating point, so nothing that one says is believed: its answer is rounded to a choice, and the choice is
//! evaluated in exact integers. The best choice so far is handed to the next model as its start.

use std::fmt;

use good_lp::solvers::{SolutionStatus, WithTimeLimit};
use good_lp::{Expression, ProblemVariables, ResolutionError, Solution, SolverModel, Variable, variable};
use thiserror::Error;

use super::model::{Model, Stage};

/// Longest time for all stages together, shared out evenly. Reaching it makes an answer depend on the machine's speed; the report then says that the
/// answer is not proved.
const TIME_LIMIT_SECONDS: f64 = 10.0;
/// Coefficients of a row are scaled to about this size: large beside the solvers' tolerance of a millionth.
const SCALE: f64 = 1e4;

/// A solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// HiGHS, single-threaded, with a fixed seed.
    #[cfg(feature = "highs")]
    Highs,
    /// Microlp, for models of at most [`MICROLP_COLUMNS`].
    Microlp,
}

/// The largest model that microlp is asked to solve, in columns; on larger ones it finds nothing in a useful time.
pub const MICROLP_COLUMNS: usize = 300;

impl Engine {
    /// The best one that is built in.
    pub const fn built_in() -> Self {
        #[cfg(feature = "highs")]
        return Self::Highs;
        #[cfg(not(feature = "highs"))]
        Self::Microlp
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(feature = "highs")]
            Self::Highs => "highs",
            Self::Microlp => "microlp",
        })
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SolveError {
    /// The model is too large for the solver that is built in.
    #[error("{columns} columns are more than microlp can solve in time; build with the feature `highs`")]
    TooLarge {
        /// Of the model.
        columns: usize,
    },
    /// The solver failed.
    #[error("{engine}: {message}")]
    Engine {
        /// Which.
        engine: &'static str,
        /// What it said.
        message: String,
    },
}

/// A placement of the items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solved {
    /// The number of the chosen option, by item.
    pub choice: Vec<usize>,
    /// The best value found of each stage, those that make no difference among them.
    pub best: Vec<i128>,
    /// Columns of the last model.
    pub columns: usize,
    /// Rows of the last model.
    pub rows: usize,
    /// Models solved.
    pub models: usize,
    /// Whether every stage was proved best.
    pub proved: bool,
}

/// Solves all stages.
///
/// # Errors
/// Where the model is too large for the engine, or the engine fails before it has found anything.
pub fn solve(model: &Model, engine: Engine, seed: u64) -> Result<Solved, SolveError> {
    let mut solved =
        Solved { choice: model.now.clone(), best: Vec::new(), columns: 0, rows: 0, models: 0, proved: true };
    if model.items.is_empty() {
        return Ok(solved);
    }
    let stages = model.stages.iter().filter(|stage| !stage.is_constant()).count().max(1);
    let how = How { engine, seed, seconds: TIME_LIMIT_SECONDS / stages as f64 };
    let mut bounds: Vec<(&Stage, i128)> = Vec::new();
    for stage in &model.stages {
        if !stage.is_constant() {
            let answer = step(model, stage, &bounds, &solved.choice, how)?;
            solved.columns = answer.columns;
            solved.rows = answer.rows;
            solved.models += 1;
            solved.proved &= answer.proved;
            if let Some(choice) = answer.choice {
                let allowed = model.fits(&choice)
                    && bounds.iter().all(|(earlier, bound)| earlier.value(model, &choice) <= *bound);
                let better = stage.value(model, &choice) <= stage.value(model, &solved.choice);
                if allowed && better {
                    solved.choice = choice;
                } else {
                    // Off by the solver's own tolerance: the choice before stands.
                    solved.proved = false;
                }
            }
        }
        let best = stage.value(model, &solved.choice);
        solved.best.push(best);
        if !stage.is_constant() {
            bounds.push((stage, stage.bound(best)));
        }
    }
    Ok(solved)
}

/// How a model is solved.
#[derive(Clone, Copy)]
struct How {
    engine: Engine,
    #[cfg_attr(not(feature = "highs"), expect(dead_code, reason = "microlp draws nothing at random"))]
    seed: u64,
    seconds: f64,
}

struct Answer {
    choice: Option<Vec<usize>>,
    columns: usize,
    rows: usize,
    proved: bool,
}

/// A row `expression <= 0`.
struct Rows {
    list: Vec<good_lp::Constraint>,
}

impl Rows {
    /// `sum of terms <= bound`, scaled by a power of two, which leaves every digit as it is.
    fn at_most(&mut self, terms: &[(Variable, f64)], bound: f64) {
        let scale = scale_of(terms.iter().map(|(_, value)| *value));
        let mut sum = Expression::with_capacity(terms.len());
        for (variable, value) in terms {
            sum.add_mul(value * scale, *variable);
        }
        self.list.push(sum.leq(bound * scale));
    }
}

fn scale_of(values: impl Iterator<Item = f64>) -> f64 {
    let largest = values.fold(0.0f64, |largest, value| largest.max(value.abs()));
    if largest > 0.0 { (SCALE / largest).log2().floor().exp2() } else { 1.0 }
}

fn step(
    model: &Model,
    stage: &Stage,
    bounds: &[(&Stage, i128)],
    start: &[usize],
    how: How,
) -> Result<Answer, SolveError> {
    let mut variables = ProblemVariables::new();
    let start_open = model.open(start);
    let mut columns = 0usize;
    let chosen: Vec<Vec<Variable>> = model
        .items
        .iter()
        .zip(start)
        .map(|(item, start)| {
            columns += item.options.len();
            (0..item.options.len())
                .map(|option| variables.add(variable().binary().initial(u8::from(option == *start))))
                .collect()
        })
        .collect();
    // A node that can be empty has a variable of its own where being used is worth something.
    let counted = |node: usize| {
        !model.open[node]
            && std::iter::once(stage)
                .chain(bounds.iter().map(|(stage, _)| *stage))
                .any(|stage| stage.opening.get(node).is_some_and(|value| *value != 0))
    };
    let used: Vec<Option<Variable>> = (0..model.open.len())
        .map(|node| {
            counted(node).then(|| {
                columns += 1;
                variables.add(variable().binary().initial(u8::from(start_open[node])))
            })
        })
        .collect();
    if how.engine == Engine::Microlp && columns > MICROLP_COLUMNS {
        return Err(SolveError::TooLarge { columns });
    }

    let mut rows = Rows { list: Vec::new() };
    for variables in &chosen {
        let mut sum = Expression::with_capacity(variables.len());
        for variable in variables {
            sum.add_mul(1.0, *variable);
        }
        rows.list.push(sum.eq(1.0));
    }
    let mut on_node: Vec<Vec<(usize, Variable)>> = vec![Vec::new(); model.open.len()];
    for (number, item) in model.items.iter().enumerate() {
        for (node, variable) in item.options.iter().zip(&chosen[number]) {
            on_node[*node].push((number, *variable));
        }
    }
    for (node, hosted) in on_node.iter().enumerate() {
        let free = model.free[node];
        let loads = |of: fn(&super::model::Load) -> i128| -> Vec<(Variable, f64)> {
            hosted.iter().map(|(item, variable)| (*variable, of(&model.items[*item].load) as f64)).collect()
        };
        let most =
            hosted.iter().fold(super::model::Load::default(), |sum, (item, _)| sum + model.items[*item].load);
        if most.cpu > free.cpu {
            rows.at_most(&loads(|load| load.cpu), free.cpu as f64);
        }
        if most.memory > free.memory {
            rows.at_most(&loads(|load| load.memory), free.memory as f64);
        }
        if let Some(used) = used[node] {
            let mut idle = Expression::with_capacity(hosted.len() + 1);
            idle.add_mul(1.0, used);
            for (_, variable) in hosted {
                rows.list.push((*variable - used).leq(0.0));
                idle.add_mul(-1.0, *variable);
            }
            rows.list.push(idle.leq(0.0));
        }
    }
    let terms = |stage: &Stage| -> (Vec<(Variable, f64)>, i128) {
        let mut terms: Vec<(Variable, f64)> = Vec::new();
        let mut constant = 0i128;
        for (values, variables) in stage.pair.iter().zip(&chosen) {
            terms.extend(variables.iter().zip(values).map(|(variable, value)| (*variable, *value as f64)));
        }
        for (node, value) in stage.opening.iter().enumerate() {
            match used[node] {
                Some(variable) => terms.push((variable, *value as f64)),
                None if model.open[node] => constant += i128::from(*value),
                None => {}
            }
        }
        (terms, constant)
    };
    for (earlier, bound) in bounds {
        let (terms, constant) = terms(earlier);
        rows.at_most(&terms, bound.saturating_sub(constant) as f64);
    }
    let (terms, _) = terms(stage);
    let scale = scale_of(terms.iter().map(|(_, value)| *value));
    let mut objective = Expression::with_capacity(terms.len());
    for (variable, value) in terms {
        objective.add_mul(value * scale, variable);
    }

    let count = rows.list.len();
    let problem = variables.minimise(objective);
    let values = match how.engine {
        #[cfg(feature = "highs")]
        Engine::Highs => {
            let seed = i32::try_from(how.seed & 0x7fff_ffff).unwrap_or(0);
            let mut solver = problem
                .using(good_lp::solvers::highs::highs)
                .set_threads(1)
                .set_parallel(good_lp::solvers::highs::HighsParallelType::Off)
                .set_option("random_seed", seed)
                .set_option("mip_rel_gap", 0.0)
                .set_option("mip_abs_gap", 0.0)
                .with_time_limit(how.seconds);
            for row in rows.list {
                solver.add_constraint(row);
            }
            read(solver.solve(), &chosen, "highs")?
        }
        Engine::Microlp => {
            let mut solver = problem.using(good_lp::solvers::microlp::microlp).with_time_limit(how.seconds);
            for row in rows.list {
                solver.add_constraint(row);
            }
            read(solver.solve(), &chosen, "microlp")?
        }
    };
    let (choice, proved) = values;
    Ok(Answer { choice, columns, rows: count, proved })
}

/// The choice that a solution stands for; none where time ran out before there was one.
fn read<S: Solution>(
    answer: Result<S, ResolutionError>,
    chosen: &[Vec<Variable>],
    engine: &'static str,
) -> Result<(Option<Vec<usize>>, bool), SolveError> {
    let solution = match answer {
        Ok(solution) => solution,
        // What HiGHS and microlp say when time ran out. The choice before, which is feasible, stands then, and also where a
        // tight row was lost to rounding.
        Err(ResolutionError::Other(_) | ResolutionError::Infeasible) => return Ok((None, false)),
        Err(error) => return Err(SolveError::Engine { engine, message: error.to_string() }),
    };
    let choice: Option<Vec<usize>> = chosen
        .iter()
        .map(|options| options.iter().position(|variable| solution.value(*variable) > 0.5))
        .collect();
    // HiGHS calls it a gap limit whenever the final gap is above zero by rounding.
    let proved = !matches!(solution.status(), SolutionStatus::TimeLimit);
    match choice {
        Some(choice) => Ok((Some(choice), proved)),
        None => {
            Err(SolveError::Engine { engine, message: "an answer that places not every service".to_owned() })
        }
    }
}
