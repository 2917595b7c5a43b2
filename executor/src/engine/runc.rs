//! Dumps of a frozen container by `runc`, under the engine's own runtime state.

use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::process::Command;

use super::criu;

/// Where engines keep the state of the runtime, one folder per user-namespace mapping in it.
const ROOTS: [&str; 2] = ["/run/docker/runtime-runc", "/run/docker/runtime-sterna"];

/// A dump that did not come about. The container is as it was.
#[derive(Debug, Error)]
pub enum RuncError {
    /// No runtime state: the container does not run, or another runtime runs it.
    #[error("container {0} is not known to runc on this node; only containers that runc runs can be moved")]
    Unknown(String),
    /// `runc` could not be started.
    #[error("runc can't be run: {0}")]
    Run(#[from] std::io::Error),
    /// CRIU refused.
    #[error("the checkpoint failed: {message}; CRIU says: {criu}")]
    Checkpoint {
        /// What `runc` printed.
        message: String,
        /// The errors of CRIU's log.
        criu: String,
    },
}

/// The `--root` under which a container's state lies.
///
/// # Errors
/// When there is none.
pub fn root_of(container: &str) -> Result<PathBuf, RuncError> {
    let candidates = ROOTS.iter().filter_map(|root| std::fs::read_dir(root).ok()).flatten().flatten();
    candidates
        .map(|entry| entry.path())
        .find(|root| root.join(container).join("state.json").is_file())
        .ok_or_else(|| RuncError::Unknown(container.to_owned()))
}

/// Writes memory and state of a frozen container to `image`. The container stays frozen and whole.
///
/// # Errors
/// When the container is unknown or CRIU refuses; the container is as it was.
pub async fn checkpoint(container: &str, image: &Path) -> Result<(), RuncError> {
    let root = root_of(container)?;
    let output = Command::new("runc")
        .arg("--root")
        .arg(root)
        .args(["checkpoint", "--leave-running", "--file-locks", "--ext-unix-sk", "--image-path"])
        .arg(image)
        .arg("--work-path")
        .arg(image)
        .arg(container)
        .kill_on_drop(true)
        .output()
        .await?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let message = text.trim().lines().last().unwrap_or("no message").to_owned();
    Err(RuncError::Checkpoint { message, criu: criu::diagnosis(&image.join("dump.log")) })
}
