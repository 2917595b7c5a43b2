//! Which rules exclude a node for a service.

use std::collections::{BTreeMap, BTreeSet};

use sterna_policies::policy::{Metric, OnMissing, Policy};

use super::evaluate::Evaluator;
use super::numbers::on_missing;
use super::room::Room;
use super::spread::Spreads;
use crate::continuum::{Node, NodeName, Site};
use crate::observation::Observation;
use crate::report::{Exclusion, Hold};

/// What the rules say of a node, whatever the service.
#[derive(Debug, Clone, Copy)]
struct OfNode {
    reachable: bool,
    draining: bool,
    cordoned: bool,
    selected: bool,
    tier: bool,
    region: bool,
}

/// Rules that look at a node as a whole, and at whether the service is there.
const OF_NODE: [Exclusion; 7] = [
    Exclusion::Unreachable,
    Exclusion::Draining,
    Exclusion::Cordoned,
    Exclusion::Pinned,
    Exclusion::SiteNotSelected,
    Exclusion::Tier,
    Exclusion::Region,
];

/// The rules of one policy over one observation.
#[derive(Debug)]
pub struct Rules<'a> {
    observation: &'a Observation,
    policy: &'a Policy,
    evaluator: &'a Evaluator<'a>,
    /// What is to be said of each node, whatever the service.
    nodes: Vec<OfNode>,
    /// Those that look at several services together.
    pub spreads: Spreads,
}

impl<'a> Rules<'a> {
    /// Over an observation that was read into an evaluator.
    pub fn new(observation: &'a Observation, policy: &'a Policy, evaluator: &'a Evaluator<'a>) -> Self {
        let reachable: BTreeSet<&NodeName> = observation.reachable.iter().collect();
        let Observation { continuum, directives, .. } = observation;
        let limits = &policy.constraints;
        let of_node = |(name, node): &(&NodeName, &Node)| {
            let site = continuum.sites.get(&node.site);
            let within = |words: &[String], word: fn(&Site) -> &String| {
                words.is_empty() || site.is_none_or(|site| words.contains(word(site)))
            };
            OfNode {
                reachable: reachable.contains(*name),
                draining: node.drain || directives.drains(continuum, name),
                cordoned: directives.cordons(continuum, name),
                // A node of no known site has no price, power or latency.
                selected: site.is_some_and(|site| policy.select.has_site(node.site.as_str(), &site.labels)),
                tier: within(&limits.tiers, |site| &site.tier),
                region: within(&limits.regions, |site| &site.region),
            }
        };
        Self {
            observation,
            policy,
            evaluator,
            nodes: evaluator.nodes.iter().map(of_node).collect(),
            spreads: Spreads::new(observation, evaluator, policy),
        }
    }

    /// Whether the node's agent answered.
    pub fn reachable(&self, node: usize) -> bool {
        self.nodes[node].reachable
    }

    /// Whether a service is the policy's to move, as far as what is known of it goes; else what holds it.
    ///
    /// # Errors
    /// The rule that holds it.
    pub fn may_move(&self, service: usize) -> Result<bool, Hold> {
        let (name, about) = self.evaluator.services[service];
        if !self.policy.select.has_service(name.as_str(), &about.labels) {
            return Ok(false);
        }
        if self.observation.under_way.iter().any(|moving| moving.service == *name) {
            return Err(Hold::UnderWay);
        }
        if !self.reachable(self.evaluator.now[service]) {
            return Err(Hold::NotRunning);
        }
        Ok(!about.pinned)
    }

    /// The rules that exclude a node for a service, whatever else moves. Those of the node where the service runs now are the
    /// rules that it breaks there; it may stay all the same, because a rule that is broken already must only not get worse.
    pub fn exclusions(&self, service: usize, node: usize) -> Vec<Exclusion> {
        self.excluding(service, node).collect()
    }

    /// Whether there are any.
    pub fn excludes(&self, service: usize, node: usize) -> bool {
        self.of_node(service, node).contains(&true)
            || self.beyond(service, node).next().is_some()
            || self.blank(service, node).next().is_some()
    }

    fn excluding(&self, service: usize, node: usize) -> impl Iterator<Item = Exclusion> + '_ {
        let of_node = self.of_node(service, node).into_iter().zip(OF_NODE);
        let of_node = of_node.filter(|(excludes, _)| *excludes).map(|(_, rule)| rule);
        let beyond = self.beyond(service, node).map(|metric| Exclusion::Max { metric });
        let blank = self.blank(service, node).map(|metric| Exclusion::MetricMissing { metric });
        of_node.chain(beyond).chain(blank)
    }

    /// Which of [`OF_NODE`] exclude a node.
    fn of_node(&self, service: usize, node: usize) -> [bool; OF_NODE.len()] {
        let here = self.evaluator.now[service] == node;
        let OfNode { reachable, draining, cordoned, selected, tier, region } = self.nodes[node];
        let pinned = self.evaluator.services[service].1.pinned;
        [!reachable, draining, !here && cordoned, !here && pinned, !here && !selected, !tier, !region]
    }

    /// Metrics in which a service would be worse on a node than it may be, and than it is.
    fn beyond(&self, service: usize, node: usize) -> impl Iterator<Item = Metric> + '_ {
        let now = self.evaluator.now[service];
        let value = move |node, metric| self.evaluator.value(service, node, metric);
        let limits = self.policy.constraints.max.iter();
        limits.filter_map(move |(metric, level)| {
            let (there, max) = (value(node, *metric)?, level.as_micros());
            let allowed = match value(now, *metric) {
                Some(value) if node != now => max.max(value),
                _ => max,
            };
            (there > allowed).then_some(*metric)
        })
    }

    /// Metrics that are missing on a node, for want of which it is no place.
    fn blank(&self, service: usize, node: usize) -> impl Iterator<Item = Metric> + '_ {
        let missing = self.evaluator.missing(service, node).iter();
        missing.copied().filter(|metric| on_missing(self.policy, *metric) == OnMissing::ExcludeSite)
    }

    /// How many rules a service breaks on a node: what the placement mends before it looks at the objective.
    pub fn broken(&self, service: usize, node: usize) -> i64 {
        let over = |(metric, level): (&_, &sterna_policies::policy::Level)| {
            self.evaluator.value(service, node, *metric).is_some_and(|value| value > level.as_micros())
        };
        let limits = self.policy.constraints.max.iter().filter(|limit| over((limit.0, limit.1))).count();
        let OfNode { draining, tier, region, .. } = self.nodes[node];
        let others = [draining, !tier, !region].into_iter().filter(|broken| *broken).count();
        i64::try_from(limits + others).unwrap_or(i64::MAX)
    }

    /// Whether a service breaks as many rules on all nodes of a kind.
    pub fn breaks_by_kind(&self) -> bool {
        let mut known: BTreeMap<usize, [bool; 3]> = BTreeMap::new();
        let mut alike = |(node, of): (usize, &OfNode)| {
            let broken = [of.draining, of.tier, of.region];
            *known.entry(self.evaluator.kind(node)).or_insert(broken) == broken
        };
        self.policy.constraints.max.keys().all(|metric| Evaluator::values_by_kind(*metric))
            && self.nodes.iter().enumerate().all(&mut alike)
    }

    /// [`Rules::exclusions`], and capacity and spread with all else as it is now.
    pub fn all(&self, service: usize, node: usize, room: &Room) -> Vec<Exclusion> {
        let mut found = self.exclusions(service, node);
        let lacks = match self.evaluator.now[service] == node {
            true => room.is_beyond(node),
            false => !room.fits(node, self.evaluator.services[service].1),
        };
        if lacks {
            found.push(Exclusion::Capacity);
        }
        found.extend(match self.evaluator.now[service] == node {
            true => self.spreads.crowded(self.spreads.now(), service, node),
            false => self.spreads.exclusions(self.evaluator.now[service], service, node),
        });
        found
    }
}
