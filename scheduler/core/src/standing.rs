//! What lasts from one decision to the next: values that are too high, places that would be better, and what staying has cost.
//!
//! A decision is a function of its arguments, so what it has to remember goes out with it, is recorded, and comes in with the
//! next one's history. What was seen too long ago is forgotten: nobody knows what was in between.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sterna_policies::policy::{Condition, Level, Metric, Objective, Policy};
use sterna_policies::quantity::{Millis, Percent};

use crate::continuum::{NodeName, ServiceName};
use crate::history::left;
use crate::placement::evaluate::Evaluator;
use crate::placement::numbers::narrow;
use crate::report::{Gain, Hold};

const MICRO: i128 = 1_000_000;
/// A hundred percent in millionths of a percent.
const WHOLE: i128 = 100 * MICRO;
/// So many looks may fail before what lasted is forgotten, or this time, if it is longer.
const LOOKS: i64 = 3;
const FORGOTTEN: Millis = Millis::from_micros(300_000_000_000);

/// What lasted, as a decision saw it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Standing {
    /// When that was; `None` where nothing is to be remembered.
    pub at: Option<Timestamp>,
    /// By service.
    pub services: BTreeMap<ServiceName, Lasting>,
}

/// What lasts for one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lasting {
    /// Where it runs.
    pub on: NodeName,
    /// When all was last known that this is about.
    pub seen: Timestamp,
    /// The conditions of the policy's trigger that hold for it.
    pub above: Vec<Above>,
    /// Where it would be better.
    pub better: Option<Better>,
}

/// A condition that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Above {
    /// Of what.
    pub metric: Metric,
    /// It is above this.
    pub above: Level,
    /// At every look since then.
    pub since: Timestamp,
}

/// A place that would be better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Better {
    /// The place that was best at last.
    pub to: NodeName,
    /// At every look since then there was one; `None` where there is none any more.
    pub since: Option<Timestamp>,
    /// What it would gain in.
    pub metric: Metric,
    /// Whether the numbers are the money of a priced objective, whatever the metric.
    pub money: bool,
    /// By so much, in millionths of the metric's unit, or of the money of a priced objective; less than nothing where it is better
    /// to stay.
    pub rate: i64,
    /// What staying has cost so far: that, for so many milliseconds.
    pub regret: i64,
}

impl Standing {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.at.is_none()
    }

    /// What lasts at a decision, as far as the policy's conditions go; [`Standing::note`] and [`Standing::settle`] add the rest.
    pub fn begin(before: &Self, evaluator: &Evaluator<'_>, policy: &Policy, now: Timestamp) -> Self {
        let hysteresis = &policy.hysteresis;
        let asked = policy.trigger.any.is_some()
            || hysteresis.gain_lasts > Millis::ZERO
            || hysteresis.regret > Percent::ZERO;
        if !asked {
            return Self::default();
        }
        let services = evaluator.services.iter().enumerate();
        let ours = services.filter(|(_, (name, about))| {
            policy.select.has_service(name.as_str(), &about.labels) && !about.pinned
        });
        let services = ours.map(|(service, (name, _))| {
            let on = evaluator.nodes[evaluator.now[service]].0;
            let last = before.last(name, on, policy, now);
            let mut seen = now;
            let above = policy.trigger.any.iter().flatten().filter_map(|condition| {
                let since = last.and_then(|last| last.since(condition));
                let (metric, above) = (condition.metric, condition.above);
                let known = evaluator.value(service, evaluator.now[service], metric);
                let known =
                    known.filter(|_| !evaluator.missing(service, evaluator.now[service]).contains(&metric));
                match (known, last) {
                    (Some(value), _) => (value > above.as_micros()).then(|| Above {
                        metric,
                        above,
                        since: since.unwrap_or(now),
                    }),
                    // Not to know it for a moment ends nothing, and begins nothing.
                    (None, Some(last)) => {
                        seen = last.seen;
                        since.map(|since| Above { metric, above, since })
                    }
                    (None, None) => None,
                }
            });
            let above = above.collect();
            ((*name).clone(), Lasting { on: on.clone(), seen, above, better: None })
        });
        Self { at: Some(now), services: services.collect() }
    }

    /// What lasted for a service, if it still runs there and not too much time has passed.
    fn last(&self, name: &ServiceName, on: &NodeName, policy: &Policy, now: Timestamp) -> Option<&Lasting> {
        let looks = Millis::from_micros(policy.trigger.interval.as_micros().saturating_mul(LOOKS));
        self.at.filter(|at| *at <= now)?;
        let last = self.services.get(name).filter(|last| last.on == *on)?;
        left(last.seen, looks.max(FORGOTTEN), now)?;
        Some(last)
    }

    /// Notes the services that would be better elsewhere, by what they would gain.
    pub fn note(
        &mut self,
        before: &Self,
        evaluator: &Evaluator<'_>,
        policy: &Policy,
        target: &[usize],
        gains: &BTreeMap<usize, Gain>,
    ) {
        let Some(now) = self.at else { return };
        let money = matches!(policy.objective, Objective::Priced { .. });
        for (service, gain) in gains {
            let rate = gain.now.as_micros().saturating_sub(gain.then.as_micros());
            let (name, here) = (evaluator.services[*service].0, evaluator.nodes[evaluator.now[*service]].0);
            let last = before.last(name, here, policy, now).and_then(|last| last.better.as_ref());
            let Some(lasting) = self.services.get_mut(name).filter(|it| it.better.is_none() && rate > 0)
            else {
                continue;
            };
            let same = last.filter(|last| last.money == money && (money || last.metric == gain.metric));
            lasting.better = Some(Better {
                to: evaluator.nodes[target[*service]].0.clone(),
                since: Some(last.and_then(|last| last.since).unwrap_or(now)),
                metric: gain.metric,
                money,
                rate,
                regret: same.map_or(0, |last| before.grown(last, now)),
            });
        }
    }

    /// Carries on what staying has cost those that were not noted: it melts while it is better to stay. Where nothing could be
    /// placed at all, nobody knows, so it stays as it was.
    pub fn settle(&mut self, before: &Self, evaluator: &Evaluator<'_>, policy: &Policy, placed: bool) {
        let Some(now) = self.at else { return };
        let money = matches!(policy.objective, Objective::Priced { .. });
        for (service, (name, _)) in evaluator.services.iter().enumerate() {
            let here = evaluator.nodes[evaluator.now[service]].0;
            let last = before.last(name, here, policy, now);
            let (Some(last), Some(lasting)) = (last, self.services.get_mut(*name)) else { continue };
            if !placed {
                lasting.seen = last.seen;
                lasting.better.clone_from(&last.better);
                continue;
            }
            let Some(last) = &last.better else { continue };
            let regret = before.grown(last, now);
            if lasting.better.is_none() && regret > 0 && last.money == money {
                let rate = difference(evaluator, policy, service, last);
                lasting.better = Some(Better { since: None, rate, regret, ..last.clone() });
            }
        }
        self.services.retain(|_, lasting| !lasting.above.is_empty() || lasting.better.is_some());
    }

    /// What staying has cost until now.
    fn grown(&self, last: &Better, now: Timestamp) -> i64 {
        let passed = self.at.map_or(0, |at| now.duration_since(at).as_nanos());
        narrow((i128::from(last.regret) + i128::from(last.rate).saturating_mul(passed) / MICRO).max(0))
    }

    /// What holds a service that would move for a gain.
    pub fn holds(
        &self,
        policy: &Policy,
        name: &ServiceName,
        gain: Option<&Gain>,
        returns: bool,
    ) -> Vec<Hold> {
        let Some(now) = self.at else { return Vec::new() };
        let lasting = self.services.get(name);
        let better = lasting.and_then(|lasting| lasting.better.as_ref());
        let mut holds = Vec::new();
        if let Some(any) = &policy.trigger.any {
            let wait = any.iter().map(|condition| {
                let since = lasting.and_then(|lasting| lasting.since(condition))?;
                Some(left(since, condition.lasts, now).unwrap_or_default())
            });
            match wait.flatten().min() {
                Some(Millis::ZERO) => {}
                left => holds.push(Hold::Untriggered { left }),
            }
        }
        let gain_lasts = policy.hysteresis.gain_lasts;
        let since = better.and_then(|better| better.since).unwrap_or(now);
        if let Some(left) = left(since, gain_lasts, now) {
            holds.push(Hold::GainTooNew { left });
        }
        let wanted = policy.hysteresis.regret;
        if let (true, Some(gain)) = (wanted > Percent::ZERO, gain) {
            let times = if returns { 2 } else { 1 };
            let cost = outlay(gain).saturating_mul(times);
            // At the look that is nearest: half of what the time until the next will cost counts already.
            let soon = i128::from(policy.trigger.interval.as_micros()) / 2;
            let soon = |better: &Better| i128::from(better.rate.max(0)).saturating_mul(soon) / MICRO;
            let regret = better.map_or(0, |better| i128::from(better.regret));
            let near = regret + better.map_or(0, soon);
            let share = |regret: i128| match cost {
                cost if cost > 0 => Percent::from_micros(narrow(regret.saturating_mul(WHOLE) / cost)),
                _ => Percent::from_micros(i64::MAX),
            };
            if share(near) < wanted {
                holds.push(Hold::RegretTooSmall { metric: gain.metric, regret: share(regret), wanted });
            }
        }
        holds
    }
}

impl Lasting {
    fn since(&self, condition: &Condition) -> Option<Timestamp> {
        let same = |above: &&Above| above.metric == condition.metric && above.above == condition.above;
        self.above.iter().find(same).map(|above| above.since)
    }
}

/// What a move costs, in the unit of [`Better::regret`].
fn outlay(gain: &Gain) -> i128 {
    let better = i128::from(gain.now.as_micros()) - i128::from(gain.then.as_micros());
    let payback = gain.payback.map_or(0, |payback| i128::from(payback.as_micros()));
    payback.saturating_mul(better) / MICRO
}

/// By how much a service would be better where it would have been better before, as things are now.
fn difference(evaluator: &Evaluator<'_>, policy: &Policy, service: usize, last: &Better) -> i64 {
    let Some(to) = evaluator.node(&last.to) else { return 0 };
    let of = |metric: Metric| -> Option<i128> {
        let here = evaluator.value(service, evaluator.now[service], metric)?;
        Some(i128::from(here) - i128::from(evaluator.value(service, to, metric)?))
    };
    let difference = match &policy.objective {
        Objective::Lexicographic { .. } => of(last.metric),
        Objective::Priced { terms } => {
            let money = |metric: Metric, price: i64| {
                of(metric).map(|difference| difference.saturating_mul(price.into()) / MICRO)
            };
            terms.iter().map(|term| money(term.metric, term.price.as_micros())).sum()
        }
    };
    difference.map_or(0, narrow)
}
