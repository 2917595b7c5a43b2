//! Numbers about the service itself, and its health, over HTTP.
//!
//! `/healthz` says that the process serves; it depends on nothing else. `/readyz` says whether the loop works: the last
//! cycle was complete, and not long ago.
//!
//! | module | what lives there |
//! |---|---|
//! | [`probes`] | what agents measured last |
//! | [`links`] | what moves got of links |
//! | `connections` | how many there may be |

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use sterna_core::report::{Decision, Hold, Verdict};
use sterna_executor::migration::report::{Outcome, Report};
use sterna_policies::policy::Metric;
use sterna_policies::quantity::Millis;

use crate::observe::Observed;

use self::links::Links;
use self::probes::Probes;

mod connections;
pub mod links;
pub mod probes;

pub use connections::serve;

type ByOne = [(&'static str, &'static str); 1];
type ByReceiver = [(&'static str, String); 1];
type ByReceiverAndReason = [(&'static str, String); 2];

/// The service's own metrics.
#[derive(Debug)]
pub struct Telemetry {
    /// What agents measured last.
    pub probes: Probes,
    /// What moves got of links.
    pub links: Links,
    registry: Registry,
    decisions: Family<ByOne, Counter>,
    holds: Family<ByOne, Counter>,
    cycles: Family<ByOne, Counter>,
    cycle_duration: Histogram,
    last_cycle: Gauge,
    unknown: Family<ByOne, Gauge>,
    store_up: Gauge,
    nodes: Gauge,
    nodes_reachable: Gauge,
    migrations: Family<ByOne, Counter>,
    downtime: Histogram,
    bytes: Counter,
    phase_duration: Family<ByOne, Histogram, fn() -> Histogram>,
    phase_bytes: Family<ByOne, Counter>,
    frozen_in_vain: Histogram,
    rollbacks: Family<ByOne, Counter>,
    refusals: Family<ByOne, Counter>,
    reload_ok: Family<ByOne, Gauge>,
    reload_time: Family<ByOne, Gauge>,
    /// How many values of each metric were not known at the last look of each policy.
    missing: Mutex<BTreeMap<String, BTreeMap<Metric, usize>>>,
    webhook_delivered: Family<ByReceiver, Counter>,
    webhook_lost: Family<ByReceiverAndReason, Counter>,
    readiness: Mutex<Readiness>,
    /// When the loop was last seen to go on.
    alive: Mutex<std::time::Instant>,
}

#[derive(Debug, Clone, Default)]
struct Readiness {
    /// When the last cycle ended, by the process's own clock, and how.
    last: Option<(std::time::Instant, Result<(), String>)>,
    interval: Duration,
}

/// What came of a migration, as a label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MigrationEnd<'a> {
    /// There is a report.
    Reported(&'a Report),
    /// The order was not taken.
    NotTaken,
    /// Its end was not seen.
    LostSight,
}

/// Why a webhook's receiver does not get an event, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Too much waited for it already.
    Full,
    /// It failed each time that it was tried.
    GivenUp,
    /// It does not want it.
    Refused,
    /// The scheduler stopped before.
    Stopped,
}

impl Lost {
    const ALL: [Self; 4] = [Self::Full, Self::GivenUp, Self::Refused, Self::Stopped];

    const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::GivenUp => "given-up",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
        }
    }
}

fn reason(host: &str, lost: Lost) -> ByReceiverAndReason {
    [("webhook", host.to_owned()), ("reason", lost.name().to_owned())]
}

/// A file that is reloaded, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigFile {
    /// The policy.
    Policy,
    /// The inventory.
    Inventory,
}

impl ConfigFile {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Inventory => "inventory",
        }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl Telemetry {
    /// All at nothing.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("sterna");
        let mut telemetry = Self {
            probes: Probes::default(),
            links: Links::default(),
            registry: Registry::default(),
            decisions: Family::default(),
            holds: Family::default(),
            cycles: Family::default(),
            cycle_duration: Histogram::new(exponential_buckets(0.01, 2.0, 14)),
            last_cycle: Gauge::default(),
            unknown: Family::default(),
            store_up: Gauge::default(),
            nodes: Gauge::default(),
            nodes_reachable: Gauge::default(),
            migrations: Family::default(),
            downtime: Histogram::new(exponential_buckets(0.05, 2.0, 12)),
            bytes: Counter::default(),
            phase_duration: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 18))
            }),
            phase_bytes: Family::default(),
            frozen_in_vain: Histogram::new(exponential_buckets(0.05, 2.0, 12)),
            rollbacks: Family::default(),
            refusals: Family::default(),
            reload_ok: Family::default(),
            reload_time: Family::default(),
            missing: Mutex::default(),
            webhook_delivered: Family::default(),
            webhook_lost: Family::default(),
            readiness: Mutex::default(),
            alive: Mutex::new(std::time::Instant::now()),
        };
        let t = &telemetry;
        registry.register("decisions", "Decisions by verdict", t.decisions.clone());
        registry.register(
            "holds",
            "Rules that held a decision or a service's move, by rule",
            t.holds.clone(),
        );
        registry.register("cycles", "Cycles by result", t.cycles.clone());
        registry.register_with_unit(
            "cycle_duration",
            "From looking to having decided",
            Unit::Seconds,
            t.cycle_duration.clone(),
        );
        registry.register_with_unit(
            "last_cycle_timestamp",
            "When the last complete cycle ended",
            Unit::Seconds,
            t.last_cycle.clone(),
        );
        registry.register("unknown_values", "Values that could not be learnt, by metric", t.unknown.clone());
        registry.register("metric_store_up", "Whether the metrics store answered", t.store_up.clone());
        registry.register("nodes", "Nodes of the inventory", t.nodes.clone());
        registry.register("nodes_reachable", "Nodes whose agent answered", t.nodes_reachable.clone());
        registry.register("migrations", "Migrations by outcome", t.migrations.clone());
        registry.register_with_unit(
            "migration_downtime",
            "Downtime of services that were moved",
            Unit::Seconds,
            t.downtime.clone(),
        );
        registry.register_with_unit(
            "migration",
            "What migrations sent over links",
            Unit::Bytes,
            t.bytes.clone(),
        );
        registry.register_with_unit(
            "migration_phase_duration",
            "Time that each phase of a migration took",
            Unit::Seconds,
            t.phase_duration.clone(),
        );
        registry.register_with_unit(
            "migration_phase",
            "What migrations sent over links in each phase",
            Unit::Bytes,
            t.phase_bytes.clone(),
        );
        registry.register_with_unit(
            "migration_frozen_in_vain",
            "Time that services stood frozen whose migration was undone",
            Unit::Seconds,
            t.frozen_in_vain.clone(),
        );
        registry.register(
            "migration_rollbacks",
            "Migrations that were undone, by the last phase that they reached",
            t.rollbacks.clone(),
        );
        registry.register(
            "migration_refusals",
            "What spoke against migrations that were refused, by code",
            t.refusals.clone(),
        );
        registry.register(
            "config_last_reload_successful",
            "Whether the file as it is now is in force",
            t.reload_ok.clone(),
        );
        registry.register_with_unit(
            "config_last_reload_success_timestamp",
            "When the content in force was read",
            Unit::Seconds,
            t.reload_time.clone(),
        );
        registry.register_collector(Box::new(t.probes.clone()));
        registry.register_collector(Box::new(t.links.clone()));
        registry.register(
            "webhook_delivered",
            "Events that a webhook's receiver took, by its host",
            t.webhook_delivered.clone(),
        );
        registry.register(
            "webhook_dropped",
            "Events that a webhook's receiver did not get, by its host and by why",
            t.webhook_lost.clone(),
        );
        telemetry.registry = registry;
        telemetry
    }

    /// A file was read and is in force, or was refused.
    pub fn reloaded(&self, file: ConfigFile, ok: bool, now: Timestamp) {
        let label = [("file", file.name())];
        self.reload_ok.get_or_create(&label).set(i64::from(ok));
        if ok {
            self.reload_time.get_or_create(&label).set(now.as_second());
        }
    }

    /// There is a webhook to this host: its counters begin at nothing, so that the first loss can be seen as one.
    pub fn webhook(&self, host: &str) {
        drop(self.webhook_delivered.get_or_create(&[("webhook", host.to_owned())]));
        for lost in Lost::ALL {
            drop(self.webhook_lost.get_or_create(&reason(host, lost)));
        }
    }

    /// A webhook's receiver took an event.
    pub fn webhook_delivered(&self, host: &str) {
        self.webhook_delivered.get_or_create(&[("webhook", host.to_owned())]).inc();
    }

    /// A webhook's receiver does not get events.
    pub fn webhook_lost(&self, host: &str, lost: Lost, events: usize) {
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        self.webhook_lost.get_or_create(&reason(host, lost)).inc_by(events);
    }

    /// These policies are in force; what others did not know counts no more.
    pub fn in_force<'p>(&self, policies: impl Iterator<Item = &'p str>) {
        let policies: Vec<&str> = policies.collect();
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.retain(|name, _| policies.contains(&name.as_str()));
    }

    /// Something was observed for a policy.
    pub fn observed(&self, policy: &str, observed: &Observed) {
        let seen = &observed.observation;
        self.nodes.set(count(seen.continuum.nodes.len()));
        self.nodes_reachable.set(count(seen.reachable.len()));
        if let Some(up) = observed.store_up {
            self.store_up.set(i64::from(up));
        }
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        let of_policy = missing.entry(policy.to_owned()).or_default();
        of_policy.clear();
        for one in &seen.unknown {
            *of_policy.entry(one.metric).or_default() += 1;
        }
        for metric in
            [Metric::UserLatency, Metric::CostRate, Metric::Power, Metric::CarbonRate, Metric::CpuUse]
        {
            // Of several policies the one that knows least.
            let most = missing.values().filter_map(|of_policy| of_policy.get(&metric)).max();
            self.unknown.get_or_create(&[("metric", metric.name())]).set(count(most.copied().unwrap_or(0)));
        }
    }

    /// Something was decided.
    pub fn decided(&self, decision: &Decision, took: Duration) {
        let verdict = match &decision.report.verdict {
            Verdict::Move => "move",
            Verdict::Stay => "stay",
            Verdict::Held { .. } => "held",
        };
        self.decisions.get_or_create(&[("verdict", verdict)]).inc();
        let whole = match &decision.report.verdict {
            Verdict::Held { by } => by.as_slice(),
            Verdict::Move | Verdict::Stay => &[],
        };
        let mut names: Vec<_> = whole.iter().map(hold_name).collect();
        names.extend(decision.report.services.iter().flat_map(|service| &service.held_by).map(hold_name));
        names.sort_unstable();
        names.dedup();
        for name in names {
            self.holds.get_or_create(&[("rule", name)]).inc();
        }
        self.cycle_duration.observe(took.as_secs_f64());
    }

    /// A cycle ended. `interval` is the time until the next.
    pub fn cycle_ended(&self, result: Result<(), String>, interval: Duration, now: Timestamp) {
        let label = if result.is_ok() { "complete" } else { "failed" };
        self.cycles.get_or_create(&[("result", label)]).inc();
        if result.is_ok() {
            self.last_cycle.set(now.as_second());
        }
        let mut readiness = self.readiness.lock().unwrap_or_else(PoisonError::into_inner);
        self.goes_on();
        *readiness = Readiness { last: Some((std::time::Instant::now(), result)), interval };
    }

    /// The loop goes on: it looks, or follows a migration.
    pub fn goes_on(&self) {
        *self.alive.lock().unwrap_or_else(PoisonError::into_inner) = std::time::Instant::now();
    }

    /// A migration ended.
    pub fn migrated(&self, end: MigrationEnd<'_>) {
        let outcome = match end {
            MigrationEnd::Reported(report) => match report.outcome {
                Outcome::Moved => "moved",
                Outcome::RolledBack { .. } => "rolled-back",
                Outcome::Refused { .. } => "refused",
            },
            MigrationEnd::NotTaken => "refused",
            MigrationEnd::LostSight => "lost-sight",
        };
        self.migrations.get_or_create(&[("outcome", outcome)]).inc();
        if let MigrationEnd::Reported(report) = end {
            self.bytes.inc_by(report.bytes().0);
            for record in &report.phases {
                let label = [("phase", record.phase.name())];
                self.phase_duration.get_or_create(&label).observe(record.took.as_f64() / 1e3);
                self.phase_bytes.get_or_create(&label).inc_by(record.bytes.0);
            }
            match &report.outcome {
                Outcome::Moved => {}
                Outcome::RolledBack { after, .. } => {
                    self.rollbacks.get_or_create(&[("after", after.name())]).inc();
                    if report.frozen_in_vain > Millis::ZERO {
                        self.frozen_in_vain.observe(report.frozen_in_vain.as_f64() / 1e3);
                    }
                }
                Outcome::Refused { findings } => {
                    for finding in findings {
                        self.refusals.get_or_create(&[("code", finding.code.name())]).inc();
                    }
                }
            }
            if let Some(downtime) = report.downtime {
                self.downtime.observe(downtime.as_f64() / 1e3);
            }
        }
    }

    /// Whether the loop works, or why not.
    pub fn ready(&self) -> Result<(), String> {
        let Readiness { last, interval } =
            self.readiness.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((_, result)) = last else { return Err("no cycle has ended yet".to_owned()) };
        result?;
        match too_long(self.alive(), interval) {
            Some(silent) => Err(format!("the loop was last seen {} ago", Millis::from_duration(silent))),
            None => Ok(()),
        }
    }

    /// How long the loop was not seen to go on, where that is longer than it can take; whatever came of the last cycle.
    pub fn silent(&self) -> Option<Duration> {
        let interval = self.readiness.lock().unwrap_or_else(PoisonError::into_inner).interval;
        too_long(self.alive(), interval)
    }

    fn alive(&self) -> std::time::Instant {
        *self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In the text form that Prometheus scrapes.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A look takes its time, and so does a phase of a migration of which nothing is heard.
fn too_long(last: std::time::Instant, interval: Duration) -> Option<Duration> {
    let silent = last.elapsed();
    (silent > interval * 3 + Duration::from_secs(600)).then_some(silent)
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The word for a rule that holds, as reports and metrics have it.
pub const fn hold_name(hold: &Hold) -> &'static str {
    match hold {
        Hold::PolicyOff => "policy-off",
        Hold::MetricsMissing { .. } => "metrics-missing",
        Hold::GainTooSmall { .. } => "gain-too-small",
        Hold::PaysBackTooLate { .. } => "pays-back-too-late",
        Hold::Untriggered { .. } => "untriggered",
        Hold::GainTooNew { .. } => "gain-too-new",
        Hold::RegretTooSmall { .. } => "regret-too-small",
        Hold::Return { .. } => "return",
        Hold::Residency { .. } => "residency",
        Hold::Cooldown { .. } => "cooldown",
        Hold::Settling { .. } => "settling",
        Hold::Concurrent { .. } => "concurrent",
        Hold::BudgetSpent { .. } => "budget-spent",
        Hold::CircuitOpen { .. } => "circuit-open",
        Hold::WindowClosed { .. } => "window-closed",
        Hold::WindowTooShort { .. } => "window-too-short",
        Hold::Paused { .. } => "paused",
        Hold::OptedOut { .. } => "opted-out",
        Hold::UnderWay => "under-way",
        Hold::NoRoom => "no-room",
        Hold::NotRunning => "not-running",
        Hold::Infeasible => "infeasible",
        Hold::Solver { .. } => "solver",
        Hold::Checker { .. } => "checker",
    }
}

/// The routes.
pub fn routes(telemetry: Arc<Telemetry>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(telemetry)
}

async fn metrics(State(telemetry): State<Arc<Telemetry>>) -> impl IntoResponse {
    const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match telemetry.text() {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, KIND)], text),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], error.to_string())
        }
    }
}

async fn readyz(State(telemetry): State<Arc<Telemetry>>) -> (StatusCode, String) {
    match telemetry.ready() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

#[cfg(test)]
mod tests;
