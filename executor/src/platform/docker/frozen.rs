//! Ending frozen services. On cgroup v1 a frozen process can't be killed, nor can the node that it runs on, so they are thawed
//! before every removal; and killed before that, for a source that has been moved away must not run for another instant.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::engine::exec;
use super::image;

const FREEZER: &str = "/sys/fs/cgroup/freezer";
/// A node that does not answer is thawed from outside.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends everything that is frozen on a node: from inside, which works for whoever may use the engine, and from outside, which works for
/// root even when the node itself is dead.
pub async fn thaw(docker: &Docker, container: &str, id: &str) {
    let _not_paused = docker.unpause_container(container).await;
    let [program, argument] = image::thaw();
    let command = [program.as_str(), argument.as_str()];
    let inside = exec(docker, container, &command);
    match tokio::time::timeout(PATIENCE, inside).await {
        Ok(Ok(outcome)) if outcome.succeeded() => {}
        other => tracing::debug!(container, ?other, "could not thaw from inside"),
    }
    thaw_below(Path::new(FREEZER), id);
}

/// Ends what is frozen in the cgroups below the one that is named by the container's id, outermost first.
fn thaw_below(freezer: &Path, id: &str) {
    let mut waiting = vec![(freezer.to_owned(), false)];
    while let Some((folder, within)) = waiting.pop() {
        if within && let Err(error) = end(&folder) {
            tracing::debug!(folder = %folder.display(), %error, "could not thaw");
        }
        for child in subfolders(&folder) {
            let within = within || child.file_name().is_some_and(|name| name.to_string_lossy().contains(id));
            waiting.push((child, within));
        }
    }
}

/// The kill waits in each frozen process, and is the first thing that it meets.
fn end(cgroup: &Path) -> std::io::Result<()> {
    let state = cgroup.join("freezer.state");
    if std::fs::read_to_string(&state)?.trim() == "THAWED" {
        return Ok(());
    }
    let processes = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    for process in processes.lines().filter_map(|line| line.parse().ok()) {
        let _gone_already = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
    std::fs::write(state, "THAWED")
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_folder).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_inside_the_container_is_thawed() {
        let home = tempfile::tempdir().unwrap();
        let state = |path: &str| home.path().join(path).join("freezer.state");
        for path in
            ["docker", "docker/other", "docker/node", "docker/node/docker/a", "docker/node/docker/a/b"]
        {
            std::fs::create_dir_all(home.path().join(path)).unwrap();
            std::fs::write(state(path), "FROZEN").unwrap();
        }
        thaw_below(home.path(), "node");
        let read = |path: &str| std::fs::read_to_string(state(path)).unwrap();
        assert_eq!([read("docker"), read("docker/other")], ["FROZEN", "FROZEN"]);
        for path in ["docker/node", "docker/node/docker/a", "docker/node/docker/a/b"] {
            assert_eq!(read(path), "THAWED", "{path}");
        }
        thaw_below(&home.path().join("absent"), "node");
    }
}
