//! A migration under way, and what holds it up once there is only forward.

use sterna_core::continuum::{NodeName, ServiceName};
use sterna_policies::quantity::Millis;

use super::World;
use crate::clock::SimTime;
use crate::models::migration::{Course, Passage};

/// A migration under way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moving {
    pub from: NodeName,
    pub to: NodeName,
    pub began: SimTime,
    pub course: Course,
    /// How it goes by its service's model, where that is not as predicted.
    pub passage: Option<Passage>,
    pub frozen: bool,
    /// The service runs at the destination, and its memory is still being fetched.
    pub arrived: bool,
    /// When the source would go on by itself, at the latest.
    pub thaws: Millis,
    /// What it needs failed meanwhile, and it is undone.
    pub broken: bool,
    /// Since when it can go neither on nor back.
    pub stalled: Option<SimTime>,
}

impl Moving {
    /// How long it has been under way.
    pub fn after(&self, now: SimTime) -> Millis {
        SimTime::from_nanos(now.since(self.began)).as_millis()
    }

    /// Whether its service stands still.
    pub fn stands(&self) -> bool {
        self.frozen || self.stalled.is_some()
    }

    /// The end that holds room for the service and does not run it.
    pub fn other_end(&self) -> &NodeName {
        if self.arrived { &self.from } else { &self.to }
    }
}

impl World<'_> {
    /// Lets a service run at the destination while its memory is still being fetched. `None` where it does not do so now.
    pub fn resume(&mut self, service: &ServiceName) -> Option<NodeName> {
        let moving = self.moving.get_mut(service)?;
        let early = moving.course.resumes < moving.course.ends;
        let due = moving.began.after(moving.course.resumes) == self.now;
        if !early || !due || moving.broken || moving.stalled.is_some() || moving.arrived {
            return None;
        }
        moving.frozen = false;
        moving.arrived = true;
        let to = moving.to.clone();
        self.put(service, &to);
        self.settle();
        Some(to)
    }

    /// Moves that were held up, and can go on: when each of them goes on at the destination, and when it ends.
    pub(super) fn go_on(&mut self) -> Vec<(ServiceName, [SimTime; 2])> {
        let free = |(_, moving): &(&ServiceName, &Moving)| {
            moving.stalled.is_some() && !self.is_cut(&moving.from, &moving.to)
        };
        let free: Vec<ServiceName> =
            self.moving.iter().filter(free).map(|(service, _)| service.clone()).collect();
        let mut on = Vec::new();
        for service in free {
            let Some(moving) = self.moving.get_mut(&service) else { continue };
            let Some(since) = moving.stalled.take() else { continue };
            let held = SimTime::from_nanos(self.now.since(since)).as_millis();
            moving.course = moving.course.delayed(held, moving.arrived);
            on.push((service, [moving.course.resumes, moving.course.ends].map(|at| moving.began.after(at))));
        }
        on
    }
}
