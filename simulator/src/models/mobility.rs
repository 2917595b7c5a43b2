//! Where users are while time passes.
//!
//! A way of moving becomes a [`Route`] before anything runs: it hangs on the seed and the group's own name and on nothing else, so
//! every policy meets the same users, and another group more changes nobody's way.

use sterna_core::continuum::Location;
use sterna_policies::quantity::{KmPerHour, Millis};

use crate::clock::SimTime;
use crate::stream::Stream;

/// Nanoseconds in a day.
const DAY: u64 = 86_400_000_000_000;

/// How users move.
#[derive(Debug, Clone, PartialEq)]
pub enum Mobility {
    /// They do not.
    Stays(Location),
    /// From one random place within a box to the next, with rests between: the random waypoint model.
    Waypoint(Waypoint),
    /// From home to work and back, each day.
    Commuter(Commuter),
    /// As it was recorded.
    Recorded(Route),
}

impl Mobility {
    /// Whether another seed makes other ways.
    pub fn is_random(&self) -> bool {
        match self {
            Self::Stays(_) | Self::Recorded(_) => false,
            Self::Waypoint(_) => true,
            Self::Commuter(commuter) => commuter.spread > Millis::ZERO,
        }
    }
}

/// The random waypoint model.
#[derive(Debug, Clone, PartialEq)]
pub struct Waypoint {
    /// The box's corner in the south-west.
    pub low: Location,
    /// The opposite corner.
    pub high: Location,
    /// The least and the greatest speed; drawn evenly for each way.
    pub speed: [KmPerHour; 2],
    /// The longest rest at a place; drawn evenly for each.
    pub pause: Millis,
}

/// A day between home and work. Times are of the scenario's clock, each day again.
#[derive(Debug, Clone, PartialEq)]
pub struct Commuter {
    /// Where they are at night.
    pub home: Location,
    /// Where they are by day.
    pub work: Location,
    /// When they leave home.
    pub leaves: Millis,
    /// When they leave work.
    pub returns: Millis,
    /// How long they are on the way.
    pub takes: Millis,
    /// By how much each of their departures is later, at most; drawn evenly.
    pub spread: Millis,
}

/// Places in order of time. Between two of them the way is straight and even; before the first and after the last nobody moves.
#[derive(Debug, Clone, PartialEq)]
pub struct Route(Vec<(SimTime, Location)>);

impl Route {
    /// A route through these places. `None` where there is none, or times do not rise.
    pub fn new(places: Vec<(SimTime, Location)>) -> Option<Self> {
        let rises = places.windows(2).all(|pair| pair[0].0 < pair[1].0);
        (rises && !places.is_empty()).then_some(Self(places))
    }

    /// Where they are, read at the multiples of `step` (nanoseconds, not 0).
    pub fn at(&self, now: SimTime, step: u64) -> Location {
        let now = SimTime::from_nanos(now.as_nanos() - now.as_nanos() % step);
        let after = self.0.partition_point(|(at, _)| *at <= now);
        let (from, here) = self.0[after.saturating_sub(1)];
        match self.0.get(after) {
            Some((to, there)) if after > 0 => {
                here.towards(there, now.since(from) as f64 / to.since(from) as f64)
            }
            _ => here,
        }
    }

    /// The instants of the scenario's step at which they may be somewhere else, up to and without `end`.
    pub fn changes(&self, step: u64, end: SimTime) -> Vec<SimTime> {
        let still = |pair: &[(SimTime, Location)]| pair[0].1 == pair[1].1;
        let mut times: Vec<SimTime> = Vec::new();
        for pair in self.0.windows(2).filter(|pair| !still(pair)) {
            let last = pair[1].0.min(end).as_nanos().div_ceil(step);
            let first = pair[0].0.as_nanos() / step;
            times.extend((first..=last).map(|n| SimTime::from_nanos(n.saturating_mul(step))));
        }
        times.retain(|at| *at < end);
        times.dedup();
        times
    }

    /// The places it goes through, with their times.
    pub fn places(&self) -> &[(SimTime, Location)] {
        &self.0
    }
}

impl Mobility {
    /// The route for a scenario that lasts until `end` and is read at every `step`.
    pub fn route(&self, stream: Stream, step: u64, end: SimTime) -> Route {
        match self {
            Self::Stays(place) => Route(vec![(SimTime::START, *place)]),
            Self::Recorded(route) => route.clone(),
            Self::Waypoint(model) => model.route(stream, step, end),
            Self::Commuter(model) => model.route(stream, end),
        }
    }
}

impl Waypoint {
    fn place(&self, stream: Stream, count: u64) -> Location {
        let north = self.low.towards(&self.high, stream.part(count));
        let east = self.low.towards(&self.high, stream.part(count + 1));
        Location { latitude: north.latitude, longitude: east.longitude }
    }

    fn route(&self, stream: Stream, step: u64, end: SimTime) -> Route {
        // A leg takes four draws: two for the place, one for the speed, one for the rest.
        let mut here = self.place(stream, 0);
        let mut now = SimTime::START;
        let mut places = vec![(now, here)];
        let mut count = 4;
        while now < end {
            let there = self.place(stream, count);
            let [least, most] = self.speed.map(KmPerHour::as_f64);
            let speed = least + (most - least) * stream.part(count + 2);
            let nanos = here.km_to(&there) / speed.max(1e-6) * 3.6e12;
            // Not shorter than a step, so that the number of legs has a limit.
            let takes = (nanos as u64).max(step);
            now = SimTime::from_nanos(now.as_nanos().saturating_add(takes));
            places.push((now, there));
            let most = u64::try_from(self.pause.as_micros()).unwrap_or(0);
            let pause = stream.below(count + 3, most);
            if pause > 0 {
                now = SimTime::from_nanos(now.as_nanos().saturating_add(pause));
                places.push((now, there));
            }
            here = there;
            count += 4;
        }
        Route(places)
    }
}

impl Commuter {
    fn route(&self, stream: Stream, end: SimTime) -> Route {
        let spread = u64::try_from(self.spread.as_micros()).unwrap_or(0);
        let takes = SimTime::from_millis(self.takes).as_nanos().max(1);
        let mut places = vec![(SimTime::START, self.home)];
        let mut go = |from: u64, here: Location, there: Location| {
            // Nobody sets out before having arrived.
            let last = places.last().map_or(0, |(at, _)| at.as_nanos());
            let from = from.max(last + 1);
            places.push((SimTime::from_nanos(from), here));
            places.push((SimTime::from_nanos(from.saturating_add(takes)), there));
        };
        for day in 0..=end.as_nanos() / DAY {
            let late = |which| stream.below(2 * day + which, spread);
            let at =
                |time: Millis, late: u64| (day * DAY).saturating_add(time.as_micros().unsigned_abs() + late);
            go(at(self.leaves, late(0)), self.home, self.work);
            go(at(self.returns, late(1)), self.work, self.home);
        }
        Route(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Purpose;
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000_000_000;

    fn at(latitude: f64, longitude: f64) -> Location {
        Location::new(latitude, longitude).unwrap()
    }

    fn waypoint() -> Waypoint {
        Waypoint {
            low: at(-37.83, 144.94),
            high: at(-37.80, 144.98),
            speed: ["3km/h", "6km/h"].map(|speed| speed.parse().unwrap()),
            pause: "10m".parse().unwrap(),
        }
    }

    fn day() -> SimTime {
        SimTime::from_nanos(DAY)
    }

    #[test]
    fn commuters_are_at_work_by_day_and_at_home_by_night() {
        let model = Commuter {
            home: at(0.0, 0.0),
            work: at(0.0, 1.0),
            leaves: "8h".parse().unwrap(),
            returns: "17h".parse().unwrap(),
            takes: "1h".parse().unwrap(),
            spread: "30m".parse().unwrap(),
        };
        let route = Mobility::Commuter(model).route(Stream::named(1, Purpose::Mobility, "a"), MINUTE, day());
        let longitude = |text: &str| route.at(SimTime::from_millis(text.parse().unwrap()), MINUTE).longitude;
        assert_eq!(["0h", "7.9h", "9.6h", "16.9h", "18.6h"].map(longitude), [0.0, 0.0, 1.0, 1.0, 0.0]);
        let on_the_way = longitude("8.75h");
        assert!(on_the_way > 0.0 && on_the_way < 1.0);
        let changes = route.changes(MINUTE, day());
        assert!((120..128).contains(&changes.len()), "only on the way: {}", changes.len());
    }

    #[test]
    fn walkers_go_over_the_date_line() {
        let model = Waypoint { low: at(-18.0, 179.0), high: at(-17.0, -179.0), ..waypoint() };
        let model = Waypoint { speed: ["60km/h", "90km/h"].map(|speed| speed.parse().unwrap()), ..model };
        let route = Mobility::Waypoint(model).route(Stream::named(7, Purpose::Mobility, "a"), MINUTE, day());
        let all: Vec<Location> =
            (0..1440).map(|minute| route.at(SimTime::from_nanos(minute * MINUTE), MINUTE)).collect();
        assert!(all.iter().all(|here| here.longitude.abs() >= 179.0));
        assert!(all.iter().any(|here| here.longitude > 0.0) && all.iter().any(|here| here.longitude < 0.0));
        assert!(all.windows(2).all(|pair| pair[0].km_to(&pair[1]) < 1.6));
    }

    #[test]
    fn a_recording_is_followed_and_its_ends_hold() {
        let t = SimTime::from_nanos;
        let route = Route::new(vec![(t(10), at(0.0, 0.0)), (t(20), at(10.0, 20.0))]).unwrap();
        assert_eq!(route.at(t(0), 1), at(0.0, 0.0));
        assert_eq!(route.at(t(15), 1), at(5.0, 10.0));
        assert_eq!(route.at(t(99), 1), at(10.0, 20.0));
        assert_eq!(Route::new(vec![]), None);
        assert_eq!(Route::new(vec![(t(1), at(0.0, 0.0)), (t(1), at(0.0, 0.0))]), None);
    }

    proptest! {
        #[test]
        fn walkers_stay_in_their_box_and_are_not_too_fast(seed: u64) {
            let (model, stream) = (waypoint(), Stream::named(seed, Purpose::Mobility, "walkers"));
            let route = Mobility::Waypoint(model.clone()).route(stream, MINUTE, day());
            let mut last = route.at(SimTime::START, MINUTE);
            for minute in 1..1440 {
                let here = route.at(SimTime::from_nanos(minute * MINUTE), MINUTE);
                prop_assert!((model.low.latitude..=model.high.latitude).contains(&here.latitude));
                prop_assert!((model.low.longitude..=model.high.longitude).contains(&here.longitude));
                // 6 km/h are 100 m in a minute; straight in degrees is not quite straight on the globe.
                prop_assert!(here.km_to(&last) <= 0.1001);
                last = here;
            }
        }

        #[test]
        fn between_two_changes_nobody_moves(seed: u64, step in 1u64..30) {
            let (model, stream) = (waypoint(), Stream::named(seed, Purpose::Mobility, "walkers"));
            let (step, end) = (step * MINUTE, SimTime::from_nanos(DAY / 4));
            let route = Mobility::Waypoint(model).route(stream, step, end);
            let changes = route.changes(step, end);
            let mut last = None;
            for minute in 0..360 {
                let now = SimTime::from_nanos(minute * MINUTE);
                let here = route.at(now, step);
                if !changes.contains(&now) {
                    prop_assert!(last.is_none_or(|last| last == here));
                }
                last = Some(here);
            }
        }
    }
}
