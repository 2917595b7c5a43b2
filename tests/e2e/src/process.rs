//! Programs that run beside the test or the demo, and end with it.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::process::{Child, Command};
use tokio::time::sleep;

/// How long a program has to end by itself when it is asked to.
const TO_END: Duration = Duration::from_secs(15);

/// A command whose process the kernel kills when the thread that starts it ends, however that ends. In a process group of
/// its own, so that an interrupt at the terminal reaches only us, and so that we can ask all of it to end.
///
/// Start it from a thread that lives as long as the process should: the main thread, or that of the test.
pub fn bound(program: &Path) -> Command {
    // From util-linux, which is part of every Debian; the call itself would need unsafe code here.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.process_group(0).stdin(Stdio::null());
    command
}

/// A process and those that it started. Dropped, they are asked to end, given time to clean up, then killed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    group: Option<u32>,
}

impl Running {
    /// Starts a command that is from [`bound`].
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(command: &mut Command) -> std::io::Result<Self> {
        let child = command.spawn()?;
        // The leader's own number is that of the group.
        let group = child.id();
        Ok(Self { child, group })
    }

    /// The process itself: its output, its end.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its number.
    pub fn id(&self) -> Option<u32> {
        self.group
    }

    /// Asks it to end, and does not wait for that.
    pub fn ask_to_end(&self) {
        self.signal("-TERM");
    }

    /// Stops all of it where it stands, until it is to go on.
    pub fn suspend(&self) {
        self.signal("-STOP");
    }

    /// Has all of it go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        if let Some(group) = self.group {
            let _gone = std::process::Command::new("kill")
                .args([signal, "--", &format!("-{group}")])
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        self.ask_to_end();
        let start = Instant::now();
        while start.elapsed() < TO_END {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            // Blocking, because the runtime may be on its way out.
            std::thread::sleep(Duration::from_millis(20));
        }
        self.signal("-KILL");
        let _ended = self.child.try_wait();
    }
}

/// Sends a process that is not ours a signal, as `-STOP`.
///
/// # Errors
/// When it is gone.
pub fn signal(signal: &str, process: u32) -> anyhow::Result<()> {
    let status = std::process::Command::new("kill").args([signal, &process.to_string()]).status()?;
    ensure!(status.success(), "kill {signal} {process}: {status}");
    Ok(())
}

/// The processes of this machine, in whatever container, that have a name.
pub fn named(name: &str) -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // Others may end meanwhile.
    all.filter(move |process| {
        std::fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|comm| comm.trim() == name)
    })
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error; empty where that went through to ours.
    pub stderr: String,
}

/// Runs a command from [`bound`] to its end. Dropped before, the command is asked to end.
///
/// # Errors
/// When it can't be started. That it failed stands in the answer.
pub async fn run(command: &mut Command) -> std::io::Result<Finished> {
    use tokio::io::AsyncReadExt as _;
    let mut running = Running::start(command)?;
    let (out, err) = (running.child.stdout.take(), running.child.stderr.take());
    let read_out = async {
        let mut bytes = Vec::new();
        if let Some(mut out) = out {
            out.read_to_end(&mut bytes).await?;
        }
        std::io::Result::Ok(bytes)
    };
    let read_err = async {
        let mut bytes = Vec::new();
        if let Some(mut err) = err {
            err.read_to_end(&mut bytes).await?;
        }
        std::io::Result::Ok(bytes)
    };
    let (stdout, stderr, status) = tokio::join!(read_out, read_err, running.child.wait());
    Ok(Finished {
        status: status?,
        stdout: String::from_utf8_lossy(&stdout?).into_owned(),
        stderr: String::from_utf8_lossy(&stderr?).into_owned(),
    })
}

/// A program in the background that writes into a log file.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    running: Running,
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
        let running = Running::start(&mut command).with_context(|| format!("can't start {name}"))?;
        Ok(Self { name: name.to_owned(), running, log })
    }

    /// Its process.
    pub fn id(&self) -> Option<u32> {
        self.running.id()
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
            if let Some(status) = self.running.child.try_wait()? {
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
    async fn ends_one_that_runs_and_tells_of_one_that_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = bound(Path::new("sleep"));
        command.arg("60");
        let daemon = Daemon::start("sleep", command, folder.path().join("sleep.log")).unwrap();
        let id = daemon.id().unwrap();
        assert!(runs(id));
        drop(daemon);
        assert!(!runs(id));

        let mut command = bound(Path::new("sh"));
        command.args(["-c", "echo broken; exit 3"]);
        let mut daemon = Daemon::start("sh", command, folder.path().join("sh.log")).unwrap();
        let error = daemon.until(Duration::from_secs(5), async || false).await.unwrap_err().to_string();
        assert!(error.contains("broken") && error.contains('3'), "{error}");
    }

    #[tokio::test]
    async fn one_that_is_given_up_can_clean_up_first() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("cleaned");
        let mut command = bound(Path::new("sh"));
        command.args(["-c", "trap 'sleep 0.2; touch \"$0\"; exit' TERM; sleep 60 & wait"]).arg(&mark);
        let given_up = tokio::time::timeout(Duration::from_millis(500), run(&mut command)).await;
        assert!(given_up.is_err());
        assert!(mark.exists());
    }

    #[test]
    fn is_killed_when_the_thread_that_started_it_ends() {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let running =
                runtime.block_on(async { Running::start(bound(Path::new("sleep")).arg("60")).unwrap() });
            tell.send(running.id().unwrap()).unwrap();
            // Nobody is left who could ask it to end.
            std::mem::forget(running);
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
