//! What is wrong with a fleet: nothing is run that could not be reckoned to the end.

use super::Fleet;
use super::columns::Site;
use crate::clock::SimTime;
use crate::scenario::Track;

/// Why a fleet can't be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It has no node, site or duration.
    #[error("the fleet has no {what}")]
    Without {
        /// What is missing.
        what: &'static str,
    },
    /// A node refers to a site or curve that there is not, a service to a node, or a move to either.
    #[error("{what} {index} refers to a {to} that there is not")]
    Unknown {
        /// What refers.
        what: &'static str,
        /// Its place.
        index: usize,
        /// What is referred to.
        to: &'static str,
    },
    /// Nodes are not in the order of their sites, or moves not in that of their times.
    #[error("{what} {index} is out of order: {order}")]
    OutOfOrder {
        /// What.
        what: &'static str,
        /// Its place.
        index: usize,
        /// The order.
        order: &'static str,
    },
    /// A number is outside what is possible.
    #[error("{what} {index}: {why}")]
    OutOfRange {
        /// What has it.
        what: &'static str,
        /// Its place.
        index: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// The services that start on a node ask for more than it has.
    #[error("node {index} has no room for the services that start on it")]
    NoRoom {
        /// Its place.
        index: usize,
    },
    /// The trace ends too soon, or is one of other services.
    #[error("the trace does not cover {ticks} ticks of {services} services")]
    Trace {
        /// Ticks.
        ticks: u64,
        /// Services.
        services: usize,
    },
    /// It has more nodes than what happens on them can be simulated of.
    #[error("{nodes} nodes can't be simulated; with its services and moves at most {most}")]
    TooMany {
        /// How many it has.
        nodes: u32,
        /// How many it may have.
        most: u32,
    },
    /// Sums could be larger than a number holds.
    #[error("the fleet is too large, or looked at for too long, to be added up exactly")]
    TooLarge,
}

/// The largest price and carbon intensity, in millionths: a million dollars an hour, a ton per kWh.
const MOST: i64 = 1_000_000_000_000;

/// Checks everything that a run relies on.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(fleet: &Fleet) -> Result<(), Unfit> {
    let without = |what| Err(Unfit::Without { what });
    if fleet.nodes.is_empty() {
        return without("node");
    }
    if fleet.duration == SimTime::START {
        return without("duration");
    }
    if fleet.tick == 0 || fleet.step == 0 {
        return without("tick, or no step");
    }
    if fleet.nodes.len() > u32::MAX as usize || fleet.services.len() > u32::MAX as usize {
        return Err(Unfit::TooLarge);
    }
    for (index, site) in fleet.sites.iter().enumerate() {
        check_site(index, site)?;
    }
    if !(0..=MOST).contains(&fleet.egress.as_micros()) {
        return Err(Unfit::OutOfRange { what: "site", index: 0, why: "the egress price is impossible" });
    }
    check_nodes(fleet)?;
    check_services(fleet)?;
    check_orders(fleet)?;
    let (ticks, services) = (fleet.ticks(), fleet.services.len());
    if !fleet.trace.covers(ticks, services) {
        return Err(Unfit::Trace { ticks, services });
    }
    check_sums(fleet).ok_or(Unfit::TooLarge)
}

fn check_site(index: usize, site: &Site) -> Result<(), Unfit> {
    let wrong = |why| Err(Unfit::OutOfRange { what: "site", index, why });
    let possible = |value: i64| (0..=MOST).contains(&value);
    let follows = |track: &Option<Track>| track.as_ref().is_none_or(|track| track.values().all(possible));
    let price = &site.price;
    if ![price.node, price.core, price.gib].iter().all(|price| possible(price.as_micros()))
        || !follows(&site.node_price)
    {
        return wrong("a price is negative or above a million USD/h");
    }
    if !follows(&site.carbon) {
        return wrong("its carbon intensity is negative or above 1000 kg/kWh");
    }
    if !(1000..=10_000).contains(&site.pue) {
        return wrong("its power usage effectiveness is not between 1 and 10");
    }
    Ok(())
}

fn check_nodes(fleet: &Fleet) -> Result<(), Unfit> {
    let nodes = &fleet.nodes;
    for index in 0..nodes.len() {
        let unknown = |to| Err(Unfit::Unknown { what: "node", index, to });
        if nodes.site[index] as usize >= fleet.sites.len() {
            return unknown("site");
        }
        let Some(curve) = fleet.curves.get(usize::from(nodes.curve[index])) else {
            return unknown("power curve");
        };
        if index > 0 && nodes.site[index - 1] > nodes.site[index] {
            return Err(Unfit::OutOfOrder {
                what: "node",
                index,
                order: "nodes come in the order of their sites",
            });
        }
        if curve.full() != u64::from(nodes.cpu[index]) * super::curve::WHOLE {
            let why = "its power curve is one of another processor";
            return Err(Unfit::OutOfRange { what: "node", index, why });
        }
        if nodes.bandwidth[index] == 0 {
            return Err(Unfit::OutOfRange { what: "node", index, why: "it has no bandwidth" });
        }
    }
    Ok(())
}

fn check_services(fleet: &Fleet) -> Result<(), Unfit> {
    let (nodes, services) = (&fleet.nodes, &fleet.services);
    let mut cpu = vec![0u64; nodes.len()];
    let mut memory = vec![0u64; nodes.len()];
    for (index, on) in services.on.iter().enumerate() {
        let on = *on as usize;
        if on >= nodes.len() {
            return Err(Unfit::Unknown { what: "service", index, to: "node" });
        }
        cpu[on] += u64::from(services.cpu[index]);
        memory[on] = memory[on].saturating_add(services.memory[index]);
    }
    let fits =
        |index: &usize| cpu[*index] <= u64::from(nodes.cpu[*index]) && memory[*index] <= nodes.memory[*index];
    match (0..nodes.len()).find(|index| !fits(index)) {
        Some(index) => Err(Unfit::NoRoom { index }),
        None => Ok(()),
    }
}

fn check_orders(fleet: &Fleet) -> Result<(), Unfit> {
    let mut last = SimTime::START;
    for (index, order) in fleet.orders.iter().enumerate() {
        let unknown = |to| Err(Unfit::Unknown { what: "move", index, to });
        if order.service as usize >= fleet.services.len() {
            return unknown("service");
        }
        if order.to as usize >= fleet.nodes.len() {
            return unknown("node");
        }
        if order.at < last {
            return Err(Unfit::OutOfOrder {
                what: "move",
                index,
                order: "moves come in the order of their times",
            });
        }
        last = order.at;
    }
    Ok(())
}

/// Whether the largest sums that there can be fit into 127 bits.
fn check_sums(fleet: &Fleet) -> Option<()> {
    let limit = u128::MAX / 2;
    let nanos = u128::from(fleet.duration.as_nanos());
    let within = |sum: u128, times: &[u128]| {
        times
            .iter()
            .try_fold(sum, |product, factor| product.checked_mul(*factor))
            .filter(|product| *product <= limit)
    };
    let nodes = u128::try_from(fleet.nodes.len()).ok()?;
    let most =
        fleet.curves.iter().map(|curve| u128::from(curve.power(curve.full(), true))).max().unwrap_or(0);
    let energy = within(nodes, &[most, nanos])?;
    let micros = |value: i64| u128::try_from(value).unwrap_or(0);
    let largest = |track: &Option<Track>| track.iter().flat_map(Track::values).max().map_or(0, micros);
    // Moves take room at both ends, and never more than there is.
    let cpu: u128 = fleet.nodes.cpu.iter().map(|cpu| u128::from(*cpu)).sum();
    let memory: u128 = fleet.nodes.memory.iter().map(|memory| u128::from(*memory)).sum();
    u64::try_from(cpu.max(memory)).ok()?;
    for site in &fleet.sites {
        within(energy / 1_000_000_000_000_000, &[largest(&site.carbon), u128::from(site.pue)])?;
        let node = largest(&site.node_price).max(micros(site.price.node.as_micros()));
        within(nodes, &[nanos, node])?;
        within(cpu, &[nanos, micros(site.price.core.as_micros()).max(1)])?;
        within(memory, &[nanos, micros(site.price.gib.as_micros()).max(1)])?;
    }
    Some(())
}
