//! Mode `approve`: a plan is put up, a person approves it, and the next look carries out that very plan, if what it was made
//! from still holds.
//!
//! All of it is in the history, so a restart changes nothing: what was approved and not begun is looked at again, what was begun
//! is never begun twice.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use sterna_core::checker::{self, Finding};
use sterna_core::gate;
use sterna_core::plan::{Move, Plan};
use sterna_core::record::Recorded;
use sterna_core::report::{Hold, Verdict};
use sterna_core::state::{self, Change};
use sterna_policies::policy::{Mode, Policy};

use super::notice::Notice;
use crate::history::approval::{Proposal, Step, Stepped};
use crate::history::{HistoryError, HistoryStore};

/// Why a plan that was approved is not carried out.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Refusal {
    /// What it was made from is not so any more.
    Changed(Vec<Change>),
    /// It can't be compared with what is now.
    Unclear(String),
    /// A rule keeps all moves back.
    Held(Hold),
    /// It breaks a rule now.
    Rule(Finding),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(changes) => {
                let said: Vec<_> = changes.iter().map(Change::to_string).collect();
                write!(f, "what it was made from has changed: {}", said.join("; "))
            }
            Self::Unclear(reason) => write!(f, "it can't be compared with what is now: {reason}"),
            Self::Held(hold) => write!(f, "{hold}"),
            Self::Rule(finding) => write!(f, "it would break a rule now: {finding}"),
        }
    }
}

/// Whether a plan that was made from `then` may be carried out by what is so `now`.
pub(super) fn still_holds(then: &Recorded, now: &Recorded) -> Result<(), Refusal> {
    let plan = &then.decision.plan;
    let changed = changes(then, now).map_err(|error| Refusal::Unclear(error.to_string()))?;
    if !changed.is_empty() {
        return Err(Refusal::Changed(changed));
    }
    if let Some(hold) = gate::shut(&now.observation, &now.policy, &now.history, now.now) {
        return Err(Refusal::Held(hold));
    }
    // A window that lets those through that mend keeps others back; which these are, this look's own decision says.
    let services = &now.decision.report.services;
    let of = |one: &Move| services.iter().find(|service| service.service == one.service);
    let held = plan.moves.iter().filter_map(of).flat_map(|service| &service.held_by);
    if let Some(hold) = held.clone().find(|hold| !is_of_gain(hold)) {
        return Err(Refusal::Held(hold.clone()));
    }
    checker::rules(&now.observation, &now.policy, &plan.moves).map_err(Refusal::Rule)
}

/// Whether it is only that a move gains too little now: who approved it knew what it was to gain.
const fn is_of_gain(hold: &Hold) -> bool {
    matches!(
        hold,
        Hold::GainTooSmall { .. }
            | Hold::PaysBackTooLate { .. }
            | Hold::Untriggered { .. }
            | Hold::GainTooNew { .. }
            | Hold::RegretTooSmall { .. }
    )
}

/// What is no longer as it was at another look.
fn changes(then: &Recorded, now: &Recorded) -> Result<Vec<Change>, serde_json::Error> {
    state::changes((&then.observation, &then.policy), (&now.observation, &now.policy))
}

/// How long after its expiry a plan is still carried out that was approved before.
const LATE: SignedDuration = SignedDuration::from_mins(5);

/// What the approvals of one look work with.
pub(super) struct Approvals<'a> {
    pub history: &'a HistoryStore,
    pub tell: &'a (dyn Fn(&Notice<'_>) + Send + Sync),
}

impl Approvals<'_> {
    /// Ends what waits of policies that are not in force any more.
    pub async fn of_others(&self, in_force: &[Policy], now: Timestamp) -> Result<(), HistoryError> {
        for waits in self.history.open_proposals().await? {
            if !in_force.iter().any(|policy| policy.name == waits.policy) {
                let note = format!("the policy `{}` is not in force any more", waits.policy);
                self.step(&waits, Step::Superseded, note, now).await?;
            }
        }
        Ok(())
    }

    /// Deals with the plan of this look's policy that waits, and puts up the one of this look's decision where it is another. Gives the plan to be
    /// carried out, with the number of its decision.
    pub async fn after(&self, number: i64, now: &Recorded) -> Result<Option<(i64, Plan)>, HistoryError> {
        let mut waiting = self.history.open_proposals().await?;
        waiting.retain(|one| one.policy == now.policy.name);
        let waits = waiting.pop();
        if now.policy.mode != Mode::Approve {
            if let Some(waits) = waits {
                let note = format!("the policy's mode is `{}` now", now.policy.mode.name());
                self.step(&waits, Step::Superseded, note, now.now).await?;
            }
            return Ok(None);
        }
        if let Some(waits) = waits {
            let then = match self.history.decision(waits.id).await {
                Ok(then) => then.ok_or_else(|| "its decision is gone".to_owned()),
                // Of another version of this program, perhaps; it must not keep others from being put up.
                Err(error @ HistoryError::Row { .. }) => Err(error.to_string()),
                Err(error) => return Err(error),
            };
            let then = match then {
                Ok(then) => then,
                Err(note) => {
                    self.step(&waits, Step::Superseded, note, now.now).await?;
                    return Ok(None);
                }
            };
            // Approved, and nobody was there to carry it out: what was known then is known no longer.
            let late = waits.expires.checked_add(LATE).unwrap_or(Timestamp::MAX) < now.now;
            if waits.last() == Some(Step::Approved) && late {
                let note = "it was approved, and not carried out in time".to_owned();
                self.step(&waits, Step::Expired, note, now.now).await?;
            } else if waits.last() == Some(Step::Approved) {
                match still_holds(&then, now) {
                    Ok(()) => {
                        // Recorded before the first order: after a crash it is not begun again.
                        let stepped = Stepped { at: now.now, step: Step::Begun, by: None, note: None };
                        self.history.step(waits.id, stepped).await?;
                        (self.tell)(&Notice::Approval(waits.id, Step::Begun, ""));
                        return Ok(Some((waits.id, then.decision.plan)));
                    }
                    Err(refusal) => self.step(&waits, Step::Refused, refusal.to_string(), now.now).await?,
                }
            } else if now.now >= waits.expires {
                self.step(&waits, Step::Expired, "nobody approved it in time".to_owned(), now.now).await?;
            } else {
                match &now.decision.report.verdict {
                    // What holds this look may have passed when somebody approves the plan; it is looked at again then.
                    Verdict::Held { .. } => return Ok(None),
                    Verdict::Move if same(&then, now) => return Ok(None),
                    Verdict::Move => {
                        let other = if then.policy == now.policy { "plan" } else { "policy" };
                        let note = format!("decision {number} has another {other}");
                        self.step(&waits, Step::Superseded, note, now.now).await?;
                    }
                    Verdict::Stay => {
                        let note = format!("by decision {number} nothing is to be moved");
                        self.step(&waits, Step::Superseded, note, now.now).await?;
                    }
                }
            }
        }
        if now.decision.report.verdict == Verdict::Move && !now.decision.plan.moves.is_empty() {
            let lasts = SignedDuration::from_nanos(now.policy.approval.expires.as_micros());
            let expires = now.now.checked_add(lasts).unwrap_or(Timestamp::MAX);
            self.history.put_up(number, now.now, expires).await?;
            (self.tell)(&Notice::PutUp(number, &now.decision.plan, expires));
        }
        Ok(None)
    }

    /// Records of a plan that was begun that no order was given for it.
    pub async fn came_to_nothing(&self, id: i64, at: Timestamp) -> Result<(), HistoryError> {
        let note = "nothing of it was ordered";
        (self.tell)(&Notice::Approval(id, Step::Refused, note));
        let stepped = Stepped { at, step: Step::Refused, by: None, note: Some(note.to_owned()) };
        self.history.step(id, stepped).await
    }

    async fn step(
        &self,
        waits: &Proposal,
        step: Step,
        note: String,
        at: Timestamp,
    ) -> Result<(), HistoryError> {
        (self.tell)(&Notice::Approval(waits.id, step, &note));
        self.history.step(waits.id, Stepped { at, step, by: None, note: Some(note) }).await
    }
}

/// Whether two decisions order the same from the same state, whatever is predicted of it.
fn same(then: &Recorded, now: &Recorded) -> bool {
    let order =
        |one: &Move| (one.service.clone(), one.from.clone(), one.to.clone(), one.method, one.wave, one.parks);
    let [a, b] = [then, now].map(|of| of.decision.plan.moves.iter().map(order));
    changes(then, now).is_ok_and(|changes| changes.is_empty()) && a.eq(b)
}
