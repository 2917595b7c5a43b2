//! What happened, kept for good: every decision with all its inputs, every order before it is given, every migration.
//!
//! One SQLite file per continuum, append-only (triggers hold it to that; only whole old decisions may go), readable with any SQL tool. Durations are in
//! whole nanoseconds, sizes in bytes, instants in RFC 3339.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use thiserror::Error;

pub mod approval;
pub mod decision;
mod directive;
pub mod list;
pub mod lock;
pub mod migration;
mod past;
mod pod_end;
pub mod retention;
mod schema;
pub mod summary;

pub use migration::{Intent, OpenIntent};

/// Name of the file in the continuum's state folder.
pub const FILE: &str = "history.sqlite";

/// The history of one continuum.
#[derive(Debug, Clone)]
pub struct HistoryStore {
    connection: Arc<Mutex<Connection>>,
    path: PathBuf,
    /// Version of the tables, less than ours only in a file that is only read.
    version: i64,
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
    /// The file can't be looked at.
    #[error("can't look at the history {path}: {source}")]
    Unreadable {
        /// The file.
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
        let version = schema::version(&connection, &path)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), path, version })
    }

    /// Opens the history in a continuum's state folder to read it only, also while a scheduler writes it; `None` where there is
    /// none.
    ///
    /// # Errors
    /// When the file can't be used.
    pub fn read(folder: &Path) -> Result<Option<Self>, HistoryError> {
        Self::read_file(folder.join(FILE))
    }

    /// The same of a file wherever it lies, such as a copy.
    ///
    /// # Errors
    /// When the file can't be used.
    pub fn read_file(path: PathBuf) -> Result<Option<Self>, HistoryError> {
        // A folder that may not be looked into is another matter.
        let there = path.try_exists();
        if !there.map_err(|source| HistoryError::Unreadable { path: path.clone(), source })? {
            return Ok(None);
        }
        let failed = |error| explain(&path, error);
        let connection =
            Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
        let version = schema::version(&connection, &path)?;
        // Made by another program a moment ago, and still without tables.
        if version == 0 {
            return Ok(None);
        }
        Ok(Some(Self { connection: Arc::new(Mutex::new(connection)), path, version }))
    }

    /// One without anything in it, on no disk.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn nothing() -> Result<Self, HistoryError> {
        let path = PathBuf::from(":memory:");
        let connection = Connection::open_in_memory().map_err(|error| explain(&path, error))?;
        schema::prepare(&connection, &path)?;
        let version = schema::version(&connection, &path)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), path, version })
    }

    /// Whether the tables of what people say are there.
    const fn knows_people(&self) -> bool {
        self.version >= 2
    }

    /// Whether the table of pods that have ended is there.
    const fn knows_pods(&self) -> bool {
        self.version >= 3
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
