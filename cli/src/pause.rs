//! `sterna pause` and `sterna resume`: nothing is moved for a while.

use std::process::ExitCode;

use crate::service::{Of, Who};
use crate::tell;

/// Arguments of `sterna pause` and `sterna resume`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    of: Of,
}

/// Runs `pause`.
pub fn pause(args: Args) -> anyhow::Result<ExitCode> {
    tell::say(
        &args.of,
        "/pause",
        &args.who,
        &[],
        ["paused: nothing is moved until `sterna resume`", "it was paused already"],
    )
}

/// Runs `resume`.
pub fn resume(args: Args) -> anyhow::Result<ExitCode> {
    tell::say(&args.of, "/resume", &args.who, &[], ["moves are made again", "it was not paused"])
}
