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
use crate::assignment::model::{self, Bin, Dimension, Item, Level, Model};

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
    let options = |service: usize| -> Vec<usize> {
        if !movable.contains(&service) {
            return vec![evaluator.now[service]];
        }
        let alone_fits = |node: usize| Load::of(evaluator.services[service].1).within(room.limit[node]);
        let may = |node: &usize| {
            *node == evaluator.now[service]
                || (alone_fits(*node)
                    && !barred.contains(&(service, *node))
                    && rules.exclusions(service, *node).is_empty())
        };
        (0..evaluator.nodes.len()).filter(may).collect()
    };
    let options: Vec<Vec<usize>> = (0..evaluator.services.len()).map(options).collect();
    let posed = Posed { evaluator, options };
    let relieves = (0..room.used.len()).any(|node| room.is_beyond(node));
    let dimension = |name: &str| Dimension { name: name.to_owned(), transient: false };
    let mut objectives = vec![posed.objective("broken rules", posed.pair(|s, node| rules.broken(s, node)))];
    let mut dimensions = vec![dimension("processor"), dimension("memory")];
    if relieves {
        objectives.extend(beyond(room));
        dimensions.extend([dimension("processor in thousandths"), dimension("memory in MiB")]);
    }
    match &policy.objective {
        Objective::Lexicographic { terms } => objectives.extend(terms.iter().map(|term| posed.term(term))),
        Objective::Priced { terms } => objectives.push(posed.priced(terms)),
    }
    objectives.push(posed.fewest_moves());
    // Coarse amounts are only what is minimised: nobody is kept out by them.
    let loads = evaluator.services.iter().map(|(_, service)| coarse(Load::of(service), i128::div_euclid));
    let enough = loads.fold([0; 2], |sum, load| [0, 1].map(|of| i64::saturating_add(sum[of], load[of])));
    let enough = enough.map(|sum| sum.saturating_mul(2));
    let bin = |((name, _), limit): (&(&crate::continuum::NodeName, _), &Load)| Bin {
        name: name.to_string(),
        capacity: if relieves { with_coarse(*limit, enough) } else { amounts(*limit) },
    };
    let mut model = Model {
        dimensions,
        bins: evaluator.nodes.iter().zip(&room.limit).map(bin).collect(),
        items: posed.items(relieves),
        objectives,
        ..Model::default()
    };
    rules.spreads.extend(evaluator, &mut model);
    model
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

/// The services and where each may be.
struct Posed<'a> {
    evaluator: &'a Evaluator<'a>,
    /// Where it runs now always among them; ascending.
    options: Vec<Vec<usize>>,
}

impl Posed<'_> {
    fn items(&self, relieves: bool) -> Vec<Item> {
        let evaluator = self.evaluator;
        let uses = |load: Load| match relieves {
            true => with_coarse(load, coarse(load, i128::div_euclid)),
            false => amounts(load),
        };
        let item = |service: usize, now: usize, bins: &[usize]| Item {
            name: evaluator.services[service].0.to_string(),
            uses: uses(Load::of(evaluator.services[service].1)),
            now: now as u32,
            bins: Some(bins.iter().map(|bin| *bin as u32).collect()),
        };
        let running = evaluator.now.iter().zip(&self.options).enumerate();
        let running = running.map(|(service, (now, options))| item(service, *now, options));
        running.chain(evaluator.arriving.iter().map(|(service, to)| item(*service, *to, &[]))).collect()
    }

    /// Whether a service has a choice.
    fn free(&self, service: usize) -> bool {
        self.options[service].len() > 1
    }

    /// What services that have a choice are worth, by node; all others are worth nothing.
    fn pair(&self, value: impl Fn(usize, usize) -> i64) -> model::Term {
        let nodes = self.evaluator.nodes.len();
        let mut table = vec![vec![0; nodes]];
        let mut row = vec![0; self.options.len() + self.evaluator.arriving.len()];
        for (service, options) in self.options.iter().enumerate().filter(|(service, _)| self.free(*service)) {
            row[service] = table.len() as u32;
            let mut values = vec![0; nodes];
            for node in options {
                values[*node] = value(service, *node);
            }
            table.push(values);
        }
        model::Term::Pair { level: Level::Bin, row, table }
    }

    fn objective(&self, name: &str, pair: model::Term) -> model::Objective {
        model::Objective { name: name.to_owned(), terms: vec![pair], ..model::Objective::default() }
    }

    fn term(&self, term: &Term) -> model::Objective {
        let evaluator = self.evaluator;
        let name = term.metric.name();
        let mut objective = match term.satisfied_at {
            // The service's own value counts, and with it the node's where it would be alone.
            Some(level) => self.objective(
                name,
                self.pair(|service, node| {
                    evaluator.value(service, node, term.metric).unwrap_or(0).max(level.as_micros())
                }),
            ),
            None => {
                let own = self.pair(|service, node| evaluator.own(service, node, term.metric));
                let mut objective = self.objective(name, own);
                objective.terms.extend(opening(evaluator.opening(term.metric)));
                objective
            }
        };
        objective.tolerance = match term.tolerance {
            Tolerance::Absolute(level) => {
                let free = (0..self.options.len()).filter(|service| self.free(*service)).count();
                model::Tolerance::Sum(narrow(i128::from(level.as_micros()) * free as i128))
            }
            Tolerance::Relative(share) => model::Tolerance::Share(share.as_micros()),
        };
        objective
    }

    fn priced(&self, terms: &[PricedTerm]) -> model::Objective {
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
        let own = self.pair(|service, node| sum(&|_, metric| evaluator.own(service, node, metric)));
        let mut objective = self.objective("money", own);
        objective.terms.extend(opening(open));
        objective
    }

    /// Fewest moves first, then the nodes that come first by name: one objective, because a move outweighs all names together.
    fn fewest_moves(&self) -> model::Objective {
        let free: Vec<usize> = (0..self.options.len()).filter(|service| self.free(*service)).collect();
        let rank = |at: usize, option: usize| (at as i64 + 1).saturating_mul(option as i64);
        let names = free
            .iter()
            .enumerate()
            .map(|(at, service)| rank(at, self.options[*service].len() - 1))
            .fold(1, i64::saturating_add);
        let named = names < NAMED;
        let cost = if named { names } else { 1 };
        let mut moves = vec![0; self.options.len() + self.evaluator.arriving.len()];
        for service in &free {
            moves[*service] = cost;
        }
        let mut terms = vec![model::Term::ItemMove { cost: moves }];
        if named {
            terms.push(self.pair(|service, node| {
                let at = free.binary_search(&service).unwrap_or(0);
                rank(at, self.options[service].binary_search(&node).unwrap_or(0))
            }));
        }
        model::Objective { name: MOVES.to_owned(), terms, ..model::Objective::default() }
    }
}

fn opening(cost: Vec<i64>) -> Option<model::Term> {
    cost.iter().any(|cost| *cost != 0).then_some(model::Term::Open { cost })
}
