//! The cluster whose pods the nodes are: its images and volumes, and what it does to pods.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use sterna_e2e::process;
use sterna_e2e::sterna::Sterna;
use sterna_e2e::two_nodes::{NODES as MACHINES, TwoNodes};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::injection::Removal;
use crate::world::NODES;

/// The namespace of the pods.
pub const NAMESPACE: &str = "chaos";
/// What each claims: no more than its disk has.
pub const STORAGE: &str = "3GiB";
/// Time for a pod to end: what it is given, and some for the cluster.
const TO_GO: Duration = Duration::from_secs(75);
const PAUSE: Duration = Duration::from_millis(200);

/// The cluster. Dropped, it is gone with all that is in it.
#[derive(Debug)]
pub struct Cluster {
    nodes: TwoNodes,
}

/// What the cluster says of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its own id.
    pub uid: String,
    /// Its address.
    pub address: Option<String>,
    /// The id of the container that runs in it.
    pub container: Option<String>,
    /// Whether it is to go.
    pub leaves: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    uid: String,
    deletion_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(default)]
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus {
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    #[serde(default)]
    state: serde_json::Map<String, serde_json::Value>,
}

/// What a pod's description says.
fn read(text: &str) -> anyhow::Result<Seen> {
    let Pod { metadata, status } = serde_json::from_str(text).context("what kubectl says of a pod")?;
    let runs = status.container_statuses.first().filter(|one| one.state.contains_key("running"));
    let container = runs.and_then(|one| Some(one.container_id.as_ref()?.split_once("://")?.1.to_owned()));
    Ok(Seen {
        uid: metadata.uid,
        address: status.pod_ip,
        container,
        leaves: metadata.deletion_timestamp.is_some(),
    })
}

/// The node of the cluster that a node stands on. Two share one: there are two.
pub fn machine_of(node: &str) -> &'static str {
    let at = NODES.iter().position(|one| *one == node).unwrap_or(0);
    MACHINES[at % MACHINES.len()]
}

/// A removal under way.
#[derive(Debug)]
pub struct Going {
    pods: Vec<(String, String)>,
    drain: Option<(Child, &'static str)>,
}

impl Cluster {
    /// Brings it up, and brings the image with this binary to it.
    ///
    /// # Errors
    /// When it does not come up, or the image can't be made.
    pub async fn up(binary: &Path) -> anyhow::Result<Self> {
        let nodes = TwoNodes::up().await?;
        let folder = tempfile::Builder::new().prefix("sterna-chaos-image-").tempdir()?;
        let archive = folder.path().join("node.tar");
        let out = archive.to_str().context("the folder's name is not UTF-8")?;
        Sterna::at(binary).must(&["sites", "image", "--out", out]).await?;
        nodes.load(&archive).await?;
        nodes.kubectl(&["create", "namespace", NAMESPACE]).await?;
        let label = "pod-security.kubernetes.io/enforce=privileged";
        nodes.kubectl(&["label", "namespace", NAMESPACE, label]).await?;
        Ok(Self { nodes })
    }

    /// The same binary, its commands asking this cluster.
    pub fn asked_by(&self, sterna: Sterna) -> Sterna {
        sterna.with("KUBECONFIG", self.nodes.kubeconfig())
    }

    /// The address under which pods reach this host.
    ///
    /// # Errors
    /// When the kubeconfig does not say.
    pub fn host(&self) -> anyhow::Result<std::net::IpAddr> {
        self.nodes.machine()
    }

    /// Makes a volume on a disk, for the claim of a node.
    ///
    /// # Errors
    /// When the disk can't be mounted, or the cluster refuses.
    pub async fn provide(&self, continuum: &str, node: &str, device: &str) -> anyhow::Result<()> {
        let (name, machine) = (format!("sterna-{continuum}-{node}"), machine_of(node));
        let path = format!("/var/lib/{name}");
        let script = "mkdir -p \"$1\"; while umount -q \"$1\"; do :; done; mount \"$2\" \"$1\"";
        let mut command = self.nodes.mounts_of(machine)?;
        command.args(["sh", "-ec", script, "mount", &path, device]);
        must(&mut command).await.with_context(|| format!("mounting {device} on {machine}"))?;
        // One of a life before is bound to a claim that is gone.
        self.nodes.kubectl(&["delete", "persistentvolume", &name, "--ignore-not-found"]).await?;
        let volume = serde_json::json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": STORAGE.trim_end_matches('B')},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": NAMESPACE, "name": name},
                "hostPath": {"path": path, "type": "Directory"},
            },
        });
        self.create(&["create"], &volume).await
    }

    /// Lets pods come to every node of the cluster, also where a drain was cut short.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn open_all(&self) -> anyhow::Result<()> {
        self.nodes.kubectl(&[&["uncordon"][..], &MACHINES].concat()).await.map(drop)
    }

    /// Has an object made, by a call of `kubectl` that reads it from a file.
    async fn create(&self, how: &[&str], object: &serde_json::Value) -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), object.to_string())?;
        let path = file.path().to_str().context("the file's name is not UTF-8")?;
        self.nodes.kubectl(&[how, &["--filename", path]].concat()).await.map(drop)
    }

    /// What the cluster says of a pod; `None` where there is none.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn look(&self, pod: &str) -> anyhow::Result<Option<Seen>> {
        let arguments = ["-n", NAMESPACE, "get", "pod", pod, "--ignore-not-found", "-o", "json"];
        let text = self.nodes.kubectl(&arguments).await?;
        if text.is_empty() { Ok(None) } else { read(&text).map(Some) }
    }

    /// Has pods removed, and does not wait for that. With a drain go all that stand there: these.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn remove(&self, removal: Removal, pods: &[String]) -> anyhow::Result<Going> {
        let mut going = Going { pods: Vec::new(), drain: None };
        for pod in pods {
            let seen = self.look(pod).await?.with_context(|| format!("there is no pod {pod}"))?;
            going.pods.push((pod.clone(), seen.uid));
        }
        match removal {
            Removal::Deleted => {
                for pod in pods {
                    self.nodes.kubectl(&["-n", NAMESPACE, "delete", "pod", pod, "--wait=false"]).await?;
                }
            }
            Removal::Evicted => {
                for pod in pods {
                    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction");
                    let eviction = serde_json::json!({
                        "apiVersion": "policy/v1", "kind": "Eviction",
                        "metadata": {"namespace": NAMESPACE, "name": pod},
                    });
                    self.create(&["create", "--raw", &path], &eviction).await?;
                }
            }
            Removal::Drained => {
                let node = pods.first().and_then(|pod| pod.rsplit('-').next()).map(machine_of);
                let node = node.context("nothing to drain")?;
                let mut command = self.nodes.kubectl_command();
                // Nobody makes the pod of a node anew by itself, so kubectl wants to be told that this is meant.
                command.args(["drain", node, "--force", "--ignore-daemonsets", "--delete-emptydir-data"]);
                command.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
                going.drain = Some((command.spawn().context("can't start kubectl")?, node));
                let start = Instant::now();
                for pod in pods {
                    while self.look(pod).await?.is_some_and(|seen| !seen.leaves) {
                        ensure!(start.elapsed() < TO_GO, "kubectl drain does not evict {pod}");
                        sleep(PAUSE / 4).await;
                    }
                }
            }
        }
        Ok(going)
    }

    /// Waits until what was removed is gone, and lets pods come to a drained node again.
    ///
    /// # Errors
    /// When it does not go.
    pub async fn gone(&self, going: Going) -> anyhow::Result<()> {
        let start = Instant::now();
        for (pod, uid) in &going.pods {
            while self.look(pod).await?.is_some_and(|seen| seen.uid == *uid) {
                ensure!(start.elapsed() < TO_GO, "pod {pod} is still there {TO_GO:?} after it was to go");
                sleep(PAUSE).await;
            }
        }
        if let Some((drain, node)) = going.drain {
            let output = tokio::time::timeout(TO_GO, drain.wait_with_output()).await;
            let output = output.context("kubectl drain does not end")??;
            if !output.status.success() {
                bail!("kubectl drain {node}: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            self.nodes.kubectl(&["uncordon", node]).await?;
        }
        Ok(())
    }

    /// A command that prints what a pod says, from `since` on.
    pub fn log(&self, pod: &str, since: &str) -> Command {
        let mut command = self.nodes.kubectl_command();
        command.args(["-n", NAMESPACE, "logs", "--timestamps", "--since", since, pod]);
        command
    }
}

async fn must(command: &mut Command) -> anyhow::Result<()> {
    let finished = process::run(command.stdout(Stdio::piped()).stderr(Stdio::piped())).await?;
    if !finished.status.success() {
        bail!("{}", finished.stderr.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_read_as_it_runs_and_as_it_leaves() {
        let text = r#"{"metadata": {"uid": "u1", "name": "p"}, "status": {"podIP": "10.0.0.9",
            "containerStatuses": [{"containerID": "containerd://abc", "state": {"running": {"startedAt": "x"}}}]}}"#;
        let runs = read(text).unwrap();
        assert_eq!((runs.uid.as_str(), runs.leaves), ("u1", false));
        assert_eq!((runs.address.as_deref(), runs.container.as_deref()), (Some("10.0.0.9"), Some("abc")));
        let text = r#"{"metadata": {"uid": "u1", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {
            "containerStatuses": [{"containerID": "containerd://abc", "state": {"terminated": {}}}]}}"#;
        let leaves = read(text).unwrap();
        assert_eq!((leaves.leaves, leaves.container, leaves.address), (true, None, None));
        assert_eq!(read(r#"{"metadata": {"uid": "u2"}}"#).unwrap().container, None);
    }

    #[test]
    fn nodes_stand_on_both_nodes_of_the_cluster() {
        assert_eq!(NODES.map(machine_of), ["edge-n1", "edge-n2", "edge-n1"]);
    }
}
