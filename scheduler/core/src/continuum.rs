//! What is: sites, nodes, links, user groups, services, and which node runs which service.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sterna_policies::quantity::{
    Bytes, Cores, GramsPerKwh, MibPerSecond, Millis, PerSecond, Usd, UsdPerGib, UsdPerHour, Watts,
};

pub mod inventory;
pub mod location;
pub mod pod;

pub use location::Location;
pub use pod::Pod;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        // Shared: it is cloned wherever anything is told of whom it names.
        #[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
    };
}

name! {
    /// Name of a site.
    SiteName
}
name! {
    /// Name of a node, unique in the continuum.
    NodeName
}
name! {
    /// Name of a user group.
    UsersName
}
name! {
    /// Name of a service, unique in the continuum.
    ServiceName
}

/// All sites, the links between them, the user groups and the services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Continuum {
    /// Its own name.
    pub name: String,
    /// The sites.
    pub sites: BTreeMap<SiteName, Site>,
    /// The nodes, all sites together.
    pub nodes: BTreeMap<NodeName, Node>,
    /// The links, each once; see [`Continuum::link`].
    pub links: Vec<Link>,
    /// The user groups.
    pub users: BTreeMap<UsersName, Users>,
    /// The services.
    pub services: BTreeMap<ServiceName, Service>,
}

impl Continuum {
    /// The link between two sites, in either direction.
    pub fn link(&self, a: &SiteName, b: &SiteName) -> Option<&Link> {
        self.links.iter().find(|link| {
            let [x, y] = &link.between;
            (x == a && y == b) || (x == b && y == a)
        })
    }
}

/// A place with its own prices, power and carbon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// How near to the users it is: `edge`, `fog`, `cloud` or a word of the operator's.
    pub tier: String,
    /// Region, for data residency.
    pub region: String,
    /// What it costs.
    pub price: Price,
    /// What its nodes draw.
    pub power: Power,
    /// Carbon intensity of its electricity, where known.
    pub carbon: Option<GramsPerKwh>,
    /// Labels, by which policies select it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Where on the globe it is, where known. No decision hangs on it: distance is not latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// What a site costs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Price {
    /// Of a node while it hosts at least one service.
    pub node: UsdPerHour,
    /// Of one requested core.
    pub core: UsdPerHour,
    /// Of one requested GiB of memory.
    pub gib: UsdPerHour,
}

/// What a node draws: a line from idle to full load.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Power {
    /// With no load.
    pub idle: Watts,
    /// With all cores busy.
    pub full: Watts,
    /// Whether a node that hosts nothing is switched off, so that its idle power is saved.
    pub off_when_empty: bool,
}

/// A container host on which services can be placed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The site it stands at.
    pub site: SiteName,
    /// Its processor.
    pub cpu: Cores,
    /// Its memory.
    pub memory: Bytes,
    /// Taken out of use: what runs there should leave, nothing may arrive.
    pub drain: bool,
    /// Where its agent listens, `host:port`. `None` for a node that `sterna sites up` makes: its address is asked of the
    /// engine or the cluster.
    pub agent: Option<String>,
    /// Where it stands, if it is a pod of a Kubernetes cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Pod>,
}

impl Node {
    /// Whether it is a container of the host's own engine: neither somewhere else nor a pod.
    pub fn is_local(&self) -> bool {
        self.agent.is_none() && self.kubernetes.is_none()
    }
}

/// The path between two sites.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// The two ends.
    pub between: [SiteName; 2],
    /// Round-trip time.
    pub rtt: Millis,
    /// Bandwidth.
    pub bandwidth: MibPerSecond,
    /// Price of what leaves either end over it.
    pub egress: UsdPerGib,
}

impl Link {
    /// What it costs to send so much over it.
    pub fn price_of(&self, bytes: Bytes) -> Usd {
        Usd::from_micros(self.egress.scaled(bytes.0, 1 << 30).as_micros())
    }
}

/// Clients at a place.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Users {
    /// Requests per second, by service.
    pub rates: BTreeMap<ServiceName, PerSecond>,
    /// Latency to each site as the inventory knows it, used only where the policy allows modelled values.
    pub latency: BTreeMap<SiteName, Millis>,
    /// Where agents may see how far it is to them, `host:port` each: places at theirs that take connections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probe: Vec<String>,
}

/// The unit of placement and migration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Processor that it asks for.
    pub cpu: Cores,
    /// Memory that it asks for.
    pub memory: Bytes,
    /// Stays where it is, whatever a policy says.
    pub pinned: bool,
    /// Labels, by which policies select it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How it is started; `None` for one that somebody else started, which Sterna only moves.
    pub run: Option<Run>,
}

/// How a service is started on a node. What most services leave out is not written, so that their records stay as they were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Image, as the engine that `sterna services up` takes it from knows it.
    pub image: String,
    /// Command and arguments; empty for the image's own.
    pub command: Vec<String>,
    /// Environment, `NAME=value`.
    pub env: Vec<String>,
    /// Ports published on the node under the same number, `6379/tcp`.
    pub ports: Vec<String>,
    /// Named volumes, `name:/path`.
    pub volumes: Vec<String>,
    /// The node it is first started on.
    pub on: NodeName,
    /// What is run in the place of the image's entry point; empty for the image's own. The image's command is left out with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Folder that it starts in, an absolute path; `None` for the image's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Whom it runs as, `user` or `user:group`, by name or number; `None` for the image's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Most memory that it may have, beyond which its kernel ends a process of it; `None` for as much as its node has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<Bytes>,
    /// Most processor time that it may have; `None` for as much as its node has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<Cores>,
    /// It may write to its volumes alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// Capabilities that it is started without, `NET_RAW` or `ALL`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop_capabilities: Vec<String>,
    /// No program that it runs gives it more rights than it has.
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_new_privileges: bool,
    /// What becomes of it when it ends by itself.
    #[serde(default, skip_serializing_if = "Restart::is_default")]
    pub restart: Restart,
    /// Time that it has to end in once it is asked to, before it is killed; `None` for the engine's 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<Millis>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// When a service that has ended by itself is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Whenever it ends, and with its node.
    #[default]
    Always,
    /// When it ends with another code than 0.
    OnFailure,
    /// Never.
    Never,
}

impl Restart {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which node runs which service.
pub type Placement = BTreeMap<ServiceName, NodeName>;
