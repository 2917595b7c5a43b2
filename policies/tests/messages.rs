//! What people read when a policy file is wrong: every rule once, as it is printed.

use sterna_policies::load;

const HEAD: &str = "schema_version = 1\nname = \"p\"\n";
const TERM: &str = "[[objective.term]]\nmetric = \"cost_rate\"\n";

fn rendered(text: &str) -> String {
    let report = match load::policy("p.toml", text) {
        Ok(loaded) => loaded.warnings,
        Err(invalid) => invalid.report().clone(),
    };
    assert!(!report.is_empty(), "nothing was found in:\n{text}");
    report.plain()
}

/// A policy that is right but for what is put in.
fn with(rest: &str) -> String {
    rendered(&format!("{HEAD}{TERM}{rest}"))
}

#[test]
fn syntax() {
    insta::assert_snapshot!(rendered("schema_version = 1\nname = p\n[objective\n"));
}

#[test]
fn a_quantity_without_quotes() {
    insta::assert_snapshot!(with("[trigger]\ninterval = 30s\n"));
}

#[test]
fn unknown_keys_at_every_level() {
    insta::assert_snapshot!(rendered(
        r#"schema_version = 1
name = "p"
priority = 50

[objective]
metod = "priced"
[[objective.term]]
metric = "cost_rate"
goal = "min"

[hysteresis]
min_gian = "15%"

[metrics.cost]
query = "up"
"#
    ));
}

#[test]
fn an_empty_file() {
    insta::assert_snapshot!(rendered(""));
}

#[test]
fn wrong_types_and_words() {
    insta::assert_snapshot!(with(
        "[trigger]\ninterval = 30\n[budget]\nconcurrent = -1\n[select]\nservices = \"redis\"\n[migration]\nmethod = \"chekpoint\"\n"
    ));
}

#[test]
fn quantities_of_the_wrong_kind() {
    insta::assert_snapshot!(rendered(
        r#"schema_version = 1
name = "p"
[[objective.term]]
metric = "user_latency"
satisfied_at = "10W"
tolerance = "5"
[constraints]
max = { power = "1kVA" }
min_free = "100%"
[hysteresis]
cooldown = "-5m"
"#
    ));
}
