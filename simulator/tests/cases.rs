//! Cases: those that are shipped hold, what is wrong with a file is said, and a case that does not hold says why.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io;
use std::path::Path;

use sterna_core::explain;
use sterna_policies::policy::Policy;
use sterna_policies::presets::Preset;
use sterna_simulator::cases::trial::{Trial, try_case};
use sterna_simulator::cases::{Suite, load};

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped() -> Suite {
    let file = folder().join("cases/latency-first.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let read =
        load::load(file.to_str().unwrap(), &text, &|path: &Path| std::fs::read_to_string(path)).unwrap();
    assert!(read.warnings.iter().all(|warnings| warnings.is_empty()), "{:?}", read.warnings);
    read.suite
}

fn tried(suite: &Suite, policy: &Policy) -> Vec<Trial> {
    suite.cases.iter().map(|case| try_case(case, policy, 0)).collect()
}

#[test]
fn the_cases_that_are_shipped_hold() {
    let suite = shipped();
    for trial in tried(&suite, suite.policy.as_ref().unwrap()) {
        assert!(
            trial.failures.is_empty(),
            "{}: {:?}\n{}",
            trial.name,
            trial.failures,
            explain::text(&trial.decision)
        );
    }
}

/// The very cases tell one policy from another: none of them holds of itself.
#[test]
fn they_do_not_hold_of_every_policy() {
    let suite = shipped();
    let cheap = Preset::find("cost-saver").unwrap();
    let cheap = sterna_policies::load::policy("cost-saver.toml", cheap.text).unwrap().value;
    let failed: Vec<String> = tried(&suite, &cheap)
        .into_iter()
        .filter(|trial| !trial.failures.is_empty())
        .map(|trial| format!("{}: {}", trial.name, trial.failures.join("; ")))
        .collect();
    insta::assert_snapshot!(failed.join("\n"));
}

#[test]
fn the_same_case_gives_the_same_bytes() {
    let suite = shipped();
    let bytes = || serde_json::to_string(&tried(&suite, suite.policy.as_ref().unwrap())).unwrap();
    assert_eq!(bytes(), bytes());
}

const HEAD: &str = "schema_version = 1\ninventory = \"town.toml\"\n";

fn read(text: &str) -> Result<load::Read, String> {
    let inventory = folder().join("scenarios/commuters.inventory.toml");
    let read = |path: &Path| match path.to_str() {
        Some("town.toml") => std::fs::read_to_string(&inventory),
        Some("broken.toml") => Ok("schema_version = 1\nname = \"p\"\n".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    load::load("cases.toml", text, &read).map_err(|invalid| invalid.report().lines())
}

fn findings(text: &str) -> String {
    read(text).unwrap_err()
}

#[test]
fn everything_wrong_is_found_at_once() {
    insta::assert_snapshot!(findings(&format!(
        r#"{HEAD}at = "noon"
[given]
placement = {{ session = "north-2" }}
latency.comuters = {{ edge-north = "4" }}
drain = ["cloud"]

[[case]]
name = "one"
given.missing = [{{ metric = "power", site = "fog" }}]
expect = {{}}

[[case]]
name = "one"
at = "later"
given.lasting = "4d"
given.migrated = [{{ service = "sessions", from = "north-1", to = "south-1", ago = "-1m" }}]
expect = {{ moves = {{ sessions = "nowhere" }}, held = {{ nobody = ["residency"] }}, excluded = {{ catalog = {{ x = [] }} }} }}
"#
    )));
}

#[test]
fn form_and_files_are_checked() {
    insta::assert_snapshot!(findings(&format!("{HEAD}case = []\n")));
    insta::assert_snapshot!(findings(&format!(
        "{HEAD}[[case]]\nname = \"a\"\nexpect = {{ verdict = \"moves\" }}\n"
    )));
    insta::assert_snapshot!(findings(
        "schema_version = 1\ninventory = \"none.toml\"\npolicy = \"neither.toml\"\n[[case]]\nname = \"a\"\nexpect = { moves = {} }\n"
    ));
    insta::assert_snapshot!(findings(&format!(
        "{HEAD}policy = \"broken.toml\"\n[[case]]\nname = \"a\"\nexpect = {{ moves = {{}} }}\n"
    )));
}

/// A case's own numbers stand over those of all cases, one by one; what is missing is not known.
#[test]
fn what_a_case_gives_stands_over_what_all_have() {
    let text = format!(
        r#"{HEAD}
[given]
placement = {{ sessions = "north-1", catalog = "north-1" }}
latency.commuters = {{ edge-north = "4ms", edge-south = "45ms" }}
[[case]]
name = "own"
given.placement = {{ sessions = "south-1" }}
given.latency.commuters = {{ edge-south = "7ms" }}
given.rate.commuters = {{ sessions = "9/s" }}
expect = {{ moves = {{}} }}
[[case]]
name = "less"
given.missing = [{{ metric = "user_latency" }}]
given.unreachable = ["north-1"]
expect = {{ moves = {{}} }}
"#
    );
    let suite = read(&text).unwrap().suite;
    let policy = shipped().policy.unwrap();
    let own = suite.cases[0].observe(&policy);
    let latency = |site: &str| own.latency[&"commuters".into()][&site.into()].value.to_string();
    assert_eq!((latency("edge-north"), latency("edge-south")), ("4ms".to_owned(), "7ms".to_owned()));
    assert_eq!(own.placement[&"sessions".into()], "south-1".into());
    assert_eq!(own.placement[&"catalog".into()], "north-1".into());
    assert_eq!(own.continuum.users[&"commuters".into()].rates[&"sessions".into()].to_string(), "9/s");
    let less = suite.cases[1].observe(&policy);
    assert!(less.latency.is_empty() && less.placement.is_empty());
    assert_eq!(less.reachable.len(), 2);
}

/// What has to last is tried with `lasting`; what has migrated meanwhile begins it anew.
#[test]
fn what_lasts_is_counted_at_every_look() {
    let folder = folder().join("cases");
    let written = |given: &str, held: &str| {
        format!(
            "schema_version = 1\ninventory = \"../scenarios/commuters.inventory.toml\"\npolicy = \"p.toml\"\n\
             at = \"2026-03-02T12:00:00Z\"\n[given]\nplacement = {{ sessions = \"north-1\", catalog = \"north-1\" }}\n\
             latency.commuters = {{ edge-north = \"45ms\", edge-south = \"4ms\", cloud = \"60ms\" }}\n\
             latency.residents = {{ edge-north = \"5ms\", edge-south = \"20ms\", cloud = \"55ms\" }}\n{given}\n\
             [[case]]\nname = \"it\"\nexpect = {{ {held} }}\n"
        )
    };
    let preset = Preset::find("latency-first").unwrap().text;
    let preset = preset.replacen("min_gain = \"20%\"", "min_gain = \"20%\"\ngain_lasts = \"10m\"", 1);
    let came = |given: &str, expect: &str| {
        let text = written(given, expect);
        let read = load::load(folder.join("it.toml").to_str().unwrap(), &text, &|path: &Path| match path
            .ends_with("p.toml")
        {
            true => Ok(preset.clone()),
            false => std::fs::read_to_string(path),
        });
        let suite = read.unwrap().suite;
        tried(&suite, suite.policy.as_ref().unwrap()).remove(0).failures
    };
    let moves = "moves = { sessions = \"south-1\" }";
    let held = "moves = {}, held = { sessions = [\"gain-too-new\"] }";
    assert_eq!(came("", held), Vec::<String>::new());
    assert_eq!(came("lasting = \"9m\"", held), Vec::<String>::new());
    assert_eq!(came("lasting = \"11m\"", moves), Vec::<String>::new());
    assert_eq!(came("lasting = \"20h\"", moves), Vec::<String>::new());
    let migrated =
        "migrated = [{ service = \"sessions\", from = \"cloud-1\", to = \"north-1\", ago = \"6m\" }]";
    assert_eq!(came(&format!("lasting = \"1h\"\n{migrated}"), held), Vec::<String>::new());
}
