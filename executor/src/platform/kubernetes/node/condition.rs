//! What the cluster says of a pod, or refuses, and what is to be done then. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kube::core::Status;

use super::manifest::CONTAINER;
use crate::platform::status::State;

/// How a pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// In one word.
    pub kind: Kind,
    /// In the cluster's words; empty where it says nothing.
    pub said: String,
}

/// How a pod is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No node of the cluster was picked yet.
    Scheduling,
    /// There is none that it could stand on.
    Unschedulable,
    /// Its node makes it ready.
    Making,
    /// Its image is not on its node and is not to be pulled.
    ImageAbsent,
    /// Its image can't be pulled.
    ImageUnpulled,
    /// What it is to run can't be an image.
    ImageInvalid,
    /// Its container can't be made.
    Unmade,
    /// Its container ends again and again.
    Crashing,
    /// It runs.
    Running,
    /// Its node does not answer the cluster.
    OutOfSight,
    /// It has ended for good, or was ended by its node.
    Ended,
    /// It is being removed.
    Leaving,
}

/// How long to wait for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It comes by itself, as a rule.
    Long,
    /// Something may yet help: another pod that goes, a node that comes.
    Short,
    /// It does not come.
    None,
}

impl Kind {
    /// What `status` shows of a pod whose agent does not answer.
    pub fn state(self) -> State {
        match self {
            Self::Scheduling | Self::Making | Self::Running => State::Starting,
            Self::Ended | Self::Leaving => State::Stopped,
            Self::OutOfSight => State::Unknown,
            Self::Unschedulable
            | Self::ImageAbsent
            | Self::ImageUnpulled
            | Self::ImageInvalid
            | Self::Unmade
            | Self::Crashing => State::Stuck,
        }
    }

    /// How long to wait for another one.
    pub fn patience(self) -> Patience {
        match self {
            Self::Scheduling | Self::Making | Self::Running | Self::Leaving => Patience::Long,
            Self::Unschedulable | Self::ImageUnpulled | Self::Unmade | Self::Crashing | Self::OutOfSight => {
                Patience::Short
            }
            Self::ImageAbsent | Self::ImageInvalid | Self::Ended => Patience::None,
        }
    }
}

impl Condition {
    /// How it is, in words, and what the cluster says.
    pub fn words(&self) -> String {
        let words = match self.kind {
            Kind::Scheduling => "waiting for a node of the cluster",
            Kind::Unschedulable => "on no node of the cluster, since it fits on none",
            Kind::Making => "being made ready by its node of the cluster",
            Kind::ImageAbsent => "without its image, which is not on its node of the cluster",
            Kind::ImageUnpulled => "without its image, which can't be pulled",
            Kind::ImageInvalid => "without an image: what it is to run can't be one",
            Kind::Unmade => "without a container, which can't be made",
            Kind::Crashing => "ending again and again",
            Kind::Running => "running",
            Kind::OutOfSight => "out of the cluster's sight",
            Kind::Ended => "ended",
            Kind::Leaving => "being removed",
        };
        match self.said.as_str() {
            "" => words.to_owned(),
            said => format!("{words}: {said}"),
        }
    }
}

/// How that pod is.
pub fn condition(pod: &Pod) -> Condition {
    let status = pod.status.clone().unwrap_or_default();
    let said = |kind, said: Option<String>| Condition { kind, said: said.unwrap_or_default() };
    if pod.metadata.deletion_timestamp.is_some() {
        return said(Kind::Leaving, None);
    }
    match status.phase.as_deref() {
        Some("Failed" | "Succeeded") => return said(Kind::Ended, ended(&status)),
        Some("Unknown") => return said(Kind::OutOfSight, status.message),
        _ => {}
    }
    let conditions = status.conditions.iter().flatten();
    // Set by the cluster when the node is gone from its sight; the pod may well run.
    let lost = conditions.clone().find(|one| {
        one.type_ == "Ready" && one.status == "False" && status.reason.as_deref() == Some("NodeLost")
    });
    if lost.is_some() {
        return said(Kind::OutOfSight, status.message);
    }
    let container = status.container_statuses.iter().flatten().find(|one| one.name == CONTAINER);
    if let Some(container) = container {
        return of_container(container);
    }
    let mut scheduled = conditions.filter(|one| one.type_ == "PodScheduled");
    match scheduled.next() {
        Some(one) if one.status == "False" => {
            said(Kind::Unschedulable, one.message.clone().or_else(|| one.reason.clone()))
        }
        Some(_) => said(Kind::Making, None),
        None => said(Kind::Scheduling, None),
    }
}

fn ended(status: &PodStatus) -> Option<String> {
    let words: Vec<&str> =
        [&status.reason, &status.message].into_iter().flatten().map(|text| text.trim()).collect();
    (!words.is_empty()).then(|| words.join(": "))
}

fn of_container(container: &ContainerStatus) -> Condition {
    let state = container.state.as_ref();
    if state.is_some_and(|state| state.running.is_some()) {
        return Condition { kind: Kind::Running, said: String::new() };
    }
    let waiting = state.and_then(|state| state.waiting.clone()).unwrap_or_default();
    let reason = waiting.reason.unwrap_or_default();
    let kind = match reason.as_str() {
        "ErrImageNeverPull" => Kind::ImageAbsent,
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "SignatureValidationFailed" => {
            Kind::ImageUnpulled
        }
        "InvalidImageName" => Kind::ImageInvalid,
        "CreateContainerError"
        | "CreateContainerConfigError"
        | "RunContainerError"
        | "PreCreateHookError"
        | "PreStartHookError"
        | "PostStartHookError" => Kind::Unmade,
        "CrashLoopBackOff" => Kind::Crashing,
        _ if state.is_some_and(|state| state.terminated.is_some()) => Kind::Crashing,
        _ => Kind::Making,
    };
    let mut said = match (waiting.message.as_deref().map(str::trim), reason.as_str()) {
        (_, "" | "ContainerCreating" | "PodInitializing") => String::new(),
        (None | Some(""), reason) => reason.to_owned(),
        (Some(message), reason) => format!("{reason}: {message}"),
    };
    if kind == Kind::Crashing {
        let ended = |state: Option<&k8s_openapi::api::core::v1::ContainerState>| {
            state.and_then(|state| state.terminated.clone())
        };
        if let Some(last) = ended(state).or_else(|| ended(container.last_state.as_ref())) {
            let words = last.message.unwrap_or_default();
            let words = words.trim();
            let reason = last.reason.unwrap_or_else(|| "Error".to_owned());
            said = format!("it ended with status {} ({reason})", last.exit_code);
            if !words.is_empty() {
                said.push_str("; its last words:\n");
                said.push_str(words);
            }
        }
    }
    Condition { kind, said }
}

/// What speaks of one pod, for advice.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The context that names its cluster.
    pub context: Option<&'a str>,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub pod: &'a str,
    /// Its image.
    pub image: &'a str,
    /// The node of the cluster that it was given, where it was.
    pub host: Option<&'a str>,
}

impl Subject<'_> {
    fn kubectl(&self, rest: &str) -> String {
        let context = self.context.map(|context| format!(" --context {context}")).unwrap_or_default();
        format!("`kubectl{context} -n {} {rest}`", self.namespace)
    }

    fn host(&self) -> String {
        self.host.map_or_else(|| "its node of the cluster".to_owned(), |host| format!("`{host}`"))
    }

    /// What to do about how it is; nothing where waiting is all.
    pub fn remedy(&self, kind: Kind) -> Option<String> {
        let pod = self.pod;
        Some(match kind {
            Kind::Scheduling => {
                format!(
                    "Does a scheduler run in the cluster? {} tells more.",
                    self.kubectl(&format!("describe pod {pod}"))
                )
            }
            Kind::Unschedulable => format!(
                "Give the node less `cpu` or `memory` in the inventory, another `node` or `selector`, or make room in the \
                 cluster; a pod asks for all that its node has, and half its memory more for checkpoints. \
                 `kubectl get nodes` shows the nodes and {} the rest.",
                self.kubectl(&format!("describe pod {pod}"))
            ),
            Kind::Making | Kind::Unmade => {
                format!("{} tells what it waits for.", self.kubectl(&format!("describe pod {pod}")))
            }
            Kind::ImageAbsent => format!(
                "Load the image on {}: `sterna sites image --out node.tar` writes it, and there `ctr -n k8s.io images import \
                 node.tar` takes it in (K3s, RKE2: put the file into `agent/images` below their data folder, or `k3s ctr images import`). Or \
                 push it to a registry of yours and name it there: `kubernetes = {{ image = \"registry.example/sterna-node:1\" }}`.",
                self.host()
            ),
            Kind::ImageUnpulled => format!(
                "Is `{}` in that registry, can {} reach it, and does the namespace's default service account have the \
                 `imagePullSecrets` that it needs?",
                self.image,
                self.host()
            ),
            Kind::ImageInvalid => "Mend `image` in the inventory.".to_owned(),
            Kind::Crashing => {
                format!("{} prints all that it said.", self.kubectl(&format!("logs --previous {pod}")))
            }
            Kind::Running => format!(
                "Its agent does not answer over TLS. {} prints what it says; can this host reach addresses of pods? Without \
                 that, run Sterna in the cluster or route to its pods.",
                self.kubectl(&format!("logs {pod}"))
            ),
            Kind::OutOfSight => {
                format!(
                    "Does {} run? Its services may: `sterna fence` is for when it is gone for good.",
                    self.host()
                )
            }
            Kind::Ended => "`sterna sites up` makes it anew; what ran in it is gone.".to_owned(),
            Kind::Leaving => return None,
        })
    }
}

/// Why the API server did not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Pod Security forbids privileged pods in the namespace.
    PodSecurity,
    /// A quota of the namespace is used up, or wants what is not said.
    Quota,
    /// A limit range of the namespace.
    LimitRange,
    /// Nothing may be privileged in this cluster.
    NoPrivilege,
    /// The namespace is on its way out.
    Terminating,
    /// There is no such namespace.
    NoNamespace,
    /// The namespace has no account for pods yet.
    NoAccount,
    /// An admission webhook says no.
    Webhook,
    /// Whoever asks may not.
    Forbidden,
    /// Whoever asks is not known.
    Unauthorized,
    /// There is one of that name.
    Exists,
    /// Anything else.
    Other,
}

/// What a status of the API server means.
pub fn refusal(status: &Status) -> Refusal {
    let says = |words: &str| status.message.contains(words);
    match status.code {
        401 => Refusal::Unauthorized,
        404 if status.details.as_ref().is_some_and(|details| details.kind == "namespaces") => {
            Refusal::NoNamespace
        }
        409 if status.reason == "AlreadyExists" => Refusal::Exists,
        403 if says("violates PodSecurity") => Refusal::PodSecurity,
        403 if says("exceeded quota") || says("failed quota") => Refusal::Quota,
        403 if says("error looking up service account") => Refusal::NoAccount,
        403 if says("because it is being terminated") => Refusal::Terminating,
        403 if says(" per Container is ") || says(" per Pod is ") => Refusal::LimitRange,
        403 if says("User \"") && says(" cannot ") => Refusal::Forbidden,
        422 if says("privileged: Forbidden") => Refusal::NoPrivilege,
        _ if says("admission webhook ") || says("ValidatingAdmissionPolicy ") => Refusal::Webhook,
        403 => Refusal::Forbidden,
        _ => Refusal::Other,
    }
}

impl Refusal {
    /// What to do about it in that namespace.
    pub fn remedy(self, context: Option<&str>, namespace: &str) -> String {
        let kubectl =
            format!("kubectl{}", context.map(|context| format!(" --context {context}")).unwrap_or_default());
        match self {
            Self::PodSecurity => format!(
                "A node is a privileged pod. Allow that where nodes are to be, and nothing else is: `{kubectl} label namespace \
                 {namespace} pod-security.kubernetes.io/enforce=privileged --overwrite`, or give the nodes a `namespace` of \
                 their own in the inventory."
            ),
            Self::Quota => format!(
                "`{kubectl} -n {namespace} describe quota` shows what is used. Raise it, give the nodes less `cpu` or `memory` \
                 in the inventory, or another `namespace`."
            ),
            Self::LimitRange => format!(
                "`{kubectl} -n {namespace} describe limitrange` shows the bounds. Give the nodes less `cpu` or `memory` in the \
                 inventory, or another `namespace`."
            ),
            Self::NoPrivilege => {
                "The API server must run with --allow-privileged=true: a node is a privileged pod.".to_owned()
            }
            Self::Terminating => "Wait until it is gone, and try again.".to_owned(),
            Self::NoNamespace => format!(
                "Make it: `{kubectl} create namespace {namespace}`, and `{kubectl} label namespace {namespace} \
                 pod-security.kubernetes.io/enforce=privileged`."
            ),
            Self::NoAccount => format!(
                "Does the cluster's controller manager run? It makes the account `default` of {namespace}."
            ),
            Self::Webhook => "Ask whoever runs the cluster to let privileged pods of Sterna through there.".to_owned(),
            Self::Forbidden => format!(
                "`sterna rbac --nodes {namespace} --mode act` prints what it takes; whoever runs the cluster applies that. \
                 `--mode observe` is what `sterna run` and `sterna sites status` need."
            ),
            Self::Unauthorized => {
                "The kubeconfig's user is not known there, or its token has run out: ask whoever runs the cluster for another."
                    .to_owned()
            }
            Self::Exists | Self::Other => {
                format!("`{kubectl} -n {namespace} get pods,secrets,pvc` shows what is there.")
            }
        }
    }
}

#[cfg(test)]
mod tests;
