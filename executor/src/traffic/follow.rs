//! Listening to the agents, for ever, and answering them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use sterna_core::continuum::{NodeName, ServiceName};
use tokio::sync::watch;

use crate::identity::Credentials;
use crate::migration::order::MigrationId;
use crate::node::client::AgentClient;
use crate::platform::addresses::Remembered;

use super::announcement::{Announcement, Held, Standing};
use super::gate::{Gate, Phase};
use super::place::{End, Owned, Stand, Views};
use super::roster::Roster;

/// An agent says something every five seconds; one that is silent for longer is not heard any more.
const SILENCE: Duration = Duration::from_secs(15);
/// First pause between two tries to reach an agent; doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// Time for an agent to take our word. It does not wait for it longer than a tenth of a second.
const TO_ANSWER: Duration = Duration::from_secs(1);

fn silent() -> String {
    format!("it said nothing for {} s", SILENCE.as_secs())
}

/// What an agent says, from where.
pub struct Heard {
    /// The host on which its services' ports are published.
    pub host: IpAddr,
    /// All that it says, as it comes.
    pub said: BoxStream<'static, Result<Announcement, String>>,
}

/// One who says where services of a node are.
pub trait Announcer: Send + Sync + 'static {
    /// The node.
    fn node(&self) -> &NodeName;
    /// Begins to listen.
    fn listen(&self, services: &[ServiceName]) -> impl Future<Output = Result<Heard, String>> + Send;
    /// Says that we hear, or that nothing more is sent.
    fn held(&self, held: &Held) -> impl Future<Output = Result<(), String>> + Send;
}

/// The services of a front, and what is known of each.
#[derive(Debug)]
pub struct Desk {
    services: BTreeMap<ServiceName, Fronted>,
    /// Time for what is under way to end.
    drain: Duration,
    /// The agents that were heard, of nodes that there still are.
    heard: Mutex<BTreeSet<NodeName>>,
    /// Whether any agent was ever heard.
    ever: AtomicBool,
    /// What is believed of each service.
    believed: watch::Sender<BTreeMap<ServiceName, Believed>>,
}

/// What is believed of a service, of all that agents said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Believed {
    /// Who has it.
    pub owned: Option<Owned>,
    /// Where it has ended for good, if it has.
    pub ended: Option<End>,
}

#[derive(Debug)]
struct Fronted {
    /// One before each port that clients are served on.
    gates: BTreeMap<u16, Arc<Gate>>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    views: Views,
    believed: Believed,
    stands: BTreeMap<u16, Stand>,
    /// The last freeze that an agent was, or will be, answered to, and on which of its streams.
    answered: BTreeMap<NodeName, (u64, MigrationId)>,
}

/// Something that an agent waits to hear.
struct Owed {
    service: ServiceName,
    migration: MigrationId,
    /// What is waited for: the gates before its ports, and what passes them meanwhile.
    closing: Vec<(Arc<Gate>, Phase)>,
}

impl Desk {
    /// For these services, each with the gates before the ports of its container. There may be none: then there is nothing
    /// that a freeze would have to wait for.
    pub fn new(
        services: impl IntoIterator<Item = (ServiceName, BTreeMap<u16, Arc<Gate>>)>,
        drain: Duration,
    ) -> Arc<Self> {
        let fronted = |(service, gates)| (service, Fronted { gates, known: Mutex::default() });
        let services: BTreeMap<ServiceName, Fronted> = services.into_iter().map(fronted).collect();
        let believed = services.keys().map(|service| (service.clone(), Believed::default())).collect();
        let believed = watch::Sender::new(believed);
        Arc::new(Self { services, drain, heard: Mutex::default(), ever: AtomicBool::new(false), believed })
    }

    /// Whether an agent was heard. What it said holds though it should be silent since.
    pub fn has_heard(&self) -> bool {
        self.ever.load(Ordering::Relaxed)
    }

    /// Whether each of these agents was heard.
    pub fn has_heard_all<'n>(&self, mut nodes: impl Iterator<Item = &'n NodeName>) -> bool {
        let heard = self.heard();
        nodes.all(|node| heard.contains(node))
    }

    /// Whether anybody ever said that it has a service.
    pub fn has_had(&self, service: &ServiceName) -> bool {
        let known =
            |fronted: &Fronted| fronted.known.lock().unwrap_or_else(PoisonError::into_inner).views.ever();
        self.services.get(service).is_some_and(known)
    }

    fn heard(&self) -> MutexGuard<'_, BTreeSet<NodeName>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is believed of each service, as it changes.
    pub fn believed(&self) -> watch::Receiver<BTreeMap<ServiceName, Believed>> {
        self.believed.subscribe()
    }

    /// The front is about to end: connections of clients are closed between two requests.
    pub fn end(&self) {
        for gate in self.services.values().flat_map(|fronted| fronted.gates.values()) {
            gate.end();
        }
    }

    /// Takes in all that an agent says. What it waits to hear of us.
    fn told(&self, node: &NodeName, host: IpAddr, said: &Announcement) -> Vec<Owed> {
        self.ever.store(true, Ordering::Relaxed);
        let mut owed = Vec::new();
        for (service, fronted) in &self.services {
            let one = said.services.get(service);
            let known = self.change(service, |views| {
                views.told(node, host, one.cloned());
                views.told_end(node, said.ended.get(service).copied());
            });
            let Some(mut known) = known else { continue };
            let Some(Standing::Stops(migration)) = one.map(|one| one.standing) else { continue };
            let answer = Some((said.listener, migration));
            // It says the same again every few seconds.
            if known.answered.insert(node.clone(), (said.listener, migration)) != answer {
                owed.push(Owed {
                    service: service.clone(),
                    migration,
                    closing: fronted.closing(&known, migration),
                });
            }
        }
        // Last: whoever sees that it was heard must see what it said too.
        if self.heard().insert(node.clone()) {
            self.believed.send_modify(|_| {});
        }
        owed
    }

    /// An agent can't be heard any more. Nobody waits for an answer from a place that nothing is heard of.
    pub(super) fn lost(&self, node: &NodeName) {
        for service in self.services.keys() {
            drop(self.change(service, |views| views.lost(node)));
        }
    }

    /// A node is none any more, or somewhere else: what its agent said is forgotten.
    pub(super) fn gone(&self, node: &NodeName) {
        self.heard().remove(node);
        for service in self.services.keys() {
            drop(self.change(service, |views| views.gone(node)));
        }
    }

    /// Changes what is known of a service, and what passes its gates.
    fn change(
        &self,
        service: &ServiceName,
        change: impl FnOnce(&mut Views),
    ) -> Option<MutexGuard<'_, Known>> {
        let fronted = self.services.get(service)?;
        let mut known = fronted.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known.views);
        let believed = Believed { owned: known.views.owned(), ended: known.views.ended() };
        if believed == known.believed {
            return Some(known);
        }
        tracing::info!(%service, stand = words(&believed), "a service");
        let owned = &believed.owned;
        for (port, gate) in &fronted.gates {
            let stand = Stand::of(owned.as_ref(), *port);
            if known.stands.get(port) == Some(&stand) {
                continue;
            }
            match &stand {
                Stand::Serving(place) => gate.set(Phase::Open(Arc::new(place.clone()))),
                Stand::Nowhere => gate.set(Phase::Shut),
                Stand::Stopping(place, _) => {
                    gate.set(Phase::Closing(Arc::new(place.clone())));
                    gate.meters().moves.inc();
                }
            }
            known.stands.insert(*port, stand);
        }
        known.believed.clone_from(&believed);
        self.believed.send_modify(|all| drop(all.insert(service.clone(), believed)));
        Some(known)
    }

    /// Follows one agent, for ever.
    pub async fn follow(self: Arc<Self>, announcer: impl Announcer) {
        let announcer = Arc::new(announcer);
        let services: Vec<ServiceName> = self.services.keys().cloned().collect();
        let node = announcer.node().clone();
        let mut pause = FIRST_PAUSE;
        let mut last = String::new();
        loop {
            let listening = tokio::time::timeout(SILENCE, announcer.listen(&services)).await;
            let why = match listening.unwrap_or_else(|_| Err(silent())) {
                Ok(mut heard) => loop {
                    match tokio::time::timeout(SILENCE, heard.said.next()).await {
                        Ok(Some(Ok(said))) => {
                            if pause != FIRST_PAUSE || last.is_empty() {
                                tracing::info!(%node, "listening");
                            }
                            (pause, last) = (FIRST_PAUSE, "listening".to_owned());
                            let owed = self.told(&node, heard.host, &said);
                            if owed.is_empty() {
                                tokio::spawn(hears(Arc::clone(&announcer), said.listener));
                            }
                            for owed in owed {
                                tokio::spawn(answer(Arc::clone(&announcer), owed, said.listener, self.drain));
                            }
                        }
                        Ok(Some(Err(why))) => break why,
                        Ok(None) => break "it ended the connection".to_owned(),
                        Err(_) => break silent(),
                    }
                },
                Err(why) => why,
            };
            self.lost(&node);
            if why != last {
                tracing::warn!(%node, why, "an agent can't be heard; what it said last holds until another says more");
                last = why;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

impl Fronted {
    /// The gates that are closing for this migration.
    fn closing(&self, known: &Known, migration: MigrationId) -> Vec<(Arc<Gate>, Phase)> {
        let closing = |(port, gate): (&u16, &Arc<Gate>)| match known.stands.get(port)? {
            Stand::Stopping(place, by) if *by == migration => {
                Some((Arc::clone(gate), Phase::Closing(Arc::new(place.clone()))))
            }
            _ => None,
        };
        self.gates.iter().filter_map(closing).collect()
    }
}

fn words(believed: &Believed) -> String {
    if let Some(End { node, ended }) = &believed.ended {
        return format!("has ended on {node} with code {}, epoch {}", ended.code, ended.epoch);
    }
    let Some(Owned { node, host, announced }) = &believed.owned else {
        return "is nowhere, as far as agents say".to_owned();
    };
    let ports: Vec<String> =
        announced.ports.iter().map(|(inner, outer)| format!("{inner} at {outer}")).collect();
    let (epoch, ports) =
        (announced.epoch, if ports.is_empty() { "none".to_owned() } else { ports.join(", ") });
    match announced.standing {
        Standing::Runs => format!("runs on {node} at {host}, epoch {epoch}, ports: {ports}"),
        Standing::Stops(_) => format!("is about to be frozen on {node}"),
        Standing::Frozen => format!("stands frozen on {node}"),
    }
}

/// Tells an agent when nothing more is sent to a service, or the time for that is over.
async fn answer<A: Announcer>(announcer: Arc<A>, owed: Owed, listener: u64, drain: Duration) {
    let Owed { service, migration, closing } = owed;
    let quiet = join_all(closing.iter().map(|(gate, phase)| async move {
        let quiet = gate.quiet(drain).await;
        if !quiet {
            gate.meters().cut.inc();
        }
        gate.set_after(phase, Phase::Shut);
        quiet
    }));
    if quiet.await.contains(&false) {
        tracing::info!(%service, %migration, "something is still under way, and can't be waited for");
    }
    let held = Held { listener, freeze: Some((service, migration)) };
    match tokio::time::timeout(TO_ANSWER, announcer.held(&held)).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tracing::debug!(node = %announcer.node(), why, "could not say that all is held"),
        Err(_) => tracing::debug!(node = %announcer.node(), "could not say in time that all is held"),
    }
}

/// Tells an agent that it is heard. So there is a connection to it when there is no time to make one.
async fn hears<A: Announcer>(announcer: Arc<A>, listener: u64) {
    let hears = Held { listener, freeze: None };
    if !matches!(tokio::time::timeout(TO_ANSWER, announcer.held(&hears)).await, Ok(Ok(()))) {
        tracing::debug!(node = %announcer.node(), "could not say that it is heard");
    }
}

/// The agent of a node, by its API. Its address is looked up each time anew: a node may have been made again.
#[derive(Debug)]
pub struct Agent {
    node: NodeName,
    roster: Arc<Roster>,
    credentials: Credentials,
    remembered: Remembered,
    /// The last connection, kept for what is said back.
    client: Mutex<Option<AgentClient>>,
}

impl Agent {
    /// Of a node of those that there are.
    pub fn new(node: NodeName, roster: Arc<Roster>, credentials: Credentials) -> Self {
        Self { node, roster, credentials, remembered: Remembered::default(), client: Mutex::default() }
    }

    async fn address(&self) -> Result<String, String> {
        self.roster.address(&self.node, &self.remembered).await
    }
}

impl Announcer for Agent {
    fn node(&self) -> &NodeName {
        &self.node
    }

    async fn listen(&self, services: &[ServiceName]) -> Result<Heard, String> {
        let client = AgentClient::new(&self.credentials, &self.node, &self.address().await?).await;
        let client = client.map_err(|error| error.to_string())?;
        let host = client.resolved().ip();
        let said = client.traffic(services).await.map_err(|error| error.to_string())?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client);
        Ok(Heard { host, said: said.map(|one| one.map_err(|error| error.to_string())).boxed() })
    }

    async fn held(&self, held: &Held) -> Result<(), String> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let client = client.ok_or_else(|| "the agent is not listened to".to_owned())?;
        client.held(held).await.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::sync::mpsc;

    use super::*;
    use crate::traffic::announcement::Announced;
    use crate::traffic::gate::GateLimits;
    use crate::traffic::telemetry::Meters;

    const DRAIN: Duration = Duration::from_millis(60);
    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Passes on what is said to it.
    struct Hears(NodeName, mpsc::UnboundedSender<Held>);

    impl Announcer for Hears {
        fn node(&self) -> &NodeName {
            &self.0
        }

        async fn listen(&self, _: &[ServiceName]) -> Result<Heard, String> {
            Err("nothing is said".to_owned())
        }

        async fn held(&self, held: &Held) -> Result<(), String> {
            self.1.send(held.clone()).map_err(|error| error.to_string())
        }
    }

    fn gate() -> Arc<Gate> {
        Gate::new(GateLimits { held: 9, hold: Duration::from_secs(9) }, Meters::default())
    }

    fn said(listener: u64, standing: Standing) -> Announcement {
        let ports = BTreeMap::from([(6379, 16379), (9121, 19121)]);
        let services = BTreeMap::from([("redis".into(), Announced { epoch: 1, standing, ports })]);
        Announcement { listener, services, ended: BTreeMap::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_of_several_ports_is_answered_for_once_when_all_are_quiet() {
        let gates: Vec<Arc<Gate>> = (0..3).map(|_| gate()).collect();
        // The last is of a port that the service does not publish.
        let of = [6379, 9121, 80].into_iter().zip(gates.iter().cloned()).collect();
        let desk = Desk::new([("redis".into(), of)], DRAIN);
        let node = NodeName::from("a");
        assert!(desk.told(&node, HOST, &said(1, Standing::Runs)).is_empty());
        let ports = [0, 1].map(|at| gates[at].try_admit().unwrap());
        assert_eq!(ports.each_ref().map(|permit| permit.place().address.port()), [16379, 19121]);
        assert!(gates[2].try_admit().is_none());

        let id = MigrationId::new();
        let mut owed = desk.told(&node, HOST, &said(1, Standing::Stops(id)));
        assert_eq!((owed.len(), owed[0].closing.len()), (1, 2));
        assert!(
            desk.told(&node, HOST, &said(1, Standing::Stops(id))).is_empty(),
            "it is said again and again"
        );
        let (heard, mut hears) = mpsc::unbounded_channel();
        let announcer = Arc::new(Hears(node.clone(), heard));
        let answering = tokio::spawn(answer(announcer, owed.remove(0), 1, DRAIN));
        let [first, second] = ports;
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(first);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(hears.try_recv().is_err(), "something is under way on the other port");
        drop(second);
        let held = Held { listener: 1, freeze: Some(("redis".into(), id)) };
        assert_eq!(hears.recv().await, Some(held));
        answering.await.unwrap();
        assert!(gates.iter().all(|gate| gate.phase() == Phase::Shut));

        // Nobody knows on this stream that it was answered on the other one.
        assert_eq!(desk.told(&node, HOST, &said(2, Standing::Stops(id))).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_without_ports_is_answered_for_at_once() {
        let desk = Desk::new([("redis".into(), BTreeMap::new())], DRAIN);
        let believed = desk.believed();
        desk.told(&"a".into(), HOST, &said(1, Standing::Runs));
        assert_eq!(believed.borrow()[&ServiceName::from("redis")].owned.as_ref().unwrap().node, "a".into());
        let owed = desk.told(&"a".into(), HOST, &said(1, Standing::Stops(MigrationId::new())));
        assert_eq!((owed.len(), owed[0].closing.len()), (1, 0));
    }
}
