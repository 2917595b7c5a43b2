//! The shapes of the answers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sterna_core::compare::Sides;
use sterna_core::difference::Difference;
use sterna_core::directive::{Ask, Directive, Directives, Place};
use sterna_core::explain;
use sterna_core::plan::Move;
use utoipa::ToSchema;

use crate::history::approval::Proposal;
use crate::history::list::{Cost, MigrationLine};
use crate::reload::Refused;
use crate::telemetry::ConfigFile;

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
    /// Files that changed and can't be used: what they said before is in force.
    pub refused: Vec<RefusedFile>,
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

/// A file whose content can't be used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RefusedFile {
    /// `policy` or `inventory`.
    pub file: String,
    /// When it was found so.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// What is written otherwise in it than in what is in force; `None` where that can't be told.
    pub written: Option<Differences>,
}

impl RefusedFile {
    /// A content that was refused.
    pub fn new(file: ConfigFile, at: Timestamp, refused: &Refused) -> Self {
        Self {
            file: file.name().to_owned(),
            at,
            reason: refused.error.to_string(),
            written: refused.written.as_deref().map(Differences::from),
        }
    }
}

/// Where two contents of a file differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Differences {
    /// The places, in the order of their keys; a hundred at most.
    pub places: Vec<DifferenceView>,
    /// How many more there are.
    pub more: usize,
}

/// More places than this are only counted.
const MOST_DIFFERENCES: usize = 100;

impl From<&[Difference]> for Differences {
    fn from(all: &[Difference]) -> Self {
        Self {
            places: all.iter().take(MOST_DIFFERENCES).map(DifferenceView::from).collect(),
            more: all.len().saturating_sub(MOST_DIFFERENCES),
        }
    }
}

/// One place at which they differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DifferenceView {
    /// The way to it: keys with dots between them, places in lists in brackets from 0.
    pub path: String,
    /// What stands there in the older one; `None` for nothing.
    #[schema(value_type = Value)]
    pub old: Option<serde_json::Value>,
    /// What stands there in the newer one.
    #[schema(value_type = Value)]
    pub new: Option<serde_json::Value>,
}

impl From<&Difference> for DifferenceView {
    fn from(one: &Difference) -> Self {
        Self { path: one.path.clone(), old: one.old.clone(), new: one.new.clone() }
    }
}

/// A service of which two policies decide differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SidesView {
    /// The service.
    pub service: String,
    /// Where it runs.
    pub on: Option<String>,
    /// What the older policy decides, in words.
    pub old: String,
    /// What the newer one decides.
    pub new: String,
}

impl From<&Sides> for SidesView {
    fn from(one: &Sides) -> Self {
        Self {
            service: one.service.to_string(),
            on: one.on.as_ref().map(ToString::to_string),
            old: one.old.to_string(),
            new: one.new.to_string(),
        }
    }
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
