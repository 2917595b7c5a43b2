//! Policy files: written by hand, and taken over while the service runs.

use sterna_policies::diagnose::{Report, Severity};
use sterna_policies::load;
use sterna_policies::policy::Policy;
use sterna_policies::presets;

/// Reads a policy. What is refused says so in the words of its own text; what is taken means the same to whoever reads it again,
/// also from the history.
pub fn read(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match load::policy("p.toml", &text) {
        Ok(loaded) => {
            told(&text, &loaded.warnings);
            assert!(loaded.warnings.diagnostics().iter().all(|one| one.severity == Severity::Warning));
            let again = load::policy("p.toml", &text).expect("what was taken is taken again");
            assert_eq!(again.value, loaded.value);
            let kept = serde_json::to_string(&loaded.value).expect("a policy can be kept");
            let kept: Policy = serde_json::from_str(&kept).expect("and read");
            assert_eq!(kept, loaded.value);
        }
        Err(invalid) => {
            let report = invalid.report();
            assert!(
                report.diagnostics().iter().any(|one| one.severity == Severity::Error),
                "refused for nothing"
            );
            told(&text, report);
        }
    }
}

/// Every finding stands on a line that there is, and can be printed.
fn told(text: &str, report: &Report) {
    let lines = text.matches('\n').count() + 1;
    for one in report.diagnostics() {
        assert!(one.span.start <= one.span.end && one.span.end <= text.len(), "{:?}", one.span);
        let (line, column) = report.position(one.span.start);
        assert!((1..=lines).contains(&line) && column >= 1, "{line}:{column}");
        assert!(!one.message.is_empty());
    }
    assert!(report.is_empty() || !report.plain().trim().is_empty());
    assert!(report.lines().lines().count() >= report.diagnostics().len());
}

/// The presets without their comments, and what they leave out.
pub fn seeds() -> Vec<Vec<u8>> {
    let bare = |text: &str| -> String {
        text.lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .flat_map(|line| [line, "\n"])
            .collect()
    };
    let rest = r#"schema_version = 1
name = "all-that-presets-leave-out"
mode = "auto"
select = { services = ["web-*"], exclude_sites = ["lab-*"] }
objective = { method = "priced", term = [{ metric = "carbon_rate", price = "0.0001USD/h" }] }
constraints = { max = { power = "15W", carbon_rate = "30g/h" }, tiers = ["edge"], regions = ["eu"], min_free = "10%" }
budget = { concurrent = 2, moves_per_hour = 6, moves_per_day = 30, bytes_per_day = "50GiB", downtime_per_day = "20s" }
breaker = { failures = 3, within = "1h", pause = "6h" }
migration = { memory = "while-frozen", max_downtime = "5s", bandwidth = "200Mbit/s", deadline = "10m", freeze_lease = "30s" }

[[window]]
kind = "deny"
schedule = "0 8 * * 1-5"
duration = "10h"
timezone = "Europe/Paris"
allow_mending = true

[metrics.power]
query = "avg by (site) (scaph_host_power_microwatts)"
unit = "uW"
plausible = [0.0, 1e9]
on_missing = "exclude-site"
"#;
    presets::ALL
        .iter()
        .map(|preset| bare(preset.text))
        .chain([rest.to_owned()])
        .map(String::into_bytes)
        .collect()
}
