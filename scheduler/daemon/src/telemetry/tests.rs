//! What is counted, and what ready means.

use sterna_policies::quantity::Bytes;

use super::*;

#[test]
fn metrics_are_named_with_their_units() {
    let telemetry = Telemetry::new();
    telemetry.reloaded(ConfigFile::Policy, true, Timestamp::from_second(7).unwrap());
    telemetry.reloaded(ConfigFile::Policy, false, Timestamp::from_second(9).unwrap());
    telemetry.migrated(MigrationEnd::LostSight);
    telemetry.cycle_ended(Ok(()), Duration::from_secs(1), Timestamp::from_second(5).unwrap());
    let text = telemetry.text().unwrap();
    for line in [
        "sterna_config_last_reload_successful{file=\"policy\"} 0",
        "sterna_config_last_reload_success_timestamp_seconds{file=\"policy\"} 7",
        "sterna_migrations_total{outcome=\"lost-sight\"} 1",
        "sterna_migration_bytes_total 0",
        "sterna_migration_downtime_seconds_count 0",
        "sterna_cycles_total{result=\"complete\"} 1",
        "sterna_last_cycle_timestamp_seconds 5",
    ] {
        assert!(text.lines().any(|one| one == line), "no `{line}` in\n{text}");
    }
}

fn report(outcome: Outcome) -> Report {
    use sterna_executor::migration::order::MigrationId;
    use sterna_executor::migration::phase::Phase;
    use sterna_executor::migration::report::PhaseRecord;
    let record =
        PhaseRecord { phase: Phase::Transferred, took: "250ms".parse().unwrap(), bytes: Bytes(1000) };
    Report {
        id: MigrationId::new(),
        service: "redis".into(),
        from: "a".into(),
        to: "b".into(),
        outcome,
        phases: vec![record],
        downtime: None,
        frozen_in_vain: "400ms".parse().unwrap(),
        undone: vec![],
        load: None,
        forecast: None,
        started_anew: None,
    }
}

#[test]
fn phases_and_the_reasons_of_what_did_not_move_are_counted() {
    use sterna_executor::migration::finding::{Code, Finding, Subject};
    use sterna_executor::migration::phase::Phase;
    let telemetry = Telemetry::new();
    let undone = Outcome::RolledBack { after: Phase::Transferred, reason: "x".to_owned() };
    telemetry.migrated(MigrationEnd::Reported(&report(undone)));
    let findings = vec![Finding::new(Code::Terminal, Subject::Service, "tty")];
    telemetry.migrated(MigrationEnd::Reported(&report(Outcome::Refused { findings })));
    let text = telemetry.text().unwrap();
    for line in [
        "sterna_migration_phase_duration_seconds_count{phase=\"transferred\"} 2",
        "sterna_migration_phase_duration_seconds_sum{phase=\"transferred\"} 0.5",
        "sterna_migration_phase_bytes_total{phase=\"transferred\"} 2000",
        "sterna_migration_rollbacks_total{after=\"transferred\"} 1",
        "sterna_migration_refusals_total{code=\"C003\"} 1",
        "sterna_migration_frozen_in_vain_seconds_count 1",
        "sterna_migration_frozen_in_vain_seconds_sum 0.4",
    ] {
        assert!(text.lines().any(|one| one == line), "no `{line}` in\n{text}");
    }
}

#[test]
fn ready_means_that_the_last_cycle_was_complete() {
    let telemetry = Telemetry::new();
    assert!(telemetry.ready().unwrap_err().contains("no cycle"));
    telemetry.cycle_ended(Ok(()), Duration::from_secs(1), Timestamp::UNIX_EPOCH);
    assert_eq!(telemetry.ready(), Ok(()));
    telemetry.cycle_ended(Err("disk".to_owned()), Duration::from_secs(1), Timestamp::UNIX_EPOCH);
    assert_eq!(telemetry.ready(), Err("disk".to_owned()));
}
