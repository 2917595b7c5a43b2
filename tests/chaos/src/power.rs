//! `sterna-chaos power-cuts`: an emulated node loses power at seeded moments of a migration.

use std::process::ExitCode;

use anyhow::bail;
use sterna_e2e::emulated::power::{HEAD, Plan, run as cut};
use sterna_e2e::emulated::unavailable;
use sterna_e2e::sterna::Sterna;

use crate::world;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many times a node loses power.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Decides the nodes and the moments, as shares of the time that a migration takes here.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Cuts the power, prints a line per cut, and fails if a promise was broken.
///
/// # Errors
/// When the nodes can't be had.
#[expect(clippy::print_stdout, reason = "the table is what is asked for")]
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    world::must_be_root()?;
    if let Some(reason) = unavailable() {
        bail!("no host can be emulated here: {reason}");
    }
    println!("{HEAD}");
    let plan = Plan { runs: args.runs, seed: args.seed };
    let cuts = cut(&Sterna::built()?, plan, |cut| println!("{cut}")).await?;
    let broken = cuts.iter().filter(|cut| !cut.broken.is_empty()).count();
    let writes: u64 = cuts.iter().map(|cut| cut.writes).sum();
    println!(
        "{} power cuts, {broken} with a broken promise; {writes} acknowledged writes, seed {}",
        cuts.len(),
        args.seed
    );
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
