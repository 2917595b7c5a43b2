//! What the source agent needs to know to carry out one move.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sterna_core::continuum::{NodeName, ServiceName};
use sterna_core::plan::MoveCost;
use sterna_policies::policy::{Memory, Method};
use sterna_policies::quantity::{MibPerSecond, Millis};
use uuid::Uuid;

/// Identity of one migration, sortable by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MigrationId(Uuid);

impl MigrationId {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "each call gives another value")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// When it was made, by the clock of whoever gave the order; `None` for one that does not say.
    pub fn made(self) -> Option<Timestamp> {
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()
    }
}

impl fmt::Display for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MigrationId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// One move, ready to be carried out by the agent of the node it leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Identity; giving the same order twice is the same as giving it once.
    pub id: MigrationId,
    /// The service.
    pub service: ServiceName,
    /// The node it leaves.
    pub from: NodeName,
    /// The node it goes to.
    pub to: NodeName,
    /// Where the source's agent listens, `host:port`: the destination asks there what was decided if it hears no more.
    pub from_address: String,
    /// Where the destination's agent listens, `host:port`.
    pub to_address: String,
    /// How.
    pub method: Method,
    /// When its memory crosses.
    #[serde(default)]
    pub memory: Memory,
    /// A service that would stand still for longer than this is not frozen; `None`: no limit but the lease.
    #[serde(default)]
    pub max_downtime: Option<Millis>,
    /// What it may take of the link; `None`: all it can.
    #[serde(default)]
    pub bandwidth: Option<MibPerSecond>,
    /// Time from the start to the commit; past it the migration is undone.
    pub deadline: Millis,
    /// Longest time that the source stands frozen before it is thawed again.
    pub freeze_lease: Millis,
    /// What was predicted by whoever gave the order; kept beside the report, so that a lost history can be made anew.
    #[serde(default)]
    pub predicted: Option<MoveCost>,
}

#[cfg(test)]
impl Order {
    /// An order for tests.
    pub(crate) fn example() -> Self {
        Self {
            id: MigrationId::new(),
            service: "redis".into(),
            from: "a".into(),
            to: "b".into(),
            from_address: "127.0.0.1:2".into(),
            to_address: "127.0.0.1:1".into(),
            method: Method::Checkpoint,
            memory: Memory::Ahead,
            max_downtime: None,
            bandwidth: None,
            deadline: Millis::from_micros(600_000_000_000),
            freeze_lease: Millis::from_micros(30_000_000_000),
            predicted: None,
        }
    }
}
