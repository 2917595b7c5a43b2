//! What is seen at one instant: the fleet's answer and the policy's metrics, made into one observation.

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use sterna_core::continuum::Continuum;
use sterna_core::observation::{Observation, Sample, Source, Unknown};
use sterna_executor::fleet::FleetView;
use sterna_policies::policy::{Metric, MetricSource, OnMissing, Policy};
use sterna_policies::quantity::{GramsPerKwh, Millis, UsdPerHour, Watts};

use self::chain::Chained;
use self::reading::{Reading, Subject};
use self::store::MetricStore;

pub mod age;
pub mod chain;
pub mod probes;
pub mod prometheus;
pub mod reading;
pub mod store;
pub mod warmth;
pub mod witness;

/// An observation, and what an operator should know about how it came to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// What was seen.
    pub observation: Observation,
    /// Things that were left out or replaced: rows of unknown sites, modelled values, nodes that don't answer.
    pub notes: Vec<String>,
    /// Whether the metrics store answered; `None` where the policy asks nothing of it.
    pub store_up: Option<bool>,
}

/// Observes the continuum: what the agents said (`view`) and what the store has for the policy's metrics.
///
/// All queries are evaluated at one instant of the store's clock. Whatever can't be learnt is in
/// [`Observation::unknown`] with its reason; nothing is ever taken for zero. `now` is used where the store can't tell its
/// time.
pub async fn observe<S: MetricStore>(
    store: &S,
    continuum: &Continuum,
    view: FleetView,
    policy: &Policy,
    now: Timestamp,
) -> Observed {
    let at = if policy.metrics.is_empty() { Ok(now) } else { store.now().await };
    let store_up = (!policy.metrics.is_empty()).then_some(at.is_ok());
    let mut observed = Observed {
        observation: Observation {
            at: *at.as_ref().unwrap_or(&now),
            continuum: Arc::new(continuum.clone()),
            placement: view.placement,
            reachable: view.reachable,
            latency: Default::default(),
            cpu_use: Default::default(),
            power: Default::default(),
            price: Default::default(),
            memory: view.memory,
            under_way: view.under_way,
            overdue: Default::default(),
            unknown: Vec::new(),
            directives: Default::default(),
            costs: Default::default(),
        },
        notes: Vec::new(),
        store_up,
    };
    for (node, reason) in &view.unreachable {
        observed.notes.push(format!("node `{node}` does not answer: {reason}"));
    }
    let asked = policy.metrics.iter().map(|(metric, source)| {
        let at = at.clone();
        async move {
            let found = match at {
                Ok(at) => chain::ask(store, *metric, source, continuum, at).await,
                Err(error) => Err(error.to_string()),
            };
            (*metric, source, found)
        }
    });
    // `cpu_use` comes after `power` in the order of metrics, but a modelled power needs it.
    let mut answers = join_all(asked).await;
    answers.sort_by_key(|(metric, ..)| *metric != Metric::CpuUse);
    for (metric, source, found) in answers {
        observed.enter(metric, source, found);
    }
    observed
}

impl Observed {
    fn enter(&mut self, metric: Metric, source: &MetricSource, found: Result<Chained, String>) {
        match found {
            Ok(Chained { by_subject, notes }) => {
                self.notes.extend(notes);
                for (subject, reading) in by_subject {
                    match reading.and_then(|(reading, of)| self.put(metric, &subject, reading, of)) {
                        Ok(()) => {}
                        Err(reason) => self.missing(metric, source, &subject, reason),
                    }
                }
            }
            Err(reason) => {
                tracing::debug!(metric = metric.name(), reason, "query failed");
                if source.on_missing == OnMissing::Modelled {
                    self.notes.push(format!(
                        "{} is modelled where the inventory allows it: {reason}",
                        metric.name()
                    ));
                    for subject in reading::subjects(metric, &self.observation.continuum) {
                        if !self.model(metric, &subject) {
                            self.missing(metric, source, &subject, reason.clone());
                        }
                    }
                } else {
                    self.forget_carbon(metric, None);
                    self.observation.unknown.push(Unknown { metric, site: None, users: None, reason });
                }
            }
        }
    }

    fn put(
        &mut self,
        metric: Metric,
        subject: &Subject,
        Reading { value, age }: Reading,
        source: Source,
    ) -> Result<(), String> {
        let site = subject.site.clone();
        let large = || format!("{value} is too large for its unit");
        let seen = &mut self.observation;
        match metric {
            Metric::UserLatency => {
                let users = subject.users.clone().ok_or("the metric has no `users_label`")?;
                let value = Millis::from_f64(value).ok_or_else(large)?;
                seen.latency.entry(users).or_default().insert(site, Sample { value, age, source });
            }
            Metric::CpuUse => {
                // A rate over a window reaches a little beyond both ends; the plausible range has said how far.
                let share = value.clamp(0.0, 1.0);
                seen.cpu_use.insert(site, Sample { value: (share * 1e6).round() as u32, age, source });
            }
            Metric::Power => {
                let value = Watts::from_f64(value).ok_or_else(large)?;
                seen.power.insert(site, Sample { value, age, source });
            }
            Metric::CostRate => {
                let value = UsdPerHour::from_f64(value).ok_or_else(large)?;
                seen.price.insert(site, Sample { value, age, source });
            }
            Metric::CarbonRate => {
                let value = GramsPerKwh::from_f64(value).ok_or_else(large)?;
                if let Some(site) = Arc::make_mut(&mut seen.continuum).sites.get_mut(&site) {
                    site.carbon = Some(value);
                }
            }
        }
        Ok(())
    }

    /// Enters a modelled value where the policy allows it and the inventory has one; otherwise the reason.
    fn missing(&mut self, metric: Metric, source: &MetricSource, subject: &Subject, reason: String) {
        let Subject { site, users } = subject.clone();
        if source.on_missing == OnMissing::Modelled && self.model(metric, subject) {
            self.notes.push(format!("{} of {subject} is modelled: {reason}", metric.name()));
        } else {
            self.forget_carbon(metric, Some(subject));
            self.observation.unknown.push(Unknown { metric, site: Some(site), users, reason });
        }
    }

    fn model(&mut self, metric: Metric, subject: &Subject) -> bool {
        let seen = &mut self.observation;
        let Some(site) = seen.continuum.sites.get(&subject.site) else { return false };
        let name = subject.site.clone();
        match metric {
            Metric::UserLatency => {
                let Some(users) = &subject.users else { return false };
                let known = seen.continuum.users.get(users).and_then(|group| group.latency.get(&name));
                let Some(&value) = known else { return false };
                seen.latency.entry(users.clone()).or_default().insert(name, modelled(value));
                true
            }
            Metric::CostRate => {
                seen.price.insert(name, modelled(site.price.node));
                true
            }
            // The engine has the line from idle to full load itself; with a known load the same line says what a sensor
            // would read now.
            Metric::Power => {
                if let Some(load) = seen.cpu_use.get(&name) {
                    let span = site.power.full.saturating_sub(site.power.idle);
                    let value = site.power.idle.saturating_add(span.scaled(u64::from(load.value), 1_000_000));
                    seen.power.insert(name, modelled(value));
                }
                true
            }
            Metric::CarbonRate => site.carbon.is_some(),
            // The engine takes what the services ask for.
            Metric::CpuUse => true,
        }
    }

    /// The inventory's carbon intensity stands in the continuum itself; where a measured one is wanted and missing, it must
    /// not pass for it.
    fn forget_carbon(&mut self, metric: Metric, subject: Option<&Subject>) {
        if metric == Metric::CarbonRate {
            for (name, site) in &mut Arc::make_mut(&mut self.observation.continuum).sites {
                if subject.is_none_or(|subject| subject.site == *name) {
                    site.carbon = None;
                }
            }
        }
    }
}

fn modelled<T>(value: T) -> Sample<T> {
    Sample { value, age: Millis::ZERO, source: Source::Modelled }
}

#[cfg(test)]
mod tests;
