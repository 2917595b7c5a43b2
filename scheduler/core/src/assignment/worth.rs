//! What is minimised: the terms of an objective, put together by what a change touches.

use super::model::{Model, Objective, Term};
use super::problem::{Lists, Problem, place};

/// An objective, laid out for the search.
#[derive(Debug, Default)]
pub(super) struct Worth {
    overload: i64,
    /// For each dimension what a unit beyond its level costs.
    weights: Vec<i64>,
    /// For each bin the level of each dimension.
    levels: Vec<i64>,
    /// Further levels of dimensions that have one already.
    further: Vec<(usize, Vec<i64>, i64)>,
    balance: Vec<Balance>,
    /// Of each bin; nothing if opening costs nothing.
    open: Vec<i64>,
    pairs: Vec<Pair>,
    traffic: Vec<Traffic>,
    /// Of each item; nothing if moving costs nothing.
    item_move: Vec<i64>,
    bin_move: Vec<Table>,
    pub(super) group_move: i64,
}

#[derive(Debug)]
struct Balance {
    free: usize,
    wanted: usize,
    ratio: i64,
    weight: i64,
}

#[derive(Debug)]
struct Pair {
    level: usize,
    row: Vec<u32>,
    table: Table,
}

#[derive(Debug)]
struct Traffic {
    table: Table,
    flows: Lists<(u32, i64)>,
}

/// Numbers by part and part, or by row and part.
#[derive(Debug)]
struct Table {
    level: usize,
    width: usize,
    numbers: Vec<i64>,
}

impl Table {
    fn new(level: usize, rows: &[Vec<i64>], weight: i64) -> Self {
        let width = rows.first().map_or(0, Vec::len);
        Self { level, width, numbers: rows.iter().flatten().map(|number| number * weight).collect() }
    }

    #[inline]
    fn at(&self, row: u32, column: u32) -> i64 {
        self.numbers[row as usize * self.width + column as usize]
    }
}

impl Worth {
    pub(super) fn new(model: &Model, objective: &Objective) -> Self {
        let dimensions = model.dimensions.len();
        let mut worth = Self {
            weights: vec![0; dimensions],
            levels: vec![0; dimensions * model.bins.len()],
            ..Self::default()
        };
        for term in &objective.terms {
            match term {
                Term::Overload { weight } => worth.overload += weight,
                Term::Headroom { dimension, level, weight } => {
                    let dimension = *dimension as usize;
                    if worth.weights[dimension] == 0 {
                        worth.weights[dimension] = *weight;
                        for (bin, level) in level.iter().enumerate() {
                            worth.levels[bin * dimensions + dimension] = *level;
                        }
                    } else {
                        worth.further.push((dimension, level.clone(), *weight));
                    }
                }
                Term::Balance { free, wanted, ratio, weight } => worth.balance.push(Balance {
                    free: *free as usize,
                    wanted: *wanted as usize,
                    ratio: *ratio,
                    weight: *weight,
                }),
                Term::Open { cost } => {
                    worth.open.resize(model.bins.len(), 0);
                    worth.open.iter_mut().zip(cost).for_each(|(sum, cost)| *sum += cost);
                }
                Term::Pair { level, row, table } => {
                    let level = place(*level);
                    worth.pairs.push(Pair { level, row: row.clone(), table: Table::new(level, table, 1) });
                }
                Term::Traffic { level, distance, flows } => {
                    let mut of_item: Vec<Vec<(u32, i64)>> = vec![Vec::new(); model.items.len()];
                    for flow in flows {
                        of_item[flow.one as usize].push((flow.other, flow.volume));
                        of_item[flow.other as usize].push((flow.one, flow.volume));
                    }
                    worth.traffic.push(Traffic {
                        table: Table::new(place(*level), distance, 1),
                        flows: Lists::new(of_item),
                    });
                }
                Term::ItemMove { cost } => {
                    worth.item_move.resize(model.items.len(), 0);
                    worth.item_move.iter_mut().zip(cost).for_each(|(sum, cost)| *sum += cost);
                }
                Term::GroupMove { weight } => worth.group_move += weight,
                Term::BinMove { level, cost, weight } => {
                    worth.bin_move.push(Table::new(place(*level), cost, *weight));
                }
                Term::Breach { .. } => {}
            }
        }
        worth
    }

    /// Each two items that talk to each other, with how many parts they can be on.
    pub(super) fn flows(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        self.traffic.iter().flat_map(|traffic| {
            (0..traffic.flows.len()).flat_map(move |item| {
                let others = traffic.flows.of(item).iter().filter(move |(other, _)| item < *other as usize);
                others.map(move |(other, _)| (item, *other as usize, traffic.table.width))
            })
        })
    }

    /// What a bin is worth by what it carries, and what is beyond its capacity costs at these prices. `change` says by how much
    /// more of a dimension is used, and by how much less is left, than `used` and `slack` have.
    #[inline]
    pub(super) fn bin(
        &self,
        problem: &Problem,
        bin: usize,
        (used, slack): (&[i64], &[i64]),
        change: impl Fn(usize) -> (i64, i64),
        prices: &[f64],
        carries: bool,
    ) -> (i64, f64) {
        let dimensions = problem.dimensions;
        let levels = &self.levels[bin * dimensions..][..dimensions];
        let (used, slack, weights) = (&used[..dimensions], &slack[..dimensions], &self.weights[..dimensions]);
        let (mut sum, mut beyond, mut pressure) = (0, 0, 0.0);
        for at in 0..dimensions {
            let (more, less) = change(at);
            sum += weights[at] * (used[at] + more - levels[at]).max(0);
            let lacks = (less - slack[at]).max(0);
            beyond += lacks;
            if let Some(price) = prices.get(at) {
                pressure += price * lacks as f64;
            }
        }
        for (dimension, level, weight) in &self.further {
            sum += weight * (used[*dimension] + change(*dimension).0 - level[bin]).max(0);
        }
        if !self.balance.is_empty() {
            let capacity = problem.capacity(bin);
            for it in &self.balance {
                let free = |at: usize| capacity[at] - used[at] - change(at).0;
                sum += it.weight * (it.ratio * free(it.free) - free(it.wanted)).max(0);
            }
        }
        if carries && !self.open.is_empty() {
            sum += self.open[bin];
        }
        (sum + self.overload * beyond, pressure)
    }

    /// What an item is worth where it is, with what it costs to be there and not where it is now. `at` says where the others are.
    pub(super) fn item(&self, problem: &Problem, at: &[u32], item: usize, bin: u32) -> i64 {
        let mut sum = self.alone(problem, item, bin);
        for traffic in &self.traffic {
            let parts = &problem.parts[traffic.table.level];
            for (other, volume) in traffic.flows.of(item) {
                sum += volume * traffic.table.at(parts[bin as usize], parts[at[*other as usize] as usize]);
            }
        }
        sum
    }

    /// The same without those that it talks to.
    #[inline]
    fn alone(&self, problem: &Problem, item: usize, bin: u32) -> i64 {
        let mut sum = 0;
        for pair in &self.pairs {
            sum += pair.table.at(pair.row[item], problem.parts[pair.level][bin as usize]);
        }
        let now = problem.now[item];
        if now != bin {
            if !self.item_move.is_empty() {
                sum += self.item_move[item];
            }
            for table in &self.bin_move {
                let parts = &problem.parts[table.level];
                sum += table.at(parts[now as usize], parts[bin as usize]);
            }
        }
        sum
    }

    /// What it adds that two items, which both change their places, talk to each other: what [`Self::item`] says of each alone
    /// takes the other to be where it was.
    pub(super) fn between(&self, problem: &Problem, one: (usize, u32, u32), other: (usize, u32, u32)) -> i64 {
        let mut sum = 0;
        for traffic in &self.traffic {
            let parts = &problem.parts[traffic.table.level];
            let at = |a: u32, b: u32| traffic.table.at(parts[a as usize], parts[b as usize]);
            for (to, volume) in traffic.flows.of(one.0) {
                if *to as usize == other.0 {
                    // Said: one.to–other.from and one.from–other.to, each less one.from–other.from.
                    let said = at(one.2, other.1) + at(one.1, other.2) - at(one.1, other.1);
                    sum += volume * (at(one.2, other.2) - said);
                }
            }
        }
        sum
    }

    /// Whether opening a bin costs anything.
    pub(super) fn opens(&self) -> bool {
        self.open.iter().any(|cost| *cost > 0)
    }

    /// What it costs that a bin carries anything.
    pub(super) fn opening(&self, bin: usize) -> i64 {
        self.open.get(bin).copied().unwrap_or(0)
    }

    /// Whether items talk to each other.
    pub(super) const fn talks(&self) -> bool {
        !self.traffic.is_empty()
    }

    /// Those that an item talks to, some of them more than once.
    pub(super) fn partners(&self, item: usize) -> impl Iterator<Item = u32> + '_ {
        self.traffic.iter().flat_map(move |traffic| traffic.flows.of(item).iter().map(|(other, _)| *other))
    }

    /// The level whose parts matter to items: of those that they talk to first. The bins themselves if there is no other.
    pub(super) fn level(&self) -> usize {
        let levels = self.traffic.iter().map(|traffic| traffic.table.level);
        let levels = levels.chain(self.pairs.iter().map(|pair| pair.level));
        levels.chain(self.bin_move.iter().map(|table| table.level)).find(|level| *level != 0).unwrap_or(0)
    }

    /// The sum over all items.
    pub(super) fn items(&self, problem: &Problem, at: &[u32]) -> i64 {
        let mut sum = (0..at.len()).map(|item| self.alone(problem, item, at[item])).sum();
        for traffic in &self.traffic {
            let parts = &problem.parts[traffic.table.level];
            for item in 0..at.len() {
                for (other, volume) in traffic.flows.of(item) {
                    if *other as usize > item {
                        let (one, other) = (at[item] as usize, at[*other as usize] as usize);
                        sum += volume * traffic.table.at(parts[one], parts[other]);
                    }
                }
            }
        }
        sum
    }
}
