//! Listening to the agents, for ever, and answering them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use sterna_core::continuum::{Continuum, NodeName, ServiceName};

use crate::identity::Credentials;
use crate::migration::order::MigrationId;
use crate::node::client::AgentClient;
use crate::platform::addresses::{self, Remembered};

use super::announcement::{Announcement, Held};
use super::gate::{Gate, Phase};
use super::place::{Stand, Views};

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
    /// Whether any agent was ever heard.
    heard: AtomicBool,
}

#[derive(Debug)]
struct Fronted {
    gate: Arc<Gate>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    views: Views,
    stand: Stand,
}

/// Something that an agent waits to hear.
struct Owed {
    service: ServiceName,
    migration: MigrationId,
    gate: Arc<Gate>,
    closing: Phase,
}

impl Desk {
    /// For these services, each with the port that it has in its container and its gate.
    pub fn new(
        services: impl IntoIterator<Item = (ServiceName, u16, Arc<Gate>)>,
        drain: Duration,
    ) -> Arc<Self> {
        let fronted = |(service, port, gate)| {
            let known = Mutex::new(Known { views: Views::new(port), stand: Stand::Nowhere });
            (service, Fronted { gate, known })
        };
        let services = services.into_iter().map(fronted).collect();
        Arc::new(Self { services, drain, heard: AtomicBool::new(false) })
    }

    /// Whether an agent was heard. What it said holds though it should be silent since.
    pub fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// The front is about to end: connections of clients are closed between two requests.
    pub fn end(&self) {
        for fronted in self.services.values() {
            fronted.gate.end();
        }
    }

    /// Takes in all that an agent says. What it waits to hear of us.
    fn told(&self, node: &NodeName, host: IpAddr, said: &Announcement) -> Vec<Owed> {
        self.heard.store(true, Ordering::Relaxed);
        let change = |service: &ServiceName, fronted: &Fronted| {
            fronted.change(service, |views| views.told(node, host, said.services.get(service).cloned()))
        };
        self.services.iter().filter_map(|(service, fronted)| change(service, fronted)).collect()
    }

    /// An agent can't be heard any more.
    fn lost(&self, node: &NodeName) {
        for (service, fronted) in &self.services {
            // Nobody waits for an answer from a place that nothing is heard of.
            fronted.change(service, |views| views.lost(node));
        }
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
    /// Changes what is known, and what passes the gate.
    fn change(&self, service: &ServiceName, change: impl FnOnce(&mut Views)) -> Option<Owed> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known.views);
        let stand = known.views.stand();
        if stand == known.stand {
            return None;
        }
        tracing::info!(%service, stand = words(&stand), "a service");
        known.stand = stand.clone();
        match stand {
            Stand::Serving(place) => self.gate.set(Phase::Open(Arc::new(place))),
            Stand::Nowhere => self.gate.set(Phase::Shut),
            Stand::Stopping(place, migration) => {
                let closing = Phase::Closing(Arc::new(place));
                self.gate.set(closing.clone());
                self.gate.meters().moves.inc();
                return Some(Owed {
                    service: service.clone(),
                    migration,
                    gate: Arc::clone(&self.gate),
                    closing,
                });
            }
        }
        None
    }
}

fn words(stand: &Stand) -> String {
    match stand {
        Stand::Serving(place) => {
            format!("runs on {} at {}, epoch {}", place.node, place.address, place.epoch)
        }
        Stand::Stopping(place, _) => format!("is about to be frozen on {}", place.node),
        Stand::Nowhere => "takes no connections".to_owned(),
    }
}

/// Tells an agent when nothing more is sent to a service, or the time for that is over.
async fn answer<A: Announcer>(announcer: Arc<A>, owed: Owed, listener: u64, drain: Duration) {
    let Owed { service, migration, gate, closing } = owed;
    if !gate.quiet(drain).await {
        gate.meters().cut.inc();
        tracing::info!(%service, %migration, "something is still under way, and can't be waited for");
    }
    gate.set_after(&closing, Phase::Shut);
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
    continuum: Arc<Continuum>,
    credentials: Credentials,
    remembered: Remembered,
    /// The last connection, kept for what is said back.
    client: Mutex<Option<AgentClient>>,
}

impl Agent {
    /// Of a node of the inventory.
    pub fn new(node: NodeName, continuum: Arc<Continuum>, credentials: Credentials) -> Self {
        Self { node, continuum, credentials, remembered: Remembered::default(), client: Mutex::default() }
    }

    async fn address(&self) -> Result<String, String> {
        addresses::address(&self.continuum, &self.node, &self.remembered).await
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
