//! Memory that is sent ahead where the kernel marks pages that are written: later rounds read those alone, and next to nothing
//! is left when the service stands frozen.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use sterna_e2e::emulated::Emulated;
use sterna_e2e::ticker;

/// The service.
pub const NAME: &str = "ticker";
/// Its memory.
pub const MIB: u32 = 128;
/// On a host as slow as these, smaller gaps tell nothing.
pub const NOTABLE: Duration = Duration::from_secs(2);
/// What it rewrites in a second.
const MIB_PER_SECOND: f64 = 1.0;
/// MiB that may cross while it stands frozen, beside what it writes while the engine is about to freeze it: that takes seconds
/// under emulation, and no round can bring it.
const MOST_LEFT: f64 = 5.0;
/// Pages of its memory.
const PAGES: u64 = (MIB as u64) << 8;
/// How long it may take to compare its memory with what it wrote.
const TO_COMPARE: Duration = Duration::from_secs(90);

fn number<T: FromStr>(report: &Value, phase: &str, of: &str, unit: &str) -> anyhow::Result<T> {
    let phases = report["phases"].as_array().context("a report without phases")?;
    let record = phases.iter().find(|one| one["phase"] == phase);
    let record = record.with_context(|| format!("the phase {phase} was not reached: {report:#}"))?;
    let number = record[of].as_str().and_then(|text| text.strip_suffix(unit)?.parse().ok());
    number.with_context(|| format!("no {of} in {unit}: {record}"))
}

/// What crossed the link on the way to a phase.
pub fn bytes(report: &Value, phase: &str) -> anyhow::Result<u64> {
    number(report, phase, "bytes", "B")
}

/// Whether the kernel's marks were used for the last round of a migration, and the pages that each round has read: what the
/// source's agent says of it.
fn read_by_rounds(log: &str, id: &str) -> Option<(bool, Vec<u64>)> {
    let line = log.lines().find(|line| line.contains("memory was sent ahead") && line.contains(id))?;
    let after = |mark: &str| line.split_once(mark).map(|(_, rest)| rest);
    let marks = after("marks=")?.split_whitespace().next()?.parse().ok()?;
    let pages = after("pages=[")?.split_once(']')?.0;
    Some((marks, pages.split(", ").map(|count| count.parse().ok()).collect::<Option<_>>()?))
}

/// Moves it while it writes.
pub async fn moves_while_it_writes(hosts: &Emulated, from: &str, to: &str) -> anyhow::Result<String> {
    ticker::ready(hosts, from, NAME).await?;
    ticker::rewrite(hosts, from, NAME, MIB_PER_SECOND).await?;
    ticker::noted(hosts, from, NAME).await?;
    let report = hosts.migrate(NAME, to).await?;
    ensure!(report["outcome"]["outcome"] == "moved", "to {to}: {report:#}");
    ticker::rewrite(hosts, to, NAME, 0.0).await?;
    let noted = ticker::whole(hosts, to, NAME, TO_COMPARE).await?;

    let rate = noted.mib_per_second().context("it rewrote nothing")?;
    let (ahead, left) = (bytes(&report, "synced")?, bytes(&report, "transferred")?);
    let id = report["id"].as_str().context("a report without an id")?;
    let said = read_by_rounds(&hosts.console(from)?, id);
    let (marks, pages) = said.context("the agent does not say what it has read")?;
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    let freezing = number::<f64>(&report, "frozen", "took", "ms")? / 1e3;
    let seen = format!(
        "{:.1} MiB ahead, {:.2} MiB left, {rate:.2} MiB/s rewritten, {freezing:.1} s to freeze it, marks: {marks}, \
         pages read: {pages:?}",
        mib(ahead),
        mib(left)
    );
    ensure!(rate > MIB_PER_SECOND / 2.0, "it did not write as it was told to: {seen}");
    ensure!(ahead >= u64::from(MIB) << 20, "its memory was not sent ahead: {seen}");
    ensure!(mib(left) <= MOST_LEFT + MIB_PER_SECOND * freezing, "too much was left: {seen}");
    let (first, rest) = pages.split_first().context("no round")?;
    ensure!(marks && *first >= PAGES, "the kernel's marks were not used: {seen}");
    ensure!(!rest.is_empty() && rest.iter().all(|count| *count < first / 2), "they told nothing: {seen}");
    Ok(seen)
}
