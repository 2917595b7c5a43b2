//! Fleets: thousands of nodes and tens of thousands of services over a day or a month, with moves that are given.
//!
//! [`run`](crate::run) asks the production decision at every look and tells everything; a fleet is about size. Its nodes and
//! services are columns of numbers, utilisation comes as one row per tick, and one pass per tick reckons load and power. Between
//! ticks only what a migration or a change of price or carbon concerns is reckoned anew. All sums are whole numbers and exact:
//! the same fleet gives the same bytes on every machine, in every build and on any number of threads.
//!
//! | module | what lives there |
//! |---|---|
//! | [`columns`] | nodes, services and sites |
//! | [`curve`] | power over load |
//! | [`trace`] | what services use of what they ask for, tick by tick |
//! | [`passes`] | memory sent ahead, pass after pass |
//! | [`fit`] | what is wrong with a fleet |
//! | [`account`] | what adds up at a site |
//! | [`engine`] | the run: ticks and events |
//! | [`report`] | what it found |
//! | [`closed_form`] | the energy, reckoned service by service instead of node by node |
//! | [`described`] | a fleet that a file describes, in any size |
//! | [`drawing`] | moves that are drawn |
//! | [`consolidation`] | the fleet that is compared with other simulators |

use sterna_policies::quantity::UsdPerGib;

use crate::clock::SimTime;
use columns::{Nodes, Services, Site};
use curve::Curve;
use passes::Limits;
use trace::Trace;

pub mod account;
pub mod closed_form;
pub mod columns;
pub mod consolidation;
pub mod curve;
pub mod described;
pub mod drawing;
pub mod engine;
pub mod fit;
pub mod passes;
pub mod report;
pub mod trace;

mod file;

pub use engine::run;

/// A fleet and what happens to it.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// Its own name.
    pub name: String,
    /// How long it is looked at.
    pub duration: SimTime,
    /// Nanoseconds from one row of the trace to the next.
    pub tick: u64,
    /// How often linear tracks of the sites are read, in nanoseconds.
    pub step: u64,
    /// The sites.
    pub sites: Vec<Site>,
    /// Price of what leaves a site for another.
    pub egress: UsdPerGib,
    /// Power curves, to which nodes refer.
    pub curves: Vec<Curve>,
    /// The nodes, in the order of their sites.
    pub nodes: Nodes,
    /// The services.
    pub services: Services,
    /// What the services use.
    pub trace: Trace,
    /// The moves, in the order of their times.
    pub orders: Vec<Order>,
    /// How moves are carried out.
    pub transfer: Transfer,
}

impl Fleet {
    /// How many ticks begin before its end.
    pub fn ticks(&self) -> u64 {
        self.duration.as_nanos().div_ceil(self.tick.max(1))
    }

    /// When a tick begins.
    pub(crate) fn tick_at(&self, tick: u64) -> SimTime {
        SimTime::from_nanos(tick.saturating_mul(self.tick))
    }
}

/// A move that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// From when on. A node takes part in one migration at a time: while one of the ends does, the move waits.
    pub at: SimTime,
    /// The service, by its place in the column.
    pub service: u32,
    /// The node that it goes to.
    pub to: u32,
}

/// How moves are carried out.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    /// When sending ahead ends.
    pub limits: Limits,
    /// What a migration itself uses of the processor of either end, in millicores.
    pub overhead: u32,
}
