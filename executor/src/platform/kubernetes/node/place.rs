//! Which nodes of a continuum are pods, and where.

use std::collections::BTreeSet;

use sterna_core::continuum::{Continuum, Pod};

use super::manifest::PodNode;

/// A namespace of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The context that names the cluster; `None` for the current one.
    pub context: Option<String>,
    /// The namespace.
    pub namespace: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "namespace {}", self.namespace)?;
        match &self.context {
            Some(context) => write!(f, " of the context {context}"),
            None => Ok(()),
        }
    }
}

impl Place {
    /// That of a pod.
    pub fn of(pod: &Pod) -> Self {
        Self { context: pod.context.clone(), namespace: pod.namespace.clone() }
    }
}

/// The nodes that are pods; `image` is for those for which the inventory names none.
pub fn pod_nodes<'a>(continuum: &'a Continuum, image: &'a str) -> impl Iterator<Item = PodNode<'a>> {
    continuum.nodes.iter().filter_map(move |(name, node)| {
        let place = node.kubernetes.as_ref()?;
        Some(PodNode { continuum: &continuum.name, name, node, place, image })
    })
}

/// Where they are.
pub fn places(continuum: &Continuum) -> BTreeSet<Place> {
    continuum.nodes.values().filter_map(|node| node.kubernetes.as_ref()).map(Place::of).collect()
}
