//! `[kubernetes]`: where migrations are shown as objects, as it is written.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use sterna_policies::load::{At, Findings, is_name};

use super::Whole;

/// Objects of migrations that have ended.
const KEEP: u32 = 50;
/// So many of them can be read at each look.
const MOST: u32 = 1000;

/// Where migrations are shown as objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// The namespace of the objects.
    pub migrations: String,
    /// How many of migrations that have ended are kept.
    pub keep: u32,
    /// The kubeconfig; `None`: the pod's service account, or the usual kubeconfig.
    pub kubeconfig: Option<PathBuf>,
}

/// Migrations are shown as objects in a Kubernetes cluster.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Kubernetes")]
pub(super) struct KubernetesFile {
    /// The namespace of the objects.
    migrations: Option<At<String>>,
    /// How many objects of migrations that have ended are kept, 1000 at most. Left out: 50.
    keep: Option<At<u32>>,
    /// The kubeconfig. Left out: the pod's service account, else `$KUBECONFIG` or `~/.kube/config`.
    #[expect(dead_code, reason = "checked for its type only; the value is taken from all layers together")]
    kubeconfig: Option<String>,
}

impl KubernetesFile {
    /// Reports what is wrong with it by itself.
    pub fn check(&self, findings: &mut Findings) {
        if let Some(name) = self.migrations.as_ref().filter(|name| !is_name(&name.value)) {
            findings
                .error("S0027", name.span(), format!("Kubernetes has no such name as `{}`", name.value))
                .label("expected lower-case letters, digits and `-`");
        }
        if let Some(keep) = self.keep.as_ref().filter(|keep| keep.value > MOST) {
            findings
                .error("S0028", keep.span(), "that is too many")
                .label("expected 1000 at most")
                .help("all of them are read at each look; `sterna history` keeps all migrations");
        }
    }
}

/// The same from all layers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KubernetesLayers {
    migrations: Option<String>,
    keep: Option<Whole<u32>>,
    kubeconfig: Option<PathBuf>,
}

impl KubernetesLayers {
    /// What it means, for settings in `folder`.
    pub fn read(self, folder: &Path) -> Result<Kubernetes, &'static str> {
        let Some(migrations) = self.migrations else {
            return Err("`kubernetes.migrations` is missing: the namespace in which migrations are shown");
        };
        if !is_name(&migrations) {
            return Err("`kubernetes.migrations` is no name in Kubernetes");
        }
        let keep = self.keep.map_or(KEEP, |keep| keep.0);
        if keep > MOST {
            return Err("`kubernetes.keep` must be at most 1000");
        }
        Ok(Kubernetes { migrations, keep, kubeconfig: self.kubeconfig.map(|file| folder.join(file)) })
    }
}
