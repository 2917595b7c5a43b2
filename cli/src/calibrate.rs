//! `sterna calibrate`: what moves cost on these nodes, learnt from those that were measured.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use sterna_core::continuum::Continuum;
use sterna_executor::migration::phase::Phase;
use sterna_executor::migration::report::Report;
use sterna_policies::policy::Memory;
use sterna_policies::quantity::Bytes;
use sterna_simulator::calibrate::measured::{self, Measured, Took};
use sterna_simulator::calibrate::part::Over;
use sterna_simulator::calibrate::{Calibration, calibrate, file};

use crate::exit::Invalid;
use crate::run::say;
use crate::service::Service;
use crate::wiring::{Output, runtime};

/// Arguments of `sterna calibrate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files of measured migrations, JSON: what `sterna-bench phases --out FILE` writes, or the format of docs/calibration.md.
    #[arg(value_name = "FILE", required_unless_present = "config")]
    measured: Vec<PathBuf>,
    /// The settings file of a scheduler: its history is learnt from, too.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the calibration goes, for `calibration` in settings and scenarios.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (mut all, mut from) = (Vec::new(), Vec::new());
    for path in &args.measured {
        let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
        let name = path.display().to_string();
        let refused = |error: measured::MeasuredError| Invalid(miette::Report::msg(error.to_string()));
        all.extend(measured::read(&name, &text).map_err(refused)?);
        from.push(name);
    }
    if let Some(config) = &args.config {
        let (measured, name) = history(config)?;
        all.extend(measured);
        from.push(name);
    }
    let from = from.join(" and ");
    let calibration = calibrate(&all).with_context(|| format!("nothing is learnt from {from}"))?;
    if let Some(out) = &args.out {
        std::fs::write(out, file::text(&calibration, &from))
            .with_context(|| format!("can't write {}", out.display()))?;
    }
    match args.output {
        Output::Json => say(&serde_json::to_string_pretty(&calibration)?),
        Output::Table => say(text(&calibration, &from, args.out.as_deref()).trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}

/// The migrations of a scheduler's history that were measured, and the file's name. Tells which were not.
#[expect(clippy::print_stderr, reason = "what is left out is for whoever asked")]
fn history(config: &Path) -> anyhow::Result<(Vec<Measured>, String)> {
    let service = Service::open(config)?;
    let history = service.history()?;
    let reports = runtime()?.block_on(history.moved())?;
    let mut measured = Vec::new();
    for report in &reports {
        match of_report(report) {
            Ok(one) => measured.push(Measured { round_trip: round_trip(&service.continuum, report), ..one }),
            Err(reason) => eprintln!("migration {} is left out: {reason}", report.id),
        }
    }
    Ok((measured, history.path().display().to_string()))
}

/// The round trip between a migration's ends by the inventory; `None` where it does not say.
fn round_trip(continuum: &Continuum, report: &Report) -> Option<f64> {
    let (from, to) = (continuum.nodes.get(&report.from)?, continuum.nodes.get(&report.to)?);
    continuum.link(&from.site, &to.site).map(|link| link.rtt.as_f64())
}

/// A migration as it was measured, or why it was not.
fn of_report(report: &Report) -> Result<Measured, String> {
    if report.started_anew.is_some() {
        return Err("the service was started anew, and not moved live".to_owned());
    }
    let load = report.load.ok_or("it is not known how large the service was")?;
    let downtime =
        report.downtime.ok_or("its downtime was not measured: an agent was restarted meanwhile")?;
    if load.image > Bytes::ZERO {
        return Err("it brought the image with it".to_owned());
    }
    let missing = Phase::ALL.iter().find(|phase| !report.phases.iter().any(|record| record.phase == **phase));
    if let Some(phase) = missing {
        return Err(format!("the time of its phase `{phase}` is not known"));
    }
    let took = |record: &sterna_executor::migration::report::PhaseRecord| Took {
        phase: record.phase.name().to_owned(),
        took: record.took.as_f64(),
        sent: record.bytes,
    };
    let phases = report.phases.iter().map(took).collect();
    let one = measured::checked(load.memory, phases, Some(downtime.as_f64()))?;
    Ok(Measured { ahead: load.crosses == Memory::Ahead, ..one })
}

fn text(calibration: &Calibration, from: &str, out: Option<&Path>) -> String {
    let Calibration { migrations, sizes, duration_error, downtime_error, phases, costs, left } = calibration;
    let mut parts = vec![format!("{migrations} migrations of {} sizes, from {from}", sizes.len())];

    let mut table = Table::new();
    table
        .load_style(UTF8_HORIZONTAL_ONLY)
        .set_header(["phase", "over", "constant", "95 %", "each MiB", "95 %", "spread", "left out"]);
    for phase in phases {
        let fit = &phase.fit;
        let between = |[low, high]: [f64; 2]| format!("{} to {}", time(low), time(high));
        table.add_row([
            phase.phase.clone(),
            if phase.over == Over::Sent { "what it sent".to_owned() } else { "memory".to_owned() },
            time(fit.constant),
            between(fit.constant_interval),
            time(fit.per_mib),
            between(fit.per_mib_interval),
            share(fit.spread),
            phase.left_out_error.map(share).unwrap_or_default(),
        ]);
    }
    right(&mut table, 2..8);
    parts.push(table.to_string());

    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header([
        "size",
        "migrations",
        "took",
        "told",
        "95 % of them",
        "left out",
        "downtime, left out",
    ]);
    for size in sizes {
        let [low, high] = size.interval;
        table.add_row([
            size.memory.to_string(),
            size.migrations.to_string(),
            time(size.measured),
            time(size.told),
            format!("{} to {}", time(low), time(high)),
            share(size.left_out_error),
            size.left_out_downtime_error.map(share).unwrap_or_default(),
        ]);
    }
    right(&mut table, 0..7);
    parts.push(table.to_string());

    let mut last = format!(
        "left out: mean relative error of a size that is predicted from all others; whole migrations {}",
        share(*duration_error)
    );
    if let Some(error) = downtime_error {
        last += &format!(", downtimes {}", share(*error));
    }
    parts.push(last);
    let line = |line: sterna_core::cost::Line| {
        format!("{} + {} per MiB", time(line.constant.as_f64()), time(line.per_mib.as_f64()))
    };
    let left = left.unwrap_or(costs.left);
    parts.push(format!(
        "moves are predicted by\n  dump     {}\n  restore  {}\n  around   {}\n  beside   {}\n  opening  {}\n  left     {} + \
         {:.2} of the memory, where it is sent ahead",
        line(costs.dump),
        line(costs.restore),
        line(costs.around),
        line(costs.beside),
        time(costs.opening.as_f64()),
        left.constant,
        left.share,
    ));
    parts.push(match out {
        Some(out) => {
            format!("written to {}: name it as `calibration` in settings or a scenario", out.display())
        }
        None => "nothing was written; `--out FILE` does".to_owned(),
    });
    parts.join("\n\n")
}

fn right(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// A time as people read it; below a millisecond its digits tell.
fn time(millis: f64) -> String {
    match millis.abs() {
        size if size >= 10_000.0 => format!("{:.1}s", millis / 1e3),
        size if size >= 1000.0 => format!("{:.2}s", millis / 1e3),
        size if size >= 10.0 => format!("{millis:.0}ms"),
        size if size >= 1.0 => format!("{millis:.1}ms"),
        _ => format!("{millis:.3}ms"),
    }
}

fn share(part: f64) -> String {
    format!("{:.1}%", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sterna_simulator::calibrate::part::{OTHER, PHASES};

    #[test]
    fn the_phases_are_the_executors() {
        let names: Vec<&str> = Phase::ALL.iter().map(|phase| phase.name()).chain([OTHER]).collect();
        assert_eq!(names, PHASES);
    }
}
