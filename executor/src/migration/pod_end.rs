//! The end of a pod in which an agent ran, as its cluster reported it: grounds on which what was on its way from there may run
//! where it is held.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sterna_core::continuum::NodeName;

/// A pod that has ended in order, with all that it held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodEnd {
    /// The node of the continuum that it was.
    pub node: NodeName,
    /// Its UID: no other pod ever has it.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// The cluster's node that it stood on.
    pub host: Option<String>,
    /// What its kubelet said of its end.
    pub said: String,
    /// When the last of its containers ended, by its kubelet's clock.
    pub ended: Timestamp,
    /// When the scheduler saw that.
    pub seen: Timestamp,
}

impl std::fmt::Display for PodEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { uid, namespace, pod, said, ended, .. } = self;
        write!(f, "pod {namespace}/{pod} (UID {uid}) ended at {ended:.0}: {said}")
    }
}

#[cfg(test)]
impl PodEnd {
    /// One for tests.
    pub(crate) fn example() -> Self {
        Self {
            node: "a".into(),
            uid: "6b1f7c0e-0000-4000-8000-000000000001".to_owned(),
            namespace: "edge".to_owned(),
            pod: "sterna-demo-a".to_owned(),
            host: Some("worker-1".to_owned()),
            said: "Completed, status 0".to_owned(),
            ended: Timestamp::UNIX_EPOCH,
            seen: Timestamp::UNIX_EPOCH,
        }
    }
}
