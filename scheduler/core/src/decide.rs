//! The one function that ties everything.
//!
//! | module | what lives there |
//! |---|---|
//! | `common` | what several policies ask alike |
//! | `conclude` | the plan and the report that come of it |
//! | `memo` | placements that were found before |
//! | `steady` | how long a decision goes on being the same |

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jiff::Timestamp;
use sterna_policies::policy::{Mode, Policy};
use sterna_policies::quantity::{Millis, Percent};
use sterna_policies::window;

use crate::assignment::exact::{Effort, Engine, MICROLP_COLUMNS};
use crate::assignment::model::Model;
use crate::assignment::order::Step;
use crate::assignment::problem::Problem;
use crate::assignment::stages::{self, Means, Staged};
use crate::assignment::state::State;
use crate::budget::{Takes, Wanted};
use crate::history::History;
use crate::observation::Observation;
use crate::placement::evaluate::Evaluator;
use crate::placement::exclude::Rules;
use crate::placement::room::Room;
use crate::plan::MoveCost;
use crate::planning::{self, Way};
use crate::report::{Decision, Gain, Hold, Reached, SolverReport};
use crate::standing::Standing;
use crate::{budget, gate};

mod common;
mod conclude;
mod memo;
mod steady;

pub use memo::{Memo, Used};

use common::{Common, Placed};

/// Work for exact answers, which is the same on every machine: some ten seconds.
const WORK: u64 = 1 << 31;
/// Seconds for exact answers, far more than the work takes. Reaching them makes an answer depend on the machine's speed; the report
/// then says so.
const SECONDS: f64 = 300.0;
/// The largest program that the solver is given, in columns. In the machine reassignment challenge HiGHS comes close to the best
/// with 12,000, and with 52,000 finds no improvement in five minutes.
const LARGEST: usize = 20_000;
/// The largest that it is given without a search before, in columns.
const SMALL: usize = 2_000;
/// Searches side by side, and proposals of each for each objective: some seconds.
const SEARCH: (u32, u64) = (2, 4_000_000);
/// Numbers that are looked at to bound each objective: about a second.
const BOUNDING: u64 = 1 << 28;
/// So many places without a way to them are given up one by one.
const BARRED: usize = 16;

/// Decides what to move, and says why.
///
/// The same arguments give the same bytes, in the simulator as in production, unless the solver's time runs out, which is far more than
/// its work takes and stands in the report. On other machines too where nothing is searched; a search takes logarithms, whose last digit is the platform's. Of the policy's modes only
/// [`Mode::Off`] makes a difference here; how far a plan may go is its carrier's to honour. Every plan has passed the
/// [`crate::checker`].
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
    let common = Common::new(observation, policy, (&evaluator, &rules), asked);
    let asking = Asking { policy, standing: &history.standing };
    Round::new(&common, asking, history, now).decide().decision
}

/// A policy that is asked for a decision, and what it remembers.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The policy.
    pub policy: &'a Policy,
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
    /// Only those that move, with all their options, and those that are held, with their two places and no gain.
    Changes,
    /// The same, and of those that move only their two places too.
    Ends,
}

/// [`decide`] for whoever decides very often, for several policies over the same observation and the same past, and does not look at
/// places of services that stay: the same moves, verdicts and memories, by the same rules. Neither the order's makespan nor, where
/// nothing moves, the state's hash is there, and plans that move nothing are not judged. What policies ask alike is answered once.
pub fn decide_briefly(
    observation: &Observation,
    asking: &[Asking<'_>],
    history: &History,
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
        let common = Common::new(observation, policy, (&evaluator, &rules), asked);
        for (brief, asking) in briefs.iter_mut().zip(asking).skip(first) {
            if brief.is_none() && common::are_alike(policy, asking.policy) {
                *brief = Some(Round::new(&common, *asking, history, now).decide());
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

/// What placement and planning came to.
enum Outcome {
    /// A rule holds the whole decision.
    Held(Hold),
    /// Nothing moves.
    Still,
    /// A placement, which is moved to by its way.
    Way(Rc<Placed>),
}

struct Round<'a> {
    common: &'a Common<'a>,
    observation: &'a Observation,
    policy: &'a Policy,
    /// What the policy remembers.
    before: &'a Standing,
    history: &'a History,
    now: Timestamp,
    evaluator: &'a Evaluator<'a>,
    rules: &'a Rules<'a>,
    room: &'a Room,
    /// Rules that hold single services, by number.
    held: BTreeMap<usize, Vec<Hold>>,
    /// Services for which there was no way to where they should go.
    waiting: BTreeSet<usize>,
    /// Services that would have gone back to a node that they left too recently.
    returning: BTreeMap<usize, Hold>,
    /// What the next decision is to remember.
    standing: Standing,
    /// The best placement before rules of time, gain and order.
    ideal: Vec<usize>,
    solver: Option<SolverReport>,
    /// When the first of the rules about time that held anything, on whatever way here, no longer does.
    eases: Option<Millis>,
    telling: Telling,
}

impl<'a> Round<'a> {
    fn new(common: &'a Common<'a>, asking: Asking<'a>, history: &'a History, now: Timestamp) -> Self {
        let Asking { policy, standing: before } = asking;
        let evaluator = common.evaluator;
        Self {
            common,
            observation: common.observation,
            policy,
            before,
            history,
            now,
            evaluator,
            rules: common.rules,
            room: &common.room,
            held: BTreeMap::new(),
            waiting: BTreeSet::new(),
            returning: BTreeMap::new(),
            standing: Standing::begin(before, evaluator, policy, now),
            ideal: evaluator.now.clone(),
            solver: None,
            eases: None,
            telling: common.asked.telling,
        }
    }

    fn decide(mut self) -> Brief {
        if self.policy.mode == Mode::Off {
            let steady_until = Some(Timestamp::MAX);
            return Brief { decision: self.conclude(Outcome::Held(Hold::PolicyOff)), steady_until };
        }
        let outcome = self.place();
        if let Outcome::Held(hold) = &outcome {
            self.note_time(hold);
        }
        let steady_until = steady::until(self.policy, self.history, self.now, self.eases);
        Brief { decision: self.conclude(outcome), steady_until }
    }

    /// Notes for how long a rule holds.
    fn note_time(&mut self, hold: &Hold) {
        if let Some(left) = hold.left() {
            self.eases = Some(self.eases.map_or(left, |eases| eases.min(left)));
        }
    }

    /// Solves, gates and orders; what a rule holds is fixed where it is, places without a way to them are given up, and the
    /// rest is solved again.
    fn place(&mut self) -> Outcome {
        if let Some(open) = budget::broken_circuit(self.policy, self.history, self.now) {
            return Outcome::Held(open);
        }
        let (common, evaluator) = (self.common, self.evaluator);
        let mut free = match common.movable() {
            Ok((movable, held)) => {
                self.held.extend(held.iter().map(|(service, hold)| (*service, vec![hold.clone()])));
                movable.clone()
            }
            Err(hold) => return Outcome::Held(hold),
        };
        let abreast = &common.abreast;
        // Places without a way to them, and those that services left too recently.
        let (mut barred, mut too_soon) = (BTreeSet::new(), BTreeSet::new());
        let mut given_up = 0;
        loop {
            let out = &barred | &too_soon;
            let failed =
                |error: &dyn std::error::Error| Outcome::Held(Hold::Solver { message: error.to_string() });
            let placed = match common.placed(&free, &out) {
                Ok(placed) => placed,
                Err(error) => return failed(error.as_ref()),
            };
            let Placed { model, staged, target, gains, mending, .. } = &*placed;
            if self.solver.is_none() {
                self.ideal.clone_from(target);
            }
            self.solver = Some(found(common.asked.engine, model, staged, self.solver.as_ref()));
            self.note_better(target, gains);
            if let Some(hold) = self.all_held() {
                self.note_time(&hold);
                for service in self.moved(target).collect::<Vec<_>>() {
                    self.held.entry(service).or_default().push(hold.clone());
                }
                return Outcome::Still;
            }
            let returns = self.returns_too_soon(target, mending);
            if !returns.is_empty() {
                returns.values().for_each(|hold| self.note_time(hold));
                too_soon.extend(returns.keys().map(|service| (*service, target[*service])));
                self.returning.extend(returns);
                continue;
            }
            let mut holds = self.holds(target, gains, mending);
            if holds.is_empty() {
                let full = |service: usize| {
                    let limit = abreast.full(evaluator.now[service], target[service])?;
                    Some((service, vec![Hold::Concurrent { limit }]))
                };
                holds = self.moved(target).filter_map(full).collect();
            }
            if holds.is_empty() {
                let Way { waves, unreachable } = match common.way(&placed) {
                    Ok(way) => way,
                    Err(invalid) => return failed(&invalid),
                };
                self.waiting.extend(unreachable.iter().map(|(service, _)| *service));
                if !unreachable.is_empty() && given_up < BARRED {
                    given_up += 1;
                    let problem = match Problem::new(model) {
                        Ok(problem) => problem,
                        Err(invalid) => return failed(&invalid),
                    };
                    barred.extend(least_worth(&problem, &staged.at, unreachable));
                    continue;
                }
                holds = unreachable.iter().map(|(service, _)| (*service, vec![Hold::NoRoom])).collect();
                if holds.is_empty() {
                    // Also a place on the way may be one that nothing can begin to move to now.
                    let full = |step: &Step| {
                        let limit = abreast.full(step.from as usize, step.to as usize)?;
                        Some((step.item as usize, vec![Hold::Concurrent { limit }]))
                    };
                    holds = waves.iter().flatten().filter_map(full).collect();
                }
                if holds.is_empty() {
                    holds = self.parked_beyond(waves);
                }
                if holds.is_empty() {
                    return if waves.is_empty() { Outcome::Still } else { Outcome::Way(placed) };
                }
            }
            // At least one service less is free in the next turn, and others may be needed to mend.
            too_soon.clear();
            self.returning.clear();
            for (service, holds) in holds {
                free.remove(&service);
                holds.iter().for_each(|hold| self.note_time(hold));
                self.held.entry(service).or_default().extend(holds);
            }
        }
    }

    /// The services that a placement moves.
    fn moved<'t>(&'t self, target: &'t [usize]) -> impl Iterator<Item = usize> + 't {
        (0..target.len()).filter(|service| target[*service] != self.evaluator.now[*service])
    }

    /// The rules of time and gain that hold services that a placement moves.
    fn holds(
        &self,
        target: &[usize],
        gains: &BTreeMap<usize, Gain>,
        mending: &BTreeSet<usize>,
    ) -> BTreeMap<usize, Vec<Hold>> {
        let evaluator = self.evaluator;
        let mut holds: BTreeMap<usize, Vec<Hold>> = BTreeMap::new();
        for service in self.moved(target) {
            let mut resting = self.resting(service);
            resting.extend(gate::opted_out(self.observation, evaluator.services[service].0));
            if !resting.is_empty() {
                holds.insert(service, resting);
            }
        }
        let closed = gate::outside_windows(evaluator, self.policy, target, mending, self.now);
        for (service, hold) in closed {
            holds.entry(service).or_default().extend(hold);
        }
        let takes =
            |service: usize| self.cost_between(service, (evaluator.now[service], target[service])).duration;
        let overrunning = gate::overrunning(evaluator, self.policy, target, takes, self.now);
        for (service, hold) in overrunning {
            holds.entry(service).or_default().push(hold);
        }
        let disturbed = gate::disturbed(self.observation, self.policy, self.history, self.now);
        let settling = gate::settling(evaluator, (self.rules, self.room), &disturbed, target, mending);
        for (service, hold) in settling {
            holds.entry(service).or_default().push(hold);
        }
        if holds.is_empty() {
            holds = gate::too_weak(self.policy, gains, mending);
        }
        if holds.is_empty() {
            holds = self.too_soon(target, gains, mending);
        }
        if holds.is_empty() {
            holds = self.beyond_budgets(target, gains, mending);
        }
        holds
    }

    /// Notes which services would be better elsewhere, by enough to move.
    fn note_better(&mut self, target: &[usize], gains: &BTreeMap<usize, Gain>) {
        if self.standing.is_empty() {
            return;
        }
        let mut gains = gains.clone();
        for service in gate::too_weak(self.policy, &gains, &BTreeSet::new()).keys() {
            gains.remove(service);
        }
        self.standing.note(self.before, self.evaluator, self.policy, target, &gains);
    }

    /// The services that a placement takes back to the node that they left too recently.
    fn returns_too_soon(&mut self, target: &[usize], mending: &BTreeSet<usize>) -> BTreeMap<usize, Hold> {
        let mut returns = gate::returns_too_soon(self.evaluator, self.policy, self.history, target, self.now);
        // Who rests goes nowhere at all.
        returns.retain(|service, _| {
            let resting = self.resting(*service);
            resting.iter().for_each(|hold| self.note_time(hold));
            !mending.contains(service) && resting.is_empty()
        });
        returns
    }

    /// The rules by which a service has to rest where it is.
    fn resting(&self, service: usize) -> Vec<Hold> {
        let (name, on) = (self.evaluator.services[service].0, self.evaluator.now[service]);
        gate::resting(self.history, self.policy, name, self.evaluator.nodes[on].0, self.now)
    }

    /// The services that have no trigger, or not for long enough, of those that a placement moves and that mend nothing.
    fn too_soon(
        &self,
        target: &[usize],
        gains: &BTreeMap<usize, Gain>,
        mending: &BTreeSet<usize>,
    ) -> BTreeMap<usize, Vec<Hold>> {
        let holds = |service: usize| {
            let (name, to) = (self.evaluator.services[service].0, self.evaluator.nodes[target[service]].0);
            let returns = self.history.last_arrival(name).is_some_and(|arrival| arrival.from == *to);
            (service, self.standing.holds(self.policy, name, gains.get(&service), returns))
        };
        let moved = self.moved(target).filter(|service| !mending.contains(service));
        moved.map(holds).filter(|(_, holds)| !holds.is_empty()).collect()
    }

    /// The moves that budgets have nothing left for.
    fn beyond_budgets(
        &self,
        target: &[usize],
        gains: &BTreeMap<usize, Gain>,
        mending: &BTreeSet<usize>,
    ) -> BTreeMap<usize, Vec<Hold>> {
        let wanted = |service: usize| Wanted {
            number: service,
            takes: self.takes_of(service, (self.evaluator.now[service], target[service])),
            mends: mending.contains(&service),
            gain: gains.get(&service).map_or(Percent::ZERO, |gain| gain.share),
        };
        self.spend(self.moved(target).map(wanted).collect())
    }

    /// Services that are parked on their way, which is one move more, where budgets have nothing left for it.
    fn parked_beyond(&self, waves: &[Vec<Step>]) -> BTreeMap<usize, Vec<Hold>> {
        let steps: Vec<&Step> = waves.iter().flatten().collect();
        if !steps.iter().any(|step| step.parks) {
            return BTreeMap::new();
        }
        let step = |(number, step): (usize, &&Step)| Wanted {
            number,
            takes: self.takes_of(step.item as usize, (step.from as usize, step.to as usize)),
            // Those that only make way come last.
            mends: !step.parks,
            gain: Percent::ZERO,
        };
        let beyond = self.spend(steps.iter().enumerate().map(step).collect());
        beyond.into_iter().map(|(number, holds)| (steps[number].item as usize, holds)).collect()
    }

    fn spend(&self, wanted: Vec<Wanted<'_>>) -> BTreeMap<usize, Vec<Hold>> {
        let (evaluator, observation) = (self.evaluator, self.observation);
        let under_way = observation.counted().map(|moving| {
            let ends = evaluator.node(&moving.from).zip(evaluator.node(&moving.to));
            let cost = evaluator.service(&moving.service).zip(ends);
            Takes {
                name: &moving.service,
                ends: (&moving.from, &moving.to),
                cost: cost.map_or_else(MoveCost::default, |(service, ends)| self.cost_between(service, ends)),
            }
        });
        let under_way: Vec<Takes<'_>> = under_way.collect();
        budget::beyond(self.policy, &observation.continuum, self.history, &under_way, self.now, wanted)
    }

    /// What a service's move between two nodes takes out of the budgets.
    fn takes_of(&self, service: usize, ends: (usize, usize)) -> Takes<'_> {
        let evaluator = self.evaluator;
        Takes {
            name: evaluator.services[service].0,
            ends: (evaluator.nodes[ends.0].0, evaluator.nodes[ends.1].0),
            cost: self.cost_between(service, ends),
        }
    }

    /// What keeps all moves back whatever they are, and for longer than this decision: then nothing has to be placed anew.
    fn all_held(&self) -> Option<Hold> {
        let paused = gate::paused(self.observation);
        let shut = || window::shut(&self.policy.windows, self.now).map(Hold::from);
        paused.or_else(shut).or_else(|| {
            budget::no_moves_left(self.policy, self.history, self.observation.counted().count(), self.now)
        })
    }

    /// How long it is predicted to take to move a service from where it is to a node.
    fn takes(&self, service: usize, to: usize) -> Millis {
        self.cost(service, to).duration
    }

    /// What it is predicted to cost to move a service from where it is to a node.
    fn cost(&self, service: usize, to: usize) -> MoveCost {
        self.cost_between(service, (self.evaluator.now[service], to))
    }

    /// The same from one node to another.
    fn cost_between(&self, service: usize, ends: (usize, usize)) -> MoveCost {
        planning::cost(self.observation, self.evaluator, self.policy, service, ends)
    }
}

fn means(engine: Engine, seed: u64) -> Means {
    let largest = if engine == Engine::Microlp { MICROLP_COLUMNS } else { LARGEST };
    let effort = Effort { engine, seed, work: WORK, seconds: SECONDS };
    Means { effort, largest, small: SMALL, searches: SEARCH.0, proposals: SEARCH.1, bounding: BOUNDING }
}

/// Of services without a way to where they should go the one that loses least by staying, with that place.
fn least_worth(problem: &Problem, target: &[u32], unreachable: &[(usize, usize)]) -> Option<(usize, usize)> {
    let mut state = State::new(problem, target);
    let mut without = |service: usize| {
        state.go(service, problem.now[service]);
        let values = state.values().to_vec();
        state.go(service, target[service]);
        values
    };
    unreachable.iter().copied().min_by_key(|(service, _)| without(*service))
}

/// How a placement was found, after those that were found before it.
fn found(engine: Engine, model: &Model, staged: &Staged, before: Option<&SolverReport>) -> SolverReport {
    let (solved, searched) = (
        staged.stages.iter().any(|stage| stage.program.is_some()),
        staged.stages.iter().any(|stage| stage.searched),
    );
    let by = [solved.then(|| engine.to_string()), searched.then(|| "search".to_owned())];
    let by: Vec<String> = by.into_iter().flatten().collect();
    let of_now = if by.is_empty() { "none".to_owned() } else { by.join(" and ") };
    let (columns, rows) = staged.stages.iter().rev().find_map(|stage| stage.program).unwrap_or_default();
    let models = staged.stages.iter().filter(|stage| stage.program.is_some() || stage.searched).count();
    let proved = staged.stages.iter().all(stages::Stage::proved);
    let reached = model.objectives.iter().zip(&staged.stages).map(|(objective, stage)| Reached {
        name: objective.name.clone(),
        value: stage.value,
        bound: i64::try_from(stage.bound).unwrap_or(i64::MIN).min(stage.value),
    });
    SolverReport {
        engine: before.map_or(of_now, |before| before.engine.clone()),
        columns: before.map_or(columns, |before| before.columns),
        rows: before.map_or(rows, |before| before.rows),
        models: models + before.map_or(0, |before| before.models),
        proved: proved && before.is_none_or(|before| before.proved),
        out_of_time: staged.stages.iter().any(|stage| stage.out_of_time)
            || before.is_some_and(|before| before.out_of_time),
        objectives: reached.collect(),
    }
}
