//! Failures that are asked for beside those of the scenario's file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod commuters;

use commuters::{policy, read};
use sterna_simulator::report::Report;
use sterna_simulator::run;
use sterna_simulator::scenario::Scenario;

fn scenario(more: &str) -> Scenario {
    read(more).unwrap().scenario
}

fn injected(asked: &[&str]) -> Result<Scenario, String> {
    let mut scenario = scenario("");
    let asked: Vec<String> = asked.iter().map(|one| (*one).to_owned()).collect();
    scenario.inject(&asked).map_err(|invalid| invalid.report().lines())?;
    Ok(scenario)
}

fn report(scenario: &Scenario) -> Report {
    let policy = policy();
    run::compare(scenario, &[policy], 3, &mut |_, _| {}).unwrap()
}

#[test]
fn it_is_as_if_it_stood_in_the_file() {
    for (asked, written) in [
        ("site/edge-south at 12:00 for 2h", "site = \"edge-south\"\nat = \"12h\"\nfor = \"2h\""),
        (
            "nodes-of/edge-south at 2026-03-02T12:00:00Z for 90m",
            "nodes_of = \"edge-south\"\nat = \"12h\"\nfor = \"90m\"",
        ),
        ("node/north-1 at 0d 7:30 for 10 m", "node = \"north-1\"\nat = \"7.5h\"\nfor = \"10m\""),
        (
            "link/edge-south/edge-north at 8h for 1h",
            "link = [\"edge-north\", \"edge-south\"]\nat = \"8h\"\nfor = \"1h\"",
        ),
        ("node/cloud-1 mtbf 5h mttr 30m", "node = \"cloud-1\"\nmtbf = \"5h\"\nmttr = \"30m\""),
    ] {
        let (with, without) = (injected(&[asked]).unwrap(), scenario(&format!("[[failure]]\n{written}\n")));
        assert_eq!(with.chance, without.chance, "{asked}");
        let (mut with, without) = (report(&with), report(&without));
        assert_eq!(std::mem::take(&mut with.injected), [asked]);
        assert!(without.injected.is_empty());
        assert_eq!(with, without, "{asked}");
        assert_ne!(
            with.hash().unwrap(),
            report(&scenario("")).hash().unwrap(),
            "{asked}: it makes a difference"
        );
    }
}

#[test]
fn several_are_several_matters_of_chance() {
    let asked = "node/north-1 mtbf 5h mttr 30m";
    let scenario = injected(&[asked, "  node/north-1   mtbf 5h mttr 30m"]).unwrap();
    let names: Vec<&str> = scenario.chance.faults.iter().map(|fault| fault.name.as_str()).collect();
    assert_eq!(names, ["node north-1", "node north-1 2"]);
    assert_eq!(scenario.injected, [asked, asked]);
    assert_eq!(scenario.drawn.outages, scenario.drawn(0).drawn.outages);
}

#[test]
fn mistakes_point_at_what_was_asked_for() {
    let wrong = [
        "",
        "edge-south at 12:00 for 2h",
        "site/edge-sout at 12:00 for 2h",
        "rack/7 at 12:00 for 2h",
        "site/edge-south",
        "site/edge-south at 12:00",
        "site/edge-south for 2h at 12:00",
        "site/edge-south at noon for 2h",
        "site/edge-south at 30:00 for 2h",
        "site/edge-south at 2026-03-01T12:00:00Z for 2h",
        "site/edge-south at 12:00 for 2",
        "node/north-1 mtbf 1s mttr 0s",
        "link/cloud/cloud at 12:00 for 2h",
    ];
    let told = wrong.map(|asked| injected(&[asked]).map(|_| ()).unwrap_err());
    insta::assert_snapshot!(told.join("\n"));
}
