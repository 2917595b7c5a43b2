//! The shapes of the answers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sterna_core::directive::{Ask, Directive, Directives, Place};
use sterna_core::explain;
use sterna_core::plan::Move;
use utoipa::ToSchema;

use crate::history::approval::Proposal;
use crate::history::list::{Cost, MigrationLine};

/// How things stand.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Status {
    /// The continuum's name.
    pub continuum: String,
    /// The policies, the highest priority first.
    pub policies: Vec<PolicyView>,
    /// Whether the loop works, or why not; `None` where no scheduler runs.
    pub health: Option<Health>,
    /// Every node.
    pub nodes: Vec<NodeView>,
    /// Every service, and where it was found.
    pub services: Vec<ServiceView>,
    /// Orders whose end is not known: migrations under way.
    pub under_way: Vec<MigrationLine>,
    /// What people have said, in force.
    pub directives: Vec<Directed>,
    /// The plans that wait for approval.
    pub approvals: Vec<Waiting>,
}

/// A policy, and its newest decision.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct PolicyView {
    /// Its name.
    pub policy: String,
    /// Its mode: `off`, `observe`, `recommend`, `approve` or `auto`.
    pub mode: String,
    /// Its newest decision.
    pub decision: Option<Decided>,
}

/// Whether the loop works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Health {
    /// Whether it does.
    pub ready: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// A decision in short.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Decided {
    /// Its number.
    pub id: i64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The verdict in words.
    pub verdict: String,
    /// The moves of its plan.
    pub moves: Vec<MoveView>,
    /// What was left out or replaced while observing.
    pub notes: Vec<String>,
}

/// One move of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MoveView {
    /// The service.
    pub service: String,
    /// Where from.
    pub from: String,
    /// Where to.
    pub to: String,
    /// Its place in the order, from 0.
    pub wave: u32,
    /// What it is predicted to cost.
    pub predicted: Cost,
}

impl From<&Move> for MoveView {
    fn from(one: &Move) -> Self {
        Self {
            service: one.service.to_string(),
            from: one.from.to_string(),
            to: one.to.to_string(),
            wave: one.wave,
            predicted: one.predicted.into(),
        }
    }
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct NodeView {
    /// Its name.
    pub node: String,
    /// Its site.
    pub site: String,
    /// Whether its agent answered at the last look; `None` before the first.
    pub answers: Option<bool>,
    /// Whether services leave it, by the inventory or by a directive.
    pub drained: bool,
    /// Whether nothing is moved to it.
    pub cordoned: bool,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ServiceView {
    /// Its name.
    pub service: String,
    /// Where it was found; `None` where it was not.
    pub node: Option<String>,
    /// Whether somebody wants it to stay where it is.
    pub opted_out: bool,
}

/// What somebody has said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Directed {
    /// `pause`, `cordon`, `drain` or `opt-out`.
    #[schema(value_type = String)]
    pub directive: &'static str,
    /// The node that it is about.
    pub node: Option<String>,
    /// The site that it is about.
    pub site: Option<String>,
    /// The service that it is about.
    pub service: Option<String>,
    /// Who said so.
    pub by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Why.
    pub reason: Option<String>,
}

impl From<&Directive> for Directed {
    fn from(one: &Directive) -> Self {
        let (mut node, mut site, mut service) = (None, None, None);
        let mut at_place = |place: &Place| match place {
            Place::Node(name) => node = Some(name.to_string()),
            Place::Site(name) => site = Some(name.to_string()),
        };
        let directive = match &one.ask {
            Ask::Pause => "pause",
            Ask::Cordon { place } => {
                at_place(place);
                "cordon"
            }
            Ask::Drain { place } => {
                at_place(place);
                "drain"
            }
            Ask::OptOut { service: name } => {
                service = Some(name.to_string());
                "opt-out"
            }
        };
        Self { directive, node, site, service, by: one.by.clone(), at: one.at, reason: one.reason.clone() }
    }
}

/// Those of a list.
pub fn directed(directives: &Directives) -> Vec<Directed> {
    directives.0.iter().map(Directed::from).collect()
}

/// A plan that waits, or waited, for approval.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Waiting {
    /// What became of it so far.
    #[serde(flatten)]
    pub proposal: Proposal,
    /// Its moves.
    pub moves: Vec<MoveView>,
    /// The decision in words, with every number and rule.
    pub text: String,
    /// The migrations that came of it.
    pub migrations: Vec<MigrationLine>,
}

impl Waiting {
    /// A proposal with its decision.
    pub fn new(
        proposal: Proposal,
        decision: &sterna_core::report::Decision,
        migrations: Vec<MigrationLine>,
    ) -> Self {
        let moves = decision.plan.moves.iter().map(MoveView::from).collect();
        Self { proposal, moves, text: explain::text(decision), migrations }
    }
}

/// One decision with everything that went into it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DecisionView {
    /// Its number.
    pub id: i64,
    /// In words, with every number and rule.
    pub text: String,
    /// As it was recorded: `observation`, `policy`, `history`, `now`, `seed` and the `decision` that came of them.
    #[schema(value_type = Object)]
    pub recorded: serde_json::Value,
    /// The migrations that came of it.
    pub migrations: Vec<MigrationLine>,
}

/// One migration with the report of the agent that it left.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct MigrationView {
    /// What was ordered, and what came of it.
    #[serde(flatten)]
    pub line: MigrationLine,
    /// The report, where there is one.
    #[schema(value_type = Option<Object>)]
    pub report: Option<serde_json::Value>,
}

/// Who says something, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// Who.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Something said of a node or a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaidOfPlace {
    /// The node; either this or `site`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The site: all its nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Who.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Something said of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaidOfService {
    /// The service.
    pub service: String,
    /// Who.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What came of a word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Heard {
    /// Whether it changed anything; `false` where it was so already.
    pub changed: bool,
    /// All that is in force now.
    pub directives: Vec<Directed>,
}
