//! How far it is from this node to other places: the time that a connection takes to come about, which is one round trip.
//! Nothing is said on it, and nothing that is said there is heard.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use sterna_policies::quantity::Millis;
use tokio::net::{TcpStream, lookup_host};

use super::api::{Probed, Unanswered};

/// Most targets of one call.
pub const TARGETS: usize = 64;
/// Connections to one target, one after another. Their middle is told: a single one may have waited for anything.
const CONNECTS: usize = 3;
/// Time for one connection, and for finding out where its target is. What is further away is no place to move to.
pub const LIMIT: Duration = Duration::from_secs(1);
/// Targets that are looked at beside each other.
const AT_ONCE: usize = 16;

/// Looks at targets, `host:port` each; the answers come in the same order. All of them silent, it takes 12 s.
pub async fn probe(targets: &[String]) -> Vec<Probed> {
    stream::iter(targets.to_vec()).map(one).buffered(AT_ONCE).collect().await
}

async fn one(target: String) -> Probed {
    match round_trip(&target).await {
        Ok(time) => Probed::RoundTrip(Millis::from_duration(time)),
        Err(why) => Probed::Unanswered(why),
    }
}

/// The middle of the times; a connection that does not come about counts as the longest.
async fn round_trip(target: &str) -> Result<Duration, Unanswered> {
    // Not part of the time: users' computers remember it.
    let addresses = within_limit(lookup_host(target)).await;
    let address = addresses.ok().and_then(|mut found| found.next()).ok_or(Unanswered::Unresolved)?;
    let (mut times, mut failed) = (Vec::new(), 0);
    while times.len() + failed < CONNECTS {
        match connect(address).await {
            Ok(time) => times.push(time),
            Err(why) => {
                failed += 1;
                // The middle is one of these already.
                if failed > CONNECTS / 2 {
                    return Err(why);
                }
            }
        }
    }
    times.sort_unstable();
    times.get(CONNECTS / 2).copied().ok_or(Unanswered::Other)
}

async fn connect(address: SocketAddr) -> Result<Duration, Unanswered> {
    let begin = Instant::now();
    let connection = within_limit(TcpStream::connect(address)).await.map_err(|error| why(&error))?;
    let time = begin.elapsed();
    drop(connection);
    Ok(time)
}

async fn within_limit<T>(done: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(LIMIT, done).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn why(error: &io::Error) -> Unanswered {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Unanswered::Refused,
        io::ErrorKind::TimedOut => Unanswered::Timeout,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable => Unanswered::Unreachable,
        _ => Unanswered::Other,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    async fn probed(target: &str) -> Probed {
        probe(&[target.to_owned()]).await[0]
    }

    #[tokio::test]
    async fn a_target_that_answers_has_a_round_trip_and_hears_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let heard = tokio::spawn(async move {
            let mut said = Vec::new();
            for _ in 0..CONNECTS {
                listener.accept().await.unwrap().0.read_to_end(&mut said).await.unwrap();
            }
            said
        });
        let Probed::RoundTrip(time) = probed(&target).await else { panic!("nobody answered") };
        assert!(time > Millis::ZERO && time < Millis::from_duration(LIMIT), "{time}");
        assert_eq!(heard.await.unwrap(), b"", "all connections were made, and nothing was said on any");
    }

    #[tokio::test]
    async fn a_target_that_refuses_says_so_and_a_name_that_is_none_is_found_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        drop(listener);
        assert_eq!(probed(&target).await, Probed::Unanswered(Unanswered::Refused));
        assert_eq!(probed("no-such-host.invalid:443").await, Probed::Unanswered(Unanswered::Unresolved));
    }

    /// A socket whose queue is full does not answer any more: Linux lets what comes then go by without a word.
    #[tokio::test]
    async fn a_target_that_is_silent_is_given_up_and_holds_up_no_other() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = socket.listen(1).unwrap();
        let silent = full.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(Ok(one)) =
            tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(silent)).await
        {
            queued.push(one);
        }
        let answers = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut targets = vec![silent.to_string(); AT_ONCE];
        targets[3] = answers.local_addr().unwrap().to_string();
        let begin = Instant::now();
        let probed = probe(&targets).await;
        assert_eq!(probed[0], Probed::Unanswered(Unanswered::Timeout));
        assert!(matches!(probed[3], Probed::RoundTrip(_)), "in its place: {probed:?}");
        assert!(
            begin.elapsed() < LIMIT * 3,
            "two connections each, beside each other: {:?}",
            begin.elapsed()
        );
    }
}
