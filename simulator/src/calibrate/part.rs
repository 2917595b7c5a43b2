//! Which phase belongs to which cost.

use serde::Serialize;

/// What a line is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// The memory of the service.
    Memory,
    /// What crossed the link in the phase.
    Sent,
}

impl Over {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sent => "sent",
        }
    }
}

/// A part of a move, as [`Costs`](sterna_core::cost::Costs) has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Before the service stands still, and after it runs again.
    Beside,
    /// Sending while it runs.
    Sync,
    /// What it stands still for beside the following.
    Around,
    /// Writing its memory down.
    Dump,
    /// Sending while it stands still.
    Transfer,
    /// Restoring it.
    Restore,
}

/// What lies between the phases of a migration whose whole time is known.
pub const OTHER: &str = "other";

/// The phases of a migration, in order, as the executor calls them; and what lies between them.
pub const PHASES: [&str; 13] = [
    "planned",
    "checked",
    "reserved",
    "synced",
    "frozen",
    "dumped",
    "transferred",
    "restored",
    "verified",
    "committed",
    "released",
    "cleaned",
    OTHER,
];

impl Part {
    /// The part that a phase belongs to; `None` where there is no such phase.
    pub fn of(phase: &str) -> Option<Self> {
        Some(match phase {
            "planned" | "checked" | "reserved" | "cleaned" | OTHER => Self::Beside,
            "synced" => Self::Sync,
            "frozen" | "verified" | "committed" | "released" => Self::Around,
            "dumped" => Self::Dump,
            "transferred" => Self::Transfer,
            "restored" => Self::Restore,
            _ => return None,
        })
    }

    /// What its time grows with.
    pub const fn over(self) -> Over {
        match self {
            Self::Sync | Self::Transfer => Over::Sent,
            Self::Beside | Self::Around | Self::Dump | Self::Restore => Over::Memory,
        }
    }

    /// Whether the service stands still meanwhile.
    pub const fn stands_still(self) -> bool {
        matches!(self, Self::Around | Self::Dump | Self::Transfer | Self::Restore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_belongs_somewhere() {
        assert!(PHASES.iter().all(|phase| Part::of(phase).is_some()));
        assert_eq!(Part::of("dumb"), None);
    }
}
