//! Files with holes: what of them is data.

use std::fs::File;
use std::io;
use std::ops::Range;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// The next part of a file of this size, at or behind an offset, that is no hole; `None` behind the last.
///
/// # Errors
/// When the file can't be searched.
pub fn next_data(file: &File, from: u64, size: u64) -> io::Result<Option<Range<u64>>> {
    let seek = |from: u64, what| {
        let from = i64::try_from(from).map_err(|_| Errno::EOVERFLOW)?;
        lseek(file, from, what)
    };
    // Offsets in a file are not negative.
    let found = seek(from, Whence::SeekData)
        .and_then(|start| Ok(start as u64..seek(start as u64, Whence::SeekHole)? as u64));
    match found {
        Ok(data) => Ok(Some(data)),
        // Also where it became shorter between the two.
        Err(Errno::ENXIO) => Ok(None),
        // A file system that knows of no holes.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok((from < size).then_some(from..size)),
        Err(error) => Err(error.into()),
    }
}
