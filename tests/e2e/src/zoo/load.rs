//! A client that never stops asking, and counts what was acknowledged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// An answer that takes longer than this is given up: the service is frozen or gone.
const PATIENCE: Duration = Duration::from_millis(500);
/// Time between two questions.
const PAUSE: Duration = Duration::from_millis(5);
/// How long the service may take to answer again after a move.
const RETURN: Duration = Duration::from_secs(15);

/// Questions so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// The number of the last one that was acknowledged; a question has the number of all that were asked before it.
    pub last_acknowledged: u64,
    /// How many were acknowledged.
    pub acknowledged: u64,
    /// How many were asked. What was not acknowledged may have been done all the same.
    pub asked: u64,
}

#[derive(Debug, Default)]
struct Shared {
    last: AtomicU64,
    acknowledged: AtomicU64,
    asked: AtomicU64,
}

impl Shared {
    fn counts(&self) -> Counts {
        // In this order, what is read last can only be too large.
        let last_acknowledged = self.last.load(Ordering::SeqCst);
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        Counts { last_acknowledged, acknowledged, asked: self.asked.load(Ordering::SeqCst) }
    }
}

/// The client. Dropped, it stops at once.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Load {
    /// Asks whichever of `addresses` answers, one question after the other. `ask` is given the address and the question's
    /// number, counted from 1.
    pub fn start<F>(
        addresses: Vec<SocketAddr>,
        ask: impl Fn(SocketAddr, u64) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let shared = Arc::new(Shared::default());
        let counts = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            for address in addresses.iter().cycle() {
                // As long as this one answers.
                loop {
                    let number = counts.asked.fetch_add(1, Ordering::SeqCst) + 1;
                    let answer = timeout(PATIENCE, ask(*address, number)).await;
                    if !matches!(answer, Ok(Ok(()))) {
                        break;
                    }
                    counts.acknowledged.fetch_add(1, Ordering::SeqCst);
                    counts.last.store(number, Ordering::SeqCst);
                    sleep(PAUSE).await;
                }
                sleep(PAUSE).await;
            }
        });
        Self { shared, task }
    }

    /// Up to now.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Waits until this many more are acknowledged.
    ///
    /// # Errors
    /// When they are not, for as long as a service may take to answer again.
    pub async fn more(&self, count: u64) -> anyhow::Result<()> {
        let enough = self.counts().acknowledged + count;
        let start = Instant::now();
        while self.counts().acknowledged < enough {
            if start.elapsed() > RETURN {
                bail!("the service does not answer its client: {:?}", self.counts());
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client for HTTP whose every request has a connection of its own: one that is kept breaks with each move.
///
/// # Errors
/// When it can't be made.
pub fn http() -> anyhow::Result<reqwest::Client> {
    // An error says that somebody else was first.
    let _known = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(10))
        .build()
        .context("the HTTP client")
}

/// What a page says; an answer other than success is an error.
///
/// # Errors
/// When the server can't be reached or answers with an error.
pub async fn page(http: &reqwest::Client, address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let answer = http.get(format!("http://{address}{path}")).send().await?.error_for_status()?;
    Ok(answer.text().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_succeeds_is_acknowledged_and_the_next_address_is_asked() {
        let good: SocketAddr = "127.0.0.1:2".parse().unwrap();
        let load =
            Load::start(vec!["127.0.0.1:1".parse().unwrap(), good], move |address, number| async move {
                anyhow::ensure!(address == good && !number.is_multiple_of(3));
                Ok(())
            });
        load.more(10).await.unwrap();
        let counts = load.counts();
        assert!(counts.acknowledged >= 10 && counts.acknowledged < counts.asked, "{counts:?}");
        assert!(!counts.last_acknowledged.is_multiple_of(3) && counts.last_acknowledged <= counts.asked);
    }
}
