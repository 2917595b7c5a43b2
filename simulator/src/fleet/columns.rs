//! Nodes, services and sites. One column per property: a pass over the fleet reads what it needs and nothing else.

use sterna_core::continuum::Price;
use sterna_policies::quantity::{Bytes, Cores};

use crate::scenario::Track;

/// What is known of a site.
#[derive(Debug, Clone)]
pub struct Site {
    /// What a node in use, and shares of cores and memory, cost. The node's price is the track's where there is one.
    pub price: Price,
    /// Price of a node in use, in USD/h, where it changes.
    pub node_price: Option<Track>,
    /// Carbon intensity of its electricity, in g/kWh; `None` where it is not known.
    pub carbon: Option<Track>,
    /// What the site draws for all that its nodes draw, in thousandths: cooling, conversion.
    pub pue: u32,
}

/// A node, as it is put into the columns.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// Its site.
    pub site: u32,
    /// Its power curve.
    pub curve: u16,
    /// Its processor.
    pub cpu: Cores,
    /// Its memory.
    pub memory: Bytes,
    /// What it sends or receives per second.
    pub bandwidth: Bytes,
}

/// Nodes.
#[derive(Debug, Clone, Default)]
pub struct Nodes {
    pub(crate) site: Vec<u32>,
    pub(crate) curve: Vec<u16>,
    /// In millicores.
    pub(crate) cpu: Vec<u32>,
    pub(crate) memory: Vec<u64>,
    pub(crate) bandwidth: Vec<u64>,
}

impl Nodes {
    /// Puts one in.
    pub fn add(&mut self, node: Node) {
        self.site.push(node.site);
        self.curve.push(node.curve);
        self.cpu.push(millicores(node.cpu));
        self.memory.push(node.memory.0);
        self.bandwidth.push(node.bandwidth.0);
    }

    /// The site of one.
    pub fn site_of(&self, node: u32) -> usize {
        self.site[node as usize] as usize
    }

    /// The power curve of one.
    pub fn curve_of(&self, node: u32) -> usize {
        usize::from(self.curve[node as usize])
    }

    /// Millicores and bytes that one has.
    pub fn has(&self, node: u32) -> (u32, u64) {
        (self.cpu[node as usize], self.memory[node as usize])
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.site.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.site.is_empty()
    }
}

/// A service, as it is put into the columns.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// The node that it starts on.
    pub on: u32,
    /// Processor that it asks for.
    pub cpu: Cores,
    /// Memory that it asks for, and that a move has to carry.
    pub memory: Bytes,
    /// Memory that it writes per second while it uses all that it asks for.
    pub dirty: Bytes,
    /// Memory that it writes to at all.
    pub working_set: Bytes,
}

/// Services.
#[derive(Debug, Clone, Default)]
pub struct Services {
    pub(crate) on: Vec<u32>,
    /// In millicores.
    pub(crate) cpu: Vec<u32>,
    pub(crate) memory: Vec<u64>,
    pub(crate) dirty: Vec<u64>,
    pub(crate) working_set: Vec<u64>,
}

impl Services {
    /// Puts one in.
    pub fn add(&mut self, service: Service) {
        self.on.push(service.on);
        self.cpu.push(millicores(service.cpu));
        self.memory.push(service.memory.0);
        self.dirty.push(service.dirty.0);
        self.working_set.push(service.working_set.0);
    }

    /// The node that one starts on.
    pub fn starts_on(&self, service: usize) -> u32 {
        self.on[service]
    }

    /// Millicores and bytes that one asks for.
    pub fn asks(&self, service: usize) -> (u32, u64) {
        (self.cpu[service], self.memory[service])
    }

    /// What a move of one has to carry: its memory, what it writes per second at most, and its working set, in bytes.
    pub fn moved(&self, service: usize) -> (u64, u64, u64) {
        (self.memory[service], self.dirty[service], self.working_set[service])
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.on.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.on.is_empty()
    }
}

/// Rounded down; what does not fit is the largest there is, and refused by [`fit`](super::fit).
fn millicores(cpu: Cores) -> u32 {
    u32::try_from((cpu.as_micros() / 1000).max(0)).unwrap_or(u32::MAX)
}
