//! Dumps of a frozen container by `runc`, under the engine's own runtime state.

use std::path::{Path, PathBuf};
use std::process::Stdio;

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
/// When the container is unknown or CRIU refuses; the container is as it was. Given up while it runs, the dump goes on: see
/// [`Processes::traced`](super::processes::Processes::traced).
pub async fn checkpoint(container: &str, image: &Path) -> Result<(), RuncError> {
    let root = root_of(container)?;
    let child = Command::new("runc")
        .arg("--root")
        .arg(root)
        .args(["checkpoint", "--leave-running", "--file-locks", "--ext-unix-sk", "--image-path"])
        .arg(image)
        .arg("--work-path")
        .arg(image)
        .arg(container)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    // On a task of its own, so that it goes on when nobody waits any more: CRIU ended in the middle would leave its own code
    // in the processes. Who thaws them waits until it has let go.
    let output = tokio::spawn(child.wait_with_output()).await.map_err(std::io::Error::other)??;
    let log = image.join("dump.log");
    if output.status.success() {
        // Of a small service it is the larger part of the image, and nobody reads it any more.
        std::fs::remove_file(log).ok();
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let message = text.trim().lines().last().unwrap_or("no message").to_owned();
    Err(RuncError::Checkpoint { message, criu: criu::diagnosis(&log) })
}
