//! Small scenarios and policies that are drawn.

use std::fmt::Write as _;

use fastrand::Rng;
use sterna_policies::policy::Policy;
use sterna_simulator::scenario::{Scenario, load};

/// A scenario of a quarter of a day, and two policies for it.
pub fn case(seed: u64) -> (Scenario, Vec<Policy>) {
    let mut random = Rng::with_seed(seed);
    (scenario(&mut random), (0..2).map(|number| policy(&mut random, number)).collect())
}

fn scenario(random: &mut Rng) -> Scenario {
    let (sites, services, users) = (random.u32(2..5), random.u32(1..6), random.u32(1..4));
    let mut inventory = "schema_version = 1\nname = \"drawn\"\n".to_owned();
    let mut text = "schema_version = 1\nname = \"drawn\"\ninventory = \"inventory.toml\"\n\
                    start = \"2026-03-02T00:00:00Z\"\nduration = \"6h\"\n"
        .to_owned();
    if random.bool() {
        text.push_str("[noise]\nrate = \"30%\"\nevery = \"90m\"\n");
    }
    let mut nodes = Vec::new();
    for site in 0..sites {
        let _infallible = write!(
            inventory,
            "[[site]]\nname = \"site-{site}\"\ntier = \"edge\"\nregion = \"here\"\n\
             price = {{ node = \"0.0{}USD/h\", core = \"0.0{}USD/h\", gib = \"0.001USD/h\" }}\n\
             power = {{ idle = \"{}W\", full = \"50W\", off_when_empty = {} }}\ncarbon = \"{}g/kWh\"\n",
            random.u32(0..9),
            random.u32(1..9),
            random.u32(5..20),
            random.bool(),
            random.u32(50..500),
        );
        for node in 0..random.u32(1..3) {
            let cores = random.u32(4..9);
            let _infallible = write!(
                inventory,
                "[[site.node]]\nname = \"node-{site}-{node}\"\ncpu = \"{cores}cores\"\nmemory = \"8GiB\"\n"
            );
            nodes.push(format!("node-{site}-{node}"));
        }
    }
    let mut tracks = String::new();
    for group in 0..users {
        let rates: Vec<String> =
            (0..services).map(|service| format!("service-{service} = \"{}/s\"", random.u32(1..50))).collect();
        let latencies: Vec<String> =
            (0..sites).map(|site| format!("site-{site} = \"{}ms\"", random.u32(2..60))).collect();
        let _infallible = write!(
            inventory,
            "[[users]]\nname = \"users-{group}\"\nrates = {{ {} }}\nlatency = {{ {} }}\n",
            rates.join(", "),
            latencies.join(", ")
        );
        for site in 0..sites {
            if random.bool() {
                let mut value = || random.u32(2..60);
                let _infallible = write!(
                    tracks,
                    "[[latency]]\nusers = \"users-{group}\"\nsite = \"site-{site}\"\n\
                     points = [[\"0h\", \"{}ms\"], [\"{}m\", \"{}ms\"], [\"200m\", \"{}ms\"]]\n",
                    value(),
                    60 + value(),
                    value(),
                    value()
                );
            }
        }
    }
    text.push_str("[placement]\n");
    for service in 0..services {
        let _infallible = write!(
            inventory,
            "[[service]]\nname = \"service-{service}\"\ncpu = \"0.{}\"\nmemory = \"{}MiB\"\n",
            random.u32(1..8),
            [128, 256, 1024][random.usize(0..3)]
        );
        let on = &nodes[random.usize(0..nodes.len())];
        let _infallible = writeln!(text, "service-{service} = \"{on}\"");
    }
    text.push_str(&tracks);
    let read = load::load("drawn.toml", &text, &|_| Ok(inventory.clone()));
    read.unwrap_or_else(|invalid| panic!("{invalid}\n{text}")).scenario
}

fn policy(random: &mut Rng, number: u32) -> Policy {
    let mut text = format!("schema_version = 1\nname = \"policy-{number}\"\nmode = \"auto\"\n");
    if random.bool() {
        let tolerance = ["0ms", "1ms", "4ms"][random.usize(0..3)];
        let _infallible = write!(
            text,
            "[[objective.term]]\nmetric = \"user_latency\"\nsatisfied_at = \"{}ms\"\ntolerance = \"{tolerance}\"\n\
             [[objective.term]]\nmetric = \"{}\"\n",
            random.u32(1..30),
            ["cost_rate", "power", "carbon_rate"][random.usize(0..3)]
        );
    } else {
        text.push_str(
            "[objective]\nmethod = \"priced\"\n[[objective.term]]\nmetric = \"user_latency\"\nprice = \"0.002USD/h\"\n\
             [[objective.term]]\nmetric = \"cost_rate\"\nprice = \"1USD/h\"\n",
        );
    }
    let minutes = |random: &mut Rng, most: u32| random.u32(0..2) * random.u32(1..most);
    let _infallible = write!(
        text,
        "[trigger]\ninterval = \"{}m\"\n[hysteresis]\nmin_gain = \"{}%\"\nmin_residency = \"{}m\"\ncooldown = \"{}m\"\n\
         no_return_within = \"{}m\"\n",
        random.u32(5..20),
        random.u32(0..30),
        minutes(random, 90),
        minutes(random, 60),
        minutes(random, 120),
    );
    if random.u32(0..4) == 0 {
        let _infallible = writeln!(text, "gain_lasts = \"{}m\"", random.u32(5..40));
    }
    if random.u32(0..4) == 0 {
        let _infallible = writeln!(text, "regret = \"{}%\"", random.u32(20..150));
    }
    let _infallible = write!(text, "[budget]\nconcurrent = {}\n", random.u32(1..4));
    if random.u32(0..3) == 0 {
        let _infallible = writeln!(text, "moves_per_hour = {}", random.u32(1..3));
    }
    text.push_str(
        "[metrics.user_latency]\nquery = \"avg by (site, users) (latency)\"\nusers_label = \"users\"\nunit = \"s\"\n",
    );
    let read = sterna_policies::load::policy("drawn.toml", &text);
    read.unwrap_or_else(|invalid| panic!("{invalid}\n{text}")).value
}
