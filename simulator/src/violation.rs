//! For how long services broke a rule of the policy where they ran.
//!
//! A rule is one of the policy's `[constraints]` that look at one service and one node: a highest value, tiers, regions. A service
//! breaks it while the decision engine itself would say so of the node that it runs on, in the numbers that the policy sees.
//! Nothing changes between two events, so the time is exact and not sampled at the looks. A service that stands still goes on
//! breaking what it broke; the time for which it stood still is told apart from this, as downtime.

use std::collections::BTreeMap;

use sterna_core::continuum::ServiceName;
use sterna_core::placement::evaluate::Evaluator;
use sterna_core::placement::exclude::Rules;
use sterna_core::report::Exclusion;
use sterna_policies::policy::{Constraints, Policy};
use sterna_policies::quantity::Millis;

use crate::report::Violation;
use crate::world::World;

/// Counts for how long the rules of one policy are broken.
#[derive(Debug)]
pub struct Watch<'p> {
    policy: &'p Policy,
    /// What is broken from the last event on.
    now: Vec<(ServiceName, Exclusion)>,
    /// Nanoseconds.
    past: BTreeMap<ServiceName, Vec<(Exclusion, u64)>>,
}

impl<'p> Watch<'p> {
    /// Over a policy. `None` where it has no rule of this kind.
    pub fn new(policy: &'p Policy) -> Option<Self> {
        let Constraints { max, tiers, regions, .. } = &policy.constraints;
        let has_rules = !max.is_empty() || !tiers.is_empty() || !regions.is_empty();
        has_rules.then(|| Self { policy, now: Vec::new(), past: BTreeMap::new() })
    }

    /// Looks at the world after an event.
    pub fn see(&mut self, world: &World<'_>) {
        let observation = world.observe(self.policy);
        let evaluator = Evaluator::new(&observation, self.policy);
        let rules = Rules::new(&observation, self.policy, &evaluator);
        self.now.clear();
        for (service, (name, about)) in evaluator.services.iter().enumerate() {
            if !self.policy.select.has_service(name.as_str(), &about.labels) {
                continue;
            }
            let broken = rules.exclusions(service, evaluator.now[service]);
            let ours = broken
                .into_iter()
                .filter(|one| matches!(one, Exclusion::Max { .. } | Exclusion::Tier | Exclusion::Region));
            self.now.extend(ours.map(|rule| ((*name).clone(), rule)));
        }
    }

    /// Lets time pass until the next event.
    pub fn pass(&mut self, nanos: u64) {
        for (service, rule) in &self.now {
            let past = self.past.entry(service.clone()).or_default();
            match past.iter_mut().find(|(one, _)| one == rule) {
                Some((_, sum)) => *sum += nanos,
                None => past.push((rule.clone(), nanos)),
            }
        }
    }

    /// All that was broken for any time, by service.
    pub fn into_violations(self) -> Vec<Violation> {
        let mut all = Vec::new();
        for (service, past) in self.past {
            for (rule, nanos) in past.into_iter().filter(|(_, nanos)| *nanos > 0) {
                let time = Millis::from_micros(i64::try_from(nanos).unwrap_or(i64::MAX));
                all.push(Violation { service: service.clone(), rule, time });
            }
        }
        all
    }
}
