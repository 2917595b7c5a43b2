//! The node image as a file, for engines that are not the host's: what `docker save` writes, which needs no engine to be made.
//!
//! The layers are the root file system as it lies in the cache, and the binary with what runs it.

use std::io::{Read, Seek, Write};
use std::path::Path;

use ring::digest::{Context, SHA256};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::PlatformError;
use super::image::{self, boot, plain_header};
use super::local::Settings;
use super::rootfs::Cache;
use crate::platform::step::Step;

/// What is read and hashed at once.
const PIECE: usize = 1 << 20;

/// Writes the node image to the new file `out`; gives its name. Builds the root file system where that was never done, which takes
/// a minute or two.
///
/// # Errors
/// When the root file system can't be built, a file can't be read or written, or `stop` is cancelled; then no file is left.
pub async fn write(
    settings: &Settings,
    out: &Path,
    stop: &CancellationToken,
    on: &mut (dyn FnMut(Step) + Send),
) -> Result<String, PlatformError> {
    let cache = stop.run_until_cancelled(Cache::open(&settings.cache, on)).await;
    // Held until the end, so that nobody removes the root file system meanwhile.
    let cache = cache.ok_or(PlatformError::Interrupted)??;
    let rootfs = cache.rootfs(stop, on).await?;
    let name = settings.image()?;
    on(Step::MakingImage(name.clone()));
    let (stripped, note) = image::strip(&settings.binary).await;
    if let Some(note) = note {
        on(Step::Note(note));
    }
    let binary = stripped.as_ref().map_or(settings.binary.as_path(), |file| file.path()).to_owned();
    let (file, tag, cancelled) = (out.to_owned(), name.clone(), stop.clone());
    let written =
        tokio::task::spawn_blocking(move || to_file(&file, &tag, &rootfs, &binary, &cancelled)).await;
    let failed = |source| PlatformError::File { path: out.to_owned(), source };
    match written.map_err(|error| failed(std::io::Error::other(error)))? {
        Ok(()) => Ok(name),
        Err(error) if error.get_ref().is_some_and(|inner| inner.is::<Stopped>()) => {
            Err(PlatformError::Interrupted)
        }
        Err(error) => Err(failed(error)),
    }
}

fn to_file(
    out: &Path,
    name: &str,
    rootfs: &Path,
    binary: &Path,
    stop: &CancellationToken,
) -> std::io::Result<()> {
    // Beside it and under its name only when it is whole.
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    archive(draft.as_file_mut(), name, &mut std::fs::File::open(rootfs)?, &mut image::layer(binary)?, stop)?;
    draft.as_file().sync_all()?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    draft.as_file().set_permissions(mode)?;
    draft.persist_noclobber(out).map(drop).map_err(|error| error.error)
}

/// Both layers are read twice: their hashes are their names.
fn archive<R: Read + Seek>(
    out: &mut impl Write,
    name: &str,
    base: &mut R,
    over: &mut R,
    stop: &CancellationToken,
) -> std::io::Result<()> {
    let mut layers = Vec::new();
    for layer in [&mut *base, &mut *over] {
        layer.rewind()?;
        layers.push(digest(layer, stop)?);
    }
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Cmd": boot() },
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|(hash, _)| format!("sha256:{hash}")).collect::<Vec<_>>(),
        },
    })
    .to_string();
    let (config_hash, _) = digest(&mut config.as_bytes(), stop)?;
    let files: Vec<String> = layers.iter().map(|(hash, _)| format!("{hash}.tar")).collect();
    let manifest = json!([{ "Config": format!("{config_hash}.json"), "RepoTags": [name], "Layers": &files }])
        .to_string();
    let mut tar = tar::Builder::new(out);
    for (path, text) in [("manifest.json".to_owned(), &manifest), (format!("{config_hash}.json"), &config)] {
        tar.append_data(&mut plain_header(text.len() as u64, 0o644), path, text.as_bytes())?;
    }
    for ((path, (_, length)), layer) in files.iter().zip(&layers).zip([base, over]) {
        layer.rewind()?;
        tar.append_data(&mut plain_header(*length, 0o644), path, Stoppable { inner: layer, stop })?;
    }
    tar.finish()
}

/// SHA-256 in hexadecimal digits, and how much there is.
fn digest(from: &mut impl Read, stop: &CancellationToken) -> std::io::Result<(String, u64)> {
    let (mut context, mut length) = (Context::new(&SHA256), 0);
    let mut piece = vec![0; PIECE];
    let mut from = Stoppable { inner: from, stop };
    loop {
        match from.read(&mut piece)? {
            0 => break,
            read => {
                context.update(&piece[..read]);
                length += read as u64;
            }
        }
    }
    let hash = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((hash, length))
}

/// Reads until it is asked to stop.
struct Stoppable<'a, R> {
    inner: &'a mut R,
    stop: &'a CancellationToken,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.stop.is_cancelled() {
            // Not `Interrupted`: readers take that for a reason to try again.
            return Err(std::io::Error::other(Stopped));
        }
        self.inner.read(into)
    }
}

/// Whoever asked for it has gone.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
struct Stopped;

/// This machine's architecture as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Cursor;

    use super::*;

    #[test]
    fn the_archive_names_its_layers_by_what_they_hold() {
        let (mut base, mut over) = (Cursor::new(b"base".to_vec()), Cursor::new(b"over it".to_vec()));
        let mut out = Vec::new();
        archive(&mut out, "sterna-node:1", &mut base, &mut over, &CancellationToken::new()).unwrap();
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(out.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            files.insert(path, content);
        }
        let manifest: serde_json::Value = serde_json::from_str(&files["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "sterna-node:1");
        let config: serde_json::Value =
            serde_json::from_str(&files[manifest[0]["Config"].as_str().unwrap()]).unwrap();
        assert_eq!(config["config"]["Cmd"][0], "/usr/bin/tini");
        for (at, content) in ["base", "over it"].into_iter().enumerate() {
            let file = manifest[0]["Layers"][at].as_str().unwrap();
            assert_eq!(files[file], content);
            assert_eq!(config["rootfs"]["diff_ids"][at], format!("sha256:{}", file.trim_end_matches(".tar")));
        }
        // As sha256sum has it.
        let known = "cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2.tar";
        assert_eq!(manifest[0]["Layers"][0], known);
        assert_eq!(files.len(), 4);
    }

    #[test]
    fn one_that_is_stopped_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let (rootfs, binary) = (folder.path().join("rootfs"), folder.path().join("binary"));
        std::fs::write(&rootfs, "rootfs").unwrap();
        std::fs::write(&binary, "binary").unwrap();
        let (out, stop) = (folder.path().join("out"), CancellationToken::new());
        to_file(&out, "n:1", &rootfs, &binary, &stop).unwrap();
        // Nor is one written over that is there.
        assert_eq!(
            to_file(&out, "n:1", &rootfs, &binary, &stop).unwrap_err().kind(),
            std::io::ErrorKind::AlreadyExists
        );
        stop.cancel();
        let other = folder.path().join("other");
        let error = to_file(&other, "n:1", &rootfs, &binary, &stop).unwrap_err();
        assert!(error.get_ref().is_some_and(|inner| inner.is::<Stopped>()), "{error:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
