//! Conditions of objects that are shown in a cluster.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What a condition says: its status, the reason in a word, and a line for people.
pub(super) struct Word {
    kind: &'static str,
    status: Option<bool>,
    reason: String,
    message: String,
}

impl Word {
    /// With at most so many characters of the message. A status of `None` is `Unknown`.
    pub fn new(kind: &'static str, status: Option<bool>, reason: &str, message: &str, most: usize) -> Self {
        Self { kind, status, reason: reason.to_owned(), message: line(message, most) }
    }

    /// As a condition of an object of this generation, which said these `before`.
    pub fn condition(self, before: &[Condition], generation: Option<i64>, now: Timestamp) -> Condition {
        let status = match self.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let same = before.iter().find(|one| one.type_ == self.kind && one.status == status);
        Condition {
            type_: self.kind.to_owned(),
            status: status.to_owned(),
            reason: self.reason,
            message: self.message,
            // Of when it began to be so.
            last_transition_time: same.map_or(Time(now), |one| one.last_transition_time.clone()),
            observed_generation: generation,
        }
    }
}

/// What agents and engines say may be long.
pub(super) fn line(text: &str, most: usize) -> String {
    let text = text.replace(['\n', '\r'], " ");
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
