//! Local nodes: each is a container of the host's engine with an engine of its own inside (Docker-in-Docker).
//!
//! | module | what lives there |
//! |---|---|
//! | [`recipe`] | what a node is made from, and its hash |
//! | `rootfs` | building and keeping the root file system |
//! | `image` | the node image in the host's engine |
//! | [`archive`] | the node image as a file |
//! | [`privilege`] | what a node may do, found by trying |
//! | [`node`] | one node's container and files |
//! | [`host`] | making a node of a host that is none of ours |
//! | [`local`] | making and removing the nodes of a continuum |
//! | [`status`] | how they are |
//! | `frozen` | letting frozen services go on, before anything is removed |
//! | `engine` | the host's engine |

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use sterna_core::continuum::NodeName;
use thiserror::Error;

use crate::identity::IdentityError;

pub mod archive;
mod engine;
mod frozen;
pub mod host;
pub(super) mod image;
pub mod local;
pub mod node;
pub mod privilege;
pub mod recipe;
mod rootfs;
pub mod status;

pub use local::{LocalNodes, Settings};

/// The continuum that a container, volume or network belongs to.
pub(super) const CONTINUUM_LABEL: &str = "sterna.continuum";
pub(super) const NODE_LABEL: &str = "sterna.node";
pub(super) const SITE_LABEL: &str = "sterna.site";
pub(super) const IMAGE_LABEL: &str = "sterna.image";
pub(super) const SIZE_LABEL: &str = "sterna.size";
const PRIVILEGE_LABEL: &str = "sterna.privilege";
/// The call that made something, so that it can be undone.
pub(super) const CALL_LABEL: &str = "sterna.call";

/// Local nodes can't be made, shown or removed.
#[derive(Debug, Error)]
pub enum PlatformError {
    /// There is no engine to make nodes with.
    #[error(
        "no Docker engine answers at {address}: {reason}\n\
         Install one (Debian: `apt-get install docker.io`) and start it (`systemctl start docker`, or `dockerd` as root \
         where there is no systemd), or set DOCKER_HOST to the socket of one (`unix:///path/docker.sock`). Who uses it \
         must be root or in the group `docker`."
    )]
    NoEngine {
        /// Where it was looked for.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The engine refused something.
    #[error("{doing}: {source}")]
    Engine {
        /// What was asked of it.
        doing: String,
        /// Its answer.
        source: bollard::errors::Error,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// Only root can unpack a system's packages.
    #[error(
        "the root file system of nodes has to be built once, and that needs root: run this command once with sudo and \
         STERNA_CACHE={folder}, or copy {name} there from a machine that has it",
        folder = .file.parent().unwrap_or(.file).display(),
        name = .file.file_name().unwrap_or_default().display()
    )]
    NeedsRoot {
        /// The file that is missing.
        file: PathBuf,
    },
    /// The tool that builds it is missing.
    #[error(
        "the root file system of nodes is built by debootstrap, which is not installed: `apt-get install debootstrap`"
    )]
    NeedsDebootstrap,
    /// The build failed.
    #[error("the root file system of nodes could not be built: {reason}")]
    Rootfs {
        /// What the script said.
        reason: String,
    },
    /// The engine allows a node neither way of running an engine of its own.
    #[error(
        "the engine allows nodes too little: privileged, {privileged}; with a list of capabilities, {capabilities}"
    )]
    NoPrivilege {
        /// Why not `--privileged`.
        privileged: String,
        /// Why not the list.
        capabilities: String,
    },
    /// A name that can't be part of a container's or a network's name.
    #[error(
        "the continuum's name `{0}` can't be part of a container's name: use a-z, A-Z, 0-9, `_`, `.` and `-`, and begin with a letter or digit"
    )]
    Name(String),
    /// The inventory does not say where a node's agent listens.
    #[error(
        "the inventory says no `agent = \"host:port\"` for `{node}`: without one it is a container of this host or a pod, which `sterna sites up` makes"
    )]
    NoAddress {
        /// The node.
        node: NodeName,
    },
    /// The inventory has no such node.
    #[error("the inventory has no node `{node}`; it has: {known}")]
    UnknownNode {
        /// The node.
        node: NodeName,
        /// Those that there are.
        known: String,
    },
    /// Something else has the name of a node's container.
    #[error("another container is named {0}, as this node's would be: remove or rename it")]
    Foreign(String),
    /// A node did not come up.
    #[error("node {node} is not ready after {} s: {reason}\nIts last words:\n{log}", .waited.as_secs())]
    NotReady {
        /// The node.
        node: NodeName,
        /// How long it was waited for.
        waited: Duration,
        /// What is missing.
        reason: String,
        /// The end of its log.
        log: String,
    },
    /// Certificates could not be made or used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The caller asked to stop; what had been made is gone again.
    #[error("interrupted")]
    Interrupted,
}

impl PlatformError {
    fn engine(doing: impl Into<String>) -> impl FnOnce(bollard::errors::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Engine { doing, source }
    }
}

/// Where the agents of a continuum's local nodes listen, `host:port`, as the host's engine says. Only running nodes are in it.
///
/// # Errors
/// When no engine answers.
pub async fn local_addresses(continuum: &str) -> Result<BTreeMap<NodeName, String>, PlatformError> {
    LocalNodes::connect().await?.addresses(continuum).await
}
