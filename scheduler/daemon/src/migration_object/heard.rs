//! What the loop tells while migrations run: which they are, and how far each has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sterna_core::continuum::ServiceName;
use sterna_executor::migration::order::MigrationId;
use sterna_executor::migration::phase::Phase;
use sterna_executor::migration::report::Event;
use tokio::sync::Notify;

use crate::control::notice::Notice;

/// Migrations that are remembered while no object of them can be made; of more the oldest are forgotten.
const MOST: usize = 256;

/// What was heard of one migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Course {
    pub service: ServiceName,
    /// The last phase that was reached.
    pub reached: Option<Phase>,
    /// Whether its object has been seen.
    pub shown: bool,
    /// Whether the loop has said its last word of it. What came of it stands in the history.
    pub over: bool,
}

/// What the loop has told, and a bell that rings when it tells something.
#[derive(Debug, Default)]
pub struct Heard {
    bell: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    migrations: BTreeMap<MigrationId, Course>,
    /// Whether the agents have been asked since the start.
    asked: bool,
}

impl Heard {
    /// Hears what the loop tells. Never waits.
    pub fn tell(&self, notice: &Notice<'_>) {
        let mut state = self.state();
        match notice {
            Notice::Moving(id, planned) => {
                let service = planned.service.clone();
                state.migrations.insert(*id, Course { service, reached: None, shown: false, over: false });
                while state.migrations.len() > MOST {
                    state.migrations.pop_first();
                }
            }
            Notice::Event(service, Event::Reached(record)) => {
                let Some(course) = state.running(service) else { return };
                // An agent that was started anew tells the story again.
                course.reached = course.reached.max(Some(record.phase));
            }
            Notice::Ended(planned, _) | Notice::NotSeen(planned, _) => {
                if let Some(course) = state.running(&planned.service) {
                    course.over = true;
                }
            }
            Notice::Decided(_) => state.asked = true,
            Notice::Settled(_) | Notice::LeftToAgents(_) => {}
            _ => return,
        }
        drop(state);
        self.bell.notify_one();
    }

    /// Waits until the loop tells something.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Whether the loop has ordered something of which it has not said the last word.
    pub(super) fn something_runs(&self) -> bool {
        self.state().migrations.values().any(|course| !course.over)
    }

    /// Whether the agents have been asked since the start.
    pub(super) fn asked(&self) -> bool {
        self.state().asked
    }

    /// The migrations, with those marked whose objects have been seen.
    pub(super) fn migrations(&self, seen: &BTreeSet<MigrationId>) -> BTreeMap<MigrationId, Course> {
        let mut state = self.state();
        for (id, course) in &mut state.migrations {
            course.shown |= seen.contains(id);
        }
        state.migrations.clone()
    }

    /// One has ended and its object has been seen: from here on history and object tell all.
    pub(super) fn forget(&self, id: &MigrationId) {
        self.state().migrations.remove(id);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The migration of a service that runs: it has one at a time.
    fn running(&mut self, service: &ServiceName) -> Option<&mut Course> {
        self.migrations.values_mut().rev().find(|course| course.service == *service && !course.over)
    }
}
