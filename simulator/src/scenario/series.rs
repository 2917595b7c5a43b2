//! Values over time from a file or a formula, beside those that a scenario writes out.

use sterna_core::continuum::{ServiceName, UsersName};
use sterna_policies::load::{At, Findings, Invalid, Written};
use sterna_policies::quantity::{Millis, PerSecond, Quantity};

use schemars::JsonSchema;
use serde::Deserialize;

use super::faults::MOST;
use super::load::Reader;
use super::{Shape, Track, table};
use crate::clock::SimTime;
use crate::stream::Stream;

/// Nanoseconds between the points of a curve: a quarter of an hour.
const QUARTER: u64 = 900_000_000_000;
/// Nanoseconds in a day.
const DAY: u64 = 86_400_000_000_000;

/// A rate that goes up and down once a day, along a cosine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Daily")]
pub struct DailyFile {
    /// The least, half a day from the peak.
    pub low: Written<PerSecond>,
    /// The most.
    pub high: Written<PerSecond>,
    /// When it is highest, since the scenario's start, such as "14h"; each day again.
    pub peak: Written<Millis>,
}

/// A rate that is now and then much higher, by chance.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Bursts")]
pub struct BurstsFile {
    /// The usual rate.
    pub base: Written<PerSecond>,
    /// The rate in a burst.
    pub peak: Written<PerSecond>,
    /// Time from a burst to the next, in the mean.
    pub between: Written<Millis>,
    /// How long one lasts, in the mean.
    pub lasts: Written<Millis>,
}

/// Bursts, as they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bursts {
    /// The usual rate.
    pub base: PerSecond,
    /// The rate in a burst.
    pub peak: PerSecond,
    /// Time from a burst to the next, in the mean.
    pub between: Millis,
    /// How long one lasts, in the mean.
    pub lasts: Millis,
}

impl Bursts {
    /// By which name they are drawn.
    pub(super) fn name(users: &UsersName, service: &ServiceName) -> String {
        format!("{users} {service}")
    }

    /// The rate until `end`.
    pub(super) fn track(&self, stream: Stream, end: SimTime) -> Option<Track> {
        let nanos = |span: Millis| SimTime::from_millis(span).as_nanos();
        // A second at least, so that there is a limit to how many there are.
        let gap = |count, mean| stream.gap(count, nanos(mean)).max(1_000_000_000);
        let mut points = vec![(SimTime::START, self.base.as_micros())];
        let (mut from, mut count) = (gap(0, self.between), 1);
        while from < end.as_nanos() {
            let to = from.saturating_add(gap(count, self.lasts));
            points.push((SimTime::from_nanos(from), self.peak.as_micros()));
            points.push((SimTime::from_nanos(to), self.base.as_micros()));
            from = to.saturating_add(gap(count + 1, self.between));
            count += 2;
        }
        Track::new(Shape::Step, points)
    }
}

/// Where a track's values come from.
pub(super) struct From<'f, Q> {
    /// From the scenario itself.
    pub points: Option<&'f At<Vec<super::file::Point<Q>>>>,
    /// From a file beside it.
    pub file: Option<&'f At<String>>,
    /// The unit of bare numbers in it.
    pub unit: Option<&'f At<String>>,
    /// What the track is about, for messages.
    pub subject: &'f At<String>,
}

impl Reader<'_> {
    /// A track from points or a file: exactly one of them.
    pub(super) fn series<Q: Quantity>(
        &mut self,
        shape: Shape,
        from: &From<'_, Q>,
        whole: impl Fn(Q) -> i64,
    ) -> Option<Track> {
        if let (Some(unit), None) = (from.unit, from.file) {
            self.findings
                .error("S0013", unit.span(), "`unit` is for the numbers of a file")
                .label("there is no `file`")
                .help("leave it out: points carry their units");
        }
        match (from.points, from.file) {
            (Some(points), None) => self.track(shape, points, whole),
            (None, Some(file)) => self.read_series(shape, file, from.unit, whole),
            (Some(points), Some(file)) => {
                self.findings
                    .error("S0013", file.span(), "values come from `points` or from a `file`, not both")
                    .label("the file")
                    .also(points.span(), "the points");
                None
            }
            (None, None) => {
                self.findings
                    .error("S0013", from.subject.span(), "the track has no values")
                    .label("about this")
                    .help("add points = [[\"0h\", …]], or file = \"values.csv\" with the columns time and value");
                None
            }
        }
    }

    fn read_series<Q: Quantity>(
        &mut self,
        shape: Shape,
        file: &At<String>,
        unit: Option<&At<String>>,
        whole: impl Fn(Q) -> i64,
    ) -> Option<Track> {
        let unit = match unit {
            Some(unit) if !Q::UNITS.contains(&unit.as_str()) => {
                self.findings
                    .error("S0013", unit.span(), format!("`{}` is not a unit that fits here", unit.value))
                    .label(format!("expected one of {}", Q::UNITS.join(", ")));
                return None;
            }
            Some(unit) => unit.as_str(),
            None => "",
        };
        let (name, text) = self.beside(file)?;
        let start = self.frame.start;
        let duration = self.frame.duration;
        let read = table::rows(&name, &text, ["time", "value"]).and_then(|(mut findings, rows)| {
            let mut points: Vec<(i64, i64)> = Vec::new();
            for [time, value] in &rows {
                let time = instant(time, start, points.last().map(|(at, _)| *at), &mut findings);
                let value = number::<Q>(value, unit, &mut findings);
                points.extend(time.zip(value.map(&whole)));
            }
            if let (Some([last, _]), Some((at, _))) = (rows.last(), points.last())
                && *at < 0
            {
                findings
                    .error("S0012", last.span(), "the values end before the scenario's start")
                    .label("the last is older than all that is simulated");
            }
            let track = within(&points, duration, shape);
            if track.is_none() && !findings.has_errors() {
                findings
                    .error("S0012", rows[0][0].span(), "the values begin after the scenario's start")
                    .label("the first must be at the start or before it");
            }
            findings.finish(track)
        });
        self.or_refused(read.map(|loaded| loaded.value))?
    }

    /// A rate along a cosine: points of a line at every quarter of an hour.
    pub(super) fn daily(&mut self, daily: &DailyFile) -> Option<Track> {
        let low = daily.low.read_unsigned(&mut self.findings)?;
        let high = daily.high.read_unsigned(&mut self.findings)?;
        let peak = SimTime::from_millis(daily.peak.read_unsigned(&mut self.findings)?).as_nanos();
        if high < low {
            self.findings
                .error("S0013", daily.high.span(), format!("the most, {high}, is less than the least"))
                .also(daily.low.span(), "the least");
            return None;
        }
        let swing = (high.as_micros() - low.as_micros()) as f64;
        let value = |at: u64| {
            let turn = ((at + DAY - peak % DAY) % DAY) as f64 / DAY as f64;
            let part = (1.0 + libm::cos(turn * std::f64::consts::TAU)) / 2.0;
            low.as_micros() + (swing * part).round() as i64
        };
        let quarters = self.frame.duration.as_nanos().div_ceil(QUARTER);
        let points = (0..=quarters).map(|n| (SimTime::from_nanos(n * QUARTER), value(n * QUARTER))).collect();
        Track::new(Shape::Linear, points)
    }

    /// Bursts, read.
    pub(super) fn bursts(&mut self, bursts: &BurstsFile) -> Option<Bursts> {
        let findings = &mut self.findings;
        let base = bursts.base.read_unsigned(findings);
        let peak = bursts.peak.read_positive(findings);
        let between = bursts.between.read_positive(findings);
        let least = SimTime::from_nanos(self.frame.duration.as_nanos() / MOST);
        if let Some(often) = between.filter(|between| SimTime::from_millis(*between) < least) {
            findings
                .error("S0012", bursts.between.span(), format!("a burst each {often} can't be simulated"))
                .label(format!("for this duration it must be at least {least}"));
            return None;
        }
        let lasts = bursts.lasts.read_positive(findings);
        Some(Bursts { base: base?, peak: peak?, between: between?, lasts: lasts? })
    }

    /// The value, or what is wrong with the file beside the scenario, told once the scenario itself is in order.
    pub(super) fn or_refused<T>(&mut self, read: Result<T, Invalid>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(invalid) => {
                self.refused.get_or_insert(invalid);
                None
            }
        }
    }
}

/// A time of a file, in nanoseconds since the scenario's start: a number of seconds or a span since then, or a point in time.
/// Reports one that is not after the last.
pub(super) fn instant(
    time: &At<String>,
    start: jiff::Timestamp,
    last: Option<i64>,
    findings: &mut Findings,
) -> Option<i64> {
    let text = time.as_str();
    let span = || text.parse::<Millis>().ok().map(|span| span.as_micros());
    let seconds = || {
        let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.abs() < 1e10)?;
        Millis::from_f64(seconds * 1000.0).map(Millis::as_micros)
    };
    let on_calendar = || {
        let at: jiff::Timestamp = text.parse().ok()?;
        i64::try_from(at.duration_since(start).as_nanos()).ok()
    };
    let Some(at) = span().or_else(seconds).or_else(on_calendar) else {
        findings
            .error("S0012", time.span(), format!("`{text}` is not a time"))
            .label("expected seconds or a span since the start, such as \"1h\", or a point in time");
        return None;
    };
    if last.is_some_and(|last| at <= last) {
        findings
            .error("S0012", time.span(), format!("{text} is not after the row before"))
            .label("rows must be in order, each time once");
        return None;
    }
    Some(at)
}

/// A value with its unit, or a bare number in the unit of its track.
fn number<Q: Quantity>(value: &At<String>, unit: &str, findings: &mut Findings) -> Option<Q> {
    let text = value.as_str();
    let bare = text.parse::<f64>().is_ok();
    let read: Option<Q> = if bare { format!("{text}{unit}").parse().ok() } else { text.parse().ok() };
    match read.filter(|value| !value.is_negative()) {
        Some(value) => Some(value),
        None => {
            let finding = findings
                .error("S0012", value.span(), format!("`{text}` can't be used"))
                .label(format!("expected {}", Q::EXPECTED));
            if bare && unit.is_empty() {
                finding.help("or give the track in the scenario a `unit`");
            }
            None
        }
    }
}

/// The part of the points that a scenario sees: the last value before its start holds at the start, what is after its end is left
/// away.
fn within(points: &[(i64, i64)], end: SimTime, shape: Shape) -> Option<Track> {
    let start = points.partition_point(|(at, _)| *at <= 0).checked_sub(1)?;
    let (from, value) = points[start];
    let first = match (shape, points.get(start + 1)) {
        (Shape::Linear, Some((to, next))) => {
            let rise = (i128::from(*next) - i128::from(value)) * i128::from(-from);
            value + i64::try_from(rise / (i128::from(*to) - i128::from(from)).max(1)).unwrap_or(0)
        }
        _ => value,
    };
    let mut read = vec![(SimTime::START, first)];
    for (at, value) in &points[start + 1..] {
        let at = SimTime::from_nanos(at.unsigned_abs());
        read.push((at, *value));
        // A line goes on to the first point beyond the end.
        if at >= end {
            break;
        }
    }
    Track::new(shape, read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Purpose;

    #[test]
    fn what_lies_before_the_start_and_after_the_end_is_cut_off() {
        let end = SimTime::from_nanos(100);
        let of = |shape| {
            within(&[(-20, 10), (-10, 20), (10, 40), (90, 5), (150, 65), (200, 1)], end, shape).unwrap()
        };
        let at = |track: &Track, now| track.at(SimTime::from_nanos(now), 1);
        let step = of(Shape::Step);
        assert_eq!([0, 9, 10, 99].map(|now| at(&step, now)), [20, 20, 40, 5]);
        let line = of(Shape::Linear);
        assert_eq!([0, 5, 10, 99].map(|now| at(&line, now)), [30, 35, 40, 14]);
        assert_eq!(within(&[(5, 1)], end, Shape::Step), None);
    }

    #[test]
    fn bursts_come_and_go() {
        let bursts = Bursts {
            base: "5/s".parse().unwrap(),
            peak: "80/s".parse().unwrap(),
            between: "2h".parse().unwrap(),
            lasts: "10m".parse().unwrap(),
        };
        let end = SimTime::from_nanos(30 * DAY);
        let track = |name| bursts.track(Stream::named(1, Purpose::Bursts, name), end).unwrap();
        let high =
            (0..30 * 1440).filter(|n| track("a").at(SimTime::from_nanos(n * 60_000_000_000), 1) > 5_000_000);
        // Ten minutes of each 130.
        let share = high.count() as f64 / (30.0 * 1440.0);
        assert!((0.055..0.1).contains(&share), "{share}");
        assert_ne!(track("a"), track("b"));
    }
}
