//! The calibration file: what the parts of a move take on nodes of one's own. `sterna calibrate` writes it.

use schemars::JsonSchema;
use serde::Deserialize;
use sterna_policies::load::{At, Findings, Invalid, Loaded, Written, schema_version, toml_document};
use sterna_policies::quantity::{Bytes, Millis, Percent};

use super::{Costs, Left, Line};

/// The format that this version reads.
pub const SCHEMA_VERSION: u32 = 1;

/// A calibration file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Calibration")]
struct CalibrationFile {
    /// The version of this format: 1.
    schema_version: At<u32>,
    /// What predictions use. What is left out is as it is without a calibration.
    costs: At<CostsFile>,
    /// What was measured.
    measured: Option<MeasuredFile>,
    /// The lines through what was measured, phase by phase.
    #[serde(default)]
    phase: Vec<PhaseFile>,
}

/// What predictions use.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Costs")]
struct CostsFile {
    /// A dump, such as { constant = "90ms", per_mib = "0.5ms" }.
    dump: Option<LineFile>,
    /// A restore, the engine's own part with it.
    restore: Option<LineFile>,
    /// What else a service stands still for.
    around: Option<LineFile>,
    /// What a migration takes beside that, while the service runs.
    beside: Option<LineFile>,
    /// Opening the stream for what crosses while the service stands still.
    opening: Option<Written<Millis>>,
    /// What crosses then, of a memory that was sent ahead, such as { constant = "1MiB", share = "2%" }.
    left: Option<LeftFile>,
}

/// A time that grows with the memory of a service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Line")]
struct LineFile {
    /// What it takes without any.
    constant: Written<Millis>,
    /// What each MiB adds.
    per_mib: Written<Millis>,
}

/// What is left of a memory that was sent ahead.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Left")]
struct LeftFile {
    /// However large it is.
    constant: Written<Bytes>,
    /// And of its size.
    share: Written<Percent>,
}

/// What was measured.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Measured")]
struct MeasuredFile {
    /// Migrations.
    #[expect(dead_code, reason = "for people")]
    migrations: u64,
    /// Their sizes.
    sizes: Vec<Written<Bytes>>,
    /// How far whole migrations of a size are, on average, from what the others say of it.
    duration_error: Option<Written<Percent>>,
    /// The same of downtimes.
    downtime_error: Option<Written<Percent>>,
}

/// The line through what one phase took.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Phase")]
struct PhaseFile {
    /// Which.
    #[expect(dead_code, reason = "for people")]
    phase: String,
    /// Over what: `memory` of the service, or what was `sent` in the phase.
    #[expect(dead_code, reason = "as above")]
    over: Over,
    /// Migrations in which it was measured.
    #[expect(dead_code, reason = "as above")]
    migrations: u64,
    /// What it takes without any.
    constant: Written<Millis>,
    /// Where that lies with 95 % confidence.
    constant_interval: [Written<Millis>; 2],
    /// What each MiB adds.
    per_mib: Written<Millis>,
    /// Where that lies with 95 % confidence.
    per_mib_interval: [Written<Millis>; 2],
    /// How far one migration is from the line, as a share of it: the standard deviation.
    spread: Written<Percent>,
    /// How far the migrations of a size are, on average, from what the others say of it.
    error: Option<Written<Percent>>,
}

/// What a line is over.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Over {
    /// The memory of the service.
    Memory,
    /// What crossed the link in the phase.
    Sent,
}

/// Reads a calibration file.
///
/// # Errors
/// All that is wrong with it: its form, its quantities, and a file that calibrates nothing.
pub fn load(file_name: &str, text: &str) -> Result<Loaded<Costs>, Invalid> {
    let file: CalibrationFile = toml_document(file_name, text)?;
    let mut findings = Findings::new(file_name, text);
    schema_version(&file.schema_version, SCHEMA_VERSION, &mut findings);
    let written = &file.costs.value;
    let assumed = Costs::default();
    let mut line = |written: &Option<LineFile>, assumed| match written {
        Some(written) => {
            let constant = written.constant.read_unsigned(&mut findings).unwrap_or_default();
            let per_mib = written.per_mib.read_unsigned(&mut findings).unwrap_or_default();
            Line { constant, per_mib }
        }
        None => assumed,
    };
    let (dump, restore) = (line(&written.dump, assumed.dump), line(&written.restore, assumed.restore));
    let (around, beside) = (line(&written.around, assumed.around), line(&written.beside, assumed.beside));
    let opening = match &written.opening {
        Some(opening) => opening.read_unsigned(&mut findings).unwrap_or_default(),
        None => assumed.opening,
    };
    let left = written.left.as_ref().map_or(assumed.left, |written| left(written, &mut findings));
    let CostsFile { dump: d, restore: r, around: a, beside: b, opening: o, left: l } = written;
    if d.is_none() && r.is_none() && a.is_none() && b.is_none() && o.is_none() && l.is_none() {
        findings
            .error("K0001", file.costs.span(), "nothing is calibrated")
            .label("expected at least one cost")
            .help("`sterna calibrate --out FILE` writes such a file from migrations that were measured");
    }
    if let Some(measured) = &file.measured {
        for size in &measured.sizes {
            size.read(&mut findings);
        }
        for error in [&measured.duration_error, &measured.downtime_error].into_iter().flatten() {
            error.read_unsigned(&mut findings);
        }
    }
    file.phase.iter().for_each(|phase| form(phase, &mut findings));
    findings.finish(Costs { dump, restore, around, beside, opening, left })
}

fn left(written: &LeftFile, findings: &mut Findings) -> Left {
    let constant = written.constant.read(findings).unwrap_or_default();
    let share = written.share.read_unsigned(findings).unwrap_or_default();
    if share > Percent::from_micros(100_000_000) {
        findings
            .error("K0002", written.share.span(), format!("{share} of a memory can't be left of it"))
            .label("expected at most 100%");
    }
    Left { constant, share }
}

/// What people read must be right too.
fn form(phase: &PhaseFile, findings: &mut Findings) {
    let [low, high] = &phase.constant_interval;
    let [less, more] = &phase.per_mib_interval;
    for time in [&phase.constant, &phase.per_mib] {
        time.read_unsigned(findings);
    }
    for time in [low, high, less, more] {
        // An interval may reach below nothing: that is how little is known.
        time.read(findings);
    }
    phase.spread.read_unsigned(findings);
    if let Some(error) = &phase.error {
        error.read_unsigned(findings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str =
        "schema_version = 1\n[costs]\ndump = { constant = \"100ms\", per_mib = \"0.25ms\" }\n";

    #[test]
    fn what_is_not_in_it_is_as_without_it() {
        let costs = load("c.toml", LEAST).unwrap().value;
        let assumed = Costs::default();
        assert_eq!(costs.dump.at(Bytes::from_mib(100)), "125ms".parse().unwrap());
        assert_eq!(Costs { dump: assumed.dump, ..costs }, assumed);
        let more = format!("{LEAST}opening = \"9ms\"\nleft = {{ constant = \"2MiB\", share = \"5%\" }}\n");
        let costs = load("c.toml", &more).unwrap().value;
        assert_eq!(costs.opening, "9ms".parse().unwrap());
        assert_eq!(costs.left.of(Bytes::from_mib(100)), Bytes::from_mib(7));
    }

    #[test]
    fn mistakes_are_shown_where_they_stand() {
        let reports = [
            LEAST.replace("= 1", "= 2"),
            LEAST.replace("0.25ms", "-0.25ms"),
            LEAST.replace("0.25ms", "0.25"),
            LEAST.replace("dump", "dumb"),
            "schema_version = 1\n[costs]\n".to_owned(),
            format!("{LEAST}left = {{ constant = \"2MiB\", share = \"150%\" }}\n"),
            format!("{LEAST}[[phase]]\nphase = \"dumped\"\nover = \"size\"\n"),
        ]
        .map(|text| load("c.toml", &text).unwrap_err().report().lines());
        insta::assert_snapshot!(reports.join("\n"));
    }
}
