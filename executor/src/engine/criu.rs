//! CRIU's settings for a restore that stays held, and what its logs say.
//!
//! | module | what lives there |
//! |---|---|
//! | [`diagnosis`](mod@diagnosis) | errors of CRIU's logs, with cause and remedy |
//! | [`pagemap`] | which pages an image holds, and which are left to the one before it |

use std::io;
use std::path::{Path, PathBuf};

use sterna_policies::quantity::Bytes;

use self::diagnosis::Diagnosis;

pub mod diagnosis;
pub mod pagemap;

/// Folder of the per-container settings. `runc` hands the file that the annotation names to CRIU.
pub const SETTINGS: &str = "/run/sterna/criu";

/// The link in an image's folder to the image before it.
pub const PARENT: &str = "parent";

/// The annotation by which `runc` finds the settings of one container.
pub const ANNOTATION: &str = "org.criu.config";

/// Settings of every dump and restore on a node.
///
/// Established connections are restored closed: the peer's next packet is answered with a reset and it connects anew. Keeping
/// them would need the same inner address at both ends. So the network need not be locked for the dump, which would take the
/// kernel 160 ms for a dump and its restore (measured with CRIU 4.2.1, Linux 6.18): the service stands frozen. Connections
/// that the service has not accepted yet are left behind in the same way; without that word one client that connects at the
/// wrong moment makes the dump fail.
///
/// Files that are open but deleted go with the memory image, up to 1 GiB each instead of CRIU's 1 MiB. One that still has
/// another name can't be moved: CRIU's `link-remap` gives it a third name, but takes that away again at the end of the dump,
/// before the files are sent, because the source is to stay whole.
pub const ALWAYS: &str = "tcp-close\nskip-in-flight\nnetwork-lock skip\nghost-limit 1G\n";

/// Settings of a restore: every process is left stopped, so that nothing runs before the commit.
pub const HELD: &str = "tcp-close\nskip-in-flight\nnetwork-lock skip\nghost-limit 1G\nleave-stopped\n";

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

/// What a log of CRIU tells of a dump or restore that failed: cause, remedy and its own words.
pub fn diagnosis(log: &Path) -> String {
    Diagnosis::of_file(log).to_string()
}

/// The largest file, open but deleted, that CRIU takes along: `ghost-limit` of the settings, else CRIU's own 1 MiB.
pub fn ghost_limit() -> Bytes {
    let set = ALWAYS.lines().find_map(|line| line.strip_prefix("ghost-limit "));
    let (number, unit) = set.map_or(("1", "M"), |set| set.split_at(set.len() - 1));
    let shift = match unit {
        "K" => 10,
        "M" => 20,
        _ => 30,
    };
    Bytes(number.parse::<u64>().unwrap_or(1) << shift)
}

/// Whether a file that is open under a deleted name, while another name is left, is carried over.
pub fn links_remapped() -> bool {
    ALWAYS.lines().any(|line| line == "link-remap")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_restore_differs_only_in_being_held() {
        assert_eq!(HELD, format!("{ALWAYS}leave-stopped\n"));
    }

    #[test]
    fn the_precheck_knows_the_settings() {
        assert_eq!(ghost_limit(), Bytes::from_mib(1024));
        assert!(!links_remapped());
    }
}
