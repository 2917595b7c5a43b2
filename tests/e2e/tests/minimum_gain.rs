//! The policy's minimum gain holds a move that would be better but not by enough, and says so; lowered, it lets go.

use std::time::Duration;

use sterna_e2e::stage::{self, EVENING, MORNING};
use sterna_e2e::sterna::Sterna;
use sterna_e2e::{policy, story};

/// The demo's policy, but with another least gain.
fn with_min_gain(share: &str) -> anyhow::Result<String> {
    let mut changes = story::CHANGES.to_vec();
    changes.push(("hysteresis.min_gain", share));
    policy::preset("latency-first", &changes)
}

#[tokio::test]
async fn a_gain_below_the_minimum_does_not_move_the_service_and_says_so() {
    let sterna = Sterna::built().unwrap();
    let name = format!("gain-{}", std::process::id());
    let mut stage = stage::raise(&sterna, &name, 2000, |line| println!("{line}")).await.unwrap();
    stage.measured(MORNING).await.unwrap();
    let home = stage.home().await.unwrap().to_owned();
    let mut scheduler =
        stage.scheduler(&sterna, with_min_gain("99%").unwrap(), |line| println!("  {line}")).unwrap();
    scheduler.until(Duration::from_secs(60), |printed| printed.contains("stay")).await.unwrap();

    stage.users_go(EVENING).unwrap();
    stage.measured(EVENING).await.unwrap();
    let held = |printed: &str| printed.lines().any(|line| line.contains("held") && line.contains("99%"));
    scheduler.until(Duration::from_secs(60), held).await.unwrap();
    // Some more looks, at the full gain: the average that the policy asks for is that of 20 s.
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(stage.home().await.unwrap(), home);
    assert!(!scheduler.printed().contains("moving"), "{}", scheduler.printed());
    assert_eq!(stage.seen().reconnects, 0, "the client noticed something");

    // The same numbers, another minimum.
    scheduler.change_policy(&with_min_gain("20%").unwrap()).unwrap();
    scheduler.until(Duration::from_secs(60), story::reported).await.unwrap();
    stage.more_writes(100).await.unwrap();
    assert_eq!(stage.serving_site(), Some("edge-south"));
    stage.compare().await.unwrap();
    drop(scheduler);
    stage.strike().await.unwrap();
}
