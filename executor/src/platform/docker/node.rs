//! One node: its container's configuration, and the files that make it this node and no other.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, HostConfigLogConfig, Mount, MountType,
    NetworkingConfig,
};
use sterna_core::continuum::{Node, NodeName};

use super::image::{append_folder, boot, plain_header};
use super::privilege::{self, Privilege};
use super::{CALL_LABEL, CONTINUUM_LABEL, IMAGE_LABEL, NODE_LABEL, PRIVILEGE_LABEL, SITE_LABEL, SIZE_LABEL};
use crate::identity::Credentials;
use crate::platform::agent::{self, AGENT_PORT, FILES, STATE};

/// What a node is given to stop its services, its agent and its engine in order.
const STOP_SECONDS: i64 = 40;

/// What a local node is made of.
#[derive(Debug, Clone)]
pub struct LocalNode<'a> {
    /// The continuum it belongs to.
    pub continuum: &'a str,
    /// Its name.
    pub name: &'a NodeName,
    /// What the inventory says of it.
    pub node: &'a Node,
    /// Its image.
    pub image: &'a str,
}

/// The network that the nodes of a continuum share.
pub fn network(continuum: &str) -> String {
    format!("sterna-{continuum}")
}

/// Labels of everything that belongs to a continuum.
pub fn labels(continuum: &str, call: &str) -> HashMap<String, String> {
    HashMap::from([
        (CONTINUUM_LABEL.to_owned(), continuum.to_owned()),
        (CALL_LABEL.to_owned(), call.to_owned()),
    ])
}

impl LocalNode<'_> {
    /// Name of its container.
    pub fn container(&self) -> String {
        format!("sterna-{}-{}", self.continuum, self.name)
    }

    /// Its volumes and where they are mounted: the engine's images and services, and the agent's registers.
    pub fn volumes(&self) -> [(String, &'static str); 2] {
        let container = self.container();
        [(format!("{container}-engine"), "/var/lib/docker"), (format!("{container}-state"), STATE)]
    }

    /// Its size, for comparing a node that exists with what the inventory says now.
    pub fn size(&self) -> String {
        format!("{} {}B", self.node.cpu, self.node.memory.0)
    }

    fn staging(&self) -> u64 {
        agent::staging_room(self.node).0
    }

    /// The container's configuration. `cpus` is what the host has: an engine refuses a limit above it.
    pub fn configuration(&self, privilege: Privilege, cpus: Option<i64>, call: &str) -> ContainerCreateBody {
        let mut labels = labels(self.continuum, call);
        labels.extend(
            [
                (NODE_LABEL, self.name.to_string()),
                (SITE_LABEL, self.node.site.to_string()),
                (IMAGE_LABEL, self.image.to_owned()),
                (SIZE_LABEL, self.size()),
                (PRIVILEGE_LABEL, privilege.to_string()),
            ]
            .map(|(label, value)| (label.to_owned(), value)),
        );
        let nanos = self.node.cpu.as_micros().saturating_mul(1000);
        let limit = nanos.min(cpus.unwrap_or(i64::MAX).saturating_mul(1_000_000_000));
        let memory = self.node.memory.0.saturating_add(self.staging());
        let network = network(self.continuum);
        let host_config = HostConfig {
            nano_cpus: Some(limit),
            memory: Some(i64::try_from(memory).unwrap_or(i64::MAX)),
            shm_size: Some(i64::try_from(self.staging()).unwrap_or(i64::MAX)),
            network_mode: Some(network.clone()),
            // A life before leaves nothing in here that the next one could mistake for its own.
            tmpfs: Some([("/run".to_owned(), "mode=755".to_owned())].into()),
            mounts: Some(self.volumes().into_iter().map(|(source, target)| volume(source, target)).collect()),
            devices: match privilege {
                Privilege::Privileged => None,
                Privilege::Capabilities => Some(privilege::devices()),
            },
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(
                    [("max-size", "10m"), ("max-file", "3")]
                        .map(|(k, v)| (k.to_owned(), v.to_owned()))
                        .into(),
                ),
            }),
            ..privilege.host_config()
        };
        ContainerCreateBody {
            image: Some(self.image.to_owned()),
            hostname: Some(self.name.to_string()),
            cmd: Some(boot()),
            stop_timeout: Some(STOP_SECONDS),
            labels: Some(labels),
            host_config: Some(host_config),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some([(network, EndpointSettings::default())].into()),
            }),
            ..Default::default()
        }
    }

    /// The files of this node, as a tar archive to be unpacked at its root: the agent's configuration, and its identity for
    /// root alone.
    pub fn files(&self, credentials: &Credentials) -> std::io::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        append_files(&mut tar, self.name, self.node, AGENT_PORT, credentials)?;
        tar.into_inner()
    }
}

/// Appends the files that make a host this node: the configuration of its agent, which listens on `port`, and its identity
/// for root alone.
pub(super) fn append_files<W: std::io::Write>(
    tar: &mut tar::Builder<W>,
    name: &NodeName,
    node: &Node,
    port: u16,
    credentials: &Credentials,
) -> std::io::Result<()> {
    let folder = Path::new(FILES.trim_start_matches('/'));
    append_folder(tar, folder, 0o700)?;
    append_folder(tar, &folder.join("identity"), 0o700)?;
    for (path, content) in agent::files(name, node, port, credentials, None)? {
        let path = folder.join(path);
        tar.append_data(&mut plain_header(content.len() as u64, 0o600), path, content.as_bytes())?;
    }
    Ok(())
}

fn volume(source: String, target: &str) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(source),
        target: Some(target.to_owned()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use sterna_core::continuum::SiteName;
    use sterna_policies::quantity::Bytes;

    use super::*;
    use crate::identity::{Authority, Role};

    fn node() -> Node {
        Node {
            site: SiteName::from("east"),
            cpu: "2cores".parse().unwrap(),
            memory: Bytes::from_mib(1024),
            drain: false,
            agent: None,
            kubernetes: None,
        }
    }

    #[test]
    fn a_node_is_a_container_of_its_size_with_nothing_published() {
        let (node, name) = (node(), NodeName::from("edge-a"));
        let local = LocalNode { continuum: "demo", name: &name, node: &node, image: "sterna-node:1" };
        let mut body = local.configuration(Privilege::Privileged, Some(1), "call");
        assert_eq!(body.exposed_ports, None);
        // A map has no order of its own.
        let labels: BTreeMap<_, _> = body.labels.take().unwrap().into_iter().collect();
        let mut host = body.host_config.take().unwrap();
        assert_eq!((host.port_bindings.take(), host.publish_all_ports.take()), (None, None));
        assert!(host.log_config.take().is_some());
        insta::assert_json_snapshot!((labels, host, body));
    }

    #[test]
    fn an_engine_with_cpus_enough_gets_the_inventorys_limit() {
        let (node, name) = (node(), NodeName::from("edge-a"));
        let local = LocalNode { continuum: "demo", name: &name, node: &node, image: "sterna-node:1" };
        for cpus in [Some(8), None] {
            let host = local.configuration(Privilege::Capabilities, cpus, "call").host_config.unwrap();
            assert_eq!(host.nano_cpus, Some(2_000_000_000));
            assert_eq!(host.privileged, None);
        }
    }

    #[test]
    fn the_files_of_a_node_are_roots_alone() {
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::open(&home.path().join("authority")).unwrap();
        let (node, name) = (node(), NodeName::from("edge-a"));
        let credentials = authority.issue(&Role::Agent(name.clone())).unwrap();
        let local = LocalNode { continuum: "demo", name: &name, node: &node, image: "sterna-node:1" };
        let archive = local.files(&credentials).unwrap();
        let mut entries = BTreeMap::new();
        for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            let kind = entry.header().entry_type();
            assert_eq!(entry.header().mode().unwrap(), if kind.is_dir() { 0o700 } else { 0o600 });
            assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (0, 0));
            entries.insert(entry.path().unwrap().display().to_string(), content);
        }
        assert_eq!(entries["etc/sterna/identity/key.pem"], credentials.key_pem);
        assert_eq!(entries["etc/sterna/identity/cert.pem"], credentials.cert_pem);
        assert_eq!(entries["etc/sterna/identity/ca.pem"], credentials.ca_pem);
        insta::assert_snapshot!(entries["etc/sterna/agent.toml"]);
    }
}
