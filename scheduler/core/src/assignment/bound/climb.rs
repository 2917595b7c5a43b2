//! Better and better prices: the volume algorithm (Barahona, Anbil, Mathematical Programming 87, 2000).

/// How steps are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The share of each round in the mean of the last ones.
    newest: f64,
    /// After so many rounds that have made the bound hardly better nothing more is expected.
    stale: u64,
    /// By how much steps shrink after so many rounds in which nothing was better.
    shrink: f64,
}

/// For few prices.
pub(super) const FAST: Pace = Pace { newest: 0.1, stale: 100, shrink: 0.7 };
/// For many prices, of which each round tells little.
pub(super) const CLOSE: Pace = Pace { newest: 0.02, stale: 300, shrink: 0.8 };
/// By how much the first step would raise the bound, if everything went on as there.
const RISE: f64 = 0.01;
/// By how much steps grow where that was right: at first, and once they were too large.
const GROW: (f64, f64) = (2.0, 1.1);
/// In how many rounds something has to be better.
const PATIENCE: u32 = 10;
/// Hardly better is by less than one part of so many.
const ENOUGH: i128 = 100_000;

/// What prices come to.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// No assignment is worth less, in parts of a unit of cost.
    pub(super) value: i128,
    /// How much more is used than carried, for each price.
    pub(super) lacks: Vec<i64>,
}

/// What prices there can be.
#[derive(Debug)]
pub(super) struct Space {
    /// In what the lack of each is counted.
    pub(super) size: Vec<f64>,
    /// The lowest and the highest that each may be.
    pub(super) between: Vec<(i64, i64)>,
    /// What a step should be worth at least, so that whole prices change.
    pub(super) unit: f64,
}

impl Space {
    /// The same prices in whole numbers.
    pub(super) fn whole(&self, prices: &[f64]) -> Vec<i64> {
        let all = prices.iter().zip(&self.between);
        all.map(|(price, (low, high))| (*price as i64).clamp(*low, *high)).collect()
    }
}

/// The best that is found in so many rounds, and at what prices.
pub(super) fn from(
    prices: Vec<f64>,
    rounds: u64,
    space: &Space,
    pace: Pace,
    look: impl Fn(&[i64]) -> Seen,
) -> (Seen, Vec<f64>) {
    let lacks = |seen: &Seen| -> Vec<f64> {
        seen.lacks.iter().zip(&space.size).map(|(lacks, size)| *lacks as f64 / size).collect()
    };
    let mut best = (look(&space.whole(&prices)), prices);
    let mut mean = lacks(&best.0);
    let (mut rise, mut grow) = (RISE, GROW.0);
    let mut patience = PATIENCE;
    let mut last = (0, best.0.value);
    for round in 1..rounds {
        if round - last.0 == pace.stale {
            if best.0.value - last.1 <= best.0.value.abs() / ENOUGH {
                break;
            }
            last = (round, best.0.value);
        }
        // Prices that are at their lowest and should be lower are out of it.
        let at = best.1.iter().zip(&space.between);
        let free =
            mean.iter().zip(at).filter(|(lacks, (price, (low, _)))| **lacks > 0.0 || **price > *low as f64);
        let norm: f64 = free.map(|(lacks, _)| lacks * lacks).sum();
        if norm < 1e-12 {
            break;
        }
        let step = rise * (best.0.value as f64).abs().max(space.unit) / norm;
        let each = best.1.iter().zip(&mean).zip(space.size.iter().zip(&space.between));
        let prices: Vec<f64> = each
            .map(|((price, lacks), (size, (low, high)))| {
                (price + step * lacks / size).clamp(*low as f64, *high as f64)
            })
            .collect();
        let seen = look(&space.whole(&prices));
        let newest = lacks(&seen);
        let ahead: f64 = newest.iter().zip(&mean).map(|(newest, mean)| newest * mean).sum();
        for (mean, newest) in mean.iter_mut().zip(newest) {
            *mean += pace.newest * (newest - *mean);
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
                rise *= pace.shrink;
                patience = PATIENCE;
            }
        }
    }
    best
}
