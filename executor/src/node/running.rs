//! Migrations under way on this node: started once, followed by any number of listeners, found again after a restart.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sterna_core::continuum::ServiceName;
use thiserror::Error;
use tokio::sync::watch;

use crate::engine::docker::{Container, Engine, EngineError};
use crate::identity::Credentials;
use crate::migration::machine;
use crate::migration::order::{MigrationId, Order};
use crate::migration::report::Event;

use super::api::NodeFacts;
use super::client::{AgentClient, ClientError};
use super::departure::Leaving;
use super::store::{Departure, Store, StoreError};

/// An order that is not carried out.
#[derive(Debug, Error)]
pub enum OrderError {
    /// The engine does not answer, or knows no such service.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The register refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The destination can't be addressed.
    #[error(transparent)]
    Destination(#[from] ClientError),
    /// It can't be carried out now.
    #[error("{0}")]
    Refused(String),
}

/// Migrations that leave this node.
#[derive(Debug, Clone)]
pub struct Running {
    engine: Engine,
    store: Store,
    credentials: Credentials,
    staging: PathBuf,
    logs: Arc<Mutex<HashMap<MigrationId, watch::Sender<Vec<Event>>>>>,
    /// Held from looking whether a service is being moved until its departure is in the register.
    admission: Arc<tokio::sync::Mutex<()>>,
}

impl Running {
    /// Nothing under way yet.
    pub fn new(engine: Engine, store: Store, credentials: Credentials, staging: PathBuf) -> Self {
        let (logs, admission) = (Arc::default(), Arc::default());
        Self { engine, store, credentials, staging, logs, admission }
    }

    /// Starts to carry out an order. One that was given before is left alone.
    ///
    /// # Errors
    /// When the service is not here, is being moved already, or the register refuses.
    pub async fn start(&self, order: Order, container: &Container, own: NodeFacts) -> Result<(), OrderError> {
        let destination = AgentClient::new(&self.credentials, &order.to, &order.to_address).await?;
        let _admission = self.admission.lock().await;
        if self.store.departure(order.id)?.is_some() {
            return Ok(());
        }
        if let Some(other) = self.leaving(&order.service)? {
            return Err(OrderError::Refused(format!(
                "`{}` is being moved to `{}` already, by migration {}",
                order.service, other.order.to, other.order.id
            )));
        }
        let restart = container.host().restart_policy;
        let restart = restart.and_then(|policy| serde_json::to_string(&policy).ok());
        let epoch = self.store.epoch(&order.service)?;
        self.store.plan(&order, &container.id, epoch, restart.as_deref())?;
        let Some(departure) = self.store.departure(order.id)? else {
            return Err(OrderError::Refused("the register did not keep the order".to_owned()));
        };
        let mut steps = Leaving::new(self.engine.clone(), destination, &departure, own, &self.staging);
        let mut register = self.store.register(order.id);
        let log = self.log(order.id);
        let span = tracing::info_span!("migration", id = %order.id, service = %order.service, to = %order.to);
        tokio::spawn(tracing::Instrument::instrument(
            async move {
                let note = |event| log.send_modify(|events| events.push(event));
                machine::run(&order, &mut steps, &mut register, note).await;
            },
            span,
        ));
        Ok(())
    }

    /// Finishes or undoes what an earlier life of this agent left under way.
    ///
    /// # Errors
    /// When the register can't be read or a destination can't be addressed.
    pub async fn recover(&self, own: &NodeFacts) -> Result<(), OrderError> {
        for departure in self.store.departures_under_way()? {
            let order = departure.order.clone();
            tracing::warn!(migration = %order.id, service = %order.service, phase = ?departure.phase,
                decision = ?departure.decision, "found under way at the start");
            let destination = AgentClient::new(&self.credentials, &order.to, &order.to_address).await?;
            let mut steps =
                Leaving::new(self.engine.clone(), destination, &departure, own.clone(), &self.staging);
            let mut register = self.store.register(order.id);
            let log = self.log(order.id);
            tokio::spawn(async move {
                let note = |event| log.send_modify(|events| events.push(event));
                machine::recover(&order, departure.phase, &mut steps, &mut register, note).await;
            });
        }
        Ok(())
    }

    /// The departure under way of a service.
    ///
    /// # Errors
    /// When the register can't be read.
    pub fn leaving(&self, service: &ServiceName) -> Result<Option<Departure>, StoreError> {
        Ok(self.store.departures_under_way()?.into_iter().find(|one| one.order.service == *service))
    }

    /// The events of a migration so far and to come; `None` for one that this node never drove.
    ///
    /// # Errors
    /// When the register can't be read.
    pub fn events(&self, id: MigrationId) -> Result<Option<watch::Receiver<Vec<Event>>>, StoreError> {
        let logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = logs.get(&id) {
            return Ok(Some(log.subscribe()));
        }
        drop(logs);
        // It ended in an earlier life: the register has its report.
        let report = self.store.departure(id)?.and_then(|departure| departure.report);
        Ok(report.map(|report| watch::channel(vec![Event::Ended(report)]).1))
    }

    fn log(&self, id: MigrationId) -> watch::Sender<Vec<Event>> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.entry(id).or_insert_with(|| watch::channel(Vec::new()).0).clone()
    }
}
