//! HTTP through the front.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sterna_executor::traffic::config::Protocol;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::stage::{self, Berth, Limits, Moved, Stage, migrate, stands_still};

#[derive(Clone, Default)]
struct Seen {
    posts: Arc<AtomicUsize>,
    slow: Arc<AtomicUsize>,
}

struct Web {
    berth: Berth,
    number: usize,
    seen: Seen,
}

impl Web {
    async fn new() -> Self {
        let mut web = Self { berth: Berth::new(), number: 0, seen: Seen::default() };
        web.thaw().await;
        web
    }
}

async fn slow(State(seen): State<Seen>, Path(millis): Path<u64>) -> &'static str {
    seen.slow.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(millis)).await;
    "slow"
}

async fn taken(State(seen): State<Seen>, body: String) -> String {
    seen.posts.fetch_add(1, Ordering::Relaxed);
    if let Ok(millis) = body.parse() {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    body.len().to_string()
}

async fn drip() -> Body {
    let pieces = futures_util::stream::unfold(0, |at| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        (at < 1000).then_some((Ok::<_, Infallible>("drip "), at + 1))
    });
    Body::from_stream(pieces.boxed())
}

impl Moved for Web {
    fn berth(&self) -> &Berth {
        &self.berth
    }

    async fn thaw(&mut self) -> SocketAddr {
        let (listener, frozen) = self.berth.another().await;
        self.number += 1;
        let number = self.number;
        let router = Router::new()
            .route("/", get(move || async move { format!("place {number}") }))
            .route("/slow/{millis}", get(slow))
            .route("/post", post(taken))
            .route("/drip", get(drip))
            .with_state(self.seen.clone());
        self.berth.serve(async move {
            let mut all = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (router, frozen) = (router.clone(), frozen.clone());
                all.spawn(async move {
                    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                        router.clone().oneshot(request.map(Body::new))
                    });
                    let served = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    let mut served = std::pin::pin!(served);
                    tokio::select! {
                        biased;
                        // It stands still with its connections open.
                        () = stands_still(frozen.clone()) => std::future::pending().await,
                        _ = &mut served => {}
                    }
                });
            }
        })
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn new(stage: &Stage) -> Self {
        Self(BufReader::new(TcpStream::connect(stage.address()).await.unwrap()))
    }

    async fn send(&mut self, method: &str, path: &str, body: &str) {
        let text =
            format!("{method} {path} HTTP/1.1\r\nhost: web\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        self.0.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    /// Status and body.
    async fn answer(&mut self) -> (u16, String) {
        let read = async {
            let (mut status, mut length) = (0, 0);
            loop {
                let mut line = String::new();
                assert_ne!(self.0.read_line(&mut line).await.unwrap(), 0, "the connection was closed");
                let line = line.trim_end().to_ascii_lowercase();
                if let Some(rest) = line.strip_prefix("http/1.1 ") {
                    status = rest[..3].parse().unwrap();
                }
                if let Some(rest) = line.strip_prefix("content-length: ") {
                    length = rest.parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await.unwrap();
            (status, String::from_utf8(body).unwrap())
        };
        tokio::time::timeout(Duration::from_secs(15), read).await.expect("an answer")
    }

    async fn get(&mut self, path: &str) -> (u16, String) {
        self.send("GET", path, "").await;
        self.answer().await
    }
}

async fn staged(limits: Limits) -> (Stage, Web) {
    stage::staged(Protocol::Http, limits, Web::new().await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_keep_their_connections_over_ten_moves_and_no_request_fails() {
    let (mut stage, mut web) = staged(Limits::default()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for number in 0..10 {
        let (mut client, stop) = (Client::new(&stage).await, stop.clone());
        clients.push(tokio::spawn(async move {
            let mut answers = 0;
            let mut posts = 0;
            while !stop.load(Ordering::Relaxed) {
                if number % 2 == 0 {
                    assert_eq!(client.get("/").await.0, 200);
                } else {
                    client.send("POST", "/post", "abc").await;
                    assert_eq!(client.answer().await, (200, "3".to_owned()));
                    posts += 1;
                }
                answers += 1;
            }
            assert!(answers > 10);
            posts
        }));
    }
    let mut places = ["a", "b"];
    for number in 0..10 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(
            migrate(&mut stage, &mut web, places[0], places[1]).await,
            "move {number} was not waited for"
        );
        places.swap(0, 1);
    }
    stop.store(true, Ordering::Relaxed);
    let mut posts = 0;
    for client in clients {
        posts += client.await.unwrap();
    }
    assert_eq!(web.seen.posts.load(Ordering::Relaxed), posts, "each was done once");
    assert_eq!(stage.counted("closed_in_request_total") + stage.counted("repeated_total"), 0);
    assert_eq!(Client::new(&stage).await.get("/").await, (200, "place 11".to_owned()));
}

#[tokio::test]
async fn a_safe_request_under_way_is_repeated_and_another_is_not() {
    let (mut stage, mut web) = staged(Limits::default()).await;
    let (mut safe, mut other) = (Client::new(&stage).await, Client::new(&stage).await);
    safe.send("GET", "/slow/400", "").await;
    other.send("POST", "/post", "3000").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(migrate(&mut stage, &mut web, "a", "b").await, "the agent is answered all the same");
    assert_eq!(safe.answer().await, (200, "slow".to_owned()));
    assert_eq!(web.seen.slow.load(Ordering::Relaxed), 2);
    let (status, text) = other.answer().await;
    assert!(status == 502 && text.contains("may have done"), "{status} {text}");
    assert_eq!(web.seen.posts.load(Ordering::Relaxed), 1, "it is never sent twice");
    assert_eq!((stage.counted("repeated_total"), stage.counted("closed_in_request_total")), (1, 1));
    assert_eq!(other.get("/").await, (200, "place 2".to_owned()), "the connection goes on");
}

#[tokio::test]
async fn an_answer_that_had_begun_is_cut_off_and_not_made_to_look_whole() {
    let (mut stage, mut web) = staged(Limits::default()).await;
    let mut client = Client::new(&stage).await;
    client.send("GET", "/drip", "").await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    migrate(&mut stage, &mut web, "a", "b").await;
    let mut text = Vec::new();
    // However it is closed, the last piece must be missing.
    let _ =
        tokio::time::timeout(Duration::from_secs(10), client.0.read_to_end(&mut text)).await.expect("an end");
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("drip") && !text.ends_with("0\r\n\r\n"), "{text}");
    assert_eq!(stage.counted("closed_in_request_total"), 1);
}

#[tokio::test]
async fn a_move_that_is_undone_lets_a_request_end_where_it_began() {
    let (mut stage, web) = staged(Limits::default()).await;
    let (mut under_way, mut held) = (Client::new(&stage).await, Client::new(&stage).await);
    under_way.send("POST", "/post", "500").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(stage.about_to_freeze("a", web.address()).await);
    stage.frozen("a", web.address());
    held.send("GET", "/", "").await;
    stage.until("held_now", 1).await;
    stage.runs("a", web.address());
    assert_eq!(held.answer().await, (200, "place 1".to_owned()));
    assert_eq!(under_way.answer().await, (200, "3".to_owned()));
}

#[tokio::test]
async fn what_is_held_too_long_gets_503_and_too_many_at_once() {
    let limits = Limits { held: 1, hold: Duration::from_millis(300), ..Limits::default() };
    let stage = Stage::new(Protocol::Http, limits).await;
    let (mut first, mut second) = (Client::new(&stage).await, Client::new(&stage).await);
    first.send("GET", "/", "").await;
    stage.until("held_now", 1).await;
    let (status, text) = second.get("/").await;
    assert!(status == 503 && text.contains("as many as may be"), "{status} {text}");
    let (status, text) = first.answer().await;
    assert!(status == 503 && text.contains("300 ms"), "{status} {text}");
    let web = Web::new().await;
    stage.runs("a", web.address());
    assert_eq!(first.get("/").await, (200, "place 1".to_owned()), "the connection goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_front_that_ends_is_not_ready_serves_on_and_lets_requests_end() {
    let (stage, _web) = staged(Limits { leave: Duration::from_secs(4), ..Limits::default() }).await;
    let (metrics, address) = (stage.front.metrics().unwrap(), stage.address());
    let (mut idle, mut busy) = (Client::new(&stage).await, Client::new(&stage).await);
    assert_eq!(idle.get("/").await.0, 200);
    assert_eq!(Stage::ready(metrics).await, 200);
    let began = Instant::now();
    let ended = stage.end();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(Stage::ready(metrics).await, 503);
    // Whoever was not told yet is served, new connections too.
    let mut late = Client(BufReader::new(TcpStream::connect(address).await.unwrap()));
    assert_eq!((idle.get("/").await.0, late.get("/").await.0), (200, 200));
    busy.send("GET", "/slow/2500", "").await;
    let mut rest = Vec::new();
    idle.0.read_to_end(&mut rest).await.expect("an end without a reset");
    assert!(began.elapsed() > Duration::from_millis(1900), "{:?}", began.elapsed());
    assert!(TcpStream::connect(address).await.is_err(), "it takes no more connections");
    assert_eq!(busy.answer().await, (200, "slow".to_owned()));
    tokio::time::timeout(Duration::from_millis(500), ended)
        .await
        .expect("it ends with its last client")
        .unwrap();
}

#[tokio::test]
async fn a_front_is_ready_once_it_has_heard_an_agent() {
    let stage = Stage::new(Protocol::Http, Limits::default()).await;
    let metrics = stage.front.metrics().unwrap();
    for _ in 0..500 {
        if Stage::ready(metrics).await == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(Stage::ready(metrics).await, 200);
    // What was heard holds.
    stage.silence("a", true);
    stage.silence("b", true);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(Stage::ready(metrics).await, 200);
    let deaf = Stage::deaf(Protocol::Http).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(Stage::ready(deaf.front.metrics().unwrap()).await, 503);
}
