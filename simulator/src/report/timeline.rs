//! Which service was where when, as rows of bars whose places are shares of the row's width: they take any width without
//! their text being stretched.

use std::collections::{BTreeMap, BTreeSet};

use sterna_core::continuum::{ServiceName, SiteName};
use sterna_core::history::Outcome as MigrationOutcome;

use super::placements::Stay;
use super::words::{outcome_word, span};
use super::{MoveRecord, Outcome, axis};
use crate::clock::SimTime;

/// So many services are drawn at most; those that moved go first.
const ROWS: usize = 40;
/// And so many bars in all.
const BARS: usize = 500;

/// A picture of placements over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// The services.
    pub rows: Vec<Row>,
    /// Marks of time.
    pub ticks: Vec<Tick>,
    /// Services that are not drawn.
    pub undrawn: usize,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub service: String,
    /// Where it was.
    pub bars: Vec<Bar>,
    /// Its moves.
    pub marks: Vec<Mark>,
}

/// A stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    /// Where it begins, in percent of the width.
    pub x: String,
    /// How wide it is.
    pub width: String,
    /// The tone of its site.
    pub tone: usize,
    /// The node.
    pub node: String,
    /// All of it in words.
    pub title: String,
}

/// A move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// When it began, in percent of the width.
    pub x: String,
    /// Whether the service arrived.
    pub arrived: bool,
    /// All of it in words.
    pub title: String,
}

/// A mark of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// Where it is, in percent of the width.
    pub x: String,
    /// What stands there.
    pub label: String,
    /// How the label lies to it: `start`, `middle` or `end`.
    pub anchor: &'static str,
}

/// The picture of an outcome's stays. `tones` has the sites' colours.
pub fn timeline(
    outcome: &Outcome,
    stays: &[Stay<'_>],
    tones: &BTreeMap<&SiteName, usize>,
    duration: SimTime,
) -> Timeline {
    let moved: BTreeSet<&ServiceName> = outcome.moves.iter().map(|one| &one.service).collect();
    let mut by_service: BTreeMap<&ServiceName, Vec<&Stay<'_>>> = BTreeMap::new();
    for stay in stays {
        by_service.entry(stay.service).or_default().push(stay);
    }
    let mut services: Vec<(&ServiceName, Vec<&Stay<'_>>)> = by_service.into_iter().collect();
    services.sort_by_key(|(service, _)| (!moved.contains(service), *service));
    let all = services.len();
    let mut bars = 0;
    services.truncate(ROWS);
    services.retain(|(_, stays)| {
        bars += stays.len();
        bars <= BARS
    });
    let rows: Vec<Row> = services
        .iter()
        .map(|(service, stays)| Row {
            service: service.to_string(),
            bars: stays.iter().map(|stay| bar(stay, tones, duration)).collect(),
            marks: outcome
                .moves
                .iter()
                .filter(|one| one.service == **service)
                .take(BARS)
                .map(|one| mark(one, duration))
                .collect(),
        })
        .collect();
    Timeline { undrawn: all - rows.len(), rows, ticks: ticks(duration) }
}

fn bar(stay: &Stay<'_>, tones: &BTreeMap<&SiteName, usize>, duration: SimTime) -> Bar {
    let site = stay.site.map_or_else(|| "a site that is not known".to_owned(), ToString::to_string);
    Bar {
        x: percent(stay.from.as_nanos(), duration),
        width: percent(stay.until.since(stay.from), duration),
        tone: stay.site.and_then(|site| tones.get(site)).copied().unwrap_or(0),
        node: stay.node.to_string(),
        title: format!("{} on {} at {site}, {} to {}", stay.service, stay.node, stay.from, stay.until),
    }
}

fn mark(one: &MoveRecord, duration: SimTime) -> Mark {
    let end = one.end.as_ref();
    let how = end.map_or_else(
        || "the scenario ended first".to_owned(),
        |end| {
            let took = SimTime::from_nanos(end.ended.since(one.began)).as_millis();
            format!(
                "{}, took {}, stood still for {}",
                outcome_word(end.outcome),
                span(took),
                span(end.downtime)
            )
        },
    );
    Mark {
        x: percent(one.began.as_nanos(), duration),
        arrived: end.is_none_or(|end| end.outcome == MigrationOutcome::Moved),
        title: format!("{} {}: {} → {}, {how}", one.began, one.service, one.from, one.to),
    }
}

fn ticks(duration: SimTime) -> Vec<Tick> {
    let step = axis::step(duration);
    let last = duration.as_nanos() / step;
    let tick = |number: u64| {
        let at = SimTime::from_nanos(number * step);
        let anchor = match number {
            0 => "start",
            number if number == last && at == duration => "end",
            _ => "middle",
        };
        Tick { x: percent(at.as_nanos(), duration), label: axis::label(at, duration), anchor }
    };
    (0..=last).map(tick).collect()
}

fn percent(nanos: u64, duration: SimTime) -> String {
    format!("{:.3}", nanos as f64 * 100.0 / duration.as_nanos().max(1) as f64)
}
