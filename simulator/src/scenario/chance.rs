//! What hangs on the seed, and what comes of it.

use std::collections::BTreeMap;

use sterna_core::continuum::{ServiceName, SiteName, UsersName};
use sterna_policies::quantity::Millis;

use super::{Bursts, People, Scenario, Track};
use crate::clock::SimTime;
use crate::models::distance;
use crate::models::fault::{Fault, Outage, When};
use crate::models::mobility::{Mobility, Route};
use crate::stream::{Purpose, Stream};

/// Where users go and what fails, by chance or not: all of it is drawn, though some of it comes out the same for each seed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chance {
    /// Where user groups are.
    pub people: BTreeMap<UsersName, People>,
    /// Rates with bursts.
    pub bursts: BTreeMap<(UsersName, ServiceName), Bursts>,
    /// What fails or is taken away.
    pub faults: Vec<Fault>,
}

/// What was drawn. Each entity draws by its own name, so that another one more changes nothing about it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drawn {
    seed: u64,
    /// Where user groups are.
    pub routes: BTreeMap<UsersName, Route>,
    /// Rates with bursts.
    pub rates: BTreeMap<(UsersName, ServiceName), Track>,
    /// What is gone, and when.
    pub outages: Vec<Outage>,
}

impl Chance {
    /// Whether another seed makes another world.
    pub fn is_random(&self) -> bool {
        let people = |people: &People| people.jitter > Millis::ZERO || people.mobility.is_random();
        let drawn = |fault: &Fault| matches!(fault.when, When::Drawn { .. });
        !self.bursts.is_empty() || self.people.values().any(people) || self.faults.iter().any(drawn)
    }

    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        self.people.is_empty() && self.bursts.is_empty() && self.faults.is_empty()
    }

    /// What comes of it in a scenario.
    pub(super) fn draw(&self, scenario: &Scenario, seed: u64) -> Drawn {
        let (step, end) = (scenario.step, scenario.duration);
        let route = |(users, people): (&UsersName, &People)| {
            let stream = Stream::named(seed, Purpose::Mobility, users.as_str());
            (users.clone(), people.mobility.route(stream, step, end))
        };
        let rate = |(key, bursts): (&(UsersName, ServiceName), &Bursts)| {
            let stream = Stream::named(seed, Purpose::Bursts, &Bursts::name(&key.0, &key.1));
            Some((key.clone(), bursts.track(stream, end)?))
        };
        let outages = |fault: &Fault| {
            let purpose = if fault.notice.is_some() { Purpose::Preemption } else { Purpose::Failure };
            fault.outages(Stream::named(seed, purpose, &fault.name), end)
        };
        Drawn {
            seed,
            routes: self.people.iter().map(route).collect(),
            rates: self.bursts.iter().filter_map(rate).collect(),
            outages: self.faults.iter().flat_map(outages).collect(),
        }
    }
}

impl Drawn {
    /// The seed that it was drawn from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The instants at which anything of it may change.
    pub(super) fn changes(&self, scenario: &Scenario) -> Vec<SimTime> {
        let (step, end) = (scenario.step, scenario.duration);
        let mut times: Vec<SimTime> = Vec::new();
        for route in self.routes.values() {
            times.extend(route.changes(step, end));
        }
        for track in self.rates.values() {
            times.extend(track.changes(step, end));
        }
        for outage in &self.outages {
            times.extend(outage.instants().filter(|at| *at < end));
        }
        if scenario.chance.people.values().any(|people| people.jitter > Millis::ZERO) {
            let steps = end.as_nanos().div_ceil(step);
            times.extend((0..steps).map(|n| SimTime::from_nanos(n * step)));
        }
        times
    }

    /// Latency between users and a site by their distance now, where both are somewhere.
    pub fn latency(
        &self,
        scenario: &Scenario,
        users: &UsersName,
        site: &SiteName,
        now: SimTime,
    ) -> Option<Millis> {
        let (people, route) = (scenario.chance.people.get(users)?, self.routes.get(users)?);
        let about = scenario.continuum.sites.get(site)?;
        let rtt = scenario.fits.of(&about.tier).rtt(&route.at(now, scenario.step), &about.location?);
        let above = if people.jitter > Millis::ZERO {
            let stream = Stream::named(self.seed, Purpose::Jitter, &format!("{users} {site}"));
            distance::jitter(stream, now.as_nanos() / scenario.step, people.jitter)
        } else {
            Millis::ZERO
        };
        Some(rtt.saturating_add(people.last_mile).saturating_add(above))
    }
}

impl People {
    /// Whether anything about them is read at the scenario's step.
    pub(super) fn is_stepwise(&self) -> bool {
        self.jitter > Millis::ZERO || !matches!(self.mobility, Mobility::Stays(_))
    }
}
