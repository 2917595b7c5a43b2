//! `sterna drain`, `undrain`, `cordon` and `uncordon`: nodes and sites that are left, or not moved to.

use std::process::ExitCode;

use crate::service::{Of, Who};
use crate::tell;

/// Arguments of all four.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node, or the site with --site.
    name: String,
    /// It is a site: all its nodes.
    #[arg(long)]
    site: bool,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    of: Of,
}

impl Args {
    fn say(&self, path: &str, [done, was]: [&str; 2]) -> anyhow::Result<ExitCode> {
        let kind = if self.site { "site" } else { "node" };
        let text = |words: &str| format!("{kind} {}: {words}", self.name);
        let (done, was) = (text(done), text(was));
        tell::say(&self.of, path, &self.who, &[(kind, &self.name)], [&done, &was])
    }
}

/// Runs `drain`.
pub fn drain(args: Args) -> anyhow::Result<ExitCode> {
    args.say(
        "/drain",
        [
            "services leave it, as far as the policy's mode allows, and nothing is moved to it",
            "it was drained already",
        ],
    )
}

/// Runs `undrain`.
pub fn undrain(args: Args) -> anyhow::Result<ExitCode> {
    args.say(
        "/undrain",
        ["it is used again, unless the inventory drains it", "no `sterna drain` was in force"],
    )
}

/// Runs `cordon`.
pub fn cordon(args: Args) -> anyhow::Result<ExitCode> {
    args.say("/cordon", ["nothing is moved to it; what is there may stay", "it was cordoned already"])
}

/// Runs `uncordon`.
pub fn uncordon(args: Args) -> anyhow::Result<ExitCode> {
    args.say("/uncordon", ["it may be moved to again", "it was not cordoned"])
}
