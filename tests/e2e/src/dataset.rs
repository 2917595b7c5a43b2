//! What a client has written and the server has acknowledged: many keys, each with the number of its last write.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};

use crate::resp::{Connection, Reply};

/// Commands in one go when many keys are written or read.
const AT_ONCE: usize = 1000;

/// Keys `key:0` to `key:n`, and for each the number of the last acknowledged write. The value follows from the number,
/// so a lost or a doubled write shows as a value that is not this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    writes: Vec<u64>,
}

impl Dataset {
    /// This many keys, each written once, by write 0.
    pub fn new(keys: usize) -> Self {
        Self { writes: vec![0; keys] }
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Name of key number `index`.
    pub fn key(index: usize) -> String {
        format!("key:{index}")
    }

    /// The value that write number `write` gives to key number `index`.
    pub fn value(index: usize, write: u64) -> String {
        format!("value of key {index} by write {write:020}")
    }

    /// Notes that `write` to key number `index` was acknowledged.
    pub fn acknowledged(&mut self, index: usize, write: u64) {
        if let Some(last) = self.writes.get_mut(index) {
            *last = write;
        }
    }

    /// Writes all of it to a server.
    ///
    /// # Errors
    /// When the server can't be reached or refuses a write.
    pub async fn load(&self, server: SocketAddr) -> anyhow::Result<()> {
        let mut connection = Connection::open(server).await.with_context(|| format!("Redis at {server}"))?;
        for (number, chunk) in self.writes.chunks(AT_ONCE).enumerate() {
            let pairs: Vec<_> = chunk
                .iter()
                .enumerate()
                .map(|(offset, &write)| {
                    let index = number * AT_ONCE + offset;
                    (Self::key(index), Self::value(index, write))
                })
                .collect();
            let commands = pairs.iter().map(|(key, value)| vec!["SET", key, value]);
            for reply in connection.commands(commands).await? {
                ensure!(reply == Reply::Simple("OK".into()), "Redis at {server} refused a write: {reply:?}");
            }
        }
        Ok(())
    }

    /// Reads every key from a server and tells those that hold something else, at most `limit` of them.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn differences(&self, server: SocketAddr, limit: usize) -> anyhow::Result<Vec<String>> {
        let mut connection = Connection::open(server).await.with_context(|| format!("Redis at {server}"))?;
        let mut found = Vec::new();
        for (number, chunk) in self.writes.chunks(AT_ONCE).enumerate() {
            let keys: Vec<_> = (0..chunk.len()).map(|offset| Self::key(number * AT_ONCE + offset)).collect();
            let replies = connection.commands(keys.iter().map(|key| vec!["GET", key])).await?;
            for (offset, (reply, &write)) in replies.iter().zip(chunk).enumerate() {
                let index = number * AT_ONCE + offset;
                let expected = Self::value(index, write);
                if reply.text().as_deref() != Some(expected.as_str()) && found.len() < limit {
                    let holds = reply.text().unwrap_or_else(|| format!("{reply:?}"));
                    found
                        .push(format!("{} holds `{holds}`, acknowledged was `{expected}`", Self::key(index)));
                }
            }
        }
        Ok(found)
    }
}
