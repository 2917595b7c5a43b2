//! The files that are written to begin with: every one loads as it is, and says in comments what to look through.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use sterna_policies::load::is_name;

use super::exporters::Exporter;
use super::found::{DEMO_IMAGE, Found, USUAL};

/// A file that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name in the folder.
    pub name: &'static str,
    /// Its text.
    pub text: String,
}

/// All of them.
pub fn files(name: &str, found: &Found) -> [File; 3] {
    [
        File { name: "inventory.toml", text: inventory(name, found) },
        File { name: "policy.toml", text: policy(found) },
        File { name: "sterna.toml", text: settings(found) },
    ]
}

/// Sites with their nodes, in the order of their names but for what there is nothing of yet.
fn sites(found: &Found) -> BTreeMap<String, BTreeSet<String>> {
    let mut sites: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // Those of one continuum: an inventory is about one.
    if let Some(first) = found.nodes.first() {
        for node in found.nodes.iter().filter(|node| node.continuum == first.continuum) {
            sites.entry(node.site.clone()).or_default().insert(node.node.clone());
        }
    }
    for (site, node) in [("edge", "edge-1"), ("cloud", "cloud-1")] {
        if sites.len() < 2 && !sites.contains_key(site) {
            sites.insert(site.to_owned(), BTreeSet::from([node.to_owned()]));
        }
    }
    sites
}

fn inventory(name: &str, found: &Found) -> String {
    let name = found.nodes.first().map_or(name, |node| node.continuum.as_str());
    let sites = sites(found);
    let mut text = format!(
        "# What is: sites, the links between them, users, services. Written by `sterna init`.\n\
         # Prices, watts, sizes, links and latencies are guesses: put in your own.\n\
         schema_version = 1\n\
         name = \"{name}\"\n"
    );
    for (site, nodes) in &sites {
        let cloud = site.contains("cloud");
        let (tier, price, idle, full) =
            if cloud { ("cloud", "0.05USD/h", "40W", "140W") } else { ("edge", "0.10USD/h", "6W", "18W") };
        _ = write!(
            text,
            "\n[[site]]\nname = \"{site}\"\ntier = \"{tier}\"\nregion = \"home\"\n\
             # What a node costs while it hosts anything.\n\
             price = {{ node = \"{price}\" }}\n\
             # What a node draws without and with full load.\n\
             power = {{ idle = \"{idle}\", full = \"{full}\" }}\n\
             # carbon = \"300g/kWh\"\n"
        );
        for node in nodes {
            _ = write!(
                text,
                "\n# No `agent` address: a local node, which `sterna sites up` makes on this host's engine.\n\
                 [[site.node]]\nname = \"{node}\"\ncpu = \"2cores\"\nmemory = \"2GiB\"\n"
            );
        }
    }
    for (context, host) in &found.contexts {
        text += &elsewhere(context, host, &sites);
    }
    let names: Vec<&String> = sites.keys().collect();
    for (index, a) in names.iter().enumerate() {
        for b in &names[index + 1..] {
            _ = write!(
                text,
                "\n[[link]]\nbetween = [\"{a}\", \"{b}\"]\nrtt = \"30ms\"\nbandwidth = \"1Gbit/s\"\negress = \"0.01USD/GiB\"\n"
            );
        }
    }
    // It starts far from its users, so that there is something to recommend.
    let (near, far) = match (
        names.iter().find(|name| !name.contains("cloud")),
        names.iter().find(|name| name.contains("cloud")),
    ) {
        (Some(near), Some(far)) => (near.as_str(), far.as_str()),
        _ => (names.first().map_or("", |name| name.as_str()), names.last().map_or("", |name| name.as_str())),
    };
    let latency: Vec<String> = names
        .iter()
        .map(|site| format!("{site} = \"{}\"", if site.as_str() == near { "5ms" } else { "40ms" }))
        .collect();
    _ = write!(
        text,
        "\n# Who uses what, and how far that is from each site: taken where nothing measures it.\n\
         [[users]]\nname = \"users\"\nrates = {{ first = \"10/s\" }}\nlatency = {{ {} }}\n\
         \n[[service]]\nname = \"first\"\ncpu = \"0.25\"\nmemory = \"256MiB\"\n",
        latency.join(", ")
    );
    let on = sites.get(far).and_then(|nodes| nodes.first()).map_or("", String::as_str);
    text += &match found.image.as_deref() {
        Some(DEMO_IMAGE) => format!(
            "\n[service.run]\nimage = \"{DEMO_IMAGE}\"\n\
             command = [\"redis-server\", \"--save\", \"\", \"--protected-mode\", \"no\"]\n\
             ports = [\"6379/tcp\"]\non = \"{on}\"\n"
        ),
        Some(image) => format!(
            "\n# ports = [\"8080/tcp\"] publishes one on the node.\n[service.run]\nimage = \"{}\"\non = \"{on}\"\n",
            image.escape_default()
        ),
        None => format!(
            "\n# How it is started: an image that this host's engine has, and the node.\n\
             # [service.run]\n# image = \"your-image:latest\"\n# on = \"{on}\"\n"
        ),
    };
    text
}

/// A host of one's own, as a site that is commented out: it has no agent yet.
fn elsewhere(context: &str, host: &str, sites: &BTreeMap<String, BTreeSet<String>>) -> String {
    let Some(address) = remote(host) else { return String::new() };
    let plain: String =
        context.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let mut site =
        plain.trim_matches('-').chars().take(48).collect::<String>().trim_end_matches('-').to_owned();
    if sites.contains_key(&site) {
        site += "-host";
    }
    if !is_name(&site) {
        return String::new();
    }
    format!(
        "\n# Docker context `{}`, at {address}: a host of its own. To make a node of it, take the comment signs away, add a\n\
         # [[link]] to each site, and pack what it needs: sterna sites pack inventory.toml {site}-1 --out {site}-1.tar\n\
         # [[site]]\n# name = \"{site}\"\n# tier = \"edge\"\n# region = \"home\"\n\
         # price = {{ node = \"0.10USD/h\" }}\n# power = {{ idle = \"10W\", full = \"40W\" }}\n\
         # [[site.node]]\n# name = \"{site}-1\"\n# cpu = \"4cores\"\n# memory = \"8GiB\"\n# agent = \"{address}:7500\"\n",
        context.escape_debug()
    )
}

/// The host of a Docker address, where that is another machine.
fn remote(host: &str) -> Option<String> {
    let (scheme, rest) = host.split_once("://")?;
    if !matches!(scheme, "ssh" | "tcp" | "https" | "http") {
        return None;
    }
    let rest = rest.split('/').next()?;
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let name = match rest.strip_prefix('[') {
        Some(rest) => format!("[{}]", rest.split_once(']')?.0),
        None => rest.split(':').next()?.to_owned(),
    };
    let possible = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    (!name.is_empty() && name.chars().all(possible)).then_some(name)
}

fn policy(found: &Found) -> String {
    let mut text =
        "# What is wanted. Written by `sterna init`; `sterna policy check policy.toml` checks it.\n\
         schema_version = 1\n\
         name = \"first\"\n\
         \n\
         # Decides and records, and moves nothing. \"recommend\" prints what it would do, \"auto\" does it.\n\
         mode = \"observe\"\n\
         \n\
         # In this order: a later term decides only among places that are equally good before it.\n\
         [[objective.term]]\n\
         metric = \"user_latency\"\n\
         satisfied_at = \"10ms\"\n\
         tolerance = \"2ms\"\n\
         \n\
         [[objective.term]]\n\
         metric = \"cost_rate\"\n\
         tolerance = \"5%\"\n\
         \n\
         [[objective.term]]\n\
         metric = \"power\"\n\
         tolerance = \"2W\"\n\
         \n\
         [constraints]\n\
         min_free = \"10%\"\n\
         \n\
         # A move must be worth it, and what has moved stays for a while.\n\
         [hysteresis]\n\
         min_gain = \"20%\"\n\
         min_residency = \"10m\"\n\
         cooldown = \"5m\"\n"
            .to_owned();
    const MODELLED: &str = "# Where it is missing the inventory's own number is taken, and marked. \"hold\" moves nothing then.\n\
                            on_missing = \"modelled\"\n";
    let mut source = |comment: &str, metric: &str, builtin: &str| {
        _ = write!(text, "\n# {comment}\n[metrics.{metric}]\nbuiltin = \"{builtin}\"\n{MODELLED}");
    };
    let labels = "The series need the labels `site` and `users`, with the names of the inventory.";
    if found.has(Exporter::Smokeping) && !found.has(Exporter::Blackbox) {
        source(&format!("How long users wait, by smokeping_prober. {labels}"), "user_latency", "smokeping");
    } else if found.has(Exporter::Probes) && !found.has(Exporter::Blackbox) {
        source("How far users are, by Sterna's own probes.", "user_latency", "probes");
    } else {
        let there = if found.has(Exporter::Blackbox) { "" } else { ", which was not found" };
        let comment = format!("How long users wait, by blackbox_exporter{there}. {labels}");
        source(&comment, "user_latency", "blackbox");
    }
    if found.has(Exporter::Node) {
        let comment = "How busy sites are, by node_exporter. The series need the label `site`.";
        source(comment, "cpu_use", "node-exporter-cpu");
    }
    let power = [
        (Exporter::Scaphandre, "Scaphandre", "scaphandre"),
        (Exporter::Kepler, "Kepler", "kepler"),
        (Exporter::OldKepler, "Kepler, before 0.10", "kepler-0.9"),
        (Exporter::Rapl, "node_exporter's RAPL", "node-exporter-rapl"),
    ];
    if let Some((_, name, builtin)) = power.into_iter().find(|(exporter, ..)| found.has(*exporter)) {
        let comment = format!("What a node draws, by {name}. The series need the label `site`.");
        source(&comment, "power", builtin);
    }
    if found.has(Exporter::OpenCost) {
        source("What a node costs, by OpenCost. The series need the label `site`.", "cost_rate", "opencost");
    }
    text
}

fn settings(found: &Found) -> String {
    let url = &found.prometheus;
    let about = match &found.exporters {
        Ok(_) => "It answered when this was written.",
        Err(_) if url == USUAL => "None answered when this was written: put in the address of yours.",
        Err(_) => "It did not answer when this was written.",
    };
    let url = url.escape_default();
    format!(
        "# Settings of `sterna run`, `plan`, `apply` and `explain`. Written by `sterna init`.\n\
         inventory = \"inventory.toml\"\n\
         policy = \"policy.toml\"\n\
         # Folder of history and certificates; left out: $XDG_STATE_HOME/sterna or ~/.local/state/sterna.\n\
         # state = \"state\"\n\
         # Where /metrics, /healthz and /readyz are served.\n\
         listen = \"127.0.0.1:7400\"\n\
         \n\
         [prometheus]\n\
         # {about}\n\
         url = \"{url}\"\n\
         \n\
         # Has agents measure how far it is to other sites and to `probe` of each [[users]]; policies: builtin = \"probes\".\n\
         # [probes]\n\
         # interval = \"1m\"\n"
    )
}

#[cfg(test)]
mod tests {
    use sterna_core::continuum::{Continuum, inventory as of_core};
    use sterna_daemon::settings::Settings;
    use sterna_policies::load;
    use sterna_policies::policy::{Metric, Mode, Policy};

    use super::super::found::LocalNode;
    use super::*;

    fn nothing() -> Found {
        Found {
            docker_host: None,
            engine: Err("none".to_owned()),
            image: None,
            nodes: Vec::new(),
            contexts: BTreeMap::new(),
            clusters: Vec::new(),
            unread: Vec::new(),
            prometheus: USUAL.to_owned(),
            exporters: Err("none".to_owned()),
        }
    }

    fn loaded(found: &Found) -> (Continuum, Policy) {
        let [inventory, policy, settings] = files("home", found);
        let inventory = of_core::load(inventory.name, &inventory.text).unwrap();
        assert!(inventory.warnings.is_empty(), "{}", inventory.warnings.lines());
        let policy = load::policy(policy.name, &policy.text).unwrap();
        assert!(policy.warnings.is_empty(), "{}", policy.warnings.lines());
        assert_eq!(policy.value.mode, Mode::Observe);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(settings.name);
        std::fs::write(&file, settings.text).unwrap();
        let home = ("HOME".to_owned(), "/home/u".to_owned());
        assert_eq!(Settings::load_with(&file, vec![home]).unwrap().prometheus.url, found.prometheus);
        (inventory.value, policy.value)
    }

    #[test]
    fn what_is_written_when_nothing_is_found_loads_as_it_is() {
        let (continuum, policy) = loaded(&nothing());
        assert_eq!(continuum.sites.len(), 2);
        assert!(continuum.services[&"first".into()].run.is_none());
        assert_eq!(policy.metrics.len(), 1);
        let [inventory, policy, settings] = files("home", &nothing());
        insta::assert_snapshot!([inventory.text, policy.text, settings.text].join("-----\n"));
    }

    #[test]
    fn each_exporter_that_is_found_is_used() {
        let every = [
            Exporter::Node,
            Exporter::Smokeping,
            Exporter::Kepler,
            Exporter::Scaphandre,
            Exporter::OpenCost,
            Exporter::Rapl,
        ];
        let exporters = Ok(every.into_iter().map(|exporter| (exporter, "")).collect());
        let (_, policy) = loaded(&Found { exporters, ..nothing() });
        let asked: Vec<Metric> = policy.metrics.keys().copied().collect();
        assert_eq!(asked, [Metric::UserLatency, Metric::CostRate, Metric::Power, Metric::CpuUse]);
        assert!(policy.metrics[&Metric::UserLatency].first.query.contains("smokeping"));
        assert!(policy.metrics[&Metric::Power].first.query.contains("scaph"));
        let own = Ok(BTreeMap::from([(Exporter::Probes, "")]));
        let (_, policy) = loaded(&Found { exporters: own, ..nothing() });
        assert_eq!(policy.metrics[&Metric::UserLatency].first.builtin.as_deref(), Some("probes"));
        let kepler = Ok(BTreeMap::from([(Exporter::Kepler, ""), (Exporter::Blackbox, "")]));
        let (_, policy) = loaded(&Found { exporters: kepler, ..nothing() });
        assert!(policy.metrics[&Metric::Power].first.query.contains("kepler"));
        assert!(policy.metrics[&Metric::UserLatency].first.query.contains("probe_success"));
    }

    /// From far to near: there is something to recommend at once.
    #[test]
    fn a_first_service_starts_far_from_its_users() {
        let image = Some("web:1".to_owned());
        let (continuum, policy) = loaded(&Found { image, ..nothing() });
        assert_eq!(continuum.services[&"first".into()].run.as_ref().unwrap().on, "cloud-1".into());
        let observation = sterna_core::observation::Observation {
            at: jiff::Timestamp::UNIX_EPOCH,
            placement: BTreeMap::from([("first".into(), "cloud-1".into())]),
            reachable: continuum.nodes.keys().cloned().collect(),
            continuum: std::sync::Arc::new(continuum),
            latency: BTreeMap::new(),
            cpu_use: BTreeMap::new(),
            power: BTreeMap::new(),
            price: BTreeMap::new(),
            memory: BTreeMap::new(),
            under_way: Vec::new(),
            directives: Default::default(),
            costs: Default::default(),
            overdue: Default::default(),
            unknown: Vec::new(),
        };
        let history = Default::default();
        let decision = sterna_core::decide(&observation, &policy, &history, jiff::Timestamp::UNIX_EPOCH, 0);
        let moves: Vec<String> = decision.plan.moves.iter().map(|one| one.to.to_string()).collect();
        assert_eq!(moves, ["edge-1"], "{}", sterna_core::explain::text(&decision));
        let demo = loaded(&Found { image: Some(DEMO_IMAGE.to_owned()), ..nothing() }).0;
        assert!(!demo.services[&"first".into()].run.as_ref().unwrap().command.is_empty());
    }

    #[test]
    fn local_nodes_that_there_are_stand_in_the_inventory() {
        let node = |continuum: &str, site: &str, node: &str| LocalNode {
            continuum: continuum.to_owned(),
            site: site.to_owned(),
            node: node.to_owned(),
        };
        let nodes = vec![node("demo", "north", "n-1"), node("demo", "north", "n-2"), node("old", "x", "x-1")];
        let (continuum, _) = loaded(&Found { nodes, ..nothing() });
        assert_eq!(continuum.name, "demo");
        let names: Vec<&str> = continuum.nodes.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["edge-1", "n-1", "n-2"]);
    }

    /// Lines of TOML that stand in comments, as somebody takes the comment signs away.
    fn uncommented(text: &str) -> String {
        let toml = |rest: &str| {
            rest.starts_with('[')
                || rest.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase()))
        };
        let line = |line: &str| match line.strip_prefix("# ") {
            Some(rest) if toml(rest) && !rest.starts_with("[[link]] to") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    }

    #[test]
    fn hosts_of_docker_contexts_are_sites_once_the_comment_signs_are_gone() {
        let context = |name: &str, host: &str| (name.to_owned(), host.to_owned());
        let contexts = BTreeMap::from([
            context("Edge_A", "ssh://root@edge-a:22"),
            context("cloud", "tcp://10.0.0.7:2376"),
            context("here", "unix:///run/user/1000/docker.sock"),
            context("--", "tcp://odd:1"),
            context("v6", "tcp://[::1]:2376"),
        ]);
        let found = Found { contexts, ..nothing() };
        assert_eq!(loaded(&found).0.sites.len(), 2);
        let text = uncommented(&inventory("home", &found));
        let continuum = of_core::load("inventory.toml", &text).unwrap().value;
        let agents: Vec<&str> = continuum.nodes.values().filter_map(|node| node.agent.as_deref()).collect();
        assert_eq!(agents, ["10.0.0.7:7500", "edge-a:7500", "[::1]:7500"]);
    }
}
