//! What is worth an event, told from what an object said and what it says now.

use super::resource::{Migration, MigrationStatus};
use super::status::{CANCELLED, COMMITTED, SUCCEEDED};

/// Something that happened to a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// One word for it.
    pub reason: &'static str,
    /// Whether a person should look at it.
    pub warns: bool,
    /// What happened, in a line.
    pub note: String,
}

/// What happened when an object's status changed.
pub fn between(object: &Migration, after: &MigrationStatus) -> Vec<Occurrence> {
    let spec = &object.spec;
    let move_of = format!("`{}` from `{}` to `{}`", spec.service, spec.from, spec.to);
    let mut all = Vec::new();
    let mut happened = |reason, warns, note: String| all.push(Occurrence { reason, warns, note });
    if object.status.is_none() {
        let why = spec.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        happened("MigrationStarted", false, format!("moving {move_of}{why}"));
    }
    for now in &after.conditions {
        let before = object.condition(&now.type_);
        if before.is_some_and(|before| before.status == now.status && before.reason == now.reason) {
            continue;
        }
        let note = |what: &str| {
            let more = if now.message.is_empty() { String::new() } else { format!(": {}", now.message) };
            format!("{what} of {move_of}{more}")
        };
        match (now.type_.as_str(), now.status.as_str(), now.reason.as_str()) {
            (COMMITTED, "True", _) if before.is_none_or(|before| before.status != "True") => {
                happened("MigrationCommitted", false, note("the move"));
            }
            (SUCCEEDED, "True", _) => happened("MigrationSucceeded", false, now.message.clone()),
            (SUCCEEDED, "False", "Refused") => happened("MigrationRefused", true, note("the move")),
            (SUCCEEDED, "False", _) => happened("MigrationUndone", true, note("the move")),
            (SUCCEEDED, "Unknown", "NobodyKnows") => happened("MigrationLost", true, note("the move")),
            (CANCELLED, "Unknown", "Asked") => happened("CancelAsked", false, note("the move")),
            (CANCELLED, "True", _) => happened("MigrationCancelled", false, note("the move")),
            (CANCELLED, "False", "TooLate") => happened("CancelTooLate", true, note("the move")),
            _ => {}
        }
    }
    all
}
