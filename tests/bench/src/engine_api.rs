//! Moves by Docker's own checkpoint API: `docker checkpoint create`, a copy of what that makes, `docker start --checkpoint`.
//!
//! Source and destination are two containers with an engine each, like nodes. The copy is a plain stream of `tar` between them, not
//! encrypted and not checked, which is less than any real tool would do; the container at the destination is made beforehand.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use sterna_e2e::docker::{self, docker};
use sterna_e2e::ticker::{self, Noted};
use sterna_e2e::zoo::eventually;

use crate::nested::Nested;
use crate::pump::{Inside, PORT};

const SEND: &str = include_str!("programs/api_send.pl");
const RECEIVE: &str = include_str!("programs/api_receive.pl");
/// The two containers.
pub const ENDS: [&str; 2] = ["sterna-bench-engine-a", "sterna-bench-engine-b"];
const IMAGE: &str = "sterna-services:latest";
/// How long a ticker may take to fill its memory.
const TO_FILL: Duration = Duration::from_secs(60);
/// How long it takes at most to write down what it has just seen.
const TO_NOTE: Duration = Duration::from_millis(1300);

/// One move. Times in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moved {
    /// As the service saw it: its longest gap.
    pub downtime: f64,
    /// From the call that dumps to the end of the one that restores.
    pub total: f64,
    /// Of that, the dump.
    pub dump: f64,
    /// Of that, the copy.
    pub copy: f64,
    /// Of that, the restore.
    pub restore: f64,
    /// MiB per second that the service really wrote.
    pub wrote: Option<f64>,
}

/// A ticker, and where it is.
#[derive(Debug)]
pub struct Api {
    nested: Nested,
    service: String,
    at: usize,
}

async fn inside(end: &str, service: &str, command: &[&str]) -> anyhow::Result<String> {
    let mut arguments = vec!["exec", end, "docker", "exec", service];
    arguments.extend(command);
    docker(&arguments).await
}

async fn noted(end: &str, service: &str) -> anyhow::Result<Noted> {
    let noted = Noted::read(&inside(end, service, &["cat", ticker::NOTES]).await?)?;
    inside(end, service, &["truncate", "--size=0", ticker::NOTES]).await?;
    Ok(noted)
}

/// Times of the two programs, as they print them: of the same clock, that of the machine.
fn times(sent: &str, received: &str) -> anyhow::Result<(f64, f64, f64)> {
    let numbers = |line: &str| line.split(' ').map(str::parse).collect::<Result<Vec<f64>, _>>();
    let (sent, received) = (numbers(sent).context("the source's times")?, numbers(received)?);
    let ([start, dumped, _], [there, runs]) = (&sent[..], &received[..]) else {
        anyhow::bail!("the programs tell {sent:?} and {received:?}");
    };
    let (dump, copy, restore) = (dumped - start, there - dumped, runs - there);
    ensure!(dump > 0.0 && copy > 0.0 && restore > 0.0, "the clocks of the two ends differ");
    Ok((dump, copy, restore))
}

impl Api {
    /// Brings both ends up.
    ///
    /// # Errors
    /// When an engine does not come up.
    pub async fn up() -> anyhow::Result<Self> {
        Ok(Self { nested: Nested::with_api(&ENDS).await?, service: String::new(), at: 0 })
    }

    /// What the engines are.
    ///
    /// # Errors
    /// When they do not answer.
    pub async fn version(&self) -> anyhow::Result<String> {
        self.nested.version().await
    }

    /// Starts a ticker of this size, in place of the last one.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(&mut self, mib: u32) -> anyhow::Result<()> {
        self.stop().await?;
        self.service = format!("ticker-{mib}");
        self.at = 0;
        self.create(ENDS[0], mib).await?;
        docker(&["exec", ENDS[0], "docker", "start", &self.service]).await?;
        self.rewrite(0).await?;
        eventually(TO_FILL, || async {
            let notes = inside(ENDS[0], &self.service, &["cat", ticker::NOTES]).await?;
            ensure!(notes.starts_with("ready"), "the ticker is not ready");
            Ok(())
        })
        .await
    }

    /// Ends the ticker, where one runs.
    ///
    /// # Errors
    /// When it can't be removed.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if !self.service.is_empty() {
            for end in ENDS {
                // Where it is not, that is no error.
                docker(&["exec", end, "docker", "rm", "--force", "--volumes", &self.service]).await?;
            }
        }
        self.service.clear();
        Ok(())
    }

    async fn create(&self, end: &str, mib: u32) -> anyhow::Result<()> {
        let service = &self.service;
        docker(&["exec", end, "docker", "rm", "--force", "--volumes", service]).await?;
        let command = ticker::command(mib);
        let mut arguments = vec!["exec", end, "docker", "create", "--name", service, IMAGE];
        arguments.extend(command.iter().map(String::as_str));
        docker(&arguments).await?;
        Ok(())
    }

    /// Has the ticker rewrite this many MiB of random pages per second.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn rewrite(&self, rate: u32) -> anyhow::Result<()> {
        let orders = ticker::orders(f64::from(rate))?;
        let file = ticker::ORDERS;
        let script = format!("echo {orders} >{file}.new && mv {file}.new {file}");
        inside(ENDS[self.at], &self.service, &["sh", "-c", &script]).await?;
        Ok(())
    }

    /// Moves it to the other end.
    ///
    /// # Errors
    /// When it does not arrive, or did not notice its move: then it was started cold.
    pub async fn once(&mut self, mib: u32) -> anyhow::Result<Moved> {
        let (from, to) = (ENDS[self.at], ENDS[1 - self.at]);
        self.create(to, mib).await?;
        tokio::time::sleep(TO_NOTE).await;
        noted(from, &self.service).await?;
        let mut receiver = Inside::start(to, RECEIVE, &[&self.service, PORT])?;
        receiver.says("listening").await?;
        let address = docker::address(to).await?.to_string();
        let mut sender = Inside::start(from, SEND, &[&self.service, &address, PORT])?;
        let (sent, received) = (sender.line().await?, receiver.line().await?);
        sender.end().await?;
        receiver.end().await?;
        let (dump, copy, restore) = times(&sent, &received)?;
        self.at = 1 - self.at;
        tokio::time::sleep(TO_NOTE).await;
        let noted = noted(to, &self.service).await?;
        ensure!(
            noted.longest_gap > Duration::ZERO,
            "{} did not notice its move: it was started cold",
            self.service
        );
        Ok(Moved {
            downtime: noted.longest_gap.as_secs_f64() * 1e3,
            total: dump + copy + restore,
            dump,
            copy,
            restore,
            wrote: noted.mib_per_second(),
        })
    }

    /// Takes both ends down.
    ///
    /// # Errors
    /// When one can't be removed.
    pub async fn down(self) -> anyhow::Result<()> {
        self.nested.down().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_tell_times_of_one_clock() {
        assert_eq!(times("100.0 350.0 400.0", "390.0 500.0").unwrap(), (250.0, 40.0, 110.0));
        assert!(times("100.0 350.0", "390.0 500.0").is_err());
        assert!(times("100.0 350.0 400.0", "90.0 500.0").is_err());
    }
}
