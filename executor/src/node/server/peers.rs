//! Where the other ends of migrations are by now.

use axum::Json;
use axum::extract::State;

use crate::migration::holding::Holding;
use crate::node::api::Whereabouts;
use crate::node::precheck::bounds;

use super::Agent;
use super::caller::FromScheduler;
use super::document::Document;
use super::refusal::Refusal;

/// Takes note of where a node is that has a migration open with this one; of no other is anything kept.
pub(super) async fn told(
    _: FromScheduler,
    State(agent): State<Agent>,
    Document(told): Document<Whereabouts>,
) -> Result<Json<()>, Refusal> {
    bounds::whereabouts(&told)?;
    let leaving = agent.store.departures_under_way()?.into_iter().any(|one| one.order.to == told.node);
    let mut coming = agent.store.arrivals(Holding::Held)?;
    coming.extend(agent.store.arrivals(Holding::Released)?);
    if (leaving || coming.iter().any(|one| one.source == told.node))
        && let Ok(mut found) = tokio::net::lookup_host(&told.address).await
        && let Some(address) = found.next()
    {
        agent.peers.hear(&told.node, address.ip());
    }
    Ok(Json(()))
}
