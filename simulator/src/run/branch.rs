//! Policies over one scenario, for as long as they do the same: what happens is the same for all of them, and simulated once.
//!
//! Where their decisions differ, they part: each group goes on from a copy of all that has happened so far. So what comes of a
//! policy is the same as if it had been alone.

use std::sync::Arc;

use sterna_core::continuum::{NodeName, ServiceName};
use sterna_core::history::{History, Outcome as MigrationOutcome};
use sterna_core::plan::Move;
use sterna_policies::policy::{Mode, Policy};

use super::follower::Follower;
use super::{Deciding, RunError, note};
use crate::alternatives;
use crate::carrying::{Begun, Carrying};
use crate::clock::SimTime;
use crate::events::Queue;
use crate::gain;
use crate::report::{Choice, Happening, MoveEnd, MoveRecord, Outcome, Point};
use crate::scenario::Scenario;
use crate::violation::Watch;
use crate::world::World;
use crate::world::conditions::Known;

#[derive(Debug, Clone)]
enum Event {
    /// A track has a new value.
    Change,
    /// The policies look.
    Look,
    /// A service that moves is frozen.
    Freeze(ServiceName),
    /// A service runs at the destination, and its memory is still being fetched.
    Resume(ServiceName),
    /// A service's move is over.
    End(ServiceName),
}

/// A plan on its way.
#[derive(Debug, Clone)]
struct Carried {
    moves: Carrying,
    /// When the next look would be.
    next_look: SimTime,
}

/// Policies over one scenario that have done the same so far.
#[derive(Debug)]
pub(crate) struct Branch<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) world: World<'a>,
    queue: Queue<Event>,
    /// What the next decisions remember, but for what is each policy's own.
    pub(super) history: History,
    pub(super) seed: u64,
    /// The plan that is being carried out.
    carrying: Option<Carried>,
    pub(super) deciding: Deciding<'a>,
    course: Vec<Point>,
    /// Not empty but in passing.
    pub(super) followers: Vec<Follower<'a>>,
}

/// Whether two policies see the same of a world, look at the same times and carry plans out in the same way.
pub(crate) fn may_share(one: &Policy, other: &Policy) -> bool {
    one.metrics == other.metrics
        && one.trigger.interval == other.trigger.interval
        && one.migration == other.migration
        && one.windows == other.windows
        && one.budget.concurrent == other.budget.concurrent
        && (one.mode == Mode::Off) == (other.mode == Mode::Off)
}

impl<'a> Branch<'a> {
    /// Of policies that [may share](may_share) one, each with a number by which what comes of it is told. The scenario has to be
    /// drawn already.
    pub(crate) fn new(
        scenario: &'a Scenario,
        policies: &[(usize, &'a Policy)],
        seed: u64,
        deciding: Deciding<'a>,
    ) -> Self {
        let mut queue = Queue::default();
        // Before the looks, so that a look sees the numbers of its own instant.
        for at in scenario.changes() {
            queue.push(at, Event::Change);
        }
        queue.push(SimTime::START, Event::Look);
        let world = World::new(scenario);
        let follower =
            |(number, policy): &(usize, &'a Policy)| Follower::new(scenario, &world, *number, policy);
        Self {
            followers: policies.iter().map(follower).collect(),
            scenario,
            world,
            queue,
            history: History::default(),
            seed,
            carrying: None,
            deciding,
            course: Vec::new(),
        }
    }

    /// The same, which reads of each instant what others have read before it.
    pub(super) fn beside_others(self, known: &Arc<Known>) -> Self {
        Self { world: self.world.beside_others(known), ..self }
    }

    /// Goes on until its policies look, and says when; `None` where the scenario ends before.
    ///
    /// # Errors
    /// If a decision's plan contradicts its observation.
    pub(super) fn until_look(&mut self) -> Result<Option<SimTime>, RunError> {
        while let Some((at, event)) = self.queue.pop() {
            if at >= self.scenario.duration {
                break;
            }
            self.advance(at);
            match event {
                Event::Change => self.change(),
                Event::Look => return Ok(Some(at)),
                Event::Freeze(service) => {
                    if self.world.freeze(&service) {
                        self.tell(&Happening::Frozen { service });
                    }
                }
                Event::Resume(service) => self.resume(service),
                Event::End(service) => self.end(service)?,
            }
            self.note(at);
        }
        self.advance(self.scenario.duration);
        self.world.pay_open();
        Ok(None)
    }

    /// The policies that have done the same, by their numbers.
    pub(super) fn numbers(&self) -> Vec<usize> {
        self.followers.iter().map(|follower| follower.number).collect()
    }

    /// Lets time pass until the next event.
    fn advance(&mut self, to: SimTime) {
        let nanos = to.since(self.world.now());
        for watch in self.followers.iter_mut().filter_map(|follower| follower.watch.as_mut()) {
            watch.pass(nanos);
        }
        self.world.advance(to);
    }

    /// Sees what is so after an event.
    fn note(&mut self, at: SimTime) {
        for watch in self.followers.iter_mut().filter_map(|follower| follower.watch.as_mut()) {
            watch.see(&self.world);
        }
        note(&mut self.course, at, self.world.effect());
    }

    /// The world changes by itself.
    fn change(&mut self) {
        self.unsettle();
        let news = self.world.refresh();
        for (part, standing) in news.standing {
            self.tell(&Happening::Fault { part, standing });
        }
        for (service, at) in news.broken {
            self.queue.push(at, Event::End(service));
        }
        for (service, [resumes, ends]) in news.going_on {
            self.queue.push(resumes, Event::Resume(service.clone()));
            self.queue.push(ends, Event::End(service));
        }
    }

    fn resume(&mut self, service: ServiceName) {
        let Some(on) = self.world.resume(&service) else { return };
        let now = self.world.now();
        for record in self.open_records(&service) {
            record.arrived = Some(now);
        }
        self.tell(&Happening::Resumed { service, on });
    }

    /// What is told of a service's move that has not ended.
    fn open_records(&mut self, service: &ServiceName) -> impl Iterator<Item = &mut MoveRecord> {
        self.followers.iter_mut().filter_map(move |follower| {
            let mut records = follower.outcome.moves.iter_mut().rev();
            records.find(|record| record.service == *service && record.end.is_none())
        })
    }

    /// No decision would be made again.
    fn unsettle(&mut self) {
        self.followers.iter_mut().for_each(|follower| follower.steady_until = None);
    }

    /// After a decision: goes on with those that do what the first does. Gives the others.
    ///
    /// # Errors
    /// If a decision's plan contradicts its observation.
    pub(super) fn part(&mut self) -> Result<Vec<Self>, RunError> {
        let now = self.world.now();
        let mut groups: Vec<Vec<Follower<'a>>> = Vec::new();
        let mut next_look = now;
        for follower in std::mem::take(&mut self.followers) {
            next_look = now.after(follower.policy.trigger.interval);
            let same = |group: &&mut Vec<Follower<'_>>| {
                group.first().is_some_and(|first| first.moves() == follower.moves())
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.push(follower),
                None => groups.push(vec![follower]),
            }
        }
        let mut groups = groups.into_iter();
        let first = groups.next().unwrap_or_default();
        let mut others: Vec<Self> = groups.map(|followers| self.with(followers)).collect();
        self.followers = first;
        for branch in std::iter::once(self).chain(&mut others) {
            let plan = branch.followers.first().and_then(|follower| follower.decision.as_ref());
            match plan.and_then(|decision| Carrying::of(&decision.plan)) {
                Some(moves) => branch.carry(Carried { moves, next_look })?,
                None => branch.queue.push(next_look, Event::Look),
            }
            branch.note(now);
        }
        Ok(others)
    }

    /// The same so far for other policies.
    fn with(&self, followers: Vec<Follower<'a>>) -> Self {
        Self {
            scenario: self.scenario,
            world: self.world.clone(),
            queue: self.queue.clone(),
            history: self.history.clone(),
            seed: self.seed,
            carrying: self.carrying.clone(),
            deciding: self.deciding,
            course: self.course.clone(),
            followers,
        }
    }

    /// Begins what may begin now of a plan, or ends it.
    fn carry(&mut self, mut plan: Carried) -> Result<(), RunError> {
        let Some(policy) = self.followers.first().map(|follower| follower.policy) else { return Ok(()) };
        let now = self.world.now().on_calendar(self.scenario.start);
        let directives = self.world.directives();
        let against = |order: &Move| directives.against(&self.scenario.continuum, order).is_some();
        let batch: Vec<Begun> = std::iter::from_fn(|| plan.moves.begin(policy, now, against)).collect();
        let beside: Vec<&Move> = batch.iter().map(|begun| &begun.order).collect();
        for begun in &batch {
            self.begin(begun, &beside)?;
        }
        if plan.moves.rests() {
            self.queue.push(plan.next_look.max(self.world.now()), Event::Look);
        } else {
            self.carrying = Some(plan);
        }
        Ok(())
    }

    fn begin(&mut self, begun: &Begun, beside: &[&Move]) -> Result<(), RunError> {
        let Begun { order, limits } = begun;
        let now = self.world.now();
        let course =
            self.world.begin(order, limits, beside).map_err(|source| RunError::Plan { at: now, source })?;
        let service = order.service.clone();
        self.tell(&Happening::Began {
            service: service.clone(),
            from: order.from.clone(),
            to: order.to.clone(),
        });
        if course.downtime().as_micros() > 0 {
            self.queue.push(now.after(course.freezes), Event::Freeze(service.clone()));
        }
        if course.resumes < course.ends {
            self.queue.push(now.after(course.resumes), Event::Resume(service.clone()));
        }
        self.queue.push(now.after(course.ends), Event::End(service.clone()));
        let told = !matches!(self.deciding, Deciding::Barely(_));
        for follower in &mut self.followers {
            let decision = follower.decision.as_ref();
            let choice = decision.filter(|_| told);
            let choice = choice.map(|decision| alternatives::of_move(decision, follower.policy, order));
            follower.outcome.moves.push(MoveRecord {
                began: now,
                at: now.on_calendar(self.scenario.start),
                service: service.clone(),
                from: order.from.clone(),
                to: order.to.clone(),
                gain: decision.and_then(|decision| gain::of_move(decision, order)),
                choice: choice.unwrap_or_else(Choice::default),
                arrived: None,
                end: None,
            });
        }
        Ok(())
    }

    fn end(&mut self, service: ServiceName) -> Result<(), RunError> {
        let Some(past) = self.world.end(&service) else { return Ok(()) };
        self.unsettle();
        let ended = self.world.now();
        for record in self.open_records(&service) {
            record.end =
                Some(MoveEnd { ended, outcome: past.outcome, downtime: past.downtime, bytes: past.bytes });
        }
        let on: NodeName =
            if past.outcome == MigrationOutcome::Moved { &past.to } else { &past.from }.clone();
        self.tell(&Happening::Ended { service: service.clone(), on, outcome: past.outcome });
        let arrived = past.outcome == MigrationOutcome::Moved;
        self.history.record(service, past);
        match self.carrying.take() {
            Some(mut plan) => {
                plan.moves.ended(arrived);
                self.carry(plan)
            }
            None => Ok(()),
        }
    }

    fn tell(&mut self, event: &Happening) {
        let (now, effect) = (self.world.now(), self.world.effect());
        for follower in &mut self.followers {
            follower.tell(now, effect, event.clone());
        }
    }

    /// What came of its policies, by their numbers, once the scenario has ended.
    pub(super) fn finish(self) -> Vec<(usize, Outcome)> {
        let (placement, totals, course) = (self.world.placement(), self.world.totals(), self.course);
        let outcome = |follower: Follower<'_>| {
            let outcome = Outcome {
                holds: follower.holds.into_records(),
                placement: placement.clone(),
                totals: totals.clone(),
                violations: follower.watch.map(Watch::into_violations),
                course: course.clone(),
                ..follower.outcome
            };
            (follower.number, outcome)
        };
        self.followers.into_iter().map(outcome).collect()
    }
}
