//! The service's memory: sent ahead while it runs, and what is left of it when it stands frozen.

use std::path::PathBuf;

use sterna_policies::quantity::Bytes;

use crate::engine::memory;
use crate::engine::processes::Pid;
use crate::migration::machine::StepError;
use crate::node::api::Part;
use crate::node::staging::{private_folder, shred};
use crate::transfer::delta;

use super::{Leaving, failed};

/// How much of the memory is sent while the service stands frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// What was not sent ahead.
    Left,
    /// All of it.
    Whole,
}

impl Leaving {
    /// Sends the pages that changed since the round before. Where that fails all of the memory follows when the service stands
    /// frozen: it may take longer, but nothing is lost by it.
    pub(super) async fn send_ahead(&mut self) -> Result<Bytes, StepError> {
        let Some(mut ahead) = self.ahead.take() else { return Ok(Bytes::ZERO) };
        if !memory::pages_are_known() {
            return Ok(Bytes::ZERO);
        }
        let processes: Vec<Pid> = self.processes()?.pids().collect();
        let destination = self.destination().await?;
        let link = self.link(&destination);
        let sent = link.send(Part::Ahead, move |writer| {
            let bytes = ahead.round(&processes, writer)?;
            Ok((bytes, ahead))
        });
        match sent.await {
            Ok((bytes, ahead)) => {
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
        let Some(ahead) = self.ahead.take().filter(|ahead| !ahead.is_empty()) else { return Ok(whole) };
        let folder = self.left_folder();
        shred(folder.clone()).await.map_err(failed)?;
        private_folder(&folder).map_err(failed)?;
        let made = tokio::task::spawn_blocking(move || {
            delta::make(&whole, &ahead, &folder).map(|spared| (spared, folder))
        });
        match made.await.map_err(failed)? {
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
