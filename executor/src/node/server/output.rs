//! What services write: read by the scheduler and by fronts.

use std::io;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use serde::Deserialize;
use sterna_core::continuum::ServiceName;

use crate::engine::docker::Container;
use crate::node::output::frame;

use super::Agent;
use super::caller::{Named, Reader};
use super::refusal::Refusal;

#[derive(Debug, Deserialize)]
pub(super) struct LogsQuery {
    /// Whether it goes on until the container ends.
    #[serde(default)]
    follow: bool,
    /// Only of the container that the service has here at this epoch.
    epoch: Option<u64>,
}

/// All that a service has written in its container here, each piece as a frame.
pub(super) async fn logs(
    _: Reader,
    State(agent): State<Agent>,
    Named(service): Named,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Refusal> {
    let container = agent.standing(&service, query.epoch).await?;
    let told = agent.engine.output(&container.id, query.follow);
    let cut = agent.wound_up.clone();
    let frames = futures_util::stream::unfold(Some((told, cut)), |state| async move {
        let (mut told, cut) = state?;
        let piece = tokio::select! {
            piece = told.next() => piece?,
            // It has not come to its end: whoever reads must not take it for that.
            () = cut.cancelled() => {
                let why = io::Error::new(io::ErrorKind::ConnectionAborted, "the agent ends");
                return Some((Err::<Bytes, io::Error>(why), None));
            }
        };
        let frame = piece.map(|(stream, text)| frame(stream, &text)).map_err(io::Error::other);
        let more = frame.is_ok();
        Some((frame, more.then_some((told, cut))))
    });
    Ok(Body::from_stream(frames).into_response())
}

impl Agent {
    /// The container of a service that this node owns, or has given away and not removed yet: what it wrote last is still to be
    /// read there.
    async fn standing(&self, service: &ServiceName, epoch: Option<u64>) -> Result<Container, Refusal> {
        let absent =
            |what: &str| Refusal(StatusCode::NOT_FOUND, format!("`{service}` does not stand here{what}"));
        let here = self.store.epoch(service)?;
        if let Some(asked) = epoch.filter(|asked| *asked != here) {
            return Err(absent(&format!(" at epoch {asked}")));
        }
        for container in self.engine.services().await? {
            if container.service().as_ref() == Some(service) && self.came_by_right(&container)? {
                return Ok(container);
            }
        }
        Err(absent(""))
    }
}
