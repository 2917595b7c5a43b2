//! The way between a user group and a site: a proxy on loopback that holds every byte back for as long as the way takes.
//!
//! Many kernels lack netem, so the delay is made here; whoever measures through it, measures it for real. Bytes are held
//! back, not throttled: each direction is a pipeline. Establishing a connection is not delayed, only what goes over it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// Largest piece that is held back as a whole.
const PIECE: usize = 64 * 1024;
/// Pieces on their way in one direction of one connection; bounds memory, far above what small delays need.
const ON_THE_WAY: usize = 256;

/// How long a way takes in each direction. Clones are the same way.
#[derive(Debug, Clone, Default)]
pub struct Way {
    there: Arc<AtomicU64>,
    back: Arc<AtomicU64>,
}

impl Way {
    /// A way with this round-trip time, half of it in each direction.
    pub fn with_round_trip(time: Duration) -> Self {
        let way = Self::default();
        way.set_round_trip(time);
        way
    }

    /// Sets the round-trip time, half of it in each direction; for all bytes that set out from now on.
    pub fn set_round_trip(&self, time: Duration) {
        self.set(time / 2, time / 2);
    }

    /// Sets each direction by itself: from users to site, and back.
    pub fn set(&self, there: Duration, back: Duration) {
        self.there.store(micros(there), Ordering::Relaxed);
        self.back.store(micros(back), Ordering::Relaxed);
    }

    /// Opens a door on loopback behind which this way leads to `target`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn open(&self, target: SocketAddr) -> std::io::Result<Door> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener, target, self.clone())).abort_handle();
        Ok(Door { address, task })
    }
}

/// Where a way begins. Dropped, it closes and ends all connections through it.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    task: AbortHandle,
}

impl Door {
    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

async fn serve(listener: TcpListener, target: SocketAddr, way: Way) {
    // Ends with this task, so that closing the door ends its connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((near, _)) => {
                    connections.spawn(carry(near, target, way.clone()));
                }
                // Out of descriptors or the like: passes.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
}

/// Carries one connection until both directions have ended. A target that refuses looks like one that hangs up.
async fn carry(near: TcpStream, target: SocketAddr, way: Way) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    // A proxy that waits for full packets would add delays of its own.
    let (_, _) = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::join!(hold_back(near_read, far_write, &way.there), hold_back(far_read, near_write, &way.back),);
}

async fn hold_back(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: &AtomicU64) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let reading = async move {
        let mut buffer = vec![0; PIECE];
        loop {
            let count = from.read(&mut buffer).await.unwrap_or(0);
            let due = Instant::now() + Duration::from_micros(delay.load(Ordering::Relaxed));
            // The end takes as long as everything else; an empty piece stands for it.
            if sender.send((due, buffer[..count].to_vec())).await.is_err() || count == 0 {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = receiver.recv().await {
            sleep_until(due).await;
            if piece.is_empty() || to.write_all(&piece).await.is_err() {
                break;
            }
        }
        let _gone = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every byte with the same byte, and says how many connections it has.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    let (mut read, mut write) = stream.into_split();
                    tokio::io::copy(&mut read, &mut write).await.ok();
                });
            }
        });
        address
    }

    async fn round_trip(stream: &mut TcpStream) -> Duration {
        let start = Instant::now();
        stream.write_all(b"?").await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        start.elapsed()
    }

    #[tokio::test]
    async fn delays_by_what_is_set_and_follows_a_change_on_an_open_connection() {
        let way = Way::with_round_trip(Duration::from_millis(40));
        let door = way.open(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(door.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for (set, most) in [(40, 70), (2, 25), (90, 130)] {
            way.set_round_trip(Duration::from_millis(set));
            // The best of several: the machine may be busy, but nothing may be faster than the way.
            let mut best = Duration::MAX;
            for _ in 0..5 {
                best = best.min(round_trip(&mut stream).await);
            }
            assert!(best >= Duration::from_millis(set), "{best:?} is faster than {set} ms");
            assert!(best < Duration::from_millis(most), "{best:?} is far more than {set} ms");
        }
    }

    #[tokio::test]
    async fn directions_are_set_apart() {
        let way = Way::default();
        way.set(Duration::from_millis(60), Duration::ZERO);
        let door = way.open(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(door.address()).await.unwrap();
        let took = round_trip(&mut stream).await;
        assert!(took >= Duration::from_millis(60) && took < Duration::from_millis(110), "{took:?}");
    }

    #[tokio::test]
    async fn carries_much_at_once_unharmed() {
        let way = Way::with_round_trip(Duration::from_millis(100));
        let door = way.open(echo().await).await.unwrap();
        let (mut read, mut write) = TcpStream::connect(door.address()).await.unwrap().into_split();
        let sent: Vec<u8> = (0..8 * 1024 * 1024u32).map(|n| (n % 251) as u8).collect();
        let start = Instant::now();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        read.read_to_end(&mut received).await.unwrap();
        writing.await.unwrap();
        assert!(received == expected, "bytes differ");
        // One piece after the other would take at least 128 times 100 ms.
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_refusing_target_looks_like_one_that_hangs_up() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let door = Way::default().open(free).await.unwrap();
        let mut stream = TcpStream::connect(door.address()).await.unwrap();
        let end = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut [0; 8])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }

    #[tokio::test]
    async fn closing_the_door_ends_its_connections() {
        let door = Way::default().open(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(door.address()).await.unwrap();
        round_trip(&mut stream).await;
        drop(door);
        let end = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut [0; 8])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
}
