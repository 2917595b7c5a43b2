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
    /// The groups that each service is in.
    of: BTreeMap<usize, Vec<usize>>,
    /// As services are now.
    now: Crowds,
    /// Services on their way to another place count in both.
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

/// How many members of each group are in each of its places.
#[derive(Debug, Clone, Default)]
pub struct Crowds(Vec<Vec<i64>>);

impl Spread {
    fn exclusion(&self) -> Exclusion {
        Exclusion::Spread { label: self.label.clone(), value: self.value.clone(), per: self.per }
    }

    /// How many are too many where so many are.
    fn excess(&self, count: i64) -> i64 {
        (count - i64::from(self.most)).max(0)
    }
}

impl Spreads {
    /// Of an observation.
    pub fn new(observation: &Observation, evaluator: &Evaluator<'_>, policy: &Policy) -> Self {
        let mut groups: Vec<Spread> = Vec::new();
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
        let mut of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (number, group) in groups.iter().enumerate() {
            for service in &group.members {
                of.entry(*service).or_default().push(number);
            }
        }
        let mut spreads = Self { groups, of, now: Crowds::default(), arriving: evaluator.arriving.clone() };
        let mut now = spreads.crowds(&evaluator.now);
        for (service, to) in &spreads.arriving {
            for group in spreads.groups_of(*service) {
                let part = &spreads.groups[group].part;
                if part[*to] != part[evaluator.now[*service]] {
                    now.0[group][part[*to] as usize] += 1;
                }
            }
        }
        spreads.now = now;
        spreads
    }

    fn groups_of(&self, service: usize) -> impl Iterator<Item = usize> + '_ {
        self.of.get(&service).into_iter().flatten().copied()
    }

    /// How many are where, without those that are about to arrive.
    fn crowds(&self, at: &[usize]) -> Crowds {
        let count = |group: &Spread| {
            let mut count = vec![0; group.part.iter().max().map_or(0, |last| *last as usize + 1)];
            for service in &group.members {
                count[group.part[at[*service]] as usize] += 1;
            }
            count
        };
        Crowds(self.groups.iter().map(count).collect())
    }

    /// As it is now, those that are about to arrive among them, but for the services that an assignment moves.
    pub fn after(&self, evaluator: &Evaluator<'_>, target: &[usize]) -> Crowds {
        let mut crowds = self.now.clone();
        for service in (0..target.len()).filter(|service| target[*service] != evaluator.now[*service]) {
            self.go(&mut crowds, service, evaluator.now[service], target[service]);
        }
        crowds
    }

    /// Takes a service from one node to another.
    pub fn go(&self, crowds: &mut Crowds, service: usize, from: usize, to: usize) {
        for group in self.groups_of(service) {
            let part = &self.groups[group].part;
            crowds.0[group][part[from] as usize] -= 1;
            crowds.0[group][part[to] as usize] += 1;
        }
    }

    /// The groups of which more would be too many if a service went from one node to another.
    fn worse(
        &self,
        crowds: &Crowds,
        service: usize,
        from: usize,
        to: usize,
    ) -> impl Iterator<Item = &Spread> {
        self.groups_of(service).filter_map(move |number| {
            let (group, count) = (&self.groups[number], &crowds.0[number]);
            let (from, to) = (group.part[from] as usize, group.part[to] as usize);
            let more = group.excess(count[to] + 1) - group.excess(count[to]);
            let less = group.excess(count[from]) - group.excess(count[from] - 1);
            (from != to && more > less).then_some(group)
        })
    }

    /// Whether more would be too many if a service went from one node to another.
    pub fn would_crowd(&self, crowds: &Crowds, service: usize, from: usize, to: usize) -> bool {
        self.worse(crowds, service, from, to).next().is_some()
    }

    /// The rules that a service helps to break where it is: too many of its group are there.
    pub fn crowded(&self, crowds: &Crowds, service: usize, node: usize) -> Vec<Exclusion> {
        let crowded = |number: &usize| {
            let group = &self.groups[*number];
            group.excess(crowds.0[*number][group.part[node] as usize]) > 0
        };
        let groups = self.groups_of(service).filter(crowded);
        groups.map(|number| self.groups[number].exclusion()).collect()
    }

    /// As services are now.
    pub const fn now(&self) -> &Crowds {
        &self.now
    }

    /// The rules that keep a service from a node, all else as it is now.
    pub fn exclusions(&self, now: usize, service: usize, node: usize) -> Vec<Exclusion> {
        self.worse(&self.now, service, now, node).map(Spread::exclusion).collect()
    }

    /// The rule of this number in the model.
    pub fn rule(&self, number: usize) -> Option<Exclusion> {
        self.in_the_model().nth(number).map(Spread::exclusion)
    }

    /// Those that can be broken at all: more services than may be in one place.
    fn in_the_model(&self) -> impl Iterator<Item = &Spread> {
        let arrive = |group: &Spread| {
            self.arriving.iter().filter(|(service, _)| group.members.binary_search(service).is_ok()).count()
        };
        self.groups.iter().filter(move |group| group.members.len() + arrive(group) > group.most as usize)
    }

    /// Adds the rules to a model: none may become worse, and what is broken is mended first of all.
    pub fn extend(&self, evaluator: &Evaluator<'_>, model: &mut Model) {
        for group in self.in_the_model() {
            let level = match group.per {
                Per::Node => Level::Bin,
                per => Level::Scope(scope(model, per, &group.part)),
            };
            let running = group.members.iter().map(|service| *service as u32);
            let arrives = |(_, (service, to)): &(u32, &(usize, usize))| {
                group.members.binary_search(service).is_ok()
                    && group.part[*to] != group.part[evaluator.now[*service]]
            };
            let arriving = (0u32..).zip(&self.arriving).filter(arrives);
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
