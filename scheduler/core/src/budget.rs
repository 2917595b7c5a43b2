//! How much may be moved within a time: moves, bytes, downtime of a service; and the circuit breaker, which stops all moves after
//! too many failed.
//!
//! What a migration used counts from its end, for as long as the budget's window is. Migrations that were refused before anything
//! was touched use nothing.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sterna_policies::policy::Policy;
use sterna_policies::quantity::{Millis, Percent};

use crate::continuum::ServiceName;
use crate::history::{History, Outcome, PastMigration};
use crate::placement::numbers::narrow;
use crate::plan::MoveCost;
use crate::report::{Hold, Limited};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A move that is to be paid for out of the budgets.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Which service, by its number.
    pub service: usize,
    /// Its name.
    pub name: &'a ServiceName,
    /// What it is predicted to cost.
    pub cost: MoveCost,
    /// Whether it mends something that is broken: those come first.
    pub mends: bool,
    /// What it gains: of the others those with more come first.
    pub gain: Percent,
}

/// The moves that budgets have nothing left for, and which budgets those are.
pub fn beyond(
    policy: &Policy,
    history: &History,
    under_way: usize,
    now: Timestamp,
    mut wanted: Vec<Wanted<'_>>,
) -> BTreeMap<usize, Vec<Hold>> {
    let budget = &policy.budget;
    wanted.sort_by_key(|it| (!it.mends, std::cmp::Reverse(it.gain), it.service));
    let mut all = [
        Left::new(Limited::MovesPerHour, budget.moves_per_hour.map(u64::from), HOUR),
        Left::new(Limited::MovesPerDay, budget.moves_per_day.map(u64::from), DAY),
        Left::new(Limited::BytesPerDay, budget.bytes_per_day.map(|most| most.0), DAY),
    ];
    for past in history.migrations.values().flatten() {
        for left in &mut all {
            left.spend(past, now, if left.of == Limited::BytesPerDay { past.bytes.0 } else { 1 });
        }
    }
    // They are not in the history yet.
    for left in all.iter_mut().filter(|left| left.of != Limited::BytesPerDay) {
        left.take(under_way as u64);
    }
    let mut holds = BTreeMap::new();
    for it in wanted {
        let mut own = Left::new(Limited::DowntimePerDay, budget.downtime_per_day.map(nanos), DAY);
        for past in history.migrations.get(it.name).into_iter().flatten() {
            own.spend(past, now, nanos(past.downtime));
        }
        let needs = |of: Limited| match of {
            Limited::MovesPerHour | Limited::MovesPerDay => 1,
            Limited::BytesPerDay => it.cost.bytes.0,
            Limited::DowntimePerDay => nanos(it.cost.downtime),
        };
        let lacking: Vec<Hold> = all
            .iter()
            .chain([&own])
            .filter(|left| left.amount.is_some_and(|amount| amount < needs(left.of)))
            .map(|left| Hold::BudgetSpent { budget: left.of, left: left.until(now) })
            .collect();
        if lacking.is_empty() {
            for left in &mut all {
                left.take(needs(left.of));
            }
        } else {
            holds.insert(it.service, lacking);
        }
    }
    holds
}

/// A millionth of a millisecond.
fn nanos(time: Millis) -> u64 {
    time.as_micros().unsigned_abs()
}

/// What is left of a budget.
struct Left {
    of: Limited,
    /// `None`: as much as wanted.
    amount: Option<u64>,
    window: SignedDuration,
    /// When the first ended of what counts.
    first: Option<Timestamp>,
}

impl Left {
    const fn new(of: Limited, amount: Option<u64>, window: SignedDuration) -> Self {
        Self { of, amount, window, first: None }
    }

    fn take(&mut self, amount: u64) {
        self.amount = self.amount.map(|left| left.saturating_sub(amount));
    }

    fn spend(&mut self, past: &PastMigration, now: Timestamp, amount: u64) {
        if past.outcome == Outcome::Refused || now.duration_since(past.ended) >= self.window {
            return;
        }
        self.take(amount);
        self.first = Some(self.first.map_or(past.ended, |first| first.min(past.ended)));
    }

    /// Until something is left again.
    fn until(&self, now: Timestamp) -> Millis {
        let gone = self.first.map_or(SignedDuration::ZERO, |first| now.duration_since(first));
        span(self.window.saturating_sub(gone))
    }
}

fn span(time: SignedDuration) -> Millis {
    Millis::from_micros(narrow(time.as_nanos().max(0)))
}

/// Whether the circuit breaker is open: too many migrations were undone, too close to each other, not long enough ago.
pub fn broken_circuit(policy: &Policy, history: &History, now: Timestamp) -> Option<Hold> {
    let breaker = policy.breaker;
    let failures = usize::try_from(breaker.failures).ok().filter(|failures| *failures > 0)?;
    let mut failed: Vec<Timestamp> = history
        .migrations
        .values()
        .flatten()
        .filter(|past| past.outcome == Outcome::RolledBack)
        .map(|past| past.ended)
        .collect();
    failed.sort_unstable();
    // The last time that so many ended within the window.
    let opened = failed
        .windows(failures)
        .filter(|ends| within(ends[0], ends[failures - 1], breaker.within))
        .map(|ends| ends[failures - 1])
        .next_back()?;
    let left = i128::from(breaker.pause.as_micros()) - now.duration_since(opened).as_nanos();
    (left > 0).then(|| Hold::CircuitOpen {
        failures: breaker.failures,
        within: breaker.within,
        left: Millis::from_micros(narrow(left)),
    })
}

fn within(first: Timestamp, last: Timestamp, window: Millis) -> bool {
    last.duration_since(first).as_nanos() <= i128::from(window.as_micros())
}
