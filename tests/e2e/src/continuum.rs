//! A continuum of nodes that `sterna sites` makes, brought up by `sterna sites up` and taken down whatever happens.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::docker;
use crate::guardian::Guardian;
use crate::sterna::Sterna;

/// As much of an inventory as is needed here; the whole is Sterna's business.
#[derive(Debug, Clone, Deserialize)]
struct Inventory {
    name: String,
    site: Vec<Site>,
}

#[derive(Debug, Clone, Deserialize)]
struct Site {
    name: String,
    #[serde(default)]
    node: Vec<Node>,
}

#[derive(Debug, Clone, Deserialize)]
struct Node {
    name: String,
}

/// The nodes of an inventory, running. Dropped, they are removed, also when this process is killed.
#[derive(Debug)]
pub struct Continuum {
    sterna: Sterna,
    inventory: Inventory,
    file: PathBuf,
    folder: PathBuf,
    guardian: Guardian,
}

impl Continuum {
    /// Brings up the nodes of an inventory, after taking down what an earlier life of it may have left. A copy of the
    /// inventory and the state live in a new folder, which goes with the continuum.
    ///
    /// # Errors
    /// When the inventory can't be read or `sterna sites up` fails.
    pub async fn up(sterna: &Sterna, inventory: &str) -> anyhow::Result<Self> {
        Self::up_on(sterna, inventory, async |_name| Ok(())).await
    }

    /// As [`Continuum::up`]. `prepare` is given the continuum's name when nothing is left of an earlier life and nothing is
    /// made yet: volumes that it makes under the names of a node's are the node's then.
    ///
    /// # Errors
    /// As [`Continuum::up`], and when `prepare` fails.
    pub async fn up_on(
        sterna: &Sterna,
        inventory: &str,
        prepare: impl AsyncFnOnce(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let parsed: Inventory = toml::from_str(inventory).context("the inventory")?;
        let folder = tempfile::Builder::new().prefix(&format!("sterna-{}-", parsed.name)).tempdir()?.keep();
        let file = folder.join("inventory.toml");
        std::fs::write(&file, inventory)?;
        let environment: Vec<_> = sterna.environment().collect();
        let guardian =
            Guardian::over_with(sterna.path(), &file, &folder.join("state"), &folder, &environment)?;
        let continuum = Self { sterna: sterna.clone(), inventory: parsed, file, folder, guardian };
        continuum.sites("down").await?;
        prepare(&continuum.inventory.name).await?;
        continuum.sites("up").await?;
        Ok(continuum)
    }

    /// Makes the nodes anew that are gone, and waits until all are ready.
    ///
    /// # Errors
    /// When `sterna sites up` fails.
    pub async fn up_again(&self) -> anyhow::Result<()> {
        self.sites("up").await.map(drop)
    }

    async fn sites(&self, what: &str) -> anyhow::Result<String> {
        let (file, state) = (self.file.display().to_string(), self.state().display().to_string());
        self.sterna.must(&["sites", what, &file, "--state", &state]).await
    }

    /// Starts the services of the inventory on the nodes that it names.
    ///
    /// # Errors
    /// When `sterna services up` fails.
    pub async fn services_up(&self) -> anyhow::Result<String> {
        // The image that inventories call sterna-services:latest.
        docker::service_image().await?;
        let (file, state) = (self.file.display().to_string(), self.state().display().to_string());
        self.sterna.must(&["services", "up", &file, "--state", &state]).await
    }

    /// Moves a service now; gives what `sterna migrate` prints.
    ///
    /// # Errors
    /// When it is not moved.
    pub async fn migrate(&self, service: &str, to: &str) -> anyhow::Result<String> {
        let (file, state) = (self.file.display().to_string(), self.state().display().to_string());
        self.sterna.must(&["migrate", service, "--to", to, "--inventory", &file, "--state", &state]).await
    }

    /// The inventory file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The folder of the state.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// A folder that goes with the continuum, for files that belong to it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inventory.name
    }

    /// Every node with its site, in the inventory's order.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.inventory
            .site
            .iter()
            .flat_map(|site| site.node.iter().map(|node| (node.name.as_str(), site.name.as_str())))
    }

    /// The container that a node is.
    pub fn container(&self, node: &str) -> String {
        format!("sterna-{}-{node}", self.inventory.name)
    }

    /// Address of a node, on which its services' ports are published.
    ///
    /// # Errors
    /// When the node does not run.
    pub async fn address(&self, node: &str) -> anyhow::Result<IpAddr> {
        docker::address(&self.container(node)).await
    }

    /// Addresses of a port on all nodes, in the inventory's order.
    ///
    /// # Errors
    /// When a node does not run.
    pub async fn addresses(&self, port: u16) -> anyhow::Result<Vec<SocketAddr>> {
        let mut all = Vec::new();
        for (node, _) in self.nodes() {
            all.push(SocketAddr::new(self.address(node).await?, port));
        }
        Ok(all)
    }

    /// Runs a command within a service and gives what it prints.
    ///
    /// # Errors
    /// When the service does not run on that node or the command fails.
    pub async fn exec(&self, node: &str, service: &str, command: &[&str]) -> anyhow::Result<String> {
        let container = self.container(node);
        let mut arguments = vec!["exec", &container, "docker", "exec", service];
        arguments.extend(command);
        docker::docker(&arguments).await
    }

    /// The node whose engine runs a service, as the engines themselves say; `None` where none does.
    ///
    /// # Errors
    /// When an engine does not answer, or when several run it: a service must never run twice.
    pub async fn runs_on(&self, service: &str) -> anyhow::Result<Option<&str>> {
        let filter = format!("name=^/?{service}$");
        let mut found = Vec::new();
        for (node, _) in self.nodes() {
            let container = self.container(node);
            let arguments = [
                "exec",
                &container,
                "docker",
                "ps",
                "--quiet",
                "--filter",
                &filter,
                "--filter",
                "status=running",
            ];
            if !docker::docker(&arguments).await?.is_empty() {
                found.push(node);
            }
        }
        if found.len() > 1 {
            bail!("{service} runs on several nodes at once: {}", found.join(", "));
        }
        Ok(found.pop())
    }

    /// Takes it down, and makes sure that nothing is left.
    ///
    /// # Errors
    /// When `sterna sites down` fails, or leaves a container, a network or a volume.
    pub async fn down(mut self) -> anyhow::Result<()> {
        self.sites("down").await?;
        let prefix = format!("sterna-{}", self.inventory.name);
        let left = docker::left_over(&prefix).await?;
        if !left.is_empty() {
            bail!("`sterna sites down` left behind: {}", left.join(", "));
        }
        self.guardian.only_folder();
        Ok(())
    }
}
