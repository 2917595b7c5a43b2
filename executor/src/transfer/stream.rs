//! Entries and chunks on the wire.
//!
//! A stream is a row of frames: the length of a header as four bytes, little end first; the header in postcard; and, for a
//! chunk, its bytes. Every chunk carries the BLAKE3 hash of its bytes, and the last frame the hash of all headers, so that
//! nothing can be changed, lost, repeated or put elsewhere unnoticed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sterna_policies::quantity::Bytes;

use super::manifest::{Contents, Digest, Manifest, chunks};
use super::packing::{Packer, unpack};
use super::tree::{Entry, Kind, Pass, at};

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
        /// BLAKE3 hash of all headers before this one.
        headers: Digest,
    },
    /// All that is there goes first: what follows is everything.
    First,
    /// What must be there now, after everything before this frame.
    Manifest(Manifest),
    /// Memory of a process; its bytes follow. See [`ahead`](super::ahead).
    Pages {
        /// Number of the process inside its own namespace.
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
}

/// Writes a stream.
pub struct Writer<W> {
    out: W,
    /// Lent out while what it compressed is in use.
    packer: Option<Packer>,
    headers: blake3::Hasher,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Starts a stream.
    pub fn new(out: W) -> Self {
        Self { out, packer: Some(Packer::new()), headers: blake3::Hasher::new(), bytes: 0 }
    }

    pub(super) fn frame(&mut self, frame: &Frame) -> io::Result<()> {
        let header = postcard::to_stdvec(frame).map_err(io::Error::other)?;
        let length = u32::try_from(header.len()).ok().filter(|length| *length <= HEADER);
        let length = length.ok_or_else(|| io::Error::other("a name with its attributes exceeds 1 MiB"))?;
        if !matches!(frame, Frame::End { .. }) {
            self.headers.update(&header);
        }
        self.bytes += 4 + u64::from(length);
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&header)
    }

    /// Sends one pass over `root`. Gives what was in its files, for [`Sent::note`](super::tree::Sent::note).
    ///
    /// # Errors
    /// When a file can't be read or the stream breaks.
    pub fn pass(&mut self, root: &Path, pass: &Pass) -> io::Result<Vec<(Vec<u8>, Digest)>> {
        if pass.first {
            self.frame(&Frame::First)?;
        }
        for name in &pass.removed {
            self.frame(&Frame::Removed(name.clone()))?;
        }
        let mut buffer = vec![0; CHUNK];
        let mut sent = Vec::new();
        for entry in &pass.entries {
            let path = root.join(entry.relative());
            if let Kind::File(size) = entry.kind {
                let opened = File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(&path);
                match opened {
                    Ok(file) => {
                        self.frame(&Frame::Entry(entry.clone()))?;
                        let contents = self.chunks(&path, &file, &mut buffer)?;
                        sent.push((entry.path.clone(), contents.of_size(size)));
                    }
                    // It went while the pass ran; the next pass says so.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(at(&path, error)),
                }
            } else {
                self.frame(&Frame::Entry(entry.clone()))?;
            }
        }
        Ok(sent)
    }

    fn chunks(&mut self, path: &Path, file: &File, buffer: &mut [u8]) -> io::Result<Contents> {
        let mut contents = Contents::default();
        // A broken stream is not the file's fault.
        let mut broken = None;
        let read = chunks(file, buffer, |offset, bytes, hash| {
            contents.chunk(offset, hash);
            let length = bytes.len() as u32; // at most CHUNK
            let sent = self.with_bytes(bytes, |packed| Frame::Chunk { offset, length, packed, hash: *hash });
            sent.map_err(|error| {
                let kind = error.kind();
                broken = Some(error);
                io::Error::from(kind)
            })
        });
        match (read, broken) {
            (Ok(_), _) => Ok(contents),
            (Err(_), Some(error)) => Err(error),
            (Err(error), None) => Err(at(path, error)),
        }
    }

    /// Sends what must be there now.
    ///
    /// # Errors
    /// When the stream breaks.
    pub fn manifest(&mut self, manifest: Manifest) -> io::Result<()> {
        self.frame(&Frame::Manifest(manifest))
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
        let headers = *self.headers.finalize().as_bytes();
        self.frame(&Frame::End { headers })?;
        self.out.flush()?;
        Ok((Bytes(self.bytes), headers))
    }
}

/// Reads a stream.
pub struct Reader<R> {
    input: R,
    packed: Vec<u8>,
    headers: blake3::Hasher,
    bytes: u64,
    most: Bytes,
}

impl<R: Read> Reader<R> {
    /// Starts to read a stream of at most so many bytes.
    pub fn new(input: R, most: Bytes) -> Self {
        Self { input, packed: Vec::new(), headers: blake3::Hasher::new(), bytes: 0, most }
    }

    /// How many bytes were read so far, those that were compressed counted as they were before.
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
                if self.headers.finalize().as_bytes() != headers {
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
            Frame::Removed(_) | Frame::Entry(_) | Frame::First | Frame::Manifest(_) => {}
        }
        self.headers.update(&header);
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
