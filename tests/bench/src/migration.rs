//! What a move costs: Sterna's, with and without sending ahead, beside the engine's own checkpoint API and the floor, by size of
//! the service, link, and rate of writes. All of a row in one run, on one machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sterna_e2e::continuum::Continuum;
use sterna_e2e::docker::docker;
use sterna_e2e::sterna::Sterna;
use sterna_e2e::ticker;

use crate::engine_api::Api;
use crate::matrix::{Cell, Link, NOT_ASKED, Scope, Variant};
use crate::results::{Machine, Results, Row};
use crate::sterna_move::{self, Abilities, Way};
use crate::table::{self, loud, progress};
use crate::{floor, link, verdict};

/// The two nodes.
const NODES: [&str; 2] = ["a1", "b1"];
/// How long a service writes before it is moved.
const TO_SETTLE: Duration = Duration::from_secs(2);

/// Everything that takes part.
#[derive(Debug)]
struct Stage {
    sterna: Sterna,
    abilities: Abilities,
    continuum: Continuum,
    /// Containers of the nodes.
    containers: Vec<String>,
    api: Result<Api, String>,
    /// Which node runs the ticker.
    at: usize,
    /// Runs of each variant of a row.
    runs: u32,
}

/// Measures and prints.
///
/// # Errors
/// When there is no row, the nodes don't come up, or can't be taken down. What can't be measured is left out and said.
pub async fn run(
    scope: Scope,
    cells: &[Cell],
    runs: u32,
    only: Option<&[Variant]>,
    out: Option<&Path>,
) -> anyhow::Result<()> {
    ensure!(!cells.is_empty(), "there is no row with that: sizes are {:?} MiB", crate::matrix::SIZES);
    let sterna = Sterna::built()?;
    let abilities = Abilities::of(&sterna).await?;
    progress(&format!("{} rows, {runs} runs of each variant", cells.len()));
    let continuum = Continuum::up(&sterna, &inventory("")).await?;
    let containers: Vec<String> = NODES.iter().map(|node| continuum.container(node)).collect();
    let wants = |variant| only.is_none_or(|only| only.contains(&variant));
    let api = if wants(Variant::EngineApi) {
        Api::up().await.map_err(|error| format!("{error:#}"))
    } else {
        Err(NOT_ASKED.to_owned())
    };
    let mut results = Results {
        scope,
        runs,
        machine: Machine::this(),
        engines: engines(&containers, &api).await?,
        rows: Vec::new(),
        skipped: Vec::new(),
        verdicts: Vec::new(),
    };
    if let Err(why) = &api
        && wants(Variant::EngineApi)
    {
        skip(&mut results, format!("engine API: {why}"));
    }
    for variant in [Variant::SentAhead, Variant::StopAndCopy].into_iter().filter(|&one| wants(one)) {
        if let Err(why) = abilities.arguments(variant) {
            skip(&mut results, format!("{variant}: {why}"));
        }
    }
    let mut stage = Stage { sterna, abilities, continuum, containers, api, at: 0, runs };
    for cells in cells.chunk_by(|one, next| one.mib == next.mib) {
        if let Some(first) = cells.first() {
            size(&mut stage, first.mib, cells, &wants, out, &mut results).await?;
        }
    }
    if let Ok(api) = stage.api {
        api.down().await?;
    }
    stage.continuum.down().await?;
    table::show(&table::results(&results));
    if scope == Scope::Quick {
        table::show("\nThis was the quick run, with fewer rows.");
    }
    Ok(())
}

fn skip(results: &mut Results, why: String) {
    loud(&format!("skipped: {why}"));
    results.skipped.push(why);
}

async fn engines(
    containers: &[String],
    api: &Result<Api, String>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let script = "echo Docker $(docker version --format '{{.Server.Version}}'), \
                  CRIU $(criu --version | sed -n 's/^Version: //p'), $(runc --version | head -n 1)";
    let mut engines = BTreeMap::new();
    if let Some(first) = containers.first() {
        engines.insert(
            "Sterna's nodes and the floor".to_owned(),
            docker(&["exec", first, "sh", "-c", script]).await?,
        );
    }
    if let Ok(api) = api {
        engines.insert("engine API, two containers with an engine each".to_owned(), api.version().await?);
    }
    for (what, version) in &engines {
        progress(&format!("{what}: {version}"));
    }
    Ok(engines)
}

/// All rows of one size.
async fn size(
    stage: &mut Stage,
    mib: u32,
    cells: &[Cell],
    wants: &impl Fn(Variant) -> bool,
    out: Option<&Path>,
    results: &mut Results,
) -> anyhow::Result<()> {
    let service = format!("ticker-{mib}");
    link::set(&stage.containers, Link::Unlimited).await?;
    stage.at = 0;
    std::fs::write(stage.continuum.file(), inventory(&ticker::service(&service, mib, NODES[0])))?;
    stage.continuum.services_up().await?;
    ticker::ready(&stage.continuum, NODES[0], &service).await?;
    // There and back, so that the image is everywhere and something is known of the pair: not one of those measured.
    for _ in NODES {
        moved(stage, &service, &[]).await.context("the first moves")?;
    }
    for cell in cells {
        progress(&format!("\n{cell}"));
        match row(stage, &service, *cell, wants, results.scope).await {
            Ok(row) => {
                for (variant, why) in &row.left_out {
                    progress(&format!("   {variant}: left out: {why}"));
                }
                results.rows.push(row);
            }
            Err(error) => skip(results, format!("{cell}: {error:#}")),
        }
        results.verdicts = verdict::moves(&results.rows);
        // A run takes long: what it has so far is kept.
        crate::results::write(out, results)?;
    }
    for container in &stage.containers {
        docker(&["exec", container, "docker", "rm", "--force", "--volumes", &service]).await?;
    }
    if let Ok(api) = &mut stage.api {
        api.stop().await?;
    }
    Ok(())
}

async fn moved(stage: &mut Stage, service: &str, extra: &[&str]) -> anyhow::Result<sterna_move::Moved> {
    let way = Way { from: NODES[stage.at], to: NODES[1 - stage.at] };
    let moved = sterna_move::once(&stage.sterna, &stage.continuum, service, way, extra).await;
    // Also one that failed afterwards may have moved it.
    if let Some(at) = stage.continuum.runs_on(service).await? {
        stage.at = NODES.iter().position(|node| *node == at).unwrap_or(stage.at);
    }
    moved
}

async fn row(
    stage: &mut Stage,
    service: &str,
    cell: Cell,
    wants: &impl Fn(Variant) -> bool,
    scope: Scope,
) -> anyhow::Result<Row> {
    link::set(&stage.containers, cell.link).await?;
    let bandwidth = link::measured(&stage.containers[0], &stage.containers[1], cell.link).await?;
    progress(&format!("   the link carries {bandwidth:.1} MiB/s"));
    let mut row = Row::new(cell, bandwidth);
    for variant in Variant::ALL {
        let cant = match variant {
            Variant::SentAhead | Variant::StopAndCopy => stage.abilities.arguments(variant).err(),
            Variant::EngineApi => stage.api.as_ref().err().cloned(),
            Variant::Floor => None,
        };
        let not_asked = (!wants(variant)).then(|| NOT_ASKED.to_owned());
        if let Some(why) = not_asked.or_else(|| scope.left_out(cell, variant)).or(cant) {
            row.left_out.insert(variant, why);
        }
    }
    let rate = f64::from(cell.rate);
    ticker::rewrite(&stage.continuum, NODES[stage.at], service, rate).await?;
    tokio::time::sleep(TO_SETTLE).await;
    for _ in 0..stage.runs {
        // In turns, so that what else the machine does falls on all alike.
        for variant in [Variant::Floor, Variant::SentAhead, Variant::StopAndCopy] {
            if row.left_out.contains_key(&variant) {
                continue;
            }
            if let Err(error) = one(stage, service, variant, &mut row).await {
                loud(&format!("{cell}: {variant} failed and is left out: {error:#}"));
                row.left_out.insert(variant, format!("{error:#}"));
            }
        }
    }
    // The two tickers don't write at the same time.
    ticker::rewrite(&stage.continuum, NODES[stage.at], service, 0.0).await?;
    if !row.left_out.contains_key(&Variant::EngineApi)
        && let Ok(api) = &mut stage.api
        && let Err(error) = by_api(api, stage.runs, &stage.containers, &mut row).await
    {
        loud(&format!("{cell}: engine API failed and is left out: {error:#}"));
        row.left_out.insert(Variant::EngineApi, format!("{error:#}"));
    }
    Ok(row)
}

/// One run of a variant, with Sterna's ticker.
async fn one(stage: &mut Stage, service: &str, variant: Variant, row: &mut Row) -> anyhow::Result<()> {
    if variant == Variant::Floor {
        let direct = floor::measure(&stage.containers[stage.at], service).await?;
        progress(&format!("   floor: dump {:.0} ms, restore {:.0} ms", direct.dump, direct.restore));
        row.floor.push(direct);
        return Ok(());
    }
    let arguments = stage.abilities.arguments(variant).map_err(anyhow::Error::msg)?;
    let run = moved(stage, service, arguments).await?;
    progress(&format!("   {variant}: downtime {:.0} ms, in all {:.0} ms", run.downtime, run.total));
    if variant == Variant::SentAhead {
        row.sent_ahead.push(run);
    } else {
        row.stop_and_copy.push(run);
    }
    Ok(())
}

/// All runs by the engine's own API.
async fn by_api(api: &mut Api, runs: u32, nodes: &[String], row: &mut Row) -> anyhow::Result<()> {
    let ends = crate::engine_api::ENDS.map(str::to_owned);
    link::set(&ends, row.cell.link).await?;
    // Its link is another one than that of the nodes, and must carry the same.
    let carries = link::measured(&ends[0], &ends[1], row.cell.link).await?;
    progress(&format!(
        "   engine API: its link carries {carries:.1} MiB/s, that of {} {:.1}",
        nodes.join(" and "),
        row.bandwidth
    ));
    api.start(row.cell.mib).await?;
    api.rewrite(row.cell.rate).await?;
    tokio::time::sleep(TO_SETTLE).await;
    for _ in 0..runs {
        let run = api.once(row.cell.mib).await?;
        progress(&format!(
            "   engine API: downtime {:.0} ms: dump {:.0}, copy {:.0}, restore {:.0}",
            run.downtime, run.dump, run.copy, run.restore
        ));
        row.engine_api.push(run);
    }
    Ok(())
}

/// Two sites with a node each, and services.
pub fn inventory(services: &str) -> String {
    let mut text = "schema_version = 1\nname = \"bench\"\n".to_owned();
    for site in ["a", "b"] {
        text.push_str(&format!(
            "[[site]]\nname = \"{site}\"\ntier = \"edge\"\nregion = \"eu\"\nprice = {{ node = \"0.1USD/h\" }}\n\
             power = {{ idle = \"5W\", full = \"20W\" }}\n\
             [[site.node]]\nname = \"{site}1\"\ncpu = \"2\"\nmemory = \"6GiB\"\n"
        ));
    }
    text.push_str("[[link]]\nbetween = [\"a\", \"b\"]\nrtt = \"1ms\"\nbandwidth = \"1Gbit/s\"\n");
    text + services
}
