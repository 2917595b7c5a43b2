//! What was seen at one instant: the continuum, the placement, and every measured number with its age and source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sterna_policies::policy::Metric;
use sterna_policies::quantity::{Bytes, Millis, UsdPerHour, Watts};

use crate::continuum::{Continuum, NodeName, Placement, ServiceName, SiteName, UsersName};
use crate::cost::Costs;
use crate::directive::Directives;

/// Where a number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A sensor or a probe said so.
    Measured,
    /// Another one did, because the first had no usable value: the policy's fallback of this number, from 1 on.
    Fallback(u32),
    /// Computed from the inventory, because the policy allows it.
    Modelled,
}

/// A number with its age and source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample<T> {
    /// The number.
    pub value: T,
    /// How old it was when it was observed.
    pub age: Millis,
    /// Where it comes from.
    pub source: Source,
}

/// All that a decision may know of the world. Missing is absent from a map, never zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The instant that all numbers were asked for.
    pub at: Timestamp,
    /// What is. Several observations may share it: next to nothing of it changes from one to the next.
    pub continuum: Arc<Continuum>,
    /// Which node runs which service. A service that is missing was not found on any node.
    pub placement: Placement,
    /// Nodes whose agent answered. Others keep what they have and receive nothing.
    pub reachable: Vec<NodeName>,
    /// Latency from a user group to a site.
    pub latency: BTreeMap<UsersName, BTreeMap<SiteName, Sample<Millis>>>,
    /// Share of the processor in use, by site, 0 to 1 in millionths.
    pub cpu_use: BTreeMap<SiteName, Sample<u32>>,
    /// Power of one node of a site now, as a sensor reads it.
    pub power: BTreeMap<SiteName, Sample<Watts>>,
    /// Measured price of one node of a site while it is in use; replaces the inventory's.
    pub price: BTreeMap<SiteName, Sample<UsdPerHour>>,
    /// Memory that a service holds now: what a move would have to carry.
    pub memory: BTreeMap<ServiceName, Bytes>,
    /// Migrations under way.
    pub under_way: Vec<UnderWay>,
    /// Services of which one is under way, as far as is known, although its time is over: nobody tells what came of it. It keeps
    /// its own service back and room for it at both ends, and nothing else.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub overdue: BTreeSet<ServiceName>,
    /// What could not be learnt, each with the reason.
    pub unknown: Vec<Unknown>,
    /// What people have said.
    #[serde(default, skip_serializing_if = "Directives::is_empty")]
    pub directives: Directives,
    /// What the parts of a move take, as measured on these nodes.
    #[serde(default, skip_serializing_if = "Costs::are_default")]
    pub costs: Costs,
}

impl Observation {
    /// The migrations under way that count for what may be done at one time, and what was done within a time.
    pub fn counted(&self) -> impl Iterator<Item = &UnderWay> {
        self.under_way.iter().filter(|moving| !self.overdue.contains(&moving.service))
    }
}

/// A migration that is running. Its service counts on both nodes until it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    /// The service.
    pub service: ServiceName,
    /// Where it leaves.
    pub from: NodeName,
    /// Where it goes.
    pub to: NodeName,
}

/// Something that the policy asks for and that could not be learnt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknown {
    /// The metric.
    pub metric: Metric,
    /// The site that it is missing for; `None` where the whole query failed.
    pub site: Option<SiteName>,
    /// The user group that it is missing for.
    pub users: Option<UsersName>,
    /// Why: what the metrics store answered, how old the sample was, and the like.
    pub reason: String,
}
