//! `sterna policy` as it is run: what it prints and how it ends.

use std::path::Path;
use std::process::{Command, Output};

fn sterna(folder: &Path, args: &[&str]) -> std::io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_sterna")).current_dir(folder).args(args).env("NO_COLOR", "1").output()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_preset_can_be_printed_and_passes_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let list = sterna(folder.path(), &["policy", "presets"]).unwrap();
    assert!(list.status.success());
    let names: Vec<String> =
        text(&list.stdout).lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    assert!(names.contains(&"latency-first".to_owned()), "{names:?}");
    for name in &names {
        let preset = sterna(folder.path(), &["policy", "presets", name]).unwrap();
        std::fs::write(folder.path().join(name), &preset.stdout).unwrap();
    }
    let mut args = vec!["policy", "check", "--strict"];
    args.extend(names.iter().map(String::as_str));
    let check = sterna(folder.path(), &args).unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stderr));
    let out = text(&check.stdout);
    assert!(
        out.contains(
            "latency-first: ok (latency-first; mode recommend; least user_latency, then cost_rate, then power)"
        ),
        "{out}"
    );
    assert_eq!(out.lines().count(), names.len());
}

#[test]
fn a_refused_file_says_where_and_why_and_the_others_are_checked_too() {
    let folder = tempfile::tempdir().unwrap();
    let good = "schema_version = 1\nname = \"good\"\n[[objective.term]]\nmetric = \"cost_rate\"\n";
    std::fs::write(folder.path().join("good.toml"), good).unwrap();
    std::fs::write(folder.path().join("bad.toml"), format!("{good}[hysteresis]\nmin_gian = \"5%\"\n"))
        .unwrap();
    std::fs::write(folder.path().join("odd.toml"), good.replace("cost_rate", "user_latency")).unwrap();

    let check = sterna(folder.path(), &["policy", "check", "bad.toml", "good.toml", "odd.toml"]).unwrap();
    assert_eq!(check.status.code(), Some(3));
    let (out, err) = (text(&check.stdout), text(&check.stderr));
    assert!(
        out.contains("bad.toml: refused")
            && out.contains("good.toml: ok")
            && out.contains("odd.toml: 1 warning")
    );
    assert!(err.contains("bad.toml:6:1") && err.contains("did you mean `min_gain`?"), "{err}");
    assert!(err.contains("W0001"), "{err}");

    let code = |args: &[&str]| sterna(folder.path(), args).unwrap().status.code();
    assert_eq!(code(&["policy", "check", "odd.toml"]), Some(0));
    assert_eq!(code(&["policy", "check", "--strict", "odd.toml"]), Some(3));
    assert_eq!(code(&["policy", "check", "good.toml", "absent.toml"]), Some(1));
    assert_eq!(code(&["policy", "check", "bad.toml", "absent.toml"]), Some(3));
}

#[test]
fn a_misspelt_preset_is_an_error_with_a_suggestion() {
    let folder = tempfile::tempdir().unwrap();
    let output = sterna(folder.path(), &["policy", "presets", "latency_frist"]).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("did you mean `latency-first`?"));
}

#[test]
fn the_schema_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let output = sterna(folder.path(), &["policy", "schema"]).unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["title"], "Policy");
}
