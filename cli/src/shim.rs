//! `sterna shim`: the OCI runtime of a node's engine.

use std::ffi::OsString;
use std::process::ExitCode;

/// Arguments of `sterna shim`: those of an OCI runtime.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the engine asks of its runtime.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<OsString>,
}

/// Does what the engine asks.
pub fn run_from_engine(_arguments: Vec<OsString>) -> ExitCode {
    ExitCode::FAILURE
}
