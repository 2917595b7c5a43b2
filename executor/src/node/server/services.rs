//! What the node is, the services that it owns, and the images that its engine has.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use futures_util::TryStreamExt as _;
use serde::Deserialize;
use sterna_core::continuum::NodeName;
use sterna_policies::load::is_name;

use crate::engine::docker::{Container, EngineError, LONGEST_LOAD, service_body};
use crate::engine::names::is_image;
use crate::engine::processes::Processes;
use crate::error_chain::chain;
use crate::migration::holding::Holding;
use crate::migration::order::MigrationId;
use crate::migration::register::Decision;
use crate::node::api::{NodeFacts, PullImage, ServiceFacts, StartService};
use crate::node::facts;
use crate::node::precheck::bounds;

use super::Agent;
use super::caller::{Caller, FromScheduler};
use super::document::Document;
use super::refusal::{Refusal, whole};
use super::streams::flowing;

pub(super) async fn node(_: Caller, State(agent): State<Agent>) -> Result<Json<NodeFacts>, Refusal> {
    Ok(Json(facts::gather(&agent.config, &agent.engine).await?))
}

#[derive(Debug, Deserialize)]
pub(super) struct ImageQuery {
    image: String,
}

pub(super) async fn image(
    _: Caller,
    State(agent): State<Agent>,
    Query(query): Query<ImageQuery>,
) -> Result<Json<Option<String>>, Refusal> {
    Ok(Json(agent.engine.image_digest(&query.image).await?))
}

#[derive(Debug, Deserialize)]
pub(super) struct LoadQuery {
    /// Seconds that the engine may take.
    #[serde(default)]
    within: Option<u64>,
}

pub(super) async fn load_image(
    _: Caller,
    State(agent): State<Agent>,
    Query(query): Query<LoadQuery>,
    body: Body,
) -> Result<Json<()>, Refusal> {
    let broken = Arc::new(OnceLock::new());
    let noted = Arc::clone(&broken);
    let stream = flowing(body).inspect_err(move |error| drop(noted.set((error.kind(), error.to_string()))));
    let within = query.within.map_or(LONGEST_LOAD, Duration::from_secs);
    let Err(error) = agent.engine.load_image(stream, within).await else { return Ok(Json(())) };
    // The engine can't tell a stream that broke from a failure of its own.
    Err(match broken.get() {
        Some((io::ErrorKind::TimedOut, why)) => Refusal(StatusCode::REQUEST_TIMEOUT, why.clone()),
        Some((_, why)) => Refusal(StatusCode::BAD_REQUEST, format!("the stream broke: {why}")),
        None if error.is_refusal() => Refusal(StatusCode::BAD_REQUEST, chain(&error)),
        None => error.into(),
    })
}

/// Has the engine pull an image from its registry, if it lacks it.
pub(super) async fn pull_image(
    _: FromScheduler,
    State(agent): State<Agent>,
    Document(pull): Document<PullImage>,
) -> Result<Json<()>, Refusal> {
    bounds::pull(&pull)?;
    match agent.engine.pull_image(&pull.image, pull.within.to_duration()).await {
        Ok(()) => Ok(Json(())),
        // It may go on from there: layers that have come stay.
        Err(error @ EngineError::Late { .. }) => Err(Refusal(StatusCode::REQUEST_TIMEOUT, chain(&error))),
        Err(error) => Err(error.into()),
    }
}

impl Agent {
    /// The containers whose service this node owns, each with where it is being moved to.
    pub(super) async fn owned(&self) -> Result<Vec<(Container, Option<NodeName>)>, Refusal> {
        let leaving = self.store.departures_under_way()?;
        let mut owned = Vec::new();
        for container in self.engine.services().await? {
            let departure = leaving.iter().find(|one| one.container == container.id);
            let gone = departure.is_some_and(|one| one.decision == Decision::Commit);
            if !gone && self.came_by_right(&container)? {
                let to = departure.map(|one| one.order.to.clone());
                owned.push((container, to));
            }
        }
        Ok(owned)
    }

    /// Whether a container is not one that a migration made and that has no certificate yet.
    pub(super) fn came_by_right(&self, container: &Container) -> Result<bool, Refusal> {
        let Some(migration) = container.migration().and_then(|id| id.parse::<MigrationId>().ok()) else {
            return Ok(true);
        };
        match self.store.arrival(migration)? {
            Some(arrival) => Ok(arrival.state.owns()),
            // The register was lost. What runs has run by right, for what is held stands stopped.
            None => Ok(container
                .pid
                .and_then(|pid| Processes::of(pid).ok())
                .is_some_and(|processes| !processes.all_stopped())),
        }
    }

    /// The code that a service of this node has ended with for good. A migration that is under way at either end has its restart
    /// policy taken off: until that is put back, its end says nothing.
    pub(super) fn ended_for_good(&self, container: &Container, leaves: bool) -> Result<Option<i64>, Refusal> {
        let comes = match container.migration().and_then(|id| id.parse::<MigrationId>().ok()) {
            Some(migration) => {
                self.store.arrival(migration)?.is_some_and(|one| one.state != Holding::Finished)
            }
            None => false,
        };
        Ok(if leaves || comes { None } else { container.ended_for_good() })
    }

    fn describe(
        &self,
        container: &Container,
        leaving_for: Option<NodeName>,
    ) -> Result<Option<ServiceFacts>, Refusal> {
        let Some(service) = container.service() else { return Ok(None) };
        // It may end while it is looked at.
        let processes = container.pid.and_then(|pid| Processes::of(pid).ok());
        Ok(Some(ServiceFacts {
            ended: self.ended_for_good(container, leaving_for.is_some())?,
            epoch: self.store.epoch(&service)?,
            service,
            container: container.id.clone(),
            image: container.image.clone(),
            running: container.pid.is_some(),
            frozen: container.paused,
            memory: processes.map(|all| all.resident()).unwrap_or_default(),
            leaving_for,
            committed: None,
        }))
    }
}

pub(super) async fn services(
    _: FromScheduler,
    State(agent): State<Agent>,
) -> Result<Json<Vec<ServiceFacts>>, Refusal> {
    let mut all = Vec::new();
    for (container, leaving_for) in agent.owned().await? {
        all.extend(agent.describe(&container, leaving_for)?);
    }
    for departure in agent.store.departures_under_way()? {
        if departure.decision == Decision::Commit {
            all.push(ServiceFacts {
                service: departure.order.service,
                container: departure.container,
                image: String::new(),
                running: false,
                ended: None,
                frozen: true,
                memory: sterna_policies::quantity::Bytes::ZERO,
                epoch: departure.epoch,
                leaving_for: Some(departure.order.to),
                committed: Some(departure.order.id),
            });
        }
    }
    Ok(Json(all))
}

pub(super) async fn start_service(
    _: FromScheduler,
    State(agent): State<Agent>,
    Document(start): Document<StartService>,
) -> Result<Json<ServiceFacts>, Refusal> {
    if !is_name(start.service.as_str()) {
        let text = format!("`{}` is not the name of a service", start.service.as_str().escape_debug());
        return Err(Refusal(StatusCode::BAD_REQUEST, text));
    }
    // The engine would make a container of no image at all.
    if !is_image(&start.run.image) {
        let text = format!("`{}` is not the name of an image", start.run.image.escape_debug());
        return Err(Refusal(StatusCode::BAD_REQUEST, text));
    }
    // Who asks may end meanwhile: then it would be made, and not started.
    whole(async move { make_and_start(&agent, &start).await }).await
}

async fn make_and_start(agent: &Agent, start: &StartService) -> Result<ServiceFacts, Refusal> {
    let there =
        agent.owned().await?.into_iter().find(|(one, _)| one.service().as_ref() == Some(&start.service));
    let conflict = |text: String| Err(Refusal(StatusCode::CONFLICT, text));
    if agent.running.is_removing(&start.service) {
        return conflict(format!("`{}` is being removed", start.service));
    }
    let life = start.incarnation.as_deref();
    if let Some(life) = life {
        if !is_name(life) {
            let text = format!("`{}` is not the name of a life", life.escape_debug());
            return Err(Refusal(StatusCode::BAD_REQUEST, text));
        }
        if there.is_none() && agent.store.was_started(&start.service, life)? {
            return conflict(format!(
                "`{}` was started on this node before and stands elsewhere now, or was lost: it is not started a second time",
                start.service
            ));
        }
    }
    let id = match there {
        Some((container, _)) => container.id,
        None => {
            agent.engine.create(start.service.as_str(), service_body(&start.service, &start.run)?).await?
        }
    };
    // What does not run yet can't leave, so it stands here or is noted.
    if let Some(life) = life {
        agent.store.note_started(&start.service, life)?;
    }
    let container = agent.engine.inspect(&id).await?;
    // What has ended was here already.
    if container.pid.is_none() && !(life.is_some() && container.ended.is_some()) {
        agent.engine.start(&id).await?;
    }
    agent.traffic.look_again();
    let container = agent.engine.inspect(&id).await?;
    let facts = agent.describe(&container, None)?;
    facts.ok_or_else(|| Refusal(StatusCode::CONFLICT, format!("`{}` is not a service", container.name)))
}
