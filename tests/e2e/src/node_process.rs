//! Processes of a local node, found from outside by their name, to be stopped where they stand and to go on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, sleep};

use crate::docker::docker;
use crate::process::{named, signal};

/// The agent of a local node, held by the number that its process has on this machine.
#[derive(Debug, Clone, Copy)]
pub struct Agent(u32);

impl Agent {
    /// That of the node in this container.
    ///
    /// # Errors
    /// When the container does not run, or no agent in it.
    pub async fn of(container: &str) -> anyhow::Result<Self> {
        let found = within(&pids(container).await?, "sterna");
        found.first().copied().map(Self).with_context(|| format!("no agent in {container}"))
    }

    /// Stops it where it stands: it answers nobody.
    ///
    /// # Errors
    /// When it has ended.
    pub fn suspend(self) -> anyhow::Result<()> {
        signal("-STOP", self.0)
    }

    /// Has it go on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(self) -> anyhow::Result<()> {
        signal("-CONT", self.0)
    }
}

/// Waits until a program of that name runs in the node of this container; looks often enough to see one that runs for a moment.
///
/// # Errors
/// When it does not within `most`, or the container does not run.
pub async fn runs(program: &str, container: &str, most: Duration) -> anyhow::Result<()> {
    let (pids, began) = (pids(container).await?, Instant::now());
    while within(&pids, program).is_empty() {
        ensure!(began.elapsed() < most, "no {program} in {container} within {most:?}");
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// The PID namespace of a container.
async fn pids(container: &str) -> anyhow::Result<PathBuf> {
    let pid = docker(&["inspect", "--format", "{{.State.Pid}}", container]).await?;
    let file = format!("/proc/{pid}/ns/pid");
    std::fs::read_link(&file).with_context(|| format!("{file}, of {container}"))
}

/// Processes of that name in a namespace.
fn within(namespace: &Path, name: &str) -> Vec<u32> {
    let own = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|own| own == namespace);
    named(name).filter(own).collect()
}
