//! What an inventory may say one by one, but not together.

use std::collections::BTreeMap;

use sterna_policies::load::{At, Findings, Written};
use sterna_policies::quantity::{Bytes, Cores, Millis};

use super::Declared;
use super::file::{InventoryFile, RunFile};
use crate::continuum::{Continuum, NodeName, ServiceName};

/// How many names a message lists before it says how many more there are.
const LISTED: usize = 4;
/// Longest name of a pod that is also that of its host.
const POD_NAME: usize = 63;
/// The engine's own least limit.
const LEAST_MEMORY: Bytes = Bytes::from_mib(6);
/// A second, in millionths of a millisecond.
const SECOND: i64 = 1_000_000_000;
/// Most addresses at which a user group is probed.
const PROBES: usize = 8;

/// A tier or region: any word.
pub(super) fn word(text: &At<String>, what: &str, findings: &mut Findings) {
    if text.is_empty() || text.contains(char::is_whitespace) {
        findings
            .error("I0002", text.span(), format!("`{}` can't be a {what}", text.value))
            .label("expected one word");
    }
}

/// A link joins two different sites and is declared once; sites without one are worth a warning.
pub(super) fn links(file: &InventoryFile, names: &Declared, findings: &mut Findings) {
    let mut known = BTreeMap::new();
    for link in &file.link {
        let [a, b] = &link.between.value;
        if a == b {
            findings
                .error("I0003", link.between.span(), format!("a link from `{}` to itself", a.value))
                .label("expected two different sites")
                .help("within a site no link is needed");
            continue;
        }
        let ends = if a < b { (a.as_str(), b.as_str()) } else { (b.as_str(), a.as_str()) };
        if let Some(first) = known.get(&ends).cloned() {
            findings
                .error(
                    "I0004",
                    link.between.span(),
                    format!("`{}` and `{}` are linked twice", ends.0, ends.1),
                )
                .label("again; a link goes both ways")
                .also(first, "first here");
            continue;
        }
        known.insert(ends, link.between.span());
    }
    // A misspelt end would look like a link that is missing.
    if findings.has_errors() {
        return;
    }
    if let [first, _, ..] = &file.site[..]
        && file.link.is_empty()
        && file.site.len() > LISTED
    {
        let message = format!("none of the {} sites has a link", file.site.len());
        findings
            .warning("W1002", first.name.span(), message)
            .label("100 Mbit/s and 50 ms are assumed between all of them, and that sending costs nothing")
            .help("add a [[link]] for each two sites between which services move");
        return;
    }
    for (index, site) in file.site.iter().enumerate() {
        let apart = |other: &str| {
            let name = site.name.as_str();
            other != name && !known.contains_key(&if name < other { (name, other) } else { (other, name) })
        };
        let others: Vec<&str> = file.site[index + 1..]
            .iter()
            .map(|other| other.name.as_str())
            .filter(|other| apart(other))
            .collect();
        if let (false, Some(place)) = (others.is_empty(), names.sites.place(&site.name)) {
            findings
                .warning("W1002", place, format!("`{}` has no link to {}", site.name.value, listed(&others)))
                .label("100 Mbit/s and 50 ms are assumed between them, and that sending costs nothing")
                .help(format!("add a [[link]] with between = [\"{}\", \"{}\"]", site.name.value, others[0]));
        }
    }
}

fn listed(names: &[&str]) -> String {
    let first: Vec<String> = names.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(LISTED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// There are sites, and each has a node.
pub(super) fn sites(file: &InventoryFile, findings: &mut Findings) {
    if file.site.is_empty() {
        findings
            .error("I0005", 0..0, "the continuum has no site")
            .label("expected at least one [[site]]")
            .help("a site has name, tier, region, price, power, and nodes as [[site.node]]");
    }
    for site in file.site.iter().filter(|site| site.node.is_empty()) {
        findings
            .warning("W1001", site.name.span(), format!("the site `{}` has no node", site.name.value))
            .label("nothing can be placed here")
            .help("add a [[site.node]] below it");
    }
}

/// Each service fits on some node, and what is started on a node fits there.
pub(super) fn capacity(file: &InventoryFile, continuum: &Continuum, findings: &mut Findings) {
    // Where a size could not be read, or a name stands for two, sums mean nothing.
    if findings.has_errors() {
        return;
    }
    let mut started: BTreeMap<&NodeName, (Cores, Bytes)> = BTreeMap::new();
    for written in &file.service {
        let Some(service) = continuum.services.get(&ServiceName::from(written.name.value.clone())) else {
            continue;
        };
        let fits = |cpu: Cores, memory: Bytes| service.cpu <= cpu && service.memory <= memory;
        if !continuum.nodes.values().any(|node| fits(node.cpu, node.memory)) {
            let what = format!("{} and {}", service.cpu, service.memory);
            findings
                .error(
                    "I0006",
                    written.name.span(),
                    format!("no node is large enough for `{}`", written.name.value),
                )
                .label(format!("asks for {what}"))
                .help(largest(continuum));
            continue;
        }
        let (Some(run), Some(place)) = (&service.run, &written.run) else { continue };
        let Some(node) = continuum.nodes.get(&run.on) else { continue };
        let (cpu, memory) = started.entry(&run.on).or_default();
        *cpu = cpu.saturating_add(service.cpu);
        *memory = Bytes(memory.0.saturating_add(service.memory.0));
        if *cpu > node.cpu || *memory > node.memory {
            let message = format!("`{}` doesn't fit on `{}`", written.name.value, run.on);
            findings
                .error("I0007", place.on.span(), message)
                .label(format!("with it, {cpu} and {memory} are asked for here"))
                .help(format!("`{}` has {} and {}", run.on, node.cpu, node.memory));
        } else if node.drain {
            findings
                .warning(
                    "W1004",
                    place.on.span(),
                    format!("`{}` is started on a node that is drained", written.name.value),
                )
                .label("it will be moved away at once");
        }
    }
}

fn largest(continuum: &Continuum) -> String {
    match continuum.nodes.iter().max_by_key(|(_, node)| (node.memory, node.cpu)) {
        Some((name, node)) => format!("the largest, `{name}`, has {} and {}", node.cpu, node.memory),
        None => "there is no node at all".to_owned(),
    }
}

/// Agents have addresses, each its own.
pub(super) fn addresses(file: &InventoryFile, findings: &mut Findings) {
    let mut known: BTreeMap<&str, &At<String>> = BTreeMap::new();
    for agent in file.site.iter().flat_map(|site| &site.node).filter_map(|node| node.agent.as_ref()) {
        if !is_address(agent) {
            findings
                .error("I0008", agent.span(), format!("`{}` is not an agent's address", agent.value))
                .label("expected `host:port`, such as \"edge-a.example:7400\" or \"[fd00::1]:7400\"");
        }
        match known.get(agent.as_str()) {
            Some(first) => {
                findings
                    .error("I0009", agent.span(), format!("two nodes have the agent `{}`", agent.value))
                    .label("again")
                    .also(first.span(), "first here")
                    .help("every node has an agent of its own");
            }
            None => {
                known.insert(agent.as_str(), agent);
            }
        }
    }
}

/// A node that is a pod has its agent in there, and a name that a pod can have.
pub(super) fn pods(file: &InventoryFile, findings: &mut Findings) {
    for node in file.site.iter().flat_map(|site| &site.node) {
        let Some(pod) = &node.kubernetes else { continue };
        if let Some(agent) = &node.agent {
            findings
                .error("I0019", pod.span(), format!("`{}` stands in two places", node.name.value))
                .label("as a pod of a cluster")
                .also(agent.span(), "and where this agent is")
                .help("keep `agent` for a host of your own; that of a pod is asked of the cluster");
        }
        let name = format!("sterna-{}-{}", file.name.value, node.name.value);
        if name.len() > POD_NAME {
            findings
                .error("I0021", node.name.span(), format!("Kubernetes has no pod `{name}`"))
                .label(format!("too long by {}", name.len() - POD_NAME))
                .help("the names of the continuum and of the node are parts of the pod's");
        }
    }
}

/// Where a user group is, for agents to see how far that is.
pub(super) fn probes(targets: &[At<String>], findings: &mut Findings) {
    for target in targets.iter().filter(|target| !is_address(target)) {
        findings
            .error("I0016", target.span(), format!("`{}` is not an address to probe", target.value))
            .label("expected `host:port`, such as \"gateway.town.example:443\" or \"[fd00::1]:443\"");
    }
    if let Some(first) = targets.get(PROBES) {
        findings
            .error("I0017", first.span(), format!("a user group has {} addresses to probe", targets.len()))
            .label(format!("expected at most {PROBES}"))
            .help("they stand for one place; users elsewhere are another group");
    }
    once(targets, "address", |target| target, findings);
}

/// Whether it can be where an agent listens: `host:port`.
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_ok = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let possible = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            !host.is_empty() && host.chars().all(possible)
        }
    };
    host_ok && is_port(port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// How a service is started: image, environment, ports, volumes.
pub(super) fn run(file: &RunFile, findings: &mut Findings) {
    if file.image.is_empty() || file.image.contains(char::is_whitespace) {
        findings
            .error("I0010", file.image.span(), format!("`{}` is not an image", file.image.value))
            .label("expected a name such as \"redis:7\"");
    }
    for entry in &file.env {
        env(entry, findings);
    }
    once(&file.env, "variable", |entry| entry.split_once('=').map_or(entry, |(name, _)| name), findings);
    for entry in &file.ports {
        port(entry, findings);
    }
    once(&file.ports, "port", |entry| entry, findings);
    for entry in &file.volumes {
        volume(entry, findings);
    }
    once(&file.volumes, "path", |entry| entry.split_once(':').map_or(entry, |(_, path)| path), findings);
    if let Some(folder) = file.working_dir.as_ref().filter(|folder| !folder.starts_with('/')) {
        findings
            .error("I0022", folder.span(), format!("`{}` is not a folder to start in", folder.value))
            .label("expected an absolute path in the container");
    }
    if let Some(user) = file.user.as_ref().filter(|user| !is_user(user)) {
        findings
            .error("I0023", user.span(), format!("`{}` is nobody to run as", user.value))
            .label("expected a name or number, or two of them such as \"999:999\"");
    }
    for capability in file.drop_capabilities.iter().filter(|one| !is_capability(one)) {
        findings
            .error("I0024", capability.span(), format!("`{}` is not a capability", capability.value))
            .label("expected a name such as \"NET_RAW\", or \"ALL\"");
    }
    once(&file.drop_capabilities, "capability", |entry| entry, findings);
}

/// A user, or a user and a group.
fn is_user(text: &str) -> bool {
    let possible = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let part = |part: &str| !part.is_empty() && !part.starts_with('-') && part.chars().all(possible);
    text.split(':').count() <= 2 && text.split(':').all(part)
}

fn is_capability(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// A limit that the engine takes: it starts nothing with less.
pub(super) fn memory_limit(limit: &Written<Bytes>, findings: &mut Findings) -> Option<Bytes> {
    let read = limit.read_positive(findings)?;
    if read < LEAST_MEMORY {
        findings
            .error("I0025", limit.span(), format!("{read} are too little memory to start anything in"))
            .label(format!("expected at least {LEAST_MEMORY}"));
    }
    Some(read)
}

/// A time that the engine can be told: whole seconds.
pub(super) fn stop_timeout(time: &Written<Millis>, findings: &mut Findings) -> Option<Millis> {
    let read = time.read_unsigned(findings)?;
    if read.as_micros() % SECOND != 0 {
        findings
            .error("I0026", time.span(), format!("{read} are no whole seconds"))
            .label("expected whole seconds, such as \"30s\"");
    }
    Some(read)
}

fn env(entry: &At<String>, findings: &mut Findings) {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_name =
        |name: &str| name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit());
    if !entry.split_once('=').is_some_and(|(name, _)| is_name(name)) {
        let diagnostic = findings.error("I0011", entry.span(), "this is not a variable of the environment");
        diagnostic.label("expected `NAME=value`");
        if is_name(entry) {
            diagnostic.help(format!("for an empty one write \"{}=\"", entry.value));
        }
    }
}

fn port(entry: &At<String>, findings: &mut Findings) {
    let well_formed = |text: &str| {
        text.split_once('/')
            .is_some_and(|(number, protocol)| is_port(number) && matches!(protocol, "tcp" | "udp"))
    };
    if well_formed(entry) {
        return;
    }
    let diagnostic = findings.error("I0012", entry.span(), format!("`{}` is not a port", entry.value));
    diagnostic.label("expected a number from 1 to 65535 with `/tcp` or `/udp`");
    let inner = entry.rsplit(':').next().unwrap_or_default();
    let near = if inner.contains('/') { inner.to_lowercase() } else { format!("{inner}/tcp") };
    if well_formed(&near) {
        let same = if entry.contains(':') { " A port is published under its own number." } else { "" };
        diagnostic.help(format!("did you mean `{near}`?{same}"));
    }
}

fn volume(entry: &At<String>, findings: &mut Findings) {
    let is_name = |name: &str| {
        let possible = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(possible)
    };
    let is_path = |path: &str| {
        path.starts_with('/')
            && path.len() > 1
            && !path.contains(':')
            && !path.split('/').any(|part| part == "..")
    };
    if entry.split_once(':').is_some_and(|(name, path)| is_name(name) && is_path(path)) {
        return;
    }
    let diagnostic =
        findings.error("I0013", entry.span(), format!("`{}` is not a named volume", entry.value));
    diagnostic.label("expected `name:/path`, with an absolute path in the container");
    if entry.starts_with(['/', '.', '~']) {
        diagnostic
            .help("a directory of the host can't follow a service to another node; give the volume a name");
    }
}

/// Reports entries that say the same thing of the same container twice.
fn once<'a>(list: &'a [At<String>], what: &str, key: impl Fn(&'a str) -> &'a str, findings: &mut Findings) {
    let mut known: BTreeMap<&str, &At<String>> = BTreeMap::new();
    for entry in list {
        let name = key(entry);
        match known.get(name) {
            Some(first) => {
                findings
                    .error("I0014", entry.span(), format!("the {what} `{name}` is given twice"))
                    .label("again")
                    .also(first.span(), "first here");
            }
            None => {
                known.insert(name, entry);
            }
        }
    }
}

/// Two services that start on one node can't publish the same port there.
pub(super) fn published(file: &InventoryFile, findings: &mut Findings) {
    let mut known: BTreeMap<(&str, &str), (&str, &At<String>)> = BTreeMap::new();
    for service in &file.service {
        let Some(run) = &service.run else { continue };
        for port in &run.ports {
            let key = (run.on.as_str(), port.as_str());
            match known.get(&key) {
                Some((other, first)) if *other != service.name.as_str() => {
                    findings
                        .error(
                            "I0015",
                            port.span(),
                            format!("two services publish `{}` on `{}`", port.value, run.on.value),
                        )
                        .label(format!("by `{}`", service.name.value))
                        .also(first.span(), format!("and by `{other}`"))
                        .help("start one of them on another node");
                }
                Some(_) => {}
                None => {
                    known.insert(key, (service.name.as_str(), port));
                }
            }
        }
    }
}
