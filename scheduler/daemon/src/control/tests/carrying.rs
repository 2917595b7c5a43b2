//! How a plan is carried out: wave by wave, journalled, and stopped.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_wave_waits_for_the_one_before_and_is_left_out_when_that_fails() {
    let mut other = shop_to("c1", 1);
    other.service = "other".into();
    let mut fails = bench(Mode::Auto, Fate::RollsBack, wanting(vec![other.clone(), shop_to("b1", 0)]));
    fails.run(1).await;
    assert_eq!(fails.orders(), 1);
    let mut succeeds = bench(Mode::Auto, Fate::Moves, wanting(vec![other, shop_to("b1", 0)]));
    succeeds.run(1).await;
    let orders: Vec<_> =
        succeeds.place.orders.lock().unwrap().iter().map(|order| order.service.to_string()).collect();
    assert_eq!(orders, ["shop", "other"]);
}

/// It is 02:46:58 when the first wave begins, and 02:47:01 when it has ended.
#[tokio::test(start_paused = true)]
async fn a_plan_goes_no_further_once_a_window_keeps_moves_back() {
    let mut other = shop_to("c1", 1);
    other.service = "other".into();
    let mut bench = bench(Mode::Auto, Fate::Moves, wanting(vec![shop_to("b1", 0), other]));
    std::fs::write(bench.folder.path().join("policy"), "closed from 02:47").unwrap();
    tokio::time::advance(Duration::from_secs(18)).await;
    bench.run(1).await;
    assert_eq!(bench.orders(), 1);
    assert!(bench.told().iter().any(|line| line.starts_with("not seen other: a window keeps it back")));
}

#[tokio::test(start_paused = true)]
async fn a_parked_service_goes_on_in_a_later_wave() {
    let parks = Move { parks: true, ..shop_to("c1", 0) };
    let on = Move { from: "c1".into(), ..shop_to("b1", 1) };
    let mut bench = bench(Mode::Auto, Fate::Moves, wanting(vec![on, parks]));
    bench.run(1).await;
    let orders: Vec<_> = bench
        .place
        .orders
        .lock()
        .unwrap()
        .iter()
        .map(|order| (order.from.to_string(), order.to.to_string()))
        .collect();
    assert_eq!(orders, [("a1".to_owned(), "c1".to_owned()), ("c1".to_owned(), "b1".to_owned())]);
    let past = bench.scheduler.history.for_decision(jiff::Timestamp::MAX).await.unwrap();
    assert_eq!(past.last_arrival(&"shop".into()).unwrap().to, "b1".into());
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_the_running_migration_end_and_begins_nothing_new() {
    let mut other = shop_to("c1", 1);
    other.service = "other".into();
    let mut bench = bench(Mode::Auto, Fate::Moves, wanting(vec![shop_to("b1", 0), other]));
    let (stopper, stop) = (bench.stopper.clone(), bench.stop.clone());
    let asks = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(stopper.ask(), Urgency::WhenDone);
    };
    let (cycles, ()) = tokio::join!(bench.scheduler.run(&stop, None), asks);
    assert_eq!(cycles, 1);
    assert_eq!(bench.orders(), 1);
    assert!(bench.told().contains(&"ended shop: Moved".to_owned()));
    assert!(bench.scheduler.history.open_intents().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_leaves_the_migration_to_the_agents() {
    let mut bench = bench(Mode::Auto, Fate::Moves, wanting(vec![shop_to("b1", 0)]));
    let (stopper, stop) = (bench.stopper.clone(), bench.stop.clone());
    let asks = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stopper.ask();
        assert_eq!(stopper.ask(), Urgency::Now);
    };
    let (cycles, ()) = tokio::join!(bench.scheduler.run(&stop, None), asks);
    assert_eq!(cycles, 1);
    assert!(bench.told().contains(&"left [ServiceName(\"shop\")]".to_owned()));
    // The next scheduler finds it open.
    assert_eq!(bench.scheduler.history.open_intents().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_ordered_that_can_not_be_recorded() {
    let mut bench = bench(Mode::Auto, Fate::Moves, real());
    let file = bench.scheduler.history.path().to_owned();
    let other = rusqlite::Connection::open(file).unwrap();
    other.execute_batch("DROP TABLE intent").unwrap();
    bench.run(1).await;
    assert_eq!(bench.orders(), 0);
    assert!(bench.told().iter().any(|line| line.starts_with("failed: the history")));
    assert!(bench.scheduler.telemetry.ready().is_err());
}

/// The policy gives it a minute until the commit, and a lease of 20 s.
#[tokio::test(start_paused = true)]
async fn a_migration_that_does_not_end_does_not_keep_the_loop() {
    for (fate, after, reason) in [
        (Fate::Hangs, 80, "it has not ended within deadline and freeze lease, 80 s"),
        (Fate::IsNotDelivered, 63, "it is committed and has said nothing for 60 s"),
    ] {
        let mut bench = bench(Mode::Auto, fate, real());
        let began = Instant::now();
        bench.run(1).await;
        assert_eq!(began.elapsed().as_secs(), after, "{fate:?}");
        let told = bench.told();
        assert!(
            told.iter().any(|line| line.starts_with("not seen shop: ") && line.contains(reason)),
            "{told:?}"
        );
        assert_eq!(bench.scheduler.history.open_intents().await.unwrap().len(), 1);
        bench.run(1).await;
        assert_eq!(bench.orders(), 1);
    }
}
