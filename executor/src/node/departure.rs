//! The source's side of a migration: what is done in each phase, at both ends.

use std::path::{Path, PathBuf};

use bollard::models::RestartPolicy;
use sterna_policies::quantity::Bytes;
use tokio_util::io::{ReaderStream, SyncIoBridge};

use crate::engine::docker::{Container, Engine};
use crate::engine::processes::{Processes, Tree};
use crate::engine::runc;
use crate::migration::machine::{StepError, Steps};
use crate::migration::order::Order;
use crate::migration::phase::Phase;
use crate::migration::table::Undo;
use crate::transfer::stream::Writer;
use crate::transfer::tree::Sent;

use super::api::{Certificate, Finish, NodeFacts, Part, Reservation};
use super::arrival::{private_folder, remove_folder};
use super::client::AgentClient;
use super::precheck;
use super::store::Departure;

/// Passes over files while the service runs, at most.
const PASSES: u32 = 4;
/// A pass that sent less than this is small enough: the rest goes while frozen.
const SMALL: Bytes = Bytes::from_mib(4);
/// What is buffered between reading files and the link.
const PIPE: usize = 4 << 20;

/// The steps of one departure.
pub struct Leaving {
    engine: Engine,
    destination: AgentClient,
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
}

fn failed(error: impl std::error::Error) -> StepError {
    StepError::from_error(&error)
}

impl Leaving {
    /// Prepares the steps of a departure that is in the register.
    pub fn new(
        engine: Engine,
        destination: AgentClient,
        departure: &Departure,
        own: NodeFacts,
        staging: &Path,
    ) -> Self {
        Self {
            engine,
            destination,
            container: departure.container.clone(),
            epoch: departure.epoch,
            restart: departure.restart.as_deref().and_then(|text| serde_json::from_str(text).ok()),
            own,
            image: staging.join(format!("out-{}", departure.order.id)),
            order: departure.order.clone(),
            seen: None,
            trees: Vec::new(),
            frozen: Tree::new(),
        }
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
        })
    }

    fn certificate(&self) -> Result<Certificate, StepError> {
        Ok(Certificate {
            migration: self.order.id,
            service: self.order.service.clone(),
            epoch: self.epoch + 1,
            destination: self.order.to.clone(),
            image: self.seen()?.image.clone(),
        })
    }

    async fn look(&mut self) -> Result<(), StepError> {
        self.seen = Some(self.engine.inspect(&self.container).await.map_err(failed)?);
        Ok(())
    }

    async fn check(&mut self) -> Result<Bytes, StepError> {
        self.look().await?;
        let mut own = precheck::container(self.seen()?);
        if own.is_empty() {
            own.extend(self.processes()?.using_io_uring().iter().map(|name| {
                format!(
                    "its process `{name}` uses io_uring, which CRIU can't carry over; turn that off in it"
                )
            }));
        }
        if !own.is_empty() {
            return Err(StepError::Refused(own));
        }
        let reservation = self.reservation()?;
        let verdict = self.destination.check(&reservation, &self.own).await.map_err(failed)?;
        let mut reasons = verdict.reasons;
        reasons.extend(precheck::room(reservation.memory, self.own.staging_free));
        if reasons.is_empty() { Ok(Bytes::ZERO) } else { Err(StepError::Refused(reasons)) }
    }

    async fn reserve(&mut self) -> Result<Bytes, StepError> {
        let reservation = self.reservation()?;
        let mut sent = Bytes::ZERO;
        if self.destination.image_digest(&reservation.image).await.map_err(failed)?.is_none() {
            sent = self.send_image(&reservation).await?;
        }
        self.destination.reserve(&reservation).await.map_err(failed)?;
        let seen = self.seen()?;
        let mut trees: Vec<(Part, PathBuf, Sent)> =
            seen.layer.iter().map(|layer| (Part::Layer, layer.clone(), Sent::default())).collect();
        for volume in &seen.volumes {
            trees.push((Part::Volume(volume.name.clone()), volume.folder.clone(), Sent::default()));
        }
        self.trees = trees;
        Ok(sent)
    }

    async fn send_image(&self, reservation: &Reservation) -> Result<Bytes, StepError> {
        use futures_util::StreamExt as _;
        use std::sync::Arc;
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
        self.destination.load_image(stream).await.map_err(failed)?;
        Ok(Bytes(count.load(Ordering::Relaxed)))
    }

    /// One pass over every tree; returns what crossed the link.
    async fn pass(&mut self) -> Result<Bytes, StepError> {
        let mut total = 0;
        for at in 0..self.trees.len() {
            let (part, root, sent) = &mut self.trees[at];
            let (part, root, mut tracker) = (part.clone(), root.clone(), std::mem::take(sent));
            let (bytes, tracker) = send(&self.destination, self.order.id, part, move |writer| {
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
        private_folder(&self.image).map_err(failed)?;
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

    async fn transfer(&mut self) -> Result<Bytes, StepError> {
        let image = self.image.clone();
        let client = self.destination.clone();
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
        let restored = self.destination.restored(self.order.id).await.map_err(failed)?;
        let wrong =
            |what: &str| Err(StepError::Failed(format!("the restore is not what was frozen: {what}")));
        if !restored.by_restore {
            return wrong("the runtime started it cold");
        }
        if !restored.held {
            return wrong("it runs before it may");
        }
        if restored.tree != self.frozen {
            return wrong(&differences(&self.frozen, &restored.tree));
        }
        Ok(Bytes::ZERO)
    }

    async fn clean(&mut self) -> Result<Bytes, StepError> {
        if self.seen.is_none() && self.look().await.is_err() {
            tracing::debug!(migration = %self.order.id, "the source container is gone already");
        }
        let volumes = self.seen.as_ref().map(|seen| seen.volumes.clone()).unwrap_or_default();
        self.engine.remove(&self.container).await.map_err(failed)?;
        for volume in volumes {
            if let Err(error) = self.engine.remove_volume(&volume.name).await {
                tracing::warn!(volume = volume.name, %error, "a volume that moved stays behind at the source");
            }
        }
        remove_folder(&self.image).map_err(failed)?;
        let restart = self.restart.as_ref().map(serde_json::to_value).transpose().map_err(failed)?;
        self.destination.finish(self.order.id, &Finish { restart }).await.map_err(failed)?;
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
    let sending = destination.send_part(id, &part, ReaderStream::with_capacity(far, 1 << 18));
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
                runc::checkpoint(&self.container, &self.image).await.map_err(failed)?;
                Ok(Bytes::ZERO)
            }
            Phase::Transferred => self.transfer().await,
            Phase::Restored => {
                self.destination.restore(self.order.id).await.map_err(failed)?;
                Ok(Bytes::ZERO)
            }
            Phase::Verified => self.verify().await,
            Phase::Committed => Ok(Bytes::ZERO),
            Phase::Released => {
                if self.seen.is_none() {
                    self.look().await?;
                }
                let certificate = self.certificate()?;
                self.destination.release(self.order.id, &certificate).await.map_err(failed)?;
                Ok(Bytes::ZERO)
            }
            Phase::Cleaned => self.clean().await,
        }
    }

    async fn undo(&mut self, undo: Undo) -> Result<(), StepError> {
        match undo {
            Undo::ThawSource => {
                self.engine.unpause(&self.container).await.map_err(failed)?;
                match &self.restart {
                    Some(policy) => {
                        self.engine.set_restart(&self.container, Some(policy.clone())).await.map_err(failed)
                    }
                    None => Ok(()),
                }
            }
            Undo::DeleteImage => remove_folder(&self.image).map_err(failed),
            Undo::DiscardDestination => self.destination.discard(self.order.id).await.map_err(failed),
        }
    }
}
