//! Removing the nodes of a continuum that are pods.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use sterna_core::continuum::Continuum;

use super::ClusterError;
use super::cluster::{Call, PAUSE, PodNodes};
use super::failure::Failure;
use super::manifest;
use super::place::{Place, places};
use crate::platform::docker::{CALL_LABEL, NODE_LABEL};

/// How long what is removed may take to go: a pod's own time and some for the cluster.
const GOES_WITHIN: Duration = Duration::from_secs(75);

impl PodNodes {
    /// Removes the nodes of a continuum with all that they have, and waits until they are gone. Namespaces stay. Gives the names of
    /// what was removed; nothing to remove is fine.
    ///
    /// # Errors
    /// When something can't be removed, or does not go.
    pub async fn down(&self, continuum: &Continuum) -> Result<Vec<String>, ClusterError> {
        self.remove_labelled(continuum, &manifest::selector(&continuum.name)).await
    }

    /// Removes what a call made.
    ///
    /// # Errors
    /// As [`PodNodes::down`].
    pub async fn undo(&self, continuum: &Continuum, call: &Call) -> Result<Vec<String>, ClusterError> {
        self.remove_labelled(continuum, &format!("{CALL_LABEL}={}", call.0)).await
    }

    async fn remove_labelled(
        &self,
        continuum: &Continuum,
        selector: &str,
    ) -> Result<Vec<String>, ClusterError> {
        let mut removed = Vec::new();
        let with = ListParams::default().labels(selector);
        for place in places(continuum) {
            let doing = |what: &str| format!("looking for {what} in {place}");
            let pods = self.api::<Pod>(&place)?.list(&with).await;
            let pods = pods.map_err(|error| Failure::from(error).told(doing("pods"), &place))?.items;
            removed.extend(self.remove(&place, pods).await?);
            let claims: Api<PersistentVolumeClaim> = self.api(&place)?;
            let found = claims.list(&with).await;
            let found = found.map_err(|error| Failure::from(error).told(doing("claims"), &place))?.items;
            removed.extend(remove_all(&claims, &place, "claim", &found).await?);
        }
        Ok(removed)
    }

    /// Removes these pods, waits until they are gone, and removes what they were given.
    pub(super) async fn remove(&self, place: &Place, pods: Vec<Pod>) -> Result<Vec<String>, ClusterError> {
        let mut removed = remove_all(&self.api(place)?, place, "pod", &pods).await?;
        let secrets: Api<Secret> = self.api(place)?;
        // The cluster does that too, in its own time, if it has a controller manager.
        for name in pods.iter().flat_map(manifest::secrets_of) {
            delete(&secrets, place, "secret", name, &DeleteParams::default()).await?;
            removed.push(format!("secret {}/{name}", place.namespace));
        }
        Ok(removed)
    }
}

/// Removes these and waits until they are gone; gives their names.
async fn remove_all<K>(
    api: &Api<K>,
    place: &Place,
    what: &str,
    all: &[K],
) -> Result<Vec<String>, ClusterError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let (mut removed, mut leaving) = (Vec::new(), BTreeSet::new());
    for one in all {
        let name = one.meta().name.clone().unwrap_or_default();
        let uid = one.meta().uid.clone();
        // Not one that was made under this name meanwhile.
        let same = Preconditions { uid: uid.clone(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(same), ..Default::default() };
        delete(api, place, what, &name, &parameters).await?;
        removed.push(format!("{what} {}/{name}", place.namespace));
        leaving.insert(uid);
    }
    let began = Instant::now();
    while !leaving.is_empty() {
        let left = api.list(&ListParams::default().labels(NODE_LABEL)).await;
        let doing = format!("waiting for the end of each {what} in {place}");
        let left = left.map_err(|error| Failure::from(error).told(doing, place))?;
        let Some(late) = left.items.iter().find(|one| leaving.contains(&one.meta().uid)) else { break };
        if began.elapsed() >= GOES_WITHIN {
            let name = late.meta().name.clone().unwrap_or_default();
            let what = format!("{what} {}/{name}", place.namespace);
            return Err(ClusterError::StillThere { what, waited: began.elapsed() });
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(removed)
}

/// Deletes it; one that is gone is fine.
async fn delete<K>(
    api: &Api<K>,
    place: &Place,
    what: &str,
    name: &str,
    parameters: &DeleteParams,
) -> Result<(), ClusterError>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    match api.delete(name, parameters).await {
        Ok(_) => Ok(()),
        // It is gone, or another one has its name.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(Failure::from(error).told(format!("removing {what} {name} from {place}"), place)),
    }
}
