//! `[kubernetes]`: what of a cluster is kept at what happens, as it is written.

use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use sterna_policies::load::{At, Findings, is_name};

use super::Whole;

/// Objects of migrations that have ended.
const KEEP: u32 = 50;
/// So many of them can be read at each look.
const MOST: u32 = 1000;

/// What of a cluster is kept at what happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// The namespace in which migrations are shown as objects; `None`: they are not.
    pub migrations: Option<String>,
    /// The namespace in which services are declared as objects; `None`: they are not.
    pub services: Option<String>,
    /// The image of the pods that stand for these; `None`: that of nodes.
    pub stand_in_image: Option<String>,
    /// The namespaces in which services of the cluster lead straight to where services run.
    pub endpoints: Vec<String>,
    /// How many of migrations that have ended are kept.
    pub keep: u32,
    /// The kubeconfig; `None`: the pod's service account, or the usual kubeconfig.
    pub kubeconfig: Option<PathBuf>,
}

/// What of a Kubernetes cluster is kept at what happens.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Kubernetes")]
pub(super) struct KubernetesFile {
    /// The namespace in which migrations are shown as objects. Left out: they are not.
    migrations: Option<At<String>>,
    /// The namespace in which services are declared as objects `MigratableService`. Left out: they are not.
    services: Option<At<String>>,
    /// The image of the pods that stand for these, with this program at /usr/bin/sterna and a shell. Left out: that of nodes.
    stand_in_image: Option<At<String>>,
    /// Namespaces in which services with the label `sterna.io/service` and without a selector lead straight to where that service
    /// runs. Left out: none.
    endpoints: Option<Vec<At<String>>>,
    /// How many objects of migrations that have ended are kept, 1000 at most. Left out: 50.
    keep: Option<At<u32>>,
    /// The kubeconfig. Left out: the pod's service account, else `$KUBECONFIG` or `~/.kube/config`.
    #[expect(dead_code, reason = "checked for its type only; the value is taken from all layers together")]
    kubeconfig: Option<String>,
}

impl KubernetesFile {
    /// Reports what is wrong with it by itself.
    pub fn check(&self, findings: &mut Findings) {
        let endpoints = self.endpoints.iter().flatten();
        let namespaces = self.migrations.iter().chain(&self.services).chain(endpoints);
        for name in namespaces.filter(|name| !is_name(&name.value)) {
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
    #[serde(default)]
    endpoints: Names,
    keep: Option<Whole<u32>>,
    kubeconfig: Option<PathBuf>,
}

/// Names from any layer: a list in the file, `a,b` in a variable.
#[derive(Default)]
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Vec<String>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names, in a variable with `,` between them")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(text.split(',').map(|name| name.trim().to_owned()).collect())
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, names: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(names))
            }
        }
        deserializer.deserialize_any(Either).map(Names)
    }
}

impl KubernetesLayers {
    /// What it means, for settings in `folder`.
    pub fn read(self, folder: &Path) -> Result<Kubernetes, &'static str> {
        if self.migrations.is_none() && self.services.is_none() && self.endpoints.0.is_empty() {
            return Err(
                "`kubernetes.migrations`, `kubernetes.services` or `kubernetes.endpoints` is missing: the namespaces in which \
                 something is kept",
            );
        }
        if self.migrations.as_ref().is_some_and(|name| !is_name(name)) {
            return Err("`kubernetes.migrations` is no name in Kubernetes");
        }
        if self.services.as_ref().is_some_and(|name| !is_name(name)) {
            return Err("`kubernetes.services` is no name in Kubernetes");
        }
        if self.stand_in_image.as_ref().is_some_and(|image| !is_image(image)) {
            return Err("`kubernetes.stand_in_image` is not an image");
        }
        if !self.endpoints.0.iter().all(|name| is_name(name)) {
            return Err("`kubernetes.endpoints` has what is no name in Kubernetes");
        }
        let keep = self.keep.map_or(KEEP, |keep| keep.0);
        if keep > MOST {
            return Err("`kubernetes.keep` must be at most 1000");
        }
        let kubeconfig = self.kubeconfig.map(|file| folder.join(file));
        // Each is looked at once.
        let mut endpoints = self.endpoints.0;
        endpoints.sort();
        endpoints.dedup();
        Ok(Kubernetes {
            migrations: self.migrations,
            services: self.services,
            stand_in_image: self.stand_in_image,
            endpoints,
            keep,
            kubeconfig,
        })
    }
}

fn is_image(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace)
}
