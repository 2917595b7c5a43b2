//! A day of the demo, made short, as it really goes and as the simulator has it: the same moves, the same standstill, the same
//! energy.
//!
//! What moves take is learnt from this very run before it is simulated, so it is the course of the day that is compared and not how
//! well other days tell of this one: that is what `sterna calibrate` leaves single migrations out for.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use sterna_e2e::policy;
use sterna_e2e::stage::{self, Distances, EVENING, MORNING, SERVICE, Stage, USERS};
use sterna_e2e::sterna::Sterna;
use tokio::time::{Instant, sleep};

/// Where the users go, one after the other, and what the service then moves to.
const DAY: [(&Distances, &str); 4] =
    [(EVENING, "edge-south"), (MORNING, "edge-north"), (EVENING, "edge-south"), (MORNING, "edge-north")];
/// How many MiB the service has more from then on: what moves take is learnt from services of several sizes.
const MORE: [Option<u32>; 4] = [None, None, Some(48), Some(96)];
/// How far the two may be apart.
const NEAR: f64 = 0.15;

/// Acts, looks every second, and rests for less than the users do.
const SETTINGS: [(&str, &str); 6] = [
    ("mode", "auto"),
    ("trigger.interval", "1s"),
    ("trigger.settle", "0s"),
    ("hysteresis.min_residency", "2s"),
    ("hysteresis.no_return_within", "0s"),
    ("hysteresis.cooldown", "1s"),
];

async fn ask(sterna: &Sterna, stage: &Stage, arguments: &[&str]) -> anyhow::Result<String> {
    let finished = sterna.run_in(stage.continuum().folder(), &[], arguments).await?;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    ensure!(finished.status.success(), "{arguments:?} ended with {}:\n{said}", finished.status);
    Ok(finished.stdout)
}

async fn json(sterna: &Sterna, stage: &Stage, arguments: &[&str]) -> anyhow::Result<Value> {
    let mut all = arguments.to_vec();
    all.extend(["--output", "json"]);
    Ok(serde_json::from_str(&ask(sterna, stage, &all).await?)?)
}

/// A quantity without its unit, which is always the same.
fn number(value: &Value, unit: &str) -> anyhow::Result<f64> {
    let text = value.as_str().and_then(|text| text.strip_suffix(unit));
    Ok(text.with_context(|| format!("{value} is no number of {unit}"))?.parse()?)
}

/// Waits until the service is there.
async fn arrives(stage: &Stage, site: &str) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let home = stage.home().await;
        let at = |node: &str| stage.continuum().nodes().find(|(name, _)| *name == node).map(|(_, site)| site);
        if home.as_ref().is_ok_and(|node| at(node) == Some(site)) {
            return Ok(());
        }
        ensure!(start.elapsed() < Duration::from_secs(90), "it is not at {site}: {home:?}");
        sleep(Duration::from_millis(500)).await;
    }
}

/// The day as a scenario: how far the users were from each site, and when.
fn scenario(
    stage: &Stage,
    start: jiff::Timestamp,
    seconds: f64,
    ways: &[(f64, &Distances)],
    memory: &[(f64, String)],
) -> String {
    let memory: Vec<String> =
        memory.iter().map(|(since, size)| format!("[\"{since:.3}s\", \"{size}\"]")).collect();
    let memory = memory.join(", ");
    let inventory = stage.continuum().file().display();
    let mut text = format!(
        "schema_version = 1\nname = \"day\"\ninventory = \"{inventory}\"\nstart = \"{start}\"\nduration = \"{seconds:.3}s\"\n\
         calibration = \"calibration.toml\"\n[placement]\n{SERVICE} = \"north-1\"\n\
         [[memory]]\nservice = \"{SERVICE}\"\npoints = [{memory}]\n"
    );
    for (at, (site, _)) in MORNING.iter().enumerate() {
        let points: Vec<String> = ways
            .iter()
            .map(|(since, distances)| format!("[\"{since:.3}s\", \"{}ms\"]", distances[at].1.as_millis()))
            .collect();
        let points = points.join(", ");
        let _infallible =
            write!(text, "[[latency]]\nusers = \"{USERS}\"\nsite = \"{site}\"\npoints = [{points}]\n");
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_goes_as_it_is_simulated() {
    let sterna = Sterna::built().unwrap();
    let name = format!("day-{}", std::process::id());
    let mut stage = stage::raise(&sterna, &name, 2000, |line| println!("{line}")).await.unwrap();
    stage.measured(MORNING).await.unwrap();
    let id = stage.run_id().await.unwrap();
    let policy = policy::preset("latency-first", &SETTINGS).unwrap();
    let mut scheduler = stage.scheduler(&sterna, policy.clone(), |_| {}).unwrap();
    let mut ways = vec![(jiff::Timestamp::now(), MORNING)];
    sleep(Duration::from_secs(5)).await;
    let mut grown = vec![ways[0].0];
    for ((distances, site), more) in DAY.into_iter().zip(MORE) {
        if let Some(mib) = more {
            let end = (mib << 20).to_string();
            let command = ["redis-cli", "SETRANGE", "sterna:more", &end, "."];
            stage.continuum().exec(stage.home().await.unwrap(), SERVICE, &command).await.unwrap();
            grown.push(jiff::Timestamp::now());
            sleep(Duration::from_secs(3)).await;
        }
        stage.users_go(distances).unwrap();
        ways.push((jiff::Timestamp::now(), distances));
        arrives(&stage, site).await.unwrap();
        stage.more_writes(50).await.unwrap();
        sleep(Duration::from_secs(8)).await;
    }
    scheduler.ask_to_stop();
    let (code, _) = scheduler.ended(Duration::from_secs(30)).await.unwrap();
    assert_eq!(code, Some(0));

    let folder = stage.continuum().folder().to_owned();
    let state = stage.continuum().state().join(&name);
    std::fs::write(folder.join("day-policy.toml"), policy).unwrap();
    let with_policy = ["--policy", "day-policy.toml"];
    let replay = [&["simulate", "--replay", state.to_str().unwrap()], &with_policy[..]].concat();
    let real = json(&sterna, &stage, &replay).await.unwrap()["policies"][0].take();
    assert_eq!((&real["alike"], &real["apart"]), (&real["looks"], &Value::Null), "{real}");
    let first: jiff::Timestamp = real["first"].as_str().unwrap().parse().unwrap();
    let seconds = number(&real["counted"], "ms").unwrap() / 1000.0;

    let report = json(&sterna, &stage, &["report", "--config", "sterna.toml"]).await.unwrap();
    let past = report["migrations"].as_array().unwrap();
    let legs = |all: &[Value]| -> Vec<[String; 3]> {
        let leg = |one: &Value| ["service", "from", "to"].map(|key| one[key].as_str().unwrap().to_owned());
        all.iter().map(leg).collect()
    };
    let decisions = json(&sterna, &stage, &["history", "--config", "sterna.toml"]).await.unwrap();
    let mut numbers: Vec<i64> =
        decisions["decisions"].as_array().unwrap().iter().map(|one| one["id"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers.len(), DAY.len());
    let mut sizes = Vec::new();
    for number in numbers {
        let arguments = ["history", &number.to_string(), "--config", "sterna.toml"];
        let recorded = json(&sterna, &stage, &arguments).await.unwrap();
        sizes.push(recorded["observation"]["memory"][SERVICE].as_str().unwrap().to_owned());
    }
    ask(&sterna, &stage, &["calibrate", "--config", "sterna.toml", "--out", "calibration.toml"])
        .await
        .unwrap();
    let since = |at: jiff::Timestamp| at.duration_since(first).as_secs_f64().max(0.0);
    let sizes = [&sizes[0], &sizes[2], &sizes[3]];
    let memory: Vec<(f64, String)> =
        grown.into_iter().zip(sizes).map(|(at, size)| (since(at), size.clone())).collect();
    let ways: Vec<(f64, &Distances)> = ways.into_iter().map(|(at, way)| (since(at), way)).collect();
    std::fs::write(folder.join("day.toml"), scenario(&stage, first, seconds, &ways, &memory)).unwrap();
    let simulate = [&["simulate", "day.toml"], &with_policy[..]].concat();
    let simulated = json(&sterna, &stage, &simulate).await.unwrap()["report"]["outcomes"][0].take();

    assert_eq!(legs(past), legs(simulated["moves"].as_array().unwrap()), "{report}\n{simulated}");
    assert_eq!(past.len(), DAY.len());
    for (key, unit) in [("downtime", "ms"), ("energy", "Wh")] {
        let of = |totals: &Value| number(&totals[key], unit).unwrap();
        let (really, as_simulated) = (of(&real["was"]), of(&simulated["totals"]));
        println!("{key}: {really} {unit} really, {as_simulated} {unit} simulated");
        assert!(really > 0.0 && (as_simulated / really - 1.0).abs() <= NEAR, "{key}");
    }
    assert_eq!(stage.run_id().await.unwrap(), id, "it was started cold");
    let home = stage.home().await.unwrap();
    stage.continuum().exec(home, SERVICE, &["redis-cli", "DEL", "sterna:more"]).await.unwrap();
    stage.compare().await.unwrap();
    stage.strike().await.unwrap();
}
