//! Carrying a plan out: wave by wave, each order journalled before it is given.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::stream::{self, StreamExt};
use sterna_core::continuum::Continuum;
use sterna_core::history::Outcome as PastOutcome;
use sterna_core::plan::{Move, Plan};
use sterna_executor::fleet::FleetError;
use sterna_executor::migration::order::{MigrationId, Order};
use sterna_executor::migration::report::Outcome;
use sterna_executor::node::client::ClientError;
use sterna_policies::policy::Policy;
use sterna_policies::window;
use tracing::Instrument as _;

use super::notice::Notice;
use super::sight::Sight;
use super::stop::{Stop, Urgency};
use super::trail::Trail;
use super::world::{Clock, Mover};
use crate::history::migration::outcome_name;
use crate::history::{HistoryError, HistoryStore, Intent};
use crate::telemetry::{MigrationEnd, Telemetry};

/// What carrying out needs besides the plan.
pub(super) struct Carrier<'a, M, C> {
    pub mover: &'a M,
    pub clock: &'a C,
    pub history: &'a HistoryStore,
    pub telemetry: &'a Telemetry,
    pub stop: &'a Stop,
    pub tell: &'a (dyn Fn(&Notice<'_>) + Send + Sync),
    /// What there is.
    pub continuum: &'a Continuum,
    /// Number of the decision in the history.
    pub decision: i64,
    /// How many orders have been given.
    pub given: AtomicUsize,
}

/// How one order ended, as far as the plan is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Went {
    /// As planned.
    Well,
    /// The service is not where the plan's next wave would have it.
    Otherwise,
}

impl<M: Mover, C: Clock> Carrier<'_, M, C> {
    /// Carries the plan out as far as it goes. A wave begins only when the one before went as planned: the next decision,
    /// from a new look at the world, is the retry.
    ///
    /// # Errors
    /// When the history can't be written. No order is given that is not journalled.
    pub async fn carry_out(&self, plan: &Plan, policy: &Policy) -> Result<(), HistoryError> {
        let mut waves: Vec<u32> = plan.moves.iter().map(|one| one.wave).collect();
        waves.sort_unstable();
        waves.dedup();
        let at_once = usize::try_from(policy.budget.concurrent.max(1)).unwrap_or(1);
        for wave in waves {
            if self.stop.urgency() > Urgency::No {
                return Ok(());
            }
            let moves = plan.moves.iter().filter(|one| one.wave == wave);
            let running = stream::iter(moves.map(|one| self.order(one, policy))).buffer_unordered(at_once);
            let done = running.collect::<Vec<_>>();
            let done = tokio::select! {
                biased;
                done = done => done,
                () = self.stop.at_least(Urgency::Now) => {
                    // The intents stay open; the next scheduler asks the agents what came of them.
                    let services: Vec<_> = plan.moves.iter().filter(|one| one.wave == wave)
                        .map(|one| one.service.clone()).collect();
                    (self.tell)(&Notice::LeftToAgents(&services));
                    return Ok(());
                }
            };
            let mut as_planned = true;
            for went in done {
                as_planned &= went? == Went::Well;
            }
            if !as_planned {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn order(&self, planned: &Move, policy: &Policy) -> Result<Went, HistoryError> {
        // A move of the same wave that waited for its turn.
        if self.stop.urgency() > Urgency::No {
            return Ok(Went::Otherwise);
        }
        // A plan may take long, and people may have said something since it was made.
        if let Some(said) = self.history.directives().await?.against(self.continuum, planned) {
            let reason = format!("{} by {} speaks against it", said.ask, said.by);
            (self.tell)(&Notice::NotSeen(planned, &reason));
            return Ok(Went::Otherwise);
        }
        let addresses =
            self.mover.address(&planned.from).and_then(|from| Ok((from, self.mover.address(&planned.to)?)));
        let (from_address, to_address) = match addresses {
            Ok(addresses) => addresses,
            Err(error) => {
                (self.tell)(&Notice::NotSeen(planned, &error.to_string()));
                self.telemetry.migrated(MigrationEnd::NotTaken);
                return Ok(Went::Otherwise);
            }
        };
        // A plan may take long; the next decision says what keeps back what is left of it.
        let (takes, now) = (planned.predicted.duration, self.clock.now());
        let Some(limits) = window::limits(&policy.windows, &policy.migration, takes, now) else {
            let reason = "a window keeps it back by now, or would abort it before it could end";
            (self.tell)(&Notice::NotSeen(planned, reason));
            return Ok(Went::Otherwise);
        };
        let order = Order {
            id: MigrationId::new(),
            service: planned.service.clone(),
            from: planned.from.clone(),
            to: planned.to.clone(),
            from_address,
            to_address,
            method: planned.method,
            memory: limits.memory,
            max_downtime: limits.max_downtime,
            bandwidth: limits.bandwidth,
            // The agents keep to both by themselves.
            deadline: limits.deadline,
            freeze_lease: limits.freeze_lease,
            predicted: Some(planned.predicted),
        };
        let intent = Intent { id: order.id, decision: Some(self.decision), order: planned.clone() };
        self.history.intend(intent, self.clock.now()).await?;
        self.given.fetch_add(1, Ordering::Relaxed);
        (self.tell)(&Notice::Moving(order.id, planned));
        tracing::info!(migration = %order.id, service = %order.service, from = %order.from, to = %order.to, "ordered");
        let mut trail = Trail::begin(&order, self.decision);
        let span = trail.migration();
        let sight = Sight::begin(&order);
        let mut on_event = |event: &_| {
            self.telemetry.goes_on();
            sight.heard(event);
            trail.follow(event);
            (self.tell)(&Notice::Event(&planned.service, event));
        };
        let migrating = self.mover.migrate(&order, &mut on_event).instrument(span);
        let ended = tokio::select! {
            biased;
            ended = migrating => ended,
            // What comes of it the next looks ask the agents.
            reason = sight.lost() => Err(FleetError::LostSight { id: order.id, reason }),
        };
        match ended {
            Ok(report) => {
                trail.end(outcome_name(report.past_outcome()), report.outcome == Outcome::Moved);
                self.telemetry.migrated(MigrationEnd::Reported(&report));
                (self.tell)(&Notice::Ended(planned, &report));
                let went = if report.outcome == Outcome::Moved { Went::Well } else { Went::Otherwise };
                self.history.record_migration(report, self.clock.now()).await?;
                Ok(went)
            }
            // An agent that fell silent may have taken the order before it did.
            Err(error @ (FleetError::LostSight { .. } | FleetError::Agent(ClientError::Silent { .. }))) => {
                trail.end("lost-sight", false);
                self.telemetry.migrated(MigrationEnd::LostSight);
                (self.tell)(&Notice::NotSeen(planned, &error.to_string()));
                Ok(Went::Otherwise)
            }
            Err(error) => {
                trail.end("not-taken", false);
                self.telemetry.migrated(MigrationEnd::NotTaken);
                let reason = error.to_string();
                (self.tell)(&Notice::NotSeen(planned, &reason));
                let service = planned.service.clone();
                self.history
                    .settle(order.id, service, PastOutcome::Refused, reason, self.clock.now())
                    .await?;
                Ok(Went::Otherwise)
            }
        }
    }
}
