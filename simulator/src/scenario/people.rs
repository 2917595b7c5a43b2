//! Where user groups are, and how far that is from the sites.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use sterna_core::continuum::location::LocationFile;
use sterna_core::continuum::{Location, UsersName};
use sterna_policies::load::{At, Written};
use sterna_policies::quantity::{KmPerHour, Millis};

use super::file::ScenarioFile;
use super::gpx::Gpx;
use super::load::Reader;
use super::{series, table};
use crate::clock::SimTime;
use crate::models::distance::Fit;
use crate::models::mobility::{Commuter, Mobility, Route, Waypoint};

/// Where a user group is. Its latency to a site for which neither the inventory nor a track has a number follows from the
/// distance, where the site has a `location`. Exactly one of `stays`, `waypoint`, `commuter` and `file` says where they are.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Mobility")]
pub struct MobilityFile {
    /// The user group.
    pub users: At<String>,
    /// One place, such as { latitude = -37.81, longitude = 144.96 }.
    pub stays: Option<LocationFile>,
    /// Random places within a box, one after the other.
    pub waypoint: Option<WaypointFile>,
    /// Home and work.
    pub commuter: Option<CommuterFile>,
    /// A CSV or Parquet file with the columns `time`, `lat` and `lon`, relative to this one, or a GPX file. Times are seconds or spans
    /// since the start, or points in time; between two rows the way is straight.
    pub file: Option<At<String>>,
    /// The name of the track of a GPX file that they follow. Left out: all of it, one after the other.
    pub track: Option<At<String>>,
    /// What their access network adds to every round trip, such as "5ms". Left out: nothing.
    pub last_mile: Option<Written<Millis>>,
    /// What is added by chance at every step, in the mean. Left out: nothing.
    pub jitter: Option<Written<Millis>>,
}

/// Random places within a box, one after the other.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Waypoint")]
pub struct WaypointFile {
    /// One corner of the box.
    pub from: LocationFile,
    /// The opposite corner. The box lies the shorter way between them, over the date line where that is so.
    pub to: LocationFile,
    /// The least and the greatest speed, such as ["3km/h", "6km/h"].
    pub speed: At<[Written<KmPerHour>; 2]>,
    /// The longest rest at a place. Left out: none.
    pub pause: Option<Written<Millis>>,
}

/// A day between home and work; times are since the scenario's start, each day again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Commuter")]
pub struct CommuterFile {
    /// Where they live.
    pub home: LocationFile,
    /// Where they work.
    pub work: LocationFile,
    /// When they leave home, such as "7.5h".
    pub leaves: Written<Millis>,
    /// When they leave work.
    pub returns: Written<Millis>,
    /// How long they are on the way.
    pub takes: Written<Millis>,
    /// By how much they leave later, at most. Left out: not at all.
    pub spread: Option<Written<Millis>>,
}

/// Round-trip time over distance: `base` and `per_km` for each kilometre of the great circle.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Distance")]
pub struct DistanceFile {
    /// For sites of this tier. Left out: for all that have no line of their own.
    pub tier: Option<At<String>>,
    /// At no distance. 7.4 ms was measured between cloud regions.
    pub base: Written<Millis>,
    /// More for each kilometre. 0.01628 ms was measured between cloud regions.
    pub per_km: Written<Millis>,
}

/// A user group that is somewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct People {
    /// Where, over time.
    pub mobility: Mobility,
    /// What their access network adds to every round trip.
    pub last_mile: Millis,
    /// What is added by chance at every step, in the mean.
    pub jitter: Millis,
}

/// Round-trip time over distance, by the tier of the site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fits {
    /// For sites of these tiers.
    pub by_tier: BTreeMap<String, Fit>,
    /// For all others.
    pub other: Fit,
}

impl Fits {
    /// The line for sites of a tier.
    pub fn of(&self, tier: &str) -> &Fit {
        self.by_tier.get(tier).unwrap_or(&self.other)
    }
}

impl Reader<'_> {
    pub(super) fn people(&mut self, written: &ScenarioFile) -> BTreeMap<UsersName, People> {
        let (mut people, mut seen) = (BTreeMap::new(), BTreeMap::new());
        for one in &written.mobility {
            let mobility = self.mobility(one);
            let mut part = |written: &Option<Written<Millis>>| {
                written
                    .as_ref()
                    .and_then(|written| written.read_unsigned(&mut self.findings))
                    .unwrap_or_default()
            };
            let (last_mile, jitter) = (part(&one.last_mile), part(&one.jitter));
            let Some(users) = self.users(&one.users) else { continue };
            if let Some(first) = seen.insert(users.clone(), one.users.span()) {
                self.findings
                    .error("S0006", one.users.span(), format!("it is said twice where `{users}` are"))
                    .label("the second")
                    .also(first, "the first");
            }
            if let Some(mobility) = mobility {
                people.insert(users, People { mobility, last_mile, jitter });
            }
        }
        people
    }

    fn mobility(&mut self, one: &MobilityFile) -> Option<Mobility> {
        let ways = [
            ("stays", one.stays.is_some()),
            ("waypoint", one.waypoint.is_some()),
            ("commuter", one.commuter.is_some()),
            ("file", one.file.is_some()),
        ];
        let said: Vec<&str> = ways.iter().filter(|(_, said)| *said).map(|(name, _)| *name).collect();
        if said.len() != 1 {
            let message = match said.len() {
                0 => "nothing says where they are".to_owned(),
                _ => format!("{} say where they are", said.join(" and ")),
            };
            self.findings
                .error("S0013", one.users.span(), message)
                .label("expected exactly one of stays, waypoint, commuter and file");
            return None;
        }
        if let (Some(track), false) = (&one.track, one.file.as_ref().is_some_and(|file| is_gpx(file))) {
            self.findings
                .error("S0013", track.span(), "`track` is for a `file` of the kind GPX")
                .label("so this has no effect");
        }
        if let Some(stays) = &one.stays {
            return stays.read(&mut self.findings).map(Mobility::Stays);
        }
        if let Some(file) = &one.file {
            return self.recorded(file, one.track.as_ref()).map(Mobility::Recorded);
        }
        if let Some(waypoint) = &one.waypoint {
            return self.waypoint(waypoint);
        }
        one.commuter.as_ref().and_then(|commuter| self.commuter(commuter))
    }

    fn waypoint(&mut self, file: &WaypointFile) -> Option<Mobility> {
        let findings = &mut self.findings;
        let (one, other) = (file.from.read(findings), file.to.read(findings));
        let [least, most] = &file.speed.value;
        let (least, most) = (least.read_positive(findings), most.read_positive(findings));
        let pause = file.pause.as_ref().map_or(Some(Millis::ZERO), |pause| pause.read_unsigned(findings));
        let (one, other, least, most, pause) = (one?, other?, least?, most?, pause?);
        if most < least {
            findings
                .error(
                    "S0014",
                    file.speed.span(),
                    format!("the greatest speed, {most}, is less than the least"),
                )
                .label("expected the least and the greatest");
            return None;
        }
        Some(Mobility::Waypoint(Waypoint {
            low: Location {
                latitude: one.latitude.min(other.latitude),
                longitude: if one.degrees_east_to(&other) < 0.0 { other.longitude } else { one.longitude },
            },
            high: Location {
                latitude: one.latitude.max(other.latitude),
                longitude: if one.degrees_east_to(&other) < 0.0 { one.longitude } else { other.longitude },
            },
            speed: [least, most],
            pause,
        }))
    }

    fn commuter(&mut self, file: &CommuterFile) -> Option<Mobility> {
        let findings = &mut self.findings;
        let (home, work) = (file.home.read(findings), file.work.read(findings));
        let leaves = file.leaves.read_unsigned(findings);
        let returns = file.returns.read_unsigned(findings);
        let takes = file.takes.read_positive(findings);
        let spread = file.spread.as_ref().map_or(Some(Millis::ZERO), |spread| spread.read_unsigned(findings));
        let commuter = Commuter {
            home: home?,
            work: work?,
            leaves: leaves?,
            returns: returns?,
            takes: takes?,
            spread: spread?,
        };
        let day = Millis::from_micros(86_400_000_000_000);
        let back = commuter.returns.saturating_add(commuter.takes).saturating_add(commuter.spread);
        let there = commuter.leaves.saturating_add(commuter.takes).saturating_add(commuter.spread);
        let (span, message) = match () {
            () if there > commuter.returns => {
                let there = SimTime::from_millis(there);
                (file.returns.span(), format!("some arrive at {there}, after they leave for home"))
            }
            () if back > day.saturating_add(commuter.leaves) => {
                (file.takes.span(), "some are not at home before the next day begins".to_owned())
            }
            () => return Some(Mobility::Commuter(commuter)),
        };
        findings.error("S0014", span, message).label("with `takes` and `spread`");
        None
    }

    fn recorded(&mut self, file: &At<String>, track: Option<&At<String>>) -> Option<Route> {
        let (name, text) = self.beside(file)?;
        let start = self.frame.start;
        let rows = if is_gpx(file) {
            self.tracked(&name, &text, track)?
        } else {
            table::rows(&name, &text, ["time", "lat", "lon"])
        };
        let read = rows.and_then(|(mut findings, rows)| {
            let mut last = None;
            let mut places: Vec<(i64, Location)> = Vec::new();
            for [time, latitude, longitude] in &rows {
                let at = series::instant(time, start, last, &mut findings);
                last = at.or(last);
                let degrees = [latitude, longitude].map(|text| text.value.parse::<f64>().unwrap_or(f64::NAN));
                let place = Location::new(degrees[0], degrees[1]);
                if place.is_none() {
                    findings
                        .error("S0012", latitude.span().start..longitude.span().end, "there is no such place")
                        .label("expected degrees, latitude from -90 to 90 and longitude from -180 to 180");
                }
                places.extend(at.zip(place));
            }
            findings.finish(places)
        });
        let places = self.or_refused(read.map(|loaded| loaded.value))?;
        let end = self.frame.duration;
        if let Some((first, _)) = places
            .first()
            .filter(|(first, _)| u64::try_from(*first).is_ok_and(|first| first >= end.as_nanos()))
        {
            let first = SimTime::from_nanos(first.unsigned_abs());
            self.findings
                .error(
                    "S0014",
                    file.span(),
                    format!("the recording begins at {first}, and the scenario lasts {end}"),
                )
                .label("nobody would move")
                .help(
                    "numbers are seconds since the start; write points in time as \"2026-03-02T00:00:00Z\"",
                );
            return None;
        }
        let route = from_start(&places, self.frame.duration);
        if route.is_none() {
            self.findings
                .error("S0014", file.span(), "the recording ends before the scenario starts")
                .help("its times are seconds or spans since the start, or points in time");
        }
        route
    }

    /// The points of a GPX file; `None` where it has no such track, which is told.
    fn tracked(&mut self, name: &str, text: &str, track: Option<&At<String>>) -> Option<table::Rows<3>> {
        let gpx = match Gpx::read(name, text) {
            Ok(gpx) => gpx,
            Err(invalid) => return Some(Err(invalid)),
        };
        if let Some(track) = track
            && !gpx.names().contains(track.as_str())
        {
            self.findings
                .error("S0005", track.span(), format!("there is no track `{}` in {name}", track.value))
                .label("not in the file")
                .suggest(track, "tracks", gpx.names());
            return None;
        }
        Some(gpx.points(track.map(|track| track.as_str())))
    }

    pub(super) fn fits(&mut self, written: &ScenarioFile) -> Fits {
        let mut fits = Fits::default();
        let mut seen: BTreeMap<Option<&str>, std::ops::Range<usize>> = BTreeMap::new();
        for one in &written.distance {
            let base = one.base.read_unsigned(&mut self.findings).unwrap_or_default();
            let per_km = one.per_km.read_unsigned(&mut self.findings).unwrap_or_default();
            let fit = Fit { base, per_km };
            if let Some(first) = seen.insert(one.tier.as_ref().map(|tier| tier.as_str()), one.base.span()) {
                self.findings
                    .error("S0006", one.base.span(), "there are two lines for the same sites")
                    .label("the second")
                    .also(first, "the first");
            }
            match &one.tier {
                None => fits.other = fit,
                Some(tier) => {
                    let sites = self.continuum.sites.values();
                    let tiers: BTreeSet<&str> = sites.map(|site| site.tier.as_str()).collect();
                    if !tiers.contains(tier.as_str()) {
                        self.findings
                            .error("S0005", tier.span(), format!("no site has the tier `{}`", tier.value))
                            .label("not in the inventory")
                            .suggest(tier, "tiers", tiers);
                    }
                    fits.by_tier.insert(tier.value.clone(), fit);
                }
            }
        }
        fits
    }
}

fn is_gpx(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|end| end.eq_ignore_ascii_case("gpx"))
}

/// The part of a recording that a scenario sees, with the place at its start.
fn from_start(places: &[(i64, Location)], end: SimTime) -> Option<Route> {
    let (last, _) = places.last()?;
    if *last < 0 {
        return None;
    }
    let shifted = |at: i64| SimTime::from_nanos(at.unsigned_abs());
    let after = places.partition_point(|(at, _)| *at <= 0);
    let mut route = Vec::new();
    if let Some((from, here)) = after.checked_sub(1).map(|before| places[before]) {
        let place = match places.get(after) {
            Some((to, there)) => here.towards(there, -from as f64 / (to - from) as f64),
            None => here,
        };
        route.push((SimTime::START, place));
    }
    for (at, place) in &places[after..] {
        route.push((shifted(*at), *place));
        if shifted(*at) >= end {
            break;
        }
    }
    Route::new(route)
}
