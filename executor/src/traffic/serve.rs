//! Listening for clients, and joining the parts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use sterna_core::continuum::ServiceName;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::identity::Credentials;

use super::config::{FrontConfig, FrontedService, Protocol};
use super::descriptors::make_room;
use super::follow::{Announcer, Believed, Desk};
use super::followers::Followers;
use super::gate::{Gate, GateLimits};
use super::readiness::Readiness;
use super::roster::{self, Roster, RosterFile};
use super::telemetry::Telemetry;
use super::{http, redis, tcp};

/// Pause where the system has no more connections to give.
const EXHAUSTED: Duration = Duration::from_millis(50);
/// Longest time for whoever sends clients here to see that the front is about to end.
const NOTICE: Duration = Duration::from_secs(5);

/// The front could not start.
#[derive(Debug, Error)]
pub enum FrontError {
    /// An address can't be listened on.
    #[error(
        "{what} can't be listened for on {address}: {source}; is another program there, or the address not this host's?"
    )]
    Listen {
        /// A service, or metrics.
        what: String,
        /// Where.
        address: SocketAddr,
        /// What happened.
        source: std::io::Error,
    },
}

/// A front whose addresses are its own. Dropped, it ends.
#[derive(Debug)]
pub struct Front {
    tasks: JoinSet<()>,
    /// Those that serve clients, one for each port of a service. They end when the front does.
    serving: JoinSet<()>,
    desk: Arc<Desk>,
    readiness: Arc<Readiness>,
    leave: Duration,
    telemetry: Telemetry,
    nodes: roster::Told,
    addresses: Vec<(ServiceName, u16, SocketAddr)>,
    metrics: Option<SocketAddr>,
}

impl Front {
    /// As [`Front::start`], listening to the agents of the nodes that a file names, also of those that it comes to name later.
    ///
    /// # Errors
    /// When an address can't be listened on.
    pub async fn before(
        config: &FrontConfig,
        nodes: RosterFile,
        credentials: &Credentials,
    ) -> Result<Self, FrontError> {
        if let Some(continuum) = nodes.roster().continuum() {
            let names: BTreeSet<&ServiceName> = config.services.iter().map(|service| &service.name).collect();
            for service in names.into_iter().filter(|name| !continuum.services.contains_key(*name)) {
                tracing::warn!(%service, inventory = %nodes.path().display(),
                    "the inventory has no such service; what comes for it is held until a node says that it runs it");
            }
        }
        if let Err(error) = make_room(config) {
            tracing::warn!(%error, "the front may come to have too many connections");
        }
        let mut front = Self::listening(config).await?;
        let followers = Followers::of_agents(Arc::clone(&front.desk), credentials.clone());
        let (tell, told) = watch::channel(Arc::new(nodes.roster().clone()));
        front.nodes = told;
        front.tasks.spawn(followers.keep(nodes, tell));
        Ok(front)
    }

    /// Listens for clients of all services, and to these agents.
    ///
    /// # Errors
    /// When an address can't be listened on.
    pub async fn start<A: Announcer>(
        config: &FrontConfig,
        announcers: impl IntoIterator<Item = A>,
    ) -> Result<Self, FrontError> {
        let mut front = Self::listening(config).await?;
        for announcer in announcers {
            front.tasks.spawn(Arc::clone(&front.desk).follow(announcer));
        }
        Ok(front)
    }

    /// Listens for clients.
    async fn listening(config: &FrontConfig) -> Result<Self, FrontError> {
        let telemetry = Telemetry::default();
        let (mut tasks, mut serving) = (JoinSet::new(), JoinSet::new());
        let mut fronted: BTreeMap<ServiceName, BTreeMap<u16, Arc<Gate>>> = BTreeMap::new();
        let mut addresses = Vec::new();
        for service in &config.services {
            let limits = GateLimits { held: service.held, hold: service.hold };
            let gate = Gate::new(limits, telemetry.of(service.name.as_str(), service.port));
            let listener = listen(service.name.as_str(), service.listen).await?;
            let address = listener.local_addr().unwrap_or(service.listen);
            tracing::info!(service = %service.name, port = service.port, %address, protocol = ?service.protocol, "listening for clients");
            addresses.push((service.name.clone(), service.port, address));
            serving.spawn(accept(listener, service.clone(), Arc::clone(&gate)));
            fronted.entry(service.name.clone()).or_default().insert(service.port, gate);
        }
        if let Some(stand_in) = &config.stand_in {
            fronted.entry(stand_in.service.clone()).or_default();
        }
        let desk = Desk::new(fronted, config.drain);
        let readiness = Readiness::new(Arc::clone(&desk), config.stand_in.clone());
        tasks.spawn(Arc::clone(&readiness).keep());
        let mut metrics = None;
        if let Some(address) = config.metrics {
            let listener = listen("metrics", address).await?;
            metrics = Some(listener.local_addr().unwrap_or(address));
            let routes = told(telemetry.clone(), Arc::clone(&readiness));
            tasks.spawn(async move {
                if let Err(error) = axum::serve(listener, routes).await {
                    tracing::error!(%error, "metrics are no longer served");
                }
            });
        }
        let (_, nodes) = watch::channel(Arc::new(Roster::Agents(BTreeMap::new())));
        let leave = config.leave;
        Ok(Self { tasks, serving, desk, readiness, leave, telemetry, nodes, addresses, metrics })
    }

    /// Where clients find a port of a service.
    pub fn address(&self, service: &ServiceName, port: u16) -> Option<SocketAddr> {
        let same = |(name, inner, _): &&(ServiceName, u16, SocketAddr)| name == service && *inner == port;
        self.addresses.iter().find(same).map(|(.., address)| *address)
    }

    /// The nodes that its file names, as they change.
    pub fn nodes(&self) -> roster::Told {
        self.nodes.clone()
    }

    /// What is believed of its services, as it changes.
    pub fn believed(&self) -> watch::Receiver<BTreeMap<ServiceName, Believed>> {
        self.desk.believed()
    }

    /// What is counted.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Where metrics are served, and whether it is ready.
    pub const fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Serves until `stop` is done, and has clients leave in the time that the settings give them.
    pub async fn serve(mut self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = stop => {}
            // None of them ends by itself.
            Some(_) = self.tasks.join_next() => return tracing::error!("a part of the front has ended"),
            Some(_) = self.serving.join_next() => return tracing::error!("a part of the front has ended"),
        }
        self.readiness.end();
        if self.leave.is_zero() {
            return;
        }
        // Whoever sends clients here is told before connections are refused.
        let notice = NOTICE.min(self.leave / 2);
        tracing::info!(leave = ?self.leave, "the front ends: clients are asked to leave");
        sleep(notice).await;
        self.desk.end();
        let left = async { while self.serving.join_next().await.is_some() {} };
        if timeout(self.leave.saturating_sub(notice), left).await.is_err() {
            tracing::warn!(
                "connections on which something is under way are closed: the time to leave is over"
            );
        }
    }
}

/// What is told to whoever looks after the front.
fn told(counted: Telemetry, readiness: Arc<Readiness>) -> Router {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    let ready = async move || match readiness.ready().await {
        Ok(()) => (StatusCode::OK, "ready".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    };
    Router::new()
        .route("/metrics", get(move || async move { (kind, counted.text()) }))
        .route("/healthz", get(|| async { "serving" }))
        .route("/readyz", get(ready))
}

async fn listen(what: &str, address: SocketAddr) -> Result<TcpListener, FrontError> {
    let failed = |source| FrontError::Listen { what: what.to_owned(), address, source };
    TcpListener::bind(address).await.map_err(failed)
}

/// Takes connections of clients, as many as may be; further ones wait in the system's backlog. Until the front ends: then it is
/// done when all clients have left.
async fn accept(listener: TcpListener, service: FrontedService, gate: Arc<Gate>) {
    let places = Arc::new(Semaphore::new(service.connections.min(Semaphore::MAX_PERMITS)));
    let pool = http::Pool::new(Arc::clone(&gate));
    let mut clients = JoinSet::new();
    let accept_all = async {
        loop {
            while clients.try_join_next().is_some() {}
            // Never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(service = %service.name, %error, "a connection can't be accepted");
                    sleep(EXHAUSTED).await;
                    continue;
                }
            };
            let (gate, pool, protocol) = (Arc::clone(&gate), Arc::clone(&pool), service.protocol);
            clients.spawn(async move {
                let _place = place;
                gate.meters().open.inc();
                let meters = gate.meters().clone();
                serve(stream, protocol, gate, pool).await;
                meters.open.dec();
            });
        }
    };
    tokio::select! {
        biased;
        // Those first that the system has taken already.
        () = accept_all => {}
        () = gate.ending() => {}
    }
    drop(listener);
    while clients.join_next().await.is_some() {}
}

async fn serve(stream: TcpStream, protocol: Protocol, gate: Arc<Gate>, pool: Arc<http::Pool>) {
    match protocol {
        Protocol::Tcp => tcp::serve(stream, gate).await,
        Protocol::Http => http::serve(stream, pool).await,
        Protocol::Redis => redis::serve(stream, gate).await,
    }
}
