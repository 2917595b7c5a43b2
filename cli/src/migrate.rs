//! `sterna migrate`: move one service now, or say what would come of it.
//!
//! A dry run ends with 0 where the service is there already, with 2 where it would be moved, and with 1 where it can't be.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use sterna_core::continuum::{NodeName, ServiceName};
use sterna_executor::fleet::{Fleet, FleetError};
use sterna_executor::migration::order::{MigrationId, Order};
use sterna_executor::migration::phase::Phase;
use sterna_executor::migration::report::{Event, Outcome, Report};
use sterna_policies::policy::{Memory, Method};
use sterna_policies::quantity::{Bytes, MibPerSecond, Millis};

use crate::wiring::{self, Of, Output};

mod dry_run;

/// Arguments of `sterna migrate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The service.
    service: String,
    /// The node it goes to.
    #[arg(long, value_name = "NODE")]
    to: String,
    #[command(flatten)]
    of: Of,
    /// Time until the commit; past it the migration is undone.
    #[arg(long, default_value = "10m")]
    deadline: Millis,
    /// Longest time that the service may stand frozen before it goes on at its source.
    #[arg(long, default_value = "30s")]
    freeze_lease: Millis,
    /// When its memory crosses: most of it while the service runs, or all of it while it stands frozen.
    #[arg(long, value_enum, default_value_t)]
    memory: When,
    /// Leave it where it is if it would stand still for longer than this, by what was measured just before it is frozen.
    #[arg(long, value_name = "TIME")]
    max_downtime: Option<Millis>,
    /// What it may take of the link, such as `200Mbit/s`.
    #[arg(long, value_name = "RATE")]
    bandwidth: Option<MibPerSecond>,
    /// Only ask both ends what speaks against it, and predict what it would cost. Exit code: 2 if it would be moved, 0 if it is
    /// there already, 1 if it can't be moved.
    #[arg(long)]
    dry_run: bool,
}

/// When the memory crosses.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum When {
    #[default]
    Ahead,
    WhileFrozen,
}

impl From<When> for Memory {
    fn from(when: When) -> Self {
        match when {
            When::Ahead => Self::Ahead,
            When::WhileFrozen => Self::WhileFrozen,
        }
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let continuum = wiring::inventory(&args.of.inventory)?;
    wiring::runtime()?.block_on(async {
        let service = ServiceName::from(args.service.clone());
        let to = NodeName::from(args.to.clone());
        let fleet = Fleet::connect(&continuum, &args.of.state.authority(&continuum)?).await?;
        let view = fleet.view().await;
        let Some(from) = view.placement.get(&service).cloned() else {
            // Of a cluster that is away all nodes say the same.
            let silent: BTreeSet<String> = view.unreachable.values().cloned().collect();
            let known: Vec<&str> = view.placement.keys().map(ServiceName::as_str).collect();
            bail!(
                "no node that answers runs `{service}`; running are: {}{}{}",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") },
                if silent.is_empty() { "" } else { "; not asked: " },
                silent.into_iter().collect::<Vec<_>>().join("; ")
            );
        };
        if from == to && args.dry_run {
            return dry_run::already_there(&service, &to, args.of.output);
        }
        if from == to {
            bail!("`{service}` runs on `{to}` already");
        }
        let order = Order {
            id: MigrationId::new(),
            service,
            from_address: fleet.address(&from)?.to_owned(),
            to_address: fleet.address(&to)?.to_owned(),
            from,
            to,
            method: Method::Checkpoint,
            memory: args.memory.into(),
            max_downtime: args.max_downtime,
            bandwidth: args.bandwidth,
            deadline: args.deadline,
            freeze_lease: args.freeze_lease,
            predicted: None,
        };
        if args.dry_run {
            return dry_run::show(&order, &fleet.assess(&order).await?, args.of.output);
        }
        let bar = progress_bar()?;
        let mut on_event = |event: &Event| show(&bar, event);
        let migrating = fleet.migrate(&order, &mut on_event);
        let report = until_interrupted(&fleet, &order, migrating).await;
        bar.finish_and_clear();
        let report = report?;
        print(&report, args.of.output)?;
        Ok(match report.outcome {
            Outcome::Moved => ExitCode::SUCCESS,
            Outcome::RolledBack { .. } | Outcome::Refused { .. } => ExitCode::FAILURE,
        })
    })
}

/// An interrupt asks for the migration to be undone, and what came of that is waited for; a second one leaves it to the agents.
async fn until_interrupted<T>(
    fleet: &Fleet,
    order: &Order,
    migrating: impl Future<Output = Result<T, FleetError>>,
) -> anyhow::Result<T> {
    let mut migrating = std::pin::pin!(migrating);
    for interrupts in 0.. {
        tokio::select! {
            report = &mut migrating => return Ok(report?),
            pressed = tokio::signal::ctrl_c() => pressed?,
        }
        if interrupts > 0 {
            break;
        }
        match fleet.cancel(order.id, &order.from, "interrupted at the command line").await {
            Ok(()) => tracing::warn!(
                "interrupted: the migration is being undone; interrupt again to leave it to the agents"
            ),
            Err(error) => tracing::warn!(%error, "interrupted, but it can't be undone"),
        }
    }
    bail!("left to the agents: migration {} goes on or is undone without this command", order.id)
}

fn progress_bar() -> anyhow::Result<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template("{spinner} {bar:24} {pos:>2}/{len} {msg}")?;
    let bar = ProgressBar::new(Phase::ALL.len() as u64).with_style(style).with_message("planning");
    bar.enable_steady_tick(Duration::from_millis(120));
    Ok(bar)
}

/// One line per phase where nobody watches a bar.
#[expect(clippy::print_stderr, reason = "progress is for whoever watches")]
fn show(bar: &ProgressBar, event: &Event) {
    if let Event::Progress { bytes, of, per_second } = event {
        bar.set_message(so_far(*bytes, *of, *per_second));
    }
    let Event::Reached(record) = event else { return };
    if bar.is_hidden() {
        eprintln!("{:<12} {:>10} {:>10}", record.phase, format!("{:.0}", record.took), record.bytes);
    } else {
        bar.inc(1);
        bar.set_message(record.phase.to_string());
    }
}

/// What has crossed, how fast, and how long the rest takes.
fn so_far(bytes: Bytes, of: Option<Bytes>, per_second: Bytes) -> String {
    let left = of.map_or(0, |of| of.0.saturating_sub(bytes.0));
    let whole = of.map_or_else(String::new, |of| format!(" of {of}"));
    let eta = match left.checked_div(per_second.0) {
        Some(seconds) if left > 0 => format!(", {} left", HumanDuration(Duration::from_secs(seconds))),
        _ => String::new(),
    };
    format!("{bytes}{whole} at {per_second}/s{eta}")
}

/// Prints a report.
#[expect(clippy::print_stdout, reason = "the report is the command's result")]
pub fn print(report: &Report, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        println!("{}", table(report));
    }
    Ok(())
}

/// The report as a table: phase, duration, bytes; and below it what came of it.
pub fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(["phase", "took", "bytes"]);
    for record in &report.phases {
        let bytes = if record.bytes.0 == 0 { String::new() } else { record.bytes.to_string() };
        table.add_row([record.phase.to_string(), format!("{:.0}", record.took), bytes]);
    }
    table.add_row(["all".to_owned(), format!("{:.0}", report.duration()), report.bytes().to_string()]);
    for column in [1, 2] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let Report { service, from, to, .. } = report;
    let outcome = match &report.outcome {
        Outcome::Moved => match report.downtime {
            Some(downtime) => format!(
                "`{service}` moved from `{from}` to `{to}`; downtime {downtime:.0}, from before the freeze to after the release"
            ),
            None => format!(
                "`{service}` moved from `{from}` to `{to}`; the agent was restarted, so the downtime is not known"
            ),
        },
        Outcome::RolledBack { after, reason } => format!(
            "`{service}` stays on `{from}`{}: undone after `{after}`, frozen for {:.0}: {reason}",
            if report.started_anew.is_none() { ", the same process as before" } else { "" },
            report.frozen_in_vain
        ),
        Outcome::Refused { findings } => {
            format!(
                "`{service}` stays on `{from}`, untouched: refused, because\n  - {}",
                findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  - ")
            )
        }
    };
    let predicted = report.forecast.map_or_else(String::new, |forecast| {
        let cost = &forecast.cost;
        let (downtime, duration) = (cost.downtime, cost.duration);
        format!("\npredicted: downtime {downtime:.0}, {duration:.0} in all, {}", cost.bytes)
    });
    let anew = report.started_anew.as_ref().map(|why| format!("\nIT DID NOT GO ON WHERE IT STOPPED: {why}"));
    let undone: Vec<&str> = report.undone.iter().map(|one| one.words()).collect();
    let undone = if undone.is_empty() { String::new() } else { format!("\nundone: {}", undone.join(", ")) };
    format!("{table}\n{outcome}{predicted}{undone}{}", anew.unwrap_or_default())
}
