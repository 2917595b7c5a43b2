//! Who gives the order: `sterna migrate`, as a person would, or `sterna run`, by its own decision.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Child;
use tokio::time::timeout;

use crate::daemon::Daemon;
use crate::history::History;
use crate::injection::{self, Fault, Injection};
use crate::strike::Ends;
use crate::trial::settle;
use crate::world::World;

/// Time from the order to the commit.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Longest time frozen: above what a move on a busy machine takes, and below what a long fault lasts.
const LEASE: Duration = Duration::from_secs(5);
/// The lease where it is to expire.
pub const SHORT_LEASE: Duration = Duration::from_secs(2);
/// The lease of a migration that is to be undone whatever happens: no dump takes less.
const NO_LEASE: Duration = Duration::from_millis(20);
/// Time for a command to say its last word once all is settled.
const LAST_WORD: Duration = Duration::from_secs(3);

/// The longest time frozen that a run allows.
pub fn lease(injection: Injection) -> Duration {
    if injection::needs_failure(injection.point) {
        NO_LEASE
    } else if injection.fault == Fault::LeaseExpired {
        SHORT_LEASE
    } else {
        LEASE
    }
}

/// Who gives the order. Dropped, it ends.
#[derive(Debug)]
pub enum Giver {
    /// `sterna migrate`.
    Command(Child),
    /// `sterna run`.
    Daemon(Box<Daemon>),
}

impl Giver {
    /// Has the service moved, by whom the fault is about.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(world: &World, injection: Injection, ends: &Ends) -> anyhow::Result<Self> {
        if injection.fault == Fault::DaemonKilled {
            Ok(Self::Daemon(Box::new(Daemon::start(world, injection, ends)?)))
        } else {
            Ok(Self::Command(command(world, injection, ends)?))
        }
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        match self {
            Self::Command(child) => matches!(child.try_wait(), Ok(None)),
            Self::Daemon(daemon) => daemon.runs(),
        }
    }

    /// Kills it without a word.
    ///
    /// # Errors
    /// When it can't be killed.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Command(child) => child.kill().await.context("killing `sterna migrate`"),
            Self::Daemon(daemon) => daemon.kill().await,
        }
    }

    /// Starts it once more, just as before.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_again(&mut self, world: &World, injection: Injection, ends: &Ends) -> anyhow::Result<()> {
        match self {
            Self::Command(child) => *child = command(world, injection, ends)?,
            Self::Daemon(daemon) => daemon.start_again(world)?,
        }
        Ok(())
    }

    /// Waits until a `sterna run` that was started again has looked at the nodes and decided, or that takes too long.
    pub async fn look_once(&self) {
        if let Self::Daemon(daemon) = self {
            daemon.look_once().await;
        }
    }

    /// Waits until all is settled, and has it end. Gives what is not settled, and what a `sterna run` has written down.
    ///
    /// # Errors
    /// When it can't be ended.
    pub async fn finish(
        self,
        world: &World,
        injection: Injection,
    ) -> anyhow::Result<(Result<(), Vec<String>>, Option<History>)> {
        match self {
            Self::Command(mut child) => {
                let settled = settle(world).await;
                // It follows the migration to its end, or has lost it.
                if timeout(LAST_WORD, child.wait()).await.is_err() {
                    child.kill().await?;
                }
                Ok((settled, None))
            }
            Self::Daemon(daemon) => {
                let history = daemon.finish(injection).await?;
                Ok((settle(world).await, Some(history)))
            }
        }
    }
}

fn command(world: &World, injection: Injection, ends: &Ends) -> anyhow::Result<Child> {
    let mut command = world.migrate(injection.service, &ends.to, DEADLINE, lease(injection));
    // What it says is in the registers too, and nobody reads a pipe while it may be killed.
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().context("can't start `sterna migrate`")
}
