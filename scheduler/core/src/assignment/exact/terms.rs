//! What is minimised, as a sum.

use std::collections::BTreeMap;

use super::choice::{Choice, part};
use super::program::{Program, Sum};
use super::rules::breaches;
use crate::assignment::model::{Flow, Level, Model, Objective, Term};

/// Where each two items can be together: the parts of one, those of the other, and whether both are.
type Together = BTreeMap<(Level, u32, u32), (Vec<usize>, Vec<usize>, Vec<Vec<Sum>>)>;

/// What an objective comes to, if it is minimised. `limits` is what each bin may hold, one after the other, where something is
/// said.
pub(in crate::assignment) fn objective(
    choice: &Choice<'_>,
    objective: &Objective,
    limits: &[Option<i128>],
    program: &mut Program,
) -> Sum {
    let mut sum = Sum::default();
    let mut open = vec![0i128; choice.model.bins.len()];
    let mut together = Together::new();
    for term in &objective.terms {
        match term {
            Term::Open { cost } => {
                open.iter_mut().zip(cost).for_each(|(sum, cost)| *sum += i128::from(*cost))
            }
            Term::Traffic { level, distance, flows } => {
                traffic(choice, *level, distance, flows, &mut together, program, &mut sum);
            }
            _ => add(choice, term, program, &mut sum),
        }
    }
    for (bin, cost) in open.into_iter().enumerate() {
        if cost != 0 {
            sum.add(cost, &opened(choice, bin, cost > 0, limits, program));
        }
    }
    sum
}

fn add(choice: &Choice<'_>, term: &Term, program: &mut Program, sum: &mut Sum) {
    let model = choice.model;
    let (bins, items) = (0..model.bins.len(), 0..model.items.len());
    let capacity = |bin: usize, dimension: usize| i128::from(model.bins[bin].capacity[dimension]);
    match term {
        Term::Overload { weight } => {
            for (bin, dimension) in bins.flat_map(|bin| (0..model.dimensions.len()).map(move |at| (bin, at)))
            {
                let beyond = choice.held(bin, dimension).plus(-1, &Sum::of(capacity(bin, dimension)));
                above(beyond, *weight, program, sum);
            }
        }
        Term::Headroom { dimension, level, weight } => {
            for (bin, level) in bins.zip(level) {
                let beyond = choice.used(bin, *dimension as usize).plus(-1, &Sum::of((*level).into()));
                above(beyond, *weight, program, sum);
            }
        }
        Term::Balance { free, wanted, ratio, weight } => {
            for bin in bins {
                let left = |at: usize| Sum::of(capacity(bin, at)).plus(-1, &choice.used(bin, at));
                let lacks = left(*wanted as usize);
                let missing = Sum::default().plus((*ratio).into(), &left(*free as usize)).plus(-1, &lacks);
                above(missing, *weight, program, sum);
            }
        }
        Term::Pair { level, row, table } => {
            for (item, row) in items.zip(row) {
                let value = |bin: u32| i128::from(table[*row as usize][part(model, *level, bin)]);
                sum.add(1, &choice.by_bin(item, value));
            }
        }
        Term::ItemMove { cost } => {
            for (item, cost) in items.zip(cost) {
                sum.add((*cost).into(), &choice.moved(item));
            }
        }
        Term::GroupMove { weight } => {
            let moved = |group: &[u32]| {
                group.iter().fold(Sum::default(), |sum, item| sum.plus(1, &choice.moved(*item as usize)))
            };
            let groups: Vec<Sum> = model.groups.iter().map(|group| moved(&group.items)).collect();
            if *weight > 0 {
                sum.add((*weight).into(), &program.above(&groups));
            }
        }
        Term::BinMove { level, cost, weight } => {
            for item in items {
                let now = model.items[item].now;
                let from = part(model, *level, now);
                let value = |bin: u32| {
                    if bin == now {
                        0
                    } else {
                        i128::from(*weight) * i128::from(cost[from][part(model, *level, bin)])
                    }
                };
                sum.add(1, &choice.by_bin(item, value));
            }
        }
        Term::Breach { rule, weight } => {
            if *weight > 0 {
                sum.add((*weight).into(), &breaches(choice, rule, program));
            }
        }
        // They are added up by bin, and by pair, before.
        Term::Open { .. } | Term::Traffic { .. } => {}
    }
}

/// What is above nothing of a sum, so much for each unit.
fn above(of: Sum, weight: i64, program: &mut Program, sum: &mut Sum) {
    if weight > 0 {
        sum.add(weight.into(), &program.above(&[of]));
    }
}

/// One if a bin carries anything: if that is minimised, or else maximised.
fn opened(
    choice: &Choice<'_>,
    bin: usize,
    costs: bool,
    limits: &[Option<i128>],
    program: &mut Program,
) -> Sum {
    let here: Vec<Sum> = choice.reach(bin).cloned().collect();
    if !costs {
        return program.any(&here.iter().fold(Sum::default(), |sum, is| sum.plus(1, is)));
    }
    let open = program.above(&here);
    let dimensions = choice.model.dimensions.len();
    for dimension in 0..dimensions {
        // What a bin has room for, it has only if it is open: that tells how many are needed at least.
        let used = choice.used(bin, dimension);
        if let Some(room) = limits[bin * dimensions + dimension]
            && program.most(&used) > room
        {
            program.at_most_nothing(&used.plus(-room, &open));
        }
    }
    open
}

fn traffic(
    choice: &Choice<'_>,
    level: Level,
    distance: &[Vec<i64>],
    flows: &[Flow],
    together: &mut Together,
    program: &mut Program,
    sum: &mut Sum,
) {
    let mut volumes = BTreeMap::<(u32, u32), i128>::new();
    for flow in flows {
        *volumes.entry((flow.one.min(flow.other), flow.one.max(flow.other))).or_default() +=
            i128::from(flow.volume);
    }
    for ((one, other), volume) in volumes {
        let ones = choice.parts(one as usize, level);
        let others = choice.parts(other as usize, level);
        let far = |from: usize, to: usize| volume * i128::from(distance[from][to]);
        // The places of both only have to do with each other where both can choose.
        if let (Some((from, _)), 1) = (ones.first_key_value(), ones.len()) {
            others.iter().for_each(|(to, is)| sum.add(far(*from, *to), is));
        } else if let (Some((to, _)), 1) = (others.first_key_value(), others.len()) {
            ones.iter().for_each(|(from, is)| sum.add(far(*from, *to), is));
        } else if volume > 0 {
            let (froms, tos, both) = together.entry((level, one, other)).or_insert_with(|| {
                let sums = |parts: &BTreeMap<usize, Sum>| -> Vec<Sum> { parts.values().cloned().collect() };
                let both = program.both(&sums(&ones), &sums(&others));
                (ones.keys().copied().collect(), others.keys().copied().collect(), both)
            });
            for (from, row) in froms.iter().zip(both) {
                tos.iter().zip(row).for_each(|(to, both)| sum.add(far(*from, *to), both));
            }
        }
    }
}

/// The objective of a model by its number; nothing if there is none.
pub(super) fn numbered(
    choice: &Choice<'_>,
    model: &Model,
    number: usize,
    limits: &[Option<i128>],
    program: &mut Program,
) -> Sum {
    model.objectives.get(number).map_or_else(Sum::default, |it| objective(choice, it, limits, program))
}
