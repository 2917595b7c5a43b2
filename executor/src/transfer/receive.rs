//! A stream made into files, under a folder that it can't leave.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, mknod};
use nix::unistd::{Gid, Uid, fchownat};
use sterna_policies::quantity::Bytes;

use super::manifest::{Contents, Received};
use super::stream::{Frame, Reader, corrupt};
use super::tree::{Entry, Kind, at};

/// What a stream may take.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Its bytes, all together.
    pub stream: Bytes,
    /// What must stay free on the disk: the node's own register lies there too.
    pub keep_free: Bytes,
}

impl Allowance {
    /// Whether what must stay free is free where this folder lies.
    pub(super) fn has_room(self, folder: &impl AsFd, shown: &Path) -> io::Result<()> {
        let seen = nix::sys::statvfs::fstatvfs(folder).map_err(|error| at(shown, error.into()))?;
        let free = Bytes(seen.blocks_available().saturating_mul(seen.fragment_size()));
        if free >= self.keep_free {
            return Ok(());
        }
        let what = format!("{free} are free, and {} must stay free", self.keep_free);
        Err(at(shown, io::Error::new(io::ErrorKind::StorageFull, what)))
    }
}

/// How many bytes are written between two looks at the disk.
const LOOK: u64 = 16 << 20;

/// Makes the stream's files under `root`, which must exist, and notes what it wrote. Returns how many bytes the stream had.
///
/// # Errors
/// When the stream is corrupt or takes more than it may, names a place outside `root`, a file can't be written, or what is
/// there in the end is not what must be.
pub fn receive(
    input: impl Read,
    root: &Path,
    received: &mut Received,
    allowance: Allowance,
) -> io::Result<Bytes> {
    let mut reader = Reader::new(input, allowance.stream);
    let mut chunk = Vec::new();
    let mut open: Option<(File, Entry, Contents)> = None;
    let root = Root::open(root)?;
    let mut times = Times::default();
    let mut next_look = 0;
    loop {
        let frame = reader.next(&mut chunk)?;
        if !matches!(frame, Frame::Chunk { .. })
            && let Some((file, entry, contents)) = open.take()
        {
            root.finish_file(&file, &entry, &contents, received)?;
        }
        match frame {
            Frame::First => {
                root.empty()?;
                *received = Received::default();
            }
            Frame::Removed(name) => {
                times.about_to_change(&root, &name)?;
                root.remove(&name)?;
            }
            Frame::Entry(entry) => {
                times.about_to_change(&root, &entry.path)?;
                match entry.kind {
                    Kind::File(_) => open = Some((root.create_file(&entry)?, entry, Contents::default())),
                    Kind::Folder => {
                        root.create(&entry)?;
                        times.sent(entry);
                    }
                    _ => root.create(&entry)?,
                }
            }
            Frame::Chunk { offset, hash, .. } => {
                let (file, _, contents) =
                    open.as_mut().ok_or_else(|| corrupt("a chunk belongs to no file"))?;
                if reader.bytes().0 >= next_look {
                    allowance.has_room(&root.folder, &root.path)?;
                    next_look = reader.bytes().0 + LOOK;
                }
                file.write_all_at(&chunk, offset)?;
                contents.chunk(offset, &hash);
            }
            Frame::Manifest(manifest) => {
                std::mem::take(&mut times).put_right(&root)?;
                let here = received.manifest(&root.path)?;
                if here != manifest {
                    return Err(corrupt(&format!(
                        "what is here is not what was sent: {} names here, {} at the source",
                        here.names, manifest.names
                    )));
                }
            }
            Frame::Pages { .. } => return Err(corrupt("memory is no part of a tree")),
            Frame::End { .. } => break,
        }
    }
    times.put_right(&root)?;
    Ok(reader.bytes())
}

/// Times of folders, which change with what is put into them: they are set at the end.
#[derive(Debug, Default)]
struct Times {
    sent: BTreeMap<Vec<u8>, Entry>,
    /// Of folders that nothing was sent of.
    kept: BTreeMap<Vec<u8>, filetime::FileTime>,
}

impl Times {
    fn sent(&mut self, folder: Entry) {
        self.kept.remove(&folder.path);
        self.sent.insert(folder.path.clone(), folder);
    }

    /// Keeps the time of the folder that a name is in.
    fn about_to_change(&mut self, root: &Root, name: &[u8]) -> io::Result<()> {
        let Some(parent) = Path::new(OsStr::from_bytes(name)).parent() else { return Ok(()) };
        let parent = parent.as_os_str().as_bytes();
        if self.kept.contains_key(parent) || self.sent.contains_key(parent) {
            return Ok(());
        }
        match root.place(parent).and_then(|place| std::fs::symlink_metadata(&place.path)) {
            Ok(meta) if meta.is_dir() => {
                let time = filetime::FileTime::from_last_modification_time(&meta);
                self.kept.insert(parent.to_vec(), time);
                Ok(())
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            // What is wrong with the name is told by whoever makes it.
            _ => Ok(()),
        }
    }

    fn put_right(self, root: &Root) -> io::Result<()> {
        for (name, time) in self.kept {
            match root.place(&name) {
                Ok(place) if std::fs::symlink_metadata(&place.path).is_ok_and(|meta| meta.is_dir()) => {
                    filetime::set_symlink_file_times(&place.path, time, time)
                        .map_err(|error| at(&root.shown(&name), error))?;
                }
                // Removed after it was changed.
                _ => {}
            }
        }
        for folder in self.sent.values().rev() {
            root.dress(folder)?;
        }
        Ok(())
    }
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

    fn finish_file(
        &self,
        file: &File,
        entry: &Entry,
        contents: &Contents,
        received: &mut Received,
    ) -> io::Result<()> {
        let Kind::File(size) = entry.kind else { return Ok(()) };
        let shown = self.shown(&entry.path);
        file.set_len(size).map_err(|error| at(&shown, error))?;
        self.dress(entry)?;
        let place = self.place(&entry.path)?;
        received.note(&entry.path, &place.path, contents.of_size(size)).map_err(|error| at(&shown, error))
    }

    /// Removes everything in the folder.
    fn empty(&self) -> io::Result<()> {
        let base = self.place(&[])?;
        for entry in std::fs::read_dir(&base.path).map_err(|error| at(&self.path, error))? {
            self.remove(entry?.file_name().as_bytes())?;
        }
        Ok(())
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
        for name in xattr::list(&place.path).map(Iterator::collect::<Vec<_>>).unwrap_or_default() {
            if !entry.attributes.iter().any(|(wanted, _)| wanted.as_slice() == name.as_bytes()) {
                xattr::remove(&place.path, &name).map_err(say)?;
            }
        }
        for (name, value) in &entry.attributes {
            xattr::set(&place.path, OsString::from_vec(name.clone()), value).map_err(say)?;
        }
        // A link has no mode of its own, and one may stand by now where a folder was made: what it points to is none of ours.
        if !matches!(entry.kind, Kind::Symlink(_)) {
            let mode = Mode::from_bits_truncate(entry.mode);
            fchmodat(&self.folder, &place.path, mode, FchmodatFlags::NoFollowSymlink)
                .map_err(|error| say(error.into()))?;
        }
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
    use super::super::tree::{Pass, Sent, Writers};
    use super::*;

    const PLENTY: Allowance = Allowance { stream: Bytes::from_mib(64), keep_free: Bytes::ZERO };

    /// A pass with its manifest, as it crosses the wire.
    fn send(root: &Path, sent: &mut Sent) -> Vec<u8> {
        let mut wire = Vec::new();
        let mut writer = Writer::unpacked(&mut wire);
        let pass = sent.pass(root, Writers::Frozen).unwrap();
        sent.note(writer.pass(root, &pass).unwrap());
        writer.manifest(sent.manifest()).unwrap();
        writer.end().unwrap();
        wire
    }

    fn take(wire: &[u8], root: &Path) -> io::Result<Bytes> {
        receive(wire, root, &mut Received::default(), PLENTY)
    }

    /// All that can be seen of a tree but inode numbers and change times.
    fn seen(root: &Path) -> Vec<(Entry, Vec<u8>)> {
        let pass = Sent::default().pass(root, Writers::Frozen).unwrap();
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
        let mut received = Received::default();
        receive(wire.as_slice(), to.path(), &mut received, PLENTY).unwrap();
        assert_eq!(seen(from.path()), seen(to.path()));

        std::fs::remove_dir_all(from.path().join("d/e")).unwrap();
        std::fs::write(from.path().join("d/e"), "a file now").unwrap();
        std::fs::write(from.path().join("d/a"), "shorter").unwrap();
        std::fs::remove_file(from.path().join("s")).unwrap();
        receive(send(from.path(), &mut sent).as_slice(), to.path(), &mut received, PLENTY).unwrap();
        assert_eq!(seen(from.path()), seen(to.path()));
    }

    #[test]
    fn what_was_there_before_the_first_pass_goes() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        build(from.path());
        std::fs::create_dir_all(to.path().join("of/an/earlier")).unwrap();
        std::fs::write(to.path().join("of/an/earlier/attempt"), "x").unwrap();
        std::fs::write(to.path().join("d"), "a file where a folder is to be").unwrap();
        take(&send(from.path(), &mut Sent::default()), to.path()).unwrap();
        assert_eq!(seen(from.path()), seen(to.path()));
    }

    #[test]
    fn a_folder_keeps_its_time_when_only_a_file_in_it_changed() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        build(from.path());
        std::thread::sleep(std::time::Duration::from_millis(120));
        let (mut sent, mut received) = (Sent::default(), Received::default());
        let wire = send(from.path(), &mut sent);
        receive(wire.as_slice(), to.path(), &mut received, PLENTY).unwrap();
        // Not a new name: the folder is no part of the next pass.
        std::fs::write(from.path().join("d/a"), "other").unwrap();
        let wire = send(from.path(), &mut sent);
        receive(wire.as_slice(), to.path(), &mut received, PLENTY).unwrap();
        assert_eq!(seen(from.path()), seen(to.path()));
    }

    #[test]
    fn what_is_not_what_was_sent_is_refused() {
        let from = tempfile::tempdir().unwrap();
        build(from.path());
        // Settled, so that nothing is sent again.
        std::thread::sleep(std::time::Duration::from_millis(120));
        let spoil: [fn(&Path); 6] = [
            |root| std::fs::write(root.join("new"), "").unwrap(),
            |root| std::fs::remove_file(root.join("d/b")).unwrap(),
            |root| {
                File::options().write(true).open(root.join("sparse")).unwrap().write_all_at(b"E", 9).unwrap()
            },
            |root| {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
                std::fs::set_permissions(root.join(".hidden"), mode).unwrap();
            },
            |root| xattr::set(root.join("d/e"), "user.x", b"y").unwrap(),
            |root| {
                let time = filetime::FileTime::from_unix_time(1, 0);
                filetime::set_symlink_file_times(root.join("s"), time, time).unwrap();
            },
        ];
        for (at, spoil) in spoil.into_iter().enumerate() {
            let to = tempfile::tempdir().unwrap();
            let (mut sent, mut received) = (Sent::default(), Received::default());
            let wire = send(from.path(), &mut sent);
            receive(wire.as_slice(), to.path(), &mut received, PLENTY).unwrap();
            let nothing_new = send(from.path(), &mut sent);
            receive(nothing_new.as_slice(), to.path(), &mut received, PLENTY).unwrap();
            spoil(to.path());
            let error = receive(nothing_new.as_slice(), to.path(), &mut received, PLENTY).unwrap_err();
            assert!(error.to_string().contains("not what was sent"), "{at}: {error}");
            // An agent that was restarted reads all of it, and comes to the same.
            take(&nothing_new, to.path()).unwrap_err();
        }
    }

    #[test]
    fn a_stream_takes_no_more_than_it_may() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        build(from.path());
        let wire = send(from.path(), &mut Sent::default());
        let receive = |stream, keep_free| {
            let allowance = Allowance { stream, keep_free };
            receive(wire.as_slice(), to.path(), &mut Received::default(), allowance)
        };
        receive(Bytes(wire.len() as u64), Bytes::ZERO).unwrap();
        let error = receive(Bytes(wire.len() as u64 - 1), Bytes::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded, "{error}");
        let error = receive(Bytes::from_mib(64), Bytes(u64::MAX)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    }

    fn stream_of(entries: Vec<Entry>, removed: Vec<Vec<u8>>) -> Vec<u8> {
        let mut wire = Vec::new();
        let mut writer = Writer::new(&mut wire);
        writer.pass(Path::new("/nonexistent"), &Pass { first: false, removed, entries }).unwrap();
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
            take(&wire, &root).unwrap_err();
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
        take(&stream_of(vec![folder, link], vec![]), &root).unwrap_err();
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
            prop_assert!(take(&wire[..at], to.path()).is_err());
            let mut bad = wire.clone();
            bad[at] ^= flip;
            prop_assert!(take(&bad, to.path()).is_err());
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(wire in proptest::collection::vec(any::<u8>(), 0..400)) {
            let to = tempfile::tempdir().unwrap();
            prop_assert!(take(&wire, to.path()).is_err());
        }
    }
}
