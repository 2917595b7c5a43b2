//! What the loop needs of the world, as traits: the fleet, a mover, a clock.

use std::future::Future;

use jiff::Timestamp;
use sterna_core::continuum::{Continuum, NodeName};
use sterna_executor::fleet::{Fenced, Fleet, FleetError, FleetView};
use sterna_executor::identity::Authority;
use sterna_executor::migration::order::{MigrationId, Order};
use sterna_executor::migration::pod_end::PodEnd;
use sterna_executor::migration::promotion::{Candidate, Told};
use sterna_executor::migration::report::{Event, Report};
use sterna_executor::node::api::Standing;
use sterna_executor::platform::addresses::Remembered;
use sterna_executor::platform::kubernetes::node::watching::{self, PodWatch};

/// Where services run.
pub trait World: Send + Sync {
    /// What carries out moves there.
    type Mover: Mover;

    /// Finds all agents anew and asks them what runs where.
    fn look(
        &self,
        continuum: &Continuum,
    ) -> impl Future<Output = Result<(FleetView, Self::Mover), FleetError>> + Send;

    /// Pods of nodes that were seen to end.
    fn ends(&self) -> Vec<PodEnd>;

    /// What every agent has and what comes in there. Nodes whose pods have ended, and that have no other, need not answer.
    fn told(
        &self,
        continuum: &Continuum,
        mover: &Self::Mover,
        ends: &[PodEnd],
    ) -> impl Future<Output = Told> + Send;
}

/// Carries out moves.
pub trait Mover: Send + Sync {
    /// Address of a node's agent.
    ///
    /// # Errors
    /// When the node is unknown.
    fn address(&self, node: &NodeName) -> Result<String, FleetError>;

    /// Has a move carried out and follows it to its end.
    fn migrate(
        &self,
        order: &Order,
        on_event: &mut (dyn FnMut(&Event) + Send),
    ) -> impl Future<Output = Result<Report, FleetError>> + Send;

    /// All that a node's agent remembers of migrations that left it.
    fn standings(&self, node: &NodeName) -> impl Future<Output = Result<Vec<Standing>, FleetError>> + Send;

    /// Tells the ends of migrations that are open, as those that can be reached know, where the other end is by now.
    fn introduce(&self, reachable: &[NodeName]) -> impl Future<Output = ()> + Send;

    /// Carries the certificate of a committed migration from its source to its destination, if both can be reached.
    fn carry_certificate(
        &self,
        id: MigrationId,
        from: &NodeName,
        to: &NodeName,
    ) -> impl Future<Output = ()> + Send;

    /// Has what is held run where it is held, because the pod of its source has ended.
    fn promote(&self, candidate: &Candidate) -> impl Future<Output = Result<Fenced, FleetError>> + Send;
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The agents of the inventory's nodes.
#[derive(Debug, Clone)]
pub struct RealWorld {
    authority: Authority,
    remembered: Remembered,
    pods: Option<PodWatch>,
}

impl RealWorld {
    /// With the certificates of `authority`.
    pub fn new(authority: Authority) -> Self {
        Self { authority, remembered: Remembered::default(), pods: None }
    }

    /// Has the nodes that are pods watched for their ends, from the first look on.
    #[must_use]
    pub fn watching(self, pods: PodWatch) -> Self {
        Self { pods: Some(pods), ..self }
    }

    /// Finds all agents anew: nodes may have been made anew since the last time, under other addresses.
    ///
    /// # Errors
    /// When the scheduler's certificate can't be made.
    pub async fn fleet(&self, continuum: &Continuum) -> Result<Fleet, FleetError> {
        Fleet::find(continuum, &self.authority, &self.remembered).await
    }
}

impl World for RealWorld {
    type Mover = Fleet;

    async fn look(&self, continuum: &Continuum) -> Result<(FleetView, Fleet), FleetError> {
        if let Some(pods) = &self.pods {
            pods.follow(continuum);
        }
        let fleet = self.fleet(continuum).await?;
        let view = fleet.view().await;
        Ok((view, fleet))
    }

    fn ends(&self) -> Vec<PodEnd> {
        self.pods.as_ref().map(PodWatch::ends).unwrap_or_default()
    }

    async fn told(&self, continuum: &Continuum, fleet: &Fleet, ends: &[PodEnd]) -> Told {
        fleet.told(&watching::empty(continuum, ends).await).await
    }
}

impl Mover for Fleet {
    fn address(&self, node: &NodeName) -> Result<String, FleetError> {
        Self::address(self, node).map(str::to_owned)
    }

    async fn migrate(
        &self,
        order: &Order,
        on_event: &mut (dyn FnMut(&Event) + Send),
    ) -> Result<Report, FleetError> {
        Self::migrate(self, order, on_event).await
    }

    async fn standings(&self, node: &NodeName) -> Result<Vec<Standing>, FleetError> {
        Self::standings(self, node).await
    }

    async fn introduce(&self, reachable: &[NodeName]) {
        Self::introduce(self, reachable).await;
    }

    async fn carry_certificate(&self, id: MigrationId, from: &NodeName, to: &NodeName) {
        Self::carry_certificate(self, id, from, to).await;
    }

    async fn promote(&self, candidate: &Candidate) -> Result<Fenced, FleetError> {
        Self::promote(self, candidate).await
    }
}
