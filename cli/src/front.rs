//! `sterna front`: one address for a service, wherever it runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use sterna_core::continuum::Continuum;
use sterna_executor::identity::{Credentials, Role};
use sterna_executor::traffic::config::FrontConfig;
use sterna_executor::traffic::output::{Agents, Printer};
use sterna_executor::traffic::roster::{RosterError, RosterFile};
use sterna_executor::traffic::serve::Front;
use sterna_executor::traffic::stand_in::until_it_ends;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit;
use crate::wiring::{self, StateArgs};

/// Arguments of `sterna front`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The front's file: the services, where it listens for them, and what file names the nodes.
    #[arg(long, value_name = "FILE", default_value = "/etc/sterna/front.toml")]
    config: PathBuf,
    /// Only write a certificate and its key into this folder, for a front on another host or in an agent.
    #[arg(long, value_name = "DIR")]
    issue: Option<PathBuf>,
    /// The inventory of what the certificate is for, where there is no front's file here.
    #[arg(long, value_name = "FILE", requires = "issue", conflicts_with = "config")]
    inventory: Option<PathBuf>,
    #[command(flatten)]
    state: StateArgs,
}

impl Args {
    /// Whether what is written is a service's.
    pub fn stands_in(&self) -> bool {
        self.issue.is_none() && FrontConfig::load(&self.config).is_ok_and(|config| config.stand_in.is_some())
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let (Some(folder), Some(inventory)) = (&args.issue, &args.inventory) {
        return issue(folder, &wiring::inventory(inventory)?, &args.state);
    }
    let config = FrontConfig::load(&args.config).map_err(exit::unusable)?;
    let (nodes, warnings) = RosterFile::open(config.nodes.clone(), None).map_err(unusable)?;
    if config.stand_in.is_none() {
        wiring::warn(warnings);
    }
    // Only an inventory says whose authority it would be.
    let continuum = || {
        let none = || format!("{} names no continuum: say --inventory FILE", nodes.path().display());
        nodes.roster().continuum().with_context(none)
    };
    if let Some(folder) = &args.issue {
        return issue(folder, continuum()?, &args.state);
    }
    let credentials = match &config.identity {
        Some(folder) => Credentials::load(folder)?,
        None => args.state.authority(continuum()?)?.issue(&Role::Front)?,
    };
    wiring::runtime()?.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let front = Front::before(&config, nodes, &credentials).await?;
        let stop = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        let Some(stand_in) = &config.stand_in else {
            front.serve(stop).await;
            return Ok(ExitCode::SUCCESS);
        };
        let agents = Agents::of_nodes(stand_in.service.clone(), front.nodes(), credentials.clone());
        let mut printer = Printer { out: tokio::io::stdout(), err: tokio::io::stderr() };
        let (believed, service) = (front.believed(), stand_in.service.clone());
        tokio::select! {
            code = until_it_ends(believed, service, &agents, &mut printer) => Ok(exit_code(code)),
            () = front.serve(stop) => Ok(ExitCode::SUCCESS),
        }
    })
}

/// That of a service; a process can't end with another one than these.
fn exit_code(code: i64) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn unusable(error: RosterError) -> anyhow::Error {
    match error {
        RosterError::File(error) => exit::unusable(error),
        RosterError::Unfit(_) => error.into(),
    }
}

/// Writes what a front elsewhere proves itself with.
fn issue(folder: &Path, continuum: &Continuum, state: &StateArgs) -> anyhow::Result<ExitCode> {
    state.authority(continuum)?.issue(&Role::Front)?.store(folder)?;
    Ok(ExitCode::SUCCESS)
}
