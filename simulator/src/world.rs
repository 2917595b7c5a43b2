//! The simulated world: a continuum at one instant, the migrations under way in it, and what has added up.

use std::collections::{BTreeMap, BTreeSet};

use sterna_core::continuum::{NodeName, Placement, Service, ServiceName, SiteName};
use sterna_core::cost::Line;
use sterna_core::history::{Outcome, PastMigration};
use sterna_core::plan::{Effect, Move, MoveCost};
use sterna_core::planning;
use sterna_policies::policy::{Memory, Migration};
use sterna_policies::quantity::Bytes;

use crate::clock::SimTime;
use crate::models::migration::checkpoint::{AS_STERNA, Ahead, Checkpoint};
use crate::models::migration::rounds::Writing;
use crate::models::migration::{Course, Path};
use crate::report::Totals;
use crate::scenario::Scenario;
use account::Account;
use conditions::Conditions;
use flow::Flow;

pub mod account;
pub mod conditions;
pub mod flow;

mod observe;

/// A continuum at one instant.
#[derive(Debug)]
pub struct World<'s> {
    scenario: &'s Scenario,
    now: SimTime,
    conditions: Conditions,
    placement: Placement,
    moving: BTreeMap<ServiceName, Moving>,
    flow: Flow,
    account: Account,
}

/// A migration under way.
#[derive(Debug, Clone)]
struct Moving {
    from: NodeName,
    to: NodeName,
    began: SimTime,
    course: Course,
    frozen: bool,
}

/// A move that can't begin, because the world is not as its plan says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{service} is not on {from}, or is being moved already")]
pub struct CannotBegin {
    /// The service.
    pub service: ServiceName,
    /// Where the plan says it is.
    pub from: NodeName,
}

impl<'s> World<'s> {
    /// The world at the scenario's start.
    pub fn new(scenario: &'s Scenario) -> Self {
        let mut world = Self {
            scenario,
            now: SimTime::START,
            conditions: Conditions::at(scenario, SimTime::START),
            placement: scenario.placement.clone(),
            moving: BTreeMap::new(),
            flow: Flow::default(),
            account: Account::default(),
        };
        world.settle();
        world
    }

    /// Lets time pass. Nothing may change on the way: the caller stops at every event.
    pub fn advance(&mut self, to: SimTime) {
        self.account.add(&self.flow, to.since(self.now));
        self.now = self.now.max(to);
    }

    /// Reads the scenario's numbers anew.
    pub fn refresh(&mut self) {
        self.conditions = Conditions::at(self.scenario, self.now);
        self.settle();
    }

    /// Begins a move, and says how it will go.
    pub fn begin(&mut self, order: &Move, limits: &Migration) -> Result<Course, CannotBegin> {
        let cannot = || CannotBegin { service: order.service.clone(), from: order.from.clone() };
        let there = self.placement.get(&order.service) == Some(&order.from);
        if !there || self.moving.contains_key(&order.service) {
            return Err(cannot());
        }
        let cost = self.cost(order, limits).unwrap_or(order.predicted);
        let course = Course::of(&cost, limits);
        let (from, to) = (order.from.clone(), order.to.clone());
        self.moving
            .insert(order.service.clone(), Moving { from, to, began: self.now, course, frozen: false });
        self.settle();
        Ok(course)
    }

    /// What a move costs whose service is known to write its memory while it is sent ahead; `None` where it goes as predicted.
    fn cost(&self, order: &Move, limits: &Migration) -> Option<MoveCost> {
        let writes = self.scenario.writes.get(&order.service).filter(|_| limits.memory == Memory::Ahead)?;
        let continuum = &self.scenario.continuum;
        let (from, to) = (continuum.nodes.get(&order.from)?, continuum.nodes.get(&order.to)?);
        let (link, rtt) = planning::path(continuum, &from.site, &to.site);
        let memory = self.conditions.memory.get(&order.service).copied()?;
        let working_set = writes.working_set.unwrap_or(memory);
        let writing = Writing { memory, rate: writes.rate, working_set };
        let bandwidth = limits.bandwidth.map_or(link, |most| most.min(link));
        let model = Checkpoint {
            memory,
            image: Bytes::ZERO,
            costs: self.scenario.costs,
            path: Path { bandwidth, sharing: 1, each: rtt },
            // Reading keeps up with sending.
            ahead: Some(Ahead { writing, pass: Line::default(), until: AS_STERNA }),
        };
        let (passage, _) = model.passage();
        Some(passage.cost())
    }

    /// Freezes a service that moves.
    pub fn freeze(&mut self, service: &ServiceName) {
        if let Some(moving) = self.moving.get_mut(service) {
            moving.frozen = true;
        }
        self.settle();
    }

    /// Ends a service's move. `None` where none is under way.
    pub fn end(&mut self, service: &ServiceName) -> Option<PastMigration> {
        let moving = self.moving.remove(service)?;
        let course = moving.course;
        if course.outcome == Outcome::Moved {
            self.placement.insert(service.clone(), moving.to.clone());
        }
        let nodes = &self.scenario.continuum.nodes;
        let ends = nodes.get(&moving.from).zip(nodes.get(&moving.to));
        let link = ends.and_then(|(from, to)| self.scenario.continuum.link(&from.site, &to.site));
        if let Some(link) = link {
            self.account.pay_egress(link.price_of(course.bytes));
        }
        self.settle();
        Some(PastMigration {
            ended: self.now.on_calendar(self.scenario.start),
            from: moving.from,
            to: moving.to,
            outcome: course.outcome,
            downtime: course.downtime(),
            bytes: course.bytes,
            duration: SimTime::from_nanos(self.now.since(moving.began)).as_millis(),
        })
    }

    /// The time.
    pub fn now(&self) -> SimTime {
        self.now
    }

    /// Which node runs which service.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// What the placement is worth at this instant, as the world counts it.
    pub fn effect(&self) -> Effect {
        self.flow.effect()
    }

    /// What has added up so far.
    pub fn totals(&self) -> Totals {
        self.account.totals()
    }

    fn settle(&mut self) {
        self.flow = Flow::of(self, &self.conditions);
    }

    fn frozen(&self) -> BTreeSet<ServiceName> {
        self.moving.iter().filter(|(_, moving)| moving.frozen).map(|(service, _)| service.clone()).collect()
    }

    /// The services on each node; one that moves counts at both ends.
    fn hosted(&self) -> BTreeMap<&NodeName, Vec<&'s Service>> {
        let mut hosted: BTreeMap<&NodeName, Vec<&'s Service>> = BTreeMap::new();
        let services = &self.scenario.continuum.services;
        let moving = self.moving.iter().map(|(service, moving)| (service, &moving.to));
        for (name, node) in self.placement.iter().chain(moving) {
            if let Some(service) = services.get(name) {
                hosted.entry(node).or_default().push(service);
            }
        }
        hosted
    }

    fn site_of(&self, service: &ServiceName) -> Option<&SiteName> {
        let node = self.placement.get(service)?;
        self.scenario.continuum.nodes.get(node).map(|node| &node.site)
    }
}
