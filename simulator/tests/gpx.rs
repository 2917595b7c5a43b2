//! Users who follow the tracks of a GPX file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fmt::Write;
use std::path::Path;

use proptest::prelude::*;
use sterna_simulator::models::mobility::Mobility;
use sterna_simulator::run;
use sterna_simulator::scenario::{self, Scenario, load};

/// Two sites that differ in where they are alone.
fn town() -> String {
    let sites = [("north", -37.70), ("south", -37.90)].map(|(name, latitude)| {
        format!(
            r#"[[site]]
name = "{name}"
tier = "edge"
region = "au"
price = {{ node = "0.1USD/h" }}
power = {{ idle = "8W", full = "30W", off_when_empty = true }}
carbon = "220g/kWh"
location = {{ latitude = {latitude}, longitude = 144.96 }}
[[site.node]]
name = "{name}-1"
cpu = "4cores"
memory = "8GiB"
"#
        )
    });
    let rest = r#"[[link]]
between = ["north", "south"]
rtt = "10ms"
bandwidth = "1Gbit/s"
egress = "0.01USD/GiB"
[[service]]
name = "maps"
cpu = "1core"
memory = "256MiB"
[[users]]
name = "riders"
rates = { maps = "20/s" }
"#;
    format!("schema_version = 1\nname = \"town\"\n{}{rest}", sites.concat())
}

const DAY: &str = r#"schema_version = 1
name = "day"
inventory = "town.toml"
start = "2026-03-02T00:00:00Z"
duration = "1d"
step = "15m"
[placement]
maps = "north-1"
[[distance]]
base = "1ms"
per_km = "2ms"
[[mobility]]
users = "riders"
"#;

const POLICY: &str = r#"schema_version = 1
name = "near"
mode = "auto"
[[objective.term]]
metric = "user_latency"
satisfied_at = "5ms"
[trigger]
interval = "15m"
[hysteresis]
min_gain = "15%"
min_residency = "1h"
cooldown = "30m"
[metrics.user_latency]
query = "avg by (site, users) (probe_duration_seconds)"
users_label = "users"
unit = "s"
"#;

/// Two tracks: from north to south by day, and one that stays.
const TRACKS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<gpx version="1.1" creator="a person" xmlns="http://www.topografix.com/GPX/1/1">
  <wpt lat="1" lon="2"><name>home</name></wpt>
  <trk>
    <name>rider &amp; dog</name>
    <trkseg>
      <trkpt lat="-37.70" lon="144.96"><ele>30</ele><time>2026-03-01T22:00:00Z</time></trkpt>
      <trkpt lat="-37.70" lon="144.96"><time>2026-03-02T08:00:00+01:00</time></trkpt>
    </trkseg>
    <trkseg>
      <trkpt lat="-37.70" lon="144.96"><time>2026-03-02T07:00:00Z</time></trkpt>
      <trkpt lat="-37.90" lon="144.96">
        <time>
          2026-03-02T08:00:00.000
        </time>
      </trkpt>
    </trkseg>
  </trk>
  <trk>
    <name>other</name>
    <trkseg>
      <trkpt lat="-37.80" lon="144.96"><time>2026-03-02T00:00:00Z</time></trkpt>
    </trkseg>
  </trk>
</gpx>
"#;

/// The same as the first of them.
const ROWS: &str = "time,lat,lon\n2026-03-01T22:00:00Z,-37.70,144.96\n2026-03-02T07:00:00Z,-37.70,144.96\n\
                    2026-03-02T08:00:00Z,-37.90,144.96\n";

fn loaded(keys: &str, recording: &str) -> Result<Scenario, String> {
    let beside = |path: &Path| match path.to_str() {
        Some("town.toml") => Ok(town()),
        _ => scenario::text(path, recording.as_bytes().to_vec()),
    };
    let read = load::load("day.toml", &format!("{DAY}{keys}"), &beside);
    read.map(|read| read.scenario).map_err(|invalid| invalid.report().lines())
}

fn told(keys: &str, recording: &str) -> String {
    loaded(keys, recording).unwrap_err()
}

/// What is told of a file with these points in one track.
fn told_of(points: &str) -> String {
    told("file = \"ride.gpx\"\n", &format!("<gpx><trk><trkseg>\n{points}\n</trkseg></trk></gpx>"))
}

#[test]
fn a_track_is_followed_as_the_same_in_csv() {
    let csv = loaded("file = \"ride.csv\"\n", ROWS).unwrap();
    let gpx = loaded("file = \"ride.GPX\"\ntrack = \"rider & dog\"\n", TRACKS).unwrap();
    assert_eq!(csv.chance.people, gpx.chance.people);
    let policy = sterna_policies::load::policy("near.toml", POLICY).unwrap().value;
    let report = |scenario: &Scenario| {
        run::compare(scenario, std::slice::from_ref(&policy), 7, &mut |_, _| {}).unwrap()
    };
    let (csv, gpx) = (report(&csv), report(&gpx));
    assert_eq!(gpx.outcomes[0].moves.len(), 1, "the service goes south with them");
    assert_eq!(csv.hash().unwrap(), gpx.hash().unwrap());
}

#[test]
fn tracks_that_follow_each_other_are_one_way() {
    let point = |hour: u32, latitude: f64| {
        format!("<trkpt lat=\"{latitude}\" lon=\"144.96\"><time>2026-03-02T{hour:02}:00:00Z</time></trkpt>")
    };
    let track = |points: String| format!("<trk><trkseg>{points}</trkseg></trk>");
    let there = track(point(0, -37.7) + &point(8, -37.9));
    let back = track(point(17, -37.9) + &point(18, -37.7));
    let scenario = loaded("file = \"ride.gpx\"\n", &format!("<gpx>{there}{back}</gpx>")).unwrap();
    let Mobility::Recorded(route) = &scenario.chance.people[&"riders".into()].mobility else { panic!() };
    let latitudes: Vec<f64> = route.places().iter().map(|(_, place)| place.latitude).collect();
    assert_eq!(latitudes, [-37.7, -37.9, -37.9, -37.7]);
}

#[test]
fn mistakes_are_told_with_file_and_line() {
    let all = [
        told("file = \"ride.gpx\"\n", TRACKS),
        told("file = \"ride.gpx\"\ntrack = \"riders\"\n", TRACKS),
        told("file = \"ride.csv\"\ntrack = \"other\"\n", ROWS),
        told("stays = { latitude = -37.8, longitude = 144.96 }\ntrack = \"other\"\n", ROWS),
        told_of("<trkpt lat=\"-37.8\" lon=\"144.96\"/>"),
        told_of("<trkpt lat=\"-37.8\" lon=\"144.96\"><time>8:00</time></trkpt>"),
        told_of("<trkpt lat=\"-137.8\" lon=\"144.96\"><time>2026-03-02T00:00:00Z</time></trkpt>"),
        told_of("<trkpt lat=\"-37.8\"><time>2026-03-02T00:00:00Z</time></trkpt>"),
        told_of("<trkpt lat=\"-37.8\" lon=\"144.96\"><time>2025-03-02T00:00:00Z</time></trkpt>"),
        told_of("<trkpt lat=\"-37.8\" lon=\"144.96\"><time>2027-03-02T00:00:00Z</time></trkpt>"),
        told_of(""),
        told_of("<trkpt lat=\"-37.8\" lon=\"144.96\">"),
        told("file = \"ride.gpx\"\n", "<gpx>\n<wpt lat=\"1\" lon=\"2\"/></gpx>"),
        told("file = \"ride.gpx\"\n", "<kml/>"),
        told("file = \"ride.gpx\"\n", ""),
        told("file = \"ride.gpx\"\n", ROWS),
        told("file = \"ride.gpx\"\n", "<!DOCTYPE gpx [<!ENTITY a \"b\">]><gpx>&a;</gpx>"),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_file_without_end_and_depth_is_refused() {
    told("file = \"ride.gpx\"\n", &"<gpx>".repeat(200_000));
    let deep = format!("{}{}", "<gpx>".repeat(200_000), "</gpx>".repeat(200_000));
    let told = told("file = \"ride.gpx\"\n", &deep);
    assert!(told.contains("the file has no track"), "{told}");
}

#[test]
fn a_file_that_is_cut_off_is_refused() {
    for at in 0..TRACKS.trim_end().len() {
        told("file = \"ride.gpx\"\ntrack = \"other\"\n", &TRACKS[..at]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn whatever_bytes_are_others_nothing_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut broken = TRACKS.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(broken.len());
            broken[at] = byte;
        }
        let broken = String::from_utf8_lossy(&broken);
        if let Err(told) = loaded("file = \"ride.gpx\"\ntrack = \"other\"\n", &broken) {
            prop_assert!(told.starts_with("ride.gpx:") || told.starts_with("day.toml:"), "{}", told);
        }
    }

    #[test]
    fn places_arrive_as_they_were_written(
        places in prop::collection::vec((-90.0..90.0f64, -180.0..180.0f64), 1..50),
    ) {
        let mut text = "<gpx xmlns=\"http://www.topografix.com/GPX/1/0\"><trk><trkseg>".to_owned();
        for (minute, (latitude, longitude)) in places.iter().enumerate() {
            write!(
                text,
                "<trkpt lat=\"{latitude}\" lon=\"{longitude}\"><time>2026-03-02T00:{minute:02}:00Z</time></trkpt>"
            )
            .unwrap();
        }
        let scenario = loaded("file = \"ride.gpx\"\n", &(text + "</trkseg></trk></gpx>")).unwrap();
        let Mobility::Recorded(route) = &scenario.chance.people[&"riders".into()].mobility else { panic!() };
        let arrived: Vec<_> =
            route.places().iter().map(|(_, place)| (place.latitude, place.longitude)).collect();
        prop_assert_eq!(arrived, places);
    }
}
