//! How much room nodes have.

use sterna_policies::policy::Policy;

use super::evaluate::Evaluator;
use crate::continuum::Service;

/// A hundred percent in millionths of a percent.
const WHOLE: i128 = 100_000_000;

/// Processor and memory of every node: what may be used and what is used now, migrations under way on both ends.
///
/// What may be used is the node's size less the share that must stay free, or what is used already where that is more: a
/// limit that is broken must only not get worse. Cores in millionths, memory in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// What may be used.
    pub limit: Vec<Load>,
    /// What is used.
    pub used: Vec<Load>,
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
        let limit = evaluator
            .nodes
            .iter()
            .zip(&used)
            .map(|((_, node), used)| Load {
                cpu: (i128::from(node.cpu.as_micros()) * usable / WHOLE).max(used.cpu),
                memory: (i128::from(node.memory.0) * usable / WHOLE).max(used.memory),
            })
            .collect();
        Self { limit, used }
    }

    /// Whether one more service fits, all else as it is now.
    pub fn fits(&self, node: usize, service: &Service) -> bool {
        (self.used[node] + Load::of(service)).within(self.limit[node])
    }
}
