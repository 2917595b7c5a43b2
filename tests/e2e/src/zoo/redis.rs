//! Redis under a client that writes all the time: same `run_id`, and every acknowledged write is there.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Ground, IMAGE, Place, Workload, eventually};
use crate::dataset::Dataset;
use crate::inventory::Service;
use crate::resp::Connection;
use crate::writer::Writer;

/// Port of Redis.
pub const PORT: u16 = 6379;
const KEYS: usize = 10_000;

/// Redis, in memory only: a cold start would be empty.
#[derive(Debug, Default)]
pub struct Redis {
    writer: Option<Writer>,
    run_id: String,
}

async fn run_id<G: Ground>(place: Place<'_, G>) -> anyhow::Result<String> {
    let info = place.exec(&["redis-cli", "info", "server"]).await?;
    let line = info.lines().find_map(|line| line.trim().strip_prefix("run_id:"));
    Ok(line.context("Redis tells no run_id")?.to_owned())
}

impl Workload for Redis {
    fn service(&self) -> Service {
        Service::new("redis", IMAGE, &["redis-server", "--save", "", "--protected-mode", "no"]).port(PORT)
    }

    async fn drive<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<()> {
        let addresses = place.addresses(PORT).await?;
        let address = place.address(PORT).await?;
        eventually(Duration::from_secs(20), || async { Ok(Connection::open(address).await?) }).await?;
        let dataset = Dataset::new(KEYS);
        dataset.load(address).await?;
        self.run_id = run_id(place).await?;
        self.writer = Some(Writer::start(&addresses, dataset));
        Ok(())
    }

    async fn check<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<String> {
        let mut writer = self.writer.take().context("it was not driven")?;
        let enough = writer.seen().writes + 200;
        writer.wait_until(Duration::from_secs(15), |seen| seen.writes > enough).await?;
        let (dataset, seen) = writer.stop().await?;
        let now = run_id(place).await?;
        ensure!(now == self.run_id, "another process: {now} was {}", self.run_id);
        let differences = dataset.differences(place.address(PORT).await?, 5).await?;
        ensure!(differences.is_empty(), "acknowledged writes are lost: {}", differences.join("; "));
        self.writer = Some(Writer::start(&place.addresses(PORT).await?, dataset));
        Ok(format!("{} writes acknowledged, longest gap {:?}", seen.writes, seen.longest_gap))
    }

    async fn rest<G: Ground>(&mut self, _place: Place<'_, G>) -> anyhow::Result<()> {
        self.writer = None;
        Ok(())
    }
}
