//! What flows at one instant: money, power, emissions and requests, each as a rate.

use std::collections::{BTreeMap, BTreeSet};

use sterna_core::continuum::{NodeName, ServiceName, SiteName};
use sterna_core::plan::Effect;
use sterna_policies::quantity::{Cores, GramsPerHour, Millis, UsdPerHour, Watts};

use super::account::Demand;
use super::{World, conditions::Conditions};
use crate::models;

/// What flows at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flow {
    /// Money, all sites together.
    pub cost: UsdPerHour,
    /// Power, by site.
    pub power: BTreeMap<SiteName, Watts>,
    /// Power of each node.
    pub node_power: BTreeMap<NodeName, Watts>,
    /// Emissions, by site; a site without a known carbon intensity is missing.
    pub carbon: BTreeMap<SiteName, GramsPerHour>,
    /// Requests.
    pub demands: Vec<Demand>,
    /// Services that stand still.
    pub frozen: BTreeSet<ServiceName>,
}

impl Flow {
    /// What flows in a world now. A service that moves takes its share at both ends.
    pub fn of(world: &World<'_>, conditions: &Conditions) -> Self {
        let continuum = &world.scenario.continuum;
        let mut flow = Self { frozen: world.frozen(), ..Self::default() };
        let hosted = world.hosted();
        for (name, node) in &continuum.nodes {
            let Some(site) = continuum.sites.get(&node.site) else { continue };
            // What is gone draws nothing, and nobody is charged for it.
            if world.gone.nodes.contains(name) {
                flow.node_power.insert(name.clone(), Watts::ZERO);
                flow.power.entry(node.site.clone()).or_default();
                continue;
            }
            let services = hosted.get(name).map(Vec::as_slice).unwrap_or_default();
            let requested = services.iter().fold(Cores::ZERO, |sum, service| sum.saturating_add(service.cpu));
            let power = models::power::of_node(&site.power, node, requested, !services.is_empty());
            flow.node_power.insert(name.clone(), power);
            let at_site = flow.power.entry(node.site.clone()).or_default();
            *at_site = at_site.saturating_add(power);
            if !services.is_empty() {
                flow.cost = flow.cost.saturating_add(conditions.price_of_node(&node.site));
            }
            for service in services {
                flow.cost = flow.cost.saturating_add(models::price::of_service(&site.price, service));
            }
        }
        for (site, power) in &flow.power {
            if let Some(intensity) = conditions.carbon.get(site) {
                flow.carbon.insert(site.clone(), models::carbon::of_power(*power, *intensity));
            }
        }
        for (users, rates) in &conditions.rates {
            for (service, rate) in rates {
                let Some(latency) = world.site_of(service).and_then(|site| conditions.latency(users, site))
                else {
                    continue;
                };
                let frozen = flow.frozen.contains(service);
                flow.demands.push(Demand { service: service.clone(), rate: *rate, latency, frozen });
            }
        }
        flow
    }

    /// All emissions; `None` where a site draws power whose intensity is not known.
    fn emissions(&self) -> Option<GramsPerHour> {
        let drawing = self.power.iter().filter(|(_, power)| **power > Watts::ZERO);
        drawing
            .map(|(site, _)| self.carbon.get(site))
            .try_fold(GramsPerHour::ZERO, |sum, rate| Some(sum.saturating_add(*rate?)))
    }

    /// The same as the effect that decisions reckon with, as if nothing stood still.
    pub fn effect(&self) -> Effect {
        let mut sum = 0i128;
        let mut rates = 0i128;
        for demand in &self.demands {
            sum += i128::from(demand.latency.as_micros()) * i128::from(demand.rate.as_micros());
            rates += i128::from(demand.rate.as_micros());
        }
        Effect {
            user_latency: (rates > 0)
                .then(|| Millis::from_micros(i64::try_from(sum / rates).unwrap_or(i64::MAX))),
            cost_rate: self.cost,
            power: self.power.values().fold(Watts::ZERO, |sum, power| sum.saturating_add(*power)),
            carbon_rate: self.emissions(),
        }
    }
}
