//! What is known of sites and of latencies: measured, or from the inventory where the policy allows it, or missing.

use std::collections::BTreeSet;

use sterna_policies::policy::{Metric, Objective, OnMissing, Policy};

use crate::continuum::{Service, ServiceName, Site, SiteName, Users, UsersName};
use crate::observation::{Observation, Source, Unknown};

const MICRO: i128 = 1_000_000;

/// `a * b / c` rounded towards zero, within `i64`; zero where `c` is zero.
pub(crate) fn product(a: i64, b: i128, c: i128) -> i64 {
    if c == 0 {
        return 0;
    }
    // Most fit into half the bits, where a division takes a fraction of the time.
    let half = || a.checked_mul(i64::try_from(b).ok()?)?.checked_div(i64::try_from(c).ok()?);
    half().unwrap_or_else(|| narrow(i128::from(a).saturating_mul(b) / c))
}

/// One by the other, which is not zero, rounded towards zero.
pub(crate) fn quotient(wide: i128, by: i128) -> i64 {
    let half = || i64::try_from(wide).ok()?.checked_div(i64::try_from(by).ok()?);
    half().unwrap_or_else(|| narrow(wide / by))
}

/// To `i64`, at its limits where it does not fit.
pub(crate) fn narrow(wide: i128) -> i64 {
    wide.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// The metrics that a policy's objective, limits and trigger use.
pub fn needed(policy: &Policy) -> BTreeSet<Metric> {
    let mut needed: BTreeSet<Metric> = match &policy.objective {
        Objective::Lexicographic { terms } => terms.iter().map(|term| term.metric).collect(),
        Objective::Priced { terms } => terms.iter().map(|term| term.metric).collect(),
    };
    needed.extend(policy.constraints.max.keys());
    needed.extend(policy.trigger.any.iter().flatten().map(|condition| condition.metric));
    needed
}

/// What to do where a metric is missing; `Hold` where the policy does not say.
pub fn on_missing(policy: &Policy, metric: Metric) -> OnMissing {
    policy.metrics.get(&metric).map(|source| source.on_missing).unwrap_or_default()
}

/// Latency of a service on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latency {
    /// No user group asks for the service.
    NoDemand,
    /// At least one group's latency to the site is not known.
    Missing,
    /// Sum over groups of request rate times latency, in millionths times millionths.
    Weighted(i128),
}

/// What is known of a site's numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SiteNumbers {
    pub(super) price: i64,
    pub(super) idle: i64,
    pub(super) slope: i64,
    pub(super) off_when_empty: bool,
    pub(super) intensity: Option<i64>,
    pub(super) missing: BTreeSet<Metric>,
    pub(super) modelled: BTreeSet<Metric>,
}

/// A latency as it was found.
#[derive(Clone)]
pub(super) struct Seen<'a> {
    pub(super) value: Latency,
    pub(super) missing: Vec<&'a UsersName>,
    pub(super) modelled: bool,
}

/// What is known of the latencies between user groups and sites.
pub(super) struct Latencies<'a> {
    users: Vec<(&'a UsersName, &'a Users)>,
    /// In millionths, and whether it is modelled; by site, for each group. `None` where it is not known.
    known: Vec<Vec<Option<(i64, bool)>>>,
}

impl<'a> Latencies<'a> {
    /// From all groups to some sites.
    pub(super) fn new(observation: &'a Observation, policy: &Policy, sites: &[&SiteName]) -> Self {
        let may_model = on_missing(policy, Metric::UserLatency) == OnMissing::Modelled;
        let users: Vec<(&UsersName, &Users)> = observation.continuum.users.iter().collect();
        let known = users.iter().map(|(name, users)| {
            let measured = observation.latency.get(*name);
            let of_site = |site: &&SiteName| match measured.and_then(|sites| sites.get(*site)) {
                Some(sample) => Some((sample.value.as_micros(), sample.source == Source::Modelled)),
                None => users.latency.get(*site).filter(|_| may_model).map(|value| (value.as_micros(), true)),
            };
            sites.iter().map(of_site).collect()
        });
        Self { known: known.collect(), users }
    }

    /// The request rates of the groups that ask for each service, in millionths; services in the order of their names.
    pub(super) fn asking(&self, services: &[(&ServiceName, &Service)]) -> Vec<Vec<(usize, i64)>> {
        let mut asking = vec![Vec::new(); services.len()];
        for (number, (_, users)) in self.users.iter().enumerate() {
            for (name, rate) in users.rates.iter().filter(|(_, rate)| rate.as_micros() > 0) {
                if let Ok(service) = services.binary_search_by_key(&name, |(other, _)| other) {
                    asking[service].push((number, rate.as_micros()));
                }
            }
        }
        asking
    }

    /// Latency at a site, over all groups that ask.
    pub(super) fn of(&self, asking: &[(usize, i64)], site: usize) -> Seen<'a> {
        let mut seen = Seen { value: Latency::NoDemand, missing: Vec::new(), modelled: false };
        let mut sum = 0i128;
        for (users, rate) in asking {
            match self.known[*users].get(site).copied().flatten() {
                Some((value, modelled)) => {
                    seen.modelled |= modelled;
                    sum += i128::from(*rate) * i128::from(value);
                }
                None => seen.missing.push(self.users[*users].0),
            }
        }
        if !asking.is_empty() {
            let known = seen.missing.is_empty();
            seen.value = if known { Latency::Weighted(sum) } else { Latency::Missing };
        }
        seen
    }
}

/// What is known of one node for its site's numbers: its cores, those asked for on it, and whether it hosts anything.
pub(super) struct Hosting {
    pub(super) size: i64,
    pub(super) requested: i64,
    pub(super) hosts: bool,
}

impl SiteNumbers {
    pub(super) fn new(
        observation: &Observation,
        policy: &Policy,
        needed: &BTreeSet<Metric>,
        name: &SiteName,
        site: &Site,
        nodes: &[Hosting],
    ) -> Self {
        let mut numbers = Self {
            price: site.price.node.as_micros(),
            idle: site.power.idle.as_micros(),
            slope: site.power.full.as_micros().saturating_sub(site.power.idle.as_micros()),
            off_when_empty: site.power.off_when_empty,
            intensity: site.carbon.map(|grams| grams.as_micros()),
            ..Self::default()
        };
        let watts_needed = needed.contains(&Metric::Power) || needed.contains(&Metric::CarbonRate);
        let mut absent = |metric: Metric, used: bool| {
            if used && policy.metrics.contains_key(&metric) {
                match on_missing(policy, metric) {
                    OnMissing::Modelled => numbers.modelled.insert(metric),
                    OnMissing::Hold | OnMissing::ExcludeSite => numbers.missing.insert(metric),
                };
            }
        };
        let price = observation.price.get(name);
        if price.is_none() {
            absent(Metric::CostRate, needed.contains(&Metric::CostRate));
        }
        if !observation.power.contains_key(name) {
            absent(Metric::Power, watts_needed);
        }
        if !observation.cpu_use.contains_key(name) {
            absent(Metric::CpuUse, watts_needed);
        }
        if let Some(price) = price {
            numbers.price = price.value.as_micros();
            if price.source == Source::Modelled {
                numbers.modelled.insert(Metric::CostRate);
            }
        }
        if site.carbon.is_none() && needed.contains(&Metric::CarbonRate) {
            numbers.missing.insert(Metric::CarbonRate);
        }

        let all_on = !site.power.off_when_empty || nodes.iter().all(|node| node.hosts);
        match observation.power.get(name) {
            Some(reading) if reading.source != Source::Modelled && all_on => {
                let size = nodes.iter().map(|node| i128::from(node.size)).sum();
                let requested = nodes.iter().map(|node| i128::from(node.requested)).sum();
                let dynamic = match observation.cpu_use.get(name) {
                    Some(share) => product(numbers.slope, i128::from(share.value), MICRO),
                    None => product(numbers.slope, requested, size),
                };
                numbers.idle = reading.value.as_micros().saturating_sub(dynamic).max(0);
            }
            _ => {
                numbers.modelled.insert(Metric::Power);
            }
        }
        numbers
    }
}

/// What is missing, each said once.
pub(super) struct Unknowns<'a> {
    pub(super) list: Vec<Unknown>,
    pub(super) seen: &'a [Unknown],
}

impl Unknowns<'_> {
    /// Adds what nobody has said yet.
    pub(super) fn add(&mut self, metric: Metric, site: &SiteName, users: Option<&UsersName>, reason: &str) {
        let same = |one: &Unknown| {
            one.metric == metric
                && one.site.as_ref().is_none_or(|known| known == site)
                && (one.users.is_none() || one.users.as_ref() == users)
        };
        if !self.seen.iter().any(same) && !self.list.iter().any(same) {
            self.list.push(Unknown {
                metric,
                site: Some(site.clone()),
                users: users.cloned(),
                reason: reason.to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn half_the_bits_come_to_the_same(a: i64, bits in 0u32..64, b: i64, c in 1i64..) {
            let a = a >> bits;
            let wide = i128::from(a) * i128::from(b);
            prop_assert_eq!(product(a, b.into(), c.into()), narrow(wide / i128::from(c)));
            prop_assert_eq!(quotient(wide, c.into()), narrow(wide / i128::from(c)));
            prop_assert_eq!(product(a, b.into(), 0), 0);
        }
    }
}
