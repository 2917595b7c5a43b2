//! A map of sites: how much ran at each, and what moved between them. Where sites have no coordinates, they stand in a ring.

use std::collections::BTreeMap;
use std::f64::consts::{PI, TAU};

use super::words::span;
use crate::clock::SimTime;

/// A site on a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Place<'a> {
    /// Its name.
    pub name: &'a str,
    /// Latitude and longitude in degrees, where they are known.
    pub at: Option<(f64, f64)>,
    /// The services that ran there, each with from when until when.
    pub hosted: Vec<(&'a str, SimTime, SimTime)>,
    /// Its colour.
    pub tone: usize,
}

/// Moves from one place to another, by their numbers in the list of places.
pub type Trips = BTreeMap<(usize, usize), usize>;

/// A picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// Its height; it is as wide as [`WIDTH`].
    pub height: u32,
    /// Whether it shows where sites are; else they stand in a ring.
    pub true_to_place: bool,
    /// Where moves went.
    pub lines: Vec<Line>,
    /// The sites.
    pub dots: Vec<Dot>,
}

/// Moves from one site to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The way that the line takes, as SVG writes it.
    pub path: String,
    /// How wide it is.
    pub width: String,
    /// Where its number stands.
    pub label: (i64, i64),
    /// How many moves.
    pub moves: usize,
    /// In words.
    pub title: String,
}

/// A site.
#[derive(Debug, Clone, PartialEq)]
pub struct Dot {
    /// Where it is.
    pub x: i64,
    /// The same from the top.
    pub y: i64,
    /// Its size: the area tells how much ran there, how long.
    pub radius: i64,
    /// Its colour; `None` where nothing ever ran.
    pub tone: Option<usize>,
    /// Its name, where there is room for it.
    pub label: Option<String>,
    /// Where the name stands, from the top.
    pub label_y: i64,
    /// In words.
    pub title: String,
}

/// The width of a map in its own units.
pub const WIDTH: u32 = 720;
const LOW: f64 = 300.0;
const HIGH: f64 = 520.0;
/// So many names are written; the sites where most ran go first.
const NAMES: usize = 24;
const LARGEST: f64 = 30.0;
const SMALLEST: f64 = 5.0;
/// Sites keep so far from the edges, so that names have room.
const MARGIN: f64 = 76.0;

/// The map of some places. `None` where there is nothing to be told of where something is: with fewer than two places.
pub fn map(places: &[Place<'_>], trips: &Trips) -> Option<Map> {
    if places.len() < 2 {
        return None;
    }
    let known: Option<Vec<(f64, f64)>> = places.iter().map(|place| place.at).collect();
    let true_to_place = known.is_some();
    let (points, height) = known.map_or_else(|| ring(places.len()), |known| projected(&known));
    let nanos =
        |place: &Place<'_>| place.hosted.iter().map(|(_, from, until)| until.since(*from)).sum::<u64>();
    let most = places.iter().map(nanos).max().unwrap_or(0).max(1) as f64;
    let mut largest: Vec<usize> = (0..places.len()).filter(|at| nanos(&places[*at]) > 0).collect();
    largest.sort_by_key(|at| (std::cmp::Reverse(nanos(&places[*at])), *at));
    if places.len() <= NAMES {
        largest = (0..places.len()).collect();
    }
    largest.truncate(NAMES);
    let dots: Vec<Dot> = places
        .iter()
        .enumerate()
        .map(|(at, place)| {
            let ran = nanos(place) as f64;
            let radius = SMALLEST + (LARGEST - SMALLEST) * (ran / most).sqrt();
            let (x, y) = points[at];
            Dot {
                x: round(x),
                y: round(y),
                radius: round(radius),
                tone: (ran > 0.0).then_some(place.tone),
                label: largest.contains(&at).then(|| place.name.to_owned()),
                label_y: round(y + radius + 20.0),
                title: title(place),
            }
        })
        .collect();
    let lines = trips
        .iter()
        .filter(|((from, to), _)| from != to && *from < places.len() && *to < places.len())
        .map(|((from, to), moves)| line(places, &dots, (*from, *to), *moves))
        .collect();
    Some(Map { height, true_to_place, lines, dots })
}

fn title(place: &Place<'_>) -> String {
    let mut spans: BTreeMap<&str, u64> = BTreeMap::new();
    for (service, from, until) in &place.hosted {
        *spans.entry(service).or_default() += until.since(*from);
    }
    let mut spans: Vec<(&str, u64)> = spans.into_iter().collect();
    spans.sort_by_key(|(service, nanos)| (std::cmp::Reverse(*nanos), *service));
    let told = spans.iter().take(6).map(|(service, nanos)| {
        // Nobody reads a map to the millisecond.
        let whole = SimTime::from_nanos((nanos + 500_000_000) / 1_000_000_000 * 1_000_000_000);
        format!("{service} for {}", span(whole.as_millis()))
    });
    let mut told: Vec<String> = told.collect();
    match spans.len() {
        0 => told.push("nothing ran here".to_owned()),
        n if n > 6 => told.push(format!("{} more", n - 6)),
        _ => {}
    }
    format!("{}: {}", place.name, told.join(", "))
}

/// An arc to the right of the straight line, so that there and back are apart; it ends at the rim of the dot.
fn line(places: &[Place<'_>], dots: &[Dot], (from, to): (usize, usize), moves: usize) -> Line {
    let point = |dot: &Dot| (dot.x as f64, dot.y as f64, dot.radius as f64);
    let ((x0, y0, r0), (x1, y1, r1)) = (point(&dots[from]), point(&dots[to]));
    let (dx, dy) = (x1 - x0, y1 - y0);
    let length = dx.hypot(dy).max(1.0);
    let bend = 0.18 * length;
    let middle = ((x0 + x1) / 2.0 - dy / length * bend, (y0 + y1) / 2.0 + dx / length * bend);
    let towards = |(x, y): (f64, f64), by: f64| {
        let (dx, dy) = (middle.0 - x, middle.1 - y);
        let length = dx.hypot(dy).max(1.0);
        (round(x + dx / length * by), round(y + dy / length * by))
    };
    let (start, end) = (towards((x0, y0), r0 + 3.0), towards((x1, y1), r1 + 9.0));
    // Where the arc itself is in its middle: halfway between the straight line and the point that bends it.
    let label = ((x0 + x1) / 4.0 + middle.0 / 2.0, (y0 + y1) / 4.0 + middle.1 / 2.0);
    let word = if moves == 1 { "move" } else { "moves" };
    Line {
        path: format!("M{} {}Q{} {} {} {}", start.0, start.1, round(middle.0), round(middle.1), end.0, end.1),
        width: format!("{:.1}", 1.5 + (moves as f64).log2().min(6.0) / 2.0),
        label: (round(label.0), round(label.1)),
        moves,
        title: format!("{moves} {word} from {} to {}", places[from].name, places[to].name),
    }
}

fn ring(count: usize) -> (Vec<(f64, f64)>, u32) {
    let (across, down) = (f64::from(WIDTH) / 2.0 - MARGIN, LOW / 2.0 + 30.0 - MARGIN / 2.0);
    let (x, y) = (f64::from(WIDTH) / 2.0, LOW / 2.0 + 30.0);
    let point = |at: usize| {
        // Two lie side by side, more begin on top.
        let first = if count == 2 { PI } else { -PI / 2.0 };
        let angle = first + TAU * at as f64 / count as f64;
        (x + across * angle.cos(), y - 6.0 + (down - 6.0) * angle.sin())
    };
    ((0..count).map(point).collect(), LOW as u32 + 60)
}

/// Equal degrees apart in the middle of the map, which is right for a town and good enough for a world of a few sites.
fn projected(places: &[(f64, f64)]) -> (Vec<(f64, f64)>, u32) {
    let shift = widest_gap(places);
    let bent: Vec<(f64, f64)> =
        places.iter().map(|(lat, lon)| (*lat, (lon - shift).rem_euclid(360.0))).collect();
    let range = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let least = bent.iter().map(of).fold(f64::INFINITY, f64::min);
        let most = bent.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
        (least, most)
    };
    let (south, north) = range(&|place| place.0);
    let (west, east) = range(&|place| place.1);
    let narrow = ((south + north) / 2.0).to_radians().cos().max(0.1);
    let (wide, tall) = (((east - west) * narrow).max(1e-9), (north - south).max(1e-9));
    let room = f64::from(WIDTH) - 2.0 * MARGIN;
    let height = (room * tall / wide).clamp(LOW - MARGIN, HIGH - MARGIN);
    let scale = (room / wide).min(height / tall);
    let (left, top) = ((f64::from(WIDTH) - wide * scale) / 2.0, MARGIN * 0.6 + (height - tall * scale) / 2.0);
    let point = |(lat, lon): &(f64, f64)| (left + (lon - west) * narrow * scale, top + (north - lat) * scale);
    (bent.iter().map(point).collect(), (height + MARGIN * 1.2) as u32)
}

/// The longitude at which the map is cut open: the far end of the widest stretch without a place.
fn widest_gap(places: &[(f64, f64)]) -> f64 {
    let mut longitudes: Vec<f64> = places.iter().map(|(_, lon)| lon.rem_euclid(360.0)).collect();
    longitudes.sort_by(f64::total_cmp);
    let next = |at: usize| longitudes.get(at + 1).copied().unwrap_or(longitudes[0] + 360.0);
    let widest = (0..longitudes.len())
        .max_by(|a, b| (next(*a) - longitudes[*a]).total_cmp(&(next(*b) - longitudes[*b])).then(b.cmp(a)));
    widest.map_or(0.0, |at| next(at).rem_euclid(360.0))
}

fn round(value: f64) -> i64 {
    value.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> SimTime {
        SimTime::from_millis(text.parse().unwrap())
    }

    fn place(name: &str, at: Option<(f64, f64)>) -> Place<'_> {
        Place { name, at, hosted: Vec::new(), tone: 0 }
    }

    #[test]
    fn north_is_up_and_east_is_to_the_right() {
        let places = [
            place("melbourne", Some((-37.8, 145.0))),
            place("sydney", Some((-33.9, 151.2))),
            place("perth", Some((-32.0, 115.9))),
        ];
        let map = map(&places, &Trips::new()).unwrap();
        assert!(map.true_to_place);
        let [melbourne, sydney, perth] = &map.dots[..] else { panic!() };
        assert!(perth.x < melbourne.x && melbourne.x < sydney.x);
        assert!(perth.y < sydney.y && sydney.y < melbourne.y);
        assert!(
            map.dots
                .iter()
                .all(|dot| (0..=720).contains(&dot.x) && (0..i64::from(map.height)).contains(&dot.y))
        );
    }

    #[test]
    fn the_date_line_does_not_tear_neighbours_apart() {
        let places = [
            place("tonga", Some((-21.0, -175.0))),
            place("fiji", Some((-18.0, 178.0))),
            place("auckland", Some((-37.0, 174.8))),
        ];
        let map = map(&places, &Trips::new()).unwrap();
        let x: Vec<i64> = map.dots.iter().map(|dot| dot.x).collect();
        assert!(x[2] < x[1] && x[1] < x[0], "{x:?}");
    }

    #[test]
    fn without_all_coordinates_places_stand_in_a_ring_with_their_moves_between_them() {
        let mut places = [place("north", Some((1.0, 2.0))), place("south", None), place("cloud", None)];
        places[0].hosted = vec![("shop", time("0h"), time("18h")), ("shop", time("20h"), time("24h"))];
        places[1].hosted = vec![("shop", time("18h"), time("20h"))];
        let trips = Trips::from([((0, 1), 4), ((1, 0), 1)]);
        let map = map(&places, &trips).unwrap();
        assert!(!map.true_to_place);
        let [north, south, cloud] = &map.dots[..] else { panic!() };
        assert_eq!(north.title, "north: shop for 22h");
        assert_eq!(cloud.title, "cloud: nothing ran here");
        assert!(north.radius > south.radius && south.radius > cloud.radius);
        assert_eq!((north.tone, cloud.tone), (Some(0), None));
        let [there, back] = &map.lines[..] else { panic!() };
        assert_eq!(there.title, "4 moves from north to south");
        assert_ne!(there.label, back.label);
        assert!(there.width > back.width);
    }

    #[test]
    fn of_many_places_only_the_names_of_those_are_written_where_most_ran() {
        let names: Vec<String> = (0..100).map(|at| format!("site-{at}")).collect();
        let mut places: Vec<Place<'_>> = names.iter().map(|name| place(name, None)).collect();
        places[77].hosted = vec![("shop", time("0h"), time("1h"))];
        let map = map(&places, &Trips::new()).unwrap();
        let labels: Vec<&str> = map.dots.iter().filter_map(|dot| dot.label.as_deref()).collect();
        assert_eq!(labels, ["site-77"]);
    }

    #[test]
    fn places_on_one_spot_and_a_single_place_are_no_trouble() {
        let places = [place("a", Some((50.0, 8.0))), place("b", Some((50.0, 8.0)))];
        assert!(map(&places, &Trips::from([((0, 1), 1)])).is_some());
        assert!(map(&places[..1], &Trips::new()).is_none());
    }
}
