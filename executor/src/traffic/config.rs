//! The front's settings: a file of their own, or the table `[front]` of an agent's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sterna_core::continuum::ServiceName;
use sterna_policies::diagnose::{Findings, Invalid};
use sterna_policies::load::{At, Written, name, schema_version, toml_document};
use sterna_policies::quantity::Millis;

use crate::config_file::{self, ConfigError};

/// The format of the file.
const SCHEMA_VERSION: u32 = 1;
/// Most services of one front; an agent tells no more of them in one stream.
const SERVICES: usize = 64;

/// Most addresses at which clients find them.
const ADDRESSES: usize = 256;

/// What services a front has, and how it treats what comes for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontConfig {
    /// The file that names the nodes.
    pub nodes: NodesFile,
    /// Folder of the certificate and key. Without it they are made by the continuum's authority.
    pub identity: Option<PathBuf>,
    /// Where what is counted can be read.
    pub metrics: Option<SocketAddr>,
    /// Longest time in which what is under way may end before a freeze.
    pub drain: Duration,
    /// Time for clients to leave when the front is asked to end; zero: it ends at once.
    pub leave: Duration,
    /// The services, each port of one by itself.
    pub services: Vec<FrontedService>,
    /// The service that it stands in for, if it does for one.
    pub stand_in: Option<StandIn>,
}

/// A service that a front stands in for: it prints what the service writes, is ready when it is, and ends as it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandIn {
    /// Its name.
    pub service: ServiceName,
    /// The port within its container that must take connections for it to be ready.
    pub ready_tcp: Option<u16>,
    /// Longest time for which it is ready while it is held.
    pub hold: Duration,
}

/// The file that says which nodes there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodesFile {
    /// An inventory: where an agent is that it does not say, engine and cluster are asked.
    Inventory(PathBuf),
    /// The addresses of agents and nothing else; nobody is asked.
    Agents(PathBuf),
}

impl NodesFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Inventory(path) | Self::Agents(path) => path,
        }
    }
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontedService {
    /// The service's name.
    pub name: ServiceName,
    /// Where clients find it.
    pub listen: SocketAddr,
    /// The port that it has within its container.
    pub port: u16,
    /// What is spoken.
    pub protocol: Protocol,
    /// Most connections of clients at once.
    pub connections: usize,
    /// Most connections and requests that are held at once.
    pub held: usize,
    /// Longest time that they are held.
    pub hold: Duration,
}

/// What is spoken with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Anything over TCP.
    Tcp,
    /// HTTP/1.1 and 1.0.
    Http,
    /// Redis.
    Redis,
}

/// The settings as they are written.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FrontTable {
    /// The format; a file of its own must say it.
    #[serde(default)]
    schema_version: Option<At<u32>>,
    /// The inventory file; a relative path begins at the folder of this file.
    #[serde(default)]
    inventory: Option<At<PathBuf>>,
    /// A file with the addresses of agents, in place of an inventory. Not for a front in an agent.
    #[serde(default)]
    agents: Option<At<PathBuf>>,
    /// Folder of the front's certificate and key.
    #[serde(default)]
    pub(crate) identity: Option<At<PathBuf>>,
    #[serde(default)]
    metrics: Option<At<String>>,
    #[serde(default)]
    drain: Option<Written<Millis>>,
    #[serde(default)]
    leave: Option<Written<Millis>>,
    /// May be left out for a stand-in of a service without ports.
    #[serde(default)]
    service: Vec<ServiceTable>,
    /// A service that the front stands in for. Not for a front in an agent.
    #[serde(default)]
    stand_in: Option<At<StandInTable>>,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct StandInTable {
    service: At<String>,
    #[serde(default)]
    ready_tcp: Option<At<u16>>,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct ServiceTable {
    name: At<String>,
    listen: At<String>,
    port: At<u16>,
    protocol: Protocol,
    #[serde(default)]
    connections: Option<At<u32>>,
    #[serde(default)]
    held: Option<At<u32>>,
    #[serde(default)]
    hold: Option<Written<Millis>>,
}

/// Defaults. After a drain there must be time to say so: an agent waits for a tenth of a second.
const DRAIN: Duration = Duration::from_millis(60);
const CONNECTIONS: u32 = 4096;
const HELD: u32 = 4096;
/// As long as a service may stand frozen where nobody says otherwise.
const HOLD: Duration = Duration::from_secs(30);

impl FrontConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// When it can't be read or holds a mistake; the report has line and column.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (name, text) = config_file::read(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Ok(Self::parse(&name, &text, folder)?)
    }

    fn parse(file_name: &str, text: &str, folder: &Path) -> Result<Self, Invalid> {
        let table: FrontTable = toml_document(file_name, text)?;
        let mut findings = Findings::new(file_name, text);
        if table.schema_version.is_none() {
            findings
                .error("F0003", 0..0, "the key `schema_version` is missing at the top level")
                .label("expected `schema_version = …`");
        }
        if let (Some(agents), None) = (&table.agents, &table.identity) {
            findings
                .error("F0032", agents.span(), "the front has no `identity`")
                .label("these nodes belong to no continuum whose authority could make it one")
                .help("`sterna front --issue DIR --inventory FILE` makes one, on the scheduler's host");
        }
        let config = table.read(folder, None, &mut findings);
        Ok(findings.finish(config)?.value)
    }
}

impl FrontTable {
    /// Reads the values. `taken` is an address that the process listens on besides.
    pub(crate) fn read(
        self,
        folder: &Path,
        taken: Option<&At<String>>,
        findings: &mut Findings,
    ) -> FrontConfig {
        if let Some(version) = &self.schema_version {
            schema_version(version, SCHEMA_VERSION, findings);
        }
        let nodes = self.nodes(folder, findings);
        // Where it is not an address alone, it is for whoever listens there to say so.
        let taken = taken.and_then(|taken| Some((taken.value.parse().ok()?, taken.span())));
        let mut listening: Vec<(SocketAddr, Range<usize>)> = taken.into_iter().collect();
        let metrics = self.metrics.as_ref().and_then(|text| listen(text, &mut listening, findings));
        let mut services = Vec::new();
        for table in &self.service {
            services.extend(table.read(&mut listening, findings));
        }
        distinct(&self.service, findings);
        if self.service.is_empty() && self.stand_in.is_none() {
            findings
                .error("F0003", 0..0, "the key `service` is missing at the top level")
                .label("expected `[[service]]`, or `[stand_in]` of a service without ports");
        }
        let stand_in = self.stand_in.as_ref().and_then(|table| table.value.read(&services, findings));
        FrontConfig {
            nodes,
            identity: self.identity.map(|identity| folder.join(identity.value)),
            metrics,
            drain: duration(self.drain.as_ref(), DRAIN, findings),
            leave: duration(self.leave.as_ref(), Duration::ZERO, findings),
            services,
            stand_in,
        }
    }
}

impl StandInTable {
    /// Reads the values. Where the front has services, it is one of them.
    fn read(&self, services: &[FrontedService], findings: &mut Findings) -> Option<StandIn> {
        name(&self.service, "service", findings);
        let ports = services.iter().filter(|one| one.name.as_str() == self.service.as_str());
        let hold = ports.map(|one| one.hold).max();
        if hold.is_none() && !services.is_empty() {
            let message = format!("there is no service `{}`", self.service.value);
            let others = services.iter().map(|one| one.name.as_str());
            findings
                .error("F0023", self.service.span(), message)
                .label("expected the name of one that is served here")
                .suggest(&self.service, "services of this front", others);
            return None;
        }
        if let Some(zero) = self.ready_tcp.as_ref().filter(|port| port.value == 0) {
            findings.error("F0011", zero.span(), "`0` is not a port").label("expected 1 to 65535");
        }
        let ready_tcp = self.ready_tcp.as_ref().map(|port| port.value);
        let service = ServiceName::from(self.service.value.clone());
        Some(StandIn { service, ready_tcp, hold: hold.unwrap_or(HOLD) })
    }
}

impl FrontTable {
    /// The file that names the nodes: one of the two.
    fn nodes(&self, folder: &Path, findings: &mut Findings) -> NodesFile {
        match (&self.inventory, &self.agents) {
            (Some(inventory), None) => NodesFile::Inventory(folder.join(&inventory.value)),
            (None, Some(agents)) => NodesFile::Agents(folder.join(&agents.value)),
            (Some(inventory), Some(agents)) => {
                findings
                    .error("F0033", agents.span(), "nodes are named twice")
                    .label("either `agents`")
                    .also(inventory.span(), "or `inventory`");
                NodesFile::Agents(folder.join(&agents.value))
            }
            (None, None) => {
                findings
                    .error("F0033", 0..0, "nothing names the nodes")
                    .label("expected `inventory = …` or `agents = …`");
                NodesFile::Agents(PathBuf::new())
            }
        }
    }

    /// Refuses what is only for a front that stands alone.
    pub(crate) fn within_an_agent(&self, findings: &mut Findings) {
        if let Some(agents) = &self.agents {
            findings
                .error("F0033", agents.span(), "the front of an agent needs an inventory")
                .label("expected `inventory = …`")
                .help("a file of addresses is for a front that stands alone");
        }
        if let Some(stand_in) = &self.stand_in {
            findings
                .error("F0034", stand_in.span(), "the front of an agent stands in for no service")
                .label("what an agent prints is its own")
                .help("a stand-in is a process of its own: `sterna front --config FILE`");
        }
    }
}

/// Each port of a service is served once, and there are no more services than an agent tells of.
fn distinct(tables: &[ServiceTable], findings: &mut Findings) {
    let mut known: BTreeMap<(&str, u16), Range<usize>> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for table in tables {
        let key = (table.name.as_str(), table.port.value);
        if let Some(first) = known.get(&key).cloned() {
            let message = format!("port {} of the service `{}` is there twice", key.1, key.0);
            findings.error("F0022", table.port.span(), message).label("again").also(first, "first here");
            continue;
        }
        known.insert(key, table.port.span());
        if names.insert(key.0) {
            name(&table.name, "service", findings);
        }
        if names.len() == SERVICES + 1 {
            let message = format!("there are more than {SERVICES} services");
            findings
                .error("F0011", table.name.span(), message)
                .label(format!("a front has at most {SERVICES}"));
            return;
        }
    }
    if let Some(many) = tables.get(ADDRESSES) {
        let message = format!("there are {} ports of services", tables.len());
        findings.error("F0011", many.name.span(), message).label(format!("a front has at most {ADDRESSES}"));
    }
}

impl ServiceTable {
    fn read(
        &self,
        listening: &mut Vec<(SocketAddr, Range<usize>)>,
        findings: &mut Findings,
    ) -> Option<FrontedService> {
        if self.port.value == 0 {
            findings.error("F0011", self.port.span(), "`0` is not a port").label("expected 1 to 65535");
        }
        let connections = count(self.connections.as_ref(), CONNECTIONS, findings);
        let held = count(self.held.as_ref(), HELD, findings);
        let hold = duration(self.hold.as_ref(), HOLD, findings);
        Some(FrontedService {
            name: ServiceName::from(self.name.value.clone()),
            listen: listen(&self.listen, listening, findings)?,
            port: self.port.value,
            protocol: self.protocol,
            connections,
            held,
            hold,
        })
    }
}

/// An address to listen on, which nothing listens on yet.
fn listen(
    text: &At<String>,
    listening: &mut Vec<(SocketAddr, Range<usize>)>,
    findings: &mut Findings,
) -> Option<SocketAddr> {
    let Ok(address) = text.value.parse::<SocketAddr>() else {
        let message = format!("`{}` is not an address to listen on", text.value);
        let finding = findings.error("F0030", text.span(), message);
        finding.label("expected an IP address and a port, such as \"0.0.0.0:6379\" or \"[::]:80\"");
        return None;
    };
    if let Some((_, first)) = listening.iter().find(|(other, _)| overlap(*other, address)) {
        let message = format!("`{}` is listened on twice", text.value);
        findings.error("F0031", text.span(), message).label("again").also(first.clone(), "first here");
    }
    listening.push((address, text.span()));
    Some(address)
}

/// Whether two listeners would be in each other's way. Port 0 is any that is free.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (any || one.ip() == other.ip())
}

fn count(written: Option<&At<u32>>, otherwise: u32, findings: &mut Findings) -> usize {
    if let Some(zero) = written.filter(|written| written.value == 0) {
        findings.error("F0011", zero.span(), "`0` lets nothing through").label("must be more than zero");
    }
    usize::try_from(written.map_or(otherwise, |written| written.value)).unwrap_or(usize::MAX)
}

fn duration(written: Option<&Written<Millis>>, otherwise: Duration, findings: &mut Findings) -> Duration {
    let read = written.and_then(|written| written.read_positive(findings));
    read.map_or(otherwise, Millis::to_duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
schema_version = 1
inventory = "inventory.toml"
metrics = "127.0.0.1:9464"
leave = "20s"

[[service]]
name = "redis"
listen = "0.0.0.0:6379"
port = 6379
protocol = "redis"
hold = "10s"
"#;

    fn mistakes(text: &str) -> String {
        format!("{:?}", miette_free(FrontConfig::parse("front.toml", text, Path::new("/etc/sterna"))))
    }

    fn miette_free(result: Result<FrontConfig, Invalid>) -> String {
        result.map_or_else(|invalid| invalid.to_string(), |config| format!("{config:?}"))
    }

    #[test]
    fn a_file_says_what_it_must_and_the_rest_has_defaults() {
        let config = FrontConfig::parse("front.toml", GOOD, Path::new("/etc/sterna")).unwrap();
        assert_eq!(config.nodes, NodesFile::Inventory("/etc/sterna/inventory.toml".into()));
        assert_eq!((config.drain, config.services[0].hold), (DRAIN, Duration::from_secs(10)));
        assert_eq!((config.leave, config.services[0].held), (Duration::from_secs(20), 4096));
        let text = GOOD.replacen("leave = \"20s\"\n", "", 1);
        let config = FrontConfig::parse("front.toml", &text, Path::new("")).unwrap();
        assert_eq!(config.leave, Duration::ZERO);
    }

    #[test]
    fn a_service_may_have_several_ports() {
        let second =
            "[[service]]\nname = \"redis\"\nlisten = \"0.0.0.0:9121\"\nport = 9121\nprotocol = \"http\"\n";
        let config = FrontConfig::parse("front.toml", &format!("{GOOD}{second}"), Path::new("")).unwrap();
        let ports: Vec<(&str, u16)> =
            config.services.iter().map(|one| (one.name.as_str(), one.port)).collect();
        assert_eq!(ports, [("redis", 6379), ("redis", 9121)]);
        let text = mistakes(&format!("{GOOD}{}", second.replacen("port = 9121", "port = 6379", 1)));
        assert!(text.contains("front.toml:16:8"), "{text}");
        assert!(text.contains("port 6379 of the service `redis` is there twice"), "{text}");
    }

    #[test]
    fn a_front_may_stand_in_for_a_service_with_ports_or_without() {
        let config =
            |text: &str| FrontConfig::parse("front.toml", text, Path::new("")).map(|one| one.stand_in);
        let table = "[stand_in]\nservice = \"redis\"\nready_tcp = 6379\n";
        let hold = Duration::from_secs(10);
        let wanted = StandIn { service: "redis".into(), ready_tcp: Some(6379), hold };
        assert_eq!(config(&format!("{GOOD}{table}")).unwrap(), Some(wanted));
        let alone = GOOD.split("[[service]]").next().unwrap();
        let wanted = StandIn { service: "job".into(), ready_tcp: None, hold: HOLD };
        assert_eq!(config(&format!("{alone}[stand_in]\nservice = \"job\"\n")).unwrap(), Some(wanted));
        for (bad, word) in [
            (format!("{GOOD}[stand_in]\nservice = \"rediss\"\n"), "did you mean `redis`"),
            (format!("{GOOD}{}", table.replacen("6379", "0", 1)), "not a port"),
            (format!("{alone}[stand_in]\nservice = \"A\"\n"), "can't be the name of a service"),
            (alone.to_owned(), "`service` is missing"),
        ] {
            let text = mistakes(&bad);
            assert!(text.contains(word), "{bad}: {text}");
        }
    }

    #[test]
    fn nodes_may_be_named_by_a_file_of_addresses() {
        let agents = "agents = \"agents.toml\"\nidentity = \"identity\"";
        let text = GOOD.replacen("inventory = \"inventory.toml\"", agents, 1);
        let config = FrontConfig::parse("front.toml", &text, Path::new("/etc/sterna")).unwrap();
        assert_eq!(config.nodes, NodesFile::Agents("/etc/sterna/agents.toml".into()));
    }

    #[test]
    fn mistakes_are_refused() {
        for (good, bad, word) in [
            ("6379\"", "x\"", "not an address"),
            ("port = 6379", "port = 0", "not a port"),
            ("\"redis\"\nlisten", "\"Redis\"\nlisten", "name"),
            ("metrics", "agents = \"agents.toml\"\nmetrics", "nodes are named twice"),
            ("inventory = \"inventory.toml\"\n", "", "nothing names the nodes"),
            ("inventory = \"inventory.toml\"\n", "agents = \"agents.toml\"\n", "no `identity`"),
            ("\"10s\"", "\"0s\"", "zero"),
            ("\"20s\"", "\"0s\"", "zero"),
            ("0.0.0.0:6379", "127.0.0.1:9464", "twice"),
            ("0.0.0.0:6379", "0.0.0.0:9464", "twice"),
            ("schema_version = 1", "", "`schema_version` is missing"),
            ("schema_version = 1", "schema_version = 7", "version 7"),
            ("hold", "holds", "holds"),
            ("protocol = \"redis\"", "protocol = \"smtp\"", "smtp"),
        ] {
            assert!(GOOD.contains(good), "{good}");
            let text = mistakes(&GOOD.replacen(good, bad, 1));
            assert!(text.contains(word), "{bad}: {text}");
        }
    }
}
