//! Where somebody works with `sterna`: a folder with an inventory and the state of its continuum, and the kubeconfig that goes with them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::sleep;

use crate::process::Finished;
use crate::sterna::Sterna;
use crate::two_nodes::TwoNodes;

/// The inventory and the state, as commands name them.
const INVENTORY: &str = "inventory.toml";
const STATE: [&str; 2] = ["--state", "state"];

/// The folder, the binary and the kubeconfig.
#[derive(Debug)]
pub struct Desk {
    /// The binary.
    pub sterna: Sterna,
    /// The kubeconfig file that commands use.
    pub kubeconfig: String,
    folder: TempDir,
}

impl Desk {
    /// One with this inventory.
    ///
    /// # Errors
    /// When there is no binary, or the inventory can't be written.
    pub fn with(inventory: &str, kubeconfig: &str) -> anyhow::Result<Self> {
        let desk = Self {
            sterna: Sterna::built()?,
            kubeconfig: kubeconfig.to_owned(),
            folder: tempfile::tempdir()?,
        };
        std::fs::write(desk.inventory(), inventory)?;
        Ok(desk)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file of this name in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The inventory file.
    pub fn inventory(&self) -> PathBuf {
        self.file(INVENTORY)
    }

    /// The folder of the state.
    pub fn state(&self) -> PathBuf {
        self.file(STATE[1])
    }

    /// A command there, to be given arguments.
    pub fn command(&self) -> Command {
        let mut command = self.sterna.command();
        command.current_dir(self.folder.path()).env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Runs a command there to its end.
    ///
    /// # Errors
    /// When it can't be started. That it failed stands in the answer.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        let environment = [("KUBECONFIG", self.kubeconfig.as_str())];
        self.sterna.run_in(self.folder.path(), &environment, arguments).await
    }

    /// The same, and it must succeed. Gives what it prints.
    ///
    /// # Errors
    /// When it fails; then with all that it printed.
    pub async fn must(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let finished = self.run(arguments).await?;
        ensure!(finished.status.success(), "sterna {arguments:?}: {}\n{}", finished.stdout, finished.stderr);
        Ok(finished.stdout)
    }

    /// Runs a command about the inventory, as `sterna sites up` is.
    ///
    /// # Errors
    /// As [`Desk::run`].
    pub async fn about_all(&self, words: [&str; 2]) -> anyhow::Result<Finished> {
        self.run(&[&words[..], &[INVENTORY], &STATE].concat()).await
    }

    /// The same, and it must succeed.
    ///
    /// # Errors
    /// As [`Desk::must`].
    pub async fn must_all(&self, words: [&str; 2]) -> anyhow::Result<()> {
        self.must(&[&words[..], &[INVENTORY], &STATE].concat()).await.map(drop)
    }

    /// The rows of `sterna sites status` or `sterna services status`, which may also say that something is wrong.
    ///
    /// # Errors
    /// When it shows none.
    pub async fn status(&self, of: &str) -> anyhow::Result<Vec<Value>> {
        let shown = self.run(&Self::asking(of)).await?;
        serde_json::from_str(&shown.stdout).with_context(|| format!("{}{}", shown.stdout, shown.stderr))
    }

    /// The same, and nothing may be wrong.
    ///
    /// # Errors
    /// When something is.
    pub async fn good_status(&self, of: &str) -> anyhow::Result<Vec<Value>> {
        Ok(serde_json::from_str(&self.must(&Self::asking(of)).await?)?)
    }

    fn asking(of: &str) -> [&str; 7] {
        [of, "status", INVENTORY, STATE[0], STATE[1], "--output", "json"]
    }

    /// Which node runs a service, as all agents say.
    ///
    /// # Errors
    /// When none does, or several do.
    pub async fn runs_on(&self, service: &str) -> anyhow::Result<String> {
        let rows = self.status("services").await?;
        let running: Vec<_> =
            rows.iter().filter(|row| row["service"] == service && row["running"] == true).collect();
        let [row] = running[..] else { bail!("{service} runs {} times: {rows:?}", running.len()) };
        Ok(row["node"].as_str().context("no node")?.to_owned())
    }

    /// The order to move a service.
    pub fn migration<'a>(service: &'a str, to: &'a str) -> [&'a str; 8] {
        ["migrate", service, "--to", to, "--inventory", INVENTORY, STATE[0], STATE[1]]
    }

    /// Moves a service. Gives the report.
    ///
    /// # Errors
    /// When it is not moved.
    pub async fn migrate(&self, service: &str, to: &str) -> anyhow::Result<Value> {
        let order = [&Self::migration(service, to)[..], &["--output", "json"]].concat();
        let report: Value = serde_json::from_str(&self.must(&order).await?)?;
        ensure!(report["outcome"]["outcome"] == "moved", "{report}");
        // Clients go on there before it leaves again.
        sleep(Duration::from_secs(1)).await;
        Ok(report)
    }

    /// Makes the identity of fronts in the folder `front`; gives its path.
    ///
    /// # Errors
    /// As [`Desk::must`].
    pub async fn issue_front(&self) -> anyhow::Result<String> {
        self.must(&["front", "--issue", "front", "--inventory", INVENTORY, STATE[0], STATE[1]]).await?;
        Ok(self.file("front").display().to_string())
    }

    /// Brings the image of nodes to those of clusters; gives its name.
    ///
    /// # Errors
    /// When it can't be made, or a node does not take it.
    pub async fn load_node_image(&self, clusters: &[TwoNodes]) -> anyhow::Result<String> {
        let image = self.must(&["sites", "image", "--out", "node.tar"]).await?;
        let archive = self.file("node.tar");
        for cluster in clusters {
            cluster.load(&archive).await?;
        }
        std::fs::remove_file(archive)?;
        Ok(image.trim().to_owned())
    }
}
