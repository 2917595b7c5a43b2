//! The destination's side of a migration: takes a service in, holds it, and runs it when the certificate has come.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bollard::models::{ContainerCreateBody, RestartPolicy};
use thiserror::Error;
use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;

use crate::engine::criu;
use crate::engine::docker::{Engine, EngineError, destination_body};
use crate::engine::processes::Processes;
use crate::engine::shim::{NOTES, Note};
use crate::migration::order::MigrationId;
use crate::transfer::receive::receive;

use super::api::{Certificate, Finish, NodeFacts, Part, Reservation, Restored, Verdict};
use super::precheck;
use super::store::{Arrival, ArrivalState, Store, StoreError};

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
    /// The order of the calls, or what they say, is not right.
    #[error("{0}")]
    Wrong(String),
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

/// Takes services in.
#[derive(Debug, Clone)]
pub struct Arrivals {
    /// The node's engine.
    pub engine: Engine,
    /// The register.
    pub store: Store,
    /// Folder for memory images.
    pub staging: PathBuf,
}

impl Arrivals {
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
        let mut reasons = precheck::pair(source, own);
        reasons.extend(precheck::room(reservation.memory, own.staging_free));
        let body = body_of(reservation)?;
        let name = &reservation.order.service;
        let wanted = published(&body);
        if self.engine.has_container(name.as_str()).await? {
            reasons.push(format!("a container named `{name}` is on the destination already; remove it"));
        }
        for other in self.engine.services().await? {
            if other.pid.is_some() && other.name != name.as_str() {
                for port in published(&other.body).into_iter().filter(|port| wanted.contains(port)) {
                    reasons.push(format!("port {port} is published by `{}` on the destination", other.name));
                }
            }
        }
        for volume in &reservation.volumes {
            if self.engine.has_volume(volume).await {
                reasons.push(format!(
                    "a volume named `{volume}` is on the destination already; remove or rename it"
                ));
            }
        }
        let there = self.engine.image_digest(&reservation.image).await?;
        Ok(Verdict { reasons, has_image: there.is_some() })
    }

    /// Creates the container, not started. Doing it twice is the same as doing it once.
    ///
    /// # Errors
    /// When the engine refuses or the image is another.
    pub async fn reserve(&self, reservation: &Reservation) -> Result<(), ArrivalError> {
        let id = reservation.order.id;
        if let Some(known) = self.store.arrival(id)? {
            return if known.state == ArrivalState::Held {
                Ok(())
            } else {
                Err(ArrivalError::Wrong(format!("migration {id} was here before and has ended")))
            };
        }
        let name = id.to_string();
        let settings = criu::settings_path(&name);
        std::fs::create_dir_all(criu::SETTINGS)
            .and_then(|()| std::fs::write(&settings, criu::HELD))
            .map_err(file("the settings for CRIU can't be written"))?;
        private_folder(&self.image(id))?;
        let mut body = destination_body(body_of(reservation)?, &name);
        if self.engine.image_digest(body.image.as_deref().unwrap_or_default()).await?.as_deref()
            != Some(reservation.image.as_str())
        {
            // The name is missing here or means another image: the digest never does.
            body.image = Some(reservation.image.clone());
        }
        let container = self.engine.create(reservation.order.service.as_str(), body).await?;
        self.store.reserve(reservation, &container)?;
        Ok(())
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
        let arrival = self.held(id)?;
        let root = match part {
            Part::Memory => self.image(id),
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
        let received =
            tokio::task::spawn_blocking(move || receive(std::io::BufReader::new(input), &root)).await;
        received
            .map_err(|error| {
                ArrivalError::Wrong(format!("taking in {} was cut short: {error}", part.path()))
            })?
            .map_err(file(format!("taking in {}", part.path())))?;
        Ok(())
    }

    /// Restores the service. Every process of it stays stopped.
    ///
    /// # Errors
    /// When CRIU or the engine refuses.
    pub async fn restore(&self, id: MigrationId) -> Result<(), ArrivalError> {
        let arrival = self.held(id)?;
        let image = self.image(id);
        let notes = Path::new(NOTES);
        let seen = self.engine.inspect(&arrival.container).await?;
        let layer = seen
            .layer
            .ok_or_else(|| ArrivalError::Wrong("the container has no writable layer".to_owned()))?;
        hand_over(&image, &layer).map_err(file("the memory image can't be opened to the service's root"))?;
        Note { image: image.clone(), restored: false }
            .leave(notes, &arrival.container)
            .map_err(file("the note for the runtime can't be written"))?;
        if let Err(error) = self.engine.start(&arrival.container).await {
            let criu = criu::diagnosis(&image.join("restore.log"));
            return Err(ArrivalError::Restore { engine: error.to_string(), criu });
        }
        // Later dumps of this container read the same settings: only this restore is held.
        std::fs::write(criu::settings_path(&id.to_string()), criu::ALWAYS)
            .map_err(file("the settings for CRIU can't be written"))
    }

    /// Shows what was restored.
    ///
    /// # Errors
    /// When it does not stand.
    pub async fn restored(&self, id: MigrationId) -> Result<Restored, ArrivalError> {
        let arrival = self.held(id)?;
        let processes = self.processes(&arrival).await?;
        let note = Note::read(Path::new(NOTES), &arrival.container)
            .map_err(file("the runtime's note can't be read"))?;
        Ok(Restored {
            tree: processes.tree(),
            held: processes.all_stopped(),
            by_restore: note.is_some_and(|note| note.restored),
        })
    }

    /// Takes over the service with its certificate and lets it run. Doing it twice is the same as doing it once.
    ///
    /// # Errors
    /// When the certificate is not for what is held here, or the processes can't be released.
    pub async fn release(&self, id: MigrationId, certificate: &Certificate) -> Result<(), ArrivalError> {
        let arrival = self.arrival(id)?;
        let reservation = &arrival.reservation;
        let due = Certificate {
            migration: id,
            service: reservation.order.service.clone(),
            epoch: reservation.epoch + 1,
            destination: reservation.order.to.clone(),
            image: reservation.image.clone(),
        };
        if *certificate != due {
            return Err(ArrivalError::Wrong("the certificate is not for what is held here".to_owned()));
        }
        match arrival.state {
            ArrivalState::Discarded => {
                return Err(ArrivalError::Wrong("what was held here has been discarded".to_owned()));
            }
            ArrivalState::Finished => return Ok(()),
            ArrivalState::Held => self.store.take_over(id, certificate)?,
            ArrivalState::Released => {}
        }
        self.processes(&arrival).await?.resume().map_err(file("the processes can't be released"))
    }

    /// Tidies up after the source is gone. Doing it twice is the same as doing it once.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn finish(&self, id: MigrationId, finish: &Finish) -> Result<(), ArrivalError> {
        let arrival = self.arrival(id)?;
        if !matches!(arrival.state, ArrivalState::Released | ArrivalState::Finished) {
            return Err(ArrivalError::Wrong("the service does not run here yet".to_owned()));
        }
        if let Some(restart) = &finish.restart {
            let policy: RestartPolicy = serde_json::from_value(restart.clone())
                .map_err(|error| ArrivalError::Wrong(format!("the restart policy can't be read: {error}")))?;
            self.engine.set_restart(&arrival.container, Some(policy)).await?;
        }
        self.tidy(id, &arrival)?;
        Ok(self.store.set_arrival(id, ArrivalState::Finished)?)
    }

    /// Gives up what is held; there need not be anything.
    ///
    /// # Errors
    /// When the service runs here already, or the engine refuses.
    pub async fn discard(&self, id: MigrationId) -> Result<(), ArrivalError> {
        let Some(arrival) = self.store.arrival(id)? else {
            self.remove_image(id)?;
            return Ok(());
        };
        match arrival.state {
            ArrivalState::Released | ArrivalState::Finished => {
                return Err(ArrivalError::Wrong("the service runs here with a certificate".to_owned()));
            }
            ArrivalState::Discarded => return Ok(()),
            ArrivalState::Held => {}
        }
        self.engine.remove(&arrival.container).await?;
        for volume in &arrival.reservation.volumes {
            // It was made for this migration: the check refuses volumes that exist.
            self.engine.remove_volume(volume).await?;
        }
        self.tidy(id, &arrival)?;
        std::fs::remove_file(criu::settings_path(&id.to_string())).ok();
        Ok(self.store.set_arrival(id, ArrivalState::Discarded)?)
    }

    fn tidy(&self, id: MigrationId, arrival: &Arrival) -> Result<(), ArrivalError> {
        Note::remove(Path::new(NOTES), &arrival.container)
            .map_err(file("the note for the runtime can't be removed"))?;
        self.remove_image(id)
    }

    fn remove_image(&self, id: MigrationId) -> Result<(), ArrivalError> {
        remove_folder(&self.image(id)).map_err(file("the memory image can't be removed"))
    }

    fn image(&self, id: MigrationId) -> PathBuf {
        self.staging.join(format!("in-{id}"))
    }

    fn arrival(&self, id: MigrationId) -> Result<Arrival, ArrivalError> {
        let arrival = self.store.arrival(id)?;
        arrival.ok_or_else(|| ArrivalError::Wrong(format!("nothing is known of migration {id} here")))
    }

    fn held(&self, id: MigrationId) -> Result<Arrival, ArrivalError> {
        let arrival = self.arrival(id)?;
        if arrival.state == ArrivalState::Held {
            Ok(arrival)
        } else {
            Err(ArrivalError::Wrong(format!("migration {id} has ended here")))
        }
    }

    async fn processes(&self, arrival: &Arrival) -> Result<Processes, ArrivalError> {
        let seen = self.engine.inspect(&arrival.container).await?;
        let pid = seen
            .pid
            .ok_or_else(|| ArrivalError::Wrong("the restored container does not stand".to_owned()))?;
        Processes::of(pid).map_err(file("the restored processes can't be read"))
    }

    /// Whether a migration comes from this node.
    ///
    /// # Errors
    /// When the register refuses.
    pub fn source_of(&self, id: MigrationId) -> Result<Option<sterna_core::continuum::NodeName>, StoreError> {
        Ok(self.store.arrival(id)?.map(|arrival| arrival.source))
    }
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
        open(&entry?.path(), 0o640)?;
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

fn body_of(reservation: &Reservation) -> Result<ContainerCreateBody, ArrivalError> {
    serde_json::from_value(reservation.body.clone())
        .map_err(|error| ArrivalError::Wrong(format!("the container's description can't be read: {error}")))
}

/// Ports of the node that a container takes, `6379/tcp`.
fn published(body: &ContainerCreateBody) -> Vec<String> {
    let bindings = body.host_config.as_ref().and_then(|host| host.port_bindings.as_ref());
    let mut ports: Vec<String> = bindings
        .into_iter()
        .flatten()
        .flat_map(|(inner, outer)| {
            let protocol = inner.split_once('/').map_or("tcp", |(_, protocol)| protocol);
            outer
                .iter()
                .flatten()
                .filter_map(move |one| Some(format!("{}/{protocol}", one.host_port.as_ref()?)))
        })
        .collect();
    ports.sort();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::docker::service_body;
    use sterna_core::continuum::Run;

    #[test]
    fn published_ports_are_those_of_the_node() {
        let run = Run {
            image: "x".into(),
            command: vec![],
            env: vec![],
            ports: vec!["80/tcp".into(), "53/udp".into()],
            volumes: vec![],
            on: "a".into(),
        };
        assert_eq!(published(&service_body(&"s".into(), &run).unwrap()), ["53/udp", "80/tcp"]);
    }
}
