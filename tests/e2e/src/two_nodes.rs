//! A real Kubernetes cluster of two nodes on this machine, or several of them beside one another. Each takes a minute to come up, and
//! minutes more where its programs must be built first.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::process::Command;

use crate::guardian::Guardian;
use crate::process::{self, bound};

/// Its nodes.
pub const NODES: [&str; 2] = ["edge-n1", "edge-n2"];

/// The cluster. Dropped, it is gone, with all that ran in it; so it is when this process is killed.
#[derive(Debug)]
pub struct TwoNodes {
    // Before the folder, in which its state is.
    _guardian: Guardian,
    folder: TempDir,
    kubeconfig: String,
    kubectl: PathBuf,
}

impl TwoNodes {
    /// Brings it up.
    ///
    /// # Errors
    /// When it can't be built, does not come up, or we are not root.
    pub async fn up() -> anyhow::Result<Self> {
        Self::up_with(NODES.len()).await
    }

    /// Brings up one that has the first node alone.
    ///
    /// # Errors
    /// As [`TwoNodes::up`].
    pub async fn up_with_one() -> anyhow::Result<Self> {
        Self::up_with(1).await
    }

    async fn up_with(nodes: usize) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sterna-nodes-").tempdir()?;
        let programs = script(&["programs"]).await?;
        let guardian = Guardian::over_cluster(&path(), folder.path())?;
        let kubeconfig = script(&["up", text(folder.path())?, &nodes.to_string()]).await?;
        Ok(Self { _guardian: guardian, folder, kubeconfig, kubectl: Path::new(&programs).join("kubectl") })
    }

    /// The kubeconfig of its administrator.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// The address under which its nodes and pods reach this machine.
    ///
    /// # Errors
    /// When the kubeconfig does not say.
    pub fn machine(&self) -> anyhow::Result<IpAddr> {
        let text = std::fs::read_to_string(&self.kubeconfig)?;
        // The API server listens there.
        let address = text.split_once("https://").and_then(|(_, rest)| rest.split_once(':'));
        let (address, _) = address.context("the kubeconfig names no server")?;
        address.parse().with_context(|| format!("the server's address `{address}`"))
    }

    /// A command, to be given arguments, in the mount namespace of a node: what it mounts there goes with the node.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn mounts_of(&self, node: &str) -> anyhow::Result<Command> {
        let mut command = bound(Path::new("nsenter"));
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.process(node)?));
        Ok(command)
    }

    /// Has its API server answer nobody, as if it were away.
    ///
    /// # Errors
    /// When it does not run.
    pub fn suspend_api_server(&self) -> anyhow::Result<()> {
        self.signal("kube-apiserver", "-STOP")
    }

    /// Has it answer again.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume_api_server(&self) -> anyhow::Result<()> {
        self.signal("kube-apiserver", "-CONT")
    }

    fn signal(&self, program: &str, signal: &str) -> anyhow::Result<()> {
        process::signal(signal, self.process(program)?.parse()?).with_context(|| program.to_owned())
    }

    /// The number of a process that it was started with.
    fn process(&self, name: &str) -> anyhow::Result<String> {
        let file = self.folder.path().join(format!("{name}.pid"));
        let process = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(process.trim().to_owned())
    }

    /// `kubectl` as its administrator, to be given arguments.
    pub fn kubectl_command(&self) -> Command {
        let mut command = bound(&self.kubectl);
        command.args(["--kubeconfig", &self.kubeconfig]);
        command
    }

    /// Brings the images of an archive to its nodes.
    ///
    /// # Errors
    /// When a node does not take them.
    pub async fn load(&self, archive: &Path) -> anyhow::Result<()> {
        script(&["load", text(self.folder.path())?, text(archive)?]).await.map(drop)
    }

    /// Runs `kubectl` as its administrator and gives what it prints.
    ///
    /// # Errors
    /// When it fails; then with what it said.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.kubectl_alone(&[&["--kubeconfig", &self.kubeconfig], arguments].concat()).await
    }

    /// Applies objects, given as YAML or JSON.
    ///
    /// # Errors
    /// When it refuses one.
    pub async fn apply(&self, objects: &str) -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), objects)?;
        self.kubectl(&["apply", "-f", text(file.path())?]).await.map(drop)
    }

    /// Makes a namespace for clients, in which pods may do as little as Pod Security can ask for.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn make_restricted(&self, namespace: &str) -> anyhow::Result<()> {
        self.kubectl(&["create", "namespace", namespace]).await?;
        let label = "pod-security.kubernetes.io/enforce=restricted";
        self.kubectl(&["label", "namespace", namespace, label]).await.map(drop)
    }

    /// Runs `kubectl` as nobody and gives what it prints.
    ///
    /// # Errors
    /// As [`TwoNodes::kubectl`].
    pub async fn kubectl_alone(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = bound(&self.kubectl);
        command.args(arguments);
        let finished = process::run(command.stdout(Stdio::piped()).stderr(Stdio::piped())).await?;
        if !finished.status.success() {
            bail!("kubectl {}: {}", arguments.join(" "), finished.stderr.trim());
        }
        Ok(finished.stdout.trim().to_owned())
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/cluster")
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

async fn script(arguments: &[&str]) -> anyhow::Result<String> {
    let finished = process::run(bound(&path()).args(arguments).stdout(Stdio::piped()))
        .await
        .with_context(|| format!("can't start {}", path().display()))?;
    if !finished.status.success() {
        bail!("cluster {} failed; what it said stands above", arguments.join(" "));
    }
    Ok(finished.stdout.trim().to_owned())
}
