//! Decisions with everything that went into them.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use sterna_core::continuum::Continuum;
use sterna_core::history::History;
use sterna_core::observation::Observation;
use sterna_core::record::Recorded;
use sterna_core::report::Verdict;
use sterna_core::standing::Standing;

use super::{HistoryError, HistoryStore, explain};

impl HistoryStore {
    /// Records a decision; the number that it gets orders all decisions.
    ///
    /// # Errors
    /// When it can't be written; then it must not be acted on.
    pub async fn record_decision(&self, recorded: Recorded) -> Result<i64, HistoryError> {
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            let transaction = connection.transaction().map_err(failed)?;
            let id = insert(&transaction, &recorded, path)?;
            transaction.commit().map_err(failed)?;
            Ok(id)
        })
        .await
    }

    /// A recorded decision; `None` where there is none of that number.
    ///
    /// # Errors
    /// When the file can't be read or the row makes no sense.
    pub async fn decision(&self, id: i64) -> Result<Option<Recorded>, HistoryError> {
        self.work(move |connection, path| read(connection, id, path)).await
    }

    /// What the newest decision of a policy wants its next one to remember: the newest by its time, for a plan that is applied was
    /// decided before. Nothing where that is long ago. What is said to be decided later than now was so by a clock that was ahead:
    /// it is older than it says.
    ///
    /// # Errors
    /// When the file can't be read or the row makes no sense.
    pub async fn standing(&self, policy: &str, now: Timestamp) -> Result<Standing, HistoryError> {
        let policy = policy.to_owned();
        self.work(move |connection, path| {
            let text: Option<Option<String>> = connection
                .query_row(
                    "SELECT decision ->> '$.standing' FROM decision WHERE id = (
                         SELECT id FROM (SELECT id, at, policy FROM decision WHERE at <= ?3
                             ORDER BY at DESC, id DESC LIMIT ?2) newest
                         JOIN document ON hash = newest.policy
                         WHERE body ->> '$.name' = ?1 ORDER BY newest.at DESC, id DESC LIMIT 1)",
                    params![policy, NEWEST, instant(now)],
                    |row| row.get(0),
                )
                .optional()
                .map_err(|error| explain(path, error))?;
            match text.flatten() {
                Some(text) => parse(&text, "newest decision", path),
                None => Ok(Standing::default()),
            }
        })
        .await
    }

    /// Number of the newest decision, by its time, of each policy of which there is one among the newest of all that are not of a
    /// clock that was ahead.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn newest_of_each_policy(&self, now: Timestamp) -> Result<Vec<i64>, HistoryError> {
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            let mut statement = connection
                .prepare_cached(
                    "SELECT id FROM (
                         SELECT id, row_number() OVER (PARTITION BY body ->> '$.name' ORDER BY newest.at DESC, id DESC) AS rank
                         FROM (SELECT id, at, policy FROM decision WHERE at <= ?2
                             ORDER BY at DESC, id DESC LIMIT ?1) newest
                         JOIN document ON hash = newest.policy)
                     WHERE rank = 1 ORDER BY id",
                )
                .map_err(failed)?;
            let ids = statement.query_map(params![NEWEST, instant(now)], |row| row.get(0)).map_err(failed)?;
            ids.collect::<Result<_, _>>().map_err(failed)
        })
        .await
    }

    /// Number of the decision that was recorded before another, of the policies of that name; `None` where there is none.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn before(&self, id: i64, policy: &str) -> Result<Option<i64>, HistoryError> {
        let policy = policy.to_owned();
        self.work(move |connection, path| {
            connection
                .query_row(
                    "SELECT id FROM decision JOIN document ON hash = policy
                     WHERE id < ?1 AND body ->> '$.name' = ?2 ORDER BY id DESC LIMIT 1",
                    params![id, policy],
                    |row| row.get(0),
                )
                .optional()
                .map_err(|error| explain(path, error))
        })
        .await
    }

    /// When the newest decision was made, by its time; `None` where there is none.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(super) async fn newest_time(&self) -> Result<Option<Timestamp>, HistoryError> {
        self.work(|connection, path| {
            let at: Option<String> = connection
                .query_row("SELECT max(at) FROM decision", [], |row| row.get(0))
                .map_err(|error| explain(path, error))?;
            at.map(|at| at.parse().map_err(|error| odd(path, "newest decision", &error))).transpose()
        })
        .await
    }

    /// Number of the newest decision; `None` where there is none.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn newest_decision(&self) -> Result<Option<i64>, HistoryError> {
        self.work(|connection, path| {
            connection
                .query_row("SELECT max(id) FROM decision", [], |row| row.get(0))
                .map_err(|error| explain(path, error))
        })
        .await
    }
}

/// Among so many decisions the newest of a policy is looked for: what is older has nothing to say to the next.
const NEWEST: u32 = 10_000;
/// The observation without its continuum, which is kept apart.
const CONTINUUM: &str = "continuum";
/// What lasted, which changes with every decision, stands with the observation and not with the earlier migrations.
const STANDING: &str = "standing";

fn insert(transaction: &Transaction<'_>, recorded: &Recorded, path: &Path) -> Result<i64, HistoryError> {
    let failed = |error| explain(path, error);
    let Recorded { observation, policy: wanted, history, now, seed, decision } = recorded;
    let policy = document(transaction, wanted, path)?;
    let continuum = document(transaction, &observation.continuum, path)?;
    let migrations = History { standing: Standing::default(), ..history.clone() };
    let standing = serde_json::to_value(&history.standing).map_err(|error| odd(path, "decision", &error))?;
    let history = document(transaction, &migrations, path)?;
    let mut observation = serde_json::to_value(observation).map_err(|error| odd(path, "decision", &error))?;
    if let Some(fields) = observation.as_object_mut() {
        fields.remove(CONTINUUM);
        fields.insert(STANDING.to_owned(), standing);
    }
    transaction
        .execute(
            "INSERT INTO decision (at, seed, mode, verdict, moves, policy, continuum, history, observation, decision)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                instant(*now),
                // SQLite's integers have a sign; a seed has 64 bits.
                seed.to_string(),
                wanted.mode.name(),
                verdict(&decision.report.verdict),
                i64::try_from(decision.plan.moves.len()).unwrap_or(i64::MAX),
                policy,
                continuum,
                history,
                observation.to_string(),
                json(decision, path)?,
            ],
        )
        .map_err(failed)?;
    Ok(transaction.last_insert_rowid())
}

fn document<T: Serialize>(
    transaction: &Transaction<'_>,
    value: &T,
    path: &Path,
) -> Result<String, HistoryError> {
    let body = json(value, path)?;
    let hash = blake3::hash(body.as_bytes()).to_hex().to_string();
    transaction
        .execute(
            "INSERT INTO document (hash, body) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            params![hash, body],
        )
        .map_err(|error| explain(path, error))?;
    Ok(hash)
}

pub(super) fn read(connection: &Connection, id: i64, path: &Path) -> Result<Option<Recorded>, HistoryError> {
    let row = connection
        .query_row(
            "SELECT at, seed, p.body, c.body, h.body, observation, decision FROM decision
             JOIN document p ON p.hash = policy
             JOIN document c ON c.hash = continuum
             JOIN document h ON h.hash = history
             WHERE id = ?1",
            [id],
            |row| {
                let text = |index: usize| row.get::<_, String>(index);
                Ok([text(0)?, text(1)?, text(2)?, text(3)?, text(4)?, text(5)?, text(6)?])
            },
        )
        .optional()
        .map_err(|error| explain(path, error))?;
    let Some([at, seed, policy, continuum, history, observation, decision]) = row else { return Ok(None) };
    let name = format!("decision {id}");
    let continuum: Continuum = parse(&continuum, &name, path)?;
    let mut fields: serde_json::Value = parse(&observation, &name, path)?;
    let mut history: History = parse(&history, &name, path)?;
    if let Some(fields) = fields.as_object_mut() {
        if let Some(standing) = fields.remove(STANDING) {
            history.standing = serde_json::from_value(standing).map_err(|error| odd(path, &name, &error))?;
        }
        let continuum = serde_json::to_value(continuum).map_err(|error| odd(path, &name, &error))?;
        fields.insert(CONTINUUM.to_owned(), continuum);
    }
    let observation: Observation =
        serde_json::from_value(fields).map_err(|error| odd(path, &name, &error))?;
    Ok(Some(Recorded {
        observation,
        policy: parse(&policy, &name, path)?,
        history,
        now: at.parse().map_err(|error| odd(path, &name, &error))?,
        seed: seed.parse().map_err(|error| odd(path, &name, &error))?,
        decision: parse(&decision, &name, path)?,
    }))
}

/// With all digits, so that texts sort as the instants do.
pub(super) fn instant(at: Timestamp) -> String {
    format!("{at:.9}")
}

pub(super) fn json<T: Serialize>(value: &T, path: &Path) -> Result<String, HistoryError> {
    serde_json::to_string(value).map_err(|error| odd(path, "to be written", &error))
}

pub(super) fn parse<T: DeserializeOwned>(text: &str, row: &str, path: &Path) -> Result<T, HistoryError> {
    serde_json::from_str(text).map_err(|error| odd(path, row, &error))
}

pub(super) fn odd(path: &Path, row: &str, error: &dyn std::fmt::Display) -> HistoryError {
    HistoryError::Row { path: path.to_owned(), row: row.to_owned(), reason: error.to_string() }
}

const fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Move => "move",
        Verdict::Stay => "stay",
        Verdict::Held { .. } => "held",
    }
}
