//! What goes over the wire between scheduler and agents, and between agents.

use std::fmt;

use bytes::Bytes as Data;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sterna_core::continuum::{NodeName, Run, ServiceName};
use sterna_policies::quantity::{Bytes, Cores, Millis};
use uuid::Uuid;

use crate::engine::processes::Tree;
use crate::identity::Sealed;
use crate::migration::finding::Finding;
use crate::migration::holding::Holding;
use crate::migration::order::{MigrationId, Order};
use crate::migration::phase::Phase;
use crate::migration::register::Decision;
use crate::migration::report::Report;

/// Header with a migration's token.
pub const TOKEN_HEADER: &str = "sterna-token";

/// What a node is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Its name.
    pub node: NodeName,
    /// Version of this program.
    pub sterna: String,
    /// Version of the nested engine.
    pub engine: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Processor architecture.
    pub arch: String,
    /// Features of the processor, sorted.
    pub cpu_features: Vec<String>,
    /// Version of CRIU.
    pub criu: String,
    /// Version of `runc`.
    pub runc: String,
    /// 1 or 2.
    pub cgroup: u8,
    /// How user numbers of services map to those of the node, from the engine's own mapping.
    pub user_map: String,
    /// Processor that services may use.
    pub cpu: Cores,
    /// Memory that services may use.
    pub memory: Bytes,
    /// Free space where memory images are staged.
    pub staging_free: Bytes,
    /// Whether memory images are staged in RAM.
    pub staging_in_ram: bool,
    /// Memory of the machine that can be had without swapping.
    pub memory_free: Bytes,
    /// Free space where the engine keeps images, layers and volumes.
    pub engine_free: Bytes,
    /// The engine's storage driver.
    pub storage: String,
    /// How the engine confines services: seccomp, AppArmor, SELinux, each with its profile.
    pub security: Vec<String>,
    /// What CRIU's own check of the node says; `None` where it says that all is well.
    pub criu_trouble: Option<String>,
}

impl NodeFacts {
    /// A digest of all that does not change by itself: what was tried between two nodes holds while their digests do.
    pub fn digest(&self) -> String {
        let lasting = Self {
            staging_free: Bytes::ZERO,
            memory_free: Bytes::ZERO,
            engine_free: Bytes::ZERO,
            ..self.clone()
        };
        // Plain data: writing it as JSON can't fail.
        let text = serde_json::to_vec(&lasting).unwrap_or_default();
        blake3::hash(&text).to_hex().to_string()
    }
}

#[cfg(test)]
impl NodeFacts {
    /// A node for tests.
    pub(crate) fn example() -> Self {
        Self {
            node: "a".into(),
            sterna: "1".into(),
            engine: "28".into(),
            kernel: "6.1".into(),
            arch: "x86_64".into(),
            cpu_features: vec!["avx2".into(), "sse2".into()],
            criu: "Version: 4.2".into(),
            runc: "1.3".into(),
            cgroup: 2,
            user_map: "0 100000 65536".into(),
            cpu: Cores::ZERO,
            memory: Bytes::from_mib(4096),
            staging_free: Bytes::from_mib(2048),
            staging_in_ram: true,
            memory_free: Bytes::from_mib(4096),
            engine_free: Bytes::from_mib(8192),
            storage: "overlay2".into(),
            security: vec!["seccomp".into()],
            criu_trouble: None,
        }
    }
}

/// What a node runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFacts {
    /// The service.
    pub service: ServiceName,
    /// Its container.
    pub container: String,
    /// Digest of its image.
    pub image: String,
    /// Whether it runs; `false` for one that was stopped or has ended.
    pub running: bool,
    /// The code that it ended with, where it has ended and its engine does not start it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<i64>,
    /// Whether it stands frozen.
    pub frozen: bool,
    /// Its resident memory.
    pub memory: Bytes,
    /// How often it has changed owners.
    pub epoch: u64,
    /// Where it is being moved to.
    pub leaving_for: Option<NodeName>,
    /// The migration that has been committed and is not finished: the service is no longer this node's.
    pub committed: Option<MigrationId>,
}

/// Starts a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartService {
    /// The service.
    pub service: ServiceName,
    /// How it is started.
    pub run: Run,
    /// It must not have been on the node before: refused where the node knows that it has and it does not stand there now. One that
    /// stands there and has ended is left so. Whoever has missed what became of a service meanwhile can't start it a second time.
    #[serde(default, skip_serializing_if = "is_false")]
    pub first: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Has a node's engine pull an image from its registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullImage {
    /// Its name; without a tag or digest `:latest` is meant.
    pub image: String,
    /// Time that the engine has for it.
    pub within: Millis,
}

/// A piece of what a service has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// When its engine read it.
    pub at: Timestamp,
    /// Where it was written to.
    pub stream: StdStream,
    /// What was written, byte for byte: a line with its end, or a part of a long one.
    pub bytes: Data,
}

/// Where a service writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StdStream {
    /// Its standard output.
    Out,
    /// Its standard error.
    Err,
}

/// What a destination is asked to make room for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reservation {
    /// The order.
    pub order: Order,
    /// The service's epoch at the source.
    pub epoch: u64,
    /// What the container is created from, in the words of the engine's API.
    pub body: serde_json::Value,
    /// Digest of the image that it must have.
    pub image: String,
    /// Names of its volumes.
    pub volumes: Vec<String>,
    /// Its memory now.
    pub memory: Bytes,
    /// Size of its writable layer and volumes; zero where it was not measured.
    #[serde(default)]
    pub files: Bytes,
    /// Size of its image; zero where it was not measured.
    #[serde(default)]
    pub image_size: Bytes,
    /// Must come with every later call about this migration: it is of this id and epoch, and of this source.
    pub token: String,
    /// UID of the pod in which the source's agent runs; `None` where it runs in none.
    #[serde(default)]
    pub pod: Option<String>,
}

#[cfg(test)]
impl Reservation {
    /// One for tests.
    pub(crate) fn example(order: Order) -> Self {
        Self {
            order,
            epoch: 1,
            body: serde_json::Value::Null,
            image: "sha256:0".into(),
            volumes: vec![],
            files: Bytes::ZERO,
            image_size: Bytes::ZERO,
            memory: Bytes::ZERO,
            token: String::new(),
            pod: None,
        }
    }
}

/// What a destination says of a migration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Each thing that speaks against it; nothing if empty.
    pub findings: Vec<Finding>,
    /// Whether the image is there already.
    pub has_image: bool,
    /// What the destination is.
    pub node: NodeFacts,
}

/// What a part of the stream is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// CRIU's image.
    Memory,
    /// Pages of its memory, while the service runs.
    Ahead,
    /// The writable layer.
    Layer,
    /// A named volume.
    Volume(String),
}

impl Part {
    /// As it stands in a path.
    pub fn path(&self) -> String {
        match self {
            Self::Memory => "memory".to_owned(),
            Self::Ahead => "ahead".to_owned(),
            Self::Layer => "layer".to_owned(),
            Self::Volume(name) => format!("volume/{name}"),
        }
    }
}

/// One try to send a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(Uuid);

impl StreamId {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "each call gives another value")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a destination shows of a restored service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Its processes.
    pub tree: Tree,
    /// Whether every process of it stands stopped.
    pub held: bool,
    /// Whether the shim made it by a restore.
    pub by_restore: bool,
}

/// What a source's agent says of a migration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// What was ordered.
    pub order: Order,
    /// The last phase that was reached.
    pub phase: Option<Phase>,
    /// What stands in the register.
    pub decision: Decision,
    /// The certificate, where the register says `commit`.
    pub certificate: Option<Sealed>,
    /// How it ended, once it has.
    pub report: Option<Report>,
    /// When the order was taken and, once it has, when it ended; by the source's clock.
    pub taken: Timestamp,
    /// As above.
    pub ended: Option<Timestamp>,
}

/// What a destination's agent says of a migration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arriving {
    /// What was ordered.
    pub order: Order,
    /// The service's epoch at the source.
    pub epoch: u64,
    /// Digest of its image.
    pub image: String,
    /// How far it has come in.
    pub holding: Holding,
    /// Whether restored processes stand here, stopped.
    pub standing: bool,
    /// UID of the pod in which the source's agent ran; `None` where it ran in none.
    #[serde(default)]
    pub pod: Option<String>,
}

/// What came of a call to release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseAnswer {
    /// The service runs here.
    Runs,
    /// Nothing is held that could run: it must be sent and restored again.
    Lost,
}

/// The last word to a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// Restart policy to be put back, as the engine's API writes it.
    pub restart: Option<serde_json::Value>,
}

/// Asks how far it is from the node to other places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The places, `host:port` each: something there must take connections. Nothing is said on them.
    pub targets: Vec<String>,
}

/// Tells where a node's agent is by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// The node.
    pub node: NodeName,
    /// Where its agent listens, `host:port`.
    pub address: String,
}

/// What came of one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probed {
    /// It answers after so long.
    RoundTrip(Millis),
    /// It does not answer.
    Unanswered(Unanswered),
}

/// Why a target does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unanswered {
    /// Nobody takes connections there.
    Refused,
    /// It says nothing in time.
    Timeout,
    /// There is no way to it.
    Unreachable,
    /// Its name has no address.
    Unresolved,
    /// Something else.
    Other,
}

impl Unanswered {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Unresolved => "unresolved",
            Self::Other => "other",
        }
    }
}

/// An error, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What went wrong.
    pub error: String,
}
