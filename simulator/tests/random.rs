//! Scenarios of every kind, each decided by its seed: what must hold in all of them; and texts that hardly are any.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;

use proptest::prelude::*;
use sterna_core::continuum::{NodeName, ServiceName};
use sterna_core::history::Outcome as MigrationOutcome;
use sterna_policies::policy::Policy;
use sterna_policies::quantity::{Cores, Millis};
use sterna_simulator::clock::SimTime;
use sterna_simulator::models::fault::Part;
use sterna_simulator::report::{Outcome, Report};
use sterna_simulator::run;
use sterna_simulator::scenario::{Scenario, load};
use sterna_simulator::stream::{Purpose, Stream};
use sterna_simulator::world::World;

struct Draws(Stream, u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.1 += 1;
        self.0.below(self.1, bound)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    fn place(&mut self) -> String {
        format!("{{ latitude = -37.{}, longitude = 144.{} }}", 10 + self.below(80), 10 + self.below(80))
    }
}

/// Inventory and scenario of a seed.
fn texts(seed: u64) -> (String, String) {
    let mut draws = Draws(Stream::named(seed, Purpose::Fleet, "scenario"), 0);
    let mut town = "schema_version = 1\nname = \"town\"\n".to_owned();
    let mut nodes = Vec::new();
    let sites = 2 + draws.below(2);
    for site in 0..sites {
        let _infallible = write!(
            town,
            "[[site]]\nname = \"s{site}\"\ntier = \"edge\"\nregion = \"au\"\nprice = {{ node = \"{}USD/h\" }}\n\
             power = {{ idle = \"{}W\", full = \"90W\", off_when_empty = {} }}\ncarbon = \"{}g/kWh\"\nlocation = {}\n",
            draws.pick(&["0.1", "0.3", "1"]),
            10 + draws.below(40),
            draws.below(2) == 0,
            100 + draws.below(400),
            draws.place()
        );
        for node in 0..1 + draws.below(2) {
            let name = format!("s{site}n{node}");
            let _infallible =
                write!(town, "[[site.node]]\nname = \"{name}\"\ncpu = \"2cores\"\nmemory = \"4GiB\"\n");
            nodes.push(name);
        }
    }
    for a in 0..sites {
        for b in a + 1..sites {
            let bandwidth = draws.pick(&["20Mbit/s", "100Mbit/s", "1Gbit/s"]);
            let _infallible = write!(
                town,
                "[[link]]\nbetween = [\"s{a}\", \"s{b}\"]\nrtt = \"9ms\"\nbandwidth = \"{bandwidth}\"\negress = \"0.02USD/GiB\"\n"
            );
        }
    }
    let services = 2 + draws.below(2);
    for service in 0..services {
        let cpu = draws.pick(&["0.5", "1"]);
        let memory = draws.pick(&["128MiB", "512MiB", "1GiB"]);
        let _infallible =
            write!(town, "[[service]]\nname = \"v{service}\"\ncpu = \"{cpu}\"\nmemory = \"{memory}\"\n");
    }
    for users in 0..2 {
        let (service, rate) = (draws.below(services), 1 + draws.below(50));
        let _infallible =
            write!(town, "[[users]]\nname = \"u{users}\"\nrates = {{ v{service} = \"{rate}/s\" }}\n");
    }
    let minutes = 40 + draws.below(50);
    let mut text = format!(
        "schema_version = 1\nallow_unused = true\nname = \"random\"\ninventory = \"town.toml\"\n\
         start = \"2026-03-02T00:00:00Z\"\nduration = \"{minutes}m\"\nstep = \"{}m\"\n[placement]\n",
        1 + draws.below(9)
    );
    for service in 0..services {
        // Two to a node at most, so that all have room.
        let node = &nodes[usize::try_from(service / 2).unwrap() % nodes.len()];
        let _infallible = writeln!(text, "v{service} = \"{node}\"");
    }
    text.push_str("[[distance]]\nbase = \"1ms\"\nper_km = \"0.5ms\"\n");
    for users in 0..2 {
        let way = match draws.below(3) {
            0 => format!("stays = {}", draws.place()),
            1 => format!(
                "waypoint = {{ from = {}, to = {}, speed = [\"50km/h\", \"200km/h\"], pause = \"5m\" }}",
                draws.place(),
                draws.place()
            ),
            _ => format!(
                "commuter = {{ home = {}, work = {}, leaves = \"10m\", returns = \"40m\", takes = \"10m\", spread = \"5m\" }}",
                draws.place(),
                draws.place()
            ),
        };
        let jitter = draws.pick(&["", "jitter = \"1ms\"\n"]);
        let _infallible =
            write!(text, "[[mobility]]\nusers = \"u{users}\"\nlast_mile = \"3ms\"\n{way}\n{jitter}");
    }
    for _ in 0..draws.below(3) {
        let node = nodes[usize::try_from(draws.below(nodes.len() as u64)).unwrap()].clone();
        let (at, lasts) = (draws.below(minutes * 60), 1 + draws.below(1200));
        let what = match draws.below(4) {
            0 => "[[failure]]\nsite = \"s0\"\n".to_owned(),
            1 => "[[failure]]\nlink = [\"s1\", \"s0\"]\n".to_owned(),
            2 => format!("[[failure]]\nnode = \"{node}\"\n"),
            _ => format!("[[preemption]]\nnode = \"{node}\"\nnotice = \"11m\"\n"),
        };
        let when = match draws.below(2) {
            0 => format!("at = \"{at}s\"\nfor = \"{lasts}s\"\n"),
            _ => "mtbf = \"20m\"\nmttr = \"5m\"\n".to_owned(),
        };
        text.push_str(&(what + &when));
    }
    // How moves go: as predicted, or by a model of all or of one.
    text.push_str(draws.pick(&[
        "",
        "[[writes]]\nservice = \"v0\"\nrate = \"30MiB/s\"\n",
        "[[migration]]\nmodel = \"cold\"\nstop = \"3s\"\nstart = \"9s\"\n",
        "[[writes]]\nrate = \"9MiB/s\"\nworking_set = \"80MiB\"\n[[migration]]\nmodel = \"pre-copy\"\n",
        "[[migration]]\nmodel = \"post-copy\"\n",
        "[[migration]]\nservice = \"v1\"\nmodel = \"post-copy\"\nstate = \"90MiB\"\n",
    ]));
    (town, text)
}

fn load(town: &str, text: &str) -> Result<Scenario, String> {
    let read = |path: &Path| match path.to_str() {
        Some("town.toml") => Ok(town.to_owned()),
        Some("values.csv") => Ok("time,value\n0,5\n600,7\n".to_owned()),
        Some("way.csv") => Ok("time,lat,lon\n0,-37,144\n600,-37.5,144.5\n".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    load::load("random.toml", text, &read).map(|read| read.scenario).map_err(|invalid| invalid.to_string())
}

fn policy(seed: u64) -> Policy {
    let objective = ["user_latency", "cost_rate", "power"][usize::try_from(seed % 3).unwrap()];
    let source = match objective {
        "user_latency" => {
            "query = \"probe\"\nusers_label = \"users\"\nunit = \"s\"\non_missing = \"exclude-site\""
        }
        "cost_rate" => "query = \"price\"\nunit = \"USD/h\"",
        _ => "query = \"power\"\nunit = \"W\"\non_missing = \"modelled\"",
    };
    let text = format!(
        "schema_version = 1\nname = \"p\"\nmode = \"auto\"\n[[objective.term]]\nmetric = \"{objective}\"\n\
         [trigger]\ninterval = \"10m\"\n[hysteresis]\nmin_gain = \"5%\"\nmin_residency = \"5m\"\ncooldown = \"1m\"\n\
         [budget]\nconcurrent = {}\n[metrics.{objective}]\n{source}\n",
        1 + seed % 2
    );
    sterna_policies::load::policy("p.toml", &text).unwrap_or_else(|invalid| panic!("{invalid}")).value
}

/// From when to when a service takes its share of a node.
struct Stay<'a> {
    service: &'a ServiceName,
    node: &'a NodeName,
    from: SimTime,
    to: SimTime,
}

/// Who was where: told by the moves alone. A move that ends elsewhere than it says is found by where the next one begins.
fn stays<'a>(scenario: &'a Scenario, outcome: &'a Outcome) -> Vec<Stay<'a>> {
    let mut stays = Vec::new();
    let mut on: BTreeMap<&ServiceName, (&NodeName, SimTime)> =
        scenario.placement.iter().map(|(service, node)| (service, (node, SimTime::START))).collect();
    for one in &outcome.moves {
        let (node, since) = on[&one.service];
        assert_eq!(node, &one.from, "it leaves from where it is");
        let (ended, came) = match &one.end {
            Some(end) => (end.ended, end.outcome),
            // It runs there and still fetches its memory.
            None if one.arrived.is_some() => (scenario.duration, MigrationOutcome::Moved),
            None => (scenario.duration, MigrationOutcome::RolledBack),
        };
        stays.push(Stay { service: &one.service, node: &one.to, from: one.began, to: ended });
        if came == MigrationOutcome::Moved {
            stays.push(Stay { service: &one.service, node, from: since, to: ended });
            on.insert(&one.service, (&one.to, ended));
        }
    }
    for (service, (node, since)) in on {
        assert_eq!(&outcome.placement[service], node, "it ends where its moves lead");
        stays.push(Stay { service, node, from: since, to: scenario.duration });
    }
    stays
}

fn check(scenario: &Scenario, report: &Report) {
    let outcome = &report.outcomes[0];
    let continuum = &scenario.continuum;
    let stays = stays(scenario, outcome);
    // Nothing is lost, nothing is there twice.
    assert_eq!(outcome.placement.keys().collect::<Vec<_>>(), continuum.services.keys().collect::<Vec<_>>());
    let mut instants: Vec<SimTime> = stays.iter().flat_map(|stay| [stay.from, stay.to]).collect();
    let outages = &scenario.drawn.outages;
    instants.extend(outages.iter().flat_map(|outage| [outage.from, outage.to]));
    instants.extend([SimTime::START, scenario.duration]);
    instants.retain(|at| *at <= scenario.duration);
    instants.sort_unstable();
    instants.dedup();
    let mut energy = 0.0;
    let mut stands: BTreeMap<&ServiceName, u64> = BTreeMap::new();
    for pair in instants.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let gone = |name: &NodeName| {
            outages.iter().any(|outage| outage.part == Part::Node(name.clone()) && outage.is_on(from))
        };
        for (name, node) in &continuum.nodes {
            let there = stays.iter().filter(|stay| stay.node == name && stay.from <= from && from < stay.to);
            let there: Vec<&ServiceName> = there.map(|stay| stay.service).collect();
            let asked = there.iter().map(|service| &continuum.services[*service]);
            let (cpu, memory) = asked.fold((Cores::ZERO, 0), |(cpu, memory), service| {
                (cpu.saturating_add(service.cpu), memory + service.memory.0)
            });
            assert!(cpu <= node.cpu && memory <= node.memory.0, "{name} is too full at {from}");
            let power = &continuum.sites[&node.site].power;
            let (idle, full) = (power.idle.as_f64(), power.full.as_f64());
            let is_off = gone(name) || (power.off_when_empty && there.is_empty());
            let watts = if is_off { 0.0 } else { idle + (full - idle) * cpu.as_f64() / node.cpu.as_f64() };
            energy += watts * to.since(from) as f64 / 3.6e12;
        }
        // Who stands on a node that is gone, or is frozen: at least that long.
        for service in continuum.services.keys() {
            let on =
                stays.iter().filter(|stay| stay.service == service && stay.from <= from && from < stay.to);
            // While it moves it takes room at both ends, and runs at the one that it was at before.
            let node = on.min_by_key(|stay| stay.from).unwrap().node;
            if gone(node) {
                *stands.entry(service).or_default() += to.since(from);
            }
        }
    }
    let told = outcome.totals.energy.as_f64();
    assert!((told - energy).abs() <= 1e-6 * energy.max(1.0), "{told} {energy}");
    // Time stops where it should: each group asks at its rate for the whole of it, waiting or not.
    let rates: i64 =
        continuum.users.values().flat_map(|users| users.rates.values()).map(|rate| rate.as_micros()).sum();
    let requests = i128::from(rates) * i128::from(scenario.duration.as_nanos());
    let requests = u64::try_from(requests / 1_000_000_000_000_000).unwrap();
    assert!(outcome.totals.requests.abs_diff(requests) <= 1, "{} {requests}", outcome.totals.requests);
    assert!(outcome.timeline.iter().all(|entry| entry.at < scenario.duration));
    let frozen = outcome.moves.iter().filter_map(|one| one.end.as_ref());
    let frozen = frozen.fold(Millis::ZERO, |sum, end| sum.saturating_add(end.downtime)).as_f64();
    let gone: u64 = stands.values().sum();
    let (least, told) = (gone as f64 / 1e6, outcome.totals.downtime.as_f64());
    // Both at once count once; a move that has not ended has told nothing yet.
    let open = outcome.moves.iter().any(|one| one.end.is_none());
    assert!(told >= least - 1e-3, "{told} {least}");
    assert!(open || told <= least + frozen + 1e-3, "{told} {least} {frozen}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn what_must_hold_holds_in_every_scenario(seed: u64) {
        let (town, text) = texts(seed);
        let scenario = load(&town, &text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}\n{town}"));
        let policy = policy(seed);
        let once = || run::compare(&scenario, std::slice::from_ref(&policy), seed, &mut |_, _| {}).unwrap();
        let report = once();
        check(&scenario.drawn(seed), &report);
        prop_assert_eq!(report.hash().unwrap(), once().hash().unwrap());
    }
}

/// A text with everything that a scenario may have.
const ALL: &str = r#"
[[latency]]
users = "u0"
site = "s0"
shape = "linear"
points = [["0h", "4ms"], ["10m", "45ms"]]
[[rate]]
users = "u0"
service = "v1"
daily = { low = "1/s", high = "9/s", peak = "14h" }
[[rate]]
users = "u1"
service = "v1"
bursts = { base = "1/s", peak = "9/s", between = "1h", lasts = "10m" }
[[carbon]]
site = "s1"
file = "values.csv"
unit = "g/kWh"
[[price]]
site = "s0"
points = [["0h", "0.05USD/h"]]
[[memory]]
service = "v0"
points = [["0h", "160MiB"], ["20m", "256MiB"]]
[[writes]]
service = "v0"
rate = "20MiB/s"
working_set = "100MiB"
[[migration]]
service = "v0"
model = "pre-copy"
rounds = 9
sent = "300%"
[[migration]]
service = "v1"
model = "cold"
stop = "2s"
start = "5s"
[[migration]]
model = "post-copy"
state = "1MiB"
"#;

/// What stands in scenarios, where it does not belong.
const WORDS: [&str; 24] = [
    "0",
    "-1",
    "1e308",
    "nan",
    "inf",
    "9223372036854775807",
    "\"0h\"",
    "\"400d\"",
    "\"1ms\"",
    "\"-1m\"",
    "\"way.csv\"",
    "\"values.csv\"",
    "\"s0\"",
    "\"u1\"",
    "true",
    "[]",
    "{}",
    "[[failure]]",
    "[[mobility]]",
    "\n",
    "\"",
    "mtbf = \"1m\"",
    "{ latitude = 90, longitude = 180 }",
    "\u{fffd}",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(seed in 0u64..50, changes in proptest::collection::vec((any::<u64>(), any::<u64>(), 0u8..6), 1..6)) {
        let (town, text) = texts(seed);
        let mut lines: Vec<String> = (text + ALL).lines().map(str::to_owned).collect();
        for (which, what, how) in changes {
            let at = usize::try_from(which % lines.len() as u64).unwrap();
            let word = WORDS[usize::try_from(what % WORDS.len() as u64).unwrap()];
            match how {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[usize::try_from(what % lines.len() as u64).unwrap()].clone()),
                2 => {
                    let to = usize::try_from(what % lines.len() as u64).unwrap();
                    lines.swap(at, to);
                }
                3 => {
                    let name = lines[at].split('=').next().unwrap_or_default().to_owned();
                    lines[at] = format!("{name}= {word}");
                }
                4 => {
                    let cut = usize::try_from(what % (lines[at].len() as u64 + 1)).unwrap();
                    let cut = (0..=cut).rev().find(|cut| lines[at].is_char_boundary(*cut)).unwrap_or(0);
                    let rest = lines[at].split_off(cut);
                    lines[at].push_str(word);
                    lines[at].push_str(rest.get(1..).unwrap_or_default());
                }
                _ => {
                    let digit = char::from(b'0' + u8::try_from(what % 10).unwrap());
                    lines[at] = lines[at].replace(|c: char| c.is_ascii_digit(), &digit.to_string().repeat(1 + usize::from(how) % 3));
                }
            }
            if lines.is_empty() {
                lines.push(String::new());
            }
        }
        if let Ok(scenario) = load(&town, &lines.join("\n")) {
            let scenario = scenario.drawn(seed);
            let mut world = World::new(&scenario);
            for at in scenario.changes().into_iter().take(20) {
                world.advance(at);
                world.refresh();
            }
            world.advance(scenario.duration);
            let _totals = world.totals();
        }
    }
}
