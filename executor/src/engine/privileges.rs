//! Whether a service's first process gave up its privileges by itself.
//!
//! The kernel guards such a process (`PR_SET_DUMPABLE` in prctl(2)): only who has power over the user namespace that its
//! memory was made in may look at it. A restore makes memory anew, in the node's user namespace; CRIU, at the next dump,
//! looks from within the service's. So a service of that kind can be moved once and then never again.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Whether the first process of a service runs in a user namespace of its own and is guarded.
///
/// # Errors
/// When it is gone or `/proc` can't be read.
pub fn given_up(first: i32) -> io::Result<bool> {
    let own = Path::new("/proc").join(first.to_string());
    if std::fs::read_link(own.join("ns/user"))? == std::fs::read_link("/proc/self/ns/user")? {
        return Ok(false);
    }
    let status = own.join("status");
    Ok(is_guarded(&std::fs::read_to_string(&status)?, std::fs::metadata(&status)?.uid()))
}

/// The files of a guarded process belong to root, those of any other to its effective user.
fn is_guarded(status: &str, owner: u32) -> bool {
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let effective =
        users.and_then(|users| users.split_whitespace().nth(1)).and_then(|user| user.parse().ok());
    effective.is_some_and(|user: u32| user != owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_in_our_own_namespace_is_not_meant() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(!given_up(me).unwrap());
        assert!(given_up(i32::MAX).is_err());
    }

    #[test]
    fn files_of_another_than_the_effective_user_show_the_guard() {
        let status = "Name:\tmemcached\nUid:\t165533\t165534\t165533\t165533\n";
        assert!(is_guarded(status, 100_000));
        assert!(is_guarded(status, 0));
        assert!(!is_guarded(status, 165_534));
    }
}
