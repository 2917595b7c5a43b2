//! Where metrics come from: unit, labels and range must fit the metric.

use std::collections::BTreeMap;

use super::file::{MetricsFile, PolicyFile, SourceFile};
use super::{At, Findings, query};
use crate::diagnose::quoted;
use crate::policy::{Constraints, Metric, MetricSource, SourceUnit};
use crate::quantity::Millis;

const DEFAULT_MAX_AGE: Millis = Millis::from_micros(120_000_000_000);
const DEFAULT_SITE_LABEL: &str = "site";

/// The sources that a file declares, by metric.
fn declared(file: &MetricsFile) -> impl Iterator<Item = (Metric, &At<SourceFile>)> {
    [
        (Metric::UserLatency, &file.user_latency),
        (Metric::CostRate, &file.cost_rate),
        (Metric::Power, &file.power),
        (Metric::CarbonRate, &file.carbon_rate),
        (Metric::CpuUse, &file.cpu_use),
    ]
    .into_iter()
    .filter_map(|(metric, source)| source.as_ref().map(|source| (metric, source)))
}

pub(super) fn metrics(file: Option<&MetricsFile>, findings: &mut Findings) -> BTreeMap<Metric, MetricSource> {
    file.into_iter()
        .flat_map(declared)
        .map(|(metric, file)| (metric, source(metric, file, findings)))
        .collect()
}

fn source(metric: Metric, file: &At<SourceFile>, findings: &mut Findings) -> MetricSource {
    let name = metric.name();
    let units = units(metric);
    if !units.contains(&file.unit.value) {
        let words: Vec<&str> = units.iter().map(|unit| word(*unit)).collect();
        findings
            .error("P0011", file.unit.span(), format!("`{name}` can't be in `{}`", word(file.unit.value)))
            .label(format!("expected {}", quoted(&words)));
    }
    match (&file.users_label, metric == Metric::UserLatency) {
        (None, true) => {
            findings
                .error("P0012", file.span(), "`user_latency` needs a `users_label`")
                .label("expected `users_label = …`")
                .help("the label that holds the user group's name, such as users_label = \"users\"");
        }
        (Some(label), false) => {
            findings
                .error("P0013", label.span(), format!("`{name}` has no user groups"))
                .label("only `user_latency` has a `users_label`")
                .help("leave it out");
        }
        _ => {}
    }
    for label in [&file.site_label, &file.users_label].into_iter().flatten() {
        label_name(label, findings);
    }
    if let (Some(site), Some(users)) = (&file.site_label, &file.users_label)
        && site == users
    {
        findings
            .error("P0015", users.span(), "one label can't hold both the site and the user group")
            .label("the same label")
            .also(site.span(), "as here");
    }
    let site_label = file.site_label.as_ref().map_or(DEFAULT_SITE_LABEL, |label| label.as_str());
    let users_label = file.users_label.as_ref().map(|label| label.as_str());
    let users = users_label.filter(|_| metric == Metric::UserLatency);
    let labels: Vec<&str> = [Some(site_label), users].into_iter().flatten().collect();
    query::check(&file.query, &labels, findings);
    MetricSource {
        query: file.query.value.clone(),
        site_label: site_label.to_owned(),
        users_label: users_label.map(str::to_owned),
        unit: file.unit.value,
        max_age: file.max_age.as_ref().and_then(|age| age.read_positive(findings)).unwrap_or(DEFAULT_MAX_AGE),
        plausible: file.plausible.as_ref().map_or(usual(file.unit.value), |range| plausible(range, findings)),
        on_missing: file.on_missing.unwrap_or_default(),
    }
}

fn plausible(range: &At<[f64; 2]>, findings: &mut Findings) -> (f64, f64) {
    let [lowest, highest] = range.value;
    if !(lowest.is_finite() && highest.is_finite()) {
        findings
            .error("P0016", range.span(), "a plausible range needs two ends")
            .label("expected finite numbers");
    } else if lowest >= highest {
        let reversed = lowest > highest;
        let diagnostic = findings.error("P0016", range.span(), "no value is in this plausible range");
        diagnostic.label("expected the lower end first");
        if reversed {
            diagnostic.help(format!("did you mean [{highest:?}, {lowest:?}]?"));
        }
    }
    (lowest, highest)
}

/// What is plausible where the file doesn't say: wide enough for any real site, narrow enough to catch a wrong unit.
const fn usual(unit: SourceUnit) -> (f64, f64) {
    match unit {
        SourceUnit::Seconds => (0.0, 60.0),
        SourceUnit::Millis => (0.0, 60_000.0),
        SourceUnit::Watts => (0.0, 100_000.0),
        SourceUnit::Microwatts => (0.0, 1e11),
        SourceUnit::UsdPerHour => (0.0, 10_000.0),
        SourceUnit::GramsPerKwh => (0.0, 2000.0),
        // Rates over a window reach a little beyond both ends.
        SourceUnit::Ratio => (-0.05, 1.05),
    }
}

fn label_name(label: &At<String>, findings: &mut Findings) {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let valid = label.starts_with(first) && label.chars().all(|c| first(c) || c.is_ascii_digit());
    if !valid {
        findings
            .error(
                "P0014",
                label.span(),
                format!("`{}` can't be the name of a Prometheus label", label.value),
            )
            .label("expected letters, digits and `_`, no digit first");
    }
}

/// The units that a metric's values may come in.
const fn units(metric: Metric) -> &'static [SourceUnit] {
    match metric {
        Metric::UserLatency => &[SourceUnit::Seconds, SourceUnit::Millis],
        Metric::CostRate => &[SourceUnit::UsdPerHour],
        Metric::Power => &[SourceUnit::Watts, SourceUnit::Microwatts],
        Metric::CarbonRate => &[SourceUnit::GramsPerKwh],
        Metric::CpuUse => &[SourceUnit::Ratio],
    }
}

/// The word that files use for a unit.
const fn word(unit: SourceUnit) -> &'static str {
    match unit {
        SourceUnit::Seconds => "s",
        SourceUnit::Millis => "ms",
        SourceUnit::Watts => "W",
        SourceUnit::Microwatts => "uW",
        SourceUnit::UsdPerHour => "USD/h",
        SourceUnit::GramsPerKwh => "g/kWh",
        SourceUnit::Ratio => "ratio",
    }
}

/// Warns of terms that nothing measures, and of sources that nothing asks for.
pub(super) fn unused_and_missing(file: &PolicyFile, constraints: &Constraints, findings: &mut Findings) {
    let has = |metric: Metric| file.metrics.iter().flat_map(declared).any(|(declared, _)| declared == metric);
    let term = |metric: Metric| file.objective.term.iter().find(|term| term.metric.value == metric);
    if let Some(term) = term(Metric::UserLatency)
        && !has(Metric::UserLatency)
    {
        findings
            .warning("W0001", term.metric.span(), "nothing measures `user_latency`")
            .label("no move will be made for it")
            .help("add a table [metrics.user_latency] with a query");
    }
    let asked = |metric: Metric| term(metric).is_some() || constraints.max.contains_key(&metric);
    for (metric, source) in file.metrics.iter().flat_map(declared) {
        let used = match metric {
            // Carbon is power times intensity.
            Metric::CpuUse | Metric::Power => asked(Metric::Power) || asked(Metric::CarbonRate),
            other => asked(other),
        };
        if !used {
            findings
                .warning(
                    "W0002",
                    source.span(),
                    format!("`{}` is measured, but nothing asks for it", metric.name()),
                )
                .label("without effect")
                .help("add it to the objective or to constraints.max, or leave the table out");
        }
    }
}
