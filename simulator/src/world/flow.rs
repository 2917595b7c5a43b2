//! What flows at one instant: money, power, emissions and requests, each as a rate.

use std::collections::BTreeSet;

use sterna_core::continuum::{ServiceName, SiteName};
use sterna_core::plan::Effect;
use sterna_policies::quantity::{Cores, GramsPerHour, Millis, PerSecond, UsdPerHour, Watts};

use super::World;
use crate::models;

/// What flows at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flow<'s> {
    /// Money, all sites together.
    pub cost: UsdPerHour,
    /// What sites draw and emit; those without nodes are missing.
    pub sites: Vec<AtSite<'s>>,
    /// Requests.
    pub demands: Vec<Demand<'s>>,
    /// Services that stand still.
    pub frozen: BTreeSet<ServiceName>,
}

/// What one site draws and emits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtSite<'s> {
    /// The site.
    pub site: &'s SiteName,
    /// What its nodes draw together.
    pub power: Watts,
    /// What that emits; `None` where the carbon intensity is not known.
    pub carbon: Option<GramsPerHour>,
}

/// Requests of one user group for one service, and how they fare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand<'s> {
    /// The service.
    pub service: &'s ServiceName,
    /// How many.
    pub rate: PerSecond,
    /// The latency that they meet.
    pub latency: Millis,
    /// The service stands still: they wait.
    pub frozen: bool,
}

/// What a node hosts.
#[derive(Debug, Clone, Copy, Default)]
struct Hosted {
    any: bool,
    requested: Cores,
}

impl<'s> Flow<'s> {
    /// What flows in a world now. A service that moves takes its share at both ends.
    pub fn of(world: &World<'s>) -> Self {
        let (layout, numbers) = (&*world.layout, world.conditions.by_number(&world.layout));
        let mut cost = UsdPerHour::ZERO;
        let gone: Vec<usize> = world.gone.nodes.iter().filter_map(|node| layout.node(node)).collect();
        let is_gone = |node: usize| gone.contains(&node);

        let mut hosted = vec![Hosted::default(); layout.nodes.len()];
        let both_ends = world.moving.iter().filter_map(|(service, moving)| {
            Some((layout.service(service)?, layout.node(moving.other_end())?))
        });
        let running = world.at.iter().enumerate().filter_map(|(service, node)| Some((service, (*node)?)));
        for (service, node) in running.chain(both_ends) {
            let here = &mut hosted[node];
            here.any = true;
            here.requested = here.requested.saturating_add(layout.services[service].1.cpu);
            // What is gone draws nothing, and nobody is charged for it.
            if let Some(site) = layout.site[node].filter(|_| !is_gone(node)) {
                cost = cost.saturating_add(layout.share(service, site));
            }
        }
        let mut power: Vec<Option<Watts>> = vec![None; layout.sites.len()];
        for (node, here) in hosted.iter().enumerate() {
            let Some(site) = layout.site[node] else { continue };
            let at_site = power[site].get_or_insert_default();
            if is_gone(node) {
                continue;
            }
            let line = &layout.sites[site].1.power;
            let draws = models::power::of_node(line, layout.nodes[node].1, here.requested, here.any);
            *at_site = at_site.saturating_add(draws);
            if here.any {
                cost = cost.saturating_add(numbers.price[site]);
            }
        }
        let emits = |site: usize, power| {
            numbers.carbon[site].map(|intensity| models::carbon::of_power(power, intensity))
        };
        let at_site = |(site, power): (usize, &Option<Watts>)| {
            let power = (*power)?;
            Some(AtSite { site: layout.sites[site].0, power, carbon: emits(site, power) })
        };

        let frozen = world.frozen();
        let demand = |ask: &super::conditions::Ask| {
            let site = layout.site[world.at[ask.service]?]?;
            let service = layout.services[ask.service].0;
            Some(Demand {
                service,
                rate: ask.rate,
                latency: numbers.latency(ask.users, site)?,
                frozen: !frozen.is_empty() && frozen.contains(service),
            })
        };
        Self {
            cost,
            sites: power.iter().enumerate().filter_map(at_site).collect(),
            demands: numbers.asks.iter().filter_map(demand).collect(),
            frozen,
        }
    }

    /// All emissions; `None` where a site draws power whose intensity is not known.
    fn emissions(&self) -> Option<GramsPerHour> {
        let mut drawing = self.sites.iter().filter(|at| at.power > Watts::ZERO);
        drawing.try_fold(GramsPerHour::ZERO, |sum, at| Some(sum.saturating_add(at.carbon?)))
    }

    /// The same as the effect that decisions reckon with, as if nothing stood still.
    pub fn effect(&self) -> Effect {
        let mut sum = 0i128;
        let mut rates = 0i128;
        for demand in &self.demands {
            let waited = i128::from(demand.latency.as_micros()) * i128::from(demand.rate.as_micros());
            sum = sum.saturating_add(waited);
            rates += i128::from(demand.rate.as_micros());
        }
        Effect {
            user_latency: (rates > 0)
                .then(|| Millis::from_micros(i64::try_from(sum / rates).unwrap_or(i64::MAX))),
            cost_rate: self.cost,
            power: self.sites.iter().fold(Watts::ZERO, |sum, at| sum.saturating_add(at.power)),
            carbon_rate: self.emissions(),
        }
    }
}
