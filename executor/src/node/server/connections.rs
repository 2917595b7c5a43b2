//! Connections: so many at once, none kept for nothing.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::identity::Role;
use crate::node::listener::{Peer, TlsListener};

use super::limits::{OF_ALL, OF_AN_AGENT, OF_FRONTS, OF_THE_SCHEDULER, http};
use super::refusal::Refusal;

/// Most connections that are being told at once that there are too many; further ones are closed without a word.
const TOLD: usize = 32;
/// Time for that.
const TO_TELL: Duration = Duration::from_secs(5);
/// Time for calls to be answered when the agent is to stop. What is cut off then is told by the caller's next call.
const TO_END: Duration = Duration::from_secs(10);

/// Serves connections until `stop` is done and those that are open have been answered. `heard` is told who opens one.
pub(in crate::node) async fn serve(
    mut listener: TlsListener,
    router: Router,
    heard: impl Fn(&Peer),
    stop: impl Future<Output = ()>,
) {
    let mut stop = pin!(stop);
    let (places, told) = (Places::default(), Arc::new(Semaphore::new(TOLD)));
    let graceful = GracefulShutdown::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        heard(&peer);
        match places.take(&peer.role) {
            Ok(place) => {
                let connection = graceful.watch(connection(stream, router.clone(), peer));
                tokio::spawn(async move {
                    let _place = place;
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "a connection ended");
                    }
                });
            }
            Err(why) => {
                tracing::warn!(address = %peer.address, role = peer.role.host_name(), why, "a connection is refused");
                if let Ok(permit) = Arc::clone(&told).try_acquire_owned() {
                    tokio::spawn(async move {
                        let _permit = permit;
                        let _ = tokio::time::timeout(TO_TELL, tell(stream, why)).await;
                    });
                }
            }
        }
    }
    if tokio::time::timeout(TO_END, graceful.shutdown()).await.is_err() {
        tracing::info!("connections that are still open are cut off");
    }
}

type Service = TowerToHyperService<tower::util::BoxCloneSyncService<Request<Incoming>, Response, Infallible>>;

fn connection<I>(
    io: I,
    router: Router,
    peer: Peer,
) -> hyper::server::conn::http1::Connection<TokioIo<I>, Service>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let service = ServiceExt::<Request<Body>>::map_request(router, move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request.map(Body::new)
    });
    let service = TowerToHyperService::new(tower::util::BoxCloneSyncService::new(service));
    http().serve_connection(TokioIo::new(io), service)
}

/// Answers the first call of a connection that there are too many.
async fn tell<I: AsyncRead + AsyncWrite + Unpin>(io: I, why: String) {
    let refuse = service_fn(move |_: Request<Incoming>| {
        let refusal = Refusal(StatusCode::TOO_MANY_REQUESTS, why.clone());
        std::future::ready(Ok::<_, Infallible>(refusal.into_response()))
    });
    // It may be gone already.
    let _ = http().keep_alive(false).serve_connection(TokioIo::new(io), refuse).await;
}

/// Who has how many connections.
#[derive(Debug, Clone, Default)]
struct Places(Arc<Mutex<HashMap<Role, usize>>>);

/// One connection's place; given back when dropped.
#[derive(Debug)]
struct Place(Places, Role);

impl Places {
    fn take(&self, role: &Role) -> Result<Place, String> {
        let most = match role {
            Role::Agent(_) => OF_AN_AGENT,
            Role::Scheduler => OF_THE_SCHEDULER,
            Role::Front => OF_FRONTS,
        };
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= OF_ALL {
            return Err(format!("{OF_ALL} connections are open, as many as may be: try again later"));
        }
        let own = taken.entry(role.clone()).or_default();
        if *own >= most {
            let name = role.host_name();
            return Err(format!("`{name}` has {most} connections open, as many as may be: try again later"));
        }
        *own += 1;
        Ok(Place(self.clone(), role.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.1) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::super::limits::IDLE;
    use super::*;

    fn peer() -> Peer {
        Peer { role: Role::Scheduler, address: ([127, 0, 0, 1], 1).into() }
    }

    fn served() -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let routes =
            Router::new().route("/", get(|| async { "here" })).route("/", post(|_: String| async {}));
        tokio::spawn(connection(theirs, routes, peer()));
        ours
    }

    async fn answer(request: &[u8]) -> String {
        let mut stream = served();
        stream.write_all(request).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_more_is_closed() {
        for begun in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let begin = tokio::time::Instant::now();
            let text = answer(begun.as_bytes()).await;
            assert_eq!(text.ends_with("here"), begun.ends_with("\r\n\r\n"), "{text}");
            assert!(
                begin.elapsed() >= IDLE && begin.elapsed() < IDLE * 2,
                "{begun:?}: {:?}",
                begin.elapsed()
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_head_is_refused() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(40));
        let long = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(20_000));
        for head in [many, long] {
            let text = answer(head.as_bytes()).await;
            assert!(text.starts_with("HTTP/1.1 431"), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_within_another_is_not_taken_for_one() {
        for head in [
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost : a\r\n\r\n",
        ] {
            let text = answer(format!("{head}0\r\n\r\nGET / HTTP/1.1\r\n\r\n").as_bytes()).await;
            assert!(text.starts_with("HTTP/1.1 400") && !text.contains("here"), "{head:?}: {text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_too_many_is_told_so() {
        let (mut ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(tell(theirs, "too many".to_owned()));
        ours.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut text = String::new();
        ours.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 429") && text.contains("too many"), "{text}");
    }

    #[test]
    fn places_are_limited_per_caller_and_in_all_and_are_given_back() {
        let places = Places::default();
        let agent = |name: &str| Role::Agent(name.into());
        let mut a: Vec<Place> = (0..OF_AN_AGENT).map(|_| places.take(&agent("a")).unwrap()).collect();
        assert!(places.take(&agent("a")).unwrap_err().contains("`a.node.sterna` has 32"));
        let scheduler: Vec<Place> =
            (0..OF_THE_SCHEDULER).map(|_| places.take(&Role::Scheduler).unwrap()).collect();
        assert!(places.take(&Role::Scheduler).is_err());
        a.pop();
        a.push(places.take(&agent("a")).unwrap());
        let mut others = Vec::new();
        for at in 0.. {
            match places.take(&agent(&format!("b{}", at / OF_AN_AGENT))) {
                Ok(place) => others.push(place),
                Err(why) => {
                    assert!(why.contains("384 connections"), "{why}");
                    break;
                }
            }
        }
        assert_eq!(a.len() + scheduler.len() + others.len(), OF_ALL);
        drop((a, scheduler, others));
        assert!(places.0.lock().unwrap().is_empty());
    }
}
