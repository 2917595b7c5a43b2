//! A file that is being received.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::manifest::{Contents, Digest};
use super::stream::corrupt;
use super::tree::{Entry, Kind};

/// Zeroes that are written at once where no hole can be made.
static ZEROES: [u8; 1 << 16] = [0; 1 << 16];

/// A file whose chunks come, by their places.
pub(super) struct Unfinished {
    file: File,
    entry: Entry,
    contents: Contents,
    /// What it had when it was opened; behind that it is zero.
    had: u64,
    /// Where the last chunk ended.
    behind: u64,
}

impl Unfinished {
    /// A new one.
    pub fn new(file: File, entry: Entry) -> Self {
        Self { file, entry, contents: Contents::default(), had: 0, behind: 0 }
    }

    /// One of which something is there.
    pub fn begun(file: File, entry: Entry) -> io::Result<Self> {
        let had = file.metadata()?.len();
        Ok(Self { had, ..Self::new(file, entry) })
    }

    pub const fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Writes a chunk.
    pub fn write(&mut self, offset: u64, bytes: &[u8], hash: &Digest) -> io::Result<()> {
        self.go_to(offset)?;
        self.file.write_all_at(bytes, offset)?;
        self.contents.chunk(offset, hash);
        self.behind = offset.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Leaves a chunk as it is, if it is what the sender takes it for.
    pub fn compare(&mut self, offset: u64, length: u32, hash: &Digest) -> io::Result<()> {
        self.go_to(offset)?;
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, offset)?;
        if blake3::hash(&bytes).as_bytes() != hash {
            return Err(corrupt("what should be here already is something else"));
        }
        self.contents.chunk(offset, hash);
        self.behind = offset.saturating_add(u64::from(length));
        Ok(())
    }

    /// What no chunk covers is zero.
    fn go_to(&mut self, offset: u64) -> io::Result<()> {
        if offset < self.behind {
            return Err(corrupt("the chunks of a file are out of order"));
        }
        let (mut from, to) = (self.behind, offset.min(self.had));
        if from >= to {
            return Ok(());
        }
        let range = |value: u64| i64::try_from(value).map_err(|_| Errno::EFBIG);
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match fallocate(&self.file, hole, range(from)?, range(to - from)?) {
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                while from < to {
                    let piece = &ZEROES[..ZEROES.len().min((to - from) as usize)];
                    self.file.write_all_at(piece, from)?;
                    from += piece.len() as u64;
                }
                Ok(())
            }
            done => Ok(done?),
        }
    }

    /// Gives it the length that it has; what is in it.
    pub fn finish(mut self) -> io::Result<(Entry, Digest)> {
        let Kind::File(size) = self.entry.kind else { return Err(corrupt("it is no file")) };
        self.go_to(self.had.max(self.behind))?;
        self.file.set_len(size)?;
        Ok((self.entry, self.contents.of_size(size)))
    }
}
