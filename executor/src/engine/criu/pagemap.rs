//! CRIU's page maps: which pages of a process an image holds, in which order, and which are left to the image before it.
//!
//! A page map is two magic numbers and then records, each its length as four bytes, little end first, and a message in protocol
//! buffers: first the number of the file with the pages, then one record per run of pages. Those that the file holds stand in
//! it one after the other. Source: CRIU 4.2, `images/pagemap.proto`, `criu/pagemap.c`.

use std::io;
use std::path::Path;

use prost::Message;

/// Bytes of a page. Nothing is sent ahead where pages are larger.
pub const PAGE: u64 = 4096;

/// What addresses of services' memory are below.
pub const ADDRESSES: u64 = 1 << 47;

/// Before every record; and what every page map begins with.
const MAGIC: [u32; 2] = [0x5456_4319, 0x5608_4025];

/// The pages are in the image before this one.
const IN_PARENT: u32 = 1;
/// The pages are in this image's file.
const PRESENT: u32 = 4;

/// Most pages of one run of [`PageMap::of_all_addresses`]: CRIU counts what it may read at once in 31 bits.
const LARGEST_RUN: u64 = 1 << 30;

#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(uint32, required, tag = "1")]
    file: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(uint64, required, tag = "1")]
    address: u64,
    /// How older versions counted.
    #[prost(uint32, required, tag = "2")]
    few_pages: u32,
    #[prost(bool, optional, tag = "3")]
    in_parent: Option<bool>,
    #[prost(uint32, optional, tag = "4")]
    flags: Option<u32>,
    #[prost(uint64, optional, tag = "5")]
    pages: Option<u64>,
}

/// A run of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where it begins.
    pub address: u64,
    /// How many pages.
    pub pages: u64,
    flags: u32,
}

impl Run {
    /// Whether its pages stand in this image's file.
    pub const fn is_here(&self) -> bool {
        self.flags & PRESENT != 0
    }

    /// The same run, or a piece of it, left to the image before.
    pub const fn in_parent(address: u64, pages: u64) -> Self {
        Self { address, pages, flags: IN_PARENT }
    }

    /// A piece of it.
    pub const fn piece(self, address: u64, pages: u64) -> Self {
        Self { address, pages, ..self }
    }

    /// Whether another run begins where this one ends.
    pub const fn is_followed_by(&self, other: Self) -> bool {
        self.end() == other.address
    }

    /// The address behind it.
    const fn end(&self) -> u64 {
        self.address.saturating_add(self.pages.saturating_mul(PAGE))
    }
}

/// The page map of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageMap {
    /// Number of the file with the pages.
    pub file: u32,
    /// Its runs, by address.
    pub runs: Vec<Run>,
}

impl PageMap {
    /// One in whose file each page stands at its own address. Where a process has no memory the file has a hole.
    pub fn of_all_addresses(file: u32) -> Self {
        let largest = LARGEST_RUN * PAGE;
        let runs = (0..ADDRESSES / largest).map(|at| Run {
            address: at * largest,
            pages: LARGEST_RUN,
            flags: PRESENT,
        });
        Self { file, runs: runs.collect() }
    }

    /// Reads a page map.
    ///
    /// # Errors
    /// When it can't be read, or is of another version of CRIU.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(path)?;
        Self::parse(&bytes).ok_or_else(|| {
            let what = format!("{} is a page map of another version of CRIU", path.display());
            io::Error::new(io::ErrorKind::Unsupported, what)
        })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        for magic in MAGIC {
            rest = rest.strip_prefix(&magic.to_le_bytes())?;
        }
        let head = Head::decode(next(&mut rest)?).ok()?;
        let mut runs: Vec<Run> = Vec::new();
        while !rest.is_empty() {
            let bytes = next(&mut rest)?;
            let record = Record::decode(bytes).ok()?;
            // What it says beyond that would be lost.
            if record.encode_to_vec() != bytes || record.few_pages != 0 || record.in_parent.is_some() {
                return None;
            }
            let run = Run { address: record.address, pages: record.pages?, flags: record.flags? };
            let behind = runs.last().map_or(0, Run::end);
            if run.address < behind || run.address % PAGE != 0 || run.end() > ADDRESSES {
                return None;
            }
            runs.push(run);
        }
        let map = Self { file: head.file, runs };
        (map.to_bytes() == bytes).then_some(map)
    }

    /// As CRIU reads it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = MAGIC.iter().flat_map(|magic| magic.to_le_bytes()).collect();
        let mut put = |message: Vec<u8>| {
            // A message has some tens of bytes.
            bytes.extend((message.len() as u32).to_le_bytes());
            bytes.extend(message);
        };
        put(Head { file: self.file }.encode_to_vec());
        for run in &self.runs {
            let (address, flags, pages) = (run.address, Some(run.flags), Some(run.pages));
            put(Record { address, few_pages: 0, in_parent: None, flags, pages }.encode_to_vec());
        }
        bytes
    }
}

/// The next record.
fn next<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk::<4>()?;
    let (record, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = behind;
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As CRIU 4.2.1 wrote it for a process with three runs; the second is of pages that may be restored lazily.
    fn written() -> Vec<u8> {
        let mut bytes = vec![0x19, 0x43, 0x56, 0x54, 0x25, 0x40, 0x08, 0x56];
        let records: [&[u8]; 4] = [
            &[0x08, 0x01],
            &[0x08, 0x80, 0x20, 0x10, 0x00, 0x20, 0x04, 0x28, 0x02],
            &[0x08, 0x80, 0x60, 0x10, 0x00, 0x20, 0x06, 0x28, 0x01],
            &[0x08, 0x80, 0x80, 0x01, 0x10, 0x00, 0x20, 0x02, 0x28, 0x03],
        ];
        for record in records {
            bytes.extend((record.len() as u32).to_le_bytes());
            bytes.extend(record);
        }
        bytes
    }

    #[test]
    fn a_page_map_is_read_and_written_as_criu_does() {
        let map = PageMap::parse(&written()).unwrap();
        assert_eq!(map.file, 1);
        let seen: Vec<_> = map.runs.iter().map(|run| (run.address, run.pages, run.is_here())).collect();
        assert_eq!(seen, [(4096, 2, true), (12288, 1, true), (16384, 3, false)]);
        assert_eq!(map.to_bytes(), written());
    }

    #[test]
    fn what_would_be_misread_is_refused() {
        let cut = written().len() - 1;
        assert_eq!(PageMap::parse(&written()[..cut]), None);
        let mut unknown = written();
        // A field that this does not know of.
        unknown.extend([4, 0, 0, 0, 0x08, 0x00, 0x30, 0x01]);
        assert_eq!(PageMap::parse(&unknown), None);
        let mut twice = PageMap::parse(&written()).unwrap();
        twice.runs.push(twice.runs[0]);
        assert_eq!(PageMap::parse(&twice.to_bytes()), None, "runs must not overlap");
        assert_eq!(PageMap::parse(b"other"), None);
    }

    #[test]
    fn all_addresses_are_covered_once() {
        let map = PageMap::of_all_addresses(7);
        let mut behind = 0;
        for run in &map.runs {
            assert_eq!(run.address, behind);
            assert!(i32::try_from(run.pages).is_ok() && run.is_here());
            behind = run.end();
        }
        assert_eq!(behind, ADDRESSES);
        assert_eq!(PageMap::parse(&map.to_bytes()), Some(map));
    }
}
