//! How many moves may be under way at one time: in all, from or to a site, between two sites.

use std::collections::BTreeMap;

use sterna_policies::policy::Budget;

use crate::assignment::order::Step;
use crate::continuum::SiteName;
use crate::observation::Observation;
use crate::placement::evaluate::Evaluator;

/// What the budget leaves beside the moves that are under way already.
#[derive(Debug)]
pub struct Abreast<'a> {
    /// In all.
    pub total: usize,
    budget: &'a Budget,
    sites: Vec<&'a SiteName>,
    under_way: Counts<'a>,
}

/// How many moves there are of a site, and between two.
#[derive(Debug, Clone, Default)]
struct Counts<'a> {
    of_site: BTreeMap<&'a SiteName, usize>,
    of_link: BTreeMap<[&'a SiteName; 2], usize>,
}

impl<'a> Counts<'a> {
    fn add(&mut self, from: &'a SiteName, to: &'a SiteName) {
        *self.of_site.entry(from).or_default() += 1;
        if from != to {
            *self.of_site.entry(to).or_default() += 1;
            *self.of_link.entry(link(from, to)).or_default() += 1;
        }
    }

    /// The limit that one more move would exceed.
    fn full(&self, budget: &Budget, from: &'a SiteName, to: &'a SiteName) -> Option<u32> {
        let reached = |limit: Option<u32>, count: Option<&usize>| {
            limit.filter(|limit| count.is_some_and(|count| *count >= *limit as usize))
        };
        reached(budget.concurrent_per_site, self.of_site.get(from))
            .or_else(|| reached(budget.concurrent_per_site, self.of_site.get(to)))
            .or_else(|| reached(budget.concurrent_per_link, self.of_link.get(&link(from, to))))
    }
}

/// A link has no direction.
fn link<'a>(a: &'a SiteName, b: &'a SiteName) -> [&'a SiteName; 2] {
    if a < b { [a, b] } else { [b, a] }
}

impl<'a> Abreast<'a> {
    /// What is left of a budget.
    pub fn new(observation: &'a Observation, evaluator: &'a Evaluator<'a>, budget: &'a Budget) -> Self {
        let site = |node| observation.continuum.nodes.get(node).map(|node| &node.site);
        let mut under_way = Counts::default();
        for moving in observation.counted() {
            match (site(&moving.from), site(&moving.to)) {
                (Some(from), Some(to)) => under_way.add(from, to),
                (Some(end), None) | (None, Some(end)) => *under_way.of_site.entry(end).or_default() += 1,
                (None, None) => {}
            }
        }
        let concurrent = usize::try_from(budget.concurrent).unwrap_or(usize::MAX);
        Self {
            total: concurrent.saturating_sub(observation.counted().count()),
            budget,
            sites: evaluator.nodes.iter().map(|(_, node)| &node.site).collect(),
            under_way,
        }
    }

    /// The limit that keeps a move between two nodes from beginning now, whatever else moves.
    pub fn full(&self, from: usize, to: usize) -> Option<u32> {
        if self.total == 0 {
            return Some(self.budget.concurrent);
        }
        self.under_way.full(self.budget, self.sites[from], self.sites[to])
    }

    /// Waves in which no site and no link has too many moves: what is too many of one waits for a next.
    ///
    /// Steps of one wave may go in any order, and each alone, so what a wave promised holds for its parts.
    pub fn split(&self, waves: Vec<Vec<Step>>) -> Vec<Vec<Step>> {
        if self.budget.concurrent_per_site.is_none() && self.budget.concurrent_per_link.is_none() {
            return waves;
        }
        let mut split = Vec::with_capacity(waves.len());
        for mut waiting in waves {
            while !waiting.is_empty() {
                let mut counts = self.under_way.clone();
                let mut fits = |step: &Step| {
                    let (from, to) = (self.sites[step.from as usize], self.sites[step.to as usize]);
                    let fits = counts.full(self.budget, from, to).is_none();
                    if fits {
                        counts.add(from, to);
                    }
                    fits
                };
                let (mut wave, mut rest): (Vec<Step>, Vec<Step>) =
                    waiting.into_iter().partition(|step| fits(step));
                // One that nothing but what is under way keeps back is found out afterwards.
                if wave.is_empty() {
                    wave.push(rest.remove(0));
                }
                split.push(wave);
                waiting = rest;
            }
        }
        split
    }
}
