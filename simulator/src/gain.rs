//! Why a move was made, read off the decision that made it.

use sterna_core::plan::{Effect, Move};
use sterna_core::report::Decision;
use sterna_policies::policy::{Level, Metric, Objective, Policy};
use sterna_policies::quantity::Percent;

use crate::report::Gain;

/// What a move improves by its decision's own numbers: the first term of the objective that is better for the service where it
/// goes than where it was, all else as it is; failing that, the first that the whole plan improves.
pub fn of_move(decision: &Decision, policy: &Policy, order: &Move) -> Option<Gain> {
    let options = decision.report.services.iter().find(|service| service.service == order.service);
    let effect_on = |node| {
        let options = &options?.options;
        options.iter().find(|option| &option.node == node)?.effect.as_ref()
    };
    let by_itself = effect_on(&order.from).zip(effect_on(&order.to));
    by_itself
        .and_then(|(before, after)| first_better(&policy.objective, before, after))
        .or_else(|| first_better(&policy.objective, &decision.plan.before, &decision.plan.after))
}

fn first_better(objective: &Objective, before: &Effect, after: &Effect) -> Option<Gain> {
    let metrics: Vec<Metric> = match objective {
        Objective::Lexicographic { terms } => terms.iter().map(|term| term.metric).collect(),
        Objective::Priced { terms } => terms.iter().map(|term| term.metric).collect(),
    };
    metrics.into_iter().find_map(|metric| {
        let (before, after) = (level(before, metric)?, level(after, metric)?);
        let difference = before.as_micros().saturating_sub(after.as_micros());
        if difference <= 0 || before.as_micros() <= 0 {
            return None;
        }
        let micros = i128::from(difference) * 100_000_000 / i128::from(before.as_micros());
        Some(Gain {
            metric,
            before,
            after,
            gain: Percent::from_micros(i64::try_from(micros).unwrap_or(i64::MAX)),
        })
    })
}

fn level(effect: &Effect, metric: Metric) -> Option<Level> {
    match metric {
        Metric::UserLatency => effect.user_latency.map(Level::UserLatency),
        Metric::CostRate => Some(Level::CostRate(effect.cost_rate)),
        Metric::Power => Some(Level::Power(effect.power)),
        Metric::CarbonRate => Some(Level::CarbonRate(effect.carbon_rate)),
        Metric::CpuUse => None,
    }
}
