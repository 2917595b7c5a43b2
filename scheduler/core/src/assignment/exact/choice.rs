//! Where items can be: a column for each item and bin that it may go to, and what follows from them alone.

use std::collections::BTreeMap;

use super::program::{Program, Sum};
use super::rules::Limits;
use super::solver::Said;
use crate::assignment::model::{Level, Model};

/// A place that an item can be.
#[derive(Debug, Clone)]
struct Place {
    bin: u32,
    /// One if it is there.
    is: Sum,
}

/// Where items can be.
#[derive(Debug)]
pub(in crate::assignment) struct Choice<'m> {
    pub(super) model: &'m Model,
    items: Vec<Vec<Place>>,
    /// For each bin the items that can be there.
    bins: Vec<Vec<(u32, Sum)>>,
}

impl<'m> Choice<'m> {
    /// Each item may stay where it stands, or go to one of its options; it is nowhere if there are none. Items that have to be on
    /// one bin together share their columns.
    pub(in crate::assignment) fn new(
        model: &'m Model,
        at: &[u32],
        limits: &Limits,
        options: impl Fn(usize) -> Option<Vec<u32>>,
        program: &mut Program,
    ) -> Self {
        let first = limits.together(model);
        let mut shared = BTreeMap::<u32, Vec<u32>>::new();
        let mut nowhere = vec![false; at.len()];
        for (item, stands) in at.iter().enumerate() {
            let Some(mut bins) = options(item) else {
                nowhere[item] = true;
                continue;
            };
            bins.push(*stands);
            bins.sort_unstable();
            bins.dedup();
            shared
                .entry(first[item])
                .and_modify(|all| all.retain(|bin| bins.binary_search(bin).is_ok()))
                .or_insert(bins);
        }
        let mut choice =
            Self { model, items: Vec::with_capacity(at.len()), bins: vec![Vec::new(); model.bins.len()] };
        let mut made = BTreeMap::<u32, Vec<Place>>::new();
        for (item, stands) in at.iter().enumerate() {
            if nowhere[item] {
                choice.items.push(Vec::new());
                continue;
            }
            let places = made.entry(first[item]).or_insert_with(|| {
                let bins = shared.remove(&first[item]).unwrap_or_default();
                let alone = bins.len() == 1;
                let is = |program: &mut Program, bin: u32| {
                    if alone { Sum::of(1) } else { program.choice(bin == *stands) }
                };
                let places: Vec<Place> =
                    bins.into_iter().map(|bin| Place { bin, is: is(program, bin) }).collect();
                let once = places.iter().fold(Sum::of(-1), |sum, place| sum.plus(1, &place.is));
                program.nothing(&once);
                places
            });
            for place in places.iter() {
                choice.bins[place.bin as usize].push((item as u32, place.is.clone()));
            }
            choice.items.push(places.clone());
        }
        choice
    }

    /// One if an item is on a bin.
    pub(super) fn on(&self, item: usize, bin: u32) -> Sum {
        let there = self.items[item].iter().find(|place| place.bin == bin);
        there.map_or_else(Sum::default, |place| place.is.clone())
    }

    /// One if an item is elsewhere than now.
    pub(in crate::assignment) fn moved(&self, item: usize) -> Sum {
        let is = i128::from(!self.items[item].is_empty());
        Sum::of(is).plus(-1, &self.on(item, self.model.items[item].now))
    }

    /// What an item comes to by where it is.
    pub(in crate::assignment) fn by_bin(&self, item: usize, value: impl Fn(u32) -> i128) -> Sum {
        self.items[item].iter().fold(Sum::default(), |sum, place| sum.plus(value(place.bin), &place.is))
    }

    /// The parts that an item can be on, with one if it is.
    pub(super) fn parts(&self, item: usize, level: Level) -> BTreeMap<usize, Sum> {
        let mut parts = BTreeMap::<usize, Sum>::new();
        for place in &self.items[item] {
            parts.entry(part(self.model, level, place.bin)).or_default().add(1, &place.is);
        }
        parts
    }

    /// Each item that can be on a bin, with one if it is.
    pub(super) fn reach(&self, bin: usize) -> impl Iterator<Item = &Sum> {
        self.bins[bin].iter().map(|(_, is)| is)
    }

    /// What is used of a bin by the items that are on it.
    pub(super) fn used(&self, bin: usize, dimension: usize) -> Sum {
        let uses = |item: &u32| i128::from(self.model.items[*item as usize].uses[dimension]);
        self.bins[bin].iter().fold(Sum::default(), |sum, (item, is)| sum.plus(uses(item), is))
    }

    /// The same with what is still used by items that were there and left.
    pub(in crate::assignment) fn held(&self, bin: usize, dimension: usize) -> Sum {
        let mut held = self.used(bin, dimension);
        if self.model.dimensions[dimension].transient {
            for (item, it) in self.model.items.iter().enumerate().filter(|(_, it)| it.now as usize == bin) {
                held.add(it.uses[dimension].into(), &self.moved(item));
            }
        }
        held
    }

    /// The bin of each item, as a solver says, or where it stands if it is nowhere; none if the solver says nothing.
    pub(in crate::assignment) fn read(&self, said: &Said, at: &[u32]) -> Option<Vec<u32>> {
        let bin = |(places, stands): (&Vec<Place>, &u32)| {
            let there = places.iter().find(|place| said.chosen(&place.is)).map(|place| place.bin);
            if places.is_empty() { Some(*stands) } else { there }
        };
        said.values.as_ref().and_then(|_| self.items.iter().zip(at).map(bin).collect())
    }
}

/// The part that a bin belongs to.
pub(super) fn part(model: &Model, level: Level, bin: u32) -> usize {
    match level {
        Level::Bin => bin as usize,
        Level::Scope(scope) => model.scopes[scope as usize].part[bin as usize] as usize,
    }
}
