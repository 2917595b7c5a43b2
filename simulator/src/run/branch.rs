//! Policies over one scenario, for as long as they do the same: what happens is the same for all of them, and simulated once.
//!
//! Where their decisions differ, they part: each group goes on from a copy of all that has happened so far. So what comes of a
//! policy is the same as if it had been alone.

use sterna_core::continuum::{NodeName, ServiceName};
use sterna_core::decide::{Asking, Brief, Telling};
use sterna_core::history::{History, Outcome as MigrationOutcome};
use sterna_core::plan::Move;
use sterna_policies::policy::{Mode, Policy};

use super::follower::Follower;
use super::{Deciding, RunError, note};
use crate::alternatives;
use crate::carrying::Carrying;
use crate::clock::SimTime;
use crate::events::Queue;
use crate::gain;
use crate::replay;
use crate::report::{Choice, Happening, MoveEnd, MoveRecord, Outcome, Point};
use crate::scenario::Scenario;
use crate::violation::Watch;
use crate::world::World;

#[derive(Debug, Clone)]
enum Event {
    /// A track has a new value.
    Change,
    /// The policies look.
    Look,
    /// A service that moves is frozen.
    Freeze(ServiceName),
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
    scenario: &'a Scenario,
    world: World<'a>,
    queue: Queue<Event>,
    /// What the next decisions remember, but for what is each policy's own.
    history: History,
    seed: u64,
    /// The plan that is being carried out.
    carrying: Option<Carried>,
    deciding: Deciding<'a>,
    course: Vec<Point>,
    /// Not empty but in passing.
    followers: Vec<Follower<'a>>,
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

    /// Goes on to the end, and says what came of the policies that stayed. Those that part from the first are handed to `part`, to
    /// go on by themselves. `progress` is told the simulated time at every look.
    ///
    /// # Errors
    /// If a decision's plan contradicts its observation.
    pub(crate) fn go(
        mut self,
        part: &mut dyn FnMut(Self),
        progress: &mut dyn FnMut(SimTime),
    ) -> Result<Vec<(usize, Outcome)>, RunError> {
        while let Some((at, event)) = self.queue.pop() {
            if at >= self.scenario.duration {
                break;
            }
            self.advance(at);
            match event {
                Event::Change => self.change(),
                Event::Look => {
                    for mut other in self.look()? {
                        other.note(at);
                        part(other);
                    }
                    progress(at);
                }
                Event::Freeze(service) => {
                    if self.world.freeze(&service) {
                        self.tell(&Happening::Frozen { service });
                    }
                }
                Event::End(service) => self.end(service)?,
            }
            self.note(at);
        }
        self.advance(self.scenario.duration);
        Ok(self.finish())
    }

    /// The policies that have done the same, by their numbers.
    pub(crate) fn numbers(&self) -> Vec<usize> {
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
    }

    /// No decision would be made again.
    fn unsettle(&mut self) {
        self.followers.iter_mut().for_each(|follower| follower.steady_until = None);
    }

    /// Looks, and goes on with those that do what the first does. Gives the others.
    fn look(&mut self) -> Result<Vec<Self>, RunError> {
        let now = self.world.now();
        self.decide(now);
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

    /// Decides for all that would not decide again what they did.
    fn decide(&mut self, now: SimTime) {
        let at = now.on_calendar(self.scenario.start);
        let effect = self.world.effect();
        let mut deciding: Vec<&mut Follower<'a>> = Vec::new();
        for follower in &mut self.followers {
            follower.outcome.looks += 1;
            follower.decision = None;
            if follower.steady_until.is_some_and(|until| at < until) {
                follower.holds.note_again(now);
            } else {
                deciding.push(follower);
            }
        }
        let Some(first) = deciding.first() else { return };
        let observation = self.world.observe(first.policy);
        let briefly = |memo, telling| {
            let asking = |follower: &&mut Follower<'a>| (follower.policy, follower.standing.clone());
            let asking: Vec<_> = deciding.iter().map(asking).collect();
            let asking: Vec<Asking<'_>> =
                asking.iter().map(|(policy, standing)| Asking { policy, standing }).collect();
            replay::briefly(&observation, &asking, &self.history, at, self.seed, (memo, telling))
        };
        let anew = |follower: &&mut Follower<'a>| {
            let history = History { standing: follower.standing.clone(), ..self.history.clone() };
            let decision = replay::step(&observation, follower.policy, &history, at, self.seed);
            Brief { decision, steady_until: None }
        };
        let briefs = match self.deciding {
            Deciding::Anew => deciding.iter().map(anew).collect(),
            Deciding::Briefly(memo) => briefly(memo, Telling::Changes),
            Deciding::Barely(memo) => briefly(memo, Telling::Ends),
        };
        for (follower, brief) in deciding.into_iter().zip(briefs) {
            follower.decided(now, effect, brief);
        }
    }

    /// Begins what may begin now of a plan, or ends it.
    fn carry(&mut self, mut plan: Carried) -> Result<(), RunError> {
        let Some(policy) = self.followers.first().map(|follower| follower.policy) else { return Ok(()) };
        let now = self.world.now().on_calendar(self.scenario.start);
        let batch: Vec<Move> = std::iter::from_fn(|| plan.moves.begin(policy, now)).collect();
        for order in &batch {
            self.begin(order, policy, &batch)?;
        }
        if plan.moves.rests() {
            self.queue.push(plan.next_look.max(self.world.now()), Event::Look);
        } else {
            self.carrying = Some(plan);
        }
        Ok(())
    }

    fn begin(&mut self, order: &Move, policy: &Policy, beside: &[Move]) -> Result<(), RunError> {
        let now = self.world.now();
        let course = self
            .world
            .begin(order, &policy.migration, beside)
            .map_err(|source| RunError::Plan { at: now, source })?;
        let service = order.service.clone();
        self.tell(&Happening::Began {
            service: service.clone(),
            from: order.from.clone(),
            to: order.to.clone(),
        });
        if course.downtime().as_micros() > 0 {
            self.queue.push(now.after(course.freezes), Event::Freeze(service.clone()));
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
                end: None,
            });
        }
        Ok(())
    }

    fn end(&mut self, service: ServiceName) -> Result<(), RunError> {
        let Some(past) = self.world.end(&service) else { return Ok(()) };
        self.unsettle();
        let ended = self.world.now();
        for follower in &mut self.followers {
            let mut records = follower.outcome.moves.iter_mut().rev();
            let record = records.find(|record| record.service == service && record.end.is_none());
            if let Some(record) = record {
                record.end = Some(MoveEnd {
                    ended,
                    outcome: past.outcome,
                    downtime: past.downtime,
                    bytes: past.bytes,
                });
            }
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

    fn finish(self) -> Vec<(usize, Outcome)> {
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
