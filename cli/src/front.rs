//! `sterna front`: one address for a service, wherever it runs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use sterna_executor::config_file::ConfigError;
use sterna_executor::identity::{Credentials, Role};
use sterna_executor::traffic::config::FrontConfig;
use sterna_executor::traffic::follow::Agent;
use sterna_executor::traffic::serve::Front;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Invalid;
use crate::wiring::{self, StateArgs};

/// Arguments of `sterna front`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The front's file: the services, where it listens for them, and the inventory with the nodes.
    #[arg(long, value_name = "FILE", default_value = "/etc/sterna/front.toml")]
    config: PathBuf,
    /// Only write a certificate and its key into this folder, for a front on another host.
    #[arg(long, value_name = "DIR")]
    issue: Option<PathBuf>,
    #[command(flatten)]
    state: StateArgs,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = FrontConfig::load(&args.config).map_err(|error| match error {
        ConfigError::Invalid(invalid) => anyhow::Error::new(Invalid(invalid.into())),
        error @ ConfigError::Read { .. } => error.into(),
    })?;
    let continuum = Arc::new(wiring::inventory(&config.inventory)?);
    if let Some(folder) = &args.issue {
        args.state.authority(&continuum)?.issue(&Role::Front)?.store(folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    let credentials = match &config.identity {
        Some(folder) => Credentials::load(folder)?,
        None => args.state.authority(&continuum)?.issue(&Role::Front)?,
    };
    for service in &config.services {
        if !continuum.services.contains_key(&service.name) {
            tracing::warn!(service = %service.name, inventory = %config.inventory.display(),
                "the inventory has no such service; what comes for it is held until a node says that it runs it");
        }
    }
    wiring::runtime()?.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let agents = continuum
            .nodes
            .keys()
            .map(|node| Agent::new(node.clone(), Arc::clone(&continuum), credentials.clone()));
        let front = Front::start(&config, agents).await?;
        let stop = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        front.serve(stop).await;
        Ok(ExitCode::SUCCESS)
    })
}
