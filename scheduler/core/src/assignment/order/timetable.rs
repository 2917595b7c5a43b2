//! When each step starts and ends.

use std::collections::{BTreeMap, BTreeSet};

use super::{Step, one_by_one};
use crate::assignment::model::Model;
use crate::assignment::problem::Problem;
use crate::assignment::state::State;
use crate::assignment::validity::Invalid;

/// How many steps may be under way at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub total: u32,
    /// From or to one bin.
    pub bin: u32,
}

/// A step with its times, counted from the start of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed {
    /// The step.
    pub step: Step,
    /// When it starts.
    pub start: i64,
    /// When it has ended.
    pub end: i64,
}

/// What it takes at least, however it is ordered: the longest of what one bin, or all together, have to do.
pub fn least(steps: &[Step], limits: Limits, length: impl Fn(&Step) -> i64) -> i64 {
    let (mut bins, mut total, mut longest) = (BTreeMap::new(), 0i64, 0);
    for step in steps {
        let length = length(step).max(0);
        for bin in [step.from, step.to] {
            let all = bins.entry(bin).or_insert(0i64);
            *all = all.saturating_add(length);
        }
        total = total.saturating_add(length);
        longest = longest.max(length);
    }
    let share = |sum: i64, limit: u32| (sum as u64).div_ceil(u64::from(limit.max(1))) as i64;
    bins.into_values()
        .map(|sum| share(sum, limits.bin))
        .chain([share(total, limits.total), longest])
        .max()
        .unwrap_or(0)
}

/// Starts each step as soon as the limits, its bin's room and the steps before it allow. A step overtakes those that wait
/// only if it has nothing to do with their bins and rules, so that what an order promised holds at every instant.
///
/// # Errors
/// What is wrong with the model.
pub fn timetable(
    model: &Model,
    steps: &[Step],
    limits: Limits,
    length: impl Fn(&Step) -> i64,
) -> Result<Vec<Timed>, Invalid> {
    Ok(timetable_in(&one_by_one(model)?, steps, limits, length))
}

/// The same of a model that is [laid out](one_by_one) already.
pub(crate) fn timetable_in(
    problem: &Problem,
    steps: &[Step],
    limits: Limits,
    length: impl Fn(&Step) -> i64,
) -> Vec<Timed> {
    let mut state = State::new(problem, &problem.now);
    let mut waiting: Vec<Step> = steps.to_vec();
    let mut under_way: Vec<Timed> = Vec::new();
    let mut ended = Vec::new();
    let mut now = 0;
    while !waiting.is_empty() || !under_way.is_empty() {
        let mut passed: Vec<Step> = Vec::new();
        let mut bins = BTreeSet::new();
        let mut at = 0;
        while at < waiting.len() {
            let step = waiting[at];
            let apart = |other: &Step| {
                !state.entangled(step.item as usize, other.item as usize) && step.item != other.item
            };
            let overtakes =
                !bins.contains(&step.from) && !bins.contains(&step.to) && passed.iter().all(apart);
            let alone = under_way.iter().all(|other| apart(&other.step));
            if overtakes && alone && within(&under_way, step, limits) && has_room(&state, &under_way, step) {
                let length = length(&step).max(0);
                under_way.push(Timed { step, start: now, end: now + length });
                waiting.remove(at);
            } else {
                bins.extend([step.from, step.to]);
                passed.push(step);
                at += 1;
            }
        }
        let Some(next) = under_way.iter().map(|timed| timed.end).min() else { break };
        now = next;
        under_way.retain(|timed| {
            let over = timed.end <= now;
            if over {
                state.go(timed.step.item as usize, timed.step.to);
                ended.push(*timed);
            }
            !over
        });
    }
    ended.sort_by_key(|timed| (timed.start, timed.end, timed.step.item));
    ended
}

fn within(under_way: &[Timed], step: Step, limits: Limits) -> bool {
    let busy = |bin: u32| {
        under_way.iter().filter(|timed| timed.step.from == bin || timed.step.to == bin).count()
            < limits.bin.max(1) as usize
    };
    under_way.len() < limits.total.max(1) as usize && busy(step.from) && busy(step.to)
}

/// Whether a bin has room beside what is on its way to it.
fn has_room(state: &State<'_>, under_way: &[Timed], step: Step) -> bool {
    let problem = state.problem();
    let mut slack = state.slack(step.to as usize).to_vec();
    for timed in under_way.iter().filter(|timed| timed.step.to == step.to) {
        slack.iter_mut().zip(problem.uses(timed.step.item as usize)).for_each(|(slack, uses)| *slack -= uses);
    }
    problem.uses(step.item as usize).iter().zip(slack).all(|(uses, slack)| *uses <= slack || *uses == 0)
}
