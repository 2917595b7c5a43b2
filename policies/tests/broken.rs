//! Broken policies, one mistake each (a few several): every code that the loader can give, at the right place, and as people read it.
//!
//! The files stand in `broken/`, named after the code. The first line of each says what must be found where: `# F0010 6:12`, with
//! a comma between several.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sterna_policies::diagnose::{Report, Severity};
use sterna_policies::load;

/// Given by what inventories and scenarios share with policies, and never about a policy: names that files declare.
const OF_OTHER_FILES: [&str; 2] = ["F0022", "F0023"];

fn cases() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .map(|file| {
            (file.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(file).unwrap())
        })
        .collect()
}

fn report(text: &str) -> Report {
    match load::policy("p.toml", text) {
        Ok(loaded) => loaded.warnings,
        Err(invalid) => invalid.report().clone(),
    }
}

/// As the first line of a file has it.
fn found(report: &Report) -> String {
    let each = report.diagnostics().iter().map(|diagnostic| {
        let (line, column) = report.position(diagnostic.span.start);
        format!("{} {line}:{column}", diagnostic.code)
    });
    each.collect::<Vec<_>>().join(", ")
}

#[test]
fn every_mistake_is_found_where_it_is_and_nothing_else() {
    let cases = cases();
    assert!(cases.len() >= 60, "{}", cases.len());
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(name, text)| {
            let wanted = text.lines().next().unwrap().trim_start_matches("# ");
            let found = found(&report(text));
            (wanted != found || !wanted.contains(&name[..5]))
                .then(|| format!("{name}: wanted {wanted}, found {found}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_mistake_is_said_as_it_was_agreed() {
    for (name, text) in cases() {
        insta::assert_snapshot!(name, report(&text).plain());
    }
}

/// A warning leaves the policy usable; whatever else is found refuses it.
#[test]
fn only_warnings_leave_a_policy_usable() {
    for (name, text) in cases() {
        let loaded = load::policy("p.toml", &text);
        assert_eq!(loaded.is_ok(), name.starts_with('W'), "{name}");
        for diagnostic in report(&text).diagnostics() {
            let warns = diagnostic.severity == Severity::Warning;
            assert_eq!(warns, diagnostic.code.starts_with('W'), "{name}");
        }
    }
}

/// The codes in a source file: in quotes, a letter and four digits.
fn codes(text: &str) -> BTreeSet<String> {
    let code = |word: &&str| {
        let mut letters = word.chars();
        letters.next().is_some_and(|first| "FPW".contains(first))
            && word.len() == 5
            && letters.all(|c| c.is_ascii_digit())
    };
    text.split('"').filter(code).map(str::to_owned).collect()
}

fn sources(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else {
            into.extend(codes(&fs::read_to_string(path).unwrap()));
        }
    }
}

#[test]
fn every_code_of_the_loader_has_a_broken_policy() {
    let mut given = BTreeSet::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut given);
    given.retain(|code| !OF_OTHER_FILES.contains(&code.as_str()));
    let shown: BTreeSet<String> = cases()
        .iter()
        .flat_map(|(_, text)| {
            report(text).diagnostics().iter().map(|one| one.code.to_owned()).collect::<Vec<_>>()
        })
        .collect();
    assert!(given.len() > 40, "{given:?}");
    assert_eq!(given, shown);
}
