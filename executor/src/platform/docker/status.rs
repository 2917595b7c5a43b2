//! How the local nodes of a continuum are: what the engine says of their containers, and whether what runs in them answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use futures_util::future::join_all;
use sterna_core::continuum::{Continuum, Node, NodeName};

use super::local::{LocalNodes, is_local, locals};
use super::node::{LocalNode, network};
use super::privilege::Privilege;
use super::{
    CONTINUUM_LABEL, IMAGE_LABEL, NODE_LABEL, PRIVILEGE_LABEL, PlatformError, SITE_LABEL, SIZE_LABEL, engine,
};
use crate::identity::Credentials;
use crate::platform::agent::AGENT_PORT;
use crate::platform::status::{ANSWER_WITHIN, NodeStatus, Platform, State, answers};

impl LocalNodes {
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
        let strays = existing.keys().filter(|name| !is_local(continuum, name));
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
            platform: Platform::Docker,
            host: None,
            state: State::Missing,
            address: None,
            engine: None,
            agent: false,
            privilege: label(PRIVILEGE_LABEL).and_then(Privilege::from_label),
            notes: Vec::new(),
            remedy: None,
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

    pub(super) async fn existing(
        &self,
        continuum: &str,
    ) -> Result<BTreeMap<NodeName, ContainerSummary>, PlatformError> {
        let containers = engine::containers(&self.docker, format!("{CONTINUUM_LABEL}={continuum}")).await?;
        let name = |container: &ContainerSummary| container.labels.as_ref()?.get(NODE_LABEL).cloned();
        Ok(containers
            .into_iter()
            .filter_map(|container| Some((NodeName::from(name(&container)?), container)))
            .collect())
    }
}

/// The agent's address in the network that the nodes share, which the host is part of.
fn address(continuum: &str, container: &ContainerSummary) -> Option<String> {
    let networks = container.network_settings.as_ref()?.networks.as_ref()?;
    let address = networks.get(&network(continuum))?.ip_address.as_deref().filter(|text| !text.is_empty())?;
    Some(format!("{address}:{AGENT_PORT}"))
}
