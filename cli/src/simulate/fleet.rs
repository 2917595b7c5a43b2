//! `sterna simulate` of a fleet: moves are given, and it is about size.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;
use sterna_simulator::fleet;
use sterna_simulator::fleet::described::{self, Described};
use sterna_simulator::fleet::report::{FleetReport, SiteTotals};
use sterna_simulator::report::words::span;

use super::text::{align_right, new_table, table_text};
use super::{Args, refused, warn};
use crate::wiring::Output;

/// The report as it is printed for programs. Only the report has a hash: the rest hangs on the machine.
#[derive(Serialize)]
struct Printed<'a> {
    hash: String,
    /// The names of the report's sites.
    sites: &'a [String],
    speed: Speed,
    report: &'a FleetReport,
}

/// How long it took.
#[derive(Debug, Clone, Copy, Serialize)]
struct Speed {
    /// From the file to the report.
    seconds: f64,
    node_hours: f64,
    node_hours_per_second: f64,
    /// The most memory that this process took; `None` where the system does not tell.
    peak_memory_mib: Option<f64>,
}

/// Runs the fleet, and gives what is to be printed.
pub fn run(args: &Args, path: &Path, text: &str) -> anyhow::Result<String> {
    for (given, flag) in [
        (!args.policy.is_empty(), "--policy"),
        (args.seeds.is_some(), "--seeds"),
        (args.sweep.is_some(), "--sweep"),
        (args.timeline, "--timeline"),
        (!args.fail.is_empty(), "--fail"),
        (args.html.is_some(), "--html"),
        (args.csv.is_some(), "--csv"),
        (args.seed != 0, "--seed"),
    ] {
        anyhow::ensure!(!given, "{}: the moves of a fleet are given, so it takes no {flag}", path.display());
    }
    let start = Instant::now();
    let loaded = described::load(&path.display().to_string(), text).map_err(refused)?;
    warn(loaded.warnings);
    let described = loaded.value;
    let made = described.fleet(args.nodes.unwrap_or(described.nodes));
    let report = made.and_then(|made| fleet::run(&made)).with_context(|| path.display().to_string())?;
    let seconds = start.elapsed().as_secs_f64();
    let node_hours = report.node_hours();
    let speed =
        Speed { seconds, node_hours, node_hours_per_second: node_hours / seconds, peak_memory_mib: peak() };
    let hash = report.hash().context("the report can't be put into JSON")?;
    Ok(match args.output {
        Output::Table => render(&report, &described, speed, &hash),
        Output::Json => {
            let printed = Printed { hash, sites: &described.sites, speed, report: &report };
            serde_json::to_string_pretty(&printed)? + "\n"
        }
    })
}

/// The most memory that was taken, in MiB.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    kib.map(|kib: f64| kib / 1024.0)
}

fn render(report: &FleetReport, described: &Described, speed: Speed, hash: &str) -> String {
    let totals = &report.totals;
    let mut out = format!(
        "Fleet {}: {} nodes, {} services, {} of simulated time in {} ticks\n\n",
        report.fleet,
        report.nodes,
        report.services,
        span(report.ended.as_millis()),
        report.ticks
    );
    let mut table = new_table(&["site", "energy", "carbon", "hosting", "sent", "received"]);
    for (name, site) in described.sites.iter().zip(&report.sites) {
        table.add_row(row(name, site));
    }
    align_right(&mut table, 1..6);
    out.push_str(&table_text(table));
    let carbon = totals
        .carbon
        .map_or_else(|| "not known".to_owned(), |carbon| format!("{:.3} kg", carbon.as_f64() / 1000.0));
    let lines = [
        ("Energy", format!("{:.6} kWh", totals.energy.as_kwh())),
        ("Carbon", carbon),
        (
            "Cost",
            format!(
                "{:.4} USD, of which egress {:.4} USD",
                totals.cost.as_f64(),
                totals.cost_egress.as_f64()
            ),
        ),
        ("Moves", moves(report)),
        (
            "Speed",
            format!(
                "{:.0} node-hours in {:.4} s: {:.0} node-hours per second{}",
                speed.node_hours,
                speed.seconds,
                speed.node_hours_per_second,
                speed.peak_memory_mib.map_or_else(String::new, |peak| format!("; peak memory {peak:.1} MiB"))
            ),
        ),
    ];
    for (name, value) in lines {
        let _infallible = writeln!(out, "{name:<7} {value}");
    }
    let _infallible = writeln!(out, "Report hash {hash}");
    out
}

fn row(name: &str, site: &SiteTotals) -> [String; 6] {
    let gib = |bytes: u128| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    [
        name.to_owned(),
        format!("{:.6} kWh", site.energy.as_kwh()),
        site.carbon
            .map_or_else(|| "not known".to_owned(), |carbon| format!("{:.3} kg", carbon.as_f64() / 1000.0)),
        format!("{:.4} USD", site.hosting.as_f64()),
        gib(site.sent),
        gib(site.received),
    ]
}

fn moves(report: &FleetReport) -> String {
    let totals = &report.totals;
    let mut text = format!("{} made, {} refused", report.migrations.len(), report.refused.len());
    if let Some(mean) = report.mean_migration() {
        let unconverged = report.migrations.iter().filter(|one| !one.converged).count();
        let _infallible = write!(
            text,
            "; {:.3} s each in the mean, {} stood still in all, {} sent, {unconverged} did not converge",
            mean as f64 / 1e9,
            span(totals.downtime),
            totals.bytes
        );
    }
    text
}
