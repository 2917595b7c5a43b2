//! Parts of a unit of cost, so small that prices can be close and so large that sums fit.

use crate::assignment::model::{Model, Objective, Term};

/// No sum comes to more than this.
pub(super) const LIMIT: i128 = 1 << 58;
/// Parts of a unit of cost that prices are counted in.
const SCALE: i64 = 1 << 10;

/// In how many parts a unit of cost can be split so that all sums fit; nothing if not even whole units do.
pub(super) fn scale(model: &Model, objective: &Objective) -> Option<i64> {
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
