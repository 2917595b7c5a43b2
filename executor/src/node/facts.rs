//! What the node is: the facts that two nodes are compared by before a migration.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use sterna_policies::quantity::Bytes;

use crate::engine::criu::diagnosis::Diagnosis;
use crate::engine::docker::{Engine, EngineError};

use super::api::NodeFacts;
use super::config::AgentConfig;

/// Asks kernel, processor, CRIU, `runc` and the engine.
///
/// # Errors
/// When the engine does not answer. What another part does not tell is empty and then equal to nothing.
pub async fn gather(config: &AgentConfig, engine: &Engine) -> Result<NodeFacts, EngineError> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut cpu_features: Vec<String> = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("flags").or_else(|| line.strip_prefix("Features")))
        .map(|line| line.trim_start_matches([' ', '\t', ':']).split_whitespace().map(str::to_owned).collect())
        .unwrap_or_default();
    cpu_features.sort();
    let make = engine.make().await?;
    Ok(NodeFacts {
        node: config.node.clone(),
        sterna: env!("CARGO_PKG_VERSION").to_owned(),
        engine: engine.version().await?,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cpu_features,
        criu: first_line("criu", &["--version"]),
        runc: first_line("runc", &["--version"]),
        cgroup: cgroup(),
        user_map: user_map(&read("/etc/docker/daemon.json"), &read("/etc/subuid"), &read("/etc/subgid")),
        cpu: config.cpu,
        memory: config.memory,
        staging_free: free(&config.staging),
        staging_in_ram: in_ram(&config.staging),
        memory_free: available(&read("/proc/meminfo")),
        engine_free: free(&make.root),
        storage: make.storage,
        security: make.security,
        criu_trouble: criu_trouble().await,
    })
}

/// Version of the control groups: 1 or 2.
pub fn cgroup() -> u8 {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { 2 } else { 1 }
}

/// What CRIU's own check of the node says. It takes a tenth of a second and what it looks at changes with the kernel only, so
/// it is asked once, and again only where it found something wrong.
async fn criu_trouble() -> Option<String> {
    static FINE: AtomicBool = AtomicBool::new(false);
    if FINE.load(Ordering::Relaxed) {
        return None;
    }
    let trouble = match tokio::process::Command::new("criu").arg("check").output().await {
        Ok(output) if output.status.success() => {
            FINE.store(true, Ordering::Relaxed);
            return None;
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => format!("CRIU can't be run: {error}"),
    };
    Some(Diagnosis::of(&trouble).to_string())
}

/// Memory that can be had without swapping, by the kernel's estimate.
fn available(meminfo: &str) -> Bytes {
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = kib.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Bytes(kib.unwrap_or(0) << 10)
}

fn in_ram(folder: &Path) -> bool {
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    nix::sys::statfs::statfs(there).is_ok_and(|stat| stat.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// Free space for memory images, at the folder or the nearest one above it that exists.
pub fn free(folder: &Path) -> Bytes {
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    nix::sys::statvfs::statvfs(there)
        .map_or(Bytes::ZERO, |stat| Bytes(stat.blocks_available() * stat.fragment_size()))
}

fn user_map(daemon: &str, subuid: &str, subgid: &str) -> String {
    if !daemon.contains("userns-remap") {
        return "none".to_owned();
    }
    let range = |text: &str| {
        text.lines().find_map(|line| line.strip_prefix("dockremap:")).unwrap_or_default().trim().to_owned()
    };
    format!("{} / {}", range(subuid), range(subgid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_map_is_that_of_the_engine() {
        let ids = "root:1:2\ndockremap:100000:65536\n";
        assert_eq!(user_map("{\"userns-remap\":\"default\"}", ids, ids), "100000:65536 / 100000:65536");
        assert_eq!(user_map("{}", ids, ids), "none");
    }

    #[test]
    fn memory_and_ram_disks_are_told() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Bytes::from_mib(2));
        assert!(in_ram(Path::new("/dev/shm/not/there")) && !in_ram(Path::new("/proc")));
    }

    #[test]
    fn free_space_is_found_for_a_folder_that_is_not_there_yet() {
        assert!(free(Path::new("/tmp/not/there")) > Bytes::ZERO);
    }
}
