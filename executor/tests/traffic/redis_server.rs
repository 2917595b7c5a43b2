//! A server that speaks as much of Redis as is needed to see whether every command was carried out once and in order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::stage::{Berth, Count, Moved, stands_still};

type Keys = Arc<Mutex<HashMap<String, u64>>>;

/// The service, and its state.
pub struct RedisServer {
    keys: Keys,
    berth: Berth,
    /// Commands that came to a place after it was frozen.
    pub lost: Count,
}

impl RedisServer {
    pub async fn new() -> Self {
        let mut server = Self { keys: Keys::default(), berth: Berth::new(), lost: Count::default() };
        server.thaw().await;
        server
    }
}

impl Moved for RedisServer {
    fn berth(&self) -> &Berth {
        &self.berth
    }

    async fn thaw(&mut self) -> SocketAddr {
        let (listener, frozen) = self.berth.another().await;
        let (keys, lost) = (self.keys.clone(), self.lost.clone());
        self.berth.serve(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                if *frozen.borrow() {
                    lost.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                connections.spawn(talk(stream, keys.clone(), frozen.clone(), lost.clone()));
            }
        })
    }
}

async fn talk(mut stream: TcpStream, keys: Keys, frozen: watch::Receiver<bool>, lost: Count) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    let (mut database, mut name, mut queued) = ("0".to_owned(), String::new(), None::<Vec<Vec<String>>>);
    loop {
        let read = tokio::select! {
            biased;
            () = stands_still(frozen.clone()) => {
                // Whatever comes now is lost with the connection.
                while let Ok(1..) = stream.read(&mut piece).await {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
                return;
            }
            read = stream.read(&mut piece) => read,
        };
        let Ok(read @ 1..) = read else { return };
        bytes.extend_from_slice(&piece[..read]);
        if bytes.contains(&b':') {
            // That is no command.
            return;
        }
        let mut answers = String::new();
        while let Some((words, used)) = command(&bytes) {
            bytes.drain(..used);
            let first = words[0].to_ascii_uppercase();
            if let Some(all) = &mut queued
                && first != "EXEC"
            {
                all.push(words);
                answers.push_str("+QUEUED\r\n");
                continue;
            }
            let incr = |key: &str| {
                let mut keys = keys.lock().unwrap();
                let value = keys.entry(format!("{database}/{key}")).or_default();
                *value += 1;
                format!(":{value}\r\n")
            };
            answers.push_str(&match first.as_str() {
                "INCR" => incr(&words[1]),
                "SELECT" => {
                    database.clone_from(&words[1]);
                    "+OK\r\n".to_owned()
                }
                "CLIENT" => {
                    name.clone_from(&words[2]);
                    "+OK\r\n".to_owned()
                }
                "WHOAMI" => format!("${}\r\n{name}@{database}\r\n", name.len() + 1 + database.len()),
                "STRLEN" => format!(":{}\r\n", words[1].len()),
                "MULTI" => {
                    queued = Some(Vec::new());
                    "+OK\r\n".to_owned()
                }
                "EXEC" => {
                    let all = queued.take().unwrap_or_default();
                    let answers: String = all.iter().map(|words| incr(&words[1])).collect();
                    format!("*{}\r\n{answers}", all.len())
                }
                "SUBSCRIBE" => {
                    format!("*3\r\n$9\r\nsubscribe\r\n${}\r\n{}\r\n:1\r\n", words[1].len(), words[1])
                }
                "BLPOP" => String::new(),
                "SLEEP" => {
                    tokio::time::sleep(std::time::Duration::from_millis(words[1].parse().unwrap())).await;
                    if *frozen.borrow() {
                        continue;
                    }
                    "+OK\r\n".to_owned()
                }
                _ => "-ERR unknown\r\n".to_owned(),
            });
        }
        if !*frozen.borrow() && stream.write_all(answers.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The first whole command, and its length.
fn command(bytes: &[u8]) -> Option<(Vec<String>, usize)> {
    let line = |from: usize| {
        let end = from + bytes.get(from..)?.windows(2).position(|two| two == b"\r\n")?;
        let number: usize = std::str::from_utf8(&bytes[from + 1..end]).unwrap().parse().unwrap();
        Some((number, end + 2))
    };
    let (count, mut at) = line(0)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (length, begin) = line(at)?;
        words.push(String::from_utf8_lossy(bytes.get(begin..begin + length)?).into_owned());
        at = begin + length + 2;
        bytes.get(..at)?;
    }
    Some((words, at))
}
