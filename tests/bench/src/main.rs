//! Benchmarks as commands, on real nodes. Each compares its variants in one run on one machine, and prints medians.
//!
//! | module | what lives there |
//! |---|---|
//! | [`migration`] | what each phase of a move takes, by the size of the service |
//! | [`median`] | the middle of several runs |

use std::path::PathBuf;

use clap::{Parser, Subcommand};

mod median;
mod migration;

/// Measures Sterna on this machine.
#[derive(Debug, Parser)]
#[command(name = "sterna-bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What each phase of a move takes, by the size of the service.
    Migration {
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
        Command::Migration { sizes, runs, out } => migration::run(&sizes, runs, out.as_deref()).await,
    }
}
