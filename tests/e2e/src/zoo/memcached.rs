//! memcached: items and counters of one process, all of it in memory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::load::Load;
use super::{Ground, IMAGE, Place, Workload, eventually};
use crate::inventory::Service;

const PORT: u16 = 11211;
const ITEMS: usize = 2000;

/// memcached with items that stay and one that is counted up.
#[derive(Debug, Default)]
pub struct Memcached {
    load: Option<Load>,
    uptime: u64,
    connections: u64,
}

/// Sends one command and gives the lines of the answer up to the one that ends it.
async fn command(address: SocketAddr, text: &str) -> anyhow::Result<Vec<String>> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    stream.get_mut().write_all(text.as_bytes()).await?;
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            bail!("memcached ended the connection");
        }
        let line = line.trim_end().to_owned();
        let last = matches!(line.as_str(), "END" | "STORED" | "NOT_FOUND")
            || line.bytes().all(|byte| byte.is_ascii_digit());
        if line.contains("ERROR") {
            bail!("memcached refuses: {line}");
        }
        lines.push(line);
        // The value of an item is announced by the line before it.
        let value = lines.len() >= 2 && lines[lines.len() - 2].starts_with("VALUE ");
        if last && !value {
            return Ok(lines);
        }
    }
}

fn value(index: usize) -> String {
    format!("value {index}{}", "x".repeat(index % 97))
}

async fn statistics(address: SocketAddr) -> anyhow::Result<BTreeMap<String, String>> {
    let lines = command(address, "stats\r\n").await?;
    let pairs = lines.iter().filter_map(|line| line.strip_prefix("STAT ")?.split_once(' '));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn number(statistics: &BTreeMap<String, String>, name: &str) -> anyhow::Result<u64> {
    let text = statistics.get(name).with_context(|| format!("memcached tells no {name}"))?;
    Ok(text.parse()?)
}

impl Workload for Memcached {
    fn service(&self) -> Service {
        // Not `-u nobody`: a first process that gives up its privileges by itself can be moved only once.
        let nobody = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"];
        Service::new("memcached", IMAGE, &[&nobody[..], &["memcached", "-m", "64"]].concat()).port(PORT)
    }

    async fn drive<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<()> {
        let address = place.address(PORT).await?;
        eventually(Duration::from_secs(20), || statistics(address)).await?;
        let mut all = String::new();
        for index in 0..ITEMS {
            let value = value(index);
            all.push_str(&format!("set item:{index} 0 0 {} noreply\r\n{value}\r\n", value.len()));
        }
        all.push_str("set counter 0 0 1\r\n0\r\n");
        command(address, &all).await?;
        let load = Load::start(place.addresses(PORT).await?, |address, _| async move {
            let answer = command(address, "incr counter 1\r\n").await?;
            ensure!(answer[0] != "NOT_FOUND", "the counter is gone");
            Ok(())
        });
        load.more(50).await?;
        self.load = Some(load);
        self.remember(address).await
    }

    async fn check<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<String> {
        let load = self.load.as_ref().context("it was not driven")?;
        load.more(50).await?;
        let address = place.address(PORT).await?;
        let low = load.counts();
        let counter = command(address, "get counter\r\n").await?;
        let high = load.counts();
        let count: u64 = counter.get(1).context("the counter is gone")?.trim().parse()?;
        ensure!(
            low.acknowledged <= count && count <= high.asked,
            "it counted {count}, its client had {low:?} acknowledged before and {high:?} after"
        );
        for chunk in (0..ITEMS).collect::<Vec<_>>().chunks(100) {
            let keys: Vec<String> = chunk.iter().map(|index| format!("item:{index}")).collect();
            let answer = command(address, &format!("get {}\r\n", keys.join(" "))).await?;
            let expected: Vec<String> = chunk.iter().map(|&index| value(index)).collect();
            let held: Vec<&String> = answer.iter().skip(1).step_by(2).collect();
            ensure!(held.iter().copied().eq(&expected), "items {:?} are not as they were set", chunk.first());
        }
        let (uptime, connections) = (self.uptime, self.connections);
        self.remember(address).await?;
        ensure!(
            self.uptime >= uptime && self.connections > connections,
            "another process: up for {} s after {} connections, was {uptime} s and {connections}",
            self.uptime,
            self.connections
        );
        Ok(format!("{ITEMS} items, counted to {count}"))
    }

    async fn rest<G: Ground>(&mut self, _place: Place<'_, G>) -> anyhow::Result<()> {
        self.load = None;
        Ok(())
    }
}

impl Memcached {
    async fn remember(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let statistics = statistics(address).await?;
        self.uptime = number(&statistics, "uptime")?;
        self.connections = number(&statistics, "total_connections")?;
        Ok(())
    }
}
