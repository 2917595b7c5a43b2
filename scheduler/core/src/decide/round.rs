//! One policy's decision: rules, placement, gates and order, again and again until nothing more speaks against what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jiff::Timestamp;
use sterna_policies::policy::{Mode, Policy};
use sterna_policies::quantity::{Millis, Percent};
use sterna_policies::window;

use super::alike::{Alike, Placed};
use super::solving::found;
use super::{Asking, Brief, Telling, steady};
use crate::assignment::order::Step;
use crate::assignment::problem::Problem;
use crate::assignment::state::State;
use crate::budget::{Takes, Wanted};
use crate::history::History;
use crate::observation::Observation;
use crate::placement::evaluate::Evaluator;
use crate::placement::exclude::Rules;
use crate::placement::room::Room;
use crate::plan::MoveCost;
use crate::planning::{self, Way};
use crate::report::{Gain, Hold, SolverReport};
use crate::standing::Standing;
use crate::{budget, gate};

/// So many places without a way to them are given up one by one.
const BARRED: usize = 16;

/// What placement and planning came to.
pub(super) enum Outcome {
    /// A rule holds the whole decision.
    Held(Hold),
    /// Nothing moves.
    Still,
    /// A placement, which is moved to by its way.
    Way(Rc<Placed>),
}

/// One policy's decision on its way.
pub(super) struct Round<'a> {
    pub(super) alike: &'a Alike<'a>,
    pub(super) observation: &'a Observation,
    pub(super) policy: &'a Policy,
    /// What the policy remembers.
    pub(super) before: &'a Standing,
    pub(super) history: &'a History,
    pub(super) now: Timestamp,
    pub(super) evaluator: &'a Evaluator<'a>,
    pub(super) rules: &'a Rules<'a>,
    pub(super) room: &'a Room,
    /// Rules that hold single services, by number.
    pub(super) held: BTreeMap<usize, Vec<Hold>>,
    /// Services for which there was no way to where they should go.
    pub(super) waiting: BTreeSet<usize>,
    /// Services that would have gone back to a node that they left too recently.
    pub(super) returning: BTreeMap<usize, Hold>,
    /// What the next decision is to remember.
    pub(super) standing: Standing,
    /// The best placement before rules of time, gain and order.
    pub(super) ideal: Vec<usize>,
    pub(super) solver: Option<SolverReport>,
    /// When the first of the rules about time that held anything, on whatever way here, no longer does.
    pub(super) eases: Option<Millis>,
    pub(super) telling: Telling,
}

impl<'a> Round<'a> {
    pub(super) fn new(alike: &'a Alike<'a>, asking: Asking<'a>, now: Timestamp) -> Self {
        let Asking { policy, history, standing: before } = asking;
        let evaluator = alike.evaluator;
        Self {
            alike,
            observation: alike.observation,
            policy,
            before,
            history,
            now,
            evaluator,
            rules: alike.rules,
            room: &alike.room,
            held: BTreeMap::new(),
            waiting: BTreeSet::new(),
            returning: BTreeMap::new(),
            standing: Standing::begin(before, evaluator, policy, now),
            ideal: evaluator.now.clone(),
            solver: None,
            eases: None,
            telling: alike.asked.telling,
        }
    }

    pub(super) fn decide(mut self) -> Brief {
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
        let (alike, evaluator) = (self.alike, self.evaluator);
        let mut free = match alike.movable() {
            Ok((movable, held)) => {
                self.held.extend(held.iter().map(|(service, hold)| (*service, vec![hold.clone()])));
                movable.clone()
            }
            Err(hold) => return Outcome::Held(hold),
        };
        let abreast = &alike.abreast;
        // Places without a way to them, and those that services left too recently.
        let (mut barred, mut too_soon) = (BTreeSet::new(), BTreeSet::new());
        let mut given_up = 0;
        loop {
            let out = &barred | &too_soon;
            let failed =
                |error: &dyn std::error::Error| Outcome::Held(Hold::Solver { message: error.to_string() });
            let placed = match alike.placed(&free, &out) {
                Ok(placed) => placed,
                Err(error) => return failed(error.as_ref()),
            };
            let Placed { model, staged, target, gains, mending, .. } = &*placed;
            if self.solver.is_none() {
                self.ideal.clone_from(target);
            }
            self.solver = Some(found(alike.asked.engine, model, staged, self.solver.as_ref()));
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
                let Way { waves, unreachable } = match alike.way(&placed) {
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
    pub(super) fn moved<'t>(&'t self, target: &'t [usize]) -> impl Iterator<Item = usize> + 't {
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
    pub(super) fn takes(&self, service: usize, to: usize) -> Millis {
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
