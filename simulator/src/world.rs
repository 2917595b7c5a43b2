//! The simulated world: a continuum at one instant, the migrations under way in it, and what has added up.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use sterna_core::continuum::{NodeName, Placement, Service, ServiceName};
use sterna_core::cost::Line;
use sterna_core::history::{Outcome, PastMigration};
use sterna_core::plan::{Effect, Move, MoveCost};
use sterna_core::planning;
use sterna_policies::policy::{Memory, Migration};
use sterna_policies::quantity::{Bytes, Millis, Usd};

use crate::clock::SimTime;
use crate::models::migration::checkpoint::{AS_STERNA, Ahead, Checkpoint};
use crate::models::migration::rounds::Writing;
use crate::models::migration::{Course, Passage, Path};
use crate::report::Totals;
use crate::scenario::Scenario;
use account::Account;
use conditions::{Conditions, Known};
use flow::Flow;
use layout::Layout;
use moving::Moving;
use outages::{Gone, News};

pub mod account;
pub mod conditions;
pub mod flow;
pub mod outages;

mod layout;
mod moving;
mod observe;

/// A continuum at one instant.
#[derive(Debug, Clone)]
pub struct World<'s> {
    scenario: &'s Scenario,
    now: SimTime,
    conditions: Arc<Conditions>,
    known: Option<Arc<Known>>,
    gone: Gone,
    placement: Placement,
    layout: Arc<Layout<'s>>,
    /// The placement by number.
    at: Vec<Option<usize>>,
    moving: BTreeMap<ServiceName, Moving>,
    flow: Flow<'s>,
    account: Account,
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
        let layout = Layout::new(&scenario.continuum);
        let mut world = Self {
            scenario,
            now: SimTime::START,
            conditions: Arc::new(Conditions::at(scenario, SimTime::START)),
            known: None,
            gone: Gone::at(scenario, SimTime::START),
            placement: scenario.placement.clone(),
            at: layout.at(&scenario.placement),
            layout: Arc::new(layout),
            moving: BTreeMap::new(),
            flow: Flow::default(),
            account: Account::default(),
        };
        world.settle();
        world
    }

    /// The same, which reads of each instant what others have read before it.
    pub(crate) fn beside_others(self, known: &Arc<Known>) -> Self {
        Self { known: Some(Arc::clone(known)), ..self }
    }

    /// A number that is the same wherever all services are in the same places.
    pub(crate) fn places(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.placement.hash(&mut hasher);
        hasher.finish()
    }

    /// Whether another world of the same scenario is as this one now, but for what has added up.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        self.now == other.now
            && self.placement == other.placement
            && self.moving == other.moving
            && self.gone == other.gone
            && (Arc::ptr_eq(&self.conditions, &other.conditions) || self.conditions == other.conditions)
    }

    /// Lets time pass. Nothing may change on the way: the caller stops at every event.
    pub fn advance(&mut self, to: SimTime) {
        self.account.add(&self.flow, to.since(self.now));
        self.now = self.now.max(to);
    }

    /// Reads the scenario's numbers anew, and says what else happened by itself.
    pub fn refresh(&mut self) -> News {
        self.conditions = match &self.known {
            Some(known) => known.at(self.scenario, self.now),
            None => Arc::new(Conditions::at(self.scenario, self.now)),
        };
        let before = std::mem::replace(&mut self.gone, Gone::at(self.scenario, self.now));
        // What is gone from the beginning goes at the beginning.
        let before = if self.now == SimTime::START { Gone::default() } else { before };
        let broken = self.break_moves();
        let going_on = self.go_on();
        self.settle();
        News { standing: self.standing(&before), broken, going_on }
    }

    /// Begins a move, and says how it will go. Where its ends or the way between them are gone, it is refused.
    ///
    /// Of a link it has an even share among those that cross it now and the others that begin `beside` it, and keeps it: moves
    /// that begin or end later change nothing about those under way.
    pub fn begin(
        &mut self,
        order: &Move,
        limits: &Migration,
        beside: &[&Move],
    ) -> Result<Course, CannotBegin> {
        let cannot = || CannotBegin { service: order.service.clone(), from: order.from.clone() };
        let there = self.placement.get(&order.service) == Some(&order.from);
        if !there || self.moving.contains_key(&order.service) {
            return Err(cannot());
        }
        let (course, passage) = if self.is_cut(&order.from, &order.to) {
            (Course::refused(), None)
        } else {
            let sharing = self.sharing(order, beside);
            match self.passage(order, limits, sharing) {
                Some((passage, back)) => (Course::along(&passage, back, limits), Some(passage)),
                None => {
                    let cost = self.cost(order, limits, sharing).unwrap_or(order.predicted);
                    (Course::of(&cost, limits), None)
                }
            }
        };
        let moving = Moving {
            from: order.from.clone(),
            to: order.to.clone(),
            began: self.now,
            course,
            passage,
            frozen: false,
            arrived: false,
            thaws: course.freezes.saturating_add(limits.freeze_lease).min(limits.deadline),
            broken: false,
            stalled: None,
        };
        self.moving.insert(order.service.clone(), moving);
        self.settle();
        Ok(course)
    }

    /// How many share a move's link, the move with them.
    fn sharing(&self, order: &Move, beside: &[&Move]) -> u32 {
        let Some(link) = self.sites(&order.from, &order.to) else { return 1 };
        let crosses = |from, to| self.sites(from, to).as_ref() == Some(&link);
        let under_way = self.moving.iter().filter(|(_, moving)| crosses(&moving.from, &moving.to));
        let mut services: BTreeSet<&ServiceName> = under_way.map(|(service, _)| service).collect();
        services.extend(beside.iter().filter(|one| crosses(&one.from, &one.to)).map(|one| &one.service));
        services.insert(&order.service);
        u32::try_from(services.len()).unwrap_or(u32::MAX)
    }

    /// What a move costs that shares its link, or whose service is known to write its memory while it is sent ahead; `None`
    /// where it goes as predicted.
    fn cost(&self, order: &Move, limits: &Migration, sharing: u32) -> Option<MoveCost> {
        let writes = self.scenario.writes.get(&order.service).filter(|_| limits.memory == Memory::Ahead);
        if writes.is_none() && sharing == 1 {
            return None;
        }
        let path = self.path(order, limits, sharing)?;
        let memory = self.conditions.memory.get(&order.service).copied()?;
        let Some(writes) = writes else {
            return Some(self.scenario.costs.of_move(memory, limits.memory, path.bandwidth, path.each));
        };
        let working_set = writes.working_set.unwrap_or(memory);
        let writing = Writing { memory, rate: writes.rate, working_set };
        let model = Checkpoint {
            memory,
            image: Bytes::ZERO,
            costs: self.scenario.costs,
            path,
            // Reading keeps up with sending.
            ahead: Some(Ahead { writing, pass: Line::default(), until: AS_STERNA }),
        };
        let (passage, _) = model.passage();
        Some(passage.cost())
    }

    /// How a move goes whose service has a model of its own, and what going back takes.
    fn passage(&self, order: &Move, limits: &Migration, sharing: u32) -> Option<(Passage, Millis)> {
        let way = self.scenario.ways.get(&order.service)?;
        let memory = self.conditions.memory.get(&order.service).copied()?;
        Some((way.passage(memory, self.path(order, limits, sharing)?), way.back()))
    }

    /// What a move has of its link.
    fn path(&self, order: &Move, limits: &Migration, sharing: u32) -> Option<Path> {
        let continuum = &self.scenario.continuum;
        let (from, to) = (continuum.nodes.get(&order.from)?, continuum.nodes.get(&order.to)?);
        let (link, rtt) = planning::path(continuum, &from.site, &to.site);
        // All have the same limit, so an even share of the link is what is fair in the max-min sense.
        let share = link.scaled(1, u64::from(sharing));
        let bandwidth = limits.bandwidth.map_or(share, |most| most.min(share));
        Some(Path { bandwidth, sharing: 1, each: rtt })
    }

    /// Freezes a service that moves. Gives whether it is to be frozen now.
    pub fn freeze(&mut self, service: &ServiceName) -> bool {
        let Some(moving) = self.moving.get_mut(service) else { return false };
        if moving.broken || moving.arrived || moving.began.after(moving.course.freezes) != self.now {
            return false;
        }
        moving.frozen = true;
        self.settle();
        true
    }

    /// Ends a service's move. `None` where none ends now.
    pub fn end(&mut self, service: &ServiceName) -> Option<PastMigration> {
        let due =
            |moving: &Moving| moving.stalled.is_none() && moving.began.after(moving.course.ends) == self.now;
        self.moving.get(service).filter(|moving| due(moving))?;
        let moving = self.moving.remove(service)?;
        let course = moving.course;
        if course.outcome == Outcome::Moved {
            self.put(service, &moving.to);
        }
        self.account.pay_egress(self.price(&moving, course.bytes));
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

    /// What sending some bytes between a move's ends costs.
    fn price(&self, moving: &Moving, bytes: Bytes) -> Usd {
        let nodes = &self.scenario.continuum.nodes;
        let ends = nodes.get(&moving.from).zip(nodes.get(&moving.to));
        let link = ends.and_then(|(from, to)| self.scenario.continuum.link(&from.site, &to.site));
        link.map_or(Usd::ZERO, |link| link.price_of(bytes))
    }

    /// Pays what moves have sent that are still under way: nothing comes after this.
    pub fn pay_open(&mut self) {
        let sent = |moving: &Moving| {
            // One that is broken or held up sends nothing any more.
            let after = moving.after(moving.stalled.unwrap_or(self.now));
            match &moving.passage {
                _ if moving.broken => moving.course.bytes,
                Some(passage) => passage.sent_by(after),
                None => moving.course.broken(after, after).bytes,
            }
        };
        let prices = self.moving.values().map(|moving| self.price(moving, sent(moving)));
        let open = prices.fold(Usd::ZERO, Usd::saturating_add);
        self.account.pay_egress(open);
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
        self.flow = Flow::of(self);
    }

    /// From now on the service runs there.
    fn put(&mut self, service: &ServiceName, node: &NodeName) {
        self.placement.insert(service.clone(), node.clone());
        if let Some(number) = self.layout.service(service) {
            self.at[number] = self.layout.node(node);
        }
    }

    /// Services that stand still: frozen for their move, in the middle of one that is held up, or on a node that is gone.
    fn frozen(&self) -> BTreeSet<ServiceName> {
        let moving = self.moving.iter().filter(|(_, moving)| moving.stands()).map(|(service, _)| service);
        let stranded = self.placement.iter().filter(|(_, node)| self.gone.nodes.contains(*node));
        moving.chain(stranded.map(|(service, _)| service)).cloned().collect()
    }

    /// The services on each node; one that moves counts at both ends.
    fn hosted(&self) -> BTreeMap<&NodeName, Vec<&'s Service>> {
        let mut hosted: BTreeMap<&NodeName, Vec<&'s Service>> = BTreeMap::new();
        let services = &self.scenario.continuum.services;
        let moving = self.moving.iter().map(|(service, moving)| (service, moving.other_end()));
        for (name, node) in self.placement.iter().chain(moving) {
            if let Some(service) = services.get(name) {
                hosted.entry(node).or_default().push(service);
            }
        }
        hosted
    }
}
