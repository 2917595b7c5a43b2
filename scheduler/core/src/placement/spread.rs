//! Services of which only so many may be in one place.

use std::collections::BTreeMap;

use sterna_policies::policy::{Per, Policy};

use super::evaluate::Evaluator;
use crate::assignment::model::{Group, Level, Model, Rule, Scope, Term};
use crate::observation::Observation;
use crate::report::Exclusion;

/// The groups that a policy spreads, as an observation has them.
#[derive(Debug)]
pub struct Spreads {
    groups: Vec<Spread>,
    /// Services on their way count where they are and where they arrive.
    arriving: Vec<(usize, usize)>,
}

#[derive(Debug)]
struct Spread {
    label: String,
    value: String,
    per: Per,
    most: u32,
    /// Services, ascending.
    members: Vec<usize>,
    /// The place that each node belongs to.
    part: Vec<u32>,
}

impl Spread {
    /// How many members are in each place.
    fn count(&self, at: &[usize], arriving: &[(usize, usize)]) -> Vec<i64> {
        let mut count = vec![0; self.part.iter().max().map_or(0, |last| *last as usize + 1)];
        let here = self.members.iter().map(|service| at[*service]);
        let arrives = arriving.iter().filter(|(service, _)| self.has(*service)).map(|(_, to)| *to);
        for node in here.chain(arrives) {
            count[self.part[node] as usize] += 1;
        }
        count
    }

    fn breaches(&self, at: &[usize], arriving: &[(usize, usize)]) -> i64 {
        self.count(at, arriving).into_iter().map(|count| (count - i64::from(self.most)).max(0)).sum()
    }

    fn has(&self, service: usize) -> bool {
        self.members.binary_search(&service).is_ok()
    }

    fn exclusion(&self) -> Exclusion {
        Exclusion::Spread { label: self.label.clone(), value: self.value.clone(), per: self.per }
    }
}

impl Spreads {
    /// Of an observation.
    pub fn new(observation: &Observation, evaluator: &Evaluator<'_>, policy: &Policy) -> Self {
        let mut groups = Vec::new();
        for rule in &policy.constraints.spread {
            let part = parts(observation, evaluator, rule.per);
            let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for (service, (_, about)) in evaluator.services.iter().enumerate() {
                if let Some(value) = about.labels.get(&rule.label) {
                    members.entry(value).or_default().push(service);
                }
            }
            let group = |(value, members): (&str, Vec<usize>)| Spread {
                label: rule.label.clone(),
                value: value.to_owned(),
                per: rule.per,
                most: rule.most,
                members,
                part: part.clone(),
            };
            groups.extend(members.into_iter().map(group));
        }
        Self { groups, arriving: evaluator.arriving.clone() }
    }

    /// How many services are too many where they are, in all.
    pub fn breaches(&self, at: &[usize]) -> i64 {
        self.groups.iter().map(|group| group.breaches(at, &self.arriving)).sum()
    }

    /// The rules that a service helps to break where it is: too many of its group are there.
    pub fn crowded(&self, at: &[usize], service: usize) -> Vec<Exclusion> {
        let crowded = |group: &&Spread| {
            let count = group.count(at, &self.arriving);
            count[group.part[at[service]] as usize] > i64::from(group.most)
        };
        self.groups.iter().filter(|group| group.has(service)).filter(crowded).map(Spread::exclusion).collect()
    }

    /// The rules that keep a service from a node, all else as it is now.
    pub fn exclusions(&self, now: &[usize], service: usize, node: usize) -> Vec<Exclusion> {
        let mut there = now.to_vec();
        there[service] = node;
        let worse =
            |group: &&Spread| group.breaches(&there, &self.arriving) > group.breaches(now, &self.arriving);
        self.groups.iter().filter(|group| group.has(service)).filter(worse).map(Spread::exclusion).collect()
    }

    /// The rule of this number in the model.
    pub fn rule(&self, number: usize) -> Option<Exclusion> {
        self.groups.get(number).map(Spread::exclusion)
    }

    /// Adds the rules to a model: none may become worse, and what is broken is mended first of all.
    pub fn extend(&self, evaluator: &Evaluator<'_>, model: &mut Model) {
        for group in &self.groups {
            let level = match group.per {
                Per::Node => Level::Bin,
                per => Level::Scope(scope(model, per, &group.part)),
            };
            let running = group.members.iter().map(|service| *service as u32);
            let arriving = (0u32..).zip(&self.arriving).filter(|(_, (service, _))| group.has(*service));
            let arriving = arriving.map(|(at, _)| evaluator.services.len() as u32 + at);
            let rule = Rule::Conflict { group: model.groups.len() as u32, level, most: group.most };
            model.groups.push(Group {
                name: format!("{}={}", group.label, group.value),
                items: running.chain(arriving).collect(),
            });
            if let Some(broken) = model.objectives.first_mut() {
                broken.terms.push(Term::Breach { rule: rule.clone(), weight: 1 });
            }
            model.rules.push(rule);
        }
    }
}

fn scope(model: &mut Model, per: Per, part: &[u32]) -> u32 {
    let known = model.scopes.iter().position(|scope| scope.name == per.name());
    let at = known.unwrap_or_else(|| {
        model.scopes.push(Scope { name: per.name().to_owned(), part: part.to_vec() });
        model.scopes.len() - 1
    });
    at as u32
}

/// The place that each node belongs to, counted in the order of nodes.
fn parts(observation: &Observation, evaluator: &Evaluator<'_>, per: Per) -> Vec<u32> {
    let mut known: BTreeMap<&str, u32> = BTreeMap::new();
    let mut number = |word| {
        let next = known.len() as u32;
        *known.entry(word).or_insert(next)
    };
    let mut parts = Vec::with_capacity(evaluator.nodes.len());
    for (name, node) in &evaluator.nodes {
        let word = match (per, observation.continuum.sites.get(&node.site)) {
            (Per::Node, _) => name.as_str(),
            (Per::Site, _) | (_, None) => node.site.as_str(),
            (Per::Region, Some(site)) => &site.region,
            (Per::Tier, Some(site)) => &site.tier,
        };
        parts.push(number(word));
    }
    parts
}
