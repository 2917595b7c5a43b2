//! Why a service is not on a node: the rules that keep it from there, what its going would change, and what would make it possible.
//!
//! Rules that look at one service are the policy's, what holds it is what the decision said; room, and what another service could
//! do about it, are asked of the assignment problem.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use sterna_policies::policy::Policy;
use sterna_policies::quantity::{Bytes, Cores};
use thiserror::Error;

use crate::assignment::explain::{Blocker, Difference, Unknown, Why};
use crate::assignment::problem::Problem;
use crate::assignment::state::State;
use crate::assignment::validity::Invalid;
use crate::continuum::{NodeName, ServiceName};
use crate::explain::{effects, lined_up};
use crate::observation::Observation;
use crate::placement::evaluate::Evaluator;
use crate::placement::exclude::Rules;
use crate::placement::model;
use crate::placement::room::Room;
use crate::plan::Effect;
use crate::report::{Decision, Exclusion, Hold};

/// A question that has no answer.
#[derive(Debug, Error)]
pub enum NoAnswer {
    /// There is no such node.
    #[error("the continuum has no node `{0}`")]
    Node(NodeName),
    /// It was not found on any node.
    #[error("service `{0}` was not found on any node that answers")]
    Service(ServiceName),
    /// The problem can't be posed.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The problem is not about it.
    #[error(transparent)]
    Unknown(#[from] Unknown),
}

/// Why a service is not on a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhyNot {
    /// The service.
    pub service: ServiceName,
    /// Where it is once the plan is carried out.
    pub on: NodeName,
    /// Where it is not.
    pub node: NodeName,
    /// Whether the policy is about the service.
    pub selected: bool,
    /// What holds it where it is.
    pub held_by: Vec<Hold>,
    /// Rules that keep it from there.
    pub excluded_by: Vec<Exclusion>,
    /// What the node has too little of, beside all that is there after the plan.
    pub lacks: Vec<Lack>,
    /// What the policy minimises, the most important first, as far as it would change; nothing where rules keep it from there.
    pub changes: Vec<Change>,
    /// What all services come to after the plan.
    pub planned: Effect,
    /// What they would come to with the service there.
    pub there: Effect,
    /// One other service that could make it possible, where it is only room that is lacking.
    pub way: Option<Way>,
}

/// What a node has too little of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lack {
    /// Processor.
    Processor(Cores),
    /// Memory.
    Memory(Bytes),
}

/// Something that the policy minimises, and that would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What.
    pub objective: String,
    /// Whether it would come to more, which is worse.
    pub worse: bool,
}

/// Another service that goes as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Way {
    /// Which.
    pub service: ServiceName,
    /// Where to.
    pub to: NodeName,
    /// What all services would come to then.
    pub effect: Effect,
}

/// Why a service is not on a node once a plan is carried out.
///
/// # Errors
/// When there is no such node or the service runs nowhere.
pub fn not(
    observation: &Observation,
    policy: &Policy,
    decision: &Decision,
    service: &ServiceName,
    node: &NodeName,
) -> Result<WhyNot, NoAnswer> {
    let evaluator = Evaluator::new(observation, policy);
    let to = evaluator.node(node).ok_or_else(|| NoAnswer::Node(node.clone()))?;
    let of = evaluator.service(service).ok_or_else(|| NoAnswer::Service(service.clone()))?;
    let (rules, room) = (Rules::new(observation, policy, &evaluator), Room::new(&evaluator, policy));
    let planned: Vec<usize> = evaluator
        .services
        .iter()
        .zip(&evaluator.now)
        .map(|((name, _), now)| {
            decision.plan.placement.get(name).and_then(|node| evaluator.node(node)).unwrap_or(*now)
        })
        .collect();
    let with = |moves: &[(usize, usize)]| {
        let mut placed = planned.clone();
        for (service, to) in moves {
            placed[*service] = *to;
        }
        evaluator.effect(&placed)
    };
    let movable =
        (0..evaluator.services.len()).filter(|service| rules.may_move(*service) == Ok(true)).collect();
    let model = model::model(&evaluator, &rules, &room, policy, &movable, &BTreeSet::new());
    let problem = Problem::new(&model)?;
    let mut at = problem.now.clone();
    for (at, node) in at.iter_mut().zip(&planned) {
        *at = *node as u32;
    }
    let state = State::new(&problem, &at);
    let answer = Why::new(&model, &state).not(of as u32, to as u32)?;
    let lack = |blocker: &Blocker| match blocker {
        Blocker::Room { dimension, lacks } if dimension.number == 0 => {
            Some(Lack::Processor(Cores::from_micros(*lacks)))
        }
        Blocker::Room { lacks, .. } => Some(Lack::Memory(Bytes(lacks.unsigned_abs()))),
        _ => None,
    };
    let excluded_by = rules.exclusions(of, to);
    let excluded_by =
        excluded_by.into_iter().chain(answer.blockers.iter().filter_map(|blocker| match blocker {
            Blocker::Rule { rule, .. } => rules.spreads.rule(rule.number as usize),
            _ => None,
        }));
    let excluded_by = excluded_by.collect();
    // The problem gives no worth to places that rules exclude.
    let worth = if answer.blockers.contains(&Blocker::List) { Vec::new() } else { answer.differences };
    let change = |one: &Difference| {
        // Of equal numbers of moves that one is taken whose nodes come first by name, which says nothing of moves.
        (one.sum != 0 && one.objective.name != model::MOVES)
            .then(|| Change { objective: one.objective.name.clone(), worse: one.sum > 0 })
    };
    let held = decision.report.services.iter().find(|report| report.service == *service);
    let way = answer.way.map(|way| {
        let (other, goes) = (way.other.number as usize, way.to.number as usize);
        Way {
            service: evaluator.services[other].0.clone(),
            to: evaluator.nodes[goes].0.clone(),
            effect: with(&[(of, to), (other, goes)]),
        }
    });
    Ok(WhyNot {
        service: service.clone(),
        on: evaluator.nodes[planned[of]].0.clone(),
        node: node.clone(),
        selected: policy.select.has_service(service.as_str(), &evaluator.services[of].1.labels),
        held_by: held.map_or_else(Vec::new, |report| report.held_by.clone()),
        excluded_by,
        lacks: answer.blockers.iter().filter_map(lack).collect(),
        changes: worth.iter().filter_map(change).collect(),
        planned: with(&[]),
        there: with(&[(of, to)]),
        way,
    })
}

/// Lines of plain characters.
impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, on, node, .. } = self;
        if on == node {
            return writeln!(f, "{service} is on {node} after this plan");
        }
        writeln!(f, "why {service} is on {on} and not on {node}:")?;
        if !self.selected {
            writeln!(f, "  the policy does not select {service}")?;
        }
        for hold in &self.held_by {
            writeln!(f, "  held: {hold}")?;
        }
        for rule in &self.excluded_by {
            writeln!(f, "  excluded: {rule}")?;
        }
        for lack in &self.lacks {
            match lack {
                Lack::Processor(cores) => {
                    writeln!(f, "  {node} lacks {cores} of processor beside what is there then")?
                }
                Lack::Memory(bytes) => {
                    writeln!(f, "  {node} lacks {bytes} of memory beside what is there then")?
                }
            }
        }
        for (at, change) in self.changes.iter().enumerate() {
            let worse = if change.worse { "worse" } else { "better" };
            let decides = if at == 0 && change.worse { ", which counts first" } else { "" };
            writeln!(f, "  {} would be {worse}{decides}", change.objective)?;
        }
        lined_up(f, &effects(["as planned", "there"], &self.planned, &self.there))?;
        match &self.way {
            Some(way) => {
                writeln!(f, "  there is room if {} goes to {}:", way.service, way.to)?;
                lined_up(f, &effects(["as planned", "both"], &self.planned, &way.effect))
            }
            None if self.lacks.is_empty() || !self.excluded_by.is_empty() => Ok(()),
            None => writeln!(f, "  no other service was found that makes room by going alone"),
        }
    }
}
