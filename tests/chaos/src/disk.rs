//! Disks of the nodes' own, small enough to be filled: files behind loop devices, given to the nodes as their volumes, or mounted
//! where the cluster has the volumes of its pods.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use sterna_e2e::docker::docker;
use tokio::process::Command;

use crate::cluster::Cluster;

/// Room for the engine's images and services: the services' image takes most of a GiB.
const ENGINE: u64 = 3 << 30;
/// Room for the register.
const STATE: u64 = 64 << 20;

/// The disks, in use. When the last user of one is gone (we and the node), the kernel takes it away.
#[derive(Debug)]
pub struct Disks {
    held: Vec<File>,
}

/// Where this program alone sees the disks of nodes that are pods. It has to be there, and gets a tree of our own.
const SEEN: &str = "/mnt";

/// Where this program sees the disk of a node that is a pod.
pub fn seen_at(node: &str) -> PathBuf {
    Path::new(SEEN).join(node)
}

/// Gives this process, and what it starts, mounts of its own, so that they go with it however it ends. Not once it has threads.
///
/// # Errors
/// When the kernel refuses.
pub fn keep_mounts_apart() -> anyhow::Result<()> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("mounts of our own")?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)
        .context("keeping mounts to ourselves")?;
    mount(Some("tmpfs"), SEEN, Some("tmpfs"), MsFlags::empty(), NONE).context(SEEN)
}

impl Disks {
    /// Makes the volumes of these nodes of a continuum, each on a disk of its own, under the names and with the label by which
    /// `sterna sites` knows them as its own.
    ///
    /// # Errors
    /// When there are no loop devices, or we may not use them.
    pub async fn make(continuum: &str, nodes: &[&str]) -> anyhow::Result<Self> {
        let mut disks = Self { held: Vec::new() };
        for node in nodes {
            for (what, size) in [("engine", ENGINE), ("state", STATE)] {
                let device = disks.device(size).await?;
                let name = format!("sterna-{continuum}-{node}-{what}");
                let label = format!("sterna.continuum={continuum}");
                let device = format!("device={device}");
                let arguments =
                    ["volume", "create", "--label", &label, "--opt", "type=ext4", "--opt", &device, &name];
                docker(&arguments).await?;
            }
        }
        Ok(disks)
    }

    /// Makes the volumes that pods of these nodes claim, each on a disk of its own.
    ///
    /// # Errors
    /// As above, and when the cluster does not take them.
    pub async fn make_in(cluster: &Cluster, continuum: &str, nodes: &[&str]) -> anyhow::Result<Self> {
        let mut disks = Self { held: Vec::new() };
        cluster.open_all().await?;
        for node in nodes {
            let device = disks.device(ENGINE + STATE).await?;
            cluster.provide(continuum, node, &device).await?;
            // The register is read there. A path through a process's root would lead SQLite to our own.
            let here = seen_at(node);
            fs::create_dir_all(&here)?;
            // That of a life before.
            let _not_mounted = umount(&here);
            mount(Some(device.as_str()), &here, Some("ext4"), MsFlags::empty(), None::<&str>)
                .with_context(|| here.display().to_string())?;
        }
        Ok(disks)
    }

    async fn device(&mut self, size: u64) -> anyhow::Result<String> {
        let file = tempfile::NamedTempFile::new()?;
        file.as_file().set_len(size)?;
        run("mkfs.ext4", &["-q", "-F"], file.path()).await?;
        let device = run("losetup", &["--find", "--show"], file.path()).await?;
        self.held.push(File::open(&device).with_context(|| device.clone())?);
        // It stays while anyone has it open, and nobody need remember it after that.
        run("losetup", &["--detach"], Path::new(&device)).await?;
        Ok(device)
    }
}

async fn run(program: &str, arguments: &[&str], path: &Path) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).arg(path).output().await;
    let output = output.with_context(|| format!("can't start {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Files that leave no room on their file systems. Dropped, they go.
#[derive(Debug)]
pub struct Full(Vec<PathBuf>);

impl Full {
    /// Fills the file system of each folder.
    ///
    /// # Errors
    /// When a file can't be made.
    pub fn fill(folders: &[PathBuf]) -> anyhow::Result<Self> {
        let mut full = Self(Vec::new());
        for folder in folders {
            let path = folder.join("filled-by-chaos");
            let mut file = File::create(&path).with_context(|| path.display().to_string())?;
            full.0.push(path);
            let mut piece: i64 = 1 << 30;
            let mut at: i64 = 0;
            while piece >= 4096 {
                match nix::fcntl::posix_fallocate(&file, at, piece) {
                    Ok(()) => at += piece,
                    Err(_) => piece /= 2,
                }
            }
            // What fallocate leaves.
            let _full = file.write_at(&[1; 4096], u64::try_from(at)?).and_then(|_written| file.flush());
        }
        Ok(full)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        for path in &self.0 {
            let _gone_with_its_node = fs::remove_file(path);
        }
    }
}
