//! Orders whose end nobody tells.

use super::*;

/// An order that was given before, to a source that the history alone knows of.
async fn ordered(bench: &Bench, service: &str, from: &str) -> MigrationId {
    let id = MigrationId::new();
    let order = Move { service: service.into(), from: from.into(), ..shop_to("b1", 0) };
    let (history, now) = (&bench.scheduler.history, bench.scheduler.clock.now());
    history.intend(Intent { id, decision: None, order }, now).await.unwrap();
    id
}

impl Bench {
    fn runs_on(&self, node: Option<&str>) {
        let mut view = self.place.view.lock().unwrap();
        view.placement = node.into_iter().map(|node| ("shop".into(), node.into())).collect();
    }

    async fn open(&self) -> usize {
        self.scheduler.history.open_intents().await.unwrap().len()
    }

    async fn outcome(&self) -> Outcome {
        let past = self.scheduler.history.for_decision(jiff::Timestamp::MAX).await.unwrap();
        past.last(&"shop".into()).unwrap().outcome
    }
}

#[tokio::test(start_paused = true)]
async fn once_its_time_is_over_it_keeps_nothing_back_but_its_service() {
    let mut bench = bench(Mode::Auto, Fate::Moves, real());
    for service in ["one", "other"] {
        ordered(&bench, service, "z1").await;
    }
    bench.run(1).await;
    assert_eq!(bench.orders(), 0, "as many as may be under way at once");
    tokio::time::advance(Duration::from_secs(3601)).await;
    bench.run(1).await;
    assert_eq!(bench.orders(), 1);
    assert_eq!(bench.open().await, 2, "nobody has said what came of them");
    let seen = bench.last_decision().await.observation;
    assert_eq!(seen.under_way.len(), 2);
    assert_eq!(seen.overdue, ["one", "other"].map(Into::into).into());
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_fate_is_unknown_is_not_moved() {
    let mut bench = bench(Mode::Auto, Fate::Moves, wanting(vec![]));
    ordered(&bench, "shop", "z1").await;
    bench.runs_on(None);
    tokio::time::advance(Duration::from_secs(7200)).await;
    bench.run(1).await;
    assert_eq!(bench.open().await, 1);
    assert!(bench.last_decision().await.observation.overdue.contains(&"shop".into()));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_never_answers_again_is_not_waited_for_where_the_destination_has_the_service() {
    let mut bench = bench(Mode::Auto, Fate::LosesSight, real());
    bench.run(1).await;
    bench.place.view.lock().unwrap().reachable.retain(|node| node.as_str() != "a1");
    bench.runs_on(Some("b1"));
    bench.run(1).await;
    assert_eq!(bench.open().await, 1, "it may come back and report what it measured");
    // The policy's deadline and lease.
    tokio::time::advance(Duration::from_secs(80)).await;
    bench.run(1).await;
    assert_eq!((bench.open().await, bench.outcome().await), (0, Outcome::Moved));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_not_in_the_inventory_is_not_waited_for() {
    let mut bench = bench(Mode::Observe, Fate::Moves, real());
    ordered(&bench, "shop", "z1").await;
    bench.runs_on(Some("b1"));
    bench.run(1).await;
    assert_eq!((bench.open().await, bench.outcome().await), (0, Outcome::Moved));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_runs_at_a_third_node_is_known_too() {
    let mut bench = bench(Mode::Observe, Fate::Moves, real());
    ordered(&bench, "shop", "a1").await;
    bench.runs_on(None);
    bench.run(1).await;
    assert_eq!(bench.open().await, 1, "it is nowhere to be seen");
    bench.runs_on(Some("c1"));
    bench.told();
    bench.run(1).await;
    assert_eq!(bench.told()[0], "settled its end was not seen; the service runs on `c1`");
    assert_eq!((bench.open().await, bench.outcome().await), (0, Outcome::RolledBack));
}

#[tokio::test(start_paused = true)]
async fn what_is_committed_and_can_not_be_handed_over_keeps_nothing_else_back() {
    let mut bench = bench(Mode::Observe, Fate::Moves, real());
    let id = ordered(&bench, "shop", "a1").await;
    bench.runs_on(None);
    {
        let mut view = bench.place.view.lock().unwrap();
        view.reachable.retain(|node| node.as_str() != "b1");
        view.under_way.push(UnderWay { service: "shop".into(), from: "a1".into(), to: "b1".into() });
        view.committed.push((id, "a1".into(), "b1".into()));
    }
    bench.run(1).await;
    assert!(bench.last_decision().await.observation.overdue.is_empty());
    tokio::time::advance(Duration::from_secs(3601)).await;
    bench.run(1).await;
    let seen = bench.last_decision().await.observation;
    assert_eq!((seen.overdue.len(), seen.under_way.len(), bench.open().await), (1, 1, 1));
}
