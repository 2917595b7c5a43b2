//! Migrations as objects of a Kubernetes cluster, kept at what the history and the loop know of them.
//!
//! Beside the loop, which never waits for it: a cluster that is away costs objects and nothing else. Level-triggered as the loop
//! is: each look reads all objects and all that is known, and the next look is the retry.
//!
//! | module | what lives there |
//! |---|---|
//! | [`heard`] | what the loop tells while migrations run |
//! | `telling` | what is known of each migration, from there and from the history |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sterna_core::continuum::{Continuum, NodeName};
use sterna_executor::fleet::FleetError;
use sterna_executor::migration::order::MigrationId;
use sterna_executor::platform::kubernetes::migration_object::account::Account;
use sterna_executor::platform::kubernetes::migration_object::objects::{ObjectError, Objects, Written};
use sterna_executor::platform::kubernetes::migration_object::reconcile::{Step, reconcile};
use sterna_executor::platform::kubernetes::migration_object::status::WHY;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use self::heard::Heard;
use crate::control::desk::Desk;
use crate::control::world::{Clock, RealWorld};
use crate::history::{HistoryError, HistoryStore};

pub mod heard;
mod telling;

/// Between two looks while something runs: whoever deletes an object need not wait for longer.
const SOON: Duration = Duration::from_secs(1);
/// And while nothing does.
const SELDOM: Duration = Duration::from_secs(30);
/// Looks at once, one after the other, until nothing is left to be written.
const LOOKS: usize = 6;
/// How long asking an agent to undo a migration may take.
const TO_CANCEL: Duration = Duration::from_secs(5);
/// How long the last words may take.
const TO_END: Duration = Duration::from_secs(5);

/// Has migrations undone.
pub trait Canceller: Send + Sync {
    /// Has a migration undone that leaves `from`.
    ///
    /// # Errors
    /// When its agent can't be reached, or refuses: it is committed, or has ended.
    fn cancel(
        &self,
        continuum: &Continuum,
        id: MigrationId,
        from: &NodeName,
        why: &str,
    ) -> impl Future<Output = Result<(), FleetError>> + Send;
}

impl Canceller for RealWorld {
    async fn cancel(
        &self,
        continuum: &Continuum,
        id: MigrationId,
        from: &NodeName,
        why: &str,
    ) -> Result<(), FleetError> {
        self.fleet(continuum).await?.cancel(id, from, why).await
    }
}

/// A look that could not be completed.
#[derive(Debug, Error)]
enum LookError {
    #[error(transparent)]
    Objects(#[from] ObjectError),
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// Keeps the objects of one continuum.
pub struct Keeper<O, X, C, L> {
    /// The objects.
    pub objects: O,
    /// Who has migrations undone.
    pub canceller: X,
    /// Time.
    pub clock: C,
    /// Whether this scheduler may write: one that does not lead may not.
    pub leads: L,
    /// What happened.
    pub history: HistoryStore,
    /// What the loop saw last.
    pub desk: Arc<Desk>,
    /// What the loop tells.
    pub heard: Arc<Heard>,
    /// How many objects of migrations that have ended are kept.
    pub keep: usize,
}

/// What is remembered from look to look.
#[derive(Default)]
struct Memory {
    /// Migrations that have ended: nothing changes of them.
    ended: BTreeMap<MigrationId, Account>,
    /// Why the last look could not be completed.
    failed: Option<String>,
    /// Why migrations could not be cancelled the last time.
    refused: BTreeMap<MigrationId, String>,
}

/// What came of a look.
struct Looked {
    /// Whether something was written, or would have been if nobody had been faster: another look is due at once.
    again: bool,
    /// Whether something runs.
    busy: bool,
}

impl<O, X, C, L> Keeper<O, X, C, L>
where
    O: Objects,
    X: Canceller,
    C: Clock,
    L: Fn() -> bool + Send + Sync,
{
    /// Keeps them until `ended`, and then says what is left to say.
    pub async fn keep(self, ended: oneshot::Receiver<()>) {
        let mut memory = Memory::default();
        let mut ended = std::pin::pin!(ended);
        loop {
            let busy = tokio::select! {
                biased;
                _ = &mut ended => break,
                busy = self.round(&mut memory) => busy,
            };
            let pause = if busy { SOON } else { SELDOM };
            tokio::select! {
                biased;
                _ = &mut ended => break,
                () = self.heard.rung() => {}
                () = sleep(pause) => {}
            }
        }
        if timeout(TO_END, self.round(&mut memory)).await.is_err() {
            tracing::warn!("the objects of migrations are not all written; the next scheduler does it");
        }
    }

    /// Looks until nothing is left to be written, so often at most. Gives whether something runs.
    async fn round(&self, memory: &mut Memory) -> bool {
        for look in 0..LOOKS {
            match self.look(memory, look == 0).await {
                Ok(looked) => {
                    if memory.failed.take().is_some() {
                        tracing::info!("migrations are shown in Kubernetes again");
                    }
                    if !looked.again {
                        return looked.busy;
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    if memory.failed.as_ref() != Some(&error) {
                        tracing::warn!(
                            error,
                            "migrations can't be shown in Kubernetes; they go on without it"
                        );
                    }
                    memory.failed = Some(error);
                    return self.heard.something_runs();
                }
            }
        }
        true
    }

    async fn look(&self, memory: &mut Memory, first: bool) -> Result<Looked, LookError> {
        if !(self.leads)() {
            return Ok(Looked { again: false, busy: false });
        }
        let standing = self.desk.standing();
        let continuum = &standing.continuum;
        let seen = self.objects.list().await?;
        let known = self.known(memory, &standing, &seen).await?;
        let busy = known.accounts.iter().any(|account| !account.has_ended());
        let (cancels, writings): (Vec<_>, Vec<_>) =
            reconcile(&known, &seen, self.clock.now()).into_iter().partition(|step| !step.writes());
        if first {
            for cancel in &cancels {
                self.cancel(memory, continuum, cancel).await;
            }
        }
        let mut again = false;
        for step in &writings {
            // Another one may lead by now.
            if !(self.leads)() {
                return Ok(Looked { again: false, busy: false });
            }
            again = true;
            let written = self.objects.write(step).await?;
            if let Step::Tell { object, happened, .. } = step
                && written == Written::Done
            {
                self.objects.announce(object, happened, continuum).await;
            }
        }
        Ok(Looked { again, busy })
    }

    async fn cancel(&self, memory: &mut Memory, continuum: &Continuum, step: &Step) {
        let Step::Cancel { id, from } = step else { return };
        if !(self.leads)() {
            return;
        }
        let asked = timeout(TO_CANCEL, self.canceller.cancel(continuum, *id, from, WHY)).await;
        let refused = match asked {
            Ok(Ok(())) => {
                memory.refused.remove(id);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("`{from}` does not answer in time"),
        };
        // Its object is looked at again in a second, and it is asked again.
        if memory.refused.get(id) != Some(&refused) {
            tracing::warn!(migration = %id, reason = refused, "its object was deleted, and it is not cancelled");
            memory.refused.insert(*id, refused);
        }
    }
}

#[cfg(test)]
mod tests;
