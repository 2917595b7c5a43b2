//! What crosses the link: the image, the writable layer and volumes while the service runs and once more while it stands frozen,
//! and its memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt as _;
use sterna_policies::quantity::Bytes;
use tokio_util::io::{ReaderStream, SyncIoBridge};

use crate::migration::machine::StepError;
use crate::migration::order::MigrationId;
use crate::node::api::{Part, Reservation};
use crate::node::client::{AgentClient, ClientError};
use crate::transfer::stream::Writer;
use crate::transfer::tree::{Sent, Writers};

use super::{Leaving, PAUSE, failed};

/// Passes over files while the service runs, at most.
const PASSES: u32 = 4;
/// A pass that sent less than this is small enough: the rest goes while frozen.
const SMALL: Bytes = Bytes::from_mib(4);
/// What is buffered between reading files and the link.
const PIPE: usize = 4 << 20;

impl Leaving {
    pub(super) async fn reserve(&mut self) -> Result<Bytes, StepError> {
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
    pub(super) fn list_trees(&mut self) -> Result<(), StepError> {
        let seen = self.seen()?;
        let mut trees: Vec<(Part, PathBuf, Sent)> =
            seen.layer.iter().map(|layer| (Part::Layer, layer.clone(), Sent::default())).collect();
        for volume in &seen.volumes {
            trees.push((Part::Volume(volume.name.clone()), volume.folder.clone(), Sent::default()));
        }
        self.trees = trees;
        Ok(())
    }

    pub(super) async fn send_image(
        &self,
        destination: &AgentClient,
        reservation: &Reservation,
    ) -> Result<Bytes, StepError> {
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

    /// One pass over every tree; returns what crossed the link. The pass over a frozen service ends with the manifest, which
    /// the destination compares with what it has.
    pub(super) async fn pass(&mut self, writers: Writers) -> Result<Bytes, StepError> {
        let destination = self.destination().await?;
        let mut total = 0;
        for at in 0..self.trees.len() {
            let (part, root, sent) = &mut self.trees[at];
            let (part, root, mut tracker) = (part.clone(), root.clone(), std::mem::take(sent));
            let (bytes, tracker) = send(&destination, self.order.id, part, move |writer| {
                let pass = tracker.pass(&root, writers)?;
                tracker.note(writer.pass(&root, &pass)?);
                if writers == Writers::Frozen {
                    writer.manifest(tracker.manifest())?;
                }
                Ok(tracker)
            })
            .await?;
            self.trees[at].2 = tracker;
            total += bytes.0;
        }
        Ok(Bytes(total))
    }

    pub(super) async fn sync(&mut self) -> Result<Bytes, StepError> {
        let mut total = 0;
        for _ in 0..PASSES {
            let maps = self.processes()?.map_files_for_writing();
            let sent = self.pass(if maps { Writers::Mapping } else { Writers::Running }).await?;
            total += sent.0;
            if sent < SMALL {
                break;
            }
        }
        Ok(Bytes(total))
    }

    pub(super) async fn transfer(&mut self) -> Result<Bytes, StepError> {
        let image = self.image.clone();
        let client = self.destination().await?;
        let id = self.order.id;
        let memory = send(&client, id, Part::Memory, move |writer| {
            let mut sent = Sent::default();
            let pass = sent.pass(&image, Writers::Frozen)?;
            sent.note(writer.pass(&image, &pass)?);
            writer.manifest(sent.manifest())
        });
        let (memory, files) = tokio::join!(memory, self.pass(Writers::Frozen));
        Ok(Bytes(memory?.0.0 + files?.0))
    }
}

/// Streams what `write` writes to the destination, without holding it in memory.
async fn send<T: Send + 'static>(
    destination: &AgentClient,
    id: MigrationId,
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

/// What the files of some folders take on the disk.
pub(super) async fn size_of(folders: Vec<PathBuf>) -> Result<Bytes, StepError> {
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
