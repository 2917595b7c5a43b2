//! The plan: moves in order, complete enough that carrying it out leaves no choice.

use serde::{Deserialize, Serialize};
use sterna_policies::policy::Method;
use sterna_policies::quantity::{Bytes, GramsPerHour, Millis, UsdPerHour, Watts};

use crate::continuum::{NodeName, Placement, ServiceName};

/// Moves in an order that is feasible at every instant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Hash of the state that the plan was made from: continuum, placement, reachable nodes, directives. `apply` refuses another one.
    pub state: String,
    /// The moves, by wave; those of one wave may run side by side, a later wave starts when the one before has ended.
    pub moves: Vec<Move>,
    /// What the placement is worth now.
    pub before: Effect,
    /// What it is predicted to be worth after the last move.
    pub after: Effect,
    /// The placement after the last move.
    pub placement: Placement,
}

/// One service from one node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The service.
    pub service: ServiceName,
    /// Where it runs.
    pub from: NodeName,
    /// Where it goes.
    pub to: NodeName,
    /// How.
    pub method: Method,
    /// Position in the order, from 0.
    pub wave: u32,
    /// Whether the service only makes way there, and goes on in a later wave.
    #[serde(default)]
    pub parks: bool,
    /// What the move is predicted to cost.
    pub predicted: MoveCost,
}

/// What a move costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MoveCost {
    /// From the last instruction at the source to the first at the destination.
    pub downtime: Millis,
    /// From start to end.
    pub duration: Millis,
    /// What crosses the link.
    pub bytes: Bytes,
}

/// What a placement is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Effect {
    /// Latency that users see, weighted by request rate over all services. `None` where no user group asks for anything, or
    /// where a latency among them is not known.
    pub user_latency: Option<Millis>,
    /// What it costs.
    pub cost_rate: UsdPerHour,
    /// What it draws.
    pub power: Watts,
    /// What it emits. `None` where the intensity of a site that draws power in it is not known.
    pub carbon_rate: Option<GramsPerHour>,
}
