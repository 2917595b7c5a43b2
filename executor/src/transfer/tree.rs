//! A folder as a list of entries, and what changed since the last pass.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::manifest::{Digest, Line, Manifest};
use super::written::{Arrived, Known as There, Written};

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self { inode: meta.ino(), size: meta.len(), changed: (meta.ctime(), meta.ctime_nsec()) }
    }

    /// Unlike any: what has it is sent again.
    const fn unsettled(self) -> Self {
        Self { changed: (0, -1), ..self }
    }
}

/// A change within this time before a pass may be younger than what the pass read, for the clock of a file system ticks
/// only every few milliseconds.
const TICK: Duration = Duration::from_millis(50);

/// Who may write to the tree while a pass runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// The service runs.
    Running,
    /// The service runs, and has files mapped for writing. What it writes through memory shows in a file's times only once its
    /// page was clean, so the file system writes all pages first: what changes after that is noticed by the next pass.
    Mapping,
    /// The service stands frozen: this pass is complete.
    Frozen,
}

/// What is known of a name that was sent.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    stamp: Stamp,
    line: Line,
}

/// What the passes before have sent.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    known: BTreeMap<Vec<u8>, Known>,
    there: There,
    begun: bool,
}

/// What one pass has to send.
#[derive(Debug, Clone, Default)]
pub struct Pass {
    /// Whether it is the first: it brings everything, and what is there of an earlier attempt has to go.
    pub first: bool,
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
    pub fn pass(&mut self, root: &Path, writers: Writers) -> io::Result<Pass> {
        let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let folder = std::fs::File::open(root).map_err(|error| at(root, error))?;
        if writers == Writers::Mapping {
            nix::unistd::syncfs(&folder).map_err(|error| at(root, error.into()))?;
        }
        let kind = nix::sys::statfs::fstatfs(&folder).map_err(|error| at(root, error.into()))?;
        // There a dirty page is never written out, and so never clean again.
        let in_ram = kind.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC;
        let mut pass = Pass { first: !self.begun, ..Pass::default() };
        let mut known = BTreeMap::new();
        let mut replaced: BTreeSet<Vec<u8>> = BTreeSet::new();
        for met in walk(root)? {
            let stamp = Stamp::of(&met.meta);
            let age = Duration::new(
                met.meta.ctime().unsigned_abs(),
                u32::try_from(met.meta.ctime_nsec()).unwrap_or(0),
            );
            let settled = age + TICK < began && !in_ram;
            let before = self.known.get(&met.name).filter(|known| known.stamp == stamp);
            // The link is as new as the name that it points to: that one may have been replaced.
            let replaced_first =
                matches!(&met.kind, Kind::HardLink(first) if replaced.contains(first.as_slice()));
            let line = match before {
                Some(known) if !replaced_first => known.line,
                _ => {
                    replaced.insert(met.name.clone());
                    let entry = met.entry(root)?;
                    let line = Line::of(&entry);
                    pass.entries.push(entry);
                    line
                }
            };
            let stamp = if settled { stamp } else { stamp.unsettled() };
            known.insert(met.name, Known { stamp, line });
        }
        pass.removed = self.known.keys().filter(|name| !known.contains_key(*name)).cloned().collect();
        self.there.keep(|name| known.contains_key(name));
        self.known = known;
        self.begun = true;
        Ok(pass)
    }

    /// What is known to lie in the files at the destination.
    pub const fn there(&self) -> &There {
        &self.there
    }

    /// Notes what was in the files of a pass when they were written to the stream.
    pub fn note(&mut self, pass: &Pass, written: &Written) {
        self.contents(pass, &written.all(pass));
    }

    /// All of a pass arrived.
    pub fn arrived(&mut self, pass: &Pass, written: &Written) {
        self.there.arrived(pass, &written.all(pass));
    }

    /// The stream of a pass broke. `headers` is the hash of all its headers up to the last frame that the destination has acted
    /// on, where it knows. The next pass brings what did not arrive.
    pub fn broke(&mut self, pass: &Pass, written: &Written, headers: Option<&Digest>) {
        if let Some(arrived) = headers.and_then(|headers| written.until(headers, pass)) {
            self.contents(pass, &arrived);
            self.there.arrived(pass, &arrived);
            let removed = pass.removed[arrived.removed..].iter();
            for name in removed.chain(pass.entries[arrived.whole..].iter().map(|entry| &entry.path)) {
                self.unsettle(name);
            }
        } else if pass.first {
            *self = Self::default();
        } else {
            for name in pass.removed.iter().chain(pass.entries.iter().map(|entry| &entry.path)) {
                self.there.forget(name);
                self.unsettle(name);
                // Its time changes with what is in it, and may not have been put right.
                if let Some(parent) = Path::new(OsStr::from_bytes(name)).parent() {
                    self.unsettle(parent.as_os_str().as_bytes());
                }
            }
        }
    }

    fn contents(&mut self, pass: &Pass, arrived: &Arrived) {
        for begun in arrived.begun.iter().filter(|begun| begun.whole) {
            let entry = &pass.entries[begun.entry];
            if let (Kind::File(size), Some(known)) = (&entry.kind, self.known.get_mut(&entry.path)) {
                known.line.contents = Some(begun.contents(*size));
            }
        }
    }

    /// Has a name sent again, or removed if it is gone by then.
    fn unsettle(&mut self, name: &[u8]) {
        let known = self.known.entry(name.to_vec()).or_default();
        known.stamp = known.stamp.unsettled();
    }

    /// All names that were sent, with what is in them.
    pub fn manifest(&self) -> Manifest {
        Manifest::of(self.known.iter().map(|(name, known)| (name.as_slice(), &known.line)))
    }
}

/// A name as a walk meets it.
#[derive(Debug)]
pub(super) struct Met {
    pub(super) name: Vec<u8>,
    pub(super) meta: Metadata,
    pub(super) kind: Kind,
}

impl Met {
    pub(super) fn entry(&self, root: &Path) -> io::Result<Entry> {
        let relative = Path::new(OsStr::from_bytes(&self.name));
        Ok(Entry {
            path: self.name.clone(),
            kind: self.kind.clone(),
            mode: self.meta.mode() & 0o7777,
            uid: self.meta.uid(),
            gid: self.meta.gid(),
            modified: (self.meta.mtime(), u32::try_from(self.meta.mtime_nsec()).unwrap_or(0)),
            attributes: attributes(&root.join(relative))?,
        })
    }
}

/// Every name under `root` and the root itself, folders before what is in them, each folder's names in order; so that equal
/// trees give equal lists. Sockets are left out: they are made anew by whoever listens on them, and CRIU restores them itself.
pub(super) fn walk(root: &Path) -> io::Result<Vec<Met>> {
    let mut all = Vec::new();
    let mut links: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        let path = root.join(&relative);
        let gone =
            |error: &io::Error| error.kind() == io::ErrorKind::NotFound && !relative.as_os_str().is_empty();
        let meta = match std::fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            // It was removed while the walk went on.
            Err(error) if gone(&error) => continue,
            Err(error) => return Err(at(&path, error)),
        };
        if meta.is_dir() {
            let listed = match std::fs::read_dir(&path) {
                Ok(listed) => listed,
                Err(error) if gone(&error) => continue,
                Err(error) => return Err(at(&path, error)),
            };
            let mut names = Vec::new();
            for entry in listed {
                names.push(relative.join(entry.map_err(|error| at(&path, error))?.file_name()));
            }
            names.sort_unstable_by(|a, b| b.cmp(a));
            pending.extend(names);
        }
        if meta.file_type().is_socket() {
            continue;
        }
        let name = relative.into_os_string().into_vec();
        let mut kind = match kind_of(&path, &meta) {
            Ok(kind) => kind,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if meta.nlink() > 1 && meta.is_file() {
            match links.get(&meta.ino()) {
                Some(first) => kind = Kind::HardLink(first.clone()),
                None => drop(links.insert(meta.ino(), name.clone())),
            }
        }
        all.push(Met { name, meta, kind });
    }
    Ok(all)
}

fn kind_of(path: &Path, meta: &Metadata) -> io::Result<Kind> {
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
pub(crate) fn at(path: &Path, error: io::Error) -> io::Error {
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
        assert_eq!(names(&sent.pass(root.path(), Writers::Running).unwrap()), ["", ".b", "d", "d/a", "s"]);
        assert_eq!(names(&sent.pass(root.path(), Writers::Running).unwrap()), [] as [&str; 0]);
        std::fs::write(file("d/a"), "3").unwrap();
        std::fs::remove_file(file(".b")).unwrap();
        let pass = sent.pass(root.path(), Writers::Running).unwrap();
        // The root changed with the name that left it.
        assert_eq!(names(&pass), ["", "d/a"]);
        assert_eq!(pass.removed, [b".b".to_vec()]);
    }

    #[test]
    fn what_changed_a_moment_ago_is_sent_again() {
        let root = tempfile::tempdir().unwrap();
        let mut sent = Sent::default();
        std::fs::write(root.path().join("a"), "1").unwrap();
        sent.pass(root.path(), Writers::Running).unwrap();
        assert!(names(&sent.pass(root.path(), Writers::Running).unwrap()).contains(&"a".to_owned()));
    }

    #[test]
    fn further_names_of_a_file_are_links() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a"), "1").unwrap();
        std::fs::hard_link(root.path().join("a"), root.path().join("b")).unwrap();
        let pass = Sent::default().pass(root.path(), Writers::Running).unwrap();
        assert_eq!(pass.entries[2].kind, Kind::HardLink(b"a".to_vec()));
    }

    #[test]
    #[expect(unsafe_code, reason = "there is no other way to write through a mapping")]
    fn what_is_written_through_a_mapping_is_sent() {
        // On a disk: where temporary files lie may be in RAM.
        let here = std::env::current_exe().unwrap();
        let root = tempfile::tempdir_in(here.parent().unwrap()).unwrap();
        std::fs::write(root.path().join("a"), vec![0; 4096]).unwrap();
        let file = std::fs::File::options().read(true).write(true).open(root.path().join("a")).unwrap();
        // SAFETY: nobody else has the file.
        let mut mapped = unsafe { memmap2::MmapMut::map_mut(&file) }.unwrap();
        // The page is dirty from here on: a further write alone would not show in the file's times.
        mapped[0] = 1;
        std::thread::sleep(TICK * 3);
        let mut sent = Sent::default();
        sent.pass(root.path(), Writers::Mapping).unwrap();
        std::thread::sleep(TICK * 3);
        let pass = sent.pass(root.path(), Writers::Mapping).unwrap();
        assert_eq!(names(&pass), [] as [&str; 0], "it has settled");
        mapped[0] = 2;
        let pass = sent.pass(root.path(), Writers::Frozen).unwrap();
        assert_eq!(names(&pass), ["a"]);
    }

    #[test]
    fn nothing_settles_in_ram() {
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        std::fs::write(root.path().join("a"), "1").unwrap();
        std::thread::sleep(TICK * 3);
        let mut sent = Sent::default();
        sent.pass(root.path(), Writers::Running).unwrap();
        assert_eq!(names(&sent.pass(root.path(), Writers::Frozen).unwrap()), ["", "a"]);
    }
}
