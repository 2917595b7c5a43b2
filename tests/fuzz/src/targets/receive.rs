//! A stream made into files, in a folder beside others that must stay as they are.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use arbitrary::{Result, Unstructured};
use sterna_executor::transfer::manifest::{Digest, Manifest, Received};
use sterna_executor::transfer::receive::{Allowance, receive};
use sterna_executor::transfer::stream::{Frame, followed};
use sterna_executor::transfer::tree::{Entry, Kind, Sent, Writers};
use sterna_policies::quantity::Bytes;

use super::stream::send;
use crate::room;

/// A folder to receive into, and beside it what must stay as it was.
#[derive(Debug)]
pub struct Beside {
    outer: tempfile::TempDir,
    before: Vec<Seen>,
}

/// All that can be seen of a name, its time of last change among it, which nothing can set back.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    place: PathBuf,
    mode: u32,
    owner: (u32, u32),
    times: [(i64, i64); 2],
    links: u64,
    attributes: BTreeMap<OsString, Option<Vec<u8>>>,
    content: Option<Vec<u8>>,
    names: Vec<OsString>,
}

impl Seen {
    fn at(place: PathBuf) -> Self {
        let meta = std::fs::symlink_metadata(&place).expect("what stands beside the folder stays there");
        let names = xattr::list(&place).map(Iterator::collect::<Vec<_>>).unwrap_or_default();
        let value = |name: OsString| (name.clone(), xattr::get(&place, name).ok().flatten());
        let within = std::fs::read_dir(&place).into_iter().flatten().flatten();
        let mut within: Vec<OsString> = within.map(|one| one.file_name()).collect();
        within.sort();
        Self {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            times: [(meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())],
            links: meta.nlink(),
            attributes: names.into_iter().map(value).collect(),
            content: std::fs::read(&place).ok(),
            names: within,
            place,
        }
    }
}

impl Beside {
    /// Makes them.
    pub fn new() -> Self {
        let outer = tempfile::tempdir_in(room::folder()).expect("a folder");
        let at = |name: &str| outer.path().join(name);
        std::fs::write(at("precious"), "x").expect("precious");
        std::fs::create_dir(at("kept")).expect("kept");
        std::fs::write(at("kept/inner"), "y").expect("kept/inner");
        std::fs::create_dir(at("root")).expect("root");
        let before = Self::see(outer.path());
        Self { outer, before }
    }

    /// The folder to receive into.
    pub fn root(&self) -> PathBuf {
        self.outer.path().join("root")
    }

    /// Where all of them lie.
    pub fn outer(&self) -> &Path {
        self.outer.path()
    }

    fn see(outer: &Path) -> Vec<Seen> {
        ["", "precious", "kept", "kept/inner"].map(|name| Seen::at(outer.join(name))).into()
    }

    /// Panics where something outside of the folder was touched.
    pub fn unchanged(&self) {
        assert_eq!(Self::see(self.outer.path()), self.before, "something outside of the folder was touched");
    }
}

impl Default for Beside {
    fn default() -> Self {
        Self::new()
    }
}

/// Receives bytes as they are.
pub fn raw(wire: &[u8]) {
    received(&Beside::new(), wire);
}

/// Receives a hostile stream whose hashes are right.
pub fn hostile(data: &[u8]) {
    let beside = Beside::new();
    // Bytes that ran out end the stream where it stands.
    let wire = Hostile { outer: beside.outer().as_os_str().as_bytes().to_vec() }
        .stream(&mut Unstructured::new(data))
        .unwrap_or_default();
    received(&beside, &wire);
}

/// What a stream may take.
const ALLOWED: Bytes = Bytes::from_mib(4);

fn take(mut wire: &[u8], root: &Path) -> std::io::Result<Bytes> {
    let whole = wire.len();
    let allowance = Allowance { stream: ALLOWED, keep_free: Bytes::ZERO };
    let counted = receive(&mut wire, root, &mut Received::default(), allowance)?;
    // What was compressed counts as what it becomes, and what is compared as if it had come.
    assert!((whole - wire.len()) as u64 <= counted.0 && counted <= ALLOWED, "{counted} of {whole} bytes");
    Ok(counted)
}

fn received(beside: &Beside, wire: &[u8]) {
    let taken = take(wire, &beside.root());
    beside.unchanged();
    if taken.is_err() {
        return;
    }
    // What was taken in can be sent on, and arrives the same.
    let pass = Sent::default().pass(&beside.root(), Writers::Frozen).expect("what was received is read");
    let size = |entry: &Entry| if let Kind::File(size) = entry.kind { size } else { 0 };
    if pass.entries.iter().map(size).any(|size| size > 1 << 20) {
        return;
    }
    let onward = Beside::new();
    take(&send(&beside.root(), &mut Sent::default()), &onward.root()).expect("it arrives again");
    onward.unchanged();
    let again = Sent::default().pass(&onward.root(), Writers::Frozen).expect("it is read again");
    assert_eq!(pass.entries, again.entries);
}

/// Makes streams out of bytes: names, links, modes, sizes, devices and attributes as nobody genuine would send them.
struct Hostile {
    outer: Vec<u8>,
}

impl Hostile {
    fn stream(&self, u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let mut wire = Vec::new();
        let mut headers = Digest::default();
        let mut put = |frame: &Frame, content: &[u8]| {
            let header = postcard::to_stdvec(frame).expect("a frame can be written");
            headers = followed(&headers, &header);
            wire.extend((header.len() as u32).to_le_bytes());
            wire.extend(&header);
            wire.extend(content);
        };
        for _ in 0..24 {
            if u.is_empty() {
                break;
            }
            match u.int_in_range(0..=13)? {
                0 => put(&Frame::Removed(self.name(u)?), &[]),
                8 => put(&Frame::First, &[]),
                9 => put(&Frame::Manifest(Manifest { names: u.arbitrary()?, hash: u.arbitrary()? }), &[]),
                1..=7 => put(&Frame::Entry(self.entry(u)?), &[]),
                12 => put(&Frame::Onward(self.entry(u)?), &[]),
                13 => {
                    let (offset, length) = (Self::size(u)?, u.int_in_range(0..=100)?);
                    put(&Frame::Here { offset, length, hash: u.arbitrary()? }, &[]);
                }
                _ => {
                    let content = Self::bytes(u, 64)?;
                    let hash = *blake3::hash(&content).as_bytes();
                    let offset = Self::size(u)?;
                    let length = content.len() as u32;
                    let packed = zstd::bulk::compress(&content, 1).expect("it can be compressed");
                    if packed.len() <= content.len() && u.ratio(1, 2)? {
                        let frame = Frame::Chunk { offset, length, packed: packed.len() as u32, hash };
                        put(&frame, &packed);
                    } else {
                        put(&Frame::Chunk { offset, length, packed: 0, hash }, &content);
                    }
                }
            }
        }
        let end = postcard::to_stdvec(&Frame::End { headers }).expect("the end can be written");
        wire.extend((end.len() as u32).to_le_bytes());
        wire.extend(&end);
        Ok(wire)
    }

    fn entry(&self, u: &mut Unstructured<'_>) -> Result<Entry> {
        let kind = match u.int_in_range(0..=9)? {
            0..=2 => Kind::Folder,
            3 | 4 => Kind::File(Self::size(u)?),
            5 | 6 => Kind::Symlink(self.name(u)?),
            7 => Kind::HardLink(self.name(u)?),
            8 => Kind::Character(*u.choose(&[0, 0x103, u64::MAX])?),
            _ => u.choose(&[Kind::Pipe, Kind::Block(0x700)])?.clone(),
        };
        let owner = |u: &mut Unstructured<'_>| u.choose(&[0, 1000, 65_534, u32::MAX]).copied();
        let mut attributes = Vec::new();
        for _ in 0..u.int_in_range(0..=2)? {
            let name = *u.choose(&[
                "user.a",
                "user.",
                "",
                "user.\0",
                "trusted.overlay.opaque",
                "trusted.overlay.redirect",
                "security.capability",
                "security.selinux",
                "system.posix_acl_access",
                "nowhere.x",
            ])?;
            attributes.push((name.into(), Self::bytes(u, 24)?));
        }
        Ok(Entry {
            path: self.name(u)?,
            kind,
            mode: *u.choose(&[0, 0o600, 0o755, 0o4777, 0o100_644, u32::MAX])?,
            uid: owner(u)?,
            gid: owner(u)?,
            modified: (
                *u.choose(&[0, 1, 1_000_000_000, i64::MIN, i64::MAX])?,
                *u.choose(&[0, 999_999_999, 0x3fff_ffff, 0x3fff_fffe, u32::MAX])?,
            ),
            attributes,
        })
    }

    /// Few different ones, so that they meet.
    fn name(&self, u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let mut name = match u.int_in_range(0..=11)? {
            0 => b"/".to_vec(),
            1 => [&self.outer, b"/".as_slice()].concat(),
            2 => return Self::bytes(u, 16),
            _ => Vec::new(),
        };
        for at in 0..u.int_in_range(0..=3)? {
            if at > 0 {
                name.push(b'/');
            }
            let long = "x".repeat(255);
            name.extend(
                u.choose(&["a", "b", "c", "..", ".", "", "precious", "kept", "root", "a\0", &long])?.bytes(),
            );
        }
        Ok(name)
    }

    fn size(u: &mut Unstructured<'_>) -> Result<u64> {
        u.choose(&[0, 1, 4096, 70_000, 1 << 20, 1 << 40, i64::MAX as u64, u64::MAX]).copied()
    }

    fn bytes(u: &mut Unstructured<'_>, most: usize) -> Result<Vec<u8>> {
        let length = u.int_in_range(0..=most)?.min(u.len());
        Ok(u.bytes(length)?.to_vec())
    }
}

/// Bytes for hostile streams; their meaning is the generator's, so any will do.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut seed = |length: usize| (0..length).map(|_| random.u8(..)).collect();
    [16, 64, 128, 256, 512].into_iter().map(&mut seed).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use sterna_executor::transfer::stream::Reader;

    use super::*;

    #[test]
    fn a_touch_is_noticed() {
        let touches: [fn(&Path); 4] = [
            |outer| std::fs::write(outer.join("new"), "").unwrap(),
            |outer| std::fs::hard_link(outer.join("precious"), outer.join("root/h")).unwrap(),
            |outer| {
                let mode = std::fs::Permissions::from_mode(0o4777);
                std::fs::set_permissions(outer.join("kept/inner"), mode).unwrap();
            },
            |outer| std::fs::write(outer.join("precious"), "z").unwrap(),
        ];
        Beside::new().unchanged();
        for touch in touches {
            let beside = Beside::new();
            touch(beside.outer());
            std::panic::catch_unwind(|| beside.unchanged()).unwrap_err();
        }
    }

    #[test]
    fn hostile_streams_have_right_hashes() {
        let hostile = Hostile { outer: b"/outer".to_vec() };
        let (mut entries, mut ended) = (0, 0);
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let data: Vec<u8> = (0..random.usize(8..200)).map(|_| random.u8(..)).collect();
            let wire = hostile.stream(&mut Unstructured::new(&data)).unwrap();
            let (mut reader, mut chunk) = (Reader::new(wire.as_slice(), Bytes::from_mib(4)), Vec::new());
            loop {
                match reader.next(&mut chunk).unwrap() {
                    Frame::Entry(_) => entries += 1,
                    Frame::End { .. } => break,
                    _ => {}
                }
            }
            ended += 1;
        }
        assert_eq!(ended, 500);
        assert!(entries > 1000, "only {entries} entries");
    }
}
