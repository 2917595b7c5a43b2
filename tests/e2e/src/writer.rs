//! A client that writes all the time: it remembers every acknowledged write and measures how long it was ever kept waiting.
//!
//! It knows several addresses. When one stops answering it asks all of them until one does, and sends the write that was
//! under way again, so each write counts once however often it was sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::dataset::Dataset;
use crate::resp::{Connection, Reply};

/// An answer that takes longer than this is given up: the server is frozen or gone.
const PATIENCE: Duration = Duration::from_millis(250);
/// Time between two tries at the same address.
const BETWEEN_TRIES: Duration = Duration::from_millis(10);
/// How long [`Writer::stop`] waits for the last write to be acknowledged.
const LAST_WRITE: Duration = Duration::from_secs(30);

/// What the client has seen so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Acknowledged writes.
    pub writes: u64,
    /// The address that answers, as an index into those given.
    pub served_by: Option<usize>,
    /// How often the client had to look for the service.
    pub reconnects: u32,
    /// The longest time between two acknowledgements in a row: the blackout.
    pub longest_gap: Duration,
    /// Which address answered before the longest gap, and which after it.
    pub gap_between: Option<(usize, usize)>,
}

/// The client. Dropped, it stops at once, with a write possibly under way.
#[derive(Debug)]
pub struct Writer {
    addresses: watch::Sender<Arc<[SocketAddr]>>,
    seen: watch::Receiver<Seen>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Dataset>,
}

impl Writer {
    /// Starts writing into the keys of `dataset`, round and round, to whichever of `addresses` answers.
    pub fn start(addresses: &[SocketAddr], dataset: Dataset) -> Self {
        Self::go_on(addresses, dataset, 1)
    }

    /// Goes on where another client stopped: `first` is the number of the first write, above all that came before.
    pub fn go_on(addresses: &[SocketAddr], dataset: Dataset, first: u64) -> Self {
        let (publish, seen) = watch::channel(Seen::default());
        let (stop, stopped) = watch::channel(false);
        let (addresses, known) = watch::channel(addresses.into());
        let task = tokio::spawn(write(known, dataset, first, publish, stopped));
        Self { addresses, seen, stop, task }
    }

    /// From now on the service is looked for at these addresses: a node that is made anew has another one.
    pub fn look_at(&self, addresses: &[SocketAddr]) {
        self.addresses.send_replace(addresses.into());
    }

    /// What it has seen up to now.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until `enough` says so.
    ///
    /// # Errors
    /// When that takes longer than `most`.
    pub async fn wait_until(
        &mut self,
        most: Duration,
        enough: impl FnMut(&Seen) -> bool,
    ) -> anyhow::Result<Seen> {
        let in_time = timeout(most, self.seen.wait_for(enough)).await.map(|closed| closed.map(|_seen| ()));
        match in_time {
            Ok(Ok(())) => Ok(self.seen()),
            Ok(Err(_)) => anyhow::bail!("the client has stopped"),
            Err(_) => anyhow::bail!("the client did not get there within {most:?}: {:?}", self.seen()),
        }
    }

    /// Stops after the write that is under way is acknowledged, so that nothing is left in doubt.
    ///
    /// # Errors
    /// When that write is not acknowledged within half a minute.
    pub async fn stop(mut self) -> anyhow::Result<(Dataset, Seen)> {
        let _ended = self.stop.send(true);
        let dataset = timeout(LAST_WRITE, &mut self.task)
            .await
            .map_err(|_| anyhow::anyhow!("no address answered within {LAST_WRITE:?}: {:?}", self.seen()))??;
        let seen = self.seen();
        Ok((dataset, seen))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn write(
    mut addresses: watch::Receiver<Arc<[SocketAddr]>>,
    mut dataset: Dataset,
    first: u64,
    publish: watch::Sender<Seen>,
    stopped: watch::Receiver<bool>,
) -> Dataset {
    let mut seen = Seen::default();
    let mut last: Option<(Instant, usize)> = None;
    let mut connection: Option<(usize, Connection)> = None;
    let keys = dataset.len();
    for write in first.. {
        if *stopped.borrow() || keys == 0 {
            break;
        }
        let index = usize::try_from(write).unwrap_or(0) % keys;
        let (key, value) = (Dataset::key(index), Dataset::value(index, write));
        let place = loop {
            let (place, open) = match &mut connection {
                Some((place, open)) => (*place, open),
                none => {
                    seen.reconnects += u32::from(last.is_some());
                    let (place, open) = none.insert(find(&mut addresses).await);
                    (*place, open)
                }
            };
            match timeout(PATIENCE, open.command(&["SET", &key, &value])).await {
                Ok(Ok(Reply::Simple(ok))) if ok == "OK" => break place,
                // Late, broken or refused: not acknowledged, so sent again wherever the service is.
                _ => connection = None,
            }
        };
        let now = Instant::now();
        if let Some((before, was)) = last {
            let gap = now - before;
            if gap > seen.longest_gap {
                seen.longest_gap = gap;
                seen.gap_between = Some((was, place));
            }
        }
        last = Some((now, place));
        dataset.acknowledged(index, write);
        seen.writes += 1;
        seen.served_by = Some(place);
        publish.send_replace(seen.clone());
    }
    dataset
}

/// Looks until one of the addresses answers, of those that are known by then.
async fn find(addresses: &mut watch::Receiver<Arc<[SocketAddr]>>) -> (usize, Connection) {
    loop {
        let known = Arc::clone(&addresses.borrow_and_update());
        tokio::select! {
            found = ask(&known) => return found,
            // Whoever tells may be gone; what was told last stays.
            Ok(()) = addresses.changed() => {}
        }
    }
}

/// Asks all addresses at once, again and again, until one answers as a Redis that is ready.
async fn ask(addresses: &[SocketAddr]) -> (usize, Connection) {
    let mut asking: FuturesUnordered<_> = addresses
        .iter()
        .enumerate()
        .map(|(place, &address)| async move { (place, ready(address).await) })
        .collect();
    match asking.next().await {
        Some(found) => found,
        None => std::future::pending().await,
    }
}

async fn ready(address: SocketAddr) -> Connection {
    loop {
        let asked = timeout(PATIENCE, async {
            let mut connection = Connection::open(address).await?;
            let reply = connection.command(&["PING"]).await?;
            std::io::Result::Ok((connection, reply))
        });
        if let Ok(Ok((connection, Reply::Simple(pong)))) = asked.await
            && pong == "PONG"
        {
            return connection;
        }
        sleep(BETWEEN_TRIES).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    type Store = Arc<Mutex<HashMap<String, String>>>;

    /// Answers SET and PING like Redis.
    async fn speak(mut stream: TcpStream, store: Store) -> std::io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).await?;
            if count == 0 {
                return Ok(());
            }
            buffer.extend_from_slice(&piece[..count]);
            let text = String::from_utf8_lossy(&buffer).into_owned();
            let words: Vec<_> = text.split("\r\n").filter(|w| !w.starts_with(['*', '$'])).collect();
            let answer = match words[..] {
                ["PING", _] => "+PONG\r\n",
                ["SET", key, value, _] => {
                    store.lock().unwrap().insert(key.into(), value.into());
                    "+OK\r\n"
                }
                _ => continue,
            };
            buffer.clear();
            stream.write_all(answer.as_bytes()).await?;
        }
    }

    fn serve(listener: TcpListener, store: &Store) -> tokio::task::JoinHandle<()> {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                all.spawn(speak(stream, Arc::clone(&store)));
            }
        })
    }

    #[tokio::test]
    async fn remembers_what_was_acknowledged_follows_the_service_and_measures_the_gap() {
        let store = Store::default();
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [first.local_addr().unwrap(), second.local_addr().unwrap()];
        drop(second);
        let serving = serve(first, &store);
        let mut writer = Writer::start(&addresses, Dataset::new(50));
        writer.wait_until(Duration::from_secs(5), |seen| seen.writes > 200).await.unwrap();
        serving.abort();
        let _ended = serving.await;
        sleep(Duration::from_millis(400)).await;
        let _serving = serve(TcpListener::bind(addresses[1]).await.unwrap(), &store);
        let before = writer.seen().writes;
        writer.wait_until(Duration::from_secs(5), |seen| seen.writes > before + 200).await.unwrap();
        let (dataset, seen) = writer.stop().await.unwrap();
        assert_eq!(seen.served_by, Some(1));
        assert_eq!(seen.gap_between, Some((0, 1)));
        assert_eq!(seen.reconnects, 1);
        assert!(seen.longest_gap >= Duration::from_millis(400), "{:?}", seen.longest_gap);
        assert!(seen.longest_gap < Duration::from_millis(900), "{:?}", seen.longest_gap);
        let held = store.lock().unwrap().clone();
        let mut expected = Dataset::new(50);
        for write in 1..=seen.writes {
            expected.acknowledged(usize::try_from(write).unwrap() % 50, write);
        }
        assert_eq!(dataset, expected);
        for index in 0..50 {
            let last = (1..=seen.writes).rev().find(|w| usize::try_from(*w).unwrap() % 50 == index).unwrap();
            assert_eq!(held.get(&Dataset::key(index)), Some(&Dataset::value(index, last)), "key {index}");
        }
    }

    #[tokio::test]
    async fn follows_the_service_to_an_address_that_it_is_told_of_later() {
        let store = Store::default();
        let late = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = late.local_addr().unwrap();
        let _serving = serve(late, &store);
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut writer = Writer::start(&[closed], Dataset::new(10));
        sleep(Duration::from_millis(50)).await;
        assert_eq!(writer.seen().writes, 0);
        writer.look_at(&[closed, address]);
        writer.wait_until(Duration::from_secs(5), |seen| seen.writes > 20).await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_says_nothing_does_not_hold_the_client() {
        let store = Store::default();
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let speaking = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [mute.local_addr().unwrap(), speaking.local_addr().unwrap()];
        let _serving = serve(speaking, &store);
        let mut writer = Writer::start(&addresses, Dataset::new(10));
        let seen = writer.wait_until(Duration::from_secs(5), |seen| seen.writes > 20).await.unwrap();
        assert_eq!(seen.served_by, Some(1));
    }
}
