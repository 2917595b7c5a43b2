//! A stream made into files, under a folder that it can't leave.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, mknod};
use nix::unistd::{Gid, Uid, fchownat};
use sterna_policies::quantity::Bytes;

use super::manifest::{Digest, Received};
use super::stream::{Frame, Reader, corrupt};
use super::tree::{Entry, Kind, at};
use super::unfinished::Unfinished;

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

/// Makes the stream's files under `root`, which must exist, and notes what it wrote, and how far it came if the stream breaks.
/// Returns how many bytes the stream was counted as: see [`Reader::bytes`].
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
    received.came_to(None);
    let mut taking = Taking {
        reader: Reader::new(input, allowance.stream),
        root: Root::open(root)?,
        received,
        allowance,
        open: None,
        times: Times::default(),
        next_look: 0,
    };
    let mut came_to = taking.reader.headers();
    let taken = taking.all(&mut came_to);
    // Also of a stream that broke: what came of it stays.
    let times = std::mem::take(&mut taking.times).put_right(&taking.root);
    if times.is_ok() {
        taking.received.came_to(Some(came_to));
    }
    taken?;
    times?;
    Ok(taking.reader.bytes())
}

/// A stream that is being taken in.
struct Taking<'a, R> {
    reader: Reader<R>,
    root: Root,
    received: &'a mut Received,
    allowance: Allowance,
    open: Option<Unfinished>,
    times: Times,
    next_look: u64,
}

impl<R: Read> Taking<'_, R> {
    /// Acts on every frame, and says how far that came.
    fn all(&mut self, came_to: &mut Digest) -> io::Result<()> {
        let mut chunk = Vec::new();
        loop {
            let frame = self.reader.next(&mut chunk)?;
            if matches!(frame, Frame::End { .. }) {
                return self.finish();
            }
            self.act(frame, &chunk)?;
            *came_to = self.reader.headers();
        }
    }

    fn act(&mut self, frame: Frame, chunk: &[u8]) -> io::Result<()> {
        if !matches!(frame, Frame::Chunk { .. } | Frame::Here { .. }) {
            self.finish()?;
        }
        let Self { root, received, times, open, .. } = self;
        match frame {
            Frame::First => {
                root.empty()?;
                **received = Received::default();
            }
            Frame::Removed(name) => {
                times.about_to_change(root, &name)?;
                root.remove(&name)?;
            }
            Frame::Entry(entry) => {
                times.about_to_change(root, &entry.path)?;
                match entry.kind {
                    Kind::File(_) => *open = Some(Unfinished::new(root.create_file(&entry)?, entry)),
                    Kind::Folder => {
                        root.create(&entry)?;
                        times.sent(entry);
                    }
                    _ => root.create(&entry)?,
                }
            }
            Frame::Onward(entry) => *open = Some(Unfinished::begun(root.open_file(&entry)?, entry)?),
            Frame::Chunk { offset, hash, .. } => {
                if self.reader.bytes().0 >= self.next_look {
                    self.allowance.has_room(&root.folder, &root.path)?;
                    self.next_look = self.reader.bytes().0 + LOOK;
                }
                self.file()?.write(offset, chunk, &hash)?;
            }
            Frame::Here { offset, length, hash } => self.file()?.compare(offset, length, &hash)?,
            Frame::Manifest(manifest) => {
                std::mem::take(times).put_right(root)?;
                let here = received.manifest(&root.path)?;
                if here != manifest {
                    return Err(corrupt(&format!(
                        "what is here is not what was sent: {} names here, {} at the source",
                        here.names, manifest.names
                    )));
                }
            }
            Frame::Pages { .. } => return Err(corrupt("memory is no part of a tree")),
            Frame::End { .. } => {}
        }
        Ok(())
    }

    fn file(&mut self) -> io::Result<&mut Unfinished> {
        self.open.as_mut().ok_or_else(|| corrupt("a chunk belongs to no file"))
    }

    /// Finishes the file that is open.
    fn finish(&mut self) -> io::Result<()> {
        let Some(file) = self.open.take() else { return Ok(()) };
        let shown = self.root.shown(&file.entry().path);
        let (entry, contents) = file.finish().map_err(|error| at(&shown, error))?;
        self.root.dress(&entry)?;
        let place = self.root.place(&entry.path)?;
        self.received.note(&entry.path, &place.path, contents).map_err(|error| at(&shown, error))
    }
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

    /// Opens a file of which something is there.
    fn open_file(&self, entry: &Entry) -> io::Result<File> {
        if !matches!(entry.kind, Kind::File(_)) {
            return Err(corrupt("only a file can be gone on with"));
        }
        let place = self.place(&entry.path)?;
        let shown = self.shown(&entry.path);
        // Of anything else, opening it may wait for ever.
        let there = std::fs::symlink_metadata(&place.path).map_err(|error| at(&shown, error))?;
        if !there.is_file() {
            return Err(corrupt("what is to be gone on with is no file here"));
        }
        File::options()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&place.path)
            .map_err(|error| at(&shown, error))
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
mod tests;
