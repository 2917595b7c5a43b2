//! Any protocol through the front.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sterna_executor::traffic::config::Protocol;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::stage::{self, Berth, Limits, Moved, Stage, migrate, stands_still};

/// Sends back what it gets, after its own name.
struct Echo {
    berth: Berth,
    number: u8,
    connections: Arc<AtomicUsize>,
}

impl Echo {
    async fn new() -> Self {
        let mut echo = Self { berth: Berth::new(), number: 0, connections: Arc::default() };
        echo.thaw().await;
        echo
    }
}

impl Moved for Echo {
    fn berth(&self) -> &Berth {
        &self.berth
    }

    async fn thaw(&mut self) -> SocketAddr {
        let (listener, frozen) = self.berth.another().await;
        self.number += 1;
        let (number, connections) = (self.number, self.connections.clone());
        self.berth.serve(async move {
            let mut all = JoinSet::new();
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { continue };
                connections.fetch_add(1, Ordering::Relaxed);
                let frozen = frozen.clone();
                all.spawn(async move {
                    let mut piece = vec![0; 1 << 16];
                    let mut first = true;
                    loop {
                        let read = tokio::select! {
                            biased;
                            () = stands_still(frozen.clone()) => std::future::pending().await,
                            read = stream.read(&mut piece) => read.unwrap_or(0),
                        };
                        if read == 0 {
                            return;
                        }
                        if std::mem::take(&mut first) {
                            stream.write_all(&[number]).await.unwrap();
                        }
                        stream.write_all(&piece[..read]).await.unwrap();
                    }
                });
            }
        })
    }
}

async fn staged(limits: Limits) -> (Stage, Echo) {
    stage::staged(Protocol::Tcp, limits, Echo::new().await).await
}

async fn ask(stream: &mut TcpStream, text: &[u8], length: usize) -> Vec<u8> {
    stream.write_all(text).await.unwrap();
    let mut answer = vec![0; length];
    tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut answer))
        .await
        .expect("an answer")
        .unwrap();
    answer
}

async fn ends(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    end.expect("it is closed").expect("without a reset");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_arrives_whole_in_both_directions() {
    let (stage, _echo) = staged(Limits::default()).await;
    let stream = TcpStream::connect(stage.address()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let sent: Vec<u8> = (0..24_000_000_u32).map(|at| (at ^ (at >> 8) ^ (at >> 17)) as u8).collect();
    let expected = blake3::hash(&sent);
    let writes = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    tokio::time::timeout(Duration::from_secs(60), read.read_to_end(&mut got)).await.expect("an end").unwrap();
    writes.await.unwrap();
    assert_eq!((got[0], got.len()), (1, 24_000_001));
    assert!(blake3::hash(&got[1..]) == expected);
}

/// `length` bytes that are not the same anywhere near each other, from another beginning for each `seed`.
fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new_derive_key(seed).finalize_xof().fill(&mut bytes);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_side_may_end_while_the_other_goes_on() {
    const THERE: usize = 20_000_003;
    const BACK: usize = 9_000_001;
    let mut berth = Berth::new();
    let (listener, _frozen) = berth.another().await;
    let (tell, told) = tokio::sync::oneshot::channel();
    // Says all that it has to say and ends, and only then listens.
    let address = berth.serve(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&noise("back", BACK)).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        tell.send(got).unwrap();
    });
    let stage = Stage::new(Protocol::Tcp, Limits::default()).await;
    stage.runs("a", address);
    let (mut read, mut write) = TcpStream::connect(stage.address()).await.unwrap().into_split();
    let mut got = Vec::new();
    tokio::time::timeout(Duration::from_secs(60), read.read_to_end(&mut got)).await.expect("an end").unwrap();
    assert!(got == noise("back", BACK));
    let sent = noise("there", THERE);
    write.write_all(&sent).await.unwrap();
    write.shutdown().await.unwrap();
    let got = tokio::time::timeout(Duration::from_secs(60), told).await.expect("an end").unwrap();
    assert!(got == sent);
    stage.until("sent_bytes_total", THERE as u64).await;
    assert_eq!(
        (stage.counted("sent_bytes_total"), stage.counted("received_bytes_total")),
        (THERE as u64, BACK as u64)
    );
}

#[tokio::test]
async fn a_connection_that_said_something_is_ended_and_one_that_did_not_goes_along() {
    let (mut stage, mut echo) = staged(Limits::default()).await;
    let mut talked = TcpStream::connect(stage.address()).await.unwrap();
    let mut fresh = TcpStream::connect(stage.address()).await.unwrap();
    assert_eq!(ask(&mut talked, b"hello", 6).await, b"\x01hello");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(migrate(&mut stage, &mut echo, "a", "b").await, "nothing is under way");
    ends(&mut talked).await;
    assert_eq!(ask(&mut fresh, b"x", 2).await, b"\x02x", "it is at the new place");
    assert_eq!((stage.counted("closed_at_boundary_total"), stage.counted("handed_over_total")), (1, 1));
}

#[tokio::test]
async fn what_comes_during_the_move_is_held() {
    let (mut stage, mut echo) = staged(Limits::default()).await;
    let mut early = TcpStream::connect(stage.address()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let old = echo.address();
    assert!(stage.about_to_freeze("a", old).await);
    echo.freeze();
    stage.frozen("a", old);
    early.write_all(b"early").await.unwrap();
    let mut late = TcpStream::connect(stage.address()).await.unwrap();
    late.write_all(b"late").await.unwrap();
    stage.until("held_now", 1).await;
    assert_eq!(echo.connections.load(Ordering::Relaxed), 1, "nothing new goes to the old place");
    // Restored at the other node, but not owned by it: nothing is announced, and nothing goes there.
    let new = echo.thaw().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(echo.connections.load(Ordering::Relaxed), 1, "nothing goes to a place that is only held");
    stage.owned_by("b", new);
    for (stream, expected) in [(&mut early, &b"\x02early"[..]), (&mut late, b"\x02late")] {
        let mut answer = vec![0; expected.len()];
        tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, expected);
    }
}

#[tokio::test]
async fn an_agent_that_is_down_for_a_while_costs_nothing() {
    let (mut stage, mut echo) = staged(Limits::default()).await;
    let mut stream = TcpStream::connect(stage.address()).await.unwrap();
    assert_eq!(ask(&mut stream, b"1", 2).await, b"\x011");
    stage.silence("a", true);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(ask(&mut stream, b"2", 1).await, b"2");
    assert_eq!(ask(&mut TcpStream::connect(stage.address()).await.unwrap(), b"3", 2).await, b"\x013");
    stage.silence("a", false);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(migrate(&mut stage, &mut echo, "a", "b").await, "it is heard again");
}

#[tokio::test]
async fn what_is_held_for_too_long_is_ended() {
    let limits = Limits { hold: Duration::from_millis(200), ..Limits::default() };
    let stage = Stage::new(Protocol::Tcp, limits).await;
    let mut stream = TcpStream::connect(stage.address()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    ends(&mut stream).await;
}

#[tokio::test]
async fn a_front_that_ends_closes_what_rests() {
    let (stage, _echo) = staged(Limits { leave: Duration::from_secs(2), ..Limits::default() }).await;
    let (mut rests, mut silent) = (
        TcpStream::connect(stage.address()).await.unwrap(),
        TcpStream::connect(stage.address()).await.unwrap(),
    );
    assert_eq!(ask(&mut rests, b"one", 4).await, b"\x01one");
    let ended = stage.end();
    assert_eq!(ask(&mut silent, b"two", 4).await, b"\x01two");
    ends(&mut rests).await;
    ends(&mut silent).await;
    // A client that was closed closes too.
    drop((rests, silent));
    tokio::time::timeout(Duration::from_millis(500), ended)
        .await
        .expect("it ends with its last client")
        .unwrap();
}
