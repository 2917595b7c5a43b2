//! The referee of "never lost, never twice": real faults strike at every point of a migration between real nodes, and what
//! comes of each is judged from outside.
//!
//! | module | what lives there |
//! |---|---|
//! | [`binary`] | the `sterna` binary with fault points |

use std::path::PathBuf;
use std::process::ExitCode;

pub mod binary;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many faults strike.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Decides the order of the faults; the same number gives the same order.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where every run's result goes, as JSON.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// A `sterna` binary built with the feature `faults`; built here unless given.
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
}

/// Runs.
///
/// # Errors
/// When the nodes can't be had.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let binary = binary::find(args.binary.as_deref()).await?;
    anyhow::bail!("nothing strikes yet; the binary would be {}", binary.display())
}
