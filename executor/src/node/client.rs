//! How the scheduler and other agents speak to an agent.

use bytes::Bytes as Data;
use futures_util::{Stream, TryStreamExt as _};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use sterna_core::continuum::{NodeName, ServiceName};
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use crate::error_chain::chain;
use crate::identity::{Credentials, IdentityError, Role, Sealed};
use crate::migration::order::{MigrationId, Order};
use crate::migration::report::Event;
use crate::traffic::announcement::{Announcement, Held};
use crate::transfer::manifest::Digest;

use super::api::{
    Arriving, Finish, NodeFacts, Part, Probe, Probed, Problem, ReleaseAnswer, Reservation, Restored,
    Standing, StreamId, TOKEN_HEADER, Verdict, Whereabouts,
};
use super::assessment::Assessment;

mod services;

/// An agent did not answer, or answered with an error.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The credentials can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No such address.
    #[error("`{address}` is not the address of an agent: {reason}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It does not answer.
    #[error("the agent of node `{node}` at {address} does not answer: {reason}")]
    Silent {
        /// The node.
        node: NodeName,
        /// Where it was looked for.
        address: String,
        /// What happened.
        reason: String,
        /// Whether that lies with the link or the agent's being down, so that it may be over in a moment.
        passes: bool,
    },
    /// What was sent did not come through in time, or it has no room now.
    #[error("the agent of node `{node}` says: {reason}")]
    Busy {
        /// The node.
        node: NodeName,
        /// What it said.
        reason: String,
    },
    /// What was asked for is not there.
    #[error("the agent of node `{node}` says: {reason}")]
    Absent {
        /// The node.
        node: NodeName,
        /// What it said.
        reason: String,
    },
    /// It answered with an error.
    #[error("the agent of node `{node}` says: {reason}")]
    Refused {
        /// The node.
        node: NodeName,
        /// What it said.
        reason: String,
    },
}

impl ClientError {
    /// Whether it may be over in a moment, though nothing is changed.
    pub const fn passes(&self) -> bool {
        match self {
            Self::Silent { passes, .. } => *passes,
            Self::Busy { .. } => true,
            Self::Identity(_) | Self::Address { .. } | Self::Absent { .. } | Self::Refused { .. } => false,
        }
    }
}

/// Whether an error is one of the link, or of an agent that is down.
fn of_the_link(error: &reqwest::Error) -> bool {
    let mut causes = std::iter::successors(Some(error as &(dyn Error + 'static)), |error| (*error).source());
    error.is_timeout() || causes.any(broke)
}

/// An error of the system may hold another one, which is not among its sources.
fn broke(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return error.is_incomplete_message() || error.is_canceled() || error.is_closed();
    }
    let Some(error) = error.downcast_ref::<io::Error>() else { return false };
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    ) || error.get_ref().is_some_and(|inner| broke(inner))
}

/// Time for an answer that moves no data.
const ANSWER: Duration = Duration::from_secs(60);
/// Time for an answer about targets, all of which may be silent.
const PROBED: Duration = Duration::from_secs(20);
/// Most bytes of an answer: several times what a page of migrations takes.
const LARGEST: usize = 16 << 20;
/// Most bytes of an event: a report with every reason that there is.
const LINE: usize = 1 << 20;

/// Reads an answer, or says why it can't be, and whether that lies with the link.
async fn read<T: DeserializeOwned>(mut response: Response) -> Result<T, (String, bool)> {
    let mut text = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| (chain(&error), of_the_link(&error)))? {
        if text.len() + piece.len() > LARGEST {
            return Err((format!("its answer is longer than {LARGEST} bytes"), false));
        }
        text.extend_from_slice(&piece);
    }
    serde_json::from_slice(&text).map_err(|error| (format!("its answer can't be read: {error}"), false))
}

/// The values of an answer that has one on each line, as they come.
fn lines<T: DeserializeOwned>(response: Response) -> impl Stream<Item = Result<T, io::Error>> {
    let input = StreamReader::new(response.bytes_stream().map_err(io::Error::other));
    let lines = FramedRead::new(input, LinesCodec::new_with_max_length(LINE));
    lines
        .map_err(io::Error::other)
        .and_then(|line: String| async move { serde_json::from_str(&line).map_err(io::Error::other) })
}

/// Time for which a connection is kept open between calls.
const KEPT: Duration = Duration::from_secs(15);
/// Time for which nothing of what was sent on a stream is acknowledged, until its connection is given up: well within a freeze
/// lease, and longer than a disk at the other end makes it wait.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// A connection to one agent, kept open between calls.
#[derive(Debug, Clone)]
pub struct AgentClient {
    node: NodeName,
    address: String,
    base: String,
    http: reqwest::Client,
    /// For streams. Another call's answer is waited for, however long the link is away.
    streams: reqwest::Client,
    resolved: SocketAddr,
    token: Option<String>,
}

impl AgentClient {
    /// Prepares calls to the agent of `node` at `address` (`host:port`). Nothing is sent yet.
    ///
    /// # Errors
    /// When the credentials can't be used or the address can't be resolved.
    pub async fn new(credentials: &Credentials, node: &NodeName, address: &str) -> Result<Self, ClientError> {
        let bad = |reason: String| ClientError::Address { address: address.to_owned(), reason };
        let resolved = tokio::net::lookup_host(address).await.map_err(|error| bad(error.to_string()))?.next();
        let resolved = resolved.ok_or_else(|| bad("it has no address".to_owned()))?;
        let host = Role::Agent(node.clone()).host_name();
        let client = |unacknowledged: Option<Duration>| {
            let client = credentials
                .client()?
                .resolve(&host, resolved)
                .tcp_nodelay(true)
                .tcp_user_timeout(unacknowledged)
                // Before the agent closes it, so that no call goes into a connection that is being closed.
                .pool_idle_timeout(KEPT);
            client.build().map_err(|error| bad(error.to_string()))
        };
        let (http, streams) = (client(None)?, client(Some(UNACKNOWLEDGED))?);
        Ok(Self {
            node: node.clone(),
            address: address.to_owned(),
            base: format!("https://{host}:{}/v1", resolved.port()),
            http,
            streams,
            resolved,
            token: None,
        })
    }

    /// The same, with the token of one migration in every call.
    #[must_use]
    pub fn with_token(self, token: String) -> Self {
        Self { token: Some(token), ..self }
    }

    /// The node.
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// Where its agent listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where that is on the network.
    pub fn resolved(&self) -> SocketAddr {
        self.resolved
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_by(&self.http, method, path)
    }

    fn request_by(&self, client: &reqwest::Client, method: Method, path: &str) -> RequestBuilder {
        let request = client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.header(TOKEN_HEADER, token),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let answer = crate::fault::call(request)
            .await
            .ok_or_else(|| self.silent("the answer was lost".to_owned(), true))?;
        let response = answer.map_err(|error| self.silent(chain(&error), of_the_link(&error)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let reason = match read::<Problem>(response).await {
            Ok(problem) => problem.error,
            Err(_) => format!("HTTP status {status}"),
        };
        let node = self.node.clone();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) {
            return Err(ClientError::Busy { node, reason });
        }
        if status == StatusCode::NOT_FOUND {
            return Err(ClientError::Absent { node, reason });
        }
        Err(ClientError::Refused { node, reason })
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request).await?;
        read(response).await.map_err(|(reason, passes)| self.silent(reason, passes))
    }

    fn silent(&self, reason: String, passes: bool) -> ClientError {
        ClientError::Silent { node: self.node.clone(), address: self.address.clone(), reason, passes }
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.answer(self.request(Method::POST, path).json(body).timeout(ANSWER)).await
    }

    /// What the node is.
    ///
    /// # Errors
    /// When the agent does not answer or refuses; so for all calls below.
    pub async fn facts(&self) -> Result<NodeFacts, ClientError> {
        self.answer(self.request(Method::GET, "/node").timeout(ANSWER)).await
    }

    /// How far it is from the node to other places, `host:port` each; the answers come in the same order.
    ///
    /// # Errors
    /// As above, and when there are too many of them.
    pub async fn probe(&self, targets: &[String]) -> Result<Vec<Probed>, ClientError> {
        let probe = Probe { targets: targets.to_vec() };
        self.answer(self.request(Method::POST, "/probes").json(&probe).timeout(PROBED)).await
    }

    /// Has the agent carry out an order. An order given twice is carried out once.
    ///
    /// # Errors
    /// As above.
    pub async fn migrate(&self, order: &Order) -> Result<(), ClientError> {
        self.post("/migrations", order).await
    }

    /// Has a migration undone that leaves the agent's node. What came of it is its last event.
    ///
    /// # Errors
    /// As above, and when it is committed or has ended.
    pub async fn cancel(&self, id: MigrationId, why: &str) -> Result<(), ClientError> {
        let request = self.request(Method::DELETE, &format!("/migrations/{id}"));
        self.answer(request.query(&[("why", why)]).timeout(ANSWER)).await
    }

    /// What the agent says of a migration that leaves its node; `None` for one that it never drove.
    ///
    /// # Errors
    /// As above.
    pub async fn standing(&self, id: MigrationId) -> Result<Option<Standing>, ClientError> {
        self.answer(self.request(Method::GET, &format!("/migrations/{id}")).timeout(ANSWER)).await
    }

    /// What the agent says of the migrations after one, oldest first; empty when there are no more.
    ///
    /// # Errors
    /// As above.
    pub async fn standings(&self, after: Option<MigrationId>) -> Result<Vec<Standing>, ClientError> {
        let request = self.request(Method::GET, "/migrations");
        let after = after.map(|id| [("after", id.to_string())]);
        self.answer(request.query(after.as_ref().map_or(&[][..], |after| after)).timeout(ANSWER)).await
    }

    /// What the agent says of a migration that comes to its node.
    ///
    /// # Errors
    /// As above, and when nothing is known of it.
    pub async fn arriving(&self, id: MigrationId) -> Result<Arriving, ClientError> {
        self.answer(self.request(Method::GET, &format!("/arrivals/{id}")).timeout(ANSWER)).await
    }

    /// What the agent says of all migrations that come to its node and are not finished.
    ///
    /// # Errors
    /// As above.
    pub async fn coming_in(&self) -> Result<Vec<Arriving>, ClientError> {
        self.answer(self.request(Method::GET, "/arrivals").timeout(ANSWER)).await
    }

    /// Tells the agent where another one is by now, in case that it has a migration open with it.
    ///
    /// # Errors
    /// As above.
    pub async fn tell(&self, told: &Whereabouts) -> Result<(), ClientError> {
        self.post("/peers", told).await
    }

    /// Asks a source what both ends say of an order, and what it would cost. Nothing is touched.
    ///
    /// # Errors
    /// As above.
    pub async fn assess(&self, order: &Order) -> Result<Assessment, ClientError> {
        self.post("/migrations/check", order).await
    }

    /// The events of a migration from its beginning, as they come, until it has ended.
    ///
    /// # Errors
    /// As above.
    pub async fn events(
        &self,
        id: MigrationId,
    ) -> Result<impl Stream<Item = Result<Event, io::Error>>, ClientError> {
        Ok(lines(self.send(self.request(Method::GET, &format!("/migrations/{id}/events"))).await?))
    }

    /// What the agent says to fronts of some services, as it comes.
    ///
    /// # Errors
    /// As above.
    pub async fn traffic(
        &self,
        services: &[ServiceName],
    ) -> Result<impl Stream<Item = Result<Announcement, io::Error>> + use<>, ClientError> {
        let services = services.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(",");
        let request = self.request(Method::GET, "/traffic").query(&[("services", services)]);
        Ok(lines(self.send(request).await?))
    }

    /// Tells that this front hears, or sends nothing more to a service that is about to be frozen.
    ///
    /// # Errors
    /// As above.
    pub async fn held(&self, held: &Held) -> Result<(), ClientError> {
        self.post("/traffic/held", held).await
    }

    /// Asks a destination what speaks against a migration.
    ///
    /// # Errors
    /// As above.
    pub async fn check(&self, reservation: &Reservation, source: &NodeFacts) -> Result<Verdict, ClientError> {
        self.post("/arrivals/check", &(reservation, source)).await
    }

    /// Has a destination create the container.
    ///
    /// # Errors
    /// As above.
    pub async fn reserve(&self, reservation: &Reservation) -> Result<(), ClientError> {
        self.post("/arrivals", reservation).await
    }

    /// Sends a part of a service.
    ///
    /// # Errors
    /// As above; a stream that breaks off or was changed on the way is refused.
    pub async fn send_part<S>(
        &self,
        id: MigrationId,
        part: &Part,
        stream: StreamId,
        data: S,
    ) -> Result<(), ClientError>
    where
        S: Stream<Item = Result<Data, io::Error>> + Send + 'static,
    {
        let path = format!("/arrivals/{id}/parts/{}/{stream}", part.path());
        let request = self.request_by(&self.streams, Method::PUT, &path);
        self.answer(request.body(Body::wrap_stream(data))).await
    }

    /// Ends a stream that broke, and asks how far it came: the hash of all its headers up to the last frame that was acted on; of
    /// memory that is sent ahead the chain. `None` where that is not known.
    ///
    /// # Errors
    /// As above.
    pub async fn end_part(
        &self,
        id: MigrationId,
        part: &Part,
        stream: StreamId,
    ) -> Result<Option<Digest>, ClientError> {
        let path = format!("/arrivals/{id}/parts/{}/{stream}", part.path());
        self.answer(self.request(Method::DELETE, &path).timeout(ANSWER)).await
    }

    /// Has a destination make everything ready for the restore but the image, which is still to come. Its files are all there.
    ///
    /// # Errors
    /// As above.
    pub async fn prepare(&self, id: MigrationId) -> Result<(), ClientError> {
        self.post(&format!("/arrivals/{id}/prepare"), &()).await
    }

    /// Has a destination restore the service, held. How long that may take is for the freeze lease to say, and for the
    /// destination's own limit.
    ///
    /// # Errors
    /// As above.
    pub async fn restore(&self, id: MigrationId) -> Result<(), ClientError> {
        self.answer(self.request(Method::POST, &format!("/arrivals/{id}/restore")).json(&())).await
    }

    /// Has a destination show what it restored.
    ///
    /// # Errors
    /// As above.
    pub async fn restored(&self, id: MigrationId) -> Result<Restored, ClientError> {
        self.answer(self.request(Method::GET, &format!("/arrivals/{id}/restored")).timeout(ANSWER)).await
    }

    /// Lets a destination run the service.
    ///
    /// # Errors
    /// As above.
    pub async fn release(&self, id: MigrationId, certificate: &Sealed) -> Result<ReleaseAnswer, ClientError> {
        self.post(&format!("/arrivals/{id}/release"), certificate).await
    }

    /// Has a destination start the service from its image and files.
    ///
    /// # Errors
    /// As above.
    pub async fn start_anew(&self, id: MigrationId, certificate: &Sealed) -> Result<(), ClientError> {
        self.post(&format!("/arrivals/{id}/start-anew"), certificate).await
    }

    /// Tells a destination that the source never runs again.
    ///
    /// # Errors
    /// As above.
    pub async fn finish(&self, id: MigrationId, finish: &Finish) -> Result<(), ClientError> {
        self.post(&format!("/arrivals/{id}/finish"), finish).await
    }

    /// Has a destination give up what it holds; there need not be anything.
    ///
    /// # Errors
    /// As above, and when it runs the service already.
    pub async fn discard(&self, id: MigrationId) -> Result<(), ClientError> {
        self.answer(self.request(Method::DELETE, &format!("/arrivals/{id}")).timeout(ANSWER)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_have_an_end() {
        let answer = |text: String| Response::from(axum::http::Response::new(text));
        assert_eq!(read(answer("[1, 2]".into())).await, Ok(vec![1, 2]));
        let long = format!("\"{}\"", "x".repeat(LARGEST));
        assert!(read::<String>(answer(long)).await.unwrap_err().0.contains("longer"));
        assert!(read::<String>(answer("<html>".into())).await.unwrap_err().0.contains("can't be read"));
    }
}
