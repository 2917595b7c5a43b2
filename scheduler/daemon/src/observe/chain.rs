//! A metric's sources one after the other: what the first has no usable value of is asked of the next.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{join, join_all};
use jiff::Timestamp;
use sterna_core::continuum::Continuum;
use sterna_core::observation::Source;
use sterna_policies::policy::{Metric, MetricQuery, MetricSource};

use super::reading::{self, Beside, Reading, Readings, Subject};
use super::store::{Answer, MetricStore, StoreError};
use super::{age, warmth};

/// What all sources of a metric came to together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chained {
    /// For each subject that the continuum has: a number and the source that it came from, or what each of them said.
    pub by_subject: BTreeMap<Subject, Result<(Reading, Source), String>>,
    /// What an operator should know: series that belong nowhere, and numbers that are another source's.
    pub notes: Vec<String>,
}

/// Longest step in which ranges are searched for their newest sample. Servers that can't be told how far an instant selector
/// looks back let it look back for five minutes; a longer step would pass over samples.
const LONGEST_STEP: Duration = Duration::from_secs(4 * 60);

/// Asks a metric's sources in their order, those after the first only where something is still missing. All are evaluated at
/// the same instant.
///
/// # Errors
/// Where none of them could be asked; the text says why.
pub async fn ask<S: MetricStore>(
    store: &S,
    metric: Metric,
    source: &MetricSource,
    continuum: &Continuum,
    at: Timestamp,
) -> Result<Chained, String> {
    let mut found: BTreeMap<Subject, (Reading, Source)> = BTreeMap::new();
    let mut reasons: BTreeMap<Subject, Vec<String>> = BTreeMap::new();
    let mut of_all: Vec<String> = Vec::new();
    let mut notes = Vec::new();
    let alone = source.fallback.is_empty();
    let subjects = reading::subjects(metric, continuum);
    let mut answered = false;
    for (number, query) in (0u32..).zip(source.queries()) {
        if number > 0 && answered && found.len() == subjects.len() {
            break;
        }
        let said = |reason: String| match (alone, number) {
            (true, _) => reason,
            (false, 0) => format!("first ({}): {reason}", query.name()),
            (false, _) => format!("fallback {number} ({}): {reason}", query.name()),
        };
        let readings = match ask_one(store, metric, query, continuum, at).await {
            Ok(readings) => readings,
            Err(reason) => {
                let reason = said(reason);
                for subject in subjects.iter().filter(|subject| !found.contains_key(subject)) {
                    reasons.entry(subject.clone()).or_default().push(reason.clone());
                }
                of_all.push(reason);
                continue;
            }
        };
        answered = true;
        for ignored in &readings.ignored {
            notes.push(format!("{}: ignored {}", metric.name(), said(ignored.to_string())));
        }
        for (subject, reading) in readings.by_subject {
            if found.contains_key(&subject) {
                continue;
            }
            match reading {
                Ok(reading) => {
                    let source = if number == 0 { Source::Measured } else { Source::Fallback(number) };
                    if number > 0 {
                        let before = reasons.remove(&subject).unwrap_or_default().join("; ");
                        notes.push(format!(
                            "{} of {subject} is from fallback {number} ({}): {before}",
                            metric.name(),
                            query.name()
                        ));
                    }
                    found.insert(subject, (reading, source));
                }
                Err(reason) => reasons.entry(subject).or_default().push(said(reason)),
            }
        }
    }
    if !answered {
        return Err(of_all.join("; "));
    }
    let by_subject = subjects.into_iter().map(|subject| {
        let one = found.remove(&subject);
        let reason = || reasons.remove(&subject).unwrap_or_default().join("; ");
        let one = one.ok_or_else(reason);
        (subject, one)
    });
    Ok(Chained { by_subject: by_subject.collect(), notes })
}

/// Asks one query, and beside it how old and how many the samples behind its values are.
///
/// # Errors
/// Where it, or what is asked beside it, could not be asked.
pub async fn ask_one<S: MetricStore>(
    store: &S,
    metric: Metric,
    query: &MetricQuery,
    continuum: &Continuum,
    at: Timestamp,
) -> Result<Readings, String> {
    // A tenth of the allowed age is lost at most to the resolution with which ranges are searched.
    let step = (query.max_age.to_duration() / 10).min(LONGEST_STEP);
    let ages = age::witnesses(&query.query, step).map_err(|error| error.to_string())?;
    let counts = warmth::witnesses(&query.query).map_err(|error| error.to_string())?;
    let all = |witnesses: Vec<String>| async move {
        let asked = witnesses.iter().map(|witness| store.instant(witness, at, query.max_age));
        let answers: Result<Vec<Answer>, StoreError> = join_all(asked).await.into_iter().collect();
        answers.map_err(|error| format!("the age of the values can't be known: {error}"))
    };
    let answer = store.instant(&query.query, at, query.max_age);
    let (answer, (ages, counts)) = join(answer, join(all(ages), all(counts))).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let (ages, counts) = (ages?, counts?);
    let beside = Beside { ages: &ages, counts: &counts };
    Ok(reading::read(metric, query, continuum, at, &answer, beside))
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
