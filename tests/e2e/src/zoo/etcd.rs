//! etcd, a program in Go with many threads, a database that it maps into memory, a log on disk, and connections to itself.
//!
//! A single member elects itself anew at every start, so the term of its leadership tells one life of it from another.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::load::{Load, http};
use super::{Ground, IMAGE, Place, Workload, eventually};
use crate::inventory::Service;

const PORT: u16 = 2379;
const KEYS: usize = 50;

/// etcd with keys that stay and one that is written all the time.
#[derive(Debug, Default)]
pub struct Etcd {
    load: Option<Load>,
    term: String,
    revision: u64,
}

async fn call(
    client: &reqwest::Client,
    address: SocketAddr,
    what: &str,
    body: Value,
) -> anyhow::Result<Value> {
    let url = format!("http://{address}/v3/{what}");
    Ok(client.post(url).json(&body).send().await?.error_for_status()?.json().await?)
}

async fn put(client: &reqwest::Client, address: SocketAddr, key: &str, value: &str) -> anyhow::Result<()> {
    let body = json!({ "key": STANDARD.encode(key), "value": STANDARD.encode(value) });
    call(client, address, "kv/put", body).await.map(drop)
}

async fn get(client: &reqwest::Client, address: SocketAddr, key: &str) -> anyhow::Result<String> {
    let answer = call(client, address, "kv/range", json!({ "key": STANDARD.encode(key) })).await?;
    let value = answer["kvs"][0]["value"].as_str().with_context(|| format!("key {key}: {answer}"))?;
    Ok(String::from_utf8(STANDARD.decode(value)?)?)
}

/// Term of its leadership, and number of its last change.
async fn status(client: &reqwest::Client, address: SocketAddr) -> anyhow::Result<(String, u64)> {
    let answer = call(client, address, "maintenance/status", json!({})).await?;
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("status: {answer}"));
    Ok((text(&answer["raftTerm"])?, text(&answer["header"]["revision"])?.parse()?))
}

impl Workload for Etcd {
    fn service(&self) -> Service {
        let command = [
            "etcd",
            "--data-dir=/etcd",
            "--listen-client-urls=http://0.0.0.0:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--log-level=error",
        ];
        Service::new("etcd", IMAGE, &command).port(PORT)
    }

    async fn drive<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<()> {
        let (client, address) = (http()?, place.address(PORT).await?);
        let first = || put(&client, address, "key:0", "value 0");
        eventually(Duration::from_secs(30), first).await?;
        for index in 1..KEYS {
            put(&client, address, &format!("key:{index}"), &format!("value {index}")).await?;
        }
        (self.term, self.revision) = status(&client, address).await?;
        let load = Load::start(place.addresses(PORT).await?, move |address, number| {
            let client = client.clone();
            async move { put(&client, address, "counter", &number.to_string()).await }
        });
        load.more(20).await?;
        self.load = Some(load);
        Ok(())
    }

    async fn check<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<String> {
        let load = self.load.as_ref().context("it was not driven")?;
        load.more(20).await?;
        let (client, address) = (http()?, place.address(PORT).await?);
        let low = load.counts();
        let written: u64 = get(&client, address, "counter").await?.parse()?;
        let high = load.counts();
        ensure!(
            low.last_acknowledged <= written && written <= high.asked,
            "it holds write {written}, its client had {low:?} acknowledged before and {high:?} after"
        );
        for index in 0..KEYS {
            let held = get(&client, address, &format!("key:{index}")).await?;
            ensure!(held == format!("value {index}"), "key:{index} holds `{held}`");
        }
        let (term, revision) = status(&client, address).await?;
        ensure!(term == self.term, "another process: it leads in term {term}, it led in {}", self.term);
        ensure!(
            revision >= self.revision + low.acknowledged,
            "{revision} changes, {} before, {low:?}",
            self.revision
        );
        Ok(format!("term {term}, revision {revision}"))
    }

    async fn rest<G: Ground>(&mut self, _place: Place<'_, G>) -> anyhow::Result<()> {
        self.load = None;
        Ok(())
    }
}
