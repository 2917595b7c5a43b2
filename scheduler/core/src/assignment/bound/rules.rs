//! Rules, bins that have to be open, and flows that no tree has: what keeps an item from a part, as prices.
//!
//! Each row says how many of some items a part has at most: so many, or so many for each bin of it that is open. With a price on a
//! row the items pay for being there, and bins earn what they let in. An item on a bin keeps it open however little room it takes, which
//! prices for room alone don't say (strong linking: Cornuéjols, Fisher, Nemhauser, Management Science 23, 1977). A flow
//! that no tree has is looked at by itself, with its own idea of where its ends are; prices make it the items' (Komodakis,
//! Paragios, Tziritas, MRF energy minimization and beyond via dual decomposition, 2011).

use std::collections::BTreeMap;

use super::classes::Classes;
use super::forest::Forest;
use super::part;
use crate::assignment::model::{Model, Rule};

/// How many there are at most on a part, beside those that let others in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Most {
    /// So many.
    Of(i64),
    /// So many for each bin that is open. Parts are classes.
    Open(i64),
}

/// A price for each part.
#[derive(Debug)]
struct Row {
    /// The first of its prices.
    first: usize,
    parts: usize,
    most: Most,
}

/// Prices that an item pays, or is paid, by where it is.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The first of them.
    first: usize,
    /// Which parts they are for.
    parts: usize,
    /// How often it pays.
    times: i64,
}

/// All rows and flows.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// The part of each class, by level; the first are the classes themselves.
    parts: Vec<Vec<u32>>,
    rows: Vec<Row>,
    /// What each item pays.
    slots: Vec<Slot>,
    /// The first of each item's slots, and the end.
    firsts: Vec<usize>,
    /// The first price of each flow: those of its one end are followed by those of the other.
    pub(super) loops: Vec<usize>,
    /// The first of the prices for staying, one for each item, if there are any.
    pub(super) stays: Option<usize>,
    /// From here on prices may be below nothing.
    pub(super) signed: usize,
    /// How many prices there are.
    pub(super) prices: usize,
    /// How often prices are paid at most, all together.
    pub(super) paid: i128,
}

impl Rules {
    /// The rules that hold now, and the flows that no tree has. Bins let in what they are opened for, if that costs something.
    pub(super) fn new(model: &Model, classes: &Classes, forest: &Forest<'_>) -> Self {
        let mut made = Self { parts: vec![(0..classes.classes.len() as u32).collect()], ..Self::default() };
        let mut of_item: Vec<Vec<Slot>> = vec![Vec::new(); model.items.len()];
        let opened = classes.classes.iter().any(|class| class.open > 0);
        let mut linked = vec![false; model.items.len()];
        for rule in model.rules.iter().filter(|rule| holds(model, rule)) {
            let (group, level) = rule.about();
            let members = sorted(model, group);
            let parts = classes.whole(model, level).map(|parts| made.level(parts));
            match (rule, parts) {
                (Rule::Conflict { most, .. }, parts) if members.len() > *most as usize => {
                    // What is no more than so many on a part is no more on any of its bins.
                    if opened || parts.is_none() {
                        members.iter().for_each(|item| linked[*item as usize] = true);
                        made.row(&mut of_item, 0, Most::Open(i64::from(*most)), &members, &[]);
                    }
                    if let Some(parts) = parts {
                        made.row(&mut of_item, parts, Most::Of(i64::from(*most)), &members, &[]);
                    }
                }
                (Rule::Spread { least, .. }, Some(parts)) if *least > 1 => {
                    let most = Most::Of(members.len() as i64 - i64::from(*least) + 1);
                    made.row(&mut of_item, parts, most, &members, &[]);
                }
                // Those that need one alone are in a tree with it.
                (Rule::Dependency { needs, .. }, Some(parts)) => {
                    let needed = sorted(model, *needs);
                    let others = members.iter().filter(|item| needed.binary_search(item).is_err());
                    for item in others.filter(|_| needed.len() > 1) {
                        made.row(&mut of_item, parts, Most::Of(0), &[*item], &needed);
                    }
                }
                _ => {}
            }
        }
        if opened {
            for item in (0..linked.len()).filter(|item| !linked[*item]) {
                made.row(&mut of_item, 0, Most::Open(1), &[item as u32], &[]);
            }
            made.stays = Some(made.prices);
            made.prices += model.items.len();
            made.paid += 2 * model.items.len() as i128;
        }
        made.signed = made.prices;
        for one in &forest.loops {
            let (part, count) = forest.parts(one);
            let parts = made.level(part.to_vec());
            made.loops.push(made.prices);
            for item in [one.one, one.other] {
                of_item[item as usize].push(Slot { first: made.prices, parts, times: -1 });
                made.prices += count;
            }
            made.paid += 4;
        }
        made.firsts.push(0);
        for slots in of_item {
            made.slots.extend(slots);
            made.firsts.push(made.slots.len());
        }
        made
    }

    fn level(&mut self, parts: Vec<u32>) -> usize {
        self.parts.iter().position(|known| *known == parts).unwrap_or_else(|| {
            self.parts.push(parts);
            self.parts.len() - 1
        })
    }

    fn row(
        &mut self,
        of_item: &mut [Vec<Slot>],
        parts: usize,
        most: Most,
        members: &[u32],
        letting_in: &[u32],
    ) {
        let count = self.parts[parts].iter().max().map_or(0, |last| *last as usize + 1);
        for (items, times) in [(members, 1), (letting_in, -1)] {
            for item in items {
                of_item[*item as usize].push(Slot { first: self.prices, parts, times });
            }
        }
        let (Most::Of(number) | Most::Open(number)) = most;
        self.rows.push(Row { first: self.prices, parts: count, most });
        self.prices += count;
        self.paid += members.len() as i128 + letting_in.len() as i128 + i128::from(number.abs());
    }

    /// Whether bins have to be opened, or there are flows that no tree has: then there is always something to be gained.
    pub(super) fn open(&self) -> bool {
        self.stays.is_some() || !self.loops.is_empty()
    }

    fn of(&self, item: usize) -> &[Slot] {
        &self.slots[self.firsts[item]..self.firsts[item + 1]]
    }

    /// Adds to what an item costs by class what it pays, wherever it is on a bin.
    pub(super) fn pay(&self, item: usize, prices: &[i64], costs: &mut [i64]) {
        for slot in self.of(item) {
            let prices = &prices[slot.first..];
            for (cost, part) in costs.iter_mut().zip(&self.parts[slot.parts]) {
                *cost += slot.times * prices[*part as usize];
            }
        }
    }

    /// Counts an item that is in a class.
    pub(super) fn count(&self, item: usize, class: usize, stays: bool, lacks: &mut [i64]) {
        for slot in self.of(item) {
            lacks[slot.first + self.parts[slot.parts][class] as usize] += slot.times;
        }
        if let Some(first) = self.stays.filter(|_| stays) {
            lacks[first + item] += 1;
        }
    }

    /// What an item that stays pays for that beside.
    #[inline]
    pub(super) fn staying(&self, item: usize, prices: &[i64]) -> i64 {
        self.stays.map_or(0, |first| prices[first + item])
    }

    /// How many prices are looked at for all items.
    pub(super) fn work(&self) -> u64 {
        let of = |slot: &Slot| self.parts[slot.parts].len() as u64;
        self.slots.iter().map(of).sum::<u64>() + 4 * self.prices as u64
    }

    /// What a bin of each class earns by letting items in, and what is paid for no more than there may be.
    pub(super) fn earned(&self, prices: &[i64]) -> (Vec<i64>, i128) {
        let mut open = vec![0; self.parts[0].len()];
        let mut fixed = 0;
        for row in &self.rows {
            let prices = &prices[row.first..row.first + row.parts];
            match row.most {
                Most::Of(0) => {}
                Most::Of(most) => {
                    fixed += i128::from(most) * prices.iter().copied().map(i128::from).sum::<i128>()
                }
                Most::Open(most) => {
                    open.iter_mut().zip(prices).for_each(|(open, price)| *open += most * price);
                }
            }
        }
        (open, fixed)
    }

    /// Takes from what is lacking what may be, with so many bins open of each class.
    pub(super) fn allow(&self, open: &[i64], lacks: &mut [i64]) {
        for row in &self.rows {
            let lacks = &mut lacks[row.first..row.first + row.parts];
            match row.most {
                Most::Of(most) => lacks.iter_mut().for_each(|lacks| *lacks -= most),
                Most::Open(most) => {
                    lacks.iter_mut().zip(open).for_each(|(lacks, open)| *lacks -= most * open);
                }
            }
        }
    }
}

fn sorted(model: &Model, group: u32) -> Vec<u32> {
    let mut items = model.groups[group as usize].items.clone();
    items.sort_unstable();
    items
}

/// Whether a rule that can be a row holds now: what is broken may stay so.
fn holds(model: &Model, rule: &Rule) -> bool {
    let (group, level) = rule.about();
    let there = |group: u32| {
        let mut counts = BTreeMap::<usize, u32>::new();
        for item in &model.groups[group as usize].items {
            *counts.entry(part(model, level, model.items[*item as usize].now)).or_default() += 1;
        }
        counts
    };
    match *rule {
        Rule::Conflict { most, .. } => there(group).values().all(|count| *count <= most),
        Rule::Spread { least, .. } => there(group).len() >= least as usize,
        Rule::Dependency { needs, .. } => {
            let needed = there(needs);
            there(group).keys().all(|part| needed.contains_key(part))
        }
        Rule::CoLocation { .. } => false,
    }
}
