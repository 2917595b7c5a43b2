//! Cases: situations in which a policy must decide something, written down and tried on the production decision.
//!
//! | module | what lives there |
//! |---|---|
//! | [`load`] | the file, read and checked against its inventory |
//! | [`trial`] | one case decided, and what is not as expected |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use sterna_core::continuum::{Continuum, NodeName, Placement, ServiceName, SiteName, UsersName};
use sterna_core::history::History;
use sterna_core::observation::{Observation, Sample, Source, UnderWay};
use sterna_policies::policy::{Metric, Policy};
use sterna_policies::quantity::{Bytes, GramsPerKwh, Millis, UsdPerHour, Watts};

pub mod load;
pub mod trial;

mod file;

pub use file::Outlook;

/// All cases of a file.
#[derive(Debug, Clone)]
pub struct Suite {
    /// The policy that the file names, if it names one.
    pub policy: Option<Policy>,
    /// The cases, in their order; at least one.
    pub cases: Vec<Case>,
}

/// One situation, and what must come of it.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its own name.
    pub name: String,
    /// When it is.
    pub at: Timestamp,
    /// What is.
    pub situation: Situation,
    /// What was before.
    pub history: History,
    /// For how long the situation has been so.
    pub lasting: Millis,
    /// What must come of it.
    pub expected: Expected,
}

/// What is, in one case. What is not there is not known.
#[derive(Debug, Clone)]
pub struct Situation {
    /// The continuum; user groups have the rates of this case, nodes are drained as it says.
    pub continuum: Continuum,
    /// Which node runs which service.
    pub placement: Placement,
    /// Nodes that don't answer.
    pub unreachable: BTreeSet<NodeName>,
    /// Latency from user groups to sites.
    pub latency: BTreeMap<(UsersName, SiteName), Millis>,
    /// Price of a node, by site.
    pub price: BTreeMap<SiteName, UsdPerHour>,
    /// Power of a node, by site.
    pub power: BTreeMap<SiteName, Watts>,
    /// Share of the processor in use, in millionths, by site.
    pub cpu_use: BTreeMap<SiteName, u32>,
    /// Carbon intensity, by site.
    pub carbon: BTreeMap<SiteName, GramsPerKwh>,
    /// Memory that services hold.
    pub memory: BTreeMap<ServiceName, Bytes>,
    /// Migrations under way.
    pub under_way: Vec<UnderWay>,
}

/// What must come of a case. What is `None` or empty may be as it likes.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The outcome.
    pub outlook: Option<Outlook>,
    /// All moves that are made: where each service ends up.
    pub moves: Option<BTreeMap<ServiceName, NodeName>>,
    /// Rules that hold a service, or the whole decision, by name.
    pub held: BTreeMap<ServiceName, BTreeSet<String>>,
    /// Rules that exclude a node for a service, by name.
    pub excluded: BTreeMap<(ServiceName, NodeName), BTreeSet<String>>,
}

/// At least so often somebody looks: where nobody does for five minutes, a decision forgets what lasts.
const SELDOM: Millis = Millis::from_micros(150_000_000_000);
/// Over a long time so many looks are enough, as far as those are not too seldom.
const LOOKS: u64 = 200;
/// Longer than this no situation is said to last.
pub const LONGEST: Millis = Millis::from_micros(259_200_000_000_000);

impl Case {
    /// The looks at which a scheduler under this policy has seen the situation before, oldest first.
    pub fn earlier(&self, policy: &Policy) -> Vec<Timestamp> {
        let interval = policy.trigger.interval;
        let step = self.lasting.scaled(1, LOOKS).min(SELDOM).max(interval).to_duration();
        let ends = self.history.migrations.values().flatten().map(|past| past.ended);
        let begins = self.at.checked_sub(self.lasting.to_duration()).unwrap_or(Timestamp::MIN);
        let begins = ends.fold(begins, Timestamp::max);
        let mut looks = Vec::new();
        let mut at = self.at;
        // An instant in which nothing passes has no looks before it.
        while let Ok(before) = at.checked_sub(step)
            && before >= begins
            && before < at
        {
            looks.push(before);
            at = before;
        }
        // The first of them is when it became so.
        if begins < at && at.checked_sub(step).is_ok_and(|before| before < begins) {
            looks.push(begins);
        }
        looks.reverse();
        looks
    }

    /// What a scheduler under this policy sees: as in production, a number is there only where the policy names a source for it.
    pub fn observe(&self, policy: &Policy) -> Observation {
        let Situation { continuum, placement, latency, price, power, cpu_use, carbon, memory, .. } =
            &self.situation;
        let asks = |metric| policy.metrics.contains_key(&metric);
        let mut continuum = continuum.clone();
        if asks(Metric::CarbonRate) {
            for (name, site) in &mut continuum.sites {
                site.carbon = carbon.get(name).copied();
            }
        }
        let answers = |node: &&NodeName| !self.situation.unreachable.contains(*node);
        let reachable: Vec<NodeName> = continuum.nodes.keys().filter(answers).cloned().collect();
        // What runs on a node that is silent is not found.
        let found = placement.iter().filter(|(_, node)| reachable.contains(node));
        let mut observation = Observation {
            at: self.at,
            placement: found.map(|(service, node)| (service.clone(), node.clone())).collect(),
            continuum: Arc::new(continuum),
            reachable,
            latency: BTreeMap::new(),
            cpu_use: samples(cpu_use, asks(Metric::CpuUse)),
            power: samples(power, asks(Metric::Power)),
            price: samples(price, asks(Metric::CostRate)),
            memory: memory.clone(),
            under_way: self.situation.under_way.clone(),
            directives: Default::default(),
            costs: Default::default(),
            overdue: Default::default(),
            unknown: Vec::new(),
        };
        if asks(Metric::UserLatency) {
            for ((users, site), value) in latency {
                observation.latency.entry(users.clone()).or_default().insert(site.clone(), sample(*value));
            }
        }
        observation
    }
}

/// The numbers of a case are of its own instant.
fn sample<T>(value: T) -> Sample<T> {
    Sample { value, age: Millis::ZERO, source: Source::Measured }
}

fn samples<T: Copy>(values: &BTreeMap<SiteName, T>, asked: bool) -> BTreeMap<SiteName, Sample<T>> {
    values.iter().filter(|_| asked).map(|(site, value)| (site.clone(), sample(*value))).collect()
}
