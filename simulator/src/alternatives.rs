//! Where else a service could have gone when it was moved, and what spoke against each place.

use std::cmp::Ordering;

use sterna_core::plan::{Effect, Move};
use sterna_core::report::{Decision, NodeOption};
use sterna_policies::policy::{Level, Metric, Objective, Policy, Term, Tolerance};
use sterna_policies::quantity::{GramsPerHour, Millis, UsdPerHour};

use crate::report::{Against, Alternative, Choice};

const MICRO: i128 = 1_000_000;
/// A whole, in millionths of a percent.
const WHOLE: i128 = 100_000_000;
/// So many places are told beside the one that a move went to.
const TOLD: usize = 6;

/// What a move was chosen from, by the options that its decision saw: the place it left first, then the best by the policy's
/// objective, those that a rule excludes last.
pub fn of_move(decision: &Decision, policy: &Policy, order: &Move) -> Choice {
    let report = decision.report.services.iter().find(|one| one.service == order.service);
    let options = report.map(|report| report.options.as_slice()).unwrap_or_default();
    let taken = options.iter().find(|option| option.node == order.to).and_then(|option| option.effect);
    let mut others: Vec<&NodeOption> = options.iter().filter(|option| option.node != order.to).collect();
    others.sort_by(|a, b| {
        let rank = |option: &NodeOption| (option.node != order.from, !option.excluded_by.is_empty());
        let worth = || match (&a.effect, &b.effect) {
            (Some(a), Some(b)) => compare(&policy.objective, a, b),
            // Without a value it is not known to be good.
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        rank(a).cmp(&rank(b)).then_with(worth).then_with(|| a.node.cmp(&b.node))
    });
    let untold = others.len().saturating_sub(TOLD);
    let told = |option: &&NodeOption| Alternative {
        node: option.node.clone(),
        effect: option.effect,
        against: against(policy, option, taken.as_ref()),
    };
    Choice { taken, others: others.iter().take(TOLD).map(told).collect(), untold }
}

/// A rule, where one excludes the place; else the number in which it would have been worse.
fn against(policy: &Policy, option: &NodeOption, taken: Option<&Effect>) -> Against {
    if !option.excluded_by.is_empty() {
        return Against::Rules { rules: option.excluded_by.clone() };
    }
    let (Some(there), Some(taken)) = (&option.effect, taken) else { return Against::Unknown };
    match &policy.objective {
        Objective::Lexicographic { terms } => {
            let worse = |slack: bool| {
                for term in terms {
                    let (there, taken) = (counted(term, there), counted(term, taken));
                    let tolerance = if slack { tolerance(term, there.min(taken)) } else { 0 };
                    if (there - taken).abs() > tolerance {
                        return Some((term.metric, there - taken));
                    }
                }
                None
            };
            match worse(true).or_else(|| worse(false)) {
                Some((metric, by)) if by > 0 => Against::Worse { metric, by: Level::new(metric, narrow(by)) },
                Some(_) => Against::Together,
                None => Against::Equal,
            }
        }
        Objective::Priced { .. } => {
            let by = money(&policy.objective, there) - money(&policy.objective, taken);
            match by.cmp(&0) {
                Ordering::Greater => Against::Dearer { by: UsdPerHour::from_micros(narrow(by)) },
                Ordering::Less => Against::Together,
                Ordering::Equal => Against::Equal,
            }
        }
    }
}

/// Which of two is better by an objective, without its tolerances.
fn compare(objective: &Objective, a: &Effect, b: &Effect) -> Ordering {
    match objective {
        Objective::Lexicographic { terms } => terms
            .iter()
            .map(|term| counted(term, a).cmp(&counted(term, b)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal),
        Objective::Priced { .. } => money(objective, a).cmp(&money(objective, b)),
    }
}

/// What counts of a value: what is below the level that satisfies is as good as that level.
fn counted(term: &Term, effect: &Effect) -> i128 {
    let value = i128::from(value(effect, term.metric));
    term.satisfied_at.map_or(value, |level| value.max(level.as_micros().into()))
}

fn tolerance(term: &Term, best: i128) -> i128 {
    match term.tolerance {
        Tolerance::Absolute(level) => level.as_micros().into(),
        Tolerance::Relative(share) => best.abs().saturating_mul(share.as_micros().into()) / WHOLE,
    }
}

/// All terms of a priced objective, in millionths of USD/h.
fn money(objective: &Objective, effect: &Effect) -> i128 {
    let Objective::Priced { terms } = objective else { return 0 };
    let of = |metric, price: UsdPerHour| i128::from(value(effect, metric)) * i128::from(price.as_micros());
    terms.iter().map(|term| of(term.metric, term.price) / MICRO).sum()
}

/// Millionths. A service that nobody asks for keeps nobody waiting; carbon that is not known is one of no objective.
fn value(effect: &Effect, metric: Metric) -> i64 {
    match metric {
        Metric::UserLatency => effect.user_latency.map_or(0, Millis::as_micros),
        Metric::CostRate => effect.cost_rate.as_micros(),
        Metric::Power => effect.power.as_micros(),
        Metric::CarbonRate => effect.carbon_rate.map_or(0, GramsPerHour::as_micros),
        Metric::CpuUse => 0,
    }
}

fn narrow(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sterna_core::report::Exclusion;

    fn policy(objective: &str) -> Policy {
        let text = format!("schema_version = 1\nname = \"one\"\nmode = \"auto\"\n{objective}");
        sterna_policies::load::policy("one.toml", &text).unwrap().value
    }

    fn latency_then_cost() -> Policy {
        policy(
            "[[objective.term]]\nmetric = \"user_latency\"\nsatisfied_at = \"10ms\"\ntolerance = \"1ms\"\n\
             [[objective.term]]\nmetric = \"cost_rate\"\n",
        )
    }

    fn option(node: &str, latency: &str, cost: &str, excluded_by: &[Exclusion]) -> NodeOption {
        let effect = Effect {
            user_latency: Some(latency.parse().unwrap()),
            cost_rate: cost.parse().unwrap(),
            ..Effect::default()
        };
        NodeOption {
            node: node.into(),
            effect: Some(effect),
            modelled: Vec::new(),
            excluded_by: excluded_by.to_vec(),
        }
    }

    fn told(policy: &Policy, option: &NodeOption, taken: &NodeOption) -> String {
        against(policy, option, taken.effect.as_ref()).to_string()
    }

    #[test]
    fn the_first_term_that_is_worse_beyond_its_tolerance_speaks_against_a_place() {
        let policy = latency_then_cost();
        let taken = option("a", "4ms", "0.10USD/h", &[]);
        let told = |latency, cost| told(&policy, &option("b", latency, cost, &[]), &taken);
        // What satisfies counts as 10 ms.
        assert_eq!(told("45ms", "0.02USD/h"), "user_latency 35ms more");
        assert_eq!(told("8ms", "0.12USD/h"), "cost_rate 0.02USD/h more");
        // Within the tolerance, so that the next term decides.
        assert_eq!(told("10.5ms", "0.12USD/h"), "cost_rate 0.02USD/h more");
        assert_eq!(told("10.5ms", "0.10USD/h"), "user_latency 0.5ms more");
        assert_eq!(told("9ms", "0.10USD/h"), "as good");
        assert!(told("9ms", "0.02USD/h").starts_with("better by itself"));
    }

    #[test]
    fn a_rule_speaks_before_any_number_and_a_missing_number_is_not_zero() {
        let policy = latency_then_cost();
        let taken = option("a", "4ms", "0.10USD/h", &[]);
        let excluded = option("b", "45ms", "0.02USD/h", &[Exclusion::Tier, Exclusion::Capacity]);
        assert_eq!(told(&policy, &excluded, &taken), "tier not allowed; not enough room");
        let unknown = NodeOption { effect: None, ..option("b", "1ms", "0USD/h", &[]) };
        assert_eq!(told(&policy, &unknown, &taken), "a number that the policy needs is missing there");
    }

    #[test]
    fn under_prices_money_speaks_against_a_place() {
        let policy = policy(
            "[objective]\nmethod = \"priced\"\n[[objective.term]]\nmetric = \"user_latency\"\nprice = \"0.01USD/h\"\n\
             [[objective.term]]\nmetric = \"cost_rate\"\nprice = \"1USD/h\"\n",
        );
        let taken = option("a", "4ms", "0.10USD/h", &[]);
        assert_eq!(
            told(&policy, &option("b", "14ms", "0.05USD/h", &[]), &taken),
            "0.05USD/h dearer, all in all"
        );
    }
}
