//! Better assignments within a budget.
//!
//! | module | what lives there |
//! |---|---|
//! | [`budget`] | how much work is allowed, or how much time, which only the rim can tell |
//! | [`anneal`] | simulated annealing |
//! | [`proposal`] | what is proposed: an item goes, two change places, one makes way for another |
//! | `compound` | several moves that are one change |
//! | `near` | bins that cost about the same, and items that hold each other |
//! | `opening` | what opening a bin costs while it is hot |
//! | [`choice`] | which items are tried, at a temperature |
//! | [`holding`] | what being elsewhere costs while it is hot, where room is held at both ends |
//! | [`schedule`] | how fast it is cooled |
//! | [`relax`] | prices for what is beyond capacity |
//! | [`repair`] | what is broken is mended first, by moving little |

pub mod anneal;
pub mod budget;
pub mod choice;
mod compound;
pub mod holding;
mod near;
mod opening;
pub mod proposal;
pub mod relax;
pub mod repair;
pub mod schedule;

use anneal::{Capacity, Heat, Seen};
use budget::{Budget, Part};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use super::problem::Problem;
use super::state::State;

/// The best assignment that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The bin of each item.
    pub at: Vec<u32>,
    /// How often hard rules are broken, each bin without room counted once for each dimension.
    pub broken: i64,
    /// What the objectives are worth.
    pub values: Vec<i64>,
    /// Proposals made, by all searches together.
    pub proposals: u64,
}

/// One in so many searches keeps capacities all the time; the others may exceed them on their way, which is better where it is tight.
const STRICT: u32 = 4;

/// The share of a budget after which all searches go on, less hot, from the best that one of them found.
const HOT_SHARE: f64 = 0.75;

/// The best of some searches side by side, each with a seed of its own, after what is broken now was repaired.
pub fn best(
    problem: &Problem,
    threads: u32,
    seed: u64,
    budget: &dyn Budget,
    look: &(dyn Fn(Seen) + Sync),
) -> Found {
    let mut start = State::new(problem, &problem.now);
    repair::repair(&mut start, &[]);
    improve(&start, threads, seed, budget, look)
}

/// The same from a state on, by the objective that it minimises and within its limits.
pub fn improve(
    start: &State<'_>,
    threads: u32,
    seed: u64,
    budget: &dyn Budget,
    look: &(dyn Fn(Seen) + Sync),
) -> Found {
    let part = |made, between| Part { whole: budget, made, between };
    let hot = side_by_side(start, threads, Heat::Hot, seed, &part(0, (0.0, HOT_SHARE)), look);
    let mut state = start.clone();
    state.reset(&hot.at);
    let made = hot.proposals / u64::from(threads.max(1));
    let warm = side_by_side(&state, threads, Heat::Warm, !seed, &part(made, (HOT_SHARE, 1.0)), look);
    Found { proposals: hot.proposals + warm.proposals, ..warm }
}

fn side_by_side(
    start: &State<'_>,
    threads: u32,
    heat: Heat,
    seed: u64,
    budget: &dyn Budget,
    look: &(dyn Fn(Seen) + Sync),
) -> Found {
    let objective = start.objective;
    let run = |number: u32| {
        let mut state = start.clone();
        let mut proposals = 0;
        let strict = heat == Heat::Warm || number % STRICT == STRICT - 1;
        let capacity = if strict { Capacity::Strict } else { Capacity::Relaxed };
        let seed = seed.wrapping_mul(1009).wrapping_add(number.into());
        anneal::anneal(&mut state, capacity, heat, seed, budget, |seen| {
            proposals = seen.proposals;
            look(seen);
        });
        found(&state, proposals)
    };
    let all: Vec<Found> = (0..threads.max(1)).into_par_iter().map(run).collect();
    let proposals = all.iter().map(|one| one.proposals).sum();
    let worth = |one: &Found| (one.broken, one.values[objective]);
    let best = all.into_iter().min_by_key(worth);
    Found { proposals, ..best.unwrap_or_else(|| found(start, 0)) }
}

fn found(state: &State<'_>, proposals: u64) -> Found {
    Found { at: state.at().to_vec(), broken: state.broken(), values: state.values().to_vec(), proposals }
}
