//! The story that the demo tells: users move, and their service follows.

use std::time::Duration;

use anyhow::{bail, ensure};
use tokio::time::{Instant, sleep};

use crate::policy;
use crate::scheduler::Scheduler;
use crate::stage::{self, Distances, EVENING, MORNING, Stage, USERS};
use crate::sterna::Sterna;

/// Keys in Redis.
const KEYS: usize = 100_000;
/// From the users' move to the service's.
const TO_MOVE: Duration = Duration::from_secs(180);

/// What differs from the preset: it is to act, and nobody wants to wait for minutes in a demo.
pub const CHANGES: [(&str, &str); 5] = [
    ("mode", "auto"),
    ("trigger.interval", "2s"),
    ("hysteresis.min_residency", "1m"),
    ("hysteresis.no_return_within", "1m"),
    ("hysteresis.cooldown", "30s"),
];

/// Tells it to the end. The stage is given back standing, with the scheduler still at work.
///
/// # Errors
/// When anything is not as it should be.
pub async fn tell(
    sterna: &Sterna,
    say: impl Fn(&str) + Send + Sync + Copy + 'static,
) -> anyhow::Result<(Scheduler, Stage)> {
    say("\n== 1. The stage\n");
    let mut stage = stage::raise(sterna, "demo", KEYS, |line| say(&format!("  - {line}"))).await?;

    say("\n== 2. Morning: the users are near the north\n");
    let before = stage.measured(MORNING).await?;
    table(&stage, MORNING, &before, say);
    let id = stage.run_id().await?;
    say(&format!("  Redis runs on {}, its run_id is {id}", stage.home().await?));
    stage.more_writes(100).await?;
    say("\n  The scheduler starts, with policies/presets/latency-first.toml, in which the demo changes");
    say(&format!("  {}:\n", CHANGES.map(|(key, value)| format!("{key} = \"{value}\"")).join(", ")));
    let show = move |line: &str| say(&format!("    {line}"));
    let mut scheduler = stage.scheduler(sterna, policy::preset("latency-first", &CHANGES)?, show)?;
    scheduler.until(Duration::from_secs(60), |printed| printed.contains("stay")).await?;
    // The rest of what it says about it, and another look that says nothing new.
    sleep(Duration::from_secs(3)).await;

    say("\n== 3. Evening: the users are near the south; the prober measures it, the scheduler sees it\n");
    let left = Instant::now();
    stage.users_go(EVENING)?;
    moved(&mut stage, &mut scheduler, "edge-south").await?;
    let moved_after = left.elapsed();
    stage.more_writes(200).await?;

    say("\n== 4. What came of it\n");
    let after = stage.measured(EVENING).await?;
    table(&stage, EVENING, &after, say);
    let (worst, now) = (after.get("edge-north"), after.get("edge-south"));
    if let (Some(worst), Some(now)) = (worst, now) {
        say(&format!(
            "  latency of the users' service    {worst:.1} ms if it had stayed, {now:.1} ms where it is"
        ));
    }
    say(&format!(
        "  moved after                      {:.1} s, counted from the users' own move",
        moved_after.as_secs_f64()
    ));
    let (digest, dataset, seen) = stage.compare().await?;
    let still = stage.run_id().await?;
    ensure!(still == id, "the run_id was {id} and is {still}: this Redis was started cold");
    say(&format!("  run_id                           {still}, unchanged: the same process goes on"));
    say(&format!("  DEBUG DIGEST of {} keys      {digest}", dataset.len()));
    say(&format!(
        "                                   agrees with the {} writes that the client was told are safe",
        seen.writes
    ));
    say(&format!(
        "  blackout that the client saw     {:.2} s, its longest wait between two writes",
        seen.longest_gap.as_secs_f64()
    ));
    Ok((scheduler, stage))
}

fn table(
    stage: &Stage,
    distances: &Distances,
    measured: &std::collections::BTreeMap<String, f64>,
    say: impl Fn(&str),
) {
    say(&format!("  {:<12} {:>12} {:>24}", "site", "way set to", "measured by Prometheus"));
    for (site, set) in distances {
        let measured = measured.get(*site).map_or_else(|| "-".to_owned(), |value| format!("{value:.1} ms"));
        let here = if stage.serving_site() == Some(site) {
            format!("   <- Redis, serving the {USERS}")
        } else {
            String::new()
        };
        say(&format!("  {site:<12} {:>9} ms {measured:>24}{here}", set.as_millis()));
    }
}

/// Whether the report of a migration that moved the service was printed: its phase table, and this line below it.
pub fn reported(printed: &str) -> bool {
    printed.lines().any(|line| line.trim_start().starts_with(&format!("`{}` moved from", stage::SERVICE)))
}

/// Waits until the client is served from `site` and the scheduler has nothing under way.
async fn moved(stage: &mut Stage, scheduler: &mut Scheduler, site: &str) -> anyhow::Result<()> {
    let start = Instant::now();
    while stage.serving_site() != Some(site) {
        if start.elapsed() > TO_MOVE {
            bail!("{TO_MOVE:?} after the users' move Redis still serves from {:?}", stage.serving_site());
        }
        // Also fails when the scheduler has ended.
        let more = scheduler.printed().len();
        let _news = scheduler.until(Duration::from_millis(200), |printed| printed.len() > more).await;
        sleep(Duration::from_millis(50)).await;
    }
    // The source is cleaned up, and the report printed, after the client is served again.
    scheduler.until(Duration::from_secs(60), reported).await?;
    Ok(())
}
