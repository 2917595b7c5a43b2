//! What fronts are told of the services on this node, and the moment that they are given before a freeze.
//!
//! Whole states are told, never changes: a front that missed something is right again with the next line. They are looked up
//! in the engine and the register when a front comes and every now and then; what a migration does is told at once, by one
//! call at each of the few places that do it. Fronts are trusted with nothing: one that does not answer is waited for once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use sterna_core::continuum::ServiceName;
use tokio::sync::{Notify, watch};

use crate::engine::docker::published;
use crate::migration::order::MigrationId;
use crate::traffic::announcement::{Announced, Announcement, Ended, Held, Standing};

/// Longest that a freeze waits for fronts.
const WAIT: Duration = Duration::from_millis(100);

/// What is told.
#[derive(Debug, Clone, Default)]
struct Told {
    services: BTreeMap<ServiceName, Announced>,
    /// What has ended for good.
    ended: BTreeMap<ServiceName, Ended>,
    /// Counts what migrations told, so that an older look does not undo it.
    version: u64,
    /// Streams are to end.
    closed: bool,
}

#[derive(Debug, Default)]
struct Listener {
    services: BTreeSet<ServiceName>,
    /// The last freeze that it is ready for.
    held: Option<(ServiceName, MigrationId)>,
    /// It let a freeze wait in vain, and has said nothing since.
    deaf: bool,
}

#[derive(Debug, Default)]
struct Listeners {
    last: u64,
    all: BTreeMap<u64, Listener>,
}

#[derive(Debug)]
struct Shared {
    told: watch::Sender<Told>,
    listeners: Mutex<Listeners>,
    answered: Notify,
    look: Notify,
}

/// What this node tells fronts.
#[derive(Debug, Clone)]
pub struct Traffic(Arc<Shared>);

impl Default for Traffic {
    fn default() -> Self {
        let (told, _) = watch::channel(Told::default());
        let shared =
            Shared { told, listeners: Mutex::default(), answered: Notify::new(), look: Notify::new() };
        Self(Arc::new(shared))
    }
}

impl Traffic {
    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut BTreeMap<ServiceName, Announced>)) {
        self.0.told.send_modify(|told| {
            told.version += 1;
            change(&mut told.services);
        });
    }

    /// A service is about to be frozen: fronts are told, and those that listen for it are waited for, but not for long.
    pub async fn about_to_freeze(&self, service: &ServiceName, migration: MigrationId) {
        self.tell(|services| {
            if let Some(one) = services.get_mut(service) {
                one.standing = Standing::Stops(migration);
            }
        });
        let ready = async {
            loop {
                let answered = self.0.answered.notified();
                if self.waited_for(service, migration).is_empty() {
                    return;
                }
                answered.await;
            }
        };
        if tokio::time::timeout(WAIT, ready).await.is_err() {
            let silent = self.waited_for(service, migration);
            tracing::warn!(%service, %migration, fronts = silent.len(), "frozen without waiting longer for fronts");
            let mut listeners = self.listeners();
            for number in silent {
                if let Some(listener) = listeners.all.get_mut(&number) {
                    listener.deaf = true;
                }
            }
        }
    }

    fn waited_for(&self, service: &ServiceName, migration: MigrationId) -> Vec<u64> {
        let waits = |one: &Listener| {
            let held = one.held.as_ref().is_some_and(|(held, by)| held == service && *by == migration);
            one.services.contains(service) && !one.deaf && !held
        };
        self.listeners().all.iter().filter(|(_, one)| waits(one)).map(|(number, _)| *number).collect()
    }

    /// A front hears, or sends nothing more to a service.
    pub fn held(&self, held: Held) {
        if let Some(listener) = self.listeners().all.get_mut(&held.listener) {
            listener.deaf = false;
            if held.freeze.is_some() {
                listener.held = held.freeze;
            }
        }
        self.0.answered.notify_waiters();
    }

    /// A service stands frozen.
    pub fn frozen(&self, service: &ServiceName) {
        self.tell(|services| {
            if let Some(one) = services.get_mut(service) {
                one.standing = Standing::Frozen;
            }
        });
    }

    /// A service that stood frozen, or was about to, goes on here.
    pub fn thawed(&self, service: &ServiceName) {
        self.tell(|services| {
            if let Some(one) = services.get_mut(service) {
                one.standing = Standing::Runs;
            }
        });
        self.look_again();
    }

    /// A service that came here at this epoch runs.
    pub fn arrived(&self, service: &ServiceName, epoch: u64, body: &serde_json::Value) {
        if let Ok(body) = serde_json::from_value::<ContainerCreateBody>(body.clone()) {
            let announced = Announced { epoch, standing: Standing::Runs, ports: ports(&body) };
            self.tell(|services| drop(services.insert(service.clone(), announced)));
            self.0.told.send_modify(|told| {
                told.ended.remove(service);
            });
        }
        self.look_again();
    }

    /// Something may have changed: the engine and the register are to be asked now.
    pub fn look_again(&self) {
        self.0.look.notify_one();
    }

    /// Done when somebody asked for that.
    pub(super) async fn asked_to_look(&self) {
        self.0.look.notified().await;
    }

    /// Whether anybody listens.
    pub(super) fn has_listeners(&self) -> bool {
        !self.listeners().all.is_empty()
    }

    /// To be taken before a look at the engine, and given to [`Traffic::seen`] with what was seen.
    pub(super) fn version(&self) -> u64 {
        self.0.told.borrow().version
    }

    /// Tells what was seen, unless a migration told more since `version`. A service of `leaving` that was about to be frozen
    /// still is. Whether it was told.
    pub(super) fn seen(
        &self,
        version: u64,
        mut services: BTreeMap<ServiceName, Announced>,
        ended: BTreeMap<ServiceName, Ended>,
        leaving: &BTreeSet<MigrationId>,
    ) -> bool {
        let mut current = true;
        self.0.told.send_if_modified(|told| {
            current = told.version == version;
            if !current {
                return false;
            }
            for (service, one) in &mut services {
                let before = told.services.get(service).map(|before| before.standing);
                if let (Standing::Runs, Some(Standing::Stops(by))) = (one.standing, before)
                    && leaving.contains(&by)
                {
                    one.standing = Standing::Stops(by);
                }
            }
            let changes = told.services != services || told.ended != ended;
            (told.services, told.ended) = (services, ended);
            changes
        });
        current
    }

    /// Ends all streams.
    pub fn close(&self) {
        self.0.told.send_modify(|told| told.closed = true);
    }

    /// Listens for these services, until the value is dropped.
    pub fn listen(&self, services: BTreeSet<ServiceName>) -> Listening {
        let mut listeners = self.listeners();
        listeners.last += 1;
        let number = listeners.last;
        listeners.all.insert(number, Listener { services: services.clone(), ..Listener::default() });
        Listening { traffic: self.clone(), number, services, told: self.0.told.subscribe(), last: None }
    }
}

/// A front that listens.
#[derive(Debug)]
pub struct Listening {
    traffic: Traffic,
    number: u64,
    services: BTreeSet<ServiceName>,
    told: watch::Receiver<Told>,
    last: Option<Announcement>,
}

impl Listening {
    /// The next thing that is told: at once for the first time, then when it changes, and again after `again` where nothing
    /// does, so that the front knows that it still hears us. `None` when nothing more comes.
    pub async fn next(&mut self, again: Duration) -> Option<Announcement> {
        loop {
            let said = {
                let told = self.told.borrow_and_update();
                if told.closed {
                    return None;
                }
                Announcement {
                    listener: self.number,
                    services: of(&told.services, &self.services),
                    ended: of(&told.ended, &self.services),
                }
            };
            if self.last.as_ref() != Some(&said) {
                self.last = Some(said.clone());
                return Some(said);
            }
            match tokio::time::timeout(again, self.told.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some(said),
            }
        }
    }
}

/// What of all that is told was asked for.
fn of<T: Clone>(
    all: &BTreeMap<ServiceName, T>,
    asked_for: &BTreeSet<ServiceName>,
) -> BTreeMap<ServiceName, T> {
    let asked = all.iter().filter(|(service, _)| asked_for.contains(service));
    asked.map(|(service, one)| (service.clone(), one.clone())).collect()
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.traffic.listeners().all.remove(&self.number);
        // A freeze need not wait for it any more.
        self.traffic.0.answered.notify_waiters();
    }
}

/// The TCP ports that a container publishes, by those within it. Ports that the engine chooses are not the same on another
/// node and can't be meant.
pub(super) fn ports(body: &ContainerCreateBody) -> BTreeMap<u16, u16> {
    let mut ports = BTreeMap::new();
    for one in published(body).filter(|one| one.protocol == "tcp") {
        if let (Ok(inner), Ok(outer @ 1..)) = (one.inner.parse(), one.outer.parse()) {
            // The first, where one is published twice.
            ports.entry(inner).or_insert(outer);
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;

    const AGAIN: Duration = Duration::from_secs(5);

    fn web() -> ServiceName {
        "web".into()
    }

    fn body() -> serde_json::Value {
        json!({ "HostConfig": { "PortBindings": { "80/tcp": [{ "HostPort": "8080" }], "53/udp": [{ "HostPort": "53" }],
            "81/tcp": [{ "HostPort": "" }] } } })
    }

    fn running() -> Traffic {
        let traffic = Traffic::default();
        traffic.arrived(&web(), 4, &body());
        traffic
    }

    fn standing(said: &Announcement) -> Option<Standing> {
        said.services.get(&web()).map(|one| one.standing)
    }

    #[tokio::test(start_paused = true)]
    async fn a_front_hears_what_it_asked_for_at_once_and_every_change() {
        let traffic = running();
        let mut front = traffic.listen(BTreeSet::from([web()]));
        let mut other = traffic.listen(BTreeSet::from(["db".into()]));
        let first = front.next(AGAIN).await.unwrap();
        assert_eq!(first.services[&web()].ports, BTreeMap::from([(80, 8080)]));
        assert_eq!((first.services[&web()].epoch, standing(&first)), (4, Some(Standing::Runs)));
        assert!(other.next(AGAIN).await.unwrap().services.is_empty());
        traffic.frozen(&web());
        assert_eq!(standing(&front.next(AGAIN).await.unwrap()), Some(Standing::Frozen));
        let begin = Instant::now();
        assert_eq!(standing(&front.next(AGAIN).await.unwrap()), Some(Standing::Frozen));
        assert_eq!(begin.elapsed(), AGAIN, "what is known is said again");
        traffic.close();
        assert_eq!(front.next(AGAIN).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_freeze_waits_for_those_that_answer_and_no_longer() {
        let (traffic, id) = (running(), MigrationId::new());
        let begin = Instant::now();
        traffic.about_to_freeze(&web(), id).await;
        assert_eq!(begin.elapsed(), Duration::ZERO, "nobody listens");
        let mut front = traffic.listen(BTreeSet::from([web()]));
        let _other = traffic.listen(BTreeSet::from(["db".into()]));
        let id = MigrationId::new();
        let answers = tokio::spawn({
            let traffic = traffic.clone();
            async move {
                loop {
                    let said = front.next(AGAIN).await.unwrap();
                    if standing(&said) == Some(Standing::Stops(id)) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        let held = Held { listener: said.listener, freeze: Some((web(), id)) };
                        traffic.held(held);
                        return front;
                    }
                }
            }
        });
        let begin = Instant::now();
        traffic.about_to_freeze(&web(), id).await;
        assert_eq!(begin.elapsed(), Duration::from_millis(20));
        drop(answers.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_front_that_does_not_answer_is_waited_for_once() {
        let traffic = running();
        let front = traffic.listen(BTreeSet::from([web()]));
        for wait in [WAIT, Duration::ZERO] {
            let begin = Instant::now();
            traffic.about_to_freeze(&web(), MigrationId::new()).await;
            assert_eq!(begin.elapsed(), wait);
            traffic.thawed(&web());
        }
        let held = |listener| Held { listener, freeze: None };
        traffic.held(held(front.number));
        traffic.held(held(77));
        let begin = Instant::now();
        traffic.about_to_freeze(&web(), MigrationId::new()).await;
        assert_eq!(begin.elapsed(), WAIT, "it says that it hears again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_front_that_goes_is_not_waited_for() {
        let traffic = running();
        let front = traffic.listen(BTreeSet::from([web()]));
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(front);
        });
        let begin = Instant::now();
        traffic.about_to_freeze(&web(), MigrationId::new()).await;
        assert_eq!(begin.elapsed(), Duration::from_millis(10));
    }

    #[test]
    fn a_look_does_not_undo_what_was_told_meanwhile() {
        let (traffic, id) = (running(), MigrationId::new());
        let seen = traffic.0.told.borrow().services.clone();
        let version = traffic.version();
        traffic.frozen(&web());
        assert!(!traffic.seen(version, seen.clone(), BTreeMap::new(), &BTreeSet::new()));
        assert_eq!(traffic.0.told.borrow().services[&web()].standing, Standing::Frozen);
        // About to be frozen it still runs, for the engine.
        traffic.tell(|services| services.get_mut(&web()).unwrap().standing = Standing::Stops(id));
        assert!(traffic.seen(traffic.version(), seen.clone(), BTreeMap::new(), &BTreeSet::from([id])));
        assert_eq!(traffic.0.told.borrow().services[&web()].standing, Standing::Stops(id));
        let none = BTreeSet::new();
        assert!(traffic.seen(traffic.version(), seen, BTreeMap::new(), &none), "the migration has ended");
        assert_eq!(traffic.0.told.borrow().services[&web()].standing, Standing::Runs);
        assert!(traffic.seen(traffic.version(), BTreeMap::new(), BTreeMap::new(), &none));
        assert!(traffic.0.told.borrow().services.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_front_hears_the_end_of_what_it_asked_for_and_of_nothing_else() {
        let traffic = running();
        let mut front = traffic.listen(BTreeSet::from([web()]));
        let mut other = traffic.listen(BTreeSet::from(["db".into()]));
        assert!(front.next(AGAIN).await.unwrap().ended.is_empty());
        let end = Ended { epoch: 4, code: 3 };
        let ends = BTreeMap::from([(web(), end)]);
        assert!(traffic.seen(traffic.version(), BTreeMap::new(), ends, &BTreeSet::new()));
        let said = front.next(AGAIN).await.unwrap();
        assert_eq!((said.services.len(), said.ended), (0, BTreeMap::from([(web(), end)])));
        assert!(other.next(AGAIN).await.unwrap().ended.is_empty());
        traffic.arrived(&web(), 6, &body());
        assert!(front.next(AGAIN).await.unwrap().ended.is_empty(), "it runs again");
    }
}
