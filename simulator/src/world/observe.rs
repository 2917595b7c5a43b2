//! What the scheduler would see of the world: the same [`Observation`] that the daemon makes from its metrics store.
//!
//! A reading is there only where the policy names a source for its metric, as in production: a policy without a source for
//! prices sees the inventory's, whatever the scenario's tracks do. The world's numbers are exact and of this instant, so they
//! count as measured, with no age. Request rates are the inventory's in production, and known here as of this instant too: as
//! if somebody kept the inventory up to date.

use sterna_core::observation::{Observation, Sample, Source, UnderWay, Unknown};
use sterna_policies::policy::{Metric, Policy};
use sterna_policies::quantity::{Cores, Millis, Watts};

use super::World;

fn sample<T>(value: T) -> Sample<T> {
    Sample { value, age: Millis::ZERO, source: Source::Measured }
}

impl World<'_> {
    /// What a scheduler under this policy sees now.
    pub fn observe(&self, policy: &Policy) -> Observation {
        let mut continuum = self.scenario.continuum.clone();
        for (name, users) in &mut continuum.users {
            if let Some(rates) = self.conditions.rates.get(name) {
                users.rates = rates.clone();
            }
        }
        let mut observation = Observation {
            at: self.now.on_calendar(self.scenario.start),
            reachable: continuum.nodes.keys().cloned().collect(),
            placement: self.placement.clone(),
            memory: self.conditions.memory.clone(),
            under_way: self
                .moving
                .iter()
                .map(|(service, moving)| UnderWay {
                    service: service.clone(),
                    from: moving.from.clone(),
                    to: moving.to.clone(),
                })
                .collect(),
            latency: Default::default(),
            cpu_use: Default::default(),
            power: Default::default(),
            price: Default::default(),
            unknown: Vec::new(),
            directives: Default::default(),
            costs: self.scenario.costs,
            continuum,
        };
        for metric in policy.metrics.keys() {
            match metric {
                Metric::UserLatency => self.see_latency(&mut observation),
                Metric::CostRate => {
                    observation.price = self
                        .conditions
                        .price
                        .iter()
                        .map(|(site, price)| (site.clone(), sample(*price)))
                        .collect();
                }
                Metric::Power => self.see_power(&mut observation),
                Metric::CpuUse => self.see_cpu_use(&mut observation),
                Metric::CarbonRate => self.see_carbon(&mut observation),
            }
        }
        observation
    }

    /// A measured intensity stands in the continuum itself, in the place of the inventory's.
    fn see_carbon(&self, observation: &mut Observation) {
        for (name, site) in &mut observation.continuum.sites {
            site.carbon = self.conditions.carbon.get(name).copied();
            if site.carbon.is_none() {
                observation.unknown.push(Unknown {
                    metric: Metric::CarbonRate,
                    site: Some(name.clone()),
                    users: None,
                    reason: "neither the scenario nor its inventory has a carbon intensity".to_owned(),
                });
            }
        }
    }

    fn see_latency(&self, observation: &mut Observation) {
        observation.latency = self
            .conditions
            .latency
            .iter()
            .map(|(users, sites)| {
                (
                    users.clone(),
                    sites.iter().map(|(site, latency)| (site.clone(), sample(*latency))).collect(),
                )
            })
            .collect();
    }

    /// A site's sensor reads the mean over its nodes.
    fn see_power(&self, observation: &mut Observation) {
        for (site, sum) in &self.flow.power {
            let nodes = self.scenario.continuum.nodes.values().filter(|node| &node.site == site).count();
            let mean = sum.scaled(1, u64::try_from(nodes).unwrap_or(1));
            observation.power.insert(site.clone(), sample::<Watts>(mean));
        }
    }

    fn see_cpu_use(&self, observation: &mut Observation) {
        let hosted = self.hosted();
        for site in self.scenario.continuum.sites.keys() {
            let (mut used, mut whole) = (Cores::ZERO, Cores::ZERO);
            for (name, node) in self.scenario.continuum.nodes.iter().filter(|(_, node)| &node.site == site) {
                whole = whole.saturating_add(node.cpu);
                let services = hosted.get(name).map(Vec::as_slice).unwrap_or_default();
                used = services.iter().fold(used, |sum, service| sum.saturating_add(service.cpu));
            }
            if whole > Cores::ZERO {
                let share = i128::from(used.as_micros()) * 1_000_000 / i128::from(whole.as_micros());
                let share = u32::try_from(share.min(1_000_000)).unwrap_or(0);
                observation.cpu_use.insert(site.clone(), sample(share));
            }
        }
    }
}
