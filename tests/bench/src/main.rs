//! Benchmarks as commands, on real nodes. Each compares its variants in one run on one machine, and prints medians.
//!
//! | module | what lives there |
//! |---|---|
//! | [`migration`] | what a move costs, beside the engine's own way and the floor |
//! | [`matrix`] | its rows and variants |
//! | [`sterna_move`] | a move by Sterna |
//! | [`engine_api`] | a move by Docker's checkpoint API |
//! | [`floor`] | what no move could get below |
//! | [`link`] | the link between two nodes: how fast it is to be, and how fast it is |
//! | [`pump`] | bytes from one container to another |
//! | [`nested`] | containers with an engine and no agent |
//! | [`results`] | what was measured |
//! | [`verdict`] | the goals |
//! | [`table`] | tables for people |
//! | [`clients`] | what clients see of moves behind a front |
//! | [`idle`] | what Sterna costs while nothing moves |
//! | [`phases`] | what each phase of a move takes, by the size of the service |
//! | [`roadef`] | the machine reassignment challenge of 2012 |
//! | [`small`] | small random problems, solved exactly |
//! | [`continuum`] | services between devices and clouds, on instances that are made here |
//! | [`simulator`] | the simulator's speed, beside that of others |
//! | [`improve`] | an assignment made better while somebody watches |
//! | [`btrplace`] | data centres that are repaired, from BtrPlace |
//! | [`median`] | the middle of several runs |

use std::path::PathBuf;

use clap::{Parser, Subcommand};

mod btrplace;
mod clients;
mod continuum;
mod engine_api;
mod floor;
mod idle;
mod improve;
mod link;
mod matrix;
mod median;
mod migration;
mod nested;
mod phases;
mod pump;
mod results;
mod roadef;
mod simulator;
mod small;
mod sterna_move;
mod table;
mod verdict;

use matrix::{Scope, Variant};

/// As in the program that is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Sterna on this machine.
#[derive(Debug, Parser)]
#[command(name = "sterna-bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What a move costs: sent ahead, stop-and-copy, the engine's own API, and the floor.
    Migration {
        /// Fewer rows, and 3 runs of each, for a first look.
        #[arg(long, conflicts_with = "full")]
        quick: bool,
        /// Everything with everything. Takes many hours.
        #[arg(long)]
        full: bool,
        /// Only these variants.
        #[arg(long, value_delimiter = ',', value_enum)]
        only: Option<Vec<Variant>>,
        /// Only rows with these sizes of the service's memory, in MiB.
        #[arg(long, value_delimiter = ',')]
        sizes: Option<Vec<u32>>,
        /// Runs of each variant of a row, if not as many as the rows ask for.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        runs: Option<u32>,
        /// Where every single number goes, as JSON.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// What clients see of a service that moves behind a front: failed requests, longest time without an answer.
    Clients {
        /// Moves of each service.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        moves: u32,
        /// Install redis-benchmark and wrk without asking, where they are missing.
        #[arg(long)]
        yes: bool,
        /// Where every single number goes, as JSON.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// What Sterna costs while nothing moves: throughput, processors, memory.
    Idle {
        /// Runs of each way.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
        /// Where every single number goes, as JSON.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// The Google/ROADEF/EURO challenge 2012: how well, and how soon, processes are placed on machines.
    Roadef(roadef::Args),
    /// Small random problems: how far the search is from what is proved to be best.
    Small(small::Args),
    /// Services between devices and clouds: how well, and how soon, they are placed where they cost least.
    Continuum(continuum::Args),
    /// A workload of the BtrPlace scheduler: what is broken is repaired, and the moves are put in order.
    Btrplace(btrplace::Args),
    /// The simulator on a day of 100, 1000 and 10000 nodes: how fast it is, and that its energy is the closed form's.
    Simulator(simulator::Args),
    /// What each phase of a move takes, by the size of the service.
    Phases {
        /// Sizes of the service's memory in MiB.
        #[arg(long, value_delimiter = ',', default_value = "64,256,512")]
        sizes: Vec<u32>,
        /// Moves per size.
        #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
        /// Where every single number goes, as JSON.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Migration { quick, full, only, sizes, runs, out } => {
            let scope = match (quick, full) {
                (true, _) => Scope::Quick,
                (_, true) => Scope::Full,
                _ => Scope::Usual,
            };
            let cells = scope.cells_of(sizes.as_deref());
            let runs = runs.unwrap_or(scope.runs());
            migration::run(scope, &cells, runs, only.as_deref(), out.as_deref()).await
        }
        Command::Clients { moves, yes, out } => clients::run(moves, yes, out.as_deref()).await,
        Command::Idle { runs, out } => idle::run(runs, out.as_deref()).await,
        Command::Roadef(args) => roadef::run(&args),
        Command::Small(args) => small::run(&args),
        Command::Continuum(args) => continuum::run(&args),
        Command::Btrplace(args) => btrplace::run(&args),
        Command::Simulator(args) => simulator::run(&args).await,
        Command::Phases { sizes, runs, out } => phases::run(&sizes, runs, out.as_deref()).await,
    }
}
