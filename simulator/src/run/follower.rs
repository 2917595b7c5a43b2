//! What is one policy's own of a run.

use jiff::Timestamp;
use sterna_core::decide::Brief;
use sterna_core::plan::{Effect, Move};
use sterna_core::report::{Decision, Verdict};
use sterna_core::standing::Standing;
use sterna_policies::policy::{Mode, Policy};

use crate::clock::SimTime;
use crate::hold::Holds;
use crate::report::{Entry, Happening, Outcome};
use crate::scenario::Scenario;
use crate::violation::Watch;
use crate::world::World;

/// A policy on its way through a scenario, and what is told of it.
#[derive(Debug)]
pub(super) struct Follower<'a> {
    /// By which its caller knows it.
    pub(super) number: usize,
    pub(super) policy: &'a Policy,
    /// What it remembers.
    pub(super) standing: Standing,
    pub(super) holds: Holds,
    pub(super) watch: Option<Watch<'a>>,
    pub(super) last_verdict: Option<Verdict>,
    /// Until when its last decision, which moved nothing, would be made again.
    pub(super) steady_until: Option<Timestamp>,
    /// The decision that is being carried out.
    pub(super) decision: Option<Decision>,
    pub(super) outcome: Outcome,
}

impl<'a> Follower<'a> {
    pub(super) fn new(scenario: &Scenario, world: &World<'_>, number: usize, policy: &'a Policy) -> Self {
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
            number,
            policy,
            standing: Standing::default(),
            holds: Holds::default(),
            watch: Watch::new(policy),
            last_verdict: None,
            steady_until: None,
            decision: None,
            outcome,
        }
    }

    /// Whether it would decide again what it did.
    pub(super) fn is_steady(&self, at: Timestamp) -> bool {
        self.steady_until.is_some_and(|until| at < until)
    }

    /// Takes note of a decision, and keeps it where it moves anything.
    pub(super) fn decided(&mut self, now: SimTime, effect: Effect, brief: Brief) {
        let Brief { decision, steady_until } = brief;
        self.standing = decision.standing.clone();
        self.holds.note(now, &decision.report);
        let verdict = decision.report.verdict.clone();
        let news = match &self.last_verdict {
            Some(last) => !last.is_alike(&verdict),
            None => true,
        };
        if news {
            self.tell(now, effect, Happening::Look { verdict: verdict.clone() });
        }
        let moves =
            verdict == Verdict::Move && self.policy.mode != Mode::Off && !decision.plan.moves.is_empty();
        self.last_verdict = Some(verdict);
        self.steady_until = if moves { None } else { steady_until };
        self.decision = moves.then_some(decision);
    }

    /// What it moves now.
    pub(super) fn moves(&self) -> &[Move] {
        self.decision.as_ref().map(|decision| decision.plan.moves.as_slice()).unwrap_or_default()
    }

    pub(super) fn tell(&mut self, at: SimTime, effect: Effect, event: Happening) {
        self.outcome.timeline.push(Entry { at, event, effect });
    }
}
