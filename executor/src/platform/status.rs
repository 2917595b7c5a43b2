//! How a node that `sterna sites up` makes is.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde::Serialize;
use sterna_core::continuum::{NodeName, SiteName};

use super::docker::privilege::Privilege;
use crate::identity::Role;

/// One question to an engine or an agent.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Where a node lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// In the host's own engine.
    Docker,
    /// In a cluster.
    Kubernetes,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Docker => "docker",
            Self::Kubernetes => "kubernetes",
        })
    }
}

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// In the inventory, but there is no container or pod.
    Missing,
    /// Its container does not run, or its pod has ended.
    Stopped,
    /// It won't come up by itself; a note says why.
    Stuck,
    /// It comes up: engine or agent do not answer yet.
    Starting,
    /// Engine and agent answer.
    Ready,
    /// Where it lives can't be asked.
    Unknown,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Missing => "missing",
            Self::Stopped => "stopped",
            Self::Stuck => "stuck",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unknown => "unknown",
        })
    }
}

/// A node as it is.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: NodeName,
    /// Its site.
    pub site: SiteName,
    /// Where it lives.
    pub platform: Platform,
    /// The cluster's node that it stands on, where it is a pod of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
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
    /// What differs from the inventory or from this binary, and what keeps it from being ready.
    pub notes: Vec<String>,
    /// What to do about that, where more is known than a note has room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Whether the agent of `node` answers at an address, and proves that it is the one.
pub(super) async fn answers(
    address: Option<&str>,
    node: &NodeName,
    config: Arc<rustls::ClientConfig>,
) -> bool {
    let Some(address) = address else { return false };
    let Ok(host) = ServerName::try_from(Role::Agent(node.clone()).host_name()) else { return false };
    let handshake = async {
        let stream = tokio::net::TcpStream::connect(address).await.ok()?;
        tokio_rustls::TlsConnector::from(config).connect(host, stream).await.ok()
    };
    matches!(tokio::time::timeout(ANSWER_WITHIN, handshake).await, Ok(Some(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Authority;

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
