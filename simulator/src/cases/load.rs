//! Reads a file of cases, its inventory and its policy, and refuses what can't be tried or would say nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use jiff::Timestamp;
use sterna_core::continuum::{Continuum, NodeName, ServiceName, SiteName, UsersName, inventory};
use sterna_core::history::{History, PastMigration};
use sterna_core::observation::UnderWay;
use sterna_policies::diagnose::Report;
use sterna_policies::load::{At, Findings, Invalid, Loaded, Written, policy, schema_version, toml_document};
use sterna_policies::policy::Metric;
use sterna_policies::quantity::{Bytes, Millis, Percent, Quantity};

use super::file::{CaseFile, CasesFile, ExpectFile, GivenFile, MigratedFile};
use super::{Case, Expected, LONGEST, Situation, Suite};
use crate::scenario::load::known_name;

/// The format that this version reads.
const SCHEMA_VERSION: u32 = 1;
/// When cases are that do not say so.
const SOME_DAY: Timestamp = Timestamp::constant(1_772_452_800, 0);
const SECOND: Millis = Millis::from_micros(1_000_000_000);

/// Cases that were read, with the warnings about inventory, policy and the file itself.
#[derive(Debug)]
pub struct Read {
    /// The cases.
    pub suite: Suite,
    /// Warnings; each most often empty.
    pub warnings: Vec<Report>,
}

/// Reads cases from their text. `file` is the path as it is shown, and as the other paths are resolved against; `read` reads
/// inventory and policy.
///
/// # Errors
/// All that is wrong with the cases; or with inventory or policy, where the cases are in order so far as can be told.
pub fn load(file: &str, text: &str, read: &dyn Fn(&Path) -> io::Result<String>) -> Result<Read, Invalid> {
    let written: CasesFile = toml_document(file, text)?;
    let mut findings = Findings::new(file, text);
    schema_version(&written.schema_version, SCHEMA_VERSION, &mut findings);
    let at = time(written.at.as_ref(), &mut findings).unwrap_or(SOME_DAY);
    names(&written, &mut findings);

    let mut unread = false;
    let mut open = |path: &At<String>, what: &str| {
        let full = Path::new(file).parent().unwrap_or(Path::new("")).join(path.as_str());
        let text = read(&full).unwrap_or_else(|error| {
            findings
                .error("C0001", path.span(), format!("can't read {what} {}: {error}", full.display()))
                .label("relative to the file of cases");
            unread = true;
            String::new()
        });
        (full.display().to_string(), text)
    };
    let (inventory_name, inventory_text) = open(&written.inventory, "the inventory");
    let policy_file = written.policy.as_ref().map(|path| open(path, "the policy"));
    if unread {
        findings = findings.refuse_errors()?;
    }
    let continuum = match inventory::load(&inventory_name, &inventory_text) {
        Ok(continuum) => continuum,
        Err(invalid) => {
            findings.refuse_errors()?;
            return Err(invalid);
        }
    };
    let Loaded { value: continuum, warnings } = continuum;
    let mut all_warnings = vec![warnings];
    let policy = match policy_file {
        Some((name, text)) => {
            let Loaded { value, warnings } = match policy(&name, &text) {
                Ok(policy) => policy,
                Err(invalid) => {
                    findings.refuse_errors()?;
                    return Err(invalid);
                }
            };
            all_warnings.push(warnings);
            Some(value)
        }
        None => None,
    };
    let mut reader = Reader { continuum: &continuum, findings: &mut findings };
    let mut everywhere = Given::of(&continuum);
    if let Some(given) = &written.given {
        reader.enter(given, &mut everywhere);
    }
    let cases = written.case.iter().map(|one| reader.case(one, everywhere.clone(), at)).collect();
    let Loaded { value: suite, warnings } = findings.finish(Suite { policy, cases })?;
    all_warnings.push(warnings);
    Ok(Read { suite, warnings: all_warnings })
}

/// Reports cases that can't be told apart, and that there is none.
fn names(written: &CasesFile, findings: &mut Findings) {
    if written.case.is_empty() {
        findings
            .error("C0004", written.case.span(), "there is no case")
            .label("expected at least one [[case]]");
    }
    for (index, one) in written.case.iter().enumerate() {
        if let Some(first) = written.case[..index].iter().find(|first| first.name == one.name) {
            findings
                .error("C0005", one.name.span(), format!("there are two cases called `{}`", one.name.value))
                .label("again")
                .also(first.name.span(), "first here");
        }
    }
}

/// A point in time; reports one that can't be read.
fn time(written: Option<&At<String>>, findings: &mut Findings) -> Option<Timestamp> {
    let written = written?;
    let read = written.parse::<Timestamp>();
    if let Err(error) = &read {
        findings
            .error("C0002", written.span(), format!("`{}` is not a point in time", written.value))
            .label(error.to_string())
            .help("write it as \"2026-03-02T12:00:00Z\"");
    }
    read.ok()
}

/// What is given, whenever it is.
#[derive(Clone)]
struct Given {
    situation: Situation,
    /// Migrations before, with how long ago they ended.
    before: Vec<(Millis, ServiceName, PastMigration)>,
    /// How long it has been so.
    lasting: Millis,
}

impl Given {
    /// As the inventory has it, with nothing known.
    fn of(continuum: &Continuum) -> Self {
        let on = |(name, service): (&ServiceName, &sterna_core::continuum::Service)| {
            service.run.as_ref().map(|run| (name.clone(), run.on.clone()))
        };
        let situation = Situation {
            placement: continuum.services.iter().filter_map(on).collect(),
            continuum: continuum.clone(),
            unreachable: BTreeSet::new(),
            latency: BTreeMap::new(),
            price: BTreeMap::new(),
            power: BTreeMap::new(),
            cpu_use: BTreeMap::new(),
            carbon: BTreeMap::new(),
            memory: BTreeMap::new(),
            under_way: Vec::new(),
        };
        Self { situation, before: Vec::new(), lasting: Millis::ZERO }
    }

    fn history(&self, at: Timestamp) -> History {
        let mut history = History::default();
        let mut before = self.before.clone();
        // Oldest first.
        before.sort_by_key(|(ago, ..)| std::cmp::Reverse(*ago));
        for (ago, service, past) in before {
            let ended = at.checked_sub(ago.to_duration()).unwrap_or(Timestamp::MIN);
            history.record(service, PastMigration { ended, ..past });
        }
        history
    }
}

struct Reader<'a> {
    continuum: &'a Continuum,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    fn case(&mut self, one: &At<CaseFile>, mut given: Given, at: Timestamp) -> Case {
        let at = time(one.at.as_ref(), self.findings).unwrap_or(at);
        if let Some(own) = &one.given {
            self.enter(own, &mut given);
        }
        let expected = self.expected(&one.expect);
        Case {
            name: one.name.value.clone(),
            at,
            history: given.history(at),
            lasting: given.lasting,
            situation: given.situation,
            expected,
        }
    }

    /// Enters what is written over what is there.
    fn enter(&mut self, written: &GivenFile, given: &mut Given) {
        let Given { situation, before, lasting } = given;
        if let Some(written) = &written.lasting {
            *lasting = written.read_unsigned(self.findings).unwrap_or(Millis::ZERO);
            if *lasting > LONGEST {
                self.findings
                    .error("C0006", written.span(), "nothing is tried over more than three days")
                    .label("expected at most \"3d\"")
                    .help("`sterna simulate` tries longer times");
            }
        }
        for missing in &written.missing {
            self.forget(missing.metric, missing.site.as_ref(), situation);
        }
        for (service, node) in &written.placement {
            if let Some((service, node)) = self.service(service).zip(self.node(node)) {
                situation.placement.insert(service, node);
            }
        }
        for node in &written.unreachable {
            situation.unreachable.extend(self.node(node));
        }
        for node in &written.drain {
            if let Some(node) = self.node(node).and_then(|node| situation.continuum.nodes.get_mut(&node)) {
                node.drain = true;
            }
        }
        for (users, sites) in &written.latency {
            let users = self.users(users);
            for (site, value) in sites {
                let value = value.read_unsigned(self.findings);
                if let (Some(users), Some(site), Some(value)) = (&users, self.site(site), value) {
                    situation.latency.insert((users.clone(), site), value);
                }
            }
        }
        for (users, services) in &written.rate {
            let users = self.users(users);
            for (service, rate) in services {
                let (service, rate) = (self.service(service), rate.read_unsigned(self.findings));
                let group = users.as_ref().and_then(|users| situation.continuum.users.get_mut(users));
                if let (Some(group), Some(service), Some(rate)) = (group, service, rate) {
                    group.rates.insert(service, rate);
                }
            }
        }
        self.by_site(&written.price, &mut situation.price, |price| price);
        self.by_site(&written.power, &mut situation.power, |power| power);
        self.by_site(&written.carbon, &mut situation.carbon, |carbon| carbon);
        // A hundredth of a percent's millionths is a share's.
        let share = |percent: Percent| u32::try_from(percent.as_micros() / 100).unwrap_or(u32::MAX);
        self.by_site(&written.cpu_use, &mut situation.cpu_use, share);
        for (service, held) in &written.memory {
            if let Some((service, held)) = self.service(service).zip(held.read_unsigned(self.findings)) {
                situation.memory.insert(service, held);
            }
        }
        for moving in &written.moving {
            let service = self.service(&moving.service);
            let ends = self.node(&moving.from).zip(self.node(&moving.to));
            situation.under_way.extend(service.zip(ends).map(|(service, (from, to))| UnderWay {
                service,
                from,
                to,
            }));
        }
        for migrated in &written.migrated {
            before.extend(self.migrated(migrated));
        }
    }

    fn by_site<Q: Quantity, T>(
        &mut self,
        written: &BTreeMap<At<String>, Written<Q>>,
        into: &mut BTreeMap<SiteName, T>,
        whole: impl Fn(Q) -> T,
    ) {
        for (site, value) in written {
            if let Some((site, value)) = self.site(site).zip(value.read_unsigned(self.findings)) {
                into.insert(site, whole(value));
            }
        }
    }

    fn forget(&mut self, metric: Metric, site: Option<&At<String>>, situation: &mut Situation) {
        let only = match site {
            None => None,
            Some(site) => match self.site(site) {
                None => return,
                known => known,
            },
        };
        let stays = |site: &SiteName| only.as_ref().is_some_and(|only| only != site);
        match metric {
            Metric::UserLatency => situation.latency.retain(|(_, site), _| stays(site)),
            Metric::CostRate => situation.price.retain(|site, _| stays(site)),
            Metric::Power => situation.power.retain(|site, _| stays(site)),
            Metric::CarbonRate => situation.carbon.retain(|site, _| stays(site)),
            Metric::CpuUse => situation.cpu_use.retain(|site, _| stays(site)),
        }
    }

    fn migrated(&mut self, written: &MigratedFile) -> Option<(Millis, ServiceName, PastMigration)> {
        let service = self.service(&written.service);
        let ends = self.node(&written.from).zip(self.node(&written.to));
        let ago = written.ago.read_unsigned(self.findings);
        let downtime = written.downtime.as_ref().and_then(|span| span.read_unsigned(self.findings));
        let bytes = written.bytes.as_ref().and_then(|size| size.read_unsigned(self.findings));
        let (from, to) = ends?;
        let downtime = downtime.unwrap_or(SECOND);
        let past = PastMigration {
            // Set once it is known when the case is.
            ended: SOME_DAY,
            from,
            to,
            outcome: written.outcome.unwrap_or_default().into(),
            downtime,
            bytes: bytes.unwrap_or(Bytes(0)),
            duration: downtime,
        };
        Some((ago?, service?, past))
    }

    fn expected(&mut self, written: &At<ExpectFile>) -> Expected {
        let ExpectFile { verdict, moves, held, excluded } = &written.value;
        if verdict.is_none() && moves.is_none() && held.is_empty() && excluded.is_empty() {
            self.findings
                .error("C0003", written.span(), "the case expects nothing")
                .label("so it can't fail")
                .help(
                    "say what must come of it, such as moves = { shop = \"edge-1\" }, or moves = {} for none",
                );
        }
        let mut expected = Expected { outlook: *verdict, ..Expected::default() };
        if let Some(moves) = moves {
            let pairs = moves.iter().filter_map(|(service, node)| self.service(service).zip(self.node(node)));
            expected.moves = Some(pairs.collect());
        }
        for (service, rules) in held {
            if let Some(service) = self.service(service) {
                expected.held.insert(service, rules.iter().cloned().collect());
            }
        }
        for (service, nodes) in excluded {
            let service = self.service(service);
            for (node, rules) in nodes {
                if let Some((service, node)) = service.clone().zip(self.node(node)) {
                    expected.excluded.insert((service, node), rules.iter().cloned().collect());
                }
            }
        }
        expected
    }

    fn users(&mut self, name: &At<String>) -> Option<UsersName> {
        let known = self.continuum.users.keys().map(UsersName::as_str);
        known_name(self.findings, name, "user group", known).map(UsersName::from)
    }

    fn site(&mut self, name: &At<String>) -> Option<SiteName> {
        let known = self.continuum.sites.keys().map(SiteName::as_str);
        known_name(self.findings, name, "site", known).map(SiteName::from)
    }

    fn service(&mut self, name: &At<String>) -> Option<ServiceName> {
        let known = self.continuum.services.keys().map(ServiceName::as_str);
        known_name(self.findings, name, "service", known).map(ServiceName::from)
    }

    fn node(&mut self, name: &At<String>) -> Option<NodeName> {
        let known = self.continuum.nodes.keys().map(NodeName::as_str);
        known_name(self.findings, name, "node", known).map(NodeName::from)
    }
}
