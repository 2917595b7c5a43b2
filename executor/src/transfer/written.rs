//! What was written into a stream of files, to know what of it arrived when the stream broke; and what is known to lie in the
//! files at the other end, so that it need not cross again.

use std::collections::BTreeMap;

use super::manifest::{Contents, Digest};
use super::stream::CHUNK;
use super::tree::{Kind, Pass};

/// The chunks of a file that are not zero: their hashes, by their places.
pub(super) type Chunks = BTreeMap<u64, Digest>;

/// What is known to lie in the files at the destination. What is behind the last whole chunk is sent whatever lies there.
#[derive(Debug, Clone, Default)]
pub struct Known(BTreeMap<Vec<u8>, Chunks>);

impl Known {
    pub(super) fn of(&self, name: &[u8]) -> Option<&Chunks> {
        self.0.get(name)
    }

    pub(super) fn forget(&mut self, name: &[u8]) {
        self.0.remove(name);
    }

    pub(super) fn keep(&mut self, is_there: impl Fn(&[u8]) -> bool) {
        self.0.retain(|name, _| is_there(name));
    }

    /// Takes in what arrived of a pass.
    pub(super) fn arrived(&mut self, pass: &Pass, arrived: &Arrived) {
        for name in &pass.removed[..arrived.removed] {
            self.forget(name);
        }
        for begun in &arrived.begun {
            let entry = &pass.entries[begun.entry];
            let mut chunks = begun.chunks.clone();
            // What was not come to lies there as before.
            if let (true, false, Some(before)) = (begun.onward, begun.whole, self.of(&entry.path)) {
                let behind = begun.chunks.last_key_value().map_or(0, |(offset, _)| offset + 1);
                chunks.extend(before.range(behind..).map(|(offset, hash)| (*offset, *hash)));
            }
            let Kind::File(size) = entry.kind else {
                self.forget(&entry.path);
                continue;
            };
            if begun.whole {
                // It was cut to the length that it had when the pass began. It may have grown while it was read.
                chunks.split_off(&(size - size % CHUNK as u64));
            }
            if chunks.is_empty() {
                self.forget(&entry.path);
            } else {
                self.0.insert(entry.path.clone(), chunks);
            }
        }
    }
}

/// A frame, by what of the pass it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    First,
    Removed(usize),
    Entry(usize),
    Onward(usize),
    /// A chunk of the file before it, or its hash.
    Chunk(u64, Digest),
    Manifest,
}

/// The frames of a stream in order, each with the hash of all headers up to it.
#[derive(Debug, Clone, Default)]
pub struct Written(Vec<(Digest, Step)>);

/// What arrived of a pass.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    /// How many names were removed.
    pub removed: usize,
    /// How many entries are whole.
    pub whole: usize,
    /// Entries that were begun.
    pub begun: Vec<Begun>,
}

/// An entry that was begun.
#[derive(Debug)]
pub(super) struct Begun {
    pub entry: usize,
    pub onward: bool,
    pub whole: bool,
    pub chunks: Chunks,
}

impl Begun {
    /// What is in it, if it is a file of this size.
    pub fn contents(&self, size: u64) -> Digest {
        let mut contents = Contents::default();
        self.chunks.iter().for_each(|(offset, hash)| contents.chunk(*offset, hash));
        contents.of_size(size)
    }
}

impl Written {
    pub(super) fn note(&mut self, headers: Digest, step: Step) {
        self.0.push((headers, step));
    }

    /// All of it.
    pub(super) fn all(&self, pass: &Pass) -> Arrived {
        let mut arrived = arrived(&self.0, pass);
        arrived.whole = pass.entries.len();
        arrived.begun.iter_mut().for_each(|begun| begun.whole = true);
        arrived
    }

    /// What arrived, if the headers up to the last frame that did have this hash; `None` if no frame of this stream has it.
    pub(super) fn until(&self, headers: &Digest, pass: &Pass) -> Option<Arrived> {
        let last = self.0.iter().position(|(one, _)| one == headers)?;
        Some(arrived(&self.0[..=last], pass))
    }
}

fn arrived(steps: &[(Digest, Step)], pass: &Pass) -> Arrived {
    let mut arrived = Arrived::default();
    let close = |arrived: &mut Arrived| {
        if let Some(last) = arrived.begun.last_mut() {
            last.whole = true;
            arrived.whole = last.entry + 1;
        }
    };
    for (_, step) in steps {
        match *step {
            Step::First => {}
            Step::Removed(number) => arrived.removed = number + 1,
            Step::Entry(entry) | Step::Onward(entry) => {
                close(&mut arrived);
                let onward = matches!(step, Step::Onward(_));
                arrived.begun.push(Begun { entry, onward, whole: false, chunks: Chunks::new() });
                // Only a file has anything to come.
                if !matches!(pass.entries[entry].kind, Kind::File(_)) {
                    close(&mut arrived);
                }
            }
            Step::Chunk(offset, hash) => {
                if let Some(last) = arrived.begun.last_mut() {
                    last.chunks.insert(offset, hash);
                }
            }
            Step::Manifest => close(&mut arrived),
        }
    }
    arrived
}
