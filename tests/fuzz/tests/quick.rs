//! Every target reads its genuine messages, what was found in it before, and some thousand changes.

use std::process::{Command, Output};

fn fuzz(arguments: &[&str]) -> std::io::Result<Output> {
    let work = tempfile::tempdir()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna-fuzz"));
    command.args(arguments).arg("--work").arg(work.path());
    command.output()
}

#[test]
fn nothing_is_found_in_a_few_thousand_changes() {
    let output = fuzz(&["quick", "--cases", "2000"]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().count(), sterna_fuzz::target::ALL.len(), "{said}");
}

#[test]
fn a_file_that_is_no_input_is_refused() {
    let output = fuzz(&["replay", "event", "/dev/null/none"]).unwrap();
    assert!(!output.status.success());
    let output = fuzz(&["replay", "nothing", "/dev/null"]).unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("no target is named `nothing`"));
}
