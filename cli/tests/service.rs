//! The commands that speak with a scheduler, as they are run: with none, and with an API on loopback.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use sterna_core::continuum::inventory;
use sterna_core::difference::Difference;
use sterna_core::observation::Observation;
use sterna_core::record::Recorded;
use sterna_daemon::api::events::Feed;
use sterna_daemon::api::token::{self, Token};
use sterna_daemon::api::{self, Api};
use sterna_daemon::control::desk::Desk;
use sterna_daemon::control::world::SystemClock;
use sterna_daemon::history::HistoryStore;
use sterna_daemon::history::approval::{Step, Stepped};
use sterna_daemon::reload::{FileError, Refused};
use sterna_daemon::telemetry::{self, ConfigFile, Telemetry};

const INVENTORY: &str = r#"
schema_version = 1
name = "two"

[[site]]
name = "near"
tier = "edge"
region = "eu"
price = { node = "0.50USD/h" }
power = { idle = "5W", full = "20W" }
[[site.node]]
name = "near-1"
cpu = "2cores"
memory = "4GiB"

[[site]]
name = "far"
tier = "cloud"
region = "eu"
price = { node = "0.10USD/h" }
power = { idle = "5W", full = "20W" }
[[site.node]]
name = "far-1"
cpu = "2cores"
memory = "4GiB"

[[link]]
between = ["near", "far"]
rtt = "10ms"
bandwidth = "1000Mbit/s"

[[service]]
name = "shop"
cpu = "0.5"
memory = "256MiB"
"#;

const POLICY: &str = r#"
schema_version = 1
name = "cheap"
mode = "recommend"
[objective]
[[objective.term]]
metric = "cost_rate"
"#;

fn sterna(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_sterna"))
        .current_dir(folder)
        .args(args)
        .args(["--config", "sterna.toml"])
        .env("NO_COLOR", "1")
        .env("STERNA_BY", "eve")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

fn settings(folder: &Path, port: u16) {
    std::fs::write(folder.join("inventory.toml"), INVENTORY).unwrap();
    std::fs::write(folder.join("policy.toml"), POLICY).unwrap();
    let text = format!(
        "inventory = \"inventory.toml\"\npolicy = \"policy.toml\"\nstate = \"state\"\nlisten = \"127.0.0.1:{port}\"\n"
    );
    std::fs::write(folder.join("sterna.toml"), text).unwrap();
}

/// A decision by which the shop goes to the cheaper site.
fn recorded() -> Recorded {
    let continuum = inventory::load("inventory.toml", INVENTORY).unwrap().value;
    let policy = sterna_policies::load::policy("policy.toml", POLICY).unwrap().value;
    let now = jiff::Timestamp::now();
    let observation = Observation {
        at: now,
        reachable: continuum.nodes.keys().cloned().collect(),
        placement: [("shop".into(), "near-1".into())].into(),
        continuum: std::sync::Arc::new(continuum),
        latency: Default::default(),
        cpu_use: Default::default(),
        power: Default::default(),
        price: Default::default(),
        memory: Default::default(),
        under_way: Vec::new(),
        overdue: Default::default(),
        unknown: Vec::new(),
        directives: Default::default(),
        costs: Default::default(),
    };
    Recorded::make(observation, policy, Default::default(), now, 0)
}

#[test]
fn without_a_scheduler_the_past_can_be_read_and_nothing_can_be_said() {
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    settings(folder.path(), free.local_addr().unwrap().port());
    drop(free);
    for command in ["status", "history", "report"] {
        let (code, _, err) = sterna(folder.path(), &[command]);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("nothing has happened yet"), "{err}");
    }
    let state = folder.path().join("state/two");
    let history = HistoryStore::open(&state).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let decision = recorded();
    let expires = decision.now + std::time::Duration::from_secs(600);
    let now = decision.now;
    runtime.block_on(async {
        let id = history.record_decision(decision).await.unwrap();
        history.put_up(id, now, expires).await.unwrap();
    });
    let (code, out, err) = sterna(folder.path(), &["status"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("scheduler  does not run"), "{out}");
    assert!(out.contains("near-1") && out.contains("shop"), "{out}");
    let (code, out, _) = sterna(folder.path(), &["history"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("waits for approval"), "{out}");
    let (code, out, _) = sterna(folder.path(), &["history", "1"]);
    assert!(code == Some(0) && out.contains("shop near-1 -> far-1"), "{out}");
    let mut by_another = recorded();
    by_another.policy.hysteresis.min_gain = "99%".parse().unwrap();
    let Recorded { observation, policy, history: past, now, .. } = by_another;
    let by_another = Recorded::make(observation, policy, past, now, 0);
    let again = by_another.clone();
    let number = runtime.block_on(history.record_decision(by_another)).unwrap();
    let (code, out, err) = sterna(folder.path(), &["history", &number.to_string()]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("hysteresis.min_gain: 10% -> 99%"), "{out}");
    assert!(out.contains("old: goes to far-1") && out.contains("new: stays, held: gain"), "{out}");
    let (_, out, _) = sterna(folder.path(), &["history", "1"]);
    assert!(!out.contains("another policy"), "{out}");
    // Decisions of another one in between are not those that came before.
    let number = runtime.block_on(async {
        let mut other = recorded();
        other.policy.name = "other".to_owned();
        let put_up = history.record_decision(other).await.unwrap();
        history.put_up(put_up, now, expires).await.unwrap();
        let approved = Stepped { at: now, step: Step::Approved, by: Some("eve".to_owned()), note: None };
        history.step(put_up, approved).await.unwrap();
        let refused = Stepped { at: now, step: Step::Refused, by: None, note: Some("no".to_owned()) };
        history.step(put_up, refused).await.unwrap();
        history.record_decision(again).await.unwrap()
    });
    let (_, out, _) = sterna(folder.path(), &["history", &number.to_string()]);
    assert!(!out.contains("another policy"), "{out}");
    let (_, out, _) = sterna(folder.path(), &["history"]);
    assert!(out.contains("refused, approved by eve"), "{out}");
    let (code, out, _) = sterna(folder.path(), &["report", "--output", "json"]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["recommended"]["moves"]), (Some(0), &1.into()));
    let (code, out, _) = sterna(folder.path(), &["approve"]);
    assert_eq!(code, Some(2), "there is something to be done");
    assert!(out.contains("approve it with `sterna approve 1`"), "{out}");
    token::of_state(&state).unwrap();
    for args in [&["pause"][..], &["approve", "1"], &["drain", "near", "--site"], &["optout", "shop"]] {
        let (code, _, err) = sterna(folder.path(), args);
        assert_eq!(code, Some(1), "{args:?}");
        assert!(err.contains("no scheduler of `two` runs") && err.contains("nothing was changed"), "{err}");
    }
}

#[test]
fn what_is_said_is_heard_with_the_token_of_the_state_folder() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state/two");
    let history = HistoryStore::open(&state).unwrap();
    let decision = recorded();
    let desk = Arc::new(Desk::new(&decision.observation.continuum, std::slice::from_ref(&decision.policy)));
    let api = Api {
        history: history.clone(),
        desk: Arc::clone(&desk),

        telemetry: Arc::new(Telemetry::new()),
        feed: Feed::default(),
        token: Some(Token::new(&token::of_state(&state).unwrap())),
        clock: Arc::new(SystemClock),
        looking_back: Arc::new(tokio::sync::Semaphore::new(1)),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let port = runtime.block_on(async {
        history.record_decision(decision).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(telemetry::serve(listener, api::routes(api)));
        port
    });
    settings(folder.path(), port);
    let (code, out, err) = sterna(folder.path(), &["pause", "--reason", "a demo"]);
    assert_eq!((code, out.as_str()), (Some(0), "paused: nothing is moved until `sterna resume`\n"), "{err}");
    assert_eq!(sterna(folder.path(), &["pause"]).1, "it was paused already\n");
    assert_eq!(sterna(folder.path(), &["cordon", "far", "--site"]).0, Some(0));
    let (code, _, err) = sterna(folder.path(), &["drain", "nowhere"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("the inventory has no node `nowhere`"), "{err}");
    let (_, out, _) = sterna(folder.path(), &["status"]);
    assert!(out.contains("scheduler  runs, but: no cycle has ended yet"), "{out}");
    assert!(out.contains("in force   pause by eve since"), "{out}");
    assert!(out.contains("cordon of site far by eve"), "{out}");
    assert!(!out.contains("not taken"), "{out}");
    let difference = Difference { path: "mode".to_owned(), old: Some("auto".into()), new: Some("of".into()) };
    let error = FileError::Unfit { path: "policy.toml".into(), reason: "there is no mode `of`".to_owned() };
    let refused = Refused { error, written: Some(vec![difference]) };
    desk.read_again(ConfigFile::Policy, Some(refused), jiff::Timestamp::now());
    let (_, out, _) = sterna(folder.path(), &["status"]);
    assert!(out.contains("not taken  the policy as it is since"), "{out}");
    assert!(out.contains("there is no mode `of`") && out.contains("differs: mode: auto -> of"), "{out}");
    assert_eq!(sterna(folder.path(), &["resume"]).0, Some(0));
    assert!(runtime.block_on(history.directives()).unwrap().pause().is_none());
    // With another token nothing is heard.
    std::fs::write(state.join(token::FILE), "another token that is long\n").unwrap();
    let (code, _, err) = sterna(folder.path(), &["pause"]);
    assert!(code == Some(1) && err.contains("the token is not the right one"), "{err}");
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_build_that_can_t_send_spans_says_which_one_can() {
    let folder = tempfile::tempdir().unwrap();
    settings(folder.path(), 0);
    let path = folder.path().join("sterna.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}[traces]\nendpoint = \"http://127.0.0.1:4318\"\n")).unwrap();
    let (code, _, err) = sterna(folder.path(), &["run", "--once"]);
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("[traces]") && err.contains("--features otlp"), "{err}");
}
