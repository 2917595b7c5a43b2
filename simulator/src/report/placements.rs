//! Which service ran where when.

use std::collections::BTreeMap;

use sterna_core::continuum::{NodeName, ServiceName, SiteName};
use sterna_core::history::Outcome as MigrationOutcome;

use super::Outcome;
use crate::clock::SimTime;
use crate::scenario::Scenario;

/// A service on one node, from its arrival there, or the start, until it had left, or the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay<'a> {
    /// The service.
    pub service: &'a ServiceName,
    /// The node.
    pub node: &'a NodeName,
    /// Its site, where the continuum has it.
    pub site: Option<&'a SiteName>,
    /// From when.
    pub from: SimTime,
    /// Until when.
    pub until: SimTime,
}

/// Every service's stays, by service and in order. A service is where it was until it runs elsewhere.
pub fn stays<'a>(outcome: &'a Outcome, scenario: &'a Scenario) -> Vec<Stay<'a>> {
    let mut since: BTreeMap<&ServiceName, (&NodeName, SimTime)> =
        scenario.placement.iter().map(|(service, node)| (service, (node, SimTime::START))).collect();
    let site = |node: &NodeName| scenario.continuum.nodes.get(node).map(|about| &about.site);
    let stay = |service, (node, from): (&'a NodeName, SimTime), until| Stay {
        service,
        node,
        site: site(node),
        from,
        until,
    };
    let mut stays = Vec::new();
    let arrivals = outcome.moves.iter().filter_map(|one| {
        let ended = one.end.as_ref().filter(|end| end.outcome == MigrationOutcome::Moved);
        Some((one.arrived.or(ended.map(|end| end.ended))?, one))
    });
    for (ended, one) in arrivals {
        if let Some(before) = since.insert(&one.service, (&one.to, ended)) {
            stays.push(stay(&one.service, before, ended));
        }
    }
    stays.extend(since.into_iter().map(|(service, last)| stay(service, last, scenario.duration)));
    stays.sort_by_key(|stay| (stay.service, stay.from));
    stays
}
