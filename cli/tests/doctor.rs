//! `sterna doctor` and `sterna policy builtins` as they are run: what they print and how they end.

#![expect(clippy::unwrap_used, reason = "a test says aloud what is wrong")]

use std::path::Path;
use std::process::{Command, Output};

/// Port 1 of loopback: nobody answers there.
const INVENTORY: &str = r#"
schema_version = 1
name = "nobody-home"
[[site]]
name = "north"
tier = "edge"
region = "eu"
power = { idle = "20W", full = "80W" }
price = { node = "0.10USD/h" }
node = [{ name = "n1", cpu = "4", memory = "8GiB", agent = "127.0.0.1:1" }]
[[service]]
name = "shop"
cpu = "1"
memory = "256MiB"
"#;
const SETTINGS: &str = "inventory = \"inventory.toml\"\npolicy = \"policy.toml\"\nstate = \"state\"\n\
                        [prometheus]\nurl = \"http://127.0.0.1:1\"\ntimeout = \"2s\"\n";
const POLICY: &str = "schema_version = 1\nname = \"p\"\n[[objective.term]]\nmetric = \"power\"\n";

fn sterna(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
    command.current_dir(folder).args(args).env("NO_COLOR", "1").output().unwrap()
}

fn doctor(policy: &str, args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("inventory.toml", INVENTORY), ("sterna.toml", SETTINGS), ("policy.toml", policy)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let mut all = vec!["doctor", "-c", "sterna.toml"];
    all.extend(args);
    sterna(folder.path(), &all)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_prometheus_that_is_not_there_leaves_metrics_missing() {
    let policy = format!("{POLICY}[metrics.power]\nbuiltin = \"kepler\"\n");
    let output = doctor(&policy, &[]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{out}{}", text(&output.stderr));
    assert!(out.contains("Prometheus at http://127.0.0.1:1 can't be reached"), "{out}");
    assert!(out.contains("MISSING") && out.contains("1 value is missing, 1 agent does not answer"), "{out}");

    let output = doctor(&policy, &["--output", "json"]);
    assert_eq!(output.status.code(), Some(4));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["metrics"][0]["metric"], "power");
    assert_eq!(found["metrics"][0]["values"][0]["site"], "north");
    assert!(found["metrics"][0]["values"][0]["value"].is_null());
    assert!(found["agents"][0]["problem"].is_string());
}

#[test]
fn where_nothing_is_measured_only_the_agents_can_be_missing() {
    let output = doctor(POLICY, &[]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{out}{}", text(&output.stderr));
    assert!(out.contains("the policy asks nothing of Prometheus") && out.contains("n1"), "{out}");
}

#[test]
fn a_policy_that_is_wrong_is_refused() {
    let output = doctor(&format!("{POLICY}[metrics.power]\nbuiltin = \"keppler\"\n"), &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("did you mean `kepler`?"), "{}", text(&output.stderr));
}

#[test]
fn built_in_queries_are_listed_and_printed() {
    let folder = tempfile::tempdir().unwrap();
    let list = text(&sterna(folder.path(), &["policy", "builtins"]).stdout);
    for part in [
        "probes",
        "kepler-0.9",
        "node_exporter: the share",
        "user_latency",
        "uW",
        "scaph_host_power_microwatts",
    ] {
        assert!(list.contains(part), "no {part} in\n{list}");
    }
    let json = sterna(folder.path(), &["policy", "builtins", "--output", "json"]).stdout;
    let all: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert!(all.as_array().unwrap().len() >= 12);
    let one = text(&sterna(folder.path(), &["policy", "builtins", "opencost"]).stdout);
    assert_eq!(one, "avg by (site) (max by (site, node) (node_total_hourly_cost))\n");
    let unknown = sterna(folder.path(), &["policy", "builtins", "scaphander"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("did you mean `scaphandre`?"));
}
