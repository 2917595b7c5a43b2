//! How the process ends: exit codes and error reports.

use std::process::ExitCode;

use sterna_executor::config_file::ConfigError;

/// Something could not be done.
pub const ERROR: u8 = 1;
/// There are changes to be made.
pub const CHANGES: u8 = 2;
/// A policy, inventory or scenario is invalid.
pub const INVALID: u8 = 3;
/// Metrics do not suffice for a decision.
pub const METRICS: u8 = 4;

/// A file that was refused; its report is complete as it is.
#[derive(Debug)]
pub struct Invalid(pub miette::Report);

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Debug is miette's rendering with source lines and carets.
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Invalid {}

/// Settings that can't be used: a mistake is shown where it stands.
pub fn unusable(error: ConfigError) -> anyhow::Error {
    match error {
        ConfigError::Invalid(invalid) => Invalid(invalid.into()).into(),
        error @ ConfigError::Read { .. } => error.into(),
    }
}

/// Turns a command's result into the process's exit code, and prints the error.
#[expect(clippy::print_stderr, reason = "the cli is where errors reach people")]
pub fn code(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<Invalid>() {
            Some(invalid) => {
                eprintln!("{invalid}");
                ExitCode::from(INVALID)
            }
            None => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}
