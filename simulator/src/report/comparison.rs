//! The numbers of nothing moving and of each policy, side by side. Less is better in all of them.

use std::fmt;

use sterna_policies::quantity::Millis;

use super::words::span;
use super::{Outcome, Report, Totals, Violation};

/// What nothing moving is called beside the policies.
pub const UNMOVED: &str = "nothing moves";

/// A number that adds up over a scenario.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// What it is.
    pub name: &'static str,
    /// Its value; `None` where it is not known.
    pub value: fn(&Totals) -> Option<f64>,
    /// The same in words.
    pub text: fn(&Totals) -> String,
}

/// The numbers that policies are judged by.
pub const MEASURES: [Measure; 5] = [
    Measure {
        name: "user latency, mean",
        value: |totals| totals.user_latency_mean.map(Millis::as_f64),
        text: |totals| latency(totals.user_latency_mean),
    },
    Measure {
        name: "user latency, p95",
        value: |totals| totals.user_latency_p95.map(Millis::as_f64),
        text: |totals| latency(totals.user_latency_p95),
    },
    Measure {
        name: "cost",
        value: |totals| Some(totals.cost.as_f64()),
        text: |totals| format!("{:.4}", totals.cost),
    },
    Measure {
        name: "energy",
        value: |totals| Some(totals.energy.as_f64()),
        text: |totals| format!("{:.2}", totals.energy),
    },
    Measure {
        name: "carbon",
        value: |totals| totals.carbon.map(|carbon| carbon.as_f64()),
        text: |totals| totals.carbon.map_or_else(|| "unknown".to_owned(), |carbon| format!("{carbon:.2}")),
    },
];

/// How a value differs from that of nothing moving.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Difference {
    /// By so many percent: more, or less where they are negative.
    Percent(f64),
    /// There was nothing of it, and now there is.
    FromNothing,
}

impl Difference {
    /// Whether it is less.
    pub fn is_less(self) -> bool {
        matches!(self, Self::Percent(percent) if percent < 0.0)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent:+.1}%"),
            Self::FromNothing => f.write_str("from nothing"),
        }
    }
}

impl Measure {
    /// How its value differs from another; `None` where it is as much, or not known. Less than can be seen is nothing: neither `-0.0`
    /// nor `+0.0`.
    pub fn difference(&self, base: &Totals, totals: &Totals) -> Option<Difference> {
        let (from, to) = ((self.value)(base)?, (self.value)(totals)?);
        if from > 0.0 {
            let percent = (to / from - 1.0) * 100.0;
            return (percent.abs() >= 0.05).then_some(Difference::Percent(percent));
        }
        let is_seen = to > from && (self.text)(totals) != (self.text)(base);
        is_seen.then_some(Difference::FromNothing)
    }
}

fn latency(value: Option<Millis>) -> String {
    value.map_or_else(|| "no requests".to_owned(), |value| format!("{value:.2}"))
}

/// A row: nothing moving first, then each policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What is compared.
    pub name: &'static str,
    /// The values.
    pub cells: Vec<Cell>,
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The value in words.
    pub text: String,
    /// How it differs from nothing moving; `None` where that can't be said, or where it is as much.
    pub difference: Option<Difference>,
}

impl Cell {
    const fn plain(text: String) -> Self {
        Self { text, difference: None }
    }
}

/// All rows.
pub fn rows(report: &Report) -> Vec<Row> {
    let all: Vec<&Totals> =
        [&report.unmoved].into_iter().chain(report.outcomes.iter().map(|one| &one.totals)).collect();
    let measured = |measure: Measure| {
        let cell = |(at, totals): (usize, &&Totals)| Cell {
            text: (measure.text)(totals),
            difference: if at == 0 { None } else { measure.difference(&report.unmoved, totals) },
        };
        Row { name: measure.name, cells: all.iter().enumerate().map(cell).collect() }
    };
    let plain = |name, of: &dyn Fn(&Totals) -> String| Row {
        name,
        cells: all.iter().map(|totals| Cell::plain(of(totals))).collect(),
    };
    let mut rows: Vec<Row> = MEASURES.into_iter().map(measured).collect();
    rows.insert(3, plain("of it egress", &|totals| format!("{:.4}", totals.cost_egress)));
    rows.push(plain("downtime", &|totals| span(totals.downtime)));
    rows.push(plain("requests that waited", &|totals| {
        format!("{} of {}", totals.requests_held, totals.requests)
    }));
    rows.extend(broken(report));
    let counted = |name, of: &dyn Fn(&Outcome) -> usize| {
        let all = report.outcomes.iter().map(|one| Cell::plain(of(one).to_string()));
        Row { name, cells: [Cell::plain("0".to_owned())].into_iter().chain(all).collect() }
    };
    rows.push(counted("moves", &Outcome::made));
    if report.outcomes.iter().any(|one| one.refused() > 0) {
        rows.push(counted("moves refused", &Outcome::refused));
    }
    rows
}

/// For how long rules were broken, where any policy has such rules. Each policy's are its own, so nothing moving has no number of
/// its own here.
fn broken(report: &Report) -> Option<Row> {
    if report.outcomes.iter().all(|one| one.violations.is_none()) {
        return None;
    }
    let cell = |(ours, unmoved): (&Option<Vec<Violation>>, &Option<Vec<Violation>>)| match (ours, unmoved) {
        (Some(ours), Some(unmoved)) if !unmoved.is_empty() => {
            format!("{}, else {}", span(sum(ours)), span(sum(unmoved)))
        }
        (Some(ours), _) => span(sum(ours)),
        (None, _) => "none to break".to_owned(),
    };
    let ours = report.outcomes.iter().map(|one| &one.violations);
    let cells = ours.zip(&report.unmoved_violations).map(cell).map(Cell::plain);
    Some(Row {
        name: "rules broken for",
        cells: [Cell::plain(String::new())].into_iter().chain(cells).collect(),
    })
}

/// Service by service, added up.
pub fn sum(violations: &[Violation]) -> Millis {
    violations.iter().fold(Millis::ZERO, |sum, one| sum.saturating_add(one.time))
}
