//! Workloads of the BtrPlace scheduler: what is broken in a data centre is repaired, and the moves are put in order.
//!
//! Hermenier, Lawall, Muller: BtrPlace: A Flexible Consolidation Manager for Highly Available Applications, TDSC 2013.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;
use sterna_core::assignment::order::{Allowed, order};
use sterna_core::assignment::problem::Problem;
use sterna_core::assignment::search::repair::repair;
use sterna_core::assignment::state::State;
use sterna_core::checker::assignment::{Judgement, judge, replay};

use crate::table::{progress, show, table};

mod format;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The workload, as BtrPlace's JSON, plain or packed by gzip.
    workload: PathBuf,
    /// Where every number goes, as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// One run.
#[derive(Debug, Serialize)]
struct Run {
    workload: String,
    servers: usize,
    machines: usize,
    rules: usize,
    /// Rules broken and bins without room at first, and after the repair.
    broken: (i64, i64),
    /// Machines that run elsewhere afterwards.
    moved: u32,
    /// Machines that did not run before.
    started: usize,
    /// Steps in order, and those of them that only make way.
    steps: usize,
    parked: usize,
    /// Machines that no order was found for.
    unreachable: usize,
    /// What the judge finds wrong with the steps.
    missteps: usize,
    /// Seconds for the repair and for the order.
    repair: f64,
    order: f64,
}

/// Repairs, orders and prints.
///
/// # Errors
/// When a file can't be read or written, is not in BtrPlace's format, or has a constraint that is not understood.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let name = args.workload.display();
    let text = read(&args.workload).with_context(|| format!("can't read {name}"))?;
    let workload = format::workload(&text).with_context(|| name.to_string())?;
    let model = &workload.model;
    let before = judge(model, &model.now());
    progress(&format!(
        "{} machines on {} servers, {} rules, {} broken",
        model.items.len(),
        workload.servers,
        model.rules.len(),
        broken(&before),
    ));
    let start = Instant::now();
    let problem = Problem::new(model)?;
    let mut state = State::new(&problem, &problem.now);
    repair(&mut state, &[]);
    let repaired = start.elapsed().as_secs_f64();
    let ordered = order(model, state.at(), Allowed::default())?;
    let took = start.elapsed().as_secs_f64();
    let (missteps, end) = replay(model, &ordered.steps);
    let after = judge(model, &end);
    let run = Run {
        workload: args.workload.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        servers: workload.servers,
        machines: model.items.len(),
        rules: model.rules.len(),
        broken: (broken(&before), broken(&after)),
        moved: after.moved,
        started: workload.started(&end),
        steps: ordered.steps.len(),
        parked: ordered.steps.iter().filter(|step| step.parks).count(),
        unreachable: ordered.unreachable.len(),
        missteps: missteps.len(),
        repair: repaired,
        order: took - repaired,
    };
    print(&run);
    crate::results::write(args.out.as_deref(), &run)
}

fn read(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path)?;
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text)?;
    } else {
        text = String::from_utf8(bytes)?;
    }
    Ok(text)
}

fn broken(judgement: &Judgement) -> i64 {
    judgement.rules.iter().sum::<i64>() + judgement.overloads.len() as i64 + judgement.misplaced.len() as i64
}

fn print(run: &Run) {
    let row = |name: &str, value: String| [name.to_owned(), value];
    let rows = [
        row("servers", run.servers.to_string()),
        row("machines", run.machines.to_string()),
        row("rules", run.rules.to_string()),
        row("broken before", run.broken.0.to_string()),
        row("broken after", run.broken.1.to_string()),
        row("moved", run.moved.to_string()),
        row("of them started", run.started.to_string()),
        row("steps", run.steps.to_string()),
        row("of them to make way", run.parked.to_string()),
        row("no way found", run.unreachable.to_string()),
        row("wrong steps", run.missteps.to_string()),
        row("repair", format!("{:.2} s", run.repair)),
        row("order", format!("{:.2} s", run.order)),
    ];
    show(&table(["", &run.workload], rows));
}
