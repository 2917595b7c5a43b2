//! Bytes from one container to another, by a small program in both: what a link carries.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use sterna_e2e::docker;
use sterna_e2e::process::{Running, bound};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::ChildStdout;

/// The clock that all programs in nodes share.
pub const CLOCK: &str = include_str!("programs/clock.pl");
const PUMP: &str = include_str!("programs/pump.pl");
/// Port that the receiving end listens on; nothing else of a node does.
pub const PORT: &str = "7499";

/// A program within a container, started once and told nothing more. Dropped, it is asked to end.
#[derive(Debug)]
pub struct Inside {
    running: Running,
    lines: Lines<BufReader<ChildStdout>>,
    what: String,
}

impl Inside {
    /// Starts a Perl program in a container.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(container: &str, program: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = bound(Path::new("docker"));
        // Its input stays open for as long as we want it: by that it knows that we are there.
        command.stdin(Stdio::piped());
        command
            .args(["exec", "--interactive", container, "perl", "-e", &format!("{CLOCK}\n{program}")])
            .args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut running = Running::start(&mut command)?;
        let output = running.child().stdout.take().context("no output")?;
        let what = format!("`{}` in {container}", arguments.join(" "));
        Ok(Self { running, lines: BufReader::new(output).lines(), what })
    }

    /// The next line that it prints.
    ///
    /// # Errors
    /// When it ends before; what it said of that went to our standard error.
    pub async fn line(&mut self) -> anyhow::Result<String> {
        match self.lines.next_line().await? {
            Some(line) => Ok(line),
            None => bail!("{} ended early ({})", self.what, self.running.child().wait().await?),
        }
    }

    /// Waits until it has ended: until then it may be cleaning up.
    ///
    /// # Errors
    /// When it fails.
    pub async fn end(mut self) -> anyhow::Result<()> {
        let status = self.running.child().wait().await?;
        ensure!(status.success(), "{} failed ({status})", self.what);
        Ok(())
    }

    /// Waits for a line that says no more than that it is ready.
    ///
    /// # Errors
    /// When it says something else.
    pub async fn says(&mut self, word: &str) -> anyhow::Result<()> {
        let line = self.line().await?;
        ensure!(line == word, "{} says `{line}`", self.what);
        Ok(())
    }
}

/// MiB per second from one container to another.
///
/// # Errors
/// When not everything arrives.
pub async fn rate(from: &str, to: &str, mib: u32) -> anyhow::Result<f64> {
    let mut receiver = Inside::start(to, PUMP, &["receive", PORT])?;
    receiver.says("listening").await?;
    let address = docker::address(to).await?.to_string();
    let mut sender = Inside::start(from, PUMP, &["send", &address, PORT, &mib.to_string()])?;
    let millis: f64 = sender.line().await?.parse().context("the sender's time")?;
    ensure!(millis > 0.0, "nothing was sent");
    sender.end().await?;
    receiver.end().await?;
    Ok(f64::from(mib) * 1e3 / millis)
}
