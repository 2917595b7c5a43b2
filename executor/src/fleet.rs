//! All agents of a continuum, seen from the scheduler.

use std::collections::BTreeMap;

use sterna_core::continuum::{Continuum, NodeName, Placement, ServiceName};
use sterna_core::observation::UnderWay;
use sterna_policies::quantity::Bytes;
use thiserror::Error;

use crate::identity::Authority;
use crate::migration::order::Order;
use crate::migration::report::{Event, Report};

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
    /// The inventory has no such node.
    #[error("the inventory has no node `{0}`")]
    UnknownNode(NodeName),
    /// The node could not be reached.
    #[error("the agent of node `{node}` at {address} does not answer: {reason}")]
    Unreachable {
        /// The node.
        node: NodeName,
        /// Where it was looked for.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The agent answered with an error.
    #[error("the agent of node `{node}` refused: {reason}")]
    Refused {
        /// The node.
        node: NodeName,
        /// What it said.
        reason: String,
    },
    /// The connection broke while the migration was under way: its outcome is unknown until the agent answers again.
    #[error("lost sight of migration {id}: {reason}; the source agent finishes or undoes it by itself")]
    LostSight {
        /// The migration.
        id: crate::migration::order::MigrationId,
        /// What happened.
        reason: String,
    },
}

/// The agents of a continuum.
#[derive(Debug, Clone)]
pub struct Fleet {
    addresses: BTreeMap<NodeName, String>,
}

impl Fleet {
    /// Finds the agents of all nodes: the inventory's address, or, for a local node, the host engine's answer.
    ///
    /// # Errors
    /// When the identity can't be used. A node that can't be found is reported by [`Fleet::view`], not here.
    pub async fn connect(_continuum: &Continuum, _authority: &Authority) -> Result<Self, FleetError> {
        Ok(Self { addresses: BTreeMap::new() })
    }

    /// Asks every agent at once. One that does not answer in time is in `unreachable`.
    pub async fn view(&self) -> FleetView {
        FleetView::default()
    }

    /// Address of a node's agent.
    ///
    /// # Errors
    /// When the node is unknown.
    pub fn address(&self, node: &NodeName) -> Result<&str, FleetError> {
        self.addresses.get(node).map(String::as_str).ok_or_else(|| FleetError::UnknownNode(node.clone()))
    }

    /// Has a move carried out and follows it to its end.
    ///
    /// # Errors
    /// When the source agent can't be reached, refuses the order, or is lost sight of.
    pub async fn migrate(
        &self,
        _order: &Order,
        _on_event: &mut (dyn FnMut(&Event) + Send),
    ) -> Result<Report, FleetError> {
        unimplemented!()
    }
}
