//! The tables.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::{HistoryError, explain};

/// Written to `user_version`.
const VERSION: i64 = 1;

/// A large and seldom changing part of the inputs (policy, continuum, earlier migrations) is kept once, under its hash.
const TABLES: &str = "
CREATE TABLE document (
    hash TEXT PRIMARY KEY,
    body TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE decision (
    id        INTEGER PRIMARY KEY,
    at        TEXT NOT NULL,
    seed      TEXT NOT NULL,
    mode      TEXT NOT NULL,
    verdict   TEXT NOT NULL,
    moves     INTEGER NOT NULL,
    policy    TEXT NOT NULL REFERENCES document (hash),
    continuum TEXT NOT NULL REFERENCES document (hash),
    history   TEXT NOT NULL REFERENCES document (hash),
    observation TEXT NOT NULL,
    decision  TEXT NOT NULL
);
CREATE TABLE intent (
    id        TEXT PRIMARY KEY,
    decision  INTEGER REFERENCES decision (id),
    written   TEXT NOT NULL,
    service   TEXT NOT NULL,
    from_node TEXT NOT NULL,
    to_node   TEXT NOT NULL,
    predicted_downtime_ns INTEGER NOT NULL,
    predicted_duration_ns INTEGER NOT NULL,
    predicted_bytes       INTEGER NOT NULL
);
CREATE TABLE migration (
    id          TEXT PRIMARY KEY REFERENCES intent (id),
    ended       TEXT NOT NULL,
    service     TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    reason      TEXT,
    downtime_ns INTEGER,
    duration_ns INTEGER,
    bytes       INTEGER,
    report      TEXT
);
CREATE INDEX migration_by_service ON migration (service, ended);
";

const KEPT: [&str; 4] = ["document", "decision", "intent", "migration"];

pub(super) fn prepare(connection: &Connection, path: &Path) -> Result<(), HistoryError> {
    let failed = |error| explain(path, error);
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    let transaction =
        rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate).map_err(failed)?;
    let found: i64 =
        transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    match found {
        0 => {
            transaction.execute_batch(TABLES).map_err(failed)?;
            for table in KEPT {
                for change in ["UPDATE", "DELETE"] {
                    let trigger = format!(
                        "CREATE TRIGGER {table}_no_{change} BEFORE {change} ON {table} \
                         BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;"
                    );
                    transaction.execute_batch(&trigger).map_err(failed)?;
                }
            }
            transaction.pragma_update(None, "user_version", VERSION).map_err(failed)?;
            transaction.commit().map_err(failed)
        }
        VERSION => transaction.commit().map_err(failed),
        found => Err(HistoryError::Newer { path: path.to_owned(), found, known: VERSION }),
    }
}
