//! `sterna agent`: serve one node.

use std::path::PathBuf;
use std::process::ExitCode;

use sterna_executor::node::config::AgentConfig;
use sterna_executor::node::server;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit;

/// Arguments of `sterna agent`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The agent's settings.
    #[arg(long, value_name = "FILE", default_value = "/etc/sterna/agent.toml")]
    config: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = AgentConfig::load(&args.config).map_err(exit::unusable)?;
    crate::wiring::runtime()?.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let stop = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        server::serve(config, stop).await?;
        Ok(ExitCode::SUCCESS)
    })
}
