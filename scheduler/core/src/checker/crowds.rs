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
        crowds.start = crowds.excess(&[], |_, _| true);
        crowds
    }

    /// Moves what a wave moves. Where several of one group go in it, any may be first, so both ends count while they do.
    pub(super) fn pass(&mut self, wave: &'a [Move], number: u32) -> Result<(), Finding> {
        let rules = &self.policy.constraints.spread;
        let groups_of = |one: &Move| {
            let of = |(rule, spread)| Some((rule, self.value(&one.service, spread)?));
            rules.iter().enumerate().filter_map(of).collect::<Vec<(usize, &'a str)>>()
        };
        let mut touched: BTreeMap<(usize, &str), usize> = BTreeMap::new();
        for group in wave.iter().flat_map(groups_of) {
            *touched.entry(group).or_default() += 1;
        }
        if touched.is_empty() {
            self.go(wave);
            return Ok(());
        }
        let several = |one: &&Move| groups_of(one).iter().any(|group| touched[group] > 1);
        let both: Vec<&Move> = wave.iter().filter(several).collect();
        self.judge(&both, &touched, number)?;
        self.go(wave);
        self.judge(&[], &touched, number)
    }

    fn go(&mut self, wave: &'a [Move]) {
        for one in wave {
            self.at.insert(&one.service, &one.to);
        }
    }

    fn judge(
        &self,
        also: &[&'a Move],
        touched: &BTreeMap<(usize, &'a str), usize>,
        wave: u32,
    ) -> Result<(), Finding> {
        let excess = self.excess(also, |rule, value| touched.contains_key(&(rule, value)));
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
    fn excess(
        &self,
        also: &[&'a Move],
        asked: impl Fn(usize, &'a str) -> bool,
    ) -> BTreeMap<(usize, &'a str), usize> {
        let rules = &self.policy.constraints.spread;
        let mut excess = BTreeMap::new();
        if rules.is_empty() {
            return excess;
        }
        // One that is not found where it is said to come from is nowhere.
        let found = |service| self.observation.placement.contains_key(service);
        let arriving = self.observation.under_way.iter().filter(|one| found(&one.service));
        let arriving = arriving.map(|one| (&one.service, &one.to));
        let going = also.iter().map(|one| (&one.service, &one.to));
        let placed = self.at.iter().map(|(service, node)| (*service, *node));
        let everywhere: Vec<_> = placed.chain(arriving).chain(going).collect();
        for (number, rule) in rules.iter().enumerate() {
            let mut crowds: BTreeMap<(&str, &str), BTreeSet<&ServiceName>> = BTreeMap::new();
            for (service, node) in &everywhere {
                let Some(value) = self.value(service, rule).filter(|value| asked(number, value)) else {
                    continue;
                };
                if let Some(place) = self.place(node, rule.per) {
                    crowds.entry((value, place)).or_default().insert(service);
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
