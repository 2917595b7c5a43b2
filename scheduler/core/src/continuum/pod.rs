//! A node that is a pod of a Kubernetes cluster: where in the cluster it stands, and on what it keeps its files.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sterna_policies::load::{At, Findings, is_name};
use sterna_policies::quantity::Bytes;

/// The namespace of pods for which none is named.
const NAMESPACE: &str = "sterna";
/// The word for storage that goes with the pod.
const EMPTY_DIR: &str = "emptyDir";
/// Kubernetes' own bounds, of a label and of a name with dots.
const LABEL: usize = 63;
const SUBDOMAIN: usize = 253;

/// Where a node stands that is a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// The context of the kubeconfig that names the cluster; `None` for the current one, or the cluster around the scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Which nodes of the cluster it may stand on.
    pub on: ClusterNodes,
    /// On what it keeps images, services and registers.
    pub storage: Storage,
    /// Its image; `None` for the one that `sterna sites image` writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// Nodes of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterNodes {
    /// All; the cluster's scheduler picks one.
    Any,
    /// The one of this name.
    Named(String),
    /// Those with all of these labels.
    Selected(BTreeMap<String, String>),
}

/// What a pod's files lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Storage {
    /// The disk of the cluster's node; gone with the pod.
    EmptyDir,
    /// A claim for a volume of this size.
    Claim(Bytes),
}

/// A pod as files have it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Pod")]
pub struct PodFile {
    /// Context of the kubeconfig. Left out: the current one, or within a cluster that cluster.
    pub context: Option<At<String>>,
    /// Its namespace. Left out: "sterna".
    pub namespace: Option<At<String>>,
    /// The cluster's node that it is to stand on. Left out: any, or those that `selector` names.
    pub node: Option<At<String>>,
    /// Labels of the cluster's nodes that it may stand on, such as { zone = "a" }.
    #[serde(default)]
    pub selector: BTreeMap<At<String>, At<String>>,
    /// "emptyDir", or the size of a volume to be claimed, such as "20GiB". Left out: "emptyDir".
    pub storage: Option<At<String>>,
    /// An image of a registry of your own. Left out: the one that `sterna sites image` writes, which is never pulled.
    pub image: Option<At<String>>,
}

impl PodFile {
    /// Reads it; reports what can't be in a cluster.
    pub fn read(&self, findings: &mut Findings) -> Pod {
        let namespace = self.namespace.as_ref();
        checked(namespace, "namespace", is_name, "expected a-z, 0-9 and `-`, at most 63", findings);
        checked(
            self.context.as_ref(),
            "context",
            |text| !text.trim().is_empty(),
            "expected a name",
            findings,
        );
        let image = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
        checked(
            self.image.as_ref(),
            "image",
            image,
            "expected a name such as \"registry.example/node:1\"",
            findings,
        );
        Pod {
            context: self.context.as_ref().map(|context| context.value.clone()),
            namespace: namespace.map_or_else(|| NAMESPACE.to_owned(), |text| text.value.clone()),
            on: self.on(findings),
            storage: self.storage(findings),
            image: self.image.as_ref().map(|image| image.value.clone()),
        }
    }

    fn on(&self, findings: &mut Findings) -> ClusterNodes {
        checked(
            self.node.as_ref(),
            "node of a cluster",
            is_subdomain,
            "expected a name that `kubectl get nodes` prints",
            findings,
        );
        for (key, value) in &self.selector {
            let expected = "expected a label such as \"topology.kubernetes.io/zone\"";
            checked(Some(key), "label's name", is_label_key, expected, findings);
            checked(
                Some(value),
                "label's value",
                is_label_value,
                "expected at most 63 of a-z, A-Z, 0-9, `-`, `_` and `.`",
                findings,
            );
        }
        match (&self.node, self.selector.keys().next()) {
            (Some(node), Some(label)) => {
                findings
                    .error("I0020", label.span(), "a pod's place is given twice")
                    .label("by labels")
                    .also(node.span(), "and by name")
                    .help("keep one of `node` and `selector`");
                ClusterNodes::Any
            }
            (Some(node), None) => ClusterNodes::Named(node.value.clone()),
            (None, Some(_)) => {
                let label =
                    |(key, value): (&At<String>, &At<String>)| (key.value.clone(), value.value.clone());
                ClusterNodes::Selected(self.selector.iter().map(label).collect())
            }
            (None, None) => ClusterNodes::Any,
        }
    }

    fn storage(&self, findings: &mut Findings) -> Storage {
        let Some(text) = self.storage.as_ref().filter(|text| text.value != EMPTY_DIR) else {
            return Storage::EmptyDir;
        };
        match text.parse::<Bytes>() {
            Ok(size) if size > Bytes(0) => Storage::Claim(size),
            _ => {
                findings
                    .error("I0021", text.span(), format!("`{}` is no storage of a pod", text.value))
                    .label("expected \"emptyDir\" or a size such as \"20GiB\"");
                Storage::EmptyDir
            }
        }
    }
}

fn checked(
    text: Option<&At<String>>,
    what: &str,
    possible: impl Fn(&str) -> bool,
    expected: &str,
    findings: &mut Findings,
) {
    if let Some(text) = text.filter(|text| !possible(text)) {
        findings
            .error("I0021", text.span(), format!("Kubernetes has no {what} `{}`", text.value))
            .label(expected);
    }
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN && text.split('.').all(is_name)
}

fn is_label_value(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= LABEL
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn is_label_key(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(is_subdomain) && !name.is_empty() && is_label_value(name)
}
