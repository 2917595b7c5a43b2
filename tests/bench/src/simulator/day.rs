//! A day of a hundred nodes, as files: metropolises with edge sites and a fog site, cloud regions behind them, commuters between
//! their edge sites, more requests by day than by night, prices and carbon by the hour.

use std::fmt::Write as _;

use fastrand::Rng;

/// Edge sites of a metropolis.
const EDGES: usize = 2;
/// Nodes of an edge site, a fog site and a cloud region.
const NODES: [usize; 3] = [3, 4, 5];
/// Cloud regions.
const CLOUDS: usize = 4;

/// The files of a day.
pub struct Day {
    /// The inventory.
    pub inventory: String,
    /// The scenario, which calls the inventory `day.inventory.toml`.
    pub scenario: String,
    /// How many nodes there are.
    pub nodes: usize,
}

/// A day of so many metropolises, ten nodes each, and the cloud regions, with so many services.
pub fn day(metros: usize, services: usize, seed: u64) -> Day {
    let mut random = Rng::with_seed(seed);
    let mut inventory = "schema_version = 1\nname = \"day\"\n".to_owned();
    let mut scenario = "schema_version = 1\nname = \"day\"\ninventory = \"day.inventory.toml\"\n\
                        start = \"2026-03-02T00:00:00Z\"\nduration = \"1d\"\n\
                        [noise]\nrate = \"25%\"\nevery = \"1h\"\n"
        .to_owned();
    let mut sites = Vec::new();
    for metro in 0..metros {
        for edge in 0..EDGES {
            sites.push((format!("edge-{metro}-{edge}"), 0, metro));
        }
        sites.push((format!("fog-{metro}"), 1, metro));
    }
    sites.extend((0..CLOUDS).map(|cloud| (format!("cloud-{cloud}"), 2, cloud * metros / CLOUDS)));
    let mut nodes = Vec::new();
    for (name, tier, metro) in &sites {
        let word = ["edge", "fog", "cloud"][*tier];
        let [core, gib] = [[34, 9], [22, 5], [12, 3]][*tier].map(|base| base + random.u32(0..4));
        let (idle, full) = [(8, 30), (40, 120), (90, 260)][*tier];
        let carbon = random.u32(60..500);
        let _infallible = write!(
            inventory,
            "[[site]]\nname = \"{name}\"\ntier = \"{word}\"\nregion = \"region-{}\"\n\
             price = {{ core = \"0.0{core}USD/h\", gib = \"0.00{gib}USD/h\" }}\n\
             power = {{ idle = \"{idle}W\", full = \"{full}W\" }}\ncarbon = \"{carbon}g/kWh\"\n",
            metro * CLOUDS / metros,
        );
        for node in 0..NODES[*tier] {
            let (cpu, memory) = [(8, 32), (24, 96), (64, 256)][*tier];
            let _infallible = write!(
                inventory,
                "[[site.node]]\nname = \"{name}-{node}\"\ncpu = \"{cpu}cores\"\nmemory = \"{memory}GiB\"\n"
            );
            nodes.push(format!("{name}-{node}"));
        }
    }
    // Users live at an edge site, and are at the other of their metropolis by day.
    let latency = |(_, tier, at): &(String, usize, usize), metro: usize, here: bool| {
        let away = at.abs_diff(metro) as u32;
        let last = [if here { 4 } else { 9 }, 12, 22][*tier];
        last + away * 7
    };
    let groups: Vec<(String, usize, usize)> = (0..metros)
        .flat_map(|metro| (0..EDGES).map(move |edge| (format!("users-{metro}-{edge}"), metro, edge)))
        .collect();
    let mut rates: Vec<Vec<(usize, u32)>> = vec![Vec::new(); groups.len()];
    let mut starts = Vec::new();
    for service in 0..services {
        let home = random.usize(0..groups.len());
        rates[home].push((service, random.u32(5..60)));
        if random.u32(0..100) < 40 {
            let other = (home + random.usize(1..groups.len())) % groups.len();
            rates[other].push((service, random.u32(2..30)));
        }
        let (cpu, memory) = (random.u32(2..16), [256, 512, 1024, 2048][random.usize(0..4)]);
        let _infallible = write!(
            inventory,
            "[[service]]\nname = \"service-{service:03}\"\ncpu = \"{}\"\nmemory = \"{memory}MiB\"\n",
            f64::from(cpu) / 10.0
        );
        let (_, metro, edge) = &groups[home];
        starts.push((service, format!("edge-{metro}-{edge}-{}", service % NODES[0])));
    }
    for ((name, metro, edge), rates) in groups.iter().zip(&rates) {
        let rates: Vec<String> =
            rates.iter().map(|(s, rate)| format!("service-{s:03} = \"{rate}/s\"")).collect();
        let here = |site: &str, edge: usize| site == format!("edge-{metro}-{edge}");
        let latencies: Vec<String> = sites
            .iter()
            .map(|site| format!("{} = \"{}ms\"", site.0, latency(site, *metro, here(&site.0, *edge))))
            .collect();
        let _infallible = write!(
            inventory,
            "[[users]]\nname = \"{name}\"\nrates = {{ {} }}\nlatency = {{ {} }}\n",
            rates.join(", "),
            latencies.join(", ")
        );
    }
    scenario.push_str("[placement]\n");
    for (service, node) in &starts {
        let _infallible = writeln!(scenario, "service-{service:03} = \"{node}\"");
    }
    for ((name, metro, edge), rates) in groups.iter().zip(&rates) {
        let leaves = 7 * 4 + random.u32(0..8);
        let returns = 16 * 4 + random.u32(0..12);
        for site in sites.iter().filter(|(_, tier, at)| *tier == 0 && at == metro) {
            let at_home = site.0 == format!("edge-{metro}-{edge}");
            let of = |here: bool| latency(site, *metro, here);
            let _infallible = write!(
                scenario,
                "[[latency]]\nusers = \"{name}\"\nsite = \"{}\"\npoints = [[\"0h\", \"{}ms\"], [\"{}m\", \"{}ms\"], \
                 [\"{}m\", \"{}ms\"]]\n",
                site.0,
                of(at_home),
                leaves * 15,
                of(!at_home),
                returns * 15,
                of(at_home),
            );
        }
        for (service, rate) in rates {
            let points: Vec<String> = (0..24u32)
                .map(|hour| {
                    let share = [1, 1, 1, 1, 2, 3, 6, 9, 10, 9, 8, 8, 9, 8, 8, 8, 9, 10, 10, 9, 8, 6, 4, 2];
                    format!("[\"{hour}h\", \"{}/s\"]", (rate * share[hour as usize]).div_ceil(10))
                })
                .collect();
            let _infallible = write!(
                scenario,
                "[[rate]]\nusers = \"{name}\"\nservice = \"service-{service:03}\"\npoints = [{}]\n",
                points.join(", ")
            );
        }
    }
    for (name, ..) in sites.iter().filter(|(_, tier, _)| *tier == 2) {
        let base = random.u32(150..400);
        let points: Vec<String> = (0..24u32)
            .map(|hour| {
                let sun = 12u32.saturating_sub(hour.abs_diff(13));
                format!("[\"{hour}h\", \"{}g/kWh\"]", base.saturating_sub(sun * 10) + random.u32(0..20))
            })
            .collect();
        let _infallible =
            write!(scenario, "[[carbon]]\nsite = \"{name}\"\npoints = [{}]\n", points.join(", "));
    }
    Day { inventory, scenario, nodes: nodes.len() }
}
