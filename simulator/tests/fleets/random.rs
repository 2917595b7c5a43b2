//! Small fleets of every kind, each decided by its seed.

use sterna_core::continuum::Price;
use sterna_policies::quantity::{Bytes, Cores, UsdPerGib, UsdPerHour, Watts};
use sterna_simulator::clock::SimTime;
use sterna_simulator::fleet::columns::{Node, Nodes, Service, Services, Site};
use sterna_simulator::fleet::curve::Curve;
use sterna_simulator::fleet::passes::Limits;
use sterna_simulator::fleet::trace::{Drawn, Trace};
use sterna_simulator::fleet::{Fleet, Order, Transfer};
use sterna_simulator::scenario::{Shape, Track};
use sterna_simulator::stream::{Purpose, Stream};

const SECOND: u64 = 1_000_000_000;

struct Draws {
    stream: Stream,
    count: u64,
}

impl Draws {
    fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.count += 1;
        range.start + self.stream.below(self.count, range.end - range.start)
    }

    fn signed(&mut self, range: std::ops::Range<u64>) -> i64 {
        i64::try_from(self.within(range)).unwrap()
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.within(0..of) == 0
    }
}

fn track(draws: &mut Draws, most: u64, duration: u64) -> Track {
    let mut points = vec![(SimTime::START, draws.signed(0..most))];
    let mut at = 0;
    for _ in 0..draws.within(0..5) {
        at += draws.within(1..duration / 2 + 2);
        points.push((SimTime::from_nanos(at), draws.signed(0..most)));
    }
    let shape = if points.len() > 1 && draws.one_in(2) { Shape::Linear } else { Shape::Step };
    Track::new(shape, points).unwrap()
}

fn site(draws: &mut Draws, duration: u64) -> Site {
    Site {
        price: Price {
            node: UsdPerHour::from_micros(draws.signed(0..2_000_000)),
            core: UsdPerHour::from_micros(draws.signed(0..50_000)),
            gib: UsdPerHour::from_micros(draws.signed(0..9000)),
        },
        node_price: draws.one_in(2).then(|| track(draws, 2_000_000, duration)),
        carbon: (!draws.one_in(5)).then(|| track(draws, 900_000_000, duration)),
        pue: u32::try_from(draws.within(1000..2001)).unwrap(),
    }
}

/// The fleet of a seed.
pub fn fleet(seed: u64) -> Fleet {
    let draws = &mut Draws { stream: Stream::of(seed, Purpose::Fleet, 0), count: 0 };
    // So that it ends within a tick as often as not, and migrations of some seconds are cut off.
    let tick = if draws.one_in(2) { 10 * SECOND } else { draws.within(1..20 * SECOND) };
    let duration = match draws.within(0..3) {
        0 => tick * draws.within(1..20),
        1 => draws.within(1..30 * SECOND),
        _ => tick * draws.within(1..20) + draws.within(0..tick + 1),
    };
    let sites: Vec<Site> = (0..draws.within(1..5)).map(|_| site(draws, duration)).collect();
    let straight = draws.one_in(2);
    let kinds: Vec<(Cores, Curve)> = (0..draws.within(1..4))
        .map(|_| {
            let cpu = Cores::from_micros(draws.signed(1..33) * 500_000);
            let mut power = draws.signed(0..200_000_000);
            let mut points = vec![Watts::from_micros(power)];
            for _ in 0..(if straight { 1 } else { draws.within(1..11) }) {
                power += draws.signed(0..100_000_000);
                points.push(Watts::from_micros(power));
            }
            let off = !straight && draws.one_in(3);
            (cpu, Curve::through(&points, cpu, off).unwrap())
        })
        .collect();

    let mut nodes = Nodes::default();
    let mut room = Vec::new();
    for site in 0..sites.len() {
        for _ in 0..draws.within(1..5) {
            let curve = draws.within(0..kinds.len() as u64) as usize;
            let (cpu, memory) = (kinds[curve].0, draws.within(1 << 20..8 << 30));
            let bandwidth = draws.within(1 << 24..1 << 31);
            let (site, curve) = (site as u32, curve as u16);
            nodes.add(Node { site, curve, cpu, memory: Bytes(memory), bandwidth: Bytes(bandwidth) });
            room.push((cpu.as_micros(), memory));
        }
    }
    let mut services = Services::default();
    for _ in 0..draws.within(0..30) {
        let on = draws.within(0..room.len() as u64) as usize;
        let (cpu, memory) = (draws.signed(0..4001) * 1000, draws.within(0..2 << 30));
        if cpu > room[on].0 || memory > room[on].1 {
            continue;
        }
        room[on] = (room[on].0 - cpu, room[on].1 - memory);
        services.add(Service {
            on: on as u32,
            cpu: Cores::from_micros(cpu),
            memory: Bytes(memory),
            dirty: Bytes(draws.within(0..1 << 30)),
            working_set: Bytes(draws.within(0..3 << 30)),
        });
    }
    let ticks = duration.div_ceil(tick);
    // Some use more than they ask for.
    let most = if draws.one_in(3) { 25_000 } else { 9000 };
    let trace = if draws.one_in(2) {
        Trace::Stored((0..ticks * services.len() as u64).map(|_| draws.within(0..most) as u16).collect())
    } else {
        Trace::Drawn(Drawn::evenly(seed, services.len() as u32, draws.within(0..most) as u16, most as u16))
    };
    let mut orders = Vec::new();
    if !services.is_empty() {
        for _ in 0..draws.within(0..25) {
            let at = match draws.within(0..3) {
                0 => tick * draws.within(0..ticks + 1),
                _ => draws.within(0..duration + duration / 8 + 1),
            };
            let service = draws.within(0..services.len() as u64) as u32;
            orders.push(Order {
                at: SimTime::from_nanos(at),
                service,
                to: draws.within(0..room.len() as u64) as u32,
            });
        }
        orders.sort_by_key(|order| order.at);
    }
    Fleet {
        name: format!("random-{seed}"),
        duration: SimTime::from_nanos(duration),
        tick,
        step: draws.within(SECOND..20 * SECOND),
        sites,
        egress: UsdPerGib::from_micros(draws.signed(0..200_000)),
        curves: kinds.into_iter().map(|(_, curve)| curve).collect(),
        nodes,
        services,
        trace,
        orders,
        transfer: Transfer {
            limits: Limits {
                downtime: draws.within(0..SECOND),
                passes: draws.within(0..10) as u32,
                resume: draws.within(0..SECOND),
            },
            overhead: if draws.one_in(2) { 0 } else { draws.within(0..2000) as u32 },
        },
    }
}
