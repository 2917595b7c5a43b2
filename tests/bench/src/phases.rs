//! What each phase of a move takes, by the size of the service.
//!
//! The service is a ticker: random memory, and a clock that it looks at every millisecond, so that it can tell its own
//! downtime. It goes to and fro between two nodes of this machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use sterna_e2e::continuum::Continuum;
use sterna_e2e::sterna::Sterna;
use sterna_e2e::ticker;

use crate::median;
use crate::migration::inventory;

/// As much of a migration's report as is measured.
#[derive(Debug, Deserialize)]
struct Report {
    downtime: Option<String>,
    phases: Vec<PhaseRecord>,
}

#[derive(Debug, Deserialize)]
struct PhaseRecord {
    phase: String,
    took: String,
    bytes: String,
}

/// One move. Times in milliseconds.
#[derive(Debug, Serialize)]
struct Run {
    mib: u32,
    phases: Vec<(String, f64, u64)>,
    downtime_reported: f64,
    downtime_seen_by_service: f64,
}

/// Measures and prints.
pub async fn run(sizes: &[u32], runs: u32, out: Option<&Path>) -> anyhow::Result<()> {
    let sterna = Sterna::built()?;
    let name = |mib: u32| format!("ticker-{mib}");
    let services: String = sizes.iter().map(|mib| ticker::service(&name(*mib), *mib, "a1")).collect();
    let continuum = Continuum::up(&sterna, &inventory(&services)).await?;
    continuum.services_up().await?;
    let mut all = Vec::new();
    for mib in sizes {
        let service = name(*mib);
        ticker::ready(&continuum, "a1", &service).await?;
        // The first move also brings the image: it is not one of those measured.
        let mut at = "b1";
        one(&sterna, &continuum, &service, *mib, at).await?;
        for _ in 0..runs {
            at = if at == "a1" { "b1" } else { "a1" };
            all.push(one(&sterna, &continuum, &service, *mib, at).await?);
        }
    }
    continuum.down().await?;
    crate::results::write(out, &all)?;
    print(sizes, &all);
    Ok(())
}

async fn one(
    sterna: &Sterna,
    continuum: &Continuum,
    service: &str,
    mib: u32,
    to: &str,
) -> anyhow::Result<Run> {
    let (file, state) = (continuum.file().display().to_string(), continuum.state().display().to_string());
    let from = if to == "a1" { "b1" } else { "a1" };
    ticker::longest_gap(continuum, from, service).await?;
    let arguments =
        ["migrate", service, "--to", to, "--output", "json", "--inventory", &file, "--state", &state];
    let printed = sterna.must(&arguments).await?;
    let report: Report = serde_json::from_str(&printed).context("the report of sterna migrate")?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let gap = ticker::longest_gap(continuum, to, service).await?;
    ensure!(gap > Duration::ZERO, "{service} did not notice its move: it can't have been live");
    let phases = report
        .phases
        .iter()
        .map(|one| Ok((one.phase.clone(), number(&one.took, "ms")?, number(&one.bytes, "B")? as u64)))
        .collect::<anyhow::Result<_>>()?;
    let downtime = report.downtime.context("a move without a downtime")?;
    Ok(Run {
        mib,
        phases,
        downtime_reported: number(&downtime, "ms")?,
        downtime_seen_by_service: gap.as_secs_f64() * 1e3,
    })
}

fn number(text: &str, unit: &str) -> anyhow::Result<f64> {
    text.strip_suffix(unit)
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("`{text}` is not in {unit}"))
}

#[expect(clippy::print_stdout, reason = "the table is what is asked for")]
fn print(sizes: &[u32], all: &[Run]) {
    let mut rows: Vec<(String, BTreeMap<u32, String>)> = Vec::new();
    let mut put = |row: &str, mib: u32, text: String| match rows.iter_mut().find(|(name, _)| name == row) {
        Some((_, cells)) => drop(cells.insert(mib, text)),
        None => rows.push((row.to_owned(), BTreeMap::from([(mib, text)]))),
    };
    for mib in sizes {
        let runs: Vec<&Run> = all.iter().filter(|run| run.mib == *mib).collect();
        let of = |value: &dyn Fn(&Run) -> f64| median::of(runs.iter().map(|run| value(run))).unwrap_or(0.0);
        let Some(first) = runs.first() else { continue };
        for (at, (phase, _, _)) in first.phases.iter().enumerate() {
            let took = of(&|run| run.phases.get(at).map_or(0.0, |one| one.1));
            let sent = of(&|run| run.phases.get(at).map_or(0.0, |one| one.2 as f64)) / 1_048_576.0;
            let sent = if sent < 0.05 { String::new() } else { format!(", {sent:.1} MiB") };
            put(phase, *mib, format!("{took:.0} ms{sent}"));
        }
        put("downtime, reported", *mib, format!("{:.0} ms", of(&|run| run.downtime_reported)));
        put(
            "downtime, as the service saw it",
            *mib,
            format!("{:.0} ms", of(&|run| run.downtime_seen_by_service)),
        );
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(std::iter::once("phase".to_owned()).chain(sizes.iter().map(|mib| format!("{mib} MiB"))));
    for (name, cells) in &rows {
        let cells = sizes.iter().map(|mib| cells.get(mib).cloned().unwrap_or_default());
        table.add_row(std::iter::once(name.clone()).chain(cells));
    }
    for column in 1..=sizes.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!(
        "{table}\nmedians of {} moves per size, both nodes on this machine",
        all.len() / sizes.len().max(1)
    );
}
