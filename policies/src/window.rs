//! When moves may be made: windows that begin by a cron schedule in a time zone and last a while.
//!
//! Time zones are those that this program was built with, and not the machine's, so that a decision is the same everywhere.

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::policy::Migration;
use crate::quantity::Millis;

/// Whether moves are made in a window or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WindowKind {
    /// Where there is any of these, moves are made only while one is open.
    Allow,
    /// No moves are made while it is open, whatever others allow.
    Deny,
}

/// What becomes of a migration under way once moves are kept back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overrun {
    /// It goes on to its end.
    #[default]
    Finish,
    /// It is undone, where it has not come to its commit; and none is begun that is predicted to take longer.
    Abort,
}

impl Overrun {
    fn is_ordinary(&self) -> bool {
        *self == Self::Finish
    }
}

/// A time in which moves are made, or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Which of both.
    pub kind: WindowKind,
    /// When it begins: minute, hour, day of month, month and weekday, as in crontabs.
    pub schedule: String,
    /// For how long it is open.
    pub duration: Millis,
    /// The time zone of the schedule, by its IANA name.
    pub timezone: String,
    /// Whether moves that mend what is broken are made all the same while it keeps others back.
    pub allow_mending: bool,
    /// What becomes of a migration that is under way when it begins to keep moves back.
    #[serde(default, skip_serializing_if = "Overrun::is_ordinary")]
    pub overrun: Overrun,
}

/// When moves are made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The schedule of the window that keeps moves back; `None` where none is open that allows any.
    pub by: Option<String>,
    /// When that ends; `None` where it is not known.
    pub until: Option<Timestamp>,
    /// Whether moves that mend are made all the same.
    pub allow_mending: bool,
}

/// Reads a schedule.
///
/// # Errors
/// What is wrong with it.
pub fn cron(schedule: &str) -> Result<Cron, CronError> {
    CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build().parse(schedule)
}

/// The time zone of a name; nothing if there is none.
pub fn timezone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

/// The names of all time zones.
pub fn timezones() -> Vec<String> {
    TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect()
}

impl Window {
    /// When the window ends that is open; nothing while none is.
    pub fn ends(&self, now: Timestamp) -> Option<Timestamp> {
        let zoned = now.to_zoned(timezone(&self.timezone)?);
        let begun = cron(&self.schedule).ok()?.find_previous_occurrence(&zoned, true).ok()?;
        let duration = SignedDuration::from_nanos(self.duration.as_micros());
        begun.timestamp().checked_add(duration).ok().filter(|ends| *ends > now)
    }

    /// When the next one begins, after now.
    pub fn begins(&self, now: Timestamp) -> Option<Timestamp> {
        let zoned = now.to_zoned(timezone(&self.timezone)?);
        Some(cron(&self.schedule).ok()?.find_next_occurrence(&zoned, false).ok()?.timestamp())
    }
}

/// What keeps moves back at a time; nothing where they may be made.
pub fn closed(windows: &[Window], now: Timestamp) -> Option<Closed> {
    let of = |kind: WindowKind| windows.iter().filter(move |window| window.kind == kind);
    let denies = of(WindowKind::Deny).filter_map(|window| {
        let (by, until) = (Some(window.schedule.clone()), Some(window.ends(now)?));
        Some(Closed { by, until, allow_mending: window.allow_mending })
    });
    let outside = of(WindowKind::Allow).all(|window| window.ends(now).is_none());
    let outside = (outside && of(WindowKind::Allow).count() > 0).then(|| Closed {
        by: None,
        until: of(WindowKind::Allow).filter_map(|window| window.begins(now)).min(),
        allow_mending: of(WindowKind::Allow).all(|window| window.allow_mending),
    });
    // The one that lasts longest is named.
    denies.chain(outside).reduce(|one, other| {
        let allow_mending = one.allow_mending && other.allow_mending;
        let later = |closed: &Closed| closed.until.unwrap_or(Timestamp::MAX);
        let longest = if later(&one) >= later(&other) { one } else { other };
        Closed { allow_mending, ..longest }
    })
}

/// Over so many windows that open as others close it is looked for the end.
const SEAMS: usize = 32;

/// When migrations are aborted that are not over by then; nothing where none are, or not in the time that can be seen.
pub fn aborts(windows: &[Window], now: Timestamp) -> Option<Timestamp> {
    let of = |kind: WindowKind| windows.iter().filter(move |window| window.kind == kind);
    let aborting = |window: &&Window| window.overrun == Overrun::Abort;
    let denied = of(WindowKind::Deny).filter(aborting).filter_map(|window| window.begins(now)).min();
    let mut at = now;
    let mut allowed = None;
    for _ in 0..SEAMS {
        // Of several that are open the last to close decides, of equal ones the one that aborts.
        let open = of(WindowKind::Allow).filter_map(|window| Some((window.ends(at)?, window.overrun)));
        let Some((ends, overrun)) = open.max_by_key(|(ends, overrun)| (*ends, *overrun == Overrun::Abort))
        else {
            break;
        };
        if of(WindowKind::Allow).all(|window| window.ends(ends).is_none()) {
            allowed = (overrun == Overrun::Abort).then_some(ends);
            break;
        }
        at = ends;
    }
    [denied, allowed].into_iter().flatten().min()
}

/// What keeps all moves back, also those that mend; nothing where at least those may be made.
pub fn shut(windows: &[Window], now: Timestamp) -> Option<Closed> {
    closed(windows, now).filter(|closed| !closed.allow_mending)
}

/// What a migration is given at least that is aborted soon.
const LEAST: Millis = Millis::from_micros(1_000_000);

/// The limits of a migration that begins now: what its policy says, but no longer than until a window aborts it. `None` where it is
/// not to begin at all: moves are kept back, or it is predicted to take longer than that.
pub fn limits(
    windows: &[Window],
    migration: &Migration,
    predicted: Millis,
    now: Timestamp,
) -> Option<Migration> {
    if shut(windows, now).is_some() {
        return None;
    }
    let Some(aborts) = aborts(windows, now) else { return Some(migration.clone()) };
    // A millionth of a millisecond is a nanosecond.
    let left = aborts.duration_since(now).as_nanos();
    let left = Millis::from_micros(i64::try_from(left).unwrap_or(i64::MAX)).max(LEAST);
    (predicted <= left).then(|| Migration {
        deadline: migration.deadline.min(left),
        freeze_lease: migration.freeze_lease.min(left),
        ..migration.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Memory, Method};

    fn window(kind: WindowKind, schedule: &str, duration: &str, timezone: &str) -> Window {
        Window {
            kind,
            schedule: schedule.to_owned(),
            duration: duration.parse().unwrap(),
            timezone: timezone.to_owned(),
            allow_mending: false,
            overrun: Overrun::Finish,
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Office hours in Paris, which are an hour earlier in UTC in winter and two in summer.
    #[test]
    fn a_window_is_open_from_its_beginning_until_before_its_end() {
        let office = window(WindowKind::Deny, "0 8 * * 1-5", "10h", "Europe/Paris");
        for (now, ends) in [
            ("2026-11-26T06:59:59Z", None),
            ("2026-11-26T07:00:00Z", Some("2026-11-26T17:00:00Z")),
            ("2026-11-26T16:59:59Z", Some("2026-11-26T17:00:00Z")),
            ("2026-11-26T17:00:00Z", None),
            ("2026-07-02T06:00:00Z", Some("2026-07-02T16:00:00Z")),
            // A Saturday.
            ("2026-11-28T09:00:00Z", None),
        ] {
            assert_eq!(office.ends(at(now)), ends.map(at), "{now}");
        }
        assert_eq!(office.begins(at("2026-11-27T09:00:00Z")), Some(at("2026-11-30T07:00:00Z")));
    }

    /// The clocks go forward over half past two on 29 March, and back over it on 25 October.
    #[test]
    fn a_window_is_as_long_as_it_says_when_clocks_change() {
        let night = window(WindowKind::Allow, "30 1 * * *", "3h", "Europe/Paris");
        assert_eq!(night.ends(at("2026-03-29T01:00:00Z")), Some(at("2026-03-29T03:30:00Z")));
        assert_eq!(night.ends(at("2026-10-25T01:00:00Z")), Some(at("2026-10-25T02:30:00Z")));
        let gone = window(WindowKind::Allow, "30 2 * * *", "1h", "Europe/Paris");
        assert_eq!(gone.begins(at("2026-03-28T12:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
    }

    #[test]
    fn deny_beats_allow_and_without_any_moves_are_made() {
        let now = at("2026-11-26T12:00:00Z");
        assert_eq!(closed(&[], now), None);
        let day = window(WindowKind::Allow, "0 6 * * *", "12h", "UTC");
        let noon = window(WindowKind::Deny, "30 11 * * *", "1h", "UTC");
        let long = window(WindowKind::Deny, "0 11 * * *", "3h", "UTC");
        assert_eq!(closed(std::slice::from_ref(&day), now), None);
        let by = |window: &Window, until: &str| {
            Some(Closed { by: Some(window.schedule.clone()), until: Some(at(until)), allow_mending: false })
        };
        assert_eq!(closed(&[day.clone(), noon.clone()], now), by(&noon, "2026-11-26T12:30:00Z"));
        assert_eq!(closed(&[noon.clone(), long.clone()], now), by(&long, "2026-11-26T14:00:00Z"));
        let late = at("2026-11-26T20:00:00Z");
        let opens = Some(at("2026-11-27T06:00:00Z"));
        assert_eq!(
            closed(&[day.clone(), noon], late),
            Some(Closed { by: None, until: opens, allow_mending: false })
        );
        let evening = window(WindowKind::Allow, "0 19 * * *", "2h", "UTC");
        assert_eq!(closed(&[day, evening], late), None);
    }

    #[test]
    fn migrations_go_on_until_the_first_window_that_aborts_them() {
        let now = at("2026-11-26T12:00:00Z");
        let mut evening = window(WindowKind::Deny, "0 18 * * *", "2h", "UTC");
        assert_eq!(aborts(std::slice::from_ref(&evening), now), None);
        evening.overrun = Overrun::Abort;
        let hour = |hour: &str| Some(at(&format!("2026-11-26T{hour}:00:00Z")));
        assert_eq!(aborts(std::slice::from_ref(&evening), now), hour("18"));
        let mut day = window(WindowKind::Allow, "0 6 * * *", "8h", "UTC");
        day.overrun = Overrun::Abort;
        assert_eq!(aborts(&[evening.clone(), day.clone()], now), hour("14"));
        // One that is open for longer lets them go on, and so does one that opens as it closes.
        let long = window(WindowKind::Allow, "0 9 * * *", "10h", "UTC");
        assert_eq!(aborts(&[day.clone(), long.clone()], now), None);
        assert_eq!(aborts(&[evening, day.clone(), long], now), hour("18"));
        let mut late = window(WindowKind::Allow, "0 14 * * *", "8h", "UTC");
        late.overrun = Overrun::Abort;
        assert_eq!(aborts(&[day.clone(), late], now), hour("22"));
        let mut always = window(WindowKind::Allow, "0 0 * * *", "24h", "UTC");
        always.overrun = Overrun::Abort;
        assert_eq!(aborts(&[day, always], now), None);
    }

    #[test]
    fn mending_is_allowed_where_all_that_keep_moves_back_allow_it() {
        let now = at("2026-11-26T12:00:00Z");
        let mut noon = window(WindowKind::Deny, "30 11 * * *", "1h", "UTC");
        noon.allow_mending = true;
        let long = window(WindowKind::Deny, "0 11 * * *", "3h", "UTC");
        let allowed = |windows: &[Window]| closed(windows, now).unwrap().allow_mending;
        assert!(allowed(std::slice::from_ref(&noon)));
        assert_eq!(shut(std::slice::from_ref(&noon), now), None);
        assert_eq!(shut(std::slice::from_ref(&long), now), closed(std::slice::from_ref(&long), now));
        // One that is not open now keeps back as well, and for longer.
        let night = window(WindowKind::Allow, "0 22 * * *", "6h", "UTC");
        let both = closed(&[night, noon.clone()], now);
        let opens = Some(at("2026-11-26T22:00:00Z"));
        assert_eq!(both, Some(Closed { by: None, until: opens, allow_mending: false }));
        assert!(!allowed(&[noon, long]));
    }

    #[test]
    fn a_window_that_aborts_shortens_the_limits() {
        let of = |deadline: &str, lease: &str| Migration {
            method: Method::Checkpoint,
            memory: Memory::Ahead,
            max_downtime: None,
            bandwidth: None,
            deadline: deadline.parse().unwrap(),
            freeze_lease: lease.parse().unwrap(),
        };
        let whole = of("10m", "30s");
        let mut night = [window(WindowKind::Deny, "0 3 * * *", "1h", "UTC")];
        let takes = |windows: &[Window], predicted: &str, time: &str| {
            limits(windows, &whole, predicted.parse().unwrap(), at(&format!("2026-11-26T{time}Z")))
        };
        assert_eq!(takes(&night, "1s", "02:55:00"), Some(whole.clone()), "what has begun goes on");
        night[0].overrun = Overrun::Abort;
        assert_eq!(takes(&night, "1s", "02:40:00"), Some(whole.clone()));
        assert_eq!(takes(&night, "1s", "02:55:00"), Some(of("5m", "30s")));
        assert_eq!(takes(&night, "1s", "02:59:50"), Some(of("10s", "10s")));
        assert_eq!(takes(&night, "11s", "02:59:50"), None);
        assert_eq!(takes(&night, "1s", "03:00:00"), None, "the window is there");
    }
}
