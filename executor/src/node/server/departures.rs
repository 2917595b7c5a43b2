//! Migrations that leave this node: orders, what both ends say of them, and how far they are.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path as Segment, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use serde::Deserialize;

use crate::engine::docker::{Container, EngineError};
use crate::identity::Role;
use crate::migration::holding::Holding;
use crate::migration::order::{MigrationId, Order};
use crate::migration::report::Event;
use crate::node::api::Standing;
use crate::node::assessment::Assessment;
use crate::node::facts;
use crate::node::precheck::bounds;

use super::Agent;
use super::caller::{Caller, FromScheduler};
use super::document::Document;
use super::refusal::Refusal;

/// The container that an order is about, if this node owns it and is the one that it leaves.
async fn ordered(agent: &Agent, order: &Order) -> Result<Container, Refusal> {
    let conflict = |text: String| Err(Refusal(StatusCode::CONFLICT, text));
    if order.from != agent.config.node {
        return conflict(format!(
            "the order is for node `{}`, and this is `{}`",
            order.from, agent.config.node
        ));
    }
    if order.to == order.from {
        return conflict(format!("`{}` is on `{}` already", order.service, order.to));
    }
    let mut owned = agent.owned().await?.into_iter().map(|(container, _)| container);
    let found = owned.find(|one| one.service().as_ref() == Some(&order.service));
    Ok(found.ok_or_else(|| EngineError::NoService(order.service.clone()))?)
}

pub(super) async fn migrate(
    _: FromScheduler,
    State(agent): State<Agent>,
    Document(order): Document<Order>,
) -> Result<Json<()>, Refusal> {
    bounds::order(&order)?;
    if agent.store.departure(order.id)?.is_some() {
        return Ok(Json(()));
    }
    if let Some(arrival) = agent.store.arrivals(Holding::Released)?.into_iter().find(|one| {
        // Its first source may still speak to it; what that says must not meet the next migration.
        one.reservation.order.service == order.service
    }) {
        let text = format!(
            "`{}` has come from `{}`, which has not let go of it yet: try again when that node answers, or tell that it is \
             gone for good with `sterna fence`",
            order.service, arrival.source
        );
        return Err(Refusal(StatusCode::CONFLICT, text));
    }
    let container = ordered(&agent, &order).await?;
    let own = facts::gather(&agent.config, &agent.engine).await?;
    agent.running.start(order, &container, own).await?;
    Ok(Json(()))
}

pub(super) async fn assess(
    _: FromScheduler,
    State(agent): State<Agent>,
    Document(order): Document<Order>,
) -> Result<Json<Assessment>, Refusal> {
    bounds::order(&order)?;
    let container = ordered(&agent, &order).await?;
    let own = facts::gather(&agent.config, &agent.engine).await?;
    Ok(Json(agent.running.assess(order, &container, own).await?))
}

/// What of a migration's events was told.
#[derive(Debug, Default)]
struct Told {
    events: usize,
    /// The one behind them, which may be replaced by a newer one.
    progress: Option<Event>,
}

impl Told {
    /// What was not told yet, and is from now on.
    fn fresh(&mut self, all: &[Event]) -> Vec<Event> {
        let rest = all.get(self.events..).unwrap_or_default();
        let known = usize::from(self.progress.is_some() && rest.first() == self.progress.as_ref());
        let fresh = rest[known..].to_vec();
        self.progress = rest.last().filter(|last| matches!(last, Event::Progress { .. })).cloned();
        self.events += rest.len() - usize::from(self.progress.is_some());
        fresh
    }
}

pub(super) async fn events(
    _: FromScheduler,
    State(agent): State<Agent>,
    Segment(id): Segment<MigrationId>,
) -> Result<Response, Refusal> {
    let unknown = || Refusal(StatusCode::NOT_FOUND, format!("nothing is known of migration {id} here"));
    let log = agent.running.events(id)?.ok_or_else(unknown)?;
    let lines = futures_util::stream::unfold(Some((log, Told::default())), |state| async move {
        let (mut log, mut told) = state?;
        let fresh = loop {
            let fresh = told.fresh(&log.borrow_and_update());
            if !fresh.is_empty() {
                break fresh;
            }
            log.changed().await.ok()?;
        };
        let ended = fresh.iter().any(|event| matches!(event, Event::Ended(_)));
        let mut text = String::new();
        for event in &fresh {
            // Plain data with text keys: writing it as JSON can't fail.
            text.push_str(&serde_json::to_string(event).unwrap_or_default());
            text.push('\n');
        }
        Some((text, (!ended).then_some((log, told))))
    });
    Ok(Body::from_stream(lines.map(Ok::<_, std::convert::Infallible>)).into_response())
}

#[derive(Debug, Deserialize)]
pub(super) struct AfterQuery {
    after: Option<MigrationId>,
}

pub(super) async fn standings(
    _: FromScheduler,
    State(agent): State<Agent>,
    Query(query): Query<AfterQuery>,
) -> Result<Json<Vec<Standing>>, Refusal> {
    Ok(Json(agent.running.standings(query.after).await?))
}

/// Told to the scheduler, and to the agent that the service goes to.
pub(super) async fn standing(
    caller: Caller,
    State(agent): State<Agent>,
    Segment(id): Segment<MigrationId>,
) -> Result<Json<Option<Standing>>, Refusal> {
    let standing = agent.running.standing(id).await?;
    match (&caller.0, &standing) {
        (Role::Agent(node), Some(standing)) if standing.order.to != *node => {
            Err(Refusal(StatusCode::FORBIDDEN, format!("migration {id} does not go to `{node}`")))
        }
        _ => Ok(Json(standing)),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct CancelQuery {
    why: String,
}

pub(super) async fn cancel(
    _: FromScheduler,
    State(agent): State<Agent>,
    Segment(id): Segment<MigrationId>,
    Query(query): Query<CancelQuery>,
) -> Result<Json<()>, Refusal> {
    // It stands in reports and logs.
    let why: String = query.why.chars().filter(|one| !one.is_control()).take(200).collect();
    Ok(Json(agent.running.cancel(id, why)?))
}

#[cfg(test)]
mod tests {
    use sterna_policies::quantity::{Bytes, Millis};

    use super::*;
    use crate::migration::phase::Phase;
    use crate::migration::report::PhaseRecord;

    #[test]
    fn every_event_is_told_once_and_progress_whenever_it_is_another() {
        let progress = |bytes| Event::Progress { bytes: Bytes(bytes), of: None, per_second: Bytes::ZERO };
        let reached = |phase| Event::Reached(PhaseRecord { phase, took: Millis::ZERO, bytes: Bytes::ZERO });
        let mut told = Told::default();
        assert_eq!(told.fresh(&[]), []);
        let mut all = vec![reached(Phase::Reserved), progress(1)];
        assert_eq!(told.fresh(&all), all);
        assert_eq!(told.fresh(&all), []);
        all[1] = progress(2);
        assert_eq!(told.fresh(&all), [progress(2)]);
        all.push(reached(Phase::Synced));
        assert_eq!(told.fresh(&all), [reached(Phase::Synced)]);
        assert_eq!(told.fresh(&all), []);
        all.push(progress(3));
        all.push(reached(Phase::Frozen));
        assert_eq!(told.fresh(&all), [progress(3), reached(Phase::Frozen)]);
    }
}
