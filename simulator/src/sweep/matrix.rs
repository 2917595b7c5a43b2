//! The runs: every policy over every seed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use rayon::ThreadPoolBuilder;
use rayon::iter::{IndexedParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _};
use serde::Serialize;
use sterna_core::decide::{Memo, Used};
use sterna_policies::policy::Policy;

use crate::report::{Outcome, Totals};
use crate::run::{self, Branch, Deciding, RunError, may_share};
use crate::scenario::Scenario;

/// Placements that all runs keep together; a few kilobytes each where there are hundreds of services.
const PLACEMENTS: usize = 1 << 15;

/// What is to be run.
#[derive(Debug, Clone, Copy)]
pub struct Runs<'a> {
    /// Over what.
    pub scenario: &'a Scenario,
    /// The policies.
    pub policies: &'a [Policy],
    /// The first seed.
    pub seed: u64,
    /// How many seeds, one after the other. Where seeds make no difference to the scenario, one is run.
    pub seeds: u32,
    /// On how many threads; `None` for as many as there are processors.
    pub threads: Option<usize>,
}

/// How one policy fared with one seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fared {
    /// How often it decided.
    pub looks: u64,
    /// How many moves it made; those that were refused before anything was touched are none.
    pub moves: u64,
    /// What added up.
    pub totals: Totals,
    /// blake3 over all that happened, as hex; empty where nothing moved because nobody decided.
    pub hash: String,
}

/// How all fared.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// The seeds that were run.
    pub seeds: Vec<u64>,
    /// With nothing moving, by seed.
    pub unmoved: Vec<Fared>,
    /// By policy, in their order, and by seed.
    pub fared: Vec<Vec<Fared>>,
    /// How often a placement had been found before. Hangs on the order in which threads came to them.
    pub used: Used,
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A run that can't go on.
    #[error(transparent)]
    Run(#[from] RunError),
    /// What came of a run can't be put into JSON.
    #[error("what came of a run can't be put into JSON")]
    Json(#[from] serde_json::Error),
    /// There are no threads to be had.
    #[error("can't start threads")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// What came of the runs so far.
struct Told<'p> {
    /// By seed and policy.
    fared: Mutex<BTreeMap<usize, Result<Fared, SweepError>>>,
    progress: &'p (dyn Fn() + Sync),
}

impl Told<'_> {
    /// What came of a policy.
    fn put(&self, number: usize, fared: Result<Fared, SweepError>) {
        self.fared.lock().unwrap_or_else(PoisonError::into_inner).insert(number, fared);
        (self.progress)();
    }
}

fn fared(outcome: &Outcome) -> Result<Fared, SweepError> {
    let hash = blake3::hash(&serde_json::to_vec(outcome)?).to_hex().to_string();
    let moves = outcome.made() as u64;
    Ok(Fared { looks: outcome.looks, moves, totals: outcome.totals.clone(), hash })
}

/// Policies by whether they may share branches.
fn sharing(policies: &[Policy]) -> Vec<Vec<(usize, &Policy)>> {
    let mut groups: Vec<Vec<(usize, &Policy)>> = Vec::new();
    for (number, policy) in policies.iter().enumerate() {
        let mut known = groups.iter_mut();
        match known.find(|group| group.first().is_some_and(|(_, first)| may_share(first, policy))) {
            Some(group) => group.push((number, policy)),
            None => groups.push(vec![(number, policy)]),
        }
    }
    groups
}

/// Runs all. `progress` is told of each run that is over, by any thread.
///
/// # Errors
/// If a decision's plan contradicts its observation, which is a bug, or threads can't be started.
pub fn run(runs: Runs<'_>, progress: &(dyn Fn() + Sync)) -> Result<Matrix, SweepError> {
    let Runs { scenario, policies, seed, seeds, threads } = runs;
    let count = if scenario.is_random() { seeds.max(1) } else { 1 };
    let seeds: Vec<u64> = (0..u64::from(count)).map(|number| seed.wrapping_add(number)).collect();
    let memo = Memo::new(PLACEMENTS);
    let pool = ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build()?;
    let worlds: Vec<Scenario> = seeds.iter().map(|seed| scenario.drawn(*seed).into_owned()).collect();
    let told = Told { fared: Mutex::new(BTreeMap::new()), progress };
    let groups = sharing(policies);
    pool.install(|| {
        (worlds.par_iter().zip(&seeds).enumerate()).for_each(|(number, (world, seed))| {
            let branch = |group: &Vec<_>| Branch::new(world, group, *seed, Deciding::Barely(&memo));
            run::grow(groups.iter().map(branch).collect(), &|policy, outcome| {
                let fared = outcome.map_err(SweepError::from).and_then(|outcome| fared(&outcome));
                told.put(number * policies.len() + policy, fared);
            });
        });
    });
    let fared = told.fared.into_inner().unwrap_or_else(PoisonError::into_inner);
    let fared: Vec<Fared> = fared.into_values().collect::<Result<_, SweepError>>()?;
    let of_policy =
        |policy: usize| fared.iter().skip(policy).step_by(policies.len().max(1)).cloned().collect();
    let still = |world: &Scenario| Fared {
        looks: 0,
        moves: 0,
        totals: run::unmoved(world, &[]).totals,
        hash: String::new(),
    };
    Ok(Matrix {
        unmoved: worlds.iter().map(still).collect(),
        fared: (0..policies.len()).map(of_policy).collect(),
        seeds,
        used: memo.used(),
    })
}
