//! Why a move was made, by the decision's own reckoning.

use sterna_core::plan::{Effect, Move};
use sterna_core::report::Decision;
use sterna_policies::policy::{Level, Metric};

use crate::report::Gain;

/// What a move of a decision's plan gains: the very number that was held against the policy's `min_gain`, with the values before
/// and after as the decision's report has them. `None` where nothing gets better: the move makes room, or mends a rule.
pub fn of_move(decision: &Decision, order: &Move) -> Option<Gain> {
    let report = decision.report.services.iter().find(|one| one.service == order.service)?;
    let (metric, gain) = report.gain.map(|gain| (gain.metric, gain.share))?;
    let options = &report.options;
    let value_on = |node| {
        let option = options.iter().find(|option| &option.node == node)?;
        level(option.effect.as_ref()?, metric)
    };
    let (before, after) = (value_on(&order.from)?, value_on(&order.to)?);
    (gain.as_micros() > 0).then_some(Gain { metric, before, after, gain })
}

fn level(effect: &Effect, metric: Metric) -> Option<Level> {
    match metric {
        Metric::UserLatency => effect.user_latency.map(Level::UserLatency),
        Metric::CostRate => Some(Level::CostRate(effect.cost_rate)),
        Metric::Power => Some(Level::Power(effect.power)),
        Metric::CarbonRate => effect.carbon_rate.map(Level::CarbonRate),
        Metric::CpuUse => None,
    }
}
