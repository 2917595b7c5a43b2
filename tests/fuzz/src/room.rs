//! A place of its own for what is fuzzed: mounts that nobody else sees, in which nothing but one folder can be written to.
//!
//! What receives files runs as root and is fed with hostile names. Should a way out of its folder be found, then nothing of
//! the machine is harmed by the finding of it.

use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Where targets may write.
pub fn folder() -> PathBuf {
    FOLDER.get().cloned().unwrap_or_else(std::env::temp_dir)
}

/// Goes into a room in which only `work` can be written to, and [`folder`] in it, which is in memory. For the whole process,
/// which must have no other thread yet.
///
/// # Errors
/// When this process may not make one: it takes root, or user namespaces.
pub fn enter(work: &Path) -> io::Result<()> {
    let said = |what: &str, error: nix::Error| io::Error::other(format!("{what}: {error}"));
    let work = work.canonicalize()?;
    let temporary = work.join("temporary");
    std::fs::create_dir_all(&temporary)?;
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        unshare(CloneFlags::CLONE_NEWNS).map_err(|error| said("no mounts of its own", error))?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
            .map_err(|error| said("no user namespace of its own", error))?;
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    }
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|error| said("mounts can't be kept apart", error))?;
    let others = mounts(&std::fs::read_to_string("/proc/self/mountinfo")?);
    mount(Some(&work), &work, none, MsFlags::MS_BIND, none).map_err(|error| said("its folder", error))?;
    for (place, kept) in others {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | kept;
        match mount(none, &place, none, flags, none) {
            // One that another hides, or that this user can't even come to.
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT | nix::Error::EACCES) => {}
            Err(error) => return Err(said(&format!("{} stays open", place.display()), error)),
        }
    }
    let closed = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), &temporary, Some("tmpfs"), closed, Some("size=512m"))
        .map_err(|error| said("no memory to write in", error))?;
    if std::fs::create_dir("/sterna-fuzz-outside").is_ok() {
        std::fs::remove_dir("/sterna-fuzz-outside")?;
        return Err(io::Error::other("the machine can still be written to"));
    }
    let _first = FOLDER.set(temporary);
    Ok(())
}

/// Places of mounts, each with what must be kept of how it is mounted.
fn mounts(info: &str) -> Vec<(PathBuf, MsFlags)> {
    let read = |line: &str| {
        let mut fields = line.split(' ').skip(4);
        let place = unescape(fields.next()?);
        let kept = fields.next()?.split(',').map(|option| match option {
            "nosuid" => MsFlags::MS_NOSUID,
            "nodev" => MsFlags::MS_NODEV,
            "noexec" => MsFlags::MS_NOEXEC,
            "noatime" => MsFlags::MS_NOATIME,
            "nodiratime" => MsFlags::MS_NODIRATIME,
            "relatime" => MsFlags::MS_RELATIME,
            _ => MsFlags::empty(),
        });
        Some((place, kept.fold(MsFlags::empty(), |all, one| all | one)))
    };
    info.lines().filter_map(read).collect()
}

/// The kernel writes blanks and the like as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let octal = rest.get(1..4).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_as_the_kernel_writes_them() {
        let info = "36 35 98:0 /x /mnt\\040two rw,nosuid,relatime shared:1 - ext4 /dev/x rw\n37 36 0:5 / /proc rw - proc p rw";
        let expected = [
            (PathBuf::from("/mnt two"), MsFlags::MS_NOSUID | MsFlags::MS_RELATIME),
            (PathBuf::from("/proc"), MsFlags::empty()),
        ];
        assert_eq!(mounts(info), expected);
    }
}
