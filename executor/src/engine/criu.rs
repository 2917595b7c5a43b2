//! CRIU's settings for a restore that stays held, and what its logs say.

use std::io;
use std::path::{Path, PathBuf};

/// Folder of the per-container settings. `runc` hands the file that the annotation names to CRIU.
pub const SETTINGS: &str = "/run/sterna/criu";

/// The annotation by which `runc` finds the settings of one container.
pub const ANNOTATION: &str = "org.criu.config";

/// Settings of every dump and restore on a node.
///
/// Established connections are restored closed: the peer's next packet is answered with a reset and it connects anew. Keeping
/// them would need the same inner address at both ends. The network is not locked for the dump: the service stands frozen.
/// Connections that the service has not accepted yet are left behind in the same way; without that word one client that
/// connects at the wrong moment makes the dump fail.
///
/// Files that are open but deleted go with the memory image, up to 1 GiB each instead of CRIU's 1 MiB. One that still has
/// another name can't be moved: CRIU's `link-remap` gives it a third name, but takes that away again at the end of the dump,
/// before the files are sent, because the source is to stay whole.
pub const ALWAYS: &str = "tcp-close\nskip-in-flight\nghost-limit 1G\n";

/// Settings of a restore: every process is left stopped, so that nothing runs before the commit.
pub const HELD: &str = "tcp-close\nskip-in-flight\nghost-limit 1G\nleave-stopped\n";

/// What CRIU calls an error and then does without: it asks for more open files than it is allowed, in case it needs them.
const HARMLESS: &str = "rlimit: Can't setup RLIMIT_NOFILE for self";

/// The settings file of one container.
pub fn settings_path(name: &str) -> PathBuf {
    Path::new(SETTINGS).join(format!("{name}.conf"))
}

/// Writes the settings of one container.
///
/// # Errors
/// When the file can't be written.
pub fn write_settings(name: &str, settings: &str) -> io::Result<()> {
    std::fs::create_dir_all(SETTINGS)?;
    std::fs::write(settings_path(name), settings)
}

/// Writes the settings that hold for all containers without a file of their own.
///
/// # Errors
/// When the file can't be written.
pub fn write_node_settings() -> io::Result<()> {
    std::fs::create_dir_all(SETTINGS)?;
    std::fs::create_dir_all("/etc/criu")?;
    std::fs::write("/etc/criu/runc.conf", ALWAYS)
}

/// The lines of a CRIU log that tell what went wrong: its errors, else its last lines.
pub fn diagnosis(log: &Path) -> String {
    let Ok(text) = std::fs::read(log) else {
        return format!("no CRIU log at {}", log.display());
    };
    let text = String::from_utf8_lossy(&text);
    let errors: Vec<&str> =
        text.lines().filter(|line| line.contains("Error") && !line.contains(HARMLESS)).collect();
    let lines: Vec<&str> = if errors.is_empty() {
        text.lines().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect()
    } else {
        errors.into_iter().take(5).collect()
    };
    lines.join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_restore_differs_only_in_being_held() {
        assert_eq!(HELD, format!("{ALWAYS}leave-stopped\n"));
    }

    #[test]
    fn the_errors_of_a_log_are_its_diagnosis() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("dump.log");
        std::fs::write(
            &log,
            "(00.1) fine\n(00.1) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: \
            Operation not permitted\n(00.2) Error (criu/tty.c:1): tty: broken\n(00.3) bye\n",
        )
        .unwrap();
        assert_eq!(diagnosis(&log), "(00.2) Error (criu/tty.c:1): tty: broken");
        std::fs::write(&log, "a\nb\nc\nd\n").unwrap();
        assert_eq!(diagnosis(&log), "b | c | d");
        assert!(diagnosis(&folder.path().join("none")).contains("no CRIU log"));
    }
}
