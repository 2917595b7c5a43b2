//! Moves over a link that is late and loses packets: they take longer, and end as well as any other.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sterna_e2e::emulated::Emulated;
use sterna_e2e::emulated::link::Trouble;
use sterna_e2e::ticker;
use sterna_e2e::zoo::redis::Redis;
use sterna_e2e::zoo::{Place, Workload as _};
use tokio::time::timeout;

use super::sent_ahead::bytes;

/// The ticker that moves over it: small, for such a link carries little.
pub const NAME: &str = "small";
/// Its memory.
pub const MIB: u32 = 8;
/// What it rewrites in a second.
const MIB_PER_SECOND: f64 = 0.1;
const TROUBLE: Trouble = Trouble { late_ms: 40, lost_percent: 1 };
/// How long one move may take: it took 105 s on two processors that others used as well.
const MOST: Duration = Duration::from_secs(300);

/// Redis, which is driven already and where it was last checked, and the small ticker go to and fro.
pub async fn is_survived(hosts: &Emulated, redis: &mut Redis) -> anyhow::Result<String> {
    ticker::rewrite(hosts, "a1", NAME, MIB_PER_SECOND).await?;
    hosts.worsen("a1", "b1", TROUBLE).await?;
    let (mut moved, mut slowest) = (0, Duration::ZERO);
    for to in ["b1", "a1"] {
        for service in [NAME, "redis"] {
            let start = Instant::now();
            let report = timeout(MOST, hosts.migrate(service, to)).await;
            let report = report.with_context(|| format!("{service} is not at {to} after {MOST:?}"))??;
            ensure!(report["outcome"]["outcome"] == "moved", "{service} to {to}: {report:#}");
            slowest = slowest.max(start.elapsed());
            moved += bytes(&report, "synced")? + bytes(&report, "transferred")?;
        }
        ticker::whole(hosts, to, NAME, Duration::from_secs(60)).await?;
        redis.check(Place { ground: hosts, node: to, service: "redis" }).await?;
    }
    let carried = hosts.mend("a1", "b1").await?;
    let (bytes, lost) = carried.iter().fold((0, 0), |sum, one| (sum.0 + one.bytes, sum.1 + one.lost));
    let seen = format!(
        "{bytes} bytes late, {lost} packets lost, {moved} bytes moved, a move took {slowest:.1?} at most"
    );
    // What crosses is packed, so it may be less than what was moved; each direction must have lost something.
    ensure!(carried.iter().all(|one| one.bytes > 0 && one.lost > 0), "the link was not bad: {carried:?}");
    Ok(seen)
}
