//! The source's side of a migration: what is done in each phase, at both ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::RestartPolicy;
use sterna_policies::quantity::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::io::{ReaderStream, SyncIoBridge};

use crate::engine::criu;
use crate::engine::docker::{Container, Engine, restarts};
use crate::engine::processes::{Processes, Tree};
use crate::engine::runc;
use crate::identity::{Credentials, Sealed};
use crate::migration::certificate::{Certificate, Grounds};
use crate::migration::finding::{Code, Finding, Subject};
use crate::migration::forecast::Load;
use crate::migration::machine::{StepError, Steps};
use crate::migration::order::Order;
use crate::migration::phase::Phase;
use crate::migration::table::Undo;
use crate::transfer::stream::Writer;
use crate::transfer::tree::Sent;

use super::admission::Admission;
use super::api::{Finish, NodeFacts, Part, ReleaseAnswer, Reservation};
use super::arrival::{private_folder, remove_folder};
use super::assessment::Assessment;
use super::canary::Canaries;
use super::client::{AgentClient, ClientError};
use super::precheck;
use super::store::Departure;

/// Passes over files while the service runs, at most.
const PASSES: u32 = 4;
/// A pass that sent less than this is small enough: the rest goes while frozen.
const SMALL: Bytes = Bytes::from_mib(4);
/// What is buffered between reading files and the link.
const PIPE: usize = 4 << 20;

/// Pause between two tries where the destination has no room or something is waited for.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest wait for CRIU to let go of the processes before that is told as a failure, and tried again.
const LET_GO: Duration = Duration::from_secs(5);

/// The steps of one departure.
pub struct Leaving {
    engine: Engine,
    credentials: Credentials,
    admission: Admission,
    /// Held from the reservation to the end.
    tokens: Vec<OwnedSemaphorePermit>,
    destination: Option<AgentClient>,
    order: Order,
    container: String,
    epoch: u64,
    restart: Option<RestartPolicy>,
    own: NodeFacts,
    image: PathBuf,
    /// Filled by the check.
    seen: Option<Container>,
    trees: Vec<(Part, PathBuf, Sent)>,
    /// Filled when frozen.
    frozen: Tree,
    started_anew: Option<String>,
    canaries: Option<Canaries>,
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
        departure: &Departure,
        own: NodeFacts,
        staging: &Path,
    ) -> Self {
        Self {
            engine,
            credentials,
            admission,
            tokens: Vec::new(),
            destination: None,
            container: departure.container.clone(),
            epoch: departure.epoch,
            restart: departure.restart.as_deref().and_then(|text| serde_json::from_str(text).ok()),
            own,
            image: staging.join(format!("out-{}", departure.order.id)),
            order: departure.order.clone(),
            seen: None,
            trees: Vec::new(),
            frozen: Tree::new(),
            started_anew: None,
            canaries: None,
        }
    }

    /// Has a canary go first, where none went there yet.
    pub fn after_a_canary(mut self, canaries: Canaries) -> Self {
        self.canaries = Some(canaries);
        self
    }

    /// The destination's agent. Its name may not be known for a while; that must not keep the source frozen.
    async fn destination(&mut self) -> Result<AgentClient, StepError> {
        if let Some(known) = &self.destination {
            return Ok(known.clone());
        }
        let client = AgentClient::new(&self.credentials, &self.order.to, &self.order.to_address).await;
        let client = client.map_err(failed)?.with_token(self.token());
        self.destination = Some(client.clone());
        Ok(client)
    }

    /// What proves to the destination that a call is about this migration at this epoch: only this node can make it.
    fn token(&self) -> String {
        self.credentials.derive("sterna migration token 1", &format!("{} {}", self.order.id, self.epoch))
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
            files: Bytes::ZERO,
            image_size: Bytes::ZERO,
            token: self.token(),
        })
    }

    async fn certificate(&mut self) -> Result<Sealed, StepError> {
        if self.seen.is_none() {
            self.look().await?;
        }
        certificate(&self.credentials, &self.order, self.epoch, &self.seen()?.image).map_err(failed)
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
        let mut wanted = self.reservation()?;
        let folders = seen.layer.iter().chain(seen.volumes.iter().map(|volume| &volume.folder)).cloned();
        wanted.files = size_of(folders.collect()).await?;
        wanted.image_size = self.engine.image_size(&seen.image).await.map_err(failed)?;
        findings.extend(precheck::room::staging(Subject::Source, wanted.memory, self.own.staging_free));
        let verdict = self.destination().await?.check(&wanted, &self.own).await.map_err(failed)?;
        // Both ends judge the description.
        let new = |one: &Finding| !findings.contains(one);
        let theirs: Vec<Finding> = verdict.findings.into_iter().filter(new).collect();
        findings.extend(theirs);
        let image = if verdict.has_image { Bytes::ZERO } else { wanted.image_size };
        let load = Load { memory: wanted.memory, files: wanted.files, image };
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

    async fn reserve(&mut self) -> Result<Bytes, StepError> {
        self.tokens = self.admission.admit(&self.order.to).await;
        let reservation = self.reservation()?;
        let destination = self.destination().await?;
        let mut sent = Bytes::ZERO;
        if destination.image_digest(&reservation.image).await.map_err(failed)?.is_none() {
            sent = self.send_image(&destination, &reservation).await?;
        }
        // The deadline ends the waiting.
        while let Err(error) = destination.reserve(&reservation).await {
            if !matches!(error, ClientError::Busy { .. }) {
                return Err(failed(error));
            }
            tracing::debug!(migration = %self.order.id, %error, "waiting for a turn");
            tokio::time::sleep(PAUSE).await;
        }
        self.list_trees()?;
        Ok(sent)
    }

    /// The trees that go with the service, nothing of them sent yet.
    fn list_trees(&mut self) -> Result<(), StepError> {
        let seen = self.seen()?;
        let mut trees: Vec<(Part, PathBuf, Sent)> =
            seen.layer.iter().map(|layer| (Part::Layer, layer.clone(), Sent::default())).collect();
        for volume in &seen.volumes {
            trees.push((Part::Volume(volume.name.clone()), volume.folder.clone(), Sent::default()));
        }
        self.trees = trees;
        Ok(())
    }

    async fn send_image(
        &self,
        destination: &AgentClient,
        reservation: &Reservation,
    ) -> Result<Bytes, StepError> {
        use futures_util::StreamExt as _;
        use std::sync::atomic::{AtomicU64, Ordering};
        let name = self.seen()?.body.image.clone().unwrap_or_default();
        // By its name where that still means this image, so that the name arrives too.
        let digest = self.engine.image_digest(&name).await.map_err(failed)?;
        let image =
            if digest.as_ref() == Some(&reservation.image) { name } else { reservation.image.clone() };
        let count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&count);
        let stream = self.engine.save_image(&image).inspect(move |piece| {
            counter.fetch_add(piece.as_ref().map_or(0, |piece| piece.len() as u64), Ordering::Relaxed);
        });
        destination.load_image(stream).await.map_err(failed)?;
        Ok(Bytes(count.load(Ordering::Relaxed)))
    }

    /// One pass over every tree; returns what crossed the link.
    async fn pass(&mut self) -> Result<Bytes, StepError> {
        let destination = self.destination().await?;
        let mut total = 0;
        for at in 0..self.trees.len() {
            let (part, root, sent) = &mut self.trees[at];
            let (part, root, mut tracker) = (part.clone(), root.clone(), std::mem::take(sent));
            let (bytes, tracker) = send(&destination, self.order.id, part, move |writer| {
                let pass = tracker.pass(&root)?;
                if !pass.entries.is_empty() || !pass.removed.is_empty() {
                    writer.pass(&root, &pass)?;
                }
                Ok(tracker)
            })
            .await?;
            self.trees[at].2 = tracker;
            total += bytes.0;
        }
        Ok(Bytes(total))
    }

    async fn sync(&mut self) -> Result<Bytes, StepError> {
        let mut total = 0;
        for _ in 0..PASSES {
            let sent = self.pass().await?;
            total += sent.0;
            if sent < SMALL {
                break;
            }
        }
        Ok(Bytes(total))
    }

    async fn freeze(&mut self) -> Result<Bytes, StepError> {
        if self.restart.is_some() {
            // A restart policy would start a second, cold copy of a source that is killed.
            self.engine.set_restart(&self.container, None).await.map_err(failed)?;
        }
        self.engine.pause(&self.container).await.map_err(failed)?;
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

    async fn transfer(&mut self) -> Result<Bytes, StepError> {
        let image = self.image.clone();
        let client = self.destination().await?;
        let id = self.order.id;
        let memory = send(&client, id, Part::Memory, move |writer| {
            let pass = Sent::default().pass(&image)?;
            writer.pass(&image, &pass)
        });
        let (memory, files) = tokio::join!(memory, self.pass());
        Ok(Bytes(memory?.0.0 + files?.0))
    }

    /// Compares what was restored with what was frozen.
    async fn verify(&mut self) -> Result<Bytes, StepError> {
        let restored = self.destination().await?.restored(self.order.id).await.map_err(failed)?;
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

    /// Lets the destination run the service, and brings it there once more where the destination lost what it held.
    async fn release(&mut self) -> Result<Bytes, StepError> {
        let certificate = self.certificate().await?;
        let destination = self.destination().await?;
        let id = self.order.id;
        if destination.release(id, &certificate).await.map_err(failed)? == ReleaseAnswer::Runs {
            return Ok(Bytes::ZERO);
        }
        tracing::warn!(migration = %id, "the destination lost what it held; sending it again");
        self.look().await?;
        self.list_trees()?;
        if !self.image.join("inventory.img").exists() {
            // Both nodes went down: files are all that is left, and they are as the service left them.
            let bytes = self.pass().await?;
            destination.start_anew(id, &certificate).await.map_err(failed)?;
            let why = "both nodes lost its memory before it ran at the destination";
            self.started_anew = Some(why.to_owned());
            return Ok(bytes);
        }
        self.frozen = self.processes().map(|processes| processes.tree()).unwrap_or_default();
        let bytes = self.transfer().await?;
        destination.restore(id).await.map_err(failed)?;
        self.verify().await?;
        match destination.release(id, &certificate).await.map_err(failed)? {
            ReleaseAnswer::Runs => Ok(bytes),
            ReleaseAnswer::Lost => Err(StepError::Failed("the destination lost it again".to_owned())),
        }
    }

    async fn clean(&mut self) -> Result<Bytes, StepError> {
        if self.seen.is_none() && self.look().await.is_err() {
            tracing::debug!(migration = %self.order.id, "the source container is gone already");
        }
        // First the destination: it makes durable what is removed here.
        let restart = self.restart.as_ref().map(serde_json::to_value).transpose().map_err(failed)?;
        self.destination().await?.finish(self.order.id, &Finish { restart }).await.map_err(failed)?;
        let volumes = self.seen.as_ref().map(|seen| seen.volumes.clone()).unwrap_or_default();
        self.engine.remove(&self.container).await.map_err(failed)?;
        for volume in volumes {
            if let Err(error) = self.engine.remove_volume(&volume.name).await {
                tracing::warn!(volume = volume.name, %error, "a volume that moved stays behind at the source");
            }
        }
        remove_folder(&self.image).map_err(failed)?;
        Ok(Bytes::ZERO)
    }

    /// Lets the source go on, and starts it anew where its node went down meanwhile.
    async fn thaw(&mut self) -> Result<(), StepError> {
        if !self.engine.has_container(&self.container).await.map_err(failed)? {
            // Somebody removed it, and waiting for it would never end.
            self.started_anew = Some("its container was removed meanwhile".to_owned());
            return Ok(());
        }
        self.look().await?;
        // While CRIU is at work in the processes they must stay frozen: thawed now, they would run its code.
        let waited = tokio::time::Instant::now();
        while self.processes().is_ok_and(|processes| processes.traced()) {
            if waited.elapsed() > LET_GO {
                return Err(StepError::Failed("CRIU still holds the processes".to_owned()));
            }
            tokio::time::sleep(PAUSE / 10).await;
        }
        self.engine.unpause(&self.container).await.map_err(failed)?;
        if let Some(policy) = &self.restart {
            self.engine.set_restart(&self.container, Some(policy.clone())).await.map_err(failed)?;
        }
        if self.engine.inspect(&self.container).await.map_err(failed)?.pid.is_none() {
            let down = "its processes were lost with its node";
            if restarts(self.restart.as_ref()) {
                self.engine.start(&self.container).await.map_err(failed)?;
                self.started_anew = Some(down.to_owned());
            } else {
                let why = format!("{down}, and its restart policy leaves it down");
                self.started_anew = Some(why);
            }
        }
        Ok(())
    }
}

/// The certificate that a source's agent issues with the commit.
///
/// # Errors
/// When its key is unusable.
pub(super) fn certificate(
    credentials: &Credentials,
    order: &Order,
    epoch: u64,
    image: &str,
) -> Result<Sealed, crate::identity::IdentityError> {
    credentials.seal(&Certificate::due(order, epoch, image, Grounds::Commit))
}

/// What the files of some folders take on the disk.
async fn size_of(folders: Vec<PathBuf>) -> Result<Bytes, StepError> {
    use std::os::unix::fs::MetadataExt as _;
    let measure = move || {
        let mut total = 0;
        let mut left = folders;
        while let Some(folder) = left.pop() {
            // The service runs: what is gone a moment later counts for nothing.
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(seen) = entry.metadata() else { continue };
                total += seen.blocks() * 512;
                if seen.is_dir() {
                    left.push(entry.path());
                }
            }
        }
        Bytes(total)
    };
    tokio::task::spawn_blocking(measure).await.map_err(failed)
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

/// Streams what `write` writes to the destination, without holding it in memory.
async fn send<T: Send + 'static>(
    destination: &AgentClient,
    id: crate::migration::order::MigrationId,
    part: Part,
    write: impl FnOnce(
        &mut Writer<std::io::BufWriter<SyncIoBridge<tokio::io::DuplexStream>>>,
    ) -> std::io::Result<T>
    + Send
    + 'static,
) -> Result<(Bytes, T), StepError> {
    let (near, far) = tokio::io::duplex(PIPE);
    let near = SyncIoBridge::new(near);
    let writing = tokio::task::spawn_blocking(move || {
        let mut writer = Writer::new(std::io::BufWriter::with_capacity(1 << 20, near));
        let value = write(&mut writer)?;
        Ok::<_, std::io::Error>((writer.end()?, value))
    });
    let stream = crate::fault::spoil(&part, ReaderStream::with_capacity(far, 1 << 18));
    let sending = destination.send_part(id, &part, stream);
    let (written, sent) = tokio::join!(writing, sending);
    let written = written.map_err(failed)?;
    match (written, sent) {
        (Ok(done), Ok(())) => Ok(done),
        // A reader that went away breaks the writer's pipe: then the reader's reason is the cause.
        (Err(error), _) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(StepError::Failed(format!("reading {}: {error}", part.path())))
        }
        (_, Err(error)) => Err(failed(error)),
        (Err(error), Ok(())) => Err(StepError::Failed(format!("sending {}: {error}", part.path()))),
    }
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
                private_folder(&self.image).map_err(failed)?;
                runc::checkpoint(&self.container, &self.image).await.map_err(failed)?;
                Ok(Bytes::ZERO)
            }
            Phase::Transferred => self.transfer().await,
            Phase::Restored => {
                self.destination().await?.restore(self.order.id).await.map_err(failed)?;
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
            Undo::DeleteImage => remove_folder(&self.image).map_err(failed),
            Undo::DiscardDestination => {
                self.destination().await?.discard(self.order.id).await.map_err(failed)?;
                self.tokens.clear();
                Ok(())
            }
        }
    }

    fn started_anew(&self) -> Option<String> {
        self.started_anew.clone()
    }
}
