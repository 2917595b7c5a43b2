//! The root file system of a node: built once per recipe, kept in a cache outside the sources.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio_util::sync::CancellationToken;

use super::{PlatformError, recipe};
use crate::platform::step::Step;

/// How often a lock is asked for that another process holds.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// The folder where root file systems are kept, held by one process at a time.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    _lock: std::fs::File,
}

impl Cache {
    /// Opens the cache, and waits while another process holds it.
    pub async fn open(folder: &Path, on: &mut (dyn FnMut(Step) + Send)) -> Result<Self, PlatformError> {
        let failed = |source| PlatformError::File { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let lock = std::fs::File::create(folder.join("lock")).map_err(failed)?;
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { folder: folder.to_owned(), _lock: lock }),
                Err(std::fs::TryLockError::WouldBlock) => {
                    if !told {
                        on(Step::WaitingForCache(folder.to_owned()));
                        told = true;
                    }
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }

    /// The root file system as a tar file; builds it if it isn't there yet.
    pub async fn rootfs(
        &self,
        stop: &CancellationToken,
        on: &mut (dyn FnMut(Step) + Send),
    ) -> Result<PathBuf, PlatformError> {
        let file = self.folder.join(format!("node-{}.tar", recipe::base_hash()));
        if file.exists() {
            return Ok(file);
        }
        if !nix::unistd::geteuid().is_root() {
            return Err(PlatformError::NeedsRoot { file });
        }
        if !is_installed("debootstrap") {
            return Err(PlatformError::NeedsDebootstrap);
        }
        on(Step::BuildingRootfs(file.clone()));
        self.build(&file, stop).await?;
        Ok(file)
    }

    async fn build(&self, file: &Path, stop: &CancellationToken) -> Result<(), PlatformError> {
        let failed = |source| PlatformError::File { path: self.folder.clone(), source };
        let scripts = tempfile::tempdir_in(&self.folder).map_err(failed)?;
        let script = scripts.path().join("rootfs");
        let packages = scripts.path().join("packages");
        std::fs::write(&script, recipe::ROOTFS).map_err(failed)?;
        std::fs::write(&packages, recipe::PACKAGES).map_err(failed)?;

        let mut command = std::process::Command::new("bash");
        command.arg(&script).arg("build").arg(recipe::SUITE).arg(&packages).arg(file);
        // A group of its own: Ctrl-C then reaches it only through us, who wait until it has cleaned up.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = tokio::process::Command::from(command).spawn().map_err(failed)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let end = child.wait_with_output();
        tokio::pin!(end);
        let output = tokio::select! {
            output = &mut end => output.map_err(failed)?,
            () = stop.cancelled() => {
                if let Some(group) = group {
                    let _gone = killpg(group, Signal::SIGTERM);
                }
                let _end = end.await;
                return Err(PlatformError::Interrupted);
            }
        };
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(PlatformError::Rootfs { reason });
        }
        Ok(())
    }
}

/// Whether a program is on the path, or where root's programs are.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the script makes of a machine's apt sources: apt reads them, the script chooses.
    fn mirror(list: &str, sources: &str) -> Result<String, String> {
        let home = tempfile::tempdir().unwrap();
        let parts = home.path().join("sources.list.d");
        // A mirror on disk, so that nothing is asked of a network.
        std::fs::create_dir_all(home.path().join("debian/dists/forky")).unwrap();
        std::fs::write(home.path().join("debian/dists/forky/InRelease"), "").unwrap();
        std::fs::create_dir_all(home.path().join("other/dists/bookworm")).unwrap();
        std::fs::create_dir(&parts).unwrap();
        let here = |text: &str| text.replace("HERE", home.path().to_str().unwrap());
        std::fs::write(home.path().join("sources.list"), here(list)).unwrap();
        std::fs::write(parts.join("debian.sources"), here(sources)).unwrap();
        let config = home.path().join("apt.conf");
        std::fs::write(
            &config,
            here("Dir::Etc::SourceList \"HERE/sources.list\";\nDir::Etc::SourceParts \"HERE/sources.list.d\";\n"),
        )
        .unwrap();
        std::fs::write(home.path().join("rootfs"), recipe::ROOTFS).unwrap();
        let output = std::process::Command::new("bash")
            .arg(home.path().join("rootfs"))
            .args(["mirror", "forky"])
            .env("APT_CONFIG", config)
            .env_remove("STERNA_DEBIAN_MIRROR")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).trim().replace(home.path().to_str().unwrap(), "HERE")
        };
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    #[test]
    fn the_mirror_is_found_in_one_line_sources() {
        let list = "# deb file:HERE/commented bookworm main\ndeb-src file:HERE/src bookworm main\n\
                    deb [trusted=yes arch=amd64] file:HERE/debian bookworm main contrib\n";
        assert_eq!(mirror(list, "").unwrap(), "file:HERE/debian");
    }

    #[test]
    fn the_mirror_is_found_in_deb822_sources_behind_those_of_others() {
        let sources = "Types: deb\nURIs: file:HERE/other\nSuites: bookworm\nComponents: main\nTrusted: yes\n\n\
                       Types: deb deb-src\n# URIs: file:HERE/commented\nURIs: file:HERE/debian\n\
                       Suites: bookworm bookworm-updates\nComponents: main\nTrusted: yes\n";
        assert_eq!(
            mirror("deb [trusted=yes] file:HERE/other stable app\n", sources).unwrap(),
            "file:HERE/debian"
        );
    }

    #[test]
    fn without_a_mirror_it_is_said_who_was_asked_and_what_to_do() {
        let refused = mirror("deb [trusted=yes] file:HERE/other bookworm main\n", "").unwrap_err();
        assert!(refused.contains("asked: file:HERE/other"), "{refused}");
        assert!(refused.contains("STERNA_DEBIAN_MIRROR"), "{refused}");
    }

    #[tokio::test]
    async fn one_process_at_a_time_holds_the_cache() {
        let home = tempfile::tempdir().unwrap();
        let first = Cache::open(home.path(), &mut |_| {}).await.unwrap();
        let mut steps = Vec::new();
        {
            let mut note = |step| steps.push(step);
            let second = Cache::open(home.path(), &mut note);
            tokio::pin!(second);
            assert!(tokio::time::timeout(LOCK_PAUSE * 2, &mut second).await.is_err(), "it is held");
            drop(first);
            tokio::time::timeout(LOCK_PAUSE * 10, &mut second).await.unwrap().unwrap();
        }
        assert!(matches!(steps.as_slice(), [Step::WaitingForCache(_)]));
    }
}
