//! Tables for people.

use comfy_table::{CellAlignment, Table, presets};

use crate::matrix::{NOT_ASKED, Variant};
use crate::results::{Results, Row};
use crate::verdict::{Outcome, Side, Verdict};

/// Says how far it is, to whoever waits.
#[expect(clippy::print_stderr, reason = "a benchmark takes long: somebody waits")]
pub fn progress(text: &str) {
    eprintln!("{text}");
}

/// Says what can't be measured, so that nobody overlooks it.
#[expect(clippy::print_stderr, reason = "what is missing must be seen")]
pub fn loud(text: &str) {
    eprintln!("\n!! {text}\n");
}

/// Prints a result.
#[expect(clippy::print_stdout, reason = "the tables are what is asked for")]
pub fn show(text: &str) {
    println!("{text}");
}

/// A table of these rows, numbers at the right of all columns but the first.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in 1..N {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// Milliseconds.
pub fn millis(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0} ms"))
}

fn mib(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} MiB"))
}

/// A part, in percent.
pub fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{:.0} %", value * 100.0))
}

/// What was not measured: the first reason, or nothing.
fn or_left_out(row: &Row, variant: Variant, text: String) -> String {
    if text == "-" && row.left_out.get(&variant).is_some_and(|why| why != NOT_ASKED) {
        "left out".to_owned()
    } else {
        text
    }
}

/// Everything that `sterna-bench migration` prints at the end.
pub fn results(results: &Results) -> String {
    let mut parts = Vec::new();
    let rows = &results.rows;
    let seen = |row: &Row, variant| or_left_out(row, variant, millis(row.downtime(variant)));
    parts.push(format!(
        "Downtime as the service saw it, and as reported; medians of {} runs\n{}",
        results.runs,
        table(
            [
                "service, link, writes",
                "floor",
                "sent ahead",
                "reported",
                "stop-and-copy",
                "reported",
                "engine API"
            ],
            rows.iter().map(|row| [
                row.cell.to_string(),
                seen(row, Variant::Floor),
                seen(row, Variant::SentAhead),
                millis(row.reported(Variant::SentAhead)),
                seen(row, Variant::StopAndCopy),
                millis(row.reported(Variant::StopAndCopy)),
                seen(row, Variant::EngineApi),
            ]),
        )
    ));
    parts.push(format!(
        "Time of the whole move, what crossed the link, and what the floor is made of\n{}",
        table(
            [
                "service, link, writes",
                "sent ahead",
                "crossed",
                "stop-and-copy",
                "crossed",
                "engine API",
                "dump",
                "restore",
                "changed"
            ],
            rows.iter().map(|row| [
                row.cell.to_string(),
                millis(row.total(Variant::SentAhead)),
                mib(row.crossed(Variant::SentAhead)),
                millis(row.total(Variant::StopAndCopy)),
                mib(row.crossed(Variant::StopAndCopy)),
                millis(row.total(Variant::EngineApi)),
                millis(row.direct().map(|one| one.dump)),
                millis(row.direct().map(|one| one.restore)),
                mib(row.changed()),
            ]),
        )
    ));
    parts.push(format!(
        "What the link really carried, what the service really wrote, and how far predictions were off\n{}",
        table(
            [
                "service, link, writes",
                "link",
                "written",
                "downtime, sent ahead",
                "bytes",
                "downtime, stop-and-copy",
                "bytes"
            ],
            rows.iter().map(|row| [
                row.cell.to_string(),
                format!("{:.1} MiB/s", row.bandwidth),
                format!("{:.2} MiB/s", row.wrote()),
                percent(row.downtime_error(Variant::SentAhead)),
                percent(row.bytes_error(Variant::SentAhead)),
                percent(row.downtime_error(Variant::StopAndCopy)),
                percent(row.bytes_error(Variant::StopAndCopy)),
            ]),
        )
    ));
    parts.push(format!(
        "median of the rows' errors of predicted downtimes: sent ahead {}, stop-and-copy {}",
        percent(results.downtime_error(Variant::SentAhead)),
        percent(results.downtime_error(Variant::StopAndCopy)),
    ));
    parts.extend(left_out(results));
    parts.push(verdicts(&results.verdicts));
    parts.join("\n\n")
}

/// What is missing, and why.
fn left_out(results: &Results) -> Option<String> {
    // Why a variant can't be had at all is said once.
    let told =
        |why: &String| why == NOT_ASKED || results.skipped.iter().any(|one| one.ends_with(why.as_str()));
    let of_rows = results.rows.iter().flat_map(|row| {
        let own = row.left_out.iter().filter(|(_, why)| !told(why));
        own.map(|(variant, why)| format!("{}: {variant}: {why}", row.cell))
    });
    let all: Vec<String> =
        results.skipped.iter().cloned().chain(of_rows).map(|line| format!("  - {line}")).collect();
    (!all.is_empty()).then(|| format!("Left out\n{}", all.join("\n")))
}

/// The goals.
pub fn verdicts(verdicts: &[Verdict]) -> String {
    let number = |value: f64, unit: &str| match unit {
        "×" | "ppm" => format!("{value:.3} {unit}"),
        unit => format!("{value:.0} {unit}"),
    };
    let rows = verdicts.iter().map(|one| {
        let side = if one.side == Side::Most { "≤" } else { "≥" };
        [
            one.goal.clone(),
            format!("{side} {}", number(one.limit, one.unit)),
            one.measured.map_or_else(|| "-".to_owned(), |value| number(value, one.unit)),
            match one.outcome {
                Outcome::Met => "met",
                Outcome::Missed => "MISSED",
                Outcome::Unknown => "not measured",
            }
            .to_owned(),
        ]
    });
    format!("Goals\n{}", table(["goal", "wanted", "measured", ""], rows))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::matrix::{Link, Scope};
    use crate::results::{Machine, examples};

    #[test]
    fn what_is_missing_is_told_with_its_reason() {
        let mut row = examples::row((256, Link::Unlimited, 0), (300.0, 400.0), 800.0, 2000.0, 13_000.0);
        row.engine_api.clear();
        row.left_out.insert(Variant::EngineApi, "it broke".to_owned());
        row.left_out.insert(Variant::StopAndCopy, NOT_ASKED.to_owned());
        row.left_out.insert(Variant::SentAhead, "no tbf".to_owned());
        let verdicts = crate::verdict::moves(std::slice::from_ref(&row));
        let all = Results {
            scope: Scope::Quick,
            runs: 3,
            machine: Machine::this(),
            engines: BTreeMap::new(),
            rows: vec![row],
            skipped: vec!["100 Mbit/s: no tbf".to_owned()],
            verdicts,
        };
        let text = results(&all);
        for part in
            ["left out", "engine API: it broke", "100 Mbit/s: no tbf", "700 ms", "1.143 ×", "not measured"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains(NOT_ASKED) && text.matches("no tbf").count() == 1, "{text}");
    }
}
