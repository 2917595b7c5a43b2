//! The Google/ROADEF/EURO challenge 2012: processes on machines, with its own files in and out.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use sterna_core::assignment::bound::least;
use sterna_core::assignment::problem::Problem;
use sterna_core::assignment::search;
use sterna_core::assignment::search::budget::{Budget, Proposals};
use sterna_core::checker::assignment::judge;

use crate::table::{progress, show, table};

mod format;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model, in the challenge's format.
    model: PathBuf,
    /// Where the processes are, in the challenge's format.
    initial: PathBuf,
    /// How long to search, in seconds.
    #[arg(long, default_value_t = 300.0, value_parser = positive)]
    time: f64,
    /// How many proposals each search makes, whatever time that takes: the same result on every machine.
    #[arg(long, conflicts_with = "time")]
    proposals: Option<u64>,
    /// How many searches run side by side.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// Decides what is tried in which order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where every number goes, as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where the new assignment goes, in the challenge's format.
    #[arg(long, value_name = "FILE")]
    assignment: Option<PathBuf>,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds.is_finite() => Ok(seconds),
        _ => Err("a number of seconds above 0".to_owned()),
    }
}

/// One run.
#[derive(Debug, Serialize)]
struct Run {
    model: String,
    processes: usize,
    machines: usize,
    seconds: f64,
    threads: u32,
    seed: u64,
    initial: i128,
    cost: i128,
    /// No assignment costs less.
    bound: i128,
    /// By term: load, balance, process moves, service moves, machine moves.
    terms: Vec<(&'static str, i128)>,
    moved: u32,
    holds: bool,
    proposals: u64,
    /// Seconds and the least cost by then.
    curve: Vec<(f64, i64)>,
}

/// Ends with the time.
#[derive(Debug, Clone, Copy)]
struct Clock {
    start: Instant,
    limit: Duration,
}

impl Budget for Clock {
    fn spent(&self, _: u64) -> f64 {
        self.start.elapsed().as_secs_f64() / self.limit.as_secs_f64()
    }
}

/// Searches and prints.
///
/// # Errors
/// When a file can't be read or written, or is not in the challenge's format.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let start = Instant::now();
    let read =
        |path: &Path| std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()));
    let model = format::model(&read(&args.model)?, &read(&args.initial)?)
        .with_context(|| format!("{} with {}", args.model.display(), args.initial.display()))?;
    let initial = judge(&model, &model.now());
    let problem = Problem::new(&model)?;
    progress(&format!(
        "{} processes on {} machines cost {}{}",
        model.items.len(),
        model.bins.len(),
        initial.values[0],
        if initial.holds() { "" } else { ", and break rules" },
    ));
    let proposals = args.proposals.map(Proposals);
    let clock = Clock { start, limit: Duration::from_secs_f64(args.time) };
    let curve = Mutex::new(Curve { start, points: Vec::new() });
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads as usize).build()?;
    let budget: &dyn Budget = proposals.as_ref().map_or(&clock, |proposals| proposals);
    let found = pool.install(|| {
        search::best(&problem, args.threads, args.seed, budget, &|seen| {
            if let Ok(mut curve) = curve.lock() {
                curve.add(seen.value);
            }
        })
    });
    let judgement = judge(&model, &found.at);
    anyhow::ensure!(
        judgement.values == found.values.iter().map(|value| i128::from(*value)).collect::<Vec<_>>(),
        "the search and the judge don't agree: {:?} and {:?}; this is a bug",
        found.values,
        judgement.values,
    );
    let run = Run {
        model: args.model.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        processes: model.items.len(),
        machines: model.bins.len(),
        seconds: start.elapsed().as_secs_f64(),
        threads: args.threads,
        seed: args.seed,
        initial: initial.values[0],
        cost: judgement.values[0],
        bound: least(&model, &model.objectives[0]),
        terms: format::terms(&model, &judgement.terms[0]),
        moved: judgement.moved,
        holds: judgement.holds(),
        proposals: found.proposals,
        curve: curve.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).points,
    };
    print(&run, start.elapsed());
    if let Some(path) = &args.assignment {
        let text: Vec<String> = found.at.iter().map(ToString::to_string).collect();
        std::fs::write(path, text.join(" ") + "\n")
            .with_context(|| format!("can't write {}", path.display()))?;
    }
    crate::results::write(args.out.as_deref(), &run)
}

struct Curve {
    start: Instant,
    points: Vec<(f64, i64)>,
}

impl Curve {
    /// A point each time that the least cost has fallen and the time since the point before has grown by a twentieth.
    fn add(&mut self, value: i64) {
        let seconds = self.start.elapsed().as_secs_f64();
        let due = self.points.last().is_none_or(|(at, least)| seconds > at * 1.05 && value < *least);
        if due {
            self.points.push((seconds, value));
        }
    }
}

fn print(run: &Run, took: Duration) {
    let row = |name: &str, cost: i128| [name.to_owned(), cost.to_string()];
    let mut rows = vec![row("initial", run.initial)];
    rows.extend(run.terms.iter().map(|(name, cost)| row(name, *cost)));
    rows.push(row("together", run.cost));
    rows.push(row("at least", run.bound));
    show(&table(["", "cost"], rows));
    show(&format!(
        "{}: at most {:.3} % above what is possible; {} of {} processes moved, {:.1} s, {:.1} million proposals; {}",
        run.model,
        100.0 * (run.cost - run.bound) as f64 / (run.bound.max(1)) as f64,
        run.moved,
        run.processes,
        took.as_secs_f64(),
        run.proposals as f64 / 1e6,
        if run.holds { "every rule holds" } else { "RULES ARE BROKEN" },
    ));
}
