//! The scheduler over a long time, made short: it looks ten times a second while its users move, Prometheus goes away and comes
//! back, policies are good and bad, and people have a say. It must say at each stage what is so, and not grow.
//!
//! `STERNA_LONG_RUN_CYCLES` says how many looks it takes; 7200 are two hours of a look a second.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use sterna_e2e::policy;
use sterna_e2e::scheduler::Scheduler;
use sterna_e2e::stage::{self, Distances, EVENING, MORNING, Stage};
use sterna_e2e::sterna::Sterna;
use tokio::time::{Instant, sleep};

/// Looks, where nothing else is said.
const CYCLES: u64 = 600;
/// Looks in which caches fill, and which are not compared.
const WARM: u64 = 100;
/// How much more memory than when it was warm may be in use at the end: what caches and the allocator go up and down by.
const GROWTH_KIB: u64 = 12 * 1024;
/// Looks in one round through all stages, at least.
const ROUND: u64 = 200;

/// Acts, looks often, and does not wait for long: what waiting does is tested elsewhere.
const HASTY: [(&str, &str); 6] = [
    ("mode", "auto"),
    ("trigger.interval", "100ms"),
    ("trigger.settle", "0s"),
    ("hysteresis.min_residency", "0s"),
    ("hysteresis.no_return_within", "0s"),
    ("hysteresis.cooldown", "0s"),
];

fn hasty(more: &[(&'static str, &'static str)]) -> anyhow::Result<String> {
    let mut changes = HASTY.to_vec();
    changes.retain(|(key, _)| more.iter().all(|(other, _)| other != key));
    changes.extend(more);
    policy::preset("latency-first", &changes)
}

/// What the scheduler says of itself over HTTP.
struct Watch {
    url: String,
    client: reqwest::Client,
    process: u32,
}

impl Watch {
    async fn on(scheduler: &mut Scheduler) -> anyhow::Result<Self> {
        let url = scheduler.url().await?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy().build()?;
        Ok(Self { url, client, process: scheduler.id().context("it has ended")? })
    }

    async fn page(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// The value of one series; 0 where it is not there yet.
    async fn metric(&self, series: &str) -> anyhow::Result<f64> {
        let (_, text) = self.page("/metrics").await?;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(value.map_or(Ok(0.0), str::parse)?)
    }

    async fn cycles(&self) -> anyhow::Result<f64> {
        self.metric("sterna_cycles_total{result=\"complete\"}").await
    }

    /// Waits until a series has a value that is right.
    async fn until(&self, series: &str, right: impl Fn(f64) -> bool) -> anyhow::Result<f64> {
        let start = Instant::now();
        loop {
            let value = self.metric(series).await?;
            if right(value) {
                return Ok(value);
            }
            ensure!(start.elapsed() < Duration::from_secs(60), "{series} stays {value}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits for so many more complete looks, in which the process is alive and says that it works.
    async fn looks(&self, count: u64) -> anyhow::Result<()> {
        let enough = self.cycles().await? + count as f64;
        let start = Instant::now();
        while self.cycles().await? < enough {
            let (health, ready) = (self.page("/healthz").await?, self.page("/readyz").await?);
            ensure!(health.0 == 200 && ready.0 == 200, "{health:?} {ready:?}");
            ensure!(start.elapsed() < Duration::from_secs(60 + count), "it does not come to {enough} looks");
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// What it has in memory, without what it only has mapped from files.
    fn kib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let text = line.context("no RssAnon")?.trim().trim_end_matches(" kB");
        Ok(text.parse()?)
    }
}

/// Asks the command line, with the settings that the scheduler runs with.
async fn ask(sterna: &Sterna, stage: &Stage, arguments: &[&str], code: i32) -> anyhow::Result<String> {
    let mut all = arguments.to_vec();
    all.extend(["--config", "sterna.toml"]);
    let finished = sterna.run_in(stage.continuum().folder(), &[], &all).await?;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    ensure!(finished.status.code() == Some(code), "{arguments:?} ended with {}:\n{said}", finished.status);
    Ok(finished.stdout)
}

async fn home_is(stage: &Stage, site: &str) -> anyhow::Result<()> {
    let home = stage.home().await?;
    let at = stage.continuum().nodes().find(|(node, _)| *node == home).map(|(_, site)| site);
    ensure!(at == Some(site), "it is at {at:?} and not at {site}");
    Ok(())
}

/// A plan is kept, carried out once by a person, and refused the second time.
async fn by_hand(sterna: &Sterna, stage: &mut Stage) -> anyhow::Result<()> {
    let folder = stage.continuum().folder().to_owned();
    stage.work(hasty(&[("mode", "recommend")])?).write(&folder)?;
    stage.users_go(EVENING)?;
    // The policy looks at the mean of 20 s.
    let start = Instant::now();
    loop {
        let finished =
            sterna.run_in(&folder, &[], &["plan", "--config", "sterna.toml", "--out", "plan.json"]).await?;
        match finished.status.code() {
            Some(2) => break,
            // Nothing is better yet, or not all is measured.
            Some(0 | 4) if start.elapsed() < Duration::from_secs(60) => sleep(Duration::from_secs(1)).await,
            _ => bail!("`sterna plan` ended with {}:\n{}", finished.status, finished.stdout),
        }
    }
    home_is(stage, "edge-north").await?;
    ask(sterna, stage, &["apply", "plan.json"], 0).await?;
    home_is(stage, "edge-south").await?;
    stage.more_writes(50).await?;
    let again = ask(sterna, stage, &["apply", "plan.json"], 1).await?;
    for part in ["stale", "nothing was moved", "redis", "south-1"] {
        ensure!(again.contains(part), "does not say `{part}`:\n{again}");
    }
    home_is(stage, "edge-south").await
}

/// Metrics go away: it goes on looking, says so, and moves nothing.
async fn without_metrics(stage: &mut Stage, watch: &Watch) -> anyhow::Result<()> {
    let moved = watch.metric("sterna_migrations_total{outcome=\"moved\"}").await?;
    stage.monitoring_mut().prometheus_goes();
    watch.until("sterna_metric_store_up", |up| up == 0.0).await?;
    let held = watch.metric("sterna_holds_total{rule=\"metrics-missing\"}").await?;
    watch.looks(10).await?;
    ensure!(watch.metric("sterna_holds_total{rule=\"metrics-missing\"}").await? >= held + 9.0);
    ensure!(watch.metric("sterna_unknown_values{metric=\"user_latency\"}").await? >= 1.0);
    ensure!(watch.metric("sterna_migrations_total{outcome=\"moved\"}").await? == moved);
    stage.monitoring_mut().prometheus_returns().await?;
    watch.until("sterna_metric_store_up", |up| up == 1.0).await?;
    watch.until("sterna_unknown_values{metric=\"user_latency\"}", |unknown| unknown == 0.0).await?;
    Ok(())
}

/// What the policy is in the end.
fn policies_end() -> anyhow::Result<String> {
    hasty(&[("hysteresis.min_gain", "25%")])
}

/// A bad policy leaves the old one in force and says so; a good one takes its place.
async fn policies_change(scheduler: &Scheduler, watch: &Watch) -> anyhow::Result<()> {
    const TAKEN: &str = "sterna_config_last_reload_successful{file=\"policy\"}";
    let at = watch.metric("sterna_config_last_reload_success_timestamp_seconds{file=\"policy\"}").await?;
    scheduler.change_policy("schema_version = 1\nname = \"latency-first\"\nmode = \"atuo\"\n")?;
    watch.until(TAKEN, |ok| ok == 0.0).await?;
    watch.looks(5).await?;
    ensure!(watch.metric(TAKEN).await? == 0.0);
    sleep(Duration::from_secs(1)).await;
    scheduler.change_policy(&policies_end()?)?;
    watch.until(TAKEN, |ok| ok == 1.0).await?;
    let read = watch.metric("sterna_config_last_reload_success_timestamp_seconds{file=\"policy\"}").await?;
    ensure!(read > at, "{read} {at}");
    Ok(())
}

/// While it is paused nothing moves, however far the users are; once it goes on, the service follows them.
async fn paused_and_not(
    sterna: &Sterna,
    stage: &mut Stage,
    watch: &Watch,
    to: (&Distances, &str),
) -> anyhow::Result<()> {
    let moved = watch.metric("sterna_migrations_total{outcome=\"moved\"}").await?;
    ask(sterna, stage, &["pause", "--by", "eve", "--reason", "a look around"], 0).await?;
    let paused = watch.metric("sterna_holds_total{rule=\"paused\"}").await?;
    stage.users_go(to.0)?;
    watch.until("sterna_holds_total{rule=\"paused\"}", |count| count >= paused + 20.0).await?;
    ensure!(watch.metric("sterna_migrations_total{outcome=\"moved\"}").await? == moved);
    ask(sterna, stage, &["resume", "--by", "eve"], 0).await?;
    let now = watch.until("sterna_migrations_total{outcome=\"moved\"}", |count| count > moved).await?;
    ensure!(now == moved + 1.0, "{} moves where one was due", now - moved);
    home_is(stage, to.1).await?;
    stage.more_writes(50).await?;
    Ok(())
}

/// What was predicted of each move stands beside what was measured.
async fn reported(sterna: &Sterna, stage: &Stage, moves: usize) -> anyhow::Result<String> {
    let millis = |value: &Value| -> anyhow::Result<f64> {
        let number = value.as_str().and_then(|text| text.strip_suffix("ms"));
        Ok(number.with_context(|| format!("{value} is no time"))?.parse()?)
    };
    let text = ask(sterna, stage, &["report", "--output", "json"], 0).await?;
    let report: Value = serde_json::from_str(&text)?;
    ensure!(report["moved"] == moves, "{text}");
    let migrations = report["migrations"].as_array().context("no migrations")?;
    ensure!(migrations.len() == moves, "{text}");
    for one in migrations {
        let downtime = millis(&one["end"]["measured"]["downtime"])?;
        ensure!(downtime > 0.0 && downtime < 10_000.0, "{one}");
        let took = millis(&one["end"]["measured"]["duration"])?;
        ensure!(took >= downtime, "{one}");
        ensure!(one["predicted"]["user_latency"].is_string(), "{one}");
        let (before, after) =
            (millis(&one["before"]["user_latency"])?, millis(&one["predicted"]["user_latency"])?);
        ensure!(after < before, "{one}");
    }
    // What is measured after moves that users made necessary is what they had been told to be worth.
    let worth = millis(&report["change"]["user_latency"])?;
    ensure!((-60.0..-10.0).contains(&worth), "{text}");
    let words = ask(sterna, stage, &["report"], 0).await?;
    for part in ["downtime:", "predicted", "measured", &format!("{moves} moves")] {
        ensure!(words.contains(part), "does not say `{part}`:\n{words}");
    }
    Ok(words)
}

/// All that was seen, decided and moved since the policy was changed for good: it decides the same again.
async fn replayed(
    sterna: &Sterna,
    stage: &Stage,
    since: jiff::Timestamp,
    moves: usize,
) -> anyhow::Result<String> {
    let folder = stage.continuum().folder();
    let file = folder.join("again.toml");
    std::fs::write(&file, policies_end()?)?;
    let (state, since) = (stage.continuum().state().join(stage.continuum().name()), since.to_string());
    let state = state.to_str().context("an odd path")?;
    let arguments =
        ["simulate", "--replay", state, "--policy", "again.toml", "--since", &since, "--output", "json"];
    let finished = sterna.run_in(folder, &[], &arguments).await?;
    ensure!(finished.status.success(), "{}{}", finished.stdout, finished.stderr);
    let found: Value = serde_json::from_str(&finished.stdout)?;
    let again = &found["policies"][0];
    let looks = again["looks"].as_u64().context("no looks")?;
    ensure!(looks >= ROUND / 2 && again["alike"] == looks && again["apart"].is_null(), "{again}");
    ensure!(again["was"] == again["with"] && again["was"]["moves"] == moves, "{again}");
    Ok(format!("{looks} looks replayed, all alike, {} with moves", again["wanted"]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goes_on_through_everything_says_so_and_does_not_grow() {
    let cycles = match std::env::var("STERNA_LONG_RUN_CYCLES") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => CYCLES,
    };
    let sterna = Sterna::built().unwrap();
    let name = format!("long-{}", std::process::id());
    let mut stage = stage::raise(&sterna, &name, 2000, |line| println!("{line}")).await.unwrap();
    let id = stage.run_id().await.unwrap();
    stage.measured(MORNING).await.unwrap();
    by_hand(&sterna, &mut stage).await.unwrap();

    let mut scheduler = stage.scheduler(&sterna, hasty(&[]).unwrap(), |_| {}).unwrap();
    let watch = Watch::on(&mut scheduler).await.unwrap();
    // Before its first look has ended it is not ready, and says so.
    watch.until("sterna_cycles_total{result=\"complete\"}", |cycles| cycles >= 1.0).await.unwrap();
    watch.looks(WARM).await.unwrap();
    let (mut moves, mut begun, mut warm, mut settled) = (1, Instant::now(), None, None);
    let from = watch.cycles().await.unwrap() as u64;
    loop {
        let to = if moves % 2 == 0 { (EVENING, "edge-south") } else { (MORNING, "edge-north") };
        let at = watch.cycles().await.unwrap() as u64;
        paused_and_not(&sterna, &mut stage, &watch, to).await.unwrap();
        moves += 1;
        without_metrics(&mut stage, &watch).await.unwrap();
        policies_change(&scheduler, &watch).await.unwrap();
        settled.get_or_insert((moves, jiff::Timestamp::now()));
        home_is(&stage, to.1).await.unwrap();
        let made = watch.cycles().await.unwrap() as u64 - at;
        watch.looks(ROUND.saturating_sub(made).max(1)).await.unwrap();
        let now = watch.cycles().await.unwrap() as u64;
        let kib = watch.kib().unwrap();
        println!("{now} looks, {moves} moves, {kib} KiB, {:?} for the round", begun.elapsed());
        begun = Instant::now();
        let start = *warm.get_or_insert(kib);
        assert!(kib <= start + GROWTH_KIB, "grew from {start} KiB to {kib} KiB");
        if now - from >= cycles {
            break;
        }
    }
    assert_eq!(watch.metric("sterna_cycles_total{result=\"failed\"}").await.unwrap(), 0.0);
    assert!(scheduler.runs());
    println!("{}", reported(&sterna, &stage, moves).await.unwrap());
    scheduler.ask_to_stop();
    let (code, _) = scheduler.ended(Duration::from_secs(30)).await.unwrap();
    assert_eq!(code, Some(0));
    let (before, since) = settled.unwrap();
    println!("{}", replayed(&sterna, &stage, since, moves - before).await.unwrap());
    assert_eq!(stage.run_id().await.unwrap(), id, "it was started cold");
    stage.compare().await.unwrap();
    stage.strike().await.unwrap();
}
