//! `sterna simulate` with its report as a page and as tables, as a user runs it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../simulator/scenarios")
}

fn simulate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sterna"))
        .current_dir(scenarios())
        .args(["simulate", "quiet.toml", "--policy", "latency-first.toml", "--allow-unused"])
        .args(args)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_page_and_tables_are_written_beside_what_is_printed() {
    let home = tempfile::tempdir().unwrap();
    let (page, tables) = (home.path().join("report.html"), home.path().join("tables"));
    let written = simulate(&["--html", page.to_str().unwrap(), "--csv", tables.to_str().unwrap()]);
    assert!(written.status.success(), "{}", said(&written.stderr));
    let plain = simulate(&[]);
    assert_eq!(said(&written.stdout), said(&plain.stdout));
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.starts_with("<!DOCTYPE html>") && text.trim_end().ends_with("</html>"));
    // Both are of one report.
    let hash = said(&plain.stdout);
    let hash = hash.trim().rsplit(' ').next().unwrap();
    assert!(text.contains(hash), "{hash}");
    let mut names: Vec<String> = std::fs::read_dir(&tables)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let all = ["alternatives", "course", "holds", "moves", "placements", "totals", "violations"];
    assert_eq!(names, all.map(|name| format!("{name}.csv")));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 2);
}

#[test]
fn where_nothing_can_be_written_nothing_is_simulated() {
    let home = tempfile::tempdir().unwrap();
    for (flag, path, reason) in [
        ("--html", home.path().join("nowhere/report.html"), "No such file or directory"),
        ("--html", home.path().to_owned(), "it is a folder"),
        ("--csv", scenarios().join("quiet.toml"), "File exists"),
    ] {
        let refused = simulate(&[flag, path.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(1));
        assert_eq!(said(&refused.stdout), "");
        let error = said(&refused.stderr);
        assert!(error.contains(path.to_str().unwrap()) && error.contains(reason), "{error}");
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

fn fleet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sterna"))
        .current_dir(scenarios())
        .args(["simulate", "consolidation-24h/scenario.toml"])
        .args(args)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

#[test]
fn the_fleet_by_which_simulators_are_compared_runs_from_its_file() {
    for (args, known, moves) in [
        (&["--nodes", "100"][..], 320.871852, "Moves   200 made, 0 refused"),
        (&[], 3209.782140, "Moves   2009 made, 0 refused"),
    ] {
        let told = fleet(args);
        assert!(told.status.success(), "{}", said(&told.stderr));
        let text = said(&told.stdout);
        assert!(text.contains(moves) && text.contains("node-hours per second"), "{text}");
        let energy = text.lines().find_map(|line| line.strip_prefix("Energy")?.trim().strip_suffix(" kWh"));
        let energy: f64 = energy.unwrap().parse().unwrap();
        // Ours is in whole millionths of a watt.
        assert!((energy / known - 1.0).abs() < 1e-6, "{text}");
    }
    let json = said(&fleet(&["--nodes", "100", "--output", "json"]).stdout);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["report"]["migrations"].as_array().unwrap().len(), 200);
    assert_eq!(json["sites"][3], "fourth");
    assert!(json["speed"]["node_hours_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn what_is_no_use_for_a_fleet_or_without_one_is_refused() {
    let refused = |output: Output| {
        assert_eq!(output.status.code(), Some(1));
        said(&output.stderr)
    };
    let policy = refused(fleet(&["--policy", "latency-first.toml"]));
    assert!(
        policy.contains("consolidation-24h/scenario.toml") && policy.contains("it takes no --policy"),
        "{policy}"
    );
    let large = refused(fleet(&["--nodes", "4000000"]));
    assert!(large.contains("4000000 nodes can't be simulated"), "{large}");
    let without = Command::new(env!("CARGO_BIN_EXE_sterna"))
        .current_dir(scenarios())
        .args(["simulate", "quiet.toml"])
        .output()
        .unwrap();
    assert!(refused(without).contains("at least one --policy FILE"));
}

#[test]
fn what_fails_by_the_command_line_is_told() {
    let home = tempfile::tempdir().unwrap();
    let page = home.path().join("report.html");
    let asked = "site/edge-south at 9:00 for 2h";
    let told = simulate(&["--fail", asked, "--html", page.to_str().unwrap()]);
    assert!(told.status.success(), "{}", said(&told.stderr));
    assert!(
        said(&told.stdout).contains(&format!("Fails by the command line: {asked}\n")),
        "{}",
        said(&told.stdout)
    );
    assert!(std::fs::read_to_string(&page).unwrap().contains(asked));
    assert!(said(&simulate(&["--fail", asked, "--timeline"]).stdout).contains("south-1 is gone"));
    let many = simulate(&["--fail", "node/south-1 mtbf 3h mttr 10m", "--seeds", "2"]);
    assert!(
        said(&many.stdout).contains("Fails by the command line: node/south-1 mtbf 3h mttr 10m\n"),
        "{}",
        said(&many.stdout)
    );
    let wrong = simulate(&["--fail", "site/edge-sout at 9:00 for 2h"]);
    assert_eq!(wrong.status.code(), Some(3));
    let error = said(&wrong.stderr);
    assert!(error.contains("--fail:1:6") && error.contains("did you mean `edge-south`?"), "{error}");
}

#[test]
fn values_that_cannot_be_read_are_told_with_their_file() {
    let home = tempfile::tempdir().unwrap();
    let shipped = scenarios().join("price-spike");
    for file in ["inventory.toml", "policy.toml"] {
        std::fs::copy(shipped.join(file), home.path().join(file)).unwrap();
    }
    let text = std::fs::read_to_string(shipped.join("scenario.toml")).unwrap();
    assert!(text.contains("spot-price.csv"));
    std::fs::write(home.path().join("scenario.toml"), text.replace("spot-price.csv", "prices.parquet"))
        .unwrap();
    std::fs::write(home.path().join("prices.parquet"), "PAR1 and no more").unwrap();
    let refused = Command::new(env!("CARGO_BIN_EXE_sterna"))
        .current_dir(home.path())
        .args(["simulate", "scenario.toml", "--policy", "policy.toml"])
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(3));
    let why = if cfg!(feature = "parquet") {
        "can't read prices.parquet: it is no Parquet that can be read"
    } else {
        "can't read prices.parquet: this sterna was built without Parquet"
    };
    // Lines are broken where they are long.
    let error =
        said(&refused.stderr).split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    assert!(error.contains(why), "{error}");
}
