//! The phases of a migration, in order.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What has been reached. A phase is entered when its work is done and durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The intent is journalled.
    Planned,
    /// Both ends can do it.
    Checked,
    /// The destination container exists, not started.
    Reserved,
    /// Image, volumes and writable layer were copied while the source ran.
    Synced,
    /// The source stands still.
    Frozen,
    /// Its memory and state are written down; it stands still, whole.
    Dumped,
    /// The destination has everything, every chunk's hash checked.
    Transferred,
    /// The destination is restored and held: it runs nothing and reaches nobody.
    Restored,
    /// It is proved to be a restore and not a cold start.
    Verified,
    /// The source's register says `commit`: the destination owns the service.
    Committed,
    /// The destination runs.
    Released,
    /// The source is gone and nothing is left over.
    Cleaned,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Self; 12] = [
        Self::Planned,
        Self::Checked,
        Self::Reserved,
        Self::Synced,
        Self::Frozen,
        Self::Dumped,
        Self::Transferred,
        Self::Restored,
        Self::Verified,
        Self::Committed,
        Self::Released,
        Self::Cleaned,
    ];

    /// Whether it can only go forward once this is reached: the destination owns the service.
    pub const fn is_forward_only(self) -> bool {
        matches!(self, Self::Committed | Self::Released | Self::Cleaned)
    }

    /// The word that the design, the journal and the tables use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Checked => "checked",
            Self::Reserved => "reserved",
            Self::Synced => "synced",
            Self::Frozen => "frozen",
            Self::Dumped => "dumped",
            Self::Transferred => "transferred",
            Self::Restored => "restored",
            Self::Verified => "verified",
            Self::Committed => "committed",
            Self::Released => "released",
            Self::Cleaned => "cleaned",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
