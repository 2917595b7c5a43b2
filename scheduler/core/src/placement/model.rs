//! The assignment problem in whole millionths: services that may move, nodes, room, and what is to be minimised in which
//! order.

use std::collections::BTreeSet;

use sterna_policies::policy::{Metric, Objective, Policy, PricedTerm, Term, Tolerance};

use super::evaluate::Evaluator;
use super::exclude::Rules;
use super::numbers::narrow;
use crate::continuum::Service;

const MICRO: i128 = 1_000_000;
/// A hundred percent in millionths of a percent.
const WHOLE: i128 = 100 * MICRO;

/// Processor and memory of every node: what may be used and what is used now, migrations under way on both ends.
///
/// What may be used is the node's size less the share that must stay free, or what is used already where that is more: a
/// limit that is broken must only not get worse. Cores in millionths, memory in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// What may be used.
    pub limit: Vec<Load>,
    /// What is used.
    pub used: Vec<Load>,
}

/// Processor in millionths of a core, and memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Processor.
    pub cpu: i128,
    /// Memory.
    pub memory: i128,
}

impl Load {
    /// What a service asks for.
    pub fn of(service: &Service) -> Self {
        Self { cpu: service.cpu.as_micros().into(), memory: service.memory.0.into() }
    }

    /// Whether both are at most the other's.
    pub fn within(self, limit: Self) -> bool {
        self.cpu <= limit.cpu && self.memory <= limit.memory
    }
}

impl std::ops::Add for Load {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, memory: self.memory + other.memory }
    }
}

impl std::ops::Sub for Load {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { cpu: self.cpu - other.cpu, memory: self.memory - other.memory }
    }
}

impl Room {
    /// Of the nodes as they are now.
    pub fn new(evaluator: &Evaluator<'_>, policy: &Policy) -> Self {
        let mut used = vec![Load::default(); evaluator.nodes.len()];
        let hosted = evaluator.now.iter().copied().enumerate().chain(evaluator.arriving.iter().copied());
        for (service, node) in hosted {
            used[node] = used[node] + Load::of(evaluator.services[service].1);
        }
        let usable = (WHOLE - i128::from(policy.constraints.min_free.as_micros())).clamp(0, WHOLE);
        let limit = evaluator
            .nodes
            .iter()
            .zip(&used)
            .map(|((_, node), used)| Load {
                cpu: (i128::from(node.cpu.as_micros()) * usable / WHOLE).max(used.cpu),
                memory: (i128::from(node.memory.0) * usable / WHOLE).max(used.memory),
            })
            .collect();
        Self { limit, used }
    }

    /// Whether one more service fits, all else as it is now.
    pub fn fits(&self, node: usize, service: &Service) -> bool {
        (self.used[node] + Load::of(service)).within(self.limit[node])
    }
}

/// A service that may move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its number.
    pub service: usize,
    /// The nodes that it may run on, where it runs now always among them; ascending.
    pub options: Vec<usize>,
    /// What it asks for.
    pub load: Load,
}

/// What one stage minimises: a sum over items of the value of their node, and over nodes of the value of using them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// By item and option.
    pub pair: Vec<Vec<i64>>,
    /// By node; empty where nodes by themselves are worth nothing.
    pub opening: Vec<i64>,
    /// How much worse than the best still counts as equal.
    pub slack: Slack,
}

/// How much worse than the best still counts as equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slack {
    /// By this much in all.
    Sum(i128),
    /// By this share, in millionths of a percent, of the best.
    Share(i64),
}

impl Stage {
    /// Its value for a choice of one option's number per item.
    pub fn value(&self, model: &Model, choice: &[usize]) -> i128 {
        let mut sum: i128 =
            self.pair.iter().zip(choice).map(|(values, option)| i128::from(values[*option])).sum();
        if !self.opening.is_empty() {
            let open = model.open(choice);
            sum += self
                .opening
                .iter()
                .zip(open)
                .filter(|(_, open)| *open)
                .map(|(v, _)| i128::from(*v))
                .sum::<i128>();
        }
        sum
    }

    /// The worst value that counts as equal to `best`.
    pub fn bound(&self, best: i128) -> i128 {
        match self.slack {
            Slack::Sum(sum) => best.saturating_add(sum.max(0)),
            Slack::Share(share) => {
                best.saturating_add(best.abs().saturating_mul(i128::from(share.max(0))) / WHOLE)
            }
        }
    }

    /// Whether no choice makes a difference.
    pub fn is_constant(&self) -> bool {
        self.opening.iter().all(|value| *value == 0)
            && self.pair.iter().all(|values| values.windows(2).all(|two| two[0] == two[1]))
    }
}

/// The whole problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The services that may move; each has at least two options.
    pub items: Vec<Item>,
    /// What is left for the items, by node.
    pub free: Vec<Load>,
    /// Which nodes are used whatever the items do.
    pub open: Vec<bool>,
    /// What is minimised, first to last: broken rules, the objective's terms, then moves and names.
    pub stages: Vec<Stage>,
    /// Where each item runs now, as the number of its option.
    pub now: Vec<usize>,
}

impl Model {
    /// The problem of placing the services of `movable`; all others stay.
    pub fn new(
        evaluator: &Evaluator<'_>,
        rules: &Rules<'_>,
        room: &Room,
        policy: &Policy,
        movable: &BTreeSet<usize>,
    ) -> Self {
        let mut items = Vec::new();
        for service in movable {
            let now = evaluator.now[*service];
            let load = Load::of(evaluator.services[*service].1);
            let alone_fits = |node: usize| load.within(room.limit[node]);
            let options: Vec<usize> = (0..evaluator.nodes.len())
                .filter(|node| {
                    *node == now || (alone_fits(*node) && rules.exclusions(*service, *node).is_empty())
                })
                .collect();
            if options.len() > 1 {
                items.push(Item { service: *service, options, load });
            }
        }
        let mut free: Vec<Load> =
            room.limit.iter().zip(&room.used).map(|(limit, used)| *limit - *used).collect();
        for item in &items {
            let node = evaluator.now[item.service];
            free[node] = free[node] + item.load;
        }
        let mut open = vec![false; evaluator.nodes.len()];
        for (service, node) in evaluator.now.iter().enumerate() {
            open[*node] |= !items.iter().any(|item| item.service == service);
        }
        for (_, node) in &evaluator.arriving {
            open[*node] = true;
        }
        let now = items
            .iter()
            .map(|item| {
                item.options.iter().position(|node| *node == evaluator.now[item.service]).unwrap_or(0)
            })
            .collect();
        let mut model = Self { items, free, open, stages: Vec::new(), now };
        model.stages.push(model.stage(|service, node| rules.broken(service, node)));
        match &policy.objective {
            Objective::Lexicographic { terms } => {
                for term in terms {
                    let stage = model.term(evaluator, term);
                    model.stages.push(stage);
                }
            }
            Objective::Priced { terms } => {
                let stage = model.priced(evaluator, terms);
                model.stages.push(stage);
            }
        }
        let last = model.fewest_moves();
        model.stages.push(last);
        model
    }

    fn stage(&self, value: impl Fn(usize, usize) -> i64) -> Stage {
        let of = |item: &Item| item.options.iter().map(|node| value(item.service, *node)).collect();
        Stage { pair: self.items.iter().map(of).collect(), opening: Vec::new(), slack: Slack::Sum(0) }
    }

    fn term(&self, evaluator: &Evaluator<'_>, term: &Term) -> Stage {
        let slack = match term.tolerance {
            Tolerance::Absolute(level) => {
                Slack::Sum(i128::from(level.as_micros()) * i128::try_from(self.items.len()).unwrap_or(0))
            }
            Tolerance::Relative(share) => Slack::Share(share.as_micros()),
        };
        let mut stage = match term.satisfied_at {
            // The service's own value counts, and with it the node's where it would be alone.
            Some(level) => self.stage(|service, node| {
                evaluator.value(service, node, term.metric).unwrap_or(0).max(level.as_micros())
            }),
            None => {
                let opening = opening(evaluator, term.metric);
                Stage { opening, ..self.stage(|service, node| own(evaluator, service, node, term.metric)) }
            }
        };
        stage.slack = slack;
        stage
    }

    fn priced(&self, evaluator: &Evaluator<'_>, terms: &[PricedTerm]) -> Stage {
        let money =
            |value: i64, term: &PricedTerm| i128::from(value) * i128::from(term.price.as_micros()) / MICRO;
        let sum = |value: &dyn Fn(Metric) -> i64| {
            narrow(terms.iter().map(|term| money(value(term.metric), term)).sum::<i128>())
        };
        let opening = (0..evaluator.nodes.len())
            .map(|node| sum(&|metric| opening(evaluator, metric).get(node).copied().unwrap_or(0)))
            .collect();
        Stage { opening, ..self.stage(|service, node| sum(&|metric| own(evaluator, service, node, metric))) }
    }

    /// Fewest moves first, then the nodes that come first by name: one stage, because a move outweighs all names together.
    fn fewest_moves(&self) -> Stage {
        let rank = |item: usize, option: usize| (item as i64 + 1).saturating_mul(option as i64);
        let names: i64 = self
            .items
            .iter()
            .enumerate()
            .map(|(number, item)| rank(number, item.options.len() - 1))
            .fold(1, i64::saturating_add);
        // Past this, a solver could not tell one name from another beside the weight of a move.
        let named = names < 1_000_000;
        let value = |number: usize, option: usize| {
            let moves = i64::from(option != self.now[number]);
            if named { moves * names + rank(number, option) } else { moves }
        };
        let pair = self
            .items
            .iter()
            .enumerate()
            .map(|(number, item)| (0..item.options.len()).map(|option| value(number, option)).collect())
            .collect();
        Stage { pair, opening: Vec::new(), slack: Slack::Sum(0) }
    }

    /// Which nodes are used under a choice.
    pub fn open(&self, choice: &[usize]) -> Vec<bool> {
        let mut open = self.open.clone();
        for (item, option) in self.items.iter().zip(choice) {
            open[item.options[*option]] = true;
        }
        open
    }

    /// Whether a choice keeps within every node's room.
    pub fn fits(&self, choice: &[usize]) -> bool {
        let mut load = vec![Load::default(); self.free.len()];
        for (item, option) in self.items.iter().zip(choice) {
            let node = item.options[*option];
            load[node] = load[node] + item.load;
        }
        load.iter().zip(&self.free).all(|(load, free)| load.within(*free))
    }
}

/// What a service adds to a metric on a node that is used anyway; zero where it is unknown, which [`Rules`] exclude.
pub fn own(evaluator: &Evaluator<'_>, service: usize, node: usize, metric: Metric) -> i64 {
    let pair = &evaluator.pairs[service][node];
    match metric {
        Metric::UserLatency => evaluator.latency(service, node).unwrap_or(0),
        Metric::CostRate => pair.cost,
        Metric::Power => pair.power,
        Metric::CarbonRate => pair.carbon.unwrap_or(0),
        Metric::CpuUse => 0,
    }
}

/// What each node adds to a metric by being used; empty for latency.
pub fn opening(evaluator: &Evaluator<'_>, metric: Metric) -> Vec<i64> {
    let of = |value: fn(&super::evaluate::Opening) -> i64| evaluator.openings.iter().map(value).collect();
    match metric {
        Metric::UserLatency | Metric::CpuUse => Vec::new(),
        Metric::CostRate => of(|opening| opening.cost),
        Metric::Power => of(|opening| opening.power),
        Metric::CarbonRate => of(|opening| opening.carbon.unwrap_or(0)),
    }
}
