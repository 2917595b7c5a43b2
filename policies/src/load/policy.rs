//! A policy file into a [`Policy`]: reads the quantities and checks that the parts agree.

use std::collections::BTreeMap;

use super::file::{
    BreakerFile, BudgetFile, ConstraintsFile, HysteresisFile, MigrationFile, PolicyFile, SelectFile,
};
use super::{
    At, Findings, Invalid, Loaded, Written, name, objective, schema_version, source, toml_document, window,
};
use crate::policy::{
    Breaker, Budget, Constraints, Hysteresis, Level, Metric, Migration, Mode, Policy, Select, Trigger,
};
use crate::quantity::{Millis, Percent};
use crate::select::matches;

/// The format that this version reads.
const SCHEMA_VERSION: u32 = 1;

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const DEFAULT_INTERVAL: Millis = Millis::from_micros(30 * SECOND);
const DEFAULT_SETTLE: Millis = Millis::from_micros(MINUTE);
const DEFAULT_MIN_GAIN: Percent = Percent::from_micros(10_000_000);
const DEFAULT_MIN_RESIDENCY: Millis = Millis::from_micros(10 * MINUTE);
const DEFAULT_COOLDOWN: Millis = Millis::from_micros(5 * MINUTE);
const DEFAULT_PAYBACK_WITHIN: Millis = Millis::from_micros(24 * 60 * MINUTE);
const DEFAULT_DEADLINE: Millis = Millis::from_micros(10 * MINUTE);
const DEFAULT_FREEZE_LEASE: Millis = Millis::from_micros(30 * SECOND);
const WHOLE: Percent = Percent::from_micros(100_000_000);

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
    let interval = file.trigger.as_ref().and_then(|trigger| trigger.interval.as_ref());
    let settle = file.trigger.as_ref().and_then(|trigger| trigger.settle.as_ref());
    let trigger = Trigger {
        interval: interval.and_then(|written| written.read_positive(findings)).unwrap_or(DEFAULT_INTERVAL),
        settle: settle.and_then(|written| written.read_unsigned(findings)).unwrap_or(DEFAULT_SETTLE),
    };
    Policy {
        name: file.name.value.clone(),
        mode: file.mode.unwrap_or_default(),
        select: select(file.select.as_ref(), findings),
        objective,
        constraints,
        hysteresis: hysteresis(file.hysteresis.as_ref(), file.mode.unwrap_or_default(), &trigger, findings),
        trigger,
        budget: budget(file.budget.as_ref(), findings),
        breaker: breaker(file.breaker.as_ref(), findings),
        windows: window::windows(file.window.as_ref(), findings),
        metrics,
        migration: migration(file.migration.as_ref(), findings),
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
    Select { services, exclude_services, sites, exclude_sites }
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
    Constraints { max, tiers, regions, min_free: min_free.unwrap_or_default() }
}

fn hysteresis(
    file: Option<&HysteresisFile>,
    mode: Mode,
    trigger: &Trigger,
    findings: &mut Findings,
) -> Hysteresis {
    let default = HysteresisFile::default();
    let file = file.unwrap_or(&default);
    let min_gain = file.min_gain.as_ref().and_then(|written| {
        let value = written.read_unsigned(findings)?;
        if value > WHOLE {
            findings
                .error("P0023", written.span(), format!("no move can gain {value}"))
                .label("expected at most 100%: the gain is a share of the value now")
                .help("to see decisions without any move, write mode = \"observe\"");
        }
        Some(value)
    });
    let min_residency = file.min_residency.as_ref().and_then(|written| written.read_unsigned(findings));
    let cooldown = file.cooldown.as_ref().and_then(|written| written.read_unsigned(findings));
    let payback = file.payback_within.as_ref().and_then(|written| written.read_positive(findings));
    let hysteresis = Hysteresis {
        min_gain: min_gain.unwrap_or(DEFAULT_MIN_GAIN),
        min_residency: min_residency.unwrap_or(DEFAULT_MIN_RESIDENCY),
        cooldown: cooldown.unwrap_or(DEFAULT_COOLDOWN),
        payback_within: payback.unwrap_or(DEFAULT_PAYBACK_WITHIN),
    };
    if let Some(written) = &file.min_residency {
        let nothing =
            [hysteresis.min_residency, hysteresis.cooldown].iter().all(|span| *span == Millis::ZERO);
        if mode == Mode::Auto && nothing && hysteresis.min_gain == Percent::ZERO {
            findings
                .error(
                    "P0024",
                    written.span(),
                    "in mode `auto` nothing keeps services from moving to and fro",
                )
                .label("`min_gain`, `min_residency` and `cooldown` are all zero")
                .help("give at least one of them, such as min_gain = \"10%\"");
        } else if min_residency
            .is_some_and(|residency| Millis::ZERO < residency && residency < trigger.interval)
        {
            let message =
                format!("a residency of {} ends before the next look", spoken(hysteresis.min_residency));
            findings
                .warning("W0005", written.span(), message)
                .label(format!("without effect: looks are {} apart", spoken(trigger.interval)));
        }
    }
    hysteresis
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

fn budget(file: Option<&BudgetFile>, findings: &mut Findings) -> Budget {
    let default = BudgetFile::default();
    let file = file.unwrap_or(&default);
    let mut moves = |written: Option<&At<u32>>, when: &str| {
        let written = written?;
        if written.value == 0 {
            findings
                .error("P0025", written.span(), format!("a budget of 0 moves {when} allows no move"))
                .label("expected at least 1")
                .help("to see decisions without any move, write mode = \"observe\"");
        }
        Some(written.value)
    };
    let concurrent = moves(file.concurrent.as_ref(), "at one time").unwrap_or(1);
    let moves_per_hour = moves(file.moves_per_hour.as_ref(), "an hour");
    let moves_per_day = moves(file.moves_per_day.as_ref(), "a day");
    if let (Some(hour), Some(day), Some(written)) = (moves_per_hour, moves_per_day, &file.moves_per_hour)
        && hour > day
    {
        findings
            .warning("W0007", written.span(), format!("{hour} moves an hour are never made"))
            .label(format!("without effect: moves_per_day is {day}"));
    }
    Budget {
        concurrent,
        moves_per_hour,
        moves_per_day,
        bytes_per_day: file.bytes_per_day.as_ref().and_then(|written| written.read_positive(findings)),
        downtime_per_day: file.downtime_per_day.as_ref().and_then(|written| written.read_positive(findings)),
    }
}

fn breaker(file: Option<&BreakerFile>, findings: &mut Findings) -> Breaker {
    let mut breaker = Breaker::default();
    let Some(file) = file else { return breaker };
    breaker.failures = file.failures.as_ref().map_or(breaker.failures, |written| written.value);
    let mut read = |written: &Option<Written<Millis>>, default| {
        written.as_ref().and_then(|written| written.read_positive(findings)).unwrap_or(default)
    };
    breaker.within = read(&file.within, breaker.within);
    breaker.pause = read(&file.pause, breaker.pause);
    breaker
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
