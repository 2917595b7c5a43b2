//! Simulated annealing: random single moves and exchanges, worse ones taken less and less.
//!
//! Kirkpatrick, Gelatt, Vecchi: Optimization by Simulated Annealing, Science 220, 1983. The temperatures come from the problem:
//! after a descent, by how much random neighbours are worse.

use fastrand::Rng;

use super::budget::Budget;
use super::relax::Prices;
use crate::assignment::state::State;

/// Proposals between two looks at the budget.
const BATCH: u64 = 4096;
/// The share of a budget in which only what is better is taken.
const DESCENT: f64 = 0.04;
/// The share after which nothing worse is taken any more.
const COLD: f64 = 0.97;
/// The first temperature, by the median of how much worse neighbours are.
const FIRST: f64 = 10.0;
/// The last temperature, by the first.
const LAST: f64 = 0.01;
/// Neighbours that are looked at to find the temperatures.
const SAMPLES: usize = 20_000;
/// Places that are tried for one item, and items for a change of places.
const TARGETS: u64 = 4;
/// Kinds of proposals.
const KINDS: u32 = 3;
/// How many kinds of luck there are in a batch.
const LUCK: usize = 1024;

/// What holds while a search goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// Every bin's capacity.
    Strict,
    /// It may be exceeded at a price that rises: in tight problems most ways lead through what does not fit.
    Relaxed,
}

/// Where the search stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Share of the budget.
    pub spent: f64,
    /// Proposals made.
    pub proposals: u64,
    /// The least that the objective was worth.
    pub value: i64,
}

/// Makes an assignment better until the budget is spent, and ends at the best in which nothing is worse broken than at first.
pub fn anneal(
    state: &mut State<'_>,
    capacity: Capacity,
    seed: u64,
    budget: &dyn Budget,
    mut look: impl FnMut(Seen),
) {
    let problem = state.problem();
    let mut random = Rng::with_seed(seed);
    let movable: Vec<u32> = (0..problem.items() as u32)
        .filter(|item| problem.allowed(*item as usize).is_none_or(|bins| bins.len() > 1))
        .collect();
    if movable.is_empty() {
        return;
    }
    let mut proposals = 0;
    let mut best = Best::of(state);
    let mut heat: Option<f64> = None;
    let mut prices: Option<Prices> = None;
    loop {
        let spent = budget.spent(proposals);
        look(Seen { spent, proposals, value: best.value });
        if spent >= 1.0 {
            break;
        }
        let mut temperature = 0.0;
        if spent > DESCENT {
            let hot = *heat.get_or_insert_with(|| {
                let median = median_worse(state, &movable, &mut random);
                // Relaxing an assignment that does not fit would hide what is to be repaired.
                if capacity == Capacity::Relaxed && state.fits() {
                    prices = Some(Prices::new(problem, median));
                }
                median * FIRST
            });
            let share = (spent - DESCENT) / (COLD - DESCENT);
            temperature = if share < 1.0 { hot * LAST.powf(share) } else { 0.0 };
            if let Some(on) = &mut prices
                && !on.rule(state, spent)
            {
                prices = None;
            }
        }
        let luck: Vec<f64> = (0..LUCK).map(|_| -random.f64().max(f64::MIN_POSITIVE).ln()).collect();
        let mut made = 0;
        while made < BATCH {
            let mut most = |random: &mut Rng| (temperature * luck[random.usize(..LUCK)]) as i64;
            made += step(state, &movable, &mut random, &mut most);
        }
        proposals += made;
        // What is better because bins carry too much does not count.
        if prices.is_none() || state.fits() {
            best.see(state);
        }
    }
    best.restore(state, prices.is_none());
}

/// The best that was met.
struct Best {
    broken: i64,
    value: i64,
    at: Vec<u32>,
}

impl Best {
    fn of(state: &State<'_>) -> Self {
        Self { broken: state.broken(), value: state.value(), at: state.at().to_vec() }
    }

    fn see(&mut self, state: &State<'_>) {
        // Counting what is broken takes long, and where nothing is, only what is worth less can be better.
        let may = state.value() < self.value || self.broken > 0;
        if may && (state.broken(), state.value()) < (self.broken, self.value) {
            *self = Self::of(state);
        }
    }

    /// Back to it, unless what is there now is better, and counts.
    fn restore(self, state: &mut State<'_>, counts: bool) {
        if !counts || (self.broken, self.value) < (state.broken(), state.value()) {
            *state = State::new(state.problem(), &self.at);
        }
        state.relax(&[]);
    }
}

/// Some proposals, taken if they are worse by at most so much; how many.
#[inline]
fn step(
    state: &mut State<'_>,
    movable: &[u32],
    random: &mut Rng,
    most: &mut impl FnMut(&mut Rng) -> i64,
) -> u64 {
    let item = any(movable, random);
    match random.u32(..KINDS) {
        0 => {
            let leave = state.leave(item);
            for tried in 1..=TARGETS {
                let to = target(state, item, random);
                if state.enter(&leave, to, most(random)).is_some() {
                    state.go(item, to);
                    return tried;
                }
            }
        }
        1 => {
            for tried in 1..=TARGETS {
                let other = any(movable, random);
                if state.swap(item, other, most(random)).is_some() {
                    let (here, there) = (state.at()[item], state.at()[other]);
                    state.go(item, there);
                    state.go(other, here);
                    return tried;
                }
            }
        }
        _ => {
            for tried in 1..=TARGETS {
                let other = any(movable, random);
                let (there, now) = (state.at()[other], state.problem().now[other]);
                let to = if there == now || random.bool() { target(state, other, random) } else { now };
                if state.chain(item, other, to, most(random)).is_some() {
                    state.go(other, to);
                    state.go(item, there);
                    return tried;
                }
            }
        }
    }
    TARGETS
}

fn any(movable: &[u32], random: &mut Rng) -> usize {
    movable[random.usize(..movable.len())] as usize
}

fn target(state: &State<'_>, item: usize, random: &mut Rng) -> u32 {
    match state.problem().allowed(item) {
        Some(bins) => bins[random.usize(..bins.len())],
        None => random.usize(..state.problem().bins()) as u32,
    }
}

/// By how much random neighbours are worse that are worse.
fn median_worse(state: &State<'_>, movable: &[u32], random: &mut Rng) -> f64 {
    let mut worse = Vec::new();
    for _ in 0..SAMPLES {
        let item = any(movable, random);
        let more = if random.bool() {
            state.shift(item, target(state, item, random))
        } else {
            state.swap(item, any(movable, random), i64::MAX)
        };
        worse.extend(more.filter(|more| *more > 0));
    }
    worse.sort_unstable();
    worse.get(worse.len() / 2).map_or(1.0, |more| *more as f64)
}
