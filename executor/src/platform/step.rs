//! What is being done while nodes are made, for whoever watches.

use std::path::PathBuf;

use sterna_core::continuum::NodeName;

use super::docker::privilege::Privilege;

/// One thing that is begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Another process holds the cache.
    WaitingForCache(PathBuf),
    /// The root file system is built; this takes a minute or two, once.
    BuildingRootfs(PathBuf),
    /// The root file system is given to the engine.
    ImportingRootfs,
    /// The node image is made.
    MakingImage(String),
    /// What nodes may do on the host, and why that was chosen.
    Privilege(Privilege, String),
    /// A node is made.
    MakingNode(NodeName),
    /// Waiting for the engines and agents of these nodes.
    WaitingFor(Vec<NodeName>),
    /// What was made in this call is removed again.
    Undoing,
    /// Something that the operator should know.
    Note(String),
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WaitingForCache(folder) => {
                write!(f, "waiting for another process that uses {}", folder.display())
            }
            Self::BuildingRootfs(file) => {
                write!(
                    f,
                    "building the root file system of nodes (once, a minute or two): {}",
                    file.display()
                )
            }
            Self::ImportingRootfs => f.write_str("importing the root file system"),
            Self::MakingImage(name) => write!(f, "making image {name}"),
            Self::Privilege(privilege, reason) => {
                write!(f, "privilege of nodes: {privilege}, since {reason}")
            }
            Self::MakingNode(node) => write!(f, "making node {node}"),
            Self::WaitingFor(nodes) => {
                let names: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
                write!(f, "waiting for {}", names.join(", "))
            }
            Self::Undoing => f.write_str("removing what was made"),
            Self::Note(text) => f.write_str(text),
        }
    }
}
