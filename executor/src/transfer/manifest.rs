//! What a tree consists of, in one hash: every name with its owner, mode, times and attributes, and what is in every file.
//!
//! The source makes it while the service stands frozen, from what it has sent; the destination makes its own from what lies
//! on its disk, and the two must be equal before anything is restored from there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::holes::next_data;
use super::stream::CHUNK;
use super::tree::{Entry, Kind, Stamp, at, walk};

/// A BLAKE3 hash.
pub type Digest = [u8; 32];

/// What the bytes of a file are, by the hashes of its chunks. What no chunk covers is zero, so holes cost nothing.
#[derive(Debug, Clone, Default)]
pub struct Contents(blake3::Hasher);

impl Contents {
    /// Adds a chunk that is not all zero.
    pub fn chunk(&mut self, offset: u64, hash: &Digest) {
        self.0.update(&offset.to_le_bytes());
        self.0.update(hash);
    }

    /// The digest of a file of this size.
    pub fn of_size(&self, size: u64) -> Digest {
        let mut whole = self.0.clone();
        whole.update(&size.to_le_bytes());
        *whole.finalize().as_bytes()
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(path: &Path) -> io::Result<Digest> {
        let file = File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path);
        let mut contents = Self::default();
        let size = file
            .and_then(|file| {
                chunks(&file, &mut vec![0; CHUNK], |offset, _, hash| {
                    contents.chunk(offset, hash);
                    Ok(())
                })
            })
            .map_err(|error| at(path, error))?;
        Ok(contents.of_size(size))
    }
}

/// Gives each chunk of a file that is not all zero, with its offset and hash; returns the file's size.
pub(super) fn chunks(
    file: &File,
    buffer: &mut [u8],
    mut each: impl FnMut(u64, &[u8], &Digest) -> io::Result<()>,
) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let mut offset = 0;
    while let Some(data) = next_data(file, offset, size)? {
        // Chunks begin where they would if there were no holes.
        offset = data.start - data.start % CHUNK as u64;
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
                0 => break,
                n => filled += n,
            }
        }
        if filled == 0 {
            // It became shorter while it was read.
            break;
        }
        let bytes = &buffer[..filled];
        // Zeroed memory need not cross the link either.
        if bytes.iter().any(|byte| *byte != 0) {
            each(offset, bytes, blake3::hash(bytes).as_bytes())?;
        }
        if filled < buffer.len() {
            // What is behind it has come since: a chunk begun anew would come twice.
            break;
        }
        offset += filled as u64;
    }
    Ok(size)
}

/// What is known of one name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Line {
    /// Hash of its [`Entry`].
    entry: Digest,
    /// What is in it, where it is a file.
    pub contents: Option<Digest>,
}

impl Line {
    /// Of a name whose contents are not known yet.
    pub fn of(entry: &Entry) -> Self {
        // Plain data: writing it can't fail.
        let text = postcard::to_stdvec(entry).unwrap_or_default();
        Self { entry: *blake3::hash(&text).as_bytes(), contents: None }
    }
}

/// A tree in one hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// How many names there are, the root among them.
    pub names: u64,
    /// BLAKE3 over all names in order, each with its [`Line`].
    pub hash: Digest,
}

impl Manifest {
    /// Of names in order.
    pub fn of<'a>(lines: impl IntoIterator<Item = (&'a [u8], &'a Line)>) -> Self {
        let (mut names, mut hash) = (0, blake3::Hasher::new());
        for (name, line) in lines {
            names += 1;
            hash.update(&(name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update(&line.entry);
            hash.update(line.contents.as_ref().map_or(&[][..], |digest| digest));
        }
        Self { names, hash: *hash.finalize().as_bytes() }
    }
}

/// What was received, so that it need not be read again to be known.
#[derive(Debug, Clone, Default)]
pub struct Received {
    files: BTreeMap<Vec<u8>, (Stamp, Digest)>,
    headers: Option<Digest>,
}

impl Received {
    /// How far the last stream came: the hash of its headers up to the last frame that was acted on. `None` where what is there
    /// is not known to be what those frames make it.
    pub fn headers(&self) -> Option<Digest> {
        self.headers
    }

    pub(super) fn came_to(&mut self, headers: Option<Digest>) {
        self.headers = headers;
    }

    /// Notes what was written into a file that is complete.
    pub(super) fn note(&mut self, name: &[u8], path: &Path, contents: Digest) -> io::Result<()> {
        let stamp = Stamp::of(&std::fs::symlink_metadata(path)?);
        self.files.insert(name.to_vec(), (stamp, contents));
        Ok(())
    }

    /// The manifest of what lies under `root` now. Files that were touched since they were received are read.
    ///
    /// # Errors
    /// When something can't be read.
    pub fn manifest(&self, root: &Path) -> io::Result<Manifest> {
        let mut lines = BTreeMap::new();
        for met in walk(root)? {
            let entry = met.entry(root)?;
            let mut line = Line::of(&entry);
            if matches!(met.kind, Kind::File(_)) {
                let known = self.files.get(&met.name).filter(|known| known.0 == Stamp::of(&met.meta));
                line.contents = Some(match known {
                    Some((_, contents)) => *contents,
                    None => Contents::read(&root.join(entry.relative()))?,
                });
            }
            lines.insert(met.name, line);
        }
        Ok(Manifest::of(lines.iter().map(|(name, line)| (name.as_slice(), line))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_that_of_the_same_names_only() {
        let line = |mode, contents| {
            let (path, kind) = (b"a".to_vec(), Kind::File(3));
            let entry = Entry { path, kind, mode, uid: 0, gid: 0, modified: (0, 0), attributes: vec![] };
            Line { contents, ..Line::of(&entry) }
        };
        let of = |name: &str, line: Line| Manifest::of([(name.as_bytes(), &line)]);
        let one = of("a", line(0o644, Some([1; 32])));
        assert_eq!(one, of("a", line(0o644, Some([1; 32]))));
        assert_ne!(one, of("b", line(0o644, Some([1; 32]))));
        assert_ne!(one, of("a", line(0o600, Some([1; 32]))));
        assert_ne!(one, of("a", line(0o644, Some([2; 32]))));
        assert_ne!(one, of("a", line(0o644, None)));
    }

    #[test]
    fn no_chunk_of_a_file_that_grows_comes_twice() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, vec![7; CHUNK + 1000]).unwrap();
        let mut log = File::options().append(true).open(&path).unwrap();
        let mut offsets = Vec::new();
        let file = File::open(&path).unwrap();
        chunks(&file, &mut vec![0; CHUNK], |offset, _, _| {
            offsets.push(offset);
            assert!(offsets.len() < 5, "{offsets:?}");
            log.write_all(&[7; 10])
        })
        .unwrap();
        assert_eq!(offsets, [0, CHUNK as u64]);
    }

    #[test]
    fn holes_are_not_read_and_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (sparse, full) = (folder.path().join("sparse"), folder.path().join("full"));
        let file = File::create(&sparse).unwrap();
        // Read byte by byte this would take hours.
        file.set_len(1 << 42).unwrap();
        file.write_all_at(b"x", (1 << 41) + 5).unwrap();
        Contents::read(&sparse).unwrap();
        file.set_len(0).unwrap();
        file.set_len(3 * CHUNK as u64 + 7).unwrap();
        file.write_all_at(b"x", CHUNK as u64 + 5).unwrap();
        std::fs::write(&full, std::fs::read(&sparse).unwrap()).unwrap();
        assert_eq!(Contents::read(&sparse).unwrap(), Contents::read(&full).unwrap());
        file.write_all_at(b"y", 3 * CHUNK as u64 + 6).unwrap();
        assert_ne!(Contents::read(&sparse).unwrap(), Contents::read(&full).unwrap());
    }
}
