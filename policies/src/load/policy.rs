//! A policy file into a [`Policy`]: reads the quantities and checks that the parts agree.

use std::collections::BTreeMap;

use super::file::{
    ApprovalFile, ConstraintsFile, LabelsFile, MigrationFile, PolicyFile, SelectFile, SpreadFile,
};
use super::{
    At, Findings, Invalid, Loaded, Written, budget, name, objective, schema_version, source, timing,
    toml_document, window,
};
use crate::policy::{Approval, Constraints, Level, Metric, Migration, Policy, Select, Spread};
use crate::quantity::{Millis, Percent};
use crate::select::matches;

/// The format that this version reads.
const SCHEMA_VERSION: u32 = 1;

pub(super) const SECOND: i64 = 1_000_000_000;
pub(super) const MINUTE: i64 = 60 * SECOND;
const DEFAULT_DEADLINE: Millis = Millis::from_micros(10 * MINUTE);
const DEFAULT_FREEZE_LEASE: Millis = Millis::from_micros(30 * SECOND);
pub(super) const WHOLE: Percent = Percent::from_micros(100_000_000);

/// Reads a policy file.
///
/// # Errors
/// All that is wrong with it: its form, its quantities, and parts that contradict each other.
pub fn policy(file_name: &str, text: &str) -> Result<Loaded<Policy>, Invalid> {
    let file: PolicyFile = toml_document(file_name, text)?;
    let mut findings = Findings::new(file_name, text);
    let policy = read(&file, &mut findings);
    findings.finish(policy)
}

/// Values that can't be read get a stand-in; the findings then refuse the whole.
fn read(file: &PolicyFile, findings: &mut Findings) -> Policy {
    schema_version(&file.schema_version, SCHEMA_VERSION, findings);
    name(&file.name, "policy", findings);
    let metrics = source::metrics(file.metrics.as_ref(), findings);
    let constraints = constraints(file.constraints.as_ref(), findings);
    let objective = objective::objective(&file.objective, file.constraints.as_ref(), &constraints, findings);
    source::unused_and_missing(file, &constraints, findings);
    let trigger = timing::trigger(file.trigger.as_ref(), findings);
    Policy {
        name: file.name.value.clone(),
        mode: file.mode.unwrap_or_default(),
        priority: file.priority.unwrap_or_default(),
        select: select(file.select.as_ref(), findings),
        objective,
        constraints,
        hysteresis: timing::hysteresis(
            file.hysteresis.as_ref(),
            file.mode.unwrap_or_default(),
            &trigger,
            findings,
        ),
        trigger,
        budget: budget::budget(file.budget.as_ref(), findings),
        breaker: budget::breaker(file.breaker.as_ref(), findings),
        windows: window::windows(file.window.as_ref(), findings),
        metrics,
        migration: migration(file.migration.as_ref(), findings),
        approval: approval(file.approval.as_ref(), findings),
    }
}

fn select(file: Option<&SelectFile>, findings: &mut Findings) -> Select {
    let Some(file) = file else { return Select::default() };
    let exclude_services = patterns(file.exclude_services.as_ref(), "service", false, findings);
    let exclude_sites = patterns(file.exclude_sites.as_ref(), "site", false, findings);
    let services = patterns(file.services.as_ref(), "service", true, findings);
    let sites = patterns(file.sites.as_ref(), "site", true, findings);
    excluded(file.services.as_ref(), file.exclude_services.as_ref(), findings);
    excluded(file.sites.as_ref(), file.exclude_sites.as_ref(), findings);
    let service_labels = labels(file.service_labels.as_ref(), "services", findings);
    let site_labels = labels(file.site_labels.as_ref(), "sites", findings);
    Select {
        services,
        service_labels,
        exclude_services,
        others: BTreeMap::new(),
        sites,
        site_labels,
        exclude_sites,
    }
}

fn labels(file: Option<&LabelsFile>, what: &str, findings: &mut Findings) -> BTreeMap<String, Vec<String>> {
    let mut labels = BTreeMap::new();
    for (label, values) in file.into_iter().flatten() {
        not_empty(values, what, findings);
        twice(&values.value, findings);
        let values = values.value.iter().map(|value| value.value.clone()).collect();
        labels.insert(label.value.clone(), values);
    }
    labels
}

/// `chosen` lists leave out nothing when they are absent, so an empty one can't mean what it says.
fn patterns(
    list: Option<&At<Vec<At<String>>>>,
    what: &str,
    chosen: bool,
    findings: &mut Findings,
) -> Vec<String> {
    let Some(list) = list else { return Vec::new() };
    if chosen {
        not_empty(list, &format!("{what}s"), findings);
    }
    for pattern in &list.value {
        let possible = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '*');
        if pattern.is_empty() || !pattern.chars().all(possible) {
            findings
                .error(
                    "P0020",
                    pattern.span(),
                    format!("`{}` can't match the name of a {what}", pattern.value),
                )
                .label("names have lower-case letters, digits and `-`; `*` stands for any run of them")
                .help(match pattern.to_lowercase().replace(['_', '.', ' '], "-") {
                    near if !near.is_empty() && near.chars().all(possible) => {
                        format!("did you mean `{near}`?")
                    }
                    _ => "write `*` for all".to_owned(),
                });
        }
    }
    twice(&list.value, findings);
    list.value.iter().map(|pattern| pattern.value.clone()).collect()
}

fn not_empty(list: &At<Vec<At<String>>>, what: &str, findings: &mut Findings) {
    if list.is_empty() {
        findings
            .error("P0021", list.span(), format!("an empty list chooses no {what}"))
            .label("expected at least one entry")
            .help("leave the key out to choose all");
    }
}

fn twice(list: &[At<String>], findings: &mut Findings) {
    for (index, entry) in list.iter().enumerate() {
        if let Some(first) = list[..index].iter().find(|first| *first == entry) {
            findings
                .warning("W0006", entry.span(), format!("`{}` is listed twice", entry.value))
                .label("again")
                .also(first.span(), "first here");
        }
    }
}

/// Warns of patterns whose every match is excluded again.
fn excluded(
    chosen: Option<&At<Vec<At<String>>>>,
    excluded: Option<&At<Vec<At<String>>>>,
    findings: &mut Findings,
) {
    let (Some(chosen), Some(excluded)) = (chosen, excluded) else { return };
    for (index, pattern) in chosen.iter().enumerate() {
        if chosen[..index].contains(pattern) {
            continue;
        }
        // A pattern that matches another pattern's text matches all that the other does.
        if let Some(by) = excluded.iter().find(|by| matches(by, pattern)) {
            findings
                .warning("W0003", pattern.span(), format!("`{}` is chosen and excluded", pattern.value))
                .label("chosen here, without effect")
                .also(by.span(), "excluded here, which wins");
        }
    }
}

fn constraints(file: Option<&ConstraintsFile>, findings: &mut Findings) -> Constraints {
    let Some(file) = file else { return Constraints::default() };
    let mut max = BTreeMap::new();
    if let Some(file) = &file.max {
        let latency = file.user_latency.as_ref().and_then(|written| written.read_positive(findings));
        max.extend(latency.map(|value| (Metric::UserLatency, Level::UserLatency(value))));
        let cost = file.cost_rate.as_ref().and_then(|written| written.read_unsigned(findings));
        max.extend(cost.map(|value| (Metric::CostRate, Level::CostRate(value))));
        let power = file.power.as_ref().and_then(|written| written.read_unsigned(findings));
        max.extend(power.map(|value| (Metric::Power, Level::Power(value))));
        let carbon = file.carbon_rate.as_ref().and_then(|written| written.read_unsigned(findings));
        max.extend(carbon.map(|value| (Metric::CarbonRate, Level::CarbonRate(value))));
    }
    let mut words = |list: Option<&At<Vec<At<String>>>>, what: &str| {
        let Some(list) = list else { return Vec::new() };
        not_empty(list, what, findings);
        twice(&list.value, findings);
        list.value.iter().map(|word| word.value.clone()).collect()
    };
    let tiers = words(file.tiers.as_ref(), "tier");
    let regions = words(file.regions.as_ref(), "region");
    let min_free = file.min_free.as_ref().and_then(|written| {
        let value = written.read_unsigned(findings)?;
        if value >= WHOLE {
            findings
                .error("P0022", written.span(), format!("nothing fits where {value} must stay free"))
                .label("expected less than 100%");
        }
        Some(value)
    });
    let spread = spread(file.spread.as_deref().unwrap_or_default(), findings);
    Constraints { max, tiers, regions, min_free: min_free.unwrap_or_default(), spread }
}

fn spread(list: &[At<SpreadFile>], findings: &mut Findings) -> Vec<Spread> {
    let of = |file: &At<SpreadFile>| (file.label.value.clone(), file.per.unwrap_or_default());
    for (index, file) in list.iter().enumerate() {
        if file.max.value == 0 {
            findings
                .error("P0030", file.max.span(), "no place may have 0 of a group of services")
                .label("expected at least 1")
                .help("to keep services from places, use tiers, regions or exclude_sites");
        }
        if let Some(first) = list[..index].iter().find(|first| of(first) == of(file)) {
            findings
                .warning("W0006", file.span(), format!("`{}` is listed twice", file.label.value))
                .label("for the same places: the lower `max` counts")
                .also(first.span(), "first here");
        }
    }
    let read = |file: &At<SpreadFile>| {
        let (label, per) = of(file);
        Spread { label, per, most: file.max.value }
    };
    list.iter().map(read).collect()
}

/// A time in the largest unit that it is whole in.
pub(super) fn spoken(span: Millis) -> String {
    const UNITS: [(i64, &str); 4] =
        [(24 * 60 * MINUTE, "d"), (60 * MINUTE, "h"), (MINUTE, "m"), (SECOND, "s")];
    let micros = span.as_micros();
    match UNITS.iter().find(|(unit, _)| micros != 0 && micros % unit == 0) {
        Some((unit, name)) => format!("{}{name}", micros / unit),
        None => span.to_string(),
    }
}

fn approval(file: Option<&ApprovalFile>, findings: &mut Findings) -> Approval {
    let written = file.and_then(|file| file.expires.as_ref());
    let expires = written.and_then(|written| written.read_positive(findings));
    expires.map_or_else(Approval::default, |expires| Approval { expires })
}

fn migration(file: Option<&MigrationFile>, findings: &mut Findings) -> Migration {
    let default = MigrationFile::default();
    let file = file.unwrap_or(&default);
    let mut read = |written: &Option<Written<Millis>>, default| {
        written.as_ref().and_then(|written| written.read_positive(findings)).unwrap_or(default)
    };
    let deadline = read(&file.deadline, DEFAULT_DEADLINE);
    let freeze_lease = read(&file.freeze_lease, DEFAULT_FREEZE_LEASE);
    let max_downtime = file.max_downtime.as_ref().and_then(|written| written.read_positive(findings));
    if deadline < freeze_lease {
        let (latest, lease) = (spoken(deadline), spoken(freeze_lease));
        let message = format!("the deadline of {latest} ends before the freeze lease of {lease}");
        let place = |written: &Option<Written<Millis>>| written.as_ref().map(Written::span);
        match (place(&file.deadline), place(&file.freeze_lease)) {
            (Some(at), Some(lease)) => {
                findings
                    .error("P0026", at, message)
                    .label("the whole migration must commit within this time")
                    .also(lease, "but this part of it may last longer");
            }
            (Some(at), None) => {
                findings
                    .error("P0026", at, message)
                    .label(format!("expected at least {lease}"))
                    .help(format!("freeze_lease is left out and so is {lease}"));
            }
            (None, at) => {
                findings
                    .error("P0026", at.unwrap_or(0..0), message)
                    .label(format!("expected at most {latest}"))
                    .help(format!("deadline is left out and so is {latest}"));
            }
        }
    }
    let (method, memory) = (file.method.unwrap_or_default(), file.memory.unwrap_or_default());
    let bandwidth = file.bandwidth.as_ref().and_then(|written| written.read_positive(findings));
    Migration { method, memory, max_downtime, bandwidth, deadline, freeze_lease }
}
