//! Restoring what came: the engine is asked early, the runtime waits for the image, and what was restored stands stopped.

use std::io;
use std::path::Path;
use std::time::Duration;

use sterna_policies::quantity::Millis;

use crate::engine::criu;
use crate::engine::processes::Processes;
use crate::engine::shim::{NOTES, Note};
use crate::fault::{self, AtArrival, Point};
use crate::migration::holding::Call;
use crate::migration::order::MigrationId;
use crate::node::api::Restored;
use crate::node::staging::hand_over;
use crate::node::store::Arrival;
use crate::transfer::{ahead, delta};

use super::{ArrivalError, Arrivals, file, hold, let_go};

/// Time for a restore, where the freeze lease is shorter: CRIU has been seen to spin on an image that it can't use.
const RESTORE: Millis = Millis::from_micros(60_000_000_000);
/// Time for the engine to give up a start whose runtime refuses.
const GIVING_UP: Duration = Duration::from_secs(10);

impl Arrivals {
    /// Has the engine start the container, whose runtime then waits for the image. The files must be there: from here on the
    /// engine has them mounted. Doing it twice is the same as doing it once.
    ///
    /// # Errors
    /// When the engine does not answer. That it refuses shows when it is restored.
    pub async fn prepare(&self, id: MigrationId) -> Result<(), ArrivalError> {
        let _turn = self.turn(id).await;
        let arrival = self.known(id, Call::Restore)?;
        if self.early().contains_key(&id) || self.standing(&arrival).await? {
            return Ok(());
        }
        hold(&id.to_string())?;
        let limit = limit(&arrival);
        let note = Note { awaited: Some(limit), ..self.note(id, limit) };
        leave(&note, &arrival)?;
        fault::gate(Point::Arrival(AtArrival::Prepare)).await;
        let early = self.engine.start_early(&arrival.container, limit.to_duration()).await?;
        self.early().insert(id, early);
        Ok(())
    }

    /// Restores the service. Every process of it stays stopped. Doing it twice is the same as doing it once.
    ///
    /// # Errors
    /// When CRIU or the engine refuses.
    pub async fn restore(&self, id: MigrationId) -> Result<(), ArrivalError> {
        let _turn = self.turn(id).await;
        let arrival = self.known(id, Call::Restore)?;
        if self.standing(&arrival).await? {
            return Ok(());
        }
        let seen = self.engine.inspect(&arrival.container).await?;
        let layer = seen
            .layer
            .ok_or_else(|| ArrivalError::Wrong("the container has no writable layer".to_owned()))?;
        self.open_image(id, &layer).map_err(file("the memory image can't be made ready"))?;
        hold(&id.to_string())?;
        // One that has ended by now has waited in vain, or the engine refused: it is asked again.
        let early = self.early().remove(&id).filter(|early| !early.has_ended());
        leave(&self.note(id, limit(&arrival)), &arrival)?;
        fault::gate(Point::Arrival(AtArrival::Restore)).await;
        let started = match early {
            Some(early) => early.end().await,
            None => self.engine.start(&arrival.container).await,
        };
        fault::gate(Point::Arrival(AtArrival::Restored)).await;
        // Later dumps of this container read the same settings: only this restore is held.
        let_go(&id.to_string())?;
        started.map_err(|error| ArrivalError::Restore {
            engine: error.to_string(),
            criu: criu::diagnosis(&self.image(id).join("restore.log")),
        })
    }

    /// Shows what was restored.
    ///
    /// # Errors
    /// When it does not stand.
    pub async fn restored(&self, id: MigrationId) -> Result<Restored, ArrivalError> {
        let arrival = self.known(id, Call::Restore)?;
        let processes = self.processes(&arrival).await?;
        Ok(Restored {
            tree: processes.tree(),
            held: processes.all_stopped(),
            by_restore: by_restore(&arrival)?,
        })
    }

    /// Whether what was restored stands here, every process of it stopped.
    pub(super) async fn standing(&self, arrival: &Arrival) -> Result<bool, ArrivalError> {
        if arrival.container.is_empty() || !by_restore(arrival)? {
            return Ok(false);
        }
        let seen = match self.engine.inspect(&arrival.container).await {
            Ok(seen) => seen,
            // Given up meanwhile. Who asks what is on its way here must hear of the others.
            Err(error) if error.is_absence() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        Ok(seen.pid.is_some_and(|pid| Processes::of(pid).is_ok_and(|all| all.all_stopped())))
    }

    /// Has a start end that still waits for its image.
    pub(super) async fn give_up_early(&self, id: MigrationId, container: &str) -> Result<(), ArrivalError> {
        let Some(early) = self.early().remove(&id) else { return Ok(()) };
        Note::give_up(Path::new(NOTES), container)
            .map_err(file("the note for the runtime can't be written"))?;
        match tokio::time::timeout(GIVING_UP, early.end()).await {
            Ok(ended) => tracing::debug!(migration = %id, ?ended, "what waited for the image has ended"),
            // The engine removes it once it has.
            Err(_) => tracing::warn!(migration = %id, "what waited for the image does not end"),
        }
        Ok(())
    }

    fn note(&self, id: MigrationId, limit: Millis) -> Note {
        let image = self.image(id);
        Note { image, restored: false, limit: Some(limit), awaited: None, given_up: false }
    }

    /// Opens the memory image to CRIU, with what was sent ahead as its parent where it hangs on that. Doing it twice is the same
    /// as doing it once.
    fn open_image(&self, id: MigrationId, layer: &Path) -> io::Result<()> {
        let (image, ahead) = (self.image(id), self.ahead(id));
        let parent = image.join(criu::PARENT);
        // From an earlier attempt.
        if std::fs::symlink_metadata(&parent).is_ok_and(|meta| meta.is_symlink()) {
            std::fs::remove_file(&parent)?;
        }
        hand_over(&image, layer)?;
        if let Some(chain) = delta::hangs_on(&image)? {
            ahead::finish(&ahead, &chain)?;
            hand_over(&ahead, layer)?;
            // Relative: CRIU opens it inside the service's own mounts too, by way of the image's folder.
            let beside = Path::new("..").join(ahead.file_name().unwrap_or_default());
            std::os::unix::fs::symlink(beside, &parent)?;
        }
        Ok(())
    }
}

/// Time for a restore, and for the image to come.
fn limit(arrival: &Arrival) -> Millis {
    RESTORE.max(arrival.reservation.order.freeze_lease)
}

fn leave(note: &Note, arrival: &Arrival) -> Result<(), ArrivalError> {
    let left = note.leave(Path::new(NOTES), &arrival.container);
    left.map_err(file("the note for the runtime can't be written"))
}

/// Whether the runtime has restored it.
pub(super) fn by_restore(arrival: &Arrival) -> Result<bool, ArrivalError> {
    let note = Note::read(Path::new(NOTES), &arrival.container);
    Ok(note.map_err(file("the runtime's note can't be read"))?.is_some_and(|note| note.restored))
}
