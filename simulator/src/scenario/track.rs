//! A value over time, as a scenario draws it.

use crate::clock::SimTime;

/// How a track gets from one point to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Each point's value holds until the next point.
    #[default]
    Step,
    /// Along a straight line between points, in steps of the scenario's `step`.
    Linear,
}

/// A value over time: points in order, the first at the start. The last value holds to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    shape: Shape,
    /// Time, and value in millionths of its unit (whole bytes for memory).
    points: Vec<(SimTime, i64)>,
}

impl Track {
    /// A track through these points. `None` unless there is a point at the start and times rise.
    pub fn new(shape: Shape, points: Vec<(SimTime, i64)>) -> Option<Self> {
        let starts = points.first().is_some_and(|(at, _)| *at == SimTime::START);
        let rises = points.windows(2).all(|pair| pair[0].0 < pair[1].0);
        (starts && rises).then_some(Self { shape, points })
    }

    /// The value at an instant. A linear track is read at the multiples of `step` (nanoseconds, not 0), so that between two
    /// readings every value stands still and totals are exact.
    pub fn at(&self, now: SimTime, step: u64) -> i64 {
        let after = self.points.partition_point(|(at, _)| *at <= now);
        // The first point is at the start, so one point is at or before any instant.
        let (from, value) = self.points[after.saturating_sub(1)];
        let Some(&(to, next)) = self.points.get(after) else { return value };
        match self.shape {
            Shape::Step => value,
            Shape::Linear => {
                let read = SimTime::from_nanos(now.as_nanos() - now.as_nanos() % step);
                // A reading from before the point would belong to the line before it: the point itself is read too.
                let run = i128::from(read.since(from));
                let slope = i128::from(next) - i128::from(value);
                let rise = slope * run / i128::from(to.since(from));
                // Between `value` and `next`, so it fits.
                i64::try_from(i128::from(value) + rise).unwrap_or(value)
            }
        }
    }

    /// The instants at which the value may change, in order, up to and without `end`.
    pub fn changes(&self, step: u64, end: SimTime) -> Vec<SimTime> {
        let mut times: Vec<SimTime> = self.points.iter().map(|(at, _)| *at).collect();
        if let (Shape::Linear, Some((last, _))) = (self.shape, self.points.last()) {
            let steps = (*last).min(end).as_nanos() / step;
            times.extend((0..=steps).map(|n| SimTime::from_nanos(n * step)));
        }
        times.retain(|at| *at < end);
        times.sort_unstable();
        times.dedup();
        times
    }

    /// The values of its points; all others lie between them.
    pub fn values(&self) -> impl Iterator<Item = i64> {
        self.points.iter().map(|(_, value)| *value)
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T: fn(u64) -> SimTime = SimTime::from_nanos;

    fn track(shape: Shape, points: &[(u64, i64)]) -> Track {
        Track::new(shape, points.iter().map(|(at, value)| (T(*at), *value)).collect()).unwrap()
    }

    #[test]
    fn a_step_holds_until_the_next_point_and_the_last_to_the_end() {
        let track = track(Shape::Step, &[(0, 5), (10, 45)]);
        assert_eq!([0, 9, 10, 999].map(|at| track.at(T(at), 1)), [5, 5, 45, 45]);
        assert_eq!(track.changes(1, T(50)), [T(0), T(10)]);
        assert_eq!(track.changes(1, T(10)), [T(0)]);
    }

    #[test]
    fn a_line_is_read_at_every_step() {
        let track = track(Shape::Linear, &[(0, 0), (10, 100)]);
        assert_eq!([0, 1, 2, 3, 5, 9, 10, 11].map(|at| track.at(T(at), 2)), [0, 0, 20, 20, 40, 80, 100, 100]);
        assert_eq!(track.changes(4, T(50)), [0, 4, 8, 10].map(T));
    }

    #[test]
    fn points_out_of_order_are_no_track() {
        let points = |points: &[(u64, i64)]| points.iter().map(|(at, v)| (T(*at), *v)).collect::<Vec<_>>();
        assert!(Track::new(Shape::Step, points(&[])).is_none());
        assert!(Track::new(Shape::Step, points(&[(1, 1)])).is_none());
        assert!(Track::new(Shape::Step, points(&[(0, 1), (2, 1), (2, 3)])).is_none());
    }

    proptest! {
        #[test]
        fn between_two_changes_the_value_stands_still(
            spans in proptest::collection::vec((1u64..50, -1000i64..1000), 0..6),
            step in 1u64..20,
            linear: bool,
        ) {
            let mut at = 0;
            let mut points = vec![(SimTime::START, 7)];
            for (span, value) in spans {
                at += span;
                points.push((T(at), value));
            }
            let low = points.iter().map(|p| p.1).min().unwrap();
            let high = points.iter().map(|p| p.1).max().unwrap();
            let shape = if linear { Shape::Linear } else { Shape::Step };
            let track = Track::new(shape, points).unwrap();
            let changes = track.changes(step, T(1000));
            let mut value = None;
            for now in 0..(at + 20) {
                let next = track.at(T(now), step);
                prop_assert!((low..=high).contains(&next));
                if !changes.contains(&T(now)) {
                    prop_assert_eq!(value, Some(next));
                }
                value = Some(next);
            }
        }
    }
}
