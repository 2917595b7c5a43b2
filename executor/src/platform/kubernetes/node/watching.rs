//! Seeing pods end. A pod is taken away a moment after its kubelet has said how it ended, so it has to be watched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use sterna_core::continuum::{Continuum, Node, NodeName};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::cluster::PodNodes;
use super::ending::{Unproven, ending};
use super::manifest;
use super::place::{Place, places};
use crate::error_chain::chain;
use crate::migration::pod_end::PodEnd;
use crate::platform::kubernetes::connection::watching_client;

/// How long a watch lasts until it is begun again from where it was.
const LASTS_SECONDS: u32 = 240;
/// Pause after a watch that failed.
const PAUSE: Duration = Duration::from_secs(3);

/// Pods of a continuum, watched for their ends. Dropped with the last clone, it ends.
#[derive(Debug, Clone, Default)]
pub struct PodWatch(Arc<Watches>);

#[derive(Debug, Default)]
struct Watches {
    ends: Arc<Mutex<Vec<PodEnd>>>,
    news: Arc<Notify>,
    running: Mutex<BTreeMap<(String, Place), JoinHandle<()>>>,
}

impl Drop for Watches {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner);
        running.values().for_each(JoinHandle::abort);
    }
}

/// A watch that broke.
#[derive(Debug, Error)]
enum Broken {
    #[error("{0}")]
    Client(String),
    #[error("{}", chain(.0))]
    Answer(#[from] kube::Error),
    #[error("the API server broke it off: {0}")]
    Status(String),
}

impl PodWatch {
    /// Watches the places of these nodes, and no others any more.
    pub fn follow(&self, continuum: &Continuum) {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted: Vec<(String, Place)> =
            places(continuum).into_iter().map(|place| (continuum.name.clone(), place)).collect();
        running.retain(|key, watch| {
            let stays = wanted.contains(key);
            if !stays {
                watch.abort();
            }
            stays
        });
        for (name, place) in wanted {
            running.entry((name.clone(), place.clone())).or_insert_with(|| {
                let (ends, news) = (Arc::clone(&self.0.ends), Arc::clone(&self.0.news));
                tokio::spawn(async move { watch(&name, &place, &ends, &news).await })
            });
        }
    }

    /// The ends that were seen so far.
    pub fn ends(&self) -> Vec<PodEnd> {
        self.0.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for an end that is news.
    pub async fn news(&self) {
        self.0.news.notified().await;
    }
}

/// Watches the pods of a place for ever.
async fn watch(continuum: &str, place: &Place, ends: &Mutex<Vec<PodEnd>>, news: &Notify) {
    let mut said = String::new();
    loop {
        let Err(error) = watch_once(continuum, place, ends, news).await;
        let reason = error.to_string();
        if reason != said {
            tracing::warn!(%place, reason, "pods can't be watched, trying again: of one that ends meanwhile it is not known that it did");
            said = reason;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Watches from now on, until it breaks.
async fn watch_once(
    continuum: &str,
    place: &Place,
    ends: &Mutex<Vec<PodEnd>>,
    news: &Notify,
) -> Result<std::convert::Infallible, Broken> {
    let quiet = Duration::from_secs(u64::from(LASTS_SECONDS) + 30);
    let client = watching_client(place.context.as_deref(), quiet).await;
    let client = client.map_err(|error| Broken::Client(error.to_string()))?;
    let pods: Api<Pod> = Api::namespaced(client, &place.namespace);
    let selector = manifest::selector(continuum);
    let list = pods.list(&ListParams::default().labels(&selector)).await?;
    let mut version = list.metadata.resource_version.clone().unwrap_or_default();
    list.items.iter().for_each(|pod| note(pod, ends, news));
    let with = WatchParams::default().labels(&selector).timeout(LASTS_SECONDS);
    loop {
        let mut events = pods.watch(&with, &version).await?.boxed();
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) | WatchEvent::Deleted(pod) => {
                    note(&pod, ends, news);
                    version = pod.metadata.resource_version.clone().unwrap_or(version);
                }
                WatchEvent::Bookmark(mark) => version = mark.metadata.resource_version,
                WatchEvent::Error(status) => return Err(Broken::Status(status.message.clone())),
            }
        }
    }
}

/// Notes the end of a pod if this is one.
fn note(pod: &Pod, ends: &Mutex<Vec<PodEnd>>, news: &Notify) {
    match ending(pod, Timestamp::now()) {
        Ok(end) => {
            let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
            if ends.iter().all(|known| known.uid != end.uid) {
                ends.push(end);
                news.notify_one();
            }
        }
        Err(Unproven::Foreign | Unproven::NotEnded) => {}
        Err(why) => tracing::debug!(pod = pod.metadata.name, %why, "it has ended, and that proves nothing"),
    }
}

/// Those of the nodes whose pods have ended that have no other pod now, and so nothing at all. A node whose cluster can't be asked
/// is not in it.
pub async fn empty(continuum: &Continuum, ends: &[PodEnd]) -> BTreeSet<NodeName> {
    let ended = |name: &NodeName| ends.iter().any(|end| end.node == *name);
    let nodes = || continuum.nodes.iter().filter(|(name, node)| node.kubernetes.is_some() && ended(name));
    let clusters = PodNodes::of(nodes().map(|(_, node)| node)).await;
    let asked: BTreeSet<Place> =
        nodes().filter_map(|(_, node)| node.kubernetes.as_ref()).map(Place::of).collect();
    let pods = clusters.pods_in(&continuum.name, asked).await;
    let has_none = |(name, node): &(&NodeName, &Node)| {
        let here = node.kubernetes.as_ref().map(Place::of).and_then(|place| pods.get(&place));
        let Some(Ok(here)) = here else { return false };
        let known = |pod: &Pod| ends.iter().any(|end| Some(&end.uid) == pod.metadata.uid.as_ref());
        here.get(*name).is_none_or(known)
    };
    nodes().filter(has_none).map(|(name, _)| name.clone()).collect()
}
