//! The objects that a node is made of.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerPort, EmptyDirVolumeSource, KeyToPath, Namespace, NodeAffinity,
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolumeClaim,
    PersistentVolumeClaimSpec, PersistentVolumeClaimVolumeSource, Pod, PodSpec, Probe, ResourceRequirements,
    Secret, SecretVolumeSource, SecurityContext, TCPSocketAction, Toleration, Volume, VolumeMount,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;
use sterna_core::continuum::pod::{ClusterNodes, Storage};
use sterna_core::continuum::{self, Node, NodeName};

use crate::identity::Credentials;
use crate::platform::agent::{self, AGENT_PORT, FILES, STATE};
use crate::platform::docker::image::boot_pod;
use crate::platform::docker::{CONTINUUM_LABEL, IMAGE_LABEL, NODE_LABEL, SITE_LABEL, SIZE_LABEL};

/// The name of the container in a node's pod.
pub const CONTAINER: &str = "node";
/// What a node is given to stop its services, its agent and its engine in order.
const STOP_SECONDS: i64 = 40;
const ENGINE: &str = "/var/lib/docker";
const SHARED_MEMORY: &str = "/dev/shm";
/// What Pod Security asks of a namespace in which pods may be privileged.
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";

/// A node as a pod.
#[derive(Debug, Clone, Copy)]
pub struct PodNode<'a> {
    /// The continuum that it belongs to.
    pub continuum: &'a str,
    /// Its name.
    pub name: &'a NodeName,
    /// What the inventory says of it.
    pub node: &'a Node,
    /// Where the inventory wants it.
    pub place: &'a continuum::Pod,
    /// The image that nodes have for which the inventory names none.
    pub image: &'a str,
}

/// Labels of all that belongs to a continuum.
pub fn labels(continuum: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "sterna"),
        ("app.kubernetes.io/component", "node"),
        ("app.kubernetes.io/managed-by", "sterna"),
        (CONTINUUM_LABEL, continuum),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// What finds them.
pub fn selector(continuum: &str) -> String {
    format!("{CONTINUUM_LABEL}={continuum}")
}

/// The name of a node's pod, and of what goes with it.
pub fn pod_name(continuum: &str, node: &NodeName) -> String {
    format!("sterna-{continuum}-{node}")
}

/// A namespace for nodes. They are privileged, as an engine in a container must be.
pub fn namespace(name: &str) -> Namespace {
    let labels = [("app.kubernetes.io/managed-by", "sterna"), (POD_SECURITY, "privileged")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..Default::default() };
    Namespace { metadata, ..Default::default() }
}

impl PodNode<'_> {
    /// The name of its pod.
    pub fn pod_name(&self) -> String {
        pod_name(self.continuum, self.name)
    }

    /// Its size, for comparing a pod that exists with what the inventory says now.
    pub fn size(&self) -> String {
        format!("{} {}B", self.node.cpu, self.node.memory.0)
    }

    /// The image that it gets.
    pub fn image(&self) -> &str {
        self.place.image.as_deref().unwrap_or(self.image)
    }

    fn metadata(&self) -> ObjectMeta {
        let mut labels = labels(self.continuum);
        labels.insert(NODE_LABEL.to_owned(), self.name.to_string());
        labels.insert(SITE_LABEL.to_owned(), self.node.site.to_string());
        ObjectMeta {
            name: Some(self.pod_name()),
            namespace: Some(self.place.namespace.clone()),
            labels: Some(labels),
            ..Default::default()
        }
    }

    /// The pod, whose agent is given the secret of that name.
    pub fn pod(&self, secret: &str) -> Pod {
        let metadata = ObjectMeta {
            // No labels: these allow neither every image's name nor a blank.
            annotations: Some(
                [(IMAGE_LABEL.to_owned(), self.image().to_owned()), (SIZE_LABEL.to_owned(), self.size())]
                    .into(),
            ),
            ..self.metadata()
        };
        let spec = PodSpec {
            // The container starts again in its place, with what it has on its volumes.
            restart_policy: Some("Always".to_owned()),
            hostname: Some(self.name.to_string()),
            // What runs in there has no business with the cluster.
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(STOP_SECONDS),
            affinity: self.affinity(),
            node_selector: match &self.place.on {
                ClusterNodes::Selected(labels) => Some(labels.clone()),
                ClusterNodes::Any | ClusterNodes::Named(_) => None,
            },
            // By default a pod on a node that is out of sight for five minutes is ended: services that run well, at an edge
            // whose line is cut. Where they are to go then is for Sterna to say.
            tolerations: Some(["not-ready", "unreachable"].map(outlasts).to_vec()),
            volumes: Some(self.volumes(secret)),
            containers: vec![self.container()],
            ..Default::default()
        };
        Pod { metadata, spec: Some(spec), status: None }
    }

    fn affinity(&self) -> Option<Affinity> {
        let ClusterNodes::Named(node) = &self.place.on else { return None };
        let by_name = NodeSelectorRequirement {
            key: "metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![node.clone()]),
        };
        let term = NodeSelectorTerm { match_fields: Some(vec![by_name]), match_expressions: None };
        Some(Affinity {
            node_affinity: Some(NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                    node_selector_terms: vec![term],
                }),
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    fn container(&self) -> Container {
        // As much is asked for as may be used, so that the cluster counts with it and keeps it longest.
        let memory = self.node.memory.0.saturating_add(agent::staging_room(self.node).0);
        let room = BTreeMap::from([
            (
                "cpu".to_owned(),
                Quantity(format!(
                    "{}m",
                    u64::try_from(self.node.cpu.as_micros()).unwrap_or_default().div_ceil(1000)
                )),
            ),
            ("memory".to_owned(), Quantity(memory.to_string())),
        ]);
        Container {
            name: CONTAINER.to_owned(),
            image: Some(self.image().to_owned()),
            command: Some(boot_pod()),
            // The image of our own is in no registry; whoever took its name in a public one must not come to run here.
            image_pull_policy: Some(
                if self.place.image.is_some() { "IfNotPresent" } else { "Never" }.to_owned(),
            ),
            ports: Some(vec![ContainerPort {
                name: Some("agent".to_owned()),
                container_port: i32::from(AGENT_PORT),
                ..Default::default()
            }]),
            readiness_probe: Some(Probe {
                tcp_socket: Some(TCPSocketAction {
                    port: IntOrString::Int(i32::from(AGENT_PORT)),
                    host: None,
                }),
                period_seconds: Some(5),
                ..Default::default()
            }),
            resources: Some(ResourceRequirements {
                limits: Some(room.clone()),
                requests: Some(room),
                ..Default::default()
            }),
            security_context: Some(SecurityContext { privileged: Some(true), ..Default::default() }),
            // What it said last is then part of the pod's status.
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            volume_mounts: Some(self.mounts()),
            ..Default::default()
        }
    }

    fn mounts(&self) -> Vec<VolumeMount> {
        let mount = |name: &str, path: &str| VolumeMount {
            name: name.to_owned(),
            mount_path: path.to_owned(),
            ..Default::default()
        };
        let kept = |part: &str, path| match self.place.storage {
            Storage::EmptyDir => mount(part, path),
            Storage::Claim(_) => VolumeMount { sub_path: Some(part.to_owned()), ..mount("storage", path) },
        };
        vec![
            VolumeMount { read_only: Some(true), ..mount("agent", FILES) },
            kept("engine", ENGINE),
            kept("state", STATE),
            mount("staging", SHARED_MEMORY),
        ]
    }

    fn volumes(&self, secret: &str) -> Vec<Volume> {
        let volume = |name: &str| Volume { name: name.to_owned(), ..Default::default() };
        let empty = |name: &str, source| Volume { empty_dir: Some(source), ..volume(name) };
        let items = AGENT_FILES.map(|path| KeyToPath { key: key(path), path: path.to_owned(), mode: None });
        let secret = SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(0o400),
            items: Some(items.to_vec()),
            optional: None,
        };
        let mut volumes = vec![Volume { secret: Some(secret), ..volume("agent") }];
        match self.place.storage {
            Storage::EmptyDir => {
                volumes.extend(["engine", "state"].map(|name| empty(name, EmptyDirVolumeSource::default())));
            }
            Storage::Claim(_) => volumes.push(Volume {
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: self.pod_name(),
                    read_only: None,
                }),
                ..volume("storage")
            }),
        }
        let staging = EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity(agent::staging_room(self.node).0.to_string())),
        };
        volumes.push(empty("staging", staging));
        volumes
    }

    /// What its agent is given. Owned by the pod of the UID `pod`, so that it goes with it.
    ///
    /// # Errors
    /// When the settings can't be written.
    pub fn secret(&self, name: &str, credentials: &Credentials, pod: &str) -> std::io::Result<Secret> {
        // A volume outlasts the pod, and so does the register on it.
        let ends_with_it = matches!(self.place.storage, Storage::EmptyDir).then_some(pod);
        let files = agent::files(self.name, self.node, AGENT_PORT, credentials, ends_with_it)?;
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: self.pod_name(),
            uid: pod.to_owned(),
            ..Default::default()
        };
        let data = files.into_iter().map(|(path, text)| (key(&path), ByteString(text.into_bytes())));
        Ok(Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                owner_references: Some(vec![owner]),
                ..self.metadata()
            },
            data: Some(data.collect()),
            ..Default::default()
        })
    }

    /// The claim of its volume, if it has one. Not owned by the pod: a pod that is made anew finds its registers there.
    pub fn claim(&self) -> Option<PersistentVolumeClaim> {
        let Storage::Claim(size) = self.place.storage else { return None };
        let spec = PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(size.0.to_string()))].into()),
                limits: None,
            }),
            ..Default::default()
        };
        Some(PersistentVolumeClaim { metadata: self.metadata(), spec: Some(spec), status: None })
    }
}

/// The secrets that a node's pod is given.
pub fn secrets_of(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| volume.secret.as_ref()?.secret_name.as_deref())
}

/// The paths that [`agent::files`] gives.
const AGENT_FILES: [&str; 4] = ["identity/ca.pem", "identity/cert.pem", "identity/key.pem", "agent.toml"];

/// A secret's keys can't have slashes.
fn key(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

fn outlasts(taint: &str) -> Toleration {
    Toleration {
        key: Some(format!("node.kubernetes.io/{taint}")),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Authority, Role};
    use sterna_core::continuum::SiteName;
    use sterna_policies::quantity::Bytes;

    fn node(place: continuum::Pod) -> Node {
        Node {
            site: SiteName::from("east"),
            cpu: "1.5cores".parse().unwrap(),
            memory: Bytes::from_mib(1024),
            drain: false,
            agent: None,
            kubernetes: Some(place),
        }
    }

    const SECRET: &str = "sterna-demo-n1-0a1b2c3d";

    fn place() -> continuum::Pod {
        continuum::Pod {
            context: None,
            namespace: "edge".to_owned(),
            on: ClusterNodes::Named("worker-1".to_owned()),
            storage: Storage::EmptyDir,
            image: None,
        }
    }

    fn with<R>(place: continuum::Pod, look: impl FnOnce(PodNode<'_>) -> R) -> R {
        let (node, name) = (node(place.clone()), NodeName::from("n1"));
        look(PodNode { continuum: "demo", name: &name, node: &node, place: &place, image: "sterna-node:1" })
    }

    #[test]
    fn a_node_is_a_privileged_pod_of_its_size_on_the_disk_of_its_place() {
        with(place(), |node| {
            insta::assert_json_snapshot!(node.pod(SECRET));
            assert_eq!(node.claim(), None);
        });
    }

    #[test]
    fn a_node_with_a_volume_keeps_both_folders_there_and_claims_its_size() {
        let place = continuum::Pod {
            on: ClusterNodes::Selected([("zone".to_owned(), "a".to_owned())].into()),
            storage: Storage::Claim(Bytes::from_mib(512)),
            image: Some("registry.example/node:2".to_owned()),
            ..place()
        };
        with(place, |node| {
            let spec = node.pod(SECRET).spec.unwrap();
            assert_eq!(spec.node_selector.unwrap()["zone"], "a");
            assert_eq!(spec.affinity, None);
            let container = &spec.containers[0];
            assert_eq!(container.image.as_deref(), Some("registry.example/node:2"));
            assert_eq!(container.image_pull_policy.as_deref(), Some("IfNotPresent"));
            insta::assert_json_snapshot!((node.claim(), spec.volumes, &container.volume_mounts));
        });
    }

    #[test]
    fn the_agent_is_given_each_of_its_files_where_it_looks_for_them() {
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::open(&home.path().join("authority")).unwrap();
        let credentials = authority.issue(&Role::Agent("n1".into())).unwrap();
        with(place(), |node| {
            let secret = node.secret(SECRET, &credentials, "uid-1").unwrap();
            let data = secret.data.unwrap();
            assert_eq!(data["key.pem"].0, credentials.key_pem.as_bytes());
            assert_eq!(secret.metadata.owner_references.unwrap()[0].uid, "uid-1");
            assert_eq!(secret.metadata.name.as_deref(), Some(SECRET));
            let pod = node.pod(SECRET);
            assert_eq!(secrets_of(&pod).collect::<Vec<_>>(), [SECRET]);
            let volumes = pod.spec.unwrap().volumes.unwrap();
            let mounted = volumes[0].secret.clone().unwrap();
            assert_eq!(mounted.default_mode, Some(0o400));
            let items = mounted.items.unwrap();
            assert_eq!(items.len(), data.len());
            for (path, text) in
                agent::files(node.name, node.node, AGENT_PORT, &credentials, Some("uid-1")).unwrap()
            {
                let item = items.iter().find(|item| item.path == path).unwrap();
                assert_eq!(data[&item.key].0, text.as_bytes(), "{path}");
            }
        });
    }

    #[test]
    fn an_agent_knows_of_its_pod_where_its_state_ends_with_it() {
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::open(&home.path().join("authority")).unwrap();
        let credentials = authority.issue(&Role::Agent("n1".into())).unwrap();
        let volume = || Storage::Claim(Bytes::from_mib(512));
        for (storage, told) in [(Storage::EmptyDir, true), (volume(), false)] {
            with(continuum::Pod { storage, ..place() }, |node| {
                let data = node.secret(SECRET, &credentials, "uid-1").unwrap().data.unwrap();
                let settings = String::from_utf8(data["agent.toml"].0.clone()).unwrap();
                assert_eq!(settings.contains("pod = \"uid-1\""), told, "{settings}");
            });
        }
    }

    #[test]
    fn a_namespace_allows_what_nodes_need() {
        insta::assert_json_snapshot!(namespace("edge"));
    }
}
