//! What Sterna costs while nothing moves: throughput to a service by different ways, and what agent and nested engine take.
//!
//! | module | what lives there |
//! |---|---|
//! | [`throughput`] | what gets through to a service |
//! | [`usage`] | processors and memory of a node's programs |

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use sterna_e2e::continuum::Continuum;
use sterna_e2e::docker::{self, docker};
use sterna_e2e::front::{Front, Fronted};
use sterna_e2e::inventory::Service;
use sterna_e2e::sterna::Sterna;
use sterna_e2e::zoo::eventually;

use crate::migration::inventory;
use crate::nested::Nested;
use crate::pump::CLOCK;
use crate::table::{self, loud, progress};
use crate::verdict::{self, Verdict};
use crate::{median, nested};

mod throughput;
mod usage;

use throughput::{PORT, SINK};
use usage::Usage;

const IMAGE: &str = "sterna-services:latest";
const PLAIN_SERVICE: &str = "sterna-bench-sink";
const PLAIN_ENGINE: &str = "sterna-bench-plain";
const FRONTED: Fronted<'static> = Fronted { name: "sink", port: PORT, protocol: "tcp" };
/// How long something may take to answer for the first time.
const TO_ANSWER: Duration = Duration::from_secs(30);
/// What happens after a start is over by then.
const TO_SETTLE: Duration = Duration::from_secs(20);
/// The goal is about a minute.
const QUIET: Duration = Duration::from_secs(60);

/// The ways to a service.
const PLAIN: &str = "a port that plain Docker publishes";
const NODE: &str = "a service in a node, directly";
const FRONT: &str = "a service in a node, through the front";
/// Who is looked at in a quiet minute.
const OURS: &str = "a node of Sterna's";
const THEIRS: &str = "the same engine without Sterna";
/// The agent's program.
const AGENT: &str = "sterna";

/// Everything, as it is written to the file.
#[derive(Debug, Serialize)]
struct Results {
    /// MiB per second, all runs, by way.
    throughput: BTreeMap<&'static str, Vec<f64>>,
    /// Of a node, and of an engine without Sterna.
    usage: BTreeMap<&'static str, BTreeMap<String, Usage>>,
    skipped: Vec<String>,
    verdicts: Vec<Verdict>,
}

/// A sink that the host's engine runs with a published port. Dropped, it is gone.
#[derive(Debug)]
struct Plain(SocketAddr);

impl Plain {
    async fn start() -> anyhow::Result<Self> {
        docker::service_image().await?;
        // From a life before that was killed; mostly there is none.
        let _none = docker(&["rm", "--force", PLAIN_SERVICE]).await;
        // On the engine's own bridge: nobody else can reach it there, and the kernel forwards it as from outside.
        let format = "{{range .IPAM.Config}}{{.Gateway}} {{end}}";
        let gateways = docker(&["network", "inspect", "bridge", "--format", format]).await?;
        let gateway = gateways.split_whitespace().next().context("the engine's bridge has no address")?;
        let (publish, program, port) = (format!("{gateway}::{PORT}"), sink(), PORT.to_string());
        // From here on it is removed, whatever happens.
        let mut started = Self(SocketAddr::new(gateway.parse()?, 0));
        let arguments = [
            "run",
            "--detach",
            "--rm",
            "--name",
            PLAIN_SERVICE,
            "--publish",
            &publish,
            IMAGE,
            "perl",
            "-e",
            &program,
            &port,
        ];
        docker(&arguments).await?;
        let published = docker(&["port", PLAIN_SERVICE, &format!("{PORT}/tcp")]).await?;
        started.0 = published.lines().next().context("nothing is published")?.parse()?;
        Ok(started)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // Blocking, because the runtime may be on its way out.
        let _gone = std::process::Command::new("docker")
            .args(["rm", "--force", PLAIN_SERVICE])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

fn sink() -> String {
    format!("{CLOCK}\n{SINK}")
}

/// Measures and prints.
///
/// # Errors
/// When anything does not come up. Without a front that starts, its way is left out and said.
pub async fn run(runs: u32, out: Option<&Path>) -> anyhow::Result<()> {
    let sterna = Sterna::built()?;
    let service = Service::new(FRONTED.name, IMAGE, &["perl", "-e", &sink(), &PORT.to_string()]).port(PORT);
    let continuum = Continuum::up(&sterna, &inventory(&service.table("a1")?)).await?;
    continuum.services_up().await?;
    let mut results = Results {
        throughput: BTreeMap::new(),
        usage: BTreeMap::new(),
        skipped: Vec::new(),
        verdicts: Vec::new(),
    };
    ways(&sterna, &continuum, runs, &mut results).await?;
    quiet(&continuum, &mut results).await?;
    continuum.down().await?;
    let middle = |way| median::of(results.throughput.get(way).into_iter().flatten().copied());
    let agent = results.usage.get(OURS).and_then(|node| node.get(AGENT)).map(|one| one.memory);
    results.verdicts = verdict::idle(middle(PLAIN), middle(FRONT), agent);
    crate::results::write(out, &results)?;
    table::show(&shown(&results));
    Ok(())
}

async fn ways(
    sterna: &Sterna,
    continuum: &Continuum,
    runs: u32,
    results: &mut Results,
) -> anyhow::Result<()> {
    let plain = Plain::start().await?;
    let mut ways = vec![(PLAIN, plain.0), (NODE, SocketAddr::new(continuum.address("a1").await?, PORT))];
    let front = Front::start(sterna, continuum, &[FRONTED]).await;
    match &front {
        Ok(front) => ways.push((FRONT, front.address(FRONTED.name)?)),
        Err(error) => {
            let why = format!("{FRONT}: {error:#}");
            loud(&format!("skipped: {why}"));
            results.skipped.push(why);
        }
    }
    for (way, address) in &ways {
        eventually(TO_ANSWER, || throughput::measure(*address)).await.context(*way)?;
    }
    for _ in 0..runs {
        for (way, address) in &ways {
            let rate = throughput::measure(*address).await.context(*way)?;
            progress(&format!("{way}: {rate:.0} MiB/s"));
            results.throughput.entry(way).or_default().push(rate);
        }
    }
    Ok(())
}

/// A quiet minute of a node and of an engine in a container of the same image, with the same service, without an agent.
async fn quiet(continuum: &Continuum, results: &mut Results) -> anyhow::Result<()> {
    let node = continuum.container("a1");
    let image = docker(&["inspect", "--format", "{{.Config.Image}}", &node]).await?;
    let plain = Nested::up(&[PLAIN_ENGINE], &image, Some(nested::PLAIN_DAEMON)).await?;
    plain.give_services().await?;
    let (program, port) = (sink(), PORT.to_string());
    let start = [
        "exec",
        PLAIN_ENGINE,
        "docker",
        "run",
        "--detach",
        "--name",
        "sink",
        IMAGE,
        "perl",
        "-e",
        &program,
        &port,
    ];
    docker(&start).await?;
    progress(&format!("a quiet minute, after {TO_SETTLE:?}"));
    tokio::time::sleep(TO_SETTLE).await;
    let usage = usage::measure(&[&node, PLAIN_ENGINE], QUIET).await?;
    let [ours, theirs] = &usage[..] else { bail!("two nodes were looked at") };
    results.usage.insert(OURS, ours.clone());
    results.usage.insert(THEIRS, theirs.clone());
    plain.down().await
}

fn shown(results: &Results) -> String {
    let middle = |runs: &Vec<f64>| median::of(runs.iter().copied()).unwrap_or(0.0);
    let plain = results.throughput.get(PLAIN).map_or(0.0, middle);
    let rates = results.throughput.iter().map(|(way, runs)| {
        let rate = middle(runs);
        [(*way).to_owned(), format!("{rate:.0} MiB/s"), format!("{:.0} %", rate / plain * 100.0)]
    });
    let usage = results.usage.iter().flat_map(|(where_, programs)| {
        programs.iter().map(move |(program, one)| {
            [
                format!("{where_}: {program}"),
                format!("{:.1} ms/s", one.processor),
                format!("{:.1} MiB", one.memory),
            ]
        })
    });
    let skipped: String = results.skipped.iter().map(|why| format!("\n\nskipped: {why}")).collect();
    format!(
        "What gets through to a service, over one connection; medians\n{}\n\nA quiet minute\n{}{skipped}\n\n{}",
        table::table(["way", "throughput", "of plain"], rates),
        table::table(["program", "processor", "resident"], usage),
        table::verdicts(&results.verdicts)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_shown_as_parts_of_the_plain_one() {
        let usage = BTreeMap::from([(AGENT.to_owned(), Usage { processor: 1.5, memory: 20.0 })]);
        let results = Results {
            throughput: BTreeMap::from([(PLAIN, vec![1000.0]), (FRONT, vec![800.0, 900.0, 950.0])]),
            usage: BTreeMap::from([(OURS, usage)]),
            skipped: vec!["no front".to_owned()],
            verdicts: verdict::idle(Some(1000.0), Some(900.0), Some(20.0)),
        };
        let text = shown(&results);
        for part in ["900 MiB/s", "90 %", "1.5 ms/s", "20.0 MiB", "skipped: no front"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
