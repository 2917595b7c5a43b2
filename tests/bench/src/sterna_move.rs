//! One move of the ticker by Sterna: what the service saw, what was reported, and what had been predicted.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use serde_json::Value;
use sterna_e2e::continuum::Continuum;
use sterna_e2e::sterna::Sterna;
use sterna_e2e::ticker;

use crate::matrix::Variant;

/// Says at the command line that nothing is to be sent ahead.
const NOTHING_AHEAD: &str = "--memory=while-frozen";
/// Nobody may give up early: a move over a slow link is what is measured.
const PATIENCE: [&str; 4] = ["--deadline", "2h", "--freeze-lease", "30m"];
/// How long a ticker takes at most to write down what it has just seen.
const TO_NOTE: Duration = Duration::from_millis(1300);

/// One move. Times in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moved {
    /// As the service saw it: its longest gap.
    pub downtime: f64,
    /// As reported.
    pub reported: Option<f64>,
    /// From the order to the end.
    pub total: f64,
    /// What crossed the link.
    pub bytes: u64,
    /// What was predicted of the downtime.
    pub predicted_downtime: Option<f64>,
    /// What was predicted of the bytes.
    pub predicted_bytes: Option<u64>,
    /// MiB per second that the service really wrote.
    pub wrote: Option<f64>,
}

/// What this `sterna` is able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Whether it sends ahead, and so can be told not to.
    pub sends_ahead: bool,
}

impl Abilities {
    /// Asks it.
    ///
    /// # Errors
    /// When it can't be run.
    pub async fn of(sterna: &Sterna) -> anyhow::Result<Self> {
        let help = sterna.must(&["migrate", "--help"]).await?;
        let option = NOTHING_AHEAD.split('=').next().unwrap_or(NOTHING_AHEAD);
        Ok(Self { sends_ahead: help.contains(option) })
    }

    /// The arguments of a variant, or why it can't be had.
    ///
    /// # Errors
    /// When it is none of Sterna's, or this Sterna can't do it.
    pub fn arguments(self, variant: Variant) -> Result<&'static [&'static str], String> {
        match variant {
            Variant::StopAndCopy if self.sends_ahead => Ok(&[NOTHING_AHEAD]),
            // One that can't send ahead never does.
            Variant::StopAndCopy => Ok(&[]),
            Variant::SentAhead if self.sends_ahead => Ok(&[]),
            Variant::SentAhead => Err(format!("this sterna sends nothing ahead: it has no {NOTHING_AHEAD}")),
            Variant::Floor | Variant::EngineApi => Err(format!("{variant} is not Sterna's")),
        }
    }
}

/// What the report of a migration says.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    downtime: Option<f64>,
    total: f64,
    bytes: u64,
    predicted: Option<(f64, u64)>,
}

/// A quantity of a report, without its unit.
fn number(value: &Value, unit: &str) -> anyhow::Result<f64> {
    let text = value.as_str().with_context(|| format!("`{value}` is no quantity"))?;
    let number = text.strip_suffix(unit).and_then(|number| number.parse().ok());
    number.with_context(|| format!("`{text}` is not in {unit}"))
}

/// Downtime in ms and bytes of a prediction, where there is one.
fn cost(value: &Value) -> anyhow::Result<Option<(f64, u64)>> {
    if value.is_null() {
        return Ok(None);
    }
    let cost = &value["cost"];
    Ok(Some((number(&cost["downtime"], "ms")?, number(&cost["bytes"], "B")? as u64)))
}

impl Told {
    fn read(text: &str) -> anyhow::Result<Self> {
        let report: Value = serde_json::from_str(text).context("the report of sterna migrate")?;
        let outcome = &report["outcome"]["outcome"];
        ensure!(outcome == "moved", "the service was not moved: {}", report["outcome"]);
        ensure!(report["started_anew"].is_null(), "not live: {}", report["started_anew"]);
        let (mut total, mut bytes) = (0.0, 0);
        for phase in report["phases"].as_array().context("a report without phases")? {
            total += number(&phase["took"], "ms")?;
            bytes += number(&phase["bytes"], "B")? as u64;
        }
        let downtime = &report["downtime"];
        let downtime = if downtime.is_null() { None } else { Some(number(downtime, "ms")?) };
        Ok(Self { downtime, total, bytes, predicted: cost(&report["forecast"])? })
    }
}

/// The downtime that a report tells, in ms.
///
/// # Errors
/// When it is no report of a service that was moved live, or tells none.
pub fn reported_downtime(report: &str) -> anyhow::Result<f64> {
    Told::read(report)?.downtime.context("the report tells no downtime")
}

/// Where a continuum's ticker is, and where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// From.
    pub from: &'a str,
    /// To.
    pub to: &'a str,
}

/// Moves a ticker once.
///
/// # Errors
/// When it does not arrive, or did not notice its move: then it can't have been live.
pub async fn once(
    sterna: &Sterna,
    continuum: &Continuum,
    service: &str,
    way: Way<'_>,
    extra: &[&str],
) -> anyhow::Result<Moved> {
    let (file, state) = (continuum.file().display().to_string(), continuum.state().display().to_string());
    let mut arguments = vec!["migrate", service, "--to", way.to];
    arguments.extend(["--output", "json", "--inventory", &file, "--state", &state]);
    arguments.extend(PATIENCE);
    arguments.extend(extra);
    tokio::time::sleep(TO_NOTE).await;
    ticker::noted(continuum, way.from, service).await?;
    let finished = sterna.run_in(continuum.folder(), &[], &arguments).await?;
    if !finished.status.success() {
        bail!("{service} was not moved to {}: {}{}", way.to, finished.stdout, finished.stderr);
    }
    let told = Told::read(&finished.stdout)?;
    tokio::time::sleep(TO_NOTE).await;
    let noted = ticker::noted(continuum, way.to, service).await?;
    ensure!(noted.longest_gap > Duration::ZERO, "{service} did not notice its move: it can't have been live");
    Ok(Moved {
        downtime: noted.longest_gap.as_secs_f64() * 1e3,
        reported: told.downtime,
        total: told.total,
        bytes: told.bytes,
        predicted_downtime: told.predicted.map(|one| one.0),
        predicted_bytes: told.predicted.map(|one| one.1),
        wrote: noted.mib_per_second(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{"outcome":{"outcome":"moved"},"downtime":"812.5ms","started_anew":null,
        "phases":[{"phase":"synced","took":"100ms","bytes":"2048B"},{"phase":"dumped","took":"12.25ms","bytes":"0B"}]"#;

    #[test]
    fn a_report_is_read() {
        let told = Told::read(&format!("{REPORT}}}")).unwrap();
        assert_eq!(told, Told { downtime: Some(812.5), total: 112.25, bytes: 2048, predicted: None });
        let forecast = r#"{"cost":{"downtime":"700ms","duration":"1000ms","bytes":"4096B"},"learnt_from":3}"#;
        let told = Told::read(&format!("{REPORT},\"forecast\":{forecast}}}")).unwrap();
        assert_eq!(told.predicted, Some((700.0, 4096)));
    }

    #[test]
    fn what_was_not_moved_live_is_no_measurement() {
        let undone = r#"{"outcome":{"outcome":"rolled-back","reason":"x"},"phases":[],"downtime":null}"#;
        assert!(Told::read(undone).is_err());
        let cold = REPORT.replace("\"started_anew\":null", "\"started_anew\":\"lost\"");
        assert!(Told::read(&format!("{cold}}}")).is_err());
    }

    #[test]
    fn a_sterna_that_sends_nothing_ahead_is_not_told_to_leave_it() {
        let (new, old) = (Abilities { sends_ahead: true }, Abilities { sends_ahead: false });
        assert_eq!(new.arguments(Variant::StopAndCopy), Ok([NOTHING_AHEAD].as_slice()));
        assert_eq!(new.arguments(Variant::SentAhead), Ok([].as_slice()));
        assert_eq!(old.arguments(Variant::StopAndCopy), Ok([].as_slice()));
        assert!(old.arguments(Variant::SentAhead).is_err() && new.arguments(Variant::Floor).is_err());
    }
}
