//! A decision in words and tables, for people.
//!
//! | module | what lives there |
//! |---|---|
//! | [`service`] | one service, with where its numbers come from |

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use sterna_policies::policy::{Level, Metric};
use sterna_policies::quantity::{Millis, Usd};

use crate::observation::Unknown;
use crate::plan::{Effect, Move};
use crate::report::{
    Decision, Exclusion, Gain, Hold, Makespan, NodeOption, Outlay, Reached, ServiceReport, SolverReport,
    Verdict,
};

pub mod service;

/// The whole report as text, lines of plain characters: the verdict, the moves, every service with every node, what holds it,
/// what the placement is worth before and after, how it was found, and what is not known.
///
/// A `~` stands before a number that is computed from the inventory and not measured, `>` before the node where a service
/// should run, `*` before the one where it runs.
pub fn text(decision: &Decision) -> String {
    let report = &decision.report;
    let mut lines = vec![format!("policy {}: {}", report.policy, verdict(&report.verdict))];
    for one in &decision.plan.moves {
        lines.push(format!("  {}", of_move(one)));
    }
    for service in &report.services {
        lines.push(String::new());
        lines.extend(of_service(service));
    }
    if !decision.plan.moves.is_empty() {
        lines.push(String::new());
        lines.extend(effects(["now", "then"], &decision.plan.before, &decision.plan.after));
        lines.extend(report.makespan.map(|it| of_makespan(&it)));
    }
    if let Some(solver) = &report.solver {
        lines.push(String::new());
        lines.push(of_solver(solver));
    }
    if !report.unknown.is_empty() {
        lines.push(String::new());
        lines.push("not known:".to_owned());
        lines.extend(report.unknown.iter().map(|unknown| format!("  {}", of_unknown(unknown))));
    }
    let mut text = String::new();
    // Writing to a string can't fail.
    _ = lined_up(&mut text, &lines);
    text
}

/// Lines without spaces at their ends.
pub(crate) fn lined_up(text: &mut impl fmt::Write, lines: &[String]) -> fmt::Result {
    lines.iter().try_for_each(|line| writeln!(text, "{}", line.trim_end()))
}

/// The outcome in one line.
pub fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Move => "move".to_owned(),
        Verdict::Stay => "stay, no better placement within the rules".to_owned(),
        Verdict::Held { by } => {
            let holds: Vec<String> = by.iter().map(Hold::to_string).collect();
            format!("held: {}", holds.join("; "))
        }
    }
}

/// One move in one line.
pub fn of_move(one: &Move) -> String {
    let parks = if one.parks { ", to make way" } else { "" };
    format!(
        "wave {}: {} {} -> {}{parks}, {:.0} down, {:.0} in all, {}",
        one.wave,
        one.service,
        one.from,
        one.to,
        one.predicted.downtime,
        one.predicted.duration,
        one.predicted.bytes
    )
}

fn of_service(service: &ServiceReport) -> Vec<String> {
    let mut title = format!("{}", service.service);
    match (&service.on, &service.best) {
        (Some(on), Some(best)) if on != best => _ = write!(title, " on {on}, better on {best}"),
        (Some(on), _) => _ = write!(title, " on {on}"),
        (None, _) => title.push_str(" not found"),
    }
    let mut lines = vec![title];
    lines.extend(service.gain.as_ref().map(|gain| format!("  gain: {}", of_gain(gain))));
    lines.extend(service.held_by.iter().map(|hold| format!("  held: {hold}")));
    if service.options.is_empty() {
        return lines;
    }
    let mut rows = vec![["", "node", "latency", "cost", "power", "carbon", ""].map(str::to_owned)];
    rows.extend(service.options.iter().map(|option| of_option(service, option)));
    lines.extend(columns(&rows));
    lines
}

/// What a move gains and when that has paid for it, with the arithmetic.
pub fn of_gain(gain: &Gain) -> String {
    let Gain { metric, now, then, share, .. } = gain;
    let mut text = format!("{} {} -> {}, {share:.1}", metric.name(), of_level(now), of_level(then));
    let Some(payback) = gain.payback else { return text };
    let less = now.as_micros().saturating_sub(then.as_micros());
    let unit = if matches!(now, Level::CostRate(_)) { Metric::CostRate } else { *metric };
    let less = of_level(&Level::new(unit, less));
    let spent = match &gain.outlay {
        Outlay::Waiting { downtime } => format!("{} down x half of that", of_time(*downtime)),
        Outlay::BothEnds { rate, both_ends, once } => {
            let both = format!("{} on both ends for {}", of_level(rate), of_time(*both_ends));
            if *once == Usd::ZERO { both } else { format!("({once:.4} for what crosses + {both})") }
        }
        Outlay::Money { sum } => format!("{sum:.6}"),
    };
    _ = write!(text, "; pays back in {}: {spent} / {less}", of_time(payback));
    text
}

fn of_level(level: &Level) -> String {
    match level {
        Level::UserLatency(value) => format!("{value:.1}"),
        Level::CostRate(value) => format!("{value:.4}"),
        Level::Power(value) => format!("{value:.1}"),
        Level::CarbonRate(value) => format!("{value:.1}"),
    }
}

/// A time in the unit that suits its size.
fn of_time(time: Millis) -> String {
    const UNITS: [(f64, &str); 4] = [(86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s")];
    let seconds = time.as_f64() / 1e3;
    // From twice the unit on, so that 26 hours are told from a day.
    let suits = |(unit, _): &&(f64, &str)| seconds >= if *unit > 1.0 { 2.0 * unit } else { 1.0 };
    let unit = UNITS.iter().find(suits).unwrap_or(&(0.001, "ms"));
    format!("{:.1}{}", seconds / unit.0, unit.1)
}

/// An instant as people write it down.
fn minute(at: Timestamp) -> impl fmt::Display {
    at.strftime("%Y-%m-%d %H:%M UTC")
}

fn of_option(service: &ServiceReport, option: &NodeOption) -> [String; 7] {
    let here = service.on.as_ref() == Some(&option.node);
    let best = service.best.as_ref() == Some(&option.node);
    let mark = match (here, best) {
        (true, _) => "*",
        (_, true) => ">",
        _ => "",
    };
    let number = |metric: Metric, value: Option<String>| match value {
        Some(value) if option.modelled.contains(&metric) => format!("~{value}"),
        Some(value) => value,
        None => "-".to_owned(),
    };
    let effect = option.effect.as_ref();
    let watts = if option.modelled.contains(&Metric::Power) { "~" } else { "" };
    let rules: Vec<String> = option.excluded_by.iter().map(Exclusion::to_string).collect();
    let remark = match (rules.is_empty(), here) {
        (true, _) => String::new(),
        (false, true) => format!("breaks: {}", rules.join(", ")),
        (false, false) => format!("excluded: {}", rules.join(", ")),
    };
    [
        mark.to_owned(),
        option.node.to_string(),
        number(Metric::UserLatency, effect.and_then(|e| e.user_latency).map(|v| format!("{v:.1}"))),
        number(Metric::CostRate, effect.map(|e| format!("{:.4}", e.cost_rate))),
        number(Metric::Power, effect.map(|e| format!("{:.1}", e.power))),
        effect.and_then(|e| e.carbon_rate).map_or_else(|| "-".to_owned(), |v| format!("{watts}{v:.1}")),
        remark,
    ]
}

/// Rows with their columns lined up, numbers to the right.
fn columns<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let mut widths = [0usize; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    rows.iter()
        .map(|row| {
            let mut line = String::from("  ");
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                if column < 2 || column + 1 == N {
                    _ = write!(line, "{cell:<width$}  ");
                } else {
                    _ = write!(line, "{cell:>width$}  ");
                }
            }
            line
        })
        .collect()
}

/// What all services come to before and after something.
pub(crate) fn effects([now, then]: [&str; 2], before: &Effect, after: &Effect) -> Vec<String> {
    let row = |name: &str, before: Option<(i64, String)>, after: Option<(i64, String)>| {
        let change = match (&before, &after) {
            (Some((before, _)), Some((after, _))) if *before > 0 => {
                let micros = (i128::from(*after) - i128::from(*before)) * 100_000_000 / i128::from(*before);
                format!("{:+.1}%", micros as f64 / 1e6)
            }
            _ => String::new(),
        };
        let shown = |value: Option<(i64, String)>| value.map_or_else(|| "-".to_owned(), |(_, text)| text);
        [String::new(), name.to_owned(), shown(before), shown(after), change, String::new()]
    };
    let latency = |effect: &Effect| effect.user_latency.map(|v| (v.as_micros(), format!("{v:.1}")));
    let cost = |effect: &Effect| Some((effect.cost_rate.as_micros(), format!("{:.4}", effect.cost_rate)));
    let power = |effect: &Effect| Some((effect.power.as_micros(), format!("{:.1}", effect.power)));
    let carbon = |effect: &Effect| effect.carbon_rate.map(|v| (v.as_micros(), format!("{v:.1}")));
    columns(&[
        ["", "all services", now, then, "change", ""].map(str::to_owned),
        row("latency", latency(before), latency(after)),
        row("cost", cost(before), cost(after)),
        row("power", power(before), power(after)),
        row("carbon", carbon(before), carbon(after)),
    ])
}

/// How long a plan takes, in one line.
fn of_makespan(makespan: &Makespan) -> String {
    let seconds = |time: Millis| time.as_f64() / 1e3;
    format!(
        "all moves take {:.1} s; in no order less than {:.1} s",
        seconds(makespan.predicted),
        seconds(makespan.least)
    )
}

/// How the placement was found, in one line.
pub fn of_solver(solver: &SolverReport) -> String {
    if solver.models == 0 {
        return "solver: nothing to be solved".to_owned();
    }
    let apart = |reached: &&Reached| reached.value > reached.bound;
    // The last is which moves are fewest: nobody waits for a proof of that.
    let wanted = solver.objectives.split_last().map_or(&[][..], |(_, wanted)| wanted);
    let gaps: Vec<String> = wanted
        .iter()
        .filter(apart)
        .map(|reached| format!("{} at most {:.1} above what is possible", reached.name, reached.gap()))
        .collect();
    let proof = match (solver.proved, gaps.is_empty()) {
        (true, _) => "proved best within the tolerances".to_owned(),
        (false, true) => "not proved best".to_owned(),
        (false, false) => format!("not proved best: {}", gaps.join(", ")),
    };
    let hasty =
        if solver.out_of_time { "; its time ran out: another machine may find something else" } else { "" };
    format!(
        "solver: {}, {} models, the last of {} columns and {} rows; {proof}{hasty}",
        solver.engine, solver.models, solver.columns, solver.rows
    )
}

/// What is not known, in one line.
pub fn of_unknown(unknown: &Unknown) -> String {
    let mut text = unknown.metric.name().to_owned();
    if let Some(users) = &unknown.users {
        _ = write!(text, " from {users}");
    }
    if let Some(site) = &unknown.site {
        _ = write!(text, " at {site}");
    }
    _ = write!(text, ": {}", unknown.reason);
    text
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PolicyOff => f.write_str("the policy is off"),
            Self::MetricsMissing { metric } => write!(f, "{} is not known everywhere", metric.name()),
            Self::GainTooSmall { metric, gain, min_gain } => {
                write!(f, "gain in {} is {gain:.1}, less than min_gain {min_gain:.1}", metric.name())
            }
            Self::PaysBackTooLate { metric, payback, within } => {
                let (payback, within) = (of_time(*payback), of_time(*within));
                write!(
                    f,
                    "its gain in {} pays back in {payback}, later than payback_within {within}",
                    metric.name()
                )
            }
            Self::Untriggered { left: Some(left) } => {
                write!(f, "its trigger has not lasted long enough, {} left", of_time(*left))
            }
            Self::Untriggered { left: None } => f.write_str("none of the policy's triggers holds for it"),
            Self::GainTooNew { left } => {
                write!(f, "a better place has not been there for long enough, {} left", of_time(*left))
            }
            Self::RegretTooSmall { metric, regret, wanted } => write!(
                f,
                "staying has cost {regret:.0} of what the move costs, in {}; it goes at {wanted:.0}",
                metric.name()
            ),
            Self::Return { left } => {
                write!(f, "it left that node too recently, {} left", of_time(*left))
            }
            Self::Residency { left } => {
                write!(f, "it arrived too recently, {:.0}s left", left.as_f64() / 1e3)
            }
            Self::Cooldown { left } => {
                write!(f, "cooldown after its last migration, {:.0}s left", left.as_f64() / 1e3)
            }
            Self::Settling { site, left: None } => {
                write!(f, "a migration under way disturbs what is measured at {site}")
            }
            Self::Settling { site, left: Some(left) } => {
                write!(
                    f,
                    "what is measured at {site} settles after a migration, {:.0}s left",
                    left.as_f64() / 1e3
                )
            }
            Self::Concurrent { limit } => write!(f, "as many moves under way as the budget allows ({limit})"),
            Self::BudgetSpent { budget, left: Some(left) } => {
                write!(f, "{} has too little left; enough in {}", budget.name(), of_time(*left))
            }
            Self::BudgetSpent { budget, left: None } => {
                write!(f, "it needs more than all of {}", budget.name())
            }
            Self::CircuitOpen { failures, within, left } => write!(
                f,
                "{failures} migrations were undone within {}; nothing is moved for another {}",
                of_time(*within),
                of_time(*left)
            ),
            Self::WindowClosed { window, until } => {
                match window {
                    Some(window) => write!(f, "the window `{window}` denies moves")?,
                    None => f.write_str("no window is open that allows moves")?,
                }
                until.map_or(Ok(()), |until| write!(f, " until {until}"))
            }
            Self::WindowTooShort { duration, left } => {
                write!(f, "takes {}, and is aborted by a window in {}", of_time(*duration), of_time(*left))
            }
            Self::Paused { by, at, reason } => {
                write!(f, "paused by {by} at {}", minute(*at))?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::OptedOut { by, at, reason } => {
                write!(f, "{by} wants it to stay, since {}", minute(*at))?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::UnderWay => f.write_str("it is being moved"),
            Self::NotRunning => f.write_str("it was not found on any node that answers"),
            Self::Infeasible => f.write_str("no placement keeps every rule"),
            Self::NoRoom => f.write_str("no order of moves makes room for it now"),
            Self::Solver { message } => write!(f, "the solver gave no answer: {message}"),
            Self::Checker { finding } => {
                write!(f, "the checker refused the plan, please report this bug: {finding}")
            }
        }
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("its agent does not answer"),
            Self::Draining => f.write_str("draining"),
            Self::Cordoned => f.write_str("cordoned"),
            Self::Pinned => f.write_str("the service is pinned"),
            Self::SiteNotSelected => f.write_str("site not selected"),
            Self::Tier => f.write_str("tier not allowed"),
            Self::Region => f.write_str("region not allowed"),
            Self::Capacity => f.write_str("not enough room"),
            Self::Spread { label, value, per } => {
                write!(f, "too many with {label}={value} on one {}", per.name())
            }
            Self::Max { metric } => write!(f, "{} above max", metric.name()),
            Self::MetricMissing { metric } => write!(f, "{} not known", metric.name()),
        }
    }
}
