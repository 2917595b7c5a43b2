//! What services and placements are worth, by the checker's own arithmetic.

use std::collections::BTreeSet;

use sterna_policies::policy::{Metric, Objective, OnMissing};
use sterna_policies::quantity::{GramsPerHour, Millis, UsdPerHour, Watts};

use super::Judge;
use crate::continuum::{Node, NodeName, Placement, Service, ServiceName, Site};
use crate::observation::{Source, UnderWay};
use crate::plan::Effect;

impl<'a> Judge<'a> {
    /// Migrations under way whose destination does not have the service already.
    pub(super) fn arriving(&self) -> impl Iterator<Item = &'a UnderWay> {
        let (placement, continuum) = (&self.observation.placement, &self.observation.continuum);
        self.observation.under_way.iter().filter(move |moving| {
            let at = placement.get(&moving.service).filter(|at| continuum.nodes.contains_key(*at));
            continuum.services.contains_key(&moving.service)
                && continuum.nodes.contains_key(&moving.to)
                && at.is_some_and(|at| *at != moving.to)
        })
    }

    fn policy_needs(&self, metric: Metric) -> bool {
        let in_objective = match &self.policy.objective {
            Objective::Lexicographic { terms } => terms.iter().any(|term| term.metric == metric),
            Objective::Priced { terms } => terms.iter().any(|term| term.metric == metric),
        };
        in_objective || self.policy.constraints.max.contains_key(&metric)
    }

    /// The first metric that the policy needs and that is not known of a service on a node.
    pub(super) fn missing(&self, service: &ServiceName, node: &NodeName) -> Option<Metric> {
        let about = self.observation.continuum.nodes.get(node)?;
        let modelled = |metric| {
            self.policy.metrics.get(&metric).is_some_and(|source| source.on_missing == OnMissing::Modelled)
        };
        let asked = |metric| self.policy.metrics.contains_key(&metric) && !modelled(metric);
        if self.policy_needs(Metric::UserLatency) && self.latency_sum(service, node).is_none() {
            return Some(Metric::UserLatency);
        }
        if self.policy_needs(Metric::CostRate)
            && asked(Metric::CostRate)
            && !self.observation.price.contains_key(&about.site)
        {
            return Some(Metric::CostRate);
        }
        if self.policy_needs(Metric::Power) || self.policy_needs(Metric::CarbonRate) {
            if asked(Metric::Power) && !self.observation.power.contains_key(&about.site) {
                return Some(Metric::Power);
            }
            if asked(Metric::CpuUse) && !self.observation.cpu_use.contains_key(&about.site) {
                return Some(Metric::CpuUse);
            }
        }
        let intensity = self.observation.continuum.sites.get(&about.site).and_then(|site| site.carbon);
        (self.policy_needs(Metric::CarbonRate) && intensity.is_none()).then_some(Metric::CarbonRate)
    }

    /// Sum of request rate times latency, and sum of request rates; `None` where a latency is not known.
    fn latency_sum(&self, service: &ServiceName, node: &NodeName) -> Option<(i128, i128)> {
        let site = self.observation.continuum.nodes.get(node).map(|node| &node.site);
        let may_model = self
            .policy
            .metrics
            .get(&Metric::UserLatency)
            .is_some_and(|source| source.on_missing == OnMissing::Modelled);
        let (mut sum, mut rates) = (0, 0);
        for (name, users) in &self.observation.continuum.users {
            let rate = users.rates.get(service).map_or(0, |rate| i128::from(rate.as_micros()));
            if rate <= 0 {
                continue;
            }
            let site = site?;
            let measured =
                self.observation.latency.get(name).and_then(|by_site| by_site.get(site)).map(|s| s.value);
            let value = match measured {
                Some(value) => value,
                None if may_model => *users.latency.get(site)?,
                None => return None,
            };
            sum += rate * i128::from(value.as_micros());
            rates += rate;
        }
        Some((sum, rates))
    }

    fn share(&self, about: &Service, site: &Site) -> i128 {
        let cores = i128::from(site.price.core.as_micros()) * i128::from(about.cpu.as_micros()) / 1_000_000;
        cores + i128::from(site.price.gib.as_micros()) * i128::from(about.memory.0) / 1_073_741_824
    }

    fn draw(&self, about: &Service, node: &Node, site: &Site) -> i128 {
        let size = i128::from(node.cpu.as_micros());
        let span = i128::from(site.power.full.as_micros()) - i128::from(site.power.idle.as_micros());
        if size == 0 { 0 } else { span * i128::from(about.cpu.as_micros()) / size }
    }

    fn price(&self, node: &Node, site: &Site) -> i128 {
        let measured = self.observation.price.get(&node.site).map(|sample| sample.value);
        i128::from(measured.unwrap_or(site.price.node).as_micros())
    }

    /// Watts of a node that is on and does nothing.
    fn idle(&self, node: &Node, site: &Site) -> i128 {
        let inventory = i128::from(site.power.idle.as_micros());
        let Some(reading) = self.observation.power.get(&node.site) else { return inventory };
        let continuum = &self.observation.continuum;
        let of_site = || continuum.nodes.iter().filter(|(_, other)| other.site == node.site);
        let hosts = |name: &NodeName| {
            self.observation.placement.iter().any(|(s, at)| at == name && continuum.services.contains_key(s))
        };
        let all_on = !site.power.off_when_empty || of_site().all(|(name, _)| hosts(name));
        if reading.source == Source::Modelled || !all_on {
            return inventory;
        }
        let span = i128::from(site.power.full.as_micros()) - inventory;
        let busy = match self.observation.cpu_use.get(&node.site) {
            Some(share) => span * i128::from(share.value) / 1_000_000,
            None => {
                let size: i128 = of_site().map(|(_, other)| i128::from(other.cpu.as_micros())).sum();
                let asked: i128 = self
                    .observation
                    .placement
                    .iter()
                    .filter(|(_, at)| of_site().any(|(name, _)| name == *at))
                    .filter_map(|(service, _)| continuum.services.get(service))
                    .map(|service| i128::from(service.cpu.as_micros()))
                    .sum();
                if size == 0 { 0 } else { span * asked / size }
            }
        };
        (i128::from(reading.value.as_micros()) - busy).max(0)
    }

    /// `None` where the intensity is not known.
    fn grams(watts: i128, site: &Site) -> Option<i128> {
        site.carbon.map(|grams| watts * i128::from(grams.as_micros()) / 1_000_000_000)
    }

    /// What a service adds to a metric on a node, all else as it is, in millionths.
    pub(super) fn worth(&self, service: &ServiceName, node: &NodeName, metric: Metric) -> Option<i128> {
        let continuum = &self.observation.continuum;
        let about = continuum.services.get(service)?;
        let of_node = continuum.nodes.get(node)?;
        let site = continuum.sites.get(&of_node.site)?;
        let others = self
            .observation
            .placement
            .iter()
            .any(|(other, at)| other != service && at == node && continuum.services.contains_key(other))
            || self.arriving().any(|moving| moving.to == *node);
        let idle = if others || !site.power.off_when_empty { 0 } else { self.idle(of_node, site) };
        match metric {
            Metric::UserLatency => {
                let (sum, rates) = self.latency_sum(service, node)?;
                Some(if rates == 0 { 0 } else { sum / rates })
            }
            Metric::CostRate => {
                Some(self.share(about, site) + if others { 0 } else { self.price(of_node, site) })
            }
            Metric::Power => Some(self.draw(about, of_node, site) + idle),
            Metric::CarbonRate => {
                Some(Self::grams(self.draw(about, of_node, site), site)? + Self::grams(idle, site)?)
            }
            Metric::CpuUse => None,
        }
    }

    /// What a placement is worth.
    pub(super) fn effect(&self, placement: &Placement) -> Effect {
        let continuum = &self.observation.continuum;
        let (mut cost, mut power, mut carbon) = (0i128, 0i128, Some(0i128));
        let more = |sum: Option<i128>, grams: Option<i128>| Some(sum? + grams?);
        let (mut sum, mut rates, mut known) = (0i128, 0i128, true);
        let running = placement.iter().filter(|(service, node)| {
            continuum.services.contains_key(*service) && continuum.nodes.contains_key(*node)
        });
        let mut in_use: BTreeSet<&NodeName> = BTreeSet::new();
        let mut hosted: Vec<(&ServiceName, &NodeName)> = Vec::new();
        for (service, node) in running {
            match self.latency_sum(service, node) {
                Some((s, r)) => {
                    sum += s;
                    rates += r;
                }
                None => known = false,
            }
            hosted.push((service, node));
        }
        hosted.extend(self.arriving().map(|moving| (&moving.service, &moving.to)));
        for (service, node) in hosted {
            in_use.insert(node);
            let (Some(about), Some(of_node)) = (continuum.services.get(service), continuum.nodes.get(node))
            else {
                continue;
            };
            let Some(site) = continuum.sites.get(&of_node.site) else {
                carbon = None;
                continue;
            };
            let watts = self.draw(about, of_node, site);
            cost += self.share(about, site);
            power += watts;
            carbon = more(carbon, Self::grams(watts, site));
        }
        for (name, node) in &continuum.nodes {
            let Some(site) = continuum.sites.get(&node.site) else {
                carbon = None;
                continue;
            };
            if in_use.contains(name) {
                cost += self.price(node, site);
            }
            if in_use.contains(name) || !site.power.off_when_empty {
                let watts = self.idle(node, site);
                power += watts;
                carbon = more(carbon, Self::grams(watts, site));
            }
        }
        let whole = |sum: i128| sum.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
        Effect {
            user_latency: (known && rates > 0).then(|| Millis::from_micros(whole(sum / rates))),
            cost_rate: UsdPerHour::from_micros(whole(cost)),
            power: Watts::from_micros(whole(power)),
            carbon_rate: carbon.map(|carbon| GramsPerHour::from_micros(whole(carbon))),
        }
    }
}
