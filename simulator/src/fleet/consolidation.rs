//! consolidation-24h: the fleet by which simulators are compared.
//!
//! Nodes of 16 cores that draw 100 W to 250 W along a straight line; four services of 2 cores and 4 GiB for each; a day of 288
//! ticks of 300 s; seven moves per tick and 1000 nodes from the second tick on, over 10 Gbit/s. A service that is drawn goes to the
//! fullest node that has room. Nothing is read from a file: what services use, and which move, is drawn by number. Four
//! sites have different prices and carbon intensities, a quarter of a day apart, so that money and carbon are reckoned too.

use sterna_core::continuum::Price;
use sterna_policies::quantity::{Bytes, Cores, UsdPerGib, UsdPerHour, Watts};

use super::columns::{Node, Nodes, Service, Services, Site};
use super::curve::Curve;
use super::passes::Limits;
use super::trace::{Drawn, Trace};
use super::{Fleet, Order, Transfer};
use crate::clock::{NANOS_PER_HOUR, SimTime};
use crate::scenario::{Shape, Track};
use crate::stream::{Purpose, Stream};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// Nanoseconds in a tick.
pub const TICK: u64 = 300 * SECOND;
/// Ticks in the day.
pub const TICKS: u64 = 288;
/// Services per node.
const PER_NODE: u32 = 4;
/// Services that a node has room for, by cores.
const ROOM: usize = 8;
/// Moves per tick of 1000 nodes.
const MOVES: u64 = 7;
/// Sites.
const SITES: u32 = 4;
/// 10 Gbit/s.
pub const BANDWIDTH: u64 = 1_250_000_000;
/// Memory of a service.
pub const MEMORY: u64 = 4 << 30;
/// Decides what is drawn.
const SEED: u64 = 1;

/// The fleet, with so many nodes; at least one.
pub fn consolidation(nodes: u32) -> Fleet {
    let nodes = nodes.clamp(1, u32::MAX / PER_NODE);
    let cpu = Cores::from_micros(16_000_000);
    let watts = [100, 250].map(|watts| Watts::from_micros(watts * 1_000_000));
    let services = nodes * PER_NODE;
    let mut columns = (Nodes::default(), Services::default());
    for node in 0..nodes {
        columns.0.add(Node {
            site: u32::try_from(u64::from(node) * u64::from(SITES) / u64::from(nodes)).unwrap_or(0),
            curve: 0,
            cpu,
            memory: Bytes(64 << 30),
            bandwidth: Bytes(BANDWIDTH),
        });
    }
    for service in 0..services {
        columns.1.add(Service {
            on: service / PER_NODE,
            cpu: Cores::from_micros(2_000_000),
            memory: Bytes(MEMORY),
            // A fifth of what the link carries, within a tenth of the memory.
            dirty: Bytes(BANDWIDTH / 5),
            working_set: Bytes(MEMORY / 10),
        });
    }
    Fleet {
        name: format!("consolidation-24h-{nodes}"),
        duration: SimTime::from_nanos(TICKS * TICK),
        tick: TICK,
        step: TICK,
        sites: (0..SITES).map(site).collect(),
        egress: UsdPerGib::from_micros(10_000),
        curves: Curve::through(&watts, cpu, false).into_iter().collect(),
        nodes: columns.0,
        services: columns.1,
        trace: Trace::Drawn(Drawn::evenly(0, services, 500, 8500)),
        orders: orders(nodes),
        transfer: Transfer { limits: Limits { downtime: 30_000_000, passes: 29, resume: 0 }, overhead: 0 },
    }
}

/// Cheaper at night, cleaner at noon; each site six hours after the one before.
fn site(index: u32) -> Site {
    let hour = |at: i64| (at + 6 * i64::from(index)).rem_euclid(24);
    let track = |value: &dyn Fn(i64) -> i64| {
        let points = (0i64..24)
            .zip(0u64..)
            .map(|(at, nanos)| (SimTime::from_nanos(nanos * NANOS_PER_HOUR), value(hour(at))));
        Track::new(Shape::Step, points.collect())
    };
    Site {
        price: Price {
            node: UsdPerHour::from_micros(400_000),
            core: UsdPerHour::from_micros(2000),
            gib: UsdPerHour::from_micros(300),
        },
        node_price: track(&|hour| if (8..20).contains(&hour) { 400_000 } else { 300_000 }),
        carbon: track(&|hour| (180 + 20 * (hour - 12).abs()) * 1_000_000),
        pue: 1200,
    }
}

/// The moves, so that there is room for each while all of its tick take room at both ends.
fn orders(nodes: u32) -> Vec<Order> {
    let stream = Stream::of(SEED, Purpose::Moves, 0);
    let mut on: Vec<u32> = (0..nodes * PER_NODE).map(|service| service / PER_NODE).collect();
    let mut there = Fullness::even(nodes);
    let mut orders = Vec::new();
    let mut count = 0;
    // The last tick in which each service was drawn.
    let mut drawn_in = vec![0; on.len()];
    for tick in 1..TICKS {
        let until = |tick: u64| tick * MOVES * u64::from(nodes) / 1000;
        let mut left = Vec::new();
        for _ in until(tick - 1)..until(tick) {
            // Few of the services move in a tick, so this ends.
            let service = loop {
                let drawn = stream.below(count, on.len() as u64) as usize;
                count += 1;
                if std::mem::replace(&mut drawn_in[drawn], tick) != tick {
                    break drawn;
                }
            };
            let from = on[service];
            let Some(to) = there.fullest_but(from) else { continue };
            there.change(to, 1);
            on[service] = to;
            left.push(from);
            orders.push(Order { at: SimTime::from_nanos(tick * TICK), service: service as u32, to });
        }
        for from in left {
            there.change(from, -1);
        }
    }
    orders
}

/// Nodes by the services that they host: the fullest with room is found without a look at all of them.
struct Fullness {
    hosted: Vec<usize>,
    levels: Vec<Level>,
}

/// Nodes that host as many, one bit for each.
#[derive(Clone)]
struct Level {
    words: Vec<u64>,
    /// No word before this one has a node.
    first: usize,
}

impl Level {
    fn put(&mut self, node: u32) {
        let word = node as usize / 64;
        self.words[word] |= 1 << (node % 64);
        self.first = self.first.min(word);
    }

    fn take(&mut self, node: u32) {
        self.words[node as usize / 64] &= !(1 << (node % 64));
    }

    /// The first node, but this one.
    fn first_but(&mut self, but: u32) -> Option<u32> {
        while self.words.get(self.first).is_some_and(|word| *word == 0) {
            self.first += 1;
        }
        (self.first..self.words.len()).find_map(|word| {
            let besides = if word == but as usize / 64 { !(1 << (but % 64)) } else { u64::MAX };
            let bits = self.words[word] & besides;
            (bits != 0).then(|| word as u32 * 64 + bits.trailing_zeros())
        })
    }
}

impl Fullness {
    fn even(nodes: u32) -> Self {
        let words = (nodes as usize).div_ceil(64);
        let mut levels = vec![Level { words: vec![0; words], first: words }; ROOM + 1];
        (0..nodes).for_each(|node| levels[PER_NODE as usize].put(node));
        Self { hosted: vec![PER_NODE as usize; nodes as usize], levels }
    }

    /// The fullest node that has room, but this one; of several, the first.
    fn fullest_but(&mut self, but: u32) -> Option<u32> {
        self.levels[..ROOM].iter_mut().rev().find_map(|level| level.first_but(but))
    }

    fn change(&mut self, node: u32, by: isize) {
        let hosted = &mut self.hosted[node as usize];
        self.levels[*hosted].take(node);
        *hosted = hosted.saturating_add_signed(by).min(ROOM);
        self.levels[*hosted].put(node);
    }
}
