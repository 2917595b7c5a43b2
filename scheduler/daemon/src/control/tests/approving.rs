//! Plans that wait for a person, and what people say while the scheduler runs.

use sterna_core::directive::{Ask, Directive, Place};

use super::*;
use crate::history::approval::{Answer, Step};

impl Bench {
    async fn approve(&self, id: i64) -> Answer {
        self.scheduler.history.approve(id, "eve".to_owned(), self.scheduler.clock.now()).await.unwrap()
    }

    async fn steps(&self, id: i64) -> Vec<Step> {
        let proposal = self.scheduler.history.proposal(id).await.unwrap().unwrap();
        proposal.steps.iter().map(|one| one.step).collect()
    }

    async fn say(&self, ask: Ask, given: bool) {
        let at = self.scheduler.clock.now();
        let directive = Directive { ask, by: "eve".to_owned(), at, reason: Some("a test".to_owned()) };
        assert!(self.scheduler.history.direct(directive, given).await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_approved_is_carried_out_once_and_it_is_known_by_whom() {
    let mut bench = bench(Mode::Approve, Fate::Moves, real());
    bench.run(3).await;
    assert_eq!(bench.orders(), 0);
    let told = bench.told();
    let put_up: Vec<_> = told.iter().filter(|line| line.starts_with("put up")).collect();
    assert_eq!(put_up, ["put up 1: 1 moves"], "a plan that stays the same is put up once");
    assert_eq!(bench.approve(1).await, Answer::Approved);
    assert_eq!(bench.approve(1).await, Answer::Over(Step::Approved));
    bench.run(2).await;
    assert_eq!(bench.orders(), 1);
    assert_eq!(bench.steps(1).await, [Step::Approved, Step::Begun]);
    let proposal = bench.scheduler.history.proposal(1).await.unwrap().unwrap();
    assert_eq!(proposal.steps[0].by.as_deref(), Some("eve"));
    // The migration belongs to the decision that was approved, not to the one that was made meanwhile.
    let migrations = bench.scheduler.history.migrations_of(1).await.unwrap();
    assert_eq!(migrations.len(), 1);
    assert_eq!(migrations[0].end.as_ref().unwrap().outcome, "moved");
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_refused_once_its_state_has_changed_and_it_is_said_what() {
    let mut bench = bench(Mode::Approve, Fate::Moves, real());
    bench.run(1).await;
    assert_eq!(bench.approve(1).await, Answer::Approved);
    bench.place.view.lock().unwrap().reachable.retain(|node| *node != "c1".into());
    bench.run(1).await;
    assert_eq!(bench.orders(), 0);
    assert_eq!(bench.steps(1).await, [Step::Approved, Step::Refused]);
    let proposal = bench.scheduler.history.proposal(1).await.unwrap().unwrap();
    let note = proposal.steps[1].note.as_deref().unwrap();
    assert!(note.ends_with("has changed: `c1` answered and does not any more"), "{note}");
    // What is so now is put up instead.
    assert_eq!(bench.scheduler.history.open_proposals().await.unwrap()[0].id, 2);
}

#[tokio::test(start_paused = true)]
async fn a_plan_of_which_nothing_could_be_ordered_says_so() {
    let mut bench = bench(Mode::Approve, Fate::Moves, real());
    bench.run(1).await;
    assert_eq!(bench.approve(1).await, Answer::Approved);
    bench.place.unlisted.store(true, Ordering::SeqCst);
    bench.run(1).await;
    assert_eq!(bench.orders(), 0);
    assert_eq!(bench.steps(1).await, [Step::Approved, Step::Begun, Step::Refused]);
    let told = bench.told();
    assert!(told.contains(&"approval 1 refused: nothing of it was ordered".to_owned()), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn another_plan_supersedes_and_an_old_one_expires() {
    let mut bench = bench(Mode::Approve, Fate::Moves, real());
    bench.run(1).await;
    bench.place.view.lock().unwrap().placement.insert("shop".into(), "c1".into());
    bench.run(1).await;
    assert_eq!(bench.steps(1).await, [Step::Superseded]);
    assert_eq!(bench.approve(1).await, Answer::Over(Step::Superseded));
    assert_eq!(bench.approve(77).await, Answer::Unknown);
    tokio::time::advance(Duration::from_secs(15 * 60)).await;
    assert_eq!(bench.approve(2).await, Answer::Over(Step::Expired));
    bench.run(1).await;
    assert_eq!(bench.steps(2).await, [Step::Expired]);
    // Its plan is still wanted, and so it is put up anew.
    assert_eq!(bench.scheduler.history.open_proposals().await.unwrap()[0].id, 3);
    bench.place.view.lock().unwrap().placement.insert("shop".into(), "b1".into());
    bench.run(1).await;
    assert_eq!(bench.scheduler.history.open_proposals().await.unwrap(), []);
    assert_eq!(bench.orders(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pause_also_stops_what_was_approved() {
    let mut bench = bench(Mode::Approve, Fate::Moves, real());
    bench.run(1).await;
    assert_eq!(bench.approve(1).await, Answer::Approved);
    bench.say(Ask::Pause, true).await;
    bench.run(1).await;
    assert_eq!(bench.orders(), 0);
    assert_eq!(bench.steps(1).await, [Step::Approved, Step::Refused]);
}

#[tokio::test(start_paused = true)]
async fn another_policy_has_its_plan_put_up_anew() {
    let mut bench = bench(Mode::Approve, Fate::Moves, real());
    bench.run(1).await;
    std::fs::write(bench.folder.path().join("policy"), "closed from 02:47").unwrap();
    bench.run(1).await;
    assert_eq!(bench.steps(1).await, [Step::Superseded]);
    assert_eq!(bench.approve(2).await, Answer::Approved);
    std::fs::write(bench.folder.path().join("policy"), "good").unwrap();
    bench.run(1).await;
    assert_eq!(bench.steps(2).await, [Step::Approved, Step::Refused]);
    assert_eq!(bench.orders(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_does_not_ask_takes_back_what_was_put_up() {
    let mut bench = bench(Mode::Approve, Fate::Moves, real());
    bench.run(1).await;
    std::fs::write(bench.folder.path().join("policy"), "off").unwrap();
    bench.run(1).await;
    assert_eq!(bench.steps(1).await, [Step::Superseded]);
}

#[tokio::test(start_paused = true)]
async fn what_people_say_holds_moves_and_survives_a_restart() {
    let mut bench = bench(Mode::Auto, Fate::Moves, real());
    bench.say(Ask::Pause, true).await;
    bench.run(1).await;
    assert_eq!(bench.told(), ["held paused; shop paused (news)"]);
    // Another scheduler on the same state.
    let folder = bench.folder.path().join("state");
    bench.scheduler.history = HistoryStore::open(&folder).unwrap();
    bench.run(1).await;
    assert_eq!(bench.orders(), 0);
    let recorded = bench.last_decision().await;
    assert_eq!(recorded.observation.directives.pause().unwrap().by, "eve");
    assert_eq!(recorded.replay(), recorded.decision);

    bench.say(Ask::Pause, false).await;
    bench.say(Ask::OptOut { service: "shop".into() }, true).await;
    bench.run(1).await;
    assert_eq!(bench.orders(), 0);
    bench.say(Ask::OptOut { service: "shop".into() }, false).await;
    bench.say(Ask::Cordon { place: Place::Site("b".into()) }, true).await;
    bench.run(1).await;
    assert_eq!(bench.place.orders.lock().unwrap()[0].to, "c1".into());
}

#[tokio::test(start_paused = true)]
async fn a_bell_ends_the_wait() {
    let mut bench = bench(Mode::Observe, Fate::Moves, real());
    let desk = Arc::clone(&bench.scheduler.desk);
    let began = Instant::now();
    let rings = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        desk.ring();
    };
    let (cycles, ()) = tokio::join!(bench.scheduler.run(&bench.stop, Some(2)), rings);
    assert_eq!((cycles, began.elapsed().as_secs()), (2, 4));
    assert_eq!(desk.standing().newest().unwrap().number, 2);
}

#[tokio::test(start_paused = true)]
async fn a_pause_stops_a_plan_that_is_under_way_before_its_next_move() {
    let mut other = shop_to("c1", 1);
    other.service = "other".into();
    let mut bench = bench(Mode::Auto, Fate::Moves, wanting(vec![shop_to("b1", 0), other]));
    let history = bench.scheduler.history.clone();
    let at = bench.scheduler.clock.now();
    let says = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let directive = Directive { ask: Ask::Pause, by: "eve".to_owned(), at, reason: None };
        history.direct(directive, true).await.unwrap();
    };
    let (_, ()) = tokio::join!(bench.scheduler.run(&bench.stop, Some(1)), says);
    assert_eq!(bench.orders(), 1);
    let told = bench.told();
    assert!(told.contains(&"not seen other: pause by eve speaks against it".to_owned()), "{told:?}");
}
