//! Fleets: what must hold of every one of them, and the one that is compared with other simulators.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use sterna_policies::quantity::{Bytes, Cores};
use sterna_simulator::clock::SimTime;
use sterna_simulator::fleet::columns::Node;
use sterna_simulator::fleet::consolidation::consolidation;
use sterna_simulator::fleet::fit::Unfit;
use sterna_simulator::fleet::report::{FleetReport, Refusal};
use sterna_simulator::fleet::trace::Trace;
use sterna_simulator::fleet::{Fleet, Order, closed_form, run};

mod random;
mod recount;

/// How many random fleets: `STERNA_FLEETS`, or as many as take a second or two.
fn how_many() -> u64 {
    std::env::var("STERNA_FLEETS").ok().and_then(|count| count.parse().ok()).unwrap_or(150)
}

/// Nanoseconds in a tick of the fleet that is compared, and ticks in its day.
const TICK: u64 = 300_000_000_000;
const TICKS: u64 = 288;

fn row(fleet: &Fleet, tick: u64) -> Vec<u16> {
    let mut shares = vec![0; fleet.services.len()];
    fleet.trace.fill(tick, &mut shares);
    shares
}

#[test]
fn everything_that_must_hold_holds_of_random_fleets() {
    let (mut migrations, mut cut, mut refused, mut overloaded, mut closed, mut unconverged) =
        (0, 0, 0, 0, 0, 0);
    for seed in 0..how_many() {
        let fleet = random::fleet(seed);
        let report = run(&fleet).unwrap_or_else(|unfit| panic!("fleet {seed}: {unfit}"));
        recount::check(&fleet, &report, &format!("fleet {seed}"));
        if let Some(energy) = closed_form::energy(&fleet, &report) {
            assert_eq!(energy, report.totals.energy, "fleet {seed}: the closed form");
            closed += 1;
        }
        migrations += report.migrations.len();
        cut += report.migrations.iter().filter(|one| !one.over).count();
        unconverged += report.migrations.iter().filter(|one| !one.converged).count();
        refused += report.refused.len();
        overloaded += usize::from(report.sites.iter().any(|site| site.overloaded > 0));
    }
    // They are of all kinds, or the test would say little.
    let all = [migrations, cut, refused, overloaded, closed, unconverged];
    assert!(all.iter().all(|count| *count >= 5), "{all:?}");
}

#[test]
fn one_more_node_changes_nothing_for_the_others() {
    let mut compared = 0;
    for seed in 0..how_many().min(200) {
        let fleet = random::fleet(seed);
        let site = u32::try_from(fleet.sites.len() - 1).unwrap();
        let mut more = fleet.clone();
        let cpu = Cores::from_micros(i64::try_from(fleet.curves[0].full() / 10).unwrap());
        more.nodes.add(Node { site, curve: 0, cpu, memory: Bytes(1), bandwidth: Bytes(1) });
        let (less, more) = (run(&fleet).unwrap(), run(&more).unwrap());
        assert_eq!((&less.migrations, &less.refused), (&more.migrations, &more.refused), "fleet {seed}");
        let added = u128::from(fleet.curves[0].power(0, false)) * u128::from(fleet.duration.as_nanos());
        assert_eq!(less.totals.energy.0 + added, more.totals.energy.0, "fleet {seed}");
        compared += less.migrations.len();
    }
    assert!(compared > 50, "{compared}");
    // Neither do services of new nodes: what is drawn for the others stays.
    let (less, more) = (consolidation(100), consolidation(101));
    for tick in [0, 1, 100, TICKS - 1] {
        assert_eq!(row(&less, tick), row(&more, tick)[..400]);
    }
}

#[test]
fn what_is_not_moved_is_the_closed_form_of_its_trace_alone() {
    let mut fleet = consolidation(100);
    fleet.orders.clear();
    let report = run(&fleet).unwrap();
    let shares: u128 = (0..TICKS).flat_map(|tick| row(&fleet, tick)).map(u128::from).sum();
    // 100 nodes at 100 W, and 150 W over 16 cores for 2 cores times the share: in femtowatts.
    let watt = 1_000_000_000_000_000u128;
    let energy =
        (100 * 100 * watt * u128::from(TICKS) + shares * 150 * watt * 2 / 16 / 10_000) * u128::from(TICK);
    assert_eq!(report.totals.energy.0, energy);
}

/// What other simulators came to with the same fleet.
#[test]
fn a_day_of_consolidation_takes_the_energy_that_is_known() {
    for (nodes, known) in [(100, 320.871_852), (1000, 3_209.782_140)] {
        let energy = run(&consolidation(nodes)).unwrap().totals.energy.as_kwh();
        assert!((energy - known).abs() <= 1e-6 * known, "{nodes} nodes: {energy}");
    }
}

#[test]
fn a_day_of_consolidation_is_as_it_was_told() {
    let fleet = consolidation(1000);
    let report = run(&fleet).unwrap();
    assert_eq!((report.migrations.len(), report.refused.len()), (2009, 0));
    assert_eq!((report.ended, report.ticks), (SimTime::from_nanos(86_400_000_000_000), 288));
    assert!(report.migrations.iter().all(|one| one.over && one.converged && one.bytes > 4 << 30));
    assert_eq!(closed_form::energy(&fleet, &report), Some(report.totals.energy));
    let totals = &report.totals;
    assert!(totals.carbon.is_some() && totals.cost.as_micros() > 0 && totals.cost_egress.as_micros() > 0);
    // It consolidates: fewer nodes are in use at the end than at first.
    let in_use: u128 = report.sites.iter().map(|site| site.in_use).sum();
    assert!(in_use < 1000 * u128::from(TICKS * TICK));
}

fn hash(report: &FleetReport) -> String {
    report.hash().unwrap()
}

#[test]
fn the_same_fleet_gives_the_same_bytes() {
    let fleet = consolidation(100);
    let first = run(&fleet).unwrap();
    // The same on every machine and in every build.
    insta::assert_snapshot!("hash_of_consolidation", hash(&first));
    // Recorded or drawn.
    let mut stored = consolidation(100);
    let rows = (0..TICKS).flat_map(|tick| row(&fleet, tick));
    stored.trace = Trace::Stored(rows.collect());
    assert_eq!(hash(&run(&stored).unwrap()), hash(&first));
    // Beside any number of others.
    for threads in [1, 2, 16] {
        let hashes: Vec<String> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..threads).map(|_| scope.spawn(|| hash(&run(&fleet).unwrap()))).collect();
            runs.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(hashes.iter().all(|other| *other == hash(&first)), "{threads} threads");
    }
    let mut other = consolidation(100);
    other.orders.pop();
    assert_ne!(hash(&run(&other).unwrap()), hash(&first));
}

#[test]
fn moves_that_cannot_be_made_are_told() {
    let mut fleet = consolidation(2);
    let at = SimTime::from_nanos;
    let order = |nanos, service, to| Order { at: at(nanos), service, to };
    fleet.orders = vec![
        order(0, 0, 0),
        order(0, 0, 1),
        order(0, 0, 1),
        order(0, 1, 1),
        order(10 * TICK, 1, 1),
        order(TICKS * TICK, 2, 1),
    ];
    let report = run(&fleet).unwrap();
    let told: Vec<(u32, Refusal)> = report.refused.iter().map(|one| (one.order, one.why)).collect();
    assert_eq!(told, [(0, Refusal::There), (2, Refusal::Moving), (4, Refusal::There), (5, Refusal::TooLate)]);
    // The second one waits until the first is over.
    let [first, second] = report.migrations[..] else { panic!("{:?}", report.migrations) };
    assert_eq!((first.order, second.order, second.began), (1, 3, first.ends));
    // Eight services are all that a node has room for.
    fleet.orders = (0..4).map(|service| order(TICK, service, 1)).chain([order(2 * TICK, 4, 0)]).collect();
    assert_eq!(run(&fleet).unwrap().refused, []);
    let mut full = consolidation(3);
    full.orders = (0..5).map(|service| order(TICK, service, 2)).collect();
    assert_eq!(run(&full).unwrap().refused.iter().map(|one| one.why).collect::<Vec<_>>(), [Refusal::NoRoom]);
}

#[test]
fn what_cannot_be_reckoned_is_refused() {
    let refused = |change: &dyn Fn(&mut Fleet)| {
        let mut fleet = consolidation(4);
        change(&mut fleet);
        run(&fleet).unwrap_err()
    };
    assert_eq!(refused(&|fleet| fleet.duration = SimTime::START), Unfit::Without { what: "duration" });
    assert!(matches!(refused(&|fleet| fleet.tick = 0), Unfit::Without { .. }));
    assert!(matches!(refused(&|fleet| fleet.sites.truncate(1)), Unfit::Unknown { to: "site", index: 1, .. }));
    assert!(matches!(refused(&|fleet| fleet.curves.clear()), Unfit::Unknown { to: "power curve", .. }));
    assert!(matches!(
        refused(&|fleet| fleet.sites[2].pue = 900),
        Unfit::OutOfRange { what: "site", index: 2, .. }
    ));
    let order = |at, service, to| Order { at: SimTime::from_nanos(at), service, to };
    assert!(matches!(
        refused(&|fleet| fleet.orders = vec![order(2, 0, 1), order(1, 0, 1)]),
        Unfit::OutOfOrder { what: "move", index: 1, .. }
    ));
    assert!(matches!(
        refused(&|fleet| fleet.orders = vec![order(2, 16, 1)]),
        Unfit::Unknown { to: "service", .. }
    ));
    assert!(matches!(
        refused(&|fleet| fleet.orders = vec![order(2, 0, 4)]),
        Unfit::Unknown { to: "node", .. }
    ));
    assert!(matches!(
        refused(&|fleet| fleet.trace = Trace::Stored(vec![0; 16 * 287])),
        Unfit::Trace { ticks: 288, .. }
    ));
    let mut large = consolidation(100);
    (large.duration, large.tick) = (SimTime::from_nanos(u64::MAX), u64::MAX / 4);
    assert_eq!(run(&large).unwrap_err(), Unfit::TooLarge);
}
