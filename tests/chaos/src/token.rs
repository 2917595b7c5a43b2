//! A service that can't run twice unseen: every few milliseconds it sends a number that lives in its memory alone, and that it
//! never sends again, to a log outside the nodes.
//!
//! Two copies of it would send the same number twice, one that fell back in time a smaller one, and one that was started
//! cold has another nonce, which each process draws when it starts. Asked to end, it says so.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

const SCRIPT: &str = r#"
use Time::HiRes qw(sleep);
use Socket;
my ($host, $port) = @ARGV;
open(my $random, "<:raw", "/dev/urandom") or die;
sysread($random, my $bytes, 8) == 8 or die;
close($random);
my $nonce = unpack("H*", $bytes);
socket(my $socket, AF_INET, SOCK_DGRAM, 0) or die;
my $to = sockaddr_in($port, inet_aton($host));
my $token = 0;
$SIG{TERM} = sub { send($socket, "$nonce end", 0, $to); exit 0 };
while (1) {
    $token++;
    send($socket, "$nonce $token", 0, $to);
    sleep 0.004;
}
"#;

/// The `[[service]]` table of the token service, for an inventory.
pub fn service(log: SocketAddr, on: &str) -> String {
    let script = SCRIPT.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!(
        "[[service]]\nname = \"token\"\ncpu = \"0.1\"\nmemory = \"64MiB\"\n[service.run]\n\
         image = \"sterna-services:latest\"\n\
         command = [\"perl\", \"-e\", \"{script}\", \"{}\", \"{}\"]\non = \"{on}\"\n",
        log.ip(),
        log.port()
    )
}

/// A token as it arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Token {
    /// Milliseconds since the log was opened.
    pub at: u64,
    /// The node that it came from.
    pub from: IpAddr,
    /// Which process sent it.
    pub nonce: String,
    /// Its number.
    pub number: u64,
}

/// What must not be, or must have a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// A number came twice, or a smaller one after a greater: two copies have run.
    Twice {
        /// The greatest so far.
        after: Token,
        /// What came then.
        came: Token,
    },
    /// A process that had been replaced by a cold start sent again.
    Returned {
        /// What it sent.
        came: Token,
    },
    /// The service was started cold.
    Cold {
        /// The last token of the process before.
        after: Token,
        /// The first of the new one.
        came: Token,
        /// Whether the process before had been asked to end, and said so.
        in_order: bool,
    },
}

/// What has arrived.
#[derive(Debug, Default)]
pub struct Log {
    /// The last token.
    pub last: Option<Token>,
    /// Processes that were replaced.
    replaced: Vec<String>,
    /// Processes that said that they end.
    ended: Vec<String>,
    /// Tokens of this run.
    pub tokens: Vec<Token>,
    /// Events of this run.
    pub events: Vec<Event>,
    /// Numbers that never arrived, of all runs.
    pub missing: u64,
    /// Tokens of all runs.
    pub count: u64,
}

impl Log {
    fn take(&mut self, token: Token) {
        self.count += 1;
        self.tokens.push(token.clone());
        let Some(last) = &self.last else {
            self.last = Some(token);
            return;
        };
        if token.nonce == last.nonce {
            if token.number <= last.number {
                self.events.push(Event::Twice { after: last.clone(), came: token });
                return;
            }
            self.missing += token.number - last.number - 1;
        } else if self.replaced.contains(&token.nonce) {
            self.events.push(Event::Returned { came: token });
            return;
        } else {
            self.replaced.push(last.nonce.clone());
            let in_order = self.ended.contains(&last.nonce);
            self.events.push(Event::Cold { after: last.clone(), came: token.clone(), in_order });
        }
        self.last = Some(token);
    }

    /// The longest time between two tokens of this run.
    pub fn longest_gap(&self) -> Duration {
        let gaps = self.tokens.windows(2).map(|pair| pair[1].at.saturating_sub(pair[0].at));
        Duration::from_millis(gaps.max().unwrap_or(0))
    }

    /// Begins a run.
    pub fn begin(&mut self) {
        self.tokens.clear();
        self.events.clear();
    }

    /// Where tokens came from in the last while.
    pub fn lately_from(&self, now: u64, within: Duration) -> Vec<IpAddr> {
        let since = now.saturating_sub(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        let mut from: Vec<IpAddr> =
            self.tokens.iter().rev().take_while(|token| token.at >= since).map(|token| token.from).collect();
        from.sort_unstable();
        from.dedup();
        from
    }
}

/// The log, open. Dropped, it is closed.
#[derive(Debug)]
pub struct Receiver {
    log: Arc<Mutex<Log>>,
    address: SocketAddr,
    began: Instant,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Opens the log at this address of the host.
    ///
    /// # Errors
    /// When no port can be had there.
    pub async fn open(address: IpAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((address, 0)).await.with_context(|| format!("a port at {address}"))?;
        let address = socket.local_addr()?;
        let log = Arc::new(Mutex::new(Log::default()));
        let began = Instant::now();
        let task = tokio::spawn(receive(socket, Arc::clone(&log), began));
        Ok(Self { log, address, began, task })
    }

    /// Where tokens are to be sent.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Milliseconds since it was opened.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What has arrived.
    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(socket: UdpSocket, log: Arc<Mutex<Log>>, began: Instant) {
    let mut buffer = [0; 256];
    loop {
        // An error here is an answer of the network to nothing that we sent.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let at = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        match parse(&buffer[..length]) {
            Some((nonce, Said::Number(number))) => log.take(Token { at, from: from.ip(), nonce, number }),
            Some((nonce, Said::End)) => log.ended.push(nonce),
            None => {}
        }
    }
}

/// What a process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Number(u64),
    End,
}

fn parse(bytes: &[u8]) -> Option<(String, Said)> {
    let (nonce, word) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
    let said = if word == "end" { Said::End } else { Said::Number(word.parse().ok()?) };
    Some((nonce.to_owned(), said))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    fn log(tokens: &[(&str, u64)]) -> Log {
        let mut log = Log::default();
        for (at, (nonce, number)) in tokens.iter().enumerate() {
            log.take(Token { at: at as u64 * 10, from: NOWHERE, nonce: (*nonce).into(), number: *number });
        }
        log
    }

    #[test]
    fn one_process_that_counts_is_fine_and_what_was_lost_is_counted() {
        let log = log(&[("x", 1), ("x", 2), ("x", 5), ("x", 6)]);
        assert_eq!((log.events.len(), log.missing, log.count), (0, 2, 4));
        assert_eq!(log.longest_gap(), Duration::from_millis(10));
        assert_eq!(log.lately_from(30, Duration::from_millis(5)), [NOWHERE]);
        assert!(log.lately_from(90, Duration::from_millis(5)).is_empty());
    }

    #[test]
    fn two_copies_a_fall_back_in_time_and_a_cold_start_are_seen() {
        let twice = log(&[("x", 1), ("x", 2), ("x", 2)]);
        assert!(matches!(twice.events[..], [Event::Twice { .. }]));
        let back = log(&[("x", 9), ("x", 4), ("x", 10)]);
        assert!(matches!(back.events[..], [Event::Twice { .. }]));
        let cold = log(&[("x", 9), ("y", 1), ("y", 2)]);
        assert!(matches!(cold.events[..], [Event::Cold { in_order: false, .. }]));
        let both = log(&[("x", 9), ("y", 1), ("x", 10), ("y", 2)]);
        assert!(matches!(both.events[..], [Event::Cold { .. }, Event::Returned { .. }]));
    }

    #[test]
    fn only_tokens_are_read() {
        assert_eq!(parse(b"ab 12"), Some(("ab".into(), Said::Number(12))));
        assert_eq!(parse(b"ab end"), Some(("ab".into(), Said::End)));
        for other in [b"".as_slice(), b"ab", b"ab x", b"\xff 1"] {
            assert_eq!(parse(other), None);
        }
    }
}
