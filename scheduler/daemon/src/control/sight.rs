//! For how long a migration is followed. Its agents go on without the scheduler, and the loop has to go on without them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sterna_executor::migration::order::Order;
use sterna_executor::migration::phase::Phase;
use sterna_executor::migration::report::Event;
use tokio::sync::Notify;
use tokio::time::Instant;

/// So long after the commit a migration may say nothing: then one end does not see the other, and both try for ever.
const SILENCE: Duration = Duration::from_secs(60);

/// What is seen of a migration.
#[derive(Debug)]
pub(super) struct Sight {
    /// When it is undone, unless it is committed.
    over: Instant,
    after: Duration,
    /// Its last sign of life since it is committed.
    committed: Mutex<Option<Instant>>,
    /// Rung by the commit: from then on there is less to wait for.
    commits: Notify,
}

impl Sight {
    /// Of one that is about to be ordered.
    pub(super) fn begin(order: &Order) -> Self {
        let after = order.deadline.saturating_add(order.freeze_lease).to_duration();
        Self { over: Instant::now() + after, after, committed: Mutex::default(), commits: Notify::new() }
    }

    /// It gave a sign of life.
    pub(super) fn heard(&self, event: &Event) {
        let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        let commits = matches!(event, Event::Reached(record) if record.phase == Phase::Committed);
        if commits || committed.is_some() {
            *committed = Some(Instant::now());
        }
        if commits {
            self.commits.notify_one();
        }
    }

    /// Waits until there is nothing more to wait for. Gives why.
    pub(super) async fn lost(&self) -> String {
        loop {
            let silent = self.committed.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at + SILENCE);
            let until = silent.map_or(self.over, |silent| silent.min(self.over));
            if until > Instant::now() {
                tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = self.commits.notified() => {}
                }
            } else if until < self.over {
                return format!("it is committed and has said nothing for {} s", SILENCE.as_secs());
            } else {
                let after = self.after.as_secs();
                return format!("it has not ended within deadline and freeze lease, {after} s");
            }
        }
    }
}
