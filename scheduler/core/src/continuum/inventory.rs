//! The inventory file: the continuum as an operator writes it down.

mod check;
mod file;
pub mod written;

use std::collections::BTreeMap;

use sterna_policies::load::{Findings, Invalid, Loaded, Names, schema_version, toml_document};
use sterna_policies::quantity::Watts;

use super::{
    Continuum, Link, Node, NodeName, Power, Price, Run, Service, ServiceName, Site, SiteName, Users,
    UsersName,
};
pub use check::is_address;
use file::{
    InventoryFile, LinkFile, NodeFile, PowerFile, PriceFile, RunFile, ServiceFile, SiteFile, UsersFile,
};

/// The format that this version reads.
const SCHEMA_VERSION: u32 = 1;

/// Reads an inventory file.
///
/// # Errors
/// All that is wrong with it: its form, its quantities, names that are declared twice or nowhere, and what can't work.
pub fn load(file_name: &str, text: &str) -> Result<Loaded<Continuum>, Invalid> {
    let file: InventoryFile = toml_document(file_name, text)?;
    let mut findings = Findings::new(file_name, text);
    schema_version(&file.schema_version, SCHEMA_VERSION, &mut findings);
    sterna_policies::load::name(&file.name, "continuum", &mut findings);
    let names = Declared::of(&file, &mut findings);
    let continuum = read(&file, &names, &mut findings);
    check::links(&file, &names, &mut findings);
    check::sites(&file, &mut findings);
    check::capacity(&file, &continuum, &mut findings);
    check::addresses(&file, &mut findings);
    check::pods(&file, &mut findings);
    check::published(&file, &mut findings);
    findings.finish(continuum)
}

/// The names that the file declares.
struct Declared {
    sites: Names,
    nodes: Names,
    services: Names,
}

impl Declared {
    fn of(file: &InventoryFile, findings: &mut Findings) -> Self {
        let mut names =
            Self { sites: Names::of("site"), nodes: Names::of("node"), services: Names::of("service") };
        for site in &file.site {
            names.sites.declare(&site.name, findings);
            for node in &site.node {
                names.nodes.declare(&node.name, findings);
            }
        }
        for service in &file.service {
            names.services.declare(&service.name, findings);
        }
        let mut users = Names::of("user group");
        for group in &file.users {
            users.declare(&group.name, findings);
        }
        names
    }
}

/// Values that can't be read get a stand-in; the findings then refuse the whole.
fn read(file: &InventoryFile, names: &Declared, findings: &mut Findings) -> Continuum {
    let mut sites = BTreeMap::new();
    let mut nodes = BTreeMap::new();
    for declared in &file.site {
        let name = SiteName::from(declared.name.value.clone());
        for inner in &declared.node {
            nodes.insert(NodeName::from(inner.name.value.clone()), node(inner, &name, findings));
        }
        sites.insert(name, site(declared, findings));
    }
    Continuum {
        name: file.name.value.clone(),
        sites,
        nodes,
        links: file.link.iter().map(|file| link(file, names, findings)).collect(),
        users: file
            .users
            .iter()
            .map(|file| (UsersName::from(file.name.value.clone()), users(file, names, findings)))
            .collect(),
        services: file
            .service
            .iter()
            .map(|file| (ServiceName::from(file.name.value.clone()), service(file, names, findings)))
            .collect(),
    }
}

fn site(file: &SiteFile, findings: &mut Findings) -> Site {
    check::word(&file.tier, "tier", findings);
    check::word(&file.region, "region", findings);
    Site {
        tier: file.tier.value.clone(),
        region: file.region.value.clone(),
        price: price(&file.price, findings),
        power: power(&file.power, findings),
        carbon: file.carbon.as_ref().and_then(|written| written.read_unsigned(findings)),
        labels: file.labels.clone(),
        location: file.location.as_ref().and_then(|written| written.read(findings)),
    }
}

fn price(file: &PriceFile, findings: &mut Findings) -> Price {
    let mut part = |written: &Option<_>| {
        written
            .as_ref()
            .and_then(|written: &file::UsdPerHourText| written.read_unsigned(findings))
            .unwrap_or_default()
    };
    Price { node: part(&file.node), core: part(&file.core), gib: part(&file.gib) }
}

fn power(file: &PowerFile, findings: &mut Findings) -> Power {
    let idle = file.idle.read_unsigned(findings);
    let full = file.full.read_unsigned(findings);
    if let (Some(idle), Some(full)) = (idle, full)
        && full < idle
    {
        findings
            .error("I0001", file.full.span(), format!("a node at full load draws {full}, less than idle"))
            .label(format!("expected at least {idle}"))
            .also(file.idle.span(), "idle draws this");
    }
    Power {
        idle: idle.unwrap_or(Watts::ZERO),
        full: full.unwrap_or(Watts::ZERO),
        off_when_empty: file.off_when_empty.unwrap_or_default(),
    }
}

fn node(file: &NodeFile, site: &SiteName, findings: &mut Findings) -> Node {
    Node {
        site: site.clone(),
        cpu: file.cpu.read_positive(findings).unwrap_or_default(),
        memory: file.memory.read_positive(findings).unwrap_or_default(),
        drain: file.drain.unwrap_or_default(),
        agent: file.agent.as_ref().map(|agent| agent.value.clone()),
        kubernetes: file.kubernetes.as_ref().map(|pod| pod.read(findings)),
    }
}

fn link(file: &LinkFile, names: &Declared, findings: &mut Findings) -> Link {
    let [a, b] = &file.between.value;
    names.sites.refer(a, findings);
    names.sites.refer(b, findings);
    Link {
        between: [SiteName::from(a.value.clone()), SiteName::from(b.value.clone())],
        rtt: file.rtt.read_unsigned(findings).unwrap_or_default(),
        bandwidth: file.bandwidth.read_positive(findings).unwrap_or_default(),
        egress: file.egress.as_ref().and_then(|written| written.read_unsigned(findings)).unwrap_or_default(),
    }
}

fn users(file: &UsersFile, names: &Declared, findings: &mut Findings) -> Users {
    let mut rates = BTreeMap::new();
    for (service, rate) in &file.rates {
        names.services.refer(service, findings);
        let rate = rate.read_unsigned(findings).unwrap_or_default();
        rates.insert(ServiceName::from(service.value.clone()), rate);
    }
    if file.rates.is_empty() {
        findings
            .warning(
                "W1003",
                file.name.span(),
                format!("the user group `{}` uses no service", file.name.value),
            )
            .label("without effect")
            .help("say how often, such as rates = { shop = \"50/s\" }");
    }
    let mut latency = BTreeMap::new();
    for (site, span) in &file.latency {
        names.sites.refer(site, findings);
        let span = span.read_unsigned(findings).unwrap_or_default();
        latency.insert(SiteName::from(site.value.clone()), span);
    }
    check::probes(&file.probe, findings);
    let probe = file.probe.iter().map(|target| target.value.clone()).collect();
    Users { rates, latency, probe }
}

fn service(file: &ServiceFile, names: &Declared, findings: &mut Findings) -> Service {
    Service {
        cpu: file.cpu.read_positive(findings).unwrap_or_default(),
        memory: file.memory.read_positive(findings).unwrap_or_default(),
        pinned: file.pinned.unwrap_or_default(),
        labels: file.labels.clone(),
        run: file.run.as_ref().map(|file| run(file, names, findings)),
    }
}

fn run(file: &RunFile, names: &Declared, findings: &mut Findings) -> Run {
    names.nodes.refer(&file.on, findings);
    check::run(file, findings);
    let texts =
        |list: &[sterna_policies::load::At<String>]| list.iter().map(|text| text.value.clone()).collect();
    Run {
        image: file.image.value.clone(),
        command: file.command.clone(),
        env: texts(&file.env),
        ports: texts(&file.ports),
        volumes: texts(&file.volumes),
        on: NodeName::from(file.on.value.clone()),
        entrypoint: file.entrypoint.clone(),
        working_dir: file.working_dir.as_ref().map(|path| path.value.clone()),
        user: file.user.as_ref().map(|user| user.value.clone()),
        memory_limit: file.memory_limit.as_ref().and_then(|limit| check::memory_limit(limit, findings)),
        cpu_limit: file.cpu_limit.as_ref().and_then(|limit| limit.read_positive(findings)),
        read_only: file.read_only.unwrap_or_default(),
        drop_capabilities: texts(&file.drop_capabilities),
        no_new_privileges: file.no_new_privileges.unwrap_or_default(),
        restart: file.restart.unwrap_or_default(),
        stop_timeout: file.stop_timeout.as_ref().and_then(|time| check::stop_timeout(time, findings)),
    }
}
