//! How much room nodes have.

use std::ops::Add as _;

use sterna_policies::policy::Policy;

use super::evaluate::Evaluator;
use crate::continuum::{Node, Service};

/// A hundred percent in millionths of a percent.
const WHOLE: i128 = 100_000_000;

/// Processor and memory of every node: what may be used and what is used now, migrations under way on both ends.
///
/// What may be used is the node's size less the share that must stay free, or what is used already where that is more: a
/// limit that is broken must only not get worse, and what is beyond it should become less. Cores in millionths, memory in
/// bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// What may be used.
    pub limit: Vec<Load>,
    /// What is used.
    pub used: Vec<Load>,
    /// What should be used at most: the node's size less the share that must stay free, and what is about to leave.
    pub wanted: Vec<Load>,
}

/// Processor in millionths of a core, and memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Processor.
    pub cpu: i128,
    /// Memory.
    pub memory: i128,
}

impl Load {
    /// What a service asks for.
    pub fn of(service: &Service) -> Self {
        Self { cpu: service.cpu.as_micros().into(), memory: service.memory.0.into() }
    }

    fn max(self, other: Self) -> Self {
        Self { cpu: self.cpu.max(other.cpu), memory: self.memory.max(other.memory) }
    }

    /// Whether both are at most the other's.
    pub fn within(self, limit: Self) -> bool {
        self.cpu <= limit.cpu && self.memory <= limit.memory
    }
}

impl std::ops::Add for Load {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, memory: self.memory + other.memory }
    }
}

impl std::ops::Sub for Load {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { cpu: self.cpu - other.cpu, memory: self.memory - other.memory }
    }
}

impl Room {
    /// Of the nodes as they are now.
    pub fn new(evaluator: &Evaluator<'_>, policy: &Policy) -> Self {
        let mut used = vec![Load::default(); evaluator.nodes.len()];
        let hosted = evaluator.now.iter().copied().enumerate().chain(evaluator.arriving.iter().copied());
        for (service, node) in hosted {
            used[node] = used[node] + Load::of(evaluator.services[service].1);
        }
        let usable = (WHOLE - i128::from(policy.constraints.min_free.as_micros())).clamp(0, WHOLE);
        let whole = |node: &Node| Load {
            cpu: i128::from(node.cpu.as_micros()) * usable / WHOLE,
            memory: i128::from(node.memory.0) * usable / WHOLE,
        };
        let mut wanted: Vec<Load> = evaluator.nodes.iter().map(|(_, node)| whole(node)).collect();
        let limit = wanted.iter().zip(&used).map(|(wanted, used)| wanted.max(*used)).collect();
        for (service, _) in &evaluator.arriving {
            let leaves = &mut wanted[evaluator.now[*service]];
            *leaves = *leaves + Load::of(evaluator.services[*service].1);
        }
        Self { limit, used, wanted }
    }

    /// What an assignment uses of every node, with what is about to arrive.
    pub fn used_by(&self, evaluator: &Evaluator<'_>, assignment: &[usize]) -> Vec<Load> {
        let mut used = vec![Load::default(); self.used.len()];
        let placed = assignment.iter().copied().enumerate().chain(evaluator.arriving.iter().copied());
        for (service, node) in placed {
            used[node] = used[node] + Load::of(evaluator.services[service].1);
        }
        used
    }

    /// Whether more is used than should be.
    pub fn is_beyond(&self, node: usize) -> bool {
        !self.used[node].within(self.wanted[node])
    }

    /// Whether a service can stay on a node beside all that an assignment has there, without more being used than should be.
    pub fn would_hold(
        &self,
        evaluator: &Evaluator<'_>,
        assignment: &[usize],
        service: usize,
        node: usize,
    ) -> bool {
        if !self.is_beyond(node) {
            return true;
        }
        let placed = assignment.iter().copied().enumerate().chain(evaluator.arriving.iter().copied());
        let beside = placed.filter(|(other, on)| *on == node && *other != service);
        let all = beside.map(|(other, _)| other).chain([service]);
        let used = all.map(|one| Load::of(evaluator.services[one].1)).fold(Load::default(), Load::add);
        used.within(self.wanted[node])
    }

    /// Whether one more service fits, all else as it is now.
    pub fn fits(&self, node: usize, service: &Service) -> bool {
        (self.used[node] + Load::of(service)).within(self.limit[node])
    }
}
