//! Making, showing and removing the local nodes of a continuum.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{
    ContainerSummary, ContainerSummaryStateEnum, NetworkCreateRequest, VolumeCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveVolumeOptions, UploadToContainerOptionsBuilder,
};
use futures_util::future::try_join_all;
use sterna_core::continuum::{Continuum, Node, NodeName};
use sterna_policies::load::is_name;
use tokio_util::sync::CancellationToken;

use super::node::{LocalNode, labels, network};
use super::privilege::{self, Privilege};
use super::rootfs::Cache;
use super::{CALL_LABEL, CONTINUUM_LABEL, PlatformError, engine, frozen, image};
use crate::identity::{Authority, Credentials, Role};
use crate::platform::status::{NodeStatus, State};
use crate::platform::step::Step;

/// How long a node may take from its start until its engine and its agent answer.
const READY_WITHIN: Duration = Duration::from_secs(90);
const READY_PAUSE: Duration = Duration::from_millis(250);
const LAST_LINES: u32 = 20;

/// What making nodes needs from this machine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where root file systems are kept.
    pub cache: PathBuf,
    /// The `sterna` binary that becomes agent and runtime shim.
    pub binary: PathBuf,
}

impl Settings {
    /// From the environment: `STERNA_CACHE`, else `XDG_CACHE_HOME/sterna`, else `HOME/.cache/sterna`; and
    /// `STERNA_NODE_BINARY`, else the binary that runs.
    ///
    /// # Errors
    /// When the binary's own path can't be found.
    pub fn from_environment() -> Result<Self, PlatformError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = set("STERNA_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("sterna")))
            .or_else(|| set("HOME").map(|folder| folder.join(".cache/sterna")))
            .unwrap_or_else(|| PathBuf::from("/var/cache/sterna"));
        let binary = match set("STERNA_NODE_BINARY") {
            Some(binary) => binary,
            None => std::env::current_exe()
                .map_err(|source| PlatformError::File { path: PathBuf::from("/proc/self/exe"), source })?,
        };
        Ok(Self { cache, binary })
    }

    /// Name and tag of the image that nodes get.
    ///
    /// # Errors
    /// When the binary can't be read.
    pub fn image(&self) -> Result<String, PlatformError> {
        image::name(&self.binary)
    }
}

/// The host's engine as a maker of nodes.
#[derive(Debug, Clone)]
pub struct LocalNodes {
    pub(super) docker: Docker,
}

impl LocalNodes {
    /// Connects to the host's engine.
    ///
    /// # Errors
    /// When none answers.
    pub async fn connect() -> Result<Self, PlatformError> {
        Ok(Self { docker: engine::connect().await? })
    }

    /// Makes the local nodes of a continuum, and waits until their engines and agents answer. Nodes that exist stay as they are,
    /// and are started if they stand still. On failure, or when `stop` is cancelled, everything that this call made is removed.
    ///
    /// # Errors
    /// When a node can't be made or does not come up.
    pub async fn up(
        &self,
        continuum: &Continuum,
        authority: &Authority,
        settings: &Settings,
        stop: &CancellationToken,
        on: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Vec<NodeStatus>, PlatformError> {
        if !is_name(&continuum.name) {
            return Err(PlatformError::Name(continuum.name.clone()));
        }
        let call = uuid::Uuid::now_v7().to_string();
        let result = self.make(continuum, authority, settings, &call, stop, on).await;
        if result.is_err() {
            on(Step::Undoing);
            self.remove_labelled(format!("{CALL_LABEL}={call}")).await?;
        }
        result
    }

    async fn make(
        &self,
        continuum: &Continuum,
        authority: &Authority,
        settings: &Settings,
        call: &str,
        stop: &CancellationToken,
        on: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Vec<NodeStatus>, PlatformError> {
        // Held until the containers exist, so that no other process takes the new image for an unused one.
        let cache = stop.run_until_cancelled(Cache::open(&settings.cache, on)).await;
        let cache = cache.ok_or(PlatformError::Interrupted)??;
        let image = settings.image()?;
        let existing = self.existing(&continuum.name).await?;
        let absent = locals(continuum).any(|(name, _)| !existing.contains_key(name));
        if absent && !image::exists(&self.docker, &image).await? && !self.has_base().await? {
            let rootfs = cache.rootfs(stop, on).await?; // stops by itself, and cleans up
            on(Step::ImportingRootfs);
            let import = stop.run_until_cancelled(image::import(&self.docker, &rootfs)).await;
            import.ok_or(PlatformError::Interrupted)??;
        }
        let work = async {
            if absent {
                self.make_nodes(continuum, authority, settings, &existing, &image, call, on).await?;
            }
            drop(cache);
            for (name, container) in existing.iter().filter(|(name, _)| is_local(continuum, name)) {
                let id = container.id.as_deref().unwrap_or_default();
                match container.state {
                    Some(ContainerSummaryStateEnum::RUNNING) => Ok(()),
                    Some(ContainerSummaryStateEnum::PAUSED) => self.docker.unpause_container(id).await,
                    _ => self.docker.start_container(id, None).await,
                }
                .map_err(PlatformError::engine(format!("starting node {name}")))?;
            }
            on(Step::WaitingFor(locals(continuum).map(|(name, _)| name.clone()).collect()));
            let credentials = authority.issue(&Role::Scheduler)?;
            self.wait_until_ready(continuum, &credentials).await?;
            self.status(continuum, &credentials, Some(&image)).await
        };
        stop.run_until_cancelled(work).await.unwrap_or(Err(PlatformError::Interrupted))
    }

    async fn has_base(&self) -> Result<bool, PlatformError> {
        image::exists(&self.docker, &image::base_name()).await
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one caller; a struct of these would have no meaning of its own"
    )]
    async fn make_nodes(
        &self,
        continuum: &Continuum,
        authority: &Authority,
        settings: &Settings,
        existing: &BTreeMap<NodeName, ContainerSummary>,
        image: &str,
        call: &str,
        on: &mut (dyn FnMut(Step) + Send),
    ) -> Result<(), PlatformError> {
        if !image::exists(&self.docker, image).await? {
            image::lay(&self.docker, &settings.binary, image, call, on).await?;
        }
        let choice = privilege::choose(&self.docker, image, call).await?;
        on(Step::Privilege(choice.privilege, choice.reason));
        let host =
            self.docker.info().await.map_err(PlatformError::engine("asking for the engine's facts"))?;
        self.make_network(&continuum.name, call).await?;
        for (name, node) in locals(continuum).filter(|(name, _)| !existing.contains_key(name)) {
            on(Step::MakingNode(name.clone()));
            let local = LocalNode { continuum: &continuum.name, name, node, image };
            let warnings = self.make_node(&local, authority, choice.privilege, host.ncpu, call).await?;
            if let Some(cpus) = host.ncpu.filter(|cpus| node.cpu.as_f64() > *cpus as f64) {
                on(Step::Note(format!(
                    "node {name} has {} in the inventory, but this host has only {cpus}",
                    node.cpu
                )));
            }
            for warning in warnings {
                on(Step::Note(format!("node {name}: {warning}")));
            }
        }
        image::remove_others(&self.docker, image).await
    }

    async fn make_network(&self, continuum: &str, call: &str) -> Result<(), PlatformError> {
        let request = NetworkCreateRequest {
            name: network(continuum),
            driver: Some("bridge".to_owned()),
            labels: Some(labels(continuum, call)),
            ..Default::default()
        };
        let doing = || PlatformError::engine(format!("making network {}", network(continuum)));
        let filters = HashMap::from([("name", vec![network(continuum)])]);
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        let networks = self.docker.list_networks(Some(options)).await.map_err(doing())?;
        // The engine's filter finds parts of names too.
        if !networks.iter().any(|found| found.name.as_deref() == Some(&request.name)) {
            self.docker.create_network(request).await.map_err(doing())?;
        }
        Ok(())
    }

    /// Returns what the engine warned of.
    async fn make_node(
        &self,
        local: &LocalNode<'_>,
        authority: &Authority,
        privilege: Privilege,
        cpus: Option<i64>,
        call: &str,
    ) -> Result<Vec<String>, PlatformError> {
        let container = local.container();
        let doing = || PlatformError::engine(format!("making node {}", local.name));
        let credentials = authority.issue(&Role::Agent(local.name.clone()))?;
        let files = local
            .files(&credentials)
            .map_err(|source| PlatformError::File { path: container.clone().into(), source })?;
        for (name, _) in local.volumes() {
            let labels = labels(local.continuum, call);
            let request =
                VolumeCreateRequest { name: Some(name), labels: Some(labels), ..Default::default() };
            self.docker.create_volume(request).await.map_err(doing())?;
        }
        let options = CreateContainerOptionsBuilder::default().name(&container).build();
        let body = local.configuration(privilege, cpus, call);
        let created = self.docker.create_container(Some(options), body).await.map_err(|error| {
            if engine::is_conflict(&error) {
                PlatformError::Foreign(container.clone())
            } else {
                doing()(error)
            }
        })?;
        let upload = UploadToContainerOptionsBuilder::default().path("/").build();
        let files = bollard::body_full(files.into());
        self.docker.upload_to_container(&container, Some(upload), files).await.map_err(doing())?;
        self.docker.start_container(&container, None).await.map_err(doing())?;
        Ok(created.warnings)
    }

    /// Waits until all local nodes answer, with one deadline for all.
    async fn wait_until_ready(
        &self,
        continuum: &Continuum,
        credentials: &Credentials,
    ) -> Result<(), PlatformError> {
        let began = Instant::now();
        loop {
            let status = self.status(continuum, credentials, None).await?;
            let late =
                status.iter().find(|found| found.state != State::Ready && is_local(continuum, &found.node));
            let Some(late) = late else { return Ok(()) };
            let waited = began.elapsed();
            if waited >= READY_WITHIN || late.state != State::Starting {
                let reason = match (late.state, &late.engine) {
                    (State::Starting, None) => "its engine does not answer".to_owned(),
                    (State::Starting, Some(_)) => "its agent does not answer over TLS".to_owned(),
                    (state, _) => format!("it is {state}"),
                };
                let container = format!("sterna-{}-{}", continuum.name, late.node);
                let log = engine::last_lines(&self.docker, &container, LAST_LINES).await;
                return Err(PlatformError::NotReady { node: late.node.clone(), waited, reason, log });
            }
            tokio::time::sleep(READY_PAUSE).await;
        }
    }

    /// Removes the nodes of a continuum with their volumes and their network. Returns the names of what was removed; nothing
    /// to remove is fine.
    ///
    /// # Errors
    /// When the engine can't remove something.
    pub async fn down(&self, continuum: &str) -> Result<Vec<String>, PlatformError> {
        self.remove_labelled(format!("{CONTINUUM_LABEL}={continuum}")).await
    }

    async fn remove_labelled(&self, label: String) -> Result<Vec<String>, PlatformError> {
        let mut removed = Vec::new();
        let containers = engine::containers(&self.docker, label.clone()).await?;
        let removals = containers.iter().map(async |container| {
            let id = container.id.as_deref().unwrap_or_default();
            let name =
                container.names.iter().flatten().next().map_or(id, |name| name.trim_start_matches('/'));
            frozen::thaw(&self.docker, name, id).await;
            engine::remove(&self.docker, id).await.map(|()| format!("container {name}"))
        });
        removed.extend(try_join_all(removals).await?);

        let filters = engine::labelled(&[label]);
        let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
        let listing = || PlatformError::engine("listing volumes and networks");
        let volumes = self.docker.list_volumes(Some(options)).await.map_err(listing())?;
        for volume in volumes.volumes.unwrap_or_default() {
            let doing = PlatformError::engine(format!("removing volume {}", volume.name));
            match self.docker.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await {
                Err(error) if !engine::is_absent(&error) => return Err(doing(error)),
                _ => removed.push(format!("volume {}", volume.name)),
            }
        }
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        for network in self.docker.list_networks(Some(options)).await.map_err(listing())? {
            let name = network.name.unwrap_or_default();
            let doing = PlatformError::engine(format!("removing network {name}"));
            match self.docker.remove_network(&name).await {
                Err(error) if !engine::is_absent(&error) => return Err(doing(error)),
                _ => removed.push(format!("network {name}")),
            }
        }
        Ok(removed)
    }
}

/// The nodes that live on this host.
pub(super) fn locals(continuum: &Continuum) -> impl Iterator<Item = (&NodeName, &Node)> {
    continuum.nodes.iter().filter(|(_, node)| node.is_local())
}

pub(super) fn is_local(continuum: &Continuum, name: &NodeName) -> bool {
    continuum.nodes.get(name).is_some_and(Node::is_local)
}
