//! The words for what a simulation found, as tables and pages say them.

use std::fmt;

use sterna_core::history::Outcome as MigrationOutcome;
use sterna_core::report::Hold;
use sterna_policies::policy::{Level, Mode};
use sterna_policies::quantity::Millis;

use super::{Against, Gain, HoldRecord};

/// What was made of a policy's mode.
pub const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "mode off: nothing may move",
        Mode::Auto => "mode auto",
        Mode::Observe => "mode observe; simulated as if it were auto",
        Mode::Recommend => "mode recommend; simulated as if it were auto",
        Mode::Approve => "mode approve; simulated as if all were approved at once",
    }
}

/// Why a move was made.
pub fn why(reason: Option<&Gain>) -> String {
    reason.map_or_else(|| "makes room or mends a rule".to_owned(), gain)
}

fn gain(gain: &Gain) -> String {
    format!("{} {} → {} (gain {:.1})", gain.metric.name(), level(gain.before), level(gain.after), gain.gain)
}

/// A value in the digits that matter.
pub fn level(level: Level) -> String {
    match level {
        Level::UserLatency(value) => format!("{value:.2}"),
        Level::CostRate(value) => format!("{value:.4}"),
        Level::Power(value) => format!("{value:.2}"),
        Level::CarbonRate(value) => format!("{value:.2}"),
    }
}

/// As a fragment that follows a node's name.
impl fmt::Display for Against {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rules { rules } => {
                let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
                f.write_str(&rules.join("; "))
            }
            Self::Unknown => f.write_str("a number that the policy needs is missing there"),
            Self::Worse { metric, by } => write!(f, "{} {} more", metric.name(), level(*by)),
            Self::Dearer { by } => write!(f, "{by:.4} dearer, all in all"),
            Self::Together => f.write_str(
                "better by itself; room, tolerances and what all services come to together decided",
            ),
            Self::Equal => f.write_str("as good"),
        }
    }
}

/// What came of a migration.
pub const fn outcome_word(outcome: MigrationOutcome) -> &'static str {
    match outcome {
        MigrationOutcome::Moved => "moved",
        MigrationOutcome::RolledBack => "rolled back",
        MigrationOutcome::Refused => "refused",
    }
}

/// What was held back, by what, and how often.
pub fn held(record: &HoldRecord) -> String {
    let who = record.service.as_ref().map_or_else(|| "everything".to_owned(), ToString::to_string);
    let when = if record.looks == 1 {
        format!("once, at {}", record.first)
    } else {
        format!("at {} looks, from {} to {}", record.looks, record.first, record.last)
    };
    let which = match record.hold {
        _ if record.looks == 1 => "",
        Hold::GainTooSmall { .. } => " (the largest)",
        Hold::Residency { .. }
        | Hold::Cooldown { .. }
        | Hold::Untriggered { .. }
        | Hold::GainTooNew { .. }
        | Hold::RegretTooSmall { .. }
        | Hold::Settling { .. }
        | Hold::Return { .. } => " (the first time)",
        _ => "",
    };
    format!("{who} held back {when}: {}{which}", record.hold)
}

/// A span in the largest units that say it, to the millisecond: `1d`, `12h 30min`, `2.35s`.
pub fn span(span: Millis) -> String {
    let millis = span.as_micros() / 1_000_000;
    let (seconds, rest) = (millis / 1000, millis % 1000);
    if seconds < 60 {
        return if seconds == 0 {
            format!("{rest}ms")
        } else {
            let text = format!("{seconds}.{rest:03}");
            format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
        };
    }
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        let spans =
            ["0ms", "999ms", "3065.48ms", "90s", "1d", "90061s"].map(|text| span(text.parse().unwrap()));
        assert_eq!(spans, ["0ms", "999ms", "3.065s", "1min 30s", "1d", "1d 1h 1min 1s"]);
    }
}
