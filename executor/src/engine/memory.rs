//! The memory of a process that runs, read without stopping it.
//!
//! Only what a dump puts into the process's own image is read: pages that belong to it alone. Each page is read as it is at
//! that moment, and no two at the same: what was read is worth something only once it was compared with a dump.
//!
//! Where the kernel marks pages that are written ([`dirty`]), a process that was read once can be read again by its marks
//! alone. The marks decide nothing but what is read: a page that is passed over by mistake differs from the dump, and is sent
//! with what is left. That costs its bytes, never its content.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::criu::pagemap::{ADDRESSES, PAGE};

pub mod dirty;

/// Bytes that are read at once.
pub const PIECE: usize = 1 << 20;
/// Larger areas are mostly reserved and not used; looking for their pages takes longer than sending what they hold.
const LARGEST_AREA: u64 = 64 << 30;
/// Entries of the kernel's page map that are read at once.
const ENTRIES: usize = 1 << 16;

/// What the kernel says of a page, in bits of its entry. Source: Linux, `Documentation/admin-guide/mm/pagemap.rst`.
mod bit {
    pub const PRESENT: u64 = 1 << 63;
    pub const SWAPPED: u64 = 1 << 62;
    pub const OF_FILE_OR_SHARED: u64 = 1 << 61;
}

/// Whether pages are of the size that this reads.
pub fn pages_are_known() -> bool {
    matches!(nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE), Ok(Some(size)) if size as u64 == PAGE)
}

/// Gives each run of pages that belong to a process alone, in pieces of at most [`PIECE`] bytes, by address. What goes away
/// while it is read is passed over. Gives how many pages were read.
///
/// # Errors
/// When the process can't be looked at, and what `each` returns.
pub fn each_run(pid: i32, mut each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut memory = Memory::of(pid)?;
    let mut read = 0;
    find(pid, is_own, |address, pages| {
        read += memory.read(address, pages, &mut each)?;
        Ok(())
    })?;
    Ok(read)
}

/// The same of those pages alone that were written since the marks of the process were last wiped; and wipes them.
///
/// A page is marked for the next time if it is written after the wipe, so the wipe comes before the pages are read. Pages that
/// are written between the look at their marks and the wipe are missed, unless they are written again: the look is short.
///
/// # Errors
/// As [`each_run`], and when the marks can't be wiped.
pub fn each_marked_run(pid: i32, mut each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut memory = Memory::of(pid)?;
    let mut marked = Vec::new();
    find(
        pid,
        |entry| is_own(entry) && dirty::is_marked(entry),
        |address, pages| {
            marked.push((address, pages));
            Ok(())
        },
    )?;
    dirty::wipe(pid)?;
    let mut read = 0;
    for (address, pages) in marked {
        read += memory.read(address, pages, &mut each)?;
    }
    Ok(read)
}

/// Finds the runs of pages whose entries are wanted, of at most [`PIECE`] bytes: where each begins, and how many pages it has.
fn find(
    pid: i32,
    wanted: impl Fn(u64) -> bool,
    mut each: impl FnMut(u64, usize) -> io::Result<()>,
) -> io::Result<()> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
    let mut entries = vec![0; ENTRIES * 8];
    for (start, end) in maps.lines().filter_map(area) {
        let mut at = start;
        while at < end {
            let length = entries.len().min(((end - at) / PAGE * 8) as usize);
            let Ok(read) = pagemap.read_at(&mut entries[..length], at / PAGE * 8) else { break };
            let entry = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
            let found: Vec<bool> =
                entries[..read].chunks_exact(8).map(|bytes| wanted(entry(bytes))).collect();
            if found.is_empty() {
                break;
            }
            for (first, count) in runs(&found, PIECE / PAGE as usize) {
                each(at + first as u64 * PAGE, count)?;
            }
            at += found.len() as u64 * PAGE;
        }
    }
    Ok(())
}

/// The memory of a process, and room for a piece of it.
struct Memory {
    file: File,
    buffer: Vec<u8>,
}

impl Memory {
    fn of(pid: i32) -> io::Result<Self> {
        Ok(Self { file: File::open(format!("/proc/{pid}/mem"))?, buffer: vec![0; PIECE] })
    }

    /// Hands on a run of pages, if it is still there; gives how many were read.
    fn read(
        &mut self,
        address: u64,
        pages: usize,
        each: &mut impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<u64> {
        let piece = &mut self.buffer[..pages * PAGE as usize];
        if self.file.read_exact_at(piece, address).is_err() {
            return Ok(0);
        }
        each(address, piece)?;
        Ok(pages as u64)
    }
}

/// Where an area of a process begins and ends, if pages of it may be its own.
fn area(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let private = words.next()?.ends_with('p');
    // The kernel's own pages, which every process sees.
    let kernels = matches!(words.nth(3), Some("[vvar]" | "[vvar_vclock]" | "[vdso]" | "[vsyscall]"));
    (private && !kernels && end <= ADDRESSES && end - start <= LARGEST_AREA).then_some((start, end))
}

fn is_own(entry: u64) -> bool {
    entry & (bit::PRESENT | bit::SWAPPED) != 0 && entry & bit::OF_FILE_OR_SHARED == 0
}

/// Runs of what is marked, of at most so many: where each begins, and how many they are.
fn runs(marked: &[bool], most: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += marked[at..].iter().position(|marked| *marked)?;
        let first = at;
        let count = marked[at..].iter().take(most).take_while(|marked| **marked).count();
        at += count;
        Some((first, count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_of_ones_own_are_told_from_others() {
        let heap = "55d0c8e2f000-55d0c8e50000 rw-p 00000000 00:00 0                          [heap]";
        assert_eq!(area(heap), Some((0x55d0_c8e2_f000, 0x55d0_c8e5_0000)));
        assert_eq!(area("7f0000000000-7f0000001000 rw-s 00000000 00:01 9 /dev/zero (deleted)"), None);
        assert_eq!(area("7ffd1f5f2000-7ffd1f5f6000 r--p 00000000 00:00 0 [vvar]"), None);
        let reserved = "10000000000-20000000000 ---p 00000000 00:00 0";
        assert_eq!(area(reserved), None);
        assert_eq!(area("nonsense"), None);
    }

    #[test]
    fn only_pages_of_ones_own_are_read() {
        assert!(is_own(bit::PRESENT) && is_own(bit::SWAPPED | 1 << 55));
        assert!(!is_own(1 << 55) && !is_own(bit::PRESENT | bit::OF_FILE_OR_SHARED));
    }

    /// A process writes one byte after a wipe: where the kernel keeps marks that page is read, and most others are not.
    #[test]
    fn what_was_written_since_bears_a_mark() {
        use std::io::{BufRead as _, Write as _};
        use std::process::{Command, Stdio};
        // The first write makes the memory its own, so that the second does not copy it.
        let script = "my $m = chr(7) x (4 << 20); substr($m, 0, 1) = chr(7); $| = 1; print qq(up\n); <STDIN>; \
                      substr($m, 2 << 20, 1) = chr(8); print qq(done\n); <STDIN>;";
        let mut command = Command::new("perl");
        command.args(["-e", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("perl");
        let pid = i32::try_from(child.id()).unwrap();
        let (mut to, mut from) =
            (child.stdin.take().unwrap(), std::io::BufReader::new(child.stdout.take().unwrap()));
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        dirty::wipe(pid).unwrap();
        let all = each_run(pid, |_, _| Ok(())).unwrap();
        to.write_all(b"\n").unwrap();
        from.read_line(&mut line).unwrap();
        let mut eights = 0;
        let marked = each_marked_run(pid, |_, piece| {
            eights += piece.windows(3).filter(|bytes| *bytes == [7, 8, 7]).count();
            Ok(())
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let marked = marked.unwrap();
        assert!(all >= 1024, "{all}");
        if dirty::are_kept() {
            assert!(marked > 0 && marked < all / 4 && eights == 1, "{marked} of {all}, {eights}");
        } else {
            assert_eq!(marked, 0, "a kernel without marks shows none");
        }
    }

    #[test]
    fn runs_are_cut_where_they_are_too_long() {
        let marked = [true, true, true, false, true, false, false, true];
        assert_eq!(runs(&marked, 2).collect::<Vec<_>>(), [(0, 2), (2, 1), (4, 1), (7, 1)]);
        assert_eq!(runs(&[false], 2).count(), 0);
    }

    #[test]
    fn what_a_process_writes_is_read() {
        let mut mine = vec![0_u8; 3 << 20];
        for (at, byte) in mine.iter_mut().enumerate() {
            *byte = (at % 251) as u8;
        }
        let (from, length) = (mine.as_ptr() as u64, mine.len() as u64);
        let mut right = 0;
        let pid = i32::try_from(std::process::id()).unwrap();
        let read = each_run(pid, |address, piece| {
            for (at, page) in (address..).step_by(PAGE as usize).zip(piece.chunks_exact(PAGE as usize)) {
                // Whole pages of it: at its ends others may write.
                if at >= from && at + PAGE <= from + length {
                    let offset = (at - from) as usize;
                    assert_eq!(page, &mine[offset..offset + page.len()]);
                    right += 1;
                }
            }
            Ok(())
        })
        .unwrap();
        assert!(right >= (length / PAGE) - 1 && read >= right, "{right} of {read}");
    }
}
