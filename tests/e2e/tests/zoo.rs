//! The workload zoo goes round: every workload from the first node to the second, to the third and back, with its state
//! checked after every hop, while it is kept busy.
//!
//! `STERNA_ZOO=redis,java` leaves out all but those.

#![expect(clippy::print_stdout, reason = "what was seen is for whoever watches")]

use std::time::Instant;

use anyhow::Context as _;
use sterna_e2e::continuum::Continuum;
use sterna_e2e::docker;
use sterna_e2e::inventory::{NODES, three_sites};
use sterna_e2e::sterna::Sterna;
use sterna_e2e::zoo::counter::Counter;
use sterna_e2e::zoo::etcd::Etcd;
use sterna_e2e::zoo::files::Files;
use sterna_e2e::zoo::memcached::Memcached;
use sterna_e2e::zoo::nginx::Nginx;
use sterna_e2e::zoo::pipeline::Pipeline;
use sterna_e2e::zoo::postgres::Postgres;
use sterna_e2e::zoo::redis::Redis;
use sterna_e2e::zoo::trees::Trees;
use sterna_e2e::zoo::volumes::Volumes;
use sterna_e2e::zoo::{Place, Workload};

/// Three hops of one workload. It is removed afterwards, so that the next one has the machine for itself.
async fn round(continuum: &Continuum, mut workload: impl Workload) -> anyhow::Result<()> {
    let service = workload.service();
    let service = service.name();
    let begin = Instant::now();
    let place = |node| Place { ground: continuum, node, service };
    workload.drive(place(NODES[0])).await.context("at its first node")?;
    for node in [NODES[1], NODES[2], NODES[0]] {
        let start = Instant::now();
        continuum.migrate(service, node).await.with_context(|| format!("to {node}"))?;
        let moved = start.elapsed();
        let seen = workload.check(place(node)).await.with_context(|| format!("after the move to {node}"))?;
        println!("{service} to {node} in {:.1} s: {seen}", moved.as_secs_f64());
    }
    workload.rest(place(NODES[0])).await.context("at its end")?;
    let here = continuum.container(NODES[0]);
    docker::docker(&["exec", &here, "docker", "rm", "--force", service]).await?;
    println!("{service}: {:.1} s in all", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Collects the services of the workloads, then sends them round one after the other. One that fails does not keep the
/// others from going.
macro_rules! zoo {
    ($($workload:expr),* $(,)?) => {{
        let only = std::env::var("STERNA_ZOO").unwrap_or_default();
        let chosen = |name: &str| only.is_empty() || only.split(',').any(|one| one == name);
        let mut services = String::new();
        $(
            let service = $workload.service();
            if chosen(service.name()) {
                services.push_str(&service.table(NODES[0]).unwrap());
            }
        )*
        docker::zoo_image().await.unwrap();
        let sterna = Sterna::built().unwrap();
        let continuum = Continuum::up(&sterna, &three_sites("e2e-zoo", &services)).await.unwrap();
        continuum.services_up().await.unwrap();
        let mut failed: Vec<String> = Vec::new();
        $(
            let workload = $workload;
            let name = workload.service().name().to_owned();
            if chosen(&name) && let Err(error) = round(&continuum, workload).await {
                println!("{name} FAILED: {error:#}");
                failed.push(format!("{name}: {error:#}"));
            }
        )*
        assert!(failed.is_empty(), "{} of the zoo failed:\n{}", failed.len(), failed.join("\n"));
        continuum.down().await.unwrap();
    }};
}

#[tokio::test]
async fn every_workload_goes_round_with_its_state() {
    zoo![
        Redis::default(),
        Postgres::default(),
        Nginx::default(),
        Memcached::default(),
        Counter::python(),
        Counter::node(),
        Counter::java(),
        Etcd::default(),
        Pipeline::default(),
        Files::default(),
        Volumes::default(),
        Trees::default(),
    ];
}
