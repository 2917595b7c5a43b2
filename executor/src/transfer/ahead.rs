//! Memory that crosses the link while the service still runs.
//!
//! Round by round the source reads the pages of every process and sends those that are not what it has sent before. The
//! destination keeps them in one file per process, each page at its own address, as an image that CRIU can take as the parent
//! of another. When the service stands frozen and was dumped, only pages that differ from what was sent follow; see
//! [`delta`](super::delta). It needs no help from the kernel, and the service is never stopped for it.
//!
//! Where the kernel marks pages that are written, a process that was read whole is read by its marks from then on. A page that
//! is missed by that costs its bytes when the service stands frozen and nothing else: what is restored is decided by comparing
//! the dump with what was sent, by hash, and there marks have no say.
//!
//! The files are as long as all addresses, with holes. The file systems of disks mostly have no files as long; there nothing is
//! sent ahead.
//!
//! What was sent is a promise that both ends must have kept: each round is hashed, the hashes are chained, and the destination
//! restores only what hangs on a chain that is equal at both ends.

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
use super::stream::{Frame, Reader, Writer, corrupt};
use super::tree::at;

/// In the destination's folder: the chain of the rounds that it has.
const CHAIN: &str = "chain";
/// Bytes that are written between two looks at the disk.
const LOOK: u64 = 16 << 20;

/// What a page holds: a BLAKE3 hash, cut to 128 bits.
pub(super) type Page = [u8; 16];

pub(super) fn page(bytes: &[u8]) -> Page {
    let mut page = Page::default();
    page.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    page
}

/// What was sent of the memory of one process, by page number. What was never sent is zero at the destination.
pub(super) type Pages = HashMap<u64, Page>;

/// What was sent of a service's memory.
#[derive(Debug, Clone, Default)]
pub struct Ahead {
    processes: HashMap<u32, Pages>,
    chain: Digest,
    begun: bool,
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

impl Ahead {
    /// Whether anything was sent that can be built on.
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// What was sent of a process.
    pub(super) fn of(&self, process: u32) -> Option<&Pages> {
        self.processes.get(&process)
    }

    /// The hash of all rounds.
    pub(super) fn chain(&self) -> &Digest {
        &self.chain
    }

    /// Sends the pages that are not what was sent before. A round that was not received leaves it unknown what the destination
    /// has: then this is of no use any more.
    ///
    /// # Errors
    /// When the stream breaks. A process that is gone is passed over.
    pub fn round<W: Write>(&mut self, processes: &[Pid], mut writer: Writer<W>) -> io::Result<Bytes> {
        self.begin(&mut writer)?;
        let marks = dirty::are_kept() && !processes.iter().any(|process| dirty::are_wiped_by(process.outer));
        self.marked.retain(|process| marks && processes.contains(process));
        let mut look = Look::default();
        for process in processes {
            // One that can't be read is read whole when it can be.
            let by_marks = self.marked.remove(process);
            let follow = by_marks || (marks && dirty::wipe(process.outer).is_ok());
            let mut broken = None;
            let each = |address, bytes: &[u8]| {
                self.pages(process.inner, address, bytes, &mut writer).map_err(|error| {
                    let kind = error.kind();
                    broken = Some(error);
                    io::Error::from(kind)
                })
            };
            let read = if by_marks {
                memory::each_marked_run(process.outer, each)
            } else {
                memory::each_run(process.outer, each)
            };
            match (read, broken) {
                (_, Some(error)) => return Err(error),
                (Err(error), None) => {
                    tracing::debug!(process = process.inner, %error, "its memory can't be read");
                }
                (Ok(pages), None) => {
                    look.pages += pages;
                    *(if by_marks { &mut look.by_marks } else { &mut look.whole }) += 1;
                    if follow {
                        self.marked.insert(*process);
                    }
                }
            }
        }
        self.looks.push(look);
        self.end(writer)
    }

    /// What the rounds have read.
    pub fn looks(&self) -> &[Look] {
        &self.looks
    }

    fn begin<W: Write>(&mut self, writer: &mut Writer<W>) -> io::Result<()> {
        if !self.begun {
            writer.frame(&Frame::First)?;
            self.begun = true;
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
        let mut changed = Changed { address, bytes, known };
        changed.try_for_each(|(address, bytes)| writer.pages(process, address, bytes))
    }

    fn end<W: Write>(&mut self, writer: Writer<W>) -> io::Result<Bytes> {
        self.processes.retain(|_, pages| !pages.is_empty());
        let (bytes, headers) = writer.end()?;
        self.chain = link(&self.chain, &headers);
        Ok(bytes)
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

/// Takes in one round.
///
/// # Errors
/// When the stream is corrupt, takes more than it may, or a file can't be written. Then nothing that was sent ahead is of use.
pub fn receive(input: impl Read, folder: &Path, allowance: Allowance) -> io::Result<Bytes> {
    let mut reader = Reader::new(input, allowance.stream);
    let mut bytes = Vec::new();
    let mut open: Option<(u32, File)> = None;
    let mut next_look = 0;
    // Until the round is whole there is no chain.
    let mut chain = take_chain(folder)?;
    loop {
        match reader.next(&mut bytes)? {
            Frame::First => {
                open = None;
                empty(folder)?;
                chain = Some(Digest::default());
            }
            Frame::Pages { process, address, .. } => {
                if chain.is_none() {
                    return Err(corrupt("the rounds before this one are not here"));
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
                let chain = chain.ok_or_else(|| corrupt("the rounds before this one are not here"))?;
                put_chain(folder, &link(&chain, &headers))?;
                return Ok(reader.bytes());
            }
            _ => return Err(corrupt("this does not belong to memory that is sent ahead")),
        }
    }
}

fn check(process: u32, address: u64, bytes: &[u8]) -> io::Result<()> {
    let length = bytes.len() as u64;
    let whole = address.is_multiple_of(PAGE) && length.is_multiple_of(PAGE) && length > 0;
    if process == 0 || i32::try_from(process).is_err() {
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

fn take_chain(folder: &Path) -> io::Result<Option<Digest>> {
    let path = folder.join(CHAIN);
    let chain = read_chain(&path)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path, error)),
        _ => Ok(chain),
    }
}

fn read_chain(path: &Path) -> io::Result<Option<Digest>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(bytes.try_into().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path, error)),
    }
}

fn put_chain(folder: &Path, chain: &Digest) -> io::Result<()> {
    let (fresh, path) = (folder.join("chain.new"), folder.join(CHAIN));
    std::fs::write(&fresh, chain)
        .and_then(|()| std::fs::rename(&fresh, &path))
        .map_err(|error| at(&path, error))
}

/// Makes what was received an image that another can have as its parent. Doing it twice is the same as doing it once.
///
/// # Errors
/// When what is here does not hang on this chain, or a file can't be written.
pub fn finish(folder: &Path, chain: &Digest) -> io::Result<()> {
    if read_chain(&folder.join(CHAIN))?.as_ref() != Some(chain) {
        return Err(corrupt("the memory that was sent ahead is not here as it was sent"));
    }
    for entry in std::fs::read_dir(folder).map_err(|error| at(folder, error))? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(process_of) else { continue };
        let path = folder.join(pages_name(process));
        let file = File::options().write(true).custom_flags(nix::libc::O_NOFOLLOW).open(&path);
        // So that every page can be read, those in the hole at the end too.
        file.and_then(|file| file.set_len(ADDRESSES)).map_err(|error| at(&path, error))?;
        let path = folder.join(format!("pagemap-{process}.img"));
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
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    pub(in crate::transfer) const PLENTY: Allowance =
        Allowance { stream: Bytes::from_mib(64), keep_free: Bytes::ZERO };

    /// Memory of processes: by process and page number the byte that the page is full of.
    pub(in crate::transfer) type Memory = BTreeMap<(u32, u64), u8>;

    /// A disk's file system may not have files as large as all addresses.
    pub(in crate::transfer) fn in_ram() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").unwrap()
    }

    pub(in crate::transfer) fn bytes_of(fill: u8) -> Vec<u8> {
        vec![fill; PAGE as usize]
    }

    /// A round as it crosses the wire.
    pub(in crate::transfer) fn round(ahead: &mut Ahead, memory: &Memory) -> Vec<u8> {
        let mut wire = Vec::new();
        let mut writer = Writer::unpacked(&mut wire);
        ahead.begin(&mut writer).unwrap();
        for ((process, number), fill) in memory {
            ahead.pages(*process, number * PAGE, &bytes_of(*fill), &mut writer).unwrap();
        }
        ahead.end(writer).unwrap();
        wire
    }

    fn page_at(folder: &Path, process: u32, number: u64) -> u8 {
        let mut bytes = bytes_of(0);
        let file = File::open(folder.join(pages_name(process))).unwrap();
        file.read_exact_at(&mut bytes, number * PAGE).unwrap();
        assert!(bytes.iter().all(|byte| *byte == bytes[0]));
        bytes[0]
    }

    #[test]
    fn only_what_changed_crosses_again() {
        let folder = in_ram();
        let mut ahead = Ahead::default();
        let mut memory: Memory = (0..50).map(|at| ((1, 1000 + at), 7)).collect();
        memory.insert((2, 5), 9);
        memory.insert((2, 6), 0);
        let wire = round(&mut ahead, &memory);
        assert!(wire.len() as u64 > 51 * PAGE && (wire.len() as u64) < 52 * PAGE, "zero pages do not cross");
        receive(wire.as_slice(), folder.path(), PLENTY).unwrap();
        memory.insert((1, 1003), 8);
        memory.insert((2, 5), 0);
        let wire = round(&mut ahead, &memory);
        assert!((wire.len() as u64) < 3 * PAGE, "{}", wire.len());
        receive(wire.as_slice(), folder.path(), PLENTY).unwrap();
        finish(folder.path(), ahead.chain()).unwrap();
        for ((process, number), fill) in &memory {
            assert_eq!(page_at(folder.path(), *process, *number), *fill, "{process} {number}");
        }
        assert_eq!(page_at(folder.path(), 1, 7), 0, "what was never sent is zero");
        finish(folder.path(), ahead.chain()).unwrap();
    }

    #[test]
    fn a_run_of_pages_is_sent_as_one() {
        let mut known = Pages::new();
        let bytes: Vec<u8> = [1, 2, 3, 0, 4].into_iter().flat_map(bytes_of).collect();
        let runs = |known: &mut Pages| {
            let changed = Changed { address: 8 * PAGE, bytes: &bytes, known };
            changed.map(|(address, bytes)| (address / PAGE, bytes.len() as u64 / PAGE)).collect::<Vec<_>>()
        };
        assert_eq!(runs(&mut known), [(8, 3), (12, 1)]);
        known.remove(&9);
        known.remove(&10);
        assert_eq!(runs(&mut known), [(9, 2)]);
        assert_eq!(runs(&mut known), []);
    }

    #[test]
    fn what_does_not_hang_on_the_same_chain_is_not_used() {
        let folder = in_ram();
        let mut ahead = Ahead::default();
        let first = round(&mut ahead, &Memory::from([((1, 1), 1)]));
        let second = round(&mut ahead, &Memory::from([((1, 1), 2)]));
        receive(second.as_slice(), folder.path(), PLENTY).unwrap_err();
        receive(first.as_slice(), folder.path(), PLENTY).unwrap();
        finish(folder.path(), ahead.chain()).unwrap_err();
        // Cut off in the middle: what is there now is neither the one nor the other.
        receive(&second[..second.len() - 40], folder.path(), PLENTY).unwrap_err();
        finish(folder.path(), ahead.chain()).unwrap_err();
        receive(second.as_slice(), folder.path(), PLENTY).unwrap_err();
        // From the beginning it can be made good.
        receive(first.as_slice(), folder.path(), PLENTY).unwrap();
        receive(second.as_slice(), folder.path(), PLENTY).unwrap();
        finish(folder.path(), ahead.chain()).unwrap();
    }

    #[test]
    fn pages_take_no_more_than_was_agreed_on() {
        let folder = in_ram();
        let mut ahead = Ahead::default();
        let allowance = |stream| Allowance { stream, keep_free: Bytes::ZERO };
        // Each round is small; together they are not.
        for at in 0..8 {
            let memory = (0..8).map(|page| ((1, at * 100 + page), 1)).collect();
            let wire = round(&mut ahead, &memory);
            let taken = receive(wire.as_slice(), folder.path(), allowance(Bytes(20 * PAGE)));
            // Looked at before anything of a round is written.
            assert_eq!(taken.is_ok(), at <= 2, "{at}: {taken:?}");
            if taken.is_err() {
                break;
            }
        }
    }

    #[test]
    fn pages_outside_a_process_are_refused() {
        let folder = in_ram();
        let attempt = |process, address, length: usize| {
            let mut wire = Vec::new();
            let mut writer = Writer::new(&mut wire);
            writer.frame(&Frame::First).unwrap();
            writer.pages(process, address, &vec![1; length]).unwrap();
            writer.end().unwrap();
            receive(wire.as_slice(), folder.path(), PLENTY)
        };
        attempt(1, ADDRESSES - PAGE, 4096).unwrap();
        for (process, address, length) in
            [(0, 0, 4096), (u32::MAX, 0, 4096), (1, 5, 4096), (1, 0, 5), (1, 0, 0), (1, ADDRESSES, 4096)]
        {
            attempt(process, address, length).unwrap_err();
        }
    }
}
