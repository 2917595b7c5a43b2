//! How a plan is carried out that was made before.

use sterna_core::saved::SavedPlan;
use sterna_core::state::Change;

use super::super::apply::Applied;
use super::*;

impl Bench {
    /// The plan that is made now, through the text of its file.
    async fn plan(&mut self) -> SavedPlan {
        let policy = self.scheduler.files.in_force().remove(0);
        let looked = self.scheduler.look(&policy, &rounds::Round::new(&policy)).await.unwrap();
        let Looked { considered, .. } = looked;

        let text = SavedPlan::of(considered.recorded).text().unwrap();
        SavedPlan::read(&text).unwrap()
    }

    async fn apply(&mut self, plan: &SavedPlan) -> Applied {
        self.scheduler.apply(plan, &self.stop).await.unwrap()
    }

    fn rewrite(&mut self, file: &str, text: &str) {
        std::fs::write(self.folder.path().join(file), text).unwrap();
        self.scheduler.reload();
        self.told();
    }
}

fn stale(applied: Applied) -> Vec<String> {
    match applied {
        Applied::Stale { changes } => changes.iter().map(Change::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_carried_out_journalled_and_only_once() {
    let mut bench = bench(Mode::Observe, Fate::Moves, real());
    let plan = bench.plan().await;
    let applied = bench.apply(&plan).await;
    let Applied::CarriedOut { decision, moved: 1, of: 1 } = applied else { panic!("{applied:?}") };
    assert_eq!(bench.told(), ["moving shop", "event of shop", "ended shop: Moved"]);
    let kept = bench.scheduler.history.decision(decision).await.unwrap().unwrap();
    assert_eq!(kept, plan.recorded);
    assert_eq!(kept.replay(), kept.decision);
    assert!(bench.scheduler.history.open_intents().await.unwrap().is_empty());
    let past = bench.scheduler.history.for_decision(jiff::Timestamp::MAX).await.unwrap();
    assert_eq!(past.last_arrival(&"shop".into()).unwrap().to, "b1".into());

    assert_eq!(stale(bench.apply(&plan).await), ["`shop` ran on `a1` and runs on `b1`"]);
    assert_eq!(bench.orders(), 1);
}

#[tokio::test(start_paused = true)]
async fn whatever_a_plan_depends_on_makes_it_stale_and_is_named() {
    let mut bench = bench(Mode::Recommend, Fate::Moves, real());
    let plan = bench.plan().await;
    bench.place.view.lock().unwrap().reachable.retain(|node| node.as_str() != "c1");
    assert_eq!(stale(bench.apply(&plan).await), ["`c1` answered and does not any more"]);
    bench.place.view.lock().unwrap().reachable = fixture::view().reachable;

    bench.rewrite("policy", "closed from 02:47");
    let told = stale(bench.apply(&plan).await);
    assert!(matches!(told.as_slice(), [one] if one.starts_with("policy, windows")), "{told:?}");
    bench.rewrite("policy", "good");

    bench.rewrite("inventory", "drained");
    assert_eq!(stale(bench.apply(&plan).await), ["continuum, nodes.b1.drain: false -> true"]);
    bench.rewrite("inventory", "good");

    bench.place.view.lock().unwrap().placement.clear();
    assert_eq!(
        stale(bench.apply(&plan).await),
        ["`shop` ran on `a1` and is not found on any node that answers"]
    );
    assert_eq!(bench.orders(), 0);
    assert_eq!(bench.scheduler.history.newest_decision().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn rules_hold_for_a_person_too() {
    let mut blind = bench(Mode::Observe, Fate::Moves, real());
    let plan = blind.plan().await;
    blind.store.dead.store(true, Ordering::SeqCst);
    let applied = blind.apply(&plan).await;
    assert!(matches!(applied, Applied::Refused { unknown: true, .. }), "{applied:?}");
    blind.store.dead.store(false, Ordering::SeqCst);
    // An order of somebody else that is not settled yet.
    let moving = UnderWay { service: "shop".into(), from: "a1".into(), to: "c1".into() };
    blind.place.view.lock().unwrap().under_way.push(moving);
    let applied = blind.apply(&plan).await;
    let Applied::Refused { finding, unknown: false } = applied else { panic!("{applied:?}") };
    assert!(finding.contains("being moved already"), "{finding}");
    assert_eq!(blind.orders(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_off_moves_nothing() {
    let mut bench = bench(Mode::Auto, Fate::Moves, real());
    let plan = bench.plan().await;
    bench.rewrite("policy", "off");
    let applied = bench.apply(&plan).await;
    assert!(matches!(applied, Applied::Refused { unknown: false, .. }), "{applied:?}");
    assert_eq!(bench.orders(), 0);
}

/// The window was closed when the plan was made; that is told there, and whoever applies it has read it.
#[tokio::test(start_paused = true)]
async fn windows_do_not_hold_back_a_person() {
    let mut bench = bench(Mode::Observe, Fate::Moves, real());
    bench.rewrite("policy", "closed from 02:47");
    let mut plan = bench.plan().await;
    let on = Move { from: "c1".into(), ..shop_to("b1", 1) };
    plan.recorded.decision.plan.moves = vec![Move { parks: true, ..shop_to("c1", 0) }, on];
    tokio::time::advance(Duration::from_secs(60)).await;
    let applied = bench.apply(&plan).await;
    assert!(matches!(applied, Applied::CarriedOut { moved: 2, of: 2, .. }), "{applied:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_undone_is_told_and_may_be_tried_again() {
    let mut bench = bench(Mode::Observe, Fate::RollsBack, real());
    let plan = bench.plan().await;
    assert!(matches!(bench.apply(&plan).await, Applied::CarriedOut { moved: 0, of: 1, .. }));
    *bench.place.fate.lock().unwrap() = Fate::Moves;
    assert!(matches!(bench.apply(&plan).await, Applied::CarriedOut { moved: 1, of: 1, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_plan_without_moves_is_done() {
    let mut bench = bench(Mode::Off, Fate::Moves, real());
    let plan = bench.plan().await;
    assert_eq!(bench.apply(&plan).await, Applied::Nothing);
}
