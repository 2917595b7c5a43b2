//! `sterna-fuzz`: looks for inputs that break what reads from the network.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sterna_fuzz::{instrument, quick, run};

/// Looks for inputs that break what reads from the network, guided by the coverage that they reach.
#[derive(Debug, Parser)]
#[command(name = "sterna-fuzz", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    guided: run::Args,
}

/// Other kinds of runs than the one that plain flags ask for.
#[derive(Debug, Subcommand)]
enum Command {
    /// The same as plain flags.
    Run(run::Args),
    /// Builds the guided binary and tries whether it can run here.
    Prepare(run::Args),
    /// Genuine messages, what was found before, and some changes; without coverage.
    Quick(quick::Args),
    /// One input that was found.
    Replay(quick::Replay),
}

// One thread: a room of its own is for a whole process.
fn main() -> anyhow::Result<ExitCode> {
    instrument::become_compiler()?;
    let cli = Cli::parse();
    match cli.command {
        None => run::run(&cli.guided),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Prepare(args)) => run::prepare(&args),
        Some(Command::Quick(args)) => quick::run(&args),
        Some(Command::Replay(args)) => quick::replay(&args),
    }
}
