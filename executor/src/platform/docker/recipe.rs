//! The recipe of a node: what `deploy/node/` holds, as part of the binary, and the hashes that images are named by.

use std::path::Path;

/// Debian packages of a node and the least versions that will do.
pub const PACKAGES: &str = include_str!("../../../../deploy/node/packages");
/// Makes the root file system.
pub const ROOTFS: &str = include_str!("../../../../deploy/node/rootfs");
/// Runs the node.
pub const BOOT: &str = include_str!("../../../../deploy/node/boot");
/// Configures the nested engine.
pub const DAEMON: &str = include_str!("../../../../deploy/node/daemon.json");
/// The Debian suite: the first that brings Docker 28, runc 1.3 and CRIU 4.2.
pub const SUITE: &str = "forky";

/// Length of the hashes that images are named by, in hexadecimal digits.
const DIGITS: usize = 16;

/// Names the root file system: changes when anything changes that it is made from.
pub fn base_hash() -> String {
    hash([SUITE, std::env::consts::ARCH, PACKAGES, ROOTFS].map(str::as_bytes))
}

/// Names the node image: the root file system, what is laid over it, and the binary at `binary`.
///
/// # Errors
/// When the binary can't be read.
pub fn node_hash(binary: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(binary)?)?;
    let content = hasher.finalize();
    Ok(hash([base_hash().as_bytes(), BOOT.as_bytes(), DAEMON.as_bytes(), content.as_bytes()]))
}

/// Each part goes in with its length, so that no text can move from one into the next unseen.
fn hash<const N: usize>(parts: [&[u8]; N]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut text = hasher.finalize().to_hex().to_string();
    text.truncate(DIGITS);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(hash([b"ab", b"c"]), hash([b"a", b"bc"]));
        assert_ne!(hash([b"ab", b""]), hash([b"", b"ab"]));
        assert_eq!(hash([b"ab", b"c"]), hash([b"ab", b"c"]));
        assert_eq!(hash([b"a"]).len(), DIGITS);
    }

    #[test]
    fn another_binary_makes_another_image() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("sterna");
        std::fs::write(&binary, "one").unwrap();
        let one = node_hash(&binary).unwrap();
        assert_eq!(node_hash(&binary).unwrap(), one);
        std::fs::write(&binary, "two").unwrap();
        assert_ne!(node_hash(&binary).unwrap(), one);
        assert_ne!(one, base_hash());
    }

    #[test]
    fn the_nested_engine_opens_no_tcp_port_and_maps_users() {
        let daemon: serde_json::Value = serde_json::from_str(DAEMON).unwrap();
        assert_eq!(daemon["hosts"], serde_json::json!(["unix:///var/run/docker.sock"]));
        assert_eq!(daemon["userns-remap"], "default");
        assert_eq!(daemon["default-runtime"], "sterna");
        // Without it, an engine that dies takes every service with it, frozen ones too.
        assert_eq!(daemon["live-restore"], true);
        assert_eq!(daemon["runtimes"]["sterna"]["path"], "/usr/bin/sterna-shim");
    }
}
