//! The source's side of a migration: what is done in each phase, at both ends.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bollard::models::RestartPolicy;
use futures_util::future::{Either, select};
use sterna_policies::policy::Memory;
use sterna_policies::quantity::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::engine::criu;
use crate::engine::docker::{Container, Engine};
use crate::engine::processes::{Processes, Tree};
use crate::engine::runc;
use crate::identity::Credentials;
use crate::migration::convergence::Rounds;
use crate::migration::finding::{Code, Finding, Subject};
use crate::migration::forecast::{self, Forecast, Load};
use crate::migration::machine::{StepError, Steps};
use crate::migration::order::Order;
use crate::migration::phase::Phase;
use crate::migration::report::Report;
use crate::migration::table::Undo;
use crate::transfer::ahead::Ahead;
use crate::transfer::hashing::Hashing;
use crate::transfer::tree::Writers;

use super::admission::Admission;
use super::api::{NodeFacts, Part, Reservation};
use super::assessment::Assessment;
use super::bandwidth::Limits;
use super::canary::Canaries;
use super::client::AgentClient;
use super::peers::Peers;
use super::precheck;
use super::progress::Progress;
use super::staging::private_folder;
use super::store::{Departure, TokenKey};
use super::traffic::Traffic;

mod forward;
mod link;
mod memory;
mod sending;
mod thaw;
use self::link::insist;
use self::memory::Share;
pub(super) use forward::certificate;

/// Pause between two tries where the destination has no room or something is waited for.
const PAUSE: Duration = Duration::from_millis(200);

/// Longest wait for a destination's engine to be asked to make ready.
const TO_PREPARE: Duration = Duration::from_secs(5);

/// The steps of one departure.
pub struct Leaving {
    engine: Engine,
    credentials: Credentials,
    peers: Peers,
    admission: Admission,
    /// Held from the reservation to the end.
    tokens: Vec<OwnedSemaphorePermit>,
    destination: Option<AgentClient>,
    order: Order,
    container: String,
    epoch: u64,
    token_key: TokenKey,
    restart: Option<RestartPolicy>,
    own: NodeFacts,
    image: PathBuf,
    /// Filled by the check.
    seen: Option<Container>,
    /// What its writable layer and volumes take, and its image, as the check has measured them.
    files: Bytes,
    image_size: Bytes,
    trees: Vec<(Part, sending::Tree)>,
    /// What was sent of its memory; `None` once that failed.
    ahead: Option<Ahead>,
    /// The dump, being compared with that.
    hashing: Option<Hashing>,
    /// Filled when frozen.
    frozen: Tree,
    /// What has to be carried, as the check has measured it.
    load: Option<Load>,
    /// As the check has made it.
    forecast: Option<Forecast>,
    /// Reports of earlier moves to the same node, newest first.
    past: Vec<Report>,
    started_anew: Option<String>,
    canaries: Option<Canaries>,
    limits: Limits,
    progress: Progress,
    traffic: Traffic,
    /// UID of the pod in which this agent runs.
    pod: Option<String>,
}

fn failed(error: impl std::error::Error) -> StepError {
    StepError::from_error(&error)
}

impl Leaving {
    /// Prepares the steps of a departure that is in the register.
    pub fn new(
        engine: Engine,
        credentials: Credentials,
        admission: Admission,
        token_key: TokenKey,
        departure: &Departure,
        own: NodeFacts,
        staging: &Path,
    ) -> Self {
        let peers = Peers::new(credentials.clone());
        Self {
            engine,
            credentials,
            peers,
            admission,
            tokens: Vec::new(),
            destination: None,
            container: departure.container.clone(),
            epoch: departure.epoch,
            token_key,
            restart: departure.restart.as_deref().and_then(|text| serde_json::from_str(text).ok()),
            own,
            image: staging.join(format!("out-{}", departure.order.id)),
            order: departure.order.clone(),
            seen: None,
            files: Bytes::ZERO,
            image_size: Bytes::ZERO,
            trees: Vec::new(),
            ahead: (departure.order.memory == Memory::Ahead).then(Ahead::default),
            hashing: None,
            frozen: Tree::new(),
            load: None,
            forecast: None,
            past: Vec::new(),
            started_anew: None,
            canaries: None,
            limits: Limits::default(),
            progress: Progress::default(),
            traffic: Traffic::default(),
            pod: None,
        }
    }

    /// From the pod of this UID, if from any.
    pub fn from_pod(mut self, pod: Option<String>) -> Self {
        self.pod = pod;
        self
    }

    /// Has fronts told when the service is frozen and when it goes on.
    pub fn announcing(mut self, traffic: Traffic) -> Self {
        self.traffic = traffic;
        self
    }

    /// Looks for the destination as others here do.
    pub fn finding(mut self, peers: Peers) -> Self {
        self.peers = peers;
        self
    }

    /// Has a canary go first, where none went there yet.
    pub fn after_a_canary(mut self, canaries: Canaries) -> Self {
        self.canaries = Some(canaries);
        self
    }

    /// Has what crosses kept to limits, and counted.
    pub fn over(mut self, limits: Limits, progress: Progress) -> Self {
        (self.limits, self.progress) = (limits, progress);
        self
    }

    /// Has the cost predicted from earlier moves to the same node, newest first.
    pub fn learning_from(mut self, past: Vec<Report>) -> Self {
        self.past = past;
        self
    }

    /// What the move is going to cost, from what was measured, and what was sent ahead so far.
    fn predict(&self, seen: &Rounds) -> Option<Forecast> {
        Some(forecast::predict(&self.order.service, self.load?, &self.past, seen))
    }

    /// The destination's agent. Its name may not be known for a while; that must not keep the source frozen. It may be found
    /// elsewhere from one call to the next.
    async fn destination(&mut self) -> Result<AgentClient, StepError> {
        if let Some(known) = &self.destination
            && self.peers.stays(&self.order.to, known.resolved())
        {
            return Ok(known.clone());
        }
        let client = self.peers.client(&self.order.to, &self.order.to_address).await;
        let client = client.map_err(failed)?.with_token(self.token());
        self.destination = Some(client.clone());
        Ok(client)
    }

    /// What proves to the destination that a call is about this migration at this epoch: only this node can make it.
    fn token(&self) -> String {
        self.token_key.token(self.order.id, self.epoch)
    }

    fn seen(&self) -> Result<&Container, StepError> {
        self.seen.as_ref().ok_or_else(|| StepError::Failed("the container was not looked at".to_owned()))
    }

    fn processes(&self) -> Result<Processes, StepError> {
        let pid = self.seen()?.pid.ok_or_else(|| StepError::Failed("the service has ended".to_owned()))?;
        Processes::of(pid).map_err(|error| StepError::Failed(format!("its processes can't be read: {error}")))
    }

    fn reservation(&self) -> Result<Reservation, StepError> {
        let seen = self.seen()?;
        Ok(Reservation {
            order: self.order.clone(),
            epoch: self.epoch,
            body: serde_json::to_value(&seen.body).map_err(failed)?,
            image: seen.image.clone(),
            volumes: seen.volumes.iter().map(|volume| volume.name.clone()).collect(),
            memory: self.processes()?.resident(),
            files: self.files,
            image_size: self.image_size,
            token: self.token(),
            pod: self.pod.clone(),
        })
    }

    async fn look(&mut self) -> Result<(), StepError> {
        self.seen = Some(self.engine.inspect(&self.container).await.map_err(failed)?);
        Ok(())
    }

    async fn check(&mut self) -> Result<Bytes, StepError> {
        let findings = self.assess().await?.findings;
        if findings.is_empty() { Ok(Bytes::ZERO) } else { Err(StepError::Refused(findings)) }
    }

    /// Asks both ends what speaks against the move, all of it at once. The service is not touched.
    ///
    /// # Errors
    /// When an end can't be asked.
    pub async fn assess(&mut self) -> Result<Assessment, StepError> {
        self.look().await?;
        let seen = self.seen()?.clone();
        let mut findings = precheck::container(&seen, self.own.cgroup);
        findings.extend(precheck::pair::node(Subject::Source, &self.own));
        for volume in &seen.volumes {
            for other in self.engine.other_users_of(&volume.name, &seen.id).await.map_err(failed)? {
                let what = format!("its volume `{}` is used by container {other} too", volume.name);
                findings.push(Finding::new(Code::VolumeShared, Subject::Service, what));
            }
        }
        let Some(pid) = seen.pid else {
            return Ok(Assessment {
                findings,
                load: Load::default(),
                has_image: None,
                canary: None,
                forecast: None,
            });
        };
        findings.extend(precheck::processes::processes(
            pid,
            &self.processes()?,
            seen.body.healthcheck.as_ref(),
        ));
        findings.extend(precheck::privileges(pid));
        let folders = seen.layer.iter().chain(seen.volumes.iter().map(|volume| &volume.folder)).cloned();
        self.files = sending::size_of(folders.collect()).await?;
        self.image_size = self.engine.image_size(&seen.image).await.map_err(failed)?;
        let wanted = self.reservation()?;
        findings.extend(precheck::room::staging(Subject::Source, wanted.memory, self.own.staging_free));
        let verdict = self.destination().await?.check(&wanted, &self.own).await.map_err(failed)?;
        // Both ends judge the description.
        let new = |one: &Finding| !findings.contains(one);
        let theirs: Vec<Finding> = verdict.findings.into_iter().filter(new).collect();
        findings.extend(theirs);
        let image = if verdict.has_image { Bytes::ZERO } else { wanted.image_size };
        let crosses = self.order.memory;
        let load = Load { memory: wanted.memory, files: wanted.files, image, crosses };
        self.load = Some(load);
        self.forecast = self.predict(&Rounds::default());
        let mut canary = None;
        if let (true, Some(canaries)) = (findings.is_empty(), &self.canaries) {
            let told = canaries.prove(&self.order, &self.own, &verdict.node).await;
            if let Some(trouble) = &told.trouble {
                findings.push(Finding::new(
                    Code::Canary,
                    Subject::Pair,
                    format!("the trial failed {trouble}"),
                ));
            }
            canary = Some(told);
        }
        Ok(Assessment { findings, load, has_image: Some(verdict.has_image), canary, forecast: None })
    }

    async fn freeze(&mut self) -> Result<Bytes, StepError> {
        if self.restart.is_some() {
            // A restart policy would start a second, cold copy of a source that is killed.
            self.engine.set_restart(&self.container, None).await.map_err(failed)?;
        }
        self.traffic.about_to_freeze(&self.order.service, self.order.id).await;
        self.engine.pause(&self.container).await.map_err(failed)?;
        self.traffic.frozen(&self.order.service);
        self.frozen = self.processes()?.tree();
        Ok(Bytes::ZERO)
    }

    /// The settings that CRIU reads for a container that came here by a migration lie where no restart of the node leaves them.
    fn write_settings(&self) -> Result<(), StepError> {
        let annotations = self.seen()?.host().annotations.unwrap_or_default();
        let path = annotations.get(criu::ANNOTATION).map(Path::new);
        match path.and_then(|path| path.file_stem()?.to_str()) {
            Some(name) => criu::write_settings(name, criu::ALWAYS).map_err(failed),
            None => Ok(()),
        }
    }

    /// Dumps it. Meanwhile its files are brought to their last state, and the destination's engine is asked to make ready: it
    /// mounts the files, so none may come after that.
    async fn dump(&mut self) -> Result<Bytes, StepError> {
        private_folder(&self.image).map_err(failed)?;
        self.hash_the_image();
        let (container, image) = (self.container.clone(), self.image.clone());
        let beside = async {
            let files = self.pass(Writers::Frozen).await?;
            self.prepare().await?;
            Ok(files)
        };
        // Who thaws it waits until CRIU lets go; but where CRIU refuses, the files are not waited for.
        match select(pin!(runc::checkpoint(&container, &image)), pin!(beside)).await {
            Either::Left((dumped, beside)) => {
                dumped.map_err(failed)?;
                beside.await
            }
            Either::Right((files, dumping)) => dumping.await.map_err(failed).and(files),
        }
    }

    async fn prepare(&mut self) -> Result<(), StepError> {
        let destination = self.destination().await?;
        match tokio::time::timeout(TO_PREPARE, destination.prepare(self.order.id)).await {
            Ok(Ok(())) => {}
            // It only takes longer then.
            Ok(Err(error)) => {
                tracing::warn!(migration = %self.order.id, %error, "the destination can't make ready")
            }
            Err(_) => tracing::warn!(migration = %self.order.id, "the destination takes long to make ready"),
        }
        Ok(())
    }

    /// Compares what was restored with what was frozen.
    async fn verify(&mut self) -> Result<Bytes, StepError> {
        let destination = self.destination().await?;
        let restored = insist(|| destination.restored(self.order.id)).await?;
        let wrong =
            |what: &str| Err(StepError::Failed(format!("the restore is not what was frozen: {what}")));
        if !restored.by_restore {
            return wrong("the runtime started it cold");
        }
        if !restored.held {
            return wrong("it runs before it may");
        }
        // After a restart of this node nothing is left to compare with; what was committed had been compared.
        if !self.frozen.is_empty() && restored.tree != self.frozen {
            return wrong(&differences(&self.frozen, &restored.tree));
        }
        Ok(Bytes::ZERO)
    }
}

fn differences(frozen: &Tree, restored: &Tree) -> String {
    let mut found = Vec::new();
    for (pid, process) in frozen {
        match restored.get(pid) {
            None => found.push(format!("process {pid} ({}) is missing", process.name)),
            Some(other) if other != process => {
                found.push(format!("process {pid} ({}) is another", process.name))
            }
            Some(_) => {}
        }
    }
    for (pid, process) in restored.iter().filter(|(pid, _)| !frozen.contains_key(pid)) {
        found.push(format!("process {pid} ({}) is new", process.name));
    }
    found.join(", ")
}

impl Steps for Leaving {
    async fn enter(&mut self, phase: Phase) -> Result<Bytes, StepError> {
        match phase {
            Phase::Planned => self.look().await.map(|()| Bytes::ZERO),
            Phase::Checked => self.check().await,
            Phase::Reserved => self.reserve().await,
            Phase::Synced => self.sync().await,
            Phase::Frozen => self.freeze().await,
            Phase::Dumped => {
                self.write_settings()?;
                self.dump().await
            }
            Phase::Transferred => self.transfer(Share::Left).await,
            Phase::Restored => {
                let destination = self.destination().await?;
                insist(|| destination.restore(self.order.id)).await?;
                Ok(Bytes::ZERO)
            }
            Phase::Verified => self.verify().await,
            Phase::Committed => Ok(Bytes::ZERO),
            Phase::Released => self.release().await,
            Phase::Cleaned => self.clean().await,
        }
    }

    async fn undo(&mut self, undo: Undo) -> Result<(), StepError> {
        match undo {
            Undo::ThawSource => self.thaw().await,
            Undo::DeleteImage => self.shred_image().await,
            Undo::DiscardDestination => {
                self.destination().await?.discard(self.order.id).await.map_err(failed)?;
                self.tokens.clear();
                Ok(())
            }
        }
    }

    fn load(&self) -> Option<Load> {
        self.load
    }

    fn forecast(&self) -> Option<Forecast> {
        self.forecast
    }

    fn started_anew(&self) -> Option<String> {
        self.started_anew.clone()
    }
}
