//! What is wrong with a source, told from the series behind its query, and how to mend it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use sterna_core::continuum::{Continuum, SiteName, UsersName};
use sterna_policies::diagnose::closest;
use sterna_policies::policy::MetricQuery;

use crate::observe::reading::Subject;
use crate::observe::store::{MetricStore, Row};
use crate::observe::witness;

/// Something that is wrong, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Advice {
    /// What is wrong.
    pub finding: String,
    /// What to do, or to try.
    pub remedy: String,
}

/// Looks at the series behind a query's selectors and says why subjects may be missing from its answer.
pub async fn advise<S: MetricStore>(
    store: &S,
    query: &MetricQuery,
    continuum: &Continuum,
    absent: &[Subject],
    at: Timestamp,
) -> Vec<Advice> {
    let Ok(selectors) = witness::selectors(&query.query) else { return Vec::new() };
    let mut labels = vec![query.site_label.as_str()];
    labels.extend(query.users_label.as_deref());
    let mut found: BTreeSet<Advice> = if own(query) { unprobed(continuum, absent) } else { BTreeSet::new() };
    let mut silent = Vec::new();
    let mut unseen: BTreeSet<&Subject> = absent.iter().collect();
    for selector in &selectors {
        let count = format!("count by (job, {}) ({selector})", labels.join(", "));
        let Ok(answer) = store.instant(&count, at, query.max_age).await else { continue };
        if answer.rows.is_empty() {
            silent.push(selector);
            continue;
        }
        found.extend(unlabelled(selector, &labels, &answer.rows, continuum));
        found.extend(misnamed(query, &answer.rows, continuum));
        found.extend(not_scraped(query, selector, &answer.rows, &mut unseen));
    }
    // A query may name series of several versions of an exporter, of which there is one, so silence explains only what nothing
    // else does.
    if found.is_empty() || own(query) {
        found.extend(silent.first().map(|selector| nothing(query, selector, absent)));
    }
    found.into_iter().collect()
}

/// Whether Sterna exports the series itself.
fn own(query: &MetricQuery) -> bool {
    query.builtin.as_deref() == Some("probes")
}

/// User groups of which nobody has said where they are.
fn unprobed(continuum: &Continuum, absent: &[Subject]) -> BTreeSet<Advice> {
    let known = |name: &UsersName| continuum.users.get(name).is_some_and(|users| !users.probe.is_empty());
    let groups = absent.iter().filter_map(|subject| subject.users.as_ref()).filter(|name| !known(name));
    let one = |name: &UsersName| Advice {
        finding: format!("the inventory does not say where agents may probe the user group `{name}`"),
        remedy: format!(
            "name a place at theirs that takes connections:\n\
             [[users]]\n\
             name = \"{name}\"\n\
             probe = [\"HOST:PORT\"]"
        ),
    };
    groups.map(one).collect()
}

fn nothing(query: &MetricQuery, selector: &str, absent: &[Subject]) -> Advice {
    let exporter = query.builtin.as_deref().and_then(sterna_policies::builtin::Builtin::find);
    let exporter = exporter.map_or("its exporter", |builtin| builtin.exporter);
    let site = absent.first().map_or("SITE", |subject| subject.site.as_str());
    let users = absent.first().and_then(|subject| subject.users.as_ref()).map(UsersName::as_str);
    let mut remedy = format!("scrape {exporter} at every site:\n{}", scrape_job(query, site, users));
    if own(query) {
        remedy = "have the scheduler probe, by its settings:\n\
                  [probes]\n\
                  interval = \"1m\"\n\
                  and scrape it; the series bring their labels with them:\n\
                  scrape_configs:\n\
                  - job_name: sterna\n\
                  \x20 static_configs:\n\
                  \x20 - targets: [HOST:7400]"
            .to_owned();
    } else if query.users_label.is_some() {
        remedy += "\nor have the agents of all sites probe: builtin = \"probes\"";
    }
    Advice { finding: format!("there is no series `{selector}`"), remedy }
}

/// Series that lack a label.
fn unlabelled(selector: &str, labels: &[&str], rows: &[Row], continuum: &Continuum) -> Vec<Advice> {
    let mut jobs: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for row in rows {
        for label in labels {
            if value(row, label).is_empty() {
                *jobs.entry((value(row, "job"), label)).or_default() += row.value.unwrap_or_default();
            }
        }
    }
    let first_site = continuum.sites.keys().next().map_or("SITE", SiteName::as_str);
    let one = |((job, label), series): ((&str, &str), f64)| Advice {
        finding: format!("{series} series `{selector}` of job `{job}` have no label `{label}`"),
        remedy: format!(
            "give each target of the job the label:\n\
             scrape_configs:\n\
             - job_name: {job}\n\
             \x20 static_configs:\n\
             \x20 - targets: [HOST:PORT]\n\
             \x20   labels: {{ {label}: {} }}",
            if label == labels[0] { first_site } else { "GROUP" }
        ),
    };
    jobs.into_iter().map(one).collect()
}

/// Label values that are nearly names of the inventory.
fn misnamed(query: &MetricQuery, rows: &[Row], continuum: &Continuum) -> Vec<Advice> {
    let sites: Vec<&str> = continuum.sites.keys().map(SiteName::as_str).collect();
    let users: Vec<&str> = continuum.users.keys().map(UsersName::as_str).collect();
    let kinds = [("site", Some(&query.site_label), sites), ("user group", query.users_label.as_ref(), users)];
    let mut found = Vec::new();
    for (what, label, names) in kinds {
        let Some(label) = label else { continue };
        let values: BTreeSet<(&str, &str)> =
            rows.iter().map(|row| (value(row, "job"), value(row, label))).collect();
        for (job, value) in values {
            if value.is_empty() || names.contains(&value) {
                continue;
            }
            let Some(nearest) = closest(value, names.iter().copied()) else { continue };
            found.push(Advice {
                finding: format!(
                    "the series say `{label}=\"{value}\"`, the inventory's {what} is `{nearest}`"
                ),
                remedy: format!(
                    "write one name in both places, or rename it in job `{job}`:\n\
                     relabel_configs:\n\
                     - source_labels: [{label}]\n\
                     \x20 regex: {value}\n\
                     \x20 target_label: {label}\n\
                     \x20 replacement: {nearest}"
                ),
            });
        }
    }
    found
}

/// Sites and user groups of which there is no series, where there are of others. Each is said once.
fn not_scraped(
    query: &MetricQuery,
    selector: &str,
    rows: &[Row],
    unseen: &mut BTreeSet<&Subject>,
) -> Vec<Advice> {
    let there = |subject: &Subject| {
        let same = |row: &Row| {
            let users = match (&query.users_label, &subject.users) {
                (Some(label), Some(users)) => value(row, label) == users.as_str(),
                _ => true,
            };
            users && value(row, &query.site_label) == subject.site.as_str()
        };
        rows.iter().any(same)
    };
    let one = |subject: &Subject| {
        let users = match (&query.users_label, &subject.users) {
            (Some(label), Some(users)) => format!(", {label}=\"{users}\""),
            _ => String::new(),
        };
        Advice {
            finding: format!("there is no series `{selector}` of {subject}"),
            remedy: if own(query) {
                format!(
                    "see why its agents don't get there: sterna_probe_failures_total{{site=\"{}\"}}",
                    subject.site
                )
            } else {
                format!(
                    "see whether its target is up: up{{{}=\"{}\"{users}}}",
                    query.site_label, subject.site
                )
            },
        }
    };
    let (seen, gone): (BTreeSet<&Subject>, BTreeSet<&Subject>) =
        unseen.iter().copied().partition(|subject| there(subject));
    *unseen = seen;
    gone.into_iter().map(one).collect()
}

/// A scrape job as it should be, for one site.
fn scrape_job(query: &MetricQuery, site: &str, users: Option<&str>) -> String {
    let users = match (&query.users_label, users) {
        (Some(label), Some(users)) => format!(", {label}: {users}"),
        _ => String::new(),
    };
    format!(
        "scrape_configs:\n\
         - job_name: {}\n\
         \x20 static_configs:\n\
         \x20 - targets: [HOST:PORT]\n\
         \x20   labels: {{ {}: {site}{users} }}",
        query.builtin.as_deref().unwrap_or("NAME"),
        query.site_label
    )
}

fn value<'a>(row: &'a Row, label: &str) -> &'a str {
    row.labels.get(label).map_or("", String::as_str)
}
