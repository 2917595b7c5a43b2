//! The workload zoo: real programs with state that a cold start would lose, each with a way to keep it busy while it is
//! moved and a check that tells from inside the service, or as its client, whether it is still the same one.
//!
//! A [`Workload`] knows nothing of how it is moved or of what the nodes are: it reaches them through a [`Ground`]. Whoever
//! moves it starts [`Workload::service`], calls [`Workload::drive`] once, then [`Workload::check`] after each hop, and
//! [`Workload::rest`] at the end.
//!
//! | module | what lives there |
//! |---|---|
//! | [`load`] | a client that never stops asking, and counts what was acknowledged |
//! | [`redis`] | Redis under a client that writes all the time |
//! | [`postgres`] | PostgreSQL with pgbench beside it |
//! | [`nginx`] | nginx, whose configuration on disk is no longer the one that it serves |
//! | [`memcached`] | memcached: items and counters of one process |
//! | [`counter`] | Python, Node.js and Java servers that count in memory |
//! | [`etcd`] | etcd, a program in Go |
//! | [`pipeline`] | a shell pipeline that passes numbers through pipes |
//! | [`files`] | 10,000 open files, and locks of three kinds |
//! | [`trees`] | files of every kind, changed between moves |
//! | [`volumes`] | two named volumes, written all the time |

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::continuum::Continuum;
use crate::inventory::Service;

pub mod counter;
pub mod etcd;
pub mod files;
pub mod load;
pub mod memcached;
pub mod nginx;
pub mod pipeline;
pub mod postgres;
pub mod redis;
pub mod trees;
pub mod volumes;

/// The image that all workloads run; `deploy/service/image zoo` makes it. Redis, PostgreSQL and the pipeline run from
/// `sterna-services:latest` as well.
pub const IMAGE: &str = "sterna-zoo:latest";

/// The nodes under the services, whatever they are.
pub trait Ground: Sync {
    /// Names of the nodes.
    fn nodes(&self) -> Vec<String>;

    /// Runs a command within a service and gives what it prints.
    fn exec(
        &self,
        node: &str,
        service: &str,
        command: &[&str],
    ) -> impl Future<Output = anyhow::Result<String>> + Send;

    /// Where a port that a service publishes on a node is reached from here.
    fn address(&self, node: &str, port: u16) -> impl Future<Output = anyhow::Result<SocketAddr>> + Send;
}

impl Ground for Continuum {
    fn nodes(&self) -> Vec<String> {
        Continuum::nodes(self).map(|(node, _)| node.to_owned()).collect()
    }

    async fn exec(&self, node: &str, service: &str, command: &[&str]) -> anyhow::Result<String> {
        Continuum::exec(self, node, service, command).await
    }

    async fn address(&self, node: &str, port: u16) -> anyhow::Result<SocketAddr> {
        Ok(SocketAddr::new(Continuum::address(self, node).await?, port))
    }
}

/// The service of a workload on the node that runs it now.
#[derive(Debug)]
pub struct Place<'a, G> {
    /// The nodes.
    pub ground: &'a G,
    /// The one that runs the service.
    pub node: &'a str,
    /// The service.
    pub service: &'a str,
}

impl<G> Clone for Place<'_, G> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<G> Copy for Place<'_, G> {}

impl<G: Ground> Place<'_, G> {
    /// Runs a command within the service.
    ///
    /// # Errors
    /// When the service is not here or the command fails.
    pub async fn exec(&self, command: &[&str]) -> anyhow::Result<String> {
        self.ground.exec(self.node, self.service, command).await
    }

    /// Where a port of the service is reached.
    ///
    /// # Errors
    /// When the node does not run.
    pub async fn address(&self, port: u16) -> anyhow::Result<SocketAddr> {
        self.ground.address(self.node, port).await
    }

    /// Where a port is reached on every node, this one first.
    ///
    /// # Errors
    /// When a node does not run.
    pub async fn addresses(&self, port: u16) -> anyhow::Result<Vec<SocketAddr>> {
        let mut all = vec![self.address(port).await?];
        for node in self.ground.nodes() {
            if node != self.node {
                all.push(self.ground.address(&node, port).await?);
            }
        }
        Ok(all)
    }
}

/// A program with state.
pub trait Workload: Send {
    /// How it is started.
    fn service(&self) -> Service;

    /// Waits until it is up, gives it state, begins to keep it busy, and remembers what must hold from now on.
    ///
    /// # Errors
    /// When it does not come up.
    fn drive<G: Ground>(&mut self, place: Place<'_, G>) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Compares it with what it was: the same processes, nothing lost, and it goes on. Gives what was seen.
    ///
    /// # Errors
    /// When anything differs, or it stands still.
    fn check<G: Ground>(
        &mut self,
        place: Place<'_, G>,
    ) -> impl Future<Output = anyhow::Result<String>> + Send;

    /// Stops what keeps it busy.
    ///
    /// # Errors
    /// When what kept it busy has failed.
    fn rest<G: Ground>(&mut self, _place: Place<'_, G>) -> impl Future<Output = anyhow::Result<()>> + Send {
        async { Ok(()) }
    }
}

/// Tries until it succeeds.
///
/// # Errors
/// The last error, when that takes longer than `most`.
pub async fn eventually<T, F: Future<Output = anyhow::Result<T>>>(
    most: Duration,
    mut attempt: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        match attempt().await {
            Err(error) if start.elapsed() > most => {
                return Err(error.context(format!("not within {most:?}")));
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
            done => return done,
        }
    }
}
