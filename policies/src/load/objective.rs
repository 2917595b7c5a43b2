//! The objective: terms, and levels in the unit of their metric.

use std::ops::Range;

use super::file::{ConstraintsFile, ObjectiveFile, ObjectiveMethod, TermFile};
use super::written::quantity;
use super::{At, Findings};
use crate::policy::{Constraints, Level, Metric, Objective, PricedTerm, Term, Tolerance};
use crate::quantity::{GramsPerHour, Millis, Percent, Quantity, UsdPerHour, Watts};

pub(super) fn objective(
    file: &At<ObjectiveFile>,
    written: Option<&ConstraintsFile>,
    constraints: &Constraints,
    findings: &mut Findings,
) -> Objective {
    if file.term.is_empty() {
        findings
            .error("P0001", file.term.span(), "the objective has no term")
            .label("expected at least one")
            .help("add a table such as [[objective.term]] with metric = \"user_latency\"");
    }
    for (index, term) in file.term.iter().enumerate() {
        if let Some(first) = file.term[..index].iter().find(|first| first.metric == term.metric) {
            findings
                .error(
                    "P0002",
                    term.metric.span(),
                    format!("`{}` is in the objective twice", term.metric.name()),
                )
                .label("again")
                .also(first.metric.span(), "first here");
        }
        if term.metric.value == Metric::CpuUse {
            findings
                .error("P0003", term.metric.span(), "`cpu_use` can't be a term of an objective")
                .label("only an input to the power model")
                .help("did you mean `power`?");
        }
    }
    match file.method.unwrap_or_default() {
        ObjectiveMethod::Lexicographic => {
            let terms = file.term.iter().map(|file| term(file, written, constraints, findings)).collect();
            Objective::Lexicographic { terms }
        }
        ObjectiveMethod::Priced => {
            Objective::Priced { terms: file.term.iter().map(|file| priced_term(file, findings)).collect() }
        }
    }
}

fn term(
    file: &At<TermFile>,
    written: Option<&ConstraintsFile>,
    constraints: &Constraints,
    findings: &mut Findings,
) -> Term {
    let metric = &file.metric;
    if let Some(price) = &file.price {
        other_method("price", price.span(), "priced", findings);
    }
    let satisfied_at = file.satisfied_at.as_ref().and_then(|text| {
        let level = level(metric, text, findings)?;
        if let Some(max) = constraints.max.get(&metric.value)
            // A service that is above both today may still get better.
            && max.as_micros() < level.as_micros()
        {
            let name = metric.name();
            let diagnostic = findings.error(
                "P0006",
                text.span(),
                format!("`{name}` is satisfied by all that `max` allows"),
            );
            diagnostic.label("this term could never decide").help("expected at most max, or no satisfied_at");
            if let Some(span) = written.and_then(|written| max_span(written, metric.value)) {
                diagnostic.also(span, "nothing above this is allowed");
            }
        }
        Some(level)
    });
    let tolerance = file.tolerance.as_ref().and_then(|text| tolerance(metric, text, findings));
    Term {
        metric: metric.value,
        satisfied_at,
        tolerance: tolerance.unwrap_or(Tolerance::Relative(Percent::ZERO)),
    }
}

fn max_span(written: &ConstraintsFile, metric: Metric) -> Option<Range<usize>> {
    let max = written.max.as_ref()?;
    match metric {
        Metric::UserLatency => max.user_latency.as_ref().map(|written| written.span()),
        Metric::CostRate => max.cost_rate.as_ref().map(|written| written.span()),
        Metric::Power => max.power.as_ref().map(|written| written.span()),
        Metric::CarbonRate => max.carbon_rate.as_ref().map(|written| written.span()),
        Metric::CpuUse => None,
    }
}

fn priced_term(file: &At<TermFile>, findings: &mut Findings) -> PricedTerm {
    for (key, written) in [("satisfied_at", &file.satisfied_at), ("tolerance", &file.tolerance)] {
        if let Some(text) = written {
            other_method(key, text.span(), "lexicographic", findings);
        }
    }
    let price = match &file.price {
        Some(written) => written.read_positive(findings),
        None => {
            let unit = unit(file.metric.value);
            findings
                .error("P0005", file.span(), format!("the term `{}` has no price", file.metric.name()))
                .label("expected `price = …`")
                .help(format!("say what 1{unit} is worth, such as price = \"0.01USD/h\""));
            None
        }
    };
    PricedTerm { metric: file.metric.value, price: price.unwrap_or_default() }
}

fn other_method(key: &str, span: Range<usize>, method: &str, findings: &mut Findings) {
    findings
        .error("P0004", span, format!("`{key}` belongs to the method `{method}`"))
        .label("without effect here")
        .help(format!("leave it out, or write method = \"{method}\" in [objective]"));
}

/// The unit of a metric's values.
fn unit(metric: Metric) -> &'static str {
    match metric {
        Metric::UserLatency => Millis::UNIT,
        Metric::CostRate => UsdPerHour::UNIT,
        Metric::Power => Watts::UNIT,
        Metric::CarbonRate => GramsPerHour::UNIT,
        Metric::CpuUse => "",
    }
}

/// A value of the metric, in that metric's unit and not negative.
pub(super) fn level(metric: &At<Metric>, text: &At<String>, findings: &mut Findings) -> Option<Level> {
    match metric.value {
        Metric::UserLatency => value::<Millis>(metric, text, findings).map(Level::UserLatency),
        Metric::CostRate => value::<UsdPerHour>(metric, text, findings).map(Level::CostRate),
        Metric::Power => value::<Watts>(metric, text, findings).map(Level::Power),
        Metric::CarbonRate => value::<GramsPerHour>(metric, text, findings).map(Level::CarbonRate),
        Metric::CpuUse => None,
    }
}

fn value<Q: Quantity>(metric: &At<Metric>, text: &At<String>, findings: &mut Findings) -> Option<Q> {
    match quantity::<Q>(text, findings) {
        Ok(value) => {
            not_negative(value, text, findings);
            Some(value)
        }
        Err(diagnostic) => {
            diagnostic.also(metric.span(), "the metric that gives the unit");
            None
        }
    }
}

fn not_negative<Q: Quantity>(value: Q, text: &At<String>, findings: &mut Findings) {
    if value.is_negative() {
        findings
            .error("F0011", text.span(), format!("`{}` is negative", text.value))
            .label("must not be less than zero");
    }
}

fn tolerance(metric: &At<Metric>, text: &At<String>, findings: &mut Findings) -> Option<Tolerance> {
    if let Ok(share) = text.parse::<Percent>() {
        not_negative(share, text, findings);
        return Some(Tolerance::Relative(share));
    }
    level(metric, text, findings).map(Tolerance::Absolute)
}
