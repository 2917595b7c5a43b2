//! The simulator's speed: consolidation-24h at several sizes, and the same fleet in simulators that others made.
//!
//! | module | what lives there |
//! |---|---|
//! | [`peers`] | LEAF and SimGrid |
//! | [`sweep`] | many policies over many seeds of a day |
//! | [`day`] | that day |

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;
use sterna_simulator::clock::SimTime;
use sterna_simulator::fleet::consolidation::consolidation;
use sterna_simulator::fleet::{Fleet, closed_form, run as run_fleet};

use crate::results::Machine;
use crate::table::{progress, show, table, verdicts};
use crate::verdict::{self, Verdict};

mod day;
mod peers;
mod sweep;

/// Energy of a day that is known from before, by nodes: all simulators must come to it.
const KNOWN: [(u32, f64); 2] = [(100, 320.871_852), (1000, 3_209.782_140)];

/// What is asked for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Nodes.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    sizes: Vec<u32>,
    /// Runs of each size, of which the best counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Run LEAF and SimGrid on the same fleet, too.
    #[arg(long)]
    peers: bool,
    /// Install what the other simulators need without asking, where it is missing.
    #[arg(long, requires = "peers")]
    yes: bool,
    #[command(flatten)]
    sweep: sweep::Args,
    /// Where every number goes, as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A size, run several times.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Who ran it.
    pub simulator: String,
    /// What a migration is to it.
    pub migration: &'static str,
    /// Nodes.
    pub nodes: u32,
    /// Services.
    pub services: usize,
    /// Simulated hours.
    pub hours: f64,
    /// Seconds of each run.
    pub seconds: Vec<f64>,
    /// The most memory that was taken, in MiB.
    pub peak: f64,
    /// Energy in kWh.
    pub energy: f64,
    /// The same in closed form.
    pub closed_form: Option<f64>,
    /// Migrations.
    pub migrations: u64,
    /// Their mean time, in seconds; none where they take no time.
    pub mean_migration: Option<f64>,
    /// Carbon in kg and cost in USD, where they are reckoned.
    pub carbon: Option<f64>,
    /// The same.
    pub cost: Option<f64>,
    /// The report's hash.
    pub hash: Option<String>,
}

impl Row {
    /// Seconds of the best run.
    pub fn best(&self) -> f64 {
        self.seconds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Simulated node-hours per second.
    pub fn speed(&self) -> f64 {
        f64::from(self.nodes) * self.hours / self.best()
    }

    /// How far the energy is from its closed form, as a part of it.
    fn off(&self) -> Option<f64> {
        self.closed_form.map(|closed| (self.energy - closed).abs() / closed)
    }
}

#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    rows: Vec<Row>,
    /// What was not measured, and why.
    left_out: Vec<String>,
    verdicts: Vec<Verdict>,
}

/// Measures and prints.
///
/// # Errors
/// When a fleet can't be run, two runs of it differ, or the file can't be written.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    if args.sweep.sweep {
        return sweep::run(&args.sweep, args.out.as_ref());
    }
    // Ascending, so that the most memory so far is that of the last one, where the kernel can't be told to forget.
    let mut sizes = args.sizes.clone();
    sizes.sort_unstable();
    let mut rows = Vec::new();
    for nodes in &sizes {
        rows.push(measure(*nodes, args.runs)?);
        progress(&format!("{nodes} nodes: {:.4} s", rows.last().map_or(0.0, Row::best)));
    }
    let mut left_out = Vec::new();
    let verdicts = judge(&rows);
    if args.peers {
        peers::run(&sizes, args.yes, &mut rows, &mut left_out).await;
    }
    let results = Results { machine: Machine::this(), rows, left_out, verdicts };
    print(&results);
    crate::results::write(args.out.as_deref(), &results)
}

/// One size: made and run from nothing each time.
fn measure(nodes: u32, runs: u32) -> anyhow::Result<Row> {
    forget_peak();
    let mut seconds = Vec::new();
    let mut first = None;
    for _ in 0..runs {
        let start = Instant::now();
        let fleet = consolidation(nodes);
        let report = run_fleet(&fleet)?;
        seconds.push(start.elapsed().as_secs_f64());
        match &first {
            None => first = Some((fleet, report)),
            Some((_, other)) => {
                anyhow::ensure!(
                    *other == report,
                    "two runs of the same {nodes} nodes differ: a bug in the simulator"
                );
            }
        }
    }
    let peak = peak();
    let (fleet, report) = first.context("there was no run")?;
    anyhow::ensure!(report.refused.is_empty(), "{} moves were refused", report.refused.len());
    let closed = closed_form::energy(&fleet, &report);
    anyhow::ensure!(closed == Some(report.totals.energy), "the energy is not that of the closed form: a bug");
    Ok(Row {
        simulator: "Sterna".to_owned(),
        migration: "passes, what is written meanwhile",
        nodes,
        services: report.services,
        hours: hours(&fleet),
        seconds,
        peak,
        energy: report.totals.energy.as_kwh(),
        closed_form: closed.map(|energy| energy.as_kwh()),
        migrations: report.migrations.len() as u64,
        mean_migration: report.mean_migration().map(|nanos| nanos as f64 / 1e9),
        carbon: report.totals.carbon.map(|grams| grams.as_f64() / 1000.0),
        cost: Some(report.totals.cost.as_f64()),
        hash: Some(report.hash()?),
    })
}

fn hours(fleet: &Fleet) -> f64 {
    fleet.duration.as_nanos() as f64 / 3.6e12
}

/// The fleet, cut off after so many ticks.
fn shortened(nodes: u32, ticks: u64) -> Fleet {
    let mut fleet = consolidation(nodes);
    fleet.duration = fleet.duration.min(SimTime::from_nanos(ticks * fleet.tick));
    fleet
}

/// Tells the kernel to begin anew with the most memory that was taken.
fn forget_peak() {
    // Where it can't, the peak is that of the whole process so far: never less than what is looked for.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that was taken, in MiB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// The goals, of our own rows.
fn judge(rows: &[Row]) -> Vec<Verdict> {
    let of = |nodes| rows.iter().find(|row| row.nodes == nodes);
    let ratio = of(10_000).zip(of(1000)).map(|(large, small)| large.best() / small.best());
    let energies = KNOWN.map(|(nodes, known)| (nodes, known, of(nodes).map(|row| row.energy)));
    verdict::fleets(of(1000).map(Row::speed), ratio, &energies)
}

fn print(results: &Results) {
    let number =
        |value: f64| if value >= 1e6 { format!("{:.2} M", value / 1e6) } else { format!("{value:.0}") };
    let dash = || "-".to_owned();
    let rows = results.rows.iter().map(|row| {
        [
            format!("{}, {} nodes, {} services, {} h", row.simulator, row.nodes, row.services, row.hours),
            format!("{:.4} s", row.best()),
            number(row.speed()),
            format!("{:.0} MiB", row.peak),
            format!("{:.6} kWh", row.energy),
            row.off().map_or_else(dash, |off| format!("{off:.1e}")),
            row.migrations.to_string(),
            row.mean_migration.map_or_else(dash, |mean| format!("{mean:.3} s")),
            row.carbon.map_or_else(dash, |carbon| format!("{carbon:.1} kg")),
            row.cost.map_or_else(dash, |cost| format!("{cost:.2} USD")),
        ]
    });
    let header = [
        "consolidation-24h",
        "best",
        "node-h/s",
        "memory",
        "energy",
        "off",
        "moves",
        "mean",
        "carbon",
        "cost",
    ];
    let mut parts = vec![table(header, rows)];
    if !results.left_out.is_empty() {
        let lines: Vec<String> = results.left_out.iter().map(|line| format!("  - {line}")).collect();
        parts.push(format!("Left out\n{}", lines.join("\n")));
    }
    parts.push(verdicts(&results.verdicts));
    show(&parts.join("\n\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_fleet_is_measured() {
        let row = measure(20, 2).unwrap();
        assert_eq!((row.services, row.seconds.len(), row.hours), (80, 2, 24.0));
        assert_eq!(row.off(), Some(0.0));
        assert!(row.migrations > 0 && row.mean_migration.unwrap() > 3.4 && row.peak > 0.0);
        let cut = shortened(20, 12);
        assert_eq!(hours(&cut), 1.0);
    }

    #[test]
    fn goals_are_those_of_the_rows() {
        let mut small = measure(20, 1).unwrap();
        (small.nodes, small.seconds, small.energy) = (1000, vec![0.5, 0.02], 3_209.782_140);
        let mut large = small.clone();
        (large.nodes, large.seconds) = (10_000, vec![0.3]);
        let met = |rows: &[Row]| judge(rows).iter().map(|one| one.outcome).collect::<Vec<_>>();
        use crate::verdict::Outcome::{Met, Missed, Unknown};
        assert_eq!(met(&[small.clone(), large.clone()]), [Met, Missed, Unknown, Met]);
        (small.energy, small.seconds) = (3209.79, vec![0.025]);
        assert_eq!(met(&[small, large]), [Missed, Met, Unknown, Missed]);
    }
}
