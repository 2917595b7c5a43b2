//! The canary: a small container that is dumped here and restored, held, at another node, before the first real service is
//! frozen for a move there. It goes the very way that a service goes, walked by the same machine, and is undone where a service
//! would be committed. It is no service, and nothing of it stays but its image.
//!
//! What it shows holds for the pair of nodes until one of them changes, and for some hours.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::models::{ContainerCreateBody, HostConfig};
use sterna_core::continuum::{NodeName, ServiceName};
use sterna_policies::policy::Method;
use sterna_policies::quantity::{Bytes, Millis};

use crate::engine::docker::{Engine, RUNTIME};
use crate::identity::Credentials;
use crate::migration::machine::{self, StepError, Steps};
use crate::migration::order::{MigrationId, Order};
use crate::migration::phase::Phase;
use crate::migration::report::Outcome;
use crate::migration::table::Undo;

use super::admission::Admission;
use super::api::NodeFacts;
use super::assessment::Canary;
use super::departure::Leaving;
use super::store::{Departure, Store, TokenKey};

mod image;

/// The label of a canary's container, on both nodes. Its value is the trial's id.
const LABEL: &str = "sterna.canary";
/// What a canary's container is named by, before the trial's id.
const PREFIX: &str = "sterna-canary-";
/// How long a trial that went well holds.
const HOLDS: Duration = Duration::from_secs(6 * 3600);
/// Longest time for a trial where the order leaves more; it takes a second or two, and a hundred times as long on a slow machine.
/// A canary may stand frozen for all of it: nobody waits for one.
const DEADLINE: Millis = Millis::from_micros(180_000_000_000);

/// Whether a name is that of a canary.
pub fn is_canary(service: &ServiceName) -> bool {
    service.as_str().starts_with(PREFIX)
}

/// Tries that this node has made, by the node that they went to.
#[derive(Debug, Clone)]
pub struct Canaries {
    engine: Engine,
    store: Store,
    credentials: Credentials,
    token_key: TokenKey,
    staging: PathBuf,
    /// Of their own, so that a migration that waits for its canary does not keep the canary waiting.
    admission: Admission,
    proofs: Arc<Mutex<HashMap<NodeName, Proof>>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A trial that went well.
#[derive(Debug, Clone)]
struct Proof {
    /// Digests of the facts of both nodes.
    between: (String, String),
    made: Instant,
    took: Millis,
}

impl Proof {
    fn holds(&self, between: &(String, String)) -> bool {
        self.between == *between && self.made.elapsed() < HOLDS
    }

    fn told(&self) -> Canary {
        Canary { trouble: None, took: self.took, age: Millis::from_duration(self.made.elapsed()) }
    }
}

impl Canaries {
    /// None made yet.
    pub fn new(
        engine: Engine,
        store: Store,
        credentials: Credentials,
        token_key: TokenKey,
        staging: PathBuf,
    ) -> Self {
        let (proofs, turn) = (Arc::default(), Arc::default());
        let admission = Admission::new(1, 1);
        Self { engine, store, credentials, token_key, staging, admission, proofs, turn }
    }

    /// Whether a container can go the way of this order: by what was tried before, or else by a trial now. Boxed, because the
    /// trial takes the steps of a departure, which begin with this.
    pub fn prove<'a>(
        &'a self,
        order: &'a Order,
        own: &'a NodeFacts,
        destination: &'a NodeFacts,
    ) -> Pin<Box<dyn Future<Output = Canary> + Send + 'a>> {
        Box::pin(async move {
            let _turn = self.turn.lock().await;
            let between = (own.digest(), destination.digest());
            let proofs = || self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(proof) = proofs().get(&order.to).filter(|proof| proof.holds(&between)) {
                return proof.told();
            }
            let made = Instant::now();
            let trial = self.fly(order, own.clone()).await;
            let took = Millis::from_duration(made.elapsed());
            match trial {
                Ok(()) => {
                    tracing::info!(to = %order.to, %took, "a canary went to the node and was restored there");
                    let proof = Proof { between, made: Instant::now(), took };
                    let told = proof.told();
                    proofs().insert(order.to.clone(), proof);
                    told
                }
                Err(error) => {
                    tracing::warn!(to = %order.to, %took, %error, "a canary did not get to the node");
                    proofs().remove(&order.to);
                    Canary { trouble: Some(error.to_string()), took, age: Millis::ZERO }
                }
            }
        })
    }

    async fn fly(&self, order: &Order, own: NodeFacts) -> Result<(), StepError> {
        let failed = |error: &dyn std::error::Error| StepError::from_error(error);
        self.clear().await;
        let image = self.image().await?;
        let id = MigrationId::new();
        let name = format!("{PREFIX}{id}");
        let body = ContainerCreateBody {
            image: Some(image),
            labels: Some(HashMap::from([(LABEL.to_owned(), id.to_string())])),
            host_config: Some(HostConfig { runtime: Some(RUNTIME.to_owned()), ..HostConfig::default() }),
            ..ContainerCreateBody::default()
        };
        let container = self.engine.create(&name, body).await.map_err(|error| failed(&error))?;
        let trial = async {
            self.engine.start(&container).await.map_err(|error| failed(&error))?;
            let deadline = DEADLINE.min(order.deadline);
            let order = Order {
                id,
                service: ServiceName::from(name.clone()),
                method: Method::Checkpoint,
                max_downtime: None,
                deadline,
                freeze_lease: deadline,
                predicted: None,
                ..order.clone()
            };
            // In the register like a service's, so that a crash on either side is undone like a service's.
            self.store.plan(&order, &container, 0, None).map_err(|error| failed(&error))?;
            let departure = Departure::imagined(order.clone(), container.clone(), 0);
            let (engine, credentials) = (self.engine.clone(), self.credentials.clone());
            let leaving = Leaving::new(
                engine,
                credentials,
                self.admission.clone(),
                self.token_key,
                &departure,
                own,
                &self.staging,
            );
            let mut trial = Trial { leaving, restored: false };
            let mut register = self.store.register(id);
            let report = machine::run(&order, &mut trial, &mut register, |_| (), pending()).await;
            match (trial.restored, report.outcome) {
                (true, Outcome::RolledBack { .. }) => Ok(()),
                (_, Outcome::RolledBack { after, reason }) => {
                    Err(StepError::Failed(format!("after {after}: {reason}")))
                }
                (_, other) => Err(StepError::Failed(format!("a trial can't end so: {other:?}"))),
            }
        };
        let ended = trial.await;
        if let Err(error) = self.engine.remove(&container).await {
            tracing::warn!(%error, "a canary's container stays behind; it is removed before the next trial");
        }
        ended
    }

    /// The name of the canary's image, which the engine has after this.
    async fn image(&self) -> Result<String, StepError> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            StepError::Failed(format!("the canary's image can't be {what}: {error}"))
        };
        let made =
            tokio::task::spawn_blocking(image::archive).await.map_err(|error| failed("made", &error))?;
        let made = made.map_err(|error| failed("made", &error))?;
        let there =
            self.engine.image_digest(image::NAME).await.map_err(|error| failed("looked up", &error))?;
        if there.as_deref() != Some(made.digest.as_str()) {
            let stream = futures_util::stream::once(async move { Ok(made.tar.into()) });
            let within = DEADLINE.to_duration();
            let loaded = self.engine.load_image(stream, within).await;
            loaded.map_err(|error| failed("given to the engine", &error))?;
        }
        Ok(image::NAME.to_owned())
    }

    /// Removes canaries that an earlier life of this agent left at the source, after a trial that is under way: its container
    /// looks like one of those until the register has it. Those that came in are looked after by what looks after all arrivals.
    pub async fn sweep(&self) {
        let _turn = self.turn.lock().await;
        self.clear().await;
    }

    async fn clear(&self) {
        let under_way = self.store.departures_under_way().unwrap_or_default();
        for container in self.engine.labelled(LABEL).await.unwrap_or_default() {
            let arrived = match self.engine.inspect(&container).await {
                Ok(seen) => seen.migration().is_some(),
                Err(_) => continue,
            };
            if !arrived
                && !under_way.iter().any(|departure| departure.container == container)
                && let Err(error) = self.engine.remove(&container).await
            {
                tracing::warn!(container, %error, "a canary of an earlier life can't be removed");
            }
        }
    }
}

/// The steps of a trial: those of a departure up to the proof, and never further.
struct Trial {
    leaving: Leaving,
    restored: bool,
}

impl Steps for Trial {
    async fn enter(&mut self, phase: Phase) -> Result<Bytes, StepError> {
        match phase {
            // It is part of the check.
            Phase::Checked => Ok(Bytes::ZERO),
            Phase::Verified => {
                self.leaving.enter(Phase::Verified).await?;
                self.restored = true;
                Err(StepError::Failed("a trial ends here".to_owned()))
            }
            _ => self.leaving.enter(phase).await,
        }
    }

    async fn undo(&mut self, undo: Undo) -> Result<(), StepError> {
        self.leaving.undo(undo).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_until_a_fact_changes_or_hours_have_gone() {
        let facts = NodeFacts::example();
        let between = |a: &NodeFacts, b: &NodeFacts| (a.digest(), b.digest());
        let mut proof = Proof { between: between(&facts, &facts), made: Instant::now(), took: Millis::ZERO };
        let busier = NodeFacts { memory_free: Bytes::ZERO, staging_free: Bytes::ZERO, ..facts.clone() };
        assert!(proof.holds(&between(&facts, &busier)), "room comes and goes");
        let other = NodeFacts { criu: "Version: 5.0".into(), ..facts.clone() };
        assert!(!proof.holds(&between(&facts, &other)));
        assert!(!proof.holds(&between(&other, &facts)));
        if let Some(long_ago) = Instant::now().checked_sub(HOLDS) {
            proof.made = long_ago;
            assert!(!proof.holds(&between(&facts, &facts)));
        }
    }

    #[tokio::test]
    async fn nothing_is_swept_while_a_trial_is_under_way() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let authority = crate::identity::Authority::open(&folder.path().join("authority")).unwrap();
        let credentials = authority.issue(&crate::identity::Role::Agent("a1".into())).unwrap();
        let token_key = store.token_key(&credentials).unwrap();
        let canaries =
            Canaries::new(Engine::deaf(folder.path()), store, credentials, token_key, folder.path().into());
        let trial = canaries.turn.lock().await;
        let soon = Duration::from_millis(50);
        assert!(
            tokio::time::timeout(soon, canaries.sweep()).await.is_err(),
            "it took the trial for a left-over"
        );
        drop(trial);
        canaries.sweep().await;
    }

    #[test]
    fn canaries_are_known_by_their_name() {
        assert!(is_canary(&ServiceName::from(format!("{PREFIX}{}", MigrationId::new()))));
        assert!(!is_canary(&"redis".into()));
    }
}
