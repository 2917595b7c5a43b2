//! The machine: walks the [`table`] for one order.
//!
//! It runs in the source's agent, which owns the service until the commit. What a step does stands behind [`Steps`]; what
//! was reached and decided is made durable through [`Register`] before anything depends on it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use sterna_policies::quantity::{Bytes, Millis};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::Instrument as _;

use crate::error_chain::chain;

use super::finding::{self, Finding};
use super::forecast::{Forecast, Load};
use super::order::Order;
use super::phase::Phase;
use super::recovery::{Way, way};
use super::register::Decision;
use super::report::{Event, Outcome, PhaseRecord, Report};
use super::table::{self, OnFailure, Undo};

/// A step that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StepError {
    /// The two ends can't do it; each thing that speaks against it.
    #[error("refused: {}", finding::line(.0))]
    Refused(Vec<Finding>),
    /// It went wrong.
    #[error("{0}")]
    Failed(String),
}

impl StepError {
    /// From any error, with all its causes.
    pub fn from_error(error: &dyn std::error::Error) -> Self {
        Self::Failed(chain(error))
    }
}

/// What is done in each phase. Each step may be repeated after a crash and then has the same effect as once.
pub trait Steps: Send {
    /// Does what it takes to reach a phase; returns what crossed the link. Never called for [`Phase::Committed`].
    fn enter(&mut self, phase: Phase) -> impl Future<Output = Result<Bytes, StepError>> + Send;
    /// Undoes one thing; it need not have been done.
    fn undo(&mut self, undo: Undo) -> impl Future<Output = Result<(), StepError>> + Send;
    /// What has to be carried, once that was measured.
    fn load(&self) -> Option<Load> {
        None
    }
    /// What the move is going to cost, once that was predicted.
    fn forecast(&self) -> Option<Forecast> {
        None
    }
    /// Why the service had to be started anew, once it was.
    fn started_anew(&self) -> Option<String> {
        None
    }
}

/// The durable memory of the source's agent. A call returns when the disk has it.
pub trait Register: Send {
    /// Notes that a phase was reached.
    ///
    /// # Errors
    /// When it can't be made durable; the migration goes no further then.
    fn reached(&mut self, phase: Phase) -> Result<(), StepError>;
    /// Notes that the source is about to be frozen.
    ///
    /// # Errors
    /// When it can't be made durable; then it is not frozen.
    fn freezing(&mut self) -> Result<(), StepError>;
    /// Time since [`freezing`](Self::freezing), also across a restart of the agent; `None` where it was not called or the
    /// node was restarted since.
    fn frozen_for(&self) -> Option<Millis>;
    /// Decides, if nothing is decided yet; returns what stands.
    ///
    /// # Errors
    /// When it can't be made durable: then nothing is decided.
    fn decide(&mut self, decision: Decision) -> Result<Decision, StepError>;
    /// Notes how it ended.
    ///
    /// # Errors
    /// When it can't be made durable.
    fn ended(&mut self, report: &Report) -> Result<(), StepError>;
}

/// First pause between two tries of a step that must succeed in the end; doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// Tries to discard the destination before that is left to it: without a certificate it never runs, and it asks for the
/// decision when it hears no more.
const DISCARD_TRIES: u32 = 5;

/// Time between an `abort` in the register and the word why.
const TO_SAY_WHY: Duration = Duration::from_millis(100);

/// What is logged on the way to a phase is logged under it.
fn span(phase: Phase) -> tracing::Span {
    tracing::info_span!("phase", %phase)
}

/// One migration under way.
struct Walk<'a, S, R, E> {
    order: &'a Order,
    steps: &'a mut S,
    register: &'a mut R,
    on_event: E,
    phases: Vec<PhaseRecord>,
    last: Instant,
    frozen: Option<Instant>,
    downtime: Option<Millis>,
    frozen_in_vain: Millis,
    undone: Vec<Undo>,
}

/// Carries out an order from its first phase to its end. `cancelled` ends when somebody wants it undone, and says why;
/// after the commit it is not listened to.
pub async fn run<S: Steps, R: Register, E: FnMut(Event) + Send>(
    order: &Order,
    steps: &mut S,
    register: &mut R,
    on_event: E,
    cancelled: impl Future<Output = String> + Send,
) -> Report {
    let mut walk = Walk::new(order, steps, register, on_event);
    let cancelled = pin!(cancelled);
    let outcome = match walk.until_commit(cancelled).await {
        Ok(()) => {
            walk.forward(Phase::Released).await;
            Outcome::Moved
        }
        Err((phase, error)) => walk.back(phase, error).await,
    };
    walk.end(outcome)
}

/// Finishes or undoes what an agent finds when it starts again: forward after a commit, else back.
pub async fn recover<S: Steps, R: Register, E: FnMut(Event) + Send>(
    order: &Order,
    reached: Option<Phase>,
    steps: &mut S,
    register: &mut R,
    on_event: E,
) -> Report {
    let mut walk = Walk::new(order, steps, register, on_event);
    let stands = walk.insist(|walk| walk.register.decide(Decision::Abort)).await;
    let outcome = match way(stands, reached) {
        Way::Forward(next) => {
            walk.forward(next).await;
            Outcome::Moved
        }
        Way::Back(next) => {
            let error = StepError::Failed("the agent was restarted before the commit".to_owned());
            let after = reached.unwrap_or(Phase::Planned);
            match walk.back(next, error).await {
                Outcome::RolledBack { reason, .. } => Outcome::RolledBack { after, reason },
                other => other,
            }
        }
    };
    walk.end(outcome)
}

impl<'a, S: Steps, R: Register, E: FnMut(Event) + Send> Walk<'a, S, R, E> {
    fn new(order: &'a Order, steps: &'a mut S, register: &'a mut R, on_event: E) -> Self {
        Self {
            order,
            steps,
            register,
            on_event,
            phases: Vec::new(),
            last: Instant::now(),
            frozen: None,
            downtime: None,
            frozen_in_vain: Millis::ZERO,
            undone: Vec::new(),
        }
    }

    /// All phases up to the commit. The error names the phase that was not reached.
    async fn until_commit<C: Future<Output = String> + Send>(
        &mut self,
        mut cancelled: Pin<&mut C>,
    ) -> Result<(), (Phase, StepError)> {
        let deadline = Instant::now() + self.order.deadline.to_duration();
        let mut until = deadline;
        let mut limit = format!("the deadline of {} ran out", self.order.deadline);
        for phase in Phase::ALL.into_iter().take_while(|phase| *phase < Phase::Committed) {
            if phase == Phase::Frozen {
                self.register.freezing().map_err(|error| (phase, error))?;
                let now = Instant::now();
                self.frozen = Some(now);
                let lease = now + self.order.freeze_lease.to_duration();
                if lease < deadline {
                    until = lease;
                    limit = format!("the freeze lease of {} ran out", self.order.freeze_lease);
                }
            }
            let entered = tokio::select! {
                biased;
                why = &mut cancelled => Err(StepError::Failed(format!("cancelled: {why}"))),
                entered = timeout_at(until, self.steps.enter(phase).instrument(span(phase))) => {
                    entered.unwrap_or_else(|_| Err(StepError::Failed(limit.clone())))
                }
            };
            let bytes = entered.map_err(|error| (phase, error))?;
            self.register.reached(phase).map_err(|error| (phase, error))?;
            self.note(phase, bytes);
        }
        let failed = |error| (Phase::Committed, error);
        if Instant::now() >= until {
            return Err(failed(StepError::Failed(limit)));
        }
        match self.register.decide(Decision::Commit).map_err(failed)? {
            Decision::Commit => {
                self.note(Phase::Committed, Bytes::ZERO);
                Ok(())
            }
            // Whoever has it undone writes that into the register first, and then says why.
            _ => Err(failed(match tokio::time::timeout(TO_SAY_WHY, cancelled).await {
                Ok(why) => StepError::Failed(format!("cancelled: {why}")),
                Err(_) => StepError::Failed("the register says abort".to_owned()),
            })),
        }
    }

    /// The phases after the commit, each tried until it is reached: there is no way back.
    async fn forward(&mut self, first: Phase) {
        for phase in Phase::ALL.into_iter().filter(|phase| *phase >= first) {
            let mut pause = FIRST_PAUSE;
            let bytes = loop {
                match self.steps.enter(phase).instrument(span(phase)).await {
                    Ok(bytes) => break bytes,
                    Err(error) => {
                        tracing::error!(migration = %self.order.id, %phase, %error, "committed but not yet there; trying again");
                        sleep(pause).await;
                        pause = (pause * 2).min(LAST_PAUSE);
                    }
                }
            };
            if phase == Phase::Released {
                self.downtime = self.frozen_for();
            }
            self.insist(|walk| walk.register.reached(phase)).await;
            self.note(phase, bytes);
        }
    }

    /// Undoes what was done on the way to `phase`.
    async fn back(&mut self, phase: Phase, error: StepError) -> Outcome {
        tracing::warn!(migration = %self.order.id, %phase, %error, "undoing");
        if self.insist(|walk| walk.register.decide(Decision::Abort)).await == Decision::Commit {
            // Only a register that lost its own answer gets here: what it says is what holds.
            self.note(Phase::Committed, Bytes::ZERO);
            self.forward(Phase::Released).await;
            return Outcome::Moved;
        }
        let OnFailure::Undo(steps) = table::of(phase).on_failure else {
            return Outcome::RolledBack { after: phase, reason: error.to_string() };
        };
        for undo in steps {
            let mut pause = FIRST_PAUSE;
            let mut tries = 0;
            let undone = loop {
                let Err(error) = self.steps.undo(*undo).await else { break true };
                tries += 1;
                tracing::error!(migration = %self.order.id, ?undo, %error, "can't be undone; trying again");
                if *undo != Undo::ThawSource && tries >= DISCARD_TRIES {
                    break false;
                }
                sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            };
            if undone {
                self.undone.push(*undo);
            }
            if *undo == Undo::ThawSource {
                self.frozen_in_vain = self.frozen_for().unwrap_or(Millis::ZERO);
            }
        }
        match error {
            StepError::Refused(findings) => Outcome::Refused { findings },
            StepError::Failed(reason) => {
                let after = self.phases.last().map_or(Phase::Planned, |one| one.phase);
                Outcome::RolledBack { after, reason }
            }
        }
    }

    /// How long the source has stood frozen.
    fn frozen_for(&self) -> Option<Millis> {
        let known = self.frozen.map(|frozen| Millis::from_duration(frozen.elapsed()));
        known.or_else(|| self.register.frozen_for())
    }

    /// Tries for ever to make something durable: a full disk is waited out.
    async fn insist<T>(&mut self, mut write: impl FnMut(&mut Self) -> Result<T, StepError>) -> T {
        let mut pause = FIRST_PAUSE;
        loop {
            match write(self) {
                Ok(value) => return value,
                Err(error) => {
                    tracing::error!(migration = %self.order.id, %error, "the register can't be written; trying again");
                    sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    fn note(&mut self, phase: Phase, bytes: Bytes) {
        let took = Millis::from_duration(self.last.elapsed());
        self.last = Instant::now();
        let record = PhaseRecord { phase, took, bytes };
        tracing::info!(migration = %self.order.id, service = %self.order.service, %phase, %took, %bytes, "reached");
        self.phases.push(record);
        (self.on_event)(Event::Reached(record));
    }

    fn end(mut self, outcome: Outcome) -> Report {
        let report = Report {
            id: self.order.id,
            service: self.order.service.clone(),
            from: self.order.from.clone(),
            to: self.order.to.clone(),
            outcome,
            phases: self.phases,
            downtime: self.downtime,
            frozen_in_vain: self.frozen_in_vain,
            undone: self.undone,
            started_anew: self.steps.started_anew(),
            load: self.steps.load(),
            forecast: self.steps.forecast(),
        };
        if let Err(error) = self.register.ended(&report) {
            // Found again, and ended again, at the next start.
            tracing::error!(migration = %report.id, %error, "the end can't be made durable");
        }
        (self.on_event)(Event::Ended(report.clone()));
        report
    }
}

#[cfg(test)]
mod tests;
