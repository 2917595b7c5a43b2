//! One case decided by the production decision, and what is not as expected.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sterna_core::continuum::{NodeName, ServiceName};
use sterna_core::observation::Observation;
use sterna_core::report::{Decision, Exclusion, Hold, Verdict};
use sterna_policies::policy::Policy;

use super::{Case, Expected, Outlook};
use crate::replay;

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// The case's name.
    pub name: String,
    /// What is not as expected, a sentence each; nothing where all is.
    pub failures: Vec<String>,
    /// What was decided.
    pub decision: Decision,
}

/// Decides a case.
pub fn try_case(case: &Case, policy: &Policy, seed: u64) -> Trial {
    let observation = case.observe(policy);
    let mut history = case.history.clone();
    for at in case.earlier(policy) {
        let earlier = Observation { at, ..observation.clone() };
        history.standing = replay::step(&earlier, policy, &history, at, seed).standing;
    }
    let decision = replay::step(&observation, policy, &history, case.at, seed);
    Trial { name: case.name.clone(), failures: failures(&case.expected, &decision), decision }
}

fn failures(expected: &Expected, decision: &Decision) -> Vec<String> {
    let mut failures = Vec::new();
    let came = match &decision.report.verdict {
        Verdict::Move => Outlook::Move,
        Verdict::Stay => Outlook::Stay,
        Verdict::Held { .. } => Outlook::Held,
    };
    if let Some(wanted) = expected.outlook.filter(|wanted| *wanted != came) {
        failures.push(format!("expected the verdict `{}`, came `{}`", word(wanted), word(came)));
    }
    if let Some(wanted) = &expected.moves {
        let made = ends(decision);
        if *wanted != made {
            failures.push(format!("expected to be moved: {}; moved: {}", listed(wanted), listed(&made)));
        }
    }
    for (service, wanted) in &expected.held {
        let holds = holds(decision, service);
        let names: BTreeSet<String> = holds.iter().map(|hold| tag(hold, "hold")).collect();
        for rule in wanted.difference(&names) {
            failures
                .push(format!("expected `{service}` to be held by `{rule}`; {}", or_none(&names, "held by")));
        }
    }
    for ((service, node), wanted) in &expected.excluded {
        let names: BTreeSet<String> =
            exclusions(decision, service, node).iter().map(|rule| tag(rule, "exclusion")).collect();
        for rule in wanted.difference(&names) {
            failures.push(format!(
                "expected `{rule}` to exclude `{node}` for `{service}`; {}",
                or_none(&names, "excluded by")
            ));
        }
    }
    failures
}

const fn word(outlook: Outlook) -> &'static str {
    match outlook {
        Outlook::Move => "move",
        Outlook::Stay => "stay",
        Outlook::Held => "held",
    }
}

/// Where each service that is moved ends up.
fn ends(decision: &Decision) -> BTreeMap<ServiceName, NodeName> {
    let moves = decision.plan.moves.iter().filter(|one| !one.parks);
    moves.map(|one| (one.service.clone(), one.to.clone())).collect()
}

/// What holds a service, and what holds the whole decision: a rule that no service names.
fn holds<'a>(decision: &'a Decision, service: &ServiceName) -> Vec<&'a Hold> {
    let services = &decision.report.services;
    let own = services.iter().filter(|report| report.service == *service).flat_map(|report| &report.held_by);
    let of_all = match &decision.report.verdict {
        Verdict::Held { by } => by.as_slice(),
        Verdict::Move | Verdict::Stay => &[],
    };
    let named = |hold: &&Hold| !services.iter().any(|report| report.held_by.contains(hold));
    own.chain(of_all.iter().filter(named)).collect()
}

fn exclusions(decision: &Decision, service: &ServiceName, node: &NodeName) -> Vec<Exclusion> {
    let report = decision.report.services.iter().find(|report| report.service == *service);
    let options = report.map(|report| report.options.as_slice()).unwrap_or_default();
    options
        .iter()
        .find(|option| option.node == *node)
        .map(|option| option.excluded_by.clone())
        .unwrap_or_default()
}

/// The name under which a rule stands in reports.
fn tag(rule: &impl Serialize, key: &str) -> String {
    let value = serde_json::to_value(rule).unwrap_or_default();
    value.get(key).and_then(|name| name.as_str()).unwrap_or_default().to_owned()
}

fn listed(moves: &BTreeMap<ServiceName, NodeName>) -> String {
    if moves.is_empty() {
        return "nothing".to_owned();
    }
    let each: Vec<String> = moves.iter().map(|(service, node)| format!("`{service}` to `{node}`")).collect();
    each.join(", ")
}

fn or_none(names: &BTreeSet<String>, by: &str) -> String {
    if names.is_empty() {
        return format!("{by} nothing");
    }
    let each: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("{by} {}", each.join(", "))
}
