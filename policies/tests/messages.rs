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
weight = 50

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
max = { power = "1kVA", cost_rate = "1usd/h", carbon_rate = "much" }
min_free = "100%"
[hysteresis]
cooldown = "-5m"
min_residency = "99999999999999999999d"
"#
    ));
}

#[test]
fn an_objective_that_contradicts_itself() {
    insta::assert_snapshot!(rendered(
        r#"schema_version = 1
name = "p"

[objective]
method = "lexicographic"
[[objective.term]]
metric = "power"
satisfied_at = "20W"
tolerance = "-1%"
[[objective.term]]
metric = "cpu_use"
price = "1USD/h"
[[objective.term]]
metric = "power"

[constraints.max]
power = "15W"
"#
    ));
}

#[test]
fn a_priced_objective_with_the_keys_of_the_other_method() {
    insta::assert_snapshot!(rendered(
        r#"schema_version = 1
name = "p"
[objective]
method = "priced"
[[objective.term]]
metric = "power"
tolerance = "5%"
[[objective.term]]
metric = "cost_rate"
price = "0USD/h"
"#
    ));
}

#[test]
fn an_objective_without_terms() {
    insta::assert_snapshot!(rendered(&format!("{HEAD}[objective]\nterm = []\n")));
}

#[test]
fn sources_that_do_not_fit_their_metric() {
    insta::assert_snapshot!(rendered(
        r#"schema_version = 1
name = "p"
[[objective.term]]
metric = "user_latency"
[[objective.term]]
metric = "power"

[metrics.user_latency]
query = "probe_duration_seconds"
unit = "W"
plausible = [10.0, 0.0]
max_age = "0s"

[metrics.power]
query = "avg by (instance) (watts)"
unit = "ms"
users_label = "users"
site_label = "the site"
plausible = [0.0, inf]

[metrics.cpu_use]
query = "rate(node_cpu_seconds_total[1m]"
unit = "ratio"
"#
    ));
}

#[test]
fn queries_that_give_something_else() {
    insta::assert_snapshot!(rendered(
        r#"schema_version = 1
name = "p"
[[objective.term]]
metric = "power"

[metrics.power]
query = "watts[5m]"
unit = "W"

[metrics.cpu_use]
query = "1 - avg(rate(node_cpu_seconds_total{mode='idle'}[1m]))"
unit = "ratio"
"#
    ));
}

#[test]
fn a_selection_that_selects_nothing() {
    insta::assert_snapshot!(with(
        r#"
[select]
services = ["web-*", "Shop_1", "web-*"]
exclude_services = ["web*"]
sites = []
"#
    ));
}

#[test]
fn nothing_against_moving_to_and_fro() {
    insta::assert_snapshot!(rendered(&format!(
        "{HEAD}mode = \"auto\"\n{TERM}[hysteresis]\nmin_gain = \"0%\"\nmin_residency = \"0s\"\ncooldown = \"0s\"\nno_return_within = \"0s\"\n"
    )));
}

#[test]
fn gains_residencies_and_budgets_without_sense() {
    insta::assert_snapshot!(with(
        r#"
[trigger]
interval = "5m"
[hysteresis]
min_gain = "150%"
min_residency = "1m"
[budget]
concurrent = 0
"#
    ));
}

#[test]
fn budgets_and_breakers_without_sense() {
    insta::assert_snapshot!(with(
        r#"
[hysteresis]
payback_within = "0s"
[budget]
moves_per_hour = 0
moves_per_day = -3
bytes_per_day = "0B"
downtime_per_day = "20"
"#
    ));
    insta::assert_snapshot!(with(
        r#"
[budget]
moves_per_hour = 9
moves_per_day = 0
downtime_per_day = "0s"
[breaker]
failure = 2
within = "0s"
pause = "6W"
"#
    ));
    insta::assert_snapshot!(with("[breaker]\nwithin = \"0s\"\n[budget]\nmoves_per_day = 0\n"));
}

#[test]
fn windows_without_sense() {
    insta::assert_snapshot!(with(
        r#"
[[window]]
kind = "deny"
schedule = "0 8 * *"
duration = "10h"
[[window]]
kind = "allow"
schedule = "61 8 * * 1-5"
duration = "0s"
timezone = "Europe/Pari"
[[window]]
kind = "allow"
schedule = "0 0 31 2 *"
duration = "1h"
timezone = "Nowhere"
[[window]]
kind = "allow"
schedule = "0 0 31 2 *"
duration = "1h"
"#
    ));
    insta::assert_snapshot!(with("[[window]]\nkind = \"close\"\nduration = \"1h\"\ntimezone = 1\n"));
    insta::assert_snapshot!(with(
        "[[window]]\nkind = \"deny\"\nschedule = \"0 * * * *\"\nduration = \"1h\"\n"
    ));
}

/// It is no mistake, but it says nothing.
#[test]
fn more_moves_an_hour_than_a_day() {
    insta::assert_snapshot!(with("[budget]\nmoves_per_hour = 9\nmoves_per_day = 8\n"));
}

#[test]
fn a_deadline_that_ends_before_the_lease() {
    insta::assert_snapshot!(with("[migration]\ndeadline = \"20s\"\nfreeze_lease = \"1m\"\n"));
    insta::assert_snapshot!(with("[migration]\ndeadline = \"20s\"\n"));
    insta::assert_snapshot!(with("[migration]\nfreeze_lease = \"1h\"\n"));
}

#[test]
fn versions_and_names_that_are_not_known() {
    insta::assert_snapshot!(rendered(&format!("schema_version = 2\nname = \"My Policy\"\n{TERM}")));
}

#[test]
fn metrics_that_are_asked_for_but_not_measured_and_the_reverse() {
    insta::assert_snapshot!(rendered(&format!(
        "{HEAD}[[objective.term]]\nmetric = \"user_latency\"\n[metrics.carbon_rate]\nquery = \"x\"\nunit = \"g/kWh\"\n"
    )));
}

#[test]
fn keys_twice_and_tables_that_are_values() {
    insta::assert_snapshot!(rendered(&format!("{HEAD}name = \"q\"\n{TERM}")));
    insta::assert_snapshot!(with(
        "[trigger]\ninterval = { every = \"30s\" }\n[[hysteresis]]\nmin_gain = \"5%\"\n"
    ));
}

/// Columns count characters, and the caret stands below them.
#[test]
fn text_that_is_not_ascii() {
    insta::assert_snapshot!(with("[constraints]\ntiers = [\"é\", \"日本\"]\nmin_free = \"10‰\"\n"));
}

#[test]
fn single_brackets_for_a_list() {
    insta::assert_snapshot!(rendered(&format!("{HEAD}[objective.term]\nmetric = \"power\"\n")));
}

/// For logs.
#[test]
fn one_line_each() {
    let text = format!("{HEAD}{TERM}[hysteresis]\nmin_gian = \"5%\"\n[budget]\nconcurrent = \"one\"\n");
    insta::assert_snapshot!(load::policy("p.toml", &text).unwrap_err().to_string());
}

#[test]
fn built_in_queries_and_fallbacks_without_sense() {
    insta::assert_snapshot!(rendered(
        r#"schema_version = 1
name = "p"
[[objective.term]]
metric = "power"
[[objective.term]]
metric = "user_latency"
[[objective.term]]
metric = "cost_rate"

[metrics.power]
builtin = "keppler"
window = "1m"

[[metrics.power.fallback]]
builtin = "kepler"
window = "1m"

[[metrics.power.fallback]]
builtin = "opencost"

[[metrics.power.fallback]]
builtin = "scaphandre"
window = "5m"
unit = "W"
on_missing = "hold"
fallback = [{ query = "watts" }]

[metrics.user_latency]
builtin = "blackbox"
query = "rtt"
unit = "s"
users_label = "users"

[metrics.cost_rate]
max_age = "1h"
fallback = [{ query = "price", window = "5m", unit = "W" }]

[metrics.cpu_use]
query = "irate(busy[1m]) or vector(0)"
unit = "ratio"
"#
    ));
}

#[test]
fn a_query_without_a_unit() {
    insta::assert_snapshot!(with("[metrics.cost_rate]\nquery = \"price\"\n"));
}

#[test]
fn queries_that_are_traps() {
    insta::assert_snapshot!(with(
        "[metrics.cost_rate]\nquery = \"sum by (site) (irate(spent_total[5m])) or vector(0)\"\nunit = \"USD/h\"\n"
    ));
}

/// Each of these is a reason to stay, or leaves something to decide.
#[test]
fn what_is_enough_is_not_refused() {
    let none = "[hysteresis]\nmin_gain = \"0%\"\nmin_residency = \"0s\"\ncooldown = \"0s\"\nno_return_within = \"0s\"\n";
    let still = format!("{HEAD}mode = \"auto\"\n{TERM}{none}");
    let limit = "[[objective.term]]\nmetric = \"power\"\nsatisfied_at = \"20W\"\n[constraints.max]\npower = \"20W\"\n";
    for enough in [
        format!("{still}gain_lasts = \"5m\"\n"),
        format!("{still}regret = \"100%\"\n"),
        format!("{still}[trigger]\nany = [{{ metric = \"cost_rate\", above = \"1USD/h\" }}]\n"),
        // What is above both today may still get better.
        format!("{HEAD}{limit}"),
    ] {
        let loaded = load::policy("p.toml", &enough).unwrap_or_else(|invalid| panic!("{invalid}\n{enough}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    }
    assert!(load::policy("p.toml", &still).is_err());
}
