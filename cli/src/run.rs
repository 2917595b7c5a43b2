//! `sterna run`: the scheduler as a service.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use sterna_core::continuum::Continuum;
use sterna_core::cost::{Costs, calibration};
use sterna_daemon::api::events::Feed;
use sterna_daemon::api::token::{self, Token};
use sterna_daemon::api::{self, Api};
use sterna_daemon::control::desk::Desk;
use sterna_daemon::control::ending::Endings;
use sterna_daemon::control::recall::Recall;
use sterna_daemon::control::rounds::Rounds;
use sterna_daemon::control::stop::{Urgency, stop};
use sterna_daemon::control::world::{Clock, RealWorld, SystemClock, World};
use sterna_daemon::control::{Considered, Engine, Files, Question, Scheduler, consider};
use sterna_daemon::declared::Declared;
use sterna_daemon::governing::Governing;
use sterna_daemon::history::HistoryStore;
use sterna_daemon::history::lock::StateLock;
use sterna_daemon::history::retention;
use sterna_daemon::migration_object::heard::Heard;
use sterna_daemon::observe::probes;
use sterna_daemon::observe::prometheus::Prometheus;
use sterna_daemon::reload::{FileError, Watched};
use sterna_daemon::settings::{Kubernetes, Settings, SettingsError, Traces};
use sterna_daemon::telemetry::{self, ConfigFile, Telemetry, links};
use sterna_daemon::webhook::{Hooks, Kind, Webhook};
use sterna_executor::fleet::FleetView;
use sterna_executor::identity::{Authority, Credentials, Role};
use sterna_executor::platform::kubernetes::node::watching::PodWatch;
use sterna_policies::diagnose;
use sterna_policies::policy::Policy;
use sterna_policies::quantity::Millis;

use crate::declared_services::{self, Served};
use crate::exit::Invalid;
use crate::leader::Reign;
use crate::migration_objects::{Parts, Shown};
use crate::service_endpoints::Led;
use crate::wiring::runtime;
use crate::{logging, supervisor};

mod printer;
pub use printer::Printer;

/// Arguments of `sterna run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The settings file.
    #[arg(long, short, env = "STERNA_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// End after one cycle, and after the migrations that it orders.
    #[arg(long)]
    once: bool,
    /// Print every decision in full, also one that says the same as the one before.
    #[arg(long, short)]
    verbose: bool,
}

impl Args {
    /// Where spans are sent, as far as it is known before anything else is; a mistake is told once the settings are read.
    pub fn traces(&self) -> Option<Traces> {
        Settings::load(&self.config).ok()?.traces
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(serve(args))
}

/// The settings, and the files that they name.
pub struct Opened {
    /// The settings.
    pub settings: Settings,
    /// Policy and inventory.
    pub files: Files,
}

impl Opened {
    /// Reads everything, and prints warnings.
    pub fn read(config: &Path) -> anyhow::Result<Self> {
        let settings = Settings::load(config).map_err(unusable_settings)?;
        let (inventory, warnings) = declared_services::inventory(&settings).map_err(file_error)?;
        warn(&warnings);
        let load = sterna_policies::load::policy;
        let (policies, warnings) =
            Governing::open(&settings.policies, inventory.value(), load).map_err(file_error)?;
        warnings.iter().for_each(warn);
        Ok(Self { settings, files: Files { policies, inventory } })
    }

    /// The policies in force, the highest priority first; with a name only that one.
    pub fn policies(&self, named: Option<&str>) -> anyhow::Result<Vec<Policy>> {
        let mut policies = self.files.in_force();
        if let Some(name) = named {
            let names =
                policies.iter().map(|policy| format!("`{}`", policy.name)).collect::<Vec<_>>().join(", ");
            policies.retain(|policy| policy.name == name);
            anyhow::ensure!(!policies.is_empty(), "there is no policy `{name}`; there are {names}");
        }
        Ok(policies)
    }

    /// The policy that has a service.
    pub fn policy_of(&self, service: &str) -> anyhow::Result<Policy> {
        self.files.policies.of_service(self.continuum(), service).context("no policy is in force")
    }

    /// The continuum as the inventory has it.
    pub fn continuum(&self) -> &Continuum {
        self.files.inventory.value()
    }

    fn authority(&self) -> anyhow::Result<Authority> {
        let folder = self.settings.authority_of(&self.continuum().name);
        Authority::open(&folder)
            .with_context(|| format!("can't use the certificate authority in {}", folder.display()))
    }

    /// The continuum's agents.
    pub fn world(&self) -> anyhow::Result<RealWorld> {
        Ok(RealWorld::new(self.authority()?))
    }

    /// What a front proves itself with.
    pub fn front(&self) -> anyhow::Result<Credentials> {
        Ok(self.authority()?.issue(&Role::Front)?)
    }

    /// A scheduler's own certificate, where the continuum has an authority that can issue one.
    pub fn credentials(&self) -> Option<Credentials> {
        let folder = self.settings.authority_of(&self.continuum().name);
        Authority::open(&folder).ok()?.issue(&Role::Scheduler).ok()
    }

    /// The metrics store.
    pub fn store(&self) -> anyhow::Result<Prometheus> {
        let prometheus = &self.settings.prometheus;
        Ok(Prometheus::new(&prometheus.url, prometheus.timeout)?)
    }

    /// How to decide: with what the parts of a move take here, where a calibration is named.
    pub fn engine(&self) -> anyhow::Result<Engine> {
        let costs = match &self.settings.calibration {
            Some(path) => *Watched::open(path, calibration::load).map_err(file_error)?.0.value(),
            None => Costs::default(),
        };
        Ok(Engine::new(self.settings.seed, costs))
    }

    /// Asks the agents what runs where, to decide without changing anything.
    pub async fn look(&self) -> anyhow::Result<Looked<'_>> {
        let engine = self.engine()?;
        let (history, world, store) = (self.history_to_read()?, self.world()?, self.store()?);
        let (view, _) = world.look(self.continuum()).await?;
        Ok(Looked { opened: self, history, store, view, engine, at: SystemClock.now() })
    }

    /// The history of the continuum as it is, for who changes nothing; an empty one where there is none.
    pub fn history_to_read(&self) -> anyhow::Result<HistoryStore> {
        let folder = self.settings.state_of(&self.continuum().name);
        Ok(HistoryStore::read(&folder)?.map_or_else(HistoryStore::nothing, Ok)?)
    }

    /// The history of the continuum.
    pub fn history(&self) -> anyhow::Result<HistoryStore> {
        Ok(HistoryStore::open(&self.settings.state_of(&self.continuum().name))?)
    }
}

/// What runs where, and all that a decision about it needs.
pub struct Looked<'o> {
    opened: &'o Opened,
    history: HistoryStore,
    store: Prometheus,
    view: FleetView,
    engine: Engine,
    at: Timestamp,
}

impl Looked<'_> {
    /// Decides by a policy, and records nothing.
    pub async fn consider(&self, policy: &Policy) -> anyhow::Result<Considered> {
        let Self { opened, history, store, view, engine, at } = self;
        let question = Question { continuum: opened.continuum(), policy, standing: None, now: *at };
        Ok(consider(store, view.clone(), question, history, engine).await?)
    }
}

/// Settings that can't be used, as an error of a file.
pub fn unusable_settings(error: SettingsError) -> anyhow::Error {
    match error {
        SettingsError::Invalid(invalid) => Invalid(invalid.into()).into(),
        // Also the environment is input that can be invalid.
        SettingsError::Layers { .. } => Invalid(miette::Report::msg(error.to_string())).into(),
        SettingsError::File { .. } => anyhow::Error::new(error),
    }
}

fn file_error(error: FileError) -> anyhow::Error {
    match error {
        FileError::Invalid(invalid) => Invalid(invalid.into()).into(),
        other => other.into(),
    }
}

fn warn(warnings: &diagnose::Report) {
    for line in warnings.lines().lines() {
        tracing::warn!("{line}");
    }
}

/// Prints lines; a reader that went away is no reason to stop.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _gone = writeln!(out, "{text}").and_then(|()| out.flush());
}

async fn serve(args: Args) -> anyhow::Result<ExitCode> {
    let opened = Opened::read(&args.config)?;
    let settings = opened.settings.clone();
    let engine = opened.engine()?;
    if settings.traces.is_some() && !logging::SENDS_SPANS {
        let message = "`[traces]` is set, and this build of sterna can't send spans: \
            take one that was built with `--features otlp`, or leave the table out";
        return Err(Invalid(miette::Report::msg(message)).into());
    }
    let name = opened.continuum().name.clone();
    let state = settings.state_of(&name);
    let (stopper, stop) = stop();
    // Already while it waits to lead: where it is the first process, as in a pod, a signal that nobody hears ends nothing.
    let signals = tokio::spawn(async move {
        let heard = |urgency| match urgency {
            Urgency::No => {}
            Urgency::WhenDone => {
                supervisor::stopping();
                say("stopping: a running migration is followed to its end (again to leave at once)")
            }
            Urgency::Now => say("leaving at once"),
        };
        if let Err(error) = stopper.ask_on_signals(heard).await {
            tracing::warn!(%error, "signals can't be heard; the service can only be killed");
        }
    });
    let reign = match &settings.leader {
        Some(leader) => match Reign::begin(leader, listen(&settings).await?, say, &stop).await? {
            Some(reign) => Some(reign),
            None => return Ok(ExitCode::SUCCESS),
        },
        None => None,
    };
    // Only now: whoever led before may have used the same folder.
    let _lock = StateLock::take(&state)?;
    let pods = PodWatch::default();
    let (history, world, store) =
        (opened.history()?, opened.world()?.watching(pods.clone()), opened.store()?);
    let telemetry = Arc::new(Telemetry::new());
    for file in [ConfigFile::Policy, ConfigFile::Inventory] {
        telemetry.reloaded(file, true, SystemClock.now());
    }
    let listener = listen(&settings).await?;
    let address = listener.local_addr()?;
    say(&banner(&opened, &state, &address.to_string())?);
    let desk = Arc::new(Desk::new(opened.continuum(), &opened.policies(None)?));
    let feed = Feed::default();
    say(&match &settings.calibration {
        Some(file) => format!("costs      of moves as measured here, from {}", file.display()),
        None => "costs      of moves as measured elsewhere; `sterna calibrate` learns what they are here"
            .to_owned(),
    });
    let api = Api {
        // With a connection of its own: whoever looks far back does not keep the loop waiting.
        history: opened.history()?,
        desk: Arc::clone(&desk),
        telemetry: Arc::clone(&telemetry),
        feed: feed.clone(),
        token: Some(Token::new(&secret(&settings, &state)?)),
        clock: Arc::new(SystemClock),
        looking_back: Arc::new(tokio::sync::Semaphore::new(1)),
    };
    let clock = Arc::new(SystemClock);
    let hooks = Arc::new(Hooks::start(&settings.webhooks, &name, Arc::clone(&telemetry), clock)?);
    let routes = telemetry::routes(Arc::clone(&telemetry)).merge(api::routes(api));
    let server = tokio::spawn(telemetry::serve(listener, routes));
    let mut others = vec![
        tokio::spawn(retention::keep(history.clone(), settings.keep, SystemClock)),
        tokio::spawn(supervisor::watchdog(Arc::clone(&telemetry))),
        tokio::spawn(look_on_hangup(Arc::clone(&desk))),
        tokio::spawn(look_when_a_pod_ends(pods, Arc::clone(&desk))),
        tokio::spawn(links::keep(history.clone(), Arc::clone(&desk), Arc::clone(&telemetry), SystemClock)),
    ];
    // One cycle has nobody who scrapes them.
    if let Some(every) = settings.probes.filter(|_| !args.once) {
        let (desk, telemetry) = (Arc::clone(&desk), Arc::clone(&telemetry));
        others.push(tokio::spawn(probes::keep(world.clone(), every, desk, telemetry, SystemClock)));
    }
    let leadership = reign.as_ref().map(|reign| reign.leadership.clone());
    let stop = match &leadership {
        Some(leadership) => stop.only_while(leadership.clone()),
        None => stop,
    };
    let heard = Arc::new(Heard::default());
    let kubernetes = settings.kubernetes.as_ref();
    let shown = match kubernetes.and_then(|one| Some((one, one.migrations.as_deref()?))) {
        Some((kubernetes, namespace)) => {
            let (desk, heard, leadership) = (Arc::clone(&desk), Arc::clone(&heard), leadership.clone());
            let parts = Parts { history: opened.history()?, world: world.clone(), desk, heard, leadership };
            Some(Shown::begin(kubernetes, namespace, parts).await?)
        }
        None => None,
    };
    // Where services lead that are there for one cycle, nobody would keep.
    let led = match kubernetes.filter(|one| !one.endpoints.is_empty() && !args.once) {
        Some(kubernetes) => {
            let (desk, leadership) = (Arc::clone(&desk), leadership.clone());
            Some(Led::begin(kubernetes, opened.front()?, desk, leadership).await?)
        }
        None => None,
    };
    let served = match kubernetes.and_then(|one| Some((one, one.services.as_deref()?))) {
        Some((kubernetes, namespace)) => {
            let parts = declared_services::Parts {
                world: world.clone(),
                authority: opened.authority()?,
                desk: Arc::clone(&desk),
                inventory: settings.inventory.clone(),
                declared: Declared::of(&state),
                leadership: leadership.clone(),
            };
            Some(Served::begin(kubernetes, namespace, parts).await?)
        }
        None => None,
    };
    supervisor::ready();
    let failed = Arc::new(AtomicBool::new(false));
    let printer = Printer::new(args.verbose, settings.policies.len() > 1, Arc::clone(&failed));
    let mut scheduler = Scheduler {
        store,
        world,
        clock: SystemClock,
        engine,
        files: opened.files,
        history,
        telemetry,
        recall: Recall::default(),
        endings: Endings::default(),
        rounds: Rounds::default(),
        desk,
        tell: Box::new({
            let hooks = Arc::clone(&hooks);
            move |notice| {
                printer.tell(notice);
                feed.tell(notice);
                hooks.tell(notice);
                heard.tell(notice);
            }
        }),
    };
    let cycles = if args.once { Some(1) } else { settings.cycles };
    let done = scheduler.run(&stop, cycles).await;
    // Before the lease is given up, which would look the same.
    let deposed = leadership.is_some_and(|leadership| !leadership.holds());
    if let Some(served) = served {
        served.end();
    }
    if let Some(led) = led {
        led.end().await;
    }
    if let Some(shown) = shown {
        shown.end(&stop).await;
    }
    hooks.finish(if stop.urgency() == Urgency::Now { HURRIED } else { LAST_WORDS }).await;
    server.abort();
    signals.abort();
    others.iter().for_each(tokio::task::JoinHandle::abort);
    tracing::info!(cycles = done, "ended");
    if let Some(reign) = reign {
        reign.end().await;
    }
    if deposed {
        say("the lease is lost: ended, to contend for it anew when started again");
        return Ok(ExitCode::FAILURE);
    }
    // One cycle that failed is all that was asked for; a service has had its other cycles.
    let failed = args.once && failed.load(Ordering::Relaxed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn listen(settings: &Settings) -> anyhow::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("can't listen on {}; set `listen` to a free address", settings.listen))
}

/// How long webhooks may take for what is left when the service stops.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// And when it is to end at once.
const HURRIED: Duration = Duration::from_secs(1);

/// The token that changes are asked with.
fn secret(settings: &Settings, state: &Path) -> anyhow::Result<String> {
    Ok(match &settings.token_file {
        Some(file) => token::read(file)?,
        None => token::of_state(state)?,
    })
}

/// Looks at files and the world at once at each SIGHUP. In a terminal that signal says that it was closed, which ends the program.
async fn look_on_hangup(desk: Arc<Desk>) {
    if std::io::stdin().is_terminal() {
        return;
    }
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            return tracing::warn!(%error, "SIGHUP can't be heard; files are looked at with every look");
        }
    };
    while hangup.recv().await.is_some() {
        say("looking at once");
        desk.ring();
    }
}

/// Looks at once when a node's pod has ended: what is held of its services waits for that.
async fn look_when_a_pod_ends(pods: PodWatch, desk: Arc<Desk>) {
    loop {
        pods.news().await;
        desk.ring();
    }
}

fn banner(opened: &Opened, state: &Path, listen: &str) -> anyhow::Result<String> {
    let continuum = opened.continuum();
    let policies = opened.policies(None)?;
    let asked: BTreeSet<_> =
        policies.iter().flat_map(|policy| policy.metrics.keys()).map(|metric| metric.name()).collect();
    let asked = if asked.is_empty() { "nothing".to_owned() } else { Vec::from_iter(asked).join(", ") };
    let probes = opened
        .settings
        .probes
        .map_or_else(|| "none".to_owned(), |every| format!("agents measure every {}", span(every)));
    let webhooks = opened.settings.webhooks.iter().map(webhook).collect::<String>();
    let objects = opened.settings.kubernetes.as_ref().map_or_else(String::new, in_kubernetes);
    let line = |policy: &Policy| {
        let (name, mode, every) = (&policy.name, policy.mode.name(), span(policy.trigger.interval));
        format!("policy     {name}: mode {mode}, a look every {every}\n")
    };
    Ok(format!(
        "continuum  {} from {}: {} sites, {} nodes, {} services\n\
         {}\
         metrics    {asked} from {}\n\
         probes     {probes}\n\
         state      {}\n\
         serving    http://{listen}/metrics, /healthz, /readyz, /api/v1{objects}{webhooks}",
        continuum.name,
        opened.settings.inventory.display(),
        continuum.sites.len(),
        continuum.nodes.len(),
        continuum.services.len(),
        policies.iter().map(line).collect::<String>(),
        opened.settings.prometheus.url,
        state.display(),
    ))
}

/// What of a cluster is kept, in lines of its own.
fn in_kubernetes(kubernetes: &Kubernetes) -> String {
    let shown = kubernetes
        .migrations
        .as_ref()
        .map(|namespace| format!("\nobjects    migrations are shown in the namespace {namespace}"));
    let led = (!kubernetes.endpoints.is_empty()).then(|| {
        format!("\nendpoints  services lead to where they run in {}", kubernetes.endpoints.join(", "))
    });
    let declared = kubernetes
        .services
        .as_ref()
        .map(|namespace| format!("\nservices   are declared in the namespace {namespace}"));
    shown.into_iter().chain(declared).chain(led).collect()
}

/// One receiver, in a line of its own.
fn webhook(webhook: &Webhook) -> String {
    let kinds: Vec<_> = webhook.kinds.iter().map(|kind| kind.name()).collect();
    let kinds = if kinds.len() == Kind::ALL.len() { "all events".to_owned() } else { kinds.join(", ") };
    format!("\nwebhook    {}: {kinds}", webhook.host())
}

/// Seconds where milliseconds would be hard to read.
fn span(time: Millis) -> String {
    if time.as_f64() >= 1000.0 { format!("{:.2}s", time.as_f64() / 1e3) } else { format!("{time:.1}") }
}
