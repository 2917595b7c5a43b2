//! The agent's API: its routes, and who may call which.
//!
//! The scheduler asks, starts services and gives orders. Only another agent may send a service in, and only the one that the
//! migration leaves may say more about it.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, Path as Segment, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use sterna_core::continuum::NodeName;
use thiserror::Error;
use tokio_util::io::StreamReader;

use crate::engine::criu;
use crate::engine::docker::{Container, Engine, EngineError, service_body};
use crate::engine::processes::Processes;
use crate::error_chain::chain;
use crate::identity::{Credentials, IdentityError, Role, Sealed};
use crate::migration::holding::Holding;
use crate::migration::order::{MigrationId, Order};
use crate::migration::register::Decision;
use crate::migration::report::Event;

use super::api::{
    Arriving, Finish, NodeFacts, Part, Problem, ReleaseAnswer, Reservation, Restored, ServiceFacts, Standing,
    StartService, TOKEN_HEADER, Verdict,
};
use super::arrival::{ArrivalError, Arrivals};
use super::assessment::Assessment;
use super::config::AgentConfig;
use super::facts;
use super::listener::{Peer, TlsListener};
use super::running::{OrderError, Running};
use super::staging::{private_folder, staging_folder};
use super::store::{Store, StoreError};

/// The agent could not start.
#[derive(Debug, Error)]
pub enum AgentError {
    /// Its certificate can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its register can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
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
    staging_folder(&config.staging)
        .and_then(|()| private_folder(&config.state))
        .map_err(system("a folder can't be made".to_owned()))?;
    let store = Store::open(&config.state)?;
    criu::write_node_settings().map_err(system("the settings for CRIU can't be written".to_owned()))?;
    let engine = wait_for_engine().await;
    let own = wait_for_facts(&config, &engine).await;
    let (limits, staging) = (config.admission, config.staging.clone());
    let arrivals = Arrivals::new(
        engine.clone(),
        store.clone(),
        staging.clone(),
        credentials.clone(),
        limits.arriving.max(1),
    );
    let running = Running::new(engine.clone(), store.clone(), credentials.clone(), staging, limits);
    if let Err(error) = running.recover(&own) {
        // It is tried again at the next start; until then the services stay as they are, safe.
        tracing::error!(%error, "migrations left under way can't be taken up");
    }
    if let Err(error) = arrivals.revive().await {
        tracing::error!(%error, "services that came to this node can't be looked after");
    }
    tokio::spawn(inquire(arrivals.clone(), credentials));
    let listener = TlsListener::bind(&config.listen, tls)
        .await
        .map_err(system(format!("{} can't be listened on", config.listen)))?;
    tracing::info!(node = %config.node, address = %listener.address(), engine = own.engine, criu = own.criu, "serving");
    let agent = Agent { config, engine, store, arrivals, running };
    let service = routes().with_state(agent).into_make_service_with_connect_info::<Peer>();
    axum::serve(listener, service)
        .with_graceful_shutdown(stop)
        .await
        .map_err(system("the API ended".to_owned()))
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

/// How long nothing may be heard of a held service until its source is asked what was decided.
const SILENCE: Duration = Duration::from_secs(4);

/// Asks the sources of held services what was decided, whenever nothing was heard for a while: a call that was lost, or a
/// source that was restarted, leaves nothing held for longer than it must be.
async fn inquire(arrivals: Arrivals, credentials: Credentials) {
    let mut time = Duration::ZERO;
    loop {
        match arrivals.silent_for(time) {
            Ok(silent) => {
                for arrival in silent {
                    let order = &arrival.reservation.order;
                    arrivals.hear(order.id);
                    if let Err(error) = arrivals.settle(&arrival, &credentials).await {
                        tracing::warn!(migration = %order.id, source = %order.from, %error,
                            "held, and its source can't be asked what was decided");
                    }
                }
            }
            Err(error) => tracing::error!(%error, "what is held here can't be looked up"),
        }
        time = SILENCE;
        tokio::time::sleep(SILENCE / 2).await;
    }
}

fn routes() -> Router<Agent> {
    let from_scheduler = Router::new()
        .route("/v1/services", get(services).post(start_service))
        .route("/v1/migrations", get(standings).post(migrate))
        .route("/v1/migrations/check", post(assess))
        .route("/v1/migrations/{id}/events", get(events));
    let from_agents = Router::new()
        .route("/v1/arrivals/check", post(check))
        .route("/v1/arrivals", get(coming_in).post(reserve))
        .route("/v1/arrivals/{id}/parts/memory", put(receive_memory))
        .route("/v1/arrivals/{id}/parts/layer", put(receive_layer))
        .route("/v1/arrivals/{id}/parts/volume/{name}", put(receive_volume))
        .route("/v1/arrivals/{id}/restore", post(restore))
        .route("/v1/arrivals/{id}/restored", get(restored))
        .route("/v1/arrivals/{id}/release", post(release))
        .route("/v1/arrivals/{id}/start-anew", post(start_anew))
        .route("/v1/arrivals/{id}/finish", post(finish))
        .route("/v1/arrivals/{id}", get(arriving).delete(discard));
    let from_both = Router::new()
        .route("/v1/node", get(node))
        .route("/v1/images", get(image).put(load_image))
        .route("/v1/migrations/{id}", get(standing).delete(cancel));
    from_scheduler.merge(from_agents).merge(from_both)
}

/// A call that was refused.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(Problem { error: self.1 })).into_response()
    }
}

macro_rules! refusal_from {
    ($($error:ty => $status:expr),+ $(,)?) => {$(
        impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                Self($status, chain(&error))
            }
        }
    )+};
}

refusal_from! {
    EngineError => StatusCode::INTERNAL_SERVER_ERROR,
    StoreError => StatusCode::INTERNAL_SERVER_ERROR,
    OrderError => StatusCode::CONFLICT,
}

impl From<ArrivalError> for Refusal {
    fn from(error: ArrivalError) -> Self {
        let status = match &error {
            ArrivalError::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            ArrivalError::Certificate(_) => StatusCode::FORBIDDEN,
            _ => StatusCode::CONFLICT,
        };
        Self(status, chain(&error))
    }
}

/// A caller that is the scheduler.
struct FromScheduler;
/// A caller that is another node's agent.
struct FromAgent(NodeName);

fn role(parts: &Parts) -> Option<&Role> {
    parts.extensions.get::<ConnectInfo<Peer>>().map(|info| &info.0.role)
}

impl<S: Sync> FromRequestParts<S> for FromScheduler {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match role(parts) {
            Some(Role::Scheduler) => Ok(Self),
            _ => Err(Refusal(StatusCode::FORBIDDEN, "only the scheduler may ask for this".to_owned())),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for FromAgent {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match role(parts) {
            Some(Role::Agent(node)) => Ok(Self(node.clone())),
            _ => Err(Refusal(StatusCode::FORBIDDEN, "only another node's agent may ask for this".to_owned())),
        }
    }
}

/// A caller of either role.
struct Caller(Role);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let unknown = || Refusal(StatusCode::FORBIDDEN, "nobody is known by this certificate".to_owned());
        role(parts).cloned().map(Self).ok_or_else(unknown)
    }
}

async fn node(State(agent): State<Agent>) -> Result<Json<NodeFacts>, Refusal> {
    Ok(Json(facts::gather(&agent.config, &agent.engine).await?))
}

#[derive(Debug, Deserialize)]
struct ImageQuery {
    image: String,
}

async fn image(
    State(agent): State<Agent>,
    Query(query): Query<ImageQuery>,
) -> Result<Json<Option<String>>, Refusal> {
    Ok(Json(agent.engine.image_digest(&query.image).await?))
}

async fn load_image(State(agent): State<Agent>, body: Body) -> Result<Json<()>, Refusal> {
    agent.engine.load_image(body.into_data_stream().map_err(std::io::Error::other)).await?;
    Ok(Json(()))
}

impl Agent {
    /// The containers whose service this node owns, each with where it is being moved to.
    async fn owned(&self) -> Result<Vec<(Container, Option<NodeName>)>, Refusal> {
        let leaving = self.store.departures_under_way()?;
        let mut owned = Vec::new();
        for container in self.engine.services().await? {
            let departure = leaving.iter().find(|one| one.container == container.id);
            let gone = departure.is_some_and(|one| one.decision == Decision::Commit);
            if !gone && self.came_by_right(&container)? {
                let to = departure.map(|one| one.order.to.clone());
                owned.push((container, to));
            }
        }
        Ok(owned)
    }

    /// Whether a container is not one that a migration made and that has no certificate yet.
    fn came_by_right(&self, container: &Container) -> Result<bool, Refusal> {
        let Some(migration) = container.migration().and_then(|id| id.parse::<MigrationId>().ok()) else {
            return Ok(true);
        };
        match self.store.arrival(migration)? {
            Some(arrival) => Ok(arrival.state.owns()),
            // The register was lost. What runs has run by right, for what is held stands stopped.
            None => Ok(container
                .pid
                .and_then(|pid| Processes::of(pid).ok())
                .is_some_and(|processes| !processes.all_stopped())),
        }
    }

    fn describe(
        &self,
        container: &Container,
        leaving_for: Option<NodeName>,
    ) -> Result<Option<ServiceFacts>, Refusal> {
        let Some(service) = container.service() else { return Ok(None) };
        // It may end while it is looked at.
        let processes = container.pid.and_then(|pid| Processes::of(pid).ok());
        Ok(Some(ServiceFacts {
            epoch: self.store.epoch(&service)?,
            service,
            container: container.id.clone(),
            image: container.image.clone(),
            running: container.pid.is_some(),
            frozen: container.paused,
            memory: processes.map(|all| all.resident()).unwrap_or_default(),
            leaving_for,
            committed: None,
        }))
    }
}

async fn services(_: FromScheduler, State(agent): State<Agent>) -> Result<Json<Vec<ServiceFacts>>, Refusal> {
    let mut all = Vec::new();
    for (container, leaving_for) in agent.owned().await? {
        all.extend(agent.describe(&container, leaving_for)?);
    }
    for departure in agent.store.departures_under_way()? {
        if departure.decision == Decision::Commit {
            all.push(ServiceFacts {
                service: departure.order.service,
                container: departure.container,
                image: String::new(),
                running: false,
                frozen: true,
                memory: sterna_policies::quantity::Bytes::ZERO,
                epoch: departure.epoch,
                leaving_for: Some(departure.order.to),
                committed: Some(departure.order.id),
            });
        }
    }
    Ok(Json(all))
}

async fn start_service(
    _: FromScheduler,
    State(agent): State<Agent>,
    Json(start): Json<StartService>,
) -> Result<Json<ServiceFacts>, Refusal> {
    let there =
        agent.owned().await?.into_iter().find(|(one, _)| one.service().as_ref() == Some(&start.service));
    let id = match there {
        Some((container, _)) => container.id,
        None => {
            agent.engine.create(start.service.as_str(), service_body(&start.service, &start.run)?).await?
        }
    };
    let container = agent.engine.inspect(&id).await?;
    if container.pid.is_none() {
        agent.engine.start(&id).await?;
    }
    let container = agent.engine.inspect(&id).await?;
    let facts = agent.describe(&container, None)?;
    facts
        .map(Json)
        .ok_or_else(|| Refusal(StatusCode::CONFLICT, format!("`{}` is not a service", container.name)))
}

/// The container that an order is about, if this node owns it and is the one that it leaves.
async fn ordered(agent: &Agent, order: &Order) -> Result<Container, Refusal> {
    let conflict = |text: String| Err(Refusal(StatusCode::CONFLICT, text));
    if order.from != agent.config.node {
        return conflict(format!(
            "the order is for node `{}`, and this is `{}`",
            order.from, agent.config.node
        ));
    }
    if order.to == order.from {
        return conflict(format!("`{}` is on `{}` already", order.service, order.to));
    }
    let mut owned = agent.owned().await?.into_iter().map(|(container, _)| container);
    let found = owned.find(|one| one.service().as_ref() == Some(&order.service));
    Ok(found.ok_or_else(|| EngineError::NoService(order.service.clone()))?)
}

async fn migrate(
    _: FromScheduler,
    State(agent): State<Agent>,
    Json(order): Json<Order>,
) -> Result<Json<()>, Refusal> {
    if agent.store.departure(order.id)?.is_some() {
        return Ok(Json(()));
    }
    if let Some(arrival) = agent.store.arrivals(Holding::Released)?.into_iter().find(|one| {
        // Its first source may still speak to it; what that says must not meet the next migration.
        one.reservation.order.service == order.service
    }) {
        let text = format!(
            "`{}` has come from `{}`, which has not let go of it yet: try again when that node answers, or tell that it is \
             gone for good with `sterna fence`",
            order.service, arrival.source
        );
        return Err(Refusal(StatusCode::CONFLICT, text));
    }
    let container = ordered(&agent, &order).await?;
    let own = facts::gather(&agent.config, &agent.engine).await?;
    agent.running.start(order, &container, own).await?;
    Ok(Json(()))
}

async fn assess(
    _: FromScheduler,
    State(agent): State<Agent>,
    Json(order): Json<Order>,
) -> Result<Json<Assessment>, Refusal> {
    let container = ordered(&agent, &order).await?;
    let own = facts::gather(&agent.config, &agent.engine).await?;
    Ok(Json(agent.running.assess(order, &container, own).await?))
}

async fn events(
    _: FromScheduler,
    State(agent): State<Agent>,
    Segment(id): Segment<MigrationId>,
) -> Result<Response, Refusal> {
    let unknown = || Refusal(StatusCode::NOT_FOUND, format!("nothing is known of migration {id} here"));
    let log = agent.running.events(id)?.ok_or_else(unknown)?;
    let lines = futures_util::stream::unfold((log, 0, false), |(mut log, sent, ended)| async move {
        if ended {
            return None;
        }
        let fresh = loop {
            let fresh: Vec<Event> = log.borrow_and_update().iter().skip(sent).cloned().collect();
            if !fresh.is_empty() {
                break fresh;
            }
            log.changed().await.ok()?;
        };
        let ended = fresh.iter().any(|event| matches!(event, Event::Ended(_)));
        let sent = sent + fresh.len();
        let mut text = String::new();
        for event in &fresh {
            // Plain data with text keys: writing it as JSON can't fail.
            text.push_str(&serde_json::to_string(event).unwrap_or_default());
            text.push('\n');
        }
        Some((text, (log, sent, ended)))
    });
    Ok(Body::from_stream(lines.map(Ok::<_, std::convert::Infallible>)).into_response())
}

#[derive(Debug, Deserialize)]
struct AfterQuery {
    after: Option<MigrationId>,
}

async fn standings(
    _: FromScheduler,
    State(agent): State<Agent>,
    Query(query): Query<AfterQuery>,
) -> Result<Json<Vec<Standing>>, Refusal> {
    Ok(Json(agent.running.standings(query.after).await?))
}

/// Told to the scheduler, and to the agent that the service goes to.
async fn standing(
    caller: Caller,
    State(agent): State<Agent>,
    Segment(id): Segment<MigrationId>,
) -> Result<Json<Option<Standing>>, Refusal> {
    let standing = agent.running.standing(id).await?;
    match (&caller.0, &standing) {
        (Role::Agent(node), Some(standing)) if standing.order.to != *node => {
            Err(Refusal(StatusCode::FORBIDDEN, format!("migration {id} does not go to `{node}`")))
        }
        _ => Ok(Json(standing)),
    }
}

#[derive(Debug, Deserialize)]
struct CancelQuery {
    why: String,
}

async fn cancel(
    _: FromScheduler,
    State(agent): State<Agent>,
    Segment(id): Segment<MigrationId>,
    Query(query): Query<CancelQuery>,
) -> Result<Json<()>, Refusal> {
    // It stands in reports and logs.
    let why: String = query.why.chars().filter(|one| !one.is_control()).take(200).collect();
    Ok(Json(agent.running.cancel(id, why)?))
}

async fn check(
    FromAgent(caller): FromAgent,
    State(agent): State<Agent>,
    Json((reservation, source)): Json<(Reservation, NodeFacts)>,
) -> Result<Json<Verdict>, Refusal> {
    addressed(&agent, &caller, &reservation)?;
    let own = facts::gather(&agent.config, &agent.engine).await?;
    Ok(Json(agent.arrivals.check(&reservation, &source, &own).await?))
}

/// Carries a call through to its end, also when the caller goes away: a container that is made for a call that nobody waits
/// for must still be known to belong to its migration.
async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T, ArrivalError>> + Send + 'static,
) -> Result<Json<T>, Refusal> {
    match tokio::spawn(work).await {
        Ok(done) => Ok(Json(done?)),
        Err(error) => {
            Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("the call was cut short: {error}")))
        }
    }
}

async fn reserve(
    FromAgent(caller): FromAgent,
    State(agent): State<Agent>,
    Json(reservation): Json<Reservation>,
) -> Result<Json<()>, Refusal> {
    addressed(&agent, &caller, &reservation)?;
    whole(async move { agent.arrivals.reserve(&reservation).await }).await
}

/// Refuses a reservation that is not between the caller and this node.
fn addressed(agent: &Agent, caller: &NodeName, reservation: &Reservation) -> Result<(), Refusal> {
    let order = &reservation.order;
    if order.from == *caller && order.to == agent.config.node {
        return Ok(());
    }
    let text = format!("`{caller}` may not reserve for a move from `{}` to `{}` here", order.from, order.to);
    Err(Refusal(StatusCode::FORBIDDEN, text))
}

/// The node that a call about an arrival comes from, if the migration leaves it and the call has the migration's token.
struct Sender {
    id: MigrationId,
}

impl FromRequestParts<Agent> for Sender {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, agent: &Agent) -> Result<Self, Refusal> {
        let FromAgent(caller) = FromAgent::from_request_parts(parts, agent).await?;
        let id = migration_of(parts, agent).await?;
        let forbidden = |text: String| Err(Refusal(StatusCode::FORBIDDEN, text));
        if let Some(arrival) = agent.store.arrival(id)? {
            if arrival.source != caller {
                return forbidden(format!("migration {id} does not leave `{caller}`"));
            }
            let token = parts.headers.get(TOKEN_HEADER).map(|token| blake3::hash(token.as_bytes()));
            // Compared as hashes: that takes the same time wherever they differ.
            if token != Some(blake3::hash(arrival.reservation.token.as_bytes())) {
                return forbidden(format!("the call does not carry the token of migration {id}"));
            }
        }
        agent.arrivals.hear(id);
        Ok(Self { id })
    }
}

/// The migration that a path names.
async fn migration_of(parts: &mut Parts, agent: &Agent) -> Result<MigrationId, Refusal> {
    let bad = |text: String| Refusal(StatusCode::BAD_REQUEST, text);
    let Segment(names) = Segment::<HashMap<String, String>>::from_request_parts(parts, agent)
        .await
        .map_err(|error| bad(error.to_string()))?;
    let id = names.get("id").map(String::as_str).unwrap_or_default();
    id.parse().map_err(|error| bad(format!("`{id}` is not the id of a migration: {error}")))
}

async fn receive(agent: Agent, id: MigrationId, part: Part, body: Body) -> Result<Json<()>, Refusal> {
    let input = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    Ok(Json(agent.arrivals.receive(id, &part, input).await?))
}

async fn receive_memory(
    Sender { id }: Sender,
    State(agent): State<Agent>,
    body: Body,
) -> Result<Json<()>, Refusal> {
    receive(agent, id, Part::Memory, body).await
}

async fn receive_layer(
    Sender { id }: Sender,
    State(agent): State<Agent>,
    body: Body,
) -> Result<Json<()>, Refusal> {
    receive(agent, id, Part::Layer, body).await
}

async fn receive_volume(
    Sender { id }: Sender,
    State(agent): State<Agent>,
    Segment((_, name)): Segment<(MigrationId, String)>,
    body: Body,
) -> Result<Json<()>, Refusal> {
    receive(agent, id, Part::Volume(name), body).await
}

async fn restore(Sender { id }: Sender, State(agent): State<Agent>) -> Result<Json<()>, Refusal> {
    whole(async move { agent.arrivals.restore(id).await }).await
}

async fn restored(Sender { id }: Sender, State(agent): State<Agent>) -> Result<Json<Restored>, Refusal> {
    Ok(Json(agent.arrivals.restored(id).await?))
}

/// All that has not finished coming in.
async fn coming_in(_: FromScheduler, State(agent): State<Agent>) -> Result<Json<Vec<Arriving>>, Refusal> {
    let mut all = Vec::new();
    for state in [Holding::Held, Holding::Released] {
        for arrival in agent.store.arrivals(state)? {
            all.push(agent.arrivals.arriving(arrival.reservation.order.id).await?);
        }
    }
    Ok(Json(all))
}

/// Told to the scheduler, and to the agent that the service comes from.
async fn arriving(
    caller: Caller,
    State(agent): State<Agent>,
    Segment(id): Segment<MigrationId>,
) -> Result<Json<Arriving>, Refusal> {
    let arriving = agent.arrivals.arriving(id).await?;
    match &caller.0 {
        Role::Agent(node) if arriving.order.from != *node => {
            Err(Refusal(StatusCode::FORBIDDEN, format!("migration {id} does not leave `{node}`")))
        }
        _ => Ok(Json(arriving)),
    }
}

/// Anyone may carry a certificate: who issued it is proved by its signature.
async fn release(
    _: Caller,
    State(agent): State<Agent>,
    Segment(id): Segment<MigrationId>,
    Json(certificate): Json<Sealed>,
) -> Result<Json<ReleaseAnswer>, Refusal> {
    agent.arrivals.hear(id);
    whole(async move { agent.arrivals.release(id, &certificate).await }).await
}

async fn start_anew(
    Sender { id }: Sender,
    State(agent): State<Agent>,
    Json(certificate): Json<Sealed>,
) -> Result<Json<()>, Refusal> {
    whole(async move { agent.arrivals.start_anew(id, &certificate).await }).await
}

async fn finish(
    Sender { id }: Sender,
    State(agent): State<Agent>,
    Json(finish): Json<Finish>,
) -> Result<Json<()>, Refusal> {
    whole(async move { agent.arrivals.finish(id, &finish).await }).await
}

async fn discard(Sender { id }: Sender, State(agent): State<Agent>) -> Result<Json<()>, Refusal> {
    whole(async move { agent.arrivals.discard(id).await }).await
}

/// Reads `agent.toml` and serves the node until told to stop.
///
/// # Errors
/// When the file can't be used or the agent can't start.
pub async fn serve_file(
    path: &Path,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    Ok(serve(AgentConfig::load(path)?, stop).await?)
}

/// The agent did not serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Its file can't be used.
    #[error(transparent)]
    Config(#[from] super::config::ConfigError),
    /// It could not start.
    #[error(transparent)]
    Agent(#[from] AgentError),
}
