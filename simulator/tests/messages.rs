//! What people read when a scenario is wrong.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io;
use std::path::Path;

use sterna_simulator::scenario::load;

const HEAD: &str = r#"schema_version = 1
name = "day"
inventory = "town.toml"
start = "2026-03-02T00:00:00Z"
duration = "1d"
"#;
const PLACED: &str = "[placement]\nsessions = \"north-1\"\ncatalog = \"north-1\"\n";

/// One line per finding, for a scenario over the example's inventory.
fn findings(text: &str) -> String {
    let inventory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/commuters.inventory.toml");
    let read = |path: &Path| match path.to_str() {
        Some("town.toml") => std::fs::read_to_string(&inventory),
        Some("broken.toml") => Ok("schema_version = 1\nname = \"x\"\nsites = []\n".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    load::load("day.toml", text, &read).unwrap_err().to_string()
}

#[test]
fn everything_wrong_is_found_at_once() {
    insta::assert_snapshot!(findings(&format!(
        r#"{HEAD}step = "1m"
{PLACED}
[[latency]]
users = "comuters"
site = "edge-nort"
points = [["1h", "5ms"], ["1h", "6"], ["25h", "7ms"]]
[[rate]]
users = "residents"
service = "sessions"
shape = "linear"
points = [["0h", "-3/s"]]
[[price]]
site = "cloud"
points = []
[[carbon]]
site = "cloud"
points = [["0h", "1g/kWh"]]
[[carbon]]
site = "cloud"
points = [["0h", "2g/kWh"]]
"#
    )));
}

#[test]
fn its_span_must_make_sense() {
    let text = format!("{HEAD}step = \"1ms\"\n{PLACED}")
        .replace("2026-03-02T00:00:00Z", "tomorrow")
        .replace("\"1d\"", "\"400d\"");
    insta::assert_snapshot!(findings(&text));
}

#[test]
fn what_has_no_effect_is_refused() {
    insta::assert_snapshot!(findings(&format!("{HEAD}step = \"1m\"\n{PLACED}")));
}

#[test]
fn every_service_needs_a_place_with_room() {
    insta::assert_snapshot!(findings(&format!(
        "{HEAD}[placement]\nsession = \"north-1\"\ncatalog = \"north-9\"\n"
    )));
}

#[test]
fn the_inventory_is_read_relative_to_the_scenario_and_has_findings_of_its_own() {
    let missing = findings(&HEAD.replace("town", "nowhere"));
    let broken = findings(&HEAD.replace("town", "broken"));
    insta::assert_snapshot!(format!("{missing}\n{broken}"));
}
