//! Sterna's own migrations: what is learnt from them, and what follows from it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;

use sterna_core::cost::{Costs, calibration};
use sterna_policies::policy::Memory;
use sterna_policies::quantity::{Bytes, MibPerSecond, Millis};
use sterna_simulator::calibrate::measured::read;
use sterna_simulator::calibrate::{CalibrateError, Calibration, calibrate, file};
use sterna_simulator::run;
use sterna_simulator::scenario::load;

/// Medians of five moves of a ticker each, both nodes on one machine of two cores, nothing sent ahead: phase, ms at 64, 256 and 512
/// MiB, bytes sent.
const PHASES: [(&str, [f64; 3]); 12] = [
    ("planned", [2.0, 2.0, 2.0]),
    ("checked", [24.0, 23.0, 22.0]),
    ("reserved", [11.0, 11.0, 11.0]),
    ("synced", [3.0, 2.0, 2.0]),
    ("frozen", [28.0, 27.0, 26.0]),
    ("dumped", [149.0, 238.0, 355.0]),
    ("transferred", [140.0, 431.0, 895.0]),
    ("restored", [210.0, 313.0, 420.0]),
    ("verified", [3.0, 3.0, 3.0]),
    ("committed", [1.0, 1.0, 1.0]),
    ("released", [3.0, 3.0, 3.0]),
    ("cleaned", [165.0, 180.0, 204.0]),
];
const SIZES: [u64; 3] = [64, 256, 512];
const SENT_MIB: [f64; 3] = [65.6, 258.5, 515.7];
const DOWNTIME: [f64; 3] = [524.0, 1012.0, 1704.0];

/// As `sterna-bench phases` writes them.
fn own(sizes: &[usize]) -> String {
    let run = |&size: &usize| {
        let phases = PHASES.map(|(phase, took)| {
            let sent = if phase == "transferred" { (SENT_MIB[size] * 1_048_576.0) as u64 } else { 0 };
            format!("[\"{phase}\", {}, {sent}]", took[size])
        });
        format!(
            "{{\"mib\": {}, \"phases\": [{}], \"downtime_reported\": {}, \"downtime_seen_by_service\": 1.0}}",
            SIZES[size],
            phases.join(", "),
            DOWNTIME[size]
        )
    };
    format!("[{}]", sizes.iter().map(run).collect::<Vec<_>>().join(",\n"))
}

fn learnt() -> Calibration {
    calibrate(&read("own.json", &own(&[0, 1, 2])).unwrap()).unwrap()
}

#[test]
fn each_size_of_its_own_migrations_is_told_from_the_others() {
    let learnt = learnt();
    assert!(learnt.duration_error < 0.15, "{}", learnt.duration_error);
    assert!(learnt.downtime_error.unwrap() < 0.15, "{:?}", learnt.downtime_error);
    for size in &learnt.sizes {
        assert!(size.left_out_error < 0.15 && size.left_out_downtime_error.unwrap() < 0.15, "{size:?}");
        assert!(size.interval[0] <= size.measured && size.measured <= size.interval[1], "{size:?}");
    }
    // The dump's line is between the medians, and no other phase has its slope.
    let dump = learnt.costs.dump;
    assert!((100.0..140.0).contains(&dump.constant.as_f64()), "{dump:?}");
    assert!((0.4..0.55).contains(&dump.per_mib.as_f64()), "{dump:?}");
    assert_eq!(learnt.left, None, "nothing was sent ahead");
}

#[test]
fn what_was_measured_is_predicted() {
    let costs = learnt().costs;
    for (size, measured) in SIZES.iter().zip(DOWNTIME) {
        // What the link carried: all that the transfer sent, in all that it took.
        let place = SIZES.iter().position(|one| one == size).unwrap();
        let rate = SENT_MIB[place] / ((PHASES[6].1[place] - costs.opening.as_f64()) / 1e3);
        let bandwidth = MibPerSecond::from_f64(rate).unwrap();
        let told = costs.of_move(Bytes::from_mib(*size), Memory::WhileFrozen, bandwidth, Millis::ZERO);
        let error = told.downtime.as_f64() / measured - 1.0;
        assert!(error.abs() < 0.15, "{size} MiB: {error}");
    }
}

#[test]
fn the_file_is_read_as_it_was_written() {
    let learnt = learnt();
    let text = file::text(&learnt, "own.json");
    insta::assert_snapshot!(text);
    let read = calibration::load("calibration.toml", &text).unwrap();
    assert!(read.warnings.is_empty());
    assert_eq!(read.value, learnt.costs);
}

#[test]
fn how_much_is_left_is_learnt_where_it_was_sent_ahead() {
    let entry = |mib: f64, left: f64| {
        format!(
            r#"{{"memory_mib": {mib}, "phases": [{{"phase": "synced", "seconds": 1, "sent_mib": {mib}}},
            {{"phase": "transferred", "seconds": 0.1, "sent_mib": {left}}}]}}"#
        )
    };
    let entries = [(64.0, 5.2), (256.0, 14.8), (1024.0, 53.2)].map(|(mib, left)| entry(mib, left));
    let text = format!(r#"{{"schema_version": 1, "migrations": [{}]}}"#, entries.join(","));
    let learnt = calibrate(&read("m.json", &text).unwrap()).unwrap();
    let left = learnt.left.unwrap();
    assert_eq!((left.constant.as_mib().round(), left.share.as_f64().round()), (2.0, 5.0), "{left:?}");
    assert_eq!(learnt.costs.left, left);
    let read = calibration::load("c.toml", &file::text(&learnt, "m.json")).unwrap().value;
    assert_eq!(read.left, left);
    assert_eq!(read.dump, Costs::default().dump, "no dump was measured");
}

#[test]
fn too_few_sizes_are_no_calibration() {
    assert_eq!(calibrate(&[]), Err(CalibrateError::Nothing));
    let two = read("own.json", &own(&[0, 0, 1, 1])).unwrap();
    let error = calibrate(&two).unwrap_err().to_string();
    assert!(error.starts_with("4 migrations of 64.0MiB and 256.0MiB are too few sizes"), "{error}");
}

#[test]
fn a_scenario_moves_at_what_was_measured() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let policy = std::fs::read_to_string(folder.join("latency-first.toml")).unwrap();
    let policy = sterna_policies::load::policy("latency-first.toml", &policy).unwrap().value;
    let slow = "schema_version = 1\n[costs]\nrestore = { constant = \"2s\", per_mib = \"0ms\" }\n";
    let calibrated = |calibration: &str| {
        let text = std::fs::read_to_string(folder.join("commuters.toml")).unwrap();
        let text = text.replacen("step =", &format!("{calibration}step ="), 1);
        let read = |path: &Path| match path.to_str() {
            Some("slow.toml") => Ok(slow.to_owned()),
            Some("broken.toml") => Ok("schema_version = 1\n[costs]\n".to_owned()),
            _ => std::fs::read_to_string(folder.join(path)),
        };
        load::load("commuters.toml", &text, &read)
    };
    let downtime = |calibration| {
        let outcome = run::run(&calibrated(calibration).unwrap().scenario, &policy, 7, &mut |_| {}).unwrap();
        assert_eq!(outcome.moves.len(), 2);
        outcome.moves[0].end.as_ref().unwrap().downtime.as_f64()
    };
    let assumed = Costs::default().restore.at(Bytes::from_mib(256)).as_f64();
    let longer = downtime("calibration = \"slow.toml\"\n") - downtime("");
    assert!((longer - (2000.0 - assumed)).abs() < 1e-3, "{longer}");
    let refused = |name: &str| {
        calibrated(&format!("calibration = \"{name}.toml\"\n")).unwrap_err().report().lines().to_owned()
    };
    assert!(refused("broken").starts_with("broken.toml:2:1: error[K0001]"), "{}", refused("broken"));
    assert!(refused("nowhere").contains("error[S0001]: can't read nowhere.toml"), "{}", refused("nowhere"));
}

/// What is learnt over a link of 50 ms tells what moves cost over that link, and over one of 10 ms.
#[test]
fn round_trips_of_the_link_that_was_measured_are_not_counted_twice() {
    let costs = Costs::default();
    let bandwidth = MibPerSecond::from_f64(100.0).unwrap();
    let ms = |millis: f64| Millis::from_f64(millis).unwrap();
    let of = |costs: &Costs, mib: u64, rtt: f64| {
        let cost = costs.of_move(Bytes::from_mib(mib), Memory::WhileFrozen, bandwidth, ms(rtt));
        [cost.downtime.as_f64(), cost.duration.as_f64()]
    };
    // As they would be measured: six round trips while it runs, one while it is sent.
    let entry = |mib: u64| {
        let memory = Bytes::from_mib(mib);
        let seconds = |time: f64| time / 1e3;
        format!(
            r#"{{"memory_mib": {mib}, "round_trip_seconds": 0.05, "phases": [
                {{"phase": "checked", "seconds": {}}}, {{"phase": "frozen", "seconds": {}}},
                {{"phase": "dumped", "seconds": {}}}, {{"phase": "restored", "seconds": {}}},
                {{"phase": "transferred", "seconds": {}, "sent_mib": {mib}}}]}}"#,
            seconds(costs.beside.at(memory).as_f64() + 300.0),
            seconds(costs.around.at(memory).as_f64()),
            seconds(costs.dump.at(memory).as_f64()),
            seconds(costs.restore.at(memory).as_f64()),
            seconds(costs.opening.as_f64() + 50.0 + mib as f64 * 10.0),
        )
    };
    let text = |entries: &str| format!(r#"{{"schema_version": 1, "migrations": [{entries}]}}"#);
    let entries = [64, 256, 512].map(entry).join(",");
    let known = calibrate(&read("own.json", &text(&entries)).unwrap()).unwrap().costs;
    for (mib, rtt) in [(64, 50.0), (512, 50.0), (128, 10.0)] {
        let (told, true_to) = (of(&known, mib, rtt), of(&costs, mib, rtt));
        assert!(
            told.iter().zip(true_to).all(|(told, real)| (told - real).abs() < 1.0),
            "{told:?} {true_to:?}"
        );
    }
    // Where nobody says what the round trip was, it is in what was learnt.
    let unknown = entries.replace(r#""round_trip_seconds": 0.05, "#, "");
    let unknown = calibrate(&read("own.json", &text(&unknown)).unwrap()).unwrap().costs;
    assert!((of(&unknown, 64, 0.0)[1] - of(&costs, 64, 50.0)[1]).abs() < 1.0);
}
