//! What crosses the link: the image, the writable layer and volumes while the service runs and once more while it stands frozen,
//! and its memory.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::StreamExt as _;
use sterna_policies::quantity::{Bytes, Millis};

use crate::migration::convergence::{Next, Round, Rounds};
use crate::migration::machine::StepError;
use crate::node::api::{Part, Reservation};
use crate::node::client::AgentClient;
use crate::transfer::manifest::Digest;
use crate::transfer::tree::{Pass, Sent, Writers};
use crate::transfer::written::Written;

use super::link::{Link, Payload, Wire, insist};
use super::memory::Share;
use super::{Leaving, failed};

/// A tree, and what of it was sent.
#[derive(Debug, Default)]
pub(super) struct Tree {
    root: PathBuf,
    sent: Sent,
    writers: Option<Writers>,
    /// The pass under way.
    pass: Pass,
    written: Written,
}

impl Tree {
    /// Nothing of it sent yet.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, ..Self::default() }
    }
}

impl Payload for Tree {
    fn write(&mut self, mut writer: Wire) -> io::Result<()> {
        let writers = self.writers.unwrap_or(Writers::Running);
        self.written = Written::default();
        self.pass = self.sent.pass(&self.root, writers)?;
        writer.pass(&self.root, &self.pass, self.sent.there(), &mut self.written)?;
        self.sent.note(&self.pass, &self.written);
        if writers == Writers::Frozen {
            writer.manifest(self.sent.manifest(), &mut self.written)?;
        }
        writer.end().map(drop)
    }

    fn arrived(&mut self) {
        self.sent.arrived(&self.pass, &self.written);
    }

    fn broke(&mut self, there: Option<&Digest>) {
        self.sent.broke(&self.pass, &self.written, there);
    }
}

impl Leaving {
    pub(super) async fn reserve(&mut self) -> Result<Bytes, StepError> {
        self.tokens = self.admission.admit(&self.order.to).await;
        let reservation = self.reservation()?;
        let destination = self.destination().await?;
        let mut sent = Bytes::ZERO;
        if insist(|| destination.image_digest(&reservation.image)).await?.is_none() {
            sent = self.send_image(&destination, &reservation).await?;
        }
        // Also while it has no room. The deadline ends the waiting.
        insist(|| destination.reserve(&reservation)).await?;
        self.list_trees()?;
        Ok(sent)
    }

    /// The trees that go with the service, nothing of them sent yet.
    pub(super) fn list_trees(&mut self) -> Result<(), StepError> {
        let seen = self.seen()?;
        let mut trees: Vec<(Part, Tree)> =
            seen.layer.iter().map(|layer| (Part::Layer, Tree::new(layer.clone()))).collect();
        for volume in &seen.volumes {
            trees.push((Part::Volume(volume.name.clone()), Tree::new(volume.folder.clone())));
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
        self.progress.begin(Some(reservation.image_size));
        let link = self.link(destination);
        insist(|| {
            let counter = Arc::clone(&counter);
            let stream = self.engine.save_image(&image).inspect(move |piece| {
                counter.fetch_add(piece.as_ref().map_or(0, |piece| piece.len() as u64), Ordering::Relaxed);
            });
            // What is left of the deadline is less, and ends the call.
            destination.load_image(link.paced(stream), self.order.deadline.to_duration())
        })
        .await?;
        Ok(Bytes(count.load(Ordering::Relaxed)))
    }

    /// One pass over every tree; returns what crossed the link. The pass over a frozen service ends with the manifest, which
    /// the destination compares with what it has.
    pub(super) async fn pass(&mut self, writers: Writers) -> Result<Bytes, StepError> {
        let destination = self.destination().await?;
        let mut total = 0;
        for at in 0..self.trees.len() {
            let (part, tree) = &mut self.trees[at];
            let (part, mut tree) = (part.clone(), std::mem::take(tree));
            tree.writers = Some(writers);
            let (bytes, tree) = self.link(&destination).carry(part, tree).await?;
            self.trees[at].1 = tree;
            total += bytes.0;
        }
        Ok(Bytes(total))
    }

    pub(super) fn link(&self, destination: &AgentClient) -> Link {
        Link::new(destination.clone(), self.order.id, self.limits.clone(), self.progress.clone())
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

    /// Sends the memory of the service that stands frozen: what was not sent ahead, or all of it.
    pub(super) async fn transfer(&mut self, share: Share) -> Result<Bytes, StepError> {
        let image = match share {
            Share::Left => self.left().await?,
            Share::Whole => self.image.clone(),
        };
        let destination = self.destination().await?;
        let link = self.link(&destination);
        self.progress.begin(None);
        let image = Tree { writers: Some(Writers::Frozen), ..Tree::new(image) };
        Ok(link.carry(Part::Memory, image).await?.0)
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
