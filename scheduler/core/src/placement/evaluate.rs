//! What any placement is worth, in exact integers.
//!
//! Every number is in whole millionths of its unit; each product of two quantities is rounded towards zero once, per service
//! and per node, so that sums are exact and the checker can come to the very same totals by its own way.
//!
//! - **latency** of a service on a node: mean over the user groups that ask for it, weighted by their request rates, of the
//!   latency from the group to the node's site.
//! - **cost**: a node costs its price while it hosts at least one service (the measured price where there is one), a service
//!   its cores and GiB.
//! - **power**: a line from idle to full load (Fan, Weber, Barroso: Power Provisioning for a Warehouse-sized Computer,
//!   ISCA 2007). A service draws its requested share of the span; the idle part is drawn always, or only while the node
//!   hosts something where empty nodes are switched off. A sensor's reading moves the whole line up or down (see
//!   [`Evaluator::new`]); the slope stays the inventory's.
//! - **carbon**: power times the site's intensity.

use std::collections::{BTreeMap, BTreeSet};

use sterna_policies::policy::{Metric, Policy};
use sterna_policies::quantity::{Cores, GramsPerHour, Millis, UsdPerHour, Watts};

use super::numbers::{Hosting, Latencies, Latency, SiteNumbers, Unknowns, narrow, needed, product, quotient};
use crate::continuum::{Node, NodeName, Placement, Price, Service, ServiceName, SiteName};
use crate::observation::{Observation, Unknown};
use crate::plan::Effect;

const MICRO: i128 = 1_000_000;
const GIB: i128 = 1 << 30;

/// What one service is worth on one node, apart from what the node costs by being used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    /// Latency that its users see.
    latency: Latency,
    /// USD/h for its cores and memory, in millionths.
    cost: i64,
    /// Watts for its share of the node's load, in millionths.
    power: i64,
    /// g/h for that power, in millionths; `None` where the intensity is unknown.
    carbon: Option<i64>,
}

/// What a node costs, draws and emits by hosting anything at all, in millionths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// USD/h.
    pub cost: i64,
    /// Watts; zero where an empty node is not switched off.
    pub power: i64,
    /// g/h.
    pub carbon: Option<i64>,
}

/// The services that run, the nodes, and what each is worth on each. Services and nodes are numbered in the order of their
/// names; an assignment is a node's number for each service.
#[derive(Debug)]
pub struct Evaluator<'a> {
    /// The services that run on a node of the continuum.
    pub services: Vec<(&'a ServiceName, &'a Service)>,
    /// All nodes.
    pub nodes: Vec<(&'a NodeName, &'a Node)>,
    /// Where each service runs now.
    pub now: Vec<usize>,
    /// What each node adds while it hosts something.
    pub openings: Vec<Opening>,
    /// Services on their way: service and destination.
    pub arriving: Vec<(usize, usize)>,
    /// Sum of the request rates for each service.
    pub demand: Vec<i128>,
    /// The metrics that the policy's objective and limits use.
    pub needed: BTreeSet<Metric>,
    /// What the policy asks for and what is neither measured nor in the inventory.
    pub unknown: Vec<Unknown>,
    /// Watts and g/h of the idle nodes that are never switched off.
    standing: (i64, Option<i64>),
    /// How many services each node has now.
    hosted: Vec<u32>,
    /// Whether one is on its way to it.
    awaited: Vec<bool>,
    /// What each service is worth on nodes of each kind.
    pairs: Vec<Vec<Pair>>,
    /// The number of each node's kind: those of one site with as many cores are alike.
    kind: Vec<usize>,
    /// The number of each node's site, of those of all nodes.
    site: Vec<usize>,
    /// By service and site.
    latencies: Vec<Vec<Told>>,
    /// By site, without the latency and with it.
    missing: Vec<[BTreeSet<Metric>; 2]>,
    modelled: Vec<[BTreeSet<Metric>; 2]>,
}

/// What is known of the latency of a service at a site.
#[derive(Debug, Clone, Copy)]
struct Told {
    /// In millionths; zero where nobody asks.
    value: Option<i64>,
    missing: bool,
    modelled: bool,
}

impl<'a> Evaluator<'a> {
    /// Reads everything that a decision needs off an observation.
    ///
    /// A sensor's power reading of a site replaces the level of its line: `idle = reading - (full - idle) * use`, at least
    /// zero, where `use` is the measured processor use, or else the requested share of the site's processors. It is taken
    /// only where every node of the site is certainly switched on, because the reading of a node that is off says nothing
    /// of what it draws when it is used.
    pub fn new(observation: &'a Observation, policy: &Policy) -> Self {
        let continuum = &observation.continuum;
        let nodes: Vec<(&NodeName, &Node)> = continuum.nodes.iter().collect();
        let number: BTreeMap<&NodeName, usize> =
            nodes.iter().enumerate().map(|(n, (name, _))| (*name, n)).collect();
        let mut services = Vec::new();
        let mut now = Vec::new();
        for (name, service) in &continuum.services {
            if let Some(node) = observation.placement.get(name).and_then(|node| number.get(node)) {
                services.push((name, service));
                now.push(*node);
            }
        }
        let arriving: Vec<(usize, usize)> = observation
            .under_way
            .iter()
            .filter_map(|moving| {
                let service = services.iter().position(|(name, _)| **name == moving.service)?;
                Some((service, *number.get(&moving.to)?))
            })
            .filter(|(service, to)| now[*service] != *to)
            .collect();
        let needed = needed(policy);
        let mut hosting: Vec<Hosting> = nodes
            .iter()
            .map(|(_, node)| Hosting { size: node.cpu.as_micros(), requested: 0, hosts: false })
            .collect();
        for ((_, service), at) in services.iter().zip(&now) {
            hosting[*at].requested = hosting[*at].requested.saturating_add(service.cpu.as_micros());
            hosting[*at].hosts = true;
        }
        let mut here: BTreeMap<&SiteName, Vec<Hosting>> = BTreeMap::new();
        for ((_, node), hosting) in nodes.iter().zip(hosting) {
            here.entry(&node.site).or_default().push(hosting);
        }
        let numbers: BTreeMap<&SiteName, SiteNumbers> = continuum
            .sites
            .iter()
            .map(|(name, site)| {
                let here = here.get(name).map(Vec::as_slice).unwrap_or_default();
                (name, SiteNumbers::new(observation, policy, &needed, name, site, here))
            })
            .collect();
        let nowhere = SiteNumbers::default();

        let listed = continuum.sites.iter().zip(numbers.values());
        let mut sites: Vec<(&SiteName, &Price, &SiteNumbers)> =
            listed.map(|((name, site), numbers)| (name, &site.price, numbers)).collect();
        let unlisted = Price::default();
        for (_, node) in &nodes {
            if !sites.iter().any(|(name, ..)| **name == node.site) {
                sites.push((&node.site, &unlisted, &nowhere));
            }
        }
        let names: Vec<&SiteName> = sites.iter().map(|(name, ..)| *name).collect();
        let latencies = Latencies::new(observation, policy, &names);
        // Every node's site is among them.
        let number_of = |site: &SiteName| names.iter().position(|name| *name == site).unwrap_or(0);

        let mut unknown = Unknowns { list: Vec::new(), seen: &observation.unknown };
        for (site, numbers) in &numbers {
            for metric in &numbers.missing {
                unknown.add(*metric, site, None, "no sample, and the policy does not allow a modelled one");
            }
        }
        let site: Vec<usize> = nodes.iter().map(|(_, node)| number_of(&node.site)).collect();
        let mut kinds: Vec<(usize, Cores)> = Vec::new();
        let kind_of = |(site, (_, node)): (&usize, &(_, &Node))| {
            let kind = (*site, node.cpu);
            kinds.iter().position(|known| *known == kind).unwrap_or_else(|| {
                kinds.push(kind);
                kinds.len() - 1
            })
        };
        let kind = site.iter().zip(&nodes).map(kind_of).collect();
        let mut evaluator = Self {
            pairs: Vec::with_capacity(services.len()),
            kind,
            openings: Vec::with_capacity(nodes.len()),
            demand: Vec::with_capacity(services.len()),
            latencies: Vec::with_capacity(services.len()),
            missing: Vec::with_capacity(sites.len()),
            modelled: Vec::with_capacity(sites.len()),
            standing: (0, Some(0)),
            hosted: vec![0; nodes.len()],
            awaited: vec![false; nodes.len()],
            site,
            services,
            nodes,
            now,
            arriving,
            needed,
            unknown: Vec::new(),
        };
        for (_, node) in &evaluator.nodes {
            let site = numbers.get(&node.site).unwrap_or(&nowhere);
            let carbon = site.intensity.map(|grams| emission(site.idle, grams));
            if site.off_when_empty {
                evaluator.openings.push(Opening { cost: site.price, power: site.idle, carbon });
            } else {
                evaluator.openings.push(Opening { cost: site.price, power: 0, carbon: carbon.map(|_| 0) });
                evaluator.standing.0 = evaluator.standing.0.saturating_add(site.idle);
                evaluator.standing.1 =
                    evaluator.standing.1.zip(carbon).map(|(sum, more)| sum.saturating_add(more));
            }
        }
        let wants_latency = evaluator.needed.contains(&Metric::UserLatency);
        let with = |set: &BTreeSet<Metric>| {
            let mut with = set.clone();
            with.insert(Metric::UserLatency);
            [set.clone(), with]
        };
        for (_, _, numbers) in &sites {
            evaluator.missing.push(with(&numbers.missing));
            evaluator.modelled.push(with(&numbers.modelled));
        }
        for ((_, service), asking) in evaluator.services.iter().zip(latencies.asking(&evaluator.services)) {
            let demand: i128 = asking.iter().map(|(_, rate)| i128::from(*rate)).sum();
            let seen: Vec<_> = (0..sites.len()).map(|site| latencies.of(&asking, site)).collect();
            let told = seen.iter().map(|seen| Told {
                value: match seen.value {
                    Latency::NoDemand => Some(0),
                    Latency::Missing => None,
                    Latency::Weighted(sum) => Some(quotient(sum, demand.max(1))),
                },
                missing: wants_latency && !seen.missing.is_empty(),
                modelled: seen.modelled,
            });
            let told = told.collect();
            let own = sites.iter().map(|(_, price, _)| {
                product(price.core.as_micros(), service.cpu.as_micros().into(), MICRO)
                    .saturating_add(product(price.gib.as_micros(), i128::from(service.memory.0), GIB))
            });
            let own: Vec<i64> = own.collect();
            let mut pairs: Vec<Pair> = Vec::with_capacity(kinds.len());
            for (site, cpu) in &kinds {
                let (name, _, numbers) = sites[*site];
                let power = product(numbers.slope, service.cpu.as_micros().into(), cpu.as_micros().into());
                if wants_latency {
                    for users in &seen[*site].missing {
                        unknown.add(
                            Metric::UserLatency,
                            name,
                            Some(users),
                            "no sample, and no modelled one to take",
                        );
                    }
                }
                pairs.push(Pair {
                    latency: seen[*site].value,
                    cost: own[*site],
                    power,
                    carbon: numbers.intensity.map(|grams| emission(power, grams)),
                });
            }
            evaluator.pairs.push(pairs);
            evaluator.latencies.push(told);
            evaluator.demand.push(demand);
        }
        for node in &evaluator.now {
            evaluator.hosted[*node] += 1;
        }
        for (_, to) in &evaluator.arriving {
            evaluator.awaited[*to] = true;
        }
        evaluator.unknown = unknown.list;
        evaluator
    }

    /// The number of a service that runs.
    pub fn service(&self, name: &ServiceName) -> Option<usize> {
        self.services.binary_search_by_key(&name, |(other, _)| other).ok()
    }

    /// The number of a node.
    pub fn node(&self, name: &NodeName) -> Option<usize> {
        self.nodes.binary_search_by_key(&name, |(other, _)| other).ok()
    }

    /// The number of a node's kind: on nodes of one kind a service has the same latency and adds the same.
    pub fn kind(&self, node: usize) -> usize {
        self.kind[node]
    }

    /// The kinds of all nodes.
    pub fn kinds(&self) -> Vec<u32> {
        self.kind.iter().map(|kind| *kind as u32).collect()
    }

    /// How many kinds there are.
    pub fn kinds_count(&self) -> usize {
        self.kind.iter().max().map_or(0, |last| last + 1)
    }

    /// Whether a service's [value](Evaluator::value) is the same on all nodes of a kind: all else but latency hangs on what else the
    /// node hosts.
    pub fn values_by_kind(metric: Metric) -> bool {
        metric == Metric::UserLatency
    }

    /// What a service is worth on a node.
    fn pair(&self, service: usize, node: usize) -> &Pair {
        &self.pairs[service][self.kind[node]]
    }

    /// The metrics that the policy needs and that are missing for a service on a node.
    pub fn missing(&self, service: usize, node: usize) -> &BTreeSet<Metric> {
        let site = self.site[node];
        &self.missing[site][usize::from(self.latencies[service][site].missing)]
    }

    /// The metrics whose value for a service on a node is computed, not measured.
    pub fn modelled(&self, service: usize, node: usize) -> &BTreeSet<Metric> {
        let site = self.site[node];
        &self.modelled[site][usize::from(self.latencies[service][site].modelled)]
    }

    /// Which nodes host something under an assignment, or are about to.
    pub fn open(&self, assignment: &[usize]) -> Vec<bool> {
        let mut open = vec![false; self.nodes.len()];
        for node in assignment.iter().chain(self.arriving.iter().map(|(_, to)| to)) {
            open[*node] = true;
        }
        open
    }

    /// What an assignment is worth.
    pub fn effect(&self, assignment: &[usize]) -> Effect {
        let (mut cost, mut power) = (0i128, i128::from(self.standing.0));
        let mut carbon = self.standing.1.map(i128::from);
        let emits = |sum: Option<i128>, more: Option<i64>| Some(sum? + i128::from(more?));
        let (mut weighted, mut demand, mut latency_known) = (0i128, 0i128, true);
        for (service, node) in assignment.iter().enumerate() {
            match self.pair(service, *node).latency {
                Latency::NoDemand => {}
                Latency::Missing => latency_known = false,
                Latency::Weighted(sum) => {
                    weighted += sum;
                    demand += self.demand[service];
                }
            }
        }
        let hosted = assignment.iter().copied().enumerate().chain(self.arriving.iter().copied());
        for (service, node) in hosted {
            let pair = self.pair(service, node);
            cost += i128::from(pair.cost);
            power += i128::from(pair.power);
            carbon = emits(carbon, pair.carbon);
        }
        for (node, open) in self.open(assignment).into_iter().enumerate() {
            if open {
                let opening = &self.openings[node];
                cost += i128::from(opening.cost);
                power += i128::from(opening.power);
                carbon = emits(carbon, opening.carbon);
            }
        }
        Effect {
            user_latency: (latency_known && demand > 0)
                .then(|| Millis::from_micros(narrow(weighted / demand))),
            cost_rate: UsdPerHour::from_micros(narrow(cost)),
            power: Watts::from_micros(narrow(power)),
            carbon_rate: carbon.map(|carbon| GramsPerHour::from_micros(narrow(carbon))),
        }
    }

    /// Latency of one service on one node in millionths; zero where nobody asks for it, `None` where it is missing.
    pub fn latency(&self, service: usize, node: usize) -> Option<i64> {
        self.latencies[service][self.site[node]].value
    }

    /// What a service adds to a metric on a node that is used anyway, in millionths; zero where it is unknown, which rules exclude.
    pub fn own(&self, service: usize, node: usize, metric: Metric) -> i64 {
        let pair = self.pair(service, node);
        match metric {
            Metric::UserLatency => self.latency(service, node).unwrap_or(0),
            Metric::CostRate => pair.cost,
            Metric::Power => pair.power,
            Metric::CarbonRate => pair.carbon.unwrap_or(0),
            Metric::CpuUse => 0,
        }
    }

    /// What each node adds to a metric by being used, in millionths; empty for latency.
    pub fn opening(&self, metric: Metric) -> Vec<i64> {
        let of = |value: fn(&Opening) -> i64| self.openings.iter().map(value).collect();
        match metric {
            Metric::UserLatency | Metric::CpuUse => Vec::new(),
            Metric::CostRate => of(|opening| opening.cost),
            Metric::Power => of(|opening| opening.power),
            Metric::CarbonRate => of(|opening| opening.carbon.unwrap_or(0)),
        }
    }

    /// Whether a node would be empty without this service, all else as it is now.
    fn empty_without(&self, service: usize, node: usize) -> bool {
        self.hosted[node] == u32::from(self.now[service] == node) && !self.awaited[node]
    }

    /// What a service is worth on a node, all else as it is now: what it adds there, the node's own price and idle power
    /// among it where nothing else uses the node. Millionths; `None` where the number is missing.
    pub fn value(&self, service: usize, node: usize, metric: Metric) -> Option<i64> {
        let pair = self.pair(service, node);
        let opening = &self.openings[node];
        let alone = self.empty_without(service, node);
        let with = |own: i64, opening: i64| if alone { own.saturating_add(opening) } else { own };
        match metric {
            Metric::UserLatency => self.latency(service, node),
            Metric::CostRate => Some(with(pair.cost, opening.cost)),
            Metric::Power => Some(with(pair.power, opening.power)),
            Metric::CarbonRate => Some(with(pair.carbon?, opening.carbon?)),
            Metric::CpuUse => None,
        }
    }

    /// [`Evaluator::value`] of all metrics; `None` where a number that the policy needs is missing.
    pub fn effect_on(&self, service: usize, node: usize) -> Option<Effect> {
        if !self.missing(service, node).is_empty() {
            return None;
        }
        let value = |metric| self.value(service, node, metric);
        let demanded = self.demand[service] > 0;
        Some(Effect {
            user_latency: value(Metric::UserLatency).filter(|_| demanded).map(Millis::from_micros),
            cost_rate: UsdPerHour::from_micros(value(Metric::CostRate).unwrap_or(0)),
            power: Watts::from_micros(value(Metric::Power).unwrap_or(0)),
            carbon_rate: value(Metric::CarbonRate).map(GramsPerHour::from_micros),
        })
    }

    /// An assignment as a placement; what is not numbered stays as it was.
    pub fn placement(&self, observation: &Observation, assignment: &[usize]) -> Placement {
        let mut placement = observation.placement.clone();
        for (service, node) in assignment.iter().enumerate() {
            placement.insert(self.services[service].0.clone(), self.nodes[*node].0.clone());
        }
        placement
    }
}

/// Watts times g/kWh, both in millionths, as g/h in millionths.
fn emission(watts: i64, grams_per_kwh: i64) -> i64 {
    product(watts, i128::from(grams_per_kwh), MICRO * 1000)
}
