//! Files that are read again, and what another policy changes: what it says, and what it decides at the first look by it.

use sterna_core::budget::remembered;
use sterna_core::compare::{self, Decisions};
use sterna_core::difference::Difference;
use sterna_core::history::History;
use sterna_core::observation::Observation;
use sterna_core::record::Recorded;
use sterna_executor::fleet::FleetView;
use sterna_policies::policy::Policy;

use super::notice::Notice;
use super::world::{Clock, World};
use super::{Considered, CycleError, Files, Scheduler, decided, see};
use crate::observe::store::MetricStore;
use crate::reload::{Look, Refused};
use crate::telemetry::ConfigFile;

impl<S: MetricStore, W: World, C: Clock> Scheduler<S, W, C> {
    /// Looks at all files, and tells what is new.
    pub(super) fn reload(&mut self) {
        let Files { policies, inventory } = &mut self.files;
        let looks = policies.look(inventory);
        let now = self.clock.now();
        for (file, look) in looks {
            match look {
                Look::Changed { warnings, differences } => {
                    tracing::info!(file = file.name(), differs = in_a_line(&differences), "read again");
                    // One good file does not make another one good.
                    let good = file == ConfigFile::Inventory || self.files.policies.are_as_written();
                    self.telemetry.reloaded(file, good, now);
                    if good {
                        self.desk.read_again(file, None, now);
                    }
                    (self.tell)(&Notice::Reloaded(file, &warnings, &differences));
                }
                Look::Refused(refused) => {
                    let Refused { error, written } = &refused;
                    let differs = written.as_deref().map(in_a_line);
                    tracing::warn!(file = file.name(), %error, differs, "not taken over");
                    self.telemetry.reloaded(file, false, now);
                    (self.tell)(&Notice::ReloadRefused(file, &refused));
                    self.desk.read_again(file, Some(refused), now);
                }
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
            let seen = see(&self.store, view, continuum, before, &self.history, *now).await?;
            Observation { costs: self.engine.costs, ..seen.observation }
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
