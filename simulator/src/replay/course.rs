//! A recorded past once more, under another policy.
//!
//! The policy looks when the scheduler looked. As long as it decides as was decided then, what happened then is what happens: the
//! observation, the migrations as they were measured. From the first look at which it does otherwise the services are where it
//! put them, moves go as they are predicted, and all else is as it was observed ([`overlay`](super::overlay)).

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use sterna_core::continuum::{Placement, ServiceName};
use sterna_core::history::{History, Outcome as MigrationOutcome, PastMigration};
use sterna_core::observation::{Observation, UnderWay};
use sterna_core::placement::evaluate::Evaluator;
use sterna_core::plan::{Effect, Move, Plan};
use sterna_core::record::Recorded;
use sterna_core::report::Verdict;
use sterna_core::standing::Standing;
use sterna_policies::policy::{Mode, Policy};
use sterna_policies::quantity::Millis;

use super::overlay::as_if;
use super::report::{Compared, Replacement, Sums};
use super::step;
use crate::carrying::{Begun, Carrying};
use crate::clock::SimTime;
use crate::models::migration::Course;

/// A span between two looks counts at most for so many intervals of the policy that looked: while nobody looked nobody knows.
const KNOWN: i64 = 10;

/// A policy on its way through a recorded past, look by look.
pub struct Replay {
    policy: Policy,
    /// What the next decision remembers of the one before; nothing before the first.
    standing: Option<Standing>,
    /// The same time, once the policy has done otherwise.
    other: Option<Other>,
    /// When the policy last looked.
    looked: Option<Timestamp>,
    /// The span that is still to be counted, and what held in it.
    open: Option<Open>,
    /// Migrations that are counted already.
    counted: BTreeSet<(ServiceName, Timestamp)>,
    was: Sums,
    with: Sums,
    found: Compared,
}

/// What is different.
struct Other {
    /// Where the policy's services are.
    placement: Placement,
    /// Migrations, those that were measured before included.
    history: History,
    /// The plan that is being carried out.
    carrying: Option<Carrying>,
    running: Vec<Running>,
}

/// A migration that did not take place.
struct Running {
    order: Move,
    began: Timestamp,
    course: Course,
}

/// What held since a look.
struct Open {
    since: Timestamp,
    /// It holds for at most so long.
    most: Millis,
    demand: i128,
    was: Effect,
    with: Effect,
}

impl Replay {
    /// Begins before the first look.
    pub fn new(policy: Policy) -> Self {
        Self {
            found: Compared::begin(&policy),
            policy,
            standing: None,
            other: None,
            looked: None,
            open: None,
            counted: BTreeSet::new(),
            was: Sums::default(),
            with: Sums::default(),
        }
    }

    /// The next recorded decision: they come in the order in which they were made.
    pub fn look(&mut self, recorded: &Recorded) {
        let now = recorded.now;
        self.close(now);
        self.carry(now, &recorded.observation);
        let mut policy = self.policy.clone();
        // Whoever had other services then has them still.
        policy.select.others.clone_from(&recorded.policy.select.others);
        self.count_measured(recorded, &policy);
        let observation = self.observation(&recorded.observation);
        if self.is_due(recorded) {
            self.looked = Some(now);
            self.decide(recorded, &policy, &observation);
        }
        // Moves that begin at once are under way from now on.
        let observation = self.observation(&recorded.observation);
        let (was, demand) = effect(&recorded.observation, &policy);
        let (with, _) = effect(&observation, &policy);
        let interval = recorded.policy.trigger.interval.as_micros();
        let most = Millis::from_micros(interval.saturating_mul(KNOWN));
        self.open = Some(Open { since: now, most, demand, was, with });
    }

    /// Whether the policy looks when the scheduler did. Not while it carries a plan out, and not more often than it is to: by half
    /// an interval of the policy that looked then, for looks never come to the instant.
    fn is_due(&self, recorded: &Recorded) -> bool {
        if self.other.as_ref().is_some_and(|other| other.carrying.is_some()) {
            return false;
        }
        let (own, then) = (self.policy.trigger.interval, recorded.policy.trigger.interval);
        let Some(looked) = self.looked.filter(|_| own > then) else { return true };
        let wait = own.saturating_sub(Millis::from_micros(then.as_micros() / 2));
        recorded.now >= later(looked, wait)
    }

    fn decide(&mut self, recorded: &Recorded, policy: &Policy, observation: &Observation) {
        let now = recorded.now;
        let mut history = match &self.other {
            Some(other) => other.history.clone(),
            None => recorded.history.clone(),
        };
        match &self.standing {
            Some(standing) => history.standing.clone_from(standing),
            // What another policy remembers is not about this one.
            None if policy.name != recorded.policy.name => history.standing = Standing::default(),
            None => {}
        }
        let decision = step(observation, policy, &history, now, recorded.seed);
        self.standing = Some(decision.standing.clone());
        self.found.looks += 1;
        self.found.alike += u64::from(decision == recorded.decision);
        let moves = decision.report.verdict == Verdict::Move && policy.mode != Mode::Off;
        self.found.wanted += u64::from(moves);
        if self.other.is_none() && !self.goes_apart(recorded, &decision.plan, moves) {
            return;
        }
        let placement = &recorded.observation.placement;
        let has = |name: &&ServiceName| {
            let labels = observation.continuum.services.get(*name).map(|about| &about.labels);
            labels.is_some_and(|labels| policy.select.has_service(name.as_str(), labels))
        };
        let other = self.other.get_or_insert_with(|| Other {
            placement: placement
                .iter()
                .filter(|(name, _)| has(name))
                .map(|(name, node)| (name.clone(), node.clone()))
                .collect(),
            history: recorded.history.clone(),
            carrying: None,
            running: Vec::new(),
        });
        if self.found.apart.is_none() {
            self.found.apart = Some(now);
        }
        if moves {
            other.carrying = Carrying::of(&decision.plan);
            self.carry(now, observation);
        }
    }

    /// Whether the policy does otherwise than was done. Of the modes only `auto` lets a scheduler act by itself.
    fn goes_apart(&self, recorded: &Recorded, plan: &Plan, moves: bool) -> bool {
        let then = &recorded.decision;
        let moved = then.report.verdict == Verdict::Move && recorded.policy.mode == Mode::Auto;
        let orders = |plan: &Plan| {
            let order = |one: &Move| (one.wave, one.service.clone(), one.from.clone(), one.to.clone());
            plan.moves.iter().map(order).collect::<Vec<_>>()
        };
        moves != moved || (moves && orders(plan) != orders(&then.plan))
    }

    /// Lets simulated migrations go on until an instant. `observed` has what people had said by then.
    fn carry(&mut self, until: Timestamp, observed: &Observation) {
        let Some(other) = &mut self.other else { return };
        let Some(mut plan) = other.carrying.take() else { return };
        // What has ended lets others begin at that instant, and not at the look after.
        let mut clock = other.running.iter().map(|one| one.began).max().unwrap_or(until);
        loop {
            let mut directives = observed.directives.clone();
            directives.0.retain(|one| one.at <= clock);
            let against = |order: &Move| directives.against(&observed.continuum, order).is_some();
            while let Some(Begun { order, limits }) = plan.begin(&self.policy, clock, against) {
                let course = Course::of(&order.predicted, &limits);
                self.found.moves.push(Replacement::begun(&order, clock));
                other.running.push(Running { order, began: clock, course });
            }
            if plan.rests() {
                return;
            }
            let next =
                other.running.iter().enumerate().min_by_key(|(_, one)| later(one.began, one.course.ends));
            let Some((at, ends)) = next.map(|(at, one)| (at, later(one.began, one.course.ends))) else {
                return;
            };
            if ends > until {
                other.carrying = Some(plan);
                return;
            }
            clock = ends;
            let Running { order, course, .. } = other.running.swap_remove(at);
            let arrived = course.outcome == MigrationOutcome::Moved;
            if arrived {
                other.placement.insert(order.service.clone(), order.to.clone());
            }
            plan.ended(arrived);
            self.with.moves += 1;
            self.with.downtime = self.with.downtime.saturating_add(course.downtime());
            let record = self.found.moves.iter_mut().rev().find(|one| one.service == order.service);
            if let Some(record) = record {
                record.outcome = Some(course.outcome);
                record.downtime = course.downtime();
            }
            let past = PastMigration {
                ended: ends,
                from: order.from,
                to: order.to,
                outcome: course.outcome,
                downtime: course.downtime(),
                bytes: course.bytes,
                duration: course.ends,
            };
            other.history.record(order.service, past);
        }
    }

    /// What the policy sees.
    fn observation(&self, observed: &Observation) -> Observation {
        let Some(other) = &self.other else { return observed.clone() };
        let under_way = other.running.iter().map(|one| UnderWay {
            service: one.order.service.clone(),
            from: one.order.from.clone(),
            to: one.order.to.clone(),
        });
        as_if(observed, &other.placement, under_way.collect())
    }

    /// Counts the migrations that ended since the first look, of the policy's services.
    fn count_measured(&mut self, recorded: &Recorded, policy: &Policy) {
        let first = self.found.first.get_or_insert(recorded.now);
        let services = &recorded.observation.continuum.services;
        for (name, all) in &recorded.history.migrations {
            let labels = services.get(name).map(|about| &about.labels);
            if !labels.is_some_and(|labels| policy.select.has_service(name.as_str(), labels)) {
                continue;
            }
            for past in all.iter().filter(|past| past.ended > *first) {
                let new = self.counted.insert((name.clone(), past.ended));
                if new && past.outcome != MigrationOutcome::Refused {
                    self.was.moves += 1;
                    self.was.downtime = self.was.downtime.saturating_add(past.downtime);
                    if self.other.is_none() {
                        self.with.moves += 1;
                        self.with.downtime = self.with.downtime.saturating_add(past.downtime);
                    }
                }
            }
        }
    }

    /// Counts what held until now.
    fn close(&mut self, now: Timestamp) {
        let Some(open) = self.open.take() else { return };
        let span = now.duration_since(open.since).as_nanos();
        let span = u64::try_from(span).unwrap_or(0);
        let known = span.min(u64::try_from(open.most.as_micros()).unwrap_or(0));
        self.was.add(&open.was, open.demand, known);
        self.with.add(&open.with, open.demand, known);
        self.found.counted = self.found.counted.saturating_add(millis(known));
        self.found.not_known = self.found.not_known.saturating_add(millis(span - known));
        self.found.last = Some(now);
    }

    /// What came of it.
    pub fn finish(mut self) -> Compared {
        if let Some(open) = &self.open {
            self.found.last = Some(open.since);
        }
        let placement = self.other.map(|other| other.placement).unwrap_or_default();
        Compared { was: self.was.totals(), with: self.with.totals(), placement, ..self.found }
    }
}

/// What the placement that is observed is worth by what a policy knows, and how much is asked for.
fn effect(observation: &Observation, policy: &Policy) -> (Effect, i128) {
    let evaluator = Evaluator::new(observation, policy);
    (evaluator.effect(&evaluator.now), evaluator.demand.iter().sum())
}

fn later(at: Timestamp, span: Millis) -> Timestamp {
    // A millionth of a millisecond is a nanosecond.
    at.checked_add(SignedDuration::from_nanos(span.as_micros())).unwrap_or(Timestamp::MAX)
}

fn millis(nanos: u64) -> Millis {
    SimTime::from_nanos(nanos).as_millis()
}
