//! Frames of the data stream.

use std::path::Path;

use sterna_executor::transfer::stream::{CHUNK, Frame, Reader, Writer};
use sterna_executor::transfer::tree::{Sent, Writers};
use sterna_executor::transfer::written::Written;
use sterna_policies::quantity::Bytes;

use crate::room;

/// Reads frames until the stream ends or is refused.
pub fn read(wire: &[u8]) {
    let most = Bytes(wire.len() as u64);
    let mut reader = Reader::new(wire, most);
    let mut chunk = Vec::new();
    let mut claimed = 0;
    while let Ok(frame) = reader.next(&mut chunk) {
        let header = postcard::to_stdvec(&frame).expect("a frame that was read can be written");
        assert_eq!(postcard::from_bytes::<Frame>(&header).as_ref(), Ok(&frame), "and be read again");
        assert!(chunk.capacity() <= 2 * CHUNK, "a chunk takes {} bytes", chunk.capacity());
        match frame {
            Frame::Chunk { length, hash, .. } | Frame::Pages { length, hash, .. } => {
                assert_eq!(chunk.len(), length as usize);
                assert_eq!(*blake3::hash(&chunk).as_bytes(), hash);
                claimed += u64::from(length);
            }
            Frame::End { .. } => break,
            Frame::Entry(_)
            | Frame::Onward(_)
            | Frame::Here { .. }
            | Frame::Removed(_)
            | Frame::First
            | Frame::Manifest(_) => {}
        }
    }
    assert!(claimed <= reader.bytes().0 && reader.bytes() <= most);
}

/// What a genuine sender says of a folder.
pub fn send(folder: &Path, sent: &mut Sent) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut writer = Writer::new(&mut wire);
    let pass = sent.pass(folder, Writers::Frozen).expect("the folder is read");
    let mut written = Written::default();
    writer.pass(folder, &pass, sent.there(), &mut written).expect("it is sent");
    sent.note(&pass, &written);
    writer.manifest(sent.manifest(), &mut written).expect("it is sent");
    writer.end().expect("the stream ends");
    sent.arrived(&pass, &written);
    wire
}

/// Streams of small trees: all kinds of names, and a second pass over one that was changed.
pub fn seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir_in(room::folder()).expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let mut sent = Sent::default();
    let mut seeds = vec![send(folder.path(), &mut Sent::default())];
    std::fs::create_dir(at("d")).expect("d");
    std::fs::write(at("d/a"), "abc").expect("d/a");
    std::fs::hard_link(at("d/a"), at("h")).expect("h");
    std::os::unix::fs::symlink("d/a", at("s")).expect("s");
    nix::unistd::mkfifo(&at("p"), nix::sys::stat::Mode::S_IRWXU).expect("p");
    // Not every file system has attributes.
    xattr::set(at("d/a"), "user.x", b"1").ok();
    seeds.push(send(folder.path(), &mut sent));
    std::fs::remove_file(at("s")).expect("s");
    std::fs::write(at("d/a"), "longer than before").expect("d/a");
    seeds.push(send(folder.path(), &mut sent));
    // Of more than one chunk, and then with one of them changed.
    let mut large = vec![7; CHUNK + 9];
    for byte in [7, 8] {
        large[CHUNK] = byte;
        std::fs::write(at("l"), &large).expect("l");
        seeds.push(send(folder.path(), &mut sent));
    }
    seeds
}
