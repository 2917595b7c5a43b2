//! How much may be moved within a time: moves, bytes, downtime of a service; and the circuit breaker, which stops all moves after
//! too many failed.
//!
//! What a migration used counts from its end, for as long as the budget's window is. Migrations that were refused before anything
//! was touched use nothing.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sterna_policies::policy::Policy;
use sterna_policies::quantity::{Millis, Percent};

use crate::continuum::{Continuum, NodeName, ServiceName, SiteName};
use crate::history::{History, Outcome, PastMigration, left};
use crate::plan::MoveCost;
use crate::report::{Hold, Limited};

pub(crate) const HOUR: Millis = Millis::from_micros(3_600_000_000_000);
pub(crate) const DAY: Millis = Millis::from_micros(24 * HOUR.as_micros());

/// What a move takes out of the budgets.
#[derive(Debug, Clone, Copy)]
pub struct Takes<'a> {
    /// The service.
    pub name: &'a ServiceName,
    /// Where from and where to.
    pub ends: (&'a NodeName, &'a NodeName),
    /// What it is predicted to cost.
    pub cost: MoveCost,
}

/// A move that is to be paid for out of the budgets.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// By which its holds are told.
    pub number: usize,
    /// What it takes.
    pub takes: Takes<'a>,
    /// Whether it mends something that is broken: those come first.
    pub mends: bool,
    /// What it gains: of the others those with more come first.
    pub gain: Percent,
}

/// The moves that budgets have nothing left for, and which budgets those are.
pub fn beyond(
    policy: &Policy,
    continuum: &Continuum,
    history: &History,
    under_way: &[Takes<'_>],
    now: Timestamp,
    mut wanted: Vec<Wanted<'_>>,
) -> BTreeMap<usize, Vec<Hold>> {
    wanted.sort_by_key(|it| (!it.mends, std::cmp::Reverse(it.gain), it.number));
    let mut all = moves(policy, history, under_way.len(), now).to_vec();
    let mut bytes = Left::new(Limited::BytesPerDay, policy.budget.bytes_per_day.map(|most| most.0), DAY);
    for past in history.migrations.values().flatten() {
        bytes.spend(past, now, past.bytes.0);
    }
    for takes in under_way {
        bytes.take(now, takes.cost.bytes.0);
    }
    all.push(bytes);
    let mut of_services = BTreeMap::new();
    let mut of_links = BTreeMap::new();
    let mut holds = BTreeMap::new();
    for it in wanted {
        let Takes { name, ends: (from, to), cost } = it.takes;
        let own = of_services.entry(name).or_insert_with(|| of_service(policy, history, name, now));
        let link = link(continuum, from, to);
        let of_link = link.map(|link| {
            of_links.entry(link).or_insert_with(|| of_link(policy, continuum, history, under_way, link, now))
        });
        let needs = |of: Limited| match of {
            Limited::MovesPerHour | Limited::MovesPerDay | Limited::MovesPerServicePerDay => 1,
            Limited::BytesPerDay | Limited::BytesPerLinkPerDay => cost.bytes.0,
            Limited::DowntimePerDay => nanos(cost.downtime),
        };
        let mut left: Vec<&mut Left> = all.iter_mut().chain(own).chain(of_link).collect();
        let lacking: Vec<Hold> = left.iter().filter_map(|left| left.lacks(now, needs(left.of))).collect();
        if lacking.is_empty() {
            left.iter_mut().for_each(|left| left.take(now, needs(left.of)));
        } else {
            holds.insert(it.number, lacking);
        }
    }
    holds
}

/// What is left of a service's own budgets.
fn of_service(policy: &Policy, history: &History, name: &ServiceName, now: Timestamp) -> [Left; 2] {
    let budget = &policy.budget;
    let mut moves =
        Left::new(Limited::MovesPerServicePerDay, budget.moves_per_service_per_day.map(u64::from), DAY);
    let mut downtime = Left::new(Limited::DowntimePerDay, budget.downtime_per_day.map(nanos), DAY);
    for past in history.migrations.get(name).into_iter().flatten() {
        moves.spend(past, now, 1);
        downtime.spend(past, now, nanos(past.downtime));
    }
    [moves, downtime]
}

/// What is left of a link's own budget.
fn of_link(
    policy: &Policy,
    continuum: &Continuum,
    history: &History,
    under_way: &[Takes<'_>],
    between: [&SiteName; 2],
    now: Timestamp,
) -> Left {
    let whole = policy.budget.bytes_per_link_per_day.map(|most| most.0);
    let mut left = Left::new(Limited::BytesPerLinkPerDay, whole, DAY);
    if whole.is_none() {
        return left;
    }
    for past in history.migrations.values().flatten() {
        if link(continuum, &past.from, &past.to) == Some(between) {
            left.spend(past, now, past.bytes.0);
        }
    }
    for takes in under_way {
        if link(continuum, takes.ends.0, takes.ends.1) == Some(between) {
            left.take(now, takes.cost.bytes.0);
        }
    }
    left
}

/// The two sites between which a move goes; a link has no direction.
fn link<'c>(continuum: &'c Continuum, from: &NodeName, to: &NodeName) -> Option<[&'c SiteName; 2]> {
    let site = |node: &NodeName| continuum.nodes.get(node).map(|node| &node.site);
    let (from, to) = (site(from)?, site(to)?);
    (from != to).then(|| if from < to { [from, to] } else { [to, from] })
}

/// The hold of every move where no move at all is left of a budget.
pub fn no_moves_left(policy: &Policy, history: &History, under_way: usize, now: Timestamp) -> Option<Hold> {
    moves(policy, history, under_way, now).iter().find_map(|left| left.lacks(now, 1))
}

fn moves(policy: &Policy, history: &History, under_way: usize, now: Timestamp) -> [Left; 2] {
    let budget = &policy.budget;
    let mut both = [
        Left::new(Limited::MovesPerHour, budget.moves_per_hour.map(u64::from), HOUR),
        Left::new(Limited::MovesPerDay, budget.moves_per_day.map(u64::from), DAY),
    ];
    for left in &mut both {
        for past in history.migrations.values().flatten() {
            left.spend(past, now, 1);
        }
        // They are not in the history yet.
        (0..under_way).for_each(|_| left.take(now, 1));
    }
    both
}

/// A millionth of a millisecond.
fn nanos(time: Millis) -> u64 {
    time.as_micros().unsigned_abs()
}

/// What is left of a budget.
#[derive(Debug, Clone)]
struct Left {
    of: Limited,
    /// `None`: as much as wanted.
    whole: Option<u64>,
    window: Millis,
    /// What was taken, and when. Of the past nothing is noted where there is no limit.
    taken: Vec<(Timestamp, u64)>,
}

impl Left {
    const fn new(of: Limited, whole: Option<u64>, window: Millis) -> Self {
        Self { of, whole, window, taken: Vec::new() }
    }

    fn take(&mut self, at: Timestamp, amount: u64) {
        if amount > 0 {
            self.taken.push((at, amount));
        }
    }

    fn spend(&mut self, past: &PastMigration, now: Timestamp, amount: u64) {
        if self.whole.is_some()
            && past.outcome != Outcome::Refused
            && left(past.ended, self.window, now).is_some()
        {
            self.take(past.ended, amount);
        }
    }

    /// The hold of what needs more than is left, with the time until there is enough.
    fn lacks(&self, now: Timestamp, needs: u64) -> Option<Hold> {
        let whole = self.whole?;
        let mut taken = self.taken.clone();
        taken.sort_unstable();
        let mut all = taken.iter().fold(needs, |sum, (_, amount)| sum.saturating_add(*amount));
        if all <= whole {
            return None;
        }
        let enough = taken.into_iter().find(|(_, amount)| {
            all = all.saturating_sub(*amount);
            all <= whole
        });
        let left = enough.and_then(|(at, _)| left(at, self.window, now));
        Some(Hold::BudgetSpent { budget: self.of, left })
    }
}

/// How long ago migrations may have ended that a policy's budgets, its circuit breaker and its rule about returns still count.
pub fn remembered(policy: &Policy) -> SignedDuration {
    let breaker = policy.breaker.within.saturating_add(policy.breaker.pause);
    let longest = breaker.max(DAY).max(policy.hysteresis.no_return_within);
    SignedDuration::from_nanos(longest.as_micros())
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
    let left = left(opened, breaker.pause, now)?;
    Some(Hold::CircuitOpen { failures: breaker.failures, within: breaker.within, left })
}

fn within(first: Timestamp, last: Timestamp, window: Millis) -> bool {
    last.duration_since(first).as_nanos() <= i128::from(window.as_micros())
}
