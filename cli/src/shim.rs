//! `sterna shim`: the OCI runtime of a node's engine.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use sterna_executor::engine::shim;

/// Arguments of `sterna shim`: those of an OCI runtime.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the engine asks of its runtime.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<OsString>,
}

/// Does what the engine asks. The engine shows what is written to standard error.
#[expect(clippy::print_stderr, reason = "the engine passes it on to whoever asked")]
pub fn run_from_engine(arguments: &[OsString]) -> ExitCode {
    match shim::run(arguments, Path::new(shim::NOTES)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("sterna-shim: {error}");
            ExitCode::FAILURE
        }
    }
}
