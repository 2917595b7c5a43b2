//! What the whole content of a Redis should amount to: a second Redis, fresh, is given every acknowledged write, and both
//! are asked for their `DEBUG DIGEST`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::{Instant, sleep};

use crate::dataset::Dataset;
use crate::docker::{self, Container};
use crate::resp::Connection;

/// Port of every Redis here.
pub const PORT: u16 = 6379;

/// A fresh Redis in a container of the host's engine.
#[derive(Debug)]
pub struct Reference {
    container: Container,
}

impl Reference {
    /// Starts one under `name` and waits until it answers.
    ///
    /// # Errors
    /// When it can't be started or does not answer.
    pub async fn start(name: &str) -> anyhow::Result<Self> {
        let image = docker::service_image().await?;
        let command =
            ["redis-server", "--save", "", "--protected-mode", "no", "--enable-debug-command", "local"];
        let reference = Self { container: Container::start(name, &image, &command).await? };
        let start = Instant::now();
        loop {
            let pong = match Connection::open(reference.address()).await {
                Ok(mut connection) => connection.command(&["PING"]).await,
                Err(error) => Err(error),
            };
            match pong {
                Ok(_) => return Ok(reference),
                Err(error) if start.elapsed() > Duration::from_secs(20) => {
                    return Err(error).context("the reference Redis does not answer");
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.container.address(), PORT)
    }

    /// Loads the dataset and gives the digest of all of it.
    ///
    /// # Errors
    /// When a write is refused or no digest is given.
    pub async fn digest_of(&self, dataset: &Dataset) -> anyhow::Result<Digest> {
        self.container.exec(&["redis-cli", "FLUSHALL"]).await?;
        dataset.load(self.address()).await?;
        self.digest().await
    }

    /// The digest of what it holds.
    ///
    /// # Errors
    /// When no digest is given.
    pub async fn digest(&self) -> anyhow::Result<Digest> {
        Digest::read(&self.container.exec(&["redis-cli", "DEBUG", "DIGEST"]).await?)
    }
}

/// The `run_id` of the Redis at an address, which no other start of it has.
///
/// # Errors
/// When it does not answer, or does not tell.
pub async fn run_id(address: SocketAddr) -> anyhow::Result<String> {
    let info = Connection::open(address).await?.command(&["INFO", "server"]).await?;
    let info = info.text().context("no INFO")?;
    let line = info.lines().find_map(|line| line.trim().strip_prefix("run_id:"));
    Ok(line.context("Redis tells no run_id")?.to_owned())
}

/// The digest of what the Redis at an address holds.
///
/// # Errors
/// When it does not answer, or gives none.
pub async fn held(address: SocketAddr) -> anyhow::Result<Digest> {
    let held = Connection::open(address).await?.command(&["DEBUG", "DIGEST"]).await?;
    Digest::read(&held.text().context("no digest")?)
}

/// What `DEBUG DIGEST` says: the same for the same keys and values, whatever their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest(String);

impl Digest {
    /// From what `redis-cli DEBUG DIGEST` printed.
    ///
    /// # Errors
    /// When that is no digest, or that of an empty Redis.
    pub fn read(printed: &str) -> anyhow::Result<Self> {
        let text = printed.trim();
        if text.len() != 40 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            bail!("not a digest: {text}");
        }
        if text.bytes().all(|b| b == b'0') {
            bail!("the digest is that of an empty Redis");
        }
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_digest_is_one() {
        assert!(Digest::read("7c7cf9f4d5d5de5fd8f3bb3e1dd4a3ae02a4ae52\n").is_ok());
        for not in ["", "ERR DEBUG command not allowed.", "7c7c", &"0".repeat(40), &"x".repeat(40)] {
            assert!(Digest::read(not).is_err(), "{not}");
        }
    }
}
