//! Clients that put up with no error, and note how long they were ever kept waiting.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::dataset::Dataset;
use crate::resp::{Connection, Reply};

/// An answer that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(40);
/// Pause before another connection is made in place of one that was closed.
const AGAIN: Duration = Duration::from_millis(20);

/// What clients saw.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Requests that were answered as they should be.
    pub requests: u64,
    /// Requests that were not.
    pub failed: u64,
    /// Connections that were closed between two transactions, and within one.
    pub closed: (u64, u64),
    /// The longest time from a request to its answer.
    pub longest: Duration,
    /// What went wrong first.
    pub first: Option<String>,
}

impl Seen {
    /// In words.
    ///
    /// # Errors
    /// When a request failed.
    pub fn told(&self, what: &str) -> anyhow::Result<String> {
        let Self { requests, failed, closed, longest, first } = self;
        ensure!(*failed == 0, "{what}: {failed} of {requests} requests failed, the first with: {first:?}");
        Ok(format!(
            "{what}: {requests} requests, none failed, longest wait {longest:?}, connections closed {closed:?}"
        ))
    }

    fn answered(&mut self, took: Duration) {
        self.requests += 1;
        self.longest = self.longest.max(took);
    }

    fn failed(&mut self, why: &anyhow::Error) {
        self.failed += 1;
        self.first.get_or_insert_with(|| format!("{why:#}"));
    }

    fn join(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.closed = (self.closed.0 + other.closed.0, self.closed.1 + other.closed.1);
        self.longest = self.longest.max(other.longest);
        self.first = self.first.take().or(other.first);
    }
}

/// Many clients of one service, until they are stopped.
#[derive(Debug)]
pub struct Clients<T> {
    all: JoinSet<anyhow::Result<(Seen, T)>>,
    stop: Arc<AtomicBool>,
}

impl<T: Send + 'static> Clients<T> {
    /// Starts as many.
    pub fn start<F>(count: usize, client: impl Fn(usize, Arc<AtomicBool>) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<(Seen, T)>> + Send + 'static,
    {
        let (mut all, stop) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        for number in 0..count {
            all.spawn(client(number, Arc::clone(&stop)));
        }
        Self { all, stop }
    }

    /// What they saw, and what each of them knows.
    ///
    /// # Errors
    /// When one gave up, or was never answered.
    pub async fn stop(mut self) -> anyhow::Result<(Seen, Vec<T>)> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut seen, mut known) = (Seen::default(), Vec::new());
        while let Some(one) = self.all.join_next().await {
            let (one, knows) = one??;
            ensure!(one.requests > 0, "a client was never answered: {one:?}");
            seen.join(one);
            known.push(knows);
        }
        Ok((seen, known))
    }
}

/// Writes the keys whose number leaves `number` when it is divided by `of`, over one connection. The last write of each.
///
/// # Errors
/// When no connection can be made.
pub async fn writes(
    address: SocketAddr,
    keys: usize,
    number: usize,
    of: usize,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<(Seen, Vec<(usize, u64)>)> {
    let mut seen = Seen::default();
    let mut connection = Connection::open(address).await?;
    let mut last = vec![0; keys];
    for write in 1_u64.. {
        let index = (number + usize::try_from(write)? * of) % keys;
        let (key, value) = (Dataset::key(index), Dataset::value(index, write));
        let begin = Instant::now();
        loop {
            let set = ["SET", key.as_str(), value.as_str()];
            let answer = timeout(PATIENCE, connection.command(&set)).await.context("no answer");
            match answer.and_then(|answer| answer.context("the connection broke")) {
                Ok(Reply::Simple(ok)) if ok == "OK" => break,
                Ok(other) => seen.failed(&anyhow::anyhow!("SET: {other:?}")),
                Err(why) => seen.failed(&why),
            }
            sleep(AGAIN).await;
            connection = Connection::open(address).await?;
        }
        seen.answered(begin.elapsed());
        last[index] = write;
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    let known = last.into_iter().enumerate().filter(|(_, write)| *write > 0).collect();
    Ok((seen, known))
}

/// Asks for a page over one connection that is kept, or over a new one each time.
///
/// # Errors
/// None: what goes wrong is counted.
pub async fn browses(address: SocketAddr, kept: bool, stop: Arc<AtomicBool>) -> anyhow::Result<(Seen, ())> {
    let mut seen = Seen::default();
    let mut open: Option<BufReader<TcpStream>> = None;
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let asked = async {
            let mut stream = match open.take() {
                Some(stream) => stream,
                None => BufReader::new(TcpStream::connect(address).await?),
            };
            page(&mut stream).await?;
            anyhow::Ok(stream)
        };
        match timeout(PATIENCE, asked).await.context("no answer").and_then(|answer| answer) {
            Ok(stream) => {
                seen.answered(begin.elapsed());
                open = Some(stream).filter(|_| kept);
            }
            Err(why) => seen.failed(&why),
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok((seen, ()))
}

/// Asks for the page of an nginx that keeps its connections, which must be a warm one.
///
/// # Errors
/// When another answer comes, or none.
pub async fn page(stream: &mut BufReader<TcpStream>) -> anyhow::Result<()> {
    stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").await?;
    let (mut length, mut first) = (0, String::new());
    stream.read_line(&mut first).await?;
    ensure!(first.starts_with("HTTP/1.1 200"), "`{}`", first.trim_end());
    loop {
        let mut line = String::new();
        ensure!(stream.read_line(&mut line).await? > 0, "the connection was closed");
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("content-length: ") {
            length = rest.parse()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    ensure!(body.starts_with(b"warm "), "the page is `{}`", String::from_utf8_lossy(&body));
    Ok(())
}

/// A connection to PostgreSQL, which is driven beside us.
async fn session(address: SocketAddr) -> anyhow::Result<Client> {
    let config = format!("host={} port={} user=postgres dbname=postgres", address.ip(), address.port());
    let (client, connection) =
        timeout(PATIENCE, tokio_postgres::connect(&config, NoTls)).await.context("no answer")??;
    tokio::spawn(async move {
        // The client is told.
        let _ = connection.await;
    });
    Ok(client)
}

/// Makes the table that [`books`] writes to.
///
/// # Errors
/// When PostgreSQL does not answer, or has it already.
pub async fn open_books(address: SocketAddr) -> anyhow::Result<()> {
    let client = session(address).await?;
    let made = client
        .batch_execute("create table noted (client int, number int, primary key (client, number))")
        .await;
    Ok(made?)
}

/// Notes numbers without a gap, one transaction after another, over one connection for as long as it stays open. When it was
/// closed the client makes another one, as clients of PostgreSQL must at its restart: it looks whether the transaction that was
/// open was committed, and makes it again if not. How far it came.
///
/// # Errors
/// When no connection can be made, or PostgreSQL does not answer.
pub async fn books(
    address: SocketAddr,
    number: usize,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<(Seen, (usize, i32))> {
    let client_number = i32::try_from(number)?;
    let mut seen = Seen::default();
    let mut client = session(address).await?;
    let mut last = 0;
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let next = last + 1;
        loop {
            if client.is_closed() {
                seen.closed.0 += 1;
            } else {
                match timeout(PATIENCE, note(&mut client, client_number, next)).await.context("no answer")? {
                    Ok(()) => break,
                    // It was being committed when we looked.
                    Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => break,
                    // The connection, and not the transaction.
                    Err(error) if error.is_closed() || error.code().is_none() => seen.closed.1 += 1,
                    Err(error) => {
                        seen.failed(&error.into());
                        sleep(AGAIN).await;
                    }
                }
            }
            client = session(address).await?;
            let committed = "select 1 from noted where client = $1 and number = $2";
            if client.query_opt(committed, &[&client_number, &next]).await?.is_some() {
                break;
            }
        }
        seen.answered(begin.elapsed());
        last = next;
        sleep(Duration::from_millis(5)).await;
    }
    Ok((seen, (number, last)))
}

async fn note(client: &mut Client, number: i32, next: i32) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction.execute("insert into noted values ($1, $2)", &[&number, &next]).await?;
    transaction.commit().await
}

/// How many numbers of each client are noted, and the highest of them.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn noted(address: SocketAddr) -> anyhow::Result<Vec<(i32, i64, i32)>> {
    let client = session(address).await?;
    let rows = client
        .query("select client, count(*), max(number) from noted group by client order by client", &[])
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}
