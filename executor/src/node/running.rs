//! Migrations under way on this node: started once, followed by any number of listeners, found again after a restart.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sterna_core::continuum::ServiceName;
use thiserror::Error;
use tokio::sync::{oneshot, watch};

use crate::engine::docker::{Container, Engine, EngineError};
use crate::fault::pointed;
use crate::identity::{Credentials, IdentityError};
use crate::migration::machine::{self, Register as _, Steps as _};
use crate::migration::order::{MigrationId, Order};
use crate::migration::phase::Phase;
use crate::migration::recovery::{self, There};
use crate::migration::register::Decision;
use crate::migration::report::Event;

use super::admission::Admission;
use super::api::{NodeFacts, Standing};
use super::assessment::Assessment;
use super::bandwidth::Bandwidth;
use super::canary::{self, Canaries};
use super::client::ClientError;
use super::config::AdmissionConfig;
use super::departure::{self, Leaving};
use super::peers::Peers;
use super::progress::Progress;
use super::store::{Departure, Store, StoreError, TokenKey};
use super::traffic::Traffic;

mod removal;
pub use self::removal::Removal;
use self::removal::Removing;

/// An order that is not carried out.
#[derive(Debug, Error)]
pub enum OrderError {
    /// The engine does not answer, or knows no such service.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The register refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificate can't be made.
    #[error(transparent)]
    Certificate(#[from] IdentityError),
    /// It can't be carried out now.
    #[error("{0}")]
    Refused(String),
}

/// Time for a destination to say what it holds, while the source stands frozen.
const ASK: Duration = Duration::from_secs(3);
/// As above, where the source's processes are gone.
const ASK_FOR_THE_LAST_COPY: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Time from the start until canaries that an earlier life left are looked for.
const SWEEP: Duration = Duration::from_secs(15);
/// Time for what is leaving to get to its end once the agent is to end, and then for the rest to be undone: a node is given 40 s in
/// all, and its services need most of that.
const TO_FINISH: Duration = Duration::from_secs(6);
/// The same where the register ends with the agent: what has not left by then is lost.
const TO_LEAVE: Duration = Duration::from_secs(20);
const TO_UNDO: Duration = Duration::from_secs(6);
const LOOK: Duration = Duration::from_millis(50);
/// From this many on, the events of migrations that have ended are forgotten.
const LOGS: usize = 64;

/// Migrations that leave this node.
#[derive(Debug, Clone)]
pub struct Running {
    engine: Engine,
    store: Store,
    credentials: Credentials,
    peers: Peers,
    staging: PathBuf,
    logs: Arc<Mutex<HashMap<MigrationId, watch::Sender<Vec<Event>>>>>,
    /// For each migration that may still be undone, how to say so.
    cancels: Arc<Mutex<HashMap<MigrationId, oneshot::Sender<String>>>>,
    tokens: Admission,
    token_key: TokenKey,
    bandwidth: Bandwidth,
    canaries: Canaries,
    /// Held from looking whether a service is being moved until its departure is in the register, or it is among those that are
    /// being removed.
    admission: Arc<tokio::sync::Mutex<()>>,
    removing: Removing,
    traffic: Traffic,
    pod: Option<String>,
}

/// Of what crossed in a phase only the last word is kept.
fn put_progress(events: &mut Vec<Event>, event: Event) {
    match events.last_mut() {
        Some(last @ Event::Progress { .. }) => *last = event,
        _ => events.push(event),
    }
}

impl Running {
    /// Nothing under way yet.
    pub fn new(
        engine: Engine,
        store: Store,
        credentials: Credentials,
        token_key: TokenKey,
        staging: PathBuf,
        limits: AdmissionConfig,
        bandwidth: Bandwidth,
    ) -> Self {
        let (logs, cancels, admission) = (Arc::default(), Arc::default(), Arc::default());
        let tokens = Admission::new(limits.leaving, limits.per_peer);
        let canaries =
            Canaries::new(engine.clone(), store.clone(), credentials.clone(), token_key, staging.clone());
        let traffic = Traffic::default();
        let peers = Peers::new(credentials.clone());
        Self {
            engine,
            store,
            credentials,
            peers,
            staging,
            logs,
            cancels,
            tokens,
            token_key,
            bandwidth,
            canaries,
            admission,
            removing: Removing::default(),
            traffic,
            pod: None,
        }
    }

    /// Has fronts told of what becomes of the services.
    #[must_use]
    pub fn announcing(self, traffic: Traffic) -> Self {
        Self { traffic, ..self }
    }

    /// In the pod of this UID, if in one with which all of its state ends.
    #[must_use]
    pub fn in_pod(self, pod: Option<String>) -> Self {
        Self { pod, ..self }
    }

    /// Looks for destinations as others here do.
    #[must_use]
    pub fn finding(self, peers: Peers) -> Self {
        Self { peers, ..self }
    }

    fn steps(&self, departure: &Departure, own: NodeFacts, progress: Progress) -> Leaving {
        let limits = self.bandwidth.of(&departure.order.to, departure.order.bandwidth);
        // Without them the forecast rests on what other nodes have shown.
        let past = self.store.reports_to(&departure.order.to).unwrap_or_default();
        let (engine, credentials) = (self.engine.clone(), self.credentials.clone());
        Leaving::new(engine, credentials, self.tokens.clone(), self.token_key, departure, own, &self.staging)
            .after_a_canary(self.canaries.clone())
            .learning_from(past)
            .over(limits, progress)
            .announcing(self.traffic.clone())
            .from_pod(self.pod.clone())
            .finding(self.peers.clone())
    }

    /// Starts to carry out an order. One that was given before is left alone.
    ///
    /// # Errors
    /// When the service is not here, is being moved already, or the register refuses.
    pub async fn start(&self, order: Order, container: &Container, own: NodeFacts) -> Result<(), OrderError> {
        let _admission = self.admission.lock().await;
        if self.store.departure(order.id)?.is_some() {
            return Ok(());
        }
        self.stays(&order.service)?;
        if self.removing.has(&order.service) {
            return Err(OrderError::Refused(format!("`{}` is being removed", order.service)));
        }
        let restart = container.host().restart_policy;
        let restart = restart.and_then(|policy| serde_json::to_string(&policy).ok());
        let epoch = self.store.epoch(&order.service)?;
        self.store.plan(&order, &container.id, epoch, restart.as_deref())?;
        let Some(departure) = self.store.departure(order.id)? else {
            return Err(OrderError::Refused("the register did not keep the order".to_owned()));
        };
        let log = self.log(order.id);
        let teller = log.clone();
        let progress = Progress::told(move |event| teller.send_modify(|events| put_progress(events, event)));
        let mut steps = pointed(self.steps(&departure, own, progress));
        let mut register = pointed(self.store.register(order.id));
        let (cancel, cancelled) = oneshot::channel();
        self.cancels().insert(order.id, cancel);
        let running = self.clone();
        let span = tracing::info_span!("migration", id = %order.id, service = %order.service, to = %order.to);
        tokio::spawn(tracing::Instrument::instrument(
            async move {
                let note = |event| log.send_modify(|events| events.push(event));
                let cancelled = async {
                    match cancelled.await {
                        Ok(why) => why,
                        // Nobody can ask any more.
                        Err(_) => std::future::pending().await,
                    }
                };
                machine::run(&order, &mut steps, &mut register, note, cancelled).await;
                running.cancels().remove(&order.id);
            },
            span,
        ));
        Ok(())
    }

    /// Asks both ends what speaks against an order, and what it would cost. Nothing is touched.
    ///
    /// # Errors
    /// When an end can't be asked, or the register can't be read.
    pub async fn assess(
        &self,
        order: Order,
        container: &Container,
        own: NodeFacts,
    ) -> Result<Assessment, OrderError> {
        let epoch = self.store.epoch(&order.service)?;
        let mut steps =
            self.steps(&Departure::imagined(order, container.id.clone(), epoch), own, Progress::default());
        let mut assessment = steps.assess().await.map_err(|error| OrderError::Refused(error.to_string()))?;
        if assessment.findings.is_empty() {
            assessment.forecast = steps.forecast();
        }
        Ok(assessment)
    }

    /// Finishes or undoes what an earlier life of this agent left under way.
    ///
    /// # Errors
    /// When the register can't be read.
    pub fn recover(&self, own: &NodeFacts) -> Result<(), OrderError> {
        for departure in self.store.departures_under_way()? {
            let order = departure.order.clone();
            tracing::warn!(migration = %order.id, service = %order.service, phase = ?departure.phase,
                decision = ?departure.decision, "found under way at the start");
            let mut steps = pointed(self.steps(&departure, own.clone(), Progress::default()));
            let mut register = pointed(self.store.register(order.id));
            let log = self.log(order.id);
            let running = self.clone();
            let span =
                tracing::info_span!("migration", id = %order.id, service = %order.service, to = %order.to);
            let walk = async move {
                let note = |event| log.send_modify(|events| events.push(event));
                if departure.decision == Decision::Undecided
                    && running.recovered(&departure).await == Decision::Commit
                    && let Err(error) = register.decide(Decision::Commit)
                {
                    tracing::error!(migration = %order.id, %error, "what the destination says can't be noted");
                }
                machine::recover(&order, departure.phase, &mut steps, &mut register, note).await;
            };
            tokio::spawn(tracing::Instrument::instrument(walk, span));
        }
        let canaries = self.canaries.clone();
        tokio::spawn(async move {
            // By then those found above are undone.
            tokio::time::sleep(SWEEP).await;
            canaries.sweep().await;
        });
        Ok(())
    }

    /// What is decided about a departure that was cut off undecided. A destination that does not answer keeps nobody frozen;
    /// but where this node went down with the source's processes, it may hold all that is left of them and is asked for longer.
    async fn recovered(&self, departure: &Departure) -> Decision {
        let order = &departure.order;
        if departure.phase < Some(Phase::Synced) {
            return Decision::Abort;
        }
        let alive = self.engine.inspect(&departure.container).await.is_ok_and(|one| one.pid.is_some());
        let ask = async {
            loop {
                if let Ok(client) = self.peers.client(&order.to, &order.to_address).await {
                    match client.arriving(order.id).await {
                        Ok(arriving) => {
                            return Some(There { holding: arriving.holding, standing: arriving.standing });
                        }
                        // It answers, and knows nothing of it.
                        Err(ClientError::Absent { .. } | ClientError::Refused { .. }) => return None,
                        Err(error) => tracing::warn!(migration = %order.id, %error, "asking the destination"),
                    }
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        let time = if alive { ASK } else { ASK_FOR_THE_LAST_COPY };
        recovery::decision(alive, tokio::time::timeout(time, ask).await.ok().flatten())
    }

    /// Has a migration undone, if it is not committed yet: from here on it can't be. What came of it is its last event.
    ///
    /// # Errors
    /// When it is not under way, or can only go forward.
    pub fn cancel(&self, id: MigrationId, why: String) -> Result<(), OrderError> {
        let departure = self.store.departure(id)?;
        let departure = departure
            .ok_or_else(|| OrderError::Refused(format!("nothing is known of migration {id} here")))?;
        let refuse = |why: &str| Err(OrderError::Refused(format!("migration {id} {why}")));
        if departure.report.is_some() {
            return refuse("has ended already");
        }
        if !self.cancels().contains_key(&id) {
            // An earlier cancel, or what failed: it is being undone already.
            if departure.decision == Decision::Abort {
                return Ok(());
            }
            // The destination may hold the last copy of its memory: that is looked into first.
            return refuse(
                "was cut off by a restart of this agent, which is looking how it stands: ask again",
            );
        }
        let stands = self.store.register(id).decide(Decision::Abort);
        let stands = stands.map_err(|error| OrderError::Refused(error.to_string()))?;
        if stands == Decision::Commit {
            return refuse("is committed: it can only go forward");
        }
        if let Some(cancel) = self.cancels().remove(&id) {
            let _ = cancel.send(why);
        }
        Ok(())
    }

    /// Brings what is leaving to an end before this agent ends with its node: what does not get there soon is undone, so that no
    /// service is ended while it stands frozen. What is committed goes on in the agent's next life.
    ///
    /// In a pod with which the register ends there is no next life: more time is given and nothing undone, since a service that ran
    /// on here for a moment would only leave behind what the destination may hold.
    pub async fn wind_up(&self) {
        let start = Instant::now();
        let ends_with_it = self.pod.is_some();
        let patience = if ends_with_it { TO_LEAVE } else { TO_FINISH };
        while !self.cancels().is_empty() && start.elapsed() < patience {
            tokio::time::sleep(LOOK).await;
        }
        if ends_with_it {
            return;
        }
        let left: Vec<MigrationId> = self.cancels().keys().copied().collect();
        for id in &left {
            if let Err(error) = self.cancel(*id, "the agent of its source is to end".to_owned()) {
                tracing::info!(migration = %id, %error, "left to the agent's next life");
            }
        }
        let undoing = |id: &MigrationId| {
            let departure = self.store.departure(*id).ok().flatten();
            departure.is_some_and(|one| one.report.is_none() && one.decision == Decision::Abort)
        };
        let start = Instant::now();
        while left.iter().any(undoing) && start.elapsed() < TO_UNDO {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What this node says of a migration that leaves it; `None` for one that it never drove.
    ///
    /// # Errors
    /// When the register can't be read or the certificate can't be made.
    pub async fn standing(&self, id: MigrationId) -> Result<Option<Standing>, OrderError> {
        match self.store.departure(id)? {
            Some(departure) => Ok(Some(self.describe(departure).await?)),
            None => Ok(None),
        }
    }

    /// As above, for all migrations after one, oldest first, a limited number of them.
    ///
    /// # Errors
    /// As above.
    pub async fn standings(&self, after: Option<MigrationId>) -> Result<Vec<Standing>, OrderError> {
        let mut all = Vec::new();
        // A canary is nobody's migration.
        let real = |departure: &Departure| !canary::is_canary(&departure.order.service);
        for departure in self.store.departures_after(after)?.into_iter().filter(real) {
            all.push(self.describe(departure).await?);
        }
        Ok(all)
    }

    async fn describe(&self, departure: Departure) -> Result<Standing, OrderError> {
        let Departure { order, container, epoch, phase, decision, report, taken, ended, .. } = departure;
        let certificate = if decision == Decision::Commit && report.is_none() {
            let image = self.engine.inspect(&container).await?.image;
            Some(departure::certificate(&self.credentials, &order, epoch, &image)?)
        } else {
            None
        };
        Ok(Standing { order, phase, decision, certificate, report, taken, ended })
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

    fn cancels(&self) -> MutexGuard<'_, HashMap<MigrationId, oneshot::Sender<String>>> {
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, id: MigrationId) -> watch::Sender<Vec<Event>> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if logs.len() >= LOGS {
            // The register has the reports of those that have ended.
            logs.retain(|_, log| !matches!(log.borrow().last(), Some(Event::Ended(_))));
        }
        logs.entry(id).or_insert_with(|| watch::channel(Vec::new()).0).clone()
    }
}

#[cfg(test)]
mod tests {
    use sterna_policies::quantity::{Bytes, Millis};

    use super::*;
    use crate::migration::report::PhaseRecord;

    #[test]
    fn of_progress_the_last_word_of_each_phase_is_kept() {
        let progress = |bytes| Event::Progress { bytes: Bytes(bytes), of: None, per_second: Bytes::ZERO };
        let reached =
            Event::Reached(PhaseRecord { phase: Phase::Synced, took: Millis::ZERO, bytes: Bytes::ZERO });
        let mut events = Vec::new();
        for bytes in 0..1000 {
            put_progress(&mut events, progress(bytes));
        }
        events.push(reached.clone());
        put_progress(&mut events, progress(5));
        assert_eq!(events, [progress(999), reached, progress(5)]);
    }
}
