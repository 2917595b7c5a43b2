//! Orders before they are given, and what came of them.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};
use sterna_core::continuum::{NodeName, ServiceName};
use sterna_core::history::{History, Outcome, PastMigration};
use sterna_core::plan::{Move, MoveCost};
use sterna_executor::migration::finding;
use sterna_executor::migration::order::MigrationId;
use sterna_executor::migration::report::{self, Report};
use sterna_executor::node::api::Standing;
use sterna_policies::quantity::{Bytes, Millis};

use super::decision::{instant, json, odd, parse};
use super::{HistoryError, HistoryStore, explain};

/// How long an order may take of which no policy says so: longer than any that is sensible.
const LASTS: Millis = Millis::from_micros(3_600_000_000_000);

/// Migrations per service that a decision remembers, besides its last arrival.
const REMEMBERED: u32 = 32;

/// An order that is about to be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The migration.
    pub id: MigrationId,
    /// The decision that it comes from; `None` for one that a person gave.
    pub decision: Option<i64>,
    /// What is to be moved, and what that is predicted to cost.
    pub order: Move,
}

/// An order of which it is not known what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenIntent {
    /// The migration.
    pub id: MigrationId,
    /// The service.
    pub service: ServiceName,
    /// Where it was to leave.
    pub from: NodeName,
    /// Where it was to go.
    pub to: NodeName,
    /// When the order was about to be given.
    pub written: Timestamp,
    /// What was predicted.
    pub predicted: MoveCost,
    /// Deadline and freeze lease together, as the policy by which it was ordered has them.
    pub lasts: Millis,
}

impl HistoryStore {
    /// Journals an order. Must be done before it is given.
    ///
    /// # Errors
    /// When it can't be written; then the order must not be given.
    pub async fn intend(&self, intent: Intent, now: Timestamp) -> Result<(), HistoryError> {
        self.work(move |connection, path| {
            let Intent { id, decision, order } = intent;
            connection
                .execute(
                    "INSERT INTO intent (id, decision, written, service, from_node, to_node,
                        predicted_downtime_ns, predicted_duration_ns, predicted_bytes)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    params![
                        id.to_string(),
                        decision,
                        instant(now),
                        order.service.as_str(),
                        order.from.as_str(),
                        order.to.as_str(),
                        order.predicted.downtime.as_micros(),
                        order.predicted.duration.as_micros(),
                        size(order.predicted.bytes),
                    ],
                )
                .map_err(|error| explain(path, error))?;
            Ok(())
        })
        .await
    }

    /// Records how a migration ended.
    ///
    /// # Errors
    /// When it can't be written; the intent then stays open and is settled later by what the agents say.
    pub async fn record_migration(&self, report: Report, now: Timestamp) -> Result<(), HistoryError> {
        self.work(move |connection, path| {
            let reason = match &report.outcome {
                report::Outcome::Moved => None,
                report::Outcome::RolledBack { after, reason } => Some(format!("after {after}: {reason}")),
                report::Outcome::Refused { findings } => Some(finding::line(findings)),
            };
            connection
                .execute(
                    "INSERT INTO migration (id, ended, service, outcome, reason, downtime_ns, duration_ns, bytes, report)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    params![
                        report.id.to_string(),
                        instant(now),
                        report.service.as_str(),
                        outcome_name(report.past_outcome()),
                        reason,
                        report.downtime.map(Millis::as_micros),
                        report.duration().as_micros(),
                        size(report.bytes()),
                        json(&report, path)?,
                    ],
                )
                .map_err(|error| explain(path, error))?;
            Ok(())
        })
        .await
    }

    /// Records a migration that has ended as its source's agent remembers it, with an intent where there is none: the history
    /// was lost, or the migration was ordered by hand. Gives whether that was news.
    ///
    /// The agent's clock may be another than ours: nothing has ended later than `now`, or it would be held against the service
    /// until our clock gets there; nor before it was ordered, or its cooldown would be over too early.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn recall(&self, standing: Standing, now: Timestamp) -> Result<bool, HistoryError> {
        let Standing { order, report: Some(report), taken, ended, .. } = standing else { return Ok(false) };
        let (taken, ended) = (taken.min(now), ended.unwrap_or(taken).min(now));
        let id = order.id.to_string();
        let ordered = self
            .work(move |connection, path| {
                let failed = |error| explain(path, error);
                let known = connection
                    .query_row("SELECT 1 FROM migration WHERE id = ?1", [&id], |_| Ok(()))
                    .optional()
                    .map_err(failed)?;
                if known.is_some() {
                    return Ok(None);
                }
                let predicted = order.predicted.unwrap_or_default();
                connection
                    .execute(
                        "INSERT OR IGNORE INTO intent (id, decision, written, service, from_node, to_node,
                            predicted_downtime_ns, predicted_duration_ns, predicted_bytes)
                         VALUES (?1, NULL, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                        params![
                            id,
                            instant(taken),
                            order.service.as_str(),
                            order.from.as_str(),
                            order.to.as_str(),
                            predicted.downtime.as_micros(),
                            predicted.duration.as_micros(),
                            size(predicted.bytes),
                        ],
                    )
                    .map_err(failed)?;
                let written: String = connection
                    .query_row("SELECT written FROM intent WHERE id = ?1", [&id], |row| row.get(0))
                    .map_err(failed)?;
                let written = written.parse::<Timestamp>();
                Ok(Some(written.map_err(|error| odd(path, &format!("intent {id}"), &error))?))
            })
            .await?;
        let Some(ordered) = ordered else { return Ok(false) };
        self.record_migration(report, ended.max(ordered).min(now)).await?;
        Ok(true)
    }

    /// Settles an intent without a report: the order was never given, or its end was not seen and the agents said
    /// afterwards where the service is.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn settle(
        &self,
        id: MigrationId,
        service: ServiceName,
        outcome: Outcome,
        reason: String,
        now: Timestamp,
    ) -> Result<(), HistoryError> {
        self.work(move |connection, path| {
            connection
                .execute(
                    "INSERT INTO migration (id, ended, service, outcome, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![id.to_string(), instant(now), service.as_str(), outcome_name(outcome), reason],
                )
                .map_err(|error| explain(path, error))?;
            Ok(())
        })
        .await
    }

    /// The agents' reports of all migrations that moved a service, oldest first.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn moved(&self) -> Result<Vec<Report>, HistoryError> {
        self.work(|connection, path| {
            let failed = |error| explain(path, error);
            let mut statement = connection
                .prepare_cached(
                    "SELECT id, report FROM migration WHERE outcome = ?1 AND report IS NOT NULL ORDER BY ended, id",
                )
                .map_err(failed)?;
            let mut rows = statement.query([outcome_name(Outcome::Moved)]).map_err(failed)?;
            let mut reports = Vec::new();
            while let Some(row) = rows.next().map_err(failed)? {
                let id: String = row.get(0).map_err(failed)?;
                let text: String = row.get(1).map_err(failed)?;
                reports.push(parse(&text, &format!("migration {id}"), path)?);
            }
            Ok(reports)
        })
        .await
    }

    /// Services that were moved since a time, as the agents reported it, newest first.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn moved_since(&self, since: Timestamp) -> Result<Vec<(Timestamp, Report)>, HistoryError> {
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            let mut statement = connection
                .prepare_cached(
                    "SELECT id, ended, report FROM migration
                     WHERE outcome = 'moved' AND report IS NOT NULL AND ended >= ?1 ORDER BY ended DESC, id DESC",
                )
                .map_err(failed)?;
            let mut rows = statement.query([instant(since)]).map_err(failed)?;
            let mut moved = Vec::new();
            while let Some(row) = rows.next().map_err(failed)? {
                let text = |index: usize| row.get::<_, String>(index).map_err(failed);
                let name = format!("migration {}", text(0)?);
                let ended = text(1)?.parse().map_err(|error| odd(path, &name, &error))?;
                moved.push((ended, parse(&text(2)?, &name, path)?));
            }
            Ok(moved)
        })
        .await
    }

    /// Orders of which it is not known what came of them, oldest first.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn open_intents(&self) -> Result<Vec<OpenIntent>, HistoryError> {
        self.work(|connection, path| {
            let failed = |error| explain(path, error);
            let mut statement = connection
                .prepare_cached(
                    "SELECT intent.id, service, from_node, to_node, written,
                        predicted_downtime_ns, predicted_duration_ns, predicted_bytes,
                        body ->> '$.migration.deadline', body ->> '$.migration.freeze_lease'
                     FROM intent
                     LEFT JOIN decision ON decision.id = intent.decision
                     LEFT JOIN document ON hash = decision.policy
                     WHERE NOT EXISTS (SELECT 1 FROM migration WHERE migration.id = intent.id)
                     ORDER BY intent.id",
                )
                .map_err(failed)?;
            let mut rows = statement.query([]).map_err(failed)?;
            let mut open = Vec::new();
            while let Some(row) = rows.next().map_err(failed)? {
                let text = |index: usize| row.get::<_, String>(index).map_err(failed);
                let number = |index: usize| row.get::<_, i64>(index).map_err(failed);
                // Another version of this program may have written them otherwise.
                let span = |index: usize| {
                    let text: Option<String> = row.get(index).map_err(failed)?;
                    Ok::<_, HistoryError>(text.and_then(|text| text.parse::<Millis>().ok()))
                };
                let id = text(0)?;
                let name = format!("intent {id}");
                let lasts = span(8)?.zip(span(9)?).map(|(deadline, lease)| deadline.saturating_add(lease));
                open.push(OpenIntent {
                    id: id.parse().map_err(|error| odd(path, &name, &error))?,
                    service: ServiceName::from(text(1)?),
                    from: NodeName::from(text(2)?),
                    to: NodeName::from(text(3)?),
                    written: text(4)?.parse().map_err(|error| odd(path, &name, &error))?,
                    predicted: MoveCost {
                        downtime: Millis::from_micros(number(5)?),
                        duration: Millis::from_micros(number(6)?),
                        bytes: amount(number(7)?),
                    },
                    lasts: lasts.unwrap_or(LASTS),
                });
            }
            Ok(open)
        })
        .await
    }

    /// What a decision remembers: the newest migrations of each service, its last arrival however old, and all that used budgets
    /// since a time. What was not measured of those that touched something is what was predicted of it, and never nothing.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn for_decision(&self, since: Timestamp) -> Result<History, HistoryError> {
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            let mut statement = connection
                .prepare_cached(
                    "SELECT id, service, ended, from_node, to_node, outcome, downtime_ns, bytes, duration_ns,
                        predicted_downtime_ns, predicted_bytes, predicted_duration_ns, report ->> '$.frozen_in_vain' FROM (
                        SELECT migration.*, from_node, to_node,
                            predicted_downtime_ns, predicted_bytes, predicted_duration_ns,
                            row_number() OVER (PARTITION BY migration.service ORDER BY ended DESC, migration.id DESC)
                                AS nth,
                            row_number() OVER (PARTITION BY migration.service, outcome ORDER BY ended DESC,
                                migration.id DESC) AS nth_of_outcome
                        FROM migration JOIN intent USING (id))
                     WHERE nth <= ?1 OR (outcome = 'moved' AND nth_of_outcome = 1)
                        OR (outcome <> 'refused' AND ended >= ?2)
                     ORDER BY service, nth DESC",
                )
                .map_err(failed)?;
            let mut rows = statement.query((REMEMBERED, since.to_string())).map_err(failed)?;
            let mut history = History::default();
            while let Some(row) = rows.next().map_err(failed)? {
                let text = |index: usize| row.get::<_, String>(index).map_err(failed);
                let number = |index: usize| row.get::<_, Option<i64>>(index).map_err(failed);
                let name = format!("migration {}", text(0)?);
                let outcome = outcome(&text(5)?).ok_or_else(|| odd(path, &name, &"unknown outcome"))?;
                let known = |measured: usize, predicted: usize| match (number(measured)?, outcome) {
                    (Some(measured), _) => Ok(measured),
                    (None, Outcome::Refused) => Ok(0),
                    (None, Outcome::Moved | Outcome::RolledBack) => Ok(number(predicted)?.unwrap_or(0)),
                };
                // One that was undone has no downtime, but its service may have stood still in vain.
                let frozen: Option<String> = row.get(12).map_err(failed)?;
                let frozen = frozen.filter(|_| outcome == Outcome::RolledBack);
                let downtime = match frozen.map(|frozen| frozen.parse()) {
                    Some(frozen) => frozen.map_err(|error| odd(path, &name, &error))?,
                    None => Millis::from_micros(known(6, 9)?),
                };
                let past = PastMigration {
                    ended: text(2)?.parse().map_err(|error| odd(path, &name, &error))?,
                    from: NodeName::from(text(3)?),
                    to: NodeName::from(text(4)?),
                    outcome,
                    downtime,
                    bytes: amount(known(7, 10)?),
                    duration: Millis::from_micros(known(8, 11)?),
                };
                history.record(ServiceName::from(text(1)?), past);
            }
            Ok(history)
        })
        .await
    }
}

/// SQLite's integers have a sign.
fn size(bytes: Bytes) -> i64 {
    i64::try_from(bytes.0).unwrap_or(i64::MAX)
}

fn amount(bytes: i64) -> Bytes {
    Bytes(u64::try_from(bytes).unwrap_or(0))
}

pub(crate) const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Moved => "moved",
        Outcome::RolledBack => "rolled-back",
        Outcome::Refused => "refused",
    }
}

pub(crate) fn outcome(name: &str) -> Option<Outcome> {
    [Outcome::Moved, Outcome::RolledBack, Outcome::Refused].into_iter().find(|one| outcome_name(*one) == name)
}

impl OpenIntent {
    /// Whether its source's agent has undone it by now, if it lives and has not committed it.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now.duration_since(self.written).as_nanos() > i128::from(self.lasts.as_micros())
    }

    /// One line about it.
    pub fn line(&self) -> String {
        let Self { id, service, from, to, .. } = self;
        format!("migration {id} of `{service}` from `{from}` to `{to}`")
    }
}
