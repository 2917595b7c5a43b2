//! Making a node of a host that is none of ours, a real or a virtual machine: the root file system that local nodes have
//! too, and the files that make it one node of an inventory.

use std::path::{Path, PathBuf};

use sterna_core::continuum::{Continuum, NodeName};
use tokio_util::sync::CancellationToken;

use super::local::Settings;
use super::rootfs::Cache;
use super::{PlatformError, image, node};
use crate::identity::{Authority, Role};
use crate::platform::step::Step;

/// The root file system of nodes as a tar file in the cache; builds it if it isn't there yet, which takes a minute or two.
///
/// # Errors
/// When it can't be built, or `stop` is cancelled.
pub async fn rootfs(
    settings: &Settings,
    stop: &CancellationToken,
    on: &mut (dyn FnMut(Step) + Send),
) -> Result<PathBuf, PlatformError> {
    let cache = stop.run_until_cancelled(Cache::open(&settings.cache, on)).await;
    cache.ok_or(PlatformError::Interrupted)??.rootfs(stop, on).await
}

/// Writes the tar file `out`, readable for its owner alone, to be unpacked at the root of the host that is to be the node
/// `name`: the binary as agent and as runtime shim, what boots them, the settings of engine and agent, and a fresh identity.
/// The agent listens on the port that the inventory says, on every address of the host.
///
/// # Errors
/// When the inventory has no such node or no address for it, or a file can't be read or written.
pub async fn pack(
    continuum: &Continuum,
    name: &NodeName,
    authority: &Authority,
    settings: &Settings,
    out: &Path,
    on: &mut (dyn FnMut(Step) + Send),
) -> Result<(), PlatformError> {
    let unknown = || PlatformError::UnknownNode {
        node: name.clone(),
        known: continuum.nodes.keys().map(NodeName::as_str).collect::<Vec<_>>().join(", "),
    };
    let node = continuum.nodes.get(name).ok_or_else(unknown)?;
    let port = node.agent.as_deref().and_then(|address| address.rsplit_once(':')?.1.parse().ok());
    let port: u16 = port.ok_or_else(|| PlatformError::NoAddress { node: name.clone() })?;
    let credentials = authority.issue(&Role::Agent(name.clone()))?;
    let (stripped, note) = image::strip(&settings.binary).await;
    if let Some(note) = note {
        on(Step::Note(note));
    }
    let binary = stripped.as_ref().map_or(settings.binary.as_path(), |file| file.path());
    let write = || {
        // It holds a private key.
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut tar = tar::Builder::new(options.write(true).create_new(true).open(out)?);
        image::append_layer(&mut tar, binary)?;
        node::append_files(&mut tar, name, node, port, &credentials)?;
        tar.into_inner()?.sync_all()
    };
    write().map_err(|source| PlatformError::File { path: out.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sterna_core::continuum::inventory;

    use super::*;

    const INVENTORY: &str = r#"
        schema_version = 1
        name = "hosts"
        [[site]]
        name = "a"
        tier = "edge"
        region = "eu"
        price = { node = "0.1USD/h" }
        power = { idle = "5W", full = "20W" }
        node = [
            { name = "far", cpu = "1", memory = "1GiB", agent = "192.0.2.7:7500" },
            { name = "here", cpu = "1", memory = "1GiB" },
        ]
    "#;

    #[tokio::test]
    async fn what_is_packed_makes_a_host_this_node_and_no_other() {
        let home = tempfile::tempdir().unwrap();
        let continuum = inventory::load("i.toml", INVENTORY).unwrap().value;
        let authority = Authority::open(&home.path().join("authority")).unwrap();
        let binary = home.path().join("sterna");
        std::fs::write(&binary, "no ELF, so nothing is stripped").unwrap();
        let settings = Settings { cache: home.path().join("cache"), binary };
        let out = home.path().join("far.tar");
        pack(&continuum, &"far".into(), &authority, &settings, &out, &mut |_| {}).await.unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&out).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let mut archive = tar::Archive::new(std::fs::File::open(&out).unwrap());
        let mut found = BTreeSet::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            if path.ends_with("agent.toml") {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
                assert!(text.contains("node = \"far\"") && text.contains("0.0.0.0:7500"), "{text}");
            }
            found.insert(path);
        }
        for path in ["usr/bin/sterna", "usr/bin/sterna-shim", "usr/lib/sterna/boot", "etc/docker/daemon.json"]
            .into_iter()
            .chain(["etc/sterna/identity/key.pem", "etc/sterna/identity/cert.pem"])
        {
            assert!(found.contains(path), "{path}: {found:?}");
        }
        // A second identity would make the first one's host a stranger to nobody's knowledge.
        let again = pack(&continuum, &"far".into(), &authority, &settings, &out, &mut |_| {}).await;
        assert!(matches!(again, Err(PlatformError::File { .. })), "{again:?}");
    }

    #[tokio::test]
    async fn a_local_node_is_not_packed_and_an_unknown_one_neither() {
        let home = tempfile::tempdir().unwrap();
        let continuum = inventory::load("i.toml", INVENTORY).unwrap().value;
        let authority = Authority::open(&home.path().join("authority")).unwrap();
        let settings = Settings { cache: home.path().into(), binary: home.path().join("none") };
        let out = home.path().join("out.tar");
        let here = pack(&continuum, &"here".into(), &authority, &settings, &out, &mut |_| {}).await;
        assert!(matches!(here, Err(PlatformError::NoAddress { .. })), "{here:?}");
        let nobody = pack(&continuum, &"nobody".into(), &authority, &settings, &out, &mut |_| {}).await;
        assert!(nobody.unwrap_err().to_string().contains("it has: far, here"));
        assert!(!out.exists());
    }
}
