//! A simulation's report in words and tables.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};
use sterna_core::explain;
use sterna_simulator::clock::SimTime;
use sterna_simulator::report::comparison::{self, UNMOVED};
use sterna_simulator::report::words::{self, held, outcome_word, span};
use sterna_simulator::report::{Entry, Happening, MoveRecord, Outcome, Report};
use sterna_simulator::world::outages::Standing;

/// The whole report.
pub fn render(report: &Report, hash: &str) -> String {
    let mut out = format!(
        "Scenario {}: {} of simulated time from {}, seed {}\n",
        report.scenario,
        span(report.duration.as_millis()),
        report.start,
        report.seed
    );
    out.push_str(&injected(&report.injected));
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

/// What the command line let fail.
pub(super) fn injected(all: &[String]) -> String {
    all.iter().map(|one| format!("Fails by the command line: {one}\n")).collect()
}

fn policy(out: &mut String, outcome: &Outcome) {
    let mode = words::mode(outcome.mode);
    let moves = match outcome.made() {
        0 => "no move".to_owned(),
        1 => "1 move".to_owned(),
        n => format!("{n} moves"),
    };
    let moves = match outcome.refused() {
        0 => moves,
        n => format!("{moves} ({n} refused)"),
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
        let why = words::why(one.gain.as_ref());
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
            effect.carbon_rate.map_or_else(String::new, |rate| format!("{:.2}", rate.as_f64())),
        ]);
    }
    align_right(&mut table, 2..6);
    table
}

fn happening(event: &Happening) -> String {
    match event {
        Happening::Look { verdict } => format!("look: {}", explain::verdict(verdict)),
        Happening::Began { service, from, to } => format!("{service} begins to move, {from} → {to}"),
        Happening::Fault { part, standing } => match standing {
            Standing::Announced => format!("{part} is announced to go"),
            Standing::Gone => format!("{part} is gone"),
            Standing::Back => format!("{part} is back"),
        },
        Happening::Frozen { service } => format!("{service} is frozen"),
        Happening::Resumed { service, on } => format!("{service} runs on {on} and fetches its memory"),
        Happening::Ended { service, on, outcome } => {
            format!("{service} runs on {on} ({})", outcome_word(*outcome))
        }
    }
}

pub(super) fn align_right(table: &mut Table, columns: std::ops::Range<usize>) {
    for index in columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// One column for nothing moving, one per policy; each number with its difference to nothing moving.
fn comparison(report: &Report) -> Table {
    let mut header = vec!["", UNMOVED];
    header.extend(report.outcomes.iter().map(|outcome| outcome.policy.as_str()));
    let mut table = new_table(&header);
    for row in comparison::rows(report) {
        let cells = row.cells.into_iter().map(|cell| match cell.difference {
            Some(difference) => format!("{} ({difference})", cell.text),
            None => cell.text,
        });
        table.add_row([row.name.to_owned()].into_iter().chain(cells));
    }
    align_right(&mut table, 1..report.outcomes.len() + 2);
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
}
