//! The destination's side of a migration: takes a service in, holds it, and runs it when the certificate has come.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bollard::models::ContainerCreateBody;
use bytes::Bytes as Data;
use futures_util::{Stream, StreamExt as _};
use sterna_policies::quantity::Bytes;
use thiserror::Error;
use tokio::sync::OwnedMutexGuard;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::engine::criu;
use crate::engine::docker::{Early, Engine, EngineError, destination_body};
use crate::engine::processes::Processes;
use crate::engine::shim::{NOTES, Note};
use crate::fault::{self, AtArrival, Point};
use crate::identity::{Credentials, IdentityError};
use crate::migration::finding::{Code, Finding, Subject};
use crate::migration::holding::{Answer, Call, Holding, Refusal, answer};
use crate::migration::order::MigrationId;
use crate::transfer::ahead;
use crate::transfer::manifest::Digest;
use crate::transfer::receive::{Allowance, receive};

use super::api::{Arriving, NodeFacts, Part, Reservation, StreamId, Verdict};
use super::peers::Peers;
use super::precheck;
use super::precheck::description::taken_ports;
use super::staging::{self, private_folder};
use super::store::{Arrival, Store, StoreError};
use super::traffic::Traffic;

mod ownership;
mod restoring;
mod streams;
use self::streams::Streams;
pub use ownership::SettleError;
use restoring::by_restore;

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
    /// A certificate that can't be trusted.
    #[error(transparent)]
    Certificate(#[from] IdentityError),
    /// As many services as may are on their way in.
    #[error("{0} services are on their way in already, as many as may be: try again later")]
    Busy(usize),
    /// An earlier stream into the same part has not ended yet.
    #[error("{part} of migration {id} is being received: try again later")]
    Receiving {
        /// The migration.
        id: MigrationId,
        /// The part, as it stands in a path.
        part: String,
    },
    /// CRIU could not restore.
    #[error("the restore failed: {engine}; CRIU says: {criu}")]
    Restore {
        /// What the engine said.
        engine: String,
        /// The errors of CRIU's log.
        criu: String,
    },
}

fn file(what: impl Into<String>) -> impl FnOnce(io::Error) -> ArrivalError {
    let what = what.into();
    move |source| ArrivalError::File { what, source }
}

type Turns = HashMap<String, Arc<tokio::sync::Mutex<()>>>;

/// What a part of a service may grow by, beyond twice what it was when room was made for it.
const GROWTH: Bytes = Bytes::from_mib(1024);
/// What stays free on every disk, whatever comes in: the register has to be written too.
const KEEP_FREE: Bytes = Bytes::from_mib(32);
/// What is read from a stream at once.
const READ: usize = 1 << 18;
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
    peers: Peers,
    /// Most services on their way in at once.
    limit: usize,
    /// Calls about one migration wait for each other, and so do reservations.
    turns: Arc<Mutex<Turns>>,
    /// When something was last heard about a migration.
    heard: Arc<Mutex<HashMap<MigrationId, Instant>>>,
    /// Starts whose runtime waits for the image.
    early: Arc<Mutex<HashMap<MigrationId, Early>>>,
    streams: Streams,
    traffic: Traffic,
    /// TCP ports of the node that the agent's front has.
    front_ports: Arc<BTreeSet<u16>>,
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
        let (turns, heard, early, streams) = <_>::default();
        let (traffic, front_ports) = <_>::default();
        let peers = Peers::new(credentials.clone());
        Self {
            engine,
            store,
            staging,
            credentials,
            peers,
            limit,
            turns,
            heard,
            early,
            streams,
            traffic,
            front_ports,
        }
    }

    /// Has fronts told of what runs here.
    #[must_use]
    pub fn announcing(self, traffic: Traffic) -> Self {
        Self { traffic, ..self }
    }

    /// Looks for sources as others here do.
    #[must_use]
    pub fn finding(self, peers: Peers) -> Self {
        Self { peers, ..self }
    }

    /// Takes in no service that publishes one of these TCP ports: the agent's front has them.
    #[must_use]
    pub fn without_ports(self, ports: BTreeSet<u16>) -> Self {
        Self { front_ports: Arc::new(ports), ..self }
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

    /// What is known of a migration.
    fn find(&self, id: MigrationId) -> Result<Arrival, ArrivalError> {
        self.store.arrival(id)?.ok_or(ArrivalError::Refused { id, refusal: Refusal::Unknown })
    }

    /// What is known of a migration that a call may be made about.
    fn known(&self, id: MigrationId, call: Call) -> Result<Arrival, ArrivalError> {
        let arrival = self.find(id)?;
        rule(id, Some(&arrival), call)?;
        Ok(arrival)
    }

    /// What speaks against taking in a service.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn check(
        &self,
        reservation: &Reservation,
        body: &ContainerCreateBody,
        source: &NodeFacts,
        own: &NodeFacts,
    ) -> Result<Verdict, ArrivalError> {
        let mut findings = precheck::pair::pair(source, own);
        findings.extend(precheck::pair::node(Subject::Destination, own));
        let mut clash = |code, what| findings.push(Finding::new(code, Subject::Destination, what));
        let wanted = taken_ports(body);
        for port in self.front_ports.iter().map(|port| format!("{port}/tcp")) {
            if wanted.contains(&port) {
                clash(Code::PortTaken, format!("port {port} is listened on by the node's front"));
            }
        }
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
                for port in taken_ports(&other.body).into_iter().filter(|port| wanted.contains(port)) {
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

    /// Creates the container that a reservation describes, not started. Doing it twice is the same as doing it once.
    ///
    /// # Errors
    /// When the engine refuses, the image is another, or as many services as may are on their way in.
    pub async fn reserve(
        &self,
        reservation: &Reservation,
        body: ContainerCreateBody,
    ) -> Result<(), ArrivalError> {
        let id = reservation.order.id;
        // One at a time, so that the limit holds.
        let _admission = self.turn_of("reserve".to_owned()).lock_owned().await;
        let _turn = self.turn(id).await;
        let known = self.store.arrival(id)?;
        rule(id, known.as_ref(), Call::Reserve)?;
        if known.as_ref().is_some_and(|arrival| !arrival.container.is_empty()) {
            return Ok(());
        }
        if known.is_none() && self.store.arrivals(Holding::Held)?.len() >= self.limit {
            return Err(ArrivalError::Busy(self.limit));
        }
        for volume in reservation.volumes.iter().filter(|_| known.is_none()) {
            // Nothing makes a caller ask for a check first, and what is given up later is removed with its volumes.
            if self.engine.has_volume(volume).await {
                return Err(ArrivalError::Wrong(format!("a volume named `{volume}` is there already")));
            }
        }
        // What is made from here on is known to belong to this migration, whatever happens.
        self.store.reserve(reservation, "")?;
        fault::gate(Point::Arrival(AtArrival::Reserve)).await;
        private_folder(&self.image(id)).map_err(file("the folder for the memory image can't be made"))?;
        let name = id.to_string();
        hold(&name)?;
        let mut body = destination_body(body, &name);
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
    /// When the stream is corrupt, breaks or was ended, or a file can't be written.
    pub async fn receive(
        &self,
        id: MigrationId,
        part: &Part,
        stream: StreamId,
        input: impl Stream<Item = io::Result<Data>> + Send + Unpin + 'static,
    ) -> Result<(), ArrivalError> {
        let arrival = self.known(id, Call::Receive)?;
        // Two streams into the same files would spoil each other.
        let (mut turn, ended) = self.streams.begin(id, part, stream)?;
        let root = match part {
            Part::Memory => {
                // It was made with the reservation, but lies in memory: a restart of the node took it.
                let image = self.image(id);
                private_folder(&image).map_err(file("the folder for the memory image can't be made"))?;
                image
            }
            Part::Ahead => {
                let folder = self.ahead(id);
                private_folder(&folder).map_err(file("the folder for memory can't be made"))?;
                folder
            }
            // The engine has it mounted, and would not see what comes now.
            Part::Layer if self.early().contains_key(&id) => {
                return Err(ArrivalError::Wrong("the container is being started already".to_owned()));
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
        // What is cut off is shorter than its own frames say.
        let input = StreamReader::new(Box::pin(input.take_until(ended.cancelled_owned())));
        let input = SyncIoBridge::new(input);
        let allowance = allowance(part, &arrival.reservation);
        let ahead = *part == Part::Ahead;
        let taken = tokio::task::spawn_blocking(move || {
            let input = std::io::BufReader::with_capacity(READ, input);
            if ahead {
                ahead::receive(input, &root, allowance)
            } else {
                receive(input, &root, turn.received(), allowance)
            }
        })
        .await;
        let what = || format!("taking in {}", part.path());
        taken
            .map_err(|error| ArrivalError::Wrong(format!("{} was cut short: {error}", what())))?
            .map_err(file(what()))?;
        Ok(())
    }

    /// Ends a stream, also one that has not come yet. Gives how far it came: the hash of its headers up to the last frame that was
    /// acted on; of memory that is sent ahead, the chain. `None` where that is not known.
    ///
    /// # Errors
    /// When the stream does not end.
    pub async fn end(
        &self,
        id: MigrationId,
        part: &Part,
        stream: StreamId,
    ) -> Result<Option<Digest>, ArrivalError> {
        self.known(id, Call::Receive)?;
        let turn = self.streams.end(id, part, stream).await?;
        if *part == Part::Ahead {
            return ahead::there(&self.ahead(id)).map_err(file("what was sent ahead can't be read"));
        }
        Ok(turn.of(stream).and_then(|received| received.headers()))
    }

    /// What is known here of a migration.
    ///
    /// # Errors
    /// When nothing is.
    pub async fn arriving(&self, id: MigrationId) -> Result<Arriving, ArrivalError> {
        let arrival = self.find(id)?;
        let standing = arrival.state == Holding::Held && self.standing(&arrival).await?;
        let Arrival { reservation, state: holding, .. } = arrival;
        let Reservation { order, epoch, image, pod, .. } = reservation;
        Ok(Arriving { order, epoch, image, holding, standing, pod })
    }

    /// Gives up what is held; there need not be anything.
    ///
    /// # Errors
    /// When the service runs here already, or the engine refuses.
    pub async fn discard(&self, id: MigrationId) -> Result<(), ArrivalError> {
        let _turn = self.turn(id).await;
        let arrival = self.store.arrival(id)?;
        let answer = rule(id, arrival.as_ref(), Call::Discard)?;
        self.streams.forget(id).await;
        let Some(arrival) = arrival.filter(|_| matches!(answer, Answer::Do(_))) else {
            return self.remove_image(id).await;
        };
        fault::gate(Point::Arrival(AtArrival::Discard)).await;
        let service = arrival.reservation.order.service.as_str();
        let container = match arrival.container.as_str() {
            // The agent ended between making it and noting its id.
            "" => self.engine.made_for(service, &id.to_string()).await?,
            known => Some(known.to_owned()),
        };
        if let Some(container) = &container {
            self.give_up_early(id, container).await?;
            self.engine.remove(container).await?;
            for volume in &arrival.reservation.volumes {
                // It was made for this migration: the check refuses volumes that exist.
                self.engine.remove_volume(volume).await?;
            }
        }
        self.tidy(id, container.as_deref()).await?;
        std::fs::remove_file(criu::settings_path(&id.to_string())).ok();
        Ok(self.store.set_arrival(id, Holding::Discarded)?)
    }

    /// Removes the image, and the note about the container where one was made.
    async fn tidy(&self, id: MigrationId, container: Option<&str>) -> Result<(), ArrivalError> {
        if let Some(container) = container {
            Note::remove(Path::new(NOTES), container)
                .map_err(file("the note for the runtime can't be removed"))?;
        }
        self.remove_image(id).await
    }

    async fn remove_image(&self, id: MigrationId) -> Result<(), ArrivalError> {
        for folder in [self.image(id), self.ahead(id)] {
            staging::shred(folder).await.map_err(file("the memory image can't be removed"))?;
        }
        Ok(())
    }

    fn early(&self) -> MutexGuard<'_, HashMap<MigrationId, Early>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn image(&self, id: MigrationId) -> PathBuf {
        self.staging.join(format!("in-{id}"))
    }

    /// Where memory lies that came while the service ran.
    fn ahead(&self, id: MigrationId) -> PathBuf {
        self.staging.join(format!("ahead-{id}"))
    }

    async fn processes(&self, arrival: &Arrival) -> Result<Processes, ArrivalError> {
        let seen = self.engine.inspect(&arrival.container).await?;
        let pid = seen
            .pid
            .ok_or_else(|| ArrivalError::Wrong("the restored container does not stand".to_owned()))?;
        Processes::of(pid).map_err(file("the restored processes can't be read"))
    }
}

/// What the rules say to a call.
fn rule(id: MigrationId, arrival: Option<&Arrival>, call: Call) -> Result<Answer, ArrivalError> {
    match answer(arrival.map(|arrival| arrival.state), call) {
        Answer::Refuse(refusal) => Err(ArrivalError::Refused { id, refusal }),
        other => Ok(other),
    }
}

/// What a part may take: twice what was agreed on, and something for a service that is small or grows meanwhile.
fn allowance(part: &Part, reservation: &Reservation) -> Allowance {
    let agreed = match part {
        Part::Memory | Part::Ahead => reservation.memory,
        Part::Layer | Part::Volume(_) => reservation.files,
    };
    let stream = Bytes(agreed.0.saturating_mul(2).saturating_add(GROWTH.0));
    Allowance { stream, keep_free: KEEP_FREE }
}

/// Has restores of a migration's container held.
fn hold(name: &str) -> Result<(), ArrivalError> {
    criu::write_settings(name, criu::HELD).map_err(file("the settings for CRIU can't be written"))
}

/// Has nothing held any more.
fn let_go(name: &str) -> Result<(), ArrivalError> {
    criu::write_settings(name, criu::ALWAYS).map_err(file("the settings for CRIU can't be written"))
}

fn body_of(reservation: &Reservation) -> Result<ContainerCreateBody, ArrivalError> {
    serde_json::from_value(reservation.body.clone())
        .map_err(|error| ArrivalError::Wrong(format!("the container's description can't be read: {error}")))
}
