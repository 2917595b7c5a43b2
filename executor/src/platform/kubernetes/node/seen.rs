//! A node as its pod and its agent show it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use sterna_core::continuum::NodeName;
use sterna_core::continuum::pod::ClusterNodes;

use super::condition::{Condition, Kind, Subject, condition};
use super::manifest::PodNode;
use super::place::Place;
use crate::identity::Credentials;
use crate::node::client::AgentClient;
use crate::platform::agent::AGENT_PORT;
use crate::platform::docker::privilege::Privilege;
use crate::platform::docker::{IMAGE_LABEL, SITE_LABEL, SIZE_LABEL};
use crate::platform::status::{ANSWER_WITHIN, NodeStatus, Platform, State, answers};

/// What was seen.
pub struct Seen {
    /// How the node is.
    pub status: NodeStatus,
    /// How its pod is, if it has one.
    pub condition: Option<Condition>,
}

/// Looks at a node of the inventory.
pub async fn look(node: &PodNode<'_>, pod: Option<&Pod>, credentials: &Credentials) -> Seen {
    let mut status = missing(node);
    let Some(pod) = pod else { return Seen { status, condition: None } };
    let found = condition(pod);
    let host = host(pod);
    status.notes = differences(node, pod);
    status.state = found.kind.state();
    status.address = address(pod);
    status.privilege = Some(Privilege::Privileged);
    if let (Kind::Running, Some(address)) = (found.kind, &status.address) {
        status.agent = match credentials.client_config() {
            Ok(config) => answers(Some(address), node.name, Arc::new(config)).await,
            Err(_) => false,
        };
        if status.agent {
            status.engine = engine(node.name, address, credentials).await;
        }
        status.state = if status.engine.is_some() { State::Ready } else { State::Starting };
    }
    if status.state != State::Ready {
        let name = node.pod_name();
        let subject = subject(node, &name, host.as_deref());
        status.notes.push(format!("its pod is {}", found.words()));
        status.remedy = subject.remedy(found.kind);
    }
    status.host = host;
    Seen { status, condition: Some(found) }
}

/// A node whose cluster can't be asked.
pub fn unknown(node: &PodNode<'_>, reason: &str) -> Seen {
    let mut status = missing(node);
    status.state = State::Unknown;
    status.notes.push("its cluster can't be asked".to_owned());
    status.remedy = Some(reason.to_owned());
    Seen { status, condition: None }
}

/// A pod of the continuum that is no node of the inventory.
pub fn stray(name: &NodeName, pod: &Pod, place: &Place) -> NodeStatus {
    let site = pod.metadata.labels.as_ref().and_then(|labels| labels.get(SITE_LABEL));
    let found = condition(pod);
    NodeStatus {
        node: name.clone(),
        site: site.map(String::as_str).unwrap_or_default().into(),
        platform: Platform::Kubernetes,
        host: host(pod),
        state: found.kind.state(),
        address: address(pod),
        engine: None,
        agent: false,
        privilege: Some(Privilege::Privileged),
        notes: vec![format!("a pod in {place} that the inventory does not have there any more")],
        remedy: None,
    }
}

/// Where its agent listens, if it runs.
pub fn address(pod: &Pod) -> Option<String> {
    if condition(pod).kind != Kind::Running {
        return None;
    }
    let ip: IpAddr = pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()?;
    Some(SocketAddr::new(ip, AGENT_PORT).to_string())
}

/// Why it has no address.
pub fn why_not(pod: &Pod) -> String {
    format!("its pod is {}; `sterna sites status` tells what to do", condition(pod).words())
}

fn missing(node: &PodNode<'_>) -> NodeStatus {
    NodeStatus {
        node: node.name.clone(),
        site: node.node.site.clone(),
        platform: Platform::Kubernetes,
        host: None,
        state: State::Missing,
        address: None,
        engine: None,
        agent: false,
        privilege: None,
        notes: Vec::new(),
        remedy: None,
    }
}

/// What advice about a node speaks of: its pod of that name, on a node of the cluster.
pub(super) fn subject<'n>(node: &'n PodNode<'_>, pod: &'n str, host: Option<&'n str>) -> Subject<'n> {
    Subject {
        context: node.place.context.as_deref(),
        namespace: &node.place.namespace,
        pod,
        image: node.image(),
        host,
    }
}

/// The cluster's node that it stands on, if it stands on one.
pub(super) fn host(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

/// What the pod was made with and is not in the inventory now.
fn differences(node: &PodNode<'_>, pod: &Pod) -> Vec<String> {
    let said = |key: &str| pod.metadata.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str);
    let mut notes = Vec::new();
    if let Some(size) = said(SIZE_LABEL).filter(|size| *size != node.size()) {
        notes.push(format!("was made with {size}"));
    }
    if let Some(image) = said(IMAGE_LABEL).filter(|image| *image != node.image()) {
        notes.push(format!("was made of {image}, another build of sterna"));
    }
    if let (ClusterNodes::Named(wanted), Some(host)) = (&node.place.on, host(pod))
        && *wanted != host
    {
        notes.push(format!("stands on {host}, not on {wanted}"));
    }
    notes
}

/// The version of its engine, as the agent says.
async fn engine(name: &NodeName, address: &str, credentials: &Credentials) -> Option<String> {
    let asked = async {
        let agent = AgentClient::new(credentials, name, address).await.ok()?;
        Some(agent.facts().await.ok()?.engine)
    };
    tokio::time::timeout(ANSWER_WITHIN, asked).await.ok().flatten().filter(|version| !version.is_empty())
}
