//! Where the marks of a time axis are, and what stands beside them.

use crate::clock::SimTime;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Steps that people count in, in seconds.
const STEPS: [u64; 21] = [
    1,
    5,
    15,
    30,
    MINUTE,
    5 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    4 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    5 * DAY,
    10 * DAY,
    30 * DAY,
    60 * DAY,
    120 * DAY,
];
/// No more marks than have room.
const MOST: u64 = 6;

/// Nanoseconds from mark to mark.
pub fn step(duration: SimTime) -> u64 {
    let seconds = duration.as_nanos().div_ceil(1_000_000_000).max(1);
    let fits = |step: &&u64| seconds / **step <= MOST;
    STEPS.iter().find(fits).unwrap_or(&STEPS[STEPS.len() - 1]) * 1_000_000_000
}

/// What stands beside a mark: `6:00`, `6:00:15` where seconds matter, `2d` where days do.
pub fn label(at: SimTime, duration: SimTime) -> String {
    let seconds = at.as_nanos() / 1_000_000_000;
    let (hours, minutes) = (seconds / HOUR, seconds / MINUTE % 60);
    match step(duration) / 1_000_000_000 {
        ..MINUTE => format!("{hours}:{minutes:02}:{:02}", seconds % 60),
        DAY.. => format!("{}d", seconds / DAY),
        _ if hours > 48 => format!("{}d {}:{minutes:02}", seconds / DAY, hours % 24),
        _ => format!("{hours}:{minutes:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(duration: &str) -> String {
        let duration = SimTime::from_millis(duration.parse().unwrap());
        let step = step(duration);
        let marks =
            (0..=duration.as_nanos() / step).map(|at| label(SimTime::from_nanos(at * step), duration));
        marks.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn marks_are_at_times_that_people_count_in() {
        assert_eq!(marks("1d"), "0:00 4:00 8:00 12:00 16:00 20:00 24:00");
        assert_eq!(marks("90s"), "0:00:00 0:00:15 0:00:30 0:00:45 0:01:00 0:01:15 0:01:30");
        assert_eq!(marks("30d"), "0d 5d 10d 15d 20d 25d 30d");
        assert_eq!(marks("366d"), "0d 60d 120d 180d 240d 300d 360d");
    }
}
