//! The run: one pass over everything per tick, and between ticks the events in order.
//!
//! At one instant the tick comes first, then changes of price and carbon, then moves that are wanted, then what migrations do, in
//! the order in which it came up. Whatever changes a site's power or prices settles its account before, so every sum is the integral itself.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Fleet;
use super::account::Account;
use super::columns::Site;
use super::curve::{Curve, WHOLE};
use super::fit::{self, Unfit};
use super::report::{self, FleetReport, Migrated, Refusal, Refused};
use crate::clock::SimTime;
use crate::events::Queue;

mod migrate;

/// Runs a fleet.
///
/// # Errors
/// What is wrong with it.
pub fn run(fleet: &Fleet) -> Result<FleetReport, Unfit> {
    fit::check(fleet)?;
    let mut engine = Engine::new(fleet);
    while let Some((at, source)) = engine.next() {
        engine.now = at;
        match source {
            Source::Tick => engine.tick(),
            Source::Change => engine.change(),
            Source::Order => {
                engine.begun += 1;
                engine.begin(engine.begun - 1);
            }
            Source::Migration => match engine.queue.pop() {
                Some((_, Event::Freeze(migration))) => engine.freeze(migration),
                Some((_, Event::End(migration))) => engine.end(migration),
                None => {}
            },
        }
    }
    engine.now = fleet.duration;
    Ok(engine.finish())
}

/// Where the next thing that happens comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    Tick,
    Change,
    Order,
    Migration,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// The service of a migration is frozen.
    Freeze(u32),
    /// A migration is over.
    End(u32),
}

/// A migration under way.
#[derive(Debug, Clone, Copy)]
struct Moving {
    migration: u32,
    service: u32,
    from: u32,
    to: u32,
    frozen: bool,
}

pub(super) struct Engine<'f> {
    pub(super) fleet: &'f Fleet,
    pub(super) now: SimTime,
    /// Ticks that have begun.
    ticked: u64,
    /// Sites whose price or carbon intensity may change, in the order of the times, and how many have.
    changes: Vec<(SimTime, u32)>,
    changed: usize,
    /// Moves that were wanted.
    begun: u32,
    /// What migrations will do.
    queue: Queue<Event>,
    /// The nodes of each site, and the power curve that they have in common.
    ranges: Vec<(Range<usize>, Option<&'f Curve>)>,
    /// Where services run.
    on: Vec<u32>,
    /// What they use of what they ask for, since the last tick.
    shares: Vec<u16>,
    /// Loads of the nodes, in millicores times hundredths of a percent.
    loads: Vec<u64>,
    /// What they draw, in femtowatts.
    powers: Vec<u64>,
    /// Which of them have less than their services would use.
    overloaded: Vec<bool>,
    /// Services on them, or on their way to them.
    hosted: Vec<u32>,
    /// What nobody asks for.
    free_cpu: Vec<u32>,
    free_memory: Vec<u64>,
    /// Which of them take part in a migration.
    busy: Vec<bool>,
    /// Which services move.
    moves: Vec<bool>,
    moving: Vec<Moving>,
    /// Moves that wait for a node that takes part in another migration, by that node.
    waiting: BTreeMap<u32, Vec<u32>>,
    pub(super) accounts: Vec<Account>,
    pub(super) migrations: Vec<Migrated>,
    pub(super) refused: Vec<Refused>,
}

impl<'f> Engine<'f> {
    fn new(fleet: &'f Fleet) -> Self {
        let (nodes, services) = (&fleet.nodes, &fleet.services);
        let mut hosted = vec![0u32; nodes.len()];
        let mut free_cpu = nodes.cpu.clone();
        let mut free_memory = nodes.memory.clone();
        for (service, on) in services.on.iter().enumerate() {
            let on = *on as usize;
            hosted[on] += 1;
            // There is room: `fit` looked.
            free_cpu[on] -= services.cpu[service];
            free_memory[on] -= services.memory[service];
        }
        let sites = (0u32..).zip(&fleet.sites);
        let mut changes: Vec<(SimTime, u32)> = sites
            .flat_map(|(index, site)| changes(fleet, site).into_iter().map(move |at| (at, index)))
            .collect();
        changes.sort_unstable();
        let mut engine = Self {
            fleet,
            now: SimTime::START,
            ticked: 0,
            changes,
            changed: 0,
            begun: 0,
            queue: Queue::default(),
            ranges: ranges(fleet),
            on: services.on.clone(),
            shares: vec![0; services.len()],
            loads: vec![0; nodes.len()],
            powers: vec![0; nodes.len()],
            overloaded: vec![false; nodes.len()],
            hosted,
            free_cpu,
            free_memory,
            busy: vec![false; nodes.len()],
            moves: vec![false; services.len()],
            moving: Vec::new(),
            waiting: BTreeMap::new(),
            accounts: vec![Account::default(); fleet.sites.len()],
            migrations: Vec::new(),
            refused: Vec::new(),
        };
        for (service, on) in services.on.iter().enumerate() {
            engine.ask(*on, service, true);
        }
        for (account, (range, _)) in engine.accounts.iter_mut().zip(&engine.ranges) {
            let in_use = engine.hosted[range.clone()].iter().filter(|hosted| **hosted > 0).count();
            account.rates.in_use = in_use as u64;
        }
        engine
    }

    /// What happens next, before the end.
    fn next(&self) -> Option<(SimTime, Source)> {
        let change = self.changes.get(self.changed).map(|(at, _)| *at);
        let order = self.fleet.orders.get(self.begun as usize).map(|order| order.at);
        // Of several at the same time the first.
        let sources = [
            (Some(self.fleet.tick_at(self.ticked)), Source::Tick),
            (change, Source::Change),
            (order, Source::Order),
            (self.queue.next_at(), Source::Migration),
        ];
        let all = sources.into_iter().filter_map(|(at, source)| Some((at?, source)));
        all.filter(|(at, _)| *at < self.fleet.duration).min_by_key(|(at, _)| *at)
    }

    /// All loads and powers anew.
    fn tick(&mut self) {
        let fleet = self.fleet;
        for account in &mut self.accounts {
            account.settle(self.now);
        }
        fleet.trace.fill(self.ticked, &mut self.shares);
        self.ticked += 1;
        self.loads.fill(0);
        for ((on, cpu), share) in self.on.iter().zip(&fleet.services.cpu).zip(&self.shares) {
            self.loads[*on as usize] += u64::from(*cpu) * u64::from(*share);
        }
        let overhead = self.overhead();
        for moving in &self.moving {
            let (from, to, service) = (moving.from as usize, moving.to as usize, moving.service as usize);
            self.loads[from] += overhead;
            self.loads[to] += overhead;
            if moving.frozen {
                self.loads[from] -= u64::from(fleet.services.cpu[service]) * u64::from(self.shares[service]);
            }
        }
        for (account, (range, curve)) in self.accounts.iter_mut().zip(&self.ranges) {
            let nodes = self.loads[range.clone()]
                .iter()
                .zip(&self.hosted[range.clone()])
                .zip(&mut self.powers[range.clone()])
                .zip(&mut self.overloaded[range.clone()]);
            let rates = &mut account.rates;
            (rates.power, rates.overloaded) = match curve {
                Some(curve) => drawn(nodes.map(|node| (*curve, node))),
                None => {
                    let curves = fleet.nodes.curve[range.clone()].iter();
                    drawn(curves.map(|curve| &fleet.curves[usize::from(*curve)]).zip(nodes))
                }
            };
        }
    }

    /// A site's new price and carbon intensity.
    fn change(&mut self) {
        let (_, site) = self.changes[self.changed];
        self.changed += 1;
        let (price, carbon) = numbers(self.fleet, &self.fleet.sites[site as usize], self.now);
        self.accounts[site as usize].reprice(self.now, price, carbon);
    }

    fn finish(mut self) -> FleetReport {
        // What was under way has sent what it could.
        for moving in std::mem::take(&mut self.moving) {
            let migrated = &mut self.migrations[moving.migration as usize];
            migrated.bytes = migrated.sent_by(self.now);
            let bytes = migrated.bytes;
            self.carry(moving.from as usize, moving.to as usize, bytes);
        }
        let never = self.begun..u32::try_from(self.fleet.orders.len()).unwrap_or(u32::MAX);
        let mut too_late: Vec<u32> = std::mem::take(&mut self.waiting).into_values().flatten().collect();
        too_late.sort_unstable();
        for order in too_late.into_iter().chain(never) {
            self.refused.push(Refused { order, at: self.now, why: Refusal::TooLate });
        }
        let ticks = self.ticked;
        report::of(self, ticks)
    }

    fn site_of(&self, node: usize) -> usize {
        self.fleet.nodes.site[node] as usize
    }

    fn overhead(&self) -> u64 {
        u64::from(self.fleet.transfer.overhead) * WHOLE
    }

    /// What a service uses while it runs.
    fn load_of(&self, service: usize) -> u64 {
        u64::from(self.fleet.services.cpu[service]) * u64::from(self.shares[service])
    }

    /// Settles the account of a node's site.
    fn settle(&mut self, node: usize) {
        let site = self.site_of(node);
        self.accounts[site].settle(self.now);
    }

    /// Reckons one node anew. Its site is settled.
    fn refresh(&mut self, node: usize) {
        let (load, curve) = (self.loads[node], &self.fleet.curves[usize::from(self.fleet.nodes.curve[node])]);
        let (power, overloaded) = (curve.power(load, self.hosted[node] > 0), load > curve.full());
        let rates = &mut self.accounts[self.fleet.nodes.site[node] as usize].rates;
        rates.power = rates.power - u128::from(self.powers[node]) + u128::from(power);
        rates.overloaded = rates.overloaded - u64::from(self.overloaded[node]) + u64::from(overloaded);
        (self.powers[node], self.overloaded[node]) = (power, overloaded);
    }

    /// One service more or less on a node.
    fn host(&mut self, node: usize, change: i32) {
        let before = self.hosted[node];
        let after = before.saturating_add_signed(change);
        self.hosted[node] = after;
        let rates = &mut self.accounts[self.fleet.nodes.site[node] as usize].rates;
        match (before, after) {
            (0, 1..) => rates.in_use += 1,
            (1.., 0) => rates.in_use -= 1,
            _ => {}
        }
    }

    /// A service asks for its share of a node's site, or no longer does.
    fn ask(&mut self, node: u32, service: usize, more: bool) {
        let rates = &mut self.accounts[self.fleet.nodes.site[node as usize] as usize].rates;
        let (cpu, memory) =
            (u64::from(self.fleet.services.cpu[service]), self.fleet.services.memory[service]);
        if more {
            rates.cpu += cpu;
            rates.memory += memory;
        } else {
            rates.cpu -= cpu;
            rates.memory -= memory;
        }
    }
}

/// What nodes draw under their loads: put down for each, and added up, with the number of those that are overloaded.
fn drawn<'a>(
    nodes: impl Iterator<Item = (&'a Curve, (((&'a u64, &'a u32), &'a mut u64), &'a mut bool))>,
) -> (u128, u64) {
    let mut sums = (0u128, 0u64);
    for (curve, (((load, hosted), power), overloaded)) in nodes {
        *power = curve.power(*load, *hosted > 0);
        *overloaded = *load > curve.full();
        sums.0 += u128::from(*power);
        sums.1 += u64::from(*overloaded);
    }
    sums
}

/// The nodes of each site, and the power curve that all of them have.
fn ranges(fleet: &Fleet) -> Vec<(Range<usize>, Option<&Curve>)> {
    let nodes = &fleet.nodes;
    let first = |site: usize| nodes.site.partition_point(|one| (*one as usize) < site);
    let range = |site| first(site)..first(site + 1);
    let common = |range: Range<usize>| {
        let curves = &nodes.curve[range];
        let same = curves.first().filter(|one| curves.iter().all(|other| other == *one));
        same.map(|curve| &fleet.curves[usize::from(*curve)])
    };
    (0..fleet.sites.len()).map(|site| (range(site), common(range(site)))).collect()
}

/// When a site's price or carbon intensity may change; the start is one of them.
fn changes(fleet: &Fleet, site: &Site) -> Vec<SimTime> {
    let mut times = vec![SimTime::START];
    for track in site.node_price.iter().chain(&site.carbon) {
        times.extend(track.changes(fleet.step, fleet.duration));
    }
    times.sort_unstable();
    times.dedup();
    times
}

/// A site's price of a node and carbon intensity at an instant, in millionths.
fn numbers(fleet: &Fleet, site: &Site, now: SimTime) -> (u64, Option<u64>) {
    let at = |track: &crate::scenario::Track| u64::try_from(track.at(now, fleet.step)).unwrap_or(0);
    let price =
        site.node_price.as_ref().map_or_else(|| u64::try_from(site.price.node.as_micros()).unwrap_or(0), at);
    (price, site.carbon.as_ref().map(at))
}
