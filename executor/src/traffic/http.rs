//! HTTP/1.1, request by request: a client's connection stays open, and each request goes to wherever the service is then.
//!
//! A request is held before anything of it is sent. One that was sent when the service was frozen, and has no answer yet, is
//! repeated at the new place if that can't change anything (GET, HEAD, OPTIONS, TRACE, without a body); else the client gets
//! 502 and has to decide. An answer that had begun is cut off: the client sees that it is not whole. Connections to a service
//! are kept for further requests. Upgrades (WebSocket) are not passed on: for those there is `tcp`.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::gate::{Gate, Permit, Refused};
use super::place::Place;
use super::reach::{self, connect};

/// Time for a request's head to arrive, and for which a connection may be kept open without one: longer than any server's, so
/// that it is theirs that counts.
const IDLE: Duration = Duration::from_secs(300);
/// Most connections to a service that are kept for further requests.
const KEPT: usize = 512;
/// Most bytes that are read ahead of a connection.
const READ_AHEAD: usize = 256 << 10;
/// How often a request is sent again because the connection that was kept for it had been closed, or the service moved.
const TRIES: u32 = 8;

/// Headers that are about one connection and not about the request.
const OF_A_CONNECTION: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
];

/// Serves one client until it ends the connection.
pub async fn serve(client: TcpStream, pool: Arc<Pool>) {
    reach::tune(&client);
    let gate = Arc::clone(&pool.gate);
    let service = service_fn(move |request| {
        let pool = Arc::clone(&pool);
        async move { Ok::<_, Infallible>(pool.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .half_close(true)
        .pipeline_flush(true)
        .max_buf_size(READ_AHEAD)
        .serve_connection(TokioIo::new(client), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = gate.ending() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

/// The connections to one service that are kept for further requests.
#[derive(Debug)]
pub struct Pool {
    gate: Arc<Gate>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    place: Option<Arc<Place>>,
    idle: Vec<SendRequest<Body>>,
}

/// Why there is no answer from the service.
enum Failure {
    /// It moved, or the connection broke, before anything came back. The connection may have been used before.
    Unanswered(String),
    Refused(Refused),
}

impl Pool {
    /// No connection yet.
    pub fn new(gate: Arc<Gate>) -> Arc<Self> {
        Arc::new(Self { gate, kept: Mutex::default() })
    }

    /// Answers one request.
    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Passing> {
        let begin = Instant::now();
        let (mut parts, body) = request.into_parts();
        adapt(&mut parts);
        let safe = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
        let repeatable = safe && body.is_end_stream();
        let again = repeatable.then(|| parts.clone());
        let mut request =
            Request::from_parts(parts, if repeatable { Body::empty() } else { Body::new(body) });
        for _ in 0..TRIES {
            let why = match self.send(request, begin).await {
                Ok(response) => return response,
                Err(Failure::Refused(why)) => {
                    return refusal(StatusCode::SERVICE_UNAVAILABLE, why.to_string());
                }
                Err(Failure::Unanswered(why)) => why,
            };
            let Some(parts) = &again else {
                self.gate.meters().closed_in_request.inc();
                let text = format!("the service did not answer, and may have done what was asked: {why}");
                return refusal(StatusCode::BAD_GATEWAY, text);
            };
            tracing::debug!(why, "a request is repeated");
            self.gate.meters().repeated.inc();
            request = Request::from_parts(parts.clone(), Body::empty());
        }
        refusal(StatusCode::BAD_GATEWAY, format!("the service did not answer {TRIES} times"))
    }

    /// Sends a request to wherever the service is.
    async fn send(
        self: &Arc<Self>,
        mut request: Request<Body>,
        begin: Instant,
    ) -> Result<Response<Passing>, Failure> {
        loop {
            let (mut sender, permit) = self.connection(begin).await?;
            let place = Arc::clone(permit.place());
            if !request.headers().contains_key(header::HOST)
                && let Ok(host) = HeaderValue::from_str(&place.address.to_string())
            {
                request.headers_mut().insert(header::HOST, host);
            }
            let answer = tokio::select! {
                biased;
                answer = sender.try_send_request(request) => answer,
                () = self.gate.moved_from(&place) => return Err(Failure::Unanswered("it has moved".to_owned())),
            };
            match answer {
                Ok(response) => return Ok(self.passing(response, sender, permit)),
                Err(mut error) => match error.take_message() {
                    // The connection had been closed, and nothing of the request was sent.
                    Some(unsent) => request = unsent,
                    None => return Err(Failure::Unanswered(error.into_error().to_string())),
                },
            }
        }
    }

    /// A connection to wherever the service is, kept or new.
    async fn connection(self: &Arc<Self>, begin: Instant) -> Result<(SendRequest<Body>, Permit), Failure> {
        let mut held = None;
        loop {
            let permit = self.gate.admit(begin, &mut held).await.map_err(Failure::Refused)?;
            while let Some(mut kept) = self.take(permit.place()) {
                // It was given back at the end of an answer, an instant before hyper knows that.
                if !kept.is_closed() && kept.ready().await.is_ok() {
                    return Ok((kept, permit));
                }
            }
            drop(permit);
            let (stream, permit) = connect(&self.gate, begin, &mut held).await.map_err(Failure::Refused)?;
            match handshake(TokioIo::new(stream)).await {
                Ok((sender, connection)) => {
                    tokio::spawn(async move {
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "a connection to a service ended");
                        }
                    });
                    return Ok((sender, permit));
                }
                Err(error) => tracing::debug!(%error, "a connection to a service can't be used"),
            }
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, place: &Arc<Place>) -> Option<SendRequest<Body>> {
        let mut kept = self.kept();
        if kept.place.as_ref() != Some(place) {
            *kept = Kept { place: Some(Arc::clone(place)), idle: Vec::new() };
        }
        kept.idle.pop()
    }

    fn give_back(&self, place: &Arc<Place>, sender: SendRequest<Body>) {
        let mut kept = self.kept();
        if kept.place.as_ref() == Some(place) && kept.idle.len() < KEPT && !sender.is_closed() {
            kept.idle.push(sender);
        }
    }

    fn passing(
        self: &Arc<Self>,
        response: Response<Incoming>,
        sender: SendRequest<Body>,
        permit: Permit,
    ) -> Response<Passing> {
        let (mut parts, body) = response.into_parts();
        without_connection(&mut parts.headers);
        parts.version = Version::HTTP_11;
        let mut passing = Passing {
            body: Some(body),
            text: None,
            under_way: Some(UnderWay { pool: Arc::clone(self), sender, permit }),
            moved: None,
        };
        if passing.is_end_stream() {
            passing.end();
        }
        Response::from_parts(parts, passing)
    }
}

/// Makes the request one of another connection.
fn adapt(parts: &mut Parts) {
    without_connection(&mut parts.headers);
    parts.version = Version::HTTP_11;
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(header::HOST, host);
    }
    if parts.method != Method::CONNECT {
        let path = parts.uri.path_and_query().cloned();
        parts.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
}

/// Removes what is about one connection, also what the sender calls so itself.
fn without_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // Whoever reads the body must still know how long it is.
        .filter(|name| {
            *name != header::TRANSFER_ENCODING && *name != header::CONTENT_LENGTH && *name != header::HOST
        })
        .collect();
    for name in named.iter().chain(&OF_A_CONNECTION) {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection"] {
        headers.remove(name);
    }
}

fn refusal(status: StatusCode, why: String) -> Response<Passing> {
    let mut response = Response::new(Passing {
        body: None,
        text: Some(Bytes::from(format!("Sterna: {why}\n"))),
        under_way: None,
        moved: None,
    });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// What is under way until an answer is whole.
struct UnderWay {
    pool: Arc<Pool>,
    sender: SendRequest<Body>,
    permit: Permit,
}

/// The body of an answer on its way to the client.
pub struct Passing {
    body: Option<Incoming>,
    text: Option<Bytes>,
    under_way: Option<UnderWay>,
    /// Done when the service has moved.
    moved: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Passing {
    /// It is whole: the connection can be used for another request.
    fn end(&mut self) {
        if let Some(UnderWay { pool, sender, permit }) = self.under_way.take() {
            pool.give_back(permit.place(), sender);
        }
        self.moved = None;
    }
}

impl hyper::body::Body for Passing {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(text) = self.text.take() {
            return Poll::Ready(Some(Ok(Frame::data(text))));
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(data), Some(one)) = (frame.data_ref(), &self.under_way) {
                    one.pool.gate.meters().received.inc_by(data.len() as u64);
                }
                if self.is_end_stream() {
                    self.end();
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(one) = self.under_way.take() {
                    one.pool.gate.meters().closed_in_request.inc();
                }
                return Poll::Ready(Some(Err(error.into())));
            }
            Poll::Ready(None) => {
                self.end();
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
        // Nothing more comes from a place that the service has left.
        if self.moved.is_none()
            && let Some(one) = &self.under_way
        {
            let (gate, place) = (Arc::clone(&one.pool.gate), Arc::clone(one.permit.place()));
            self.moved = Some(Box::pin(async move { gate.moved_from(&place).await }));
        }
        if let Some(moved) = &mut self.moved
            && moved.as_mut().poll(context).is_ready()
        {
            if let Some(one) = self.under_way.take() {
                one.pool.gate.meters().closed_in_request.inc();
            }
            return Poll::Ready(Some(Err("the service moved before its answer was whole".into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_none() && self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.text, &self.body) {
            (Some(text), _) => SizeHint::with_exact(text.len() as u64),
            (None, Some(body)) => body.size_hint(),
            (None, None) => SizeHint::with_exact(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let parse =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        pairs.iter().map(parse).collect()
    }

    #[test]
    fn what_is_about_one_connection_is_not_passed_on() {
        let mut all = headers(&[
            ("connection", "close, X-Own, transfer-encoding"),
            ("x-own", "1"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "websocket"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ]);
        without_connection(&mut all);
        let mut left: Vec<&str> = all.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "transfer-encoding"]);
    }

    #[test]
    fn a_request_to_a_proxy_becomes_one_to_the_service() {
        let request = Request::get("http://web.example:80/a?b=c").header("host", "other").body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        adapt(&mut parts);
        assert_eq!(
            (parts.uri.to_string().as_str(), parts.headers["host"].to_str().unwrap()),
            ("/a?b=c", "web.example:80")
        );
    }
}
