//! The binary by another name: as a plugin of kubectl.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::process::{Command, Output};

/// What the plugin prints.
fn plugin(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("kubectl-sterna");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sterna"), &link).unwrap();
    Command::new(link).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn help_and_mistakes_say_how_a_plugin_is_called() {
    for (arguments, usage) in [
        (&["--help"][..], "Usage: kubectl sterna [OPTIONS] <COMMAND>"),
        (&["rbac", "--help"], "Usage: kubectl sterna rbac [OPTIONS]"),
        (&["policy", "check", "--help"], "Usage: kubectl sterna policy check "),
    ] {
        let output = plugin(arguments);
        assert!(output.status.success() && text(&output.stdout).contains(usage), "{}", text(&output.stdout));
    }
    let mistaken = plugin(&["migrate"]);
    assert_eq!(mistaken.status.code(), Some(2));
    assert!(text(&mistaken.stderr).contains("Usage: kubectl sterna migrate "), "{}", text(&mistaken.stderr));
    assert!(plugin(&["rbac"]).stdout.starts_with(b"apiVersion: v1\nkind: ServiceAccount\n"));
}

#[test]
fn completions_are_those_of_the_name_that_asked() {
    let itself = Command::new(env!("CARGO_BIN_EXE_sterna")).args(["completions", "bash"]).output().unwrap();
    let completes = |output: &Output, program: &str| {
        text(&output.stdout)
            .lines()
            .any(|line| line.ends_with(&format!(" -o bashdefault -o default {program}")))
    };
    assert!(completes(&itself, "sterna"));
    let plugin = plugin(&["completions", "bash"]);
    assert!(completes(&plugin, "kubectl-sterna") && !completes(&plugin, "sterna"));
}
