//! Migrations that come to this node: taking a service in, holding it, running it.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path as Segment, State};
use axum::http::StatusCode;
use sterna_core::continuum::NodeName;

use crate::identity::{Role, Sealed};
use crate::migration::finding;
use crate::migration::holding::Holding;
use crate::migration::order::MigrationId;
use crate::node::api::{
    Arriving, Finish, NodeFacts, Part, ReleaseAnswer, Reservation, Restored, StreamId, Verdict,
};
use crate::node::facts;
use crate::node::precheck::bounds;
use crate::node::precheck::description::description;
use crate::transfer::manifest::Digest;

use super::Agent;
use super::caller::{Caller, FromAgent, FromScheduler, Sender};
use super::document::Document;
use super::refusal::{Refusal, whole};
use super::streams::flowing;

pub(super) async fn check(
    FromAgent(caller): FromAgent,
    State(agent): State<Agent>,
    Document((reservation, source)): Document<(Reservation, NodeFacts)>,
) -> Result<Json<Verdict>, Refusal> {
    addressed(&agent, &caller, &reservation)?;
    let body = bounds::reservation(&reservation)?;
    let own = facts::gather(&agent.config, &agent.engine).await?;
    let mut verdict = agent.arrivals.check(&reservation, &body, &source, &own).await?;
    verdict.findings.extend(description(&body, own.cgroup));
    Ok(Json(verdict))
}

pub(super) async fn reserve(
    FromAgent(caller): FromAgent,
    State(agent): State<Agent>,
    Document(reservation): Document<Reservation>,
) -> Result<Json<()>, Refusal> {
    addressed(&agent, &caller, &reservation)?;
    let body = bounds::reservation(&reservation)?;
    // The check names them too, but nothing makes a caller ask for one.
    let against = description(&body, facts::cgroup());
    if !against.is_empty() {
        return Err(Refusal(StatusCode::FORBIDDEN, finding::line(&against)));
    }
    whole(async move { agent.arrivals.reserve(&reservation, body).await }).await
}

/// Refuses a reservation that is not between the caller and this node.
fn addressed(agent: &Agent, caller: &NodeName, reservation: &Reservation) -> Result<(), Refusal> {
    let order = &reservation.order;
    if order.from == *caller && order.to == agent.config.node {
        return Ok(());
    }
    let text = format!("`{caller}` may not reserve for a move from `{}` to `{}` here", order.from, order.to);
    Err(Refusal(StatusCode::FORBIDDEN, text))
}

async fn receive(
    agent: Agent,
    id: MigrationId,
    part: Part,
    stream: StreamId,
    body: Body,
) -> Result<Json<()>, Refusal> {
    Ok(Json(agent.arrivals.receive(id, &part, stream, flowing(body)).await?))
}

async fn end(
    agent: Agent,
    id: MigrationId,
    part: Part,
    stream: StreamId,
) -> Result<Json<Option<Digest>>, Refusal> {
    Ok(Json(agent.arrivals.end(id, &part, stream).await?))
}

pub(super) async fn receive_memory(
    Sender { id }: Sender,
    State(agent): State<Agent>,
    Segment((_, stream)): Segment<(MigrationId, StreamId)>,
    body: Body,
) -> Result<Json<()>, Refusal> {
    receive(agent, id, Part::Memory, stream, body).await
}

pub(super) async fn end_memory(
    Sender { id }: Sender,
    State(agent): State<Agent>,
    Segment((_, stream)): Segment<(MigrationId, StreamId)>,
) -> Result<Json<Option<Digest>>, Refusal> {
    end(agent, id, Part::Memory, stream).await
}

pub(super) async fn receive_ahead(
    Sender { id }: Sender,
    State(agent): State<Agent>,
    Segment((_, stream)): Segment<(MigrationId, StreamId)>,
    body: Body,
) -> Result<Json<()>, Refusal> {
    receive(agent, id, Part::Ahead, stream, body).await
}

pub(super) async fn end_ahead(
    Sender { id }: Sender,
    State(agent): State<Agent>,
    Segment((_, stream)): Segment<(MigrationId, StreamId)>,
) -> Result<Json<Option<Digest>>, Refusal> {
    end(agent, id, Part::Ahead, stream).await
}

pub(super) async fn receive_layer(
    Sender { id }: Sender,
    State(agent): State<Agent>,
    Segment((_, stream)): Segment<(MigrationId, StreamId)>,
    body: Body,
) -> Result<Json<()>, Refusal> {
    receive(agent, id, Part::Layer, stream, body).await
}

pub(super) async fn end_layer(
    Sender { id }: Sender,
    State(agent): State<Agent>,
    Segment((_, stream)): Segment<(MigrationId, StreamId)>,
) -> Result<Json<Option<Digest>>, Refusal> {
    end(agent, id, Part::Layer, stream).await
}

pub(super) async fn receive_volume(
    Sender { id }: Sender,
    State(agent): State<Agent>,
    Segment((_, name, stream)): Segment<(MigrationId, String, StreamId)>,
    body: Body,
) -> Result<Json<()>, Refusal> {
    receive(agent, id, Part::Volume(name), stream, body).await
}

pub(super) async fn end_volume(
    Sender { id }: Sender,
    State(agent): State<Agent>,
    Segment((_, name, stream)): Segment<(MigrationId, String, StreamId)>,
) -> Result<Json<Option<Digest>>, Refusal> {
    end(agent, id, Part::Volume(name), stream).await
}

pub(super) async fn prepare(Sender { id }: Sender, State(agent): State<Agent>) -> Result<Json<()>, Refusal> {
    whole(async move { agent.arrivals.prepare(id).await }).await
}

pub(super) async fn restore(Sender { id }: Sender, State(agent): State<Agent>) -> Result<Json<()>, Refusal> {
    whole(async move { agent.arrivals.restore(id).await }).await
}

pub(super) async fn restored(
    Sender { id }: Sender,
    State(agent): State<Agent>,
) -> Result<Json<Restored>, Refusal> {
    Ok(Json(agent.arrivals.restored(id).await?))
}

/// All that has not finished coming in.
pub(super) async fn coming_in(
    _: FromScheduler,
    State(agent): State<Agent>,
) -> Result<Json<Vec<Arriving>>, Refusal> {
    let mut all = Vec::new();
    for state in [Holding::Held, Holding::Released] {
        for arrival in agent.store.arrivals(state)? {
            all.push(agent.arrivals.arriving(arrival.reservation.order.id).await?);
        }
    }
    Ok(Json(all))
}

/// Told to the scheduler, and to the agent that the service comes from.
pub(super) async fn arriving(
    caller: Caller,
    State(agent): State<Agent>,
    Segment(id): Segment<MigrationId>,
) -> Result<Json<Arriving>, Refusal> {
    let arriving = agent.arrivals.arriving(id).await?;
    match &caller.0 {
        Role::Agent(node) if arriving.order.from != *node => {
            Err(Refusal(StatusCode::FORBIDDEN, format!("migration {id} does not leave `{node}`")))
        }
        _ => Ok(Json(arriving)),
    }
}

/// Anyone may carry a certificate: who issued it is proved by its signature.
pub(super) async fn release(
    _: Caller,
    State(agent): State<Agent>,
    Segment(id): Segment<MigrationId>,
    Document(certificate): Document<Sealed>,
) -> Result<Json<ReleaseAnswer>, Refusal> {
    let arrivals = agent.arrivals.clone();
    let answer = whole(async move { arrivals.release(id, &certificate).await }).await?;
    // Not before: who carries no certificate must not keep the source from being asked.
    agent.arrivals.hear(id);
    Ok(answer)
}

pub(super) async fn start_anew(
    Sender { id }: Sender,
    State(agent): State<Agent>,
    Document(certificate): Document<Sealed>,
) -> Result<Json<()>, Refusal> {
    whole(async move { agent.arrivals.start_anew(id, &certificate).await }).await
}

pub(super) async fn finish(
    Sender { id }: Sender,
    State(agent): State<Agent>,
    Document(finish): Document<Finish>,
) -> Result<Json<()>, Refusal> {
    whole(async move { agent.arrivals.finish(id, &finish).await }).await
}

pub(super) async fn discard(Sender { id }: Sender, State(agent): State<Agent>) -> Result<Json<()>, Refusal> {
    whole(async move { agent.arrivals.discard(id).await }).await
}
