//! Terms bounded together: what items pay for the room that they take is what bins earn for it.
//!
//! With a price on each unit of room no item and no bin has to know of the others: items go where they cost least with what they
//! pay, bins are open if they earn more than they cost. For any prices the sum is no more than what any assignment is worth
//! (Lagrangian relaxation: Geoffrion, Lagrangean relaxation for integer programming, 1974). Good prices are found by the volume
//! algorithm (Barahona, Anbil, Mathematical Programming 87, 2000). Prices are whole numbers, so that the sum is exact.

use rayon::iter::{IndexedParallelIterator as _, IntoParallelIterator as _, ParallelIterator as _};

use super::classes::Classes;
use super::climb::{self, Seen, Space};
use super::forest::{Forest, Loop, Member, NEVER, Table};
use super::rules::Rules;
use super::scale::{LIMIT, scale};
use crate::assignment::model::{Level, Model, Objective, Rule, Term};

/// Rounds after which nothing gets better any more with prices for room alone.
const ROUNDS: u64 = 600;
/// Enough of them to begin with all prices, and for those.
const BOTH: (u64, u64) = (150, 1500);
/// As much work as is worth it where rules alone have something to say, and little is gained.
const LITTLE: u64 = 1 << 28;
/// Prices beyond which there would be no room for them.
const PRICES: usize = 1 << 25;
/// Fewer lead to nothing.
const FEW: u64 = 6;
/// In what it is counted that a flow's ends are elsewhere than its items.
const FLOW: f64 = 1.5;
/// Trees that are looked at by one thread at a time.
const CHUNK: usize = 256;

/// The terms of an objective that can be bounded together.
#[derive(Debug)]
pub(super) struct Joint<'a> {
    model: &'a Model,
    classes: Classes,
    forest: Forest<'a>,
    pairs: Vec<Pair<'a>>,
    bin_moves: Vec<BinMove<'a>>,
    /// What each item costs elsewhere than now.
    item_move: Vec<i64>,
    /// The classes that an item may go to, if not all: which list.
    lists: Vec<Option<u32>>,
    allowed: Vec<Vec<u32>>,
    rules: Rules,
    /// The items that are on each bin now.
    now: Vec<Vec<u32>>,
    scale: i64,
    /// No price of a dimension may be more, so that sums fit.
    highest: Vec<i64>,
}

#[derive(Debug)]
struct Pair<'a> {
    row: &'a [u32],
    table: &'a [Vec<i64>],
    /// The part of each class.
    part: Vec<u32>,
}

#[derive(Debug)]
struct BinMove<'a> {
    cost: &'a [Vec<i64>],
    weight: i64,
    part: Vec<u32>,
}

/// Where an item costs least.
#[derive(Debug, Clone, Copy)]
struct Placed {
    item: u32,
    class: u32,
    /// Whether it stays where it is.
    stays: bool,
}

/// Whether a term is about bins and what they carry, and bounded here.
pub(super) const fn of_bins(term: &Term) -> bool {
    matches!(term, Term::Headroom { .. } | Term::Open { .. })
}

/// Whether a term is about where items are, and bounded here.
pub(super) const fn of_items(term: &Term) -> bool {
    matches!(term, Term::Pair { .. } | Term::Traffic { .. } | Term::ItemMove { .. } | Term::BinMove { .. })
}

impl<'a> Joint<'a> {
    /// Nothing if there is nothing to be bounded, or numbers are too large.
    pub(super) fn new(model: &'a Model, objective: &'a Objective) -> Option<Self> {
        if model.items.is_empty() || !objective.terms.iter().any(|term| of_bins(term) || of_items(term)) {
            return None;
        }
        let scale = scale(model, objective)?;
        let classes = classes(model, objective);
        let forest = Forest::new(model, objective, &classes);
        let mut now = vec![Vec::new(); model.bins.len()];
        for (item, number) in model.items.iter().zip(0..) {
            now[item.now as usize].push(number);
        }
        let mut joint = Self {
            rules: Rules::new(model, &classes, &forest),
            forest,
            now,
            model,
            pairs: Vec::new(),
            bin_moves: Vec::new(),
            item_move: vec![0; model.items.len()],
            lists: Vec::new(),
            allowed: Vec::new(),
            scale,
            highest: Vec::new(),
            classes,
        };
        for term in &objective.terms {
            match term {
                Term::Pair { level, row, table } => {
                    joint.pairs.push(Pair { row, table, part: joint.classes.parts(model, *level) });
                }
                Term::BinMove { level, cost, weight } => {
                    let part = joint.classes.parts(model, *level);
                    joint.bin_moves.push(BinMove { cost, weight: *weight, part });
                }
                Term::ItemMove { cost } => {
                    joint.item_move.iter_mut().zip(cost).for_each(|(sum, cost)| *sum += cost);
                }
                _ => {}
            }
        }
        let mut known = std::collections::BTreeMap::new();
        for item in &model.items {
            let list = item.bins.as_ref().map(|bins| {
                *known.entry(bins).or_insert_with(|| {
                    let mut of: Vec<u32> =
                        bins.iter().map(|bin| joint.classes.of_bin[*bin as usize]).collect();
                    of.sort_unstable();
                    of.dedup();
                    joint.allowed.push(of);
                    joint.allowed.len() as u32 - 1
                })
            });
            joint.lists.push(list);
        }
        for at in 0..model.dimensions.len() {
            let used: i128 = model.items.iter().map(|item| i128::from(item.uses[at])).sum();
            let room = |class: &super::classes::Class| class.bins.len() as i128 * i128::from(class.room[at]);
            let room: i128 = joint.classes.classes.iter().map(room).sum();
            let all = (used + room).max(1) * model.dimensions.len() as i128;
            joint.highest.push(i64::try_from(LIMIT / all).unwrap_or(i64::MAX));
        }
        Some(joint)
    }

    /// What items cost at least, wherever there is room; and the best bound that is found with so much work, of items and bins. None
    /// where that is too little work.
    pub(super) fn best(&self, work: u64) -> Option<(i128, i128)> {
        let (classes, dimensions) = (self.classes.classes.len(), self.model.dimensions.len());
        let terms = self.pairs.len() + 2 * self.bin_moves.len() + dimensions;
        let round = self.model.items.len() as u64 * classes as u64 * terms.max(1) as u64 + self.forest.work();
        let rounds = (work / round.max(1)).min(ROUNDS);
        if rounds < FEW {
            return None;
        }
        // What an assignment is worth is a whole number.
        let whole = |value: i128| -(-value).div_euclid(i128::from(self.scale)) + self.forest.others;
        let room = classes * dimensions;
        let items = self.all_items(&vec![0; room]).value;
        let mut space = self.space();
        // Where all prices go on being looked at, those for room don't have to be the best.
        let both = (1..=PRICES).contains(&self.rules.prices);
        let rounds = if both && self.rules.open() { rounds.min(BOTH.0) } else { rounds };
        let (seen, mut prices) =
            climb::from(self.opening(), rounds, &space, climb::FAST, |prices| self.look(prices));
        let mut best = seen.value;
        let left = work - rounds * round;
        let left = if self.rules.open() { left } else { left.min(LITTLE) };
        let rounds = (left / (round + self.rules.work())).min(BOTH.1);
        if both && rounds >= FEW {
            prices.resize(room + self.rules.prices, 0.0);
            let highest = i64::try_from(LIMIT / self.rules.paid.max(1)).unwrap_or(i64::MAX);
            for at in 0..self.rules.prices {
                let signed = at >= self.rules.signed;
                space.size.push(if signed { FLOW } else { 1.0 });
                space.between.push((if signed { -highest } else { 0 }, highest));
            }
            let look = |prices: &[i64]| self.look(prices);
            let broken = |seen: &Seen| seen.lacks[room..].iter().any(|lacks| *lacks > 0);
            if broken(&self.look(&space.whole(&prices))) {
                best = best.max(climb::from(prices, rounds, &space, climb::CLOSE, look).0.value);
            }
        }
        Some((whole(items), whole(best)))
    }

    /// Prices for room: what is lacking is counted in mean bins, so that all dimensions weigh as much.
    fn space(&self) -> Space {
        let dimensions = self.model.dimensions.len();
        let of_class: Vec<_> =
            (0..dimensions).map(|at| (self.mean_room(at), (0, self.highest[at]))).collect();
        let all = (0..self.classes.classes.len()).flat_map(|_| of_class.iter().copied());
        let (size, between) = all.unzip();
        // For each item a unit of cost.
        Space { size, between, unit: self.scale as f64 * self.model.items.len() as f64 }
    }

    /// Prices at which bins earn just what they cost, in the dimension that is scarcest.
    fn opening(&self) -> Vec<f64> {
        let dimensions = self.model.dimensions.len();
        let scarce = |at: &usize| {
            let used: i128 = self.model.items.iter().map(|item| i128::from(item.uses[*at])).sum();
            used as f64 / (self.mean_room(*at) * self.model.bins.len() as f64)
        };
        let scarcest = (0..dimensions).max_by(|one, other| scarce(one).total_cmp(&scarce(other)));
        let mut prices = vec![0.0; self.classes.classes.len() * dimensions];
        for (class, prices) in self.classes.classes.iter().zip(prices.chunks_mut(dimensions.max(1))) {
            let Some(at) = scarcest else { break };
            let of = |used: i64| {
                let beyond = class.levels[at].iter().map(|(level, weight)| weight * (used - level).max(0));
                (class.open + beyond.sum::<i64>()).max(0) as f64 / used as f64
            };
            let room = class.room[at];
            let kinks = class.levels[at].iter().map(|(level, _)| (*level).min(room)).chain([room]);
            let least = kinks.filter(|used| *used > 0).map(of).fold(f64::INFINITY, f64::min);
            if least.is_finite() {
                prices[at] = least * self.scale as f64;
            }
        }
        prices
    }

    fn mean_room(&self, at: usize) -> f64 {
        let room: f64 =
            self.classes.classes.iter().map(|class| class.bins.len() as f64 * class.room[at] as f64).sum();
        (room / self.model.bins.len() as f64).max(1.0)
    }

    /// The prices for room.
    fn room<'p>(&self, prices: &'p [i64]) -> &'p [i64] {
        &prices[..self.classes.classes.len() * self.model.dimensions.len()]
    }

    /// All others, if there are any.
    fn beside<'p>(&self, prices: &'p [i64]) -> Option<&'p [i64]> {
        let beside = &prices[self.classes.classes.len() * self.model.dimensions.len()..];
        (!beside.is_empty()).then_some(beside)
    }

    fn all_items(&self, prices: &[i64]) -> Seen {
        let chunks = self.forest.trees.chunks(CHUNK).collect::<Vec<_>>().into_par_iter();
        let parts: Vec<_> = chunks.map(|trees| self.items(trees, prices)).with_max_len(1).collect();
        let mut all = Seen { value: 0, lacks: vec![0; prices.len()] };
        let (room, beside) = all.lacks.split_at_mut(self.room(prices).len());
        for (value, placed) in parts {
            all.value += value;
            for Placed { item, class, stays } in placed {
                let (item, class) = (item as usize, class as usize);
                let uses = &self.model.items[item].uses;
                let lacks = &mut room[class * uses.len()..];
                for ((lacks, uses), kept) in lacks.iter_mut().zip(uses).zip(&self.classes.stays) {
                    *lacks += if stays && *kept { 0 } else { *uses };
                }
                if !beside.is_empty() {
                    self.rules.count(item, class, stays, beside);
                }
            }
        }
        all
    }

    fn look(&self, prices: &[i64]) -> Seen {
        let dimensions = self.model.dimensions.len();
        let mut all = self.all_items(prices);
        let beside = self.beside(prices);
        let (earned, fixed) = beside.map_or_else(Default::default, |beside| self.rules.earned(beside));
        all.value -= fixed;
        let (lacks, lacks_beside) = all.lacks.split_at_mut(self.room(prices).len());
        let mut carries = vec![0; dimensions];
        let mut open = vec![0; self.classes.classes.len()];
        for (number, class) in self.classes.classes.iter().enumerate() {
            let of = number * dimensions..(number + 1) * dimensions;
            let cost = class.open * self.scale - earned.get(number).unwrap_or(&0);
            for bin in &class.bins {
                let now = &self.now[*bin as usize];
                let staying =
                    |beside| now.iter().map(|item| self.rules.staying(*item as usize, beside)).sum();
                let cost = cost - beside.map_or(0, staying);
                let room = self.classes.room(*bin);
                let least = class.least(room, cost, &prices[of.clone()], self.scale, &mut carries);
                all.value += i128::from(least);
                for (lacks, carries) in lacks[of.clone()].iter_mut().zip(&carries) {
                    *lacks -= carries;
                }
                if least < 0 {
                    open[number] += 1;
                    if let Some(first) = self.rules.stays.filter(|_| beside.is_some()) {
                        now.iter().for_each(|item| lacks_beside[first + *item as usize] -= 1);
                    }
                }
            }
        }
        if let Some(beside) = beside {
            self.rules.allow(&open, lacks_beside);
            all.value += self.loops(beside, lacks_beside);
        }
        all
    }

    /// What the flows that no tree has come to, beyond what they do in any case.
    fn loops(&self, prices: &[i64], lacks: &mut [i64]) -> i128 {
        let flows: Vec<_> = self.forest.loops.iter().zip(&self.rules.loops).collect();
        let ends = |first: usize, count: usize| [first..first + count, first + count..first + 2 * count];
        let chunks = flows.chunks(CHUNK).collect::<Vec<_>>().into_par_iter();
        let look = |flows: &[(&Loop, &usize)]| -> Vec<(i128, usize, usize)> {
            let mut table = Table::default();
            let each = flows.iter().map(|(flow, first)| {
                let [one, other] = ends(**first, self.forest.parts(flow).1);
                self.forest.beyond(flow, self.scale, (&prices[one], &prices[other]), &mut table)
            });
            each.collect()
        };
        let seen: Vec<_> = chunks.map(look).with_max_len(1).collect();
        let mut sum = 0;
        for ((flow, first), (value, one, other)) in flows.iter().zip(seen.into_iter().flatten()) {
            let [ones, others] = ends(**first, self.forest.parts(flow).1);
            sum += value;
            lacks[ones.start + one] += 1;
            lacks[others.start + other] += 1;
        }
        sum
    }

    /// Where the items of some trees cost least, and how much.
    fn items(&self, trees: &[Vec<Member>], prices: &[i64]) -> (i128, Vec<Placed>) {
        let (mut value, mut placed) = (0, Vec::new());
        let mut table = Table::default();
        let classes = self.classes.classes.len();
        for tree in trees {
            let costs = |item: u32, costs: &mut [i64]| self.costs(item as usize, prices, costs);
            value += i128::from(self.forest.least(tree, classes, self.scale, &mut table, costs));
            placed.extend(tree.iter().zip(&table.classes).map(|(member, class)| Placed {
                item: member.item,
                class: *class,
                stays: self.stays(member.item as usize, *class as usize, prices),
            }));
        }
        (value, placed)
    }

    /// Whether an item stays where it is if it is in a class.
    fn stays(&self, item: usize, class: usize, prices: &[i64]) -> bool {
        let now = self.classes.of_bin[self.model.items[item].now as usize] as usize;
        // Where there is one bin alone, nothing goes to it that is there.
        let alone = self.classes.classes[now].bins.len() == 1;
        class == now && (alone || self.staying(item, prices) <= self.going(item, now, prices))
    }

    /// What an item costs that goes to a bin of a class, with what it pays.
    #[inline]
    fn going(&self, item: usize, class: usize, prices: &[i64]) -> i64 {
        let it = &self.model.items[item];
        let now = self.classes.of_bin[it.now as usize] as usize;
        let way = self
            .bin_moves
            .iter()
            .map(|one| one.weight * one.cost[one.part[now] as usize][one.part[class] as usize]);
        let paid = prices[class * it.uses.len()..].iter().zip(&it.uses).map(|(price, uses)| price * uses);
        self.scale * (self.pairs(item, class) + self.item_move[item] + way.sum::<i64>()) + paid.sum::<i64>()
    }

    /// What an item costs that stays, with what it pays.
    fn staying(&self, item: usize, all: &[i64]) -> i64 {
        let it = &self.model.items[item];
        let now = self.classes.of_bin[it.now as usize] as usize;
        let prices = all[now * it.uses.len()..].iter().zip(&it.uses).zip(&self.classes.stays);
        let paid = prices.map(|((price, uses), kept)| if *kept { 0 } else { price * uses });
        let held = self.beside(all).map_or(0, |beside| self.rules.staying(item, beside));
        self.scale * self.pairs(item, now) + paid.sum::<i64>() + held
    }

    #[inline]
    fn pairs(&self, item: usize, class: usize) -> i64 {
        self.pairs.iter().map(|pair| pair.table[pair.row[item] as usize][pair.part[class] as usize]).sum()
    }

    /// What an item costs by class, with what it pays.
    fn costs(&self, item: usize, prices: &[i64], costs: &mut [i64]) {
        let uses = &self.model.items[item].uses;
        let of = |class: usize| {
            if self.classes.too_narrow(class, uses) { NEVER } else { self.going(item, class, prices) }
        };
        match self.lists[item] {
            None => costs.iter_mut().enumerate().for_each(|(class, cost)| *cost = of(class)),
            Some(list) => {
                costs.fill(NEVER);
                for class in &self.allowed[list as usize] {
                    costs[*class as usize] = of(*class as usize);
                }
            }
        }
        let now = self.classes.of_bin[self.model.items[item].now as usize] as usize;
        let stays = self.staying(item, prices);
        let alone = self.classes.classes[now].bins.len() == 1;
        costs[now] = if alone { stays } else { costs[now].min(stays) };
        if let Some(beside) = self.beside(prices) {
            self.rules.pay(item, beside, costs);
        }
    }
}

/// Classes that tell apart what rules do, unless that makes many more of them.
fn classes(model: &Model, objective: &Objective) -> Classes {
    let level = |rule: &Rule| matches!(rule.about().1, Level::Scope(_)).then_some(rule.about().1);
    let levels: Vec<Level> = model.rules.iter().filter_map(level).collect();
    let plain = Classes::new(model, objective, &[]);
    let finer = Classes::new(model, objective, &levels);
    if 4 * finer.classes.len() <= 5 * plain.classes.len() { finer } else { plain }
}
