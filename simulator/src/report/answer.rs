//! What a comparison comes to, in words: which policy is better in what, and by how much.

use super::comparison::{Difference, MEASURES, Measure, UNMOVED, sum};
use super::words::{held, span};
use super::{Outcome, Report, Totals};

/// Which is best by one measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// The measure.
    pub measure: &'static str,
    /// The policy; several where they are as good; what nothing moving is called where that is best.
    pub who: String,
    /// The value there.
    pub value: String,
    /// How that differs from nothing moving.
    pub difference: Option<Difference>,
    /// The next best, with its value.
    pub then: Option<String>,
}

/// The best by each measure that is known of all; those in which all are alike are left out.
pub fn best(report: &Report) -> Vec<Best> {
    let totals = report.outcomes.iter().map(|one| (one.policy.as_str(), &one.totals));
    let all: Vec<(&str, &Totals)> = [(UNMOVED, &report.unmoved)].into_iter().chain(totals).collect();
    MEASURES.iter().filter_map(|measure| best_by(measure, &all)).collect()
}

fn best_by(measure: &Measure, all: &[(&str, &Totals)]) -> Option<Best> {
    // What is unknown of one could be better than all.
    let mut known = all
        .iter()
        .map(|(who, totals)| Some(((measure.value)(totals)?, *who, *totals)))
        .collect::<Option<Vec<_>>>()?;
    let unmoved = known.first()?.2;
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (least, _, totals) = *known.first()?;
    let as_good = |value: f64, of: &Totals| value <= least || measure.difference(totals, of).is_none();
    let others = known.iter().position(|(value, _, of)| !as_good(*value, of))?;
    let who: Vec<&str> = known[..others].iter().map(|(_, who, _)| *who).collect();
    let then = known.get(others).map(|(_, who, totals)| format!("{who}: {}", (measure.text)(totals)));
    Some(Best {
        measure: measure.name,
        who: who.join(", "),
        value: (measure.text)(totals),
        difference: measure.difference(unmoved, totals),
        then,
    })
}

/// What one policy comes to against nothing moving.
pub fn sentence(report: &Report, outcome: &Outcome) -> String {
    let mut parts = Vec::new();
    let moves = match outcome.made() {
        0 => "moves nothing".to_owned(),
        1 => "makes 1 move".to_owned(),
        n => format!("makes {n} moves"),
    };
    parts.push(match outcome.refused() {
        0 => moves,
        n => format!("{moves} ({n} refused)"),
    });
    let (mut changed, mut same, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    // The mean speaks for the 95th percentile.
    for measure in MEASURES.iter().filter(|measure| !measure.name.ends_with("p95")) {
        let name = measure.name.trim_end_matches(", mean");
        let known = [&report.unmoved, &outcome.totals].iter().all(|totals| (measure.value)(totals).is_some());
        match measure.difference(&report.unmoved, &outcome.totals) {
            Some(Difference::Percent(percent)) => {
                let word = if percent < 0.0 { "less" } else { "more" };
                changed.push(format!("{:.1} % {word} {name}", percent.abs()));
            }
            Some(Difference::FromNothing) => {
                changed.push(format!("{} more {name}", (measure.text)(&outcome.totals)));
            }
            None if known => same.push(name),
            None => unknown.push(name),
        }
    }
    if !changed.is_empty() {
        let as_much =
            if same.is_empty() { String::new() } else { format!(", and as much {}", same.join(" and ")) };
        parts.push(format!("against nothing moving {}{as_much}", changed.join(", ")));
    } else if !same.is_empty() {
        parts.push(format!("as much {} as if nothing moved", same.join(", ")));
    }
    if !unknown.is_empty() {
        parts.push(format!("{} not known", unknown.join(" and ")));
    }
    let totals = &outcome.totals;
    if totals.downtime.as_micros() > 0 {
        parts.push(format!(
            "services stand still for {} in all, {} of {} requests wait meanwhile",
            span(totals.downtime),
            totals.requests_held,
            totals.requests
        ));
    }
    if let Some(violations) = &outcome.violations {
        parts.push(match sum(violations) {
            none if none.as_micros() == 0 => "its rules are never broken".to_owned(),
            time => format!("its rules are broken for {}", span(time)),
        });
    }
    let mut text = parts.join("; ") + ".";
    if outcome.made() == 0
        && let Some(most) = outcome.holds.iter().max_by_key(|one| one.looks)
    {
        text.push_str(&format!(" Most often {}.", held(most)));
    }
    text
}
