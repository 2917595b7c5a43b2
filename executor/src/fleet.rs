//! All agents of a continuum, seen from the scheduler.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use sterna_core::continuum::{Continuum, NodeName, Placement, ServiceName};
use sterna_core::observation::UnderWay;
use sterna_policies::quantity::Bytes;
use thiserror::Error;

use crate::identity::{Authority, Credentials, IdentityError, Role};
use crate::migration::order::{MigrationId, Order};
use crate::migration::report::{Event, Report};
use crate::node::api::ServiceFacts;
use crate::node::client::{AgentClient, ClientError};
use crate::platform::docker::local_addresses;

/// What the agents say about the nodes and the services on them.
#[derive(Debug, Clone, Default)]
pub struct FleetView {
    /// Which node runs which service.
    pub placement: Placement,
    /// Nodes whose agent answered.
    pub reachable: Vec<NodeName>,
    /// Why the others did not.
    pub unreachable: BTreeMap<NodeName, String>,
    /// Memory that each service holds.
    pub memory: BTreeMap<ServiceName, Bytes>,
    /// Migrations under way.
    pub under_way: Vec<UnderWay>,
}

/// An agent that could not be asked, or that answered with an error.
#[derive(Debug, Error)]
pub enum FleetError {
    /// The scheduler's own certificate can't be had.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The inventory has no such node, or the node is not there.
    #[error("{}", .reason.as_deref().map_or_else(|| format!("there is no node `{node}`"), str::to_owned))]
    UnknownNode {
        /// The node.
        node: NodeName,
        /// Why it is not known, where more is known than that.
        reason: Option<String>,
    },
    /// An agent did not answer, or refused.
    #[error(transparent)]
    Agent(#[from] ClientError),
    /// The connection broke while the migration was under way: its outcome is unknown until the agent answers again.
    #[error("lost sight of migration {id}: {reason}; the source's agent finishes or undoes it by itself")]
    LostSight {
        /// The migration.
        id: MigrationId,
        /// What happened.
        reason: String,
    },
}

/// The agents of a continuum.
#[derive(Debug, Clone)]
pub struct Fleet {
    agents: BTreeMap<NodeName, Result<AgentClient, String>>,
}

/// What is said of a local node that the engine does not know.
const NOT_UP: &str = "its container does not run; `sterna sites up` makes it";

impl Fleet {
    /// Finds the agents of all nodes: the inventory's address, or, for a local node, the host engine's answer.
    ///
    /// # Errors
    /// When the scheduler's certificate can't be made. A node that can't be found is reported by [`Fleet::view`].
    pub async fn connect(continuum: &Continuum, authority: &Authority) -> Result<Self, FleetError> {
        let credentials = authority.issue(&Role::Scheduler)?;
        let local = if continuum.nodes.values().any(|node| node.agent.is_none()) {
            local_addresses(&continuum.name).await.map_err(|error| error.to_string())
        } else {
            Ok(BTreeMap::new())
        };
        let mut agents = BTreeMap::new();
        for (name, node) in &continuum.nodes {
            let address = match (&node.agent, &local) {
                (Some(address), _) => Ok(address.clone()),
                (None, Ok(local)) => local.get(name).cloned().ok_or_else(|| NOT_UP.to_owned()),
                (None, Err(reason)) => Err(reason.clone()),
            };
            let client = match address {
                Ok(address) => client(&credentials, name, &address).await,
                Err(reason) => Err(reason),
            };
            agents.insert(name.clone(), client);
        }
        Ok(Self { agents })
    }

    /// The agent of a node.
    ///
    /// # Errors
    /// When the node is unknown or has no address.
    pub fn agent(&self, node: &NodeName) -> Result<&AgentClient, FleetError> {
        let unknown = |reason| FleetError::UnknownNode { node: node.clone(), reason };
        match self.agents.get(node) {
            Some(Ok(agent)) => Ok(agent),
            Some(Err(reason)) => Err(unknown(Some(format!("node `{node}`: {reason}")))),
            None => Err(unknown(None)),
        }
    }

    /// Where the agent of a node listens, `host:port`.
    ///
    /// # Errors
    /// When the node is unknown or has no address.
    pub fn address(&self, node: &NodeName) -> Result<&str, FleetError> {
        Ok(self.agent(node)?.address())
    }

    /// Asks every agent at once. One that does not answer is in `unreachable`.
    pub async fn view(&self) -> FleetView {
        let answers = join_all(self.agents.iter().map(|(node, agent)| async move {
            let answer = match agent {
                Ok(agent) => agent.services().await.map_err(|error| error.to_string()),
                Err(reason) => Err(reason.clone()),
            };
            (node.clone(), answer)
        }));
        let mut view = FleetView::default();
        for (node, answer) in answers.await {
            match answer {
                Ok(services) => {
                    view.reachable.push(node.clone());
                    for service in services.into_iter().filter(|service| service.running) {
                        view.add(&node, service);
                    }
                }
                Err(reason) => drop(view.unreachable.insert(node, reason)),
            }
        }
        view
    }

    /// Has a move carried out and follows it to its end.
    ///
    /// # Errors
    /// When the source agent can't be reached, refuses the order, or is lost sight of.
    pub async fn migrate(
        &self,
        order: &Order,
        on_event: &mut (dyn FnMut(&Event) + Send),
    ) -> Result<Report, FleetError> {
        let source = self.agent(&order.from)?;
        source.migrate(order).await?;
        let lost = |reason: String| FleetError::LostSight { id: order.id, reason };
        let mut seen = 0;
        let mut tries = 0;
        loop {
            let reason = match source.events(order.id).await {
                Ok(events) => {
                    let mut events = std::pin::pin!(events.skip(seen));
                    loop {
                        match events.next().await {
                            Some(Ok(event)) => {
                                seen += 1;
                                tries = 0;
                                on_event(&event);
                                if let Event::Ended(report) = event {
                                    return Ok(report);
                                }
                            }
                            Some(Err(error)) => break error.to_string(),
                            None => break "the agent ended the connection".to_owned(),
                        }
                    }
                }
                Err(error) => error.to_string(),
            };
            // The agent may have been restarted: then it tells the story again from its end.
            tries += 1;
            if tries > LOOKS {
                return Err(lost(reason));
            }
            tracing::warn!(migration = %order.id, reason, "lost sight, looking again");
            tokio::time::sleep(LOOK_PAUSE).await;
            if tries > 1 {
                seen = 0;
            }
        }
    }
}

/// How often a migration is looked for again after the connection broke.
const LOOKS: u32 = 20;
const LOOK_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

async fn client(credentials: &Credentials, node: &NodeName, address: &str) -> Result<AgentClient, String> {
    AgentClient::new(credentials, node, address).await.map_err(|error| error.to_string())
}

impl FleetView {
    fn add(&mut self, node: &NodeName, service: ServiceFacts) {
        if let Some(to) = service.leaving_for {
            let under_way = UnderWay { service: service.service.clone(), from: node.clone(), to };
            self.under_way.push(under_way);
        }
        self.memory.insert(service.service.clone(), service.memory);
        if let Some(other) = self.placement.insert(service.service.clone(), node.clone()) {
            tracing::error!(service = %service.service, a = %other, b = %node,
                "two containers claim to be the same service; Sterna made only one of them");
        }
    }
}
