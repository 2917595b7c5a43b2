//! How much is spent on solving, and what is reported of it.

use crate::assignment::exact::{Effort, Engine, MICROLP_COLUMNS};
use crate::assignment::model::Model;
use crate::assignment::stages::{self, Means, Staged};
use crate::report::{Reached, SolverReport};

/// Work for exact answers, which is the same on every machine: some ten seconds.
const WORK: u64 = 1 << 31;
/// Seconds for exact answers, far more than the work takes. Reaching them makes an answer depend on the machine's speed; the report
/// then says so.
const SECONDS: f64 = 300.0;
/// The largest program that the solver is given, in columns. In the machine reassignment challenge HiGHS comes close to the best
/// with 12,000, and with 52,000 finds no improvement in five minutes.
const LARGEST: usize = 20_000;
/// The largest that it is given without a search before, in columns.
const SMALL: usize = 2_000;
/// Searches side by side, and proposals of each for each objective: some seconds.
const SEARCH: (u32, u64) = (2, 4_000_000);
/// Numbers that are looked at to bound each objective: about a second.
const BOUNDING: u64 = 1 << 28;

/// What may be spent on one placement.
pub(super) fn means(engine: Engine, seed: u64) -> Means {
    let largest = if engine == Engine::Microlp { MICROLP_COLUMNS } else { LARGEST };
    let effort = Effort { engine, seed, work: WORK, seconds: SECONDS };
    Means { effort, largest, small: SMALL, searches: SEARCH.0, proposals: SEARCH.1, bounding: BOUNDING }
}

/// How a placement was found, after those that were found before it.
pub(super) fn found(
    engine: Engine,
    model: &Model,
    staged: &Staged,
    before: Option<&SolverReport>,
) -> SolverReport {
    let (solved, searched) = (
        staged.stages.iter().any(|stage| stage.program.is_some()),
        staged.stages.iter().any(|stage| stage.searched),
    );
    let by = [solved.then(|| engine.to_string()), searched.then(|| "search".to_owned())];
    let by: Vec<String> = by.into_iter().flatten().collect();
    let of_now = if by.is_empty() { "none".to_owned() } else { by.join(" and ") };
    let (columns, rows) = staged.stages.iter().rev().find_map(|stage| stage.program).unwrap_or_default();
    let models = staged.stages.iter().filter(|stage| stage.program.is_some() || stage.searched).count();
    let proved = staged.stages.iter().all(stages::Stage::proved);
    let reached = model.objectives.iter().zip(&staged.stages).map(|(objective, stage)| Reached {
        name: objective.name.clone(),
        value: stage.value,
        bound: i64::try_from(stage.bound).unwrap_or(i64::MIN).min(stage.value),
    });
    SolverReport {
        engine: before.map_or(of_now, |before| before.engine.clone()),
        columns: before.map_or(columns, |before| before.columns),
        rows: before.map_or(rows, |before| before.rows),
        models: models + before.map_or(0, |before| before.models),
        proved: proved && before.is_none_or(|before| before.proved),
        out_of_time: staged.stages.iter().any(|stage| stage.out_of_time)
            || before.is_some_and(|before| before.out_of_time),
        objectives: reached.collect(),
    }
}
