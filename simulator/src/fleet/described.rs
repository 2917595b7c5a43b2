//! A fleet that a file describes: checked here, and made in any size.

use sterna_core::continuum::Price;
use sterna_policies::load::{At, Findings, Invalid, Loaded, Written, name, schema_version, toml_document};
use sterna_policies::quantity::{Bytes, Cores, MibPerSecond, Millis, Percent, Quantity, UsdPerGib};

use super::columns::{Node, Nodes, Service, Services, Site};
use super::curve::{Curve, WHOLE};
use super::drawing::Drawing;
use super::file::{FleetFile, MovesTable, NodeTable, ServiceTable, SiteTable, Steps};
use super::fit::Unfit;
use super::passes::Limits;
use super::trace::{Drawn, Trace};
use super::{Fleet, Transfer};
use crate::clock::SimTime;
use crate::scenario::load::points;
use crate::scenario::{Shape, Track};

/// The format that this version reads.
const SCHEMA_VERSION: u32 = 1;
/// The longest time, in nanoseconds: 366 days.
const LONGEST: u64 = 366 * 86_400 * SECOND;
const SECOND: u64 = 1_000_000_000;
/// The most ticks.
const MOST_TICKS: u64 = 1_000_000;
/// The most nodes.
const MOST_NODES: u32 = 1_000_000;
/// The most services.
const MOST_SERVICES: u32 = 10_000_000;
/// The most moves.
const MOST_MOVES: u64 = 10_000_000;
/// The most services on a node.
const MOST_PER_NODE: u32 = 1000;
/// The most sites.
const MOST_SITES: usize = 1000;

/// A fleet that a file describes.
#[derive(Debug, Clone)]
pub struct Described {
    /// Its own name.
    pub name: String,
    /// How many nodes the file asks for.
    pub nodes: u32,
    /// The names of its sites, in their order.
    pub sites: Vec<String>,
    about: Vec<Site>,
    duration: SimTime,
    tick: u64,
    egress: UsdPerGib,
    curve: Curve,
    node: Node,
    per_node: u32,
    service: Service,
    /// The least and the most that services use, in hundredths of a percent, and what decides it.
    shares: (u16, u16, u64),
    drawing: Option<Drawing>,
    transfer: Transfer,
}

/// Whether a file describes a fleet, and not a continuum with its inventory.
pub fn is_fleet(text: &str) -> bool {
    text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("fleet"))
}

/// Reads a fleet from its text. `file` is how it is called in messages.
///
/// # Errors
/// All that is wrong with it.
pub fn load(file: &str, text: &str) -> Result<Loaded<Described>, Invalid> {
    let written: FleetFile = toml_document(file, text)?;
    let mut findings = Findings::new(file, text);
    schema_version(&written.schema_version, SCHEMA_VERSION, &mut findings);
    name(&written.name, "scenario", &mut findings);
    let described = Reader { findings: &mut findings }.described(&written);
    match described {
        Some(described) => findings.finish(described),
        // All that is missing was reported.
        None => Err(findings.into_invalid()),
    }
}

struct Reader<'f> {
    findings: &'f mut Findings,
}

impl Reader<'_> {
    fn described(&mut self, written: &FleetFile) -> Option<Described> {
        let fleet = &written.fleet.value;
        let duration = self.duration(&written.duration);
        let tick = self.tick(&fleet.tick, duration);
        let egress = match &fleet.egress {
            Some(egress) => egress.read_unsigned(self.findings),
            None => Some(UsdPerGib::ZERO),
        };
        let within = duration.unwrap_or(SimTime::from_nanos(LONGEST));
        let about: Vec<Option<Site>> = fleet.site.iter().map(|one| self.site(&one.value, within)).collect();
        self.range(&At { value: fleet.site.len(), span: written.fleet.span() }, 1, MOST_SITES, "sites");
        self.range(&fleet.nodes, 1, MOST_NODES, "nodes");
        self.range(&fleet.service.per_node, 1, MOST_PER_NODE, "services per node");
        let node = self.node(&fleet.node);
        let service = self.service(&fleet.service, node.as_ref().map(|(node, _)| node));
        let low = self.share(&fleet.share.low);
        let high = self.share(&fleet.share.high);
        if low.zip(high).is_some_and(|(low, high)| high < low) {
            self.findings
                .error("S0018", fleet.share.high.span(), "the most that services use is less than the least")
                .also(fleet.share.low.span(), "the least");
        }
        let room = node
            .as_ref()
            .zip(service.as_ref())
            .and_then(|((node, _), service)| self.room(node, service, &fleet.service));
        let moves = fleet.moves.as_ref().map(|moves| self.moves(&moves.value, &fleet.service, room));
        let (drawing, transfer) = match moves {
            Some(moves) => moves.map(|(drawing, transfer)| (Some(drawing), transfer))?,
            None => {
                let limits = Limits { downtime: 0, passes: 0, resume: 0 };
                (None, Transfer { limits, overhead: 0 })
            }
        };
        let (node, curve) = node?;
        Some(Described {
            name: written.name.value.clone(),
            nodes: fleet.nodes.value,
            sites: fleet.site.iter().map(|site| site.name.value.clone()).collect(),
            about: about.into_iter().collect::<Option<_>>()?,
            duration: duration?,
            tick: tick?,
            egress: egress?,
            curve,
            node,
            per_node: fleet.service.per_node.value,
            service: service?,
            shares: (low?, high?, fleet.share.seed),
            drawing,
            transfer,
        })
    }

    fn range<T: PartialOrd + std::fmt::Display + Copy>(
        &mut self,
        value: &At<T>,
        least: T,
        most: T,
        what: &str,
    ) {
        if value.value < least || value.value > most {
            self.findings
                .error(
                    "S0018",
                    value.span(),
                    format!("a fleet with {} {what} can't be simulated", value.value),
                )
                .label(format!("expected {least} to {most}"));
        }
    }

    fn duration(&mut self, written: &Written<Millis>) -> Option<SimTime> {
        let duration = SimTime::from_millis(written.read_positive(self.findings)?);
        if duration.as_nanos() > LONGEST {
            self.findings
                .error("S0003", written.span(), format!("the scenario lasts {duration}"))
                .label("must be at most 366d");
            return None;
        }
        Some(duration)
    }

    fn tick(&mut self, written: &Written<Millis>, duration: Option<SimTime>) -> Option<u64> {
        let tick = SimTime::from_millis(written.read_positive(self.findings)?).as_nanos();
        let duration = duration?;
        if tick < SECOND || tick > duration.as_nanos() || duration.as_nanos() / tick > MOST_TICKS {
            self.findings
                .error(
                    "S0003",
                    written.span(),
                    format!("a tick of {} can't be used", SimTime::from_nanos(tick)),
                )
                .label(format!(
                    "must be between 1s and the duration, in which there are at most {MOST_TICKS}"
                ));
            return None;
        }
        Some(tick)
    }

    fn site(&mut self, site: &SiteTable, duration: SimTime) -> Option<Site> {
        let price = site.price.as_ref();
        let mut part = |of: Option<&Written<_>>| match of {
            Some(written) => written.read_unsigned(self.findings),
            None => Some(Default::default()),
        };
        let node = part(price.and_then(|price| price.node.as_ref()));
        let core = part(price.and_then(|price| price.core.as_ref()));
        let gib = part(price.and_then(|price| price.gib.as_ref()));
        let node_price = self.track(site.node_price.as_ref(), duration, |price| price.as_micros());
        let carbon = self.track(site.carbon.as_ref(), duration, |intensity| intensity.as_micros());
        let pue = site.pue.as_ref().map_or(1.0, |pue| pue.value);
        if !(1.0..=10.0).contains(&pue) {
            let span = site.pue.as_ref().map_or(0..0, At::span);
            self.findings
                .error("S0018", span, format!("a power usage effectiveness of {pue} is impossible"))
                .label("expected 1 to 10");
            return None;
        }
        Some(Site {
            price: Price { node: node?, core: core?, gib: gib? },
            node_price: node_price?,
            carbon: carbon?,
            pue: (pue * 1000.0).round() as u32,
        })
    }

    /// The outer `None` for points that are wrong, the inner one where there are none.
    fn track<Q: Quantity>(
        &mut self,
        written: Option<&At<Steps<Q>>>,
        duration: SimTime,
        whole: impl Fn(Q) -> i64,
    ) -> Option<Option<Track>> {
        match written {
            Some(written) => points(self.findings, duration, Shape::Step, written, whole).map(Some),
            None => Some(None),
        }
    }

    /// A node, and what all of them draw.
    fn node(&mut self, node: &NodeTable) -> Option<(Node, Curve)> {
        let cpu = node.cpu.read_positive(self.findings);
        let memory = node.memory.read_positive(self.findings);
        let bandwidth = node.bandwidth.read_positive(self.findings);
        let mut powers = Vec::new();
        for power in &node.power.value {
            powers.extend(power.read_unsigned(self.findings));
        }
        let cpu = cpu?;
        let curve = Curve::through(&powers, cpu, node.off_when_empty);
        if curve.is_none() && powers.len() == node.power.value.len() {
            self.findings
                .error("S0018", node.power.span(), "nothing can draw power so")
                .label("expected 2 to 101 powers from idle to full load that do not fall, at most 10kW");
        }
        let bandwidth = Bytes(bytes_per_second(bandwidth?));
        Some((Node { site: 0, curve: 0, cpu, memory: memory?, bandwidth }, curve?))
    }

    fn service(&mut self, service: &ServiceTable, node: Option<&Node>) -> Option<Service> {
        let cpu = service.cpu.read_positive(self.findings);
        let memory = service.memory.read_positive(self.findings);
        let writes = service.writes.read_unsigned(self.findings);
        let working_set = match &service.working_set {
            Some(share) => self.at_most_all(share),
            None => Some(ALL),
        };
        let (memory, bandwidth) = (memory?, node?.bandwidth);
        Some(Service {
            on: 0,
            cpu: cpu?,
            memory,
            dirty: part_of(bandwidth, writes?),
            working_set: part_of(memory, working_set?),
        })
    }

    fn at_most_all(&mut self, written: &Written<Percent>) -> Option<Percent> {
        let share = written.read_unsigned(self.findings)?;
        if share > ALL {
            self.findings
                .error("S0018", written.span(), format!("{share} is more than there is"))
                .label("must be at most 100%");
            return None;
        }
        Some(share)
    }

    /// A share in hundredths of a percent.
    fn share(&mut self, written: &Written<Percent>) -> Option<u16> {
        let share = self.at_most_all(written)?;
        u16::try_from(share.as_micros() * i64::try_from(WHOLE).ok()? / ALL.as_micros()).ok()
    }

    /// How many services a node has room for, where it has room for those that start on it.
    fn room(&mut self, node: &Node, service: &Service, written: &ServiceTable) -> Option<u32> {
        let by_cpu = node.cpu.as_micros() / service.cpu.as_micros().max(1);
        let by_memory = node.memory.0 / service.memory.0.max(1);
        let room = u64::try_from(by_cpu).unwrap_or(0).min(by_memory);
        let room = u32::try_from(room).unwrap_or(u32::MAX).min(MOST_PER_NODE);
        if room < written.per_node.value {
            self.findings
                .error(
                    "S0009",
                    written.per_node.span(),
                    "a node has no room for the services that start on it",
                )
                .label(format!("it has room for {room}"));
            return None;
        }
        Some(room)
    }

    fn moves(
        &mut self,
        moves: &MovesTable,
        service: &ServiceTable,
        room: Option<u32>,
    ) -> Option<(Drawing, Transfer)> {
        let nanos = |span: Millis| SimTime::from_millis(span).as_nanos();
        let downtime = moves.downtime_limit.read_unsigned(self.findings);
        let resume =
            moves.resume.as_ref().map_or(Some(Millis::ZERO), |span| span.read_unsigned(self.findings));
        let overhead =
            moves.overhead.as_ref().map_or(Some(Cores::ZERO), |cpu| cpu.read_unsigned(self.findings));
        let per_node = service.per_node.value;
        // Half of the services.
        self.range(
            &moves.per_1000_nodes,
            1,
            per_node.saturating_mul(500).max(1),
            "moves per tick of 1000 nodes",
        );
        let drawing =
            Drawing { per_node, room: room?, per_1000_nodes: moves.per_1000_nodes.value, seed: moves.seed };
        let limits =
            Limits { downtime: nanos(downtime?), passes: moves.passes.value, resume: nanos(resume?) };
        let overhead = u32::try_from(overhead?.as_micros() / 1000).unwrap_or(u32::MAX);
        Some((drawing, Transfer { limits, overhead }))
    }
}

/// All of it.
const ALL: Percent = Percent::from_micros(100_000_000);

/// Rounded down.
fn part_of(whole: Bytes, share: Percent) -> Bytes {
    let part = u128::from(whole.0) * u128::from(share.as_micros().unsigned_abs()) / 100_000_000;
    Bytes(u64::try_from(part).unwrap_or(u64::MAX))
}

/// Rounded down.
fn bytes_per_second(rate: MibPerSecond) -> u64 {
    let bytes = u128::from(rate.as_micros().unsigned_abs()) * (1 << 20) / 1_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl Described {
    /// The most nodes that it can be made with.
    pub fn most_nodes(&self) -> u32 {
        let ticks = self.duration.as_nanos().div_ceil(self.tick);
        let moves = self.drawing.map_or(0, |drawing| ticks.saturating_mul(drawing.per_1000_nodes.into()));
        let by_moves = MOST_MOVES.saturating_mul(1000).checked_div(moves).unwrap_or(u64::MAX);
        let by_services = MOST_SERVICES / self.per_node.max(1);
        MOST_NODES.min(by_services).min(u32::try_from(by_moves).unwrap_or(u32::MAX))
    }

    /// The fleet with so many nodes.
    ///
    /// # Errors
    /// When it has none, or more than can be had.
    pub fn fleet(&self, nodes: u32) -> Result<Fleet, Unfit> {
        let most = self.most_nodes();
        if nodes == 0 {
            return Err(Unfit::Without { what: "node" });
        }
        if nodes > most {
            return Err(Unfit::TooMany { nodes, most });
        }
        let services = nodes * self.per_node;
        let sites = u64::try_from(self.about.len()).unwrap_or(1);
        let mut columns = (Nodes::default(), Services::default());
        for node in 0..nodes {
            let site = u64::from(node) * sites / u64::from(nodes);
            columns.0.add(Node { site: u32::try_from(site).unwrap_or(0), ..self.node });
        }
        for service in 0..services {
            columns.1.add(Service { on: service / self.per_node, ..self.service });
        }
        let (low, high, seed) = self.shares;
        let ticks = self.duration.as_nanos().div_ceil(self.tick);
        Ok(Fleet {
            name: format!("{}-{nodes}", self.name),
            duration: self.duration,
            tick: self.tick,
            step: self.tick,
            sites: self.about.clone(),
            egress: self.egress,
            curves: vec![self.curve.clone()],
            nodes: columns.0,
            services: columns.1,
            trace: Trace::Drawn(Drawn::evenly(seed, services, low, high)),
            orders: self.drawing.map(|drawing| drawing.orders(nodes, ticks, self.tick)).unwrap_or_default(),
            transfer: self.transfer,
        })
    }
}
