//! The decision register: one value per migration, with the agent of the node that the service leaves.

use serde::{Deserialize, Serialize};

/// What stands in the decision register. It changes once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// The source may still be thawed, or the destination become the owner.
    Undecided,
    /// The destination owns the service; the source never runs again.
    Commit,
    /// The source keeps the service.
    Abort,
}

impl Decision {
    /// The word that the register keeps.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Commit => "commit",
            Self::Abort => "abort",
        }
    }

    /// The decision of a word; `None` for a word that is none.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Undecided, Self::Commit, Self::Abort].into_iter().find(|one| one.name() == name)
    }

    /// What stands after `wanted` was asked for where `self` stood: the first decision stays.
    #[must_use]
    pub const fn settle(self, wanted: Self) -> Self {
        match self {
            Self::Undecided => wanted,
            decided => decided,
        }
    }

    /// Whether the source may run under this decision.
    pub const fn lets_source_run(self) -> bool {
        !matches!(self, Self::Commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_decision_stays() {
        for first in [Decision::Commit, Decision::Abort] {
            for second in [Decision::Undecided, Decision::Commit, Decision::Abort] {
                assert_eq!(Decision::Undecided.settle(first).settle(second), first);
            }
            assert_eq!(Decision::from_name(first.name()), Some(first));
        }
        assert_eq!(Decision::from_name("maybe"), None);
    }
}
