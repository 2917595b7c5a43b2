//! A front that the agent runs, in its own process and for as long as it serves.
//!
//! It hears the agents, its own among them, as one that stands alone does: over TLS, as a front. What it may do follows from a
//! front's certificate and not from the agent's, and its connections take nothing from those that migrations have.

use std::time::Duration;

use sterna_core::continuum::NodeName;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::config_file::ConfigError;
use crate::identity::{Credentials, IdentityError, Role};
use crate::traffic::config::FrontConfig;
use crate::traffic::descriptors::make_room;
use crate::traffic::roster::{RosterError, RosterFile, Unfit};
use crate::traffic::serve::Front;

/// Pause before a front that could not listen tries again.
const PAUSE: Duration = Duration::from_secs(5);

/// The settings of an agent's front do not go with what they name.
#[derive(Debug, Error)]
pub enum OwnFrontError {
    /// Its inventory can't be used.
    #[error("the front's inventory: {0}")]
    Inventory(#[from] ConfigError),
    /// Its inventory does not go with this node.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// Its certificate can't be used.
    #[error("the front's identity: {0}")]
    Identity(#[from] IdentityError),
    /// It has none: only the host of the scheduler can make one.
    #[error("the front has no identity")]
    Nobody,
    /// The certificate is not a front's.
    #[error(
        "the front's identity is that of `{0}`; `sterna front --issue DIR --inventory FILE` makes a front's"
    )]
    NotAFront(String),
}

impl From<RosterError> for OwnFrontError {
    fn from(error: RosterError) -> Self {
        match error {
            RosterError::File(error) => Self::Inventory(error),
            RosterError::Unfit(error) => Self::Unfit(error),
        }
    }
}

/// All that the front of an agent needs.
#[derive(Debug)]
pub struct OwnFront {
    config: FrontConfig,
    nodes: RosterFile,
    credentials: Credentials,
}

impl OwnFront {
    /// Reads what the settings of the front of `node` name.
    ///
    /// # Errors
    /// When something can't be read or does not fit.
    pub fn prepare(config: FrontConfig, node: &NodeName) -> Result<Self, OwnFrontError> {
        let (nodes, _) = RosterFile::open(config.nodes.clone(), Some(node.clone()))?;
        let credentials = Credentials::load(config.identity.as_deref().ok_or(OwnFrontError::Nobody)?)?;
        match credentials.role()? {
            Role::Front => Ok(Self { config, nodes, credentials }),
            other => Err(OwnFrontError::NotAFront(other.host_name())),
        }
    }

    /// The TCP ports that it listens on: no service of the node can have them.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.config
            .services
            .iter()
            .map(|service| service.listen)
            .chain(self.config.metrics)
            .map(|at| at.port())
    }

    /// Serves until `stop` is cancelled. What it listens on may be taken for a while, and no migration must wait for that: the
    /// agent serves meanwhile.
    pub async fn serve(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.serve_once(&stop).await {
                tracing::error!(error, "the front does not serve; it tries again");
            }
            stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }

    async fn serve_once(&self, stop: &CancellationToken) -> Result<(), String> {
        // Clients must not take the files that the agent needs.
        make_room(&self.config).map_err(|error| error.to_string())?;
        let front = Front::before(&self.config, self.nodes.clone(), &self.credentials).await;
        front.map_err(|error| error.to_string())?.serve(stop.cancelled()).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::identity::Authority;
    use crate::traffic::config::NodesFile;

    const INVENTORY: &str = r#"
schema_version = 1
name = "hosts"
[[site]]
name = "a"
tier = "edge"
region = "eu"
price = { node = "0.1USD/h" }
power = { idle = "5W", full = "20W" }
node = [
    { name = "near", cpu = "1", memory = "1GiB", agent = "192.0.2.7:7500" },
    { name = "far", cpu = "1", memory = "1GiB", agent = "192.0.2.8:7500" },
]
"#;

    fn prepare(folder: &Path, inventory: &str, role: &Role) -> Result<OwnFront, OwnFrontError> {
        let config = FrontConfig {
            nodes: NodesFile::Inventory(folder.join("inventory.toml")),
            identity: Some(folder.join("identity")),
            metrics: Some(([127, 0, 0, 1], 9464).into()),
            drain: Duration::from_millis(60),
            leave: Duration::ZERO,
            services: Vec::new(),
            stand_in: None,
        };
        std::fs::write(config.nodes.path(), inventory).unwrap();
        let authority = Authority::open(&folder.join("authority")).unwrap();
        authority.issue(role).unwrap().store(&folder.join("identity")).unwrap();
        OwnFront::prepare(config, &"near".into())
    }

    #[test]
    fn a_front_speaks_as_a_front_and_knows_where_all_agents_are() {
        let home = tempfile::tempdir().unwrap();
        let front = prepare(home.path(), INVENTORY, &Role::Front).unwrap();
        assert_eq!(front.ports().collect::<Vec<_>>(), [9464]);
        let agent = prepare(home.path(), INVENTORY, &Role::Agent("near".into())).unwrap_err();
        assert!(matches!(&agent, OwnFrontError::NotAFront(name) if name == "near.node.sterna"), "{agent}");
        for (good, bad, word) in [
            ("\"near\"", "\"other\"", "`hosts`, has no node `near`"),
            (", agent = \"192.0.2.8:7500\"", "", "no `agent` address of `far`"),
            ("schema_version = 1", "schema_version = 9", "inventory.toml:2:18"),
        ] {
            assert!(INVENTORY.contains(good), "{good}");
            let refused = prepare(home.path(), &INVENTORY.replacen(good, bad, 1), &Role::Front).unwrap_err();
            assert!(refused.to_string().contains(word), "{bad}: {refused}");
        }
    }
}
