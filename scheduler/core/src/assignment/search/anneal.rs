//! Simulated annealing: random single moves and exchanges, worse ones taken less and less.
//!
//! Kirkpatrick, Gelatt, Vecchi: Optimization by Simulated Annealing, Science 220, 1983. The temperatures come from the problem:
//! after a descent, by how much random neighbours are worse.

use fastrand::Rng;

use super::budget::Budget;
use crate::assignment::state::State;

/// Proposals between two looks at the budget.
const BATCH: u64 = 4096;
/// The share of a budget in which only what is better is taken.
const DESCENT: f64 = 0.04;
/// The share after which nothing worse is taken any more.
const COLD: f64 = 0.97;
/// Neighbours that are looked at to find the temperatures.
const SAMPLES: usize = 20_000;

/// Where the search stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Share of the budget.
    pub spent: f64,
    /// Proposals made.
    pub proposals: u64,
    /// What the objective is worth.
    pub value: i64,
}

/// Makes an assignment better until the budget is spent. The best that was met at a look is where it ends.
pub fn anneal(state: &mut State<'_>, seed: u64, budget: &dyn Budget, mut look: impl FnMut(Seen)) {
    let mut random = Rng::with_seed(seed);
    let mut proposals = 0;
    let mut best = (state.value(), state.at().to_vec());
    let mut heat: Option<(f64, f64)> = None;
    let mut temperature = 0.0;
    let movable: Vec<u32> = (0..state.problem().items() as u32)
        .filter(|item| state.problem().allowed(*item as usize).is_none_or(|bins| bins.len() > 1))
        .collect();
    if movable.is_empty() {
        return;
    }
    loop {
        let spent = budget.spent(proposals);
        look(Seen { spent, proposals, value: state.value() });
        if spent >= 1.0 {
            break;
        }
        if spent > DESCENT {
            let (hot, cold) = *heat.get_or_insert_with(|| temperatures(state, &movable, &mut random));
            let share = (spent - DESCENT) / (COLD - DESCENT);
            temperature = if share < 1.0 { hot * (cold / hot).powf(share) } else { 0.0 };
        }
        for _ in 0..BATCH {
            let most = -temperature * random.f64().max(f64::MIN_POSITIVE).ln();
            step(state, &movable, &mut random, most);
        }
        proposals += BATCH;
        if state.value() < best.0 && (spent > 0.8 || spent < DESCENT) {
            best = (state.value(), state.at().to_vec());
        }
    }
    if best.0 < state.value() {
        *state = State::new(state.problem(), &best.1);
    }
}

/// One proposal, taken if it is worse by at most so much.
#[inline]
fn step(state: &mut State<'_>, movable: &[u32], random: &mut Rng, most: f64) {
    let item = movable[random.usize(..movable.len())] as usize;
    if random.bool() {
        let to = target(state, item, random);
        if let Some(more) = state.shift(item, to)
            && more as f64 <= most
        {
            state.go(item, to);
        }
    } else {
        let other = movable[random.usize(..movable.len())] as usize;
        if let Some(more) = state.swap(item, other)
            && more as f64 <= most
        {
            let (here, there) = (state.at()[item], state.at()[other]);
            state.go(item, there);
            state.go(other, here);
        }
    }
}

fn target(state: &State<'_>, item: usize, random: &mut Rng) -> u32 {
    match state.problem().allowed(item) {
        Some(bins) => bins[random.usize(..bins.len())],
        None => random.usize(..state.problem().bins()) as u32,
    }
}

/// The first and the last temperature.
fn temperatures(state: &State<'_>, movable: &[u32], random: &mut Rng) -> (f64, f64) {
    let mut worse = Vec::new();
    for _ in 0..SAMPLES {
        let item = movable[random.usize(..movable.len())] as usize;
        let more = if random.bool() {
            state.shift(item, target(state, item, random))
        } else {
            state.swap(item, movable[random.usize(..movable.len())] as usize)
        };
        worse.extend(more.filter(|more| *more > 0));
    }
    worse.sort_unstable();
    let at = |share: f64| {
        worse.get((worse.len() as f64 * share) as usize).map_or(1.0, |more| *more as f64)
    };
    let hot = (at(0.5) * 0.1).max(1.0);
    (hot, (at(0.001) * 0.1).clamp(0.2, hot))
}
