//! `[kubernetes]`: where migrations are shown as objects, and services declared, as it is written.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use sterna_policies::load::{At, Findings, is_name};

use super::Whole;

/// Objects of migrations that have ended.
const KEEP: u32 = 50;
/// So many of them can be read at each look.
const MOST: u32 = 1000;

/// What is kept in a Kubernetes cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// The namespace in which migrations are shown as objects.
    pub migrations: Option<String>,
    /// The namespace in which services are declared as objects.
    pub services: Option<String>,
    /// The image of the pods that stand for them; `None`: that of nodes.
    pub stand_in_image: Option<String>,
    /// How many of migrations that have ended are kept.
    pub keep: u32,
    /// The kubeconfig; `None`: the pod's service account, or the usual kubeconfig.
    pub kubeconfig: Option<PathBuf>,
}

/// Migrations are shown as objects in a Kubernetes cluster, and services declared.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Kubernetes")]
pub(super) struct KubernetesFile {
    /// The namespace in which migrations are shown as objects. Left out: none are.
    migrations: Option<At<String>>,
    /// The namespace in which services are declared as objects `MigratableService`. Left out: none are.
    services: Option<At<String>>,
    /// The image of the pods that stand for such services, with this program at /usr/bin/sterna and a shell. Left out: the image of
    /// nodes.
    stand_in_image: Option<At<String>>,
    /// How many objects of migrations that have ended are kept, 1000 at most. Left out: 50.
    keep: Option<At<u32>>,
    /// The kubeconfig. Left out: the pod's service account, else `$KUBECONFIG` or `~/.kube/config`.
    #[expect(dead_code, reason = "checked for its type only; the value is taken from all layers together")]
    kubeconfig: Option<String>,
}

impl KubernetesFile {
    /// Reports what is wrong with it by itself.
    pub fn check(&self, findings: &mut Findings) {
        for name in self.migrations.iter().chain(&self.services).filter(|name| !is_name(&name.value)) {
            findings
                .error("S0027", name.span(), format!("Kubernetes has no such name as `{}`", name.value))
                .label("expected lower-case letters, digits and `-`");
        }
        if let Some(image) = self.stand_in_image.as_ref().filter(|image| !is_image(&image.value)) {
            findings
                .error("S0029", image.span(), format!("`{}` is not an image", image.value))
                .label("expected a name such as \"registry.example/sterna:1\"");
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
    services: Option<String>,
    stand_in_image: Option<String>,
    keep: Option<Whole<u32>>,
    kubeconfig: Option<PathBuf>,
}

impl KubernetesLayers {
    /// What it means, for settings in `folder`.
    pub fn read(self, folder: &Path) -> Result<Kubernetes, &'static str> {
        if self.migrations.is_none() && self.services.is_none() {
            return Err(
                "`kubernetes.migrations` and `kubernetes.services` are both missing: the namespaces in which these are objects",
            );
        }
        if self.migrations.iter().any(|name| !is_name(name)) {
            return Err("`kubernetes.migrations` is no name in Kubernetes");
        }
        if self.services.iter().any(|name| !is_name(name)) {
            return Err("`kubernetes.services` is no name in Kubernetes");
        }
        if self.stand_in_image.iter().any(|image| !is_image(image)) {
            return Err("`kubernetes.stand_in_image` is not an image");
        }
        let keep = self.keep.map_or(KEEP, |keep| keep.0);
        if keep > MOST {
            return Err("`kubernetes.keep` must be at most 1000");
        }
        Ok(Kubernetes {
            migrations: self.migrations,
            services: self.services,
            stand_in_image: self.stand_in_image,
            keep,
            kubeconfig: self.kubeconfig.map(|file| folder.join(file)),
        })
    }
}

fn is_image(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace)
}
