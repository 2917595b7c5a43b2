//! The independent judge of plans.
//!
//! Written apart from the solver's model and the evaluator, straight from the meaning of observation and policy: it replays a
//! plan wave by wave in exact integers and refuses what breaks a rule at the end or at any instant. A finding is a bug in what
//! made the plan.

use std::collections::BTreeMap;

use sterna_policies::policy::{Mode, Per, Policy};
use thiserror::Error;

use self::crowds::Crowds;
use crate::continuum::{NodeName, ServiceName};
use crate::directive::{Ask, Place};
use crate::observation::{Observation, UnderWay};
use crate::plan::{Effect, Move, Plan};
use crate::report::Exclusion;
use crate::state;

pub mod assignment;
mod crowds;
mod worth;

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
    /// Too many services of one label's value in one place while a wave runs or after it.
    #[error("too many services with {label}={value} are on one {} in wave {wave}", per.name())]
    Spread {
        /// The label.
        label: String,
        /// Its value.
        value: String,
        /// What a place is.
        per: Per,
        /// The wave.
        wave: u32,
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

impl Finding {
    /// Whether it is a number that is not known.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::NotMovable { reason, .. } => *reason == MISSING,
            Self::Excluded { rule, .. } => matches!(rule, Exclusion::MetricMissing { .. }),
            _ => false,
        }
    }
}

/// What keeps a service of which it can't be told what its going changes.
const MISSING: &str = "a number is missing for where it runs";

/// Judges moves by the rules alone: whoever made them from an earlier look at the same state could not know today's numbers.
///
/// # Errors
/// The first rule that they break.
pub fn rules(observation: &Observation, policy: &Policy, moves: &[Move]) -> Result<(), Finding> {
    Judge { observation, policy }.replay(moves)
}

/// Judges a plan.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check(observation: &Observation, policy: &Policy, plan: &Plan) -> Result<(), Finding> {
    if plan.state != state::hash(observation) {
        return Err(Finding::State);
    }
    check_fresh(observation, policy, plan)
}

/// Judges a plan that was made of this very observation, and does not say so by its state's hash.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check_fresh(observation: &Observation, policy: &Policy, plan: &Plan) -> Result<(), Finding> {
    rules(observation, policy, &plan.moves)?;
    let mut placement = observation.placement.clone();
    for one in &plan.moves {
        placement.insert(one.service.clone(), one.to.clone());
    }
    if placement != plan.placement {
        return Err(Finding::Placement);
    }
    let judge = Judge { observation, policy };
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
        let mut last: BTreeMap<&ServiceName, &Move> = BTreeMap::new();
        for one in moves {
            let before = last.insert(&one.service, one);
            if before.is_some_and(|before| !before.parks || before.wave >= one.wave) {
                let reason = "it is moved twice, and not parked before";
                return Err(Finding::NotMovable { service: one.service.clone(), reason });
            }
            self.may_move(one, before)?;
            self.may_run(&one.service, &one.to)?;
        }
        if let Some(parked) = last.into_values().find(|one| one.parks) {
            let reason = "it is parked and goes nowhere from there";
            return Err(Finding::NotMovable { service: parked.service.clone(), reason });
        }

        let mut used = self.used_now();
        let start = used.clone();
        let mut crowds = Crowds::new(self.observation, self.policy);
        let left = (self.policy.budget.concurrent as usize).saturating_sub(self.running().count());
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
            self.abreast(these, wave)?;
            for one in these {
                self.add(&mut used, &one.service, &one.to, 1);
            }
            self.room(&used, &start, wave)?;
            crowds.pass(these, wave)?;
            for one in these {
                self.add(&mut used, &one.service, &one.from, -1);
            }
            rest = later;
            wave += 1;
        }
        Ok(())
    }

    /// Migrations under way that take from the budget: not those whose time is over.
    fn running(&self) -> impl Iterator<Item = &'a UnderWay> {
        let Observation { under_way, overdue, .. } = self.observation;
        under_way.iter().filter(|one| !overdue.contains(&one.service))
    }

    /// No site and no link has more moves at one time than the budget allows, those among them that are under way.
    fn abreast(&self, these: &[Move], wave: u32) -> Result<(), Finding> {
        let site = |node: &NodeName| self.observation.continuum.nodes.get(node).map(|node| &node.site);
        let planned = these.iter().map(|one| (&one.from, &one.to));
        let running = self.running().map(|one| (&one.from, &one.to));
        let ends: Vec<_> = planned.chain(running).map(|(from, to)| (site(from), site(to))).collect();
        let budget = &self.policy.budget;
        if budget.concurrent_per_site.is_none() && budget.concurrent_per_link.is_none() {
            return Ok(());
        }
        for (from, to) in ends.iter().take(these.len()) {
            let touching = |end| ends.iter().filter(|(a, b)| *a == end || *b == end).count();
            let same = |other: &(_, _)| *other == (*from, *to) || *other == (*to, *from);
            let between = ends.iter().filter(|other| same(other)).count();
            let limits = [
                (budget.concurrent_per_site, touching(*from).max(touching(*to))),
                (budget.concurrent_per_link, if from == to { 0 } else { between }),
            ];
            for (limit, moves) in limits {
                if let Some(left) = limit.map(|limit| limit as usize).filter(|left| moves > *left) {
                    return Err(Finding::Budget { wave, moves, left });
                }
            }
        }
        Ok(())
    }

    /// Whether a move may be made; `before` is where its service was parked.
    fn may_move(&self, one: &Move, before: Option<&Move>) -> Result<(), Finding> {
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
        for directive in &self.observation.directives.0 {
            match &directive.ask {
                Ask::Pause => return keep("everything is paused"),
                Ask::OptOut { service } if *service == one.service => {
                    return keep("somebody wants it to stay");
                }
                Ask::OptOut { .. } | Ask::Cordon { .. } | Ask::Drain { .. } => {}
            }
        }
        if !self.policy.select.has_service(one.service.as_str(), &service.labels) {
            return keep("the policy is not about it");
        }
        if self.observation.under_way.iter().any(|other| other.service == one.service) {
            return keep("it is being moved already");
        }
        let at =
            before.map_or_else(|| self.observation.placement.get(&one.service), |before| Some(&before.to));
        if at != Some(&one.from) || one.from == one.to {
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
            return keep(MISSING);
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
        for directive in &self.observation.directives.0 {
            let (place, rule) = match &directive.ask {
                Ask::Drain { place } => (place, Exclusion::Draining),
                Ask::Cordon { place } => (place, Exclusion::Cordoned),
                Ask::Pause | Ask::OptOut { .. } => continue,
            };
            let concerned = match place {
                Place::Node(name) => name == node,
                Place::Site(name) => *name == about.site,
            };
            if concerned {
                return refuse(rule);
            }
        }
        let Some(site) = continuum.sites.get(&about.site) else { return refuse(Exclusion::SiteNotSelected) };
        if !policy.select.has_site(about.site.as_str(), &site.labels) {
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
}
