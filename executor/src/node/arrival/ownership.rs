//! What this node owns by a certificate: taking over, running, finishing; and what is held without one, whose source is asked.

use std::io;
use std::path::{Path, PathBuf};

use bollard::models::RestartPolicy;
use sterna_core::continuum::NodeName;
use thiserror::Error;

use crate::engine::docker::restarts;
use crate::engine::processes::Processes;
use crate::engine::shim::{NOTES, Note};
use crate::fault::{self, AtArrival, Point};
use crate::identity::{Role, Sealed};
use crate::migration::certificate::{Certificate, Grounds};
use crate::migration::holding::{Answer, Call, Holding};
use crate::migration::order::MigrationId;
use crate::migration::register::Decision;

use super::{ArrivalError, Arrivals, body_of, by_restore, file, let_go, rule};
use crate::node::api::{Finish, ReleaseAnswer, Reservation};
use crate::node::client::ClientError;
use crate::node::store::Arrival;

/// What is held can't be settled now.
#[derive(Debug, Error)]
pub enum SettleError {
    /// The source's agent does not answer.
    #[error(transparent)]
    Source(#[from] ClientError),
    /// The source's register was lost: what is held is kept, for it may be all that is left.
    #[error(
        "node `{0}` knows nothing of the migration; if its state was lost, `sterna fence` takes over what is held here"
    )]
    Unknown(NodeName),
    /// What follows from the decision can't be done.
    #[error(transparent)]
    Here(#[from] ArrivalError),
}

impl Arrivals {
    /// The certificate, if it may be trusted.
    fn certificate(&self, arrival: &Arrival, sealed: &Sealed) -> Result<Option<Certificate>, ArrivalError> {
        let Reservation { order, epoch, image, pod, .. } = &arrival.reservation;
        let (issuer, certificate): (Role, Certificate) = self.credentials.unseal(sealed)?;
        let may = certificate.grounds.may_be_issued(&issuer, &arrival.source, pod.as_deref());
        Ok(Some(certificate).filter(|one| may && one.fits(order, *epoch, image)))
    }

    /// Takes over the service with its certificate and lets it run. Doing it twice is the same as doing it once.
    ///
    /// # Errors
    /// When the certificate is not for what is held here, or the processes can't be released.
    pub async fn release(&self, id: MigrationId, sealed: &Sealed) -> Result<ReleaseAnswer, ArrivalError> {
        let _turn = self.turn(id).await;
        let arrival = self.find(id)?;
        let certificate = self.certificate(&arrival, sealed)?;
        let standing = arrival.state == Holding::Held && self.standing(&arrival).await?;
        let answer = rule(id, Some(&arrival), Call::Release { valid: certificate.is_some(), standing })?;
        match (answer, &certificate) {
            (Answer::Lost, _) => return Ok(ReleaseAnswer::Lost),
            (Answer::Do(_), Some(certificate)) => {
                fault::gate(Point::Arrival(AtArrival::TakeOver)).await;
                self.store.take_over(id, certificate)?;
                fault::gate(Point::Arrival(AtArrival::Released)).await;
                self.processes(&arrival).await?.resume().map_err(file("the processes can't be released"))?;
                self.announce(&arrival)?;
            }
            // Taken over before, but perhaps the agent ended before it let go.
            _ if arrival.state == Holding::Released => {
                if let Ok(processes) = self.processes(&arrival).await {
                    processes.resume().map_err(file("the processes can't be released"))?;
                    self.announce(&arrival)?;
                }
            }
            _ => {}
        }
        let gone = certificate.is_some_and(|one| match one.grounds {
            Grounds::Commit => false,
            Grounds::Fenced { by, reason } => {
                tracing::warn!(migration = %id, by, reason, "the source is said to be gone; nothing more is expected of it");
                true
            }
            Grounds::PodEnded(end) => {
                tracing::warn!(migration = %id, %end, "the source's pod has ended; nothing more is expected of it");
                true
            }
        });
        if gone && arrival.state != Holding::Finished {
            let body = body_of(&arrival.reservation)?;
            self.put_back(id, &arrival, body.host_config.and_then(|host| host.restart_policy)).await?;
        }
        Ok(ReleaseAnswer::Runs)
    }

    /// Takes over the service with its certificate and starts it from its image and files: its memory is gone. Doing it
    /// twice is the same as doing it once.
    ///
    /// # Errors
    /// When the certificate is not for what is held here, or the engine refuses.
    pub async fn start_anew(&self, id: MigrationId, sealed: &Sealed) -> Result<(), ArrivalError> {
        let _turn = self.turn(id).await;
        let arrival = self.find(id)?;
        let certificate = self.certificate(&arrival, sealed)?;
        let answer = rule(id, Some(&arrival), Call::StartAnew { valid: certificate.is_some() })?;
        if let (Answer::Do(_), Some(certificate)) = (answer, certificate) {
            // A restore that failed half-way must not stand in the way.
            Note::remove(Path::new(NOTES), &arrival.container)
                .map_err(file("the note for the runtime can't be removed"))?;
            self.store.take_over(id, &certificate)?;
        }
        self.run(&arrival).await
    }

    /// Has a service run that this node owns: lets it go, or starts its container where nothing stands.
    async fn run(&self, arrival: &Arrival) -> Result<(), ArrivalError> {
        if let Some(pid) = self.engine.inspect(&arrival.container).await?.pid {
            // Restored and taken over, but perhaps the agent ended before it let go.
            if by_restore(arrival)? {
                let resumed = Processes::of(pid).and_then(|processes| processes.resume());
                resumed.map_err(file("the processes can't be released"))?;
            }
            return self.announce(arrival);
        }
        Note::remove(Path::new(NOTES), &arrival.container)
            .map_err(file("the note for the runtime can't be removed"))?;
        let_go(&arrival.reservation.order.id.to_string())?;
        tracing::warn!(service = %arrival.reservation.order.service, "started anew: its processes were lost with this node");
        self.engine.start(&arrival.container).await?;
        self.announce(arrival)
    }

    /// Tells fronts that it runs here.
    fn announce(&self, arrival: &Arrival) -> Result<(), ArrivalError> {
        let (service, body) = (&arrival.reservation.order.service, &arrival.reservation.body);
        self.traffic.arrived(service, self.store.epoch(service)?, body);
        Ok(())
    }

    /// Lets run what this node owns and an earlier life of its agent did not come to let go, and starts what went down with
    /// the node before its restart policy was put back.
    ///
    /// # Errors
    /// When the register refuses. A service that can't be started is told of and left.
    pub async fn revive(&self) -> Result<(), ArrivalError> {
        for arrival in self.store.arrivals(Holding::Released)? {
            let body = body_of(&arrival.reservation)?;
            let policy = body.host_config.and_then(|host| host.restart_policy);
            let stands = self.processes(&arrival).await.is_ok();
            if (stands || restarts(policy.as_ref()))
                && let Err(error) = self.run(&arrival).await
            {
                tracing::error!(service = %arrival.reservation.order.service, %error, "can't be started again");
            }
        }
        Ok(())
    }

    /// Puts back what the migration changed, and makes all that came durable: after this the source may let go of it. Doing
    /// it twice is the same as doing it once.
    ///
    /// # Errors
    /// When the engine refuses or the disk can't be synchronised.
    pub async fn finish(&self, id: MigrationId, finish: &Finish) -> Result<(), ArrivalError> {
        let _turn = self.turn(id).await;
        let arrival = self.known(id, Call::Finish)?;
        fault::gate(Point::Arrival(AtArrival::Finish)).await;
        let restart = finish.restart.clone().map(serde_json::from_value).transpose();
        let restart = restart
            .map_err(|error| ArrivalError::Wrong(format!("the restart policy can't be read: {error}")))?;
        self.put_back(id, &arrival, restart).await
    }

    async fn put_back(
        &self,
        id: MigrationId,
        arrival: &Arrival,
        restart: Option<RestartPolicy>,
    ) -> Result<(), ArrivalError> {
        self.synchronise(arrival).await?;
        if let Some(policy) = restart {
            let restarts = restarts(Some(&policy));
            self.engine.set_restart(&arrival.container, Some(policy)).await?;
            if restarts && arrival.state != Holding::Finished {
                self.run(arrival).await?;
            }
        }
        self.tidy(id, Some(&arrival.container)).await?;
        self.streams.forget(id).await;
        Ok(self.store.set_arrival(id, Holding::Finished)?)
    }

    async fn synchronise(&self, arrival: &Arrival) -> Result<(), ArrivalError> {
        let seen = self.engine.inspect(&arrival.container).await?;
        let folders: Vec<PathBuf> =
            seen.layer.into_iter().chain(seen.volumes.into_iter().map(|volume| volume.folder)).collect();
        tokio::task::spawn_blocking(move || {
            for folder in folders {
                let open = std::fs::File::open(&folder);
                open.and_then(|open| nix::unistd::syncfs(open).map_err(io::Error::from))
                    .map_err(file(format!("{} can't be made durable", folder.display())))?;
            }
            Ok(())
        })
        .await
        .map_err(|error| ArrivalError::Wrong(format!("making the files durable was cut short: {error}")))?
    }

    /// Asks the source what was decided about what is held here, and does what follows from it.
    ///
    /// # Errors
    /// When the source does not answer, or what follows can't be done now.
    pub async fn settle(&self, arrival: &Arrival) -> Result<(), SettleError> {
        let order = &arrival.reservation.order;
        let source = self.peers.client(&order.from, &order.from_address).await?;
        let Some(standing) = source.standing(order.id).await? else {
            return Err(SettleError::Unknown(order.from.clone()));
        };
        match (standing.decision, &standing.certificate) {
            (Decision::Abort, _) => {
                tracing::info!(migration = %order.id, "given up at its source; discarding what is held");
                self.discard(order.id).await?;
            }
            // Where it was lost here, the source sends it again by itself.
            (Decision::Commit, Some(certificate)) => drop(self.release(order.id, certificate).await?),
            (Decision::Commit, None) | (Decision::Undecided, _) => {}
        }
        Ok(())
    }
}
