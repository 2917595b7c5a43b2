//! Nodes that are pods: each runs the node image with an engine of its own inside (Docker-in-Docker), as local nodes do.
//!
//! A node is a pod that nobody makes anew but `sterna sites up`: no Deployment, no StatefulSet. So once the pod of a UID has
//! ended, what ran in it runs nowhere, and a second one never stands beside it. What is proof of that is in [`ending`].
//!
//! | module | what lives there |
//! |---|---|
//! | [`manifest`] | a node's objects |
//! | [`condition`] | what the cluster says of a pod, or refuses, and what is to be done then |
//! | [`ending`] | what proves that a pod has ended |
//! | `failure` | what went wrong with a request |
//! | `place` | which nodes are pods, and where |
//! | `seen` | a node as its pod and its agent show it |
//! | [`cluster`] | making and showing the nodes of a continuum |
//! | [`checkup`] | what keeps them from being found, made or reached |
//! | `removal` | removing them |
//! | [`watching`] | seeing pods end |

use std::time::Duration;

use sterna_core::continuum::NodeName;
use thiserror::Error;

use crate::identity::IdentityError;

pub mod checkup;
pub mod cluster;
pub mod condition;
pub mod ending;
pub(super) mod failure;
pub mod manifest;
pub(in crate::platform) mod place;
mod removal;
mod seen;
pub mod watching;

pub use cluster::PodNodes;

/// Nodes can't be made, shown or removed in a cluster.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// No client of the cluster can be made.
    #[error("{0}")]
    NoCluster(String),
    /// The cluster refuses something, or does not answer.
    #[error("{doing}: {said}\n{remedy}")]
    Refused {
        /// What was asked of it, and where.
        doing: String,
        /// Why not.
        said: String,
        /// What to do.
        remedy: String,
    },
    /// Something else has the name of a node's pod.
    #[error(
        "another pod is named {pod} in the namespace {namespace}, as this node's would be: remove or rename it, or give the \
         node another namespace"
    )]
    Foreign {
        /// The namespace.
        namespace: String,
        /// The pod.
        pod: String,
    },
    /// A node did not come up.
    #[error("node {node} is not ready after {} s: {said}\n{remedy}", .waited.as_secs())]
    NotReady {
        /// The node.
        node: NodeName,
        /// How long it was waited for.
        waited: Duration,
        /// What is known.
        said: String,
        /// What to do.
        remedy: String,
    },
    /// Something does not go.
    #[error(
        "{what} is still there {} s after its removal began: does its node of the cluster answer? (`kubectl get nodes`)\nIt \
         goes once that does, and `sterna sites down` then removes what is left.", .waited.as_secs()
    )]
    StillThere {
        /// What it is.
        what: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The files of a node can't be made.
    #[error("the files of node {node}: {source}")]
    Files {
        /// The node.
        node: NodeName,
        /// What happened.
        source: std::io::Error,
    },
    /// Certificates could not be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The caller asked to stop; what had been made is gone again.
    #[error("interrupted")]
    Interrupted,
}
