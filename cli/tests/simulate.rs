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
