//! `sterna calibrate` as it is run, and what is asked of the simulator that only the executor knows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

use std::path::Path;
use std::process::{Command, Output};

use sterna_core::history::Outcome;
use sterna_core::plan::Move;
use sterna_daemon::history::{HistoryStore, Intent};
use sterna_executor::migration::forecast::Load;
use sterna_executor::migration::order::MigrationId;
use sterna_executor::migration::phase::Phase;
use sterna_executor::migration::report::{self, PhaseRecord, Report};
use sterna_executor::migration::table::{self, AtSource, TABLE, Undo};
use sterna_policies::policy::Memory;
use sterna_policies::quantity::{Bytes, Millis};
use sterna_simulator::models::migration::failure::{Fault, Leg, OnFailure, failing};
use sterna_simulator::models::migration::passage::Work;

fn sterna(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_sterna"))
        .current_dir(folder)
        .args(args)
        .env("NO_COLOR", "1")
        .env_remove("STERNA_CONFIG")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

/// What a phase takes on these nodes, in ms.
fn takes(phase: Phase, mib: u64) -> f64 {
    let mib = mib as f64;
    match phase {
        Phase::Dumped => 120.0 + 0.4 * mib,
        Phase::Restored => 200.0 + 0.6 * mib,
        Phase::Transferred => 8.0 + 20.0,
        Phase::Synced => 10.0 + 8.0 * mib,
        _ => 5.0,
    }
}

fn report(mib: u64, id: MigrationId) -> Report {
    let memory = Bytes::from_mib(mib);
    let record = |phase| PhaseRecord {
        phase,
        took: Millis::from_f64(takes(phase, mib)).unwrap(),
        bytes: match phase {
            Phase::Synced => memory,
            Phase::Transferred => Bytes::from_mib(1 + mib / 64),
            _ => Bytes::ZERO,
        },
    };
    Report {
        id,
        service: "shop".into(),
        from: "a".into(),
        to: "b".into(),
        outcome: report::Outcome::Moved,
        phases: Phase::ALL.map(record).to_vec(),
        downtime: Some(Millis::from_f64(700.0).unwrap()),
        load: Some(Load { memory, crosses: Memory::Ahead, ..Load::default() }),
        forecast: None,
        frozen_in_vain: Millis::ZERO,
        undone: vec![],
        started_anew: None,
    }
}

fn recorded(folder: &Path, reports: Vec<Report>) {
    let history = HistoryStore::open(&folder.join("state/two")).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        for report in reports {
            let order = Move {
                service: report.service.clone(),
                from: report.from.clone(),
                to: report.to.clone(),
                method: Default::default(),
                wave: 0,
                parks: false,
                predicted: Default::default(),
            };
            let now = jiff::Timestamp::now();
            history.intend(Intent { id: report.id, decision: None, order }, now).await.unwrap();
            history.record_migration(report, now).await.unwrap();
        }
    });
}

const SETTINGS: &str = "inventory = \"inventory.toml\"\npolicy = \"policy.toml\"\nstate = \"state\"\n";
const INVENTORY: &str = r#"
schema_version = 1
name = "two"
[[site]]
name = "near"
tier = "edge"
region = "eu"
price = { node = "0.50USD/h" }
power = { idle = "5W", full = "20W" }
[[site.node]]
name = "near-1"
cpu = "2cores"
memory = "4GiB"
"#;

#[test]
fn a_history_is_learnt_from() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("sterna.toml"), SETTINGS).unwrap();
    std::fs::write(folder.join("inventory.toml"), INVENTORY).unwrap();
    let (code, _, err) = sterna(folder, &["calibrate", "--config", "sterna.toml"]);
    assert!(code == Some(1) && err.contains("nothing has happened yet"), "{err}");

    let new = MigrationId::new;
    let mut reports: Vec<Report> =
        [64, 64, 256, 256, 512, 512].into_iter().map(|mib| report(mib, new())).collect();
    let undone = report::Outcome::RolledBack { after: Phase::Dumped, reason: "link".to_owned() };
    reports.push(Report { outcome: undone, downtime: None, ..report(1024, new()) });
    let anew = Some("its node went down".to_owned());
    reports.push(Report { started_anew: anew, ..report(1024, new()) });
    reports.push(Report { downtime: None, ..report(1024, new()) });
    let mut short = report(1024, new());
    short.phases.retain(|record| record.phase != Phase::Verified);
    reports.push(short);
    recorded(folder, reports);

    let args = ["calibrate", "--config", "sterna.toml", "--out", "calibration.toml"];
    let (code, out, err) = sterna(folder, &args);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("6 migrations of 3 sizes"), "{out}");
    assert!(out.contains("dump     120ms + 0.400ms per MiB"), "{out}");
    assert!(out.contains("restore  200ms + 0.600ms per MiB"), "{out}");
    assert!(out.contains("1.0MiB + 1.56% of the memory"), "{out}");
    for reason in ["was started anew", "its downtime was not measured", "its phase `verified` is not known"] {
        assert!(err.contains(reason), "{err}");
    }
    assert_eq!(err.lines().count(), 3, "what was undone is no measurement and needs no word: {err}");

    let (code, out, _) = sterna(folder, &["calibrate", "-c", "sterna.toml", "--output", "json"]);
    assert_eq!(code, Some(0));
    let learnt: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(learnt["migrations"], 6);
    let dumped =
        learnt["phases"].as_array().unwrap().iter().find(|phase| phase["phase"] == "dumped").unwrap();
    assert!((dumped["constant_ms"].as_f64().unwrap() - 120.0).abs() < 1e-6, "{dumped}");

    // The scheduler takes it: a plan without one that can be read is refused.
    let settings = format!("{SETTINGS}calibration = \"calibration.toml\"\n");
    std::fs::write(folder.join("sterna.toml"), settings).unwrap();
    std::fs::write(
        folder.join("policy.toml"),
        "schema_version = 1\nname = \"p\"\n[objective]\n[[objective.term]]\nmetric = \"cost_rate\"\n",
    )
    .unwrap();
    let text = std::fs::read_to_string(folder.join("calibration.toml")).unwrap();
    std::fs::write(folder.join("calibration.toml"), text.replace("\"120ms\"", "\"120\"")).unwrap();
    let (code, _, err) = sterna(folder, &["plan", "--config", "sterna.toml"]);
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("calibration.toml:") && err.contains("has no unit"), "{err}");
}

#[test]
fn bad_measurements_are_refused_by_file_and_entry() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let of = |text: &str| {
        std::fs::write(folder.join("m.json"), text).unwrap();
        let (code, out, err) = sterna(folder, &["calibrate", "m.json", "--out", "c.toml"]);
        assert!(out.is_empty() && !folder.join("c.toml").exists());
        (code, err)
    };
    let (code, err) = of(r#"{"schema_version": 1, "migrations": [
        {"memory_mib": 64, "phases": [{"phase": "dumped", "seconds": 1}]},
        {"memory_mib": 64, "phases": [{"phase": "dumpd", "seconds": 1}]}]}"#);
    assert_eq!(code, Some(3));
    assert!(
        err.contains("m.json: migrations[1]: there is no phase `dumpd`; did you mean `dumped`?"),
        "{err}"
    );
    let (code, err) = of(r#"{"schema_version": 1, "migrations": [
        {"memory_mib": 64, "phases": [{"phase": "dumped", "seconds": 1}]}]}"#);
    assert_eq!(code, Some(1));
    assert!(err.contains("nothing is learnt from m.json") && err.contains("too few sizes"), "{err}");
    let (code, _, err) = sterna(folder, &["calibrate"]);
    assert!(code == Some(2) && err.contains("<FILE>"), "{err}");
}

/// The rows of the executor's table as ways to phases: what each failure calls for is the table's to say.
fn legs() -> Vec<Leg> {
    let mut before = AtSource::Running;
    TABLE
        .iter()
        .map(|row| {
            // Until the source is frozen it runs; from the release on the destination does.
            let runs = before == AtSource::Running || row.phase == Phase::Cleaned;
            before = row.at_source;
            Leg {
                phase: row.phase.name().to_owned(),
                work: Work::Prepare,
                took: "100ms".parse().unwrap(),
                sent: Bytes::ZERO,
                runs,
                on_failure: match row.on_failure {
                    table::OnFailure::Undo(steps) => OnFailure::Back {
                        thaws: steps.contains(&Undo::ThawSource),
                        discards: steps.contains(&Undo::DiscardDestination),
                    },
                    table::OnFailure::Forward => OnFailure::Forward,
                },
            }
        })
        .collect()
}

#[test]
fn wherever_a_migration_fails_the_executors_table_says_what_comes_of_it() {
    let legs = legs();
    for (place, row) in TABLE.iter().enumerate() {
        let fault = Fault {
            phase: row.phase.name(),
            after: "50ms".parse().unwrap(),
            lasts: "10s".parse().unwrap(),
            thaw: "20ms".parse().unwrap(),
            discard: "200ms".parse().unwrap(),
        };
        let (passage, outcome) = failing(&legs, &fault).unwrap();
        let downtime = passage.downtime().as_f64();
        let frozen = place.saturating_sub(Phase::Frozen as usize) as f64;
        if row.phase <= Phase::Committed {
            assert_eq!((outcome, passage.no_return), (Outcome::RolledBack, None), "{row:?}");
            let expected = if frozen >= 1.0 { (frozen - 1.0) * 100.0 + 50.0 + 20.0 } else { 0.0 };
            assert_eq!(downtime, expected, "{row:?}");
            assert_eq!(passage.doubled().is_some(), row.phase >= Phase::Reserved, "{row:?}");
        } else {
            assert_eq!(outcome, Outcome::Moved);
            let waited = if row.phase == Phase::Released { 10_050.0 } else { 0.0 };
            assert_eq!(downtime, 600.0 + waited, "{row:?}");
        }
    }
}
