//! What the loop tells whoever started it, in order.

use jiff::Timestamp;
use sterna_core::compare::Decisions;
use sterna_core::continuum::ServiceName;
use sterna_core::difference::Difference;
use sterna_core::plan::{Move, Plan};
use sterna_core::report::{Decision, Hold, Verdict};
use sterna_executor::migration::order::MigrationId;
use sterna_executor::migration::report::{Event, Report};
use sterna_policies::policy::Mode;

use crate::history::approval::Step;
use crate::reload::Refused;
use crate::telemetry::{ConfigFile, hold_name};

/// Something that a person may want to see.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A file changed and is in force, with its warnings and with what it says otherwise than before.
    Reloaded(ConfigFile, &'a sterna_policies::diagnose::Report, &'a [Difference]),
    /// A file changed and can't be used; the old content stays in force.
    ReloadRefused(ConfigFile, &'a Refused),
    /// A policy that has come into force made its first decision, of this number: what the one before decides on the same.
    Compared(i64, &'a Decisions),
    /// A decision.
    Decided(Decided<'a>),
    /// The circuit breaker opened, or closed again.
    Breaker(Option<&'a Hold>),
    /// A move is about to be ordered.
    Moving(MigrationId, &'a Move),
    /// A sign of life from a migration.
    Event(&'a ServiceName, &'a Event),
    /// A migration ended.
    Ended(&'a Move, &'a Report),
    /// An order was not taken, or its end was not seen.
    NotSeen(&'a Move, &'a str),
    /// It became known what came of an earlier order.
    Settled(&'a str),
    /// A look could not be completed, of a policy where it was one's, and why; the next one tries again.
    Failed(Option<&'a str>, &'a str),
    /// A plan was put up for approval: the number of its decision, and until when it may be approved.
    PutUp(i64, &'a Plan, Timestamp),
    /// What became of a plan that was put up, and why.
    Approval(i64, Step, &'a str),
    /// Running migrations are left to the agents.
    LeftToAgents(&'a [ServiceName]),
}

/// A decision, with what a reader needs to judge whether to show it.
#[derive(Debug)]
pub struct Decided<'a> {
    /// Its number in the history.
    pub number: i64,
    /// The policy's name.
    pub policy: &'a str,
    /// The decision.
    pub decision: &'a Decision,
    /// The policy's mode.
    pub mode: Mode,
    /// Whether it says something else than the decision before.
    pub news: bool,
    /// Whether its moves are now ordered.
    pub acted_on: bool,
    /// What was left out or replaced while observing.
    pub notes: &'a [String],
}

/// What a decision says, without the numbers that change all the time.
pub(super) fn headline(decision: &Decision, notes: &[String]) -> String {
    let mut text = match &decision.report.verdict {
        Verdict::Move => "move".to_owned(),
        Verdict::Stay => "stay".to_owned(),
        Verdict::Held { by } => format!("held {}", by.iter().map(hold_name).collect::<Vec<_>>().join(" ")),
    };
    for one in &decision.plan.moves {
        text.push_str(&format!("; {} {} {}", one.service, one.from, one.to));
    }
    for service in &decision.report.services {
        for hold in &service.held_by {
            text.push_str(&format!("; {} {}", service.service, hold_name(hold)));
        }
    }
    for unknown in &decision.report.unknown {
        text.push_str(&format!("; {:?} {:?} {:?}", unknown.metric, unknown.site, unknown.users));
    }
    for note in notes {
        // The part after the colon may hold numbers.
        text.push_str("; ");
        text.push_str(note.split(':').next().unwrap_or_default());
    }
    text
}
