//! Migrations that were measured, and the JSON that they may come in.
//!
//! Either a file of the format below, in which names have their units, or what `sterna-bench phases --out FILE` writes.
//!
//! ```json
//! { "schema_version": 1,
//!   "migrations": [
//!     { "memory_mib": 256, "duration_seconds": 1.23, "downtime_seconds": 1.01,
//!       "phases": [ { "phase": "dumped", "seconds": 0.238 },
//!                   { "phase": "transferred", "seconds": 0.431, "sent_mib": 258.5 } ] } ] }
//! ```

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use sterna_policies::diagnose::closest;
use sterna_policies::quantity::Bytes;

use super::part::{OTHER, PHASES, Part};

/// One migration of a service that was moved live. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What it had to carry.
    pub memory: Bytes,
    /// Whether its memory was sent ahead.
    pub ahead: bool,
    /// What its phases took, each once.
    pub phases: Vec<Took>,
    /// How long the service stood still, where that is known.
    pub downtime: Option<f64>,
    /// The round trip of the link that it crossed, where that is known.
    pub round_trip: Option<f64>,
}

/// What one phase took.
#[derive(Debug, Clone, PartialEq)]
pub struct Took {
    /// Which.
    pub phase: String,
    /// How long.
    pub took: f64,
    /// What crossed the link.
    pub sent: Bytes,
}

impl Measured {
    /// From start to end.
    pub fn duration(&self) -> f64 {
        self.phases.iter().map(|phase| phase.took).sum()
    }
}

/// A file of measured migrations that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeasuredError {
    /// It is no JSON.
    #[error("{file} is not JSON: {reason}")]
    Json {
        /// The file.
        file: String,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// It is JSON of something else.
    #[error(
        "{file} has no measured migrations: expected an object with `schema_version` and `migrations`, or what `sterna-bench \
         phases --out FILE` writes"
    )]
    Else {
        /// The file.
        file: String,
    },
    /// It has whole moves alone.
    #[error(
        "{file} is what `sterna-bench migration` writes: it has no phases. Measure with `sterna-bench phases --out FILE`"
    )]
    NoPhases {
        /// The file.
        file: String,
    },
    /// It is of another version.
    #[error("{file} has the format version {found}; this program knows 1")]
    Version {
        /// The file.
        file: String,
        /// As it stands there.
        found: String,
    },
    /// One of its entries is wrong.
    #[error("{file}: {entry}: {reason}")]
    Entry {
        /// The file.
        file: String,
        /// Which, such as `migrations[3]`.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    memory_mib: f64,
    phases: Vec<EntryPhase>,
    duration_seconds: Option<f64>,
    downtime_seconds: Option<f64>,
    round_trip_seconds: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryPhase {
    phase: String,
    seconds: f64,
    #[serde(default)]
    sent_mib: f64,
}

/// As the benchmark writes it: milliseconds and bytes.
#[derive(Deserialize)]
struct Run {
    mib: f64,
    phases: Vec<(String, f64, u64)>,
    downtime_reported: Option<f64>,
}

const MIB: f64 = 1_048_576.0;
/// More MiB than this is a mistake in the unit.
const MOST_MIB: f64 = 67_108_864.0;
/// A longer time, in milliseconds, is one as well: thirty days.
const LONGEST: f64 = 2_592_000_000.0;

/// Reads a file of measured migrations.
///
/// # Errors
/// The first entry that is wrong, or that the file is something else.
pub fn read(file: &str, text: &str) -> Result<Vec<Measured>, MeasuredError> {
    let file = || file.to_owned();
    let value: Value = serde_json::from_str(text)
        .map_err(|error| MeasuredError::Json { file: file(), reason: error.to_string() })?;
    match value {
        Value::Array(runs) => {
            let run = |value| {
                let run: Run = serde_json::from_value(value).map_err(|error| error.to_string())?;
                run.measured()
            };
            each(&file(), "", runs, run)
        }
        Value::Object(mut object) => {
            if object.contains_key("rows") && object.contains_key("verdicts") {
                return Err(MeasuredError::NoPhases { file: file() });
            }
            let (Some(version), Some(Value::Array(entries))) =
                (object.remove("schema_version"), object.remove("migrations"))
            else {
                return Err(MeasuredError::Else { file: file() });
            };
            if version != 1 {
                return Err(MeasuredError::Version { file: file(), found: version.to_string() });
            }
            if let Some(key) = object.keys().next() {
                let reason = "no such key; expected `schema_version` and `migrations`".to_owned();
                return Err(MeasuredError::Entry { file: file(), entry: format!("`{key}`"), reason });
            }
            let entry = |value| {
                let entry: Entry = serde_json::from_value(value).map_err(|error| error.to_string())?;
                entry.measured()
            };
            each(&file(), "migrations", entries, entry)
        }
        _ => Err(MeasuredError::Else { file: file() }),
    }
}

fn each(
    file: &str,
    list: &str,
    values: Vec<Value>,
    read: impl Fn(Value) -> Result<Measured, String>,
) -> Result<Vec<Measured>, MeasuredError> {
    let one = |(place, value)| {
        read(value).map_err(|reason| MeasuredError::Entry {
            file: file.to_owned(),
            entry: format!("{list}[{place}]"),
            reason,
        })
    };
    values.into_iter().enumerate().map(one).collect()
}

impl Entry {
    fn measured(self) -> Result<Measured, String> {
        let phase = |one: EntryPhase| {
            let sent = bytes(one.sent_mib, &format!("`sent_mib` of the phase `{}`", one.phase))?;
            Ok(Took {
                took: millis(one.seconds * 1e3, &format!("the phase `{}`", one.phase))?,
                phase: one.phase,
                sent,
            })
        };
        let memory = bytes(self.memory_mib, "`memory_mib`")?;
        let mut phases = self.phases.into_iter().map(phase).collect::<Result<Vec<_>, String>>()?;
        if let Some(whole) = self.duration_seconds {
            let whole = millis(whole * 1e3, "`duration_seconds`")?;
            let other = whole - phases.iter().map(|phase| phase.took).sum::<f64>();
            // Rounded numbers may add up to a little more.
            if other < -0.001 * whole - 1.0 {
                return Err(format!("its phases take {:.3} s more than the whole of it", -other / 1e3));
            }
            phases.push(Took { phase: OTHER.to_owned(), took: other.max(0.0), sent: Bytes::ZERO });
        }
        let downtime =
            self.downtime_seconds.map(|time| millis(time * 1e3, "`downtime_seconds`")).transpose()?;
        let round_trip =
            self.round_trip_seconds.map(|time| millis(time * 1e3, "`round_trip_seconds`")).transpose()?;
        Ok(Measured { round_trip, ..checked(memory, phases, downtime)? })
    }
}

impl Run {
    fn measured(self) -> Result<Measured, String> {
        let phase = |(phase, took, sent): (String, f64, u64)| {
            Ok(Took { took: millis(took, &format!("the phase `{phase}`"))?, phase, sent: Bytes(sent) })
        };
        let phases = self.phases.into_iter().map(phase).collect::<Result<Vec<_>, String>>()?;
        let downtime = self.downtime_reported.map(|time| millis(time, "`downtime_reported`")).transpose()?;
        checked(bytes(self.mib, "`mib`")?, phases, downtime)
    }
}

fn millis(value: f64, what: &str) -> Result<f64, String> {
    match value {
        value if !value.is_finite() => Err(format!("{what} takes {value}, which is no time")),
        value if value < 0.0 => Err(format!("{what} takes {} s: less than nothing", value / 1e3)),
        value if value > LONGEST => Err(format!("{what} takes more than thirty days: is its unit right?")),
        value => Ok(value),
    }
}

fn bytes(mib: f64, what: &str) -> Result<Bytes, String> {
    match mib {
        mib if !mib.is_finite() || mib < 0.0 => Err(format!("{what} is {mib} MiB, which is no size")),
        mib if mib > MOST_MIB => Err(format!("{what} is {mib} MiB: is its unit right?")),
        mib => Ok(Bytes((mib * MIB).round() as u64)),
    }
}

/// What must hold of phases wherever they come from.
///
/// # Errors
/// What does not.
pub fn checked(memory: Bytes, phases: Vec<Took>, downtime: Option<f64>) -> Result<Measured, String> {
    let mut seen = BTreeSet::new();
    for Took { phase, sent, .. } in &phases {
        let Some(part) = Part::of(phase) else {
            let known = &PHASES[..PHASES.len() - 1];
            let help = match closest(phase, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("phases are {}", known.join(", ")),
            };
            return Err(format!("there is no phase `{phase}`; {help}"));
        };
        if !seen.insert(phase.as_str()) {
            return Err(format!("the phase `{phase}` stands in it twice"));
        }
        if part == Part::Transfer && *sent == Bytes::ZERO {
            return Err(format!("the phase `{phase}` does not say what it sent"));
        }
    }
    if phases.is_empty() {
        return Err("it has no phases".to_owned());
    }
    let sent = |part| phases.iter().find(|took| Part::of(&took.phase) == Some(part)).map(|took| took.sent.0);
    // Less than half of it crossed while the service stood still: the rest must have before.
    let ahead = sent(Part::Transfer).is_some_and(|left| left < memory.0 / 2) && sent(Part::Sync) > Some(0);
    Ok(Measured { memory, ahead, phases, downtime, round_trip: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: &str) -> String {
        format!(r#"{{"schema_version": 1, "migrations": [{{"memory_mib": 4, "phases": []}}, {{{body}}}]}}"#)
    }

    #[test]
    fn both_formats_are_read() {
        let text = r#"{"schema_version": 1, "migrations": [
            {"memory_mib": 256, "duration_seconds": 1.5, "downtime_seconds": 1.0, "phases": [
                {"phase": "synced", "seconds": 0.1, "sent_mib": 257},
                {"phase": "dumped", "seconds": 0.25}, {"phase": "transferred", "seconds": 0.5, "sent_mib": 1.5}]}]}"#;
        let [one] = &read("m.json", text).unwrap()[..] else { panic!() };
        assert_eq!((one.memory, one.ahead, one.downtime), (Bytes::from_mib(256), true, Some(1000.0)));
        assert_eq!((one.duration(), one.phases.len()), (1500.0, 4));
        assert_eq!((one.phases[3].phase.as_str(), one.phases[3].took), (OTHER, 650.0));

        let bench = r#"[{"mib": 64, "phases": [["dumped", 149.5, 0], ["transferred", 140.0, 68786586]],
            "downtime_reported": 524.0, "downtime_seen_by_service": 500.0}]"#;
        let [one] = &read("b.json", bench).unwrap()[..] else { panic!() };
        assert_eq!((one.memory, one.ahead, one.downtime), (Bytes::from_mib(64), false, Some(524.0)));
        assert_eq!(one.phases[0], Took { phase: "dumped".into(), took: 149.5, sent: Bytes::ZERO });
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_entry() {
        let phases = |inner: &str| entry(&format!(r#""memory_mib": 64, "phases": [{inner}]"#));
        let of = |text: &str| read("m.json", text).unwrap_err().to_string();
        let first = |text: &str| of(&text.replace(r#"{"memory_mib": 4, "phases": []}, "#, ""));
        let all = [
            of("{"),
            of("7"),
            of("{}"),
            of(r#"{"rows": [], "verdicts": []}"#),
            of(r#"{"schema_version": 2, "migrations": []}"#),
            of(r#"{"schema_version": 1, "migrations": [], "unit": "ms"}"#),
            of(r#"[{"mib": 64, "phases": [["dumped", -3.0, 0]]}]"#),
            of(&entry("")),
            first(&phases(r#"{"phase": "dumped", "seconds": -0.5}"#)),
            first(&phases(r#"{"phase": "dumped", "seconds": NaN}"#)),
            first(&phases(r#"{"phase": "dumped", "seconds": "NaN"}"#)),
            first(&phases(r#"{"phase": "dumped", "seconds": 1e300}"#)),
            first(&phases(r#"{"phase": "dumpd", "seconds": 1}"#)),
            first(&phases(r#"{"phase": "checkpoint_and_transfer", "seconds": 1}"#)),
            first(&phases(r#"{"phase": "dumped", "seconds": 1}, {"phase": "dumped", "seconds": 1}"#)),
            first(&phases(r#"{"phase": "dumped", "milliseconds": 1}"#)),
            first(&phases(r#"{"phase": "transferred", "seconds": 1}"#)),
            first(&phases(r#"{"phase": "transferred", "seconds": 1, "sent_mib": -1}"#)),
            first(&entry(
                r#""memory_mib": 64, "duration_seconds": 1, "phases": [{"phase": "dumped", "seconds": 2}]"#,
            )),
            first(&entry(r#""memory_mib": 1e12, "phases": [{"phase": "dumped", "seconds": 2}]"#)),
        ];
        insta::assert_snapshot!(all.join("\n"));
    }
}
