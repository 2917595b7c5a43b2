//! A Kubernetes API server: a real one of our own, without nodes, or that of a cluster which somebody lends to the tests.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

use crate::process::{Running, bound};

/// Names the kubeconfig of a cluster to be used in place of one of our own. Whom it names may do everything there.
const LENT: &str = "STERNA_KUBECONFIG";
/// How long it may take, also where the programs must be built first, on a busy machine.
const TO_START: Duration = Duration::from_secs(3600);

/// An API server. Dropped, one of our own is gone; so it is when this process is killed.
#[derive(Debug)]
pub struct Cluster {
    // Before the folder, in which its state is.
    server: Option<Running>,
    kubeconfig: PathBuf,
    _folder: TempDir,
}

impl Cluster {
    /// Starts one, or takes the one that `STERNA_KUBECONFIG` names.
    ///
    /// # Errors
    /// When it can't be built or does not start.
    pub async fn up() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sterna-cluster-").tempdir()?;
        if let Some(lent) = std::env::var_os(LENT) {
            return Ok(Self { server: None, kubeconfig: lent.into(), _folder: folder });
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/apiserver");
        let mut command = bound(&script);
        command.arg("run").arg(folder.path()).stdout(Stdio::piped());
        let mut server =
            Running::start(&mut command).with_context(|| format!("can't start {}", script.display()))?;
        let out = server.child().stdout.take().context("it has no output")?;
        let mut lines = BufReader::new(out).lines();
        let first = timeout(TO_START, lines.next_line()).await.context("no API server after an hour")??;
        let Some(kubeconfig) = first else {
            bail!("{} failed; what it said stands above", script.display());
        };
        Ok(Self { server: Some(server), kubeconfig: kubeconfig.into(), _folder: folder })
    }

    /// Whether it is one of our own.
    pub const fn is_own(&self) -> bool {
        self.server.is_some()
    }

    /// Has one of our own answer nobody, as if it were away.
    pub fn suspend(&self) {
        self.server.iter().for_each(Running::suspend);
    }

    /// Has it answer again.
    pub fn resume(&self) {
        self.server.iter().for_each(Running::resume);
    }

    /// The kubeconfig of its administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}
