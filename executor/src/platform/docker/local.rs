//! Making, showing and removing the local nodes of a continuum.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{
    ContainerSummary, ContainerSummaryStateEnum, NetworkCreateRequest, VolumeCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveVolumeOptions, UploadToContainerOptionsBuilder,
};
use futures_util::future::{join_all, try_join_all};
use rustls::pki_types::ServerName;
use serde::Serialize;
use sterna_core::continuum::{Continuum, Node, NodeName, SiteName};
use tokio_util::sync::CancellationToken;

use super::node::{AGENT_PORT, LocalNode, labels, network};
use super::privilege::{self, Privilege};
use super::rootfs::Cache;
use super::{
    CALL_LABEL, CONTINUUM_LABEL, IMAGE_LABEL, NODE_LABEL, PRIVILEGE_LABEL, PlatformError, SITE_LABEL,
    SIZE_LABEL, Step, engine, frozen, image,
};
use crate::identity::{Authority, Credentials, Role};

/// How long a node may take from its start until its engine and its agent answer.
const READY_WITHIN: Duration = Duration::from_secs(90);
const READY_PAUSE: Duration = Duration::from_millis(250);
/// One question to an engine or an agent.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
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
}

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// In the inventory, but there is no container.
    Missing,
    /// Its container does not run.
    Stopped,
    /// Its container runs, but engine or agent do not answer.
    Starting,
    /// Engine and agent answer.
    Ready,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Missing => "missing",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Ready => "ready",
        })
    }
}

/// A local node as it is.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: NodeName,
    /// Its site.
    pub site: SiteName,
    /// Whether it is there.
    pub state: State,
    /// Where its agent listens.
    pub address: Option<String>,
    /// Version of its engine, if that answers.
    pub engine: Option<String>,
    /// Whether its agent answers with a certificate of this continuum.
    pub agent: bool,
    /// What it may do on the host.
    pub privilege: Option<Privilege>,
    /// What differs from the inventory or from this binary.
    pub notes: Vec<String>,
}

/// The host's engine as a maker of nodes.
#[derive(Debug, Clone)]
pub struct LocalNodes {
    docker: Docker,
}

impl LocalNodes {
    /// Connects to the host's engine.
    ///
    /// # Errors
    /// When none answers.
    pub async fn connect() -> Result<Self, PlatformError> {
        Ok(Self { docker: engine::connect().await? })
    }

    /// Makes the nodes of a continuum that have no agent of their own in the inventory, and waits until their engines and
    /// agents answer. Nodes that exist stay as they are, and are started if they stand still. On failure, or when `stop` is
    /// cancelled, everything that this call made is removed.
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
        check_name(&continuum.name)?;
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
        let image = image::name(&settings.binary)?;
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
            for (name, container) in &existing {
                if continuum.nodes.contains_key(name)
                    && container.state != Some(ContainerSummaryStateEnum::RUNNING)
                {
                    let id = container.id.as_deref().unwrap_or_default();
                    let doing = PlatformError::engine(format!("starting node {name}"));
                    self.docker.start_container(id, None).await.map_err(doing)?;
                }
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
            if host.ncpu.is_some_and(|cpus| node.cpu.as_f64() > cpus as f64) {
                on(Step::Note(format!(
                    "node {name} is to have {} but the host has {}",
                    node.cpu,
                    host.ncpu.unwrap_or_default()
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

    /// The local nodes as they are: those of the inventory, then those that are in it no more. `image` is the one that new
    /// nodes would get, to say which nodes hold another binary.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn status(
        &self,
        continuum: &Continuum,
        credentials: &Credentials,
        image: Option<&str>,
    ) -> Result<Vec<NodeStatus>, PlatformError> {
        let existing = self.existing(&continuum.name).await?;
        let config = Arc::new(credentials.client_config()?);
        let inventory = locals(continuum).map(|(name, node)| (name.clone(), Some(node)));
        let strays =
            existing.keys().filter(|name| continuum.nodes.get(*name).is_none_or(|node| node.agent.is_some()));
        let all: Vec<(NodeName, Option<&Node>)> =
            inventory.chain(strays.map(|name| (name.clone(), None))).collect();
        let questions = all.into_iter().map(|(name, node)| {
            let (container, config) = (existing.get(&name), config.clone());
            async move { self.status_of(&continuum.name, name, node, container, config, image).await }
        });
        Ok(join_all(questions).await)
    }

    async fn status_of(
        &self,
        continuum: &str,
        name: NodeName,
        node: Option<&Node>,
        container: Option<&ContainerSummary>,
        config: Arc<rustls::ClientConfig>,
        image: Option<&str>,
    ) -> NodeStatus {
        let label =
            |label: &str| container.and_then(|found| found.labels.as_ref()?.get(label)).map(String::as_str);
        let site = node
            .map(|node| node.site.clone())
            .unwrap_or_else(|| label(SITE_LABEL).unwrap_or_default().into());
        let mut status = NodeStatus {
            site,
            state: State::Missing,
            address: None,
            engine: None,
            agent: false,
            privilege: label(PRIVILEGE_LABEL).and_then(Privilege::from_label),
            notes: Vec::new(),
            node: name,
        };
        let Some(container) = container else { return status };
        match node {
            None => status.notes.push("not a local node of the inventory any more".to_owned()),
            Some(node) => {
                let local =
                    LocalNode { continuum, name: &status.node, node, image: image.unwrap_or_default() };
                if label(SIZE_LABEL).is_some_and(|size| size != local.size()) {
                    status.notes.push(format!("was made with {}", label(SIZE_LABEL).unwrap_or_default()));
                }
            }
        }
        if image.is_some_and(|image| label(IMAGE_LABEL) != Some(image)) {
            status.notes.push("holds another build of sterna".to_owned());
        }
        if container.state != Some(ContainerSummaryStateEnum::RUNNING) {
            status.state = State::Stopped;
            return status;
        }
        status.address = address(continuum, container);
        let id = container.id.as_deref().unwrap_or_default();
        let version = tokio::time::timeout(ANSWER_WITHIN, self.engine_version(id));
        let agent = answers(status.address.as_deref(), &status.node, config);
        let (version, agent) = tokio::join!(version, agent);
        status.engine = version.ok().flatten();
        status.agent = agent;
        status.state = if status.engine.is_some() && agent { State::Ready } else { State::Starting };
        status
    }

    async fn engine_version(&self, container: &str) -> Option<String> {
        let command = ["docker", "info", "--format", "{{.ServerVersion}}"];
        let outcome = engine::exec(&self.docker, container, &command).await.ok()?;
        let version = outcome.output.trim();
        (outcome.succeeded() && !version.is_empty()).then(|| version.to_owned())
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

    /// Where the agents of a continuum's running nodes listen.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn addresses(&self, continuum: &str) -> Result<BTreeMap<NodeName, String>, PlatformError> {
        let existing = self.existing(continuum).await?;
        Ok(existing
            .into_iter()
            .filter(|(_, container)| container.state == Some(ContainerSummaryStateEnum::RUNNING))
            .filter_map(|(name, container)| Some((name, address(continuum, &container)?)))
            .collect())
    }

    async fn existing(&self, continuum: &str) -> Result<BTreeMap<NodeName, ContainerSummary>, PlatformError> {
        let containers = engine::containers(&self.docker, format!("{CONTINUUM_LABEL}={continuum}")).await?;
        let name = |container: &ContainerSummary| container.labels.as_ref()?.get(NODE_LABEL).cloned();
        Ok(containers
            .into_iter()
            .filter_map(|container| Some((NodeName(name(&container)?), container)))
            .collect())
    }
}

/// The nodes that live on this host: the inventory gives them no agent of their own.
fn locals(continuum: &Continuum) -> impl Iterator<Item = (&NodeName, &Node)> {
    continuum.nodes.iter().filter(|(_, node)| node.agent.is_none())
}

fn is_local(continuum: &Continuum, name: &NodeName) -> bool {
    continuum.nodes.get(name).is_some_and(|node| node.agent.is_none())
}

/// The agent's address in the network that the nodes share, which the host is part of.
fn address(continuum: &str, container: &ContainerSummary) -> Option<String> {
    let networks = container.network_settings.as_ref()?.networks.as_ref()?;
    let address = networks.get(&network(continuum))?.ip_address.as_deref().filter(|text| !text.is_empty())?;
    Some(format!("{address}:{AGENT_PORT}"))
}

/// Whether the agent of `node` answers at an address, and proves that it is the one.
async fn answers(address: Option<&str>, node: &NodeName, config: Arc<rustls::ClientConfig>) -> bool {
    let Some(address) = address else { return false };
    let Ok(host) = ServerName::try_from(Role::Agent(node.clone()).host_name()) else { return false };
    let handshake = async {
        let stream = tokio::net::TcpStream::connect(address).await.ok()?;
        tokio_rustls::TlsConnector::from(config).connect(host, stream).await.ok()
    };
    matches!(tokio::time::timeout(ANSWER_WITHIN, handshake).await, Ok(Some(_)))
}

/// Refuses a name that containers, volumes and networks can't bear.
fn check_name(name: &str) -> Result<(), PlatformError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(fits) {
        Ok(())
    } else {
        Err(PlatformError::Name(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_container_can_bear_are_refused() {
        for good in ["demo", "Demo-1", "0.x_y"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-demo", "de mo", "démo", "a/b", "a:b"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn an_agent_answers_only_as_itself() {
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::open(&home.path().join("authority")).unwrap();
        let server = authority.issue(&Role::Agent("edge-a".into())).unwrap().server_config().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let _refused = tokio_rustls::TlsAcceptor::from(server.clone()).accept(stream).await;
            }
        });
        let client = Arc::new(authority.issue(&Role::Scheduler).unwrap().client_config().unwrap());
        assert!(answers(Some(&address), &"edge-a".into(), client.clone()).await);
        assert!(!answers(Some(&address), &"edge-b".into(), client.clone()).await);
        serving.abort();
        assert!(serving.await.is_err());
        assert!(!answers(Some(&address), &"edge-a".into(), client.clone()).await);
        assert!(!answers(None, &"edge-a".into(), client).await);
    }
}
