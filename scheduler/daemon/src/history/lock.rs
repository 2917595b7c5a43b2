//! One scheduler per state.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::HistoryError;

/// Name of the lock's file in the continuum's state folder.
const FILE: &str = "scheduler.lock";

/// Held while a scheduler runs on a state; let go when dropped, also by a crash.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock of a continuum's state folder, and makes the folder on first use.
    ///
    /// # Errors
    /// When another scheduler holds it, or the folder can't be written.
    pub fn take(folder: &Path) -> Result<Self, HistoryError> {
        make(folder)?;
        let failed = |source| HistoryError::Folder { path: folder.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(FILE))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The number only helps to find it; without it the refusal stands.
                let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
                let holder = if known { format!(" (process {})", pid.trim()) } else { String::new() };
                return Err(HistoryError::Locked { path: folder.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let note = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        note.map_err(failed)?;
        Ok(Self { _file: file })
    }
}

pub(super) fn make(folder: &Path) -> Result<(), HistoryError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| HistoryError::Folder { path: folder.to_owned(), source })
}
