//! Nodes whose pods have ended.

use sterna_executor::migration::holding::Holding;
use sterna_executor::node::api::Arriving;
use sterna_policies::policy::{Memory, Method};

use super::*;

const UID: &str = "u1";

fn end() -> PodEnd {
    PodEnd {
        node: "a1".into(),
        uid: UID.to_owned(),
        namespace: "edge".to_owned(),
        pod: "sterna-demo-a1".to_owned(),
        host: None,
        said: "Completed, status 0".to_owned(),
        ended: Timestamp::from_second(9_999).unwrap(),
        seen: Timestamp::now(),
    }
}

/// `b1` holds the shop on its way from the pod of `a1`.
fn held(id: MigrationId) -> Told {
    let minutes = |minutes: u64| Millis::from_duration(Duration::from_secs(60 * minutes));
    let order = Order {
        id,
        service: "shop".into(),
        from: "a1".into(),
        to: "b1".into(),
        from_address: "a1:7420".to_owned(),
        to_address: "b1:7420".to_owned(),
        method: Method::default(),
        memory: Memory::default(),
        max_downtime: None,
        bandwidth: None,
        deadline: minutes(10),
        freeze_lease: minutes(1),
        predicted: None,
    };
    let arriving = Arriving {
        order,
        epoch: 1,
        image: "i".to_owned(),
        holding: Holding::Held,
        standing: true,
        pod: Some(UID.to_owned()),
    };
    Told { arriving: [("b1".into(), vec![arriving])].into(), ..Told::default() }
}

impl Bench {
    /// The pod of `a1` ends, with all that it runs.
    fn ends(&self) {
        self.place.ends.lock().unwrap().push(end());
        let mut view = self.place.view.lock().unwrap();
        view.placement.retain(|_, node| node.as_str() != "a1");
        view.reachable.retain(|node| node.as_str() != "a1");
        view.unreachable.insert("a1".into(), "no pod".to_owned());
    }

    fn settled(&self) -> Vec<String> {
        self.told().into_iter().filter(|line| line.starts_with("settled")).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_from_a_pod_that_has_ended_runs_where_it_is_held() {
    let mut bench = bench(Mode::Observe, Fate::Moves, real());
    bench.run(1).await;
    let id = MigrationId::new();
    let (history, now) = (bench.scheduler.history.clone(), bench.scheduler.clock.now());
    history.intend(Intent { id, decision: None, order: shop_to("b1", 0) }, now).await.unwrap();
    bench.ends();
    *bench.place.told.lock().unwrap() = held(id);
    bench.told();
    bench.run(1).await;
    assert_eq!(*bench.place.promoted.lock().unwrap(), [id]);
    // The decision of the same look knows it.
    let seen = bench.last_decision().await.observation;
    assert_eq!(seen.placement.get(&"shop".into()), Some(&"b1".into()));
    assert!(history.open_intents().await.unwrap().is_empty(), "its end is known");
    let past = history.for_decision(Timestamp::MAX).await.unwrap();
    assert_eq!(past.last(&"shop".into()).unwrap().outcome, Outcome::Moved);
    assert_eq!(history.pod_ends(Timestamp::MIN).await.unwrap()[0].uid, UID);
    assert_eq!(bench.settled().len(), 2);
    bench.run(1).await;
    assert_eq!(bench.settled(), [""; 0], "said once");
}

#[tokio::test(start_paused = true)]
async fn what_merely_ran_there_is_said_to_be_lost() {
    let mut bench = bench(Mode::Observe, Fate::Moves, real());
    bench.run(1).await;
    bench.ends();
    bench.told();
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let ears = Arc::clone(&lines);
    bench.scheduler.tell = Box::new(move |notice| {
        if let Notice::Settled(line) = notice {
            ears.lock().unwrap().push((*line).to_owned());
        }
    });
    bench.run(2).await;
    insta::assert_snapshot!(lines.lock().unwrap().join("\n"), @"node `a1` is gone: pod edge/sterna-demo-a1 (UID u1) ended at 1970-01-01T02:46:39Z: Completed, status 0; lost with it, since they ran there and were not on their way: `shop`. `sterna services up` starts them anew, empty");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_sure_is_left_to_a_person_and_said_once() {
    let mut bench = bench(Mode::Observe, Fate::Moves, real());
    let id = MigrationId::new();
    bench.run(1).await;
    bench.ends();
    let mut told = held(id);
    told.silent.insert("cloud1".into());
    *bench.place.told.lock().unwrap() = told.clone();
    bench.told();
    bench.run(3).await;
    assert_eq!(bench.settled().len(), 2, "that the node is gone, and why nothing is promoted");
    assert!(bench.place.promoted.lock().unwrap().is_empty());

    // Once that node has answered, it is.
    told.silent.clear();
    *bench.place.told.lock().unwrap() = told;
    bench.run(1).await;
    assert_eq!(*bench.place.promoted.lock().unwrap(), [id]);
}

#[tokio::test(start_paused = true)]
async fn a_move_that_is_known_to_have_been_undone_is_not_made_up_for() {
    let mut bench = bench(Mode::Observe, Fate::Moves, real());
    let id = MigrationId::new();
    let (history, now) = (bench.scheduler.history.clone(), bench.scheduler.clock.now());
    history.intend(Intent { id, decision: None, order: shop_to("b1", 0) }, now).await.unwrap();
    history.settle(id, "shop".into(), Outcome::RolledBack, "the link broke".to_owned(), now).await.unwrap();
    bench.run(1).await;
    bench.ends();
    *bench.place.told.lock().unwrap() = held(id);
    bench.run(2).await;
    assert!(bench.place.promoted.lock().unwrap().is_empty());
}
