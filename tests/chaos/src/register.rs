//! The agents' registers, as they lie on the nodes' disks.

use std::time::Duration;

use anyhow::Context as _;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use serde_json::Value;

use crate::node::Node;

/// A migration that left a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Departure {
    /// Its id; sorts by time.
    pub id: String,
    /// The service.
    pub service: String,
    /// What was ordered.
    pub order: Value,
    /// What was reached.
    pub phase: Option<String>,
    /// `undecided`, `commit` or `abort`.
    pub decision: String,
    /// How it ended; `None` while it is under way.
    pub report: Option<Value>,
    /// When it ended, by the clock of the source's agent.
    pub ended: Option<String>,
}

impl Departure {
    /// A word of the report.
    pub fn said(&self, key: &str) -> Option<&str> {
        self.report.as_ref()?.get(key)?.as_str()
    }

    /// How it ended.
    pub fn outcome(&self) -> Option<&str> {
        let outcome = self.report.as_ref()?.get("outcome")?;
        outcome.as_str().or_else(|| outcome.get("outcome")?.as_str())
    }

    /// A node of the order.
    pub fn end(&self, key: &str) -> &str {
        self.order.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

/// A migration that came to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Arrival {
    /// Its id.
    pub id: String,
    /// The service.
    pub service: String,
    /// `held`, `released`, `finished` or `discarded`.
    pub state: String,
}

/// What one register says.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Register {
    /// What left, oldest first.
    pub departures: Vec<Departure>,
    /// What came, oldest first.
    pub arrivals: Vec<Arrival>,
}

impl Register {
    /// Reads the register of a node, from its last `most` migrations on.
    ///
    /// # Errors
    /// When the node is down.
    pub fn read(node: &Node, most: u32) -> anyhow::Result<Self> {
        let path = node.state.join("agent.db");
        // Its write-ahead log has to be mapped, which takes the right to write.
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .with_context(|| path.display().to_string())?;
        connection.busy_timeout(Duration::from_secs(2))?;
        let mut statement = connection.prepare(
            "SELECT id, service, migration, phase, decision, report, ended FROM departures ORDER BY id DESC LIMIT ?1",
        )?;
        let departures = statement.query_map([most], |row| {
            let json = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
            Ok(Departure {
                id: row.get(0)?,
                service: row.get(1)?,
                order: json(row.get(2)?),
                phase: row.get(3)?,
                decision: row.get(4)?,
                report: row.get::<_, Option<String>>(5)?.map(json),
                ended: row.get(6)?,
            })
        })?;
        let mut departures: Vec<Departure> = departures.collect::<Result<_, _>>()?;
        departures.reverse();
        let mut statement =
            connection.prepare("SELECT id, service, state FROM arrivals ORDER BY id DESC LIMIT ?1")?;
        let arrivals = statement.query_map([most], |row| {
            Ok(Arrival { id: row.get(0)?, service: row.get(1)?, state: row.get(2)? })
        })?;
        let mut arrivals: Vec<Arrival> = arrivals.collect::<Result<_, _>>()?;
        arrivals.reverse();
        Ok(Self { departures, arrivals })
    }

    /// What is not settled.
    pub fn open_ends(&self) -> Vec<String> {
        let leaving = self.departures.iter().filter(|one| one.report.is_none()).map(|one| {
            let phase = one.phase.as_deref().unwrap_or("nothing");
            format!("{} is leaving: {phase} reached, {}", one.service, one.decision)
        });
        let held = self.arrivals.iter().filter(|one| one.state == "held");
        leaving.chain(held.map(|one| format!("{} is held", one.service))).collect()
    }
}
