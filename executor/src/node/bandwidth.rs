//! How much of a link migrations may take: in all to one node, and each by itself.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use sterna_core::continuum::NodeName;
use sterna_policies::quantity::MibPerSecond;

/// Bytes that one token stands for.
const TOKEN: usize = 1024;
/// Tokens that may pass at once, whatever the rate: what a stream is cut into, at most.
const AT_ONCE: NonZeroU32 = NonZeroU32::new(256).unwrap();

/// The limits of one node's links.
#[derive(Debug, Clone, Default)]
pub struct Bandwidth {
    per_peer: Option<MibPerSecond>,
    peers: Arc<Mutex<HashMap<NodeName, Arc<DefaultDirectRateLimiter>>>>,
}

impl Bandwidth {
    /// All migrations to one node together get so much; `None`: all they can.
    pub fn new(per_peer: Option<MibPerSecond>) -> Self {
        Self { per_peer, peers: Arc::default() }
    }

    /// What holds for one migration that may have so much itself.
    pub fn of(&self, peer: &NodeName, own: Option<MibPerSecond>) -> Limits {
        let shared = self.per_peer.map(|rate| {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(peers.entry(peer.clone()).or_insert_with(|| Arc::new(limiter(rate))))
        });
        Limits(shared.into_iter().chain(own.map(|rate| Arc::new(limiter(rate)))).collect())
    }
}

fn limiter(rate: MibPerSecond) -> DefaultDirectRateLimiter {
    let tokens = (rate.as_f64() * 1_048_576.0 / TOKEN as f64) as u32;
    let tokens = NonZeroU32::new(tokens).unwrap_or(NonZeroU32::MIN);
    RateLimiter::direct(Quota::per_second(tokens).allow_burst(AT_ONCE))
}

/// What one migration's streams have to keep to.
#[derive(Debug, Clone, Default)]
pub struct Limits(Vec<Arc<DefaultDirectRateLimiter>>);

impl Limits {
    /// Waits until so many bytes may cross.
    pub async fn pass(&self, bytes: usize) {
        for limiter in &self.0 {
            let mut tokens = u32::try_from(bytes.div_ceil(TOKEN)).unwrap_or(u32::MAX);
            while let Some(some) = NonZeroU32::new(tokens.min(AT_ONCE.get())) {
                // More than passes at once is never asked for.
                limiter.until_n_ready(some).await.ok();
                tokens -= some.get();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn rate(text: &str) -> Option<MibPerSecond> {
        Some(text.parse().unwrap())
    }

    /// At least how long it takes until so many bytes have passed. That it takes no longer is not asked: the machine may be busy.
    async fn time(limits: &[&Limits], bytes: usize) -> Duration {
        let start = Instant::now();
        futures_util::future::join_all(limits.iter().map(|limits| limits.pass(bytes))).await;
        start.elapsed()
    }

    #[tokio::test]
    async fn a_migration_gets_no_more_than_its_own_limit() {
        let limits = Bandwidth::default().of(&"b".into(), rate("4MiB/s"));
        // The first 256 KiB pass at once.
        assert!(time(&[&limits], (1 << 20) + (256 << 10)).await >= Duration::from_millis(240));
        let free = Bandwidth::default().of(&"b".into(), None);
        assert!(time(&[&free], 1 << 40).await < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn migrations_to_one_node_share_its_link() {
        let bandwidth = Bandwidth::new(rate("4MiB/s"));
        let of = |peer: &str| bandwidth.of(&peer.into(), None);
        let (one, two) = (of("b"), of("b"));
        assert!(time(&[&one, &two], (512 << 10) + (128 << 10)).await >= Duration::from_millis(240));
        let fresh = of("c");
        assert!(fresh.0[0].check_n(AT_ONCE).unwrap().is_ok(), "another node's link is untouched");
    }
}
