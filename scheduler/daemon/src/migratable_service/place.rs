//! Where a service is started first, where its object leaves that open.
//!
//! Policies decide where it belongs, from the next look on, and by numbers that are there once it runs. So this only has to find a
//! node that it fits on.

use std::collections::{BTreeMap, BTreeSet};

use sterna_core::continuum::{Continuum, NodeName, Service, ServiceName};

use super::fleet::Told;
use crate::control::desk::Desk;

/// What is known of nodes and of what is on them.
pub(super) struct Room<'a> {
    /// The inventory.
    pub continuum: &'a Continuum,
    /// Services that are declared elsewhere.
    pub others: &'a BTreeMap<ServiceName, Service>,
    /// What agents say.
    pub told: &'a Told,
    /// What people have said.
    pub desk: &'a Desk,
}

impl Room<'_> {
    /// The node with the most memory to spare of those that have room for it and are not to be left.
    pub fn first(&self, service: &ServiceName, asks: &Service) -> Result<NodeName, String> {
        let standing = self.desk.standing();
        let directives = standing.newest().map(|seen| &seen.observation.directives);
        let shut = |node: &NodeName| {
            directives
                .is_some_and(|said| said.drains(self.continuum, node) || said.cordons(self.continuum, node))
        };
        let open = self.continuum.nodes.iter().filter(|(name, node)| !node.drain && !shut(name));
        let spare = open.filter_map(|(name, node)| {
            let here: BTreeSet<&ServiceName> =
                self.told.services.get(name)?.iter().map(|one| &one.service).collect();
            // Those that are about to be started count where that is.
            let coming = self.others.iter().filter(|(other, described)| {
                described.run.as_ref().is_some_and(|run| run.on == *name) && !self.is_somewhere(other)
            });
            let there = here
                .into_iter()
                .filter(|other| *other != service)
                .filter_map(|other| self.continuum.services.get(other).or_else(|| self.others.get(other)));
            let (mut cpu, mut memory) = (node.cpu.as_micros(), node.memory.0);
            let mut clash = false;
            for described in there.chain(coming.map(|(_, described)| described)) {
                cpu -= described.cpu.as_micros();
                memory = memory.saturating_sub(described.memory.0);
                // A node has each port once.
                clash |= ports(described).any(|port| ports(asks).any(|own| own == port));
            }
            (cpu >= asks.cpu.as_micros() && memory >= asks.memory.0 && !clash).then_some((memory, name))
        });
        // Of equals the first by name.
        let best = spare.max_by(|(a, first), (b, second)| a.cmp(b).then_with(|| second.cmp(first)));
        best.map(|(_, name)| name.clone()).ok_or_else(|| {
            format!(
                "no node that answers and is not to be left has room for {} and {}, and its ports free; name one with `on`, or make \
                 room",
                asks.cpu, asks.memory
            )
        })
    }

    fn is_somewhere(&self, service: &ServiceName) -> bool {
        self.told.services.values().flatten().any(|one| one.service == *service)
    }
}

fn ports(service: &Service) -> impl Iterator<Item = &str> {
    service.run.iter().flat_map(|run| run.ports.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use sterna_core::continuum::Run;

    use super::*;
    use crate::fixture;

    #[test]
    fn the_roomiest_node_that_answers_is_taken() {
        let mut continuum = fixture::continuum();
        let names: Vec<NodeName> = continuum.nodes.keys().cloned().collect();
        for (at, node) in continuum.nodes.values_mut().enumerate() {
            node.cpu = "2".parse().unwrap();
            node.memory = format!("{}GiB", 1 + at).parse().unwrap();
        }
        let told = |answer: &[&NodeName]| Told {
            services: answer.iter().map(|node| ((*node).clone(), Vec::new())).collect(),
            silent: BTreeMap::new(),
            ..Told::default()
        };
        let desk = Desk::new(&continuum, &[]);
        let asks = Service {
            cpu: "1".parse().unwrap(),
            memory: "900MiB".parse().unwrap(),
            pinned: false,
            labels: BTreeMap::new(),
            run: None,
        };
        let last = names.last().unwrap();
        let first = |continuum: &Continuum, others: &BTreeMap<ServiceName, Service>, told: &Told| {
            Room { continuum, others, told, desk: &desk }.first(&"new".into(), &asks)
        };
        let none = BTreeMap::new();
        assert_eq!(first(&continuum, &none, &told(&names.iter().collect::<Vec<_>>())).as_ref(), Ok(last));
        assert_eq!(first(&continuum, &none, &told(&[&names[0]])).as_ref(), Ok(&names[0]));
        assert!(first(&continuum, &none, &told(&[])).unwrap_err().contains("has room"));
        // One that is about to be started there has taken it.
        let run = Run { on: names[0].clone(), ..Run::default() };
        let others = BTreeMap::from([("other".into(), Service { run: Some(run), ..asks.clone() })]);
        assert!(first(&continuum, &others, &told(&[&names[0]])).is_err());
        // One with the same port has it, though there is room for both.
        let port = |service: &Service| Service {
            memory: "1MiB".parse().unwrap(),
            run: Some(Run { on: names[0].clone(), ports: vec!["80/tcp".into()], ..Run::default() }),
            ..service.clone()
        };
        let small = port(&asks);
        let room = |others: &BTreeMap<ServiceName, Service>, asks: &Service| {
            let told = told(&[&names[0]]);
            Room { continuum: &continuum, others, told: &told, desk: &desk }.first(&"new".into(), asks)
        };
        let others = BTreeMap::from([("other".into(), small.clone())]);
        let plain = Service { run: None, ..small.clone() };
        assert!(
            room(&others, &small).is_err() && room(&others, &plain).is_ok() && room(&none, &small).is_ok()
        );
        continuum.nodes.get_mut(&names[0]).unwrap().drain = true;
        assert!(first(&continuum, &none, &told(&[&names[0]])).is_err());
    }
}
