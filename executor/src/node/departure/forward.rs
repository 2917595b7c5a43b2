//! What follows the commit, and has no way back.

use sterna_policies::quantity::Bytes;

use crate::identity::{Credentials, IdentityError, Sealed};
use crate::migration::certificate::{Certificate, Grounds};
use crate::migration::machine::StepError;
use crate::migration::order::Order;
use crate::node::api::{Finish, ReleaseAnswer};
use crate::transfer::tree::Writers;

use super::memory::Share;
use super::{Leaving, failed};

impl Leaving {
    async fn certificate(&mut self) -> Result<Sealed, StepError> {
        if self.seen.is_none() {
            self.look().await?;
        }
        certificate(&self.credentials, &self.order, self.epoch, &self.seen()?.image).map_err(failed)
    }

    /// Lets the destination run the service, and brings it there once more where the destination lost what it held.
    pub(super) async fn release(&mut self) -> Result<Bytes, StepError> {
        let certificate = self.certificate().await?;
        let destination = self.destination().await?;
        let id = self.order.id;
        if destination.release(id, &certificate).await.map_err(failed)? == ReleaseAnswer::Runs {
            return Ok(Bytes::ZERO);
        }
        tracing::warn!(migration = %id, "the destination lost what it held; sending it again");
        self.look().await?;
        self.list_trees()?;
        // First its files: both nodes may have gone down.
        let files = self.pass(Writers::Frozen).await?;
        if !self.image.join("inventory.img").exists() {
            // Both nodes went down: files are all that is left, and they are as the service left them.
            destination.start_anew(id, &certificate).await.map_err(failed)?;
            let why = "both nodes lost its memory before it ran at the destination";
            self.started_anew = Some(why.to_owned());
            return Ok(files);
        }
        self.frozen = self.processes().map(|processes| processes.tree()).unwrap_or_default();
        let memory = self.transfer(Share::Whole).await?;
        destination.restore(id).await.map_err(failed)?;
        self.verify().await?;
        match destination.release(id, &certificate).await.map_err(failed)? {
            ReleaseAnswer::Runs => Ok(Bytes(files.0 + memory.0)),
            ReleaseAnswer::Lost => Err(StepError::Failed("the destination lost it again".to_owned())),
        }
    }

    pub(super) async fn clean(&mut self) -> Result<Bytes, StepError> {
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
        self.shred_image().await?;
        Ok(Bytes::ZERO)
    }
}

/// The certificate that a source's agent issues with the commit.
///
/// # Errors
/// When its key is unusable.
pub(in crate::node) fn certificate(
    credentials: &Credentials,
    order: &Order,
    epoch: u64,
    image: &str,
) -> Result<Sealed, IdentityError> {
    credentials.seal(&Certificate::due(order, epoch, image, Grounds::Commit))
}
