//! A simulation's report as CSV, one table for each kind of thing.
//!
//! | file | a row |
//! |---|---|
//! | `totals.csv` | a policy, and nothing moving |
//! | `moves.csv` | a move |
//! | `alternatives.csv` | another place that a move could have gone to |
//! | `holds.csv` | a rule that held a service back |
//! | `violations.csv` | a rule of the policy that a service broke where it ran |
//! | `placements.csv` | a service on a node |
//! | `course.csv` | what all placements are worth from an instant on |

use sterna_policies::policy::Level;
use sterna_policies::quantity::{GramsPerHour, Millis};
use thiserror::Error;

use super::comparison::{self, UNMOVED};
use super::placements::{Stay, stays};
use super::words::outcome_word;
use super::{Alternative, HoldRecord, MoveRecord, Outcome, Point, Report, Totals, Violation};
use crate::scenario::Scenario;

/// A table that could not be written: a bug to be reported.
#[derive(Debug, Error)]
#[error("a table of the report can't be written: {0}")]
pub struct NoTable(String);

/// All tables: the name of each file, and what goes into it.
///
/// # Errors
/// When one can't be written.
pub fn tables(report: &Report, scenario: &Scenario) -> Result<[(&'static str, String); 7], NoTable> {
    Ok([
        ("totals.csv", totals(report)?),
        ("moves.csv", moves(report)?),
        ("alternatives.csv", alternatives(report)?),
        ("holds.csv", holds(report)?),
        ("violations.csv", violations(report)?),
        ("placements.csv", placements(report, scenario)?),
        ("course.csv", course(report)?),
    ])
}

fn totals(report: &Report) -> Result<String, NoTable> {
    let header = [
        "policy",
        "moves",
        "refused",
        "user_latency_mean_ms",
        "user_latency_p95_ms",
        "requests",
        "requests_held",
        "cost_usd",
        "cost_egress_usd",
        "energy_wh",
        "carbon_g",
        "downtime_ms",
        "violation_ms",
    ];
    let row =
        |policy: &str, [made, refused]: [usize; 2], totals: &Totals, violations: Option<&[Violation]>| {
            [
                policy.to_owned(),
                made.to_string(),
                refused.to_string(),
                millis(totals.user_latency_mean),
                millis(totals.user_latency_p95),
                totals.requests.to_string(),
                totals.requests_held.to_string(),
                number(totals.cost.as_f64()),
                number(totals.cost_egress.as_f64()),
                number(totals.energy.as_f64()),
                totals.carbon.map_or_else(String::new, |carbon| number(carbon.as_f64())),
                millis(Some(totals.downtime)),
                millis(violations.map(comparison::sum)),
            ]
        };
    let policies = report
        .outcomes
        .iter()
        .map(|one| row(&one.policy, [one.made(), one.refused()], &one.totals, one.violations.as_deref()));
    written(header, [row(UNMOVED, [0, 0], &report.unmoved, None)].into_iter().chain(policies))
}

fn moves(report: &Report) -> Result<String, NoTable> {
    let header = [
        "policy",
        "began",
        "service",
        "from",
        "to",
        "metric",
        "before",
        "after",
        "gain_percent",
        "arrived",
        "ended",
        "outcome",
        "took_ms",
        "downtime_ms",
        "bytes",
    ];
    let row = |policy: &str, one: &MoveRecord| {
        let (gain, end) = (one.gain.as_ref(), one.end.as_ref());
        let level = |of: Option<Level>| {
            of.map_or_else(String::new, |level| match level {
                Level::UserLatency(value) => number(value.as_f64()),
                Level::CostRate(value) => number(value.as_f64()),
                Level::Power(value) => number(value.as_f64()),
                Level::CarbonRate(value) => number(value.as_f64()),
            })
        };
        let took = end.map(|end| end.ended.as_millis().saturating_sub(one.began.as_millis()));
        [
            policy.to_owned(),
            one.at.to_string(),
            one.service.to_string(),
            one.from.to_string(),
            one.to.to_string(),
            gain.map_or_else(String::new, |gain| gain.metric.name().to_owned()),
            level(gain.map(|gain| gain.before)),
            level(gain.map(|gain| gain.after)),
            gain.map_or_else(String::new, |gain| number(gain.gain.as_f64())),
            one.arrived.map_or_else(String::new, |at| at.on_calendar(report.start).to_string()),
            end.map_or_else(String::new, |end| end.ended.on_calendar(report.start).to_string()),
            end.map_or("", |end| outcome_word(end.outcome)).to_owned(),
            millis(took),
            millis(end.map(|end| end.downtime)),
            end.map_or_else(String::new, |end| end.bytes.0.to_string()),
        ]
    };
    let all =
        report.outcomes.iter().flat_map(|outcome| outcome.moves.iter().map(|one| (&outcome.policy, one)));
    written(header, all.map(|(policy, one)| row(policy, one)))
}

fn alternatives(report: &Report) -> Result<String, NoTable> {
    let header = [
        "policy",
        "began",
        "service",
        "node",
        "user_latency_ms",
        "cost_usd_per_h",
        "power_w",
        "carbon_g_per_h",
        "against",
    ];
    let row = |(outcome, one, other): (&Outcome, &MoveRecord, &Alternative)| {
        let effect = other.effect.as_ref();
        [
            outcome.policy.clone(),
            one.at.to_string(),
            one.service.to_string(),
            other.node.to_string(),
            millis(effect.and_then(|effect| effect.user_latency)),
            effect.map_or_else(String::new, |effect| number(effect.cost_rate.as_f64())),
            effect.map_or_else(String::new, |effect| number(effect.power.as_f64())),
            grams(effect.and_then(|effect| effect.carbon_rate)),
            other.against.to_string(),
        ]
    };
    let moves =
        report.outcomes.iter().flat_map(|outcome| outcome.moves.iter().map(move |one| (outcome, one)));
    let all =
        moves.flat_map(|(outcome, one)| one.choice.others.iter().map(move |other| (outcome, one, other)));
    written(header, all.map(row))
}

fn holds(report: &Report) -> Result<String, NoTable> {
    let header = ["policy", "service", "rule", "looks", "first", "last"];
    let row = |(outcome, one): (&Outcome, &HoldRecord)| {
        [
            outcome.policy.clone(),
            one.service.as_ref().map_or_else(String::new, ToString::to_string),
            one.hold.to_string(),
            one.looks.to_string(),
            one.first.on_calendar(report.start).to_string(),
            one.last.on_calendar(report.start).to_string(),
        ]
    };
    let all = report.outcomes.iter().flat_map(|outcome| outcome.holds.iter().map(move |one| (outcome, one)));
    written(header, all.map(row))
}

fn violations(report: &Report) -> Result<String, NoTable> {
    let header = ["policy", "service", "rule", "time_ms"];
    let row = |(outcome, one): (&Outcome, &Violation)| {
        [outcome.policy.clone(), one.service.to_string(), one.rule.to_string(), millis(Some(one.time))]
    };
    let all = report
        .outcomes
        .iter()
        .flat_map(|outcome| outcome.violations.iter().flatten().map(move |one| (outcome, one)));
    written(header, all.map(row))
}

fn placements(report: &Report, scenario: &Scenario) -> Result<String, NoTable> {
    let header = ["policy", "service", "node", "site", "from", "until"];
    let row = |(outcome, stay): (&Outcome, Stay<'_>)| {
        [
            outcome.policy.clone(),
            stay.service.to_string(),
            stay.node.to_string(),
            stay.site.map_or_else(String::new, ToString::to_string),
            stay.from.on_calendar(report.start).to_string(),
            stay.until.on_calendar(report.start).to_string(),
        ]
    };
    let all = report
        .outcomes
        .iter()
        .flat_map(|outcome| stays(outcome, scenario).into_iter().map(move |stay| (outcome, stay)));
    written(header, all.map(row))
}

fn course(report: &Report) -> Result<String, NoTable> {
    let header = ["policy", "from", "user_latency_ms", "cost_usd_per_h", "power_w", "carbon_g_per_h"];
    let row = |policy: &str, point: &Point| {
        let effect = &point.effect;
        [
            policy.to_owned(),
            point.at.on_calendar(report.start).to_string(),
            millis(effect.user_latency),
            number(effect.cost_rate.as_f64()),
            number(effect.power.as_f64()),
            grams(effect.carbon_rate),
        ]
    };
    let unmoved = report.unmoved_course.iter().map(|point| (UNMOVED, point));
    let all =
        report.outcomes.iter().flat_map(|one| one.course.iter().map(|point| (one.policy.as_str(), point)));
    written(header, unmoved.chain(all).map(|(policy, point)| row(policy, point)))
}

fn written<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> Result<String, NoTable> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| NoTable(error.to_string());
    writer.write_record(header).map_err(failed)?;
    for row in rows {
        writer.write_record(&row).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| NoTable(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| NoTable(error.to_string()))
}

fn number(value: f64) -> String {
    value.to_string()
}

fn grams(value: Option<GramsPerHour>) -> String {
    value.map_or_else(String::new, |value| number(value.as_f64()))
}

fn millis(value: Option<Millis>) -> String {
    value.map_or_else(String::new, |value| number(value.as_f64()))
}
