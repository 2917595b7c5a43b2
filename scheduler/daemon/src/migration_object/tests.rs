//! What is kept at what the loop tells, beside a cluster that may be away.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sterna_core::history::Outcome;
use sterna_core::observation::UnderWay;
use sterna_core::plan::{Move, MoveCost};
use sterna_executor::migration::phase::Phase;
use sterna_executor::migration::report::{Event, PhaseRecord};
use sterna_executor::node::client::ClientError;
use sterna_executor::platform::kubernetes::migration_object::account::Course;
use sterna_executor::platform::kubernetes::migration_object::occurrence::Occurrence;
use sterna_executor::platform::kubernetes::migration_object::resource::Migration;
use sterna_executor::platform::kubernetes::migration_object::status::CANCELLED;
use sterna_policies::policy::{Method, Mode};
use sterna_policies::quantity::{Bytes, Millis};

use super::*;
use crate::control::notice::Notice;
use crate::fixture;
use crate::history::Intent;

/// A cluster with objects in it.
#[derive(Debug, Default)]
struct Cluster {
    away: AtomicBool,
    objects: Mutex<BTreeMap<String, Migration>>,
    writings: Mutex<Vec<&'static str>>,
    told: Mutex<Vec<&'static str>>,
}

impl Cluster {
    fn one(&self) -> Option<Migration> {
        self.objects.lock().unwrap().values().next().cloned()
    }
}

/// The same, as it is reached.
struct Access(Arc<Cluster>);

impl Objects for Access {
    async fn list(&self) -> Result<Vec<Migration>, ObjectError> {
        if self.0.away.load(Ordering::SeqCst) {
            let (namespace, reason) = ("sterna".to_owned(), "refused".to_owned());
            return Err(ObjectError::Failed { verb: "list", namespace, reason });
        }
        Ok(self.0.objects.lock().unwrap().values().cloned().collect())
    }

    async fn write(&self, step: &Step) -> Result<Written, ObjectError> {
        let mut objects = self.0.objects.lock().unwrap();
        let writing = match step {
            Step::Create(object) => {
                objects.insert(object.name().to_owned(), (**object).clone());
                "create"
            }
            Step::Tell { object, status, .. } => {
                objects.get_mut(object.name()).unwrap().status = Some((**status).clone());
                "tell"
            }
            Step::Hold { name, finalizers, .. } => {
                objects.get_mut(name).unwrap().metadata.finalizers = Some(finalizers.clone());
                if finalizers.is_empty() && objects[name].is_to_go() {
                    objects.remove(name);
                }
                "hold"
            }
            Step::Remove { name, .. } => {
                objects.remove(name);
                "remove"
            }
            Step::Cancel { .. } => "cancel",
        };
        self.0.writings.lock().unwrap().push(writing);
        Ok(Written::Done)
    }

    async fn announce(&self, _: &Migration, happened: &[Occurrence], continuum: &Continuum) {
        assert_eq!(continuum.name, "fixture");
        self.0.told.lock().unwrap().extend(happened.iter().map(|one| one.reason));
    }
}

/// Agents that take the first word for no, as one that has just been started anew.
#[derive(Debug, Default)]
struct Agents(Mutex<Vec<(MigrationId, NodeName)>>);

impl Canceller for Arc<Agents> {
    async fn cancel(
        &self,
        _: &Continuum,
        id: MigrationId,
        from: &NodeName,
        why: &str,
    ) -> Result<(), FleetError> {
        assert_eq!(why, WHY);
        let mut asked = self.0.lock().unwrap();
        asked.push((id, from.clone()));
        if asked.len() == 1 {
            let (node, reason) = (from.clone(), "ask again".to_owned());
            return Err(FleetError::Agent(ClientError::Refused { node, reason }));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(5_000).unwrap()
    }
}

struct Ground {
    cluster: Arc<Cluster>,
    agents: Arc<Agents>,
    history: HistoryStore,
    heard: Arc<Heard>,
    leads: Arc<AtomicBool>,
    end: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

fn begin(history: HistoryStore, cluster: Arc<Cluster>) -> Ground {
    let (agents, heard) = (Arc::new(Agents::default()), Arc::new(Heard::default()));
    let leads = Arc::new(AtomicBool::new(true));
    let keeper = Keeper {
        objects: Access(Arc::clone(&cluster)),
        canceller: Arc::clone(&agents),
        clock: Noon,
        leads: {
            let leads = Arc::clone(&leads);
            move || leads.load(Ordering::SeqCst)
        },
        history: history.clone(),
        desk: Arc::new(Desk::new(&fixture::continuum(), &[fixture::policy(Mode::Auto)])),
        heard: Arc::clone(&heard),
        keep: 1,
    };
    let (end, ended) = oneshot::channel();
    let task = tokio::spawn(keeper.keep(ended));
    Ground { cluster, agents, history, heard, leads, end, task }
}

fn a_move() -> Move {
    Move {
        service: "shop".into(),
        from: "a1".into(),
        to: "b1".into(),
        method: Method::default(),
        wave: 0,
        parks: false,
        predicted: MoveCost::default(),
    }
}

impl Ground {
    /// As the loop orders a move.
    async fn order(&self) -> MigrationId {
        let id = MigrationId::new();
        let intent = Intent { id, decision: None, order: a_move() };
        self.history.intend(intent, Noon.now()).await.unwrap();
        self.heard.tell(&Notice::Moving(id, &a_move()));
        id
    }

    fn reaches(&self, phase: Phase) {
        let record = PhaseRecord { phase, took: Millis::ZERO, bytes: Bytes::ZERO };
        self.heard.tell(&Notice::Event(&"shop".into(), &Event::Reached(record)));
    }

    async fn ends(&self, id: MigrationId, outcome: Outcome) {
        let reason = "because".to_owned();
        self.history.settle(id, "shop".into(), outcome, reason, Noon.now()).await.unwrap();
        self.heard.tell(&Notice::NotSeen(&a_move(), "because"));
    }

    async fn until(&self, what: &str, so: impl Fn(&Cluster) -> bool) {
        for _ in 0..100 {
            if so(&self.cluster) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("not within 5 s: {what}; there is {:?}", self.cluster.objects.lock().unwrap());
    }
}

fn phase_is(phase: &'static str) -> impl Fn(&Cluster) -> bool {
    move |cluster| cluster.one().and_then(|one| one.status?.phase).as_deref() == Some(phase)
}

#[tokio::test]
async fn an_object_follows_its_migration_and_a_cluster_that_was_away_learns_of_it_later() {
    let ground = begin(HistoryStore::nothing().unwrap(), Arc::default());
    ground.cluster.away.store(true, Ordering::SeqCst);
    let id = ground.order().await;
    ground.reaches(Phase::Synced);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(ground.cluster.one(), None);
    ground.cluster.away.store(false, Ordering::SeqCst);
    ground.until("it is shown", phase_is("synced")).await;
    assert_eq!(ground.cluster.one().unwrap().id(), Some(id));
    ground.reaches(Phase::Frozen);
    ground.until("it goes on", phase_is("frozen")).await;
    ground.ends(id, Outcome::Moved).await;
    let rests = |cluster: &Cluster| cluster.one().is_some_and(|one| !one.is_held());
    ground.until("it is let go", rests).await;
    assert_eq!(ground.cluster.one().unwrap().status.unwrap().outcome.as_deref(), Some("moved"));
    let told = ground.cluster.told.lock().unwrap().clone();
    assert_eq!(told, ["MigrationStarted", "MigrationCommitted", "MigrationSucceeded"]);

    // Removed by a person, it stays away.
    ground.cluster.objects.lock().unwrap().clear();
    let next = ground.order().await;
    ground.until("the next one is shown", |cluster| cluster.one().is_some()).await;
    let ids: Vec<_> = ground.cluster.objects.lock().unwrap().values().filter_map(Migration::id).collect();
    assert_eq!(ids, [next]);
    ground.end.send(()).unwrap();
    ground.task.await.unwrap();
}

#[tokio::test]
async fn who_deletes_an_object_is_heard_within_a_moment_and_again_where_the_agent_refused() {
    let ground = begin(HistoryStore::nothing().unwrap(), Arc::default());
    let id = ground.order().await;
    ground.until("it is shown", phase_is("planned")).await;
    let now = Time(Noon.now());
    for object in ground.cluster.objects.lock().unwrap().values_mut() {
        object.metadata.deletion_timestamp = Some(now.clone());
    }
    let asked = |cluster: &Cluster| {
        cluster.one().is_some_and(|one| one.condition(CANCELLED).is_some_and(|it| it.reason == "Asked"))
    };
    ground.until("it is said that it was asked for", asked).await;
    let agents = Arc::clone(&ground.agents);
    ground.until("it is asked again", move |_| agents.0.lock().unwrap().len() > 1).await;
    assert_eq!(ground.agents.0.lock().unwrap()[0], (id, "a1".into()));
    ground.ends(id, Outcome::RolledBack).await;
    ground.until("it goes", |cluster| cluster.one().is_none()).await;
    let told = ground.cluster.told.lock().unwrap().clone();
    assert!(told.ends_with(&["MigrationUndone", "MigrationCancelled"]), "{told:?}");
}

#[tokio::test]
async fn one_that_does_not_lead_writes_nothing_and_the_next_one_cleans_up_after_it() {
    let history = HistoryStore::nothing().unwrap();
    let ground = begin(history.clone(), Arc::default());
    let id = ground.order().await;
    ground.until("it is shown", phase_is("planned")).await;
    ground.leads.store(false, Ordering::SeqCst);
    sleep(Duration::from_millis(50)).await;
    let before = ground.cluster.writings.lock().unwrap().len();
    ground.reaches(Phase::Committed);
    sleep(Duration::from_millis(1200)).await;
    assert_eq!(ground.cluster.writings.lock().unwrap().len(), before);
    ground.task.abort();

    history.settle(id, "shop".into(), Outcome::Moved, String::new(), Noon.now()).await.unwrap();
    let next = begin(history, Arc::clone(&ground.cluster));
    let rests = |cluster: &Cluster| cluster.one().is_some_and(|one| !one.is_held());
    next.until("what is stale is let go", rests).await;
    assert_eq!(next.cluster.one().unwrap().status.unwrap().outcome.as_deref(), Some("moved"));
}

#[test]
fn what_another_scheduler_has_ordered_is_not_taken_for_what_nobody_knows_while_it_runs() {
    let account = Account {
        id: MigrationId::new(),
        service: "shop".into(),
        from: "a1".into(),
        to: "b1".into(),
        policy: Some("theirs".to_owned()),
        decision: None,
        reason: None,
        predicted: MoveCost::default(),
        course: Course::UnderWay { reached: None },
        shown: false,
    };
    let object = Migration::of(&account, "fixture");
    let runs = UnderWay { service: "shop".into(), from: "a1".into(), to: "b1".into() };
    let other = UnderWay { to: "c1".into(), ..runs.clone() };
    let found = telling::of_another(account.id, &object, &[other.clone(), runs]).unwrap();
    assert_eq!(found, Account { shown: true, ..account.clone() });
    assert_eq!(telling::of_another(account.id, &object, &[other]), None);
}
