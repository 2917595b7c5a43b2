//! The energy of a fleet in closed form: service by service instead of node by node, and without a clock.
//!
//! Where all power curves are straight lines, a service adds to the energy what it uses times the slope of the node that it runs
//! on, whatever else is there. So the energy is that of idle nodes, and of each service's stays; and it must equal what the run
//! added up, to the last unit.

use super::Fleet;
use super::account::Energy;
use super::curve::WHOLE;
use super::report::FleetReport;
use crate::clock::SimTime;

/// The energy, by a fleet and the migrations that there were. `None` where it has no such form: a power curve is bent, nodes are
/// switched off while they are empty, or one had less than its services would use.
pub fn energy(fleet: &Fleet, report: &FleetReport) -> Option<Energy> {
    let lines = fleet.curves.iter().map(|curve| curve.line()).collect::<Option<Vec<_>>>()?;
    if report.sites.iter().any(|site| site.overloaded > 0) {
        return None;
    }
    let line = |node: u32| lines[usize::from(fleet.nodes.curve[node as usize])];
    let slope = |node: u32| u128::from(line(node).1);
    let idle: u128 = fleet.nodes.curve.iter().map(|curve| u128::from(lines[usize::from(*curve)].0)).sum();
    let mut energy = idle * u128::from(fleet.duration.as_nanos());
    for (busy, on) in whole(fleet).into_iter().zip(&fleet.services.on) {
        energy += busy * slope(*on);
    }
    let overhead = u128::from(fleet.transfer.overhead) * u128::from(WHOLE);
    for one in &report.migrations {
        // From the freeze on it is not where it was, and from the end on it is where it went.
        energy -= after(fleet, one.service, one.freezes) * slope(one.from);
        energy += after(fleet, one.service, one.ends) * slope(one.to);
        let span = u128::from(one.ends.min(fleet.duration).since(one.began));
        energy += overhead * span * (slope(one.from) + slope(one.to));
    }
    Some(Energy(energy))
}

/// What each service would use if it ran all the time: loads times nanoseconds.
fn whole(fleet: &Fleet) -> Vec<u128> {
    let services = fleet.services.len();
    let (mut sums, mut last) = (vec![0u64; services], vec![0u16; services]);
    let mut row = vec![0; services];
    for tick in 0..fleet.ticks() {
        fleet.trace.fill(tick, &mut row);
        for ((sum, last), share) in sums.iter_mut().zip(&mut last).zip(&row) {
            *sum += u64::from(*share);
            *last = *share;
        }
    }
    // The last tick may be cut off.
    let missing = u128::from(fleet.tick_at(fleet.ticks()).since(fleet.duration));
    let columns = sums.into_iter().zip(last).zip(&fleet.services.cpu);
    columns
        .map(|((sum, last), cpu)| {
            let shares = u128::from(sum) * u128::from(fleet.tick) - u128::from(last) * missing;
            shares * u128::from(*cpu)
        })
        .collect()
}

/// What a service would use from an instant on.
fn after(fleet: &Fleet, service: u32, from: SimTime) -> u128 {
    let services = fleet.services.len();
    let mut shares = 0u128;
    for tick in from.as_nanos() / fleet.tick..fleet.ticks() {
        let (begins, ends) = (fleet.tick_at(tick).max(from), fleet.tick_at(tick + 1).min(fleet.duration));
        shares +=
            u128::from(fleet.trace.share(tick, service as usize, services)) * u128::from(ends.since(begins));
    }
    shares * u128::from(fleet.services.cpu[service as usize])
}
