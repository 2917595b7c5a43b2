//! Fronts: what they are told, and that they are ready for a freeze.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use sterna_core::continuum::ServiceName;
use sterna_policies::load::is_name;

use crate::migration::order::MigrationId;
use crate::node::traffic::ports;
use crate::traffic::announcement::{Announced, Ended, Held, Standing};

use super::Agent;
use super::caller::FromFront;
use super::document::Document;
use super::refusal::Refusal;

/// Most services of one front.
const SERVICES: usize = 64;
/// Where nothing changes, all is said again after this time.
const AGAIN: Duration = Duration::from_secs(5);
/// Pause between two looks at the engine while somebody listens.
const LOOK: Duration = Duration::from_secs(2);
/// How often a look is repeated that a migration overtook; then the next one will do.
const LOOKS: usize = 3;

#[derive(Debug, Deserialize)]
pub(super) struct ForQuery {
    services: String,
}

fn asked_for(list: &str) -> Result<BTreeSet<ServiceName>, Refusal> {
    let services: BTreeSet<ServiceName> = list.split(',').map(ServiceName::from).collect();
    match services.iter().find(|service| !is_name(service.as_str())) {
        Some(bad) => {
            let text = format!("`{}` is not the name of a service", bad.as_str().escape_debug());
            Err(Refusal(StatusCode::BAD_REQUEST, text))
        }
        None if services.len() > SERVICES => {
            let text = format!("{} services are more than the {SERVICES} that may be", services.len());
            Err(Refusal(StatusCode::BAD_REQUEST, text))
        }
        None => Ok(services),
    }
}

/// Says which of some services stand here and whether they take connections, at once and whenever that changes.
pub(super) async fn listen(
    _: FromFront,
    State(agent): State<Agent>,
    Query(query): Query<ForQuery>,
) -> Result<Response, Refusal> {
    let listening = agent.traffic.listen(asked_for(&query.services)?);
    // An earlier life of this agent may have told otherwise.
    agent.look().await?;
    let lines = futures_util::stream::unfold(listening, |mut listening| async move {
        let said = listening.next(AGAIN).await?;
        // Plain data with text keys: writing it as JSON can't fail.
        let mut line = serde_json::to_string(&said).unwrap_or_default();
        line.push('\n');
        Some((Ok::<_, Infallible>(line), listening))
    });
    Ok(Body::from_stream(lines).into_response())
}

/// A front hears, or sends nothing more to a service that is about to be frozen.
pub(super) async fn held(
    _: FromFront,
    State(agent): State<Agent>,
    Document(held): Document<Held>,
) -> Result<Json<()>, Refusal> {
    agent.traffic.held(held);
    Ok(Json(()))
}

impl Agent {
    /// Looks what runs here, and tells it.
    pub(super) async fn look(&self) -> Result<(), Refusal> {
        for _ in 0..LOOKS {
            let version = self.traffic.version();
            let (mut services, mut ended) = (BTreeMap::new(), BTreeMap::new());
            for (container, leaving_for) in self.owned().await? {
                let Some(service) = container.service() else { continue };
                let epoch = self.store.epoch(&service)?;
                if container.pid.is_some() {
                    let standing = if container.paused { Standing::Frozen } else { Standing::Runs };
                    services.insert(service, Announced { epoch, standing, ports: ports(&container.body) });
                } else if let Some(code) = self.ended_for_good(&container, leaving_for.is_some())? {
                    ended.insert(service, Ended { epoch, code });
                }
            }
            let leaving: BTreeSet<MigrationId> =
                self.store.departures_under_way()?.into_iter().map(|one| one.order.id).collect();
            if self.traffic.seen(version, services, ended, &leaving) {
                break;
            }
        }
        Ok(())
    }

    /// Looks when asked to, and every now and then: services end and start without a migration too.
    pub(super) async fn keep_looking(self) {
        loop {
            let _ = tokio::time::timeout(LOOK, self.traffic.asked_to_look()).await;
            if self.traffic.has_listeners()
                && let Err(Refusal(_, why)) = self.look().await
            {
                tracing::debug!(why, "can't look what runs here; fronts are told what was seen last");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_asked_for_by_name() {
        assert_eq!(asked_for("a,b-1").unwrap(), BTreeSet::from(["a".into(), "b-1".into()]));
        let many: Vec<String> = (0..=SERVICES).map(|at| format!("s{at}")).collect();
        for bad in ["", "a,", "../x", "a b", &many.join(",")] {
            assert_eq!(asked_for(bad).unwrap_err().0, StatusCode::BAD_REQUEST, "{bad}");
        }
        assert!(asked_for(&many[1..].join(",")).is_ok());
    }
}
