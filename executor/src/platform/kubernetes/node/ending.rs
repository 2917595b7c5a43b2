//! What proves that a pod has ended, with all that ran in it.
//!
//! A pod that is absent proves nothing: it may have been deleted by force, or by the cluster's own clearing up after a node that
//! is out of sight, while it runs on. What proves its end is what its kubelet said last: the pod is at its final phase, and each
//! of its containers has ended. A kubelet says so before the pod is taken out of the API server, and a watch shows it; where
//! nobody watched, there is no proof, and a person has to say that the node is gone.
//!
//! A finalizer would keep the pod until somebody has looked. It would also keep `kubectl drain`, the removal of the namespace
//! and `sites down` waiting for as long as no scheduler runs, and take the right to change pods; so there is none.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus, Volume};
use sterna_core::continuum::NodeName;
use thiserror::Error;

use crate::migration::pod_end::PodEnd;
use crate::platform::docker::NODE_LABEL;

/// Why a pod is not known to have ended for good.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unproven {
    /// It is no node's, or is not whole.
    #[error("it is no node's pod")]
    Foreign,
    /// It is not at its final phase: it may run, or was deleted by force while it did.
    #[error("its kubelet did not say that it has ended")]
    NotEnded,
    /// The cluster gave it up, with its node or after it.
    #[error("the cluster gave it up without an answer of its node ({0})")]
    GivenUp(String),
    /// Its kubelet did not say of each container how it ended.
    #[error("its kubelet did not say how container {0} ended")]
    Container(String),
    /// It has a volume that outlasts it: the register in there may come back with another pod.
    #[error("its volume {0} outlasts it, and the node's register with that")]
    Kept(String),
}

/// The end of that pod, seen at a moment, or why it is not proven.
///
/// # Errors
/// As said.
pub fn ending(pod: &Pod, seen: Timestamp) -> Result<PodEnd, Unproven> {
    let metadata = &pod.metadata;
    let node = metadata.labels.as_ref().and_then(|labels| labels.get(NODE_LABEL)).ok_or(Unproven::Foreign)?;
    let (Some(uid), Some(name), Some(spec), Some(status)) =
        (&metadata.uid, &metadata.name, &pod.spec, &pod.status)
    else {
        return Err(Unproven::Foreign);
    };
    if !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return Err(Unproven::NotEnded);
    }
    if let Some(why) = given_up(status) {
        return Err(Unproven::GivenUp(why));
    }
    let mut last: Option<(Timestamp, String)> = None;
    for container in &spec.containers {
        let (at, said) =
            end_of(status, &container.name).ok_or_else(|| Unproven::Container(container.name.clone()))?;
        if last.as_ref().is_none_or(|(before, _)| *before < at) {
            last = Some((at, said));
        }
    }
    let (ended, how) = last.ok_or(Unproven::Foreign)?;
    if let Some(kept) = spec.volumes.iter().flatten().find(|volume| !goes_with_the_pod(volume)) {
        return Err(Unproven::Kept(kept.name.clone()));
    }
    let said = match status.reason.as_deref() {
        Some(reason) => format!("{reason}: {how}"),
        None => how,
    };
    Ok(PodEnd {
        node: NodeName::from(node.as_str()),
        uid: uid.clone(),
        namespace: metadata.namespace.clone().unwrap_or_default(),
        pod: name.clone(),
        host: spec.node_name.clone(),
        said,
        ended,
        seen,
    })
}

/// Whether somebody other than its kubelet brought it to its final phase.
fn given_up(status: &PodStatus) -> Option<String> {
    let lost = status.reason.as_deref().filter(|reason| *reason == "NodeLost");
    // What is left of pods whose node is gone is cleared up without asking it.
    let collected = status.conditions.iter().flatten().find(|one| {
        one.type_ == "DisruptionTarget"
            && one.status == "True"
            && one.reason.as_deref() == Some("DeletionByPodGC")
    });
    lost.map(str::to_owned).or_else(|| collected?.reason.clone())
}

/// When and how a container ended. Of one that it can't find, a kubelet says that it ended all the same.
fn end_of(status: &PodStatus, name: &str) -> Option<(Timestamp, String)> {
    let all: Vec<&ContainerStatus> =
        status.container_statuses.iter().flatten().filter(|one| one.name == name).collect();
    let [container] = all[..] else { return None };
    let state = container.state.as_ref()?;
    let ended = state.terminated.as_ref().filter(|_| state.running.is_none() && state.waiting.is_none())?;
    let reason = ended.reason.as_deref().unwrap_or("no reason");
    let at = ended.finished_at.as_ref()?.0;
    let known = reason != "ContainerStatusUnknown" && ended.container_id.is_some();
    known.then(|| (at, format!("{reason}, status {}", ended.exit_code)))
}

/// Whether nothing of a volume is left once its pod has ended, or nothing that an agent writes is in it.
fn goes_with_the_pod(volume: &Volume) -> bool {
    volume.empty_dir.is_some()
        || volume.secret.is_some()
        || volume.config_map.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
}

#[cfg(test)]
mod tests;
