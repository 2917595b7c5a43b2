//! What a run of a fleet found, as values.

use serde::Serialize;
use sterna_policies::quantity::{Bytes, Grams, Millis, Usd};

use super::account::{Energy, rounded};
use super::engine::Engine;
use crate::clock::{NANOS_PER_HOUR, SimTime};

/// What a run of a fleet found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FleetReport {
    /// The fleet's own name.
    pub fleet: String,
    /// Its nodes.
    pub nodes: usize,
    /// Its services.
    pub services: usize,
    /// When it ended.
    pub ended: SimTime,
    /// Rows of the trace that were read.
    pub ticks: u64,
    /// All sites together.
    pub totals: FleetTotals,
    /// Each site.
    pub sites: Vec<SiteTotals>,
    /// Migrations, in the order of their beginnings.
    pub migrations: Vec<Migrated>,
    /// Moves that were not made.
    pub refused: Vec<Refused>,
}

/// What adds up over all sites.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FleetTotals {
    /// Energy of all nodes.
    pub energy: Energy,
    /// Carbon; `None` where power was drawn at a site whose carbon intensity is not known.
    pub carbon: Option<Grams>,
    /// Nodes in use, shares of cores and memory, egress.
    pub cost: Usd,
    /// What moves sent from site to site.
    pub cost_egress: Usd,
    /// Time that services stood still, added up.
    pub downtime: Millis,
    /// What moves sent.
    pub bytes: Bytes,
}

/// What adds up at a site.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteTotals {
    /// Energy of its nodes.
    pub energy: Energy,
    /// Carbon, with what the site draws beside its nodes; `None` where power was drawn at an unknown intensity.
    pub carbon: Option<Grams>,
    /// Nodes in use, shares of cores and memory.
    pub hosting: Usd,
    /// Time that nodes hosted anything, added up over them, in nanoseconds.
    pub in_use: u128,
    /// Time that services would have used more than their node has, added up over the nodes, in nanoseconds.
    pub overloaded: u128,
    /// Bytes that moves sent from its nodes.
    pub sent: u128,
    /// Bytes that moves brought to its nodes.
    pub received: u128,
}

/// A migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// Its place in the fleet's list of moves.
    pub order: u32,
    /// The service.
    pub service: u32,
    /// Where from.
    pub from: u32,
    /// Where to.
    pub to: u32,
    /// When it began.
    pub began: SimTime,
    /// When the service was frozen, or would have been after the end.
    pub freezes: SimTime,
    /// When it ran at the destination, or would have.
    pub ends: SimTime,
    /// Bytes per second that the path carried.
    pub bandwidth: u64,
    /// Passes before the freeze.
    pub passes: u32,
    /// Whether what was left at the freeze was as little as wanted.
    pub converged: bool,
    /// What crossed the link.
    pub bytes: u64,
    /// Whether it was over before the end.
    pub over: bool,
}

impl Migrated {
    /// What had crossed the link at an instant.
    pub(super) fn sent_by(&self, now: SimTime) -> u64 {
        let carried = u128::from(now.since(self.began)) * u128::from(self.bandwidth) / 1_000_000_000;
        self.bytes.min(u64::try_from(carried).unwrap_or(u64::MAX))
    }

    /// How long the service stood still up to an instant, in nanoseconds.
    pub fn downtime_by(&self, now: SimTime) -> u64 {
        self.ends.min(now).since(self.freezes)
    }
}

/// A move that was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Its place in the fleet's list of moves.
    pub order: u32,
    /// When.
    pub at: SimTime,
    /// Why.
    pub why: Refusal,
}

/// Why a move was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The service is on that node.
    #[error("the service is on that node")]
    There,
    /// The service is being moved.
    #[error("the service is being moved")]
    Moving,
    /// The node has no room for it.
    #[error("the node has no room for it")]
    NoRoom,
    /// The end came first: it was wanted later, or one of its nodes took part in other migrations until then.
    #[error("the end came first")]
    TooLate,
}

impl FleetReport {
    /// The report's hash: blake3 over its canonical JSON, as hex. The same fleet gives the same hash on every machine.
    ///
    /// # Errors
    /// When it can't be put into JSON.
    pub fn hash(&self) -> Result<String, serde_json::Error> {
        Ok(blake3::hash(&serde_json::to_vec(self)?).to_hex().to_string())
    }

    /// Simulated node-hours.
    pub fn node_hours(&self) -> f64 {
        self.nodes as f64 * self.ended.as_nanos() as f64 / NANOS_PER_HOUR as f64
    }

    /// Mean time of the migrations that were over, in nanoseconds; `None` where there was none.
    pub fn mean_migration(&self) -> Option<u64> {
        let over = self.migrations.iter().filter(|one| one.over);
        let (sum, count) = over.fold((0u128, 0u128), |(sum, count), one| {
            (sum + u128::from(one.ends.since(one.began)), count + 1)
        });
        u64::try_from(sum.checked_div(count)?).ok()
    }
}

/// Closes the accounts.
pub(super) fn of(mut engine: Engine<'_>, ticks: u64) -> FleetReport {
    let (fleet, now) = (engine.fleet, engine.now);
    let mut sites = Vec::with_capacity(fleet.sites.len());
    let (mut energy, mut cost, mut egress) = (0u128, Usd::ZERO, 0u128);
    let mut carbon = Some(Grams::ZERO);
    for (account, site) in engine.accounts.iter_mut().zip(&fleet.sites) {
        let closed = account.close(now, site);
        energy += closed.energy.0;
        cost = cost.saturating_add(closed.hosting);
        carbon = carbon.zip(closed.carbon).map(|(sum, more)| sum.saturating_add(more));
        egress += account.egress;
        sites.push(SiteTotals {
            energy: closed.energy,
            carbon: closed.carbon,
            hosting: closed.hosting,
            in_use: closed.in_use,
            overloaded: closed.overloaded,
            sent: account.sent,
            received: account.received,
        });
    }
    let price = u128::try_from(fleet.egress.as_micros()).unwrap_or(0);
    let cost_egress = Usd::from_micros(rounded(egress.saturating_mul(price), 1 << 30));
    let downtime: u128 = engine.migrations.iter().map(|one| u128::from(one.downtime_by(now))).sum();
    let bytes: u128 = engine.migrations.iter().map(|one| u128::from(one.bytes)).sum();
    FleetReport {
        fleet: fleet.name.clone(),
        nodes: fleet.nodes.len(),
        services: fleet.services.len(),
        ended: now,
        ticks,
        totals: FleetTotals {
            energy: Energy(energy),
            carbon,
            cost: cost.saturating_add(cost_egress),
            cost_egress,
            downtime: Millis::from_micros(i64::try_from(downtime).unwrap_or(i64::MAX)),
            bytes: Bytes(u64::try_from(bytes).unwrap_or(u64::MAX)),
        },
        sites,
        migrations: engine.migrations,
        refused: engine.refused,
    }
}
