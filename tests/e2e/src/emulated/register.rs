//! The register of an emulated host's agent, read from a copy of its file: what was decided about each migration.

use std::path::Path;

use anyhow::{Context as _, bail};
use rusqlite::Connection;

use super::Emulated;

/// Where the register lies on a host.
const FILE: &str = "/var/lib/sterna/agent.db";

/// A migration that left a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// Its id; sorts by time.
    pub id: String,
    /// The last phase that is known to have been reached.
    pub phase: Option<String>,
    /// `undecided`, `commit` or `abort`.
    pub decision: String,
    /// Whether it has ended.
    pub ended: bool,
}

/// A migration that came to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Its id.
    pub id: String,
    /// `held`, `released`, `finished` or `discarded`.
    pub state: String,
}

/// What one register says, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Register {
    /// What left.
    pub departures: Vec<Departure>,
    /// What came.
    pub arrivals: Vec<Arrival>,
}

impl Register {
    /// Fetches the register of a node.
    ///
    /// # Errors
    /// When the node does not answer, or the copy is torn because the agent wrote just then: try again.
    pub async fn of(hosts: &Emulated, node: &str) -> anyhow::Result<Self> {
        let script = format!("for f in {FILE} {FILE}-wal; do [ -e $f ] && base64 --wrap=0 $f; echo; done");
        let printed = hosts.run(node, &["sh", "-c", &script]).await?;
        let mut lines = printed.lines();
        let folder = tempfile::tempdir_in(hosts.folder())?;
        let copy = folder.path().join("agent.db");
        for (path, line) in [(copy.clone(), lines.next()), (folder.path().join("agent.db-wal"), lines.next())]
        {
            let bytes =
                decoded(line.unwrap_or_default()).with_context(|| format!("the register of {node}"))?;
            if !bytes.is_empty() {
                std::fs::write(path, bytes)?;
            }
        }
        Self::read(&copy).with_context(|| format!("the register of {node}"))
    }

    fn read(file: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(file)?;
        let mut statement = connection
            .prepare("SELECT id, phase, decision, report IS NOT NULL FROM departures ORDER BY id")?;
        let departures = statement.query_map([], |row| {
            Ok(Departure { id: row.get(0)?, phase: row.get(1)?, decision: row.get(2)?, ended: row.get(3)? })
        })?;
        let departures = departures.collect::<Result<_, _>>()?;
        let mut statement = connection.prepare("SELECT id, state FROM arrivals ORDER BY id")?;
        let arrivals = statement.query_map([], |row| Ok(Arrival { id: row.get(0)?, state: row.get(1)? }))?;
        Ok(Self { departures, arrivals: arrivals.collect::<Result<_, _>>()? })
    }

    /// What is not settled.
    pub fn open_ends(&self) -> Vec<String> {
        let leaving = self.departures.iter().filter(|one| !one.ended).map(|one| {
            format!(
                "{} is leaving ({} reached, {})",
                one.id,
                one.phase.as_deref().unwrap_or("nothing"),
                one.decision
            )
        });
        let coming = self.arrivals.iter().filter(|one| matches!(one.state.as_str(), "held" | "released"));
        leaving.chain(coming.map(|one| format!("{} is {}", one.id, one.state))).collect()
    }

    /// Where the register of a source and that of a destination contradict each other, once all is settled.
    pub fn contradictions(&self, destination: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for departure in &self.departures {
            let arrival = destination.arrivals.iter().find(|one| one.id == departure.id);
            let state = arrival.map_or("unknown", |one| one.state.as_str());
            let agree = match departure.decision.as_str() {
                "commit" => state == "finished",
                "abort" => matches!(state, "discarded" | "unknown"),
                _ => false,
            };
            if !agree {
                found.push(format!(
                    "{}: {} at the source, {state} at the destination",
                    departure.id, departure.decision
                ));
            }
        }
        found
    }
}

/// What `base64 --wrap=0` printed, as it was before.
fn decoded(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits) = (0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("not base64: `{}`", char::from(digit)),
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff)?);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        for (text, bytes) in
            [("", &b""[..]), ("Zg==", b"f"), ("Zm8=", b"fo"), ("Zm9v", b"foo"), ("//79", b"\xff\xfe\xfd")]
        {
            assert_eq!(decoded(text).unwrap(), bytes);
        }
        assert!(decoded("a b").is_err());
    }

    #[test]
    fn registers_that_contradict_each_other_are_found() {
        let departure = |id: &str, decision: &str| Departure {
            id: id.to_owned(),
            phase: None,
            decision: decision.to_owned(),
            ended: true,
        };
        let arrival = |id: &str, state: &str| Arrival { id: id.to_owned(), state: state.to_owned() };
        let source = Register {
            departures: vec![departure("1", "commit"), departure("2", "abort"), departure("3", "abort")],
            arrivals: vec![],
        };
        let good = vec![arrival("1", "finished"), arrival("2", "discarded")];
        assert_eq!(source.contradictions(&Register { departures: vec![], arrivals: good }), [] as [&str; 0]);
        let twice = vec![arrival("1", "finished"), arrival("2", "finished")];
        assert_eq!(source.contradictions(&Register { departures: vec![], arrivals: twice }).len(), 1);
        assert_eq!(source.contradictions(&Register::default()).len(), 1, "committed, and nobody has it");
    }
}
