//! From rows of an answer to readings: one finite, plausible, fresh number per site (and user group), or the reason why not.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sterna_core::continuum::{Continuum, SiteName, UsersName};
use sterna_policies::policy::{Metric, MetricSource, SourceUnit};
use sterna_policies::quantity::Millis;

use super::age;
use super::store::{Answer, Row};

/// What a reading is about: a site, and for latencies a user group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The site.
    pub site: SiteName,
    /// The user group; `None` where the metric has none.
    pub users: Option<UsersName>,
}

/// A number in the metric's own unit (milliseconds, watts, USD/h, g/kWh, share).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// The number; finite.
    pub value: f64,
    /// Its age at the time of evaluation.
    pub age: Millis,
}

/// What one metric's query came to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Readings {
    /// For each subject that the continuum has: a reading, or why there is none.
    pub by_subject: BTreeMap<Subject, Result<Reading, String>>,
    /// Rows that nothing could be made of, one text per kind.
    pub ignored: Vec<String>,
}

/// Factor from the source's unit to the metric's own. `None` where the unit does not measure the metric.
pub fn factor(metric: Metric, unit: SourceUnit) -> Option<f64> {
    match (metric, unit) {
        (Metric::UserLatency, SourceUnit::Millis)
        | (Metric::Power, SourceUnit::Watts)
        | (Metric::CostRate, SourceUnit::UsdPerHour)
        | (Metric::CarbonRate, SourceUnit::GramsPerKwh)
        | (Metric::CpuUse, SourceUnit::Ratio) => Some(1.0),
        (Metric::UserLatency, SourceUnit::Seconds) => Some(1e3),
        (Metric::Power, SourceUnit::Microwatts) => Some(1e-6),
        _ => None,
    }
}

/// Everything that a metric must have a number for.
pub fn subjects(metric: Metric, continuum: &Continuum) -> Vec<Subject> {
    let sites = continuum.sites.keys();
    if metric == Metric::UserLatency {
        // A group that asks for nothing feels nothing.
        let asking =
            continuum.users.iter().filter(|(_, users)| users.rates.values().any(|rate| rate.as_micros() > 0));
        asking
            .flat_map(|(users, _)| {
                sites.clone().map(|site| Subject { site: site.clone(), users: Some(users.clone()) })
            })
            .collect()
    } else {
        sites.map(|site| Subject { site: site.clone(), users: None }).collect()
    }
}

/// Reads the answer to a metric's query. `witnesses` are the answers that tell the ages, see [`age`].
pub fn read(
    metric: Metric,
    source: &MetricSource,
    continuum: &Continuum,
    at: Timestamp,
    answer: &Answer,
    witnesses: &[Answer],
) -> Readings {
    let mut readings = Readings::default();
    let mut rows: BTreeMap<Subject, Vec<&Row>> = BTreeMap::new();
    let mut strangers: BTreeMap<String, usize> = BTreeMap::new();
    let mut unlabelled: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &answer.rows {
        let Some(site) = label(row, &source.site_label) else {
            *unlabelled.entry(&source.site_label).or_default() += 1;
            continue;
        };
        let site = SiteName(site.to_owned());
        if !continuum.sites.contains_key(&site) {
            *strangers.entry(format!("site `{site}`")).or_default() += 1;
            continue;
        }
        let users = match (metric, &source.users_label) {
            (Metric::UserLatency, Some(name)) => match label(row, name) {
                Some(users) => Some(UsersName(users.to_owned())),
                None => {
                    *unlabelled.entry(name).or_default() += 1;
                    continue;
                }
            },
            _ => None,
        };
        if let Some(users) = &users
            && !continuum.users.contains_key(users)
        {
            *strangers.entry(format!("user group `{users}`")).or_default() += 1;
            continue;
        }
        rows.entry(Subject { site, users }).or_default().push(row);
    }

    let series = |n: usize| if n == 1 { "1 series".to_owned() } else { format!("{n} series") };
    for (name, n) in unlabelled {
        readings.ignored.push(format!("{} without the label `{name}`", series(n)));
    }
    for (who, n) in strangers {
        readings.ignored.push(format!("{} for {who}, which the inventory does not have", series(n)));
    }

    let absent = absence(answer, &readings.ignored);
    for subject in subjects(metric, continuum) {
        let reading = match rows.remove(&subject).as_deref() {
            None | Some([]) => Err(absent.clone()),
            Some([row]) => one(metric, source, at, row, witnesses),
            Some(several) => Err(format!(
                "the query gives {} values for it; aggregate so that there is one, such as `max by ({}) (…)`",
                several.len(),
                keys(source),
            )),
        };
        readings.by_subject.insert(subject, reading);
    }
    readings
}

fn keys(source: &MetricSource) -> String {
    match &source.users_label {
        Some(users) => format!("{}, {users}", source.site_label),
        None => source.site_label.clone(),
    }
}

fn label<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    // An empty label is the same as none.
    row.labels.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

fn absence(answer: &Answer, ignored: &[String]) -> String {
    if answer.rows.is_empty() {
        "the query gives no series at all; check that the exporter is scraped and not older than `max_age`"
            .to_owned()
    } else if ignored.is_empty() {
        "the query gives no value for it; check that its exporter is up and scraped".to_owned()
    } else {
        format!("the query gives no value for it, but {}; check the labels", ignored.join(", "))
    }
}

fn one(
    metric: Metric,
    source: &MetricSource,
    at: Timestamp,
    row: &Row,
    witnesses: &[Answer],
) -> Result<Reading, String> {
    let value = row.value.ok_or("the query gives a native histogram; take a quantile of it")?;
    if !value.is_finite() {
        return Err(format!(
            "the value is {value}; guard the query, such as `… >= 0` against NaN and `> 0` on divisors"
        ));
    }
    let (low, high) = source.plausible;
    if !(low..=high).contains(&value) {
        return Err(format!("{value} is outside of what is plausible, {low} to {high}"));
    }
    let factor = factor(metric, source.unit).ok_or("the unit does not measure this metric")?;
    let age = age::age(row, at, witnesses)
        .ok_or_else(|| format!("the samples behind it are older than `max_age`, {}", source.max_age))?;
    if age > source.max_age {
        return Err(format!("its oldest sample is {age} old, `max_age` is {}", source.max_age));
    }
    Ok(Reading { value: value * factor, age })
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
