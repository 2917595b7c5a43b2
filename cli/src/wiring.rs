//! What several commands begin with: reading the inventory, and finding the state that goes with it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use sterna_core::continuum::{Continuum, inventory};
use sterna_executor::identity::Authority;
use sterna_policies::diagnose::Report;

use crate::exit::Invalid;

/// Where Sterna keeps what must outlive a command.
#[derive(Debug, Clone, clap::Args)]
pub struct StateArgs {
    /// Folder for state, such as the certificate authority of each continuum [default: XDG_STATE_HOME/sterna, else
    /// ~/.local/state/sterna].
    #[arg(long = "state", env = "STERNA_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
}

impl StateArgs {
    /// The folder of one continuum.
    pub fn folder(&self, continuum: &Continuum) -> anyhow::Result<PathBuf> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let state = self
            .state
            .clone()
            .or_else(|| set("XDG_STATE_HOME").map(|folder| folder.join("sterna")))
            .or_else(|| set("HOME").map(|folder| folder.join(".local/state/sterna")))
            .context("there is no home folder to keep state in: name one with --state")?;
        Ok(state.join(&continuum.name))
    }

    /// The certificate authority of one continuum, made on first use.
    pub fn authority(&self, continuum: &Continuum) -> anyhow::Result<Authority> {
        Ok(Authority::open(&self.folder(continuum)?.join("authority"))?)
    }
}

/// How a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs: all there is, as JSON.
    Json,
}

/// What commands about the continuum of an inventory are asked with.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// The inventory file.
    pub inventory: PathBuf,
    #[command(flatten)]
    pub state: StateArgs,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// As above, for commands whose first argument is something else.
#[derive(Debug, clap::Args)]
pub struct Of {
    /// The inventory file.
    #[arg(long, value_name = "FILE", env = "STERNA_INVENTORY")]
    pub inventory: PathBuf,
    #[command(flatten)]
    pub state: StateArgs,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Reads an inventory file, and prints the warnings about it.
pub fn inventory(path: &Path) -> anyhow::Result<Continuum> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    let loaded =
        inventory::load(&path.display().to_string(), &text).map_err(|invalid| Invalid(invalid.into()))?;
    warn(loaded.warnings);
    Ok(loaded.value)
}

/// Prints the warnings about a file.
#[expect(clippy::print_stderr, reason = "warnings about a file are for whoever wrote it")]
pub fn warn(warnings: Report) {
    if !warnings.is_empty() {
        eprintln!("{:?}", miette::Report::new(warnings));
    }
}

/// A runtime for the commands that speak with engines and agents.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Runtime::new().context("can't start the asynchronous runtime")
}
