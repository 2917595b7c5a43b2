//! What the scheduler would see of the world: the same [`Observation`] that the daemon makes from its metrics store.
//!
//! A reading is there only where the policy names a source for its metric, as in production: a policy without a source for
//! prices sees the inventory's, whatever the scenario's tracks do. The world's numbers are exact and of this instant, so they
//! count as measured, with no age. Request rates are the inventory's in production, and known here as of this instant too: as
//! if somebody kept the inventory up to date.

use sterna_core::continuum::{Node, NodeName, SiteName, UsersName};
use sterna_core::observation::{Observation, Sample, Source, UnderWay, Unknown};
use sterna_policies::policy::{Metric, OnMissing, Policy};
use sterna_policies::quantity::{Cores, Millis, Watts};

use super::World;

fn sample<T>(value: T) -> Sample<T> {
    Sample { value, age: Millis::ZERO, source: Source::Measured }
}

impl World<'_> {
    /// What a scheduler under this policy sees now.
    pub fn observe(&self, policy: &Policy) -> Observation {
        let sees_carbon = policy.metrics.contains_key(&Metric::CarbonRate);
        let continuum = self.conditions.continuum(self.scenario, sees_carbon);
        let mut observation = Observation {
            at: self.now.on_calendar(self.scenario.start),
            reachable: continuum.nodes.keys().filter(|node| self.answers(node)).cloned().collect(),
            placement: self
                .placement
                .iter()
                .filter(|(_, node)| self.answers(node))
                .map(|(service, node)| (service.clone(), node.clone()))
                .collect(),
            memory: self
                .conditions
                .memory
                .iter()
                .filter(|(service, _)| self.placement.get(*service).is_some_and(|node| self.answers(node)))
                .map(|(service, memory)| (service.clone(), *memory))
                .collect(),
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
            overdue: Default::default(),
            unknown: Vec::new(),
            directives: self.directives(),
            costs: self.scenario.costs,
            continuum,
        };
        for metric in policy.metrics.keys() {
            match metric {
                Metric::UserLatency => self.see_latency(&mut observation, policy),
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
        let unknown = observation.continuum.sites.iter().filter(|(_, site)| site.carbon.is_none());
        observation.unknown.extend(unknown.map(|(name, _)| Unknown {
            metric: Metric::CarbonRate,
            site: Some(name.clone()),
            users: None,
            reason: "neither the scenario nor its inventory has a carbon intensity".to_owned(),
        }));
    }

    /// Whether a node's agent answers.
    fn answers(&self, node: &NodeName) -> bool {
        !self.gone.nodes.contains(node)
    }

    /// Whether all nodes of a site are gone, so that nothing there measures or is measured.
    fn is_dark(&self, site: &SiteName) -> bool {
        if self.gone.nodes.is_empty() {
            return false;
        }
        let mut nodes =
            self.scenario.continuum.nodes.iter().filter(|(_, node)| &node.site == site).peekable();
        nodes.peek().is_some() && nodes.all(|(name, _)| !self.answers(name))
    }

    /// To a site that is dark nobody measures; there is the inventory's number where the policy allows it, as in production.
    fn see_latency(&self, observation: &mut Observation, policy: &Policy) {
        let modelled = |users: &UsersName, site: &SiteName| {
            let allowed = policy.metrics.get(&Metric::UserLatency)?.on_missing == OnMissing::Modelled;
            let known = self.scenario.continuum.users.get(users)?.latency.get(site).copied();
            known.filter(|_| allowed)
        };
        for (users, sites) in &self.conditions.latency {
            let seen = observation.latency.entry(users.clone()).or_default();
            for (site, latency) in sites {
                if !self.is_dark(site) {
                    seen.insert(site.clone(), sample(*latency));
                } else if let Some(latency) = modelled(users, site) {
                    seen.insert(site.clone(), Sample { source: Source::Modelled, ..sample(latency) });
                } else {
                    observation.unknown.push(Unknown {
                        metric: Metric::UserLatency,
                        site: Some(site.clone()),
                        users: Some(users.clone()),
                        reason: "no node of the site answers".to_owned(),
                    });
                }
            }
        }
    }

    /// Whether a site has no sensor that answers; if so, notes it.
    fn without_sensor(&self, metric: Metric, site: &SiteName, observation: &mut Observation) -> bool {
        let dark = self.is_dark(site);
        if dark {
            observation.unknown.push(Unknown {
                metric,
                site: Some(site.clone()),
                users: None,
                reason: "no node of the site answers".to_owned(),
            });
        }
        dark
    }

    /// A site's sensor reads the mean over its nodes.
    fn see_power(&self, observation: &mut Observation) {
        for at in &self.flow.sites {
            let (site, sum) = (at.site, at.power);
            if self.without_sensor(Metric::Power, site, observation) {
                continue;
            }
            let there = |(name, node): &(&NodeName, &Node)| &node.site == site && self.answers(name);
            let nodes = self.scenario.continuum.nodes.iter().filter(there).count();
            let mean = sum.scaled(1, u64::try_from(nodes).unwrap_or(1));
            observation.power.insert(site.clone(), sample::<Watts>(mean));
        }
    }

    fn see_cpu_use(&self, observation: &mut Observation) {
        let hosted = self.hosted();
        for site in self.scenario.continuum.sites.keys() {
            if self.without_sensor(Metric::CpuUse, site, observation) {
                continue;
            }
            let (mut used, mut whole) = (Cores::ZERO, Cores::ZERO);
            let there = |(name, node): &(&NodeName, &Node)| &node.site == site && self.answers(name);
            for (name, node) in self.scenario.continuum.nodes.iter().filter(there) {
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
