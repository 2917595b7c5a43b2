//! Where other agents are by now. An order says where its two ends listened when it was given, and a node that was made anew since, as
//! a pod may be, has another address. Its agent has the migration in its register and calls the other end, and is looked for where it
//! called from: first it must prove there that it is that node's, for what a call comes from need not be what listens.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sterna_core::continuum::NodeName;

use crate::identity::Credentials;
use crate::migration::order::MigrationId;

use super::client::{AgentClient, ClientError};

/// Time for an agent to prove itself where it called from.
const TO_PROVE: Duration = Duration::from_secs(2);
/// For so long it is not asked again where it did not: it may call before it listens.
const NOT_AGAIN: Duration = Duration::from_secs(5);

/// Where an agent called from last.
#[derive(Debug, Clone, Copy)]
struct Heard {
    from: IpAddr,
    /// When it did not answer there.
    silent: Option<Instant>,
}

/// Finds other agents.
#[derive(Debug, Clone)]
pub struct Peers {
    credentials: Credentials,
    heard: Arc<Mutex<HashMap<NodeName, Heard>>>,
}

impl Peers {
    /// Knows nothing yet but what orders say.
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials, heard: Arc::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<NodeName, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent of this node, by its certificate, calls from there.
    pub fn hear(&self, node: &NodeName, from: IpAddr) {
        let from = from.to_canonical();
        let mut known = self.known();
        if known.get(node).is_none_or(|heard| heard.from != from) {
            known.insert(node.clone(), Heard { from, silent: None });
        }
    }

    /// Where a node is to be looked for, if that is not where it is looked for.
    fn elsewhere(&self, node: &NodeName, than: IpAddr) -> Option<IpAddr> {
        let heard = *self.known().get(node)?;
        let lately = heard.silent.is_some_and(|at| at.elapsed() < NOT_AGAIN);
        (heard.from != than.to_canonical() && !lately).then_some(heard.from)
    }

    /// Whether calls to a node should go on to where they went.
    pub fn stays(&self, node: &NodeName, at: SocketAddr) -> bool {
        self.elsewhere(node, at.ip()).is_none()
    }

    /// The agent of a node: where it called from, if it proves itself there, else where the order says, `host:port`.
    ///
    /// # Errors
    /// When the credentials can't be used, or the order's address can't be resolved and nothing else is known.
    pub async fn client(&self, node: &NodeName, ordered: &str) -> Result<AgentClient, ClientError> {
        let client = AgentClient::new(&self.credentials, node, ordered).await;
        // An unspecified address is nobody's.
        let than = client.as_ref().map_or(IpAddr::from([0, 0, 0, 0]), |client| client.resolved().ip());
        let port = ordered.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let (Some(from), Some(port)) = (self.elsewhere(node, than), port) else { return client };
        let there =
            AgentClient::new(&self.credentials, node, &SocketAddr::new(from, port).to_string()).await?;
        // Whatever it says of a migration that there never was, it says by its certificate.
        let asked = tokio::time::timeout(TO_PROVE, there.arriving(MigrationId::new())).await;
        if matches!(
            asked,
            Ok(Ok(_)
                | Err(ClientError::Absent { .. } | ClientError::Refused { .. } | ClientError::Busy { .. }))
        ) {
            tracing::info!(%node, ordered, address = there.address(), "found where it called from");
            return Ok(there);
        }
        if let Some(heard) = self.known().get_mut(node).filter(|heard| heard.from == from) {
            heard.silent = Some(Instant::now());
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::Router;

    use super::*;
    use crate::identity::{Authority, Role};
    use crate::node::listener::TlsListener;
    use crate::node::server::connections;

    /// An agent that knows of nothing, at an address of its own.
    async fn agent(authority: &Authority, node: &str, address: &str) -> SocketAddr {
        let tls = authority.issue(&Role::Agent(node.into())).unwrap().server_config().unwrap();
        let listener = TlsListener::bind(address, tls).await.unwrap();
        let address = listener.address();
        tokio::spawn(connections::serve(listener, Router::new(), |_| {}, pending()));
        address
    }

    #[tokio::test]
    async fn an_agent_is_found_where_it_called_from_and_proves_itself_and_else_where_the_order_says() {
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::open(&home.path().join("authority")).unwrap();
        let peers = Peers::new(authority.issue(&Role::Agent("a".into())).unwrap());
        let (b, c) = (NodeName::from("b"), NodeName::from("c"));
        let now = agent(&authority, "b", "127.0.0.3:0").await;
        let ordered = format!("127.0.0.2:{}", now.port());
        let found = async |node: &NodeName| peers.client(node, &ordered).await.unwrap().resolved();

        assert_eq!(found(&b).await.to_string(), ordered, "nothing is known");
        assert!(peers.stays(&b, ordered.parse().unwrap()));
        peers.hear(&b, now.ip());
        assert!(!peers.stays(&b, ordered.parse().unwrap()) && peers.stays(&b, now));
        assert_eq!(found(&b).await, now);
        // Another node's agent listens there.
        peers.hear(&c, now.ip());
        assert_eq!(found(&c).await.to_string(), ordered);
        assert!(peers.stays(&c, ordered.parse().unwrap()), "it is not asked there at each call");
        // Nobody does.
        peers.hear(&b, IpAddr::from([127, 0, 0, 4]));
        assert_eq!(found(&b).await.to_string(), ordered);
    }

    #[tokio::test]
    async fn an_agent_that_called_is_found_though_the_orders_name_means_nothing_any_more() {
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::open(&home.path().join("authority")).unwrap();
        let peers = Peers::new(authority.issue(&Role::Agent("a".into())).unwrap());
        let now = agent(&authority, "b", "127.0.0.3:0").await;
        let ordered = format!("gone.invalid:{}", now.port());
        assert!(peers.client(&"b".into(), &ordered).await.is_err());
        peers.hear(&"b".into(), now.ip());
        assert_eq!(peers.client(&"b".into(), &ordered).await.unwrap().resolved(), now);
    }
}
