//! The policy's minimum gain holds a move that would be better but not by enough, and says so; lowered, it lets go.

use std::time::Duration;

use sterna_e2e::stage::{self, EVENING, MORNING, Stage};
use sterna_e2e::sterna::Sterna;
use sterna_e2e::{policy, story};

/// The demo's policy, but with another least gain.
fn with_min_gain(share: &str) -> anyhow::Result<String> {
    let mut changes = story::CHANGES.to_vec();
    changes.push(("hysteresis.min_gain", share));
    policy::preset("latency-first", &changes)
}

/// With the service running and nobody to ask for its latency, `sterna plan` finds no move and says what is missing.
async fn without_prometheus(sterna: &Sterna, stage: &Stage) -> anyhow::Result<()> {
    let folder = stage.continuum().folder();
    std::fs::write(folder.join("absent-policy.toml"), with_min_gain("20%")?)?;
    let settings = "inventory = \"inventory.toml\"\npolicy = \"absent-policy.toml\"\nstate = \"state\"\n\
                    [prometheus]\nurl = \"http://127.0.0.1:1\"\ntimeout = \"2s\"\n";
    std::fs::write(folder.join("absent.toml"), settings)?;
    let finished = sterna.run_in(folder, &[], &["plan", "--config", "absent.toml"]).await?;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    anyhow::ensure!(finished.status.code() == Some(4), "ended with {}:\n{said}", finished.status);
    for part in ["held", "user_latency", "127.0.0.1:1 can't be reached"] {
        anyhow::ensure!(said.contains(part), "does not say `{part}`:\n{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_gain_below_the_minimum_does_not_move_the_service_and_says_so() {
    let sterna = Sterna::built().unwrap();
    let name = format!("gain-{}", std::process::id());
    let mut stage = stage::raise(&sterna, &name, 2000, |line| println!("{line}")).await.unwrap();
    stage.measured(MORNING).await.unwrap();
    let home = stage.home().await.unwrap().to_owned();
    without_prometheus(&sterna, &stage).await.unwrap();
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
