//! What would have been observed, had the services run elsewhere.
//!
//! What does not depend on where services run stays as it was observed: latencies, prices, carbon, memory, which nodes answered,
//! what people said, what was not known. Readings of power and processor use move along the inventory's lines: by what the
//! services that came ask for, less what those that left ask for, shared by the nodes of the site.

use std::collections::BTreeMap;

use sterna_core::continuum::{NodeName, Placement, SiteName};
use sterna_core::observation::{Observation, UnderWay};
use sterna_policies::quantity::{Cores, Watts};

const WHOLE: i128 = 1_000_000;

/// The observation with services on the nodes of `placement`, and these migrations under way. Services that the placement does not
/// name are where they were observed; one that was found on no node is on none.
pub fn as_if(observed: &Observation, placement: &Placement, under_way: Vec<UnderWay>) -> Observation {
    let mut other = observed.clone();
    for (service, node) in &mut other.placement {
        if let Some(instead) = placement.get(service) {
            node.clone_from(instead);
        }
    }
    other.under_way.retain(|moving| !placement.contains_key(&moving.service));
    other.overdue.retain(|service| !placement.contains_key(service));
    other.under_way.extend(under_way);
    let more = more(observed, &other);
    let of = |site: &SiteName| more.get(site).copied().unwrap_or(0);
    for (name, sample) in &mut other.cpu_use {
        let share = i128::from(sample.value) + of(name);
        sample.value = u32::try_from(share.clamp(0, WHOLE)).unwrap_or(0);
    }
    for (name, sample) in &mut other.power {
        let Some(site) = observed.continuum.sites.get(name) else { continue };
        let span = i128::from(site.power.full.as_micros()) - i128::from(site.power.idle.as_micros());
        let watts = i128::from(sample.value.as_micros()) + span * of(name) / WHOLE;
        sample.value = Watts::from_micros(i64::try_from(watts.max(0)).unwrap_or(i64::MAX));
    }
    other
}

/// Cores that the services on each node ask for; one that moves counts at both ends.
fn asked(observation: &Observation) -> BTreeMap<&NodeName, Cores> {
    let mut asked: BTreeMap<&NodeName, Cores> = BTreeMap::new();
    let arriving = observation.under_way.iter().map(|moving| (&moving.service, &moving.to));
    for (service, node) in observation.placement.iter().chain(arriving) {
        if let Some(about) = observation.continuum.services.get(service) {
            let sum = asked.entry(node).or_default();
            *sum = sum.saturating_add(about.cpu);
        }
    }
    asked
}

/// By how much more of each site's processors is asked for than was, in millionths of them.
fn more<'o>(observed: &'o Observation, other: &Observation) -> BTreeMap<&'o SiteName, i128> {
    let (before, after) = (asked(observed), asked(other));
    let mut sums: BTreeMap<&SiteName, (i128, i128)> = BTreeMap::new();
    for (name, node) in &observed.continuum.nodes {
        let of = |asked: &BTreeMap<&NodeName, Cores>| asked.get(name).map_or(0, |cores| cores.as_micros());
        let (more, whole) = sums.entry(&node.site).or_default();
        *more += i128::from(of(&after)) - i128::from(of(&before));
        *whole += i128::from(node.cpu.as_micros());
    }
    let share = |(more, whole): (i128, i128)| if whole == 0 { 0 } else { more * WHOLE / whole };
    sums.into_iter().map(|(site, sum)| (site, share(sum))).collect()
}
