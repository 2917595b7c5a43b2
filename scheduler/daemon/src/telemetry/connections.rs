//! Connections to the scheduler's own port: so many at once, none kept for nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Most connections at once. A stream of events is one of them, of which there are far fewer.
const MOST: usize = 256;
/// Most connections that are being told at once that there are too many; further ones are closed without a word.
const TOLD: usize = 16;
/// Time for that.
const TO_TELL: Duration = Duration::from_secs(5);
/// Time in which a request's head must arrive, and for which a connection may be kept open without one.
const IDLE: Duration = Duration::from_secs(30);
/// Most bytes that are read ahead of a connection, and with it most of a request's head.
const READ_AHEAD: usize = 64 << 10;
/// Until it is tried again to accept a connection, where that failed.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves routes until the process ends.
pub async fn serve(listener: TcpListener, routes: Router) -> Infallible {
    serve_at_most(MOST, listener, routes).await
}

async fn serve_at_most(most: usize, listener: TcpListener, routes: Router) -> Infallible {
    let (places, told) = (Arc::new(Semaphore::new(most)), Arc::new(Semaphore::new(TOLD)));
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to be given back.
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let routes = routes.clone();
            tokio::spawn(async move {
                let _place = place;
                connection(stream, routes).await;
            });
            continue;
        }
        tracing::warn!(%address, most, "a connection is refused: as many are open as may be");
        if let Ok(permit) = Arc::clone(&told).try_acquire_owned() {
            tokio::spawn(async move {
                let _permit = permit;
                let _in_time = tokio::time::timeout(TO_TELL, tell(stream, most)).await;
            });
        }
    }
}

fn http() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(READ_AHEAD);
    builder
}

async fn connection<I: AsyncRead + AsyncWrite + Unpin>(io: I, routes: Router) {
    let service = TowerToHyperService::new(routes);
    if let Err(error) = http().serve_connection(TokioIo::new(io), service).await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Answers the first call of a connection that there are too many.
async fn tell<I: AsyncRead + AsyncWrite + Unpin>(io: I, most: usize) {
    let refuse = service_fn(move |_: Request<Incoming>| {
        let text = format!("{most} connections are open, as many as may be: try again later\n");
        let answer: Response = (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    // It may be gone already.
    let _ = http().keep_alive(false).serve_connection(TokioIo::new(io), refuse).await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    fn routes() -> Router {
        Router::new().route("/", get(async || "here"))
    }

    #[test]
    fn the_page_tells_the_numbers() {
        let page = include_str!("../../../../docs/operations.md");
        assert!(page.contains(&format!("At most {MOST} connections")));
        assert!(page.contains(&format!("for {} seconds is closed", IDLE.as_secs())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_more_is_closed() {
        for begun in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let (mut ours, theirs) = tokio::io::duplex(1 << 20);
            tokio::spawn(connection(theirs, routes()));
            let begin = tokio::time::Instant::now();
            ours.write_all(begun.as_bytes()).await.unwrap();
            let mut text = String::new();
            ours.read_to_string(&mut text).await.unwrap();
            assert_eq!(text.ends_with("here"), begun.ends_with("\r\n\r\n"), "{text}");
            let took = begin.elapsed();
            assert!(took >= IDLE && took < IDLE * 2, "{begun:?}: {took:?}");
        }
    }

    #[tokio::test]
    async fn one_too_many_is_told_so_and_a_place_is_given_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_at_most(2, listener, routes()));
        let ask = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        };
        let first = TcpStream::connect(address).await.unwrap();
        let _second = TcpStream::connect(address).await.unwrap();
        let text = ask().await;
        assert!(text.starts_with("HTTP/1.1 503") && text.contains("2 connections are open"), "{text}");
        drop(first);
        let mut last = String::new();
        for _ in 0..100 {
            last = ask().await;
            if last.ends_with("here") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{last}");
    }
}
