//! What a policy wants of an observation, as an assignment problem: services on nodes.
//!
//! Items are the running services, by their numbers, and after them what is on its way to nodes; bins are the nodes. Rules of
//! the policy that look at one service at a time say which bins its item may go to.

use std::collections::BTreeSet;

use sterna_policies::policy::{Metric, Objective, Policy, PricedTerm, Term, Tolerance};

use super::evaluate::Evaluator;
use super::exclude::Rules;
use super::numbers::narrow;
use super::room::{Load, Room};
use crate::assignment::model::{self, Bin, Dimension, Item, Level, Model, Scope};

/// The name of the last objective.
pub const MOVES: &str = "moves";

const MICRO: i128 = 1_000_000;
/// More than any node has, in bytes or millionths of a core: what is larger counts as that much, so that sums stay in 64 bits.
const LARGEST: i128 = 1 << 50;
/// Past this, a solver could not tell one name from another beside the weight of a move.
const NAMED: i64 = 1_000_000;

/// The problem of placing the services of `movable`, all others stay. Places in `barred` are out of reach, by service and node.
pub fn model(
    evaluator: &Evaluator<'_>,
    rules: &Rules<'_>,
    room: &Room,
    policy: &Policy,
    movable: &BTreeSet<usize>,
    barred: &BTreeSet<(usize, usize)>,
) -> Model {
    Question::new(evaluator, rules, room, policy, movable).model(movable, barred)
}

/// What all problems of one observation share, whichever services may move and whichever places are out of reach.
#[derive(Debug)]
pub struct Question<'a> {
    evaluator: &'a Evaluator<'a>,
    rules: &'a Rules<'a>,
    /// Where each service may be, where it runs now always among them; ascending.
    options: Vec<Vec<usize>>,
    dimensions: Vec<Dimension>,
    bins: Vec<Bin>,
    /// What items use, in all dimensions.
    uses: Vec<Vec<i64>>,
    /// Nodes by their kinds.
    kinds: Scope,
    /// Before what the policy wants.
    broken: Pairs,
    beyond: Vec<model::Objective>,
    wanted: Vec<Wanted>,
}

/// What services are worth, by service and part; nothing for services that never have a choice, and for parts where they can't be.
#[derive(Debug)]
struct Pairs {
    /// Kinds of nodes, where nodes of a kind are worth the same, which are much fewer than nodes.
    level: Level,
    of: Vec<Vec<i64>>,
}

/// The scope of the nodes' kinds.
const KINDS: Level = Level::Scope(0);

/// An objective of the policy.
#[derive(Debug)]
struct Wanted {
    name: &'static str,
    pairs: Pairs,
    opening: Option<model::Term>,
    tolerance: Slack,
}

/// How much worse is as good.
#[derive(Debug, Clone, Copy)]
enum Slack {
    /// For each service that has a choice.
    Each(i64),
    All(model::Tolerance),
}

impl<'a> Question<'a> {
    /// Over an observation, for the services of `movable` at most.
    pub fn new(
        evaluator: &'a Evaluator<'a>,
        rules: &'a Rules<'a>,
        room: &Room,
        policy: &Policy,
        movable: &BTreeSet<usize>,
    ) -> Self {
        let options = |service: usize| -> Vec<usize> {
            if !movable.contains(&service) {
                return vec![evaluator.now[service]];
            }
            let alone_fits = |node: usize| Load::of(evaluator.services[service].1).within(room.limit[node]);
            let may = |node: &usize| {
                *node == evaluator.now[service] || (alone_fits(*node) && !rules.excludes(service, *node))
            };
            (0..evaluator.nodes.len()).filter(may).collect()
        };
        let options: Vec<Vec<usize>> = (0..evaluator.services.len()).map(options).collect();
        let relieves = (0..room.used.len()).any(|node| room.is_beyond(node));
        let dimension = |name: &str| Dimension { name: name.to_owned(), transient: false };
        let mut dimensions = vec![dimension("processor"), dimension("memory")];
        if relieves {
            dimensions.extend([dimension("processor in thousandths"), dimension("memory in MiB")]);
        }
        // Coarse amounts are only what is minimised: nobody is kept out by them.
        let loads = evaluator.services.iter().map(|(_, service)| coarse(Load::of(service), i128::div_euclid));
        let enough = loads.fold([0; 2], |sum, load| [0, 1].map(|of| i64::saturating_add(sum[of], load[of])));
        let enough = enough.map(|sum| sum.saturating_mul(2));
        let bin = |((name, _), limit): (&(&crate::continuum::NodeName, _), &Load)| Bin {
            name: name.to_string(),
            capacity: if relieves { with_coarse(*limit, enough) } else { amounts(*limit) },
        };
        let uses = |load: Load| match relieves {
            true => with_coarse(load, coarse(load, i128::div_euclid)),
            false => amounts(load),
        };
        let posed = Posed { evaluator, options: &options };
        let level = if rules.breaks_by_kind() { KINDS } else { Level::Bin };
        Self {
            evaluator,
            rules,
            dimensions,
            bins: evaluator.nodes.iter().zip(&room.limit).map(bin).collect(),
            uses: evaluator.services.iter().map(|(_, service)| uses(Load::of(service))).collect(),
            kinds: Scope { name: "kinds of nodes".to_owned(), part: evaluator.kinds() },
            broken: posed.pairs(level, |service, node| rules.broken(service, node)),
            beyond: if relieves { beyond(room).to_vec() } else { Vec::new() },
            wanted: match &policy.objective {
                Objective::Lexicographic { terms } => terms.iter().map(|term| posed.term(term)).collect(),
                Objective::Priced { terms } => vec![posed.priced(terms)],
            },
            options,
        }
    }

    /// The problem of placing some of the services, all others stay.
    pub fn model(&self, free: &BTreeSet<usize>, barred: &BTreeSet<(usize, usize)>) -> Model {
        let evaluator = self.evaluator;
        let options = |(service, options): (usize, &Vec<usize>)| -> Vec<usize> {
            let here = evaluator.now[service];
            if !free.contains(&service) {
                return vec![here];
            }
            let may = |node: &usize| *node == here || !barred.contains(&(service, *node));
            options.iter().copied().filter(may).collect()
        };
        let options: Vec<Vec<usize>> = self.options.iter().enumerate().map(options).collect();
        let posing = Posing { question: self, options };
        let mut objectives = vec![posing.objective("broken rules", &self.broken)];
        objectives.extend(self.beyond.iter().cloned());
        objectives.extend(self.wanted.iter().map(|wanted| posing.wanted(wanted)));
        objectives.push(posing.fewest_moves());
        let mut model = Model {
            dimensions: self.dimensions.clone(),
            scopes: vec![self.kinds.clone()],
            bins: self.bins.clone(),
            items: posing.items(),
            objectives,
            ..Model::default()
        };
        self.rules.spreads.extend(evaluator, &mut model);
        model
    }
}

fn amounts(load: Load) -> Vec<i64> {
    [load.cpu, load.memory].map(|amount| narrow(amount.clamp(0, LARGEST))).to_vec()
}

fn with_coarse(load: Load, coarse: [i64; 2]) -> Vec<i64> {
    amounts(load).into_iter().chain(coarse).collect()
}

/// Memory that is used beyond what should be, which may end services, before processor, which slows them down. In units so coarse
/// that a solver tells one from nothing; rounded so that nothing is beyond that is not.
fn beyond(room: &Room) -> [model::Objective; 2] {
    let objective = |(name, of): (&str, usize)| {
        let level = room
            .wanted
            .iter()
            .map(|wanted| coarse(*wanted, |amount, unit| (amount + unit - 1) / unit)[of])
            .collect();
        let term = model::Term::Headroom { dimension: 2 + of as u32, level, weight: 1 };
        model::Objective { name: name.to_owned(), terms: vec![term], ..model::Objective::default() }
    };
    [("memory beyond limits", 1), ("processor beyond limits", 0)].map(objective)
}

/// Thousandths of a core, and MiB.
fn coarse(load: Load, divided: impl Fn(i128, i128) -> i128) -> [i64; 2] {
    [(load.cpu, MICRO / 1000), (load.memory, 1 << 20)]
        .map(|(amount, unit)| narrow(divided(amount.clamp(0, LARGEST), unit)))
}

/// The services and where each may be at most.
struct Posed<'a> {
    evaluator: &'a Evaluator<'a>,
    options: &'a [Vec<usize>],
}

impl Posed<'_> {
    /// On the level of kinds, `value` has to be the same for all nodes of one.
    fn pairs(&self, level: Level, value: impl Fn(usize, usize) -> i64) -> Pairs {
        let parts = parts(self.evaluator, level);
        let of = |(service, options): (usize, &Vec<usize>)| {
            let mut values = Vec::new();
            if options.len() > 1 {
                values.resize(parts, 0);
                let mut last = None;
                for node in options {
                    let part = part(self.evaluator, level, *node);
                    // Nodes of a kind come one after the other, mostly.
                    if last.replace(part) != Some(part) {
                        values[part] = value(service, *node);
                    }
                }
            }
            values
        };
        Pairs { level, of: self.options.iter().enumerate().map(of).collect() }
    }

    fn term(&self, term: &Term) -> Wanted {
        let evaluator = self.evaluator;
        let (pairs, opening) = match term.satisfied_at {
            // The service's own value counts, and with it the node's where it would be alone.
            Some(level) => {
                let value = |service, node| evaluator.value(service, node, term.metric).unwrap_or(0);
                let by = if Evaluator::values_by_kind(term.metric) { KINDS } else { Level::Bin };
                (self.pairs(by, |service, node| value(service, node).max(level.as_micros())), None)
            }
            None => (
                self.pairs(KINDS, |service, node| evaluator.own(service, node, term.metric)),
                opening(evaluator.opening(term.metric)),
            ),
        };
        let tolerance = match term.tolerance {
            Tolerance::Absolute(level) => Slack::Each(level.as_micros()),
            Tolerance::Relative(share) => Slack::All(model::Tolerance::Share(share.as_micros())),
        };
        Wanted { name: term.metric.name(), pairs, opening, tolerance }
    }

    fn priced(&self, terms: &[PricedTerm]) -> Wanted {
        let evaluator = self.evaluator;
        let sum = |value: &dyn Fn(usize, Metric) -> i64| {
            let money = |(at, term): (usize, &PricedTerm)| {
                i128::from(value(at, term.metric)) * i128::from(term.price.as_micros()) / MICRO
            };
            narrow(terms.iter().enumerate().map(money).sum::<i128>())
        };
        let openings: Vec<Vec<i64>> = terms.iter().map(|term| evaluator.opening(term.metric)).collect();
        let open = (0..evaluator.nodes.len())
            .map(|node| sum(&|at, _| openings[at].get(node).copied().unwrap_or(0)))
            .collect();
        let pairs = self.pairs(KINDS, |service, node| sum(&|_, metric| evaluator.own(service, node, metric)));
        let tolerance = Slack::All(model::Tolerance::default());
        Wanted { name: "money", pairs, opening: opening(open), tolerance }
    }
}

/// The services and where each may be, of one problem.
struct Posing<'a> {
    question: &'a Question<'a>,
    /// Where it runs now always among them; ascending.
    options: Vec<Vec<usize>>,
}

impl Posing<'_> {
    fn items(&self) -> Vec<Item> {
        let evaluator = self.question.evaluator;
        let item = |service: usize, now: usize, bins: &[usize]| Item {
            name: evaluator.services[service].0.to_string(),
            uses: self.question.uses[service].clone(),
            now: now as u32,
            bins: Some(bins.iter().map(|bin| *bin as u32).collect()),
        };
        let running = evaluator.now.iter().zip(&self.options).enumerate();
        let running = running.map(|(service, (now, options))| item(service, *now, options));
        running.chain(evaluator.arriving.iter().map(|(service, to)| item(*service, *to, &[]))).collect()
    }

    /// Those that have a choice.
    fn free(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.options.len()).filter(|service| self.options[*service].len() > 1)
    }

    /// Nobody's row.
    fn rows(&self) -> Vec<u32> {
        vec![0; self.options.len() + self.question.evaluator.arriving.len()]
    }

    /// What services that have a choice are worth, by the parts of a level; all others are worth nothing.
    fn pair(&self, level: Level, of: impl Fn(usize) -> Vec<i64>) -> model::Term {
        let mut table = vec![vec![0; parts(self.question.evaluator, level)]];
        let mut row = self.rows();
        for service in self.free() {
            row[service] = table.len() as u32;
            table.push(of(service));
        }
        model::Term::Pair { level, row, table }
    }

    fn objective(&self, name: &str, pairs: &Pairs) -> model::Objective {
        let evaluator = self.question.evaluator;
        let of = |service: usize| {
            let (all, left) = (&self.question.options[service], &self.options[service]);
            let known = &pairs.of[service];
            if all.len() == left.len() {
                return known.clone();
            }
            let mut values = vec![0; known.len()];
            for node in left {
                let part = part(evaluator, pairs.level, *node);
                values[part] = known[part];
            }
            values
        };
        let terms = vec![self.pair(pairs.level, of)];
        model::Objective { name: name.to_owned(), terms, ..model::Objective::default() }
    }

    fn wanted(&self, wanted: &Wanted) -> model::Objective {
        let mut objective = self.objective(wanted.name, &wanted.pairs);
        objective.terms.extend(wanted.opening.clone());
        objective.tolerance = match wanted.tolerance {
            Slack::Each(level) => {
                model::Tolerance::Sum(narrow(i128::from(level) * self.free().count() as i128))
            }
            Slack::All(tolerance) => tolerance,
        };
        objective
    }

    /// Fewest moves first, then the nodes that come first by name: one objective, because a move outweighs all names together.
    fn fewest_moves(&self) -> model::Objective {
        let free: Vec<usize> = self.free().collect();
        let rank = |at: usize, option: usize| (at as i64 + 1).saturating_mul(option as i64);
        let names = free
            .iter()
            .enumerate()
            .map(|(at, service)| rank(at, self.options[*service].len() - 1))
            .fold(1, i64::saturating_add);
        let named = names < NAMED;
        let cost = if named { names } else { 1 };
        let mut moves: Vec<i64> = vec![0; self.rows().len()];
        for service in &free {
            moves[*service] = cost;
        }
        let mut terms = vec![model::Term::ItemMove { cost: moves }];
        if named {
            terms.push(self.pair(Level::Bin, |service| {
                let at = free.binary_search(&service).unwrap_or(0);
                let mut values = vec![0; self.question.evaluator.nodes.len()];
                for (option, node) in self.options[service].iter().enumerate() {
                    values[*node] = rank(at, option);
                }
                values
            }));
        }
        model::Objective { name: MOVES.to_owned(), terms, ..model::Objective::default() }
    }
}

/// How many parts a level has.
fn parts(evaluator: &Evaluator<'_>, level: Level) -> usize {
    match level {
        Level::Bin => evaluator.nodes.len(),
        Level::Scope(_) => evaluator.kinds_count(),
    }
}

/// The part of a node on a level.
fn part(evaluator: &Evaluator<'_>, level: Level, node: usize) -> usize {
    match level {
        Level::Bin => node,
        Level::Scope(_) => evaluator.kind(node),
    }
}

fn opening(cost: Vec<i64>) -> Option<model::Term> {
    cost.iter().any(|cost| *cost != 0).then_some(model::Term::Open { cost })
}
