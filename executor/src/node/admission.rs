//! Admission: how many migrations may leave a node at once, in all and to the same node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sterna_core::continuum::NodeName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The tokens of one node. Whoever wants one waits in line.
#[derive(Debug, Clone)]
pub struct Admission {
    all: Arc<Semaphore>,
    per_peer: usize,
    peers: Arc<Mutex<HashMap<NodeName, Arc<Semaphore>>>>,
}

impl Admission {
    /// At most `all` at once, and at most `per_peer` to one node; at least one of each.
    pub fn new(all: usize, per_peer: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all.max(1))), per_peer: per_peer.max(1), peers: Arc::default() }
    }

    /// Waits for a token of each kind. They are given back when they are dropped.
    pub async fn admit(&self, peer: &NodeName) -> Vec<OwnedSemaphorePermit> {
        let link = {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            let link = peers.entry(peer.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.per_peer)));
            Arc::clone(link)
        };
        // The scarcer one first, so that who waits for a link keeps nobody else waiting. Neither is ever closed.
        let link = link.acquire_owned().await;
        let all = Arc::clone(&self.all).acquire_owned().await;
        link.into_iter().chain(all).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn waits<T>(wanted: impl Future<Output = T>) -> bool {
        tokio::time::timeout(Duration::from_millis(1), wanted).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_limited_in_all_and_per_peer() {
        let admission = Admission::new(2, 1);
        let (b, c) = (NodeName::from("b"), NodeName::from("c"));
        let first = admission.admit(&b).await;
        assert_eq!(first.len(), 2);
        assert!(waits(admission.admit(&b)).await, "the link is taken");
        let second = admission.admit(&c).await;
        drop(first);
        let third = admission.admit(&b).await;
        assert!(waits(admission.admit(&"d".into())).await, "the node is busy");
        drop((second, third));
        assert!(!waits(admission.admit(&c)).await);
    }
}
