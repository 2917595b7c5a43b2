//! The pod that stands for a service in its cluster, and what that is given.
//!
//! It is a front ([`crate::traffic`]) in a pod that a namespace with `pod-security.kubernetes.io/enforce: restricted` takes, and it
//! may do nothing in its cluster: where agents are it is told by the scheduler, in a config map.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource,
    HTTPGetAction, KeyToPath, Pod, PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile,
    Secret, SecretVolumeSource, SecurityContext, Sysctl, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource as _;
use kube::api::ObjectMeta;
use serde::Serialize;
use sterna_core::continuum::{NodeName, Restart};

use super::resource::MigratableService;
use super::template::Described;
use crate::identity::Credentials;
use crate::traffic::config::Protocol;

/// The label of a stand-in: the service that it stands for.
pub const STANDS_FOR: &str = "sterna.io/stands-for";
/// The annotation with the digest of the template that it was made from.
pub const TEMPLATE: &str = "sterna.io/template";
/// The name of its container.
pub const CONTAINER: &str = "service";

const SETTINGS: &str = "/etc/sterna";
const SECRET: &str = "/run/sterna/secret";
const IDENTITY: &str = "/run/sterna/identity";
const SETTINGS_FILE: &str = "front.toml";
const AGENTS_FILE: &str = "agents.toml";
/// Who it runs as: nobody in particular, and not root.
const USER: i64 = 7400;
/// Time for clients to leave, and what it is given to end.
const LEAVE: &str = "5s";
const STOP_SECONDS: i64 = 15;
/// The port of its metrics and readiness, if the service has not that one itself.
const METRICS: u16 = 9464;

/// The name of a stand-in and of its config map.
pub fn name(service: &str) -> String {
    format!("{service}-stand-in")
}

/// The service that a pod stands for.
pub fn stands_for(pod: &Pod) -> Option<&str> {
    Some(pod.metadata.labels.as_ref()?.get(STANDS_FOR)?.as_str())
}

/// What is written into its settings.
#[derive(Debug, Serialize)]
struct Settings<'a> {
    schema_version: u32,
    agents: &'a str,
    identity: &'a str,
    metrics: String,
    leave: &'a str,
    stand_in: StandIn<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    service: Vec<Fronted<'a>>,
}

#[derive(Debug, Serialize)]
struct StandIn<'a> {
    service: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready_tcp: Option<u16>,
}

#[derive(Debug, Serialize)]
struct Fronted<'a> {
    name: &'a str,
    listen: String,
    port: u16,
    protocol: Protocol,
}

#[derive(Debug, Serialize)]
struct Agents<'a> {
    schema_version: u32,
    agents: &'a BTreeMap<NodeName, String>,
}

/// A stand-in of an object.
#[derive(Debug, Clone, Copy)]
pub struct Stand<'a> {
    /// The object.
    pub object: &'a MigratableService,
    /// What it describes.
    pub described: &'a Described,
    /// The image, with `sterna` at `/usr/bin/sterna` and a shell.
    pub image: &'a str,
    /// Where agents listen.
    pub agents: &'a BTreeMap<NodeName, String>,
}

impl Stand<'_> {
    fn service(&self) -> &str {
        self.object.name()
    }

    fn metrics(&self) -> u16 {
        let taken = |port: &u16| self.described.ports.iter().any(|one| one.number == *port);
        (METRICS..u16::MAX).find(|port| !taken(port)).unwrap_or(METRICS)
    }

    fn metadata(&self) -> ObjectMeta {
        let mut labels = BTreeMap::new();
        labels.insert(STANDS_FOR.to_owned(), self.service().to_owned());
        labels.insert("app.kubernetes.io/managed-by".to_owned(), "sterna".to_owned());
        ObjectMeta {
            name: Some(name(self.service())),
            namespace: self.object.metadata.namespace.clone(),
            labels: Some(labels),
            // Nothing waits for it to go: some clusters let only those say otherwise who may change the object's finalizers.
            owner_references: self
                .object
                .controller_owner_ref(&())
                .map(|owner| vec![OwnerReference { block_owner_deletion: None, ..owner }]),
            ..ObjectMeta::default()
        }
    }

    /// Its settings, and where agents are.
    ///
    /// # Errors
    /// When they can't be written as TOML.
    pub fn config(&self) -> Result<ConfigMap, toml::ser::Error> {
        let ready_tcp = self.described.readiness.as_ref().and_then(|readiness| readiness.connects_to);
        let settings = Settings {
            schema_version: 1,
            agents: AGENTS_FILE,
            identity: IDENTITY,
            metrics: format!("0.0.0.0:{}", self.metrics()),
            leave: LEAVE,
            stand_in: StandIn { service: self.service(), ready_tcp },
            service: self
                .described
                .ports
                .iter()
                .map(|port| Fronted {
                    name: self.service(),
                    listen: format!("0.0.0.0:{}", port.number),
                    port: port.number,
                    protocol: port.protocol,
                })
                .collect(),
        };
        let agents = Agents { schema_version: 1, agents: self.agents };
        let files = [(SETTINGS_FILE, toml::to_string(&settings)?), (AGENTS_FILE, toml::to_string(&agents)?)];
        Ok(ConfigMap {
            metadata: self.metadata(),
            data: Some(files.map(|(name, text)| (name.to_owned(), text)).into()),
            ..ConfigMap::default()
        })
    }

    /// The pod, which proves itself with what is in the secret of that name.
    pub fn pod(&self, secret: &str) -> Pod {
        let mut metadata = self.metadata();
        // Those by which Kubernetes services and people select it, and ours.
        metadata.labels.get_or_insert_default().extend(self.described.labels.clone());
        let mut annotations = self.described.annotations.clone();
        annotations.insert(TEMPLATE.to_owned(), self.object.digest());
        annotations.insert("kubectl.kubernetes.io/default-container".to_owned(), CONTAINER.to_owned());
        metadata.annotations = Some(annotations);
        let restart = self.described.service.run.as_ref().map(|run| run.restart).unwrap_or_default();
        let spec = PodSpec {
            restart_policy: Some(
                match restart {
                    Restart::Always => "Always",
                    Restart::OnFailure => "OnFailure",
                    Restart::Never => "Never",
                }
                .to_owned(),
            ),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(STOP_SECONDS),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    localhost_profile: None,
                }),
                // The service may have any port, and who is not root has those from 1024 on alone.
                sysctls: Some(vec![Sysctl {
                    name: "net.ipv4.ip_unprivileged_port_start".to_owned(),
                    value: "0".to_owned(),
                }]),
                ..PodSecurityContext::default()
            }),
            init_containers: Some(vec![self.first()]),
            containers: vec![self.container()],
            volumes: Some(self.volumes(secret)),
            ..PodSpec::default()
        };
        Pod { metadata, spec: Some(spec), status: None }
    }

    fn plain(&self, name: &str) -> Container {
        let quantities = |list: &[(&str, &str)]| {
            Some(list.iter().map(|(key, value)| ((*key).to_owned(), Quantity((*value).to_owned()))).collect())
        };
        Container {
            name: name.to_owned(),
            image: Some(self.image.to_owned()),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            resources: Some(ResourceRequirements {
                requests: quantities(&[("cpu", "10m"), ("memory", "32Mi")]),
                limits: quantities(&[("memory", "256Mi")]),
                ..ResourceRequirements::default()
            }),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
                ..SecurityContext::default()
            }),
            ..Container::default()
        }
    }

    /// The key must be its owner's alone, which a file of a mounted secret is not where the owner is not root.
    fn first(&self) -> Container {
        let copy = format!(
            "umask 077\nfor file in ca.pem cert.pem key.pem; do cp -f \"{SECRET}/$file\" \"{IDENTITY}/$file\"; done"
        );
        Container {
            command: Some(["/bin/sh", "-euc"].map(str::to_owned).to_vec()),
            args: Some(vec![copy]),
            volume_mounts: Some(vec![mount("identity", IDENTITY, false), mount("secret", SECRET, true)]),
            ..self.plain("identity")
        }
    }

    fn container(&self) -> Container {
        let ports = self.described.ports.iter().map(|port| ContainerPort {
            name: port.name.clone(),
            container_port: i32::from(port.number),
            ..ContainerPort::default()
        });
        Container {
            command: Some(vec!["/usr/bin/sterna".to_owned()]),
            args: Some(
                ["front", "--config"]
                    .map(str::to_owned)
                    .into_iter()
                    .chain([format!("{SETTINGS}/{SETTINGS_FILE}")])
                    .collect(),
            ),
            ports: Some(ports.collect()),
            readiness_probe: Some(self.readiness()),
            volume_mounts: Some(vec![mount("settings", SETTINGS, true), mount("identity", IDENTITY, true)]),
            ..self.plain(CONTAINER)
        }
    }

    fn readiness(&self) -> Probe {
        let own = HTTPGetAction {
            path: Some("/readyz".to_owned()),
            port: IntOrString::Int(i32::from(self.metrics())),
            ..HTTPGetAction::default()
        };
        match &self.described.readiness {
            // The stand-in makes the connection itself: to it anybody can connect.
            Some(readiness) if readiness.connects_to.is_some() => {
                Probe { tcp_socket: None, http_get: Some(own), ..readiness.probe.clone() }
            }
            Some(readiness) => readiness.probe.clone(),
            None => Probe {
                http_get: Some(own),
                period_seconds: Some(2),
                timeout_seconds: Some(5),
                ..Probe::default()
            },
        }
    }

    fn volumes(&self, secret: &str) -> Vec<Volume> {
        let item = |key: &str| KeyToPath { key: key.to_owned(), path: key.to_owned(), mode: None };
        vec![
            Volume {
                name: "settings".to_owned(),
                config_map: Some(ConfigMapVolumeSource {
                    name: name(self.service()),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            },
            Volume {
                name: "secret".to_owned(),
                secret: Some(SecretVolumeSource {
                    secret_name: Some(secret.to_owned()),
                    default_mode: Some(0o440),
                    items: Some(["ca.pem", "cert.pem", "key.pem"].map(item).to_vec()),
                    optional: None,
                }),
                ..Volume::default()
            },
            Volume {
                name: "identity".to_owned(),
                empty_dir: Some(EmptyDirVolumeSource {
                    medium: Some("Memory".to_owned()),
                    size_limit: Some(Quantity("1Mi".to_owned())),
                }),
                ..Volume::default()
            },
        ]
    }

    /// What it proves itself with, as a front.
    pub fn secret(&self, name: &str, credentials: &Credentials) -> Secret {
        let data =
            credentials.files().map(|(file, text)| (file.to_owned(), ByteString(text.as_bytes().to_vec())));
        Secret {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..self.metadata() },
            data: Some(data.into()),
            ..Secret::default()
        }
    }
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// A digest of what a stand-in is told.
pub fn digest(config: &ConfigMap) -> String {
    // Text alone: writing it as JSON can't fail.
    let text = serde_json::to_vec(&config.data).unwrap_or_default();
    blake3::hash(&text).to_hex()[..16].to_owned()
}
