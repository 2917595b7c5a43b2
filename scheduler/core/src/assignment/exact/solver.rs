//! The solvers, which count in floating point.
//!
//! Rows and what is minimised are scaled by powers of two, so that no digit is lost and a unit stays large beside what the solvers
//! tolerate. [`TOLERANCE`] is what is assumed of them.

#[cfg(feature = "highs")]
use good_lp::{
    Constraint, Expression, ProblemVariables, SolverModel as _, Variable, variable, variable::UnsolvedProblem,
};

use super::engine::{Engine, MICROLP_COLUMNS, SolveError};
#[cfg(feature = "highs")]
use super::program::Row;
use super::program::{Column, Program, Sum, shared};
#[cfg(feature = "highs")]
use super::stop::Stop;

/// Factors are scaled to about this size: large beside the solvers' tolerance of a millionth.
const SCALE: f64 = 1e4;
/// By how much a bound may be wrong, beside the largest factor of what is minimised, which is about [`SCALE`].
const TOLERANCE: f64 = 1e-3;
/// By how much a bound may be wrong, beside itself.
const RELATIVE: f64 = 1e-10;

/// A node of microlp's tree counts as so many steps, because it does not say how many it made for it.
const NODE: u64 = 16;

/// How much may be spent, and by whom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// The solver.
    pub engine: Engine,
    /// Decides between what is equal.
    pub seed: u64,
    /// How much may be done, in steps times the size of the program, which is its columns and its rows: the same on every machine.
    /// [`u64::MAX`] for as much as can be done in the time.
    pub work: u64,
    /// For all of it together. Reaching it makes an answer depend on the machine's speed.
    pub seconds: f64,
}

impl Effort {
    /// So many steps may be made with a program.
    fn steps(&self, program: &Program) -> u64 {
        let (columns, rows) = program.size();
        self.work / (columns + rows).max(1) as u64
    }
}

/// What a solver says.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::assignment) struct Said {
    /// What each column is; none if nothing was found.
    pub(in crate::assignment) values: Option<Vec<f64>>,
    /// No answer is worth less.
    pub(in crate::assignment) bound: Option<i128>,
    /// By how much the bound is lower than what the solver said, for what is assumed of it.
    pub(in crate::assignment) slack: i128,
    /// Whether there is nothing to be found.
    pub(in crate::assignment) impossible: bool,
    /// Whether it is the time that ran out.
    pub(in crate::assignment) out_of_time: bool,
}

impl Said {
    const NOTHING: Self = Self { values: None, bound: None, slack: 0, impossible: false, out_of_time: false };
    const IMPOSSIBLE: Self = Self { impossible: true, ..Self::NOTHING };

    /// What each column is, and a bound with its slack.
    fn new(values: Option<Vec<f64>>, bound: Option<(i128, i128)>) -> Self {
        let (bound, slack) = bound.map_or((None, 0), |(bound, slack)| (Some(bound), slack));
        Self { values, bound, slack, ..Self::NOTHING }
    }

    /// Whether a choice was made.
    pub(in crate::assignment) fn chosen(&self, choice: &Sum) -> bool {
        let values = self.values.as_deref().unwrap_or_default();
        let of =
            |(column, factor): (usize, i128)| values.get(column).map_or(0.0, |value| value * factor as f64);
        choice.constant as f64 + choice.factors().into_iter().map(of).sum::<f64>() > 0.5
    }
}

/// What is minimised, divided by what its factors share.
struct Aim {
    factors: Vec<(usize, f64)>,
    shared: i128,
    scale: f64,
    constant: i128,
}

impl Aim {
    fn new(objective: &Sum) -> Self {
        let factors = objective.factors();
        let shared = shared(factors.iter().map(|(_, factor)| *factor)).max(1);
        let scale = scale(factors.iter().map(|(_, factor)| factor / shared));
        let factors =
            factors.into_iter().map(|(column, factor)| (column, (factor / shared) as f64 * scale)).collect();
        Self { factors, shared, scale, constant: objective.constant }
    }

    /// A bound in whole numbers, no higher than the solver's own, and by how much lower it may be; none where that is no number.
    fn bound(&self, said: f64) -> Option<(i128, i128)> {
        let slack = (TOLERANCE + said.abs() * RELATIVE) / self.scale;
        let bound = (said / self.scale - slack).ceil();
        // Beyond 64 bits there is nothing that a valid model comes to.
        (bound.is_finite() && bound.abs() < 1e18)
            .then(|| (self.constant + self.shared * bound as i128, self.shared * slack.ceil() as i128))
    }
}

fn scale(factors: impl Iterator<Item = i128>) -> f64 {
    let largest = factors.fold(0, |largest: i128, factor| largest.max(factor.abs()));
    if largest > 0 { (SCALE / largest as f64).log2().floor().exp2() } else { 1.0 }
}

/// Minimises a sum.
pub(in crate::assignment) fn solve(
    program: &Program,
    objective: &Sum,
    effort: Effort,
) -> Result<Said, SolveError> {
    if program.impossible {
        return Ok(Said::IMPOSSIBLE);
    }
    if program.columns.is_empty() {
        return Ok(Said { values: Some(Vec::new()), bound: Some(objective.constant), ..Said::NOTHING });
    }
    let aim = Aim::new(objective);
    match effort.engine {
        #[cfg(feature = "highs")]
        Engine::Highs => by_highs(program, &aim, effort),
        Engine::Microlp => by_microlp(program, &aim, effort),
    }
}

/// A program as good_lp has it, from which it makes one for HiGHS: what is minimised, its columns and its rows.
#[cfg(feature = "highs")]
fn described(program: &Program, aim: &Aim) -> (UnsolvedProblem, Vec<Variable>, Vec<Constraint>) {
    let mut variables = ProblemVariables::new();
    let columns: Vec<Variable> = program
        .columns
        .iter()
        .map(|it| {
            let column = variable().min(it.low as f64).max(it.high as f64).initial(it.start as f64);
            variables.add(if it.whole { column.integer() } else { column })
        })
        .collect();
    let sum = |factors: &mut dyn Iterator<Item = (usize, f64)>| {
        factors.fold(Expression::default(), |mut sum, (column, factor)| {
            sum.add_mul(factor, columns[column]);
            sum
        })
    };
    let row = |row: &Row| {
        let scale = scale(row.factors.iter().map(|(_, factor)| *factor));
        let factors = sum(&mut row.factors.iter().map(|(column, factor)| (*column, *factor as f64 * scale)));
        let most = row.most as f64 * scale;
        if row.least.is_some() { factors.eq(most) } else { factors.leq(most) }
    };
    let rows = program.rows.iter().map(row).collect();
    let objective = sum(&mut aim.factors.iter().copied());
    (variables.minimise(objective), columns, rows)
}

#[cfg(feature = "highs")]
fn by_highs(program: &Program, aim: &Aim, effort: Effort) -> Result<Said, SolveError> {
    use highs::{HighsModelStatus, HighsSolutionStatus};

    let failed = |message: &dyn std::fmt::Debug| SolveError::Engine {
        engine: "highs",
        message: format!("{message:?}"),
    };
    let (problem, _, rows) = described(program, aim);
    let mut described = problem.using(good_lp::solvers::highs::highs);
    for row in rows {
        described.add_constraint(row);
    }
    // What no answer can be below is what good_lp does not ask for, so from here on HiGHS is asked itself.
    let mut model = described.try_into_inner().map_err(|error| failed(&error))?;
    let set = [
        model.try_set_option("threads", 1),
        model.try_set_option("parallel", "off"),
        model.try_set_option("random_seed", i32::try_from(effort.seed & 0x7fff_ffff).unwrap_or(0)),
        model.try_set_option("mip_rel_gap", 0.0),
        model.try_set_option("mip_abs_gap", 0.0),
        model.try_set_option("time_limit", effort.seconds.max(0.0)),
    ];
    if let Some(error) = set.into_iter().find_map(Result::err) {
        return Err(failed(&error));
    }
    let start: Vec<f64> = program.columns.iter().map(|column| column.start as f64).collect();
    model.try_set_solution(Some(&start), None, None, None).map_err(|status| failed(&status))?;
    let steps = effort.steps(program);
    let stop = Stop::after(steps);
    stop.watch(&mut model).map_err(|status| failed(&status))?;
    // Where nothing has to be whole there is no tree, and nobody asks the stop.
    let iterations = i32::try_from(steps).unwrap_or(i32::MAX);
    model.try_set_option("simplex_iteration_limit", iterations).map_err(|status| failed(&status))?;
    // An error is also what it says where rounding leaves it with nothing: then nothing was found.
    let Ok(solved) = model.try_solve() else { return Ok(Said::NOTHING) };
    let out_of_time = solved.status() == HighsModelStatus::ReachedTimeLimit;
    match solved.status() {
        HighsModelStatus::Infeasible | HighsModelStatus::UnboundedOrInfeasible => {
            return Ok(Said::IMPOSSIBLE);
        }
        HighsModelStatus::LoadError | HighsModelStatus::ModelError => return Err(failed(&solved.status())),
        _ => {}
    }
    let whole = program.columns.iter().any(|column| column.whole);
    let bound = if whole {
        solved.double_info_value(c"mip_dual_bound").ok()
    } else {
        (solved.status() == HighsModelStatus::Optimal).then(|| solved.objective_value())
    };
    let found = solved.primal_solution_status() == HighsSolutionStatus::Feasible;
    let values = found.then(|| solved.get_solution().columns().to_vec());
    Ok(Said { out_of_time, ..Said::new(values, bound.and_then(|bound| aim.bound(bound))) })
}

fn by_microlp(program: &Program, aim: &Aim, effort: Effort) -> Result<Said, SolveError> {
    use microlp::{Error, SolveOptions, TerminationReason};

    let count = program.columns.len();
    if count > MICROLP_COLUMNS {
        return Err(SolveError::TooLarge { columns: count });
    }
    let failed = |message: String| SolveError::Engine { engine: "microlp", message };
    let (problem, columns) =
        spelled(program, aim).ok_or_else(|| failed("a column is too wide".to_owned()))?;
    let mut options = SolveOptions::default();
    options.node_limit = Some(effort.steps(program) / NODE);
    options.time_limit = std::time::Duration::try_from_secs_f64(effort.seconds.max(0.0)).ok();
    let start = program.columns.iter().map(|column| column.start as f64);
    options.warm_start = Some(columns.iter().copied().zip(start).collect());
    let outcome = match problem.solve_with(options) {
        Ok(outcome) => outcome,
        Err(Error::Infeasible) => return Ok(Said::IMPOSSIBLE),
        Err(error) => return Err(failed(error.to_string())),
    };
    let ended = outcome.termination_reason();
    let out_of_time = ended == TerminationReason::TimeLimit;
    let Ok(solution) = outcome.into_solution() else { return Ok(Said { out_of_time, ..Said::NOTHING }) };
    let values: Vec<f64> = columns.iter().map(|column| solution.var_value(*column)).collect();
    let value: f64 = aim.factors.iter().map(|(column, cost)| values[*column] * cost).sum();
    let bound = if ended == TerminationReason::ProvenOptimal { aim.bound(value) } else { None };
    Ok(Said { out_of_time, ..Said::new(Some(values), bound) })
}

/// A program as microlp has it; nothing where a column is wider than it can count.
fn spelled(program: &Program, aim: &Aim) -> Option<(microlp::Problem, Vec<microlp::Variable>)> {
    use microlp::{ComparisonOp, LinearExpr, OptimizationDirection};

    let mut costs = vec![0.0; program.columns.len()];
    for (column, cost) in &aim.factors {
        costs[*column] += cost;
    }
    let mut problem = microlp::Problem::new(OptimizationDirection::Minimize);
    let column = |(it, cost): (&Column, &f64)| {
        Some(if it.whole {
            problem.add_integer_var(*cost, (i32::try_from(it.low).ok()?, i32::try_from(it.high).ok()?))
        } else {
            problem.add_var(*cost, (it.low as f64, it.high as f64))
        })
    };
    let columns: Vec<microlp::Variable> =
        program.columns.iter().zip(&costs).map(column).collect::<Option<_>>()?;
    for row in &program.rows {
        let scale = scale(row.factors.iter().map(|(_, factor)| *factor));
        let mut sum = LinearExpr::empty();
        for (column, factor) in &row.factors {
            sum.add(columns[*column], *factor as f64 * scale);
        }
        let is = if row.least.is_some() { ComparisonOp::Eq } else { ComparisonOp::Le };
        problem.add_constraint(sum, is, row.most as f64 * scale);
    }
    Some((problem, columns))
}
