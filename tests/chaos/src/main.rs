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

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let command = cli.command.unwrap_or(Command::Run(cli.chaos));
    if let Command::Run(args) = &command {
        // While there is but one thread.
        sterna_chaos::prepare(args)?;
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        match command {
            Command::Run(args) => sterna_chaos::run(args).await,
            Command::PowerCuts(args) => sterna_chaos::power::run(args).await,
        }
    })
}
