//! Who calls, and what they may call.
//!
//! The scheduler asks, starts services and gives orders. Only another agent may send a service in, and only the one that the
//! migration leaves may say more about it. A front may listen where services are and read what they write, and nothing else.

use std::collections::HashMap;

use axum::extract::{FromRequestParts, Path as Segment};
use axum::http::StatusCode;
use axum::http::request::Parts;
use sterna_core::continuum::{NodeName, ServiceName};
use sterna_policies::load::is_name;

use crate::identity::Role;
use crate::migration::order::MigrationId;
use crate::node::api::TOKEN_HEADER;
use crate::node::listener::Peer;

use super::Agent;
use super::refusal::Refusal;

/// A caller that is the scheduler.
pub(super) struct FromScheduler;
/// A caller that is a front.
pub(super) struct FromFront;
/// A caller that is another node's agent.
pub(super) struct FromAgent(pub(super) NodeName);

fn role(parts: &Parts) -> Option<&Role> {
    parts.extensions.get::<Peer>().map(|peer| &peer.role)
}

impl<S: Sync> FromRequestParts<S> for FromScheduler {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match role(parts) {
            Some(Role::Scheduler) => Ok(Self),
            _ => Err(Refusal(StatusCode::FORBIDDEN, "only the scheduler may ask for this".to_owned())),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for FromFront {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match role(parts) {
            Some(Role::Front) => Ok(Self),
            _ => Err(Refusal(StatusCode::FORBIDDEN, "only a front may ask for this".to_owned())),
        }
    }
}

/// A caller that is the scheduler or a front: who may read what a service writes.
pub(super) struct Reader;

impl<S: Sync> FromRequestParts<S> for Reader {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match role(parts) {
            Some(Role::Scheduler | Role::Front) => Ok(Self),
            _ => Err(Refusal(
                StatusCode::FORBIDDEN,
                "only the scheduler and fronts may ask for this".to_owned(),
            )),
        }
    }
}

/// A service that a path names.
pub(super) struct Named(pub(super) ServiceName);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let bad = |text: String| Refusal(StatusCode::BAD_REQUEST, text);
        let Segment(name) = Segment::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| bad(error.to_string()))?;
        if is_name(&name) {
            Ok(Self(name.into()))
        } else {
            Err(bad(format!("`{}` is not the name of a service", name.escape_debug())))
        }
    }
}

impl<S: Sync> FromRequestParts<S> for FromAgent {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match role(parts) {
            Some(Role::Agent(node)) => Ok(Self(node.clone())),
            _ => Err(Refusal(StatusCode::FORBIDDEN, "only another node's agent may ask for this".to_owned())),
        }
    }
}

/// A caller that is the scheduler or another node's agent.
pub(super) struct Caller(pub(super) Role);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match role(parts) {
            Some(role @ (Role::Scheduler | Role::Agent(_))) => Ok(Self(role.clone())),
            _ => Err(Refusal(
                StatusCode::FORBIDDEN,
                "only the scheduler and agents may ask for this".to_owned(),
            )),
        }
    }
}

/// The node that a call about an arrival comes from, if the migration leaves it and the call has the migration's token.
pub(super) struct Sender {
    pub(super) id: MigrationId,
}

impl FromRequestParts<Agent> for Sender {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, agent: &Agent) -> Result<Self, Refusal> {
        let FromAgent(caller) = FromAgent::from_request_parts(parts, agent).await?;
        let id = migration_of(parts, agent).await?;
        let forbidden = |text: String| Err(Refusal(StatusCode::FORBIDDEN, text));
        if let Some(arrival) = agent.store.arrival(id)? {
            if arrival.source != caller {
                return forbidden(format!("migration {id} does not leave `{caller}`"));
            }
            let token = parts.headers.get(TOKEN_HEADER).map(|token| blake3::hash(token.as_bytes()));
            // Compared as hashes: that takes the same time wherever they differ.
            if token != Some(blake3::hash(arrival.reservation.token.as_bytes())) {
                return forbidden(format!("the call does not carry the token of migration {id}"));
            }
        }
        agent.arrivals.hear(id);
        Ok(Self { id })
    }
}

/// The migration that a path names.
async fn migration_of(parts: &mut Parts, agent: &Agent) -> Result<MigrationId, Refusal> {
    let bad = |text: String| Refusal(StatusCode::BAD_REQUEST, text);
    let Segment(names) = Segment::<HashMap<String, String>>::from_request_parts(parts, agent)
        .await
        .map_err(|error| bad(error.to_string()))?;
    let id = names.get("id").map(String::as_str).unwrap_or_default();
    id.parse().map_err(|error| bad(format!("`{id}` is not the id of a migration: {error}")))
}
