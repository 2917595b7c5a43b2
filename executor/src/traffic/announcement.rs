//! What an agent says to fronts of the services on its node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sterna_core::continuum::ServiceName;

use crate::migration::order::MigrationId;

/// All that an agent has to say, whole each time: one line of its stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The number of this stream; comes back in [`Held`].
    pub listener: u64,
    /// The services that the node owns and that stand here, of those that were asked for.
    pub services: BTreeMap<ServiceName, Announced>,
    /// Those of them that have ended for good, each with what became of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ended: BTreeMap<ServiceName, Ended>,
}

/// A service that its node owns, whose container was started once, does not run and is not started again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How often it had changed owners.
    pub epoch: u64,
    /// The code that it ended with: that of its first process, or 128 and the number of the signal that ended it.
    pub code: i64,
}

/// A service that its node owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// How often it has changed owners. Of two nodes that announce it the one with the higher epoch owns it.
    pub epoch: u64,
    /// Whether it takes connections.
    pub standing: Standing,
    /// For each TCP port within its container, the one that it is published on.
    pub ports: BTreeMap<u16, u16>,
}

/// Whether a service takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It runs.
    Runs,
    /// It is about to be frozen by this migration: its agent waits a moment for fronts to send nothing more.
    Stops(MigrationId),
    /// It stands frozen.
    Frozen,
}

/// A front says that it hears, and perhaps that it sends nothing more to a service that is about to be frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The number of the stream that said so.
    pub listener: u64,
    /// The service, and the migration that it is frozen by. Without one it only says that it hears, and so keeps a connection
    /// open for when there is no time to make one.
    pub freeze: Option<(ServiceName, MigrationId)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_tells_no_ends_is_understood() {
        let said: Announcement = serde_json::from_str(r#"{"listener":1,"services":{}}"#).unwrap();
        assert!(said.ended.is_empty());
    }

    #[test]
    fn a_line_reads_as_it_was_written() {
        let id = MigrationId::new();
        for standing in [Standing::Runs, Standing::Stops(id), Standing::Frozen] {
            let one = Announced { epoch: 3, standing, ports: BTreeMap::from([(80, 8080)]) };
            let ended = BTreeMap::from([("job".into(), Ended { epoch: 1, code: 137 })]);
            let said = Announcement { listener: 7, services: BTreeMap::from([("web".into(), one)]), ended };
            let line = serde_json::to_string(&said).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Announcement>(&line).unwrap(), said);
        }
    }
}
