//! What moving brought, from decisions that say what each place adds.

use sterna_core::plan::Effect;
use sterna_core::report::{NodeOption, ServiceReport};

use super::*;

const HOUR: i64 = 3600;

fn effect(cost: &str, power: &str, latency: &str) -> Option<Effect> {
    Some(Effect {
        user_latency: Some(latency.parse().unwrap()),
        cost_rate: cost.parse().unwrap(),
        power: power.parse().unwrap(),
        carbon_rate: "10g/h".parse().ok(),
    })
}

/// A decision at a time, the shop being on a node: `a1` costs 0.5 USD/h and draws 100 W, `b1` 0.2 USD/h and 40 W.
fn seen(second: i64, mode: Mode, on: &str, moves: bool) -> Recorded {
    let option = |node: &str, effect| NodeOption {
        node: node.into(),
        effect,
        modelled: Vec::new(),
        excluded_by: Vec::new(),
    };
    let (a, b) = (effect("0.5USD/h", "100W", "80ms"), effect("0.2USD/h", "40W", "10ms"));
    let mut recorded = recorded(second);
    recorded.policy.mode = mode;
    let decision = &mut recorded.decision;
    decision.report.services = vec![ServiceReport {
        service: "shop".into(),
        on: Some(on.into()),
        best: Some("b1".into()),
        gain: None,
        held_by: Vec::new(),
        options: vec![option("a1", a), option("b1", b)],
    }];
    if moves {
        decision.report.verdict = Verdict::Move;
        decision.plan.moves = vec![planned("shop")];
        (decision.plan.before, decision.plan.after) = (a.unwrap(), b.unwrap());
    }
    recorded
}

/// `shop` moves from `a1` to `b1`, as a policy decided, and is there at 1005 s.
async fn moved(store: &HistoryStore) {
    let decision = store.record_decision(seen(1000, Mode::Auto, "a1", true)).await.unwrap();
    let id = MigrationId::new();
    store.intend(Intent { id, decision: Some(decision), order: planned("shop") }, at(1001)).await.unwrap();
    store.record_migration(ended(id, "shop", report::Outcome::Moved), at(1005)).await.unwrap();
}

#[tokio::test]
async fn a_move_is_told_with_what_was_predicted_and_what_was_seen_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(folder.path()).unwrap();
    moved(&store).await;
    // An hour of looks every five minutes, then nothing for a long time.
    for look in 1..=12 {
        store.record_decision(seen(1005 + 300 * look, Mode::Auto, "b1", false)).await.unwrap();
    }
    let summary = store.summary(at(0), at(1005 + 10 * HOUR)).await.unwrap();
    assert_eq!((summary.moved, summary.rolled_back, summary.decisions), (1, 0, 13));
    assert_eq!(summary.downtime, "380ms".parse().unwrap());
    assert_eq!(summary.downtime_predicted, "400ms".parse().unwrap());
    let told = &summary.migrations[0];
    assert_eq!(told.before.as_ref().unwrap().user_latency, Some("80ms".parse().unwrap()));
    assert_eq!(told.predicted.as_ref().unwrap().user_latency, Some("10ms".parse().unwrap()));
    assert_eq!(told.after.as_ref().unwrap().power, "40W".parse().unwrap());
    assert_eq!(told.without.as_ref().unwrap().power, "100W".parse().unwrap());
    // From the first look after it, for 55 minutes, and for ten more that the last look speaks for.
    assert_eq!(summary.change.known_for, "65m".parse().unwrap());
    assert_eq!(summary.change.energy, "-65Wh".parse().unwrap());
    assert_eq!(summary.change.cost, "-0.325USD".parse().unwrap());
    assert_eq!(summary.change.carbon, "0g".parse().ok());
    assert_eq!(summary.change.user_latency, Some("-70ms".parse().unwrap()));
    assert_eq!(told.change, Some(summary.change));
    assert_eq!(summary.recommended, Default::default());
}

#[tokio::test]
async fn what_is_only_recommended_counts_once_and_apart() {
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(folder.path()).unwrap();
    for look in 0..4 {
        store.record_decision(seen(300 * look, Mode::Recommend, "a1", true)).await.unwrap();
    }
    let summary = store.summary(at(0), at(1200)).await.unwrap();
    assert_eq!((summary.moved, summary.recommended.moves), (0, 1));
    assert_eq!(summary.recommended.downtime, "400ms".parse().unwrap());
    assert_eq!(summary.recommended.change.energy, "-20Wh".parse().unwrap());
    assert_eq!(summary.recommended.change.cost, "-0.1USD".parse().unwrap());
    assert_eq!(summary.change, Default::default());
}

#[tokio::test]
async fn of_what_is_not_known_nothing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(folder.path()).unwrap();
    // Ordered by hand, and nothing was decided after it.
    migrate(&store, "shop", report::Outcome::Moved, 1000).await;
    let undone = report::Outcome::RolledBack { after: Phase::Dumped, reason: "link".to_owned() };
    migrate(&store, "shop", undone, 2000).await;
    let open = Intent { id: MigrationId::new(), decision: None, order: planned("shop") };
    store.intend(open, at(3000)).await.unwrap();
    let summary = store.summary(at(0), at(HOUR)).await.unwrap();
    assert_eq!((summary.moved, summary.rolled_back, summary.open), (1, 1, 1));
    let told = &summary.migrations[0];
    assert_eq!((&told.before, &told.after, told.change), (&None, &None, None));
    assert_eq!(summary.change, Default::default());
    assert_eq!(summary.downtime_predicted, "400ms".parse().unwrap());
    // Older ones are left out.
    assert_eq!(store.summary(at(2500), at(HOUR)).await.unwrap().migrations.len(), 1);
}

/// Another policy's decision, made in between, by which nothing is to be moved.
fn of_another(second: i64, on: &str) -> Recorded {
    let mut recorded = seen(second, Mode::Recommend, on, false);
    recorded.policy.name = "another".to_owned();
    recorded.decision.report.policy = "another".to_owned();
    recorded
}

#[tokio::test]
async fn what_another_policy_decides_in_between_takes_nothing_away() {
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(folder.path()).unwrap();
    moved(&store).await;
    for look in 1..=12 {
        store.record_decision(seen(1005 + 300 * look, Mode::Auto, "b1", false)).await.unwrap();
        store.record_decision(of_another(1006 + 300 * look, "b1")).await.unwrap();
    }
    let summary = store.summary(at(0), at(1005 + 10 * HOUR)).await.unwrap();
    assert_eq!(summary.change.known_for, "65m".parse().unwrap(), "once, and all of it");
    assert_eq!(summary.change.energy, "-65Wh".parse().unwrap());

    // It is not in force any more: the other one goes on telling, from when its ten minutes are over.
    for look in 13..=24 {
        store.record_decision(of_another(1006 + 300 * look, "b1")).await.unwrap();
    }
    let summary = store.summary(at(0), at(1005 + 10 * HOUR)).await.unwrap();
    let known = summary.change.known_for.to_duration().as_secs();
    assert!((120 * 60..=125 * 60 + 2).contains(&known), "{known}");
}

#[tokio::test]
async fn each_policy_s_recommendations_stand_for_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(folder.path()).unwrap();
    for look in 0..4 {
        store.record_decision(seen(300 * look, Mode::Recommend, "a1", true)).await.unwrap();
        store.record_decision(of_another(300 * look + 1, "a1")).await.unwrap();
    }
    let summary = store.summary(at(0), at(1200)).await.unwrap();
    assert_eq!((summary.recommended.moves, summary.decisions), (1, 8));
    assert_eq!(summary.recommended.change.energy, "-20Wh".parse().unwrap());
}

/// `sterna apply` records the decision when it carries it out, with the time at which it was made.
#[tokio::test]
async fn a_plan_that_was_applied_is_not_only_recommended() {
    let folder = tempfile::tempdir().unwrap();
    let store = HistoryStore::open(folder.path()).unwrap();
    store.record_decision(seen(600, Mode::Observe, "a1", false)).await.unwrap();
    let applied = store.record_decision(seen(300, Mode::Observe, "a1", true)).await.unwrap();
    let id = MigrationId::new();
    store.intend(Intent { id, decision: Some(applied), order: planned("shop") }, at(700)).await.unwrap();
    store.record_migration(ended(id, "shop", report::Outcome::Moved), at(705)).await.unwrap();
    store.record_decision(seen(905, Mode::Observe, "b1", false)).await.unwrap();
    let summary = store.summary(at(0), at(905 + 600)).await.unwrap();
    assert_eq!((summary.moved, summary.recommended), (1, Default::default()));
    assert_eq!(summary.change.known_for, "10m".parse().unwrap());
}
