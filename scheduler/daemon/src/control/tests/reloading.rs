//! Files that are read again, and what another policy changes.

use super::*;
use crate::telemetry::ConfigFile;

impl Bench {
    fn write_policy(&self, text: &str) {
        std::fs::write(self.folder.path().join("policy"), text).unwrap();
    }
}

/// Counts how often it is decided.
fn counting() -> (Engine, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let decide = move |seen: &Observation, policy: &Policy, history: &History, now: Timestamp, seed: u64| {
        counted.fetch_add(1, Ordering::SeqCst);
        sterna_core::decide(seen, policy, history, now, seed)
    };
    (Engine { decide: Arc::new(decide), seed: 7, costs: Default::default() }, count)
}

#[tokio::test(start_paused = true)]
async fn files_are_read_again_and_a_bad_one_keeps_the_old() {
    let mut bench = bench(Mode::Recommend, Fate::Moves, real());
    let file = |name: &str| bench.folder.path().join(name);
    let (policy, inventory) = (file("policy"), file("inventory"));
    bench.run(1).await;
    std::fs::write(&policy, "bad").unwrap();
    std::fs::write(&inventory, "elsewhere").unwrap();
    bench.told();
    bench.run(2).await;
    let told = bench.told();
    assert!(told[0].contains("policy:1:1: error[P0000]: bad"), "{told:?}");
    assert!(told[1].contains("can't be taken over: the continuum is now called `elsewhere`"), "{told:?}");
    assert!(told[2].starts_with("move; shop a1 b1"), "{told:?}");
    assert_eq!(told.len(), 4);
    let refused = bench.scheduler.desk.standing().refused;
    assert_eq!(refused.keys().copied().collect::<Vec<_>>(), [ConfigFile::Policy, ConfigFile::Inventory]);
    std::fs::write(&policy, "off").unwrap();
    bench.run(1).await;
    let told = bench.told();
    assert_eq!(told[..2], ["reloaded policy: mode: recommend -> off", "held policy-off (news)"]);
    let refused = bench.scheduler.desk.standing().refused;
    assert_eq!(refused.keys().copied().collect::<Vec<_>>(), [ConfigFile::Inventory]);
    let text = bench.scheduler.telemetry.text().unwrap();
    assert!(text.contains("sterna_config_last_reload_successful{file=\"policy\"} 1"));
    assert!(text.contains("sterna_config_last_reload_successful{file=\"inventory\"} 0"));
}

#[tokio::test(start_paused = true)]
async fn another_policy_is_told_once_with_what_it_decides_otherwise() {
    let (engine, count) = counting();
    let mut bench = bench(Mode::Recommend, Fate::Moves, engine);
    bench.run(2).await;
    assert_eq!(count.load(Ordering::SeqCst), 2);
    bench.told();
    bench.write_policy("picky");
    bench.run(3).await;
    assert_eq!(count.load(Ordering::SeqCst), 6, "once more, at the first look by it alone");
    let told = bench.told();
    assert_eq!(told[0], "reloaded policy: hysteresis.min_gain: 10% -> 95%");
    assert!(told[1].contains("shop gain-too-small (news)"), "{told:?}");
    assert!(told[2].starts_with("compared: decided differently:\n  old: move\n"), "{}", told[2]);
    assert!(told[2].contains("shop on a1\n  old: goes to b1\n  new: stays, held: gain"), "{}", told[2]);
    assert_eq!(told.len(), 5, "{told:?}");
    // What was decided stands as if nothing had been compared.
    assert_eq!(bench.last_decision().await.replay(), bench.last_decision().await.decision);
}

#[tokio::test(start_paused = true)]
async fn a_text_that_says_the_same_is_not_compared() {
    let (engine, count) = counting();
    let mut bench = bench(Mode::Recommend, Fate::Moves, engine);
    bench.run(1).await;
    bench.told();
    bench.write_policy("the same in other words");
    bench.run(1).await;
    assert_eq!(bench.told()[0], "reloaded policy: ");
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn the_policy_that_decided_last_is_the_one_before() {
    let mut bench = bench(Mode::Recommend, Fate::Moves, real());
    let (place, policy) = (Arc::clone(&bench.place), bench.folder.path().join("policy"));
    // A look is every 15 s; the second and the third can't be completed.
    let changes = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        place.dark.store(true, Ordering::SeqCst);
        std::fs::write(&policy, "picky").unwrap();
        tokio::time::sleep(Duration::from_secs(15)).await;
        std::fs::write(&policy, "off").unwrap();
        tokio::time::sleep(Duration::from_secs(15)).await;
        place.dark.store(false, Ordering::SeqCst);
    };
    tokio::join!(bench.run(4), changes);
    let told = bench.told();
    let compared: Vec<_> = told.iter().filter(|line| line.starts_with("compared")).collect();
    assert_eq!(compared.len(), 1, "{told:?}");
    assert!(compared[0].contains("\n  old: move\n  new: held: "), "{compared:?}");
}

#[tokio::test(start_paused = true)]
async fn the_policy_before_is_asked_by_its_own_metrics() {
    let mut bench = bench(Mode::Recommend, Fate::Moves, real());
    bench.run(1).await;
    bench.told();
    bench.write_policy("asks nothing");
    bench.run(1).await;
    let told = bench.told();
    assert!(told[2].contains("old: move") && told[2].contains("old: goes to b1"), "{told:?}");
}
