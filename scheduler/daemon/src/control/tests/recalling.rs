//! What agents remember of orders, and whose clocks they have.

use super::*;

fn remembered(id: MigrationId) -> Standing {
    let (service, from, to) = ("shop".into(), NodeName::from("a1"), NodeName::from("b1"));
    let report = report::Report {
        id,
        service: "shop".into(),
        from: from.clone(),
        to: to.clone(),
        outcome: report::Outcome::RolledBack { after: Phase::Dumped, reason: "as the agent says".to_owned() },
        phases: vec![],
        downtime: None,
        frozen_in_vain: Millis::ZERO,
        undone: vec![],
        load: None,
        forecast: None,
        started_anew: None,
    };
    let time: Millis = "30s".parse().unwrap();
    let order = Order {
        id,
        service,
        from,
        to,
        from_address: "a1:7420".to_owned(),
        to_address: "b1:7420".to_owned(),
        method: Default::default(),
        deadline: time,
        memory: Default::default(),
        max_downtime: None,
        bandwidth: None,
        freeze_lease: time,
        predicted: None,
    };
    let taken = "2026-01-01T00:00:00Z".parse().unwrap();
    Standing {
        order,
        phase: Some(Phase::Dumped),
        decision: Decided::Abort,
        certificate: None,
        report: Some(report),
        taken,
        ended: Some(taken),
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_history_is_made_anew_from_what_the_agents_remember() {
    let mut bench = bench(Mode::Observe, Fate::Moves, real());
    let id = MigrationId::new();
    bench.place.remembered.lock().unwrap().push(remembered(id));
    bench.run(2).await;
    let past = bench.scheduler.history.for_decision(jiff::Timestamp::MAX).await.unwrap();
    assert_eq!(past.last(&"shop".into()).unwrap().outcome, Outcome::RolledBack);
    let told = bench.told();
    let settled = told.iter().filter(|line| line.starts_with("settled")).count();
    assert_eq!(settled, 1, "once: {told:?}");
}

/// By hand, from `a1` to `b1`.
#[tokio::test(start_paused = true)]
async fn what_others_order_meanwhile_is_remembered_as_if_it_had_been_seen() {
    let mut moved = remembered(MigrationId::new());
    moved.report.as_mut().unwrap().outcome = report::Outcome::Moved;
    let undone = remembered(MigrationId::new());
    let last = async |bench: &Bench| {
        let past = bench.scheduler.history.for_decision(jiff::Timestamp::MAX).await.unwrap();
        past.last(&"shop".into()).map(|last| last.outcome)
    };
    // Begun and ended between two looks.
    let mut bench = bench(Mode::Auto, Fate::Moves, wanting(vec![]));
    bench.run(1).await;
    bench.place.remembered.lock().unwrap().push(moved);
    bench.place.view.lock().unwrap().placement.insert("shop".into(), "b1".into());
    bench.run(1).await;
    assert_eq!(last(&bench).await, Some(Outcome::Moved));

    let mut bench = self::bench(Mode::Auto, Fate::Moves, wanting(vec![]));
    bench.run(1).await;
    let under_way = UnderWay { service: "shop".into(), from: "a1".into(), to: "b1".into() };
    bench.place.view.lock().unwrap().under_way.push(under_way);
    bench.run(1).await;
    assert_eq!(last(&bench).await, None);
    bench.place.view.lock().unwrap().under_way.clear();
    bench.place.remembered.lock().unwrap().push(undone);
    bench.run(1).await;
    assert_eq!(last(&bench).await, Some(Outcome::RolledBack));
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_clock_is_behind_does_not_end_the_past_early() {
    let mut bench = bench(Mode::Auto, Fate::Silent, real());
    bench.run(1).await;
    let open = bench.scheduler.history.open_intents().await.unwrap();
    let behind = Some(Timestamp::UNIX_EPOCH);
    bench.place.remembered.lock().unwrap().push(Standing { ended: behind, ..remembered(open[0].id) });
    bench.run(1).await;
    let past = bench.scheduler.history.for_decision(jiff::Timestamp::MAX).await.unwrap();
    assert_eq!(past.last(&"shop".into()).unwrap().ended, open[0].written);
    let Verdict::Held { by } = bench.last_decision().await.decision.report.verdict else {
        panic!("not held")
    };
    assert!(matches!(by.as_slice(), [Hold::Cooldown { .. }]), "{by:?}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_clock_is_ahead_does_not_make_the_past_last_longer() {
    let mut bench = bench(Mode::Observe, Fate::Moves, real());
    let ahead = Some("2199-01-01T00:00:00Z".parse().unwrap());
    let standing = Standing { ended: ahead, ..remembered(MigrationId::new()) };
    bench.place.remembered.lock().unwrap().push(standing);
    bench.run(2).await;
    let past = bench.scheduler.history.for_decision(jiff::Timestamp::MAX).await.unwrap();
    assert!(past.last(&"shop".into()).unwrap().ended <= bench.scheduler.clock.now());
}

#[tokio::test(start_paused = true)]
async fn an_order_whose_end_was_not_seen_is_settled_by_the_agents_report() {
    let mut bench = bench(Mode::Auto, Fate::Silent, real());
    bench.run(1).await;
    let open = bench.scheduler.history.open_intents().await.unwrap();
    bench.place.remembered.lock().unwrap().push(remembered(open[0].id));
    bench.run(1).await;
    assert!(bench.scheduler.history.open_intents().await.unwrap().is_empty());
    let past = bench.scheduler.history.for_decision(jiff::Timestamp::MAX).await.unwrap();
    assert_eq!(past.last(&"shop".into()).unwrap().outcome, Outcome::RolledBack);
}

#[tokio::test(start_paused = true)]
async fn the_place_of_a_service_settles_nothing_that_its_agent_may_still_report() {
    let mut bench = bench(Mode::Auto, Fate::Silent, real());
    bench.run(1).await;
    let id = bench.scheduler.history.open_intents().await.unwrap()[0].id;
    // Seen where it was, and its agent can't be asked.
    bench.place.deaf.store(true, Ordering::SeqCst);
    bench.run(1).await;
    // Asked, it has taken the order meanwhile.
    bench.place.deaf.store(false, Ordering::SeqCst);
    let report = remembered(id);
    bench.place.remembered.lock().unwrap().push(Standing { report: None, ended: None, ..report.clone() });
    bench.run(1).await;
    assert_eq!(bench.scheduler.history.open_intents().await.unwrap().len(), 1);
    assert_eq!(bench.orders(), 1, "and nothing is ordered meanwhile");
    *bench.place.remembered.lock().unwrap() = vec![report];
    bench.run(1).await;
    assert!(bench.scheduler.history.open_intents().await.unwrap().is_empty());
    assert!(bench.told().contains(&"settled recorded as its source's agent remembers it".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_delivered_is_carried() {
    let mut bench = bench(Mode::Observe, Fate::Moves, real());
    let id = MigrationId::new();
    bench.place.view.lock().unwrap().committed.push((id, "a1".into(), "b1".into()));
    bench.run(1).await;
    assert_eq!(*bench.place.carried.lock().unwrap(), [id]);
    // First it is told where everybody is by now.
    assert_eq!(bench.place.introduced.load(Ordering::SeqCst), 1);
}
