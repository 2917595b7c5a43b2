//! All agents of a continuum, seen from the scheduler.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use sterna_core::continuum::{Continuum, NodeName, Placement, ServiceName};
use sterna_core::observation::UnderWay;
use sterna_policies::quantity::Bytes;
use thiserror::Error;

use crate::identity::{Authority, Credentials, IdentityError, Role};
use crate::migration::order::{MigrationId, Order};
use crate::migration::phase::Phase;
use crate::migration::report::{Event, Report};
use crate::node::api::{Probed, ServiceFacts, Standing, Whereabouts};
use crate::node::assessment::Assessment;
use crate::node::client::{AgentClient, ClientError};
use crate::platform::addresses::{Remembered, addresses};

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
    /// Those of them that are committed, with the nodes that they leave and go to.
    pub committed: Vec<(MigrationId, NodeName, NodeName)>,
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

mod fencing;
pub use fencing::Fenced;

/// How long an agent is waited for when all are asked: one that hangs must not keep the others waiting.
const LOOKED: Duration = Duration::from_secs(15);

/// What a node's agent answers, or why it has not.
async fn in_time<T>(
    node: &NodeName,
    answer: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, String> {
    match tokio::time::timeout(LOOKED, answer).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("node `{node}` has not answered within {LOOKED:?}: does its agent hang?")),
    }
}

/// The agents of a continuum.
#[derive(Debug, Clone)]
pub struct Fleet {
    agents: BTreeMap<NodeName, Result<AgentClient, String>>,
    credentials: Credentials,
}

impl Fleet {
    /// Finds the agents of all nodes: at the inventory's address, or where the engine or cluster says in which the node is.
    ///
    /// # Errors
    /// When the scheduler's certificate can't be made. A node that can't be found is reported by [`Fleet::view`].
    pub async fn connect(continuum: &Continuum, authority: &Authority) -> Result<Self, FleetError> {
        Self::find(continuum, authority, &Remembered::default()).await
    }

    /// As [`Fleet::connect`], again and again: pods whose cluster can't be asked are looked for where they were.
    ///
    /// # Errors
    /// As [`Fleet::connect`].
    pub async fn find(
        continuum: &Continuum,
        authority: &Authority,
        remembered: &Remembered,
    ) -> Result<Self, FleetError> {
        let credentials = authority.issue(&Role::Scheduler)?;
        let mut agents = BTreeMap::new();
        for (name, address) in addresses(continuum, remembered).await {
            let client = match address {
                Ok(address) => client(&credentials, &name, &address).await,
                Err(reason) => Err(reason),
            };
            agents.insert(name, client);
        }
        Ok(Self { agents, credentials })
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
                Ok(agent) => in_time(node, agent.services()).await,
                Err(reason) => Err(reason.clone()),
            };
            (node.clone(), answer)
        }));
        let mut view = FleetView::default();
        for (node, answer) in answers.await {
            match answer {
                Ok(services) => {
                    view.reachable.push(node.clone());
                    for service in services {
                        view.add(&node, service);
                    }
                }
                Err(reason) => drop(view.unreachable.insert(node, reason)),
            }
        }
        view
    }

    /// Asks both ends of a move what speaks against it, and what it would cost. The service is not touched.
    ///
    /// # Errors
    /// When the source agent can't be reached, or can't ask the destination.
    pub async fn assess(&self, order: &Order) -> Result<Assessment, FleetError> {
        Ok(self.agent(&order.from)?.assess(order).await?)
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
        self.follow(order.id, &order.from, &order.to, on_event).await
    }

    /// Follows a migration to its end.
    ///
    /// # Errors
    /// When the source agent can't be reached or is lost sight of.
    pub async fn follow(
        &self,
        id: MigrationId,
        from: &NodeName,
        to: &NodeName,
        on_event: &mut (dyn FnMut(&Event) + Send),
    ) -> Result<Report, FleetError> {
        let source = self.agent(from)?;
        let lost = |reason: String| FleetError::LostSight { id, reason };
        let mut seen = 0;
        let mut tries = 0;
        let mut between = false;
        loop {
            let reason = match source.events(id).await {
                Ok(events) => {
                    let mut events = std::pin::pin!(events.skip(seen));
                    loop {
                        // The two agents may not see each other when the certificate is to be delivered.
                        let Ok(event) = tokio::time::timeout(CARRY_AFTER, events.next()).await else {
                            if between {
                                self.carry_certificate(id, from, to).await;
                            }
                            continue;
                        };
                        match event {
                            Some(Ok(event)) => {
                                seen += 1;
                                tries = 0;
                                on_event(&event);
                                match event {
                                    Event::Ended(report) => return Ok(report),
                                    Event::Reached(record) => between = record.phase == Phase::Committed,
                                    Event::Progress { .. } => {}
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
            tracing::warn!(migration = %id, reason, "lost sight, looking again");
            tokio::time::sleep(LOOK_PAUSE).await;
            if tries > 1 {
                seen = 0;
            }
        }
    }
}

impl Fleet {
    /// Carries the certificate of a committed migration from its source to its destination, and tells the source where the
    /// destination is by now. Either may be out of reach; the source goes on trying by itself.
    pub async fn carry_certificate(&self, id: MigrationId, from: &NodeName, to: &NodeName) {
        let carry = async {
            let Some(standing) = self.agent(from)?.standing(id).await? else { return Ok(()) };
            self.introduce_ends(&standing.order).await;
            if let Some(certificate) = standing.certificate {
                let answer = self.agent(to)?.release(id, &certificate).await?;
                tracing::info!(migration = %id, %from, %to, ?answer, "carried the certificate");
            }
            Ok::<_, FleetError>(())
        };
        if let Err(error) = carry.await {
            tracing::debug!(migration = %id, %error, "the certificate can't be carried now");
        }
    }

    /// Tells the ends of open migrations where the other end is by now: an order says where it was when that was given, and a node
    /// that was made anew has another address. Those of `reachable` are asked what is open; who does not answer is told the next time.
    pub async fn introduce(&self, reachable: &[NodeName]) {
        let agents = reachable.iter().filter_map(|node| self.agent(node).ok());
        join_all(agents.map(|agent| async {
            for arriving in agent.coming_in().await.unwrap_or_default() {
                self.introduce_ends(&arriving.order).await;
            }
        }))
        .await;
    }

    async fn introduce_ends(&self, order: &Order) {
        for (node, was, told) in
            [(&order.from, &order.from_address, &order.to), (&order.to, &order.to_address, &order.from)]
        {
            let (Ok(address), Ok(agent)) = (self.address(node), self.agent(told)) else { continue };
            if address == was {
                continue;
            }
            let whereabouts = Whereabouts { node: node.clone(), address: address.to_owned() };
            if let Err(error) = agent.tell(&whereabouts).await {
                tracing::debug!(%node, %told, %error, "can't be told now where that node is");
            }
        }
    }

    /// Has a migration undone that leaves `from`.
    ///
    /// # Errors
    /// When the source agent can't be reached, or the migration is committed or has ended.
    pub async fn cancel(&self, id: MigrationId, from: &NodeName, why: &str) -> Result<(), FleetError> {
        Ok(self.agent(from)?.cancel(id, why).await?)
    }

    /// All that the agent of a node knows of migrations that left it or are leaving it, oldest first.
    ///
    /// # Errors
    /// When it can't be reached.
    pub async fn standings(&self, node: &NodeName) -> Result<Vec<Standing>, FleetError> {
        let agent = self.agent(node)?;
        let mut all: Vec<Standing> = Vec::new();
        loop {
            let page = agent.standings(all.last().map(|last| last.order.id)).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// How far it is from a node to other places, `host:port` each; the answers come in the same order.
    ///
    /// # Errors
    /// When its agent can't be reached, or refuses.
    pub async fn probe(&self, node: &NodeName, targets: &[String]) -> Result<Vec<Probed>, FleetError> {
        Ok(self.agent(node)?.probe(targets).await?)
    }

    /// The agents of all nodes, with what is known instead of those that have no address.
    pub fn agents(&self) -> impl Iterator<Item = (&NodeName, Result<&AgentClient, &str>)> {
        self.agents.iter().map(|(node, agent)| (node, agent.as_ref().map_err(String::as_str)))
    }
}

/// How long a commit may stay undelivered until the certificate is carried to the destination from here.
const CARRY_AFTER: Duration = Duration::from_secs(2);
/// How often a migration is looked for again after the connection broke.
const LOOKS: u32 = 20;
const LOOK_PAUSE: Duration = Duration::from_millis(500);

async fn client(credentials: &Credentials, node: &NodeName, address: &str) -> Result<AgentClient, String> {
    AgentClient::new(credentials, node, address).await.map_err(|error| error.to_string())
}

impl FleetView {
    fn add(&mut self, node: &NodeName, service: ServiceFacts) {
        if let (Some(id), Some(to)) = (service.committed, &service.leaving_for) {
            self.committed.push((id, node.clone(), to.clone()));
        }
        if let Some(to) = service.leaving_for {
            let under_way = UnderWay { service: service.service.clone(), from: node.clone(), to };
            self.under_way.push(under_way);
        }
        if !service.running {
            return;
        }
        self.memory.insert(service.service.clone(), service.memory);
        if let Some(other) = self.placement.insert(service.service.clone(), node.clone()) {
            tracing::error!(service = %service.service, a = %other, b = %node,
                "two containers claim to be the same service; Sterna made only one of them");
        }
    }
}
