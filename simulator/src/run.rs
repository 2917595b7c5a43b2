//! A run: events in order over one scenario, with the production decision at every interval of the policy.

use jiff::Timestamp;
use sterna_core::continuum::{NodeName, ServiceName};
use sterna_core::decide::{Memo, steady_until};
use sterna_core::history::{History, Outcome as MigrationOutcome};
use sterna_core::plan::{Effect, Move};
use sterna_core::report::{Decision, Verdict};
use sterna_policies::policy::{Mode, Policy};

use crate::alternatives;
use crate::carrying::{Begun, Carrying};
use crate::clock::SimTime;
use crate::events::Queue;
use crate::gain;
use crate::hold::Holds;
use crate::replay;
use crate::report::{Entry, Happening, MoveEnd, MoveRecord, Outcome, Point, Report, Totals, Violation};
use crate::scenario::Scenario;
use crate::violation::Watch;
use crate::world::{CannotBegin, World};

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
    let scenario = drawn.as_ref();
    let mut run = Run::new(scenario, policy, seed, deciding);
    while let Some((at, event)) = run.queue.pop() {
        if at >= scenario.duration {
            break;
        }
        run.advance(at);
        match event {
            Event::Change => {
                run.change();
                run.steady_until = None;
            }
            Event::Look => {
                run.look()?;
                progress(at);
            }
            Event::Freeze(service) => {
                if run.world.freeze(&service) {
                    run.tell(Happening::Frozen { service });
                }
            }
            Event::End(service) => run.end(service)?,
        }
        run.note(at);
    }
    run.advance(scenario.duration);
    run.world.pay_open();
    Ok(run.finish())
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

#[derive(Debug)]
enum Event {
    /// A track has a new value.
    Change,
    /// The policy looks.
    Look,
    /// A service that moves is frozen.
    Freeze(ServiceName),
    /// A service's move is over.
    End(ServiceName),
}

/// A plan on its way.
struct Carried {
    decision: Decision,
    moves: Carrying,
    /// When the next look would be.
    next_look: SimTime,
}

struct Run<'a> {
    scenario: &'a Scenario,
    world: World<'a>,
    queue: Queue<Event>,
    /// What the next decision remembers.
    history: History,
    policy: &'a Policy,
    seed: u64,
    /// The plan that is being carried out.
    carrying: Option<Carried>,
    holds: Holds,
    watch: Option<Watch<'a>>,
    last_verdict: Option<Verdict>,
    deciding: Deciding<'a>,
    /// Until when the last decision, which moved nothing, would be made again.
    steady_until: Option<Timestamp>,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, policy: &'a Policy, seed: u64, deciding: Deciding<'a>) -> Self {
        let mut queue = Queue::default();
        // Before the looks, so that a look sees the numbers of its own instant.
        for at in scenario.changes() {
            queue.push(at, Event::Change);
        }
        queue.push(SimTime::START, Event::Look);
        let world = World::new(scenario);
        let outcome = Outcome {
            policy: policy.name.clone(),
            mode: policy.mode,
            looks: 0,
            moves: Vec::new(),
            holds: Vec::new(),
            placement: scenario.placement.clone(),
            totals: world.totals(),
            violations: None,
            timeline: Vec::new(),
            course: Vec::new(),
        };
        Self {
            scenario,
            world,
            queue,
            history: History::default(),
            policy,
            seed,
            carrying: None,
            holds: Holds::default(),
            watch: Watch::new(policy),
            last_verdict: None,
            deciding,
            steady_until: None,
            outcome,
        }
    }

    /// Lets time pass until the next event.
    fn advance(&mut self, to: SimTime) {
        if let Some(watch) = &mut self.watch {
            watch.pass(to.since(self.world.now()));
        }
        self.world.advance(to);
    }

    /// Sees what is so after an event.
    fn note(&mut self, at: SimTime) {
        if let Some(watch) = &mut self.watch {
            watch.see(&self.world);
        }
        note(&mut self.outcome.course, at, self.world.effect());
    }

    /// The world changes by itself.
    fn change(&mut self) {
        let news = self.world.refresh();
        for (part, standing) in news.standing {
            self.tell(Happening::Fault { part, standing });
        }
        for (service, at) in news.broken {
            self.queue.push(at, Event::End(service));
        }
    }

    fn look(&mut self) -> Result<(), RunError> {
        let now = self.world.now();
        let at = now.on_calendar(self.scenario.start);
        let next_look = now.after(self.policy.trigger.interval);
        if self.steady_until.is_some_and(|until| at < until) {
            self.outcome.looks += 1;
            self.holds.note_again(now);
            self.queue.push(next_look, Event::Look);
            return Ok(());
        }
        let observation = self.world.observe(self.policy);
        let decision = match self.deciding {
            Deciding::Anew => replay::step(&observation, self.policy, &self.history, at, self.seed),
            Deciding::Briefly(memo) => {
                replay::briefly(&observation, self.policy, &self.history, at, self.seed, memo)
            }
        };
        self.history.standing = decision.standing.clone();
        self.outcome.looks += 1;
        self.holds.note(now, &decision.report);
        let verdict = decision.report.verdict.clone();
        let news = match &self.last_verdict {
            Some(last) => !last.is_alike(&verdict),
            None => true,
        };
        if news {
            self.tell(Happening::Look { verdict: verdict.clone() });
        }
        self.last_verdict = Some(verdict);
        let wanted = decision.report.verdict == Verdict::Move && self.policy.mode != Mode::Off;
        match Carrying::of(&decision.plan).filter(|_| wanted) {
            Some(moves) => {
                self.steady_until = None;
                self.carry(Carried { decision, moves, next_look })
            }
            None => {
                if matches!(self.deciding, Deciding::Briefly(_)) {
                    self.steady_until = steady_until(self.policy, &self.history, at);
                }
                self.queue.push(next_look, Event::Look);
                Ok(())
            }
        }
    }

    /// Begins what may begin now of a plan, or ends it.
    fn carry(&mut self, mut plan: Carried) -> Result<(), RunError> {
        let now = self.world.now().on_calendar(self.scenario.start);
        let directives = self.world.directives();
        let against = |order: &Move| directives.against(&self.scenario.continuum, order).is_some();
        let batch: Vec<Begun> = std::iter::from_fn(|| plan.moves.begin(self.policy, now, against)).collect();
        let beside: Vec<&Move> = batch.iter().map(|begun| &begun.order).collect();
        for begun in &batch {
            self.begin(begun, &plan.decision, &beside)?;
        }
        if plan.moves.rests() {
            self.queue.push(plan.next_look.max(self.world.now()), Event::Look);
        } else {
            self.carrying = Some(plan);
        }
        Ok(())
    }

    fn begin(&mut self, begun: &Begun, decision: &Decision, beside: &[&Move]) -> Result<(), RunError> {
        let Begun { order, limits } = begun;
        let now = self.world.now();
        let course =
            self.world.begin(order, limits, beside).map_err(|source| RunError::Plan { at: now, source })?;
        let service = order.service.clone();
        self.tell(Happening::Began {
            service: service.clone(),
            from: order.from.clone(),
            to: order.to.clone(),
        });
        if course.downtime().as_micros() > 0 {
            self.queue.push(now.after(course.freezes), Event::Freeze(service.clone()));
        }
        self.queue.push(now.after(course.ends), Event::End(service.clone()));
        let gain = gain::of_move(decision, order);
        let choice = alternatives::of_move(decision, self.policy, order);
        self.outcome.moves.push(MoveRecord {
            began: now,
            at: now.on_calendar(self.scenario.start),
            service,
            from: order.from.clone(),
            to: order.to.clone(),
            gain,
            choice,
            end: None,
        });
        Ok(())
    }

    fn end(&mut self, service: ServiceName) -> Result<(), RunError> {
        let Some(past) = self.world.end(&service) else { return Ok(()) };
        self.steady_until = None;
        let now = self.world.now();
        let record = self
            .outcome
            .moves
            .iter_mut()
            .rev()
            .find(|record| record.service == service && record.end.is_none());
        if let Some(record) = record {
            record.end = Some(MoveEnd {
                ended: now,
                outcome: past.outcome,
                downtime: past.downtime,
                bytes: past.bytes,
            });
        }
        let on: NodeName =
            if past.outcome == MigrationOutcome::Moved { &past.to } else { &past.from }.clone();
        self.tell(Happening::Ended { service: service.clone(), on, outcome: past.outcome });
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

    fn tell(&mut self, event: Happening) {
        let effect = self.world.effect();
        self.outcome.timeline.push(Entry { at: self.world.now(), event, effect });
    }

    fn finish(self) -> Outcome {
        Outcome {
            holds: self.holds.into_records(),
            placement: self.world.placement().clone(),
            totals: self.world.totals(),
            violations: self.watch.map(Watch::into_violations),
            ..self.outcome
        }
    }
}
