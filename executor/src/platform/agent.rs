//! What the agent of every node is given, wherever the node lives.

use serde::Serialize;
use sterna_core::continuum::{Node, NodeName};
use sterna_policies::quantity::{Bytes, Cores};

use crate::identity::Credentials;

/// Where a node's agent listens that has the node for itself.
pub const AGENT_PORT: u16 = 7420;
/// Folder of its register.
pub const STATE: &str = "/var/lib/sterna";
/// Folder of its files, as their names in [`files`] count from.
pub const FILES: &str = "/etc/sterna";
/// Checkpoints are staged in memory.
const STAGING: &str = "/dev/shm/sterna";

/// Room for staged checkpoints, on top of the memory that services may use: a service's image can be as large as the service,
/// but two of the largest are not staged at once.
pub fn staging_room(node: &Node) -> Bytes {
    Bytes(node.memory.0 / 2)
}

/// The files of a node's agent, which listens on `port`: paths within [`FILES`] and contents, for root alone. `pod` is the UID of
/// the pod in which it runs, if its state ends with one.
///
/// # Errors
/// When the settings can't be written as TOML.
pub fn files(
    name: &NodeName,
    node: &Node,
    port: u16,
    credentials: &Credentials,
    pod: Option<&str>,
) -> std::io::Result<Vec<(String, String)>> {
    let config = AgentConfig {
        node: name,
        listen: format!("0.0.0.0:{port}"),
        identity: format!("{FILES}/identity"),
        state: STATE,
        staging: STAGING,
        cpu: node.cpu,
        memory: node.memory,
        pod,
    };
    let config = toml::to_string(&config).map_err(std::io::Error::other)?;
    let identity =
        credentials.files().map(|(name, content)| (format!("identity/{name}"), content.to_owned()));
    Ok(identity.into_iter().chain([("agent.toml".to_owned(), config)]).collect())
}

/// What `sterna agent --config` reads.
#[derive(Debug, Serialize)]
struct AgentConfig<'a> {
    node: &'a NodeName,
    listen: String,
    identity: String,
    state: &'a str,
    staging: &'a str,
    cpu: Cores,
    memory: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
}
