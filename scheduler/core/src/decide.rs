//! The one function that ties everything.
//!
//! | module | what lives there |
//! |---|---|
//! | `alike` | what several policies ask alike |
//! | `conclude` | the plan and the report that come of it |
//! | `memo` | placements that were found before |
//! | `round` | one policy's decision |
//! | `solving` | how much is spent on solving |
//! | `steady` | how long a decision goes on being the same |

use jiff::Timestamp;
use sterna_policies::policy::Policy;

use crate::assignment::exact::Engine;
use crate::history::History;
use crate::observation::Observation;
use crate::placement::evaluate::Evaluator;
use crate::placement::exclude::Rules;
use crate::report::Decision;
use crate::standing::Standing;

mod alike;
mod conclude;
mod memo;
mod round;
mod solving;
mod steady;

pub use memo::{Memo, Used};

use alike::Alike;
use round::Round;

/// Decides what to move, and says why.
///
/// The same arguments give the same bytes, in the simulator as in production, unless the solver's time runs out, which is far more
/// than its work takes and stands in the report. On other machines too where nothing is searched; a search takes logarithms, whose
/// last digit is the platform's. Of the policy's modes only [`Mode::Off`](sterna_policies::policy::Mode::Off) makes a difference
/// here; how far a plan may go is its carrier's to honour. Every plan has passed the [`crate::checker`].
pub fn decide(
    observation: &Observation,
    policy: &Policy,
    history: &History,
    now: Timestamp,
    seed: u64,
) -> Decision {
    decide_with(observation, policy, history, now, seed, Engine::built_in())
}

/// [`decide`] with a solver of choice.
pub fn decide_with(
    observation: &Observation,
    policy: &Policy,
    history: &History,
    now: Timestamp,
    seed: u64,
    engine: Engine,
) -> Decision {
    let asked = Asked { engine, seed, memo: None, telling: Telling::Everything };
    let evaluator = Evaluator::new(observation, policy);
    let rules = Rules::new(observation, policy, &evaluator);
    let alike = Alike::new(observation, policy, (&evaluator, &rules), asked);
    let asking = Asking { policy, history, standing: &history.standing };
    Round::new(&alike, asking, now).decide().decision
}

/// A policy that is asked for a decision, and what it remembers.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// What happened so far.
    pub history: &'a History,
    /// What lasted, as its decision before saw it. What the history has of it does not count.
    pub standing: &'a Standing,
}

/// A decision, as far as somebody looks at it who decides very often.
#[derive(Debug, Clone, PartialEq)]
pub struct Brief {
    /// The decision.
    pub decision: Decision,
    /// If it moves nothing, until when it would be made again, held by the same rules, for as long as the same is observed and no
    /// migration ends: what its rules say is left of their times gets less, and nothing else changes. Nothing where time alone may
    /// change it at any instant.
    pub steady_until: Option<Timestamp>,
}

/// What a report tells of services and of their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// All of them.
    Everything,
    /// Only those that move, with all their options, and those that are held, with neither options nor gain.
    Changes,
    /// The same, and of those that move only their two places.
    Ends,
}

/// [`decide`] for whoever decides very often, for several policies over the same observation, each with its own past, and does not
/// look at places of services that stay: the same moves, verdicts and memories, by the same rules. Neither the order's makespan nor the
/// state's hash is there, and plans that move nothing are not judged. What policies ask alike is answered
/// once.
pub fn decide_briefly(
    observation: &Observation,
    asking: &[Asking<'_>],
    now: Timestamp,
    seed: u64,
    (memo, telling): (&Memo, Telling),
) -> Vec<Brief> {
    let asked = Asked { engine: Engine::built_in(), seed, memo: Some(memo), telling };
    let mut briefs: Vec<Option<Brief>> = vec![None; asking.len()];
    while let Some(first) = briefs.iter().position(Option::is_none) {
        let policy = asking[first].policy;
        let evaluator = Evaluator::new(observation, policy);
        let rules = Rules::new(observation, policy, &evaluator);
        let alike = Alike::new(observation, policy, (&evaluator, &rules), asked);
        for (brief, asking) in briefs.iter_mut().zip(asking).skip(first) {
            if brief.is_none() && alike::are_alike(policy, asking.policy) {
                *brief = Some(Round::new(&alike, *asking, now).decide());
            }
        }
    }
    briefs.into_iter().flatten().collect()
}

/// How a decision is made, beside what it is made of.
#[derive(Clone, Copy)]
struct Asked<'m> {
    engine: Engine,
    seed: u64,
    memo: Option<&'m Memo>,
    telling: Telling,
}
