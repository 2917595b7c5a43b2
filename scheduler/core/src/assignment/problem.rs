//! A model laid out for the search: flat lists, and for every item what it touches.

use super::counts::Laws;
use super::model::{Level, Model};
use super::validity::{self, Invalid};
use super::worth::Worth;

/// A valid model, laid out for the search.
#[derive(Debug)]
pub struct Problem {
    /// How many dimensions there are.
    pub dimensions: usize,
    /// Capacities, one bin after the other.
    pub(super) capacity: Vec<i64>,
    /// What items use, one item after the other.
    pub(super) uses: Vec<i64>,
    /// Which dimensions stay used where an item was.
    pub(super) transient: Vec<bool>,
    /// Where the items are now.
    pub now: Vec<u32>,
    /// The bins that an item may be on, in order; all if there is no list.
    pub(super) allowed: Vec<Option<Vec<u32>>>,
    /// The part of each bin, for the bin itself and for each scope.
    pub(super) parts: Vec<Vec<u32>>,
    /// Rules.
    pub(super) laws: Laws,
    /// Objectives, the most important first.
    pub(super) worths: Vec<Worth>,
    pub(super) most_moved: Option<u32>,
}

impl Problem {
    /// Lays a model out.
    ///
    /// # Errors
    /// What is wrong with the model, with the place.
    pub fn new(model: &Model) -> Result<Self, Invalid> {
        validity::check(model)?;
        let mut parts = vec![(0..model.bins.len() as u32).collect()];
        parts.extend(model.scopes.iter().map(|scope| scope.part.clone()));
        let mut sizes = vec![model.bins.len()];
        sizes.extend((0..model.scopes.len()).map(|scope| model.parts(Level::Scope(scope as u32))));
        let allowed = model.items.iter().map(|item| {
            item.bins.as_ref().map(|bins| {
                let mut bins = bins.clone();
                // Mostly they are as they should be.
                if !bins.is_sorted_by(|one, next| one < next) || bins.binary_search(&item.now).is_err() {
                    bins.push(item.now);
                    bins.sort_unstable();
                    bins.dedup();
                }
                bins
            })
        });
        Ok(Self {
            dimensions: model.dimensions.len(),
            capacity: model.bins.iter().flat_map(|bin| bin.capacity.iter().copied()).collect(),
            uses: model.items.iter().flat_map(|item| item.uses.iter().copied()).collect(),
            transient: model.dimensions.iter().map(|dimension| dimension.transient).collect(),
            now: model.now(),
            allowed: allowed.collect(),
            laws: Laws::new(model, &sizes),
            worths: model.objectives.iter().map(|objective| Worth::new(model, objective)).collect(),
            parts,
            most_moved: model.most_moved,
        })
    }

    /// How many items there are.
    pub const fn items(&self) -> usize {
        self.now.len()
    }

    /// How many bins there are.
    pub fn bins(&self) -> usize {
        self.parts[0].len()
    }

    /// How many objectives there are.
    pub const fn objectives(&self) -> usize {
        self.worths.len()
    }

    /// What an item uses.
    pub fn uses(&self, item: usize) -> &[i64] {
        &self.uses[item * self.dimensions..][..self.dimensions]
    }

    /// What a bin has.
    pub fn capacity(&self, bin: usize) -> &[i64] {
        &self.capacity[bin * self.dimensions..][..self.dimensions]
    }

    /// Whether an item may be on a bin, as far as its own list goes.
    pub fn allows(&self, item: usize, bin: usize) -> bool {
        self.allowed[item].as_ref().is_none_or(|bins| bins.binary_search(&(bin as u32)).is_ok())
    }

    /// The bins that an item may be on, as far as its own list goes; all if there is no list.
    pub fn allowed(&self, item: usize) -> Option<&[u32]> {
        self.allowed[item].as_deref()
    }
}

/// Which of a problem's levels it is.
pub(super) const fn place(level: Level) -> usize {
    match level {
        Level::Bin => 0,
        Level::Scope(scope) => scope as usize + 1,
    }
}

/// Lists of things, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Lists<T> {
    starts: Vec<u32>,
    all: Vec<T>,
}

impl<T: Copy> Lists<T> {
    pub(super) fn new(lists: impl IntoIterator<Item = Vec<T>>) -> Self {
        let mut made = Self { starts: vec![0], all: Vec::new() };
        for list in lists {
            made.all.extend(list);
            made.starts.push(made.all.len() as u32);
        }
        made
    }

    pub(super) const fn len(&self) -> usize {
        self.starts.len() - 1
    }

    #[inline]
    pub(super) fn of(&self, at: usize) -> &[T] {
        &self.all[self.starts[at] as usize..self.starts[at + 1] as usize]
    }
}
