//! A scenario's parts by number, in the order of their names, and what of them never changes: what flows is summed over numbers,
//! very often.

use sterna_core::continuum::{Continuum, Node, NodeName, Placement, Service, ServiceName, Site, SiteName};
use sterna_policies::quantity::UsdPerHour;

use crate::models;

/// A scenario's parts by number.
#[derive(Debug)]
pub(super) struct Layout<'s> {
    /// The sites.
    pub sites: Vec<(&'s SiteName, &'s Site)>,
    /// The nodes.
    pub nodes: Vec<(&'s NodeName, &'s Node)>,
    /// The number of each node's site; nothing for one of no known site.
    pub site: Vec<Option<usize>>,
    /// The services.
    pub services: Vec<(&'s ServiceName, &'s Service)>,
    /// What each service pays at each site for what it asks for.
    shares: Vec<UsdPerHour>,
}

impl<'s> Layout<'s> {
    /// Of a continuum.
    pub fn new(continuum: &'s Continuum) -> Self {
        let sites: Vec<(&SiteName, &Site)> = continuum.sites.iter().collect();
        let nodes: Vec<(&NodeName, &Node)> = continuum.nodes.iter().collect();
        let services: Vec<(&ServiceName, &Service)> = continuum.services.iter().collect();
        let price =
            |service| sites.iter().map(move |(_, site)| models::price::of_service(&site.price, service));
        Self {
            site: nodes.iter().map(|(_, node)| number(&sites, &node.site)).collect(),
            shares: services.iter().flat_map(|(_, service)| price(service)).collect(),
            sites,
            nodes,
            services,
        }
    }

    /// The number of a service.
    pub fn service(&self, name: &ServiceName) -> Option<usize> {
        number(&self.services, name)
    }

    /// The number of a node.
    pub fn node(&self, name: &NodeName) -> Option<usize> {
        number(&self.nodes, name)
    }

    /// The number of each service's node; nothing for one that runs nowhere.
    pub fn at(&self, placement: &Placement) -> Vec<Option<usize>> {
        let on = |(name, _): &(&ServiceName, _)| self.node(placement.get(*name)?);
        self.services.iter().map(on).collect()
    }

    /// What a service pays at a site for what it asks for.
    pub fn share(&self, service: usize, site: usize) -> UsdPerHour {
        self.shares[service * self.sites.len() + site]
    }
}

/// In a list that is in order.
fn number<N: Ord, T>(all: &[(&N, T)], name: &N) -> Option<usize> {
    all.binary_search_by_key(&name, |(other, _)| other).ok()
}
