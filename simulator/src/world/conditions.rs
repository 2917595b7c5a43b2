//! What the scenario's tracks say at one instant, with the inventory's numbers where no track speaks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sterna_core::continuum::{Continuum, ServiceName, SiteName, UsersName};
use sterna_policies::quantity::{Bytes, GramsPerKwh, Millis, PerSecond, UsdPerHour};

use super::layout::Layout;
use crate::clock::SimTime;
use crate::scenario::Scenario;

/// The numbers of one instant that no decision has a hand in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Requests per second.
    pub rates: BTreeMap<UsersName, BTreeMap<ServiceName, PerSecond>>,
    /// Latency between users and sites.
    pub latency: BTreeMap<UsersName, BTreeMap<SiteName, Millis>>,
    /// Price of one node while it is in use.
    pub price: BTreeMap<SiteName, UsdPerHour>,
    /// Carbon intensity, where known.
    pub carbon: BTreeMap<SiteName, GramsPerKwh>,
    /// Memory that services hold.
    pub memory: BTreeMap<ServiceName, Bytes>,
    seen: Seen,
    by_number: Derived<Numbers>,
}

/// The continuum as it is at that instant: without and with its carbon intensities.
type Seen = [Derived<Arc<Continuum>>; 2];

/// What follows from the rest, once somebody has asked for it.
#[derive(Debug, Clone)]
struct Derived<T>(OnceLock<T>);

impl<T> Default for Derived<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> PartialEq for Derived<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Derived<T> {}

/// The same numbers by those of a [`Layout`].
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    /// Price of one node while it is in use, by site.
    pub price: Vec<UsdPerHour>,
    /// Carbon intensity by site.
    pub carbon: Vec<Option<GramsPerKwh>>,
    /// Who asks for what, by user groups and then by services.
    pub asks: Vec<Ask>,
    latency: Vec<Vec<Option<Millis>>>,
}

/// Requests of one user group for one service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    /// The number of the group, among those that ask for anything.
    pub users: usize,
    /// The number of the service.
    pub service: usize,
    /// How many.
    pub rate: PerSecond,
}

impl Numbers {
    fn new(conditions: &Conditions, layout: &Layout<'_>) -> Self {
        let sites = || layout.sites.iter().map(|(name, _)| *name);
        let asks = conditions.rates.values().enumerate().flat_map(|(users, rates)| {
            let ask = move |(name, rate): (&ServiceName, &PerSecond)| {
                Some(Ask { users, service: layout.service(name)?, rate: *rate })
            };
            rates.iter().filter_map(ask)
        });
        let latency = |users: &UsersName| {
            let known = conditions.latency.get(users);
            sites().map(|site| known?.get(site).copied()).collect()
        };
        Self {
            price: sites().map(|site| conditions.price.get(site).copied().unwrap_or_default()).collect(),
            carbon: sites().map(|site| conditions.carbon.get(site).copied()).collect(),
            asks: asks.collect(),
            latency: conditions.rates.keys().map(latency).collect(),
        }
    }

    /// Latency from users to a site.
    pub fn latency(&self, users: usize, site: usize) -> Option<Millis> {
        self.latency[users][site]
    }
}

/// What was read of instants, for worlds of one scenario that go through time side by side.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<BTreeMap<SimTime, Arc<Conditions>>>);

impl Known {
    /// An instant's conditions.
    pub(crate) fn at(&self, scenario: &Scenario, now: SimTime) -> Arc<Conditions> {
        if let Some(known) = self.lock().get(&now) {
            return Arc::clone(known);
        }
        // Nobody waits for it: another thread reads the same.
        let read = Arc::new(Conditions::at(scenario, now));
        Arc::clone(self.lock().entry(now).or_insert(read))
    }

    /// Nobody asks for what was before an instant any more.
    pub(crate) fn forget_before(&self, now: SimTime) {
        let mut known = self.lock();
        let later = known.split_off(&now);
        *known = later;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SimTime, Arc<Conditions>>> {
        // What is in it is whole whenever the lock is free.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conditions {
    /// Reads the scenario at an instant.
    pub fn at(scenario: &Scenario, now: SimTime) -> Self {
        let continuum = &scenario.continuum;
        let mut conditions = Self::default();
        for (name, users) in &continuum.users {
            conditions.rates.insert(name.clone(), users.rates.clone());
            conditions.latency.insert(name.clone(), users.latency.clone());
        }
        for (name, site) in &continuum.sites {
            conditions.price.insert(name.clone(), site.price.node);
            if let Some(intensity) = site.carbon {
                conditions.carbon.insert(name.clone(), intensity);
            }
        }
        // Until something is known, a move would have to carry all that the service asks for.
        for (name, service) in &continuum.services {
            conditions.memory.insert(name.clone(), service.memory);
        }
        let tracks = &scenario.tracks;
        let step = scenario.step;
        for ((users, site), track) in &tracks.latency {
            let value = Millis::from_micros(track.at(now, step));
            conditions.latency.entry(users.clone()).or_default().insert(site.clone(), value);
        }
        for users in scenario.drawn.routes.keys() {
            let known = conditions.latency.entry(users.clone()).or_default();
            for site in continuum.sites.keys() {
                // What was measured comes first.
                if known.contains_key(site) {
                    continue;
                }
                known.extend(
                    scenario.drawn.latency(scenario, users, site, now).map(|value| (site.clone(), value)),
                );
            }
        }
        for ((users, service), track) in tracks.rate.iter().chain(&scenario.drawn.rates) {
            let value = PerSecond::from_micros(track.at(now, step));
            conditions.rates.entry(users.clone()).or_default().insert(service.clone(), value);
        }
        for (site, track) in &tracks.price {
            conditions.price.insert(site.clone(), UsdPerHour::from_micros(track.at(now, step)));
        }
        for (site, track) in &tracks.carbon {
            conditions.carbon.insert(site.clone(), GramsPerKwh::from_micros(track.at(now, step)));
        }
        for (service, track) in &tracks.memory {
            let value = Bytes(u64::try_from(track.at(now, step)).unwrap_or(0));
            conditions.memory.insert(service.clone(), value);
        }
        conditions
    }

    /// The continuum with the request rates of this instant, and with its carbon intensities where they are asked for: of a site
    /// without one none is known then, whatever the inventory has.
    pub fn continuum(&self, scenario: &Scenario, with_carbon: bool) -> Arc<Continuum> {
        let make = || {
            let mut continuum = scenario.continuum.clone();
            for (name, users) in &mut continuum.users {
                if let Some(rates) = self.rates.get(name) {
                    users.rates = rates.clone();
                }
            }
            if with_carbon {
                for (name, site) in &mut continuum.sites {
                    site.carbon = self.carbon.get(name).copied();
                }
            }
            Arc::new(continuum)
        };
        Arc::clone(self.seen[usize::from(with_carbon)].0.get_or_init(make))
    }

    /// The same by the numbers of the scenario's parts, which are always the same.
    pub(super) fn by_number(&self, layout: &Layout<'_>) -> &Numbers {
        self.by_number.0.get_or_init(|| Numbers::new(self, layout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::load;
    use std::path::Path;

    #[test]
    fn an_instant_is_read_once_until_it_is_forgotten() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let text = include_str!("../../scenarios/commuters.toml");
        let read = load::load("commuters.toml", text, &|path| std::fs::read_to_string(folder.join(path)));
        let scenario = read.unwrap().scenario;
        let (known, hour) = (Known::default(), SimTime::from_nanos(3_600_000_000_000));
        let [first, later] = [SimTime::START, hour].map(|at| known.at(&scenario, at));
        assert!(Arc::ptr_eq(&first, &known.at(&scenario, SimTime::START)));
        known.forget_before(hour);
        assert!(Arc::ptr_eq(&later, &known.at(&scenario, hour)));
        let again = known.at(&scenario, SimTime::START);
        assert!(!Arc::ptr_eq(&first, &again));
        assert_eq!(first, again);
    }
}
