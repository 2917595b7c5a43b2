//! What happened, kept for good: every decision with all its inputs, every order before it is given, every migration.
//!
//! One SQLite file per continuum, append-only (triggers hold it to that), readable with any SQL tool. Durations are in
//! whole nanoseconds, sizes in bytes, instants in RFC 3339.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use thiserror::Error;

pub mod decision;
pub mod lock;
pub mod migration;
mod schema;

pub use migration::{Intent, OpenIntent};

/// Name of the file in the continuum's state folder.
pub const FILE: &str = "history.sqlite";

/// The history of one continuum.
#[derive(Debug, Clone)]
pub struct HistoryStore {
    connection: Arc<Mutex<Connection>>,
    path: PathBuf,
}

/// The history can't be used.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// A folder could not be made.
    #[error("can't make the state folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// Another scheduler uses the state.
    #[error(
        "another scheduler runs on {path}{holder}; two would give contradicting orders. Stop it, or set another `state`"
    )]
    Locked {
        /// The state folder.
        path: PathBuf,
        /// Its process, where it left its number.
        holder: String,
    },
    /// The disk is full.
    #[error("no space left for the history {path}; nothing is moved until there is")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer program.
    #[error(
        "the history {path} has version {found}, this program knows up to {known}; use the newer program"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The file is not a database or is damaged.
    #[error(
        "the history {path} is damaged or not a database ({reason}); put it aside and start again, or restore a copy"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Something else that SQLite says.
    #[error("the history {path} can't be used: {reason}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// A row can't be read back.
    #[error("row {row} of the history {path} can't be read: {reason}")]
    Row {
        /// The file.
        path: PathBuf,
        /// Table and key.
        row: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The work was cut off, because the program is ending.
    #[error("the history was not written: the program is ending")]
    Ending,
}

impl HistoryStore {
    /// Opens the history in a continuum's state folder, and makes both on first use.
    ///
    /// # Errors
    /// When the folder can't be made or the file can't be used.
    pub fn open(folder: &Path) -> Result<Self, HistoryError> {
        lock::make(folder)?;
        let path = folder.join(FILE);
        let failed = |error| explain(&path, error);
        let connection = Connection::open(&path).map_err(failed)?;
        schema::prepare(&connection, &path)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), path })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Works on the database, away from the threads that serve everything else: a sync to disk may take long.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection, &Path) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let (connection, path) = (Arc::clone(&self.connection), self.path.clone());
        tokio::task::spawn_blocking(move || {
            // A panic elsewhere left no half-done change: every change is one transaction.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection, &path)
        })
        .await
        .map_err(|_| HistoryError::Ending)?
    }
}

/// SQLite's error as one that says what to do.
fn explain(path: &Path, error: rusqlite::Error) -> HistoryError {
    use rusqlite::ErrorCode;
    let path = path.to_owned();
    let reason = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => HistoryError::Full { path },
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => HistoryError::Damaged { path, reason },
        _ => HistoryError::Sqlite { path, reason },
    }
}

#[cfg(test)]
mod tests;
