//! That services which are to be spread are never closer together than they were at the start.

use std::collections::{BTreeMap, BTreeSet};

use sterna_policies::policy::{Per, Policy, Spread};

use super::Finding;
use crate::continuum::{NodeName, ServiceName};
use crate::observation::Observation;
use crate::plan::Move;

/// Where services are, wave after wave.
pub(super) struct Crowds<'a> {
    observation: &'a Observation,
    policy: &'a Policy,
    at: BTreeMap<&'a ServiceName, &'a NodeName>,
    /// How many are too many by each rule and value at the start.
    start: BTreeMap<(usize, &'a str), usize>,
}

impl<'a> Crowds<'a> {
    pub(super) fn new(observation: &'a Observation, policy: &'a Policy) -> Self {
        let at = observation.placement.iter().collect();
        let mut crowds = Self { observation, policy, at, start: BTreeMap::new() };
        crowds.start = crowds.excess(&[]);
        crowds
    }

    /// Moves what a wave moves. Where several of one group go in it, any may be first, so both ends count while they do.
    pub(super) fn pass(&mut self, wave: &'a [Move], number: u32) -> Result<(), Finding> {
        if self.policy.constraints.spread.is_empty() {
            return Ok(());
        }
        let both = |one: &Move| {
            let rules = || self.policy.constraints.spread.iter();
            let value = |service, rule: &Spread| self.value(service, rule);
            wave.iter().any(|other| {
                other.service != one.service
                    && rules().any(|rule| {
                        let own = value(&one.service, rule);
                        own.is_some() && own == value(&other.service, rule)
                    })
            })
        };
        let crowded: Vec<&Move> = wave.iter().filter(|one| both(one)).collect();
        self.judge(&crowded, number)?;
        for one in wave {
            self.at.insert(&one.service, &one.to);
        }
        self.judge(&[], number)
    }

    fn judge(&self, also: &[&'a Move], wave: u32) -> Result<(), Finding> {
        let excess = self.excess(also);
        let worse = excess.iter().find(|(of, count)| **count > self.start.get(*of).copied().unwrap_or(0));
        match worse {
            None => Ok(()),
            Some(((rule, value), _)) => {
                let Spread { label, per, .. } = &self.policy.constraints.spread[*rule];
                Err(Finding::Spread { label: label.clone(), value: (*value).to_owned(), per: *per, wave })
            }
        }
    }

    /// How many services are too many, by rule and value; `also` are on their way and count at both ends.
    fn excess(&self, also: &[&'a Move]) -> BTreeMap<(usize, &'a str), usize> {
        let arriving = self.observation.under_way.iter().map(|one| (&one.service, &one.to));
        let going = also.iter().map(|one| (&one.service, &one.to));
        let placed = self.at.iter().map(|(service, node)| (*service, *node));
        let everywhere: Vec<_> = placed.chain(arriving).chain(going).collect();
        let mut excess = BTreeMap::new();
        for (number, rule) in self.policy.constraints.spread.iter().enumerate() {
            let mut crowds: BTreeMap<(&str, &str), BTreeSet<(&ServiceName, &NodeName)>> = BTreeMap::new();
            for (service, node) in &everywhere {
                if let Some((value, place)) = self.value(service, rule).zip(self.place(node, rule.per)) {
                    crowds.entry((value, place)).or_default().insert((service, node));
                }
            }
            for ((value, _), crowd) in crowds {
                *excess.entry((number, value)).or_insert(0) += crowd.len().saturating_sub(rule.most as usize);
            }
        }
        excess
    }

    fn value(&self, service: &ServiceName, rule: &Spread) -> Option<&'a str> {
        let about = self.observation.continuum.services.get(service)?;
        about.labels.get(&rule.label).map(String::as_str)
    }

    fn place(&self, node: &'a NodeName, per: Per) -> Option<&'a str> {
        let about = self.observation.continuum.nodes.get(node)?;
        let site = self.observation.continuum.sites.get(&about.site)?;
        Some(match per {
            Per::Node => node.as_str(),
            Per::Site => about.site.as_str(),
            Per::Region => &site.region,
            Per::Tier => &site.tier,
        })
    }
}
