//! A plan on its way: which of its moves may begin now, as the daemon carries plans out.

use std::collections::VecDeque;

use jiff::Timestamp;
use sterna_core::plan::{Move, Plan};
use sterna_policies::policy::{Migration, Policy};
use sterna_policies::window;

/// A plan that is being carried out: wave by wave, in each as many at once as the budget allows. A move that is undone ends the
/// plan after its wave, and so does one that is not begun because a window or a person speaks against it by then.
#[derive(Debug, Clone)]
pub struct Carrying {
    /// Moves that have not begun, in their order.
    waiting: VecDeque<Move>,
    /// The wave of those that have.
    wave: u32,
    /// How many of them have not ended.
    running: usize,
    /// Whether all that ended arrived, and all that should have begun did.
    as_planned: bool,
}

/// A move that begins.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The move.
    pub order: Move,
    /// What limits it: no longer than until a window aborts it.
    pub limits: Migration,
}

impl Carrying {
    /// A plan's moves; `None` where it has none.
    pub fn of(plan: &Plan) -> Option<Self> {
        let mut moves = plan.moves.clone();
        moves.sort_by_key(|order| order.wave);
        let wave = moves.first()?.wave;
        Some(Self { waiting: moves.into(), wave, running: 0, as_planned: true })
    }

    /// The next move that may begin; it counts as running from now on. `against` tells whether directives speak against one.
    pub fn begin(
        &mut self,
        policy: &Policy,
        now: Timestamp,
        against: impl Fn(&Move) -> bool,
    ) -> Option<Begun> {
        if self.running == 0 && self.as_planned {
            self.wave = self.waiting.front()?.wave;
        }
        let at_once = usize::try_from(policy.budget.concurrent.max(1)).unwrap_or(usize::MAX);
        if self.running >= at_once {
            return None;
        }
        let wave = self.wave;
        while let Some(order) = self.waiting.pop_front_if(|order| order.wave == wave) {
            let takes = order.predicted.duration;
            let limits = window::limits(&policy.windows, &policy.migration, takes, now);
            if let Some(limits) = limits.filter(|_| !against(&order)) {
                self.running += 1;
                return Some(Begun { order, limits });
            }
            self.as_planned = false;
        }
        None
    }

    /// A move that had begun is over.
    pub fn ended(&mut self, arrived: bool) {
        self.running = self.running.saturating_sub(1);
        self.as_planned &= arrived;
    }

    /// Whether nothing runs. Once nothing can begin either, the plan is over.
    pub const fn rests(&self) -> bool {
        self.running == 0
    }
}
