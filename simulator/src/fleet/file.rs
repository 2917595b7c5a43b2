//! A fleet as it is written.

use schemars::JsonSchema;
use serde::Deserialize;
use sterna_policies::load::{At, Written};
use sterna_policies::quantity::{
    Bytes, Cores, GramsPerKwh, MibPerSecond, Millis, Percent, UsdPerGib, UsdPerHour, Watts,
};

/// A file with a fleet: thousands of equal nodes, what their services use by number, and moves that are drawn.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FleetScenario")]
pub struct FleetFile {
    /// The version of this format: 1.
    pub schema_version: At<u32>,
    /// Its own name.
    pub name: At<String>,
    /// How long it is looked at.
    pub duration: Written<Millis>,
    /// The fleet.
    pub fleet: At<FleetTable>,
}

/// A fleet.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Fleet")]
pub struct FleetTable {
    /// How many nodes, spread evenly over the sites.
    pub nodes: At<u32>,
    /// How often what services use changes, and moves begin, such as "5m".
    pub tick: Written<Millis>,
    /// Price of what leaves a site for another. Left out: nothing.
    pub egress: Option<Written<UsdPerGib>>,
    /// The sites.
    pub site: Vec<At<SiteTable>>,
    /// Every node.
    pub node: NodeTable,
    /// Every service.
    pub service: ServiceTable,
    /// What services use of what they ask for.
    #[serde(rename = "use")]
    pub share: UseTable,
    /// What is moved. Left out: nothing.
    pub moves: Option<At<MovesTable>>,
}

/// What changes: times since the start, each with the value from then on.
pub type Steps<Q> = Vec<(Written<Millis>, Written<Q>)>;

/// A site.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FleetSite")]
pub struct SiteTable {
    /// Its own name.
    pub name: At<String>,
    /// What a node in use, and shares of cores and memory, cost. Left out: nothing.
    pub price: Option<PriceTable>,
    /// Price of a node in use where it changes: times since the start, each with the price from then on.
    pub node_price: Option<At<Steps<UsdPerHour>>>,
    /// Carbon intensity of its electricity: times since the start, each with the intensity from then on. Left out: not known.
    pub carbon: Option<At<Steps<GramsPerKwh>>>,
    /// What the site draws for all that its nodes draw: cooling, conversion; 1 where it is left out.
    pub pue: Option<At<f64>>,
}

/// What things cost.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FleetPrice")]
pub struct PriceTable {
    /// Of a node while it hosts at least one service.
    pub node: Option<Written<UsdPerHour>>,
    /// Of one requested core.
    pub core: Option<Written<UsdPerHour>>,
    /// Of one requested GiB of memory.
    pub gib: Option<Written<UsdPerHour>>,
}

/// A node.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FleetNode")]
pub struct NodeTable {
    /// Its processor.
    pub cpu: Written<Cores>,
    /// Its memory.
    pub memory: Written<Bytes>,
    /// What it draws at evenly spaced loads, from none to full: two make a line, eleven are those of SPECpower.
    pub power: At<Vec<Written<Watts>>>,
    /// Whether it is switched off while it hosts nothing.
    #[serde(default)]
    pub off_when_empty: bool,
    /// What it sends or receives.
    pub bandwidth: Written<MibPerSecond>,
}

/// A service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FleetService")]
pub struct ServiceTable {
    /// How many start on each node.
    pub per_node: At<u32>,
    /// Processor that it asks for.
    pub cpu: Written<Cores>,
    /// Memory that it asks for, and that a move has to carry.
    pub memory: Written<Bytes>,
    /// What it writes of its memory while it uses all that it asks for, as a share of what its node sends in the same time.
    pub writes: Written<Percent>,
    /// The part of its memory that it writes to at all; all of it where it is left out.
    pub working_set: Option<Written<Percent>>,
}

/// What services use of what they ask for: drawn for each of them at each tick, evenly between two shares.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FleetUse")]
pub struct UseTable {
    /// The least.
    pub low: Written<Percent>,
    /// The most.
    pub high: Written<Percent>,
    /// Decides what is drawn; 0 where it is left out.
    #[serde(default)]
    pub seed: u64,
}

/// What is moved: services that are drawn, each to the fullest node that has room.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FleetMoves")]
pub struct MovesTable {
    /// How many at each tick but the first, of 1000 nodes.
    pub per_1000_nodes: At<u32>,
    /// Decides what is drawn; 0 where it is left out.
    #[serde(default)]
    pub seed: u64,
    /// Memory is sent ahead until what is left crosses in this time.
    pub downtime_limit: Written<Millis>,
    /// The most passes.
    pub passes: At<u32>,
    /// From the last byte to the first instruction at the destination. Left out: no time.
    pub resume: Option<Written<Millis>>,
    /// What a move uses of the processor at either end. Left out: nothing.
    pub overhead: Option<Written<Cores>>,
}
