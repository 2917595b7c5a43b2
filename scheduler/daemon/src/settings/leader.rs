//! `[leader]`: the lease by which one of several schedulers leads, as it is written.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use sterna_policies::load::{At, Findings, Written, is_name};
use sterna_policies::quantity::Millis;

/// The shortest term: a leader that does not hear of the API server for two thirds of it ends.
const SHORTEST: Millis = Millis::from_micros(3_000_000_000);
const TERM: Millis = Millis::from_micros(15_000_000_000);
const NAME: &str = "sterna";

/// The lease by which one of several schedulers leads.
#[derive(Debug, Clone, PartialEq)]
pub struct Leader {
    /// Its name.
    pub lease: String,
    /// Its namespace; `None`: that of the pod, or of the kubeconfig's context.
    pub namespace: Option<String>,
    /// The kubeconfig; `None`: the pod's service account, or the usual kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// How long a leader may be silent before another one leads.
    pub term: Millis,
}

/// One of several schedulers leads, by a Lease in Kubernetes; the others wait.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Leader")]
pub(super) struct LeaderFile {
    /// Name of the Lease. Left out: `sterna`.
    lease: Option<At<String>>,
    /// Its namespace. Left out: that of the pod, or of the kubeconfig's context.
    namespace: Option<At<String>>,
    /// The kubeconfig. Left out: the pod's service account, else `$KUBECONFIG` or `~/.kube/config`.
    #[expect(dead_code, reason = "checked for its type only; the value is taken from all layers together")]
    kubeconfig: Option<String>,
    /// How long a leader may be silent before another one leads, `3s` at least. Left out: `15s`.
    term: Option<Written<Millis>>,
}

impl LeaderFile {
    /// Reports what is wrong with it by itself.
    pub fn check(&self, findings: &mut Findings) {
        for name in [&self.lease, &self.namespace].into_iter().flatten().filter(|name| !is_name(&name.value))
        {
            findings
                .error("S0025", name.span(), format!("Kubernetes has no such name as `{}`", name.value))
                .label("expected lower-case letters, digits and `-`");
        }
        if let Some(term) = &self.term
            && term.read(findings).is_some_and(|read| read < SHORTEST)
        {
            findings
                .error("S0026", term.span(), "that is too short")
                .label("expected at least \"3s\"")
                .help("a leader that does not reach the API server for two thirds of it ends");
        }
    }
}

/// The same from all layers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LeaderLayers {
    lease: Option<String>,
    namespace: Option<String>,
    kubeconfig: Option<PathBuf>,
    term: Option<Millis>,
}

impl LeaderLayers {
    /// What it means, for settings in `folder`.
    pub fn read(self, folder: &Path) -> Result<Leader, &'static str> {
        let lease = self.lease.unwrap_or_else(|| NAME.to_owned());
        if !is_name(&lease) {
            return Err("`leader.lease` is no name in Kubernetes");
        }
        if self.namespace.as_ref().is_some_and(|namespace| !is_name(namespace)) {
            return Err("`leader.namespace` is no name in Kubernetes");
        }
        let term = self.term.unwrap_or(TERM);
        if term < SHORTEST {
            return Err("`leader.term` must be at least \"3s\"");
        }
        let kubeconfig = self.kubeconfig.map(|file| folder.join(file));
        Ok(Leader { lease, namespace: self.namespace, kubeconfig, term })
    }
}
