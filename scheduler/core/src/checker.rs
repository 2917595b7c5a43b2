//! The independent judge of plans.
//!
//! Written apart from the solver's model and the evaluator, straight from the meaning of observation and policy: it replays a
//! plan wave by wave in exact integers and refuses what breaks a rule at the end or at any instant. A finding is a bug in what
//! made the plan.

use std::collections::{BTreeMap, BTreeSet};

use sterna_policies::policy::{Metric, Mode, Objective, OnMissing, Policy};
use sterna_policies::quantity::{GramsPerHour, Millis, UsdPerHour, Watts};
use thiserror::Error;

use crate::continuum::{Node, NodeName, Placement, Service, ServiceName, Site};
use crate::observation::{Observation, Source};
use crate::plan::{Effect, Move, Plan};
use crate::report::Exclusion;
use crate::state;

/// What is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Finding {
    /// It was made from another state.
    #[error("the plan was made from another state")]
    State,
    /// It moves something although the policy is off.
    #[error("the policy is off and the plan moves `{0}`")]
    Off(ServiceName),
    /// A move of a service that the policy or the state keeps where it is.
    #[error("`{service}` may not be moved: {reason}")]
    NotMovable {
        /// The service.
        service: ServiceName,
        /// Why.
        reason: &'static str,
    },
    /// A move that starts where the service is not, or goes nowhere.
    #[error(
        "the move of `{service}` from `{from}` to `{to}` does not start where the service is, or goes nowhere"
    )]
    Ends {
        /// The service.
        service: ServiceName,
        /// Where it is said to run.
        from: NodeName,
        /// Where it is said to go.
        to: NodeName,
    },
    /// A move to a node that a rule excludes.
    #[error("`{service}` may not run on `{node}`: {rule}")]
    Excluded {
        /// The service.
        service: ServiceName,
        /// The node.
        node: NodeName,
        /// The rule.
        rule: Exclusion,
    },
    /// A node that is too full while a wave runs or after it.
    #[error("`{node}` has not enough {what} in wave {wave}: {used} of {limit}")]
    Full {
        /// The node.
        node: NodeName,
        /// `processor` in millionths of a core, or `memory` in bytes.
        what: &'static str,
        /// The wave.
        wave: u32,
        /// What would be used.
        used: i128,
        /// What may be used.
        limit: i128,
    },
    /// Waves that are not numbered 0, 1, 2 … in the order of the moves.
    #[error("wave {0} is out of order")]
    Waves(u32),
    /// More moves at one time than the budget allows.
    #[error("{moves} moves at one time in wave {wave}; the budget leaves {left}")]
    Budget {
        /// The wave.
        wave: u32,
        /// Its moves.
        moves: usize,
        /// What the budget leaves.
        left: usize,
    },
    /// A method other than the policy's.
    #[error("`{0}` is moved by another method than the policy's")]
    Method(ServiceName),
    /// The placement that the moves lead to is not the one that the plan claims.
    #[error("the moves do not lead to the placement that the plan claims")]
    Placement,
    /// The worth of a placement is not what the plan claims.
    #[error("the plan claims {claimed:?} {when} and it is {found:?}")]
    Effect {
        /// `before` or `after`.
        when: &'static str,
        /// By the plan.
        claimed: Box<Effect>,
        /// By the checker.
        found: Box<Effect>,
    },
}

/// Judges a plan.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check(observation: &Observation, policy: &Policy, plan: &Plan) -> Result<(), Finding> {
    if plan.state != state::hash(observation) {
        return Err(Finding::State);
    }
    let judge = Judge { observation, policy };
    judge.replay(&plan.moves)?;
    let mut placement = observation.placement.clone();
    for one in &plan.moves {
        placement.insert(one.service.clone(), one.to.clone());
    }
    if placement != plan.placement {
        return Err(Finding::Placement);
    }
    for (when, claimed, placement) in
        [("before", plan.before, &observation.placement), ("after", plan.after, &placement)]
    {
        let found = judge.effect(placement);
        if found != claimed {
            return Err(Finding::Effect { when, claimed: Box::new(claimed), found: Box::new(found) });
        }
    }
    Ok(())
}

/// Processor in millionths of a core and memory in bytes, used on a node.
type Used<'a> = BTreeMap<&'a NodeName, (i128, i128)>;

struct Judge<'a> {
    observation: &'a Observation,
    policy: &'a Policy,
}

impl<'a> Judge<'a> {
    fn replay(&self, moves: &'a [Move]) -> Result<(), Finding> {
        let mut moved = BTreeSet::new();
        for one in moves {
            if !moved.insert(&one.service) {
                return Err(Finding::NotMovable {
                    service: one.service.clone(),
                    reason: "it is moved twice",
                });
            }
            self.may_move(one)?;
            self.may_run(&one.service, &one.to)?;
        }

        let mut used = self.used_now();
        let start = used.clone();
        let left = (self.policy.budget.concurrent as usize).saturating_sub(self.observation.under_way.len());
        let mut rest = moves;
        let mut wave = 0;
        while let Some(first) = rest.first() {
            if first.wave != wave {
                return Err(Finding::Waves(first.wave));
            }
            let size = rest.iter().take_while(|one| one.wave == wave).count();
            let (these, later) = rest.split_at(size);
            if size > left {
                return Err(Finding::Budget { wave, moves: size, left });
            }
            for one in these {
                self.add(&mut used, &one.service, &one.to, 1);
            }
            self.room(&used, &start, wave)?;
            for one in these {
                self.add(&mut used, &one.service, &one.from, -1);
            }
            rest = later;
            wave += 1;
        }
        Ok(())
    }

    fn may_move(&self, one: &Move) -> Result<(), Finding> {
        let keep = |reason| Err(Finding::NotMovable { service: one.service.clone(), reason });
        if self.policy.mode == Mode::Off {
            return Err(Finding::Off(one.service.clone()));
        }
        let Some(service) = self.observation.continuum.services.get(&one.service) else {
            return keep("it is not in the continuum");
        };
        if service.pinned {
            return keep("it is pinned");
        }
        if !self.policy.select.has_service(&one.service.0) {
            return keep("the policy is not about it");
        }
        if self.observation.under_way.iter().any(|other| other.service == one.service) {
            return keep("it is being moved already");
        }
        if self.observation.placement.get(&one.service) != Some(&one.from) || one.from == one.to {
            let (service, from, to) = (one.service.clone(), one.from.clone(), one.to.clone());
            return Err(Finding::Ends { service, from, to });
        }
        if !self.observation.reachable.contains(&one.from) {
            return keep("its node does not answer");
        }
        if one.method != self.policy.migration.method {
            return Err(Finding::Method(one.service.clone()));
        }
        if self.missing(&one.service, &one.from).is_some() {
            return keep("a number is missing for where it runs");
        }
        Ok(())
    }

    fn may_run(&self, service: &ServiceName, node: &NodeName) -> Result<(), Finding> {
        let refuse = |rule| Err(Finding::Excluded { service: service.clone(), node: node.clone(), rule });
        let (policy, continuum) = (self.policy, &self.observation.continuum);
        if !self.observation.reachable.contains(node) {
            return refuse(Exclusion::Unreachable);
        }
        let Some(about) = continuum.nodes.get(node) else { return refuse(Exclusion::Unreachable) };
        if about.drain {
            return refuse(Exclusion::Draining);
        }
        let Some(site) = continuum.sites.get(&about.site) else { return refuse(Exclusion::SiteNotSelected) };
        if !policy.select.has_site(&about.site.0) {
            return refuse(Exclusion::SiteNotSelected);
        }
        let limits = &policy.constraints;
        if !(limits.tiers.is_empty() || limits.tiers.contains(&site.tier)) {
            return refuse(Exclusion::Tier);
        }
        if !(limits.regions.is_empty() || limits.regions.contains(&site.region)) {
            return refuse(Exclusion::Region);
        }
        if let Some(metric) = self.missing(service, node) {
            return refuse(Exclusion::MetricMissing { metric });
        }
        let from = self.observation.placement.get(service);
        for (metric, level) in &limits.max {
            let Some(there) = self.worth(service, node, *metric) else { continue };
            let here = from.and_then(|from| self.worth(service, from, *metric));
            if there > i128::from(level.as_micros()) && here.is_none_or(|here| there > here) {
                return refuse(Exclusion::Max { metric: *metric });
            }
        }
        Ok(())
    }

    // ---- room ----

    fn add(&self, used: &mut Used<'a>, service: &ServiceName, node: &'a NodeName, times: i128) {
        if let Some(service) = self.observation.continuum.services.get(service) {
            let (cpu, memory) = used.entry(node).or_default();
            *cpu += times * i128::from(service.cpu.as_micros());
            *memory += times * i128::from(service.memory.0);
        }
    }

    fn used_now(&self) -> Used<'a> {
        let mut used = Used::new();
        for (service, node) in &self.observation.placement {
            self.add(&mut used, service, node, 1);
        }
        for moving in self.arriving() {
            self.add(&mut used, &moving.service, &moving.to, 1);
        }
        used
    }

    /// Migrations under way whose destination does not have the service already.
    fn arriving(&self) -> impl Iterator<Item = &'a crate::observation::UnderWay> {
        let (placement, continuum) = (&self.observation.placement, &self.observation.continuum);
        self.observation.under_way.iter().filter(move |moving| {
            let at = placement.get(&moving.service).filter(|at| continuum.nodes.contains_key(*at));
            continuum.nodes.contains_key(&moving.to) && at.is_some_and(|at| *at != moving.to)
        })
    }

    fn room(&self, used: &Used<'_>, start: &Used<'_>, wave: u32) -> Result<(), Finding> {
        let busy = 100_000_000 - i128::from(self.policy.constraints.min_free.as_micros());
        let busy = busy.clamp(0, 100_000_000);
        for (node, about) in &self.observation.continuum.nodes {
            let (cpu, memory) = used.get(node).copied().unwrap_or_default();
            let (cpu_before, memory_before) = start.get(node).copied().unwrap_or_default();
            for (what, used, before, size) in [
                ("processor", cpu, cpu_before, i128::from(about.cpu.as_micros())),
                ("memory", memory, memory_before, i128::from(about.memory.0)),
            ] {
                // Too full already: it must not get fuller.
                if used > before && used * 100_000_000 > size * busy {
                    return Err(Finding::Full {
                        node: node.clone(),
                        what,
                        wave,
                        used,
                        limit: size * busy / 100_000_000,
                    });
                }
            }
        }
        Ok(())
    }

    // ---- worth ----

    fn policy_needs(&self, metric: Metric) -> bool {
        let in_objective = match &self.policy.objective {
            Objective::Lexicographic { terms } => terms.iter().any(|term| term.metric == metric),
            Objective::Priced { terms } => terms.iter().any(|term| term.metric == metric),
        };
        in_objective || self.policy.constraints.max.contains_key(&metric)
    }

    /// The first metric that the policy needs and that is not known of a service on a node.
    fn missing(&self, service: &ServiceName, node: &NodeName) -> Option<Metric> {
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
        if reading.source != Source::Measured || !all_on {
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

    fn grams(watts: i128, site: &Site) -> i128 {
        site.carbon.map_or(0, |grams| watts * i128::from(grams.as_micros()) / 1_000_000_000)
    }

    /// What a service adds to a metric on a node, all else as it is, in millionths.
    fn worth(&self, service: &ServiceName, node: &NodeName, metric: Metric) -> Option<i128> {
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
                site.carbon?;
                Some(Self::grams(self.draw(about, of_node, site), site) + Self::grams(idle, site))
            }
            Metric::CpuUse => None,
        }
    }

    /// What a placement is worth.
    fn effect(&self, placement: &Placement) -> Effect {
        let continuum = &self.observation.continuum;
        let (mut cost, mut power, mut carbon) = (0i128, 0i128, 0i128);
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
            let Some(site) = continuum.sites.get(&of_node.site) else { continue };
            let watts = self.draw(about, of_node, site);
            cost += self.share(about, site);
            power += watts;
            carbon += Self::grams(watts, site);
        }
        for (name, node) in &continuum.nodes {
            let Some(site) = continuum.sites.get(&node.site) else { continue };
            if in_use.contains(name) {
                cost += self.price(node, site);
            }
            if in_use.contains(name) || !site.power.off_when_empty {
                let watts = self.idle(node, site);
                power += watts;
                carbon += Self::grams(watts, site);
            }
        }
        let whole = |sum: i128| sum.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
        Effect {
            user_latency: (known && rates > 0).then(|| Millis::from_micros(whole(sum / rates))),
            cost_rate: UsdPerHour::from_micros(whole(cost)),
            power: Watts::from_micros(whole(power)),
            carbon_rate: GramsPerHour::from_micros(whole(carbon)),
        }
    }
}
