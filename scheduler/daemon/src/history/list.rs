//! Lists of what happened, for people and programs that look back.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};
use serde::Serialize;
use sterna_core::plan::MoveCost;
use sterna_core::report::Decision;
use sterna_policies::quantity::{Bytes, Millis};
use utoipa::ToSchema;

use super::decision::{instant, odd, parse};
use super::{HistoryError, HistoryStore, explain};

/// One decision in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct DecisionLine {
    /// Its number.
    pub id: i64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The policy's mode.
    pub mode: String,
    /// `move`, `stay` or `held`.
    pub verdict: String,
    /// How many moves its plan has.
    pub moves: u32,
}

/// One migration in a line: what was ordered, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MigrationLine {
    /// Its id.
    pub id: String,
    /// The decision that ordered it; `None` where a person did, or where it is known from an agent alone.
    pub decision: Option<i64>,
    /// The service.
    pub service: String,
    /// Where from.
    pub from: String,
    /// Where to.
    pub to: String,
    /// When the order was about to be given.
    #[schema(value_type = String, format = DateTime)]
    pub ordered: Timestamp,
    /// What it was predicted to cost.
    pub predicted: Cost,
    /// How it ended; `None` while that is not known.
    pub end: Option<End>,
}

/// What a migration costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Cost {
    /// Time that the service stands still; `None` where it was not measured.
    #[schema(value_type = Option<String>)]
    pub downtime: Option<Millis>,
    /// From start to end.
    #[schema(value_type = Option<String>)]
    pub duration: Option<Millis>,
    /// What crosses the link.
    #[schema(value_type = Option<String>)]
    pub bytes: Option<Bytes>,
}

/// How a migration ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct End {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// `moved`, `rolled-back` or `refused`.
    pub outcome: String,
    /// Why, where it did not move.
    pub reason: Option<String>,
    /// What it cost, as measured.
    pub measured: Cost,
}

/// One decision of a time, with what it says of every service.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// Its number.
    pub id: i64,
    /// When it was made.
    pub at: Timestamp,
    /// The policy's mode.
    pub mode: String,
    /// Whether an order came of it.
    pub ordered: bool,
    /// What was decided.
    pub decision: Decision,
}

const MIGRATIONS: &str = "SELECT intent.id, decision, intent.service, from_node, to_node, written,
        predicted_downtime_ns, predicted_duration_ns, predicted_bytes,
        ended, outcome, reason, downtime_ns, duration_ns, bytes
     FROM intent LEFT JOIN migration USING (id)";

impl HistoryStore {
    /// The newest decisions since a time, newest first; only those with moves where `moves` says so.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn decisions(
        &self,
        since: Timestamp,
        moves: bool,
        limit: u32,
    ) -> Result<Vec<DecisionLine>, HistoryError> {
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            let mut statement = connection
                .prepare_cached(
                    "SELECT id, at, mode, verdict, moves FROM decision
                     WHERE at >= ?1 AND moves >= ?2 ORDER BY id DESC LIMIT ?3",
                )
                .map_err(failed)?;
            let mut rows =
                statement.query(params![instant(since), i64::from(moves), limit]).map_err(failed)?;
            let mut lines = Vec::new();
            while let Some(row) = rows.next().map_err(failed)? {
                let id: i64 = row.get(0).map_err(failed)?;
                let at: String = row.get(1).map_err(failed)?;
                lines.push(DecisionLine {
                    id,
                    at: at.parse().map_err(|error| odd(path, &format!("decision {id}"), &error))?,
                    mode: row.get(2).map_err(failed)?,
                    verdict: row.get(3).map_err(failed)?,
                    moves: row.get(4).map_err(failed)?,
                });
            }
            Ok(lines)
        })
        .await
    }

    /// What was decided, without what went into it; `None` where there is no decision of that number.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(crate) async fn decided(&self, id: i64) -> Result<Option<Decision>, HistoryError> {
        self.work(move |connection, path| {
            let text: Option<String> = connection
                .query_row("SELECT decision FROM decision WHERE id = ?1", [id], |row| row.get(0))
                .optional()
                .map_err(|error| explain(path, error))?;
            text.map(|text| parse(&text, &format!("decision {id}"), path)).transpose()
        })
        .await
    }

    /// Calls `each` with every decision since a time, oldest first by their own time, for a plan that is applied was decided before.
    /// One at a time: there may be very many.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(super) async fn each_decision<T: Send + 'static>(
        &self,
        since: Timestamp,
        mut state: T,
        each: impl Fn(&mut T, Past) + Send + 'static,
    ) -> Result<T, HistoryError> {
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            let mut statement = connection
                .prepare_cached(
                    "SELECT id, at, mode, decision,
                        EXISTS (SELECT 1 FROM intent WHERE intent.decision = decision.id)
                     FROM decision WHERE at >= ?1 ORDER BY at, id",
                )
                .map_err(failed)?;
            let mut rows = statement.query([instant(since)]).map_err(failed)?;
            while let Some(row) = rows.next().map_err(failed)? {
                let id: i64 = row.get(0).map_err(failed)?;
                let name = format!("decision {id}");
                let at: String = row.get(1).map_err(failed)?;
                let decision: String = row.get(3).map_err(failed)?;
                let past = Past {
                    id,
                    at: at.parse().map_err(|error| odd(path, &name, &error))?,
                    mode: row.get(2).map_err(failed)?,
                    ordered: row.get(4).map_err(failed)?,
                    decision: parse(&decision, &name, path)?,
                };
                each(&mut state, past);
            }
            Ok(state)
        })
        .await
    }

    /// The newest migrations that were ordered or ended since a time, newest first.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn migrations(&self, since: Timestamp, limit: u32) -> Result<Vec<MigrationLine>, HistoryError> {
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            let text =
                format!("{MIGRATIONS} WHERE written >= ?1 OR ended >= ?1 ORDER BY written DESC LIMIT ?2");
            let mut statement = connection.prepare_cached(&text).map_err(failed)?;
            let mut rows = statement.query(params![instant(since), limit]).map_err(failed)?;
            let mut lines = Vec::new();
            while let Some(row) = rows.next().map_err(failed)? {
                lines.push(line(row, path)?);
            }
            Ok(lines)
        })
        .await
    }

    /// The migrations whose end is not known, however old, newest first.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn open_migrations(&self) -> Result<Vec<MigrationLine>, HistoryError> {
        self.work(|connection, path| {
            let failed = |error| explain(path, error);
            let text = format!("{MIGRATIONS} WHERE ended IS NULL ORDER BY written DESC");
            let mut statement = connection.prepare_cached(&text).map_err(failed)?;
            let mut rows = statement.query([]).map_err(failed)?;
            let mut lines = Vec::new();
            while let Some(row) = rows.next().map_err(failed)? {
                lines.push(line(row, path)?);
            }
            Ok(lines)
        })
        .await
    }

    /// The migrations that a decision ordered, in the order of the orders.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn migrations_of(&self, decision: i64) -> Result<Vec<MigrationLine>, HistoryError> {
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            let text = format!("{MIGRATIONS} WHERE decision = ?1 ORDER BY written");
            let mut statement = connection.prepare_cached(&text).map_err(failed)?;
            let mut rows = statement.query([decision]).map_err(failed)?;
            let mut lines = Vec::new();
            while let Some(row) = rows.next().map_err(failed)? {
                lines.push(line(row, path)?);
            }
            Ok(lines)
        })
        .await
    }

    /// A migration, and the report of the agent that it left, where there is one; `None` where there is no such migration.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn migration(
        &self,
        id: String,
    ) -> Result<Option<(MigrationLine, Option<serde_json::Value>)>, HistoryError> {
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            let found = {
                let text = format!("{MIGRATIONS} WHERE intent.id = ?1");
                let mut statement = connection.prepare_cached(&text).map_err(failed)?;
                let mut rows = statement.query([&id]).map_err(failed)?;
                rows.next().map_err(failed)?.map(|row| line(row, path)).transpose()?
            };
            let Some(found) = found else { return Ok(None) };
            if found.end.is_none() {
                return Ok(Some((found, None)));
            }
            let report: Option<String> = connection
                .query_row("SELECT report FROM migration WHERE id = ?1", [&id], |row| row.get(0))
                .map_err(failed)?;
            let report = report.map(|text| parse(&text, &format!("migration {id}"), path)).transpose()?;
            Ok(Some((found, report)))
        })
        .await
    }
}

fn line(row: &Row<'_>, path: &std::path::Path) -> Result<MigrationLine, HistoryError> {
    let failed = |error| explain(path, error);
    let text = |index: usize| row.get::<_, String>(index).map_err(failed);
    let id = text(0)?;
    let name = format!("migration {id}");
    let time = |text: String| text.parse::<Timestamp>().map_err(|error| odd(path, &name, &error));
    let cost = |first: usize| {
        let number = |index: usize| row.get::<_, Option<i64>>(index).map_err(failed);
        Ok(Cost {
            downtime: number(first)?.map(Millis::from_micros),
            duration: number(first + 1)?.map(Millis::from_micros),
            bytes: number(first + 2)?.map(|bytes| Bytes(u64::try_from(bytes).unwrap_or(0))),
        })
    };
    let ended: Option<String> = row.get(9).map_err(failed)?;
    let end = match ended {
        Some(at) => Some(End {
            at: time(at)?,
            outcome: text(10)?,
            reason: row.get(11).map_err(failed)?,
            measured: cost(12)?,
        }),
        None => None,
    };
    Ok(MigrationLine {
        decision: row.get(1).map_err(failed)?,
        service: text(2)?,
        from: text(3)?,
        to: text(4)?,
        ordered: time(text(5)?)?,
        predicted: cost(6)?,
        end,
        id,
    })
}

impl From<MoveCost> for Cost {
    fn from(cost: MoveCost) -> Self {
        let MoveCost { downtime, duration, bytes } = cost;
        Self { downtime: Some(downtime), duration: Some(duration), bytes: Some(bytes) }
    }
}
