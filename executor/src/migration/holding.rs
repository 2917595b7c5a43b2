//! The destination's rules: what it does with a call, by how far the service has come in.
//!
//! Pure, so that the destination's agent and the model check walk the same rules.

use serde::{Deserialize, Serialize};

/// How far a service has come in. Durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holding {
    /// Its container exists and does not run as the service: created, or restored and held.
    Held,
    /// This node owns it, with the certificate.
    Released,
    /// The source is fenced for good and everything is as before the migration.
    Finished,
    /// It was given up before the commit.
    Discarded,
}

impl Holding {
    /// All, in the order in which they follow each other.
    pub const ALL: [Self; 4] = [Self::Held, Self::Released, Self::Finished, Self::Discarded];

    /// The word that the register keeps.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Released => "released",
            Self::Finished => "finished",
            Self::Discarded => "discarded",
        }
    }

    /// The state of a word; `None` for a word that is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Whether this node owns the service.
    pub const fn owns(self) -> bool {
        matches!(self, Self::Released | Self::Finished)
    }
}

/// What is asked of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// Create the container, not started.
    Reserve,
    /// Take in files.
    Receive,
    /// Restore, held.
    Restore,
    /// Run what is held, with a certificate.
    Release {
        /// Whether the certificate was issued by who may, and fits what is held.
        valid: bool,
        /// Whether restored processes stand here, stopped.
        standing: bool,
    },
    /// Run it from its image and files, with a certificate: its memory is gone with both nodes.
    StartAnew {
        /// As above.
        valid: bool,
    },
    /// Put back what the migration changed; the source never runs again.
    Finish,
    /// Give up what is held.
    Discard,
}

/// What a destination does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// Does it, and is in this state afterwards; what must be durable is so before anything runs.
    Do(Holding),
    /// It has been done before; nothing is to be done again but what may be repeated without harm.
    Done,
    /// Nothing is held that could run: it must be sent and restored again.
    Lost,
    /// Refuses.
    Refuse(Refusal),
}

/// Why a destination refuses a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// It was never asked to take the service in, or has forgotten.
    #[error("nothing is known of it here")]
    Unknown,
    /// Over: given up or finished.
    #[error("it has ended here")]
    Ended,
    /// The service runs here by right.
    #[error("the service runs here with a certificate")]
    Owned,
    /// The service does not run here yet.
    #[error("the service does not run here yet")]
    NotYet,
    /// The certificate is not for what is held here, or not from who may issue it.
    #[error("the certificate is not for what is held here")]
    Certificate,
}

/// The rule.
pub const fn answer(state: Option<Holding>, call: Call) -> Answer {
    use Answer::{Do, Done, Lost, Refuse};
    use Holding::{Discarded, Finished, Held, Released};
    match (state, call) {
        (None, Call::Reserve) => Do(Held),
        // There may be files of a call that came late.
        (None, Call::Discard) | (Some(Discarded), Call::Discard) => Done,
        (None, _) => Refuse(Refusal::Unknown),
        (Some(Held), Call::Reserve) => Done,
        (Some(Held), Call::Receive | Call::Restore) => Do(Held),
        (Some(Held), Call::Release { valid: false, .. } | Call::StartAnew { valid: false }) => {
            Refuse(Refusal::Certificate)
        }
        (Some(Held), Call::Release { valid: true, standing: false }) => Lost,
        (Some(Held), Call::Release { .. } | Call::StartAnew { .. }) => Do(Released),
        (Some(Held), Call::Finish) => Refuse(Refusal::NotYet),
        (Some(Held), Call::Discard) => Do(Discarded),
        (Some(Released | Finished), Call::Release { valid: true, .. } | Call::StartAnew { valid: true }) => {
            Done
        }
        (Some(Released | Finished), Call::Release { .. } | Call::StartAnew { .. }) => {
            Refuse(Refusal::Certificate)
        }
        (Some(Released), Call::Finish) => Do(Finished),
        (Some(Finished), Call::Finish) => Done,
        (Some(Released | Finished), Call::Discard) => Refuse(Refusal::Owned),
        (Some(Released | Finished), Call::Reserve | Call::Receive | Call::Restore) | (Some(Discarded), _) => {
            Refuse(Refusal::Ended)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS: [Call; 11] = [
        Call::Reserve,
        Call::Receive,
        Call::Restore,
        Call::Release { valid: false, standing: false },
        Call::Release { valid: false, standing: true },
        Call::Release { valid: true, standing: false },
        Call::Release { valid: true, standing: true },
        Call::StartAnew { valid: false },
        Call::StartAnew { valid: true },
        Call::Finish,
        Call::Discard,
    ];

    #[test]
    fn ownership_begins_only_with_a_valid_certificate_and_never_ends_by_a_call() {
        for state in [None].into_iter().chain(Holding::ALL.map(Some)) {
            for call in CALLS {
                let Answer::Do(next) = answer(state, call) else { continue };
                if next.owns() && !state.is_some_and(Holding::owns) {
                    let valid = matches!(
                        call,
                        Call::Release { valid: true, standing: true } | Call::StartAnew { valid: true }
                    );
                    assert!(valid, "{state:?} {call:?}");
                }
                assert!(!state.is_some_and(Holding::owns) || next.owns(), "{state:?} {call:?}");
                assert_ne!(state, Some(Holding::Discarded), "{call:?} does something after the end");
            }
        }
    }

    #[test]
    fn doing_it_twice_is_the_same_as_doing_it_once() {
        for state in [None].into_iter().chain(Holding::ALL.map(Some)) {
            for call in CALLS {
                if let Answer::Do(next) = answer(state, call) {
                    let again = answer(Some(next), call);
                    assert!(
                        matches!(again, Answer::Done) || again == Answer::Do(next),
                        "{state:?} {call:?}: {again:?}"
                    );
                }
            }
        }
    }
}
