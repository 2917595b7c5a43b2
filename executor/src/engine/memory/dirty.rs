//! The kernel's marks on pages that were written since they were last wiped: soft-dirty bits. Source: Linux,
//! `Documentation/admin-guide/mm/soft-dirty.rst`.
//!
//! Not every kernel keeps them, and none says so: it is tried. Wiping is for a whole process, and it costs the process one
//! page fault for each page that it writes next. Who else reads the marks of a process misses what was wiped, so those of a
//! service that wipes marks itself (a garbage collector may) are left alone.

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::OnceLock;

use crate::engine::criu::pagemap::PAGE;

/// The mark in the kernel's entry of a page. Areas that are new bear it on all of their pages.
const MARK: u64 = 1 << 55;
/// What wipes the marks of a process when it is written to its [`WIPER`].
const WIPE: &[u8] = b"4";
/// The file in a process's folder that takes [`WIPE`].
const WIPER: &str = "clear_refs";
/// Two pages so far apart are never part of the same huge page, which has one mark for all of it.
const APART: usize = 4 << 20;

/// Whether the kernel's entry of a page bears the mark.
pub(super) const fn is_marked(entry: u64) -> bool {
    entry & MARK != 0
}

/// Whether this kernel keeps marks, found out once.
pub fn are_kept() -> bool {
    static KEPT: OnceLock<bool> = OnceLock::new();
    *KEPT.get_or_init(|| {
        let kept = try_on_ourselves();
        tracing::debug!(?kept, "does the kernel mark pages that are written?");
        kept.unwrap_or(false)
    })
}

/// Of two pages that are there, one is written after a wipe: it alone must bear the mark.
fn try_on_ourselves() -> io::Result<bool> {
    let own = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    let pagemap = File::open("/proc/self/pagemap")?;
    let mut area = vec![0_u8; APART + 2 * PAGE as usize];
    let address = area.as_ptr() as u64;
    let first = (address.next_multiple_of(PAGE) - address) as usize;
    let marked = |at: usize| -> io::Result<bool> {
        let mut entry = [0; 8];
        pagemap.read_exact_at(&mut entry, (address + at as u64) / PAGE * 8)?;
        Ok(is_marked(u64::from_le_bytes(entry)))
    };
    let (written, untouched) = (first, first + APART);
    for at in [written, untouched] {
        area[at] = 1;
    }
    black_box(&mut area);
    wipe(own)?;
    if marked(written)? || marked(untouched)? {
        return Ok(false);
    }
    area[written] = 2;
    black_box(&mut area);
    Ok(marked(written)? && !marked(untouched)?)
}

/// Wipes the marks of a process.
///
/// # Errors
/// When it is gone or the kernel refuses.
pub fn wipe(pid: i32) -> io::Result<()> {
    std::fs::write(format!("/proc/{pid}/{WIPER}"), WIPE)
}

/// Whether a process holds a file open by which it can wipe marks, be it its own: then it may rely on them.
pub fn are_wiped_by(pid: i32) -> bool {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.into_iter().filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|to| wipes(&to))
}

fn wipes(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == WIPER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_one_bit_of_an_entry() {
        assert!(is_marked(0x8080_0000_0000_0000) && !is_marked(!(1 << 55)));
    }

    /// Whatever the kernel can do, it is asked without an error, and always says the same.
    #[test]
    fn a_kernel_keeps_marks_or_does_not() {
        let kept = try_on_ourselves().unwrap();
        assert_eq!(try_on_ourselves().unwrap(), kept);
    }

    #[test]
    fn a_process_that_can_wipe_marks_is_known() {
        let own = i32::try_from(std::process::id()).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let other = i32::try_from(child.id()).unwrap();
        let open = File::options().write(true).open(format!("/proc/{other}/{WIPER}")).unwrap();
        let (we, they) = (are_wiped_by(own), are_wiped_by(other));
        drop(open);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(we && !they);
        assert!(!wipes(Path::new("/proc/1/pagemap")));
    }
}
