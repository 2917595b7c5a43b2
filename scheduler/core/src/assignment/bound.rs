//! What no assignment can be worth less than, of those that leave nothing worse than it is now.
//!
//! Each term is bounded for itself, as if all bins were one, or each item alone: what is beyond a level in all bins together
//! is no more than what is beyond it bin by bin. Teams of the ROADEF/EURO challenge 2012 bounded load and balance so. Then those
//! that pull in different directions are bounded together, with the rules that hold now, and what is more counts.
//!
//! | module | what lives there |
//! |---|---|
//! | `joint` | terms bounded together, by prices for room |
//! | `forest` | items that talk to each other, as far as they form trees |
//! | `rules` | what rules, open bins and flows beyond trees come to, by prices for letting in |
//! | `climb` | better and better prices |
//! | `scale` | in what prices are counted |
//! | `classes` | bins that are alike |

use super::model::{Level, Model, Objective, Term};
use joint::Joint;

mod classes;
mod climb;
mod forest;
mod joint;
mod rules;
mod scale;

/// As much work as takes some seconds.
const WORK: u64 = 1 << 31;

/// The least that an objective of a valid model can be worth, whatever the assignment, if nothing is worse than it is now.
pub fn least(model: &Model, objective: &Objective) -> i128 {
    least_within(model, objective, WORK)
}

/// The same with more work, or less: so many numbers are looked at, no more. The more, the closer.
pub fn least_within(model: &Model, objective: &Objective, work: u64) -> i128 {
    let alone = |of: fn(&Term) -> bool| -> i128 {
        objective.terms.iter().filter(|term| of(term)).map(|term| least_of(model, term)).sum()
    };
    let (bins, items) = (alone(joint::of_bins), alone(joint::of_items));
    let others = alone(|term| !joint::of_bins(term) && !joint::of_items(term));
    match Joint::new(model, objective).and_then(|joint| joint.best(work)) {
        None => bins + items + others,
        Some((together, all)) => others + all.max(bins + items.max(together)),
    }
}

fn least_of(model: &Model, term: &Term) -> i128 {
    let used = |dimension: u32| -> i128 {
        model.items.iter().map(|item| i128::from(item.uses[dimension as usize])).sum()
    };
    let free = |dimension: u32| -> i128 {
        let room: i128 = model.bins.iter().map(|bin| i128::from(bin.capacity[dimension as usize])).sum();
        room - used(dimension)
    };
    match term {
        Term::Headroom { dimension, level, weight } => {
            let levels: i128 = level.iter().map(|level| i128::from(*level)).sum();
            i128::from(*weight) * (used(*dimension) - levels).max(0)
        }
        Term::Balance { free: of, wanted, ratio, weight } => {
            i128::from(*weight) * (i128::from(*ratio) * free(*of) - free(*wanted)).max(0)
        }
        Term::Open { cost } => least_open(model, cost),
        Term::Pair { level, row, table } => {
            let all = reached(model, *level);
            let of_row: Vec<i64> = table.iter().map(|row| least_at(row, &all)).collect();
            model
                .items
                .iter()
                .zip(row)
                .map(|(item, row)| match &item.bins {
                    None => i128::from(of_row[*row as usize]),
                    Some(bins) => {
                        let parts = bins.iter().chain([&item.now]).map(|bin| part(model, *level, *bin));
                        let row = &table[*row as usize];
                        i128::from(parts.map(|part| row[part]).min().unwrap_or(0))
                    }
                })
                .sum()
        }
        Term::Traffic { level, distance, flows } => {
            let all = reached(model, *level);
            let nearest = all.iter().map(|from| least_at(&distance[*from], &all)).min().unwrap_or(0);
            flows.iter().map(|flow| i128::from(flow.volume) * i128::from(nearest)).sum()
        }
        Term::ItemMove { cost } => cost.iter().map(|cost| i128::from(*cost).min(0)).sum(),
        Term::BinMove { cost, weight, .. } => {
            let lowest = cost.iter().flatten().copied().min().unwrap_or(0).min(0);
            i128::from(*weight) * i128::from(lowest) * model.items.len() as i128
        }
        Term::Overload { .. } | Term::GroupMove { .. } | Term::Breach { .. } => 0,
    }
}

/// Bins that cost something may all be closed but as many as are needed for what is used; those that pay are all open.
fn least_open(model: &Model, cost: &[i64]) -> i128 {
    if model.items.is_empty() {
        return 0;
    }
    let mut sorted = cost.to_vec();
    sorted.sort_unstable();
    let needed = (0..model.dimensions.len()).map(|dimension| {
        let mut left: i128 = model.items.iter().map(|item| i128::from(item.uses[dimension])).sum();
        let mut room: Vec<i64> = model.bins.iter().map(|bin| bin.capacity[dimension]).collect();
        room.sort_unstable_by(|one, other| other.cmp(one));
        let mut bins = 0;
        for room in room {
            if left <= 0 {
                break;
            }
            left -= i128::from(room);
            bins += 1;
        }
        // What has no room at all now may go on having none.
        if left > 0 { 1 } else { bins }
    });
    let needed = if overloaded(model) { 1 } else { needed.max().unwrap_or(1).max(1) };
    let paying = sorted.iter().take_while(|cost| **cost < 0).count();
    sorted.iter().take(needed.max(paying)).map(|cost| i128::from(*cost)).sum()
}

/// Whether a bin has no room for what is on it now, so that capacities may be exceeded for good.
fn overloaded(model: &Model) -> bool {
    let mut used = vec![vec![0i128; model.dimensions.len()]; model.bins.len()];
    for item in &model.items {
        for (sum, uses) in used[item.now as usize].iter_mut().zip(&item.uses) {
            *sum += i128::from(*uses);
        }
    }
    used.iter().zip(&model.bins).any(|(used, bin)| {
        used.iter().zip(&bin.capacity).any(|(used, capacity)| *used > i128::from(*capacity))
    })
}

fn part(model: &Model, level: Level, bin: u32) -> usize {
    match level {
        Level::Bin => bin as usize,
        Level::Scope(scope) => model.scopes[scope as usize].part[bin as usize] as usize,
    }
}

/// The parts that have bins.
fn reached(model: &Model, level: Level) -> Vec<usize> {
    let mut parts: Vec<usize> = (0..model.bins.len() as u32).map(|bin| part(model, level, bin)).collect();
    parts.sort_unstable();
    parts.dedup();
    parts
}

fn least_at(row: &[i64], parts: &[usize]) -> i64 {
    parts.iter().map(|part| row[*part]).min().unwrap_or(0)
}
