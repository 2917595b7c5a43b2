//! Files that are read again, and what another policy changes: what it says, and what it decides at the first look by it.

use serde::Serialize;
use sterna_core::budget::remembered;
use sterna_core::compare::{self, Decisions};
use sterna_core::difference::{self, Difference};
use sterna_core::history::History;
use sterna_core::record::Recorded;
use sterna_executor::fleet::FleetView;
use sterna_policies::policy::Policy;

use super::notice::Notice;
use super::world::{Clock, World};
use super::{Considered, CycleError, Left, Scheduler, decided, see};
use crate::observe::store::MetricStore;
use crate::reload::{Look, Refused};
use crate::telemetry::ConfigFile;

impl<S: MetricStore, W: World, C: Clock> Scheduler<S, W, C> {
    /// Looks at both files. A policy that is replaced is left for the next decision to be compared with.
    pub(super) fn reload(&mut self, left: &mut Left) {
        let look = self.files.policy.look(|_, _| Ok(()));
        if let Some(before) = self.tell_reload(ConfigFile::Policy, look, |it| it.files.policy.value()) {
            // Where no decision came between, it is the one before both that the next is compared with.
            left.replaced.get_or_insert(before);
        }
        // State and certificates belong to the continuum's name.
        let look = self.files.inventory.look(|old, new| {
            let same = old.name == new.name;
            let refusal = || {
                format!(
                    "the continuum is now called `{}` and not `{}`; restart to change to another continuum",
                    new.name, old.name
                )
            };
            same.then_some(()).ok_or_else(refusal)
        });
        self.tell_reload(ConfigFile::Inventory, look, |it| it.files.inventory.value());
    }

    /// Tells what a look at a file came to; gives what was in force before, where that is another content.
    fn tell_reload<T: Serialize>(
        &self,
        file: ConfigFile,
        look: Look<T>,
        value: impl FnOnce(&Self) -> &T,
    ) -> Option<T> {
        let now = self.clock.now();
        match look {
            Look::Same => None,
            Look::Changed { warnings, before } => {
                let differences = difference::between(&before, value(self)).unwrap_or_else(|error| {
                    tracing::warn!(file = file.name(), %error, "what differs can't be told");
                    Vec::new()
                });
                tracing::info!(file = file.name(), differs = in_a_line(&differences), "read again");
                self.telemetry.reloaded(file, true, now);
                self.desk.read_again(file, None, now);
                (self.tell)(&Notice::Reloaded(file, &warnings, &differences));
                Some(before)
            }
            Look::Refused(refused) => {
                let Refused { error, written } = &refused;
                let differs = written.as_deref().map(in_a_line);
                tracing::warn!(file = file.name(), %error, differs, "not taken over");
                self.telemetry.reloaded(file, false, now);
                (self.tell)(&Notice::ReloadRefused(file, &refused));
                self.desk.read_again(file, Some(refused), now);
                None
            }
        }
    }

    /// What the policy before decides otherwise at the same look, by what is remembered in the same way.
    ///
    /// # Errors
    /// When the history can't be asked, or the engine fails.
    pub(super) async fn against(
        &self,
        before: &Policy,
        view: FleetView,
        considered: &Considered,
    ) -> Result<Decisions, CycleError> {
        let Recorded { observation, policy, history, now, .. } = &considered.recorded;
        let observation = if before.metrics == policy.metrics {
            observation.clone()
        } else {
            // It asks for other numbers.
            let continuum = self.files.inventory.value();
            see(&self.store, view, continuum, before, &self.history, *now).await?.observation
        };
        let since = now.checked_sub(remembered(before)).unwrap_or(jiff::Timestamp::MIN);
        let standing = history.standing.clone();
        let history = History { standing, ..self.history.for_decision(since).await? };
        let old = decided(&self.engine, observation, before.clone(), history, *now).await?;
        Ok(compare::decisions(&old, &considered.recorded))
    }
}

/// More than this is not logged of one change.
const MOST: usize = 20;

fn in_a_line(differences: &[Difference]) -> String {
    let shown = differences.iter().take(MOST).map(Difference::to_string);
    let more = differences.len().saturating_sub(MOST);
    shown.chain((more > 0).then(|| format!("{more} more"))).collect::<Vec<_>>().join("; ")
}
