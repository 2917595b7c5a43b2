//! Memory that is sent ahead: hostile rounds behind right hashes, in a folder beside others that must stay as they are.

use std::os::unix::fs::MetadataExt as _;

use arbitrary::{Arbitrary, Result, Unstructured};
use sterna_executor::engine::criu::pagemap::PageMap;
use sterna_executor::transfer::ahead::{finish, receive};
use sterna_executor::transfer::manifest::Digest;
use sterna_executor::transfer::receive::Allowance;
use sterna_executor::transfer::stream::{CHUNK, Frame, followed};
use sterna_policies::quantity::Bytes;

use super::receive::Beside;

/// What all rounds together may take, and what a round may overshoot it by: it is looked at once for so many bytes.
const MOST: Bytes = Bytes::from_mib(1);

/// One frame, as somebody hostile would choose it.
#[derive(Debug, Arbitrary)]
enum Sent {
    First,
    Pages { process: u32, page: u64, odd: bool, pages: u8, fill: u8 },
    Removed(Vec<u8>),
    Round,
}

/// Receives rounds, and makes an image of them with the chain that they came to, or another.
pub fn read(data: &[u8]) {
    let beside = Beside::new();
    let mut u = Unstructured::new(data);
    let chain = u.arbitrary().unwrap_or_default();
    // Bytes that ran out end the rounds where they stand.
    while let Ok(wire) = round(&mut u) {
        let allowance = Allowance { stream: MOST, keep_free: Bytes::ZERO };
        if let Ok(bytes) = receive(wire.as_slice(), &beside.root(), allowance) {
            assert!(bytes <= MOST);
        }
        if u.is_empty() {
            break;
        }
    }
    let mut taken = 0;
    for entry in std::fs::read_dir(beside.root()).expect("the folder is read") {
        let entry = entry.expect("and what is in it");
        assert!(entry.file_type().expect("its type").is_file());
        taken += entry.metadata().expect("its size").blocks() * 512;
    }
    assert!(taken <= 3 * MOST.0 + (64 << 10), "it takes {taken}");
    if finish(&beside.root(), &chain).is_ok() {
        for entry in std::fs::read_dir(beside.root()).expect("the folder is read").flatten() {
            if entry.file_name().to_string_lossy().starts_with("pagemap-") {
                PageMap::read(&entry.path()).expect("CRIU can read it");
            }
        }
    }
    beside.unchanged();
}

fn round(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let (mut wire, mut headers) = (Vec::new(), Digest::default());
    let mut put = |frame: &Frame, bytes: &[u8]| {
        let header = postcard::to_stdvec(frame).expect("a frame can be written");
        if !matches!(frame, Frame::End { .. }) {
            headers = followed(&headers, &header);
        }
        wire.extend(u32::try_from(header.len()).expect("it is short").to_le_bytes());
        wire.extend(header);
        wire.extend(bytes);
        headers
    };
    let mut so_far = Digest::default();
    loop {
        // Without bytes left the generator would say the same for ever.
        match if u.is_empty() { Sent::Round } else { u.arbitrary()? } {
            Sent::First => so_far = put(&Frame::First, &[]),
            Sent::Removed(name) => so_far = put(&Frame::Removed(name), &[]),
            Sent::Pages { process, page, odd, pages, fill } => {
                let length = (usize::from(pages) * 4096 + usize::from(odd)).min(CHUNK);
                let bytes = vec![fill; length];
                let hash = *blake3::hash(&bytes).as_bytes();
                let length = u32::try_from(length).expect("it is short");
                // Mostly few processes, and pages that there can be.
                let process = if process % 3 == 0 { process } else { process % 4 };
                let address = if page % 5 == 0 { page } else { (page % (1 << 36)) << 12 };
                so_far = put(&Frame::Pages { process, address, length, packed: 0, hash }, &bytes);
            }
            Sent::Round => {
                put(&Frame::End { headers: so_far }, &[]);
                return Ok(wire);
            }
        }
    }
}

/// Bytes for hostile rounds; their meaning is the generator's, so any will do.
pub fn seeds() -> Vec<Vec<u8>> {
    (0_u8..12)
        .map(|seed| (0_u32..200).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect())
        .collect()
}
