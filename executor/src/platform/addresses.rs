//! Where the agents of a continuum listen: as the inventory says, or as the engine or the cluster does in which they are. These are
//! asked each time: a node that is made anew has another address.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use sterna_core::continuum::{Continuum, Node, NodeName};

use futures_util::future::join_all;

use super::docker::local_addresses;
use super::kubernetes::node::cluster::{self, Unknown};
use super::kubernetes::node::place::Place;
use super::late_answers::{BRIEFLY, LateAnswers};

/// What is said of a local node that the engine does not know.
const NOT_UP: &str = "its container does not run; `sterna sites up` makes it";

type Answer = Result<String, Unknown>;

/// Where pods were when their cluster last said so, for as long as it can't be asked: they run on without it. An agent proves which
/// node it is, so an address that is another's by now does no harm. One cluster that is slow to answer keeps nobody from the nodes of
/// others.
#[derive(Debug, Clone, Default)]
pub struct Remembered {
    known: Arc<Mutex<BTreeMap<NodeName, String>>>,
    clusters: Arc<LateAnswers<Place, BTreeMap<NodeName, Answer>>>,
}

impl Remembered {
    /// What the clusters say of the nodes that are pods.
    async fn ask(&self, continuum: &str, nodes: &[(&NodeName, &Node)]) -> BTreeMap<NodeName, Answer> {
        let mut by_place: BTreeMap<Place, Vec<(NodeName, Node)>> = BTreeMap::new();
        for (name, node) in nodes {
            if let Some(pod) = &node.kubernetes {
                by_place.entry(Place::of(pod)).or_default().push(((*name).clone(), (*node).clone()));
            }
        }
        let asked = by_place.into_iter().map(|(place, nodes)| async move {
            let names: BTreeSet<NodeName> = nodes.iter().map(|(name, _)| name.clone()).collect();
            let question = cluster::addresses(continuum.to_owned(), place.clone(), nodes);
            let answer = self.clusters.ask(place.clone(), self.knows(&names), question).await;
            // The question before may have been for others.
            let mut answer = answer.unwrap_or_default();
            let late = || {
                Err(Unknown::Unasked(format!("the cluster of {place} has not answered within {BRIEFLY:?}")))
            };
            names
                .into_iter()
                .map(move |name| (name.clone(), answer.remove(&name).unwrap_or_else(late)))
                .collect()
        });
        join_all(asked).await.into_iter().flat_map(|found: Vec<_>| found).collect()
    }

    fn knows(&self, names: &BTreeSet<NodeName>) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().all(|name| known.contains_key(name))
    }

    /// What is known of an agent's address after this answer of its cluster.
    fn settle(&self, name: &NodeName, answer: Answer) -> Result<String, String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(address) => {
                known.insert(name.clone(), address.clone());
                Ok(address)
            }
            Err(Unknown::Nowhere(words)) => {
                known.remove(name);
                Err(words)
            }
            Err(Unknown::Unasked(reason)) => known.get(name).cloned().ok_or(reason),
        }
    }
}

/// The address of every agent, `host:port`, or why it is not known.
pub async fn addresses(
    continuum: &Continuum,
    remembered: &Remembered,
) -> BTreeMap<NodeName, Result<String, String>> {
    of(continuum, &continuum.nodes.iter().collect::<Vec<_>>(), remembered).await
}

/// The address of one agent.
///
/// # Errors
/// Why it is not known, in words.
pub async fn address(
    continuum: &Continuum,
    name: &NodeName,
    remembered: &Remembered,
) -> Result<String, String> {
    let unknown = || format!("there is no node `{name}`");
    let node = continuum.nodes.get(name).ok_or_else(unknown)?;
    of(continuum, &[(name, node)], remembered).await.remove(name).unwrap_or_else(|| Err(unknown()))
}

async fn of(
    continuum: &Continuum,
    nodes: &[(&NodeName, &Node)],
    remembered: &Remembered,
) -> BTreeMap<NodeName, Result<String, String>> {
    let local = async {
        match nodes.iter().any(|(_, node)| node.is_local()) {
            true => local_addresses(&continuum.name).await.map_err(|error| error.to_string()),
            false => Ok(BTreeMap::new()),
        }
    };
    let (local, mut pods) = tokio::join!(local, remembered.ask(&continuum.name, nodes));
    let found = |(name, node): &(&NodeName, &Node)| {
        let address = match (&node.agent, pods.remove(*name), &local) {
            (Some(address), ..) => Ok(address.clone()),
            (None, Some(answer), _) => remembered.settle(name, answer),
            (None, None, Ok(local)) => local.get(*name).cloned().ok_or_else(|| NOT_UP.to_owned()),
            (None, None, Err(reason)) => Err(reason.clone()),
        };
        ((*name).clone(), address)
    };
    nodes.iter().map(found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_found_where_it_was_while_its_cluster_is_away_and_no_longer() {
        let (remembered, name) = (Remembered::default(), NodeName::from("n1"));
        let away = || Err(Unknown::Unasked("away".to_owned()));
        let address = "10.0.0.1:7420".to_owned();
        assert_eq!(remembered.settle(&name, away()), Err("away".to_owned()));
        assert_eq!(remembered.settle(&name, Ok(address.clone())), Ok(address.clone()));
        // What one scheduler's look finds the next look knows.
        assert_eq!(remembered.clone().settle(&name, away()), Ok(address));
        assert_eq!(remembered.settle(&"n2".into(), away()), Err("away".to_owned()));
        let gone = Err(Unknown::Nowhere("gone".to_owned()));
        assert_eq!(remembered.settle(&name, gone), Err("gone".to_owned()));
        assert_eq!(remembered.settle(&name, away()), Err("away".to_owned()));
    }
}
