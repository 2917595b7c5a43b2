//! The node image: the root file system, and over it a thin layer with this very binary as agent and runtime shim.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use bollard::Docker;
use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptionsBuilder,
    ListImagesOptionsBuilder, RemoveImageOptions, UploadToContainerOptionsBuilder,
};
use futures_util::TryStreamExt;
use tokio_util::io::ReaderStream;

use super::engine::{is_absent, is_conflict, remove};
use super::{CALL_LABEL, PlatformError, recipe};
use crate::platform::step::Step;

const BASE: &str = "sterna-node-base";
const NODE: &str = "sterna-node";
/// The container that an image is made from; one at a time, since the cache is locked meanwhile.
const DRAFT: &str = "sterna-node-draft";

/// Where things lie on a node.
const BINARY: &str = "usr/bin/sterna";
const SHIM: &str = "usr/bin/sterna-shim";
const BOOT: &str = "usr/lib/sterna/boot";
const DAEMON: &str = "etc/docker/daemon.json";

/// The image's command that readies and runs a node.
pub fn boot() -> Vec<String> {
    ["/usr/bin/tini", "--", &format!("/{BOOT}")].map(str::to_owned).to_vec()
}

/// The command of a node that is a pod.
pub fn boot_pod() -> Vec<String> {
    [boot(), vec!["pod".to_owned()]].concat()
}

/// The command that ends every frozen service on a node.
pub fn thaw() -> [String; 2] {
    [format!("/{BOOT}"), "thaw".to_owned()]
}

/// Name and tag of the node image with `binary` in it.
pub fn name(binary: &Path) -> Result<String, PlatformError> {
    let hash = recipe::node_hash(binary)
        .map_err(|source| PlatformError::File { path: binary.to_owned(), source })?;
    Ok(format!("{NODE}:{hash}"))
}

/// Name and tag of the image that holds the root file system alone.
pub fn base_name() -> String {
    format!("{BASE}:{}", recipe::base_hash())
}

/// Whether the engine has an image.
pub async fn exists(docker: &Docker, name: &str) -> Result<bool, PlatformError> {
    match docker.inspect_image(name).await {
        Ok(_) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(PlatformError::engine(format!("looking for image {name}"))(error)),
    }
}

/// Gives a root file system to the engine, as a stream.
pub async fn import(docker: &Docker, rootfs: &Path) -> Result<(), PlatformError> {
    let file = tokio::fs::File::open(rootfs)
        .await
        .map_err(|source| PlatformError::File { path: rootfs.to_owned(), source })?;
    let options =
        CreateImageOptionsBuilder::default().from_src("-").repo(BASE).tag(&recipe::base_hash()).build();
    let body = bollard::body_try_stream(ReaderStream::new(file));
    docker
        .create_image(Some(options), Some(body), None)
        .try_collect::<Vec<_>>()
        .await
        .map_err(PlatformError::engine("importing the root file system"))?;
    Ok(())
}

/// Lays the binary and what runs it over the root file system.
pub async fn lay(
    docker: &Docker,
    binary: &Path,
    name: &str,
    call: &str,
    on: &mut (dyn FnMut(Step) + Send),
) -> Result<(), PlatformError> {
    let failed = |source| PlatformError::File { path: binary.to_owned(), source };
    on(Step::MakingImage(name.to_owned()));
    let (stripped, note) = strip(binary).await;
    if let Some(note) = note {
        on(Step::Note(note));
    }
    let content = stripped.as_ref().map_or(binary, |file| file.path()).to_owned();
    let layer = tokio::task::spawn_blocking(move || layer(&content))
        .await
        .map_err(|error| failed(std::io::Error::other(error)))?
        .map_err(failed)?;

    remove(docker, DRAFT).await?;
    let body = ContainerCreateBody {
        image: Some(base_name()),
        cmd: Some(boot()),
        labels: Some([(CALL_LABEL.to_owned(), call.to_owned())].into()),
        ..Default::default()
    };
    let engine = || PlatformError::engine(format!("making image {name}"));
    let create = CreateContainerOptionsBuilder::default().name(DRAFT).build();
    docker.create_container(Some(create), body).await.map_err(engine())?;
    let upload = UploadToContainerOptionsBuilder::default().path("/").build();
    let stream = ReaderStream::new(tokio::fs::File::from_std(layer));
    docker
        .upload_to_container(DRAFT, Some(upload), bollard::body_try_stream(stream))
        .await
        .map_err(engine())?;
    let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
    let commit = CommitContainerOptionsBuilder::default().container(DRAFT).repo(repository).tag(tag).build();
    docker
        .commit_container(commit, ContainerConfig { cmd: Some(boot()), ..Default::default() })
        .await
        .map_err(engine())?;
    remove(docker, DRAFT).await
}

/// Removes node images of other recipes and other binaries that no container uses.
pub async fn remove_others(docker: &Docker, current: &str) -> Result<(), PlatformError> {
    let base = base_name();
    // Nodes before bases: an image can't go while another stands on it.
    for repository in [NODE, BASE] {
        let filters = std::collections::HashMap::from([("reference", vec![repository])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let images =
            docker.list_images(Some(options)).await.map_err(PlatformError::engine("listing images"))?;
        for tag in images.into_iter().flat_map(|image| image.repo_tags) {
            if tag == current || tag == base {
                continue;
            }
            match docker.remove_image(&tag, None::<RemoveImageOptions>, None).await {
                Err(error) if !is_absent(&error) && !is_conflict(&error) => {
                    return Err(PlatformError::engine(format!("removing image {tag}"))(error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// A copy of the binary without debug information, which is most of a development build; or why there is none.
pub async fn strip(binary: &Path) -> (Option<tempfile::NamedTempFile>, Option<String>) {
    let Ok(copy) = tempfile::NamedTempFile::new() else { return (None, None) };
    let status = tokio::process::Command::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .arg(copy.path())
        .arg(binary)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    match status {
        Ok(status) if status.success() => (Some(copy), None),
        Ok(status) => {
            (None, Some(format!("strip failed ({status}), so the node image holds the binary as it is")))
        }
        Err(_) => {
            (None, Some("strip is not installed, so the node image holds the binary as it is".to_owned()))
        }
    }
}

/// The layer as a tar file that has no name any more, at its beginning.
pub fn layer(binary: &Path) -> std::io::Result<std::fs::File> {
    let mut tar = tar::Builder::new(tempfile::tempfile()?);
    append_layer(&mut tar, binary)?;
    let mut file = tar.into_inner()?;
    std::io::Seek::rewind(&mut file)?;
    Ok(file)
}

/// Appends what lies over the root file system of every node: the binary as agent and shim, and what runs it.
pub fn append_layer<W: std::io::Write>(tar: &mut tar::Builder<W>, binary: &Path) -> std::io::Result<()> {
    let mut file = std::fs::File::open(binary)?;
    let mut header = plain_header(file.metadata()?.len(), 0o755);
    tar.append_data(&mut header, BINARY, &mut file)?;
    let mut link = plain_header(0, 0o777);
    link.set_entry_type(tar::EntryType::Symlink);
    tar.append_link(&mut link, SHIM, "sterna")?;
    for (path, mode, content) in [(BOOT, 0o755, recipe::BOOT), (DAEMON, 0o644, recipe::DAEMON)] {
        for folder in folders(Path::new(path)) {
            append_folder(tar, &folder, 0o755)?;
        }
        tar.append_data(&mut plain_header(content.len() as u64, mode), path, content.as_bytes())?;
    }
    Ok(())
}

/// A tar header for root's file.
pub fn plain_header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Appends root's folder.
pub fn append_folder<W: std::io::Write>(
    tar: &mut tar::Builder<W>,
    path: &Path,
    mode: u32,
) -> std::io::Result<()> {
    let mut header = plain_header(0, mode);
    header.set_entry_type(tar::EntryType::Directory);
    tar.append_data(&mut header, path, std::io::empty())
}

/// The folders above a file, outermost first, without those that every system has.
fn folders(path: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<_> = path
        .ancestors()
        .skip(1)
        .filter(|folder| folder.components().count() > 1 && *folder != Path::new("usr/lib"))
        .map(Path::to_owned)
        .collect();
    folders.reverse();
    folders
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_layer_holds_the_binary_as_agent_and_shim() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("anything");
        std::fs::write(&binary, "elf").unwrap();
        let mut archive = tar::Archive::new(layer(&binary).unwrap());
        let entries: BTreeMap<String, (u32, String)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                let link = entry.link_name().unwrap().map(|link| link.display().to_string());
                let mut content = String::new();
                std::io::Read::read_to_string(&mut entry, &mut content).unwrap();
                (path, (entry.header().mode().unwrap(), link.unwrap_or(content)))
            })
            .collect();
        assert_eq!(entries["usr/bin/sterna"], (0o755, "elf".to_owned()));
        assert_eq!(entries["usr/bin/sterna-shim"], (0o777, "sterna".to_owned()));
        assert_eq!(entries["usr/lib/sterna/boot"], (0o755, recipe::BOOT.to_owned()));
        assert_eq!(entries["etc/docker/daemon.json"], (0o644, recipe::DAEMON.to_owned()));
        assert_eq!(entries.len(), 6, "and two folders: {:?}", entries.keys());
    }
}
