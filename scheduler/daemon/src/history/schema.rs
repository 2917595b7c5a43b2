//! The tables.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::{HistoryError, explain};

/// Written to `user_version`.
const VERSION: i64 = 3;

/// The first version. A large and seldom changing part of the inputs (policy, continuum, earlier migrations) is kept once, under its hash.
const FIRST: &str = "
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

/// The second: what people say, and old decisions that may go.
///
/// A decision of which nothing came may be deleted once a pruning is recorded that reaches it, and a document once nothing
/// refers to it; nobody may change what was recorded, nor delete anything else.
const SECOND: &str = "
CREATE TABLE directive (
    id     INTEGER PRIMARY KEY,
    at     TEXT NOT NULL,
    ask    TEXT NOT NULL,
    given  INTEGER NOT NULL,
    by     TEXT NOT NULL,
    reason TEXT
);
CREATE TABLE approval (
    decision INTEGER PRIMARY KEY REFERENCES decision (id),
    at       TEXT NOT NULL,
    expires  TEXT NOT NULL
);
CREATE TABLE approval_step (
    id       INTEGER PRIMARY KEY,
    decision INTEGER NOT NULL REFERENCES approval (decision),
    at       TEXT NOT NULL,
    step     TEXT NOT NULL,
    by       TEXT,
    note     TEXT
);
CREATE TABLE pruning (
    id     INTEGER PRIMARY KEY,
    at     TEXT NOT NULL,
    before TEXT NOT NULL
);
CREATE INDEX decision_by_time ON decision (at);
CREATE INDEX decision_by_policy ON decision (policy);
CREATE INDEX decision_by_continuum ON decision (continuum);
CREATE INDEX decision_by_history ON decision (history);
CREATE INDEX intent_by_decision ON intent (decision);
CREATE INDEX intent_by_time ON intent (written);
CREATE INDEX directive_by_ask ON directive (ask);
CREATE INDEX approval_step_by_decision ON approval_step (decision);
DROP TRIGGER decision_no_DELETE;
CREATE TRIGGER decision_no_DELETE BEFORE DELETE ON decision
    WHEN NOT EXISTS (SELECT 1 FROM pruning WHERE OLD.at < before)
        OR EXISTS (SELECT 1 FROM intent WHERE decision = OLD.id)
        OR EXISTS (SELECT 1 FROM approval WHERE decision = OLD.id)
    BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
DROP TRIGGER document_no_DELETE;
CREATE TRIGGER document_no_DELETE BEFORE DELETE ON document
    WHEN NOT EXISTS (SELECT 1 FROM pruning)
        OR EXISTS (SELECT 1 FROM decision WHERE policy = OLD.hash)
        OR EXISTS (SELECT 1 FROM decision WHERE continuum = OLD.hash)
        OR EXISTS (SELECT 1 FROM decision WHERE history = OLD.hash)
    BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
";

/// The third: pods that have ended, by which what was on its way from them may run where it is held.
const THIRD: &str = "
CREATE TABLE pod_end (
    uid  TEXT PRIMARY KEY,
    node TEXT NOT NULL,
    seen TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX pod_end_by_time ON pod_end (seen);
";

/// The tables of each version that hold what must not be changed.
const KEPT: [&[&str]; 3] = [
    &["document", "decision", "intent", "migration"],
    &["directive", "approval", "approval_step", "pruning"],
    &["pod_end"],
];

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
    let step = match found {
        0 => 0,
        1 => 1,
        2 => 2,
        VERSION => return transaction.commit().map_err(failed),
        found => return Err(HistoryError::Newer { path: path.to_owned(), found, known: VERSION }),
    };
    for (tables, kept) in [FIRST, SECOND, THIRD].into_iter().zip(KEPT).skip(step) {
        transaction.execute_batch(tables).map_err(failed)?;
        for table in kept {
            for change in ["UPDATE", "DELETE"] {
                let trigger = format!(
                    "CREATE TRIGGER {table}_no_{change} BEFORE {change} ON {table} \
                     BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;"
                );
                transaction.execute_batch(&trigger).map_err(failed)?;
            }
        }
    }
    transaction.pragma_update(None, "user_version", VERSION).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// Makes tables as the first version had them, for tests.
#[cfg(test)]
pub(super) fn first_version(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(FIRST)?;
    for table in KEPT[0] {
        for change in ["UPDATE", "DELETE"] {
            connection.execute_batch(&format!(
                "CREATE TRIGGER {table}_no_{change} BEFORE {change} ON {table} \
                 BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;"
            ))?;
        }
    }
    connection.pragma_update(None, "user_version", 1)
}

/// The version of a file that is only read.
///
/// # Errors
/// When it can't be read, or is of a newer program.
pub(super) fn version(connection: &Connection, path: &Path) -> Result<i64, HistoryError> {
    let found = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| explain(path, error))?;
    if found > VERSION {
        return Err(HistoryError::Newer { path: path.to_owned(), found, known: VERSION });
    }
    Ok(found)
}
