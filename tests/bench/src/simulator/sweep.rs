//! Two hundred policies over five seeds of a day of a hundred nodes, decided by the scheduler's own engine.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;
use sterna_policies::policy::Policy;
use sterna_simulator::run::{Deciding, run_as};
use sterna_simulator::scenario::{Scenario, load};
use sterna_simulator::sweep::grid::{self, Grid};
use sterna_simulator::sweep::{self, Comparison, Runs};

use super::day::day;
use super::{forget_peak, peak};
use crate::results::Machine;
use crate::table::{progress, show, table, verdicts};
use crate::verdict::{self, Verdict};

/// The policy that is varied: users first, then money.
const BASE: &str = r#"
schema_version = 1
name = "base"
mode = "auto"
[[objective.term]]
metric = "user_latency"
satisfied_at = "12ms"
[[objective.term]]
metric = "cost_rate"
[trigger]
interval = "5m"
[hysteresis]
min_gain = "10%"
min_residency = "30m"
cooldown = "10m"
[budget]
concurrent = 8
[metrics.user_latency]
query = "avg by (site, users) (probe_duration_seconds)"
users_label = "users"
unit = "s"
"#;

/// 5 × 5 × 4 × 2 variants.
const SWEEP: &str = r#"
schema_version = 1
[grid]
"hysteresis.min_gain" = ["5%", "10%", "15%", "20%", "30%"]
"hysteresis.cooldown" = ["5m", "10m", "20m", "40m", "80m"]
"hysteresis.min_residency" = ["10m", "30m", "1h", "2h"]
"hysteresis.no_return_within" = ["0s", "2h"]
"#;

/// What is asked for.
#[derive(Debug, clap::Args)]
// It would be called as that of the arguments which these stand among.
#[group(skip)]
pub struct Args {
    /// Instead of a fleet: 200 policies over seeds of a day of 100 nodes, decided by the scheduler's engine.
    #[arg(long)]
    pub sweep: bool,
    /// Metropolises of the day, of ten nodes each, besides the cloud regions' twenty.
    #[arg(long, requires = "sweep", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..100))]
    metros: u32,
    /// Services of the day.
    #[arg(long, requires = "sweep", default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..1000))]
    services: u32,
    /// Seeds.
    #[arg(long, requires = "sweep", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    seeds: u32,
    /// Only so many of the 200 policies, the first.
    #[arg(long, requires = "sweep", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=200))]
    policies: u32,
}

#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    nodes: usize,
    services: u32,
    policies: usize,
    seeds: u32,
    seconds: f64,
    looks: u64,
    moves: u64,
    /// Placements that were asked for, and those of them that had been found before.
    placements: (u64, u64),
    /// The most memory that was taken, in MiB.
    peak: f64,
    hash: String,
    verdicts: Vec<Verdict>,
}

/// Measures and prints.
///
/// # Errors
/// When the day can't be run, or what is left out of a decision makes a difference to a run.
pub fn run(args: &Args, out: Option<&PathBuf>) -> anyhow::Result<()> {
    let day = day(args.metros as usize, args.services as usize, 1);
    let (nodes, inventory) = (day.nodes, day.inventory);
    let read = load::load("day.toml", &day.scenario, &|_| Ok(inventory.clone()))?;
    let scenario = read.scenario;
    let (Grid { mut variants, objectives }, _) = grid::load("sweep.toml", SWEEP, BASE, 0)?;
    variants.truncate(args.policies as usize);
    let names: Vec<_> = (1..).zip(&variants).map(|(n, one)| (format!("{n}"), one.settings.clone())).collect();
    let policies: Vec<Policy> = variants.into_iter().map(|one| one.policy).collect();
    forget_peak();
    let start = Instant::now();
    let runs = Runs { scenario: &scenario, policies: &policies, seed: 1, seeds: args.seeds, threads: None };
    let matrix = sweep::run(runs, &|| {})?;
    let seconds = start.elapsed().as_secs_f64();
    let (peak, used) = (peak(), matrix.used);
    progress(&format!("{} runs: {seconds:.1} s", policies.len() * args.seeds as usize));
    spot_check(&scenario, &policies, &matrix)?;
    let all = || matrix.fared.iter().flatten();
    let (looks, moves) = (all().map(|one| one.looks).sum(), all().map(|one| one.moves).sum());
    let whole = (nodes, policies.len(), args.seeds) == (100, 200, 5);
    let comparison = Comparison::of(&scenario, &names, matrix, &objectives);
    let results = Results {
        machine: Machine::this(),
        nodes,
        services: args.services,
        policies: policies.len(),
        seeds: args.seeds,
        seconds,
        looks,
        moves,
        placements: (used.asked, used.known),
        peak,
        hash: comparison.hash()?,
        verdicts: vec![verdict::sweep(whole.then_some(seconds))],
    };
    print(&results);
    crate::results::write(out.map(PathBuf::as_path), &results)
}

/// The first run of the first and of the last policy once more, each alone, with each decision made anew and in full.
fn spot_check(scenario: &Scenario, policies: &[Policy], matrix: &sweep::Matrix) -> anyhow::Result<()> {
    let seed = matrix.seeds[0];
    let last = policies.len().checked_sub(1).context("there is no policy")?;
    for number in std::collections::BTreeSet::from([0, last]) {
        let outcome = run_as(scenario, &policies[number], seed, Deciding::Anew, &mut |_| {})?;
        let hash = blake3::hash(&serde_json::to_vec(&outcome)?).to_hex().to_string();
        let same = hash == matrix.fared[number][0].hash;
        anyhow::ensure!(same, "decisions in full come to something else for policy {}: a bug", number + 1);
    }
    Ok(())
}

fn print(results: &Results) {
    let (asked, known) = results.placements;
    let row = [
        format!(
            "{} policies × {} seeds, {} nodes, {} services",
            results.policies, results.seeds, results.nodes, results.services
        ),
        format!("{:.1} s", results.seconds),
        format!("{:.0}", results.looks as f64 / results.seconds),
        results.looks.to_string(),
        results.moves.to_string(),
        asked.to_string(),
        format!("{:.1} %", known as f64 * 100.0 / (asked as f64).max(1.0)),
        format!("{:.0} MiB", results.peak),
    ];
    let header = ["a day", "time", "looks/s", "looks", "moves", "placements", "known", "memory"];
    show(&[table(header, [row]), verdicts(&results.verdicts)].join("\n\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_can_be_read_and_its_policies_too() {
        let day = day(2, 12, 1);
        assert_eq!(day.nodes, 40);
        let inventory = day.inventory;
        let read = load::load("day.toml", &day.scenario, &|_| Ok(inventory.clone())).unwrap();
        assert!(read.scenario.is_random() && read.warnings[1].is_empty());
        let (grid, warnings) = grid::load("sweep.toml", SWEEP, BASE, 0).unwrap();
        assert!(warnings.is_empty());
        assert_eq!(grid.variants.len(), 200);
    }
}
