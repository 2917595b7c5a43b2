//! What people have said while the scheduler runs, beside policy and inventory: they enter a decision as data.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::continuum::{Continuum, NodeName, ServiceName, SiteName};
use crate::plan::Move;

/// What a directive asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "directive")]
pub enum Ask {
    /// Nothing is moved.
    Pause,
    /// Nothing is moved to a place; what is there may stay.
    Cordon {
        /// The place.
        place: Place,
    },
    /// Services leave a place, and nothing is moved to it.
    Drain {
        /// The place.
        place: Place,
    },
    /// A service stays where it is.
    OptOut {
        /// The service.
        service: ServiceName,
    },
}

/// A node, or all nodes of a site.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// One node.
    Node(NodeName),
    /// All nodes of a site.
    Site(SiteName),
}

impl Place {
    /// Whether a node is the place or at it.
    pub fn has(&self, continuum: &Continuum, node: &NodeName) -> bool {
        match self {
            Self::Node(name) => name == node,
            Self::Site(site) => continuum.nodes.get(node).is_some_and(|about| about.site == *site),
        }
    }

    /// Whether the continuum has it.
    pub fn is_in(&self, continuum: &Continuum) -> bool {
        match self {
            Self::Node(name) => continuum.nodes.contains_key(name),
            Self::Site(site) => continuum.sites.contains_key(site),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node `{name}`"),
            Self::Site(name) => write!(f, "site `{name}`"),
        }
    }
}

impl std::fmt::Display for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pause => f.write_str("pause"),
            Self::Cordon { place } => write!(f, "cordon of {place}"),
            Self::Drain { place } => write!(f, "drain of {place}"),
            Self::OptOut { service } => write!(f, "opt-out of service `{service}`"),
        }
    }
}

/// What is asked for, who asked, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directive {
    /// What is asked for.
    #[serde(flatten)]
    pub ask: Ask,
    /// Who asked.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why, where they said so.
    pub reason: Option<String>,
}

/// The directives in force, each thing asked for once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Directives(pub Vec<Directive>);

impl Directives {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The directive that pauses everything.
    pub fn pause(&self) -> Option<&Directive> {
        self.find(&Ask::Pause)
    }

    /// The directive that asks for something.
    pub fn find(&self, ask: &Ask) -> Option<&Directive> {
        self.0.iter().find(|one| one.ask == *ask)
    }

    /// Whether services should leave a node.
    pub fn drains(&self, continuum: &Continuum, node: &NodeName) -> bool {
        self.asks().any(|ask| matches!(ask, Ask::Drain { place } if place.has(continuum, node)))
    }

    /// Whether nothing is to be moved to a node while what is there may stay.
    pub fn cordons(&self, continuum: &Continuum, node: &NodeName) -> bool {
        self.asks().any(|ask| matches!(ask, Ask::Cordon { place } if place.has(continuum, node)))
    }

    /// The directive by which a service stays where it is.
    pub fn opt_out(&self, service: &ServiceName) -> Option<&Directive> {
        self.0.iter().find(|one| matches!(&one.ask, Ask::OptOut { service: name } if name == service))
    }

    /// What speaks against a move.
    pub fn against(&self, continuum: &Continuum, planned: &Move) -> Option<&Directive> {
        self.0.iter().find(|one| match &one.ask {
            Ask::Pause => true,
            Ask::Cordon { place } | Ask::Drain { place } => place.has(continuum, &planned.to),
            Ask::OptOut { service } => *service == planned.service,
        })
    }

    /// What they ask for.
    pub fn asks(&self) -> impl Iterator<Item = &Ask> {
        self.0.iter().map(|one| &one.ask)
    }
}
