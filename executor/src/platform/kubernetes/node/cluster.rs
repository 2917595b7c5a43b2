//! Making and showing the nodes of a continuum that are pods.
//!
//! Objects are made once and never changed, so what is asked for is `create` and not an apply: an object of that name that is
//! there already is never written over, and a right less is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sterna_core::continuum::{Continuum, Node, NodeName};
use tokio_util::sync::CancellationToken;

use super::ClusterError;
use super::condition::{Condition, Kind, Patience, Refusal, condition, refusal};
use super::failure::Failure;
use super::manifest::{self, PodNode};
use super::place::{Place, places, pod_nodes};
use super::seen::{self, Seen};
use crate::identity::{Authority, Credentials, Role};
use crate::platform::docker::{CALL_LABEL, NODE_LABEL};
use crate::platform::kubernetes::connection::client_of_context;
use crate::platform::status::{NodeStatus, State};
use crate::platform::step::Step;

/// What is said of a node whose pod is not there.
pub const NOT_UP: &str = "its pod is not there; `sterna sites up` makes it";

/// Who makes the objects, as their managed fields say.
const MANAGER: &str = "sterna";
/// How long a node may take until its engine and its agent answer: its image may have to be pulled first.
const READY_WITHIN: Duration = Duration::from_secs(300);
/// How long what may pass by itself may last.
const HOPES_FOR: Duration = Duration::from_secs(30);
/// How long a new namespace may be without an account for pods.
const ACCOUNT_WITHIN: Duration = Duration::from_secs(20);
pub(super) const PAUSE: Duration = Duration::from_millis(300);

/// The clusters that an inventory names.
pub struct PodNodes {
    clients: BTreeMap<Option<String>, Result<Client, String>>,
}

impl std::fmt::Debug for PodNodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodNodes").field("contexts", &self.clients.keys()).finish()
    }
}

/// What is known of a place: its pods by node, or why they are not known.
pub(super) type Pods = BTreeMap<Place, Result<BTreeMap<NodeName, Pod>, ClusterError>>;

impl PodNodes {
    /// Reads the kubeconfig for the clusters of these nodes. What can't be used is told where it is needed.
    pub async fn of<'a>(nodes: impl Iterator<Item = &'a Node>) -> Self {
        let contexts: BTreeSet<Option<String>> =
            nodes.filter_map(|node| node.kubernetes.as_ref()).map(|pod| pod.context.clone()).collect();
        let mut clients = BTreeMap::new();
        for context in contexts {
            let client = client_of_context(context.as_deref()).await.map_err(|error| error.to_string());
            clients.insert(context, client);
        }
        Self { clients }
    }

    pub(super) fn client(&self, place: &Place) -> Result<Client, ClusterError> {
        match self.clients.get(&place.context) {
            Some(Ok(client)) => Ok(client.clone()),
            Some(Err(reason)) => Err(ClusterError::NoCluster(reason.clone())),
            None => Err(ClusterError::NoCluster(format!("nothing is known of {place}"))),
        }
    }

    pub(super) fn api<K>(&self, place: &Place) -> Result<Api<K>, ClusterError>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Ok(Api::namespaced(self.client(place)?, &place.namespace))
    }

    /// Makes the nodes of a continuum that are pods, and waits until their engines and agents answer. Nodes that exist stay as they
    /// are; a pod that has ended is made anew. On failure, or when `stop` is cancelled, all that this call made is removed.
    /// `image` is for nodes for which the inventory names none. Gives what undoes the call.
    ///
    /// # Errors
    /// When a node can't be made or does not come up.
    pub async fn up(
        &self,
        continuum: &Continuum,
        authority: &Authority,
        image: &str,
        stop: &CancellationToken,
        on: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Call, ClusterError> {
        let call = Call(uuid::Uuid::now_v7().to_string());
        let work = self.make(continuum, authority, image, &call, on);
        let result = stop.run_until_cancelled(work).await.unwrap_or(Err(ClusterError::Interrupted));
        if let Err(error) = result {
            on(Step::Undoing);
            if let Err(left) = self.undo(continuum, &call).await {
                on(Step::Note(format!("not all that was made is gone: {left}")));
            }
            return Err(error);
        }
        Ok(call)
    }

    async fn make(
        &self,
        continuum: &Continuum,
        authority: &Authority,
        image: &str,
        call: &Call,
        on: &mut (dyn FnMut(Step) + Send),
    ) -> Result<(), ClusterError> {
        let mut existing = self.pods(continuum).await;
        for node in pod_nodes(continuum, image) {
            let place = Place::of(node.place);
            let known = match existing.get_mut(&place) {
                Some(Ok(known)) => known.remove(node.name),
                Some(Err(_)) => {
                    // Moved out whole: an error can't be had twice.
                    let failed = existing.remove(&place);
                    return failed.map_or(Ok(()), |failed| failed.map(drop));
                }
                None => None,
            };
            match known.map(|pod| (condition(&pod), pod)) {
                Some((found, pod)) if matches!(found.kind, Kind::Ended | Kind::Leaving) => {
                    let words =
                        if found.said.is_empty() { String::new() } else { format!(" ({})", found.said) };
                    on(Step::Note(format!(
                        "the pod of node {} has ended{words}; it is made anew",
                        node.name
                    )));
                    self.remove(&place, vec![pod]).await?;
                }
                Some(_) => continue,
                None => {}
            }
            on(Step::MakingNode(node.name.clone()));
            self.make_node(&node, authority, call, on).await?;
        }
        let names: Vec<NodeName> = pod_nodes(continuum, image).map(|node| node.name.clone()).collect();
        on(Step::WaitingFor(names));
        self.wait_until_ready(continuum, &authority.issue(&Role::Scheduler)?, image).await
    }

    async fn make_node(
        &self,
        node: &PodNode<'_>,
        authority: &Authority,
        call: &Call,
        on: &mut (dyn FnMut(Step) + Send),
    ) -> Result<(), ClusterError> {
        let place = Place::of(node.place);
        let name = node.pod_name();
        let doing = |what: &str| format!("making {what} {name} in {place}");
        if let Some(mut claim) = node.claim() {
            call.mark(&mut claim.metadata.labels);
            match self.create(&place, &claim, on).await {
                // It holds what the node had before.
                Err(Failure::Status(status)) if refusal(&status) == Refusal::Exists => {}
                made => {
                    made.map_err(|failure| failure.told(doing("claim"), &place))?;
                }
            }
        }
        let mut pod = node.pod(&call.secret(node));
        call.mark(&mut pod.metadata.labels);
        let pod = match self.create(&place, &pod, on).await {
            Err(Failure::Status(status)) if refusal(&status) == Refusal::Exists => {
                // Another call may have been faster.
                let with = ListParams::default().labels(&manifest::selector(node.continuum));
                return match self.list(&place, &with).await?.contains_key(node.name) {
                    true => Ok(()),
                    false => Err(ClusterError::Foreign { namespace: place.namespace, pod: name }),
                };
            }
            made => made.map_err(|failure| failure.told(doing("pod"), &place))?,
        };
        let credentials = authority.issue(&Role::Agent(node.name.clone()))?;
        let uid = pod.metadata.uid.unwrap_or_default();
        let files = |source| ClusterError::Files { node: node.name.clone(), source };
        let mut secret = node.secret(&call.secret(node), &credentials, &uid).map_err(files)?;
        call.mark(&mut secret.metadata.labels);
        let made = self.create(&place, &secret, on).await;
        made.map(drop).map_err(|failure| failure.told(doing("secret"), &place))
    }

    /// Makes an object; before it the namespace, where there is none.
    async fn create<K>(
        &self,
        place: &Place,
        object: &K,
        on: &mut (dyn FnMut(Step) + Send),
    ) -> Result<K, Failure>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
        let objects: Api<K> = self.api(place).map_err(Failure::Other)?;
        let began = Instant::now();
        loop {
            let status = match objects.create(&parameters, object).await {
                Ok(made) => return Ok(made),
                Err(kube::Error::Api(status)) => status,
                Err(error) => return Err(error.into()),
            };
            match refusal(&status) {
                Refusal::NoNamespace => {
                    let all: Api<Namespace> = Api::all(self.client(place).map_err(Failure::Other)?);
                    let namespace = manifest::namespace(&place.namespace);
                    match all.create(&parameters, &namespace).await {
                        Ok(_) => on(Step::Note(format!("made {place}, in which pods may be privileged"))),
                        // Somebody else was faster.
                        Err(kube::Error::Api(status)) if refusal(&status) == Refusal::Exists => {}
                        // That it is absent says more than that it can't be made.
                        Err(_) => return Err(Failure::Status(status)),
                    }
                }
                Refusal::NoAccount if began.elapsed() < ACCOUNT_WITHIN => tokio::time::sleep(PAUSE).await,
                _ => return Err(Failure::Status(status)),
            }
        }
    }

    /// Waits until all nodes answer, with one deadline for all.
    async fn wait_until_ready(
        &self,
        continuum: &Continuum,
        credentials: &Credentials,
        image: &str,
    ) -> Result<(), ClusterError> {
        let began = Instant::now();
        let mut since: BTreeMap<NodeName, (Kind, Instant)> = BTreeMap::new();
        loop {
            let mut pods = self.pods(continuum).await;
            let mut late = false;
            for node in pod_nodes(continuum, image) {
                let place = Place::of(node.place);
                if matches!(pods.get(&place), Some(Err(_))) {
                    return pods.remove(&place).map_or(Ok(()), |failed| failed.map(drop));
                }
                let pod = pods.get(&place).and_then(|known| known.as_ref().ok()?.get(node.name));
                let seen = seen::look(&node, pod, credentials).await;
                if seen.status.state == State::Ready {
                    continue;
                }
                late = true;
                let found =
                    seen.condition.unwrap_or(Condition { kind: Kind::Ended, said: NOT_UP.to_owned() });
                let (kind, moment) = since.entry(node.name.clone()).or_insert((found.kind, Instant::now()));
                if *kind != found.kind {
                    (*kind, *moment) = (found.kind, Instant::now());
                }
                let patience = match found.kind.patience() {
                    Patience::Long => READY_WITHIN,
                    Patience::Short => HOPES_FOR,
                    Patience::None => Duration::ZERO,
                };
                if moment.elapsed() >= patience || began.elapsed() >= READY_WITHIN {
                    return Err(not_ready(&node, pod, &found, began.elapsed()));
                }
            }
            if !late {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The nodes as they are: those of the inventory that are pods, then pods of this continuum that are in it no more. Of a cluster
    /// that can't be asked, nodes are shown as unknown, with the reason.
    ///
    /// # Errors
    /// When the scheduler's certificate can't be used.
    pub async fn status(
        &self,
        continuum: &Continuum,
        credentials: &Credentials,
        image: &str,
    ) -> Result<Vec<NodeStatus>, ClusterError> {
        let pods = self.pods(continuum).await;
        let looks = pod_nodes(continuum, image).map(|node| {
            let known = pods.get(&Place::of(node.place));
            async move {
                match known {
                    Some(Err(error)) => seen::unknown(&node, &error.to_string()),
                    Some(Ok(known)) => seen::look(&node, known.get(node.name), credentials).await,
                    None => seen::look(&node, None, credentials).await,
                }
            }
        });
        let mut all: Vec<NodeStatus> =
            join_all(looks).await.into_iter().map(|Seen { status, .. }| status).collect();
        let wanted: BTreeSet<_> =
            pod_nodes(continuum, image).map(|node| (Place::of(node.place), node.name)).collect();
        for (place, known) in &pods {
            let known = known.iter().flatten();
            let strays = known.filter(|(name, _)| !wanted.contains(&(place.clone(), *name)));
            all.extend(strays.map(|(name, pod)| seen::stray(name, pod, place)));
        }
        Ok(all)
    }

    /// The pods of a continuum, by place and node.
    async fn pods(&self, continuum: &Continuum) -> Pods {
        self.pods_in(&continuum.name, places(continuum)).await
    }

    pub(super) async fn pods_in(&self, continuum: &str, places: BTreeSet<Place>) -> Pods {
        let with = ListParams::default().labels(&manifest::selector(continuum));
        let lists = places.into_iter().map(|place| {
            let with = &with;
            async move {
                let pods = self.list(&place, with).await;
                (place, pods)
            }
        });
        join_all(lists).await.into_iter().collect()
    }

    async fn list(&self, place: &Place, with: &ListParams) -> Result<BTreeMap<NodeName, Pod>, ClusterError> {
        let found = self.api::<Pod>(place)?.list(with).await;
        let found = found
            .map_err(|error| Failure::from(error).told(format!("looking for pods in {place}"), place))?;
        let name = |pod: &Pod| Some(NodeName::from(pod.metadata.labels.as_ref()?.get(NODE_LABEL)?.as_str()));
        Ok(found.into_iter().filter_map(|pod| Some((name(&pod)?, pod))).collect())
    }
}

/// The pods that these nodes are, each with a client of its cluster, as far as the clusters tell.
pub async fn pods_of(continuum: &Continuum, names: &[&NodeName]) -> Vec<(Client, Pod)> {
    let nodes: Vec<_> = names.iter().filter_map(|name| continuum.nodes.get_key_value(*name)).collect();
    let place = |node: &Node| node.kubernetes.as_ref().map(Place::of);
    let places: BTreeSet<Place> = nodes.iter().filter_map(|(_, node)| place(node)).collect();
    if places.is_empty() {
        return Vec::new();
    }
    let clusters = PodNodes::of(nodes.iter().map(|(_, node)| *node)).await;
    let mut pods = clusters.pods_in(&continuum.name, places).await;
    let mut found = Vec::new();
    for (name, node) in nodes {
        let Some(place) = place(node) else { continue };
        let pod = pods.get_mut(&place).and_then(|known| known.as_mut().ok()?.remove(name));
        found.extend(clusters.client(&place).ok().zip(pod));
    }
    found
}

/// Why it is not known where an agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// It listens nowhere, in these words.
    Nowhere(String),
    /// Its cluster can't be asked, for this reason.
    Unasked(String),
}

/// Where the agents of these nodes, which are pods of `place`, listen, `host:port`, as their cluster says, or why that is not known.
pub async fn addresses(
    continuum: String,
    place: Place,
    nodes: Vec<(NodeName, Node)>,
) -> BTreeMap<NodeName, Result<String, Unknown>> {
    let clusters = PodNodes::of(nodes.iter().map(|(_, node)| node)).await;
    let with = ListParams::default().labels(&manifest::selector(&continuum));
    let pods = clusters.list(&place, &with).await;
    let address = |name: &NodeName| match &pods {
        Ok(known) => match known.get(name) {
            Some(pod) => seen::address(pod).ok_or_else(|| Unknown::Nowhere(seen::why_not(pod))),
            None => Err(Unknown::Nowhere(NOT_UP.to_owned())),
        },
        Err(error) => Err(Unknown::Unasked(error.to_string())),
    };
    nodes.iter().map(|(name, _)| (name.clone(), address(name))).collect()
}

fn not_ready(node: &PodNode<'_>, pod: Option<&Pod>, found: &Condition, waited: Duration) -> ClusterError {
    let name = node.pod_name();
    let host = pod.and_then(seen::host);
    let subject = seen::subject(node, &name, host.as_deref());
    ClusterError::NotReady {
        node: node.name.clone(),
        waited,
        said: format!("its pod {}/{name} is {}", node.place.namespace, found.words()),
        remedy: subject.remedy(found.kind).unwrap_or_default(),
    }
}

/// Names all that one call made.
#[derive(Debug, Clone)]
pub struct Call(pub(super) String);

impl Call {
    fn mark(&self, labels: &mut Option<BTreeMap<String, String>>) {
        labels.get_or_insert_default().insert(CALL_LABEL.to_owned(), self.0.clone());
    }

    /// A name of its own in each life of a node: the cluster removes that of a life before in its own time.
    fn secret(&self, node: &PodNode<'_>) -> String {
        let life = blake3::hash(self.0.as_bytes()).to_hex();
        format!("{}-{}", node.pod_name(), &life[..8])
    }
}
