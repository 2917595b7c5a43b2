//! A stream made into files, under a folder that it can't leave.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, mknod};
use nix::unistd::{Gid, Uid, fchownat};
use sterna_policies::quantity::Bytes;

use super::stream::{Frame, Reader, corrupt};
use super::tree::{Entry, Kind, at};

/// Makes the stream's files under `root`, which must exist. Returns how many bytes the stream had.
///
/// # Errors
/// When the stream is corrupt, names a place outside `root`, or a file can't be written.
pub fn receive(input: impl Read, root: &Path) -> io::Result<Bytes> {
    let mut reader = Reader::new(input);
    let mut chunk = Vec::new();
    let mut open: Option<(File, Entry)> = None;
    // A folder's times change with what is put into it: they are set at the end.
    let mut folders: Vec<Entry> = Vec::new();
    let root = Root::open(root)?;
    loop {
        let frame = reader.next(&mut chunk)?;
        if !matches!(frame, Frame::Chunk { .. })
            && let Some((file, entry)) = open.take()
        {
            root.finish_file(&file, &entry)?;
        }
        match frame {
            Frame::Removed(name) => root.remove(&name)?,
            Frame::Entry(entry) => match entry.kind {
                Kind::File(_) => open = Some((root.create_file(&entry)?, entry)),
                Kind::Folder => {
                    root.create(&entry)?;
                    folders.push(entry);
                }
                _ => root.create(&entry)?,
            },
            Frame::Chunk { offset, .. } => {
                let (file, _) = open.as_ref().ok_or_else(|| corrupt("a chunk belongs to no file"))?;
                file.write_all_at(&chunk, offset)?;
            }
            Frame::End { .. } => break,
        }
    }
    for folder in folders.iter().rev() {
        root.dress(folder)?;
    }
    Ok(reader.bytes())
}

/// The folder that everything goes under. Names are resolved by the kernel beneath it, without following any link.
struct Root {
    folder: OwnedFd,
    path: PathBuf,
}

/// A name whose parent was resolved: a path through the open parent that no one can redirect.
struct Place {
    _parent: OwnedFd,
    path: PathBuf,
}

impl Root {
    fn open(path: &Path) -> io::Result<Self> {
        let folder = File::open(path).map_err(|error| at(path, error))?.into();
        Ok(Self { folder, path: path.to_owned() })
    }

    fn place(&self, name: &[u8]) -> io::Result<Place> {
        let relative = Path::new(OsStr::from_bytes(name));
        if relative.components().any(|part| !matches!(part, Component::Normal(_))) || name.contains(&0) {
            return Err(corrupt("a name leads outside"));
        }
        let parent =
            relative.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let parent = openat2(&self.folder, parent, how)
            .map_err(|error| at(&self.path.join(relative), io::Error::from(error)))?;
        let base = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd()));
        let path = relative.file_name().map_or_else(|| base.join("."), |name| base.join(name));
        Ok(Place { _parent: parent, path })
    }

    fn remove(&self, name: &[u8]) -> io::Result<()> {
        let place = match self.place(name) {
            // Its folder was removed before it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let shown = self.shown(name);
        clear(&place.path).map_err(|error| at(&shown, error))
    }

    fn create_file(&self, entry: &Entry) -> io::Result<File> {
        let place = self.place(&entry.path)?;
        let shown = self.shown(&entry.path);
        clear(&place.path).map_err(|error| at(&shown, error))?;
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&place.path)
            .map_err(|error| at(&shown, error))
    }

    fn finish_file(&self, file: &File, entry: &Entry) -> io::Result<()> {
        let Kind::File(size) = entry.kind else { return Ok(()) };
        let shown = self.shown(&entry.path);
        file.set_len(size).map_err(|error| at(&shown, error))?;
        self.dress(entry)
    }

    /// Makes everything but regular files.
    fn create(&self, entry: &Entry) -> io::Result<()> {
        let shown = self.shown(&entry.path);
        let say = |error: io::Error| at(&shown, error);
        let place = self.place(&entry.path)?;
        let node = |kind: SFlag, device: u64| {
            mknod(&place.path, kind, Mode::from_bits_truncate(entry.mode), device)
                .map_err(|error| say(error.into()))
        };
        if entry.kind == Kind::Folder {
            let there = std::fs::symlink_metadata(&place.path).is_ok_and(|meta| meta.is_dir());
            if !there {
                clear(&place.path).map_err(say)?;
                std::fs::create_dir(&place.path).map_err(say)?;
            }
            return self.dress(entry);
        }
        clear(&place.path).map_err(say)?;
        match &entry.kind {
            Kind::Symlink(to) => {
                std::os::unix::fs::symlink(OsStr::from_bytes(to), &place.path).map_err(say)?;
            }
            Kind::HardLink(first) => {
                let first = self.place(first)?;
                // It shares everything with its first name.
                return std::fs::hard_link(&first.path, &place.path).map_err(say);
            }
            Kind::Character(device) => node(SFlag::S_IFCHR, *device)?,
            Kind::Block(device) => node(SFlag::S_IFBLK, *device)?,
            Kind::Pipe => node(SFlag::S_IFIFO, 0)?,
            Kind::Folder | Kind::File(_) => {}
        }
        self.dress(entry)
    }

    /// Sets owner, attributes, mode and times, in the order in which none undoes another.
    fn dress(&self, entry: &Entry) -> io::Result<()> {
        let place = self.place(&entry.path)?;
        let shown = self.shown(&entry.path);
        let say = |error: io::Error| at(&shown, error);
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        fchownat(&self.folder, &place.path, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|error| say(error.into()))?;
        if matches!(entry.kind, Kind::Symlink(_)) {
            let time = filetime::FileTime::from_unix_time(entry.modified.0, entry.modified.1);
            return filetime::set_symlink_file_times(&place.path, time, time).map_err(say);
        }
        for name in xattr::list(&place.path).map(Iterator::collect::<Vec<_>>).unwrap_or_default() {
            if !entry.attributes.iter().any(|(wanted, _)| wanted.as_slice() == name.as_bytes()) {
                xattr::remove(&place.path, &name).map_err(say)?;
            }
        }
        for (name, value) in &entry.attributes {
            xattr::set(&place.path, OsString::from_vec(name.clone()), value).map_err(say)?;
        }
        // A link may stand by now where a folder was made: what it points to is none of ours.
        let mode = Mode::from_bits_truncate(entry.mode);
        fchmodat(&self.folder, &place.path, mode, FchmodatFlags::NoFollowSymlink)
            .map_err(|error| say(error.into()))?;
        let time = filetime::FileTime::from_unix_time(entry.modified.0, entry.modified.1);
        filetime::set_symlink_file_times(&place.path, time, time).map_err(say)
    }

    fn shown(&self, name: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(name))
    }
}

/// Removes whatever stands at a place; there need not be anything.
fn clear(path: &Path) -> io::Result<()> {
    let gone = match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match gone {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::stream::Writer;
    use super::super::tree::{Pass, Sent};
    use super::*;

    fn send(root: &Path, sent: &mut Sent) -> Vec<u8> {
        let mut wire = Vec::new();
        let mut writer = Writer::new(&mut wire);
        writer.pass(root, &sent.pass(root).unwrap()).unwrap();
        writer.end().unwrap();
        wire
    }

    /// All that can be seen of a tree but inode numbers and change times.
    fn seen(root: &Path) -> Vec<(Entry, Vec<u8>)> {
        let pass = Sent::default().pass(root).unwrap();
        let content = |entry: &Entry| match entry.kind {
            Kind::File(_) => std::fs::read(root.join(entry.relative())).unwrap(),
            _ => Vec::new(),
        };
        pass.entries.into_iter().map(|entry| (entry.clone(), content(&entry))).collect()
    }

    fn build(root: &Path) {
        std::fs::create_dir_all(root.join("d/e")).unwrap();
        std::fs::write(root.join("d/a"), vec![7; 3_000_000]).unwrap();
        std::fs::hard_link(root.join("d/a"), root.join("d/b")).unwrap();
        std::fs::write(root.join(".hidden"), "").unwrap();
        std::os::unix::fs::symlink("/nowhere", root.join("s")).unwrap();
        nix::unistd::mkfifo(&root.join("pipe"), Mode::from_bits_truncate(0o640)).unwrap();
        let sparse = File::create(root.join("sparse")).unwrap();
        sparse.set_len(5_000_000).unwrap();
        sparse.write_all_at(b"end", 4_999_997).unwrap();
        std::fs::set_permissions(root.join("d/e"), std::os::unix::fs::PermissionsExt::from_mode(0o1750))
            .unwrap();
        filetime::set_file_mtime(root.join("d"), filetime::FileTime::from_unix_time(1_000_000_000, 5))
            .unwrap();
    }

    #[test]
    fn a_tree_arrives_as_it_was_and_follows_its_changes() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        build(from.path());
        let mut sent = Sent::default();
        let wire = send(from.path(), &mut sent);
        assert!(wire.len() < 4_000_000, "holes do not cross: {}", wire.len());
        receive(wire.as_slice(), to.path()).unwrap();
        assert_eq!(seen(from.path()), seen(to.path()));

        std::fs::remove_dir_all(from.path().join("d/e")).unwrap();
        std::fs::write(from.path().join("d/e"), "a file now").unwrap();
        std::fs::write(from.path().join("d/a"), "shorter").unwrap();
        std::fs::remove_file(from.path().join("s")).unwrap();
        receive(send(from.path(), &mut sent).as_slice(), to.path()).unwrap();
        assert_eq!(seen(from.path()), seen(to.path()));
    }

    fn stream_of(entries: Vec<Entry>, removed: Vec<Vec<u8>>) -> Vec<u8> {
        let mut wire = Vec::new();
        let mut writer = Writer::new(&mut wire);
        writer.pass(Path::new("/nonexistent"), &Pass { removed, entries }).unwrap();
        writer.end().unwrap();
        wire
    }

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry { path: path.into(), kind, mode: 0o755, uid: 0, gid: 0, modified: (0, 0), attributes: vec![] }
    }

    #[test]
    fn nothing_leaves_the_folder() {
        let outer = tempfile::tempdir().unwrap();
        std::fs::write(outer.path().join("precious"), "x").unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir(&root).unwrap();
        for wire in [
            stream_of(vec![entry("../new", Kind::Folder)], vec![]),
            stream_of(vec![entry("/tmp/new", Kind::Folder)], vec![]),
            stream_of(vec![], vec![b"../precious".to_vec()]),
            stream_of(vec![entry("s", Kind::Symlink(b"..".to_vec())), entry("s/new", Kind::Folder)], vec![]),
            stream_of(vec![entry("h", Kind::HardLink(b"../precious".to_vec()))], vec![]),
        ] {
            receive(wire.as_slice(), &root).unwrap_err();
        }
        let left: Vec<_> =
            std::fs::read_dir(outer.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(outer.path().join("precious").exists());
    }

    #[test]
    fn a_link_in_the_place_of_a_folder_does_not_lend_its_mode_to_what_it_points_to() {
        use std::os::unix::fs::PermissionsExt as _;
        let outer = tempfile::tempdir().unwrap();
        let precious = outer.path().join("precious");
        std::fs::write(&precious, "x").unwrap();
        std::fs::set_permissions(&precious, std::fs::Permissions::from_mode(0o600)).unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let folder = Entry { mode: 0o4777, ..entry("d", Kind::Folder) };
        let link = entry("d", Kind::Symlink(b"../precious".to_vec()));
        receive(stream_of(vec![folder, link], vec![]).as_slice(), &root).unwrap_err();
        assert_eq!(std::fs::metadata(&precious).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_changed_byte_or_a_cut_is_noticed(at in 0usize..5000, flip in 1u8..) {
            let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            std::fs::write(from.path().join("a"), vec![9; 4000]).unwrap();
            let wire = send(from.path(), &mut Sent::default());
            let at = at % wire.len();
            prop_assert!(receive(&wire[..at], to.path()).is_err());
            let mut bad = wire.clone();
            bad[at] ^= flip;
            prop_assert!(receive(bad.as_slice(), to.path()).is_err());
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(wire in proptest::collection::vec(any::<u8>(), 0..400)) {
            let to = tempfile::tempdir().unwrap();
            prop_assert!(receive(wire.as_slice(), to.path()).is_err());
        }
    }
}
