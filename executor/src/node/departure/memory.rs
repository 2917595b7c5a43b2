//! The service's memory: sent ahead while it runs, and what is left of it when it stands frozen.

use std::io;
use std::path::PathBuf;

use sterna_policies::quantity::Bytes;

use crate::engine::memory;
use crate::engine::processes::Pid;
use crate::migration::machine::StepError;
use crate::node::api::Part;
use crate::node::staging::{private_folder, shred};
use crate::transfer::ahead::Ahead;
use crate::transfer::delta;
use crate::transfer::hashing::Hashing;
use crate::transfer::manifest::Digest;

use super::link::{Payload, Wire};
use super::{Leaving, failed};

/// How much of the memory is sent while the service stands frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// What was not sent ahead.
    Left,
    /// All of it.
    Whole,
}

/// What processes hold, for one round.
struct Memory {
    ahead: Ahead,
    processes: Vec<Pid>,
}

impl Payload for Memory {
    fn write(&mut self, writer: Wire) -> io::Result<()> {
        self.ahead.round(&self.processes, writer)
    }

    fn arrived(&mut self) {
        self.ahead.arrived();
    }

    fn broke(&mut self, there: Option<&Digest>) {
        self.ahead.broke(there);
    }
}

impl Leaving {
    /// Sends the pages that changed since the round before. Where that fails all of the memory follows when the service stands
    /// frozen: it may take longer, but nothing is lost by it.
    pub(super) async fn send_ahead(&mut self) -> Result<Bytes, StepError> {
        let Some(ahead) = self.ahead.take() else { return Ok(Bytes::ZERO) };
        if !memory::pages_are_known() {
            return Ok(Bytes::ZERO);
        }
        let round = Memory { ahead, processes: self.processes()?.pids().collect() };
        let destination = self.destination().await?;
        match self.link(&destination).carry(Part::Ahead, round).await {
            Ok((bytes, Memory { ahead, .. })) => {
                self.ahead = Some(ahead);
                Ok(bytes)
            }
            Err(error) => {
                tracing::warn!(migration = %self.order.id, %error, "its memory can't be sent ahead");
                Ok(Bytes::ZERO)
            }
        }
    }

    /// Says what was read for the rounds, and whether the kernel's marks told which pages.
    pub(super) fn log_looks(&self) {
        let Some(ahead) = &self.ahead else { return };
        let pages: Vec<u64> = ahead.looks().iter().map(|look| look.pages).collect();
        let last = ahead.looks().last().copied().unwrap_or_default();
        let marks = last.by_marks > 0;
        tracing::info!(migration = %self.order.id, marks, ?pages, "memory was sent ahead");
    }

    /// The folder with the image of what is left to be sent. Made once: what was sent ahead is not needed after it.
    pub(super) async fn left(&mut self) -> Result<PathBuf, StepError> {
        let whole = self.image.clone();
        let (Some(ahead), Some(hashing)) = (self.ahead.take(), self.hashing.take()) else { return Ok(whole) };
        let folder = self.left_folder();
        shred(folder.clone()).await.map_err(failed)?;
        private_folder(&folder).map_err(failed)?;
        let made = async {
            let hashed = hashing.end().await?;
            let make = move || delta::make(&whole, &hashed, &ahead, &folder).map(|spared| (spared, folder));
            tokio::task::spawn_blocking(make).await.map_err(std::io::Error::other)?
        };
        match made.await {
            Ok((spared, folder)) => {
                tracing::debug!(migration = %self.order.id, %spared, "need not be sent");
                Ok(folder)
            }
            Err(error) => {
                tracing::warn!(migration = %self.order.id, %error, "what was sent ahead can't be used");
                Ok(self.image.clone())
            }
        }
    }

    /// Has the image that is about to be written hashed, if that is going to be of use.
    pub(super) fn hash_the_image(&mut self) {
        let useful = self.ahead.as_ref().is_some_and(|ahead| !ahead.is_empty());
        self.hashing = useful.then(|| Hashing::begin(self.image.clone()));
    }

    fn left_folder(&self) -> PathBuf {
        self.image.with_extension("left")
    }

    /// Removes the image from this node.
    pub(super) async fn shred_image(&self) -> Result<(), StepError> {
        // First the folder that shares files with the image: what has another name is not overwritten.
        for folder in [self.left_folder(), self.image.clone()] {
            shred(folder).await.map_err(failed)?;
        }
        Ok(())
    }
}
