//! Why not everything can hold: demands that can't be met together, as few as possible, and what is cheapest to give up.
//!
//! Demands are looked at only when an assignment that meets the others breaks them. What is left of a problem is small then: an
//! item that has a bin on which no demand looks at it can be left out. The judge looks at every assignment that is given out.
//!
//! | module | what lives there |
//! |---|---|
//! | `demands` | what has to hold, and what of it does |
//! | `oracle` | whether some demands can be met together |
//! | `relaxation` | what is cheapest to give up |

use std::collections::BTreeSet;

use thiserror::Error;

use super::exact::{Effort, SolveError};
use super::model::Model;
use super::validity::Invalid;
use crate::checker::assignment::judge;

mod demands;
mod oracle;
mod relaxation;

pub use demands::Demand;
pub use relaxation::{Relaxation, cheapest};

use demands::broken;
use oracle::{Can, Oracle, mend, settle};

/// Demands are added one by one so many times.
const PATIENCE: usize = 8;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConflictError {
    /// The model can't be used.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The solver failed.
    #[error(transparent)]
    Solve(#[from] SolveError),
}

/// Whether everything can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// It can: the bin of each item.
    Possible(Vec<u32>),
    /// These can't be met together.
    Impossible {
        /// In order.
        demands: Vec<Demand>,
        /// Whether they can be met as soon as any one of them is given up. Not known where time ran out.
        minimal: bool,
    },
    /// Time ran out before it was known.
    Unknown,
}

/// Whether all rules, capacities and lists of a model can hold, and if not, a few that can't together. The seconds are for each
/// question to the solver.
///
/// # Errors
/// Where the model is invalid, a program is too large for the engine, or the engine fails.
pub fn holding(model: &Model, effort: Effort) -> Result<Holding, ConflictError> {
    ask(&mut Oracle::new(model, effort)?)
}

fn ask(oracle: &mut Oracle<'_>) -> Result<Holding, ConflictError> {
    let model = oracle.model;
    let mut at = oracle.mended(&model.now(), mend);
    let mut active: BTreeSet<Demand> = oracle.too_little().into_iter().collect();
    for round in 0.. {
        let broken = broken(model, &judge(model, &at));
        if broken.is_empty() {
            return Ok(Holding::Possible(at));
        }
        // What goes from bin to bin goes to all of them in the end.
        if round >= PATIENCE {
            let everywhere = |demand: &Demand| match *demand {
                Demand::Capacity { dimension, .. } => Some(dimension),
                _ => None,
            };
            let dimensions: BTreeSet<u32> = broken.keys().filter_map(everywhere).collect();
            let bins = 0..model.bins.len() as u32;
            active.extend(
                dimensions
                    .into_iter()
                    .flat_map(|dimension| bins.clone().map(move |bin| Demand::Capacity { dimension, bin })),
            );
        }
        active.extend(broken.into_keys());
        match oracle.can(&active, &at)? {
            Can::Yes(found) => at = oracle.mended(&found, settle),
            Can::No => break,
            Can::Unknown => return Ok(Holding::Unknown),
        }
    }
    let candidates: Vec<Demand> = active.into_iter().collect();
    let mut search = Search { oracle, at: &at, minimal: true };
    let mut demands = search.fewest(&BTreeSet::new(), false, &candidates)?;
    demands.sort_unstable();
    Ok(Holding::Impossible { demands, minimal: search.minimal })
}

/// QuickXplain: halves that are not needed go at once (Junker, AAAI 2004).
struct Search<'o, 'm> {
    oracle: &'o mut Oracle<'m>,
    at: &'o [u32],
    minimal: bool,
}

impl Search<'_, '_> {
    /// Those of the candidates that can't be met together with those that are kept. `asked` says whether the kept ones are
    /// worth asking about alone.
    fn fewest(
        &mut self,
        kept: &BTreeSet<Demand>,
        asked: bool,
        candidates: &[Demand],
    ) -> Result<Vec<Demand>, ConflictError> {
        if asked && !self.can(kept)? {
            return Ok(Vec::new());
        }
        if candidates.len() <= 1 {
            return Ok(candidates.to_vec());
        }
        let (first, second) = candidates.split_at(candidates.len() / 2);
        let with = |more: &[Demand]| kept.iter().chain(more).copied().collect::<BTreeSet<Demand>>();
        let of_second = self.fewest(&with(first), !first.is_empty(), second)?;
        let mut found = self.fewest(&with(&of_second), !of_second.is_empty(), first)?;
        found.extend(of_second);
        Ok(found)
    }

    fn can(&mut self, demands: &BTreeSet<Demand>) -> Result<bool, ConflictError> {
        match self.oracle.can(demands, self.at)? {
            Can::Yes(_) => Ok(true),
            Can::No => Ok(false),
            Can::Unknown => {
                self.minimal = false;
                Ok(true)
            }
        }
    }
}
