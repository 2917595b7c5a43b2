//! From rows of an answer to readings: one finite, plausible, fresh number per site (and user group), or the reason why not.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use sterna_core::continuum::{Continuum, SiteName, UsersName};
use sterna_policies::diagnose::closest;
use sterna_policies::policy::{Metric, MetricQuery, SourceUnit};
use sterna_policies::quantity::Millis;

use super::store::{Answer, Row};
use super::{age, warmth};

/// What a reading is about: a site, and for latencies a user group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The site.
    pub site: SiteName,
    /// The user group; `None` where the metric has none.
    pub users: Option<UsersName>,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.site)?;
        self.users.as_ref().map_or(Ok(()), |users| write!(f, " from `{users}`"))
    }
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
    /// Series that nothing could be made of.
    pub ignored: Vec<Ignored>,
}

/// Series that nothing could be made of.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Ignored {
    /// How many.
    pub series: usize,
    /// Why.
    pub why: Astray,
    /// The name in the inventory that is spelt most alike, if one is alike at all.
    pub nearest: Option<String>,
}

/// Why a series belongs nowhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Astray {
    /// It does not have this label.
    NoLabel(String),
    /// The inventory does not have this site.
    Site(String),
    /// The inventory does not have this user group.
    Users(String),
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.series {
            1 => f.write_str("1 series")?,
            n => write!(f, "{n} series")?,
        }
        match &self.why {
            Astray::NoLabel(label) => return write!(f, " without the label `{label}`"),
            Astray::Site(name) => write!(f, " for site `{name}`")?,
            Astray::Users(name) => write!(f, " for user group `{name}`")?,
        }
        f.write_str(", which the inventory does not have")?;
        self.nearest.as_ref().map_or(Ok(()), |nearest| write!(f, " (nearest: `{nearest}`)"))
    }
}

/// What was answered beside a query, about the samples behind its values.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// How old they are, see [`age`].
    pub ages: &'a [Answer],
    /// How many of them rates rest on, see [`warmth`].
    pub counts: &'a [Answer],
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

/// Reads the answer to one of a metric's queries.
pub fn read(
    metric: Metric,
    source: &MetricQuery,
    continuum: &Continuum,
    at: Timestamp,
    answer: &Answer,
    beside: Beside<'_>,
) -> Readings {
    let mut rows: BTreeMap<Subject, Vec<&Row>> = BTreeMap::new();
    let mut astray: BTreeMap<Astray, usize> = BTreeMap::new();
    for row in &answer.rows {
        match subject(metric, source, continuum, row) {
            Ok(subject) => rows.entry(subject).or_default().push(row),
            Err(why) => *astray.entry(why).or_default() += 1,
        }
    }
    let nearest = |why: &Astray| match why {
        Astray::NoLabel(_) => None,
        Astray::Site(name) => closest(name, continuum.sites.keys().map(SiteName::as_str)),
        Astray::Users(name) => closest(name, continuum.users.keys().map(UsersName::as_str)),
    };
    let ignored =
        |(why, series): (Astray, usize)| Ignored { series, nearest: nearest(&why).map(str::to_owned), why };
    let mut readings =
        Readings { by_subject: BTreeMap::new(), ignored: astray.into_iter().map(ignored).collect() };
    for subject in subjects(metric, continuum) {
        let reading = match rows.remove(&subject).as_deref() {
            None | Some([]) => Err(absence(answer, &subject, &readings.ignored)),
            Some([row]) => one(metric, source, at, row, beside),
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

/// What a row is about.
fn subject(
    metric: Metric,
    source: &MetricQuery,
    continuum: &Continuum,
    row: &Row,
) -> Result<Subject, Astray> {
    let label = |name: &str| label(row, name).ok_or_else(|| Astray::NoLabel(name.to_owned()));
    let site = SiteName::from(label(&source.site_label)?.to_owned());
    if !continuum.sites.contains_key(&site) {
        return Err(Astray::Site(site.to_string()));
    }
    let users = match (metric, &source.users_label) {
        (Metric::UserLatency, Some(name)) => Some(UsersName::from(label(name)?.to_owned())),
        _ => None,
    };
    match users {
        Some(users) if !continuum.users.contains_key(&users) => Err(Astray::Users(users.to_string())),
        users => Ok(Subject { site, users }),
    }
}

fn keys(source: &MetricQuery) -> String {
    match &source.users_label {
        Some(users) => format!("{}, {users}", source.site_label),
        None => source.site_label.clone(),
    }
}

fn label<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    // An empty label is the same as none.
    row.labels.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

fn absence(answer: &Answer, subject: &Subject, ignored: &[Ignored]) -> String {
    if answer.rows.is_empty() {
        return "the query gives no series at all; check that the exporter is scraped and not older than \
                `max_age`"
            .to_owned();
    }
    if ignored.is_empty() {
        return "the query gives no value for it; check that its exporter is up and scraped".to_owned();
    }
    let nearest = |one: &&Ignored| match &one.why {
        Astray::Site(_) => one.nearest.as_deref() == Some(subject.site.as_str()),
        Astray::Users(_) => subject.users.as_ref().map(UsersName::as_str) == one.nearest.as_deref(),
        Astray::NoLabel(_) => false,
    };
    // What looks like it is enough to know, where there is such.
    let alike: Vec<&Ignored> = ignored.iter().filter(nearest).collect();
    let shown = if alike.is_empty() { ignored.iter().collect() } else { alike };
    let mut shown: Vec<String> = shown.iter().map(ToString::to_string).collect();
    if shown.len() > SHOWN {
        let more = shown.len() - SHOWN;
        shown.truncate(SHOWN);
        shown.push(format!("{more} more such"));
    }
    format!("the query gives no value for it, but {}; check the labels", shown.join(", "))
}

/// So many kinds of series that belong nowhere are named.
const SHOWN: usize = 5;

fn one(
    metric: Metric,
    source: &MetricQuery,
    at: Timestamp,
    row: &Row,
    beside: Beside<'_>,
) -> Result<Reading, String> {
    let value = row.value.ok_or("the query gives a native histogram; take a quantile of it")?;
    if !value.is_finite() {
        return Err(format!(
            "the value is {value}; guard the query, such as `… >= 0` against NaN and `> 0` on divisors"
        ));
    }
    let (low, high) = source.plausible;
    if !(low..=high).contains(&value) {
        let hint = other_unit(metric, source, value);
        return Err(format!("{value} is outside of what is plausible, {low} to {high}{hint}"));
    }
    let factor = factor(metric, source.unit).ok_or("the unit does not measure this metric")?;
    let age = age::age(row, at, beside.ages)
        .ok_or_else(|| format!("the samples behind it are older than `max_age`, {}", source.max_age))?;
    if age > source.max_age {
        return Err(format!("its oldest sample is {age} old, `max_age` is {}", source.max_age));
    }
    if let Some(samples) = warmth::too_few(row, beside.counts) {
        return Err(format!(
            "it is warming up: its rate rests on {samples} samples and needs {}; wait, or take it over at least \
             four scrapes",
            warmth::ENOUGH
        ));
    }
    Ok(Reading { value: value * factor, age })
}

/// A hint at the unit in which a value would be plausible.
fn other_unit(metric: Metric, source: &MetricQuery, value: f64) -> String {
    const ALL: [SourceUnit; 4] =
        [SourceUnit::Seconds, SourceUnit::Millis, SourceUnit::Watts, SourceUnit::Microwatts];
    let Some(here) = factor(metric, source.unit) else { return String::new() };
    let (low, high) = source.plausible;
    let plausible = |unit: &SourceUnit| {
        factor(metric, *unit).is_some_and(|there| {
            *unit != source.unit && value != 0.0 && (low..=high).contains(&(value * there / here))
        })
    };
    match ALL.into_iter().find(plausible) {
        Some(unit) => format!("; in `{}` it would be: check `unit`", unit.name()),
        None => String::new(),
    }
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
