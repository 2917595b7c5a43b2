//! What a person does with policies and plans, as it is run: what is printed and how it ends. No engine is needed: the nodes of the
//! inventory have agents at an address where nobody listens.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::path::Path;
use std::process::{Command, Output};

use sterna_core::continuum::inventory;
use sterna_core::history::History;
use sterna_core::observation::{Observation, Sample, Source};
use sterna_core::record::Recorded;
use sterna_core::saved::SavedPlan;
use sterna_daemon::history::HistoryStore;
use sterna_daemon::history::lock::StateLock;
use sterna_policies::load;

const POLICY: &str = r#"schema_version = 1
name = "near"
[[objective.term]]
metric = "user_latency"
[metrics.user_latency]
query = "avg by (users, site) (rtt)"
users_label = "users"
unit = "s"
"#;

const INVENTORY: &str = r#"schema_version = 1
name = "away"
[[site]]
name = "north"
tier = "edge"
region = "eu"
price = { node = "0.10USD/h" }
power = { idle = "6W", full = "18W" }
[[site.node]]
name = "north-1"
cpu = "2cores"
memory = "2GiB"
agent = "127.0.0.1:1"
[[site]]
name = "south"
tier = "edge"
region = "eu"
price = { node = "0.10USD/h" }
power = { idle = "6W", full = "18W" }
[[site.node]]
name = "south-1"
cpu = "2cores"
memory = "2GiB"
agent = "127.0.0.1:2"
[[link]]
between = ["north", "south"]
rtt = "20ms"
bandwidth = "1Gbit/s"
[[users]]
name = "town"
rates = { shop = "10/s" }
[[service]]
name = "shop"
cpu = "1"
memory = "256MiB"
"#;

fn sterna(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
    command.current_dir(folder).args(args).env("NO_COLOR", "1").env("HOME", folder);
    for name in ["DOCKER_HOST", "DOCKER_CONFIG", "KUBECONFIG", "XDG_STATE_HOME", "STERNA_CONFIG"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What was printed, with the exit code and whatever else was said.
fn ends(folder: &Path, args: &[&str], code: i32) -> String {
    let output = sterna(folder, args);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    said
}

/// A folder with settings, policy and inventory, and what was decided when the shop was in the north and its users in the south.
fn stage() -> (tempfile::TempDir, Recorded) {
    let folder = tempfile::tempdir().unwrap();
    let settings = "inventory = \"inventory.toml\"\npolicy = \"policy.toml\"\nstate = \"state\"\n\
                    [prometheus]\nurl = \"http://127.0.0.1:1\"\n";
    for (name, text) in [("sterna.toml", settings), ("policy.toml", POLICY), ("inventory.toml", INVENTORY)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let continuum = inventory::load("inventory.toml", INVENTORY).unwrap().value;
    let policy = load::policy("policy.toml", POLICY).unwrap().value;
    let latency = |site: &str, ms: &str| {
        let sample = Sample {
            value: ms.parse::<sterna_policies::quantity::Millis>().unwrap(),
            age: Default::default(),
            source: Source::Measured,
        };
        (site.into(), sample)
    };
    let at = "2026-03-02T12:00:00Z".parse().unwrap();
    let observation = Observation {
        at,
        reachable: continuum.nodes.keys().cloned().collect(),
        placement: [("shop".into(), "north-1".into())].into(),
        latency: [("town".into(), [latency("north", "50ms"), latency("south", "5ms")].into())].into(),
        continuum: std::sync::Arc::new(continuum),
        cpu_use: Default::default(),
        power: Default::default(),
        price: Default::default(),
        memory: Default::default(),
        under_way: Vec::new(),
        directives: Default::default(),
        costs: Default::default(),
        overdue: Default::default(),
        unknown: Vec::new(),
    };
    let recorded = Recorded::make(observation, policy, History::default(), at, 0);
    assert_eq!(recorded.decision.plan.moves.len(), 1);
    (folder, recorded)
}

fn record(folder: &Path, recorded: Recorded) {
    let history = HistoryStore::open(&folder.join("state/away")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert_eq!(runtime.block_on(history.record_decision(recorded)).unwrap(), 1);
}

#[test]
fn a_plan_that_does_not_hold_any_more_is_refused_and_says_why() {
    let (folder, recorded) = stage();
    let folder = folder.path();
    std::fs::write(folder.join("plan.json"), SavedPlan::of(recorded).text().unwrap()).unwrap();
    let apply = ["apply", "plan.json", "-c", "sterna.toml"];
    let said = ends(folder, &apply, 1);
    for part in [
        "shop north-1 -> south-1",
        "the plan is stale, nothing was moved",
        "`shop` ran on `north-1` and is not found on any node that answers",
        "`south-1` answered and does not any more",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    std::fs::write(folder.join("policy.toml"), POLICY.to_owned() + "max_age = \"30s\"\n").unwrap();
    let json = sterna(folder, &[&apply[..], &["--output", "json"]].concat());
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["result"], "stale");
    let changes = json["changes"].as_array().unwrap();
    assert!(
        changes.iter().any(|one| one["path"] == "metrics.user_latency.max_age" && one["change"] == "policy"),
        "{json}"
    );

    let _running = StateLock::take(&folder.join("state/away")).unwrap();
    assert!(ends(folder, &apply, 1).contains("another scheduler runs on"));
}

#[test]
fn what_is_no_plan_is_invalid() {
    let (folder, _) = stage();
    std::fs::write(folder.path().join("plan.json"), "{}").unwrap();
    let said = ends(folder.path(), &["apply", "plan.json", "-c", "sterna.toml"], 3);
    assert!(said.contains("plan.json can't be carried out: it is not a plan"), "{said}");
    ends(folder.path(), &["apply", "absent.json", "-c", "sterna.toml"], 1);
}

#[test]
fn a_decision_of_the_history_is_explained_and_compared() {
    let (folder, recorded) = stage();
    let folder = folder.path();
    let explain =
        |args: &[&str], code| ends(folder, &[&["explain", "-c", "sterna.toml"], args].concat(), code);
    assert!(explain(&["shop", "--decision", "last"], 1).contains("has no decision yet"));
    record(folder, recorded);
    let said = explain(&["shop", "--decision", "1"], 0);
    for part in [
        "decision 1, made 2026-03-02T12:00:00Z",
        "shop on north-1, better on south-1",
        "better, goes here",
        " 5ms ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(explain(&["shop", "--decision", "7"], 1).contains("has no decision 7; the newest is 1"));
    assert!(explain(&["shopp", "--decision", "1"], 1).contains("did you mean `shop`?"));
    let json =
        sterna(folder, &["explain", "shop", "-c", "sterna.toml", "--decision", "1", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (json["decision"].as_i64(), json["places"][1]["origins"]["user_latency"].as_str()),
        (Some(1), Some("measured"))
    );
    // Now nobody answers.
    assert!(explain(&["shop"], 0).contains("shop not found"));

    std::fs::write(folder.join("careful.toml"), POLICY.to_owned() + "[hysteresis]\nmin_gain = \"95%\"\n")
        .unwrap();
    let diff = |args: &[&str], code| ends(folder, &[&["policy", "diff", "policy.toml"], args].concat(), code);
    let said = diff(&["careful.toml", "-c", "sterna.toml", "--decision", "1"], 2);
    for part in [
        "hysteresis.min_gain: 10% -> 95%",
        "old: goes to south-1",
        "new: stays, held: gain in user_latency is 90%",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(diff(&["careful.toml"], 2).contains("written differently"));
    assert!(diff(&["policy.toml"], 0).contains("the policies say the same"));
    std::fs::write(folder.join("broken.toml"), "schema_version = 1\n").unwrap();
    assert!(diff(&["broken.toml"], 3).contains("F0003"));
}

#[test]
fn policies_are_compared_on_a_described_day() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../simulator/scenarios");
    let args = ["policy", "diff", "latency-first.toml", "cost-first.toml", "--scenario", "commuters.toml"];
    let said = ends(&root, &args, 2);
    assert!(said.contains("old latency-first") && said.contains("new cost-first"), "{said}");
    let same = ["policy", "diff", "latency-first.toml", "latency-first.toml", "--scenario", "quiet.toml"];
    ends(&root, &same, 0);
    // The cloud is not taken for another reason, and all moves are the same.
    let folder = tempfile::tempdir().unwrap();
    let narrow = std::fs::read_to_string(root.join("latency-first.toml")).unwrap();
    let narrow = narrow.replace("[trigger]", "[constraints]\ntiers = [\"edge\"]\n\n[trigger]");
    let file = folder.path().join("narrow.toml");
    std::fs::write(&file, narrow).unwrap();
    let file = file.to_str().unwrap();
    ends(&root, &["policy", "diff", "latency-first.toml", file, "--scenario", "commuters.toml"], 0);
}

#[test]
fn a_simulation_in_which_nothing_is_decided_is_an_error_unless_it_is_allowed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../simulator/scenarios");
    let idle = ["simulate", "quiet.toml", "--policy", "latency-first.toml"];
    let said = ends(&root, &idle, 1);
    assert!(said.contains("nothing was decided under latency-first"), "{said}");
    assert!(said.contains("Report hash"), "what was found is told all the same: {said}");
    ends(&root, &[&idle[..], &["--allow-unused"]].concat(), 0);

    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let quiet = text("quiet.toml").replace("[placement]", "step = \"2m\"\n[placement]");
    std::fs::write(folder.path().join("quiet.toml"), quiet).unwrap();
    for name in ["commuters.inventory.toml", "latency-first.toml"] {
        std::fs::write(folder.path().join(name), text(name)).unwrap();
    }
    assert!(ends(folder.path(), &idle, 3).contains("S0007"));
    let said = ends(folder.path(), &[&idle[..], &["--allow-unused"]].concat(), 0);
    assert!(said.contains("S0007"), "a warning all the same: {said}");
}

#[test]
fn cases_are_tried_like_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cases = "simulator/cases/latency-first.toml";
    let said = ends(&root, &["policy", "test", cases], 0);
    assert!(
        said.contains("what is near its users stays ... ok") && said.contains("all hold: 12 ok, 0 failed"),
        "{said}"
    );
    let with = ["policy", "test", cases, "--policy", "policies/presets/cost-saver.toml"];
    let said = ends(&root, &with, 1);
    assert!(said.contains("... FAILED") && said.contains("NOT ALL HOLD"), "{said}");
    let junit = sterna(&root, &[&with[..], &["--output", "junit"]].concat());
    assert!(text(&junit.stdout).contains("<failure message=") && text(&junit.stdout).contains("<testsuites"));
    let only = sterna(&root, &["policy", "test", cases, "--only", "undone", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&only.stdout).unwrap();
    assert_eq!(json[0]["trials"].as_array().unwrap().len(), 2);

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cases.toml"), "schema_version = 1\n").unwrap();
    assert!(ends(folder.path(), &["policy", "test", "cases.toml"], 3).contains("F0003"));
}

#[test]
fn init_writes_what_loads_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let meta = folder.join(".docker/contexts/meta/1");
    std::fs::create_dir_all(&meta).unwrap();
    let context = r#"{"Name":"lab","Endpoints":{"docker":{"Host":"ssh://root@lab-host"}}}"#;
    std::fs::write(meta.join("meta.json"), context).unwrap();
    std::fs::create_dir(folder.join(".kube")).unwrap();
    std::fs::write(folder.join(".kube/config"), "contexts:\n- name: k3s\n  context: {}\n").unwrap();
    let init = ["init", "new", "--prometheus", "http://127.0.0.1:1"];

    let dry = ends(folder, &[&init[..], &["--dry-run"]].concat(), 0);
    assert!(dry.contains("==> new/inventory.toml <==") && !folder.join("new").exists(), "{dry}");
    let said = ends(folder, &init, 0);
    for part in [
        "context lab at ssh://root@lab-host",
        "context k3s in",
        "can't be reached",
        "wrote new/policy.toml",
        "sterna plan --config new/sterna.toml",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(
        std::fs::read_to_string(folder.join("new/inventory.toml"))
            .unwrap()
            .contains("agent = \"lab-host:7500\"")
    );
    assert!(ends(folder, &["policy", "check", "--strict", "new/policy.toml"], 0).contains("mode observe"));
    std::fs::write(folder.join("new/policy.toml"), "mine").unwrap();
    assert!(ends(folder, &init, 1).contains("--force"));
    assert_eq!(std::fs::read_to_string(folder.join("new/policy.toml")).unwrap(), "mine");
    ends(folder, &[&init[..], &["--force"]].concat(), 0);
    ends(folder, &["policy", "check", "new/policy.toml"], 0);
    ends(folder, &["init", "--name", "My Home"], 1);
}

#[test]
fn shells_and_man_are_told_of_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = ends(folder.path(), &["completions", shell], 0);
        assert!(said.contains("explain") && said.contains("apply"), "{shell}");
    }
    ends(folder.path(), &["man", "pages"], 0);
    for page in ["sterna.1", "sterna-apply.1", "sterna-policy-test.1"] {
        let text = std::fs::read_to_string(folder.path().join("pages").join(page)).unwrap();
        assert!(text.starts_with(".ie") || text.contains(".TH"), "{page}");
    }
}
