//! `agent.toml`: what an agent must know before it starts.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sterna_core::continuum::NodeName;
use sterna_policies::diagnose::{Findings, Invalid};
use sterna_policies::load::{At, toml_document};
use sterna_policies::quantity::{Bytes, Cores, MibPerSecond};

use crate::config_file::{self, ConfigError};
use crate::traffic::config::{FrontConfig, FrontTable};

/// Settings of one agent.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentConfig {
    /// The node's name; the certificate must be made for it.
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
    pub admission: AdmissionConfig,
    /// What all migrations to one other node may take of the link together. Left out: all they can.
    pub bandwidth_per_peer: Option<MibPerSecond>,
    /// The front that the agent runs, if it does.
    pub front: Option<FrontConfig>,
    /// UID of the pod in which it runs, if it does and its state ends with that pod: what is on its way from there may run where it is
    /// held once that pod is known to have ended.
    pub pod: Option<String>,
}

/// Where a front's identity comes from.
const ISSUE: &str = "`sterna front --issue DIR --inventory FILE` makes one, on the scheduler's host";

/// The file as it is written.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct AgentFile {
    #[schemars(with = "String")]
    node: NodeName,
    listen: At<String>,
    identity: At<PathBuf>,
    state: PathBuf,
    staging: PathBuf,
    cpu: Cores,
    memory: Bytes,
    #[serde(default)]
    admission: AdmissionConfig,
    #[serde(default)]
    bandwidth_per_peer: Option<MibPerSecond>,
    /// A front that the agent runs; the keys are those of a front's own file.
    #[serde(default)]
    front: Option<At<FrontTable>>,
    /// UID of the pod in which the agent runs, where its state ends with that pod. `sterna sites up` writes it.
    #[serde(default)]
    pod: Option<String>,
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
        let folder = path.parent().unwrap_or(Path::new(""));
        Ok(Self::parse(&name, &text, folder)?)
    }

    fn parse(file_name: &str, text: &str, folder: &Path) -> Result<Self, Invalid> {
        let file: AgentFile = toml_document(file_name, text)?;
        let mut findings = Findings::new(file_name, text);
        let front = file.front.map(|front| {
            match &front.identity {
                None => {
                    findings
                        .error("F0032", front.span(), "the front has no `identity`")
                        .label("expected `identity = …`: the folder of a front's certificate and key")
                        .help(ISSUE);
                }
                Some(own) if folder.join(&own.value) == folder.join(&file.identity.value) => {
                    findings
                        .error("F0032", own.span(), "the front can't have the agent's identity")
                        .label("an agent's certificate is not a front's")
                        .also(file.identity.span(), "the agent's")
                        .help(ISSUE);
                }
                Some(_) => {}
            }
            front.value.within_an_agent(&mut findings);
            front.value.read(folder, Some(&file.listen), &mut findings)
        });
        let config = Self {
            node: file.node,
            listen: file.listen.value,
            identity: file.identity.value,
            state: file.state,
            staging: file.staging,
            cpu: file.cpu,
            memory: file.memory,
            admission: file.admission,
            bandwidth_per_peer: file.bandwidth_per_peer,
            front,
            pod: file.pod,
        };
        Ok(findings.finish(config)?.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::config::NodesFile;

    const GOOD: &str = r#"
node = "edge-a"
listen = "0.0.0.0:7420"
identity = "/etc/sterna/identity"
state = "/var/lib/sterna"
staging = "/dev/shm/sterna"
cpu = "2"
memory = "4GiB"
"#;
    const FRONT: &str = r#"
[front]
inventory = "inventory.toml"
identity = "front-identity"

[[front.service]]
name = "redis"
listen = "0.0.0.0:6379"
port = 6379
protocol = "redis"
"#;

    fn parse(text: &str) -> Result<AgentConfig, Invalid> {
        AgentConfig::parse("agent.toml", text, Path::new("/etc/sterna"))
    }

    #[test]
    fn a_front_is_run_where_one_is_asked_for() {
        assert_eq!(parse(GOOD).unwrap().front, None);
        let front = parse(&format!("{GOOD}{FRONT}")).unwrap().front.unwrap();
        assert_eq!(front.nodes, NodesFile::Inventory("/etc/sterna/inventory.toml".into()));
        assert_eq!(front.identity.as_deref(), Some(Path::new("/etc/sterna/front-identity")));
        assert_eq!(front.services[0].name.as_str(), "redis");
    }

    #[test]
    fn contradictions_are_refused_where_they_stand() {
        for (good, bad, word) in [
            ("identity = \"front-identity\"\n", "", "no `identity`"),
            ("\"front-identity\"", "\"identity\"", "can't have the agent's identity"),
            ("\"front-identity\"", "\"/etc/sterna/identity\"", "can't have the agent's identity"),
            ("0.0.0.0:6379", "127.0.0.1:7420", "listened on twice"),
            ("[front]", "[front]\nmetrics = \"[::1]:7420\"", "listened on twice"),
            ("[front]", "[front]\nschema_version = 2", "format version 2"),
            ("[front]", "[front]\nnode = \"edge-a\"", "no key `node`"),
            ("\"redis\"\nlisten", "\"Redis\"\nlisten", "name"),
            ("inventory = \"inventory.toml\"", "agents = \"agents.toml\"", "an agent needs an inventory"),
            ("[front]", "[front.stand_in]\nservice = \"redis\"\n[front]", "stands in for no service"),
        ] {
            assert!(FRONT.contains(good), "{good}");
            let refused = parse(&format!("{GOOD}{}", FRONT.replacen(good, bad, 1))).unwrap_err().to_string();
            assert!(refused.contains(word) && refused.contains("agent.toml:"), "{bad}: {refused}");
        }
    }
}
