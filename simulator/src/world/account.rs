//! The account: everything that adds up over time, in whole numbers.
//!
//! Between two events nothing changes, so rate times span is the integral itself and not an approximation of it.

use std::collections::{BTreeMap, BTreeSet};

use sterna_core::continuum::{ServiceName, SiteName};
use sterna_policies::quantity::{Grams, Millis, Usd, WattHours};

use super::flow::Flow;
use crate::clock::per_hour;
use crate::models::latency::{Latencies, requests, sum, weight};
use crate::report::{ServiceTotals, Totals};

/// What has added up since the scenario's start.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Micro-USD per hour times nanoseconds.
    cost: i128,
    /// What moves sent over priced links.
    egress: Usd,
    /// Microwatts times nanoseconds.
    energy: i128,
    /// Micrograms per hour times nanoseconds.
    carbon: i128,
    /// Sites that drew power without a known carbon intensity.
    carbon_unknown: BTreeSet<SiteName>,
    latencies: Latencies,
    services: BTreeMap<ServiceName, Standstill>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Standstill {
    nanos: u64,
    /// Requests that came meanwhile, as a weight.
    held: i128,
}

impl Account {
    /// Adds a span during which `flow` held.
    pub fn add(&mut self, flow: &Flow<'_>, nanos: u64) {
        let span = i128::from(nanos);
        self.cost += i128::from(flow.cost.as_micros()) * span;
        for at in &flow.sites {
            self.energy = self.energy.saturating_add(i128::from(at.power.as_micros()) * span);
            match at.carbon {
                Some(rate) => self.carbon = self.carbon.saturating_add(i128::from(rate.as_micros()) * span),
                None if at.power.as_micros() > 0 && nanos > 0 => {
                    self.carbon_unknown.insert(at.site.clone());
                }
                None => {}
            }
        }
        for demand in &flow.demands {
            if demand.frozen {
                let standstill = self.services.entry(demand.service.clone()).or_default();
                standstill.held = standstill.held.saturating_add(weight(demand.rate, nanos));
            } else {
                self.latencies.add(demand.latency, demand.rate, nanos);
            }
        }
        for service in &flow.frozen {
            self.services.entry(service.clone()).or_default().nanos += nanos;
        }
    }

    /// Adds the price of a transfer.
    pub fn pay_egress(&mut self, price: Usd) {
        self.egress = self.egress.saturating_add(price);
    }

    /// The totals so far.
    pub fn totals(&self) -> Totals {
        let held = requests(sum(self.services.values().map(|one| one.held)));
        let hosting = Usd::from_micros(per_hour(self.cost));
        Totals {
            user_latency_mean: self.latencies.mean(),
            user_latency_p95: self.latencies.percentile(95),
            requests: self.latencies.requests().saturating_add(held),
            requests_held: held,
            cost: hosting.saturating_add(self.egress),
            cost_egress: self.egress,
            energy: WattHours::from_micros(per_hour(self.energy)),
            carbon: self.carbon_unknown.is_empty().then(|| Grams::from_micros(per_hour(self.carbon))),
            carbon_unknown_at: self.carbon_unknown.iter().cloned().collect(),
            downtime: standstill(
                self.services.values().fold(0, |nanos, one| nanos.saturating_add(one.nanos)),
            ),
            services: self
                .services
                .iter()
                .map(|(name, one)| ServiceTotals {
                    service: name.clone(),
                    downtime: standstill(one.nanos),
                    requests_held: requests(one.held),
                })
                .collect(),
        }
    }
}

fn standstill(nanos: u64) -> Millis {
    Millis::from_micros(i64::try_from(nanos).unwrap_or(i64::MAX))
}
