//! Ordinary hosts as nodes: cgroup v2, another kernel, every capability. Services move between two such hosts with their
//! state, also over a bad link and with memory that is sent ahead by the kernel's marks; and nothing moves, or is touched,
//! between such a host and an unlike one.
//!
//! The hosts are emulated, which is slow: nothing timed is asserted.

#![expect(clippy::print_stdout, reason = "what was seen is for whoever watches")]

mod ordinary_host {
    pub mod bad_link;
    pub mod sent_ahead;
}

use std::time::Instant;

use anyhow::{Context as _, ensure};
use ordinary_host::{bad_link, sent_ahead};
use sterna_e2e::emulated::{Emulated, unavailable};
use sterna_e2e::sterna::Sterna;
use sterna_e2e::ticker;
use sterna_e2e::zoo::pipeline::Pipeline;
use sterna_e2e::zoo::postgres::Postgres;
use sterna_e2e::zoo::redis::Redis;
use sterna_e2e::zoo::{Place, Workload};

const IMAGE: &str = "sterna-services:latest";

/// Two emulated hosts and a container node.
fn inventory(services: &str) -> String {
    let mut text = "schema_version = 1\nname = \"e2e-ordinary\"\n".to_owned();
    for (site, agent) in [("a", "agent = \"emulated\""), ("b", "agent = \"emulated\""), ("c", "")] {
        text.push_str(&format!(
            "[[site]]\nname = \"{site}\"\ntier = \"edge\"\nregion = \"eu\"\nprice = {{ node = \"0.1USD/h\" }}\n\
             power = {{ idle = \"5W\", full = \"20W\" }}\n\
             [[site.node]]\nname = \"{site}1\"\ncpu = \"1\"\nmemory = \"2GiB\"\n{agent}\n"
        ));
    }
    for pair in [["a", "b"], ["b", "c"], ["a", "c"]] {
        text.push_str(&format!(
            "[[link]]\nbetween = [\"{}\", \"{}\"]\nrtt = \"1ms\"\nbandwidth = \"1Gbit/s\"\n",
            pair[0], pair[1]
        ));
    }
    text + services
}

/// From its first node to others, one after the other.
async fn through<W: Workload>(hosts: &Emulated, mut workload: W, nodes: &[&str]) -> anyhow::Result<W> {
    let service = workload.service();
    let service = service.name();
    let place = |node| Place { ground: hosts, node, service };
    let begin = Instant::now();
    workload.drive(place("a1")).await.context("at its first node")?;
    println!("{service} is driven after {:.1} s", begin.elapsed().as_secs_f64());
    for node in nodes {
        let start = Instant::now();
        let report = hosts.migrate(service, node).await?;
        ensure!(report["outcome"]["outcome"] == "moved", "to {node}: {report:#}");
        let moved = start.elapsed().as_secs_f64();
        let seen = workload.check(place(node)).await.with_context(|| format!("after the move to {node}"))?;
        println!("{service} to {node} in {moved:.1} s: {seen}");
    }
    Ok(workload)
}

/// To the other host, and has it rest then.
async fn across_to_rest(hosts: &Emulated, workload: impl Workload) -> anyhow::Result<()> {
    let mut workload = through(hosts, workload, &["b1"]).await?;
    let service = workload.service();
    workload.rest(Place { ground: hosts, node: "b1", service: service.name() }).await
}

#[tokio::test]
async fn services_move_between_ordinary_hosts_and_to_no_unlike_one() {
    if let Some(reason) = unavailable() {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "CI=true, and no host can be emulated: {reason}"
        );
        eprintln!("\n!! SKIPPED: ordinary hosts: {reason}");
        return;
    }
    let begin = Instant::now();
    let (redis, postgres, pipeline) = (Redis::default(), Postgres::default(), Pipeline::default());
    let services: String = [redis.service(), postgres.service(), pipeline.service()]
        .map(|service| service.image(IMAGE).table("a1").unwrap())
        .concat();
    let tickers = [(sent_ahead::NAME, sent_ahead::MIB), (bad_link::NAME, bad_link::MIB)]
        .map(|(name, mib)| ticker::service_noting(name, mib, "a1", sent_ahead::NOTABLE));
    let services = services + &tickers.concat();
    let sterna = Sterna::built().unwrap();
    let hosts = Emulated::up(&sterna, &inventory(&services)).await.unwrap();
    println!("up after {:.1} s", begin.elapsed().as_secs_f64());
    assert!(hosts.run("a1", &["test", "-e", "/sys/fs/cgroup/cgroup.controllers"]).await.is_ok(), "cgroup v2");
    hosts.services_up().await.unwrap();
    println!("services up after {:.1} s", begin.elapsed().as_secs_f64());

    let id = hosts
        .run("a1", &["docker", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", "redis"])
        .await
        .unwrap();
    let refused = hosts.migrate("redis", "c1").await.unwrap();
    println!("to an unlike host: {:#}", refused["outcome"]);
    assert_eq!(refused["outcome"]["outcome"], "refused");
    let reasons = refused["outcome"].to_string();
    assert!(reasons.contains("kernel"), "{reasons}");
    let same = hosts
        .run("a1", &["docker", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", "redis"])
        .await
        .unwrap();
    assert_eq!(same, id);
    assert_eq!(hosts.runs_on("redis").await.unwrap(), Some("a1"));
    assert_eq!(hosts.run("c1", &["docker", "ps", "--all", "--quiet"]).await.unwrap(), "");
    assert_eq!(hosts.run("c1", &["docker", "images", "--quiet"]).await.unwrap(), "");

    let mut redis = through(&hosts, redis, &["b1", "a1"]).await.unwrap();
    let start = Instant::now();
    let seen = sent_ahead::moves_while_it_writes(&hosts, "a1", "b1").await.unwrap();
    println!("memory ahead in {:.1} s: {seen}", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let seen = bad_link::is_survived(&hosts, &mut redis).await.unwrap();
    println!("over a bad link in {:.1} s: {seen}", start.elapsed().as_secs_f64());
    redis.rest(Place { ground: &hosts, node: "a1", service: "redis" }).await.unwrap();
    across_to_rest(&hosts, pipeline).await.unwrap();
    across_to_rest(&hosts, postgres).await.unwrap();
    hosts.down().await.unwrap();
    println!("all in {:.1} s", begin.elapsed().as_secs_f64());
}
