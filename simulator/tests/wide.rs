//! The wider world: where users are, what fails, values from files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io;
use std::path::Path;

use sterna_core::history::Outcome as MigrationOutcome;
use sterna_policies::policy::Policy;
use sterna_policies::quantity::Millis;
use sterna_simulator::clock::SimTime;
use sterna_simulator::models::fault::Part;
use sterna_simulator::report::{Happening, Outcome};
use sterna_simulator::run;
use sterna_simulator::scenario::{Scenario, load};
use sterna_simulator::world::World;
use sterna_simulator::world::outages::Standing;

const INVENTORY: &str = r#"schema_version = 1
name = "town"
[[site]]
name = "north"
tier = "edge"
region = "au"
price = { node = "0.10USD/h" }
power = { idle = "8W", full = "30W" }
location = { latitude = -37.80, longitude = 144.96 }
[[site.node]]
name = "north-1"
cpu = "4cores"
memory = "8GiB"
[[site]]
name = "south"
tier = "edge"
region = "au"
price = { node = "0.10USD/h" }
power = { idle = "8W", full = "30W" }
location = { latitude = -38.80, longitude = 144.96 }
[[site.node]]
name = "south-1"
cpu = "4cores"
memory = "8GiB"
[[site.node]]
name = "south-2"
cpu = "4cores"
memory = "8GiB"
[[link]]
between = ["north", "south"]
rtt = "12ms"
bandwidth = "100Mbit/s"
[[users]]
name = "riders"
rates = { maps = "10/s" }
[[service]]
name = "maps"
cpu = "1cores"
memory = "1GiB"
[[service]]
name = "chat"
cpu = "1cores"
memory = "1GiB"
"#;

const HEAD: &str = r#"schema_version = 1
name = "wide"
inventory = "town.toml"
start = "2026-03-02T00:00:00Z"
duration = "4h"
[placement]
maps = "north-1"
chat = "south-1"
"#;

const STAYS: &str = r#"
[[mobility]]
users = "riders"
stays = { latitude = -37.80, longitude = 144.96 }
last_mile = "5ms"
"#;

/// They are in the north until 1:00, and in the south from 2:00 on.
const RIDE: &str = "time,lat,lon\n3600,-37.80,144.96\n7200,-38.80,144.96\n";

fn load(text: &str) -> Result<Scenario, String> {
    load_over(text, INVENTORY)
}

fn load_over(text: &str, inventory: &str) -> Result<Scenario, String> {
    let read = |path: &Path| {
        match path.to_str() {
        Some("town.toml") => Ok(inventory.to_owned()),
        Some("ride.csv") => Ok(RIDE.to_owned()),
        // Of the year 2008, in seconds.
        Some("old.csv") => Ok("time,lat,lon\n1211018404,-37.80,144.96\n1211018504,-38.80,144.96\n".to_owned()),
        Some("broken.csv") => Ok("time,lat,lon\n0,-37.80,144.96\n0,x,144.96\n60,91,0\n".to_owned()),
        Some("carbon.csv") => Ok(
            "# hourly\ntime,value\n2026-03-01T23:00:00Z,100\n2026-03-02T01:00:00Z,300\n2026-03-02T09:00:00Z,1\n"
                .to_owned(),
        ),
        Some("bad.csv") => Ok("time,value\n0h,-3g/kWh\n2h,5\nsoon,5g/kWh\n".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    }
    };
    load::load("wide.toml", text, &read).map(|read| read.scenario).map_err(|invalid| invalid.to_string())
}

fn policy() -> Policy {
    let text = r#"schema_version = 1
name = "near"
mode = "auto"
[[objective.term]]
metric = "user_latency"
[trigger]
interval = "5m"
[hysteresis]
min_gain = "10%"
min_residency = "10m"
cooldown = "5m"
[metrics.user_latency]
query = "avg by (site, users) (probe_duration_seconds)"
users_label = "users"
unit = "s"
on_missing = "exclude-site"
"#;
    sterna_policies::load::policy("near.toml", text).unwrap().value
}

fn run_one(scenario: &Scenario) -> Outcome {
    run::run(scenario, &policy(), 7, &mut |_| {}).unwrap()
}

fn time(text: &str) -> SimTime {
    SimTime::from_millis(text.parse().unwrap())
}

fn legs(outcome: &Outcome) -> Vec<(&str, &str, &str)> {
    outcome.moves.iter().map(|one| (one.service.as_str(), one.from.as_str(), one.to.as_str())).collect()
}

#[test]
fn distance_stands_in_where_nobody_measured() {
    let scenario = load(&format!("{HEAD}{STAYS}")).unwrap();
    let world = World::new(&scenario);
    let seen = world.observe(&policy()).latency;
    let of = |site: &str| seen[&"riders".into()][&site.into()].value.as_f64();
    assert!((of("north") - 12.4).abs() < 1e-6, "{}", of("north"));
    // A degree of latitude is 111.195 km.
    assert!((of("south") - (12.4 + 0.01628 * 111.195_08)).abs() < 1e-4, "{}", of("south"));
    let measured = "[[latency]]\nusers = \"riders\"\nsite = \"south\"\npoints = [[\"0h\", \"9ms\"]]\n";
    let scenario = load(&format!("{HEAD}{STAYS}{measured}")).unwrap();
    let seen = World::new(&scenario).observe(&policy()).latency;
    assert_eq!(seen[&"riders".into()][&"south".into()].value, "9ms".parse().unwrap());
    let steeper = "[[distance]]\ntier = \"edge\"\nbase = \"1ms\"\nper_km = \"1ms\"\n";
    let scenario = load(&format!("{HEAD}{STAYS}{steeper}")).unwrap();
    let seen = World::new(&scenario).observe(&policy()).latency;
    assert!((seen[&"riders".into()][&"south".into()].value.as_f64() - 117.195).abs() < 0.001);
}

#[test]
fn services_follow_users_who_move() {
    let ride = "[[mobility]]\nusers = \"riders\"\nfile = \"ride.csv\"\n";
    let scenario = load(&format!("{HEAD}{ride}{}", steep())).unwrap();
    let outcome = run_one(&scenario);
    // Both nodes in the south are as near; the first is in use already.
    let [("maps", "north-1", to)] = legs(&outcome)[..] else { panic!("{:?}", legs(&outcome)) };
    assert!(to.starts_with("south"));
    let began = outcome.moves[0].began;
    assert!(began > time("1.5h") && began < time("2h"), "{began}");
}

fn steep() -> &'static str {
    "[[distance]]\nbase = \"1ms\"\nper_km = \"0.5ms\"\n"
}

#[test]
fn what_stands_on_a_failed_node_stands_still_and_is_not_moved() {
    let failure = "[[failure]]\nnode = \"north-1\"\nat = \"1h\"\nfor = \"30m\"\n";
    let scenario = load(&format!("{HEAD}{STAYS}{failure}")).unwrap();
    let outcome = run_one(&scenario);
    assert_eq!(legs(&outcome), []);
    assert_eq!(outcome.totals.downtime, "30m".parse().unwrap());
    assert_eq!(outcome.totals.requests_held, 18_000);
    let faults: Vec<(SimTime, Standing)> = outcome
        .timeline
        .iter()
        .filter_map(|entry| match &entry.event {
            Happening::Fault { part: Part::Node(_), standing } => Some((entry.at, *standing)),
            _ => None,
        })
        .collect();
    assert_eq!(faults, [(time("1h"), Standing::Gone), (time("1.5h"), Standing::Back)]);
    // Three nodes idle at 8 W with two services of a core; one of them, with its service, is off for half an hour.
    let energy = outcome.totals.energy.as_f64();
    assert!((energy - (3.0 * 8.0 * 4.0 + 2.0 * 5.5 * 4.0 - 13.5 * 0.5)).abs() < 1e-3, "{energy}");
    let mut world = World::new(&scenario);
    world.advance(time("1h"));
    world.refresh();
    let seen = world.observe(&policy());
    let reachable: Vec<&str> = seen.reachable.iter().map(|node| node.as_str()).collect();
    assert_eq!(reachable, ["south-1", "south-2"]);
    assert!(!seen.placement.contains_key(&"maps".into()) && !seen.memory.contains_key(&"maps".into()));
    assert!(seen.placement.contains_key(&"chat".into()));
    assert!(!seen.latency[&"riders".into()].contains_key(&"north".into()), "nobody there measures");
}

#[test]
fn a_move_whose_way_fails_is_undone() {
    // It takes half a minute and more to carry 1 GiB, and begins at 1:40 or so.
    let ride = "[[mobility]]\nusers = \"riders\"\nfile = \"ride.csv\"\n";
    let whole = run_one(&load(&format!("{HEAD}{ride}{}", steep())).unwrap());
    let (began, end) = (whole.moves[0].began, whole.moves[0].end.as_ref().unwrap());
    assert_eq!(end.outcome, MigrationOutcome::Moved);
    let to = &whole.moves[0].to;
    let middle = (began.as_nanos() + 10_000_000_000) / 1_000_000_000;
    for what in [
        "link = [\"south\", \"north\"]".to_owned(),
        format!("node = \"{to}\""),
        "node = \"north-1\"".to_owned(),
    ] {
        let failure = format!("[[failure]]\n{what}\nat = \"{middle}s\"\nfor = \"20m\"\n");
        let outcome = run_one(&load(&format!("{HEAD}{ride}{}{failure}", steep())).unwrap());
        let first = outcome.moves[0].end.as_ref().unwrap();
        assert_eq!(first.outcome, MigrationOutcome::RolledBack, "{what}");
        assert_eq!((first.ended, first.downtime), (time(&format!("{middle}s")), Millis::ZERO), "{what}");
        assert!(first.bytes < end.bytes && first.bytes.0 > 0, "{what}");
        // Once it is back it is tried again; a way that is cut is found out before anything is touched.
        let last = outcome.moves.last().unwrap();
        assert_eq!(last.end.as_ref().unwrap().outcome, MigrationOutcome::Moved, "{what}");
        assert!(outcome.placement[&"maps".into()].as_str().starts_with("south"), "{what}");
        let refused = outcome
            .moves
            .iter()
            .filter(|one| one.end.as_ref().is_some_and(|end| end.outcome == MigrationOutcome::Refused));
        assert_eq!(refused.count() > 0, what.starts_with("link"), "{what}");
    }
}

#[test]
fn a_spot_node_is_left_before_it_goes() {
    let inventory = INVENTORY.replace("bandwidth = \"100Mbit/s\"", "bandwidth = \"10Gbit/s\"");
    let preemption = "[[preemption]]\nnode = \"south-1\"\nat = \"2h\"\nfor = \"1h\"\nnotice = \"10m\"\n";
    let outcome = run_one(&load_over(&format!("{HEAD}{STAYS}{preemption}"), &inventory).unwrap());
    let [("chat", "south-1", _)] = legs(&outcome)[..] else { panic!("{:?}", legs(&outcome)) };
    let one = &outcome.moves[0];
    assert!(one.began >= time("110m") && one.end.as_ref().unwrap().ended < time("2h"), "{}", one.began);
    assert_eq!(outcome.totals.downtime, one.end.as_ref().unwrap().downtime);
    // Without a notice there is no time.
    let sudden = preemption.replace("10m", "1s");
    let outcome = run_one(&load_over(&format!("{HEAD}{STAYS}{sudden}"), &inventory).unwrap());
    assert_eq!(legs(&outcome), []);
    assert_eq!(outcome.totals.downtime, "1h".parse().unwrap());
}

#[test]
fn moves_that_begin_together_share_the_link() {
    let drained = format!("{HEAD}{STAYS}").replace("chat = \"south-1\"", "chat = \"north-1\"");
    let preemption = "[[preemption]]\nnode = \"north-1\"\nat = \"2h\"\nfor = \"1h\"\nnotice = \"30m\"\n";
    let scenario = load(&format!("{drained}{preemption}")).unwrap();
    let of = |concurrent| {
        let mut policy = policy();
        policy.budget.concurrent = concurrent;
        let outcome = run::run(&scenario, &policy, 7, &mut |_| {}).unwrap();
        let took = |one: &sterna_simulator::report::MoveRecord| {
            let end = one.end.as_ref().unwrap();
            assert_eq!(end.outcome, MigrationOutcome::Moved);
            end.ended.since(one.began) as f64 / 1e9
        };
        assert!(outcome.moves.len() >= 2);
        (took(&outcome.moves[0]), took(&outcome.moves[1]))
    };
    let (alone, then) = of(1);
    let (first, second) = of(2);
    assert!((alone - then).abs() < 1e-6 && (first - second).abs() < 1e-6);
    // 1 GiB and what is left of it at 100 Mbit/s is most of it.
    let sent = (1024.0 + sterna_core::cost::left(sterna_policies::quantity::Bytes::from_mib(1024)).as_mib())
        / 11.920_929;
    assert!((first - alone - sent).abs() < 0.01, "{alone} {first} {sent}");
}

#[test]
fn values_come_from_files() {
    let carbon =
        "[[carbon]]\nsite = \"north\"\nfile = \"carbon.csv\"\nunit = \"g/kWh\"\nshape = \"linear\"\n";
    let scenario = load(&format!("{HEAD}{STAYS}{carbon}")).unwrap();
    let track = &scenario.tracks.carbon[&"north".into()];
    let at = |text: &str| track.at(time(text), scenario.step) / 1_000_000;
    // Half way at the start, and then towards a value after the end.
    assert_eq!([at("0h"), at("1h"), at("3h")], [200, 300, 225]);
}

#[test]
fn what_one_draws_does_not_hang_on_others() {
    let failures = "[[failure]]\nnodes_of = \"south\"\nmtbf = \"1h\"\nmttr = \"10m\"\n";
    let wander = "[[mobility]]\nusers = \"riders\"\njitter = \"1ms\"\nwaypoint = { from = { latitude = -38.8, longitude = 144.9 }, \
                  to = { latitude = -37.8, longitude = 145 }, speed = [\"20km/h\", \"60km/h\"], pause = \"5m\" }\n";
    let more = INVENTORY
        .replace(
            "name = \"south-2\"\n",
            "name = \"south-0\"\ncpu = \"4cores\"\nmemory = \"8GiB\"\n[[site.node]]\nname = \"south-2\"\n",
        )
        .replace("[[users]]", "[[users]]\nname = \"anglers\"\nrates = { chat = \"1/s\" }\n[[users]]");
    let another = wander.replace("riders", "anglers");
    let text = format!("{HEAD}{wander}{failures}");
    let (few, many) = (load(&text).unwrap(), load_over(&format!("{text}{another}"), &more).unwrap());
    for seed in [0, 1, 99] {
        let (few, many) = (few.drawn(seed), many.drawn(seed));
        assert_eq!(few.drawn.routes[&"riders".into()], many.drawn.routes[&"riders".into()]);
        assert_ne!(many.drawn.routes[&"riders".into()], many.drawn.routes[&"anglers".into()]);
        let of = |scenario: &Scenario, node: &str| -> Vec<(SimTime, SimTime)> {
            let of_node = |part: &Part| *part == Part::Node(node.into());
            let outages = scenario.drawn.outages.iter().filter(|outage| of_node(&outage.part));
            outages.map(|outage| (outage.from, outage.to)).collect()
        };
        assert_eq!(of(&few, "south-1"), of(&many, "south-1"));
        assert_ne!(of(&many, "south-0"), of(&many, "south-1"));
        let latency = |scenario: &Scenario| {
            scenario.drawn.latency(scenario, &"riders".into(), &"north".into(), time("2h")).unwrap()
        };
        assert_eq!(latency(&few), latency(&many));
    }
    assert_ne!(few.drawn(1).drawn, few.drawn(2).drawn);
    assert_eq!(few.drawn(1).drawn(2).drawn, few.drawn(2).drawn);
}

/// All nodes of a site with one node are that node; with one more they are not, and what happens to each goes on as it did.
#[test]
fn a_nodes_failures_do_not_hang_on_another_node() {
    let failures = "[[failure]]\nsite = \"north\"\nmtbf = \"1h\"\nmttr = \"10m\"\n\
                    [[failure]]\nnode = \"north-1\"\nmtbf = \"1h\"\nmttr = \"10m\"\n\
                    [[preemption]]\nnode = \"north-1\"\nmtbf = \"1h\"\nmttr = \"10m\"\nnotice = \"1m\"\n\
                    [[failure]]\nnode = \"north-1\"\nmtbf = \"1h\"\nmttr = \"10m\"\n";
    let more = INVENTORY.replace(
        "name = \"north-1\"\n",
        "name = \"north-0\"\ncpu = \"4cores\"\nmemory = \"8GiB\"\n[[site.node]]\nname = \"north-1\"\n",
    );
    let text = format!("{HEAD}{STAYS}{failures}");
    let of = |inventory: &str| -> Vec<(SimTime, SimTime)> {
        let drawn = load_over(&text, inventory).unwrap().drawn(7).into_owned();
        let outages = drawn.drawn.outages.into_iter();
        let own = outages.filter(|outage| outage.part == Part::Node("north-1".into()));
        own.map(|outage| (outage.from, outage.to)).collect()
    };
    let few = of(INVENTORY);
    assert_eq!(few, of(&more));
    // Two that are said twice are two.
    assert!(few.len() > 4 && few.iter().collect::<std::collections::BTreeSet<_>>().len() == few.len());
}

#[test]
fn everything_wrong_with_it_is_told_with_its_place() {
    let wrong = [
        "[[mobility]]\nusers = \"riders\"\n",
        "[[mobility]]\nusers = \"riders\"\nfile = \"ride.csv\"\nstays = { latitude = 1, longitude = 2.5 }\n",
        "[[mobility]]\nusers = \"riders\"\nstays = { latitude = -97.8, longitude = nan }\n",
        "[[mobility]]\nusers = \"riders\"\nfile = \"broken.csv\"\n",
        "[[mobility]]\nusers = \"riders\"\nfile = \"none.csv\"\n",
        "[[mobility]]\nusers = \"riders\"\nfile = \"old.csv\"\n",
        "[[mobility]]\nusers = \"riders\"\nwaypoint = { from = { latitude = 0, longitude = 0 }, \
         to = { latitude = 1, longitude = 1 }, speed = [\"6km/h\", \"3km/h\"] }\n",
        "[[mobility]]\nusers = \"riders\"\ncommuter = { home = { latitude = 0, longitude = 0 }, \
         work = { latitude = 1, longitude = 1 }, leaves = \"8h\", returns = \"9h\", takes = \"2h\" }\n",
    ];
    let with_users = [
        "[[failure]]\nat = \"1h\"\nfor = \"1m\"\n",
        "[[failure]]\nnode = \"north-1\"\nsite = \"south\"\nat = \"1h\"\nfor = \"1m\"\n",
        "[[failure]]\nnode = \"north-1\"\nat = \"1h\"\nmttr = \"1m\"\n",
        "[[failure]]\nnode = \"north-1\"\nat = \"5h\"\nfor = \"1m\"\n",
        "[[failure]]\nlink = [\"north\", \"north\"]\nmtbf = \"1s\"\nmttr = \"1m\"\n",
        "[[preemption]]\nnode = \"nowhere\"\nat = \"1h\"\nfor = \"1m\"\nnotice = \"-1m\"\n",
        "[[carbon]]\nsite = \"north\"\n",
        "[[carbon]]\nsite = \"north\"\nfile = \"bad.csv\"\n",
        "[[carbon]]\nsite = \"north\"\nfile = \"carbon.csv\"\nunit = \"W\"\n",
        "[[rate]]\nusers = \"riders\"\nservice = \"maps\"\npoints = [[\"0h\", \"1/s\"]]\n\
         daily = { low = \"1/s\", high = \"5/s\", peak = \"14h\" }\n",
        "[[distance]]\ntier = \"fog\"\nbase = \"1ms\"\nper_km = \"1ms\"\n",
    ];
    let all = wrong.iter().map(|one| format!("{HEAD}{one}"));
    let all = all.chain(with_users.iter().map(|one| format!("{HEAD}{STAYS}{one}")));
    let told: Vec<String> = all.map(|text| load(&text).map(|_| ()).unwrap_err()).collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_has_no_effect_is_refused_unless_it_is_allowed() {
    let latency = |site: &str| {
        format!("[[latency]]\nusers = \"riders\"\nsite = \"{site}\"\npoints = [[\"0h\", \"9ms\"]]\n")
    };
    let measured = format!("{HEAD}{STAYS}{}{}", latency("north"), latency("south"));
    let pinned = INVENTORY.replace("name = \"chat\"\n", "name = \"chat\"\npinned = true\n");
    let memory = "[[memory]]\nservice = \"chat\"\npoints = [[\"0h\", \"1MiB\"]]\n";
    let distance = format!("{HEAD}{}{}{}", latency("north"), latency("south"), steep());
    let empty = INVENTORY.replace(
        "[[link]]",
        "[[site]]\nname = \"empty\"\ntier = \"fog\"\nregion = \"au\"\nprice = { node = \"0.10USD/h\" }\n\
         power = { idle = \"8W\", full = \"30W\" }\n[[link]]",
    );
    let silent =
        INVENTORY.replace("rates = { maps = \"10/s\" }", "latency = { north = \"1ms\", south = \"1ms\" }");
    let noise = "[noise]\nrate = \"10%\"\nevery = \"1h\"\n";
    let south_is_fog =
        INVENTORY.replace("name = \"south\"\ntier = \"edge\"", "name = \"south\"\ntier = \"fog\"");
    let of_fog = "[[distance]]\ntier = \"fog\"\nbase = \"1ms\"\nper_km = \"1ms\"\n";
    assert!(load_over(&format!("{HEAD}{STAYS}{of_fog}"), &south_is_fog).is_ok());
    let allowed_noise =
        format!("{HEAD}{noise}").replace("schema_version = 1\n", "schema_version = 1\nallow_unused = true\n");
    assert!(!load_over(&allowed_noise, &silent).unwrap().is_random());
    assert!(load(&format!("{HEAD}{STAYS}{noise}")).unwrap().is_random());
    let refused = [
        load_over(&format!("{HEAD}{STAYS}{}", latency("empty")), &empty).unwrap_err(),
        load_over(&format!("{HEAD}{noise}"), &silent).unwrap_err(),
        load_over(&format!("{HEAD}{STAYS}{}{of_fog}", latency("south")), &south_is_fog).unwrap_err(),
        load(&measured).unwrap_err(),
        load_over(&format!("{HEAD}{STAYS}{memory}"), &pinned).unwrap_err(),
        load(&distance).unwrap_err(),
    ];
    insta::assert_snapshot!(refused.join("\n"));
    let allowed = measured.replace("schema_version = 1\n", "schema_version = 1\nallow_unused = true\n");
    assert!(load(&allowed).is_ok());
}
