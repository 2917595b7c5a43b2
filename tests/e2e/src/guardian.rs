//! Cleaning up whatever happens: a small process that waits beside us and cleans up when we end without having done so,
//! be it by an error, an interrupt or a kill.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Waits for a word; without one it takes the continuum down and removes the folder.
const SCRIPT: &str = r#"read -r word; [ "$word" = done ] || "$1" sites down "$2" --state "$3"; rm -rf "$4""#;

/// The same for containers that run an engine of their own: what stands frozen in one goes on first, or neither can be killed.
const CONTAINERS: &str = r#"read -r word; [ "$word" = done ] && exit
for one; do docker exec "$one" "$THAW" thaw; docker rm --force --volumes "$one"; done"#;

/// The same for a cluster. Its folder goes only once nothing is mounted there any more.
const CLUSTER: &str =
    r#"read -r word; [ "$word" = done ] || { "$1" down "$2" && rm -rf --one-file-system "$2"; }"#;

/// The process that waits. Dropped, it cleans up, and we wait for that.
#[derive(Debug)]
pub struct Guardian {
    child: Child,
}

impl Guardian {
    /// Has the continuum of `inventory` guarded, and `folder`, which holds the files that belong to it.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn over(sterna: &Path, inventory: &Path, state: &Path, folder: &Path) -> std::io::Result<Self> {
        Self::over_with(sterna, inventory, state, folder, &[])
    }

    /// The same, with environment variables for `sterna sites down`.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn over_with(
        sterna: &Path,
        inventory: &Path,
        state: &Path,
        folder: &Path,
        environment: &[(&str, &str)],
    ) -> std::io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "guardian"]).args([sterna, inventory, state, folder]);
        Self::start(command.envs(environment.iter().copied()))
    }

    /// Has containers guarded that run an engine of their own; `thaw` is the program in them that thaws what they run.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn over_containers(names: &[String], thaw: &str) -> std::io::Result<Self> {
        let mut command = Command::new("sh");
        Self::start(command.args(["-c", CONTAINERS, "guardian"]).args(names).env("THAW", thaw))
    }

    /// Has a cluster guarded that `script` made in `folder`.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn over_cluster(script: &Path, folder: &Path) -> std::io::Result<Self> {
        Self::start(Command::new("sh").args(["-c", CLUSTER, "guardian"]).args([script, folder]))
    }

    fn start(command: &mut Command) -> std::io::Result<Self> {
        // It sees our end as the end of its input: no other process has the other side of that pipe. In a group of its
        // own it is out of reach of an interrupt at the terminal.
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { child })
    }

    /// Tells it that what it guards is gone already; a folder is still to be removed.
    pub fn only_folder(&mut self) {
        if let Some(mut input) = self.child.stdin.take() {
            let _gone = input.write_all(b"done\n");
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A program in place of sterna that writes down how it was called.
    fn guarded(folder: &Path) -> (Guardian, std::path::PathBuf, std::path::PathBuf) {
        let (program, called, inner) = (folder.join("program"), folder.join("called"), folder.join("inner"));
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(&program, format!("#!/bin/sh\necho \"$@\" >{}\n", called.display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let guardian = Guardian::over(&program, Path::new("i.toml"), Path::new("s"), &inner).unwrap();
        (guardian, called, inner)
    }

    #[test]
    fn cleans_up_what_was_not_taken_down() {
        let folder = tempfile::tempdir().unwrap();
        let (guardian, called, inner) = guarded(folder.path());
        drop(guardian);
        assert_eq!(std::fs::read_to_string(called).unwrap(), "sites down i.toml --state s\n");
        assert!(!inner.exists());
    }

    #[test]
    fn leaves_alone_what_was_taken_down() {
        let folder = tempfile::tempdir().unwrap();
        let (mut guardian, called, inner) = guarded(folder.path());
        guardian.only_folder();
        drop(guardian);
        assert!(!called.exists() && !inner.exists());
    }
}
