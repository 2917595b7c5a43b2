//! The solvers, which count in floating point.
//!
//! Rows and what is minimised are scaled by powers of two, so that no digit is lost and a unit stays large beside what the solvers
//! tolerate. [`TOLERANCE`] is what is assumed of them.

use good_lp::solvers::WithTimeLimit as _;
use good_lp::variable::UnsolvedProblem;
use good_lp::{
    Constraint, Expression, ProblemVariables, ResolutionError, Solution as _, SolverModel as _, Variable,
    variable,
};

use super::engine::{Engine, MICROLP_COLUMNS, SolveError};
use super::program::{Program, Row, Sum, shared};

/// Factors are scaled to about this size: large beside the solvers' tolerance of a millionth.
const SCALE: f64 = 1e4;
/// By how much a bound may be wrong, beside the largest factor of what is minimised, which is about [`SCALE`].
const TOLERANCE: f64 = 1e-3;
/// By how much a bound may be wrong, beside itself.
const RELATIVE: f64 = 1e-10;

/// How much may be spent, and by whom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// The solver.
    pub engine: Engine,
    /// Decides between what is equal.
    pub seed: u64,
    /// For all of it together. Reaching it makes an answer depend on the machine's speed.
    pub seconds: f64,
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
}

impl Said {
    const NOTHING: Self = Self { values: None, bound: None, slack: 0, impossible: false };
    const IMPOSSIBLE: Self = Self { impossible: true, ..Self::NOTHING };

    /// What each column is, and a bound with its slack.
    fn new(values: Option<Vec<f64>>, bound: Option<(i128, i128)>) -> Self {
        let (bound, slack) = bound.map_or((None, 0), |(bound, slack)| (Some(bound), slack));
        Self { values, bound, slack, impossible: false }
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

/// A program as good_lp has it: what is minimised, its columns and its rows.
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
    // An error is also what it says where rounding leaves it with nothing: then nothing was found.
    let Ok(solved) = model.try_solve() else { return Ok(Said::NOTHING) };
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
    Ok(Said::new(values, bound.and_then(|bound| aim.bound(bound))))
}

fn by_microlp(program: &Program, aim: &Aim, effort: Effort) -> Result<Said, SolveError> {
    let count = program.columns.len();
    if count > MICROLP_COLUMNS {
        return Err(SolveError::TooLarge { columns: count });
    }
    let (problem, columns, rows) = described(program, aim);
    let mut solver =
        problem.using(good_lp::solvers::microlp::microlp).with_time_limit(effort.seconds.max(0.0));
    for row in rows {
        solver.add_constraint(row);
    }
    let solution = match solver.solve() {
        Ok(solution) => solution,
        Err(ResolutionError::Infeasible) => return Ok(Said::IMPOSSIBLE),
        // What it says when time ran out.
        Err(ResolutionError::Other(_)) => return Ok(Said::NOTHING),
        Err(error) => return Err(SolveError::Engine { engine: "microlp", message: error.to_string() }),
    };
    let values: Vec<f64> = columns.iter().map(|column| solution.value(*column)).collect();
    let timed_out = matches!(solution.status(), good_lp::solvers::SolutionStatus::TimeLimit);
    let value: f64 = aim.factors.iter().map(|(column, cost)| values[*column] * cost).sum();
    let bound = if timed_out { None } else { aim.bound(value) };
    Ok(Said::new(Some(values), bound))
}
