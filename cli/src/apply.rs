//! `sterna apply`: carry out a plan that `sterna plan --out` wrote.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use sterna_core::explain;
use sterna_core::saved::SavedPlan;
use sterna_daemon::control::Scheduler;
use sterna_daemon::control::apply::Applied;
use sterna_daemon::control::desk::Desk;
use sterna_daemon::control::ending::Endings;
use sterna_daemon::control::recall::Recall;
use sterna_daemon::control::rounds::Rounds;
use sterna_daemon::control::stop::{Urgency, stop};
use sterna_daemon::control::world::SystemClock;
use sterna_daemon::history::lock::StateLock;
use sterna_daemon::telemetry::Telemetry;

use crate::exit::{self, Invalid};
use crate::run::{Opened, Printer, say};
use crate::wiring::{Output, runtime};

/// Arguments of `sterna apply`.
///
/// Refuses a plan that is stale, and says what changed: where a service runs, which nodes answer, the inventory, the policy (its
/// mode aside). No gain, budget or window holds it back, for a person decides; every rule about where services may run does, by
/// today's numbers. Only while no scheduler runs on the same state.
///
/// Exit codes: 0 every move was made or there is none, 1 stale, refused, or not every move was made, 3 the plan or a file is
/// invalid, 4 metrics do not suffice to judge the plan.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The plan.
    #[arg(value_name = "PLANFILE")]
    plan: PathBuf,
    /// The settings file.
    #[arg(long, short, env = "STERNA_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// How to print what came of it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let plan = read(&args.plan)?;
    runtime()?.block_on(apply(args, plan))
}

fn read(path: &Path) -> anyhow::Result<SavedPlan> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    let refused =
        |error| Invalid(miette::Report::msg(format!("{} can't be carried out: {error}", path.display())));
    Ok(SavedPlan::read(&text).map_err(refused)?)
}

async fn apply(args: Args, plan: SavedPlan) -> anyhow::Result<ExitCode> {
    let opened = Opened::read(&args.config)?;
    let _lock = StateLock::take(&opened.settings.state_of(&opened.continuum().name))?;
    let (history, world, store) = (opened.history()?, opened.world()?, opened.store()?);
    let (stopper, stop) = stop();
    let signals = tokio::spawn(async move {
        let heard = |urgency| match urgency {
            Urgency::Now => tracing::warn!("leaving at once; running migrations are left to the agents"),
            _ => tracing::warn!("no further move is begun (again to leave at once)"),
        };
        if let Err(error) = stopper.ask_on_signals(heard).await {
            tracing::warn!(%error, "signals can't be heard; the command can only be killed");
        }
    });
    let table = args.output == Output::Table;
    let printer = Printer::new(false, false, Arc::new(AtomicBool::new(false)));
    let desk = Arc::new(Desk::new(opened.continuum(), &opened.policies(None)?));
    let mut scheduler = Scheduler {
        store,
        world,
        clock: SystemClock,
        engine: opened.engine()?,
        files: opened.files,
        history,
        telemetry: Arc::new(Telemetry::new()),
        desk,
        recall: Recall::default(),
        endings: Endings::default(),
        rounds: Rounds::default(),
        tell: Box::new(move |notice| {
            if table {
                printer.tell(notice);
            }
        }),
    };
    if table {
        for one in &plan.recorded.decision.plan.moves {
            say(&explain::of_move(one));
        }
    }
    let applied = scheduler.apply(&plan, &stop).await?;
    signals.abort();
    match args.output {
        Output::Table => say(&text(&applied)),
        Output::Json => say(&serde_json::to_string_pretty(&applied)?),
    }
    Ok(code(&applied))
}

fn text(applied: &Applied) -> String {
    match applied {
        Applied::Nothing => "the plan has nothing to be done".to_owned(),
        Applied::NotInForce { policy } => {
            format!("the plan was made by the policy `{policy}`, which is not in force; nothing was moved")
        }
        Applied::Stale { changes } => {
            let lines: Vec<String> = changes.iter().map(|change| format!("  - {change}")).collect();
            format!(
                "the plan is stale, nothing was moved; since it was made:\n{}\nmake it anew with `sterna plan --out FILE`",
                lines.join("\n")
            )
        }
        Applied::Refused { finding, .. } => format!("the plan was refused, nothing was moved: {finding}"),
        Applied::CarriedOut { decision, moved, of } => {
            format!("{moved} of {of} moves made; decision {decision} of the history")
        }
    }
}

fn code(applied: &Applied) -> ExitCode {
    match applied {
        Applied::Nothing => ExitCode::SUCCESS,
        Applied::CarriedOut { moved, of, .. } if moved == of => ExitCode::SUCCESS,
        Applied::Refused { unknown: true, .. } => ExitCode::from(exit::METRICS),
        Applied::Stale { .. }
        | Applied::NotInForce { .. }
        | Applied::Refused { .. }
        | Applied::CarriedOut { .. } => ExitCode::FAILURE,
    }
}
