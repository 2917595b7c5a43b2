//! How much of this node a caller can take: bytes, time, and calls at once. What `docs/agent-api.md` says of it is tested
//! against the numbers here.

use std::time::Duration;

use axum::error_handling::HandleErrorLayer;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::{BoxError, Router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;

use super::refusal::Refusal;

/// Most bytes of a JSON document. A container with all its variables and labels has a tenth of it.
pub(super) const DOCUMENT: usize = 256 << 10;
/// Most bytes of path and query. The longest that is meant is the name of an image, or the reason of a cancellation.
pub(super) const TARGET: usize = 2 << 10;
/// Most bytes of a request's head; this program's own take 300.
const HEAD: usize = 16 << 10;
/// Most header lines.
const HEADERS: usize = 32;
/// Most bytes that are read ahead of a connection.
const READ_AHEAD: usize = 64 << 10;
/// Time in which a document must arrive: a document of full size over the slowest of links.
pub(super) const DOCUMENT_TIME: Duration = Duration::from_secs(15);
/// Time in which a request's head must arrive, and for which a connection may be kept open without one. Clients of this
/// program close earlier.
pub(super) const IDLE: Duration = Duration::from_secs(30);
/// Time for which a stream may stand still: a source that packs zeroes sends nothing meanwhile, but never for so long.
pub(super) const STALLED: Duration = Duration::from_secs(60);
/// Most calls that are being answered at once. Streams of events and of what services write are not among them.
const CALLS: usize = 128;
/// Most connections of one agent: some for each migration between it and this node.
pub(super) const OF_AN_AGENT: usize = 32;
/// Most connections of the scheduler, which may be many command lines at once.
pub(super) const OF_THE_SCHEDULER: usize = 64;
/// Most connections of fronts, which all have the same name: two for each, and one for each service whose output is followed.
pub(super) const OF_FRONTS: usize = 128;
/// Most connections in all.
pub(super) const OF_ALL: usize = 384;

/// A connection's limits.
pub(super) fn http() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_headers(HEADERS)
        .max_header_size(HEAD)
        .max_buf_size(READ_AHEAD);
    builder
}

/// Puts the limits of calls around the routes.
pub(super) fn around<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    with_calls(routes, CALLS)
}

fn with_calls<S: Clone + Send + Sync + 'static>(routes: Router<S>, calls: usize) -> Router<S> {
    let at_once = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(move |_: BoxError| async move {
            let text =
                format!("{calls} calls are being answered, as many as may be at once: try again later");
            Refusal(StatusCode::TOO_MANY_REQUESTS, text)
        }))
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(calls));
    routes.layer(DefaultBodyLimit::max(DOCUMENT)).layer(at_once).layer(from_fn(target))
}

async fn target(request: Request, next: Next) -> Response {
    let length = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if length > TARGET {
        let text = format!("path and query of {length} bytes exceed {TARGET}");
        return Refusal(StatusCode::URI_TOO_LONG, text).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::super::probes::PROBES;
    use super::*;
    use crate::node::probe::TARGETS;

    async fn status(router: &Router, target: &str) -> StatusCode {
        let request = Request::get(target).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn a_long_target_is_refused() {
        let router = around(Router::new().route("/{*rest}", get(|| async {})));
        let of = |length: usize| format!("/?{}", "a".repeat(length - 2));
        assert_eq!(status(&router, &format!("/{}", "a".repeat(TARGET - 1))).await, StatusCode::OK);
        assert_eq!(status(&router, &of(TARGET + 1)).await, StatusCode::URI_TOO_LONG);
    }

    #[tokio::test]
    async fn further_calls_are_refused_until_one_is_answered() {
        let (answer, _) = tokio::sync::broadcast::channel::<()>(1);
        let waits = answer.clone();
        let handler = move || {
            let mut answered = waits.subscribe();
            async move { drop(answered.recv().await) }
        };
        let router = with_calls(Router::new().route("/", get(handler)), 2);
        let call = || tokio::spawn(router.clone().oneshot(Request::get("/").body(Body::empty()).unwrap()));
        let (first, second) = (call(), call());
        while answer.receiver_count() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(status(&router, "/").await, StatusCode::TOO_MANY_REQUESTS);
        answer.send(()).unwrap();
        for call in [first, second] {
            assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
        }
        let again = call();
        while answer.receiver_count() < 1 {
            tokio::task::yield_now().await;
        }
        answer.send(()).unwrap();
        assert_eq!(again.await.unwrap().unwrap().status(), StatusCode::OK);
    }

    #[test]
    fn the_page_tells_the_numbers() {
        let page = include_str!("../../../../docs/agent-api.md");
        let seconds = |time: Duration| format!("{} s", time.as_secs());
        let kib = |bytes: usize| format!("{} KiB", bytes >> 10);
        for row in [
            format!("| a JSON document | {} | 413 |", kib(DOCUMENT)),
            format!("| path and query | {} | 414 |", kib(TARGET)),
            format!("| a request's head | {}, {HEADERS} lines | 431 |", kib(HEAD)),
            format!("| time for a document to arrive | {} | 408 |", seconds(DOCUMENT_TIME)),
            format!("| time for a head to arrive, and between calls | {} | closed |", seconds(IDLE)),
            format!("| a stream that stands still | {} | 408 |", seconds(STALLED)),
            format!("| calls at once | {CALLS} | 429 |"),
            format!("| calls to probe at once | {PROBES} | 429 |"),
            format!("| targets of one of them | {TARGETS} | 400 |"),
            format!("| connections of one agent | {OF_AN_AGENT} | 429 |"),
            format!("| connections of the scheduler | {OF_THE_SCHEDULER} | 429 |"),
            format!("| connections of fronts | {OF_FRONTS} | 429 |"),
            format!("| connections in all | {OF_ALL} | 429 |"),
        ] {
            assert!(page.contains(&row), "docs/agent-api.md must have: {row}");
        }
    }
}
