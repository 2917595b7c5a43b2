//! Programs that run beside the test or the demo, and end with it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// How long a program has to end by itself when it is asked to.
const TO_END: Duration = Duration::from_secs(10);

/// A command whose process the kernel kills when the thread that starts it ends, however that ends. In a process group of
/// its own, so that an interrupt at the terminal reaches only us.
///
/// Start it from a thread that lives as long as the process should: the main thread, or that of the test.
pub fn bound(program: &Path) -> Command {
    // From util-linux, which is part of every Debian; the call itself would need unsafe code here.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.process_group(0).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A program in the background that writes into a log file.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it. `command` is from [`bound`].
    ///
    /// # Errors
    /// When it can't be started or the log can't be written.
    pub fn start(name: &str, mut command: Command, log: PathBuf) -> anyhow::Result<Self> {
        let file = std::fs::File::create(&log).with_context(|| log.display().to_string())?;
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("can't start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// When the program ends, or is not ready within `most`; with the end of its log.
    pub async fn until<F: Future<Output = bool>>(
        &mut self,
        most: Duration,
        mut ready: impl FnMut() -> F,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            if ready().await {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}); its last words:\n{}", self.name, last_lines(&self.log));
            }
            if start.elapsed() > most {
                bail!(
                    "{} is not ready after {most:?}; its last words:\n{}",
                    self.name,
                    last_lines(&self.log)
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it: asks first, then does not.
    pub async fn stop(mut self) {
        end(&mut self.child).await;
    }
}

/// Asks a process to end, and ends it where it does not.
pub async fn end(child: &mut Child) {
    if let Some(id) = child.id() {
        let _asked = Command::new("kill").arg(id.to_string()).stderr(Stdio::null()).status().await;
        if timeout(TO_END, child.wait()).await.is_err() {
            let _killed = child.kill().await;
        }
    }
}

fn last_lines(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(id: u32) -> bool {
        // A process that has ended and was not waited for is a zombie.
        std::fs::read_to_string(format!("/proc/{id}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
    }

    #[tokio::test]
    async fn stops_one_that_runs_and_tells_of_one_that_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = bound(Path::new("sleep"));
        command.arg("60");
        let daemon = Daemon::start("sleep", command, folder.path().join("sleep.log")).unwrap();
        let id = daemon.id().unwrap();
        assert!(runs(id));
        daemon.stop().await;
        assert!(!runs(id));

        let mut command = bound(Path::new("sh"));
        command.args(["-c", "echo broken; exit 3"]);
        let mut daemon = Daemon::start("sh", command, folder.path().join("sh.log")).unwrap();
        let error = daemon.until(Duration::from_secs(5), async || false).await.unwrap_err().to_string();
        assert!(error.contains("broken") && error.contains('3'), "{error}");
    }

    #[test]
    fn is_killed_when_the_thread_that_started_it_ends() {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let child = runtime.block_on(async {
                let mut command = bound(Path::new("sleep"));
                command.arg("60").kill_on_drop(false).spawn().unwrap()
            });
            tell.send(child.id().unwrap()).unwrap();
            // Give setpriv the time to ask the kernel for it.
            std::thread::sleep(Duration::from_millis(500));
        })
        .join()
        .unwrap();
        let id: u32 = told.recv().unwrap();
        for _ in 0..40 {
            if !runs(id) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("process {id} outlived its parent thread");
    }
}
