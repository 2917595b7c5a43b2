//! `sterna simulate` with seeds and sweeps, as it is run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

/// A short day on which it is left to chance how much is asked for.
const SCENARIO: &str = r#"
schema_version = 1
name = "noisy"
inventory = "inventory.toml"
start = "2026-03-02T06:00:00Z"
duration = "4h"
[noise]
rate = "30%"
every = "30m"
[[latency]]
users = "town"
site = "north"
points = [["0h", "4ms"], ["1h", "45ms"], ["3h", "4ms"]]
"#;

const INVENTORY: &str = r#"
schema_version = 1
name = "town"
[[site]]
name = "north"
tier = "edge"
region = "here"
price = { node = "0.10USD/h" }
power = { idle = "8W", full = "30W" }
carbon = "200g/kWh"
[[site.node]]
name = "north-1"
cpu = "4cores"
memory = "8GiB"
[[site]]
name = "south"
tier = "edge"
region = "here"
price = { node = "0.12USD/h" }
power = { idle = "8W", full = "30W" }
carbon = "300g/kWh"
[[site.node]]
name = "south-1"
cpu = "4cores"
memory = "8GiB"
[[link]]
between = ["north", "south"]
rtt = "10ms"
bandwidth = "1Gbit/s"
[[users]]
name = "town"
rates = { shop = "20/s" }
latency = { north = "4ms", south = "20ms" }
[[service]]
name = "shop"
cpu = "1core"
memory = "512MiB"
"#;

const POLICY: &str = r#"
schema_version = 1
name = "users-first"
mode = "auto"
[[objective.term]]
metric = "user_latency"
[trigger]
interval = "10m"
[hysteresis]
min_gain = "10%"
min_residency = "20m"
cooldown = "10m"
[metrics.user_latency]
query = "avg by (site, users) (latency)"
users_label = "users"
unit = "s"
"#;

const SWEEP: &str = "schema_version = 1\n[grid]\n\"hysteresis.min_gain\" = [\"10%\", \"95%\"]\n\"hysteresis.min_residency\" = [\"20m\", \"3h\"]\n";

fn simulate(folder: &Path, args: &[&str]) -> Output {
    for (name, text) in [
        ("day.toml", SCENARIO),
        ("inventory.toml", INVENTORY),
        ("policy.toml", POLICY),
        ("sweep.toml", SWEEP),
    ] {
        let path = folder.join(name);
        if !path.exists() {
            let placed = "[placement]\nshop = \"north-1\"\n";
            let text = if name == "day.toml" { format!("{text}{placed}") } else { text.to_owned() };
            std::fs::write(path, text).unwrap();
        }
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
    let command = command.current_dir(folder).env("NO_COLOR", "1").args([
        "simulate",
        "day.toml",
        "--policy",
        "policy.toml",
    ]);
    command.args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn seeds_give_intervals() {
    let folder = tempfile::tempdir().unwrap();
    let out = simulate(folder.path(), &["--seeds", "4"]);
    let printed = text(&out.stdout);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(printed.contains("seeds 0 to 3") && printed.contains(" ± "), "{printed}");
    assert!(printed.contains("Differences, seed by seed"), "{printed}");
    let again = simulate(folder.path(), &["--seeds", "4", "--threads", "1"]);
    assert_eq!(text(&again.stdout), printed);
}

#[test]
fn a_sweep_marks_what_is_beaten() {
    let folder = tempfile::tempdir().unwrap();
    let out = simulate(folder.path(), &["--sweep", "sweep.toml", "--seeds", "3", "--output", "json"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let printed: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let variants = printed["comparison"]["policies"].as_array().unwrap();
    assert_eq!(variants.len(), 4);
    // Who follows the users has the least latency; who does not move at all costs the least.
    assert!(variants[0]["beaten_by"].is_null() && variants[2]["beaten_by"].is_null());
    assert!(variants[0]["measures"]["moves"]["mean"].as_f64().unwrap() > 0.0);
    let table = text(&simulate(folder.path(), &["--sweep", "sweep.toml", "--seeds", "3"]).stdout);
    assert!(
        table.contains("variant 1: hysteresis.min_gain = 10%, hysteresis.min_residency = 20m"),
        "{table}"
    );
    assert!(table.contains("are beaten by nobody"), "{table}");
    assert!(table.contains(printed["hash"].as_str().unwrap()), "{table}");
}

#[test]
fn a_key_that_policies_do_not_have_is_refused_at_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = SWEEP.replace("min_residency", "min_residence");
    std::fs::write(folder.path().join("sweep.toml"), wrong).unwrap();
    let out = simulate(folder.path(), &["--sweep", "sweep.toml"]);
    let printed = text(&out.stderr);
    assert_eq!(out.status.code(), Some(3), "{printed}");
    assert!(printed.contains("sweep.toml:4") && printed.contains("min_residence"), "{printed}");
    let two = simulate(folder.path(), &["--policy", "policy.toml", "--sweep", "sweep.toml"]);
    assert!(!two.status.success());
}
