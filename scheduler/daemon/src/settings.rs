//! Settings of the service, in layers: defaults, below the TOML file, below the environment.
//!
//! Variables are `STERNA__` and the key, with `__` between its parts: `STERNA__PROMETHEUS__URL`. Namespaces in
//! `STERNA__KUBERNETES__ENDPOINTS` have `,` between them. Relative paths, also those from the environment, are relative to the
//! folder of the settings file.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use sterna_policies::load::{At, Findings, Invalid, Written, toml_document};
use sterna_policies::quantity::Millis;
use thiserror::Error;

pub use self::kubernetes::Kubernetes;
use self::kubernetes::{KubernetesFile, KubernetesLayers};
pub use self::leader::Leader;
use self::leader::{LeaderFile, LeaderLayers};
pub use self::traces::Traces;
use self::traces::{TracesFile, TracesLayers};
use self::webhook::{WebhookFile, WebhookLayers};
use crate::webhook::Webhook;

mod kubernetes;
mod leader;
mod traces;
mod webhook;

const PREFIX: &str = "STERNA";
const SEPARATOR: &str = "__";
/// How often agents may be asked to probe.
const OFTENEST: Millis = Millis::from_micros(10_000_000_000);
/// How often they are where nothing else is said.
const PROBES: Millis = Millis::from_micros(60_000_000_000);

/// Settings of the service.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The inventory file.
    pub inventory: PathBuf,
    /// The policy files, at least one.
    pub policies: Vec<PathBuf>,
    /// The metrics store.
    pub prometheus: PrometheusSettings,
    /// Folder of the state; each continuum has a folder of its own in it.
    pub state: PathBuf,
    /// Where `/metrics`, `/healthz`, `/readyz` and the API are served.
    pub listen: SocketAddr,
    /// Seed of every random choice.
    pub seed: u64,
    /// Cycles after which the service ends; `None` for never.
    pub cycles: Option<u64>,
    /// File with the token that whoever changes something over the API must have; `None`: one is made in the state folder.
    pub token_file: Option<PathBuf>,
    /// Decisions of which nothing came are deleted when they are older.
    pub keep: Millis,
    /// The calibration file: what the parts of a move take on these nodes. `None`: as measured elsewhere.
    pub calibration: Option<PathBuf>,
    /// How often agents are asked how far it is to other sites and to users; `None`: never.
    pub probes: Option<Millis>,
    /// Receivers of what happens.
    pub webhooks: Vec<Webhook>,
    /// Where spans are sent; `None`: nowhere.
    pub traces: Option<Traces>,
    /// The lease by which one of several schedulers leads; `None`: this is the only one.
    pub leader: Option<Leader>,
    /// What of a cluster is kept at what happens; `None`: nothing.
    pub kubernetes: Option<Kubernetes>,
}

/// The metrics store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrometheusSettings {
    /// Its address.
    pub url: String,
    /// Longest time that one query may take.
    pub timeout: Millis,
}

/// Settings that can't be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file could not be read.
    #[error("can't read the settings file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// The file is wrong; the report says where, what, and what would be right.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// All layers together don't make settings.
    #[error("the settings of {path} with the environment (STERNA__…) are invalid: {reason}")]
    Layers {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the key.
        reason: String,
    },
}

/// Settings of the service: what to work on, where the numbers come from, where to keep state.
///
/// The file by itself is read strictly: `config`, which lays the layers on each other, turns texts into numbers and rounds
/// without a word.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Settings")]
struct SettingsFile {
    /// The inventory file.
    #[expect(dead_code, reason = "checked for its type only; the value is taken from all layers together")]
    inventory: Option<String>,
    /// The policy file.
    policy: Option<At<String>>,
    /// Several policy files, in place of one. Of those that select a service the one with the highest `priority` has it.
    policies: Option<At<Vec<String>>>,
    /// The metrics store.
    prometheus: Option<PrometheusFile>,
    /// Folder of the state. Left out: `$XDG_STATE_HOME/sterna` or `~/.local/state/sterna`.
    #[expect(dead_code, reason = "as above")]
    state: Option<String>,
    /// Where `/metrics`, `/healthz`, `/readyz` and the API are served. Left out: `127.0.0.1:7400`.
    listen: Option<At<String>>,
    /// Seed of every random choice. Left out: 0.
    #[expect(dead_code, reason = "as above")]
    seed: Option<u64>,
    /// Cycles after which the service ends. Left out: never.
    cycles: Option<At<u64>>,
    /// The API.
    #[expect(dead_code, reason = "as above")]
    api: Option<ApiFile>,
    /// What is kept of the past.
    history: Option<HistoryFile>,
    /// The calibration file that `sterna calibrate` wrote: what the parts of a move take on these nodes. Left out: moves are
    /// predicted by what was measured elsewhere.
    #[expect(dead_code, reason = "as above")]
    calibration: Option<String>,
    /// Own probes. Left out: there are none.
    probes: Option<ProbesFile>,
    /// Receivers of what happens, `[[webhook]]`. Left out: none.
    webhook: Option<Vec<WebhookFile>>,
    /// Where spans are sent. Left out: nowhere.
    traces: Option<TracesFile>,
    /// One of several schedulers leads. Left out: this is the only one.
    leader: Option<LeaderFile>,
    /// Migrations are shown as objects in a Kubernetes cluster, or services of the cluster lead to where services run. Left out:
    /// neither.
    kubernetes: Option<KubernetesFile>,
}

/// The API.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Api")]
struct ApiFile {
    /// File with the token that whoever changes something must have. Left out: one is made in the state folder at start.
    #[expect(dead_code, reason = "as above")]
    token_file: Option<String>,
}

/// What is kept of the past.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "History")]
struct HistoryFile {
    /// Older decisions are deleted, but those from which an order came or that were put up for approval. Left out: `90d`.
    keep: Option<Written<Millis>>,
}

/// Own probes: agents measure how far it is to other sites and to users.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Probes")]
struct ProbesFile {
    /// How often, `10s` at least. Left out: `1m`.
    interval: Option<Written<Millis>>,
}

/// The metrics store.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Prometheus")]
struct PrometheusFile {
    /// Its address. Left out: `http://127.0.0.1:9090`.
    url: Option<At<String>>,
    /// Longest time that one query may take. Left out: `10s`.
    timeout: Option<Written<Millis>>,
}

/// Reports what is wrong with the file by itself.
fn check(path: &Path, text: &str) -> Result<(), Invalid> {
    let name = path.to_string_lossy();
    let file: SettingsFile = toml_document(&name, text)?;
    let mut findings = Findings::new(&name, text);
    if let Some(listen) = &file.listen
        && listen.parse::<SocketAddr>().is_err()
    {
        findings
            .error("S0001", listen.span(), format!("`{}` is not an address to listen on", listen.value))
            .label("expected address and port")
            .help("write it like \"127.0.0.1:7400\", or \"0.0.0.0:7400\" for all interfaces");
    }
    if let Some(policies) = &file.policies {
        if policies.value.is_empty() {
            findings
                .error("S0006", policies.span(), "no policy is nothing to go by")
                .label("expected at least one");
        }
        if let Some(policy) = &file.policy {
            findings
                .error("S0007", policy.span(), "there are `policy` and `policies`")
                .label("this one or the others?")
                .help("put it into `policies` with the others");
        }
    }
    if let Some(cycles) = &file.cycles
        && cycles.value == 0
    {
        findings
            .error("S0002", cycles.span(), "no cycle is nothing to run for")
            .label("expected at least 1")
            .help("leave it out to run until stopped");
    }
    if let Some(keep) = file.history.as_ref().and_then(|history| history.keep.as_ref()) {
        keep.read_positive(&mut findings);
    }
    if let Some(interval) = file.probes.as_ref().and_then(|probes| probes.interval.as_ref())
        && interval.read(&mut findings).is_some_and(|read| read < OFTENEST)
    {
        findings
            .error("S0004", interval.span(), "that is too often")
            .label("expected at least \"10s\"")
            .help("a round of probes takes some seconds where a target is silent");
    }
    if let Some(prometheus) = &file.prometheus {
        if let Some(timeout) = &prometheus.timeout {
            timeout.read_positive(&mut findings);
        }
        if let Some(url) = &prometheus.url
            && !is_http(url)
        {
            findings
                .error(
                    "S0003",
                    url.span(),
                    format!("`{}` is not an address of a Prometheus server", url.value),
                )
                .label("expected http:// or https:// in front")
                .help("write it like \"http://127.0.0.1:9090\"");
        }
    }
    file.webhook.iter().flatten().for_each(|webhook| webhook.check(&mut findings));
    file.traces.iter().for_each(|traces| traces.check(&mut findings));
    file.leader.iter().for_each(|leader| leader.check(&mut findings));
    file.kubernetes.iter().for_each(|kubernetes| kubernetes.check(&mut findings));
    findings.refuse_errors().map(drop)
}

fn is_http(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Layers {
    inventory: PathBuf,
    policy: Option<PathBuf>,
    policies: Option<Vec<PathBuf>>,
    prometheus: PrometheusSettings,
    state: Option<PathBuf>,
    listen: SocketAddr,
    seed: Whole<u64>,
    cycles: Option<Whole<u64>>,
    #[serde(default)]
    api: ApiLayers,
    history: HistoryLayers,
    calibration: Option<PathBuf>,
    probes: Option<ProbesLayers>,
    #[serde(default)]
    webhook: Vec<WebhookLayers>,
    traces: Option<TracesLayers>,
    leader: Option<LeaderLayers>,
    kubernetes: Option<KubernetesLayers>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProbesLayers {
    interval: Option<Millis>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiLayers {
    token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryLayers {
    keep: Millis,
}

/// A whole number that is not rounded on the way: from the environment it comes as text.
struct Whole<T>(T);

impl<'de, T: FromStr + TryFrom<i128>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strictly<T>(PhantomData<T>);
        impl<T: FromStr + TryFrom<i128>> Visitor<'_> for Strictly<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, 0 or more")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
                T::try_from(i128::from(value))
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
                T::try_from(i128::from(value))
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }
        }
        deserializer.deserialize_any(Strictly(PhantomData)).map(Whole)
    }
}

impl Settings {
    /// Reads the settings: defaults, the file, and the process's environment.
    ///
    /// # Errors
    /// When the file can't be read or is invalid by itself, or when all layers together are.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        Self::load_with(path, std::env::vars().collect())
    }

    /// As [`Settings::load`], with `environment` for the process's.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn load_with(path: &Path, environment: Vec<(String, String)>) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::File { path: path.to_owned(), source })?;
        check(path, &text)?;

        let layers_error = |error: config::ConfigError| SettingsError::Layers {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let default_state = default_state(&environment);
        let variables = environment.into_iter().collect();
        let layers: Layers = config::Config::builder()
            .set_default("listen", "127.0.0.1:7400")
            .and_then(|builder| builder.set_default("seed", 0))
            .and_then(|builder| builder.set_default("prometheus.url", "http://127.0.0.1:9090"))
            .and_then(|builder| builder.set_default("prometheus.timeout", "10s"))
            .and_then(|builder| builder.set_default("history.keep", "90d"))
            .map_err(layers_error)?
            .add_source(config::File::from_str(&text, config::FileFormat::Toml))
            .add_source(
                config::Environment::with_prefix(PREFIX)
                    .prefix_separator(SEPARATOR)
                    .separator(SEPARATOR)
                    .source(Some(variables)),
            )
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(layers_error)?;

        let invalid =
            |reason: &str| SettingsError::Layers { path: path.to_owned(), reason: reason.to_owned() };
        if layers.prometheus.timeout < Millis::from_micros(1_000_000) {
            return Err(invalid("`prometheus.timeout` must be at least \"1ms\""));
        }
        if layers.history.keep <= Millis::ZERO {
            return Err(invalid("`history.keep` must be more than nothing"));
        }
        let probes = layers.probes.map(|probes| probes.interval.unwrap_or(PROBES));
        if probes.is_some_and(|interval| interval < OFTENEST) {
            return Err(invalid("`probes.interval` must be at least \"10s\""));
        }
        if !is_http(&layers.prometheus.url) {
            return Err(invalid("`prometheus.url` must begin with http:// or https://"));
        }
        if layers.cycles.as_ref().is_some_and(|cycles| cycles.0 == 0) {
            return Err(invalid("`cycles` must be at least 1; leave it out to run until stopped"));
        }
        let policies = match (layers.policy, layers.policies) {
            (None, None) => return Err(invalid("`policy` is missing: the file that says what is wanted")),
            (Some(_), Some(_)) => {
                return Err(invalid("there are `policy` and `policies`; name all in one of them"));
            }
            (Some(one), None) => vec![one],
            (None, Some(several)) => several,
        };
        let state = match (layers.state, default_state) {
            (Some(state), _) => state,
            (None, Some(state)) => state,
            (None, None) => return Err(invalid("neither `state`, nor HOME, nor XDG_STATE_HOME is set")),
        };
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let webhooks = layers.webhook.into_iter().map(|webhook| webhook.read(folder));
        let webhooks = webhooks.collect::<Result<_, _>>();
        let traces = layers.traces.map(TracesLayers::read).transpose().map_err(|reason| invalid(&reason))?;
        let leader = layers.leader.map(|leader| leader.read(folder)).transpose().map_err(invalid)?;
        let kubernetes =
            layers.kubernetes.map(|kubernetes| kubernetes.read(folder)).transpose().map_err(invalid)?;
        Ok(Self {
            traces,
            leader,
            kubernetes,
            webhooks: webhooks.map_err(|reason| invalid(&format!("`webhook.url`: {reason}")))?,
            inventory: folder.join(layers.inventory),
            policies: policies.into_iter().map(|policy| folder.join(policy)).collect(),
            prometheus: layers.prometheus,
            state: folder.join(state),
            listen: layers.listen,
            seed: layers.seed.0,
            cycles: layers.cycles.map(|cycles| cycles.0),
            token_file: layers.api.token_file.map(|file| folder.join(file)),
            keep: layers.history.keep,
            calibration: layers.calibration.map(|file| folder.join(file)),
            probes,
        })
    }

    /// Folder of one continuum's state.
    pub fn state_of(&self, continuum: &str) -> PathBuf {
        self.state.join(continuum)
    }

    /// Folder of one continuum's certificate authority.
    pub fn authority_of(&self, continuum: &str) -> PathBuf {
        self.state_of(continuum).join("authority")
    }
}

/// `$XDG_STATE_HOME/sterna`, or `$HOME/.local/state/sterna`.
fn default_state(environment: &[(String, String)]) -> Option<PathBuf> {
    let absolute = |name: &str| {
        environment
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| PathBuf::from(value))
            // The XDG rules have relative paths ignored.
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(base.join("sterna"))
}

#[cfg(test)]
mod tests;
