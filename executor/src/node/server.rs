//! The agent's API: starting up and serving.
//!
//! | module | what lives there |
//! |---|---|
//! | [`routes`] | every route, who may call it and what with |
//! | `caller` | who calls, proved by certificate and token |
//! | `services` | the node, its services, its engine's images |
//! | `output` | what services write |
//! | `removal` | services that are to be no more |
//! | `departures` | migrations that leave |
//! | `arrivals` | migrations that come |
//! | `traffic` | fronts |
//! | `peers` | where other nodes are by now |
//! | `probes` | how far it is from this node to where the scheduler asks |
//! | `refusal` | calls that are refused |
//! | `document` | the JSON document of a call |
//! | `streams` | the stream of a call |
//! | `limits` | how much a caller can take of this node |
//! | `connections` | so many at once, none kept for nothing |

use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::engine::criu;
use crate::engine::docker::Engine;
use crate::engine::shim::{NOTES, Note};
use crate::identity::{Credentials, IdentityError, Role};

use super::api::NodeFacts;
use super::arrival::Arrivals;
use super::bandwidth::Bandwidth;
use super::config::AgentConfig;
use super::facts;
use super::front::{OwnFront, OwnFrontError};
use super::inquiry::inquire;
use super::listener::{Peer, TlsListener};
use super::peers::Peers;
use super::running::Running;
use super::staging::{private_folder, staging_folder};
use super::store::{Store, StoreError};
use super::traffic::Traffic;

use self::probes::Probing;

mod arrivals;
mod caller;
pub(in crate::node) mod connections;
mod departures;
mod document;
mod limits;
mod output;
mod peers;
mod probes;
mod refusal;
mod removal;
pub mod routes;
mod services;
mod streams;
mod traffic;

/// The agent could not start.
#[derive(Debug, Error)]
pub enum AgentError {
    /// Its certificate can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its register can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The front that it is to run can't be.
    #[error(transparent)]
    Front(#[from] OwnFrontError),
    /// It can't listen, a folder can't be made, or CRIU's settings can't be written.
    #[error("{what}: {source}")]
    System {
        /// What was done.
        what: String,
        /// What happened.
        source: std::io::Error,
    },
}

/// What every call has at hand.
#[derive(Debug, Clone)]
struct Agent {
    config: AgentConfig,
    engine: Engine,
    store: Store,
    arrivals: Arrivals,
    running: Running,
    traffic: Traffic,
    probing: Probing,
    peers: Peers,
    /// Done when nothing leaves any more and streams without an end are to be cut off.
    wound_up: CancellationToken,
}

/// Serves a node until `stop` is done.
///
/// # Errors
/// When it can't start. The nested engine is waited for.
pub async fn serve(
    config: AgentConfig,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), AgentError> {
    let system = |what: String| move |source| AgentError::System { what, source };
    let credentials = Credentials::load(&config.identity)?;
    let tls = credentials.server_config()?;
    let front = config.front.clone().map(|front| OwnFront::prepare(front, &config.node)).transpose()?;
    staging_folder(&config.staging)
        .and_then(|()| private_folder(&config.state))
        .map_err(system("a folder can't be made".to_owned()))?;
    let store = Store::open(&config.state)?;
    let token_key = store.token_key(&credentials)?;
    criu::write_node_settings().map_err(system("the settings for CRIU can't be written".to_owned()))?;
    Note::give_up_awaited(Path::new(NOTES))
        .map_err(system("notes for the runtime can't be read".to_owned()))?;
    let engine = wait_for_engine().await;
    let own = wait_for_facts(&config, &engine).await;
    let (admission, staging) = (config.admission, config.staging.clone());
    let arrivals = Arrivals::new(
        engine.clone(),
        store.clone(),
        staging.clone(),
        credentials.clone(),
        admission.arriving.max(1),
    );
    let bandwidth = Bandwidth::new(config.bandwidth_per_peer);
    let traffic = Traffic::default();
    let front_ports = front.iter().flat_map(OwnFront::ports).collect();
    let peers = Peers::new(credentials.clone());
    let arrivals = arrivals.announcing(traffic.clone()).without_ports(front_ports).finding(peers.clone());
    let running = Running::new(
        engine.clone(),
        store.clone(),
        credentials.clone(),
        token_key,
        staging,
        admission,
        bandwidth,
    )
    .announcing(traffic.clone())
    .in_pod(config.pod.clone())
    .finding(peers.clone());
    if let Err(error) = running.recover(&own) {
        // It is tried again at the next start; until then the services stay as they are, safe.
        tracing::error!(%error, "migrations left under way can't be taken up");
    }
    if let Err(error) = arrivals.revive().await {
        tracing::error!(%error, "services that came to this node can't be looked after");
    }
    tokio::spawn(inquire(arrivals.clone()));
    let listener = TlsListener::bind(&config.listen, tls)
        .await
        .map_err(system(format!("{} can't be listened on", config.listen)))?;
    tracing::info!(node = %config.node, address = %listener.address(), engine = own.engine, criu = own.criu, "serving");
    let probing = Probing::default();
    let agent = Agent {
        config,
        engine,
        store,
        arrivals,
        running,
        traffic: traffic.clone(),
        probing,
        peers: peers.clone(),
        wound_up: CancellationToken::new(),
    };
    tokio::spawn(agent.clone().keep_looking());
    let stopping = CancellationToken::new();
    let fronting = front.map(|front| tokio::spawn(front.serve(stopping.clone())));
    let winding_up = tokio::spawn({
        let (stopping, running, wound_up) = (stopping.clone(), agent.running.clone(), agent.wound_up.clone());
        async move {
            stopping.cancelled().await;
            running.wind_up().await;
            wound_up.cancel();
        }
    });
    let stop = async move {
        stop.await;
        stopping.cancel();
        traffic.close();
    };
    let heard = move |peer: &Peer| {
        if let Role::Agent(node) = &peer.role {
            peers.hear(node, peer.address.ip());
        }
    };
    connections::serve(listener, limits::around(routes::router()).with_state(agent), heard, stop).await;
    let _ = winding_up.await;
    if let Some(fronting) = fronting {
        // It was told to end when the agent was.
        let _ = fronting.await;
    }
    Ok(())
}

/// Pause between two tries to reach the engine.
const PAUSE: Duration = Duration::from_millis(300);

async fn wait_for_engine() -> Engine {
    let mut said = false;
    loop {
        match Engine::connect().await {
            Ok(engine) => return engine,
            Err(error) if !said => tracing::info!(%error, "waiting for the nested engine"),
            Err(_) => {}
        }
        said = true;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn wait_for_facts(config: &AgentConfig, engine: &Engine) -> NodeFacts {
    loop {
        match facts::gather(config, engine).await {
            Ok(facts) => return facts,
            Err(error) => tracing::warn!(%error, "waiting for the nested engine"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
