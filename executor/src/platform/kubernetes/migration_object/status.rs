//! What the object of a migration should say.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use sterna_core::history::Outcome;

use super::account::{Account, Course, End};
use super::resource::{Migration, MigrationStatus, size, span};
use crate::migration::phase::Phase;
use crate::platform::kubernetes::object_condition::{Word, line};

/// Whether it runs.
pub const PROGRESSING: &str = "Progressing";
/// Whether it can only go forward.
pub const COMMITTED: &str = "Committed";
/// Whether the service was moved.
pub const SUCCEEDED: &str = "Succeeded";
/// Whether deleting its object has undone it.
pub const CANCELLED: &str = "Cancelled";

/// Why a migration is undone whose object was deleted; it stands in its report.
pub const WHY: &str = "its object in Kubernetes was deleted";

/// What may be said in a line at most.
const LINE: usize = 1024;

fn word(kind: &'static str, status: Option<bool>, reason: &str, message: impl Into<String>) -> Word {
    Word::new(kind, status, reason, &message.into(), LINE)
}

/// What an object should say of a migration; without an account, of one that nobody knows. `None` where it should say what it says.
pub fn due(object: &Migration, account: Option<&Account>, now: Timestamp) -> Option<MigrationStatus> {
    let before = object.status.clone().unwrap_or_default();
    let wanted = match account {
        Some(account) => of_known(object, &before, account, now),
        None => of_unknown(object, &before, now),
    };
    (object.status.as_ref() != Some(&wanted)).then_some(wanted)
}

fn of_known(
    object: &Migration,
    before: &MigrationStatus,
    account: &Account,
    now: Timestamp,
) -> MigrationStatus {
    let (service, from, to) = (&account.service, &account.from, &account.to);
    let to_go = object.is_to_go();
    let end = match &account.course {
        Course::UnderWay { reached } => {
            // A scheduler that was started anew hears nothing for a while.
            let phase = reached.or_else(|| phase_of(before));
            let committed = phase.is_some_and(Phase::is_forward_only);
            let there = format!("`{service}` goes from `{from}` to `{to}`");
            let cancelled = match (to_go, committed) {
                (false, _) => word(CANCELLED, Some(false), "NotAsked", "deleting this object asks for it"),
                (true, false) => word(CANCELLED, None, "Asked", "its object was deleted: it is being undone"),
                (true, true) => too_late(account),
            };
            let commit = if committed {
                word(
                    COMMITTED,
                    Some(true),
                    "Committed",
                    format!("it can only go forward: `{to}` owns `{service}`"),
                )
            } else {
                word(COMMITTED, Some(false), "NotYet", format!("`{from}` owns `{service}`"))
            };
            let words = [
                word(PROGRESSING, Some(true), "UnderWay", there),
                commit,
                word(SUCCEEDED, None, "UnderWay", ""),
                cancelled,
            ];
            return MigrationStatus {
                phase: Some(phase.unwrap_or(Phase::Planned).name().to_owned()),
                outcome: None,
                downtime: None,
                duration: None,
                bytes: None,
                report: None,
                conditions: conditions(object, before, words, now),
            };
        }
        Course::Ended(end) => end,
    };
    let End { outcome, reached, reason, downtime, duration, bytes } = end;
    let why = reason.as_deref().unwrap_or("no reason is known");
    let (name, committed, report) = match outcome {
        Outcome::Moved => ("Moved", true, format!("`{service}` moved from `{from}` to `{to}`")),
        Outcome::RolledBack => {
            ("RolledBack", false, format!("undone, `{service}` goes on on `{from}`: {why}"))
        }
        Outcome::Refused => ("Refused", false, format!("refused before anything was touched: {why}")),
    };
    // Who was asked in vain to write it down may have cancelled all the same.
    let asked = was_asked(before) || why.contains(WHY);
    let cancelled = match (to_go, asked, committed) {
        (false, _, _) => word(CANCELLED, Some(false), "NotAsked", "its object was not deleted while it ran"),
        (true, true, false) => word(CANCELLED, Some(true), "Cancelled", why),
        (true, true, true) => too_late(account),
        (true, false, _) => word(CANCELLED, Some(false), "HadEnded", "its object was deleted after its end"),
    };
    let words = [
        word(PROGRESSING, Some(false), name, report.clone()),
        word(COMMITTED, Some(committed), name, if committed { String::new() } else { why.to_owned() }),
        word(SUCCEEDED, Some(committed), name, report.clone()),
        cancelled,
    ];
    let last = if committed { Some(Phase::Cleaned) } else { None };
    let phase = reached.or(last).or_else(|| phase_of(before)).unwrap_or(Phase::Planned);
    MigrationStatus {
        phase: Some(phase.name().to_owned()),
        outcome: Some(outcome_name(*outcome).to_owned()),
        downtime: downtime.map(span),
        duration: duration.map(span),
        bytes: bytes.map(size),
        report: Some(line(&report, LINE)),
        conditions: conditions(object, before, words, now),
    }
}

fn of_unknown(object: &Migration, before: &MigrationStatus, now: Timestamp) -> MigrationStatus {
    let said = "nobody knows of it: neither this scheduler's history nor an agent that answers";
    let unknown = |kind| word(kind, None, "NobodyKnows", said);
    let words = [
        word(PROGRESSING, Some(false), "NobodyKnows", said),
        unknown(COMMITTED),
        unknown(SUCCEEDED),
        unknown(CANCELLED),
    ];
    MigrationStatus {
        phase: phase_of(before).map(|phase| phase.name().to_owned()),
        outcome: Some("unknown".to_owned()),
        downtime: None,
        duration: None,
        bytes: None,
        report: Some(said.to_owned()),
        conditions: conditions(object, before, words, now),
    }
}

fn too_late(account: &Account) -> Word {
    let message =
        format!("its object was deleted after the commit: `{}` goes on on `{}`", account.service, account.to);
    word(CANCELLED, Some(false), "TooLate", message)
}

/// Whether its deletion was known while it ran.
fn was_asked(before: &MigrationStatus) -> bool {
    let asked = |one: &Condition| {
        one.type_ == CANCELLED && matches!(one.reason.as_str(), "Asked" | "Cancelled" | "TooLate")
    };
    before.conditions.iter().any(asked)
}

fn phase_of(status: &MigrationStatus) -> Option<Phase> {
    let name = status.phase.as_deref()?;
    Phase::ALL.into_iter().find(|phase| phase.name() == name)
}

fn conditions(
    object: &Migration,
    before: &MigrationStatus,
    words: [Word; 4],
    now: Timestamp,
) -> Vec<Condition> {
    let generation = object.metadata.generation;
    words.into_iter().map(|word| word.condition(&before.conditions, generation, now)).collect()
}

const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Moved => "moved",
        Outcome::RolledBack => "rolled-back",
        Outcome::Refused => "refused",
    }
}
