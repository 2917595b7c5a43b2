//! Starting a container before what it is restored from is there.
//!
//! The engine makes network, mounts and its own process for the container while the service is still being dumped; the runtime
//! waits for the image. Meanwhile the engine holds the container's lock and answers no question about it, so what it was before
//! is remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::query_parameters::StartContainerOptions;
use tokio::task::JoinHandle;

use super::{Container, Engine, EngineError, failed};

/// What the engine takes beside the restore.
const BESIDE: Duration = Duration::from_secs(60);

/// The containers that are being started, by id, as they were before.
#[derive(Debug, Clone, Default)]
pub(super) struct BeingStarted(Arc<Mutex<HashMap<String, Container>>>);

impl BeingStarted {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Container>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one of an id or name.
    pub(super) fn find(&self, container: &str) -> Option<Container> {
        let all = self.all();
        all.get(container).or_else(|| all.values().find(|one| one.name == container)).cloned()
    }
}

/// A start that is under way.
#[derive(Debug)]
pub struct Early {
    container: String,
    start: JoinHandle<Result<(), EngineError>>,
}

impl Early {
    /// Whether it has ended, for better or worse.
    pub fn has_ended(&self) -> bool {
        self.start.is_finished()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When the engine refused, or the start was cut short.
    pub async fn end(self) -> Result<(), EngineError> {
        let cut_short = EngineError::Silent { container: self.container, what: "the start" };
        self.start.await.map_err(|_| cut_short)?
    }
}

impl Engine {
    /// Has a container started whose runtime waits for at most so long. It goes on also when nobody waits for its end.
    ///
    /// # Errors
    /// When there is no such container or the engine does not answer.
    pub async fn start_early(&self, container: &str, longest: Duration) -> Result<Early, EngineError> {
        let seen = self.inspect(container).await?;
        let (id, being_started) = (seen.id.clone(), self.being_started.clone());
        let container = id.clone();
        being_started.all().insert(id.clone(), seen);
        let patient = self.docker.clone().with_timeout(longest + BESIDE);
        let start = tokio::spawn(async move {
            let started = patient.start_container(&id, None::<StartContainerOptions>).await;
            being_started.all().remove(&id);
            started.map_err(failed("start the container"))
        });
        Ok(Early { container, start })
    }
}
