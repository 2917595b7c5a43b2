//! Branches of one world that go through time side by side: those that see the same when they look decide together, also where they
//! came there by other ways.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use super::branch::Branch;
use super::{RunError, looking};
use crate::clock::SimTime;
use crate::report::Outcome;
use crate::world::conditions::Known;

/// Is told once what came of each policy, by its number.
pub(crate) type Ended<'e> = &'e (dyn Fn(usize, Result<Outcome, RunError>) + Sync);

/// Lets branches of one world go on to their ends, and those that part from them.
pub(crate) fn grow(branches: Vec<Branch<'_>>, ended: Ended<'_>) {
    let known = Arc::<Known>::default();
    let mut going: Vec<Branch<'_>> =
        branches.into_iter().map(|branch| branch.beside_others(&known)).collect();
    let mut looking: BTreeMap<SimTime, Vec<Branch<'_>>> = BTreeMap::new();
    loop {
        let came: Vec<_> = going.into_par_iter().filter_map(|branch| until_look(branch, ended)).collect();
        for (at, branch) in came {
            looking.entry(at).or_default().push(branch);
        }
        let Some((at, mut branches)) = looking.pop_first() else { return };
        known.forget_before(at);
        alike(&mut branches).into_par_iter().for_each(|mut group| looking::decide(&mut group));
        going = branches.into_par_iter().flat_map_iter(|branch| part(branch, ended)).collect();
    }
}

/// A branch that looks, and when; of one that has ended it is told what came of it.
fn until_look<'a>(mut branch: Branch<'a>, ended: Ended<'_>) -> Option<(SimTime, Branch<'a>)> {
    match branch.until_look() {
        Ok(Some(at)) => Some((at, branch)),
        Ok(None) => {
            branch.finish().into_iter().for_each(|(number, outcome)| ended(number, Ok(outcome)));
            None
        }
        Err(error) => {
            branch.numbers().into_iter().for_each(|number| ended(number, Err(error.clone())));
            None
        }
    }
}

/// What a branch is after its policies have decided, and those that part from it.
fn part<'a>(mut branch: Branch<'a>, ended: Ended<'_>) -> Vec<Branch<'a>> {
    let numbers = branch.numbers();
    match branch.part() {
        Ok(mut others) => {
            others.push(branch);
            others
        }
        Err(error) => {
            numbers.into_iter().for_each(|number| ended(number, Err(error.clone())));
            Vec::new()
        }
    }
}

/// Branches by what they see.
fn alike<'b, 'a>(branches: &'b mut [Branch<'a>]) -> Vec<Vec<&'b mut Branch<'a>>> {
    let mut groups: Vec<Vec<&mut Branch<'a>>> = Vec::new();
    // Those with the same services in the same places are few.
    let mut placed: HashMap<u64, Vec<usize>> = HashMap::new();
    for branch in branches {
        let known = placed.entry(branch.world.places()).or_default();
        let same = |group: &&usize| looking::see_the_same(groups[**group][0], branch);
        match known.iter().find(same) {
            Some(group) => groups[*group].push(branch),
            None => {
                known.push(groups.len());
                groups.push(vec![branch]);
            }
        }
    }
    groups
}
