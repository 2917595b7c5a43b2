//! Where the nodes live, and which faults can strike them there.

use crate::injection::{End, Fault, Removal};

/// Where the nodes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Platform {
    /// Each is a container of this host's engine.
    Docker,
    /// Each is a pod of a cluster of two nodes, which is brought up for it.
    Kubernetes,
}

impl Platform {
    /// The faults that can strike there.
    pub fn faults(self) -> Vec<Fault> {
        Fault::ALL.into_iter().filter(|fault| self.why_not(*fault).is_none()).collect()
    }

    /// Why a fault can't strike there.
    pub const fn why_not(self, fault: Fault) -> Option<&'static str> {
        match (self, fault) {
            (Self::Docker, Fault::Removed(removal, _)) => Some(match removal {
                Removal::Deleted => "a node here is no pod that could be deleted",
                Removal::Evicted => "a node here is no pod that could be evicted",
                Removal::Drained => "a node here stands on no node of a cluster that could be drained",
            }),
            _ => None,
        }
    }

    /// What can't strike there and why, a line each.
    pub fn not_applicable(self) -> Vec<String> {
        let line = |fault: Fault| Some(format!("not applicable: {fault}: {}", self.why_not(fault)?));
        Fault::ALL.into_iter().filter_map(line).collect()
    }
}

/// Whether a fault ends nodes in order: what runs there is asked to end first, and has time for it.
pub const fn is_in_order(fault: Fault) -> bool {
    matches!(fault, Fault::Removed(..))
}

/// The end whose node a fault ends.
pub const fn ends_node(fault: Fault) -> Option<End> {
    match fault {
        Fault::NodeKilled(end) | Fault::Removed(_, end) => Some(end),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_strikes_or_is_told_with_its_reason() {
        for platform in [Platform::Docker, Platform::Kubernetes] {
            assert_eq!(platform.faults().len() + platform.not_applicable().len(), Fault::ALL.len());
        }
        assert_eq!(Platform::Docker.not_applicable().len(), 6);
        assert!(Platform::Docker.not_applicable()[0].contains("source pod deleted: a node here"));
        assert!(Platform::Kubernetes.not_applicable().is_empty());
    }
}
