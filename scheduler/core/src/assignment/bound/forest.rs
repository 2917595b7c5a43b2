//! Items that talk to each other, as far as they form trees: the best places of a tree's items can be told exactly.

use std::cmp::Reverse;

use super::classes::Classes;
use super::{part, reached};
use crate::assignment::model::{Flow, Level, Model, Objective, Rule, Term};

/// No tree has more items: its tables would take long.
const LARGEST: u32 = 64;
/// Ways are not looked at between more parts than so many.
const STRAIGHT: usize = 1000;
/// What can't be.
pub(super) const NEVER: i64 = i64::MAX / 4;

/// How far parts are apart.
#[derive(Debug)]
struct Apart<'a> {
    /// Nothing where both have to be on the same part.
    distance: Option<&'a [Vec<i64>]>,
    /// The part of each class.
    part: Vec<u32>,
    /// Parts that have bins.
    reached: Vec<usize>,
    /// From each part, the distance of the nearest other one.
    nearest: Vec<i64>,
    /// For two parts, one row after the other, whether from the first no way by the second is shorter than the straight one.
    straight: Vec<bool>,
}

/// A flow that no tree has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loop {
    pub(super) one: u32,
    pub(super) other: u32,
    apart: usize,
    volume: i64,
}

/// An item of a tree.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) item: u32,
    /// Where in the tree the one before stands that it talks to, about what and how much.
    talks: Option<(usize, usize, i64)>,
}

/// All items, in trees.
#[derive(Debug)]
pub(super) struct Forest<'a> {
    apart: Vec<Apart<'a>>,
    /// Each item stands behind the one that it talks to.
    pub(super) trees: Vec<Vec<Member>>,
    /// Flows that are left out.
    pub(super) loops: Vec<Loop>,
    /// What is left out costs at least.
    pub(super) others: i128,
}

/// Where a member is best by where the one is that it talks to.
#[derive(Debug, Default)]
struct Message {
    /// What that costs, by part.
    cost: Vec<i64>,
    /// The class, by the other's part.
    class: Vec<u32>,
}

/// Room for the work on a tree.
#[derive(Debug, Default)]
pub(super) struct Table {
    costs: Vec<Vec<i64>>,
    messages: Vec<Message>,
    order: Vec<(i64, usize, u32)>,
    sources: Vec<(i64, usize, u32)>,
    best: Vec<(i64, u32)>,
    /// The class of each member where the tree costs least.
    pub(super) classes: Vec<u32>,
}

impl<'a> Forest<'a> {
    pub(super) fn new(model: &Model, objective: &'a Objective, classes: &Classes) -> Self {
        let mut forest = Self { apart: Vec::new(), trees: Vec::new(), loops: Vec::new(), others: 0 };
        let mut edges = Vec::new();
        for term in &objective.terms {
            let Term::Traffic { level, distance, flows } = term else { continue };
            let apart = Apart::new(model, *level, Some(distance), classes);
            let widest = apart.nearest.iter().max().map_or(0, |widest| i128::from(*widest));
            let merged = merged(flows).into_iter();
            edges.extend(merged.map(|flow| (i128::from(flow.volume) * widest, forest.apart.len(), flow)));
            forest.apart.push(apart);
        }
        for (level, pairs) in inseparable(model) {
            let apart = forest.apart.len();
            forest.apart.push(Apart::new(model, level, None, classes));
            let flow = |(one, other)| Flow { one, other, volume: 0 };
            edges.extend(pairs.into_iter().map(|pair| (i128::MAX, apart, flow(pair))));
        }
        // What costs most first.
        edges.sort_by_key(|(weight, apart, flow)| (Reverse(*weight), *apart, flow.one, flow.other));
        let mut roots: Vec<u32> = (0..model.items.len() as u32).collect();
        let mut sizes = vec![1u32; model.items.len()];
        let mut talks: Vec<Vec<(u32, usize, i64)>> = vec![Vec::new(); model.items.len()];
        for (_, apart, flow) in edges {
            let (one, other) = (root(&mut roots, flow.one), root(&mut roots, flow.other));
            let size = sizes[one as usize] + sizes[other as usize];
            if one == other || size > LARGEST {
                forest.others += i128::from(flow.volume) * forest.apart[apart].least();
                if flow.volume > 0 {
                    forest.loops.push(Loop { one: flow.one, other: flow.other, apart, volume: flow.volume });
                }
                continue;
            }
            roots[one as usize] = other;
            sizes[other as usize] = size;
            talks[flow.one as usize].push((flow.other, apart, flow.volume));
            talks[flow.other as usize].push((flow.one, apart, flow.volume));
        }
        let mut seen = vec![false; model.items.len()];
        for first in 0..model.items.len() as u32 {
            if std::mem::replace(&mut seen[first as usize], true) {
                continue;
            }
            let mut tree = vec![Member { item: first, talks: None }];
            let mut at = 0;
            while at < tree.len() {
                for (other, apart, volume) in &talks[tree[at].item as usize] {
                    if !std::mem::replace(&mut seen[*other as usize], true) {
                        tree.push(Member { item: *other, talks: Some((at, *apart, *volume)) });
                    }
                }
                at += 1;
            }
            forest.trees.push(tree);
        }
        forest
    }

    /// How many parts are looked at for all flows.
    pub(super) fn work(&self) -> u64 {
        let talks = self.trees.iter().flatten().filter_map(|member| member.talks);
        talks.map(|(_, apart, _)| 8 * self.apart[apart].reached.len() as u64).sum()
    }

    /// The part of each class as a flow has it, and how many parts there are.
    pub(super) fn parts(&self, flow: &Loop) -> (&[u32], usize) {
        let apart = &self.apart[flow.apart];
        (&apart.part, apart.nearest.len())
    }

    /// What a flow costs at least beyond what it has to in any case, where each end costs so much by its part; and where its ends are.
    pub(super) fn beyond(
        &self,
        flow: &Loop,
        scale: i64,
        (one, other): (&[i64], &[i64]),
        table: &mut Table,
    ) -> (i128, usize, usize) {
        let apart = &self.apart[flow.apart];
        table.best.clear();
        table.best.extend(other.iter().copied().zip(0..));
        table.messages.resize_with(table.messages.len().max(1), Message::default);
        apart.pass(table, 0, flow.volume * scale);
        let message = &table.messages[0];
        let at = apart.reached.iter().map(|part| (one[*part] + message.cost[*part], *part)).min();
        let (least, part) = at.unwrap_or_default();
        let always = i128::from(flow.volume * scale) * apart.least();
        (i128::from(least) - always, part, message.class[part] as usize)
    }

    /// What the items of a tree cost at least together, where `costs` says what an item costs by class; where they are then stands
    /// in the table.
    pub(super) fn least(
        &self,
        tree: &[Member],
        classes: usize,
        scale: i64,
        table: &mut Table,
        mut costs: impl FnMut(u32, &mut [i64]),
    ) -> i64 {
        table.costs.resize_with(tree.len().max(table.costs.len()), Vec::new);
        table.messages.resize_with(tree.len().max(table.messages.len()), Message::default);
        for (member, cost) in tree.iter().zip(&mut table.costs) {
            cost.resize(classes, NEVER);
            costs(member.item, cost);
        }
        for at in (1..tree.len()).rev() {
            let Some((before, apart, volume)) = tree[at].talks else { continue };
            let apart = &self.apart[apart];
            apart.message(table, at, volume * scale);
            let message = &table.messages[at];
            for (cost, part) in table.costs[before].iter_mut().zip(&apart.part) {
                *cost = (*cost + message.cost[*part as usize]).min(NEVER);
            }
        }
        let root = table.costs[0].iter().enumerate().min_by_key(|(_, cost)| **cost);
        let (class, least) = root.map_or((0, 0), |(class, cost)| (class as u32, *cost));
        table.classes.clear();
        table.classes.push(class);
        for (at, member) in tree.iter().enumerate().skip(1) {
            let Some((before, apart, _)) = member.talks else { continue };
            let part = self.apart[apart].part[table.classes[before] as usize];
            table.classes.push(table.messages[at].class[part as usize]);
        }
        least
    }
}

impl<'a> Apart<'a> {
    fn new(model: &Model, level: Level, distance: Option<&'a [Vec<i64>]>, classes: &Classes) -> Self {
        let reached = reached(model, level);
        let mut nearest = vec![0; model.parts(level)];
        for (from, distance) in reached.iter().flat_map(|from| distance.map(|distance| (from, distance))) {
            let others = reached.iter().filter(|to| *to != from).map(|to| distance[*from][*to]);
            nearest[*from] = others.min().unwrap_or(0);
        }
        let mut straight = Vec::new();
        if let Some(distance) = distance.filter(|_| reached.len() <= STRAIGHT) {
            straight.resize(nearest.len() * nearest.len(), false);
            for (from, by) in reached.iter().flat_map(|from| reached.iter().map(move |by| (*from, *by))) {
                let no_shorter = |to: &usize| distance[from][*to] <= distance[from][by] + distance[by][*to];
                straight[from * nearest.len() + by] = reached.iter().all(no_shorter);
            }
        }
        Self { distance, part: classes.parts(model, level), reached, nearest, straight }
    }

    /// The least distance that there is.
    fn least(&self) -> i128 {
        let Some(distance) = self.distance else { return 0 };
        let own = |part: &usize| distance[*part][*part].min(self.nearest[*part]);
        self.reached.iter().map(own).min().map_or(0, i128::from)
    }

    /// What a member costs with all behind it, by where the one before is.
    fn message(&self, table: &mut Table, at: usize, volume: i64) {
        let Table { costs, best, .. } = table;
        best.clear();
        best.resize(self.nearest.len(), (NEVER, 0));
        for (class, (cost, part)) in costs[at].iter().zip(&self.part).enumerate() {
            let best = &mut best[*part as usize];
            *best = (*best).min((*cost, class as u32));
        }
        self.pass(table, at, volume);
    }

    /// The same where what is best of each part is known.
    fn pass(&self, table: &mut Table, at: usize, volume: i64) {
        let Table { messages, order, sources, best, .. } = table;
        let message = &mut messages[at];
        message.cost.clear();
        message.cost.resize(self.nearest.len(), NEVER);
        message.class.clear();
        message.class.resize(self.nearest.len(), 0);
        let Some(distance) = self.distance else {
            for to in &self.reached {
                (message.cost[*to], message.class[*to]) = best[*to];
            }
            return;
        };
        order.clear();
        order.extend(self.reached.iter().map(|part| (best[*part].0, *part, best[*part].1)));
        order.sort_unstable();
        // Where it is as good to be at another part that is on the way to nowhere, nobody has to be.
        sources.clear();
        for (cost, part, class) in &*order {
            let near = |(from, _, _): &&(i64, usize, u32)| {
                from.saturating_add(volume * self.nearest[*part]) <= *cost
            };
            let better = |(from, other, _): &(i64, usize, u32)| {
                self.straight.get(other * self.nearest.len() + part) == Some(&true)
                    && from.saturating_add(volume * distance[*other][*part]) <= *cost
            };
            if !sources.iter().take_while(near).any(better) {
                sources.push((*cost, *part, *class));
            }
        }
        for to in &self.reached {
            let distance = &distance[*to];
            let (cost, class) = best[*to];
            let mut least = (cost.saturating_add(volume * distance[*to]), class);
            for (cost, part, class) in &*sources {
                // The others cost as much even if they are the nearest.
                if cost.saturating_add(volume * self.nearest[*to]) >= least.0 {
                    break;
                }
                if part != to {
                    least = least.min((cost.saturating_add(volume * distance[*part]), *class));
                }
            }
            message.cost[*to] = least.0.min(NEVER);
            message.class[*to] = least.1;
        }
    }
}

/// Items that a hard rule, which holds now, keeps on the same part: of a group that is on one, and those that need a single other.
fn inseparable(model: &Model) -> Vec<(Level, Vec<(u32, u32)>)> {
    let group = |group: u32| &model.groups[group as usize].items;
    let of_rule = |rule: &Rule| -> Option<(Level, Vec<(u32, u32)>)> {
        let (level, pairs): (Level, Vec<(u32, u32)>) = match *rule {
            Rule::CoLocation { group: of, level } => {
                (level, group(of).windows(2).map(|pair| (pair[0], pair[1])).collect())
            }
            Rule::Dependency { group: of, needs, level } if group(needs).len() == 1 => {
                let needed = group(needs)[0];
                (
                    level,
                    group(of).iter().filter(|item| **item != needed).map(|item| (*item, needed)).collect(),
                )
            }
            _ => return None,
        };
        let now = |item: u32| part(model, level, model.items[item as usize].now);
        pairs.iter().all(|(one, other)| now(*one) == now(*other)).then_some((level, pairs))
    };
    let mut by_level: std::collections::BTreeMap<Level, Vec<(u32, u32)>> = std::collections::BTreeMap::new();
    for (level, pairs) in model.rules.iter().filter_map(of_rule) {
        by_level.entry(level).or_default().extend(pairs);
    }
    by_level.into_iter().collect()
}

/// Flows between the same two items as one.
fn merged(flows: &[Flow]) -> Vec<Flow> {
    let ends = |flow: &Flow| (flow.one.min(flow.other), flow.one.max(flow.other));
    let mut sorted = flows.to_vec();
    sorted.sort_unstable_by_key(ends);
    let together = sorted.chunk_by(|one, next| ends(one) == ends(next));
    together.map(|same| Flow { volume: same.iter().map(|flow| flow.volume).sum(), ..same[0] }).collect()
}

fn root(roots: &mut [u32], mut item: u32) -> u32 {
    while roots[item as usize] != item {
        let next = roots[roots[item as usize] as usize];
        roots[item as usize] = next;
        item = next;
    }
    item
}
