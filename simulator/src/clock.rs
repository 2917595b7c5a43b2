//! Simulated time: whole nanoseconds since the scenario's start. No wall clock comes near it.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};
use sterna_policies::quantity::Millis;

/// Nanoseconds in an hour.
pub const NANOS_PER_HOUR: u64 = 3_600_000_000_000;

/// From a rate per hour times nanoseconds to the amount, rounded to the nearest.
pub(crate) fn per_hour(integral: i128) -> i64 {
    let hour = i128::from(NANOS_PER_HOUR);
    i64::try_from(integral.saturating_add(hour / 2).div_euclid(hour)).unwrap_or(i64::MAX)
}

/// Simulated time since the scenario's start, in whole nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimTime(u64);

impl SimTime {
    /// The scenario's start.
    pub const START: Self = Self(0);

    /// So many nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// From a span since the start; negative spans are the start itself. A millionth of a millisecond is a nanosecond, so
    /// nothing is rounded.
    pub fn from_millis(span: Millis) -> Self {
        Self(u64::try_from(span.as_micros()).unwrap_or(0))
    }

    /// The same as a quantity.
    pub fn as_millis(self) -> Millis {
        Millis::from_micros(i64::try_from(self.0).unwrap_or(i64::MAX))
    }

    /// This time and a span more, at the type's limit where it would overflow.
    pub fn after(self, span: Millis) -> Self {
        Self(self.0.saturating_add(Self::from_millis(span).0))
    }

    /// Nanoseconds from `earlier` to here; zero where `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The instant on the calendar, for a scenario that starts at `start`. Stays at the calendar's end beyond it.
    pub fn on_calendar(self, start: Timestamp) -> Timestamp {
        let span = SignedDuration::from_nanos(i64::try_from(self.0).unwrap_or(i64::MAX));
        start.checked_add(span).unwrap_or(Timestamp::MAX)
    }
}

/// `8:00:00`, or `1d 8:00:00` from the second day on; with milliseconds where there are any.
impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0 / 1_000_000;
        let (seconds, millis) = (millis / 1000, millis % 1000);
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        let mut text = String::new();
        if days > 0 {
            text.push_str(&format!("{days}d "));
        }
        text.push_str(&format!("{hours}:{minutes:02}:{:02}", seconds % 60));
        if millis > 0 {
            text.push_str(&format!(".{millis:03}"));
        }
        f.pad(&text)
    }
}

impl Serialize for SimTime {
    /// As a time in milliseconds with its unit, like every other time in Sterna's files.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_millis().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nanosecond_is_a_millionth_of_a_millisecond() {
        let time = SimTime::from_millis("1.000001ms".parse().unwrap());
        assert_eq!(time.as_nanos(), 1_000_001);
        assert_eq!(time.as_millis().to_string(), "1.000001ms");
    }

    #[test]
    fn it_reads_like_a_clock() {
        let time = |text: &str| SimTime::from_millis(text.parse().unwrap()).to_string();
        assert_eq!(time("8h"), "8:00:00");
        assert_eq!(time("90061500ms"), "1d 1:01:01.500");
    }

    #[test]
    fn the_calendar_follows() {
        let start: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
        let later = SimTime::from_millis("25h".parse().unwrap()).on_calendar(start);
        assert_eq!(later.to_string(), "2026-03-03T01:00:00Z");
        assert_eq!(SimTime::from_nanos(u64::MAX).on_calendar(Timestamp::MAX), Timestamp::MAX);
    }
}
