//! A client of our own, which asks one question after the other over a connection that it keeps, and knows the longest time
//! between two answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use sterna_e2e::resp::{Connection, Reply};
use tokio::task::JoinHandle;

/// Time between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(1);
/// Time between a failure and the next attempt.
const AFTER_FAILURE: Duration = Duration::from_millis(20);
/// An answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// A key is counted up.
    Redis,
    /// A page is read.
    Http,
}

/// What it saw.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Seen {
    /// Questions that were answered.
    pub answered: u64,
    /// Those that failed.
    pub failed: u64,
    /// The longest time between two answers, in ms.
    pub longest_gap: f64,
    /// The last failures.
    pub said: Vec<String>,
}

impl Seen {
    fn note(&mut self, outcome: &anyhow::Result<()>, since: &mut Instant, now: Instant) {
        match outcome {
            Ok(()) => {
                self.answered += 1;
                self.longest_gap = self.longest_gap.max((now - *since).as_secs_f64() * 1e3);
                *since = now;
            }
            Err(error) => {
                self.failed += 1;
                if self.said.len() < 20 {
                    self.said.push(format!("{error:#}"));
                }
            }
        }
    }
}

/// The client. Dropped, it stops at once.
#[derive(Debug)]
pub struct ClosedLoop {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// A connection that is kept, and made anew after a failure.
#[derive(Debug)]
enum Asker {
    Redis(SocketAddr, Option<Connection>),
    Http(String, reqwest::Client),
}

impl Asker {
    fn new(question: Question, address: SocketAddr) -> anyhow::Result<Self> {
        Ok(match question {
            Question::Redis => Self::Redis(address, None),
            Question::Http => {
                // The client wants a TLS provider to be there, also for plain addresses; an error says that it is.
                let _already = rustls::crypto::ring::default_provider().install_default();
                let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(1).build()?;
                Self::Http(format!("http://{address}/"), client)
            }
        })
    }

    async fn ask(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Redis(address, kept) => {
                let mut connection = match kept.take() {
                    Some(connection) => connection,
                    None => Connection::open(*address).await.context("connecting")?,
                };
                let reply = connection.command(&["INCR", "sterna-bench"]).await.context("asking")?;
                ensure!(matches!(reply, Reply::Integer(_)), "Redis says {reply:?}");
                *kept = Some(connection);
            }
            Self::Http(url, client) => {
                let answer = client.get(url.as_str()).send().await?.error_for_status()?;
                answer.bytes().await?;
            }
        }
        Ok(())
    }
}

impl ClosedLoop {
    /// Starts one.
    ///
    /// # Errors
    /// When the client can't be made.
    pub fn start(question: Question, address: SocketAddr) -> anyhow::Result<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let notes = Arc::clone(&seen);
        let mut asker = Asker::new(question, address)?;
        let task = tokio::spawn(async move {
            let mut since = Instant::now();
            loop {
                let outcome = match tokio::time::timeout(PATIENCE, asker.ask()).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(anyhow::anyhow!("no answer within {PATIENCE:?}")),
                };
                let pause = if outcome.is_ok() { PAUSE } else { AFTER_FAILURE };
                notes.lock().unwrap_or_else(PoisonError::into_inner).note(
                    &outcome,
                    &mut since,
                    Instant::now(),
                );
                tokio::time::sleep(pause).await;
            }
        });
        Ok(Self { seen, task })
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ClosedLoop {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn a_gap_is_between_answers_and_spans_failures() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let (mut seen, mut since) = (Seen::default(), start);
        seen.note(&Ok(()), &mut since, at(10));
        seen.note(&Err(anyhow::anyhow!("broken")), &mut since, at(400));
        seen.note(&Ok(()), &mut since, at(510));
        seen.note(&Ok(()), &mut since, at(600));
        assert_eq!((seen.answered, seen.failed, seen.longest_gap), (3, 1, 500.0));
        assert_eq!(seen.said, ["broken"]);
    }

    /// Answers a few questions on a connection, then closes it.
    #[tokio::test]
    async fn a_broken_connection_is_a_failure_and_the_next_one_serves() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = server.accept().await.unwrap();
                let mut buffer = [0; 256];
                for number in 0..3 {
                    if stream.read(&mut buffer).await.unwrap_or(0) == 0 {
                        break;
                    }
                    stream.write_all(format!(":{number}\r\n").as_bytes()).await.unwrap();
                }
            }
        });
        let client = ClosedLoop::start(Question::Redis, address).unwrap();
        for _ in 0..500 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let seen = client.seen();
            if seen.answered >= 6 && seen.failed >= 2 {
                serving.abort();
                return;
            }
        }
        panic!("{:?}", client.seen());
    }
}
