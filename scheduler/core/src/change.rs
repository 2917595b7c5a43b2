//! What is different between two states: why a plan that was made from one is not carried out in the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::continuum::{NodeName, ServiceName};
use crate::directive::Ask;
use crate::observation::Observation;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// A service is on another node, was not found any more, or was found again.
    Placed {
        /// The service.
        service: ServiceName,
        /// Where it was.
        was: Option<NodeName>,
        /// Where it is.
        is: Option<NodeName>,
    },
    /// The agent of a node has begun or ceased to answer.
    Answers {
        /// The node.
        node: NodeName,
        /// Whether it answers now.
        now: bool,
    },
    /// The inventory has another entry, or has or lacks one.
    Inventory {
        /// Which, in words.
        entry: String,
    },
    /// A directive was given or taken back.
    Directive {
        /// What it asks for.
        ask: Ask,
        /// Whether it is in force now.
        now: bool,
    },
}

/// All that is different of what a state is: continuum, placement, reachable nodes, directives. Nothing where
/// [`crate::state::hash`] is the same.
pub fn between(old: &Observation, new: &Observation) -> Vec<Change> {
    let mut changes = Vec::new();
    let services: BTreeSet<&ServiceName> = old.placement.keys().chain(new.placement.keys()).collect();
    for service in services {
        let (was, is) = (old.placement.get(service), new.placement.get(service));
        if was != is {
            let (service, was, is) = (service.clone(), was.cloned(), is.cloned());
            changes.push(Change::Placed { service, was, is });
        }
    }
    let answered: [BTreeSet<&NodeName>; 2] = [old, new].map(|seen| seen.reachable.iter().collect());
    for node in answered[0].symmetric_difference(&answered[1]) {
        changes.push(Change::Answers { node: (*node).clone(), now: answered[1].contains(node) });
    }
    let (a, b) = (&old.continuum, &new.continuum);
    if a.name != b.name {
        changes.push(Change::Inventory { entry: "its name".to_owned() });
    }
    entries("site", &a.sites, &b.sites, &mut changes);
    entries("node", &a.nodes, &b.nodes, &mut changes);
    entries("user group", &a.users, &b.users, &mut changes);
    entries("service", &a.services, &b.services, &mut changes);
    if a.links != b.links {
        changes.push(Change::Inventory { entry: "its links".to_owned() });
    }
    let asked: [BTreeSet<&Ask>; 2] = [old, new].map(|seen| seen.directives.asks().collect());
    for ask in asked[0].symmetric_difference(&asked[1]) {
        changes.push(Change::Directive { ask: (*ask).clone(), now: asked[1].contains(ask) });
    }
    changes
}

fn entries<K: Ord + fmt::Display, V: PartialEq>(
    what: &str,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    changes: &mut Vec<Change>,
) {
    let names: BTreeSet<&K> = old.keys().chain(new.keys()).collect();
    for name in names {
        if old.get(name) != new.get(name) {
            changes.push(Change::Inventory { entry: format!("{what} `{name}`") });
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Placed { service, was: Some(was), is: Some(is) } => {
                write!(f, "`{service}` is on `{is}` and no longer on `{was}`")
            }
            Self::Placed { service, was: Some(was), is: None } => {
                write!(f, "`{service}` is no longer found, it was on `{was}`")
            }
            Self::Placed { service, is, .. } => match is {
                Some(is) => write!(f, "`{service}` was found, on `{is}`"),
                None => write!(f, "`{service}` is not found"),
            },
            Self::Answers { node, now: true } => write!(f, "node `{node}` answers again"),
            Self::Answers { node, now: false } => write!(f, "node `{node}` does not answer any more"),
            Self::Inventory { entry } => write!(f, "the inventory changed: {entry}"),
            Self::Directive { ask, now: true } => write!(f, "{ask} was asked for"),
            Self::Directive { ask, now: false } => write!(f, "{ask} was taken back"),
        }
    }
}
