//! Carrying out a plan that was made before, because a person says so.
//!
//! The way is that of the loop's own plans: journalled orders, wave by wave. What a person has read is carried out as it was read or
//! not at all: nothing of what it depends on may have changed since, and by today's numbers no rule may speak against it. Only
//! what keeps Sterna itself back (gains, budgets, windows) does not keep a person back.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;
use sterna_core::checker::{self, Finding};
use sterna_core::saved::SavedPlan;
use sterna_core::state::{Change, changes};
use sterna_executor::migration::report::Outcome;
use sterna_policies::policy::Policy;

use super::carry::Carrier;
use super::notice::Notice;
use super::stop::Stop;
use super::world::{Clock, World};
use super::{CycleError, Scheduler, see};
use crate::observe::store::MetricStore;

/// What came of a plan that was to be carried out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum Applied {
    /// There is nothing in it to be done.
    Nothing,
    /// The policy by which it was made is not in force any more; nothing was touched.
    NotInForce {
        /// Its name.
        policy: String,
    },
    /// Something that it depends on has changed; nothing was touched.
    Stale {
        /// What.
        changes: Vec<Change>,
    },
    /// A rule speaks against it by today's numbers; nothing was touched.
    Refused {
        /// Which, and against what.
        finding: String,
        /// Whether it is that a number is not known.
        unknown: bool,
    },
    /// It was carried out, as far as it went.
    CarriedOut {
        /// Number of its decision in the history.
        decision: i64,
        /// Moves that were made.
        moved: usize,
        /// Moves that it has.
        of: usize,
    },
}

impl From<Finding> for Applied {
    fn from(finding: Finding) -> Self {
        Self::Refused { unknown: finding.is_unknown(), finding: finding.to_string() }
    }
}

impl<S: MetricStore, W: World, C: Clock> Scheduler<S, W, C> {
    /// Carries out a plan that was made before.
    ///
    /// # Errors
    /// When the agents or the history can't be asked. No order is given that is not journalled.
    pub async fn apply(&mut self, plan: &SavedPlan, stop: &Stop) -> Result<Applied, CycleError> {
        let recorded = &plan.recorded;
        let plan = &recorded.decision.plan;
        if plan.moves.is_empty() {
            return Ok(Applied::Nothing);
        }
        let (view, mover) = self.settled().await?;
        let continuum = self.files.inventory.value();
        let in_force = self.files.in_force();
        let Some(policy) = in_force.iter().find(|policy| policy.name == recorded.policy.name) else {
            return Ok(Applied::NotInForce { policy: recorded.policy.name.clone() });
        };
        let now = self.clock.now();
        let observed = see(&self.store, view, continuum, policy, &self.history, now).await?;
        let changes = changes((&recorded.observation, &recorded.policy), (&observed.observation, policy))?;
        if !changes.is_empty() {
            return Ok(Applied::Stale { changes });
        }
        if let Err(finding) = checker::rules(&observed.observation, policy, &plan.moves) {
            return Ok(finding.into());
        }
        // Windows hold Sterna back, not a person.
        let policy = Policy { windows: Vec::new(), ..policy.clone() };
        let decision = self.history.record_decision(recorded.clone()).await?;
        let moved = AtomicUsize::new(0);
        let tell = |notice: &Notice<'_>| {
            if let Notice::Ended(_, report) = notice
                && report.outcome == Outcome::Moved
            {
                moved.fetch_add(1, Ordering::Relaxed);
            }
            (self.tell)(notice);
        };
        let carrier = Carrier {
            mover: &mover,
            clock: &self.clock,
            history: &self.history,
            telemetry: &self.telemetry,
            stop,
            tell: &tell,
            continuum,
            decision,
            given: AtomicUsize::new(0),
        };
        carrier.carry_out(plan, &policy).await?;
        Ok(Applied::CarriedOut { decision, moved: moved.into_inner(), of: plan.moves.len() })
    }
}
