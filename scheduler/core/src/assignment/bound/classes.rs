//! Bins that are alike, as far as an objective can tell.

use std::collections::BTreeMap;

use super::part;
use crate::assignment::model::{Level, Model, Objective, Term};

/// Bins that are alike.
#[derive(Debug)]
pub(super) struct Class {
    /// Which.
    pub(super) bins: Vec<u32>,
    /// How much each can carry: its capacity, or what it carries beyond that now.
    pub(super) room: Vec<i64>,
    /// What is free, and what each unit beyond costs, for each dimension.
    pub(super) levels: Vec<Vec<(i64, i64)>>,
    /// What each costs that carries anything.
    pub(super) open: i64,
}

/// All bins, by class.
#[derive(Debug)]
pub(super) struct Classes {
    pub(super) classes: Vec<Class>,
    /// The class of each bin.
    pub(super) of_bin: Vec<u32>,
    /// Dimensions in which a bin goes on carrying what is on it now, so that only what comes needs room.
    pub(super) stays: Vec<bool>,
    /// How much each bin has room for, one after the other: in all, or for what comes.
    room: Vec<i64>,
    /// The most that any bin of each class has room for, one class after the other.
    widest: Vec<i64>,
}

impl Classes {
    /// Classes by what the objective tells apart, and by these levels.
    pub(super) fn new(model: &Model, objective: &Objective, also: &[Level]) -> Self {
        let dimensions = model.dimensions.len();
        let mut carried = vec![vec![0i64; dimensions]; model.bins.len()];
        for item in &model.items {
            for (sum, uses) in carried[item.now as usize].iter_mut().zip(&item.uses) {
                *sum += uses;
            }
        }
        let mut levels: Vec<Level> = Vec::new();
        for term in &objective.terms {
            if let Term::Pair { level, .. } | Term::BinMove { level, .. } | Term::Traffic { level, .. } = term
            {
                levels.push(*level);
            }
        }
        levels.extend(also);
        levels.sort_unstable();
        levels.dedup();
        // Headroom counts what leaves as gone, so that there all that is on a bin is looked at.
        let looked_at = |at: usize| {
            let of =
                |term: &Term| matches!(term, Term::Headroom { dimension, .. } if *dimension as usize == at);
            objective.terms.iter().any(of)
        };
        let transient = model.dimensions.iter().enumerate();
        let stays = transient.map(|(at, dimension)| dimension.transient && !looked_at(at)).collect();
        let mut made =
            Self { classes: Vec::new(), of_bin: Vec::new(), stays, room: Vec::new(), widest: Vec::new() };
        let mut known = BTreeMap::new();
        for (bin, carried) in carried.iter().enumerate() {
            let capacity = model.bins[bin].capacity.iter().zip(carried);
            let room: Vec<i64> = capacity.map(|(capacity, carried)| *capacity.max(carried)).collect();
            let kept =
                made.stays.iter().zip(carried).map(|(stays, carried)| if *stays { *carried } else { 0 });
            made.room.extend(room.iter().zip(kept).map(|(room, kept)| room - kept));
            let mut beyond = vec![Vec::new(); dimensions];
            let mut open = 0;
            for term in &objective.terms {
                match term {
                    Term::Headroom { dimension, level, weight } => {
                        beyond[*dimension as usize].push((level[bin], *weight));
                    }
                    Term::Open { cost } => open += cost[bin],
                    _ => {}
                }
            }
            let bin = bin as u32;
            let parts: Vec<usize> = levels.iter().map(|level| part(model, *level, bin)).collect();
            let class = *known.entry((parts, room.clone(), beyond.clone(), open)).or_insert_with(|| {
                made.classes.push(Class { bins: Vec::new(), room, levels: beyond, open });
                made.classes.len() - 1
            });
            made.classes[class].bins.push(bin);
            made.of_bin.push(class as u32);
        }
        let mut widest = Vec::new();
        for class in &made.classes {
            let room = |bin: &u32, at| made.room[*bin as usize * dimensions + at];
            let most = |at| class.bins.iter().map(|bin| room(bin, at)).max().unwrap_or(0);
            widest.extend((0..dimensions).map(most));
        }
        made.widest = widest;
        made
    }

    /// The part of each class.
    pub(super) fn parts(&self, model: &Model, level: Level) -> Vec<u32> {
        self.classes.iter().map(|class| part(model, level, class.bins[0]) as u32).collect()
    }

    /// The same, if it is a scope and all bins of each class are on the same part.
    pub(super) fn whole(&self, model: &Model, level: Level) -> Option<Vec<u32>> {
        let parts = self.parts(model, level);
        let same = |(class, bin): (&u32, u32)| part(model, level, bin) as u32 == parts[*class as usize];
        let all = level != Level::Bin && self.of_bin.iter().zip(0..).all(same);
        all.then_some(parts)
    }

    /// Whether no bin of a class has room for what comes and uses so much.
    #[inline]
    pub(super) fn too_narrow(&self, class: usize, uses: &[i64]) -> bool {
        self.widest[class * uses.len()..].iter().zip(uses).any(|(widest, uses)| *uses > 0 && uses > widest)
    }

    /// How much a bin has room for.
    pub(super) fn room(&self, bin: u32) -> &[i64] {
        let dimensions = self.stays.len();
        &self.room[bin as usize * dimensions..][..dimensions]
    }
}

impl Class {
    /// What a bin with so much room is worth at least if opening it costs so much and what it carries earns these prices, and how much
    /// it carries then: nothing, or as much of each dimension as is worth it.
    pub(super) fn least(
        &self,
        room: &[i64],
        open: i64,
        prices: &[i64],
        scale: i64,
        carries: &mut [i64],
    ) -> i64 {
        let mut sum = open;
        for (at, price) in prices.iter().enumerate() {
            let worth = |used: i64| {
                let beyond = self.levels[at].iter().map(|(level, weight)| weight * (used - level).max(0));
                beyond.sum::<i64>() * scale - price * used
            };
            let room = room[at];
            let kinks = self.levels[at].iter().map(|(level, _)| (*level).min(room));
            let (least, used) =
                kinks.chain([0, room]).map(|used| (worth(used), used)).min().unwrap_or((0, 0));
            carries[at] = used;
            sum += least;
        }
        if sum >= 0 {
            carries.fill(0);
        }
        sum.min(0)
    }
}
