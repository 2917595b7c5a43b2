//! What crosses the link: the image, the writable layer and volumes while the service runs and once more while it stands frozen,
//! and its memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes as Data;
use futures_util::{Stream, StreamExt as _};
use sterna_policies::quantity::{Bytes, Millis};
use tokio_util::io::{ReaderStream, SyncIoBridge};

use crate::migration::convergence::{Next, Round, Rounds};
use crate::migration::machine::StepError;
use crate::migration::order::MigrationId;
use crate::node::api::{Part, Reservation};
use crate::node::bandwidth::Limits;
use crate::node::client::{AgentClient, ClientError};
use crate::node::progress::Progress;
use crate::transfer::stream::Writer;
use crate::transfer::tree::{Sent, Writers};

use super::memory::Share;
use super::{Leaving, PAUSE, failed};

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
        self.progress.begin(Some(reservation.image_size));
        let stream = self.link(destination).paced(stream);
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
            let (bytes, tracker) = self
                .link(&destination)
                .send(part, move |mut writer| {
                    let pass = tracker.pass(&root, writers)?;
                    tracker.note(writer.pass(&root, &pass)?);
                    if writers == Writers::Frozen {
                        writer.manifest(tracker.manifest())?;
                    }
                    Ok((writer.end()?.0, tracker))
                })
                .await?;
            self.trees[at].2 = tracker;
            total += bytes.0;
        }
        Ok(Bytes(total))
    }

    pub(super) fn link(&self, destination: &AgentClient) -> Link {
        Link {
            destination: destination.clone(),
            id: self.order.id,
            limits: self.limits.clone(),
            progress: self.progress.clone(),
        }
    }

    /// Sends files and memory while the service runs, until what changes meanwhile does not become less.
    pub(super) async fn sync(&mut self) -> Result<Bytes, StepError> {
        let mut total = 0;
        let mut rounds = Rounds::default();
        self.progress.begin(self.load.map(|load| {
            let memory = if self.ahead.is_some() { load.memory } else { Bytes::ZERO };
            Bytes(load.files.0 + memory.0)
        }));
        loop {
            let began = Instant::now();
            let maps = self.processes()?.map_files_for_writing();
            let files = self.pass(if maps { Writers::Mapping } else { Writers::Running }).await?;
            let memory = self.send_ahead().await?;
            total += files.0 + memory.0;
            let sent = Bytes(files.0 + memory.0);
            let next = rounds.after(Round { sent, took: Millis::from_duration(began.elapsed()) });
            tracing::debug!(migration = %self.order.id, %files, %memory, ?next, "a round was sent ahead");
            if next != Next::Another {
                self.log_looks();
                self.is_worth_it(&rounds, next)?;
                return Ok(Bytes(total));
            }
        }
    }

    /// Refuses to freeze a service that would stand still for too long.
    fn is_worth_it(&self, rounds: &Rounds, why: Next) -> Result<(), StepError> {
        let (Some(most), Some(forecast)) = (self.order.max_downtime, self.predict(rounds)) else {
            return Ok(());
        };
        let downtime = forecast.cost.downtime;
        if downtime <= most {
            return Ok(());
        }
        let left = rounds.left().unwrap_or_default();
        let rate =
            rounds.rate().map_or_else(String::new, |rate| format!(" at {}/s", Bytes((rate * 1e3) as u64)));
        let reason = match why {
            Next::Stalled => format!("it writes as fast as the link carries ({left} were left again{rate})"),
            _ => format!("{left} are left{rate}"),
        };
        Err(StepError::Failed(format!(
            "it would stand still for about {downtime}, and {most} are allowed: {reason}"
        )))
    }

    /// Sends what is left when the service stands frozen: of its memory what was not sent ahead, or all of it.
    pub(super) async fn transfer(&mut self, share: Share) -> Result<Bytes, StepError> {
        let image = match share {
            Share::Left => self.left().await?,
            Share::Whole => self.image.clone(),
        };
        let destination = self.destination().await?;
        let link = self.link(&destination);
        self.progress.begin(None);
        let memory = link.send(Part::Memory, move |mut writer| {
            let mut sent = Sent::default();
            let pass = sent.pass(&image, Writers::Frozen)?;
            sent.note(writer.pass(&image, &pass)?);
            writer.manifest(sent.manifest())?;
            Ok((writer.end()?.0, ()))
        });
        let (memory, files) = tokio::join!(memory, self.pass(Writers::Frozen));
        Ok(Bytes(memory?.0.0 + files?.0))
    }
}

/// What a stream is written to.
pub(super) type Wire = Writer<std::io::BufWriter<SyncIoBridge<tokio::io::DuplexStream>>>;

/// The way to the destination, for one migration.
pub(super) struct Link {
    destination: AgentClient,
    id: MigrationId,
    limits: Limits,
    progress: Progress,
}

impl Link {
    /// Streams what `write` writes to the destination, without holding it in memory.
    pub(super) async fn send<T: Send + 'static>(
        &self,
        part: Part,
        write: impl FnOnce(Wire) -> std::io::Result<(Bytes, T)> + Send + 'static,
    ) -> Result<(Bytes, T), StepError> {
        let (near, far) = tokio::io::duplex(PIPE);
        let near = SyncIoBridge::new(near);
        let writing = tokio::task::spawn_blocking(move || {
            write(Writer::new(std::io::BufWriter::with_capacity(1 << 20, near)))
        });
        let stream = crate::fault::spoil(&part, self.paced(ReaderStream::with_capacity(far, 1 << 18)));
        let sending = self.destination.send_part(self.id, &part, stream);
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

    /// A stream that keeps to the limits and is counted.
    fn paced<E: Send + 'static>(
        &self,
        stream: impl Stream<Item = Result<Data, E>> + Send + 'static,
    ) -> impl Stream<Item = Result<Data, E>> + Send + 'static {
        let (limits, progress) = (self.limits.clone(), self.progress.clone());
        stream.then(move |piece| {
            let (limits, progress) = (limits.clone(), progress.clone());
            async move {
                if let Ok(piece) = &piece {
                    limits.pass(piece.len()).await;
                    progress.count(piece.len());
                }
                piece
            }
        })
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
