//! A comparison of policies over seeds, in words and tables.

use std::fmt::Write;

use comfy_table::CellAlignment;
use sterna_simulator::report::words::span;
use sterna_simulator::sweep::estimate::Estimate;
use sterna_simulator::sweep::result::Compared;
use sterna_simulator::sweep::{Comparison, Measure};

use crate::simulate::text::{injected, new_table, table_text};

/// So many policies are told with all they come to and differ in.
const FEW: usize = 8;

/// The whole comparison.
pub fn render(comparison: &Comparison, hash: &str) -> String {
    let Comparison { scenario, start, duration, seeds, policies, .. } = comparison;
    let seeds = match seeds.as_slice() {
        [only] => format!("seed {only}"),
        [first, .., last] => format!("seeds {first} to {last}"),
        [] => "no seed".to_owned(),
    };
    let lasts = span(duration.as_millis());
    let mut out = format!("Scenario {scenario}: {lasts} of simulated time from {start}, {seeds}\n");
    out.push_str(&injected(&comparison.injected));
    let words = match (comparison.random, comparison.seeds.len()) {
        (false, _) => {
            "Nothing in the scenario is left to chance: one run says all, and there are no intervals.\n"
        }
        (true, 1) => "One seed says nothing of how much is chance; give `--seeds 5` or more for intervals.\n",
        (true, _) => "All policies met the same worlds. ± holds the mean with 95 % confidence (Student).\n",
    };
    out.push_str(words);
    if policies.len() <= FEW {
        for one in policies {
            described(&mut out, one);
        }
        out.push_str(&totals(comparison));
        if comparison.seeds.len() > 1 || policies.len() > 1 {
            out.push_str(&differences(comparison));
        }
    } else {
        out.push_str(&front(comparison));
    }
    if policies.len() > 1 {
        out.push_str(&last_word(comparison));
    }
    let _infallible = writeln!(out, "Comparison hash {hash}");
    out
}

fn settings(one: &Compared) -> String {
    let words: Vec<String> = one.settings.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    words.join(", ")
}

fn described(out: &mut String, one: &Compared) {
    if !one.settings.is_empty() {
        let _infallible = writeln!(out, "  {}: {}", one.policy, settings(one));
    }
}

fn title(measure: Measure) -> String {
    let words = match measure {
        Measure::UserLatency => "user latency, mean",
        Measure::UserLatencyP95 => "user latency, p95",
        Measure::Cost => "cost",
        Measure::Energy => "energy",
        Measure::Carbon => "carbon",
        Measure::Downtime => "downtime",
        Measure::Moves => "moves",
    };
    match measure.unit() {
        "" => words.to_owned(),
        unit => format!("{words} [{unit}]"),
    }
}

/// With three digits of what it is not sure of, or of itself.
fn number(estimate: &Estimate, signed: bool) -> String {
    let Estimate { mean, within } = *estimate;
    let size = within.filter(|within| *within > 0.0).unwrap_or(mean.abs());
    let digits = if size > 0.0 { (2 - size.log10().floor() as i32).clamp(0, 4) } else { 0 };
    let digits = usize::try_from(digits).unwrap_or(0);
    let mean = if signed { format!("{mean:+.digits$}") } else { format!("{mean:.digits$}") };
    match within {
        Some(within) => format!("{mean} ± {within:.digits$}"),
        None => mean,
    }
}

fn totals(comparison: &Comparison) -> String {
    let mut header = vec!["", "nothing moves"];
    header.extend(comparison.policies.iter().map(|one| one.policy.as_str()));
    let mut table = new_table(&header);
    for measure in Measure::ALL {
        let all =
            std::iter::once(&comparison.unmoved).chain(comparison.policies.iter().map(|one| &one.measures));
        let cells = all.map(|measures| {
            measures.get(&measure).map_or_else(|| "unknown".to_owned(), |estimate| number(estimate, false))
        });
        table.add_row(std::iter::once(title(measure)).chain(cells));
    }
    right(&mut table, header.len());
    table_text(table)
}

/// Seed by seed, against nothing moving and against the first policy.
fn differences(comparison: &Comparison) -> String {
    let mut table = new_table(&["", "measure", "beyond nothing moving", "beyond the first policy"]);
    for one in &comparison.policies {
        for measure in Measure::ALL {
            let cell = |of: Option<&Estimate>| match of {
                Some(estimate)
                    if estimate.mean == 0.0 && estimate.within.is_none_or(|within| within == 0.0) =>
                {
                    "the same".to_owned()
                }
                Some(estimate) => number(estimate, true),
                None => String::new(),
            };
            let (unmoved, first) = (one.beyond_unmoved.get(&measure), one.beyond_first.get(&measure));
            if unmoved.is_some() || first.is_some() {
                table.add_row([one.policy.clone(), title(measure), cell(unmoved), cell(first)]);
            }
        }
    }
    right(&mut table, 4);
    format!("Differences, seed by seed:\n{}", table_text(table))
}

/// What nothing beats, by the objectives.
fn front(comparison: &Comparison) -> String {
    let mut header = vec!["".to_owned()];
    header.extend(comparison.objectives.iter().map(|measure| title(*measure)));
    header.push("settings".to_owned());
    let mut table = new_table(&header.iter().map(String::as_str).collect::<Vec<_>>());
    let mut seen = Vec::new();
    for one in comparison.policies.iter().filter(|one| one.beaten_by.is_none()) {
        let cells: Vec<String> = comparison
            .objectives
            .iter()
            .filter_map(|measure| one.measures.get(measure))
            .map(|estimate| number(estimate, false))
            .collect();
        // Those that come to the very same are one line.
        if seen.contains(&cells) {
            continue;
        }
        let row = std::iter::once(one.policy.clone()).chain(cells.clone()).chain([settings(one)]);
        table.add_row(row);
        seen.push(cells);
    }
    right(&mut table, header.len() - 1);
    table_text(table)
}

fn last_word(comparison: &Comparison) -> String {
    let names: Vec<&str> = comparison.objectives.iter().map(|measure| measure.name()).collect();
    if names.is_empty() {
        return "All came to the same in every objective.\n".to_owned();
    }
    let beaten = comparison.policies.iter().filter(|one| one.beaten_by.is_some()).count();
    let mut out = format!(
        "By {}: {} of {} are beaten by nobody.\n",
        names.join(", "),
        comparison.policies.len() - beaten,
        comparison.policies.len()
    );
    if comparison.policies.len() <= FEW {
        for one in &comparison.policies {
            if let Some(by) = &one.beaten_by {
                let _infallible = writeln!(out, "  {} is beaten by {by} in all of them", one.policy);
            }
        }
    } else if beaten > 0 {
        out.push_str("`--output json` has all of them, each beaten one with one that beats it.\n");
    }
    out
}

fn right(table: &mut comfy_table::Table, columns: usize) {
    for index in 1..columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
