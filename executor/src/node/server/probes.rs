//! How far it is from this node to where the scheduler asks.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use tokio::sync::Semaphore;

use crate::node::api::{Probe, Probed};
use crate::node::precheck::bounds;
use crate::node::probe;

use super::Agent;
use super::caller::FromScheduler;
use super::document::Document;
use super::refusal::Refusal;

/// Calls that are looked at at once. A second one would only spoil the times of the first.
pub(super) const PROBES: usize = 1;

/// Whether a call is being looked at.
#[derive(Debug, Clone)]
pub(super) struct Probing(Arc<Semaphore>);

impl Default for Probing {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PROBES)))
    }
}

impl FromRef<Agent> for Probing {
    fn from_ref(agent: &Agent) -> Self {
        agent.probing.clone()
    }
}

pub(super) async fn probe(
    _: FromScheduler,
    State(Probing(places)): State<Probing>,
    Document(asked): Document<Probe>,
) -> Result<Json<Vec<Probed>>, Refusal> {
    bounds::probe(&asked)?;
    // Given back also when the caller goes away.
    let Ok(_place) = places.try_acquire() else {
        let text = "other targets are being probed: try again later".to_owned();
        return Err(Refusal(StatusCode::TOO_MANY_REQUESTS, text));
    };
    Ok(Json(probe::probe(&asked.targets).await))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::Router;
    use axum::routing::post;
    use tokio::net::TcpListener;

    use super::super::{connections, limits};
    use super::*;
    use crate::identity::{Authority, Role};
    use crate::node::api::Unanswered;
    use crate::node::client::{AgentClient, ClientError};
    use crate::node::listener::TlsListener;

    /// The route as an agent serves it, over real TLS.
    struct Served {
        authority: Authority,
        address: String,
        probing: Probing,
        _home: tempfile::TempDir,
    }

    impl Served {
        async fn begin() -> Self {
            let home = tempfile::tempdir().unwrap();
            let authority = Authority::open(&home.path().join("authority")).unwrap();
            let tls = authority.issue(&Role::Agent("a".into())).unwrap().server_config().unwrap();
            let listener = TlsListener::bind("127.0.0.1:0", tls).await.unwrap();
            let address = listener.address().to_string();
            let probing = Probing::default();
            let routes = limits::around(Router::new().route("/v1/probes", post(probe)));
            let routes = routes.with_state(probing.clone());
            tokio::spawn(connections::serve(listener, routes, |_| {}, pending()));
            Self { authority, address, probing, _home: home }
        }

        async fn ask(&self, role: Role, targets: &[String]) -> Result<Vec<Probed>, ClientError> {
            let credentials = self.authority.issue(&role).unwrap();
            AgentClient::new(&credentials, &"a".into(), &self.address).await.unwrap().probe(targets).await
        }

        async fn refused(&self, role: Role, targets: &[String]) -> String {
            let refused = self.ask(role, targets).await.unwrap_err();
            assert!(matches!(refused, ClientError::Refused { .. } | ClientError::Busy { .. }), "{refused}");
            refused.to_string()
        }
    }

    #[tokio::test]
    async fn the_scheduler_is_told_of_each_target_in_its_order() {
        let served = Served::begin().await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        // Its own port is as good as any: what is no handshake is ended there.
        let targets = [served.address.clone(), closed, served.address.clone()];
        let probed = served.ask(Role::Scheduler, &targets).await.unwrap();
        assert!(
            matches!(
                probed[..],
                [Probed::RoundTrip(_), Probed::Unanswered(Unanswered::Refused), Probed::RoundTrip(_)]
            ),
            "{probed:?}"
        );
    }

    #[tokio::test]
    async fn nobody_else_may_ask() {
        let served = Served::begin().await;
        for role in [Role::Agent("b".into()), Role::Front] {
            let words = served.refused(role, std::slice::from_ref(&served.address)).await;
            assert!(words.contains("only the scheduler"), "{words}");
        }
    }

    #[tokio::test]
    async fn too_many_targets_none_and_what_is_no_address_are_refused() {
        let served = Served::begin().await;
        let target = || "127.0.0.1:1".to_owned();
        let words = served.refused(Role::Scheduler, &vec![target(); probe::TARGETS + 1]).await;
        assert!(words.contains("65 targets, not 1 to 64"), "{words}");
        assert!(served.ask(Role::Scheduler, &vec![target(); probe::TARGETS]).await.is_ok());
        assert!(served.refused(Role::Scheduler, &[]).await.contains("0 targets"));
        for bad in ["127.0.0.1", "127.0.0.1:0", ":443", "http://a:1", "a b:1", "a:1/x", "[::1:1"] {
            let words = served.refused(Role::Scheduler, &[target(), bad.to_owned()]).await;
            assert!(words.contains("is not an address"), "{bad}: {words}");
        }
    }

    #[tokio::test]
    async fn one_call_at_a_time() {
        let served = Served::begin().await;
        let place = served.probing.0.try_acquire().unwrap();
        let busy = served.ask(Role::Scheduler, std::slice::from_ref(&served.address)).await.unwrap_err();
        assert!(busy.passes() && busy.to_string().contains("try again later"), "{busy}");
        drop(place);
        assert!(served.ask(Role::Scheduler, std::slice::from_ref(&served.address)).await.is_ok());
    }
}
