//! A simulation's report in words and tables.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};
use sterna_core::explain;
use sterna_core::history::Outcome as MigrationOutcome;
use sterna_core::report::Hold;
use sterna_policies::policy::{Level, Mode};
use sterna_policies::quantity::Millis;
use sterna_simulator::clock::SimTime;
use sterna_simulator::report::{Entry, Gain, Happening, HoldRecord, MoveRecord, Outcome, Report, Totals};

/// The whole report.
pub fn render(report: &Report, hash: &str) -> String {
    let mut out = format!(
        "Scenario {}: {} of simulated time from {}, seed {}\n",
        report.scenario,
        span(report.duration.as_millis()),
        report.start,
        report.seed
    );
    for outcome in &report.outcomes {
        out.push('\n');
        policy(&mut out, outcome);
    }
    out.push('\n');
    out.push_str(&table_text(comparison(report)));
    unknown_carbon(&mut out, report);
    let _infallible = writeln!(out, "Report hash {hash}");
    out
}

fn policy(out: &mut String, outcome: &Outcome) {
    let mode = match outcome.mode {
        Mode::Off => "mode off: nothing may move",
        Mode::Auto => "mode auto",
        Mode::Observe => "mode observe; simulated as if it were auto",
        Mode::Recommend => "mode recommend; simulated as if it were auto",
        Mode::Approve => "mode approve; simulated as if all were approved at once",
    };
    let moves = match outcome.moves.len() {
        0 => "no move".to_owned(),
        1 => "1 move".to_owned(),
        n => format!("{n} moves"),
    };
    let _infallible = writeln!(out, "Policy {} ({mode}): {} looks, {moves}", outcome.policy, outcome.looks);
    if !outcome.moves.is_empty() {
        out.push_str(&table_text(moves_table(&outcome.moves)));
    }
    if outcome.moves.is_empty() && outcome.holds.is_empty() {
        out.push_str("  At every look everything was best where it was.\n");
    }
    for hold in &outcome.holds {
        let _infallible = writeln!(out, "  {}", held(hold));
    }
    if !outcome.timeline.is_empty() {
        out.push_str(&table_text(timeline(&outcome.timeline)));
    }
}

pub(super) fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header.to_vec());
    table
}

pub(super) fn table_text(table: Table) -> String {
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

fn moves_table(moves: &[MoveRecord]) -> Table {
    let mut table = new_table(&["time", "service", "from → to", "why", "took", "downtime", "ended"]);
    for one in moves {
        let why = one.gain.as_ref().map_or_else(|| "makes room or mends a rule".to_owned(), gain);
        let (took, downtime, ended) = match &one.end {
            Some(end) => {
                let took = SimTime::from_nanos(end.ended.since(one.began)).as_millis();
                (span(took), span(end.downtime), outcome_word(end.outcome))
            }
            None => ("".to_owned(), "".to_owned(), "scenario ended first"),
        };
        table.add_row([
            one.began.to_string(),
            one.service.to_string(),
            format!("{} → {}", one.from, one.to),
            why,
            took,
            downtime,
            ended.to_owned(),
        ]);
    }
    table
}

fn gain(gain: &Gain) -> String {
    format!("{} {} → {} (gain {:.1})", gain.metric.name(), level(gain.before), level(gain.after), gain.gain)
}

fn level(level: Level) -> String {
    match level {
        Level::UserLatency(value) => format!("{value:.2}"),
        Level::CostRate(value) => format!("{value:.4}"),
        Level::Power(value) => format!("{value:.2}"),
        Level::CarbonRate(value) => format!("{value:.2}"),
    }
}

const fn outcome_word(outcome: MigrationOutcome) -> &'static str {
    match outcome {
        MigrationOutcome::Moved => "moved",
        MigrationOutcome::RolledBack => "rolled back",
        MigrationOutcome::Refused => "refused",
    }
}

fn held(record: &HoldRecord) -> String {
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
pub(super) fn span(span: Millis) -> String {
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

fn timeline(entries: &[Entry]) -> Table {
    let mut table = new_table(&["time", "what", "user latency", "USD/h", "W", "g/h"]);
    for entry in entries {
        let effect = &entry.effect;
        table.add_row([
            entry.at.to_string(),
            happening(&entry.event),
            effect.user_latency.map_or_else(String::new, |latency| format!("{latency:.2}")),
            format!("{:.4}", effect.cost_rate.as_f64()),
            format!("{:.1}", effect.power.as_f64()),
            format!("{:.2}", effect.carbon_rate.as_f64()),
        ]);
    }
    align_right(&mut table, 2..6);
    table
}

fn happening(event: &Happening) -> String {
    match event {
        Happening::Look { verdict } => format!("look: {}", explain::verdict(verdict)),
        Happening::Began { service, from, to } => format!("{service} begins to move, {from} → {to}"),
        Happening::Frozen { service } => format!("{service} is frozen"),
        Happening::Ended { service, on, outcome } => {
            format!("{service} runs on {on} ({})", outcome_word(*outcome))
        }
    }
}

fn align_right(table: &mut Table, columns: std::ops::Range<usize>) {
    for index in columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// One column for nothing moving, one per policy; each number with its difference to nothing moving.
fn comparison(report: &Report) -> Table {
    let mut header = vec!["", "nothing moves"];
    header.extend(report.outcomes.iter().map(|outcome| outcome.policy.as_str()));
    let mut table = new_table(&header);
    let mut all = vec![&report.unmoved];
    all.extend(report.outcomes.iter().map(|outcome| &outcome.totals));
    let mut row = |name: &str, cell: &dyn Fn(&Totals) -> (String, Option<f64>)| {
        let base = cell(&report.unmoved).1;
        let mut cells = vec![name.to_owned()];
        for (index, totals) in all.iter().enumerate() {
            let (text, value) = cell(totals);
            let base = base.filter(|base| index > 0 && *base > 0.0);
            let difference = base.zip(value).map(|(base, value)| (value / base - 1.0) * 100.0);
            // Neither `-0.0` nor `+0.0`.
            let difference = difference.filter(|percent| percent.abs() >= 0.05);
            cells.push(match difference {
                Some(percent) => format!("{text} ({percent:+.1}%)"),
                None => text,
            });
        }
        table.add_row(cells);
    };
    let latency = |value: Option<Millis>| {
        (
            value.map_or_else(|| "no requests".to_owned(), |value| format!("{value:.2}")),
            value.map(Millis::as_f64),
        )
    };
    row("user latency, mean", &|totals| latency(totals.user_latency_mean));
    row("user latency, p95", &|totals| latency(totals.user_latency_p95));
    row("cost", &|totals| (format!("{:.4}", totals.cost), Some(totals.cost.as_f64())));
    row("of it egress", &|totals| (format!("{:.4}", totals.cost_egress), None));
    row("energy", &|totals| (format!("{:.2}", totals.energy), Some(totals.energy.as_f64())));
    row("carbon", &|totals| match totals.carbon {
        Some(carbon) => (format!("{carbon:.2}"), Some(carbon.as_f64())),
        None => ("unknown".to_owned(), None),
    });
    row("downtime", &|totals| (span(totals.downtime), None));
    row("requests that waited", &|totals| (format!("{} of {}", totals.requests_held, totals.requests), None));
    let mut moves = vec!["moves".to_owned(), "0".to_owned()];
    moves.extend(report.outcomes.iter().map(|outcome| outcome.moves.len().to_string()));
    table.add_row(moves);
    align_right(&mut table, 1..all.len() + 1);
    table
}

fn unknown_carbon(out: &mut String, report: &Report) {
    let mut sites: Vec<&str> = Vec::new();
    for totals in report.outcomes.iter().map(|outcome| &outcome.totals).chain([&report.unmoved]) {
        sites.extend(totals.carbon_unknown_at.iter().map(|site| site.as_str()));
    }
    sites.sort_unstable();
    sites.dedup();
    if !sites.is_empty() {
        let _infallible = writeln!(
            out,
            "Carbon is unknown where power was drawn without a known intensity: {}.",
            sites.join(", ")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sterna_simulator::{run, scenario::load};

    fn report(scenario: &str, policies: &[&str]) -> String {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../simulator/scenarios");
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let read = |path: &std::path::Path| std::fs::read_to_string(folder.join(path));
        let scenario = load::load(scenario, &text(scenario), &read).unwrap().scenario;
        let policies: Vec<_> = policies
            .iter()
            .map(|name| sterna_policies::load::policy(name, &text(name)).unwrap().value)
            .collect();
        let report = run::compare(&scenario, &policies, 0, &mut |_, _| {}).unwrap();
        render(&report, "(its hash)")
    }

    #[test]
    fn a_day_of_commuting() {
        insta::assert_snapshot!(report("commuters.toml", &["latency-first.toml"]));
    }

    #[test]
    fn three_policies_side_by_side() {
        let mut policies = ["latency-first.toml", "latency-first-stubborn.toml", "cost-first.toml"];
        policies.sort_unstable();
        let text = report("commuters.toml", &policies);
        insta::assert_snapshot!(text.split_once("nothing moves").unwrap().1);
    }

    #[test]
    fn a_day_on_which_nothing_happens() {
        insta::assert_snapshot!(report("quiet.toml", &["latency-first.toml"]));
    }

    #[test]
    fn spans_read_well() {
        let spans =
            ["0ms", "999ms", "3065.48ms", "90s", "1d", "90061s"].map(|text| span(text.parse().unwrap()));
        assert_eq!(spans, ["0ms", "999ms", "3.065s", "1min 30s", "1d", "1d 1h 1min 1s"]);
    }
}
