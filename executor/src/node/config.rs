//! `agent.toml`: what an agent must know before it starts.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sterna_core::continuum::NodeName;
use sterna_policies::quantity::{Bytes, Cores, MibPerSecond};

use crate::config_file::{self, ConfigError};

/// Settings of one agent.
#[derive(Debug, Clone, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The node's name; the certificate must be made for it.
    #[schemars(with = "String")]
    pub node: NodeName,
    /// Where to listen, `address:port`. Mutual TLS only.
    pub listen: String,
    /// Folder of the certificate and key.
    pub identity: PathBuf,
    /// Folder of the register. Must survive the node.
    pub state: PathBuf,
    /// Folder for memory images on their way. Best in RAM.
    pub staging: PathBuf,
    /// Processor that services may use.
    pub cpu: Cores,
    /// Memory that services may use.
    pub memory: Bytes,
    /// How many migrations may be under way at once.
    #[serde(default)]
    pub admission: AdmissionConfig,
    /// What all migrations to one other node may take of the link together. Left out: all they can.
    #[serde(default)]
    pub bandwidth_per_peer: Option<MibPerSecond>,
}

/// How many migrations may be under way at once; each further one waits for its turn until its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdmissionConfig {
    /// That leave this node. At least 1.
    pub leaving: usize,
    /// That leave this node for the same other node. At least 1.
    pub per_peer: usize,
    /// That arrive at this node. At least 1.
    pub arriving: usize,
}

impl Default for AdmissionConfig {
    // KubeVirt's defaults for virtual machines are two that leave a node and five in a cluster.
    fn default() -> Self {
        Self { leaving: 2, per_peer: 2, arriving: 2 }
    }
}

impl AgentConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// When it can't be read or holds a mistake; the report has line and column.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (name, text) = config_file::read(path)?;
        Ok(sterna_policies::load::toml_document(&name, &text)?)
    }
}
