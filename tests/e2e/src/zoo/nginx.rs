//! nginx, whose configuration on disk is no longer the one that it serves: a cold start would be seen by its first page.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::load::{Load, http, page};
use super::{Ground, IMAGE, Place, Workload, eventually};
use crate::inventory::Service;

const PORT: u16 = 8104;
const SCRIPT: &str = include_str!("programs/nginx.sh");

/// A master, workers of another user, and counters in memory that they share.
#[derive(Debug, Default)]
pub struct Nginx {
    load: Option<Load>,
    page: String,
    requests: u64,
}

async fn look<G: Ground>(place: Place<'_, G>, path: &str) -> anyhow::Result<String> {
    Ok(page(&http()?, place.address(PORT).await?, path).await?.trim().to_owned())
}

/// The third number of the line after the heading: requests since the start.
async fn requests<G: Ground>(place: Place<'_, G>) -> anyhow::Result<u64> {
    let status = look(place, "/status").await?;
    let line = status.lines().nth(2).and_then(|line| line.split_whitespace().nth(2));
    line.and_then(|number| number.parse().ok()).with_context(|| format!("nginx's status is `{status}`"))
}

impl Workload for Nginx {
    fn service(&self) -> Service {
        Service::new("nginx", IMAGE, &["bash", "-c", SCRIPT]).port(PORT)
    }

    async fn drive<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<()> {
        self.page = eventually(Duration::from_secs(20), || look(place, "/")).await?;
        ensure!(self.page.starts_with("warm "), "nginx says `{}`", self.page);
        place.exec(&["sed", "-i", "s/warm/cold/", "/nginx.conf"]).await?;
        let client = http()?;
        let load = Load::start(place.addresses(PORT).await?, move |address, _| {
            let client = client.clone();
            async move { page(&client, address, "/").await.map(drop) }
        });
        load.more(50).await?;
        self.load = Some(load);
        Ok(())
    }

    async fn check<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<String> {
        let load = self.load.as_ref().context("it was not driven")?;
        load.more(50).await?;
        let page = look(place, "/").await?;
        ensure!(page == self.page, "another process: it says `{page}`, it said `{}`", self.page);
        let acknowledged = load.counts().acknowledged;
        let requests = requests(place).await?;
        ensure!(
            requests > self.requests && requests >= acknowledged,
            "it counts {requests} requests, {} before, {acknowledged} were answered",
            self.requests
        );
        self.requests = requests;
        Ok(format!("`{page}`, {requests} requests"))
    }

    async fn rest<G: Ground>(&mut self, _place: Place<'_, G>) -> anyhow::Result<()> {
        self.load = None;
        Ok(())
    }
}
