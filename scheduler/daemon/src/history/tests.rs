//! The history against a real file.

use std::sync::Arc;

use jiff::Timestamp;
use sterna_core::history::Outcome;
use sterna_core::plan::{Move, MoveCost, Plan};
use sterna_core::record::Recorded;
use sterna_core::report::{Decision, Report, Verdict};
use sterna_executor::migration::finding::{Code, Finding, Subject};
use sterna_executor::migration::order::MigrationId;
use sterna_executor::migration::phase::Phase;
use sterna_executor::migration::report::{self, PhaseRecord};
use sterna_policies::policy::Mode;
use sterna_policies::quantity::Bytes;

use super::lock::StateLock;
use super::*;
use crate::fixture::{continuum, policy};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn planned(service: &str) -> Move {
    let predicted = MoveCost {
        downtime: "400ms".parse().unwrap(),
        duration: "3s".parse().unwrap(),
        bytes: Bytes::from_mib(64),
    };
    let (from, to) = ("a1".into(), "b1".into());
    Move { service: service.into(), from, to, method: Default::default(), wave: 0, parks: false, predicted }
}

fn recorded(second: i64) -> Recorded {
    let observation = sterna_core::observation::Observation {
        at: at(second),
        continuum: Arc::new(continuum()),
        placement: Default::default(),
        reachable: Vec::new(),
        latency: Default::default(),
        cpu_use: Default::default(),
        power: Default::default(),
        price: Default::default(),
        memory: Default::default(),
        under_way: Vec::new(),
        overdue: Default::default(),
        unknown: Vec::new(),
        directives: Default::default(),
        costs: Default::default(),
    };
    let report = Report {
        policy: "p".into(),
        verdict: Verdict::Stay,
        services: Vec::new(),
        solver: None,
        makespan: None,
        unknown: Vec::new(),
    };
    Recorded {
        observation,
        policy: policy(Mode::Auto),
        history: Default::default(),
        now: at(second),
        seed: u64::MAX,
        decision: Decision { plan: Plan::default(), report, standing: Default::default() },
    }
}

fn ended(id: MigrationId, service: &str, outcome: report::Outcome) -> report::Report {
    let phases =
        vec![PhaseRecord { phase: Phase::Synced, took: "2s".parse().unwrap(), bytes: Bytes::from_mib(70) }];
    let downtime = (outcome == report::Outcome::Moved).then(|| "380ms".parse().unwrap());
    let (from, to) = ("a1".into(), "b1".into());
    report::Report {
        id,
        service: service.into(),
        from,
        to,
        outcome,
        phases,
        downtime,
        frozen_in_vain: Default::default(),
        undone: vec![],
        load: None,
        forecast: None,
        started_anew: None,
    }
}

mod summary;

async fn migrate(store: &HistoryStore, service: &str, outcome: report::Outcome, second: i64) {
    let id = MigrationId::new();
    store.intend(Intent { id, decision: None, order: planned(service) }, at(second)).await.unwrap();
    store.record_migration(ended(id, service, outcome), at(second)).await.unwrap();
}

#[tokio::test]
async fn a_decision_is_read_back_as_it_was_and_its_large_parts_are_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(&folder.path().join("x")).unwrap();
    assert_eq!(store.newest_decision().await.unwrap(), None);
    let first = store.record_decision(recorded(1)).await.unwrap();
    let second = store.record_decision(recorded(2)).await.unwrap();
    assert!(second > first);
    assert_eq!(store.newest_decision().await.unwrap(), Some(second));
    assert_eq!(store.decision(first).await.unwrap(), Some(recorded(1)));
    assert_eq!(store.decision(99).await.unwrap(), None);
    drop(store);

    let store = HistoryStore::open(&folder.path().join("x")).unwrap();
    assert_eq!(store.decision(second).await.unwrap(), Some(recorded(2)));
    let connection = Connection::open(store.path()).unwrap();
    let documents: i64 = connection.query_row("SELECT count(*) FROM document", [], |row| row.get(0)).unwrap();
    assert_eq!(documents, 3);
    for change in ["UPDATE decision SET seed = '1'", "DELETE FROM decision", "DELETE FROM document"] {
        let error = connection.execute(change, []).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{error}");
    }
}

#[tokio::test]
async fn the_decisions_of_one_policy_come_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(folder.path()).unwrap();
    let other = |second| Recorded {
        policy: sterna_policies::policy::Policy { name: "other".into(), ..policy(Mode::Off) },
        ..recorded(second)
    };
    let name = policy(Mode::Auto).name;
    for one in [recorded(1), other(2), recorded(9), recorded(5), other(6)] {
        store.record_decision(one).await.unwrap();
    }
    let deciders = |since| store.deciders(at(since));
    assert_eq!(deciders(0).await.unwrap(), [(name.clone(), 3), ("other".to_owned(), 2)]);
    assert_eq!(deciders(6).await.unwrap(), [(name.clone(), 1), ("other".to_owned(), 1)]);
    drop(store);
    let store = HistoryStore::read_file(folder.path().join(FILE)).unwrap().unwrap();
    let all = store.each_of(&name, at(2), Vec::new(), Vec::push).await.unwrap();
    assert_eq!(all, [recorded(5), recorded(9)]);
    assert!(HistoryStore::read_file(folder.path().join("absent")).unwrap().is_none());
}

#[tokio::test]
async fn an_intent_stays_open_until_its_end_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(folder.path()).unwrap();
    let id = MigrationId::new();
    store.intend(Intent { id, decision: None, order: planned("shop") }, at(5)).await.unwrap();
    drop(store);
    let store = HistoryStore::open(folder.path()).unwrap();
    let open = store.open_intents().await.unwrap();
    let expected = OpenIntent {
        id,
        service: "shop".into(),
        from: "a1".into(),
        to: "b1".into(),
        written: at(5),
        predicted: planned("shop").predicted,
        lasts: "1h".parse().unwrap(),
    };
    assert_eq!(open, [expected]);
    assert!(store.for_decision(Timestamp::MAX).await.unwrap().migrations.is_empty());
    store
        .settle(id, "shop".into(), Outcome::RolledBack, "seen at its source".to_owned(), at(9))
        .await
        .unwrap();
    assert!(store.open_intents().await.unwrap().is_empty());
    let history = store.for_decision(Timestamp::MAX).await.unwrap();
    let last = history.last(&"shop".into()).unwrap();
    assert_eq!((last.outcome, last.ended), (Outcome::RolledBack, at(9)));
    // What ended can't end again.
    assert!(store.record_migration(ended(id, "shop", report::Outcome::Moved), at(10)).await.is_err());
}

/// The policy gives it a minute until the commit, and a lease of 20 s.
#[tokio::test]
async fn an_order_is_over_when_its_deadline_and_its_lease_have_passed() {
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(folder.path()).unwrap();
    let decision = store.record_decision(recorded(1)).await.unwrap();
    let intent = Intent { id: MigrationId::new(), decision: Some(decision), order: planned("shop") };
    store.intend(intent, at(5)).await.unwrap();
    let open = &store.open_intents().await.unwrap()[0];
    assert_eq!([at(0), at(85), at(86)].map(|now| open.is_over(now)), [false, false, true]);
}

#[tokio::test]
async fn a_decision_remembers_the_newest_and_the_last_arrival() {
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(folder.path()).unwrap();
    migrate(&store, "shop", report::Outcome::Moved, 1).await;
    migrate(&store, "shop", report::Outcome::Moved, 2).await;
    for second in 10..50 {
        let outcome = report::Outcome::RolledBack { after: Phase::Dumped, reason: "link".to_owned() };
        migrate(&store, "shop", outcome, second).await;
    }
    migrate(
        &store,
        "other",
        report::Outcome::Refused { findings: vec![Finding::new(Code::Terminal, Subject::Service, "tty")] },
        3,
    )
    .await;
    let history = store.for_decision(Timestamp::MAX).await.unwrap();
    let shop = &history.migrations[&"shop".into()];
    assert_eq!(shop.len(), 33);
    assert!(shop.is_sorted_by_key(|one| one.ended));
    assert_eq!(history.last(&"shop".into()).unwrap().ended, at(49));
    let arrival = history.last_arrival(&"shop".into()).unwrap();
    assert_eq!((arrival.ended, arrival.downtime), (at(2), "380ms".parse().unwrap()));
    assert_eq!((arrival.bytes, arrival.duration), (Bytes::from_mib(70), "2s".parse().unwrap()));
    assert_eq!(history.last(&"other".into()).unwrap().outcome, Outcome::Refused);
    // Budgets count all that moved or was undone since.
    let history = store.for_decision(at(5)).await.unwrap();
    assert_eq!(history.migrations[&"shop".into()].len(), 41);
}

#[tokio::test]
async fn what_was_not_measured_counts_as_predicted_and_time_frozen_in_vain_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(folder.path()).unwrap();
    for (service, outcome) in
        [("unseen", Outcome::Moved), ("undone", Outcome::RolledBack), ("refused", Outcome::Refused)]
    {
        let id = MigrationId::new();
        store.intend(Intent { id, decision: None, order: planned(service) }, at(1)).await.unwrap();
        store.settle(id, service.into(), outcome, "its end was not seen".to_owned(), at(2)).await.unwrap();
    }
    let id = MigrationId::new();
    store.intend(Intent { id, decision: None, order: planned("vain") }, at(1)).await.unwrap();
    let undone = report::Outcome::RolledBack { after: Phase::Dumped, reason: "link".to_owned() };
    let vain = report::Report { frozen_in_vain: "1500ms".parse().unwrap(), ..ended(id, "vain", undone) };
    store.record_migration(vain, at(2)).await.unwrap();

    let history = store.for_decision(Timestamp::MAX).await.unwrap();
    let of = |service: &str| {
        let last = history.last(&service.into()).unwrap();
        MoveCost { downtime: last.downtime, duration: last.duration, bytes: last.bytes }
    };
    assert_eq!([of("unseen"), of("undone")], [planned("unseen").predicted; 2]);
    assert_eq!(of("refused"), MoveCost::default());
    let (downtime, duration) = ("1500ms".parse().unwrap(), "2s".parse().unwrap());
    assert_eq!(of("vain"), MoveCost { downtime, duration, bytes: Bytes::from_mib(70) });
}

#[test]
fn two_schedulers_do_not_share_a_state() {
    let folder = tempfile::tempdir().unwrap();
    let first = StateLock::take(folder.path()).unwrap();
    let error = StateLock::take(folder.path()).unwrap_err();
    assert!(error.to_string().contains(&format!("(process {})", std::process::id())), "{error}");
    drop(first);
    StateLock::take(folder.path()).unwrap();
}

#[test]
fn files_that_are_not_ours_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join(FILE),
        "not a database, but long enough to have a header of its own".repeat(40),
    )
    .unwrap();
    assert!(matches!(HistoryStore::open(folder.path()), Err(HistoryError::Damaged { .. })));

    let folder = tempfile::tempdir().unwrap();
    drop(HistoryStore::open(folder.path()).unwrap());
    Connection::open(folder.path().join(FILE)).unwrap().pragma_update(None, "user_version", 7).unwrap();
    assert!(matches!(HistoryStore::open(folder.path()), Err(HistoryError::Newer { found: 7, known: 3, .. })));
}

#[tokio::test]
async fn a_full_disk_is_called_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(folder.path()).unwrap();
    // SQLite's own limit on pages fails as a full disk does.
    let limit = |connection: &mut Connection, path: &Path| {
        connection.pragma_update(None, "max_page_count", 1).map_err(|error| explain(path, error))
    };
    store.work(limit).await.unwrap();
    let mut large = recorded(1);
    large.policy.name = "x".repeat(1 << 20);
    let error = store.record_decision(large).await.unwrap_err();
    assert!(matches!(error, HistoryError::Full { .. }), "{error}");
    // Nothing of it is left, and what was there still is.
    assert_eq!(store.newest_decision().await.unwrap(), None);
}

#[tokio::test]
async fn a_file_of_the_first_version_is_read_as_it_is_and_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    {
        let file = Connection::open(folder.path().join(FILE)).unwrap();
        schema::first_version(&file).unwrap();
        let document = |name: &str, body: String| {
            file.execute("INSERT INTO document (hash, body) VALUES (?1, ?2)", [name, &body]).unwrap();
        };
        let Recorded { policy, history, observation, .. } = recorded(1);
        let mut policy = serde_json::to_value(&policy).unwrap();
        // Which policies of then did not have.
        policy.as_object_mut().unwrap().remove("approval").unwrap();
        document("p", policy.to_string());
        document("c", serde_json::to_string(&observation.continuum).unwrap());
        document("h", serde_json::to_string(&history).unwrap());
        let mut seen = serde_json::to_value(&observation).unwrap();
        seen.as_object_mut().unwrap().remove("continuum");
        file.execute(
            "INSERT INTO decision (at, seed, mode, verdict, moves, policy, continuum, history, observation, decision)
             VALUES (?1, ?2, 'auto', 'stay', 0, 'p', 'c', 'h', ?3, ?4)",
            [
                decision::instant(at(1)),
                u64::MAX.to_string(),
                seen.to_string(),
                serde_json::to_string(&recorded(1).decision).unwrap(),
            ],
        )
        .unwrap();
    }
    let only = HistoryStore::read(folder.path()).unwrap().unwrap();
    assert_eq!(only.decision(1).await.unwrap(), Some(recorded(1)));
    assert!(only.directives().await.unwrap().is_empty());
    assert_eq!(only.proposals(9).await.unwrap(), []);
    assert_eq!(only.pod_ends(Timestamp::MIN).await.unwrap(), []);
    drop(only);
    let store = HistoryStore::open(folder.path()).unwrap();
    assert_eq!(store.decision(1).await.unwrap(), Some(recorded(1)));
    assert_eq!(store.open_proposals().await.unwrap(), []);
    store.put_up(1, at(2), at(3)).await.unwrap();
    let connection = Connection::open(store.path()).unwrap();
    for change in ["UPDATE approval SET expires = '1'", "DELETE FROM decision", "DELETE FROM document"] {
        let error = connection.execute(change, []).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{error}");
    }
}

#[tokio::test]
async fn old_decisions_of_which_nothing_came_go_with_what_only_they_refer_to() {
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(folder.path()).unwrap();
    let mut other = recorded(1);
    other.policy.name = "of another time".to_owned();
    let gone = store.record_decision(other).await.unwrap();
    let ordered = store.record_decision(recorded(2)).await.unwrap();
    let intent = Intent { id: MigrationId::new(), decision: Some(ordered), order: planned("shop") };
    store.intend(intent, at(2)).await.unwrap();
    let put_up = store.record_decision(recorded(3)).await.unwrap();
    store.put_up(put_up, at(3), at(4)).await.unwrap();
    let young = store.record_decision(recorded(100)).await.unwrap();
    assert_eq!(store.prune(at(50), at(200)).await.unwrap(), 1);
    assert_eq!(store.decision(gone).await.unwrap(), None);
    for kept in [ordered, put_up, young] {
        assert!(store.decision(kept).await.unwrap().is_some());
    }
    assert_eq!(store.prune(at(50), at(200)).await.unwrap(), 0);
    // The newest stays, however old.
    assert_eq!(store.prune(at(5000), at(6000)).await.unwrap(), 0);
    assert_eq!(store.newest_decision().await.unwrap(), Some(young));
    let connection = Connection::open(store.path()).unwrap();
    let documents: i64 = connection.query_row("SELECT count(*) FROM document", [], |row| row.get(0)).unwrap();
    assert_eq!(documents, 3);
    // Nobody else may, not even of the time that was pruned.
    for change in
        ["DELETE FROM decision", "DELETE FROM document", "DELETE FROM intent", "DELETE FROM pruning"]
    {
        let error = connection.execute(change, []).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{error}");
    }
}

/// Always of the same mind.
struct Says(i64);

impl crate::control::world::Clock for Says {
    fn now(&self) -> Timestamp {
        at(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_ahead_deletes_nothing() {
    const DAY: i64 = 86_400;
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(folder.path()).unwrap();
    let first = store.record_decision(recorded(1)).await.unwrap();
    store.record_decision(recorded(20 * DAY)).await.unwrap();
    let keep = async |days: i64, clock: i64| {
        let time = format!("{days}d").parse().unwrap();
        let keeping = retention::keep(store.clone(), time, Says(clock));
        let _goes_on = tokio::time::timeout(Duration::from_secs(60), keeping).await;
        store.decision(first).await.unwrap().is_some()
    };
    assert!(keep(30, 400 * DAY).await);
    // Young it is not, whatever the clock says.
    assert!(!keep(10, 400 * DAY).await);
}

#[tokio::test]
async fn decisions_of_a_clock_that_was_ahead_are_not_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(folder.path()).unwrap();
    let told = |second| {
        let mut recorded = recorded(second);
        recorded.decision.standing.at = Some(at(second));
        recorded
    };
    store.record_decision(told(1_000_000)).await.unwrap();
    let newest = store.record_decision(told(20)).await.unwrap();
    store.record_decision(told(10)).await.unwrap();
    assert_eq!(store.newest_of_each_policy(at(30)).await.unwrap(), [newest]);
    let name = policy(Mode::Auto).name;
    assert_eq!(store.standing(&name, at(30)).await.unwrap(), told(20).decision.standing);
}

#[tokio::test]
async fn the_decision_before_is_one_of_the_same_policy() {
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(folder.path()).unwrap();
    let of = |name: &str| {
        let mut recorded = recorded(1);
        recorded.policy.name = name.to_owned();
        recorded
    };
    for name in ["a", "b", "b", "a"] {
        store.record_decision(of(name)).await.unwrap();
    }
    assert_eq!(store.before(4, "a").await.unwrap(), Some(1));
    assert_eq!(store.before(3, "b").await.unwrap(), Some(2));
    assert_eq!(store.before(1, "a").await.unwrap(), None);
}

#[tokio::test]
async fn a_history_that_is_not_there_is_not_made_by_reading() {
    let folder = tempfile::tempdir().unwrap();
    assert!(HistoryStore::read(folder.path()).unwrap().is_none());
    assert!(!folder.path().join(FILE).exists());
    let store = HistoryStore::open(folder.path()).unwrap();
    store.record_decision(recorded(1)).await.unwrap();
    // While it is written.
    let only = HistoryStore::read(folder.path()).unwrap().unwrap();
    assert_eq!(only.newest_decision().await.unwrap(), Some(1));
    assert!(only.record_decision(recorded(2)).await.is_err());
}
