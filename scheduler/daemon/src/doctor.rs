//! Whether a policy's metrics are there, and what to do where they are not.
//!
//! The values are those that a decision would get: they are observed in the same way. Beside them each source is asked for
//! itself, so that a broken fallback is found before it is needed, and where something is missing the series behind the query
//! are [looked at](advice).
//!
//! | module | what lives there |
//! |---|---|
//! | [`advice`] | what is wrong with a source, from the series behind it, and how to mend it |

use jiff::Timestamp;
use serde::Serialize;
use sterna_core::continuum::{Continuum, NodeName, SiteName, UsersName};
use sterna_core::observation::{Observation, Source};
use sterna_core::placement::numbers::needed;
use sterna_executor::fleet::FleetView;
use sterna_executor::platform::kubernetes::checkup::NamespaceCheck;
use sterna_executor::platform::kubernetes::node::checkup::{PlaceCheck, Problem};
use sterna_policies::policy::{Metric, MetricQuery, MetricSource, OnMissing, Policy};
use sterna_policies::quantity::Millis;

use self::advice::Advice;
use crate::observe::chain::{self, Chained};
use crate::observe::observe;
use crate::observe::reading::{self, Ignored, Readings, Subject};
use crate::observe::store::MetricStore;

pub mod advice;

/// All that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checkup {
    /// The metrics store.
    pub store: StoreCheck,
    /// Each metric that the policy asks for.
    pub metrics: Vec<MetricCheck>,
    /// Each node's agent.
    pub agents: Vec<AgentCheck>,
    /// Each namespace of Kubernetes that nodes are in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<PlaceCheck>,
    /// What is wrong with the lease by which one of several schedulers leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<Problem>,
    /// Each namespace of Kubernetes that the settings name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<NamespaceCheck>,
}

/// Whether the metrics store answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoreCheck {
    /// Why it does not; `None` where it does, or where nothing is asked of it.
    pub problem: Option<String>,
    /// How far its clock is ahead of this machine's, in milliseconds; negative: behind. Ages are told by its clock.
    pub clock_ahead_ms: Option<i64>,
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricCheck {
    /// Which.
    pub metric: Metric,
    /// What the policy does where a value is missing.
    pub on_missing: OnMissing,
    /// For each site (and user group) the value, or why there is none.
    pub values: Vec<ValueCheck>,
    /// Each source by itself, in the order in which they are asked.
    pub sources: Vec<SourceCheck>,
}

/// The value of one site (and user group).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ValueCheck {
    /// The site.
    pub site: SiteName,
    /// The user group, of latencies.
    pub users: Option<UsersName>,
    /// Where it comes from; `None` where it is missing.
    pub source: Option<Source>,
    /// The value in the metric's own unit; `None` where it is missing, or modelled from what services ask for.
    pub value: Option<f64>,
    /// The metric's own unit.
    pub unit: &'static str,
    /// How old its oldest sample is.
    pub age: Option<Millis>,
    /// Why the sources, or those before the one that was taken, had no usable value.
    pub reason: Option<String>,
}

/// One source by itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceCheck {
    /// 0 for the first, then the number of the fallback.
    pub number: u32,
    /// The built-in query that it is; `None` for one of the policy's own.
    pub builtin: Option<String>,
    /// The query, to be tried by hand.
    pub query: String,
    /// For so many sites (and user groups) it has a usable value.
    pub found: usize,
    /// Of so many.
    pub of: usize,
    /// Why it could not be asked.
    pub problem: Option<String>,
    /// Series that belong nowhere.
    pub ignored: Vec<Ignored>,
    /// What to do about what is missing.
    pub advice: Vec<Advice>,
}

/// Whether a node's agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentCheck {
    /// The node.
    pub node: NodeName,
    /// Its site.
    pub site: SiteName,
    /// Why it does not answer; `None` where it does.
    pub problem: Option<String>,
}

impl Checkup {
    /// Whether each value is there, measured or modelled as the policy allows.
    pub fn metrics_suffice(&self) -> bool {
        self.store.problem.is_none()
            && self.metrics.iter().flat_map(|metric| &metric.values).all(|value| value.source.is_some())
    }

    /// Problems in Kubernetes.
    pub fn in_kubernetes(&self) -> impl Iterator<Item = &Problem> {
        let of_namespaces = self.namespaces.iter().flat_map(|check| &check.problems);
        self.clusters.iter().flat_map(|check| &check.problems).chain(&self.lease).chain(of_namespaces)
    }

    /// Whether every agent answers.
    pub fn agents_answer(&self) -> bool {
        self.agents.iter().all(|agent| agent.problem.is_none())
    }
}

/// The clocks may differ by so much before it is worth a word.
pub const CLOCKS_AGREE: Millis = Millis::from_micros(5_000_000_000);

/// Looks at everything but Kubernetes, of which whoever asks may tell. `view` is what the agents said, or why none could be asked.
pub async fn examine<S: MetricStore>(
    store: &S,
    view: Result<FleetView, String>,
    continuum: &Continuum,
    policy: &Policy,
    now: Timestamp,
) -> Checkup {
    let agents = agents(continuum, &view);
    let at = store.now().await;
    let seen = observe(store, continuum, view.unwrap_or_default(), policy, now).await.observation;
    let mut metrics = Vec::new();
    for (metric, source) in &policy.metrics {
        let found = match &at {
            Ok(at) => chain::ask(store, *metric, source, continuum, *at).await,
            Err(error) => Err(error.to_string()),
        };
        let values = values(*metric, source, continuum, found, &seen);
        let mut sources = Vec::new();
        if let Ok(at) = &at {
            for (number, query) in (0u32..).zip(source.queries()) {
                sources.push(one_source(store, *metric, number, query, continuum, *at).await);
            }
        }
        metrics.push(MetricCheck { metric: *metric, on_missing: source.on_missing, values, sources });
    }
    // The inventory has what else a policy may need, but no latency that a policy would take unasked.
    let latency = Metric::UserLatency;
    if needed(policy).contains(&latency) && !policy.metrics.contains_key(&latency) {
        let values = reading::subjects(latency, continuum)
            .into_iter()
            .map(|subject| {
                missing(latency, subject, "the policy has no table [metrics.user_latency]".to_owned())
            })
            .collect();
        metrics.push(MetricCheck {
            metric: latency,
            on_missing: OnMissing::Hold,
            values,
            sources: Vec::new(),
        });
    }
    let asked = !policy.metrics.is_empty();
    let store = StoreCheck {
        problem: at.as_ref().err().filter(|_| asked).map(ToString::to_string),
        clock_ahead_ms: at.ok().map(|at| at.as_millisecond() - now.as_millisecond()),
    };
    Checkup { store, metrics, agents, clusters: Vec::new(), lease: None, namespaces: Vec::new() }
}

fn agents(continuum: &Continuum, view: &Result<FleetView, String>) -> Vec<AgentCheck> {
    let problem = |node: &NodeName| match view {
        Err(reason) => Some(reason.clone()),
        Ok(view) if view.reachable.contains(node) => None,
        Ok(view) => {
            Some(view.unreachable.get(node).cloned().unwrap_or_else(|| "it was not asked".to_owned()))
        }
    };
    let one = |(name, node): (&NodeName, &sterna_core::continuum::Node)| AgentCheck {
        node: name.clone(),
        site: node.site.clone(),
        problem: problem(name),
    };
    continuum.nodes.iter().map(one).collect()
}

const fn unit(metric: Metric) -> &'static str {
    match metric {
        Metric::UserLatency => "ms",
        Metric::CostRate => "USD/h",
        Metric::Power => "W",
        Metric::CarbonRate => "g/kWh",
        Metric::CpuUse => "ratio",
    }
}

fn missing(metric: Metric, subject: Subject, reason: String) -> ValueCheck {
    let Subject { site, users } = subject;
    ValueCheck { site, users, source: None, value: None, unit: unit(metric), age: None, reason: Some(reason) }
}

/// What a decision gets: what the sources have, and what stands in for the rest.
fn values(
    metric: Metric,
    source: &MetricSource,
    continuum: &Continuum,
    found: Result<Chained, String>,
    seen: &Observation,
) -> Vec<ValueCheck> {
    let by_subject = match found {
        Ok(found) => found.by_subject,
        Err(reason) => {
            reading::subjects(metric, continuum).into_iter().map(|one| (one, Err(reason.clone()))).collect()
        }
    };
    let unknown = |subject: &Subject| {
        seen.unknown.iter().any(|one| {
            one.metric == metric
                && one.site.as_ref().is_none_or(|site| *site == subject.site)
                && (one.users.is_none() || one.users == subject.users)
        })
    };
    let one = |(subject, reading): (Subject, Result<(reading::Reading, Source), String>)| match reading {
        Ok((reading, of)) => ValueCheck {
            source: Some(of),
            value: Some(reading.value),
            age: Some(reading.age),
            reason: None,
            ..missing(metric, subject, String::new())
        },
        Err(reason) if source.on_missing == OnMissing::Modelled && !unknown(&subject) => ValueCheck {
            source: Some(Source::Modelled),
            value: modelled(metric, &subject, seen),
            ..missing(metric, subject, reason)
        },
        Err(reason) => missing(metric, subject, reason),
    };
    by_subject.into_iter().map(one).collect()
}

/// The number that stands in for a missing one, where it is one number.
fn modelled(metric: Metric, subject: &Subject, seen: &Observation) -> Option<f64> {
    let site = &subject.site;
    match metric {
        Metric::UserLatency => {
            let sites = seen.latency.get(subject.users.as_ref()?)?;
            sites.get(site).map(|sample| sample.value.as_f64())
        }
        Metric::CostRate => seen.price.get(site).map(|sample| sample.value.as_f64()),
        Metric::Power => seen.power.get(site).map(|sample| sample.value.as_f64()),
        Metric::CarbonRate => seen.continuum.sites.get(site)?.carbon.map(|carbon| carbon.as_f64()),
        Metric::CpuUse => None,
    }
}

async fn one_source<S: MetricStore>(
    store: &S,
    metric: Metric,
    number: u32,
    query: &MetricQuery,
    continuum: &Continuum,
    at: Timestamp,
) -> SourceCheck {
    let mut check = SourceCheck {
        number,
        builtin: query.builtin.clone(),
        query: query.query.clone(),
        found: 0,
        of: reading::subjects(metric, continuum).len(),
        problem: None,
        ignored: Vec::new(),
        advice: Vec::new(),
    };
    let absent: Vec<Subject> = match chain::ask_one(store, metric, query, continuum, at).await {
        Ok(Readings { by_subject, ignored }) => {
            check.found = by_subject.values().filter(|reading| reading.is_ok()).count();
            check.ignored = ignored;
            let absent = by_subject.into_iter().filter(|(_, reading)| reading.is_err());
            absent.map(|(subject, _)| subject).collect()
        }
        Err(problem) => {
            check.problem = Some(problem);
            reading::subjects(metric, continuum)
        }
    };
    if !absent.is_empty() {
        check.advice = advice::advise(store, query, continuum, &absent, at).await;
    }
    check
}

#[cfg(test)]
mod tests;
