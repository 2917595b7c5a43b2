//! `sterna optout` and `sterna optin`: a service that stays where it is.

use std::process::ExitCode;

use crate::service::{Of, Who};
use crate::tell;

/// Arguments of both.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The service.
    service: String,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    of: Of,
}

impl Args {
    fn say(&self, path: &str, [done, was]: [&str; 2]) -> anyhow::Result<ExitCode> {
        let text = |words: &str| format!("{}: {words}", self.service);
        let (done, was) = (text(done), text(was));
        tell::say(&self.of, path, &self.who, &[("service", &self.service)], [&done, &was])
    }
}

/// Runs `optout`.
pub fn optout(args: Args) -> anyhow::Result<ExitCode> {
    args.say("/optout", ["it stays where it is until `sterna optin`", "it was opted out already"])
}

/// Runs `optin`.
pub fn optin(args: Args) -> anyhow::Result<ExitCode> {
    args.say("/optin", ["it may be moved again", "it was not opted out"])
}
