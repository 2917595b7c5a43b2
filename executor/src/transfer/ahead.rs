//! Memory that crosses the link while the service still runs.
//!
//! Round by round the source reads the pages of every process and sends those that are not what it has sent before. The
//! destination keeps them in one file per process, each page at its own address, as an image that CRIU can take as the parent
//! of another. When the service stands frozen and was dumped, only pages that differ from what was sent follow; see
//! [`delta`](super::delta). It needs no help from the kernel, and the service is never stopped for it.
//!
//! Memory that processes share goes the same way, each object of it as if it were one more process; see `shared`.
//!
//! Where the kernel marks pages that are written, a process that was read whole is read by its marks from then on. A page that
//! is missed by that costs its bytes when the service stands frozen and nothing else: what is restored is decided by comparing
//! the dump with what was sent, by hash, and there marks have no say.
//!
//! The files are as long as all addresses, with holes. The file systems of disks mostly have no files as long; there nothing is
//! sent ahead.
//!
//! What was sent is a promise that both ends must have kept: each round is hashed, the hashes are chained, and the destination
//! restores only what hangs on a chain that is equal at both ends. A round whose stream broke ends where it broke: the chain
//! that the destination tells says which of its pages arrived. What the others are there is unknown then.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use sterna_policies::quantity::Bytes;

use crate::engine::criu::pagemap::{ADDRESSES, PAGE, PageMap};
use crate::engine::memory::{self, dirty};
use crate::engine::processes::Pid;

use super::manifest::Digest;
use super::receive::Allowance;
use super::shared;
use super::stream::{Frame, Reader, Writer, corrupt};
use super::tree::at;

/// In the destination's folder: the chain of the rounds that it has.
const CHAIN: &str = "chain";
/// Bytes that are written between two looks at the disk.
const LOOK: u64 = 16 << 20;

/// What a page holds: a BLAKE3 hash, cut to 128 bits.
pub type Page = [u8; 16];

pub(super) fn page(bytes: &[u8]) -> Page {
    let mut page = Page::default();
    page.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    page
}

/// What was sent of the memory of one process, by page number. What was never sent is zero at the destination.
pub(super) type Pages = HashMap<u64, Page>;

/// Of a page that may or may not have arrived. No page has this hash.
const UNKNOWN: Page = [0; 16];

/// What was sent of a service's memory.
#[derive(Debug, Clone, Default)]
pub struct Ahead {
    processes: HashMap<u32, Pages>,
    /// The hash of all rounds that arrived.
    chain: Digest,
    begun: bool,
    /// The round under way.
    round: Vec<Mark>,
    /// Those that were read whole after their marks were wiped.
    marked: HashSet<Pid>,
    /// What each round has read.
    looks: Vec<Look>,
}

/// What one round has read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// Pages.
    pub pages: u64,
    /// Processes of which only pages with the kernel's mark were read.
    pub by_marks: usize,
    /// Those that were read whole.
    pub whole: usize,
}

/// A frame: the hash of all headers up to it, and the pages that it brings.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    headers: Option<Digest>,
    process: u32,
    first: u64,
    pages: u64,
}

/// Takes a run of pages, by address.
type Each<'a> = &'a mut dyn FnMut(u64, &[u8]) -> io::Result<()>;

impl Ahead {
    /// Whether nothing was sent that can be built on.
    pub fn is_empty(&self) -> bool {
        self.processes.keys().all(|process| self.of(*process).is_none())
    }

    /// What was sent of a process; `None` where nothing of it is known to be there.
    pub(super) fn of(&self, process: u32) -> Option<&Pages> {
        self.processes.get(&process).filter(|pages| pages.values().any(|page| *page != UNKNOWN))
    }

    /// The hash of all rounds.
    pub(super) fn chain(&self) -> &Digest {
        &self.chain
    }

    /// Sends the pages that are not what was sent before. What comes of it has to be told by [`arrived`](Self::arrived) or
    /// [`broke`](Self::broke).
    ///
    /// # Errors
    /// When the stream breaks. A process that is gone is passed over.
    pub fn round<W: Write>(&mut self, processes: &[Pid], mut writer: Writer<W>) -> io::Result<()> {
        self.begin(&mut writer)?;
        let marks = dirty::are_kept() && !processes.iter().any(|process| dirty::are_wiped_by(process.outer));
        self.marked.retain(|process| marks && processes.contains(process));
        let mut look = Look::default();
        for process in processes {
            let (number, pid) = (process.inner, process.outer);
            // One that can't be read is read whole when it can be.
            let by_marks = self.marked.remove(process);
            let follow = by_marks || (marks && dirty::wipe(pid).is_ok());
            let read = |each: Each<'_>| {
                if by_marks { memory::each_marked_run(pid, each) } else { memory::each_run(pid, each) }
            };
            let Some(pages) = self.run(number, read, &mut writer)? else { continue };
            look.pages += pages;
            *(if by_marks { &mut look.by_marks } else { &mut look.whole }) += 1;
            if follow {
                self.marked.insert(*process);
            }
        }
        for (number, object) in shared::objects(processes.iter().map(|process| process.outer)) {
            let read = |each: Each<'_>| shared::each_run(&object, each).map(|()| 0);
            self.run(number, read, &mut writer)?;
        }
        self.looks.push(look);
        writer.end().map(drop)
    }

    /// Sends what `read` gives, and tells how many pages it has read. What can't be read is passed over: it follows later.
    fn run<W: Write>(
        &mut self,
        number: u32,
        read: impl FnOnce(Each<'_>) -> io::Result<u64>,
        writer: &mut Writer<W>,
    ) -> io::Result<Option<u64>> {
        let mut broken = None;
        let read = read(&mut |address, bytes| {
            self.pages(number, address, bytes, writer).map_err(|error| {
                let kind = error.kind();
                broken = Some(error);
                io::Error::from(kind)
            })
        });
        match (read, broken) {
            (_, Some(error)) => Err(error),
            (Err(error), None) => {
                tracing::debug!(number, %error, "memory can't be read");
                Ok(None)
            }
            (Ok(pages), None) => Ok(Some(pages)),
        }
    }

    /// What the rounds have read.
    pub fn looks(&self) -> &[Look] {
        &self.looks
    }

    fn begin<W: Write>(&mut self, writer: &mut Writer<W>) -> io::Result<()> {
        self.round = vec![Mark { headers: Some(writer.headers()), ..Mark::default() }];
        if !self.begun {
            writer.frame(&Frame::First)?;
            self.begun = true;
            self.round.push(Mark { headers: Some(writer.headers()), ..Mark::default() });
        }
        Ok(())
    }

    /// Sends those of some pages of a process that are not what was sent before.
    fn pages<W: Write>(
        &mut self,
        process: u32,
        address: u64,
        bytes: &[u8],
        writer: &mut Writer<W>,
    ) -> io::Result<()> {
        let known = self.processes.entry(process).or_default();
        let round = &mut self.round;
        let mut changed = Changed { address, bytes, known };
        changed.try_for_each(|(address, bytes)| {
            let (first, pages) = (address / PAGE, bytes.len() as u64 / PAGE);
            // Before they are sent: from here on they are not what they were.
            round.push(Mark { headers: None, process, first, pages });
            writer.pages(process, address, bytes)?;
            if let Some(mark) = round.last_mut() {
                mark.headers = Some(writer.headers());
            }
            Ok(())
        })
    }

    /// The round arrived.
    pub fn arrived(&mut self) {
        if let Some(headers) = self.round.last().and_then(|last| last.headers) {
            self.chain = link(&self.chain, &headers);
        }
        self.round.clear();
    }

    /// The stream of the round broke, and this is the chain that the destination has. What can't be told from it is sent again.
    pub fn broke(&mut self, there: Option<&Digest>) {
        let round = std::mem::take(&mut self.round);
        // The kernel marks no page for having been lost.
        self.marked.clear();
        let hangs =
            |mark: &Mark| mark.headers.is_some_and(|headers| Some(&link(&self.chain, &headers)) == there);
        let unknown = match (there, round.iter().position(hangs)) {
            (Some(chain), Some(last)) => {
                self.chain = *chain;
                &round[last + 1..]
            }
            // Nothing of it is known to have arrived.
            (Some(chain), None) if *chain == self.chain => &round[..],
            // What was sent before is not there any more either.
            _ => return *self = Self::default(),
        };
        for mark in unknown.iter().filter(|mark| mark.pages > 0) {
            let pages = self.processes.entry(mark.process).or_default();
            pages.extend((mark.first..mark.first + mark.pages).map(|number| (number, UNKNOWN)));
        }
    }
}

/// The chain with one more round.
fn link(chain: &Digest, headers: &Digest) -> Digest {
    *blake3::Hasher::new().update(chain).update(headers).finalize().as_bytes()
}

/// Runs of pages that differ from what is known of them, which is noted.
struct Changed<'a> {
    address: u64,
    bytes: &'a [u8],
    known: &'a mut Pages,
}

impl Changed<'_> {
    /// Whether the first page differs; what it holds is noted.
    fn first_differs(&mut self) -> bool {
        let Some(bytes) = self.bytes.get(..PAGE as usize) else { return false };
        let number = self.address / PAGE;
        if bytes.iter().all(|byte| *byte == 0) && !self.known.contains_key(&number) {
            return false;
        }
        let page = page(bytes);
        self.known.insert(number, page) != Some(page)
    }

    fn skip(&mut self) {
        self.bytes = self.bytes.get(PAGE as usize..).unwrap_or_default();
        self.address += PAGE;
    }
}

impl<'a> Iterator for Changed<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.bytes.is_empty() && !self.first_differs() {
            self.skip();
        }
        let (address, bytes) = (self.address, self.bytes);
        if bytes.is_empty() {
            return None;
        }
        self.skip();
        while self.first_differs() {
            self.skip();
        }
        let run = &bytes[..bytes.len() - self.bytes.len()];
        // The one that ended the run was looked at, and is what was sent.
        self.skip();
        Some((address, run))
    }
}

/// Takes in one round. Of one whose stream breaks the chain says how far it came.
///
/// # Errors
/// When the stream is corrupt or breaks, takes more than it may, or a file can't be written.
pub fn receive(input: impl Read, folder: &Path, allowance: Allowance) -> io::Result<Bytes> {
    let mut reader = Reader::new(input, allowance.stream);
    let mut bytes = Vec::new();
    let mut open: Option<(u32, File)> = None;
    let mut next_look = 0;
    let mut chain = there(folder)?;
    let gone = || corrupt("the rounds before this one are not here");
    loop {
        let came_to = reader.headers();
        let frame = match reader.next(&mut bytes) {
            Ok(frame) => frame,
            Err(error) => {
                if let Some(chain) = chain.filter(|_| came_to != Digest::default()) {
                    put_chain(folder, &link(&chain, &came_to))?;
                }
                return Err(error);
            }
        };
        match frame {
            Frame::First => {
                open = None;
                empty(folder)?;
                chain = Some(Digest::default());
            }
            Frame::Pages { process, address, .. } => {
                if chain.is_none() {
                    return Err(gone());
                }
                check(process, address, &bytes)?;
                if reader.bytes().0 >= next_look {
                    has_room(folder, allowance)?;
                    next_look = reader.bytes().0 + LOOK;
                }
                let file = match open.take() {
                    Some((number, file)) if number == process => file,
                    _ => pages_of(folder, process)?,
                };
                file.write_all_at(&bytes, address)?;
                open = Some((process, file));
            }
            Frame::End { headers } => {
                put_chain(folder, &link(&chain.ok_or_else(gone)?, &headers))?;
                return Ok(reader.bytes());
            }
            _ => return Err(corrupt("this does not belong to memory that is sent ahead")),
        }
    }
}

fn check(process: u32, address: u64, bytes: &[u8]) -> io::Result<()> {
    let length = bytes.len() as u64;
    let whole = address.is_multiple_of(PAGE) && length.is_multiple_of(PAGE) && length > 0;
    if process == 0 {
        return Err(corrupt("there is no process of this number"));
    }
    if !whole || address > ADDRESSES - length {
        return Err(corrupt("these are no pages of a process"));
    }
    Ok(())
}

fn pages_name(process: u32) -> String {
    format!("pages-{process}.img")
}

fn pages_of(folder: &Path, process: u32) -> io::Result<File> {
    let path = folder.join(pages_name(process));
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    options.open(&path).map_err(|error| at(&path, error))
}

fn empty(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|error| at(folder, error))? {
        let path = entry?.path();
        std::fs::remove_file(&path).map_err(|error| at(&path, error))?;
    }
    Ok(())
}

/// The chain of what is in the folder. What was written in another life of the node may be lost though its chain is not.
///
/// # Errors
/// When it can't be read.
pub fn there(folder: &Path) -> io::Result<Option<Digest>> {
    let path = folder.join(CHAIN);
    match std::fs::read(&path) {
        Ok(bytes) => {
            let chain = bytes.split_first_chunk().filter(|(_, life)| *life == this_life().as_bytes());
            Ok(chain.map(|(chain, _)| *chain))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(&path, error)),
    }
}

/// What the kernel says of this life of the node.
fn this_life() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

fn put_chain(folder: &Path, chain: &Digest) -> io::Result<()> {
    let (fresh, path) = (folder.join("chain.new"), folder.join(CHAIN));
    std::fs::write(&fresh, [chain.as_slice(), this_life().as_bytes()].concat())
        .and_then(|()| std::fs::rename(&fresh, &path))
        .map_err(|error| at(&path, error))
}

/// Makes what was received an image that another can have as its parent. Doing it twice is the same as doing it once.
///
/// # Errors
/// When what is here does not hang on this chain, or a file can't be written.
pub fn finish(folder: &Path, chain: &Digest) -> io::Result<()> {
    if there(folder)?.as_ref() != Some(chain) {
        return Err(corrupt("the memory that was sent ahead is not here as it was sent"));
    }
    for entry in std::fs::read_dir(folder).map_err(|error| at(folder, error))? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(process_of) else { continue };
        let path = folder.join(pages_name(process));
        let file = File::options().write(true).custom_flags(nix::libc::O_NOFOLLOW).open(&path);
        // So that every page can be read, those in the hole at the end too.
        file.and_then(|file| file.set_len(ADDRESSES)).map_err(|error| at(&path, error))?;
        let path = match shared::inode(process) {
            Some(inode) => folder.join(format!("pagemap-shmem-{inode}.img")),
            None => folder.join(format!("pagemap-{process}.img")),
        };
        let map = PageMap::of_all_addresses(process).to_bytes();
        std::fs::write(&path, map).map_err(|error| at(&path, error))?;
    }
    Ok(())
}

fn process_of(name: &str) -> Option<u32> {
    name.strip_prefix("pages-")?.strip_suffix(".img")?.parse().ok()
}

/// Rounds may put pages to ever new addresses: together they may take what one of them may.
fn has_room(folder: &Path, allowance: Allowance) -> io::Result<()> {
    let open = File::open(folder).map_err(|error| at(folder, error))?;
    allowance.has_room(&open, folder)?;
    let mut taken = 0;
    for entry in std::fs::read_dir(folder).map_err(|error| at(folder, error))? {
        taken += entry?.metadata()?.blocks() * 512;
    }
    if taken <= allowance.stream.0 {
        return Ok(());
    }
    let what = format!("it takes {}, and {} were agreed on", Bytes(taken), allowance.stream);
    Err(at(folder, io::Error::new(io::ErrorKind::QuotaExceeded, what)))
}

#[cfg(test)]
pub(super) mod tests;
