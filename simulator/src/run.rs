//! A run: events in order over one scenario, with the production decision at every interval of the policy.
//!
//! | module | what lives there |
//! |---|---|
//! | `abreast` | branches that go through time side by side |
//! | `branch` | what happens to policies for as long as they do the same |
//! | `follower` | what is one policy's own of it |
//! | `looking` | decisions of those that see the same |

use sterna_core::decide::Memo;
use sterna_core::plan::Effect;
use sterna_policies::policy::Policy;

use crate::clock::SimTime;
use crate::report::{Outcome, Point, Report, Totals, Violation};
use crate::scenario::Scenario;
use crate::violation::Watch;
use crate::world::{CannotBegin, World};

mod abreast;
mod branch;
mod follower;
mod looking;

pub(crate) use abreast::grow;
pub(crate) use branch::{Branch, may_share};

/// Placements that are kept during a run.
const PLACEMENTS: usize = 1 << 10;

/// A run that can't go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// A decision made a plan that does not fit the very observation it was made from: a bug in the decision engine.
    #[error("the plan of {at} can't be carried out")]
    Plan {
        /// When it was made.
        at: SimTime,
        /// Why not.
        source: CannotBegin,
    },
    /// There was no policy to run.
    #[error("there is no policy to run")]
    Nobody,
}

/// Runs a scenario under each policy, and once with nothing moving. `progress` is told the policy's place in the list and the
/// simulated time, at every look.
///
/// # Errors
/// If a decision's plan contradicts its observation.
pub fn compare(
    scenario: &Scenario,
    policies: &[Policy],
    seed: u64,
    progress: &mut dyn FnMut(usize, SimTime),
) -> Result<Report, RunError> {
    let drawn = scenario.drawn(seed);
    let scenario = drawn.as_ref();
    let outcomes = policies
        .iter()
        .enumerate()
        .map(|(index, policy)| run(scenario, policy, seed, &mut |now| progress(index, now)))
        .collect::<Result<_, _>>()?;
    let Unmoved { totals, course, violations } = unmoved(scenario, policies);
    Ok(Report {
        scenario: scenario.name.clone(),
        start: scenario.start,
        duration: scenario.duration,
        seed,
        injected: scenario.injected.clone(),
        unmoved: totals,
        unmoved_course: course,
        unmoved_violations: violations,
        outcomes,
    })
}

/// How a run comes to its decisions. Whichever it is, it comes to the same ones.
#[derive(Debug, Clone, Copy)]
pub enum Deciding<'m> {
    /// Each anew, with all that there is to say about it.
    Anew,
    /// As far as a run looks at it, with placements that were found before; and none where it would be that of the look before.
    Briefly(&'m Memo),
    /// The same, for whoever does not ask where else services could have gone.
    Barely(&'m Memo),
}

/// Runs a scenario under one policy, [drawn](Scenario::drawn) by the seed.
///
/// Every plan is carried out as if the policy's mode were `auto`, unless it is `off`, and as the scheduler does it: wave by wave,
/// in each as many at once as the budget allows; before each it is asked again whether windows and directives let it begin; a move
/// that is undone or not begun ends the plan after its wave; the next look comes an interval after the last, or when the plan is
/// carried out, if that is later.
///
/// # Errors
/// If a decision's plan contradicts its observation.
pub fn run(
    scenario: &Scenario,
    policy: &Policy,
    seed: u64,
    progress: &mut dyn FnMut(SimTime),
) -> Result<Outcome, RunError> {
    run_as(scenario, policy, seed, Deciding::Briefly(&Memo::new(PLACEMENTS)), progress)
}

/// The same, with a way to come to decisions.
///
/// # Errors
/// If a decision's plan contradicts its observation.
pub fn run_as(
    scenario: &Scenario,
    policy: &Policy,
    seed: u64,
    deciding: Deciding<'_>,
    progress: &mut dyn FnMut(SimTime),
) -> Result<Outcome, RunError> {
    let drawn = scenario.drawn(seed);
    let mut branch = Branch::new(drawn.as_ref(), &[(0, policy)], seed, deciding);
    while let Some(now) = branch.until_look()? {
        looking::decide(&mut [&mut branch]);
        // One policy alone never parts from others.
        branch.part()?;
        progress(now);
    }
    let (_, outcome) = branch.finish().into_iter().next().ok_or(RunError::Nobody)?;
    Ok(outcome)
}

/// A scenario in which nothing ever moves.
pub(crate) struct Unmoved {
    pub(crate) totals: Totals,
    course: Vec<Point>,
    /// By policy.
    violations: Vec<Option<Vec<Violation>>>,
}

pub(crate) fn unmoved(scenario: &Scenario, policies: &[Policy]) -> Unmoved {
    let mut world = World::new(scenario);
    let mut course = Vec::new();
    let mut watches: Vec<Option<Watch<'_>>> = policies.iter().map(Watch::new).collect();
    let changes = scenario.changes();
    for (index, at) in changes.iter().enumerate() {
        world.advance(*at);
        world.refresh();
        note(&mut course, *at, world.effect());
        let until = changes.get(index + 1).copied().unwrap_or(scenario.duration);
        for watch in watches.iter_mut().flatten() {
            watch.see(&world);
            watch.pass(until.since(*at));
        }
    }
    world.advance(scenario.duration);
    let violations = watches.into_iter().map(|watch| watch.map(Watch::into_violations)).collect();
    Unmoved { totals: world.totals(), course, violations }
}

/// Adds what is so from now on, where that is new. Of one instant only the last counts.
fn note(course: &mut Vec<Point>, at: SimTime, effect: Effect) {
    if course.last().is_some_and(|last| last.at == at) {
        course.pop();
    }
    if course.last().is_none_or(|last| last.effect != effect) {
        course.push(Point { at, effect });
    }
}
