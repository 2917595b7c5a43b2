//! The destination's side of a migration: takes a service in, holds it, and runs it when the certificate has come.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::models::RestartPolicy;
use sterna_core::continuum::NodeName;
use sterna_policies::quantity::Bytes;
use thiserror::Error;
use tokio::io::AsyncRead;
use tokio::sync::OwnedMutexGuard;
use tokio_util::io::SyncIoBridge;

use crate::engine::criu;
use crate::engine::docker::{Engine, EngineError, restarts};
use crate::engine::processes::Processes;
use crate::engine::shim::{NOTES, Note};
use crate::fault::{self, AtArrival, Point};
use crate::identity::{Credentials, IdentityError, Role, Sealed};
use crate::migration::certificate::{Certificate, Grounds};
use crate::migration::finding::{Code, Finding, Subject};
use crate::migration::holding::{Answer, Call, Holding, Refusal, answer};
use crate::migration::order::MigrationId;
use crate::migration::register::Decision;
use crate::transfer::receive::receive;

use super::api::{Arriving, Finish, NodeFacts, Part, ReleaseAnswer, Reservation, Restored, Verdict};
use super::client::{AgentClient, ClientError};
use super::description::{Description, DescriptionError, published};
use super::precheck;
use super::store::{Arrival, Store, StoreError};

/// The destination can't do what it is asked.
#[derive(Debug, Error)]
pub enum ArrivalError {
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The register refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file could not be read or written.
    #[error("{what}: {source}")]
    File {
        /// What was done.
        what: String,
        /// What happened.
        source: io::Error,
    },
    /// What was said does not make sense.
    #[error("{0}")]
    Wrong(String),
    /// The rules forbid it.
    #[error("migration {id}: {refusal}")]
    Refused {
        /// The migration.
        id: MigrationId,
        /// Why.
        refusal: Refusal,
    },
    /// A container that is not taken in.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// A certificate that can't be trusted.
    #[error(transparent)]
    Certificate(#[from] IdentityError),
    /// As many services as may are on their way in.
    #[error("{0} services are on their way in already, as many as may be: try again later")]
    Busy(usize),
    /// CRIU could not restore.
    #[error("the restore failed: {engine}; CRIU says: {criu}")]
    Restore {
        /// What the engine said.
        engine: String,
        /// The errors of CRIU's log.
        criu: String,
    },
}

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

fn file(what: impl Into<String>) -> impl FnOnce(io::Error) -> ArrivalError {
    let what = what.into();
    move |source| ArrivalError::File { what, source }
}

type Turns = HashMap<String, Arc<tokio::sync::Mutex<()>>>;

/// Takes services in.
#[derive(Debug, Clone)]
pub struct Arrivals {
    /// The node's engine.
    pub engine: Engine,
    /// The register.
    pub store: Store,
    /// Folder for memory images.
    pub staging: PathBuf,
    credentials: Credentials,
    /// Most services on their way in at once.
    limit: usize,
    /// Calls about one migration wait for each other, and so do reservations.
    turns: Arc<Mutex<Turns>>,
    /// When something was last heard about a migration.
    heard: Arc<Mutex<HashMap<MigrationId, Instant>>>,
}

impl Arrivals {
    /// Nothing on its way in yet but what the store knows; at most `limit` services at once.
    pub fn new(
        engine: Engine,
        store: Store,
        staging: PathBuf,
        credentials: Credentials,
        limit: usize,
    ) -> Self {
        let (turns, heard) = (Arc::default(), Arc::default());
        Self { engine, store, staging, credentials, limit, turns, heard }
    }

    fn turn_of(&self, what: String) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(what).or_default())
    }

    /// Waits until no other call about this migration is being carried out.
    async fn turn(&self, id: MigrationId) -> OwnedMutexGuard<()> {
        self.turn_of(id.to_string()).lock_owned().await
    }

    /// Notes that something was heard about a migration.
    pub fn hear(&self, id: MigrationId) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Instant::now());
    }

    /// What is held and was not heard of for so long.
    ///
    /// # Errors
    /// When the register refuses.
    pub fn silent_for(&self, time: Duration) -> Result<Vec<Arrival>, StoreError> {
        let held = self.store.arrivals(Holding::Held)?;
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.retain(|id, _| held.iter().any(|arrival| arrival.reservation.order.id == *id));
        let silent = |arrival: &Arrival| {
            heard.get(&arrival.reservation.order.id).is_none_or(|last| last.elapsed() >= time)
        };
        Ok(held.iter().filter(|arrival| silent(arrival)).cloned().collect())
    }

    /// What the rules say to a call.
    fn rule(&self, id: MigrationId, call: Call) -> Result<(Option<Arrival>, Answer), ArrivalError> {
        let arrival = self.store.arrival(id)?;
        match answer(arrival.as_ref().map(|arrival| arrival.state), call) {
            Answer::Refuse(refusal) => Err(ArrivalError::Refused { id, refusal }),
            other => Ok((arrival, other)),
        }
    }

    /// What the rules say to a call about something that is known here.
    fn known(&self, id: MigrationId, call: Call) -> Result<(Arrival, Answer), ArrivalError> {
        match self.rule(id, call)? {
            (Some(arrival), answer) => Ok((arrival, answer)),
            (None, _) => Err(ArrivalError::Refused { id, refusal: Refusal::Unknown }),
        }
    }

    /// What speaks against taking in a service.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn check(
        &self,
        reservation: &Reservation,
        source: &NodeFacts,
        own: &NodeFacts,
    ) -> Result<Verdict, ArrivalError> {
        let mut findings = precheck::pair::pair(source, own);
        findings.extend(precheck::pair::node(Subject::Destination, own));
        let mut clash = |code, what| findings.push(Finding::new(code, Subject::Destination, what));
        let wanted = Description::of(reservation)?.published();
        let name = &reservation.order.service;
        if self.engine.has_container(name.as_str()).await? {
            clash(Code::NameTaken, format!("a container named `{name}` is there already"));
        }
        let mut used = Bytes::ZERO;
        for other in self.engine.services().await? {
            if let Some(processes) = other.pid.and_then(|pid| Processes::of(pid).ok()) {
                used.0 += processes.resident().0;
            }
            if other.pid.is_some() && other.name != name.as_str() {
                for port in published(&other.body).into_iter().filter(|port| wanted.contains(port)) {
                    clash(Code::PortTaken, format!("port {port} is published by `{}`", other.name));
                }
            }
        }
        for volume in &reservation.volumes {
            if self.engine.has_volume(volume).await {
                clash(Code::VolumeTaken, format!("a volume named `{volume}` is there already"));
            }
        }
        let has_image = self.engine.image_digest(&reservation.image).await?.is_some();
        findings.extend(precheck::room::destination(reservation, own, used, has_image));
        Ok(Verdict { findings, has_image, node: own.clone() })
    }

    /// Creates the container, not started. Doing it twice is the same as doing it once.
    ///
    /// # Errors
    /// When the engine refuses, the image is another, or as many services as may are on their way in.
    pub async fn reserve(&self, reservation: &Reservation) -> Result<(), ArrivalError> {
        let id = reservation.order.id;
        let mut body = Description::of(reservation)?.destination();
        // One at a time, so that the limit holds.
        let _admission = self.turn_of("reserve".to_owned()).lock_owned().await;
        let _turn = self.turn(id).await;
        let (known, _) = self.rule(id, Call::Reserve)?;
        if known.as_ref().is_some_and(|arrival| !arrival.container.is_empty()) {
            return Ok(());
        }
        if known.is_none() && self.store.arrivals(Holding::Held)?.len() >= self.limit {
            return Err(ArrivalError::Busy(self.limit));
        }
        // What is made from here on is known to belong to this migration, whatever happens.
        self.store.reserve(reservation, "")?;
        fault::gate(Point::Arrival(AtArrival::Reserve)).await;
        private_folder(&self.image(id))?;
        let name = id.to_string();
        hold(&name)?;
        if self.engine.image_digest(body.image.as_deref().unwrap_or_default()).await?.as_deref()
            != Some(reservation.image.as_str())
        {
            // The name is missing here or means another image: the digest never does.
            body.image = Some(reservation.image.clone());
        }
        let service = reservation.order.service.as_str();
        let container = match self.engine.made_for(service, &name).await? {
            Some(container) => container,
            None => self.engine.create(service, body).await?,
        };
        Ok(self.store.reserve(reservation, &container)?)
    }

    /// Takes in a part of the service.
    ///
    /// # Errors
    /// When the stream is corrupt, or a file can't be written.
    pub async fn receive(
        &self,
        id: MigrationId,
        part: &Part,
        input: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<(), ArrivalError> {
        let (arrival, _) = self.known(id, Call::Receive)?;
        // Two streams into the same files would spoil each other.
        let busy =
            || ArrivalError::Wrong(format!("{} of migration {id} is being received already", part.path()));
        let turn = self.turn_of(format!("{id}/{}", part.path())).try_lock_owned().map_err(|_| busy())?;
        let root = match part {
            Part::Memory => {
                // It was made with the reservation, but lies in memory: a restart of the node took it.
                let image = self.image(id);
                private_folder(&image)?;
                image
            }
            Part::Layer => {
                let seen = self.engine.inspect(&arrival.container).await?;
                seen.layer
                    .ok_or_else(|| ArrivalError::Wrong("the container has no writable layer".to_owned()))?
            }
            Part::Volume(name) => {
                let seen = self.engine.inspect(&arrival.container).await?;
                let volume = seen.volumes.into_iter().find(|volume| volume.name == *name);
                volume
                    .ok_or_else(|| ArrivalError::Wrong(format!("the container has no volume `{name}`")))?
                    .folder
            }
        };
        let input = SyncIoBridge::new(input);
        let received = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            receive(std::io::BufReader::new(input), &root)
        })
        .await;
        received
            .map_err(|error| {
                ArrivalError::Wrong(format!("taking in {} was cut short: {error}", part.path()))
            })?
            .map_err(file(format!("taking in {}", part.path())))?;
        Ok(())
    }

    /// Restores the service. Every process of it stays stopped. Doing it twice is the same as doing it once.
    ///
    /// # Errors
    /// When CRIU or the engine refuses.
    pub async fn restore(&self, id: MigrationId) -> Result<(), ArrivalError> {
        let _turn = self.turn(id).await;
        let (arrival, _) = self.known(id, Call::Restore)?;
        if self.standing(&arrival).await? {
            return Ok(());
        }
        let image = self.image(id);
        let seen = self.engine.inspect(&arrival.container).await?;
        let layer = seen
            .layer
            .ok_or_else(|| ArrivalError::Wrong("the container has no writable layer".to_owned()))?;
        hand_over(&image, &layer).map_err(file("the memory image can't be opened to the service's root"))?;
        hold(&id.to_string())?;
        Note { image: image.clone(), restored: false }
            .leave(Path::new(NOTES), &arrival.container)
            .map_err(file("the note for the runtime can't be written"))?;
        fault::gate(Point::Arrival(AtArrival::Restore)).await;
        let started = self.engine.start(&arrival.container).await;
        fault::gate(Point::Arrival(AtArrival::Restored)).await;
        // Later dumps of this container read the same settings: only this restore is held.
        let_go(&id.to_string())?;
        started.map_err(|error| ArrivalError::Restore {
            engine: error.to_string(),
            criu: criu::diagnosis(&image.join("restore.log")),
        })
    }

    /// Shows what was restored.
    ///
    /// # Errors
    /// When it does not stand.
    pub async fn restored(&self, id: MigrationId) -> Result<Restored, ArrivalError> {
        let (arrival, _) = self.known(id, Call::Restore)?;
        let processes = self.processes(&arrival).await?;
        Ok(Restored {
            tree: processes.tree(),
            held: processes.all_stopped(),
            by_restore: by_restore(&arrival)?,
        })
    }

    /// Whether what was restored stands here, every process of it stopped.
    async fn standing(&self, arrival: &Arrival) -> Result<bool, ArrivalError> {
        if arrival.container.is_empty() || !by_restore(arrival)? {
            return Ok(false);
        }
        let seen = self.engine.inspect(&arrival.container).await?;
        Ok(seen.pid.is_some_and(|pid| Processes::of(pid).is_ok_and(|all| all.all_stopped())))
    }

    /// What is known here of a migration.
    ///
    /// # Errors
    /// When nothing is.
    pub async fn arriving(&self, id: MigrationId) -> Result<Arriving, ArrivalError> {
        let arrival = self.store.arrival(id)?;
        let arrival = arrival.ok_or(ArrivalError::Refused { id, refusal: Refusal::Unknown })?;
        let standing = arrival.state == Holding::Held && self.standing(&arrival).await?;
        let Arrival { reservation, state: holding, .. } = arrival;
        let Reservation { order, epoch, image, .. } = reservation;
        Ok(Arriving { order, epoch, image, holding, standing })
    }

    /// The certificate, if it may be trusted: the source's agent issues a commit, nobody but a scheduler tells of a source
    /// that is gone.
    fn certificate(&self, arrival: &Arrival, sealed: &Sealed) -> Result<Option<Certificate>, ArrivalError> {
        let Reservation { order, epoch, image, .. } = &arrival.reservation;
        let (issuer, certificate): (Role, Certificate) = self.credentials.unseal(sealed)?;
        let may = match certificate.grounds {
            Grounds::Commit => issuer == Role::Agent(arrival.source.clone()),
            Grounds::Fenced { .. } => issuer == Role::Scheduler,
        };
        Ok(Some(certificate).filter(|one| may && one.fits(order, *epoch, image)))
    }

    /// Takes over the service with its certificate and lets it run. Doing it twice is the same as doing it once.
    ///
    /// # Errors
    /// When the certificate is not for what is held here, or the processes can't be released.
    pub async fn release(&self, id: MigrationId, sealed: &Sealed) -> Result<ReleaseAnswer, ArrivalError> {
        let _turn = self.turn(id).await;
        let arrival = self.store.arrival(id)?;
        let arrival = arrival.ok_or(ArrivalError::Refused { id, refusal: Refusal::Unknown })?;
        let certificate = self.certificate(&arrival, sealed)?;
        let standing = arrival.state == Holding::Held && self.standing(&arrival).await?;
        let (arrival, answer) = self.known(id, Call::Release { valid: certificate.is_some(), standing })?;
        match (answer, &certificate) {
            (Answer::Lost, _) => return Ok(ReleaseAnswer::Lost),
            (Answer::Do(_), Some(certificate)) => {
                fault::gate(Point::Arrival(AtArrival::TakeOver)).await;
                self.store.take_over(id, certificate)?;
                fault::gate(Point::Arrival(AtArrival::Released)).await;
                self.processes(&arrival).await?.resume().map_err(file("the processes can't be released"))?;
            }
            // Taken over before, but perhaps the agent ended before it let go.
            _ if arrival.state == Holding::Released => {
                if let Ok(processes) = self.processes(&arrival).await {
                    processes.resume().map_err(file("the processes can't be released"))?;
                }
            }
            _ => {}
        }
        if let Some(Grounds::Fenced { by, reason }) = certificate.map(|one| one.grounds)
            && arrival.state != Holding::Finished
        {
            tracing::warn!(migration = %id, by, reason, "the source is said to be gone; nothing more is expected of it");
            let restart = Description::of(&arrival.reservation)?.restart();
            self.put_back(id, &arrival, restart).await?;
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
        let arrival = self.store.arrival(id)?;
        let arrival = arrival.ok_or(ArrivalError::Refused { id, refusal: Refusal::Unknown })?;
        let certificate = self.certificate(&arrival, sealed)?;
        let (arrival, answer) = self.known(id, Call::StartAnew { valid: certificate.is_some() })?;
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
            return Ok(());
        }
        Note::remove(Path::new(NOTES), &arrival.container)
            .map_err(file("the note for the runtime can't be removed"))?;
        let_go(&arrival.reservation.order.id.to_string())?;
        tracing::warn!(service = %arrival.reservation.order.service, "started anew: its processes were lost with this node");
        Ok(self.engine.start(&arrival.container).await?)
    }

    /// Lets run what this node owns and an earlier life of its agent did not come to let go, and starts what went down with
    /// the node before its restart policy was put back.
    ///
    /// # Errors
    /// When the register refuses. A service that can't be started is told of and left.
    pub async fn revive(&self) -> Result<(), ArrivalError> {
        for arrival in self.store.arrivals(Holding::Released)? {
            let policy = Description::of(&arrival.reservation)?.restart();
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
        let (arrival, _) = self.known(id, Call::Finish)?;
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
        self.tidy(id, Some(&arrival.container))?;
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

    /// Gives up what is held; there need not be anything.
    ///
    /// # Errors
    /// When the service runs here already, or the engine refuses.
    pub async fn discard(&self, id: MigrationId) -> Result<(), ArrivalError> {
        let _turn = self.turn(id).await;
        let (arrival, answer) = self.rule(id, Call::Discard)?;
        let Some(arrival) = arrival.filter(|_| matches!(answer, Answer::Do(_))) else {
            return self.remove_image(id);
        };
        fault::gate(Point::Arrival(AtArrival::Discard)).await;
        let service = arrival.reservation.order.service.as_str();
        let container = match arrival.container.as_str() {
            // The agent ended between making it and noting its id.
            "" => self.engine.made_for(service, &id.to_string()).await?,
            known => Some(known.to_owned()),
        };
        if let Some(container) = &container {
            self.engine.remove(container).await?;
            for volume in &arrival.reservation.volumes {
                // It was made for this migration: the check refuses volumes that exist.
                self.engine.remove_volume(volume).await?;
            }
        }
        self.tidy(id, container.as_deref())?;
        std::fs::remove_file(criu::settings_path(&id.to_string())).ok();
        Ok(self.store.set_arrival(id, Holding::Discarded)?)
    }

    /// Asks the source what was decided about what is held here, and does what follows from it.
    ///
    /// # Errors
    /// When the source does not answer, or what follows can't be done now.
    pub async fn settle(&self, arrival: &Arrival, credentials: &Credentials) -> Result<(), SettleError> {
        let order = &arrival.reservation.order;
        let source = AgentClient::new(credentials, &order.from, &order.from_address).await?;
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

    /// Removes the image, and the note about the container where one was made.
    fn tidy(&self, id: MigrationId, container: Option<&str>) -> Result<(), ArrivalError> {
        if let Some(container) = container {
            Note::remove(Path::new(NOTES), container)
                .map_err(file("the note for the runtime can't be removed"))?;
        }
        self.remove_image(id)
    }

    fn remove_image(&self, id: MigrationId) -> Result<(), ArrivalError> {
        remove_folder(&self.image(id)).map_err(file("the memory image can't be removed"))
    }

    fn image(&self, id: MigrationId) -> PathBuf {
        self.staging.join(format!("in-{id}"))
    }

    async fn processes(&self, arrival: &Arrival) -> Result<Processes, ArrivalError> {
        let seen = self.engine.inspect(&arrival.container).await?;
        let pid = seen
            .pid
            .ok_or_else(|| ArrivalError::Wrong("the restored container does not stand".to_owned()))?;
        Processes::of(pid).map_err(file("the restored processes can't be read"))
    }
}

fn by_restore(arrival: &Arrival) -> Result<bool, ArrivalError> {
    let note = Note::read(Path::new(NOTES), &arrival.container);
    Ok(note.map_err(file("the runtime's note can't be read"))?.is_some_and(|note| note.restored))
}

/// Has restores of a migration's container held.
fn hold(name: &str) -> Result<(), ArrivalError> {
    criu::write_settings(name, criu::HELD).map_err(file("the settings for CRIU can't be written"))
}

/// Has nothing held any more.
fn let_go(name: &str) -> Result<(), ArrivalError> {
    criu::write_settings(name, criu::ALWAYS).map_err(file("the settings for CRIU can't be written"))
}

/// Makes a folder that only its owner can look into: memory images hold secrets.
pub(super) fn private_folder(path: &Path) -> Result<(), ArrivalError> {
    make_folder(path, 0o700)
}

/// Makes the folder in which memory images are staged, each in a private folder of its own. CRIU passes through it as the
/// service's root, so it can be passed but not listed.
pub(super) fn staging_folder(path: &Path) -> Result<(), ArrivalError> {
    make_folder(path, 0o711)
}

fn make_folder(path: &Path, mode: u32) -> Result<(), ArrivalError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(file(format!("{} can't be made", path.display())))
}

/// Lets CRIU open a memory image: it does so first as the node's root without its powers, and then as the user that is root
/// in the service. So the first is the owner, the second the group, and nobody else sees anything.
fn hand_over(image: &Path, layer: &Path) -> io::Result<()> {
    let group = Some(std::fs::metadata(layer)?.gid());
    let open = |path: &Path, mode| {
        std::os::unix::fs::lchown(path, None, group)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
    };
    for entry in std::fs::read_dir(image)? {
        let entry = entry?;
        // CRIU would follow a link, as root and for writing too.
        if !entry.file_type()?.is_file() {
            let what = format!("{} is no regular file", entry.path().display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        open(&entry.path(), 0o640)?;
    }
    open(image, 0o750)
}

/// Removes a folder; there need not be one.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_image_with_a_link_in_it_is_not_opened() {
        let (outer, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        std::fs::write(image.path().join("core-1.img"), "x").unwrap();
        hand_over(image.path(), image.path()).unwrap();
        assert_eq!(mode(&image.path().join("core-1.img")), 0o640);
        let precious = outer.path().join("precious");
        std::fs::write(&precious, "x").unwrap();
        std::fs::set_permissions(&precious, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&precious, image.path().join("restore.log")).unwrap();
        hand_over(image.path(), image.path()).unwrap_err();
        assert_eq!(mode(&precious), 0o600);
    }
}
