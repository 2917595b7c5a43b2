//! An inventory file as it is written. Doc comments here are what people read where a key is missing.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use sterna_policies::load::{At, Written};
use sterna_policies::quantity::{
    Bytes, Cores, GramsPerKwh, MibPerSecond, Millis, PerSecond, UsdPerGib, UsdPerHour, Watts,
};

use crate::continuum::Restart;
use crate::continuum::location::LocationFile;
use crate::continuum::pod::PodFile;

pub(super) type UsdPerHourText = Written<UsdPerHour>;

/// The continuum as an operator writes it down.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Inventory")]
pub(super) struct InventoryFile {
    /// The version of this format: 1.
    pub schema_version: At<u32>,
    /// The continuum's own name.
    pub name: At<String>,
    /// The sites, `[[site]]`.
    #[serde(default)]
    pub site: Vec<SiteFile>,
    /// The paths between sites, `[[link]]`.
    #[serde(default)]
    pub link: Vec<LinkFile>,
    /// The user groups, `[[users]]`.
    #[serde(default)]
    pub users: Vec<UsersFile>,
    /// The services, `[[service]]`.
    #[serde(default)]
    pub service: Vec<ServiceFile>,
}

/// A place with its own prices, power and carbon.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Site")]
pub(super) struct SiteFile {
    /// Its name.
    pub name: At<String>,
    /// How near to the users it is, such as "edge", "fog" or "cloud".
    pub tier: At<String>,
    /// Its region, such as "eu-west", for data residency.
    pub region: At<String>,
    /// What it costs, such as { node = "0.05USD/h" }.
    pub price: PriceFile,
    /// What one of its nodes draws, such as { idle = "8W", full = "25W" }.
    pub power: PowerFile,
    /// Carbon intensity of its electricity, where known.
    pub carbon: Option<Written<GramsPerKwh>>,
    /// Labels, by which policies select it, such as { owner = "us" }.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Where on the globe it is, such as { latitude = -37.81, longitude = 144.96 }: for maps, and for the latency of simulated
    /// users.
    pub location: Option<LocationFile>,
    /// Its nodes, `[[site.node]]`.
    #[serde(default)]
    pub node: Vec<NodeFile>,
}

/// What a site costs. What is left out is not charged for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Price")]
pub(super) struct PriceFile {
    /// Of a node while it hosts at least one service.
    pub node: Option<UsdPerHourText>,
    /// Of one requested core.
    pub core: Option<UsdPerHourText>,
    /// Of one requested GiB of memory.
    pub gib: Option<UsdPerHourText>,
}

/// What a node draws: a line from idle to full load.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Power")]
pub(super) struct PowerFile {
    /// With no load.
    pub idle: Written<Watts>,
    /// With all cores busy.
    pub full: Written<Watts>,
    /// Whether a node that hosts nothing is switched off. Left out: false.
    pub off_when_empty: Option<bool>,
}

/// A container host.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Node")]
pub(super) struct NodeFile {
    /// Its name, unique in the continuum.
    pub name: At<String>,
    /// Its processor, such as "2cores".
    pub cpu: Written<Cores>,
    /// Its memory, such as "4GiB".
    pub memory: Written<Bytes>,
    /// Where its agent listens, `host:port`. Left out for a node that `sterna sites up` makes: its address is asked of the
    /// engine or the cluster.
    pub agent: Option<At<String>>,
    /// Where it stands in a Kubernetes cluster, such as { node = "worker-1" }. Left out: it is no pod.
    pub kubernetes: Option<At<PodFile>>,
    /// Out of use: what runs there should leave, nothing may arrive. Left out: false.
    pub drain: Option<bool>,
}

/// The path between two sites.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Link")]
pub(super) struct LinkFile {
    /// The names of the two sites.
    pub between: At<[At<String>; 2]>,
    /// Round-trip time.
    pub rtt: Written<Millis>,
    /// Bandwidth.
    pub bandwidth: Written<MibPerSecond>,
    /// Price of what leaves either end over it. Left out: free.
    pub egress: Option<Written<UsdPerGib>>,
}

/// Clients at a place.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Users")]
pub(super) struct UsersFile {
    /// The group's name.
    pub name: At<String>,
    /// Requests per second, by service.
    #[serde(default)]
    pub rates: BTreeMap<At<String>, Written<PerSecond>>,
    /// Latency by site as it is known without measuring, used only where a policy allows modelled values.
    #[serde(default)]
    pub latency: BTreeMap<At<String>, Written<Millis>>,
    /// Where agents see how far it is to them, `["host:port"]`: a place at theirs that takes connections.
    #[serde(default)]
    pub probe: Vec<At<String>>,
}

/// The unit of placement and migration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Service")]
pub(super) struct ServiceFile {
    /// Its name, unique in the continuum.
    pub name: At<String>,
    /// Processor that it asks for, such as "0.5".
    pub cpu: Written<Cores>,
    /// Memory that it asks for, such as "512MiB".
    pub memory: Written<Bytes>,
    /// Stays where it is, whatever a policy says. Left out: false.
    pub pinned: Option<bool>,
    /// Labels, by which policies select it, such as { tier = "web" }.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How it is started. Left out for a service that somebody else starts.
    pub run: Option<RunFile>,
}

/// How a service is started on a node.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Run")]
pub(super) struct RunFile {
    /// The image.
    pub image: At<String>,
    /// Command and arguments. Left out: the image's own.
    #[serde(default)]
    pub command: Vec<String>,
    /// Environment, `NAME=value`.
    #[serde(default)]
    pub env: Vec<At<String>>,
    /// Ports published on the node under the same number, `6379/tcp`.
    #[serde(default)]
    pub ports: Vec<At<String>>,
    /// Named volumes, `name:/path`.
    #[serde(default)]
    pub volumes: Vec<At<String>>,
    /// The node that it is first started on.
    pub on: At<String>,
    /// What is run in the place of the image's entry point, with `command` as its arguments. Left out: the image's own.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// Folder that it starts in. Left out: the image's own.
    pub working_dir: Option<At<String>>,
    /// Whom it runs as, such as "999", "999:999" or "redis". Left out: the image's own.
    pub user: Option<At<String>>,
    /// Most memory that it may have, such as "512MiB". Left out: as much as its node has.
    pub memory_limit: Option<Written<Bytes>>,
    /// Most processor time that it may have, such as "0.5". Left out: as much as its node has.
    pub cpu_limit: Option<Written<Cores>>,
    /// Whether it may write to its volumes alone. Left out: false.
    pub read_only: Option<bool>,
    /// Capabilities that it is started without, such as ["NET_RAW"] or ["ALL"].
    #[serde(default)]
    pub drop_capabilities: Vec<At<String>>,
    /// Whether no program that it runs may give it more rights than it has. Left out: false.
    pub no_new_privileges: Option<bool>,
    /// Whether it is started again when it ends: "always", "on-failure" or "never". Left out: "always".
    pub restart: Option<Restart>,
    /// Time that it has to end in once it is asked to, such as "30s". Left out: 10 s.
    pub stop_timeout: Option<Written<Millis>>,
}
