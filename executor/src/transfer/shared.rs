//! Memory that processes share and no file holds: anonymous mappings and System V segments, read while the service runs.
//!
//! CRIU puts each such object into an image of its own, named after its inode, with a page's place in the object as its address.
//! So it can be sent ahead like the memory of one more process, under a number that no process has.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::engine::criu::pagemap::{ADDRESSES, PAGE};
use crate::engine::memory::PIECE;

use super::holes::next_data;

/// The least number of an object; those of processes are below.
const FIRST: u32 = 1 << 31;

/// The number of the object with this inode; `None` where CRIU could not tell it from others.
pub(super) fn number(inode: u64) -> Option<u32> {
    u32::try_from(inode).ok().filter(|inode| *inode < FIRST).map(|inode| FIRST | inode)
}

/// The inode of the object with this number; `None` for that of a process.
pub(super) const fn inode(number: u32) -> Option<u32> {
    if number >= FIRST { Some(number & !FIRST) } else { None }
}

/// The objects that some processes share, by number, each with the path by which it can be opened.
pub(super) fn objects(pids: impl Iterator<Item = i32>) -> BTreeMap<u32, PathBuf> {
    let mut all: BTreeMap<u32, Option<(Kind, PathBuf)>> = BTreeMap::new();
    for pid in pids {
        // What has ended meanwhile shares nothing.
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        for mapping in maps.lines().filter_map(mapping) {
            let Some(number) = number(mapping.inode) else { continue };
            let path = Path::new("/proc").join(pid.to_string()).join("map_files").join(mapping.file);
            let known = all.entry(number).or_insert_with(|| Some((mapping.kind, path)));
            // CRIU knows them by their inodes alone.
            if known.as_ref().is_some_and(|(kind, _)| *kind != mapping.kind) {
                *known = None;
            }
        }
    }
    all.into_iter().filter_map(|(number, known)| Some((number, known?.1))).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Anonymous,
    SystemV,
}

#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    kind: Kind,
    inode: u64,
    /// Its name in `map_files`.
    file: String,
}

/// A line of a process's list of mappings, if it is one of such an object.
fn mapping(line: &str) -> Option<Mapping> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let shared = words.next()?.ends_with('s');
    let inode = words.nth(2)?.parse().ok()?;
    let kind = match (words.next()?, words.next()) {
        ("/dev/zero", Some("(deleted)")) => Kind::Anonymous,
        (name, Some("(deleted)")) if name.starts_with("/SYSV") => Kind::SystemV,
        _ => return None,
    };
    shared.then(|| Mapping { kind, inode, file: format!("{start:x}-{end:x}") })
}

/// Gives each run of pages of an object that were ever written, in pieces of at most [`PIECE`] bytes, by place.
pub(super) fn each_run(object: &Path, mut each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let file = File::open(object)?;
    let size = file.metadata()?.len().min(ADDRESSES);
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while let Some(data) = next_data(&file, at, size)? {
        at = data.start - data.start % PAGE;
        let end = data.end.min(size).next_multiple_of(PAGE);
        while at < end {
            let piece = &mut buffer[..(PIECE as u64).min(end - at) as usize];
            // A last page of which the object has only a part is zero behind it.
            piece.fill(0);
            let mut read = 0;
            while read < piece.len() {
                match file.read_at(&mut piece[read..], at + read as u64)? {
                    0 => break,
                    some => read += some,
                }
            }
            each(at, piece)?;
            at += piece.len() as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_file_holds_is_an_object() {
        let of = |line: &str| mapping(line).map(|one| (one.kind, one.inode, one.file));
        let anonymous =
            "7f00a0000000-7f00a8000000 rw-s 00000000 00:01 2071                 /dev/zero (deleted)";
        assert_eq!(of(anonymous), Some((Kind::Anonymous, 2071, "7f00a0000000-7f00a8000000".into())));
        let system_v = "00010000-00011000 rw-s 00000000 00:01 0          /SYSV0052e2c1 (deleted)";
        assert_eq!(of(system_v), Some((Kind::SystemV, 0, "10000-11000".into())));
        for other in [
            "7f00a0000000-7f00a8000000 rw-p 00000000 00:01 2071 /dev/zero (deleted)",
            "7f00a0000000-7f00a8000000 rw-s 00000000 00:01 9 /memfd:x (deleted)",
            "7f00a0000000-7f00a8000000 rw-s 00000000 00:19 9 /dev/shm/PostgreSQL.1",
            "7f00a0000000-7f00a8000000 rw-s 00000000 00:01 9 /dev/zero",
            "55d0c8e2f000-55d0c8e50000 rw-p 00000000 00:00 0 [heap]",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn objects_have_numbers_that_no_process_has() {
        assert_eq!(number(5).and_then(inode), Some(5));
        assert!(number(5).is_some_and(|number| i32::try_from(number).is_err()));
        assert_eq!(inode(5), None);
        assert_eq!(number(1 << 31), None);
    }

    #[test]
    #[expect(unsafe_code, reason = "there is no other way to share memory without a file")]
    fn what_is_shared_is_found_and_read() {
        use nix::libc::{MAP_ANONYMOUS, MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap};
        let pages = 700;
        let length = pages * PAGE as usize;
        // SAFETY: a new mapping, which stays to the end of the program.
        let mapped = unsafe {
            mmap(std::ptr::null_mut(), length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
        };
        assert_ne!(mapped, MAP_FAILED);
        // SAFETY: it is as long as that, zero, and nobody else's.
        let mine = unsafe { std::slice::from_raw_parts_mut(mapped.cast::<u8>(), length) };
        mine[5 * PAGE as usize] = 7;
        mine[(pages - 1) * PAGE as usize] = 9;
        let start = format!("{:x}-", mine.as_ptr() as u64);
        let pid = i32::try_from(std::process::id()).unwrap();
        let all = objects(std::iter::once(pid));
        let named = |path: &&PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(&start);
        let object = all.values().find(named).unwrap();
        let mut seen = BTreeMap::new();
        each_run(object, |at, bytes| {
            for (page, bytes) in (at / PAGE..).zip(bytes.chunks_exact(PAGE as usize)) {
                seen.insert(page, bytes[0]);
            }
            Ok(())
        })
        .unwrap();
        seen.retain(|_, fill| *fill != 0);
        assert_eq!(seen, BTreeMap::from([(5, 7), (pages as u64 - 1, 9)]));
    }
}
