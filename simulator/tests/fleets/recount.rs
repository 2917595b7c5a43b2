//! Everything that a run adds up, once more and as simply as can be: the world is built anew, from the list of migrations, for each
//! span in which nothing changes.

use std::collections::BTreeSet;

use sterna_simulator::clock::SimTime;
use sterna_simulator::fleet::curve::WHOLE;
use sterna_simulator::fleet::report::{FleetReport, Migrated, Refusal};
use sterna_simulator::fleet::{Fleet, Order};

/// Femtowatt-nanoseconds in a kWh.
const KWH: f64 = 3.6e30;
const HOUR: f64 = 3.6e12;

#[derive(Default, Clone)]
struct Site {
    energy: u128,
    /// In grams.
    carbon: f64,
    unknown: bool,
    /// In USD.
    cost: f64,
    in_use: u128,
    overloaded: u128,
}

/// Checks a run's report in all respects.
pub fn check(fleet: &Fleet, report: &FleetReport, who: &str) {
    assert_eq!((report.ended, report.ticks), (fleet.duration, fleet.ticks()), "{who}: ends when it should");
    orders(fleet, report, who);
    bytes(fleet, report, who);
    ends(report, who);

    let mut sites = vec![Site::default(); fleet.sites.len()];
    let times = instants(fleet, report);
    for pair in times.windows(2) {
        span(fleet, report, (pair[0], pair[1]), &mut sites, who);
    }
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-5 + 1e-9 * a.abs().max(b.abs());
    for (index, (site, found)) in sites.iter().zip(&report.sites).enumerate() {
        let who = format!("{who}, site {index}");
        assert_eq!(site.energy, found.energy.0, "{who}: energy");
        assert_eq!((site.in_use, site.overloaded), (found.in_use, found.overloaded), "{who}: node time");
        assert!(near(site.cost, found.hosting.as_f64()), "{who}: {} USD, not {}", site.cost, found.hosting);
        assert_eq!(site.unknown, found.carbon.is_none(), "{who}: carbon known");
        if let Some(carbon) = found.carbon {
            assert!(near(site.carbon, carbon.as_f64()), "{who}: {} g, not {carbon}", site.carbon);
        }
    }
    let energy: u128 = sites.iter().map(|site| site.energy).sum();
    assert_eq!(energy, report.totals.energy.0, "{who}: all energy");
}

/// Every move was made or refused, once.
fn orders(fleet: &Fleet, report: &FleetReport, who: &str) {
    let made = report.migrations.iter().map(|one| one.order);
    let all: BTreeSet<u32> = made.chain(report.refused.iter().map(|one| one.order)).collect();
    assert_eq!(all.len(), report.migrations.len() + report.refused.len(), "{who}: told once");
    assert_eq!(all.len(), fleet.orders.len(), "{who}: all told");
    for one in &report.migrations {
        let Order { at, service, to } = fleet.orders[one.order as usize];
        assert!(one.began >= at && one.service == service && one.to == to, "{who}: {one:?}");
        assert!(one.began < fleet.duration && one.over == (one.ends < fleet.duration), "{who}: {one:?}");
    }
    for one in &report.refused {
        if one.why == Refusal::TooLate {
            assert_eq!(one.at, fleet.duration, "{who}");
        }
    }
}

/// What is sent is received, and is what the passes come to.
fn bytes(fleet: &Fleet, report: &FleetReport, who: &str) {
    let services = &fleet.services;
    let mut sum = 0u128;
    for one in &report.migrations {
        let service = one.service as usize;
        let tick = one.began.as_nanos() / fleet.tick;
        let share = fleet.trace.share(tick, service, services.len());
        let (size, dirty, working_set) = services.moved(service);
        let dirty = u128::from(dirty) * u128::from(share) / u128::from(WHOLE);
        let limits = fleet.transfer.limits;
        let nanos = |bytes: u128| (bytes * 1_000_000_000).div_ceil(u128::from(one.bandwidth));
        let (mut left, mut sent, mut span) = (u128::from(size), 0, 0);
        for pass in 0.. {
            let next =
                (dirty * nanos(left) / 1_000_000_000).min(u128::from(working_set)).min(u128::from(size));
            let small = nanos(left) <= u128::from(limits.downtime);
            if small || pass == limits.passes || next >= left {
                assert_eq!(one.passes, pass, "{who}: {one:?}");
                break;
            }
            sent += left;
            span += nanos(left);
            left = next;
        }
        let all = sent + left;
        assert_eq!(u128::from(one.freezes.since(one.began)), span, "{who}: {one:?}");
        assert_eq!(
            u128::from(one.ends.since(one.freezes)),
            nanos(left) + u128::from(limits.resume),
            "{who}: {one:?}"
        );
        let elapsed = u128::from(fleet.duration.since(one.began));
        let by_then = all.min(elapsed * u128::from(one.bandwidth) / 1_000_000_000);
        assert_eq!(u128::from(one.bytes), if one.over { all } else { by_then }, "{who}: {one:?}");
        sum += u128::from(one.bytes);
    }
    let sent: u128 = report.sites.iter().map(|site| site.sent).sum();
    let received: u128 = report.sites.iter().map(|site| site.received).sum();
    assert_eq!((sent, received, u128::from(report.totals.bytes.0)), (sum, sum, sum), "{who}: bytes");
    let between =
        report.migrations.iter().filter(|one| fleet.nodes.site_of(one.from) != fleet.nodes.site_of(one.to));
    let egress =
        between.map(|one| one.bytes as f64 / f64::from(1 << 30)).sum::<f64>() * fleet.egress.as_f64();
    assert!((egress - report.totals.cost_egress.as_f64()).abs() < 1e-5, "{who}: egress");
    let downtime: u64 =
        report.migrations.iter().map(|one| one.ends.min(fleet.duration).since(one.freezes)).sum();
    assert_eq!(SimTime::from_nanos(downtime).as_millis(), report.totals.downtime, "{who}: downtime");
}

/// A node takes part in one migration at a time, and so does a service.
fn ends(report: &FleetReport, who: &str) {
    for (index, one) in report.migrations.iter().enumerate() {
        for other in &report.migrations[index + 1..] {
            if one.began.max(other.began) < one.ends.min(other.ends) {
                let all = BTreeSet::from([one.from, one.to, other.from, other.to]);
                assert!(all.len() == 4 && one.service != other.service, "{who}: {one:?} and {other:?}");
            }
        }
    }
}

/// All instants at which anything may change.
fn instants(fleet: &Fleet, report: &FleetReport) -> Vec<SimTime> {
    let mut times = BTreeSet::from([SimTime::START, fleet.duration]);
    times.extend((0..fleet.ticks()).map(|tick| SimTime::from_nanos(tick * fleet.tick)));
    times.extend(report.migrations.iter().flat_map(|one| [one.began, one.freezes, one.ends]));
    for site in &fleet.sites {
        for track in site.node_price.iter().chain(&site.carbon) {
            times.extend(track.changes(fleet.step, fleet.duration));
        }
    }
    times.retain(|at| *at <= fleet.duration);
    times.into_iter().collect()
}

/// One span: who is where, what nodes draw, what it costs.
fn span(fleet: &Fleet, report: &FleetReport, (from, to): (SimTime, SimTime), sites: &mut [Site], who: &str) {
    let nodes = fleet.nodes.len();
    let (mut load, mut hosted) = (vec![0u64; nodes], vec![0u32; nodes]);
    let (mut cpu, mut memory) = (vec![0u64; nodes], vec![0u64; nodes]);
    let under_way = |one: &&Migrated| one.began <= from && from < one.ends;
    let tick = from.as_nanos() / fleet.tick;
    for service in 0..fleet.services.len() {
        let mine = || report.migrations.iter().filter(|one| one.service as usize == service);
        let start = fleet.services.starts_on(service);
        let on = mine().rfind(|one| one.ends <= from).map_or(start, |one| one.to) as usize;
        let moving = mine().find(under_way);
        let asks = fleet.services.asks(service);
        for node in std::iter::once(on).chain(moving.map(|one| one.to as usize)) {
            hosted[node] += 1;
            cpu[node] += u64::from(asks.0);
            memory[node] += asks.1;
        }
        if moving.is_none_or(|one| from < one.freezes) {
            let share = fleet.trace.share(tick, service, fleet.services.len());
            load[on] += u64::from(asks.0) * u64::from(share);
        }
        if let Some(one) = moving {
            assert_eq!(one.from as usize, on, "{who}: it leaves where it is");
        }
    }
    for one in report.migrations.iter().filter(under_way) {
        for node in [one.from, one.to] {
            load[node as usize] += u64::from(fleet.transfer.overhead) * WHOLE;
        }
    }
    let span = u128::from(to.since(from));
    for node in 0..nodes {
        let index = node as u32;
        let (has_cpu, has_memory) = fleet.nodes.has(index);
        assert!(
            cpu[node] <= u64::from(has_cpu) && memory[node] <= has_memory,
            "{who}: room on node {node} at {from}"
        );
        let (described, site) =
            (&fleet.sites[fleet.nodes.site_of(index)], &mut sites[fleet.nodes.site_of(index)]);
        let curve = &fleet.curves[fleet.nodes.curve_of(index)];
        let energy = u128::from(curve.power(load[node], hosted[node] > 0)) * span;
        site.energy += energy;
        match &described.carbon {
            Some(track) => {
                let intensity = track.at(from, fleet.step) as f64 / 1e6;
                site.carbon += energy as f64 / KWH * intensity * f64::from(described.pue) / 1000.0;
            }
            None => site.unknown |= energy > 0,
        }
        let price = described
            .node_price
            .as_ref()
            .map_or(described.price.node.as_f64(), |track| track.at(from, fleet.step) as f64 / 1e6);
        let shares = described.price.core.as_f64() * cpu[node] as f64 / 1000.0
            + described.price.gib.as_f64() * memory[node] as f64 / f64::from(1 << 30);
        let hours = span as f64 / HOUR;
        site.cost += (shares + if hosted[node] > 0 { price } else { 0.0 }) * hours;
        site.in_use += if hosted[node] > 0 { span } else { 0 };
        site.overloaded += if load[node] > curve.full() { span } else { 0 };
    }
}
