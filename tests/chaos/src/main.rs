//! `sterna-chaos`: lets faults strike while services move, and judges what comes of it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Lets real faults strike while services move, and judges what comes of it.
#[derive(Debug, Parser)]
#[command(name = "sterna-chaos", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    chaos: sterna_chaos::Args,
}

/// Other kinds of runs than the one that plain flags ask for.
#[derive(Debug, Subcommand)]
enum Command {
    /// The same as plain flags.
    Run(sterna_chaos::Args),
    /// An emulated host loses power at seeded moments of a migration.
    PowerCuts(sterna_chaos::power::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    match cli.command {
        None => sterna_chaos::run(cli.chaos).await,
        Some(Command::Run(args)) => sterna_chaos::run(args).await,
        Some(Command::PowerCuts(args)) => sterna_chaos::power::run(args).await,
    }
}
