//! Redis through the front.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sterna_executor::traffic::config::Protocol;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::redis_server::RedisServer;
use super::stage::{self, Limits, Moved as _, Stage, migrate};

struct Client(BufReader<TcpStream>);

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    words.iter().for_each(|word| bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes()));
    bytes
}

impl Client {
    async fn new(stage: &Stage) -> Self {
        Self(BufReader::new(TcpStream::connect(stage.address()).await.unwrap()))
    }

    async fn send(&mut self, words: &[&str]) {
        self.0.get_mut().write_all(&command(words)).await.unwrap();
    }

    /// The first line of an answer, and the text of a string.
    async fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.starts_with('$') {
            line.clear();
            self.0.read_line(&mut line).await?;
        }
        Ok(line.trim_end().to_owned())
    }

    async fn ask(&mut self, words: &[&str]) -> io::Result<String> {
        self.send(words).await;
        tokio::time::timeout(Duration::from_secs(20), self.answer()).await.expect("an answer")
    }

    /// Ends in an end, and not in a reset.
    async fn ends(&mut self) {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(10), self.0.read_to_end(&mut rest)).await;
        end.expect("it is closed").expect("without a reset");
    }
}

async fn staged(limits: Limits) -> (Stage, RedisServer) {
    stage::staged(Protocol::Redis, limits, RedisServer::new().await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelines_go_on_over_ten_moves_and_nothing_is_lost_or_done_twice() {
    let (mut stage, mut server) = staged(Limits::default()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for number in 0..20_usize {
        let (mut client, stop) = (Client::new(&stage).await, stop.clone());
        clients.push(tokio::spawn(async move {
            let (key, depth) = (format!("key{number}"), 1 + number % 16);
            let batch = command(&["INCR", &key]).repeat(depth);
            let mut expected = 0;
            while !stop.load(Ordering::Relaxed) {
                client.0.get_mut().write_all(&batch).await.unwrap();
                for _ in 0..depth {
                    expected += 1;
                    assert_eq!(client.answer().await.unwrap(), format!(":{expected}"));
                }
            }
            expected
        }));
    }
    let mut places = ["a", "b"];
    for number in 0..10 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(
            migrate(&mut stage, &mut server, places[0], places[1]).await,
            "move {number} was not waited for"
        );
        places.swap(0, 1);
    }
    tokio::time::sleep(Duration::from_millis(60)).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 10);
    }
    assert_eq!(server.lost.load(Ordering::Relaxed), 0, "nothing was sent to a frozen place");
    assert_eq!(stage.counted("closed_in_request_total") + stage.counted("closed_at_boundary_total"), 0);
    assert!(stage.counted("handed_over_total") >= 20);
    assert_eq!(stage.counted("held_now"), 0);
}

#[tokio::test]
async fn what_a_client_said_of_itself_is_said_again() {
    let (mut stage, mut server) = staged(Limits::default()).await;
    let mut client = Client::new(&stage).await;
    for words in [&["SELECT", "3"][..], &["CLIENT", "SETNAME", "one"], &["SELECT", "x", "y", "z"]] {
        client.ask(words).await.unwrap();
    }
    client.ask(&["SELECT", "3"]).await.unwrap();
    migrate(&mut stage, &mut server, "a", "b").await;
    assert_eq!(client.ask(&["WHOAMI"]).await.unwrap(), "one@3");
}

#[tokio::test]
async fn a_command_longer_than_any_buffer_is_sent_whole() {
    let (mut stage, mut server) = staged(Limits::default()).await;
    let mut client = Client::new(&stage).await;
    let long = "x".repeat(3 << 20);
    assert_eq!(client.ask(&["STRLEN", &long]).await.unwrap(), format!(":{}", long.len()));
    migrate(&mut stage, &mut server, "a", "b").await;
    assert_eq!(client.ask(&["STRLEN", &long]).await.unwrap(), format!(":{}", long.len()));
}

#[tokio::test]
async fn a_transaction_may_end_before_the_freeze() {
    let (mut stage, mut server) = staged(Limits::default()).await;
    let mut client = Client::new(&stage).await;
    client.ask(&["MULTI"]).await.unwrap();
    let ends = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.ask(&["INCR", "k"]).await.unwrap();
        client.ask(&["EXEC"]).await.unwrap();
        client
    };
    let (answered, mut client) = tokio::join!(migrate(&mut stage, &mut server, "a", "b"), ends);
    assert!(answered);
    assert_eq!(client.answer().await.unwrap(), ":1");
    assert_eq!(client.ask(&["INCR", "k"]).await.unwrap(), ":2");
    assert_eq!(stage.counted("handed_over_total"), 1);
}

#[tokio::test]
async fn what_can_not_go_along_is_closed_and_not_reset() {
    let (mut stage, mut server) = staged(Limits::default()).await;
    let mut open = [Client::new(&stage).await, Client::new(&stage).await, Client::new(&stage).await];
    open[0].ask(&["MULTI"]).await.unwrap();
    open[1].ask(&["SUBSCRIBE", "news"]).await.unwrap();
    open[2].send(&["BLPOP", "list", "0"]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    migrate(&mut stage, &mut server, "a", "b").await;
    for client in &mut open {
        client.ends().await;
    }
    assert_eq!(stage.counted("closed_at_boundary_total"), 2);
    assert_eq!(stage.counted("closed_in_request_total"), 1, "nobody knows whether the list was taken from");
    assert_eq!(Client::new(&stage).await.ask(&["INCR", "k"]).await.unwrap(), ":1");
}

#[tokio::test]
async fn a_move_that_is_undone_leaves_connections_where_they_are() {
    let (mut stage, server) = staged(Limits::default()).await;
    let mut client = Client::new(&stage).await;
    client.ask(&["MULTI"]).await.unwrap();
    stage.about_to_freeze("a", server.address()).await;
    stage.frozen("a", server.address());
    client.send(&["INCR", "k"]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    stage.runs("a", server.address());
    assert_eq!(client.answer().await.unwrap(), "+QUEUED");
    client.ask(&["EXEC"]).await.unwrap();
    assert_eq!(client.answer().await.unwrap(), ":1");
    assert_eq!(stage.counted("handed_over_total"), 0);
}

#[tokio::test]
async fn a_command_that_takes_long_is_not_waited_for_and_its_client_is_told() {
    let (mut stage, mut server) = staged(Limits::default()).await;
    let mut client = Client::new(&stage).await;
    client.send(&["SLEEP", "2000"]).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    migrate(&mut stage, &mut server, "a", "b").await;
    client.ends().await;
    assert_eq!(stage.counted("closed_in_request_total"), 1);
    assert_eq!(stage.counted("moves_cut_total"), 1);
}

#[tokio::test]
async fn what_is_held_is_limited_in_number_and_in_time() {
    let limits = Limits { held: 2, hold: Duration::from_millis(300), ..Limits::default() };
    let (mut stage, server) = staged(limits).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::new(&stage).await;
        client.ask(&["INCR", "k"]).await.unwrap();
        clients.push(client);
    }
    stage.about_to_freeze("a", server.address()).await;
    stage.frozen("a", server.address());
    for client in &mut clients[..2] {
        client.send(&["INCR", "k"]).await;
    }
    stage.until("held_now", 2).await;
    let refused = clients[2].ask(&["INCR", "k"]).await.unwrap();
    assert!(refused.starts_with("-LOADING") && refused.contains("as many as may be"), "{refused}");
    for client in &mut clients[..2] {
        let refused = client.answer().await.unwrap();
        assert!(refused.starts_with("-LOADING") && refused.contains("300 ms"), "{refused}");
        client.ends().await;
    }
    assert_eq!(stage.counted("held_now"), 0);
}

#[tokio::test]
async fn what_is_no_redis_is_passed_on_as_it_is() {
    let (stage, _server) = staged(Limits::default()).await;
    let mut client = Client::new(&stage).await;
    client.ask(&["INCR", "k"]).await.unwrap();
    client.0.get_mut().write_all(b"*1\r\n:1\r\n").await.unwrap();
    // The server takes its leave in its own way.
    client.ends().await;
}

#[tokio::test]
async fn a_front_that_ends_closes_between_commands_and_after_a_transaction() {
    let (stage, _server) = staged(Limits { leave: Duration::from_secs(2), ..Limits::default() }).await;
    let (mut idle, mut busy) = (Client::new(&stage).await, Client::new(&stage).await);
    idle.ask(&["INCR", "n"]).await.unwrap();
    assert_eq!(busy.ask(&["MULTI"]).await.unwrap(), "+OK");
    let ended = stage.end();
    idle.ends().await;
    assert_eq!(busy.ask(&["INCR", "n"]).await.unwrap(), "+QUEUED");
    assert_eq!(busy.ask(&["EXEC"]).await.unwrap(), "*1");
    // A client that was closed closes too.
    drop((idle, busy));
    tokio::time::timeout(Duration::from_millis(500), ended)
        .await
        .expect("it ends with its last client")
        .unwrap();
}
