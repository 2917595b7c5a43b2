//! The nested engine, by bollard on its local socket.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as BollardError;
use bollard::models::{ContainerCreateBody, ContainerUpdateBody, RestartPolicy};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveVolumeOptions, StartContainerOptions, StopContainerOptions,
};
use sterna_core::continuum::ServiceName;
use thiserror::Error;

use super::names;
use super::processes::Processes;

mod body;
mod container;
mod early;
mod images;
mod output;
pub use body::{destination_body, published, service_body};
pub use container::{Container, Volume, restarts};
pub use early::Early;
pub use images::LONGEST_LOAD;

/// The label that makes a container a service. Its value is the service's name.
pub const SERVICE_LABEL: &str = "sterna.service";

/// The label of a container that a migration made. Its value is the migration's id.
pub const MIGRATION_LABEL: &str = "sterna.migration";

/// The runtime that containers made by Sterna use.
pub const RUNTIME: &str = "sterna";

/// Time that a container has to end in where nothing else is said.
const TO_STOP: Duration = Duration::from_secs(10);
/// What the engine takes beside that.
const BESIDE_STOPPING: Duration = Duration::from_secs(60);

/// The engine refused, or what it runs can't be moved.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The engine's own error.
    #[error("the engine could not {what}: {source}")]
    Engine {
        /// What was asked of it.
        what: String,
        /// What it said.
        source: BollardError,
    },
    /// It was not done in time.
    #[error(
        "the engine did not {what} within {} s: its disk or processor may be busy; give it more time, or do that beforehand",
        .within.as_secs()
    )]
    Late {
        /// What was asked of it.
        what: &'static str,
        /// The time that it had.
        within: Duration,
    },
    /// The engine does not say something that is needed.
    #[error("the engine says nothing about {what} of container {container}")]
    Silent {
        /// The container.
        container: String,
        /// What is missing.
        what: &'static str,
    },
    /// An image can't be had from its registry.
    #[error(
        "image `{image}` can't be pulled: {source}; see that it is named in full, that this node reaches its registry, and that \
         it is given to anybody there: Sterna has no credentials for registries"
    )]
    Pull {
        /// The image.
        image: String,
        /// What engine or registry said.
        source: BollardError,
    },
    /// There is no such service.
    #[error("no container on this node has the label {SERVICE_LABEL}={0}")]
    NoService(ServiceName),
    /// A service declares something malformed, or nothing can have this name.
    #[error("{0}")]
    Malformed(String),
}

impl EngineError {
    /// Whether the engine answered that it won't, and did not merely fail to answer.
    pub fn is_refusal(&self) -> bool {
        use BollardError::{DockerResponseServerError, DockerStreamError};
        let refused = |source: &BollardError| {
            matches!(source, DockerResponseServerError { .. } | DockerStreamError { .. })
        };
        matches!(self, Self::Engine { source, .. } | Self::Pull { source, .. } if refused(source))
    }

    /// Whether it only says that there is no such thing.
    pub(crate) fn is_absence(&self) -> bool {
        match self {
            Self::Engine { source, .. } => is_not_found(source),
            Self::Malformed(_) => true,
            Self::Late { .. } | Self::Pull { .. } | Self::Silent { .. } | Self::NoService(_) => false,
        }
    }
}

fn failed(what: impl Into<String>) -> impl FnOnce(BollardError) -> EngineError {
    let what = what.into();
    move |source| EngineError::Engine { what, source }
}

/// Refuses what would be another call if it stood in the path of one.
fn object<'a>(what: &str, name: &'a str) -> Result<&'a str, EngineError> {
    let malformed =
        || EngineError::Malformed(format!("`{}` is not the name of a {what}", name.escape_debug()));
    names::is_object(name).then_some(name).ok_or_else(malformed)
}

/// As above, for images.
fn image_name(name: &str) -> Result<&str, EngineError> {
    let malformed =
        || EngineError::Malformed(format!("`{}` is not the name of an image", name.escape_debug()));
    names::is_image(name).then_some(name).ok_or_else(malformed)
}

/// How an engine is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineMake {
    /// Its storage driver.
    pub storage: String,
    /// How it confines services, sorted as it says it.
    pub security: Vec<String>,
    /// The folder of its images, layers and volumes.
    pub root: PathBuf,
}

/// A nested engine.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    being_started: early::BeingStarted,
}

impl Engine {
    /// Connects to the engine on this node, in the version that both speak.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn connect() -> Result<Self, EngineError> {
        let docker = Docker::connect_with_unix_defaults().map_err(failed("be reached"))?;
        let docker = docker.negotiate_version().await.map_err(failed("agree on an API version"))?;
        Ok(Self { docker, being_started: early::BeingStarted::default() })
    }

    /// One at whose socket nobody listens.
    #[cfg(test)]
    pub fn deaf(folder: &std::path::Path) -> Self {
        let socket = folder.join("engine.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let version = bollard::API_DEFAULT_VERSION;
        let docker = Docker::connect_with_unix(&socket.to_string_lossy(), 1, version).unwrap();
        Self { docker, being_started: early::BeingStarted::default() }
    }

    /// Its version.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn version(&self) -> Result<String, EngineError> {
        let version = self.docker.version().await.map_err(failed("tell its version"))?;
        Ok(version.version.unwrap_or_default())
    }

    /// Looks at one container, by id or name.
    ///
    /// # Errors
    /// When there is none or the engine does not answer.
    pub async fn inspect(&self, container: &str) -> Result<Container, EngineError> {
        if let Some(known) = self.being_started.find(container) {
            return Ok(known);
        }
        let seen = self.docker.inspect_container(object("container", container)?, None).await;
        Container::read(seen.map_err(failed(format!("inspect container {container}")))?)
    }

    /// Whether there is a container of this name, a service or not.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn has_container(&self, name: &str) -> Result<bool, EngineError> {
        match self.inspect(name).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_absence() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The container of a name that a migration made; `None` where there is none, or one that it did not make.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn made_for(&self, name: &str, migration: &str) -> Result<Option<String>, EngineError> {
        match self.inspect(name).await {
            Ok(container) => {
                Ok(Some(container).filter(|one| one.migration() == Some(migration)).map(|one| one.id))
            }
            Err(error) if error.is_absence() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Looks at every container that is a service, running or not.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn services(&self) -> Result<Vec<Container>, EngineError> {
        let filters = HashMap::from([("label", vec![SERVICE_LABEL])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed =
            self.docker.list_containers(Some(options)).await.map_err(failed("list its containers"))?;
        let mut services = Vec::new();
        for id in listed.into_iter().filter_map(|one| one.id) {
            match self.inspect(&id).await {
                Ok(container) => services.push(container),
                // It was removed between the two calls.
                Err(EngineError::Engine { source, .. }) if is_not_found(&source) => {}
                Err(error) => return Err(error),
            }
        }
        services.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(services)
    }

    /// Freezes a container. One that is frozen already stays so.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn pause(&self, container: &str) -> Result<(), EngineError> {
        match self.docker.pause_container(object("container", container)?).await {
            Err(error) if !self.inspect(container).await?.paused => {
                Err(failed("freeze the container")(error))
            }
            _ => Ok(()),
        }
    }

    /// Thaws a container. One that is not frozen stays so.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn unpause(&self, container: &str) -> Result<(), EngineError> {
        match self.docker.unpause_container(object("container", container)?).await {
            Err(error) if self.inspect(container).await?.paused => Err(failed("thaw the container")(error)),
            _ => Ok(()),
        }
    }

    /// Creates a container, not started.
    ///
    /// # Errors
    /// When the name is taken, the image is missing or the engine refuses.
    pub async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<String, EngineError> {
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let created = self.docker.create_container(Some(options), body).await;
        Ok(created.map_err(failed(format!("create container `{name}`")))?.id)
    }

    /// Starts a container; for one that a note has been left for, this is the restore.
    ///
    /// # Errors
    /// When the engine or its runtime refuses.
    pub async fn start(&self, container: &str) -> Result<(), EngineError> {
        self.docker
            .start_container(object("container", container)?, None::<StartContainerOptions>)
            .await
            .map_err(failed("start the container"))
    }

    /// Asks a container to end and kills it once its time for that is over. One that does not run stays so.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn stop(&self, container: &Container) -> Result<(), EngineError> {
        let own = container.body.stop_timeout.and_then(|seconds| u64::try_from(seconds).ok());
        let time = own.map_or(TO_STOP, Duration::from_secs) + BESIDE_STOPPING;
        let docker = self.docker.clone().with_timeout(time);
        match docker.stop_container(object("container", &container.id)?, None::<StopContainerOptions>).await {
            Err(error) if !is_not_found(&error) => Err(failed("stop the container")(error)),
            _ => Ok(()),
        }
    }

    /// Kills and removes a container; there need not be one. Named volumes stay.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn remove(&self, container: &str) -> Result<(), EngineError> {
        if !names::is_object(container) {
            return Ok(());
        }
        // A frozen container can't be killed on cgroup v1.
        if let Ok(seen) = self.inspect(container).await
            && seen.paused
        {
            // And nothing may run in between: a kill waits in each frozen process and is the first thing that it meets.
            if let Some(pid) = seen.pid
                && let Ok(processes) = Processes::of(pid)
            {
                processes.kill().map_err(|error| {
                    EngineError::Malformed(format!("kill container {container}: {error}"))
                })?;
            }
            if let Err(error) = self.unpause(container).await
                && self.inspect(container).await.is_ok_and(|seen| seen.paused)
            {
                return Err(error);
            }
        }
        let options = RemoveContainerOptionsBuilder::default().force(true).v(false).build();
        match self.docker.remove_container(container, Some(options)).await {
            Err(error) if !is_not_found(&error) => Err(failed("remove the container")(error)),
            _ => Ok(()),
        }
    }

    /// Removes a named volume; there need not be one.
    ///
    /// # Errors
    /// When the engine refuses, for example because a container uses it.
    pub async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        if !names::is_object(name) {
            return Ok(());
        }
        match self.docker.remove_volume(name, None::<RemoveVolumeOptions>).await {
            Err(error) if !is_not_found(&error) => Err(failed(format!("remove volume {name}"))(error)),
            _ => Ok(()),
        }
    }

    /// Names of the containers that use a named volume, other than one of them.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn other_users_of(&self, volume: &str, container: &str) -> Result<Vec<String>, EngineError> {
        let filters = HashMap::from([("volume", vec![volume])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = self.docker.list_containers(Some(options)).await;
        let listed = listed.map_err(failed("list the containers of a volume"))?;
        let others = listed.into_iter().filter(|one| one.id.as_deref() != Some(container));
        // The filter takes every volume whose name begins so.
        let uses = |one: &bollard::models::ContainerSummary| {
            one.mounts.iter().flatten().any(|mount| mount.name.as_deref() == Some(volume))
        };
        Ok(others.filter(uses).flat_map(|one| one.names.unwrap_or_default()).collect())
    }

    /// Containers with a label, by id, running or not.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn labelled(&self, label: &str) -> Result<Vec<String>, EngineError> {
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed =
            self.docker.list_containers(Some(options)).await.map_err(failed("list its containers"))?;
        Ok(listed.into_iter().filter_map(|one| one.id).collect())
    }

    /// Its storage driver, how it confines services, and the folder of its data.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn make(&self) -> Result<EngineMake, EngineError> {
        let info = self.docker.info().await.map_err(failed("tell how it is made"))?;
        Ok(EngineMake {
            storage: info.driver.unwrap_or_default(),
            security: info.security_options.unwrap_or_default(),
            root: info.docker_root_dir.unwrap_or_default().into(),
        })
    }

    /// The named volume's existence.
    pub async fn has_volume(&self, name: &str) -> bool {
        names::is_object(name) && self.docker.inspect_volume(name).await.is_ok()
    }

    /// Sets a container's restart policy.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn set_restart(
        &self,
        container: &str,
        policy: Option<RestartPolicy>,
    ) -> Result<(), EngineError> {
        use bollard::models::RestartPolicyNameEnum;
        let none = RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None };
        let body = ContainerUpdateBody {
            restart_policy: Some(policy.unwrap_or(none)),
            ..ContainerUpdateBody::default()
        };
        self.docker
            .update_container(object("container", container)?, body)
            .await
            .map_err(failed("set the restart policy"))
    }
}

fn is_not_found(error: &BollardError) -> bool {
    matches!(error, BollardError::DockerResponseServerError { status_code: 404, .. })
}
