//! The result as the file that scheduler and scenarios read; `sterna_core::cost::calibration` reads it.

use std::fmt::{self, Display, Write as _};

use sterna_core::cost::calibration::SCHEMA_VERSION;
use sterna_core::cost::{Left, Line};
use sterna_policies::quantity::{Millis, Percent};

use super::part::Part;
use super::{Calibration, Phase};

/// A share in percent, of which people read two digits.
struct Share(f64);

impl Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = Percent::from_f64(self.0 * 100.0).unwrap_or(Percent::ZERO);
        write!(f, "\"{percent:.2}\"")
    }
}

/// A time, to the microsecond, or of a MiB, to the nanosecond.
struct Time(f64);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", Millis::from_f64(self.0).unwrap_or(Millis::ZERO))
    }
}

/// Writes a calibration down. `of` says in words what was measured.
pub fn text(calibration: &Calibration, of: &str) -> String {
    let mut text = String::new();
    // A string takes all that is written to it.
    let _fits = put(calibration, of, &mut text);
    text
}

fn put(calibration: &Calibration, of: &str, text: &mut String) -> fmt::Result {
    let Calibration { migrations, sizes, duration_error, downtime_error, phases, costs, .. } = calibration;
    writeln!(
        text,
        "# What the parts of a move take, as `sterna calibrate` learnt it from {}.",
        of.replace('\n', " ")
    )?;
    writeln!(text, "schema_version = {SCHEMA_VERSION}\n")?;
    writeln!(
        text,
        "# What predictions use: times over the memory of the service. What is left out is as without this file."
    )?;
    writeln!(text, "[costs]")?;
    let measured = |part: Part| phases.iter().any(|phase| Part::of(&phase.phase) == Some(part));
    for (part, key, line) in [
        (Part::Dump, "dump", costs.dump),
        (Part::Restore, "restore", costs.restore),
        (Part::Around, "around", costs.around),
        (Part::Beside, "beside", costs.beside),
    ] {
        let Line { constant, per_mib } = line;
        if measured(part) || part == Part::Beside && measured(Part::Sync) {
            writeln!(text, "{key} = {{ constant = \"{constant}\", per_mib = \"{per_mib}\" }}")?;
        }
    }
    if measured(Part::Transfer) {
        writeln!(text, "opening = \"{}\"", costs.opening)?;
    }
    if let Some(Left { constant, share }) = calibration.left {
        writeln!(text, "left = {{ constant = \"{}B\", share = \"{share}\" }}", constant.0)?;
    }
    writeln!(text, "\n# What follows is for people.\n[measured]")?;
    writeln!(text, "migrations = {migrations}")?;
    let sizes: Vec<String> = sizes.iter().map(|size| format!("\"{}B\"", size.memory.0)).collect();
    writeln!(text, "sizes = [{}]", sizes.join(", "))?;
    writeln!(text, "# Means of relative errors, each size predicted from all others.")?;
    writeln!(text, "duration_error = {}", Share(*duration_error))?;
    if let Some(error) = downtime_error {
        writeln!(text, "downtime_error = {}", Share(*error))?;
    }
    phases.iter().try_for_each(|phase| put_phase(phase, text))
}

fn put_phase(phase: &Phase, text: &mut String) -> fmt::Result {
    let Phase { phase, over, fit, left_out_error } = phase;
    let interval = |[low, high]: [f64; 2]| format!("[{}, {}]", Time(low), Time(high));
    writeln!(text, "\n[[phase]]\nphase = \"{phase}\"\nover = \"{}\"", over.name())?;
    writeln!(text, "migrations = {}", fit.migrations)?;
    writeln!(text, "constant = {}", Time(fit.constant))?;
    writeln!(text, "constant_interval = {}", interval(fit.constant_interval))?;
    writeln!(text, "per_mib = {}", Time(fit.per_mib))?;
    writeln!(text, "per_mib_interval = {}", interval(fit.per_mib_interval))?;
    writeln!(text, "spread = {}", Share(fit.spread))?;
    if let Some(error) = left_out_error {
        writeln!(text, "error = {}", Share(*error))?;
    }
    Ok(())
}
