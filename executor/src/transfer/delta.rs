//! A memory image without what was sent ahead.
//!
//! Beside the image of a frozen service a second folder is made that CRIU can restore from when it has what was sent ahead as
//! its parent: page maps that leave pages to the parent, files with the pages that are left, and every other file as it is. The
//! whole image stays, for a destination that loses what it had.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use sterna_policies::quantity::Bytes;

use crate::engine::criu::pagemap::{PAGE, PageMap, Run};

use super::ahead::{Ahead, Page, Pages, page};
use super::hashing::Hashed;
use super::manifest::Digest;
use super::shared;
use super::tree::at;

/// The file in the folder that says on which chain of rounds it hangs.
const HANGS_ON: &str = "sent-ahead";
/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// Makes the folder, which must exist and be empty, from an image and the hashes of its pages. Gives how much of the image need
/// not be sent.
///
/// # Errors
/// When the image can't be read, is of a version of CRIU that is not known, or a file can't be written.
pub fn make(image: &Path, hashed: &Hashed, ahead: &Ahead, folder: &Path) -> io::Result<Bytes> {
    let mut split = Vec::new();
    let mut spared = Bytes::ZERO;
    for entry in std::fs::read_dir(image).map_err(|error| at(image, error))? {
        let name = entry?.file_name();
        let Some(pages) = number_of(&name).and_then(|number| ahead.of(number)) else { continue };
        let map = PageMap::read(&image.join(&name))?;
        let file = format!("pages-{}.img", map.file);
        let same = compare(&map, hashed.of(file.as_ref()), pages).ok_or_else(|| {
            at(
                &image.join(&file),
                io::Error::new(io::ErrorKind::InvalidData, "it is not as long as its page map says"),
            )
        })?;
        let (rest, kept) = separate(&map, &same, &image.join(&file), &folder.join(&file))?;
        put(&folder.join(&name), &rest.to_bytes())?;
        spared.0 += kept * PAGE;
        split.extend([name, file.into()]);
    }
    for entry in std::fs::read_dir(image).map_err(|error| at(image, error))? {
        let name = entry?.file_name();
        if !split.contains(&name) {
            let to = folder.join(&name);
            std::fs::hard_link(image.join(&name), &to).map_err(|error| at(&to, error))?;
        }
    }
    put(&folder.join(HANGS_ON), ahead.chain())?;
    Ok(spared)
}

/// The chain of rounds that a received image hangs on; `None` for a whole one.
///
/// # Errors
/// When the file can't be read, or is not what [`make`] wrote.
pub fn hangs_on(image: &Path) -> io::Result<Option<Digest>> {
    let path = image.join(HANGS_ON);
    match std::fs::read(&path) {
        Ok(bytes) => match bytes.try_into() {
            Ok(chain) => Ok(Some(chain)),
            Err(_) => Err(at(&path, io::ErrorKind::InvalidData.into())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(&path, error)),
    }
}

/// The number of the process, or of the shared object, that a page map is of.
fn number_of(name: &OsStr) -> Option<u32> {
    let name = name.to_str()?.strip_prefix("pagemap-")?.strip_suffix(".img")?;
    match name.strip_prefix("shmem-") {
        Some(inode) => shared::number(inode.parse().ok()?),
        None => name.parse().ok(),
    }
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).map_err(|error| at(path, error))
}

/// The page map that leaves to the parent what is the `same` as was sent, and how many pages that are. What is left is written
/// to `rest`.
fn separate(map: &PageMap, same: &[bool], whole: &Path, rest: &Path) -> io::Result<(PageMap, u64)> {
    let file = File::open(whole).map_err(|error| at(whole, error))?;
    let out = File::options().write(true).create_new(true).mode(0o600).open(rest);
    let mut out = io::BufWriter::with_capacity(PIECE, out.map_err(|error| at(rest, error))?);
    let mut buffer = vec![0; PIECE];
    let most = PIECE / PAGE as usize;
    let (mut runs, mut kept, mut offset, mut same) = (Vec::new(), 0, 0, same);
    for run in &map.runs {
        if !run.is_here() {
            join(&mut runs, *run);
            continue;
        }
        // As many as were compared.
        let (mut pages, behind) = same.split_at_checked(run.pages as usize).unwrap_or((same, &[]));
        let mut address = run.address;
        same = behind;
        while let Some(first) = pages.first() {
            let count = pages.iter().take(most).take_while(|other| *other == first).count();
            if *first {
                kept += count as u64;
                join(&mut runs, Run::in_parent(address, count as u64));
            } else {
                let bytes = &mut buffer[..count * PAGE as usize];
                file.read_exact_at(bytes, offset).map_err(|error| at(whole, error))?;
                out.write_all(bytes).map_err(|error| at(rest, error))?;
                join(&mut runs, run.piece(address, count as u64));
            }
            address += count as u64 * PAGE;
            offset += count as u64 * PAGE;
            pages = &pages[count..];
        }
    }
    out.flush().map_err(|error| at(rest, error))?;
    Ok((PageMap { file: map.file, runs }, kept))
}

/// Adds a run, to the one before where it goes on with it.
fn join(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.piece(run.address, run.pages) == run && last.is_followed_by(run) => {
            last.pages += run.pages;
        }
        _ => runs.push(run),
    }
}

/// Which pages of an image are what was sent of them, in the order in which they stand in its file; `None` where it has not as
/// many as its map says. What was never sent is zero at the destination.
fn compare(map: &PageMap, hashed: &[Page], sent: &Pages) -> Option<Vec<bool>> {
    let zero = page(&[0; PAGE as usize]);
    let here = || map.runs.iter().filter(|run| run.is_here());
    if here().map(|run| run.pages).sum::<u64>() != hashed.len() as u64 {
        return None;
    }
    let numbers = here().flat_map(|run| run.address / PAGE..run.address / PAGE + run.pages);
    Some(numbers.zip(hashed).map(|(number, page)| sent.get(&number).unwrap_or(&zero) == page).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::ahead::tests::{Memory, PLENTY, bytes_of, in_ram, round, write};
    use super::super::ahead::{finish, receive, there};
    use super::*;

    /// An image as CRIU writes it: each process with its pages, in runs.
    fn image_of(memory: &Memory, folder: &Path) {
        let processes: BTreeSet<u32> = memory.keys().map(|(process, _)| *process).collect();
        for process in processes {
            let pages: BTreeMap<u64, u8> = memory
                .iter()
                .filter(|((of, _), _)| *of == process)
                .map(|((_, at), fill)| (*at, *fill))
                .collect();
            let mut runs = Vec::new();
            let here = PageMap::of_all_addresses(1).runs[0];
            for number in pages.keys() {
                join(&mut runs, here.piece(number * PAGE, 1));
            }
            let bytes: Vec<u8> = pages.values().flat_map(|fill| bytes_of(*fill)).collect();
            // CRIU numbers files by itself.
            let map = PageMap { file: process % 1000 + 10, runs };
            let name = match shared::inode(process) {
                Some(inode) => format!("pagemap-shmem-{inode}.img"),
                None => format!("pagemap-{process}.img"),
            };
            std::fs::write(folder.join(name), map.to_bytes()).unwrap();
            std::fs::write(folder.join(format!("pages-{}.img", map.file)), bytes).unwrap();
        }
        std::fs::write(folder.join("inventory.img"), "all else").unwrap();
    }

    /// What CRIU would restore.
    fn restored(image: &Path, parent: &Path) -> Memory {
        let mut memory = Memory::new();
        for entry in std::fs::read_dir(image).unwrap() {
            let name = entry.unwrap().file_name();
            let Some(process) = number_of(&name) else { continue };
            let map = PageMap::read(&image.join(&name)).unwrap();
            let own = File::open(image.join(format!("pages-{}.img", map.file))).unwrap();
            let theirs = File::open(parent.join(format!("pages-{process}.img")));
            let mut offset = 0;
            for run in map.runs {
                for number in run.address / PAGE..run.address / PAGE + run.pages {
                    let mut bytes = bytes_of(0);
                    if run.is_here() {
                        own.read_exact_at(&mut bytes, offset).unwrap();
                        offset += PAGE;
                    } else {
                        theirs.as_ref().unwrap().read_exact_at(&mut bytes, number * PAGE).unwrap();
                    }
                    memory.insert((process, number), bytes[0]);
                }
            }
            assert_eq!(offset, own.metadata().unwrap().len());
        }
        memory
    }

    /// Of two processes and of what they share.
    fn memory() -> impl Strategy<Value = Memory> {
        let process = prop_oneof![Just(1), Just(2), Just(shared::number(77).unwrap())];
        proptest::collection::btree_map((process, 0_u64..24), 0_u8..4, 0..40)
    }

    /// What becomes of the stream of a round; where it breaks, in thousandths.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Fate {
        Arrives,
        /// All of it arrives, but not the word of it.
        Unheard,
        Breaks(usize),
        /// The other end is killed before it notes what arrived.
        Killed(usize),
        /// All that was there is gone, too.
        NodeDown(usize),
    }

    fn fate() -> impl Strategy<Value = Fate> {
        prop_oneof![
            4 => Just(Fate::Arrives),
            1 => Just(Fate::Unheard),
            4 => (0_usize..1000).prop_map(Fate::Breaks),
            2 => (0_usize..1000).prop_map(Fate::Killed),
            1 => (0_usize..1000).prop_map(Fate::NodeDown),
        ]
    }

    fn carry(ahead: &mut Ahead, memory: &Memory, fate: Fate, folder: &Path) {
        let wire = write(ahead, memory);
        let cut = |at: usize| receive(&wire[..wire.len() * at / 1000], folder, PLENTY).unwrap_err();
        match fate {
            Fate::Arrives => {
                receive(wire.as_slice(), folder, PLENTY).unwrap();
                return ahead.arrived();
            }
            Fate::Unheard => drop(receive(wire.as_slice(), folder, PLENTY).unwrap()),
            Fate::Breaks(at) => drop(cut(at)),
            Fate::Killed(at) => {
                let chain = folder.join("chain");
                let before = std::fs::read(&chain);
                std::fs::write(folder.join("not emptied"), "").unwrap();
                cut(at);
                match before {
                    Ok(before) if folder.join("not emptied").exists() => {
                        std::fs::write(chain, before).unwrap();
                    }
                    _ => drop(std::fs::remove_file(chain)),
                }
            }
            Fate::NodeDown(at) => {
                cut(at);
                std::fs::remove_dir_all(folder).unwrap();
                std::fs::create_dir(folder).unwrap();
            }
        }
        ahead.broke(there(folder).unwrap().as_ref());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn whatever_was_sent_ahead_the_last_state_is_restored(
            rounds in proptest::collection::vec((memory(), fate()), 0..6),
            last in memory(),
        ) {
            let folder = in_ram();
            let [image, left, there] = ["image", "left", "there"].map(|name| folder.path().join(name));
            for folder in [&image, &left, &there] {
                std::fs::create_dir(folder).unwrap();
            }
            let mut ahead = Ahead::default();
            for (memory, fate) in &rounds {
                carry(&mut ahead, memory, *fate, &there);
            }
            image_of(&last, &image);
            if ahead.is_empty() {
                // Then all of it follows.
                return Ok(());
            }
            let spared = make(&image, &Hashed::read(&image).unwrap(), &ahead, &left).unwrap();
            finish(&there, &hangs_on(&left).unwrap().unwrap()).unwrap();
            prop_assert_eq!(restored(&left, &there), last.clone());
            prop_assert_eq!(std::fs::read(left.join("inventory.img")).unwrap(), b"all else");
            // What stood still since the last round is spared.
            let still = |(at, fill): (&(u32, u64), &u8)| {
                let newest = rounds.iter().rev().find_map(|(memory, _)| memory.get(at));
                let sent =
                    rounds.iter().any(|(memory, _)| memory.iter().any(|((of, _), fill)| *of == at.0 && *fill != 0));
                sent && newest.copied().unwrap_or(0) == *fill
            };
            if rounds.iter().all(|(_, fate)| *fate == Fate::Arrives) {
                let expected = last.iter().filter(|one| still(*one)).count() as u64;
                prop_assert_eq!(spared, Bytes(expected * PAGE));
            }
        }
    }

    #[test]
    fn an_image_of_another_version_is_not_taken_apart() {
        let folder = in_ram();
        let [image, left] = ["image", "left"].map(|name| folder.path().join(name));
        for folder in [&image, &left] {
            std::fs::create_dir(folder).unwrap();
        }
        let mut ahead = Ahead::default();
        round(&mut ahead, &Memory::from([((1, 1), 1)]));
        std::fs::write(image.join("pagemap-1.img"), "something else").unwrap();
        let hashed = Hashed::read(&image).unwrap();
        assert_eq!(make(&image, &hashed, &ahead, &left).unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}
