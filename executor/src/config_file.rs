//! Reading settings of agents and fronts: a file that can't be read, or holds a mistake.

use std::path::{Path, PathBuf};

use sterna_policies::diagnose::Invalid;

/// The settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// It holds a mistake.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// The file's name, as reports show it, and its text.
///
/// # Errors
/// When it can't be read.
pub fn read(path: &Path) -> Result<(String, String), ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    Ok((path.display().to_string(), text))
}
