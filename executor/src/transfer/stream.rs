//! Entries and chunks on the wire.
//!
//! A stream is a row of frames: the length of a header as four bytes, little end first; the header in postcard; and, for a
//! chunk, its bytes. Every chunk carries the BLAKE3 hash of its bytes, and the last frame the hash of all headers, so that
//! nothing can be changed, lost, repeated or put elsewhere unnoticed. The hash of all headers up to a frame also names that
//! frame, when a stream broke and both ends have to agree on how far it came.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sterna_policies::quantity::Bytes;

use super::manifest::{Digest, Manifest, chunks};
use super::packing::{Packer, unpack};
use super::tree::{Entry, Kind, Pass, at};
use super::written::{Known, Step, Written};

/// Most bytes of one chunk.
pub const CHUNK: usize = 1 << 20;

/// Most bytes of one header: a path, a link's text and extended attributes.
const HEADER: u32 = 1 << 20;

/// A frame's header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// A name that is gone.
    Removed(Vec<u8>),
    /// A name; for a file its chunks follow.
    Entry(Entry),
    /// Bytes of the file before it. What no chunk covers is zero.
    Chunk {
        /// Where in the file.
        offset: u64,
        /// How many.
        length: u32,
        /// How many they are on the wire, compressed by zstd; 0 where they are not.
        packed: u32,
        /// Their BLAKE3 hash.
        hash: Digest,
    },
    /// The end.
    End {
        /// Hash of all headers before this one, as [`followed`] makes it.
        headers: Digest,
    },
    /// All that is there goes first: what follows is everything.
    First,
    /// What must be there now, after everything before this frame.
    Manifest(Manifest),
    /// Memory of a process; its bytes follow. See [`ahead`](super::ahead).
    Pages {
        /// Number of the process inside its own namespace; of an object of shared memory one that no process has.
        process: u32,
        /// Where they begin.
        address: u64,
        /// How many bytes.
        length: u32,
        /// As of a chunk.
        packed: u32,
        /// Their BLAKE3 hash.
        hash: Digest,
    },
    /// A file of which something is there: it stays, and every part of it that is not zero follows, as a chunk or by its hash.
    Onward(Entry),
    /// Bytes of the file before it that are there.
    Here {
        /// Where in the file.
        offset: u64,
        /// How many.
        length: u32,
        /// Their BLAKE3 hash.
        hash: Digest,
    },
}

/// The hash of all headers, with one more.
pub fn followed(headers: &Digest, header: &[u8]) -> Digest {
    *blake3::Hasher::new().update(headers).update(header).finalize().as_bytes()
}

/// Writes a stream.
pub struct Writer<W> {
    out: W,
    /// Lent out while what it compressed is in use.
    packer: Option<Packer>,
    headers: Digest,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Starts a stream.
    pub fn new(out: W) -> Self {
        Self { out, packer: Some(Packer::new()), headers: Digest::default(), bytes: 0 }
    }

    /// As [`new`](Self::new), for tests that ask how much crosses.
    #[cfg(test)]
    pub(super) fn unpacked(out: W) -> Self {
        Self { packer: Some(Packer::idle()), ..Self::new(out) }
    }

    pub(super) fn frame(&mut self, frame: &Frame) -> io::Result<()> {
        let header = postcard::to_stdvec(frame).map_err(io::Error::other)?;
        let length = u32::try_from(header.len()).ok().filter(|length| *length <= HEADER);
        let length = length.ok_or_else(|| io::Error::other("a name with its attributes exceeds 1 MiB"))?;
        if !matches!(frame, Frame::End { .. }) {
            self.headers = followed(&self.headers, &header);
        }
        self.bytes += 4 + u64::from(length);
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&header)
    }

    /// The hash of all headers so far.
    pub(super) const fn headers(&self) -> Digest {
        self.headers
    }

    /// Sends one pass over `root`, of files of which something is there only what is not, and notes what was written.
    ///
    /// # Errors
    /// When a file can't be read or the stream breaks.
    pub fn pass(&mut self, root: &Path, pass: &Pass, there: &Known, written: &mut Written) -> io::Result<()> {
        if pass.first {
            self.frame(&Frame::First)?;
            written.note(self.headers, Step::First);
        }
        for (number, name) in pass.removed.iter().enumerate() {
            self.frame(&Frame::Removed(name.clone()))?;
            written.note(self.headers, Step::Removed(number));
        }
        let mut buffer = vec![0; CHUNK];
        for (number, entry) in pass.entries.iter().enumerate() {
            if !matches!(entry.kind, Kind::File(_)) {
                self.frame(&Frame::Entry(entry.clone()))?;
                written.note(self.headers, Step::Entry(number));
                continue;
            }
            let path = root.join(entry.relative());
            let opened = File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(&path);
            let file = match opened {
                Ok(file) => file,
                // It went while the pass ran; the next pass says so.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(at(&path, error)),
            };
            let before = there.of(&entry.path);
            let (frame, step) = match before {
                Some(_) => (Frame::Onward(entry.clone()), Step::Onward(number)),
                None => (Frame::Entry(entry.clone()), Step::Entry(number)),
            };
            self.frame(&frame)?;
            written.note(self.headers, step);
            let is_there =
                |offset: u64, hash: &Digest| before.is_some_and(|one| one.get(&offset) == Some(hash));
            self.chunks(&path, &file, &mut buffer, is_there, written)?;
        }
        Ok(())
    }

    fn chunks(
        &mut self,
        path: &Path,
        file: &File,
        buffer: &mut [u8],
        is_there: impl Fn(u64, &Digest) -> bool,
        written: &mut Written,
    ) -> io::Result<()> {
        // A broken stream is not the file's fault.
        let mut broken = None;
        let read = chunks(file, buffer, |offset, bytes, hash| {
            let (length, hash) = (bytes.len() as u32, *hash); // at most CHUNK
            let sent = if is_there(offset, &hash) {
                self.frame(&Frame::Here { offset, length, hash })
            } else {
                self.with_bytes(bytes, |packed| Frame::Chunk { offset, length, packed, hash })
            };
            sent.map_err(|error| {
                let kind = error.kind();
                broken = Some(error);
                io::Error::from(kind)
            })?;
            written.note(self.headers, Step::Chunk(offset, hash));
            Ok(())
        });
        match (read, broken) {
            (Ok(_), _) => Ok(()),
            (Err(_), Some(error)) => Err(error),
            (Err(error), None) => Err(at(path, error)),
        }
    }

    /// Sends what must be there now, and notes that.
    ///
    /// # Errors
    /// When the stream breaks.
    pub fn manifest(&mut self, manifest: Manifest, written: &mut Written) -> io::Result<()> {
        self.frame(&Frame::Manifest(manifest))?;
        written.note(self.headers, Step::Manifest);
        Ok(())
    }

    /// Sends pages of a process, at most [`CHUNK`] bytes.
    ///
    /// # Errors
    /// When the stream breaks.
    pub(super) fn pages(&mut self, process: u32, address: u64, bytes: &[u8]) -> io::Result<()> {
        let hash = *blake3::hash(bytes).as_bytes();
        let length = bytes.len() as u32; // at most CHUNK
        self.with_bytes(bytes, |packed| Frame::Pages { process, address, length, packed, hash })
    }

    /// A frame and its bytes, compressed where that pays.
    fn with_bytes(&mut self, bytes: &[u8], frame: impl FnOnce(u32) -> Frame) -> io::Result<()> {
        let mut packer = self.packer.take().unwrap_or_default();
        let packed = packer.pack(bytes);
        // At most CHUNK: what is compressed is shorter.
        let frame = frame(packed.map_or(0, |packed| packed.len() as u32));
        let wire = packed.unwrap_or(bytes);
        self.frame(&frame)?;
        let began = Instant::now();
        self.out.write_all(wire)?;
        let (length, took) = (wire.len(), began.elapsed());
        packer.sent(length, took);
        self.packer = Some(packer);
        self.bytes += length as u64;
        Ok(())
    }

    /// Ends the stream. Returns how many bytes it had, and the hash of all its headers.
    ///
    /// # Errors
    /// When the stream breaks.
    pub fn end(mut self) -> io::Result<(Bytes, Digest)> {
        let headers = self.headers;
        self.frame(&Frame::End { headers })?;
        self.out.flush()?;
        Ok((Bytes(self.bytes), headers))
    }
}

/// Reads a stream.
pub struct Reader<R> {
    input: R,
    packed: Vec<u8>,
    headers: Digest,
    bytes: u64,
    most: Bytes,
}

impl<R: Read> Reader<R> {
    /// Starts to read a stream of at most so many bytes.
    pub fn new(input: R, most: Bytes) -> Self {
        Self { input, packed: Vec::new(), headers: Digest::default(), bytes: 0, most }
    }

    /// The hash of all headers so far.
    pub(super) const fn headers(&self) -> Digest {
        self.headers
    }

    /// How many bytes were read so far: those that were compressed count as they were before, and those that are only
    /// compared as if they had come.
    pub fn bytes(&self) -> Bytes {
        Bytes(self.bytes)
    }

    /// The next frame; a chunk's bytes are put into `chunk` and have been checked.
    ///
    /// # Errors
    /// When the stream breaks off, or is not what was sent.
    pub fn next(&mut self, chunk: &mut Vec<u8>) -> io::Result<Frame> {
        let mut length = [0; 4];
        self.input.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length > HEADER {
            return Err(corrupt("a header is too long"));
        }
        let mut header = vec![0; length as usize];
        self.input.read_exact(&mut header)?;
        self.count(4 + u64::from(length))?;
        let frame = postcard::from_bytes(&header).map_err(|_| corrupt("a header can't be read"))?;
        match &frame {
            Frame::End { headers } => {
                if self.headers != *headers {
                    return Err(corrupt("the headers are not those that were sent"));
                }
            }
            Frame::Chunk { length, packed, hash, .. } | Frame::Pages { length, packed, hash, .. } => {
                if *length as usize > CHUNK || packed > length {
                    return Err(corrupt("a chunk is too long"));
                }
                // What it takes when it is written, not what crossed the link.
                self.count(u64::from(*length))?;
                self.bytes_of(*length as usize, *packed as usize, chunk)?;
                if blake3::hash(chunk).as_bytes() != hash {
                    return Err(corrupt("a chunk is not what was sent"));
                }
            }
            Frame::Here { length, .. } => {
                if *length as usize > CHUNK {
                    return Err(corrupt("a chunk is too long"));
                }
                // It is read, as if it had come.
                self.count(u64::from(*length))?;
            }
            Frame::Removed(_) | Frame::Entry(_) | Frame::Onward(_) | Frame::First | Frame::Manifest(_) => {}
        }
        self.headers = followed(&self.headers, &header);
        Ok(frame)
    }

    fn bytes_of(&mut self, length: usize, packed: usize, chunk: &mut Vec<u8>) -> io::Result<()> {
        if packed == 0 {
            chunk.resize(length, 0);
            return self.input.read_exact(chunk);
        }
        self.packed.resize(packed, 0);
        self.input.read_exact(&mut self.packed)?;
        *chunk = unpack(&self.packed, length).map_err(|_| corrupt("a chunk can't be unpacked"))?;
        Ok(())
    }

    fn count(&mut self, more: u64) -> io::Result<()> {
        if more <= self.most.0 - self.bytes {
            self.bytes += more;
            return Ok(());
        }
        let what = format!("the stream is longer than the {} that were agreed on", self.most);
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, what))
    }
}

pub(super) fn corrupt(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("corrupt stream: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link that takes a while for whatever it gets.
    struct Slow(Vec<u8>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            std::thread::sleep(std::time::Duration::from_millis(5));
            self.0.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_compressed_on_the_way_arrives_as_it_was() {
        let mut slow = Slow(Vec::new());
        let mut writer = Writer::new(&mut slow);
        let bytes = vec![7; 1 << 18];
        for page in 0..3 {
            writer.pages(1, page << 18, &bytes).unwrap();
        }
        let (crossed, _) = writer.end().unwrap();
        assert!(slow.0.len() < 2 << 18 && crossed.0 == slow.0.len() as u64, "{crossed}");
        let mut reader = Reader::new(slow.0.as_slice(), Bytes(1 << 20));
        let mut chunk = Vec::new();
        for page in 0..3 {
            let frame = reader.next(&mut chunk).unwrap();
            assert!(matches!(frame, Frame::Pages { address, .. } if address == page << 18), "{frame:?}");
            assert_eq!(chunk, bytes);
        }
        assert!(matches!(reader.next(&mut chunk).unwrap(), Frame::End { .. }));
        assert!(reader.bytes().0 > 3 << 18, "what it takes when it is written");
    }
}
