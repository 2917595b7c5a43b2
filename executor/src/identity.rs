//! Who may speak to whom: a small certificate authority, made on first use, and mutual TLS everywhere.
//!
//! | module | what lives there |
//! |---|---|
//! | [`role`] | who a certificate speaks for |
//! | [`authority`] | makes certificates |
//! | [`credentials`] | what one party holds, and the TLS that follows from it |
//! | [`seal`] | signed statements, which anyone may carry |

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sterna_core::continuum::NodeName;
use thiserror::Error;

pub mod authority;
pub mod credentials;
pub mod role;
pub mod seal;

pub use authority::Authority;
pub use credentials::Credentials;
pub use role::Role;
pub use seal::Sealed;

/// The authority or the credentials can't be used.
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
    /// A key that others may read is no longer a secret.
    #[error(
        "{path} may be read by others (mode {mode:04o}): make it 0600, or remove its folder and start anew"
    )]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The folder holds something, but no authority.
    #[error("{folder} is not empty and holds no certificate authority: name another folder")]
    Occupied {
        /// The folder.
        folder: PathBuf,
    },
    /// A node's name becomes part of a host name.
    #[error("`{0}` can't be part of a host name: use 1 to 63 of a-z, 0-9 and inner hyphens")]
    NotAHostName(NodeName),
    /// A certificate could not be made.
    #[error("the certificate could not be made")]
    Issue(#[from] rcgen::Error),
    /// A signed statement that can't be made or trusted.
    #[error("the signed statement can't be used: {0}")]
    Seal(String),
    /// Certificates or keys that TLS does not accept.
    #[error("the credentials do not suit TLS: {0}")]
    Unsuitable(String),
    /// A certificate that speaks for nobody known here.
    #[error("the certificate names no agent, scheduler or front: {0}")]
    Nobody(String),
}

impl IdentityError {
    fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

/// Creates a folder, and those above it, for the owner alone.
fn create_private_folder(folder: &Path) -> Result<(), IdentityError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(IdentityError::file(folder))
}

/// Writes a file for the owner alone, so that a reader sees the old content or the new, nothing between.
fn write_private(path: &Path, content: &str) -> Result<(), IdentityError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?; // made with mode 0600
        file.write_all(content.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(IdentityError::file(path))
}

/// Reads a key, but not one that others can read too.
fn read_secret(path: &Path) -> Result<String, IdentityError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).map_err(IdentityError::file(path))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode });
    }
    std::fs::read_to_string(path).map_err(IdentityError::file(path))
}
