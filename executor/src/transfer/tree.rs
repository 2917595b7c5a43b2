//! A folder as a list of entries, and what changed since the last pass.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file of this many bytes.
    File(u64),
    /// A symbolic link to this text.
    Symlink(Vec<u8>),
    /// A further name of a file that was sent under this name.
    HardLink(Vec<u8>),
    /// A character device; 0/0 is an overlay's mark for a deleted name.
    Character(u64),
    /// A block device.
    Block(u64),
    /// A named pipe.
    Pipe,
}

/// One name in the tree, with all that a file system keeps of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path relative to the root; empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner, as a number of the node.
    pub uid: u32,
    /// Group, as a number of the node.
    pub gid: u32,
    /// Time of last change, seconds and nanoseconds.
    pub modified: (i64, u32),
    /// Extended attributes, with those that carry ACLs, capabilities and an overlay's own marks.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// The path as the operating system takes it.
    pub fn relative(&self) -> PathBuf {
        PathBuf::from(OsString::from_vec(self.path.clone()))
    }
}

/// What tells whether a name was changed since it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// A change within this time before a pass may be younger than what the pass read, for the clock of a file system ticks
/// only every few milliseconds.
const TICK: Duration = Duration::from_millis(50);

/// What the passes before have sent.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    stamps: BTreeMap<Vec<u8>, Stamp>,
}

/// What one pass has to send.
#[derive(Debug, Clone, Default)]
pub struct Pass {
    /// Names that are gone, deepest last.
    pub removed: Vec<Vec<u8>>,
    /// Names that are new or changed, folders before what is in them.
    pub entries: Vec<Entry>,
}

impl Sent {
    /// Walks `root` and returns what changed since the pass before; the first pass is everything.
    ///
    /// A tree that is being written to is read as it is met; what changes meanwhile is part of the next pass. Only a pass
    /// over a frozen service's tree is complete.
    ///
    /// # Errors
    /// When the tree can't be read.
    pub fn pass(&mut self, root: &Path) -> io::Result<Pass> {
        let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut pass = Pass::default();
        let mut stamps = BTreeMap::new();
        let mut links: BTreeMap<u64, (Vec<u8>, bool)> = BTreeMap::new();
        let mut pending = vec![PathBuf::new()];
        while let Some(relative) = pending.pop() {
            let path = root.join(&relative);
            let meta = match std::fs::symlink_metadata(&path) {
                Ok(meta) => meta,
                // It was removed while the pass ran.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !relative.as_os_str().is_empty() => {
                    continue;
                }
                Err(error) => return Err(at(&path, error)),
            };
            if meta.is_dir() {
                let mut names = Vec::new();
                for entry in std::fs::read_dir(&path).map_err(|error| at(&path, error))? {
                    names.push(relative.join(entry.map_err(|error| at(&path, error))?.file_name()));
                }
                names.sort_unstable_by(|a, b| b.cmp(a));
                pending.extend(names);
            }
            // A socket is made anew by whoever listens on it, and CRIU restores it itself.
            if meta.file_type().is_socket() {
                continue;
            }
            let name = relative.clone().into_os_string().into_vec();
            let stamp =
                Stamp { inode: meta.ino(), size: meta.len(), changed: (meta.ctime(), meta.ctime_nsec()) };
            let age =
                Duration::new(meta.ctime().unsigned_abs(), u32::try_from(meta.ctime_nsec()).unwrap_or(0));
            let settled = age + TICK < began;
            let mut same = self.stamps.get(&name) == Some(&stamp);
            let mut kind = kind_of(&path, &meta)?;
            if meta.nlink() > 1 && meta.is_file() {
                match links.get(&meta.ino()) {
                    Some((first, first_same)) => {
                        // The link is as new as the name that it points to: that one may have been replaced.
                        same &= *first_same;
                        kind = Kind::HardLink(first.clone());
                    }
                    None => drop(links.insert(meta.ino(), (name.clone(), same))),
                }
            }
            if settled {
                stamps.insert(name.clone(), stamp);
            } else {
                // Known, but to be sent again.
                stamps.insert(name.clone(), Stamp { changed: (0, -1), ..stamp });
            }
            if !same {
                pass.entries.push(Entry {
                    path: name,
                    kind,
                    mode: meta.mode() & 0o7777,
                    uid: meta.uid(),
                    gid: meta.gid(),
                    modified: (meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap_or(0)),
                    attributes: attributes(&path)?,
                });
            }
        }
        pass.removed = self.stamps.keys().filter(|name| !stamps.contains_key(*name)).cloned().collect();
        self.stamps = stamps;
        Ok(pass)
    }
}

fn kind_of(path: &Path, meta: &std::fs::Metadata) -> io::Result<Kind> {
    let file_type = meta.file_type();
    Ok(if file_type.is_dir() {
        Kind::Folder
    } else if file_type.is_symlink() {
        Kind::Symlink(std::fs::read_link(path).map_err(|error| at(path, error))?.into_os_string().into_vec())
    } else if file_type.is_char_device() {
        Kind::Character(meta.rdev())
    } else if file_type.is_block_device() {
        Kind::Block(meta.rdev())
    } else if file_type.is_fifo() {
        Kind::Pipe
    } else {
        Kind::File(meta.len())
    })
}

fn attributes(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let names = match xattr::list(path) {
        Ok(names) => names,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(at(path, error)),
    };
    let mut all = Vec::new();
    for name in names {
        match xattr::get(path, &name) {
            Ok(Some(value)) => all.push((name.into_vec(), value)),
            Ok(None) => {}
            // The kernel takes a capability of no length, and then can't read it itself: it has no effect.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            Err(error) => return Err(at(path, error)),
        }
    }
    all.sort();
    Ok(all)
}

/// Says which path an error is about.
pub(super) fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pass: &Pass) -> Vec<String> {
        pass.entries.iter().map(|entry| String::from_utf8(entry.path.clone()).unwrap()).collect()
    }

    #[test]
    fn the_first_pass_is_everything_and_the_next_only_what_changed() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str| root.path().join(name);
        std::fs::create_dir(file("d")).unwrap();
        std::fs::write(file("d/a"), "1").unwrap();
        std::fs::write(file(".b"), "2").unwrap();
        std::os::unix::fs::symlink("d/a", file("s")).unwrap();
        std::thread::sleep(TICK * 2);
        let mut sent = Sent::default();
        assert_eq!(names(&sent.pass(root.path()).unwrap()), ["", ".b", "d", "d/a", "s"]);
        assert_eq!(names(&sent.pass(root.path()).unwrap()), [] as [&str; 0]);
        std::fs::write(file("d/a"), "3").unwrap();
        std::fs::remove_file(file(".b")).unwrap();
        let pass = sent.pass(root.path()).unwrap();
        // The root changed with the name that left it.
        assert_eq!(names(&pass), ["", "d/a"]);
        assert_eq!(pass.removed, [b".b".to_vec()]);
    }

    #[test]
    fn what_changed_a_moment_ago_is_sent_again() {
        let root = tempfile::tempdir().unwrap();
        let mut sent = Sent::default();
        std::fs::write(root.path().join("a"), "1").unwrap();
        sent.pass(root.path()).unwrap();
        assert!(names(&sent.pass(root.path()).unwrap()).contains(&"a".to_owned()));
    }

    #[test]
    fn further_names_of_a_file_are_links() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a"), "1").unwrap();
        std::fs::hard_link(root.path().join("a"), root.path().join("b")).unwrap();
        let pass = Sent::default().pass(root.path()).unwrap();
        assert_eq!(pass.entries[2].kind, Kind::HardLink(b"a".to_vec()));
    }
}
