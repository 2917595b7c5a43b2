//! The loop with a fake world, a fake store and paused time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sterna_core::plan::{Move, Plan};
use sterna_core::report::Hold;
use sterna_executor::fleet::Fenced;
use sterna_executor::migration::order::Order;
use sterna_executor::migration::phase::Phase;
use sterna_executor::migration::pod_end::PodEnd;
use sterna_executor::migration::promotion::{Candidate, Told};
use sterna_executor::migration::register::Decision as Decided;
use sterna_executor::migration::report::{self, Event, PhaseRecord};
use sterna_executor::node::api::Standing;
use sterna_executor::node::client::ClientError;
use sterna_policies::diagnose::Findings;
use sterna_policies::policy::Metric;
use sterna_policies::quantity::{Bytes, Millis};

mod applying;
mod approving;
mod carrying;
mod ending;
mod recalling;
mod reloading;
mod several;
mod trailing;
mod unsettled;

use super::stop::{Stopper, stop};
use super::world::Mover;
use super::*;
use crate::fixture;
use crate::history::Intent;
use crate::observe::store::{Answer, Row, StoreError};

/// What happens to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Moves,
    RollsBack,
    Refused,
    Silent,
    LosesSight,
    /// Nothing is heard of it.
    Hangs,
    /// It is committed, and nothing is heard of it then.
    IsNotDelivered,
}

#[derive(Debug)]
struct Place {
    view: Mutex<FleetView>,
    fate: Mutex<Fate>,
    orders: Mutex<Vec<Order>>,
    takes: Duration,
    looks: AtomicUsize,
    /// Whether it can't be looked at.
    dark: AtomicBool,
    remembered: Mutex<Vec<Standing>>,
    /// Whether agents do not say what they remember.
    deaf: AtomicBool,
    carried: Mutex<Vec<MigrationId>>,
    introduced: AtomicUsize,
    /// Whether no agent's address is known.
    unlisted: AtomicBool,
    ends: Mutex<Vec<PodEnd>>,
    told: Mutex<Told>,
    promoted: Mutex<Vec<MigrationId>>,
}

#[derive(Debug, Clone)]
struct FakeWorld(Arc<Place>);

impl World for FakeWorld {
    type Mover = Self;
    async fn look(&self, _: &Continuum) -> Result<(FleetView, Self), FleetError> {
        self.0.looks.fetch_add(1, Ordering::SeqCst);
        if self.0.dark.load(Ordering::SeqCst) {
            return Err(FleetError::UnknownNode { node: "a1".into(), reason: None });
        }
        Ok((self.0.view.lock().unwrap().clone(), self.clone()))
    }

    fn ends(&self) -> Vec<PodEnd> {
        self.0.ends.lock().unwrap().clone()
    }

    async fn told(&self, _: &Continuum, _: &Self, _: &[PodEnd]) -> Told {
        self.0.told.lock().unwrap().clone()
    }
}

impl Mover for FakeWorld {
    async fn standings(&self, node: &NodeName) -> Result<Vec<Standing>, FleetError> {
        if self.0.deaf.load(Ordering::SeqCst) {
            let (node, address, reason) = (node.clone(), "x".to_owned(), "timeout".to_owned());
            return Err(FleetError::Agent(ClientError::Silent { node, address, reason, passes: true }));
        }
        let remembered = self.0.remembered.lock().unwrap();
        Ok(remembered.iter().filter(|one| one.order.from == *node).cloned().collect())
    }

    async fn introduce(&self, _: &[NodeName]) {
        self.0.introduced.fetch_add(1, Ordering::SeqCst);
    }

    async fn carry_certificate(&self, id: MigrationId, _: &NodeName, _: &NodeName) {
        self.0.carried.lock().unwrap().push(id);
    }

    async fn promote(&self, candidate: &Candidate) -> Result<Fenced, FleetError> {
        let order = &candidate.arriving.order;
        self.0.promoted.lock().unwrap().push(order.id);
        *self.0.told.lock().unwrap() = Told::default();
        self.0.view.lock().unwrap().placement.insert(order.service.clone(), candidate.holder.clone());
        Ok(Fenced::Runs)
    }

    fn address(&self, node: &NodeName) -> Result<String, FleetError> {
        if self.0.unlisted.load(Ordering::SeqCst) {
            return Err(FleetError::UnknownNode { node: node.clone(), reason: None });
        }
        Ok(format!("{node}:7420"))
    }

    async fn migrate(
        &self,
        order: &Order,
        on_event: &mut (dyn FnMut(&Event) + Send),
    ) -> Result<report::Report, FleetError> {
        self.0.orders.lock().unwrap().push(order.clone());
        let synced = PhaseRecord { phase: Phase::Synced, took: Millis::ZERO, bytes: Bytes::from_mib(3) };
        on_event(&Event::Reached(synced));
        tokio::time::sleep(self.0.takes).await;
        let fate = *self.0.fate.lock().unwrap();
        let outcome = match fate {
            Fate::Moves => report::Outcome::Moved,
            Fate::RollsBack => {
                report::Outcome::RolledBack { after: Phase::Dumped, reason: "the link broke".to_owned() }
            }
            Fate::Refused => {
                let (node, reason) = (order.from.clone(), "busy".to_owned());
                return Err(FleetError::Agent(ClientError::Refused { node, reason }));
            }
            Fate::Silent => {
                let (node, address) = (order.from.clone(), "x".to_owned());
                let reason = "timeout".to_owned();
                return Err(FleetError::Agent(ClientError::Silent { node, address, reason, passes: true }));
            }
            Fate::LosesSight => {
                return Err(FleetError::LostSight { id: order.id, reason: "reset".to_owned() });
            }
            Fate::Hangs => std::future::pending().await,
            Fate::IsNotDelivered => {
                on_event(&Event::Reached(PhaseRecord { phase: Phase::Committed, ..synced }));
                std::future::pending().await
            }
        };
        if fate == Fate::Moves {
            let mut view = self.0.view.lock().unwrap();
            view.placement.insert(order.service.clone(), order.to.clone());
        }
        Ok(report::Report {
            id: order.id,
            service: order.service.clone(),
            from: order.from.clone(),
            to: order.to.clone(),
            outcome,
            phases: vec![synced],
            downtime: (fate == Fate::Moves).then_some(Millis::from_micros(350_000_000)),
            frozen_in_vain: Millis::ZERO,
            undone: vec![],
            load: None,
            forecast: None,
            started_anew: None,
        })
    }
}

/// A store with a latency per site, fresh; or a dead one.
#[derive(Debug, Default)]
struct FakeStore {
    dead: AtomicBool,
}

impl MetricStore for &'static FakeStore {
    async fn now(&self) -> Result<Timestamp, StoreError> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(StoreError::Unreachable { url: "http://p".to_owned(), reason: "refused".to_owned() });
        }
        Ok(Timestamp::from_second(5_000).unwrap())
    }

    async fn instant(&self, query: &str, at: Timestamp, _: Millis) -> Result<Answer, StoreError> {
        let value = |seconds: f64| if query.starts_with("timestamp") { 4_999.0 } else { seconds };
        let row = |site: &str, seconds| Row {
            labels: [("site", site), ("users", "north")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            value: Some(value(seconds)),
            at,
        };
        Ok(Answer { rows: vec![row("a", 0.080), row("b", 0.010), row("cloud", 0.070)] })
    }
}

/// Time as the paused runtime has it.
#[derive(Debug, Clone, Copy)]
struct RuntimeClock(Instant);

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(10_000).unwrap() + self.0.elapsed()
    }
}

struct Bench {
    scheduler: Scheduler<&'static FakeStore, FakeWorld, RuntimeClock>,
    place: Arc<Place>,
    store: &'static FakeStore,
    stopper: Stopper,
    stop: Stop,
    told: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
}

fn bench(mode: Mode, fate: Fate, engine: Engine) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let place = Arc::new(Place {
        view: Mutex::new(fixture::view()),
        fate: Mutex::new(fate),
        orders: Mutex::default(),
        takes: Duration::from_secs(3),
        looks: AtomicUsize::new(0),
        dark: AtomicBool::new(false),
        remembered: Mutex::default(),
        deaf: AtomicBool::new(false),
        carried: Mutex::default(),
        introduced: AtomicUsize::new(0),
        unlisted: AtomicBool::new(false),
        ends: Mutex::default(),
        told: Mutex::default(),
        promoted: Mutex::default(),
    });
    let policy_file = folder.path().join("policy");
    let inventory_file = folder.path().join("inventory");
    std::fs::write(&policy_file, "good").unwrap();
    std::fs::write(&inventory_file, "good").unwrap();
    let policies = Governing::open(&[policy_file], &fixture::continuum(), move |name, text| {
        let mut findings = Findings::new(name, text);
        if text == "bad" {
            findings.error("P0000", 0..1, "bad");
        }
        let mut policy = fixture::policy(if text == "off" { Mode::Off } else { mode });
        if text == "picky" {
            policy.hysteresis.min_gain = "95%".parse().unwrap();
        }
        if text == "fragile" {
            let breaker = &mut policy.breaker;
            (breaker.failures, breaker.pause) = (2, "5m".parse().unwrap());
        }
        if text == "asks nothing" {
            policy.metrics.clear();
        }
        if text == "closed from 02:47" {
            policy.windows.push(fixture::closed("47 2 * * *"));
        }
        findings.finish(policy)
    });
    let inventory = Watched::open(&inventory_file, |name, text| {
        let mut continuum = fixture::continuum();
        match text {
            "good" => {}
            "drained" => continuum.nodes.values_mut().nth(1).unwrap().drain = true,
            name => name.clone_into(&mut continuum.name),
        }
        Findings::new(name, text).finish(continuum)
    });
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let ears = Arc::clone(&told);
    let store: &'static FakeStore = Box::leak(Box::default());
    let (stopper, stop) = stop();
    let scheduler = Scheduler {
        store,
        world: FakeWorld(Arc::clone(&place)),
        clock: RuntimeClock(Instant::now()),
        engine,
        files: Files { policies: policies.unwrap().0, inventory: inventory.unwrap().0 },
        history: HistoryStore::open(&folder.path().join("state")).unwrap(),
        telemetry: Arc::new(Telemetry::new()),
        recall: Recall::default(),
        endings: Endings::default(),
        rounds: Rounds::default(),
        desk: Arc::new(Desk::new(&fixture::continuum(), &[fixture::policy(mode)])),
        tell: Box::new(move |notice| ears.lock().unwrap().push(line(notice))),
    };
    Bench { scheduler, place, store, stopper, stop, told, folder }
}

fn line(notice: &Notice<'_>) -> String {
    match notice {
        Notice::Reloaded(file, _, differences) => {
            let differs: Vec<_> = differences.iter().map(ToString::to_string).collect();
            format!("reloaded {}: {}", file.name(), differs.join("; "))
        }
        Notice::ReloadRefused(file, refused) => format!("refused {}: {}", file.name(), refused.error),
        Notice::Compared(_, decisions) => format!("compared: {decisions}"),
        Notice::Decided(one) => {
            let what = headline(one.decision, &[]);
            let news = if one.news { " (news)" } else { "" };
            let acted = if one.acted_on { " (acting)" } else { "" };
            format!("{what}{news}{acted}")
        }
        Notice::Breaker(circuit) => format!("breaker {}", if circuit.is_some() { "open" } else { "closed" }),
        Notice::Moving(_, planned) => format!("moving {}", planned.service),
        Notice::Event(service, _) => format!("event of {service}"),
        Notice::Ended(planned, report) => format!("ended {}: {:?}", planned.service, report.past_outcome()),
        Notice::NotSeen(planned, reason) => format!("not seen {}: {reason}", planned.service),
        Notice::Settled(line) => format!("settled {}", line.split(": ").last().unwrap_or_default()),
        Notice::Failed(_, error) => format!("failed: {error}"),
        Notice::PutUp(number, plan, _) => format!("put up {number}: {} moves", plan.moves.len()),
        Notice::Approval(number, step, note) => format!("approval {number} {}: {note}", step.name()),
        Notice::LeftToAgents(services) => format!("left {services:?}"),
    }
}

impl Bench {
    async fn run(&mut self, cycles: u64) {
        assert_eq!(self.scheduler.run(&self.stop, Some(cycles)).await, cycles);
    }
    fn orders(&self) -> usize {
        self.place.orders.lock().unwrap().len()
    }
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
    async fn last_decision(&self) -> Recorded {
        let history = &self.scheduler.history;
        let newest = history.newest_decision().await.unwrap().unwrap();
        history.decision(newest).await.unwrap().unwrap()
    }
}

fn real() -> Engine {
    Engine::new(7, Costs::default())
}

/// Always wants these moves, whatever is seen.
fn wanting(moves: Vec<Move>) -> Engine {
    let decide = move |seen: &Observation, policy: &Policy, history: &History, now: Timestamp, seed: u64| {
        let mut decision = sterna_core::decide(seen, policy, history, now, seed);
        decision.plan = Plan { moves: moves.clone(), ..Plan::default() };
        decision.report.verdict = Verdict::Move;
        decision
    };
    Engine { decide: Arc::new(decide), seed: 0, costs: Costs::default() }
}

fn shop_to(node: &str, wave: u32) -> Move {
    let (service, from, to) = ("shop".into(), "a1".into(), node.into());
    Move { service, from, to, method: Default::default(), wave, parks: false, predicted: Default::default() }
}

#[tokio::test(start_paused = true)]
async fn auto_moves_exactly_once_and_remembers_it() {
    let mut bench = bench(Mode::Auto, Fate::Moves, real());
    bench.run(3).await;
    assert_eq!(bench.orders(), 1);
    let order = bench.place.orders.lock().unwrap()[0].clone();
    assert_eq!((order.from, order.to, order.to_address), ("a1".into(), "b1".into(), "b1:7420".to_owned()));
    assert_eq!(
        bench.told(),
        [
            "move; shop a1 b1 (news) (acting)",
            "moving shop",
            "event of shop",
            "ended shop: Moved",
            "stay (news)",
            "stay"
        ]
    );
    let recorded = bench.last_decision().await;
    let past = recorded.history.last(&"shop".into()).unwrap();
    assert_eq!((past.outcome, past.bytes), (Outcome::Moved, Bytes::from_mib(3)));
    // What was recorded is all that went in: the engine decides the same from it.
    assert_eq!(recorded.replay(), recorded.decision);
    assert!(bench.scheduler.history.open_intents().await.unwrap().is_empty());
    assert_eq!(bench.scheduler.telemetry.ready(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn other_modes_move_nothing() {
    for (mode, verdict) in [
        (Mode::Off, "held policy-off (news)"),
        (Mode::Observe, "move; shop a1 b1 (news)"),
        (Mode::Recommend, "move; shop a1 b1 (news)"),
    ] {
        let mut bench = bench(mode, Fate::Moves, real());
        bench.run(2).await;
        assert_eq!(bench.orders(), 0, "{mode:?}");
        assert_eq!(bench.told()[0], verdict);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_migration_cools_down_before_the_next_try() {
    let mut bench = bench(Mode::Auto, Fate::RollsBack, real());
    bench.run(2).await;
    assert_eq!(bench.orders(), 1);
    let Verdict::Held { by } = bench.last_decision().await.decision.report.verdict else {
        panic!("not held")
    };
    assert!(matches!(by.as_slice(), [Hold::Cooldown { .. }]), "{by:?}");
    // The cooldown is 60 s, a cycle 15 s: the sixth look may try again.
    *bench.place.fate.lock().unwrap() = Fate::Moves;
    bench.run(5).await;
    assert_eq!(bench.orders(), 2);
    assert_eq!(bench.place.view.lock().unwrap().placement[&"shop".into()], "b1".into());
}

#[tokio::test(start_paused = true)]
async fn the_circuit_breaker_is_told_when_it_opens_and_when_it_closes() {
    let mut bench = bench(Mode::Auto, Fate::RollsBack, real());
    std::fs::write(bench.folder.path().join("policy"), "fragile").unwrap();
    // Each failure cools down for a minute, the second opens it for five, and a look is every 15 s.
    bench.run(35).await;
    let told = bench.told();
    let breaker: Vec<_> = told.iter().filter(|line| line.starts_with("breaker")).collect();
    assert_eq!(breaker[..2], ["breaker open", "breaker closed"]);
    let opened = told.iter().position(|line| line == "breaker open").unwrap();
    let failed = told[..opened].iter().filter(|line| line.starts_with("ended shop: RolledBack")).count();
    assert_eq!(failed, 2, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_not_taken_cools_down_too() {
    let mut bench = bench(Mode::Auto, Fate::Refused, real());
    bench.run(3).await;
    assert_eq!(bench.orders(), 1);
    let past = bench.scheduler.history.for_decision(jiff::Timestamp::MAX).await.unwrap();
    assert_eq!(past.last(&"shop".into()).unwrap().outcome, Outcome::Refused);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_fell_on_silence_may_have_been_taken() {
    let mut bench = bench(Mode::Auto, Fate::Silent, real());
    bench.run(1).await;
    assert_eq!(bench.scheduler.history.open_intents().await.unwrap().len(), 1);
    // The agents say that it stayed: undone, and not tried again at once.
    bench.run(2).await;
    assert_eq!(bench.orders(), 1);
    let past = bench.scheduler.history.for_decision(jiff::Timestamp::MAX).await.unwrap();
    assert_eq!(past.last(&"shop".into()).unwrap().outcome, Outcome::RolledBack);
}

#[tokio::test(start_paused = true)]
async fn a_dead_metrics_store_moves_nothing_and_says_why() {
    let mut bench = bench(Mode::Auto, Fate::Moves, real());
    bench.store.dead.store(true, Ordering::SeqCst);
    bench.run(2).await;
    assert_eq!(bench.orders(), 0);
    let decision = bench.last_decision().await.decision;
    let Verdict::Held { by } = &decision.report.verdict else { panic!("{:?}", decision.report.verdict) };
    assert_eq!(by.as_slice(), [Hold::MetricsMissing { metric: Metric::UserLatency }]);
    assert!(decision.report.unknown[0].reason.contains("http://p can't be reached"));
    // It comes back, and the loop goes on by itself.
    bench.store.dead.store(false, Ordering::SeqCst);
    bench.run(1).await;
    assert_eq!(bench.orders(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_sight_of_is_settled_by_what_the_agents_say() {
    let mut bench = bench(Mode::Auto, Fate::LosesSight, real());
    bench.run(1).await;
    assert_eq!(bench.scheduler.history.open_intents().await.unwrap().len(), 1);
    // While an end does not answer, nothing is concluded and the service is not moved again.
    bench.place.view.lock().unwrap().reachable.retain(|node| *node != "b1".into());
    bench.run(1).await;
    assert_eq!(bench.orders(), 1);
    let Verdict::Held { by } = bench.last_decision().await.decision.report.verdict else {
        panic!("not held")
    };
    assert_eq!(by, [Hold::UnderWay]);
    bench.place.view.lock().unwrap().reachable.push("b1".into());
    bench.place.view.lock().unwrap().placement.insert("shop".into(), "b1".into());
    bench.told();
    bench.run(1).await;
    assert_eq!(bench.told()[0], "settled its end was not seen; the service arrived");
    let past = bench.scheduler.history.for_decision(jiff::Timestamp::MAX).await.unwrap();
    assert_eq!(past.last_arrival(&"shop".into()).unwrap().to, "b1".into());
}

#[tokio::test(start_paused = true)]
async fn cycles_keep_the_policy_s_interval_and_end_in_mid_sleep_when_asked() {
    let mut bench = bench(Mode::Observe, Fate::Moves, real());
    let (stopper, stop) = (bench.stopper.clone(), bench.stop.clone());
    let began = Instant::now();
    let asks = async {
        tokio::time::sleep(Duration::from_secs(40)).await;
        stopper.ask();
    };
    let (cycles, ()) = tokio::join!(bench.scheduler.run(&stop, None), asks);
    assert_eq!((cycles, began.elapsed().as_secs()), (3, 40));
    assert_eq!(bench.place.looks.load(Ordering::SeqCst), 3);
}
