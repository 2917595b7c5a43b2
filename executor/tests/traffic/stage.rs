//! Nodes that are made up, and a front before them: what an agent would say is said here, and what the front answers is heard.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use sterna_core::continuum::{NodeName, ServiceName};
use sterna_executor::migration::order::MigrationId;
use sterna_executor::traffic::announcement::{Announced, Announcement, Held, Standing};
use sterna_executor::traffic::config::{FrontConfig, FrontedService, NodesFile, Protocol};
use sterna_executor::traffic::follow::{Announcer, Heard};
use sterna_executor::traffic::serve::Front;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

/// The port within the container; what it is published on is another matter.
const INNER: u16 = 7;
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// As long as an agent waits.
const WAIT: Duration = Duration::from_millis(100);

/// What is said of the one service of all tests.
pub type Said = Option<Announced>;

/// One node's agent.
pub struct Agent {
    node: NodeName,
    said: watch::Sender<Said>,
    held: mpsc::UnboundedSender<Held>,
    silent: watch::Receiver<bool>,
}

impl Announcer for Agent {
    fn node(&self) -> &NodeName {
        &self.node
    }

    async fn listen(&self, services: &[ServiceName]) -> Result<Heard, String> {
        if *self.silent.borrow() {
            return Err("it is down".to_owned());
        }
        let service = services[0].clone();
        let announcement = move |one: Said| Announcement {
            listener: 1,
            services: one.map(|one| (service.clone(), one)).into_iter().collect(),
            ended: BTreeMap::new(),
        };
        let said =
            futures_util::stream::unfold((self.said.subscribe(), true), |(mut said, first)| async move {
                if !first {
                    said.changed().await.ok()?;
                }
                let one = said.borrow_and_update().clone();
                Some((one, (said, false)))
            });
        let said = said.map(move |one| Ok(announcement(one)));
        let mut silent = self.silent.clone();
        let down = async move {
            let _ = silent.wait_for(|silent| *silent).await;
        };
        Ok(Heard { host: LOCALHOST, said: said.take_until(Box::pin(down)).boxed() })
    }

    async fn held(&self, held: &Held) -> Result<(), String> {
        self.held.send(held.clone()).map_err(|_| "gone".to_owned())
    }
}

struct Node {
    said: watch::Sender<Said>,
    held: mpsc::UnboundedReceiver<Held>,
    silent: watch::Sender<bool>,
}

/// The nodes `a` and `b`, and the front.
pub struct Stage {
    nodes: BTreeMap<&'static str, Node>,
    pub front: Front,
    epoch: u64,
}

/// How the front treats the service.
pub struct Limits {
    pub held: usize,
    pub hold: Duration,
    pub drain: Duration,
    pub leave: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            held: 1000,
            hold: Duration::from_secs(20),
            drain: Duration::from_millis(80),
            leave: Duration::ZERO,
        }
    }
}

pub fn service() -> ServiceName {
    "service".into()
}

impl Stage {
    pub async fn new(protocol: Protocol, limits: Limits) -> Self {
        Self::with(protocol, limits, false).await
    }

    /// None of its agents can be heard.
    pub async fn deaf(protocol: Protocol) -> Self {
        Self::with(protocol, Limits::default(), true).await
    }

    async fn with(protocol: Protocol, limits: Limits, silent: bool) -> Self {
        let service = FrontedService {
            name: service(),
            listen: SocketAddr::new(LOCALHOST, 0),
            port: INNER,
            protocol,
            connections: 1000,
            held: limits.held,
            hold: limits.hold,
        };
        let config = FrontConfig {
            nodes: NodesFile::Agents("".into()),
            identity: None,
            metrics: Some(SocketAddr::new(LOCALHOST, 0)),
            drain: limits.drain,
            leave: limits.leave,
            services: vec![service],
            stand_in: None,
        };
        let (mut nodes, mut agents) = (BTreeMap::new(), Vec::new());
        for name in ["a", "b"] {
            let (said, silent) = (watch::Sender::new(None), watch::Sender::new(silent));
            let (held, hears) = mpsc::unbounded_channel();
            agents.push(Agent { node: name.into(), said: said.clone(), held, silent: silent.subscribe() });
            nodes.insert(name, Node { said, held: hears, silent });
        }
        let front = Front::start(&config, agents).await.unwrap();
        Self { nodes, front, epoch: 1 }
    }

    pub fn address(&self) -> SocketAddr {
        self.front.address(&service(), INNER).unwrap()
    }

    fn say(&self, node: &str, said: Option<(Standing, SocketAddr)>) {
        let announced = said.map(|(standing, address)| Announced {
            epoch: self.epoch,
            standing,
            ports: BTreeMap::from([(INNER, address.port())]),
        });
        self.nodes[node].said.send_replace(announced);
    }

    pub fn runs(&self, node: &str, address: SocketAddr) {
        self.say(node, Some((Standing::Runs, address)));
    }

    pub fn frozen(&self, node: &str, address: SocketAddr) {
        self.say(node, Some((Standing::Frozen, address)));
    }

    /// As an agent does before a freeze. Whether the front answered in the time that an agent waits.
    pub async fn about_to_freeze(&mut self, node: &str, address: SocketAddr) -> bool {
        let migration = MigrationId::new();
        self.say(node, Some((Standing::Stops(migration), address)));
        let hears = &mut self.nodes.get_mut(node).unwrap().held;
        let answered = async {
            while let Some(held) = hears.recv().await {
                if held == (Held { listener: 1, freeze: Some((service(), migration)) }) {
                    return;
                }
            }
        };
        tokio::time::timeout(WAIT, answered).await.is_ok()
    }

    /// The other node has got the certificate, and says so.
    pub fn owned_by(&mut self, node: &str, address: SocketAddr) {
        self.epoch += 1;
        self.runs(node, address);
    }

    pub fn gone(&self, node: &str) {
        self.say(node, None);
    }

    /// An agent can't be heard any more, or again.
    pub fn silence(&self, node: &str, silent: bool) {
        self.nodes[node].silent.send_replace(silent);
    }

    /// What the front says of its readiness: the status of the answer.
    pub async fn ready(metrics: SocketAddr) -> u16 {
        let mut stream = TcpStream::connect(metrics).await.unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: front\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Has the front end. Its agents go on.
    pub fn end(self) -> JoinHandle<()> {
        tokio::spawn(async move {
            self.front.serve(std::future::ready(())).await;
            drop(self.nodes);
        })
    }

    /// A number that the front counts.
    pub fn counted(&self, name: &str) -> u64 {
        let text = self.front.telemetry().text();
        let line = text.lines().find_map(|line| {
            line.strip_prefix(&format!("sterna_front_{name}{{service=\"service\",port=\"{INNER}\"}} "))
        });
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    /// Until the front counts so many, for some seconds.
    pub async fn until(&self, name: &str, wanted: u64) {
        for _ in 0..500 {
            if self.counted(name) >= wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} is {}, not {wanted}", self.counted(name));
    }
}

/// Where a service stands: its address, whether it stands still, and what serves it, here and where it was before.
pub struct Berth {
    address: SocketAddr,
    frozen: watch::Sender<bool>,
    tasks: Vec<JoinSet<()>>,
}

impl Berth {
    pub fn new() -> Self {
        let (address, frozen) = (SocketAddr::new(LOCALHOST, 0), watch::Sender::new(false));
        Self { address, frozen, tasks: Vec::new() }
    }

    /// A new address, and whether the service stands still there.
    pub async fn another(&mut self) -> (TcpListener, watch::Receiver<bool>) {
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        self.address = listener.local_addr().unwrap();
        self.frozen = watch::Sender::new(false);
        (listener, self.frozen.subscribe())
    }

    /// Serves there until the test ends.
    pub fn serve(&mut self, serving: impl Future<Output = ()> + Send + 'static) -> SocketAddr {
        let mut tasks = JoinSet::new();
        tasks.spawn(serving);
        self.tasks.push(tasks);
        self.address
    }
}

/// A service that can be on either node, with its state: what is moved.
pub trait Moved: Sized {
    /// Where it stands.
    fn berth(&self) -> &Berth;
    /// Serves here; gives the address.
    fn thaw(&mut self) -> impl Future<Output = SocketAddr>;
    /// Stands still; what was connected stays so, in silence.
    fn freeze(&mut self) {
        self.berth().frozen.send_replace(true);
    }
    /// Where it serves.
    fn address(&self) -> SocketAddr {
        self.berth().address
    }
}

/// A front before a service that runs on the first node.
pub async fn staged<S: Moved>(protocol: Protocol, limits: Limits, service: S) -> (Stage, S) {
    let stage = Stage::new(protocol, limits).await;
    stage.runs("a", service.address());
    (stage, service)
}

/// A whole move, as agents make it. Whether the front answered in time.
pub async fn migrate(stage: &mut Stage, moved: &mut impl Moved, from: &str, to: &str) -> bool {
    let old = moved.address();
    let answered = stage.about_to_freeze(from, old).await;
    moved.freeze();
    stage.frozen(from, old);
    tokio::time::sleep(Duration::from_millis(30)).await;
    let new = moved.thaw().await;
    stage.owned_by(to, new);
    stage.gone(from);
    answered
}

/// Done when a service stands still.
pub async fn stands_still(mut frozen: watch::Receiver<bool>) {
    let _ = frozen.wait_for(|frozen| *frozen).await;
}

/// Shared by those who count what must not happen.
pub type Count = Arc<std::sync::atomic::AtomicUsize>;
