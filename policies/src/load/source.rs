//! Where metrics come from: unit, labels and range must fit the metric.

use std::collections::BTreeMap;

use super::file::{MetricsFile, PolicyFile, SourceFile};
use super::policy::spoken;
use super::{At, Findings, Written, query};
use crate::builtin::{Builtin, Window};
use crate::diagnose::quoted;
use crate::policy::{Constraints, Metric, MetricQuery, MetricSource, SourceUnit};
use crate::quantity::Millis;

const DEFAULT_MAX_AGE: Millis = Millis::from_micros(120_000_000_000);
const DEFAULT_SITE_LABEL: &str = "site";
const DEFAULT_USERS_LABEL: &str = "users";

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
    MetricSource {
        first: one_query(metric, file, findings),
        fallback: file
            .fallback
            .iter()
            .flat_map(|list| &list.value)
            .map(|fallback| {
                of_the_whole(fallback, findings);
                one_query(metric, fallback, findings)
            })
            .collect(),
        on_missing: file.on_missing.as_ref().map(|on_missing| on_missing.value).unwrap_or_default(),
    }
}

/// Reports keys of a fallback that only the metric as a whole has.
fn of_the_whole(fallback: &At<SourceFile>, findings: &mut Findings) {
    if let Some(nested) = &fallback.fallback {
        findings
            .error("P0045", nested.span(), "a fallback has no fallbacks of its own")
            .label("a list within the list")
            .help("write them one after the other in the metric's own `fallback`");
    }
    if let Some(on_missing) = &fallback.on_missing {
        findings
            .error("P0045", on_missing.span(), "a fallback has no `on_missing` of its own")
            .label("said once, for what is missing after all of them")
            .help("write it beside the metric's own `fallback`");
    }
}

/// What a query is, before labels, age and range: a built-in one, or the file's own with its unit.
struct Asked {
    builtin: Option<(Builtin, Option<Millis>)>,
    unit: SourceUnit,
}

fn one_query(metric: Metric, file: &At<SourceFile>, findings: &mut Findings) -> MetricQuery {
    let Asked { builtin, unit } = asked(metric, file, findings);
    users(metric, file, builtin.is_some(), findings);
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
    let users_label = users_label
        .or_else(|| (builtin.is_some() && metric == Metric::UserLatency).then_some(DEFAULT_USERS_LABEL));
    let query = match (&builtin, &file.query) {
        (Some((builtin, window)), _) => {
            builtin.query(site_label, users_label.unwrap_or(DEFAULT_USERS_LABEL), *window)
        }
        (None, Some(query)) => {
            let users = users_label.filter(|_| metric == Metric::UserLatency);
            let labels: Vec<&str> = [Some(site_label), users].into_iter().flatten().collect();
            query::check(query, &labels, findings);
            query.value.clone()
        }
        // Reported before.
        (None, None) => String::new(),
    };
    let usual_age = builtin.map_or(DEFAULT_MAX_AGE, |(builtin, _)| builtin.max_age);
    MetricQuery {
        builtin: builtin.map(|(builtin, _)| builtin.name.to_owned()),
        query,
        site_label: site_label.to_owned(),
        users_label: users_label.map(str::to_owned),
        unit,
        max_age: file.max_age.as_ref().and_then(|age| age.read_positive(findings)).unwrap_or(usual_age),
        plausible: file.plausible.as_ref().map_or(usual(unit), |range| plausible(range, findings)),
    }
}

fn asked(metric: Metric, file: &At<SourceFile>, findings: &mut Findings) -> Asked {
    let found = match (&file.builtin, &file.query) {
        (Some(builtin), Some(query)) => {
            findings
                .error("P0040", query.span(), "a source is a `query` or a `builtin`, not both")
                .label("a query of its own")
                .also(builtin.span(), "and a built-in one")
                .help("leave one out; another source for the same metric goes into `fallback`");
            None
        }
        (None, None) => {
            let names: Vec<&str> = Builtin::of(metric).map(|builtin| builtin.name).collect();
            findings
                .error("P0041", file.span(), "nothing says what to ask for")
                .label("expected `builtin = …`, or `query = …` with its `unit`")
                .help(format!("built-in queries for `{}`: {}", metric.name(), quoted(&names)));
            None
        }
        (Some(name), None) => builtin(metric, name, findings),
        (None, Some(_)) => None,
    };
    // Of a name that is not known nobody knows whether it would have one.
    let window = file.window.as_ref().filter(|_| found.is_some() || file.builtin.is_none());
    let window = window.and_then(|window| read_window(window, found.as_ref(), findings));
    let unit = match (&found, &file.unit) {
        (None, Some(unit)) => {
            own_unit(metric, unit, findings);
            unit.value
        }
        (Some(builtin), unit) => {
            if let Some(unit) = unit {
                let (name, known) = (builtin.name, builtin.unit.name());
                findings
                    .error("P0044", unit.span(), format!("`{name}` has a unit of its own, `{known}`"))
                    .label("without effect")
                    .help("leave it out");
            }
            builtin.unit
        }
        (None, None) => {
            if file.query.is_some() && file.builtin.is_none() {
                findings
                    .error("P0043", file.span(), "the unit of the query's values is not said")
                    .label(format!("expected `unit = …`: {}", quoted(&unit_names(metric))));
            }
            units(metric)[0]
        }
    };
    Asked { builtin: found.map(|builtin| (builtin, window)), unit }
}

fn builtin(metric: Metric, name: &At<String>, findings: &mut Findings) -> Option<Builtin> {
    let own = || Builtin::of(metric).map(|builtin| builtin.name);
    match Builtin::find(name) {
        None => {
            findings
                .error("P0042", name.span(), format!("there is no built-in query `{}`", name.value))
                .label("unknown")
                .suggest(name, &format!("for `{}` there are", metric.name()), own());
            None
        }
        Some(builtin) if builtin.metric != metric => {
            let names: Vec<&str> = own().collect();
            findings
                .error(
                    "P0042",
                    name.span(),
                    format!("`{}` measures `{}`, not `{}`", name.value, builtin.metric.name(), metric.name()),
                )
                .label("of another metric")
                .help(format!("for `{}` there are: {}", metric.name(), quoted(&names)));
            None
        }
        Some(builtin) => Some(builtin),
    }
}

/// The window of a built-in query, where that has one.
fn read_window(
    written: &Written<Millis>,
    builtin: Option<&Builtin>,
    findings: &mut Findings,
) -> Option<Millis> {
    let window = written.read_positive(findings)?;
    match builtin.map(|builtin| (builtin.name, builtin.window)) {
        None => {
            findings
                .error("P0046", written.span(), "only built-in queries have a `window`")
                .label("without effect")
                .help("write the time into the query itself, such as rate(… [5m])");
        }
        Some((name, None)) => {
            findings
                .error("P0046", written.span(), format!("`{name}` takes the newest sample"))
                .label("without effect")
                .help("leave it out");
        }
        Some((name, Some(Window { least, .. }))) if window < least => {
            findings
                .error("P0047", written.span(), format!("`{name}` is wrong over {}", spoken(window)))
                .label(format!("expected at least {}", spoken(least)));
        }
        Some((_, Some(_))) => return Some(window),
    }
    None
}

fn own_unit(metric: Metric, unit: &At<SourceUnit>, findings: &mut Findings) {
    if !units(metric).contains(&unit.value) {
        let name = metric.name();
        findings
            .error("P0011", unit.span(), format!("`{name}` can't be in `{}`", unit.value.name()))
            .label(format!("expected {}", quoted(&unit_names(metric))));
    }
}

fn users(metric: Metric, file: &At<SourceFile>, builtin: bool, findings: &mut Findings) {
    match (&file.users_label, metric == Metric::UserLatency) {
        // Where it is not even clear what is asked for, that has been said.
        (None, true) if !builtin && file.builtin.is_none() && file.query.is_some() => {
            findings
                .error("P0012", file.span(), "`user_latency` needs a `users_label`")
                .label("expected `users_label = …`")
                .help("the label that holds the user group's name, such as users_label = \"users\"");
        }
        (Some(label), false) => {
            findings
                .error("P0013", label.span(), format!("`{}` has no user groups", metric.name()))
                .label("only `user_latency` has a `users_label`")
                .help("leave it out");
        }
        _ => {}
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

fn unit_names(metric: Metric) -> Vec<&'static str> {
    units(metric).iter().map(|unit| unit.name()).collect()
}

/// Warns of terms that nothing measures, and of sources that nothing asks for.
pub(super) fn unused_and_missing(file: &PolicyFile, constraints: &Constraints, findings: &mut Findings) {
    let has = |metric: Metric| file.metrics.iter().flat_map(declared).any(|(declared, _)| declared == metric);
    let term = |metric: Metric| file.objective.term.iter().find(|term| term.metric.value == metric);
    let conditions =
        || file.trigger.iter().filter_map(|trigger| trigger.any.as_ref()).flat_map(|any| &any.value);
    let condition = |metric: Metric| conditions().find(|condition| condition.metric.value == metric);
    let latency = term(Metric::UserLatency).map(|term| &term.metric);
    let latency = latency.or_else(|| condition(Metric::UserLatency).map(|condition| &condition.metric));
    let limit = || {
        let limit = file.constraints.as_ref()?.max.as_ref()?.user_latency.as_ref();
        limit.map(|written| (written.span(), "no move will be made at all"))
    };
    let latency = latency.map(|metric| (metric.span(), "no move will be made for it")).or_else(limit);
    // What else there is has a number in the inventory, or a model.
    if let Some((span, label)) = latency
        && !has(Metric::UserLatency)
    {
        findings
            .warning("W0001", span, "nothing measures `user_latency`")
            .label(label)
            .help("add a table [metrics.user_latency] with a `builtin` or a `query`");
    }
    let asked = |metric: Metric| {
        term(metric).is_some() || constraints.max.contains_key(&metric) || condition(metric).is_some()
    };
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
