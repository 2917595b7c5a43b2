//! Terms bounded together: what items pay for the room that they take is what bins earn for it.
//!
//! With a price on each unit of room no item and no bin has to know of the others: items go where they cost least with what they
//! pay, bins are open if they earn more than they cost. For any prices the sum is no more than what any assignment is worth
//! (Lagrangian relaxation: Geoffrion, Lagrangean relaxation for integer programming, 1974). Good prices are found by the volume
//! algorithm (Barahona, Anbil, Mathematical Programming 87, 2000). Prices are whole numbers, so that the sum is exact.

use rayon::iter::{IndexedParallelIterator as _, IntoParallelIterator as _, ParallelIterator as _};

use super::classes::Classes;
use super::forest::{Forest, Member, NEVER, Table};
use crate::assignment::model::{Model, Objective, Term};

/// No sum comes to more than this.
const LIMIT: i128 = 1 << 58;
/// Parts of a unit of cost that prices are counted in.
const SCALE: i64 = 1 << 10;
/// Rounds after which nothing gets better any more.
const ROUNDS: u64 = 600;
/// Fewer lead to nothing.
const FEW: u64 = 6;
/// Trees that are looked at by one thread at a time.
const CHUNK: usize = 256;
/// The share of each round in the mean of the last ones.
const NEWEST: f64 = 0.3;
/// By how much the first step would raise the bound, if everything went on as there.
const RISE: f64 = 0.01;
/// By how much steps grow where that was right: at first, and once they were too large.
const GROW: (f64, f64) = (2.0, 1.1);
/// By how much they shrink after so many rounds in which nothing was better.
const SHRINK: f64 = 0.7;
const PATIENCE: u32 = 10;

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

/// What prices come to.
#[derive(Debug, Clone)]
struct Seen {
    value: i128,
    /// How much more is used than carried, by class and dimension.
    lacks: Vec<i64>,
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
        let classes = Classes::new(model, objective);
        let mut joint = Self {
            forest: Forest::new(model, objective, &classes),
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
        let items = self.all_items(&vec![0; classes * dimensions]).value;
        Some((whole(items), whole(self.climb(self.opening(), rounds))))
    }

    /// Better and better prices.
    fn climb(&self, prices: Vec<f64>, rounds: u64) -> i128 {
        let dimensions = self.model.dimensions.len();
        let whole = |prices: &[f64]| -> Vec<i64> {
            let highest = self.highest.iter().cycle();
            prices.iter().zip(highest).map(|(price, highest)| (*price as i64).clamp(0, *highest)).collect()
        };
        let size: Vec<f64> = (0..dimensions).map(|at| self.mean_room(at)).collect();
        let mut best = (self.look(&whole(&prices)), prices);
        // What is lacking is counted in mean bins, so that all dimensions weigh as much.
        let lacks = |seen: &Seen| -> Vec<f64> {
            seen.lacks.iter().zip(size.iter().cycle()).map(|(lacks, size)| *lacks as f64 / size).collect()
        };
        let mut mean = lacks(&best.0);
        let (mut rise, mut grow) = (RISE, GROW.0);
        let mut patience = PATIENCE;
        // Steps must not be so small that whole prices don't change: for each item a unit of cost at least.
        let unit = self.scale as f64 * self.model.items.len() as f64;
        for _ in 1..rounds {
            let norm: f64 = mean.iter().map(|lacks| lacks * lacks).sum();
            if norm < 1e-12 {
                break;
            }
            let step = rise * (best.0.value as f64).abs().max(unit) / norm;
            let prices: Vec<f64> = best
                .1
                .iter()
                .zip(mean.iter().zip(size.iter().cycle()))
                .map(|(price, (lacks, size))| (price + step * lacks / size).max(0.0))
                .collect();
            let seen = self.look(&whole(&prices));
            let newest = lacks(&seen);
            let ahead: f64 = newest.iter().zip(&mean).map(|(newest, mean)| newest * mean).sum();
            for (mean, newest) in mean.iter_mut().zip(newest) {
                *mean += NEWEST * (newest - *mean);
            }
            if seen.value > best.0.value {
                best = (seen, prices);
                patience = PATIENCE;
                if ahead > 0.0 {
                    rise *= grow;
                }
            } else {
                grow = GROW.1;
                patience -= 1;
                if patience == 0 {
                    rise *= SHRINK;
                    patience = PATIENCE;
                }
            }
        }
        best.0.value
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

    fn all_items(&self, prices: &[i64]) -> Seen {
        let chunks = self.forest.trees.chunks(CHUNK).collect::<Vec<_>>().into_par_iter();
        let parts: Vec<Seen> = chunks.map(|trees| self.items(trees, prices)).with_max_len(1).collect();
        let mut all = Seen { value: 0, lacks: vec![0; prices.len()] };
        for part in parts {
            all.value += part.value;
            all.lacks.iter_mut().zip(part.lacks).for_each(|(sum, lacks)| *sum += lacks);
        }
        all
    }

    fn look(&self, prices: &[i64]) -> Seen {
        let dimensions = self.model.dimensions.len();
        let mut all = self.all_items(prices);
        let mut carries = vec![0; dimensions];
        for (number, class) in self.classes.classes.iter().enumerate() {
            let of = number * dimensions..(number + 1) * dimensions;
            for bin in &class.bins {
                let room = self.classes.room(*bin);
                let least = class.least(room, &prices[of.clone()], self.scale, &mut carries);
                all.value += i128::from(least);
                for (lacks, carries) in all.lacks[of.clone()].iter_mut().zip(&carries) {
                    *lacks -= carries;
                }
            }
        }
        all
    }

    /// Where the items of some trees cost least.
    fn items(&self, trees: &[Vec<Member>], prices: &[i64]) -> Seen {
        let dimensions = self.model.dimensions.len();
        let mut seen = Seen { value: 0, lacks: vec![0; prices.len()] };
        let mut table = Table::default();
        for tree in trees {
            let classes = self.classes.classes.len();
            let costs = |item: u32, costs: &mut [i64]| self.costs(item as usize, prices, costs);
            let least = self.forest.least(tree, classes, self.scale, &mut table, costs);
            seen.value += i128::from(least);
            for (member, class) in tree.iter().zip(&table.classes) {
                let (item, class) = (member.item as usize, *class as usize);
                let it = &self.model.items[item];
                let stays = self.stays(item, class, prices);
                let of = class * dimensions..(class + 1) * dimensions;
                let uses = it.uses.iter().zip(&self.classes.stays);
                for (lacks, (uses, kept)) in seen.lacks[of].iter_mut().zip(uses) {
                    *lacks += if stays && *kept { 0 } else { *uses };
                }
            }
        }
        seen
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
    fn staying(&self, item: usize, prices: &[i64]) -> i64 {
        let it = &self.model.items[item];
        let now = self.classes.of_bin[it.now as usize] as usize;
        let prices = prices[now * it.uses.len()..].iter().zip(&it.uses).zip(&self.classes.stays);
        let paid = prices.map(|((price, uses), kept)| if *kept { 0 } else { price * uses });
        self.scale * self.pairs(item, now) + paid.sum::<i64>()
    }

    #[inline]
    fn pairs(&self, item: usize, class: usize) -> i64 {
        self.pairs.iter().map(|pair| pair.table[pair.row[item] as usize][pair.part[class] as usize]).sum()
    }

    /// What an item costs by class, with what it pays.
    fn costs(&self, item: usize, prices: &[i64], costs: &mut [i64]) {
        match self.lists[item] {
            None => {
                let all = costs.iter_mut().enumerate();
                all.for_each(|(class, cost)| *cost = self.going(item, class, prices));
            }
            Some(list) => {
                costs.fill(NEVER);
                for class in &self.allowed[list as usize] {
                    costs[*class as usize] = self.going(item, *class as usize, prices);
                }
            }
        }
        let now = self.classes.of_bin[self.model.items[item].now as usize] as usize;
        let stays = self.staying(item, prices);
        let alone = self.classes.classes[now].bins.len() == 1;
        costs[now] = if alone { stays } else { costs[now].min(stays) };
    }
}

/// In how many parts a unit of cost can be split so that all sums fit; nothing if not even whole units do.
fn scale(model: &Model, objective: &Objective) -> Option<i64> {
    let largest =
        |rows: &[Vec<i64>]| rows.iter().flatten().map(|number| i128::from(*number).abs()).max().unwrap_or(0);
    let items = model.items.len() as i128;
    let sum = |numbers: &[i64]| numbers.iter().map(|number| i128::from(*number).abs()).sum::<i128>();
    let most = |term: &Term| match term {
        Term::Headroom { dimension, weight, .. } => {
            let at = *dimension as usize;
            let bins = model.bins.iter().map(|bin| i128::from(bin.capacity[at]));
            let uses = model.items.iter().map(|item| i128::from(item.uses[at]));
            i128::from(*weight) * bins.chain(uses).sum::<i128>()
        }
        Term::Open { cost } | Term::ItemMove { cost } => sum(cost),
        Term::Pair { table, .. } => largest(table) * items,
        Term::Traffic { distance, flows, .. } => {
            largest(distance) * flows.iter().map(|flow| i128::from(flow.volume)).sum::<i128>()
        }
        Term::BinMove { cost, weight, .. } => i128::from(*weight) * largest(cost) * items,
        _ => 0,
    };
    let all = objective.terms.iter().map(most).fold(0, i128::saturating_add);
    let fits = (LIMIT / all.max(1)).min(i128::from(SCALE));
    i64::try_from(fits).ok().filter(|scale| *scale > 0)
}
