//! What is gone at one instant, what is known to go, and what that does to moves under way.

use std::collections::BTreeSet;

use serde::Serialize;
use sterna_core::continuum::{NodeName, ServiceName, SiteName};
use sterna_core::directive::{Ask, Directive, Directives, Place};

use super::World;
use crate::clock::SimTime;
use crate::models::fault::Part;
use crate::scenario::Scenario;

/// What is gone at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gone {
    /// Nodes.
    pub nodes: BTreeSet<NodeName>,
    /// Links, by the sites at their ends, in the order of the names.
    pub links: BTreeSet<[SiteName; 2]>,
}

/// How something that fails stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// People were told that it will go.
    Announced,
    /// It is gone.
    Gone,
    /// It is back.
    Back,
}

/// What changed of the world by itself at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// What goes or comes back.
    pub standing: Vec<(Part, Standing)>,
    /// Services whose moves end otherwise than they began, and when that is now.
    pub broken: Vec<(ServiceName, SimTime)>,
    /// Services whose moves were held up and go on: when each runs at the destination, and when its move ends.
    pub going_on: Vec<(ServiceName, [SimTime; 2])>,
}

impl Gone {
    /// What is gone of a scenario's world.
    pub fn at(scenario: &Scenario, now: SimTime) -> Self {
        let mut gone = Self::default();
        for outage in scenario.drawn.outages.iter().filter(|outage| outage.is_on(now)) {
            match &outage.part {
                Part::Node(node) => drop(gone.nodes.insert(node.clone())),
                Part::Link(link) => drop(gone.links.insert(link.clone())),
            }
        }
        gone
    }

    fn parts(&self) -> BTreeSet<Part> {
        let nodes = self.nodes.iter().map(|node| Part::Node(node.clone()));
        nodes.chain(self.links.iter().map(|link| Part::Link(link.clone()))).collect()
    }

    /// Whether everything is there.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.links.is_empty()
    }
}

impl World<'_> {
    /// What comes or goes now that something else was gone before, and what is announced at this very instant.
    pub(super) fn standing(&self, before: &Gone) -> Vec<(Part, Standing)> {
        let (before, now) = (before.parts(), self.gone.parts());
        let gone = now.difference(&before).map(|part| (part.clone(), Standing::Gone));
        let back = before.difference(&now).map(|part| (part.clone(), Standing::Back));
        let announced = self.scenario.drawn.outages.iter().filter(|outage| {
            // What is gone already can't be announced to go.
            outage.notice == Some(self.now) && !now.contains(&outage.part)
        });
        let announced: BTreeSet<&Part> = announced.map(|outage| &outage.part).collect();
        let announced = announced.into_iter().map(|part| (part.clone(), Standing::Announced));
        gone.chain(back).chain(announced).collect()
    }

    /// Whether something on the way between two nodes is gone.
    pub(super) fn is_cut(&self, from: &NodeName, to: &NodeName) -> bool {
        if self.gone.is_empty() {
            return false;
        }
        let between = self.sites(from, to).is_some_and(|sites| self.gone.links.contains(&sites));
        between || self.gone.nodes.contains(from) || self.gone.nodes.contains(to)
    }

    /// The sites of two nodes in the order of their names; `None` where they are at the same one.
    pub(super) fn sites(&self, from: &NodeName, to: &NodeName) -> Option<[SiteName; 2]> {
        let site = |node: &NodeName| self.scenario.continuum.nodes.get(node).map(|node| &node.site);
        let (from, to) = (site(from)?, site(to)?);
        match from.cmp(to) {
            std::cmp::Ordering::Less => Some([from.clone(), to.clone()]),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some([to.clone(), from.clone()]),
        }
    }

    /// Breaks the moves whose way or whose ends are gone, and says when each ends now.
    ///
    /// Nothing is committed before a move's end, so all of them are undone. Where the source is gone nothing can be thawed: the
    /// service stands still with its node. Else the source goes on by itself, at the latest when its lease runs out. Only where a
    /// service fetches its memory at the destination there is no way back: it stands still until it can go on.
    pub(super) fn break_moves(&mut self) -> Vec<(ServiceName, SimTime)> {
        let cut: Vec<ServiceName> = self
            .moving
            .iter()
            .filter(|(_, moving)| !moving.broken && moving.stalled.is_none())
            .filter(|(_, moving)| self.is_cut(&moving.from, &moving.to))
            .map(|(service, _)| service.clone())
            .collect();
        let mut broken = Vec::new();
        for service in cut {
            let Some(moving) = self.moving.get_mut(&service) else { continue };
            let after = moving.after(self.now);
            if moving.course.is_committed(after) {
                moving.stalled = Some(self.now);
                continue;
            }
            let lease = if self.gone.nodes.contains(&moving.from) { after } else { moving.thaws };
            moving.course = moving.course.broken(after, lease);
            if let Some(passage) = &moving.passage {
                moving.course.bytes = passage.sent_by(after);
            }
            moving.broken = true;
            broken.push((service, moving.began.after(moving.course.ends)));
        }
        broken
    }

    /// Spot nodes that are known to go are drained, as an operator's script would ask for it.
    pub(crate) fn directives(&self) -> Directives {
        let mut drains = BTreeSet::new();
        let mut directives = Vec::new();
        for outage in self.scenario.drawn.outages.iter().filter(|outage| outage.is_announced(self.now)) {
            let (Part::Node(node), Some(notice)) = (&outage.part, outage.notice) else { continue };
            if drains.insert(node) {
                directives.push(Directive {
                    ask: Ask::Drain { place: Place::Node(node.clone()) },
                    by: "preemption notice".to_owned(),
                    at: notice.on_calendar(self.scenario.start),
                    reason: Some(format!("the node is taken away at {}", outage.from)),
                });
            }
        }
        Directives(directives)
    }
}
