//! The Google/ROADEF/EURO challenge 2012: processes on machines, with its own files in and out.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use sterna_core::assignment::bound::least;
use sterna_core::checker::assignment::judge;

use crate::improve::{Effort, gap};
use crate::table::{progress, show, table};

mod format;

/// How long to search if not said, in seconds: as long as in the challenge.
const USUAL: f64 = 300.0;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model, in the challenge's format.
    model: PathBuf,
    /// Where the processes are, in the challenge's format.
    initial: PathBuf,
    #[command(flatten)]
    effort: Effort,
    /// Where every number goes, as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where the new assignment goes, in the challenge's format.
    #[arg(long, value_name = "FILE")]
    assignment: Option<PathBuf>,
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
    progress(&format!(
        "{} processes on {} machines cost {}{}",
        model.items.len(),
        model.bins.len(),
        initial.values[0],
        if initial.holds() { "" } else { ", and break rules" },
    ));
    let improved = args.effort.improve(&model, start, USUAL)?;
    // First of all, because the bound takes time that the challenge does not give.
    if let Some(path) = &args.assignment {
        let text: Vec<String> = improved.at.iter().map(ToString::to_string).collect();
        std::fs::write(path, text.join(" ") + "\n")
            .with_context(|| format!("can't write {}", path.display()))?;
    }
    let judgement = improved.judgement;
    let run = Run {
        model: args.model.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        processes: model.items.len(),
        machines: model.bins.len(),
        seconds: start.elapsed().as_secs_f64(),
        threads: args.effort.threads,
        seed: args.effort.seed,
        initial: initial.values[0],
        cost: judgement.values[0],
        bound: least(&model, &model.objectives[0]),
        terms: format::terms(&model, &judgement.terms[0]),
        moved: judgement.moved,
        holds: judgement.holds(),
        proposals: improved.proposals,
        curve: improved.curve.points,
    };
    print(&run, start.elapsed());
    crate::results::write(args.out.as_deref(), &run)
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
        gap(run.cost, run.bound),
        run.moved,
        run.processes,
        took.as_secs_f64(),
        run.proposals as f64 / 1e6,
        if run.holds { "every rule holds" } else { "RULES ARE BROKEN" },
    ));
}
