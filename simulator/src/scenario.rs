//! A scenario: a continuum, how its numbers change over a span of time, and where everything starts.
//!
//! [`load`] makes one from a TOML file and its inventory; what it refuses can't be run.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sterna_core::continuum::{Continuum, Placement, ServiceName, SiteName, UsersName};
use sterna_core::cost::Costs;
use sterna_policies::quantity::{Bytes, MibPerSecond};

use crate::clock::SimTime;
use crate::models::migration::Way;

pub mod load;
pub mod noise;
pub mod track;

mod chance;
mod faults;
mod file;
mod gpx;
mod inject;
mod moves;
#[cfg(feature = "parquet")]
mod parquet;
mod people;
mod series;
mod table;
mod text;
mod unused;

pub use chance::{Chance, Drawn};
pub use noise::Noise;
pub use people::{Fits, People};
pub use series::Bursts;
pub use text::text;
pub use track::{Shape, Track};

/// A scenario that was read and found consistent.
///
/// Held by construction: every service has a node to start on, and between every user group that asks for anything and every
/// site with a node there is a latency.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its own name.
    pub name: String,
    /// The calendar's time at its start.
    pub start: Timestamp,
    /// How long it lasts.
    pub duration: SimTime,
    /// How often linear tracks are read, in nanoseconds; not 0.
    pub step: u64,
    /// What is, with the numbers that hold where no track says otherwise.
    pub continuum: Continuum,
    /// Where the services run at the start.
    pub placement: Placement,
    /// What changes.
    pub tracks: Tracks,
    /// What the parts of a move take.
    pub costs: Costs,
    /// How services write their memory while it is sent ahead, where that is said; others leave what is predicted.
    pub writes: BTreeMap<ServiceName, Writes>,
    /// How services' moves go that do not go by checkpoints.
    pub ways: BTreeMap<ServiceName, Way>,
    /// Latency over distance, for what nobody measured.
    pub fits: Fits,
    /// What hangs on the seed.
    pub chance: Chance,
    /// What came of it: for the seed 0 where it was read, for another see [`Scenario::drawn`].
    pub drawn: Drawn,
    /// Failures that were asked for beside those of the file, as they were written.
    pub injected: Vec<String>,
    /// Whether policies may decide nothing, and inputs may have no effect.
    pub allow_unused: bool,
    /// How far what is asked for strays, where that is left to chance.
    pub noise: Option<Noise>,
}

/// How a service writes its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writes {
    /// How fast.
    pub rate: MibPerSecond,
    /// The part of it that is written again and again; `None` for all of it.
    pub working_set: Option<Bytes>,
}

/// What changes over time.
#[derive(Debug, Clone, Default)]
pub struct Tracks {
    /// Latency from a user group to a site, in ms.
    pub latency: BTreeMap<(UsersName, SiteName), Track>,
    /// Requests per second of a user group for a service.
    pub rate: BTreeMap<(UsersName, ServiceName), Track>,
    /// Price of one node of a site while it is in use, in USD/h.
    pub price: BTreeMap<SiteName, Track>,
    /// Carbon intensity of a site's electricity, in g/kWh.
    pub carbon: BTreeMap<SiteName, Track>,
    /// Memory that a service holds, in bytes.
    pub memory: BTreeMap<ServiceName, Track>,
}

impl Tracks {
    /// All tracks, whatever they are about.
    pub fn all(&self) -> impl Iterator<Item = &Track> {
        self.latency
            .values()
            .chain(self.rate.values())
            .chain(self.price.values())
            .chain(self.carbon.values())
            .chain(self.memory.values())
    }
}

impl Scenario {
    /// Whether seeds make a difference to it.
    pub fn is_random(&self) -> bool {
        let asks = self.continuum.users.values().any(|users| !users.rates.is_empty());
        let strays = asks || !self.tracks.rate.is_empty();
        (self.noise.is_some() && strays) || self.chance.is_random()
    }

    /// The scenario with everything drawn that hangs on the seed: where users go, bursts, failures, how far rates stray. The same for
    /// every policy.
    pub fn drawn(&self, seed: u64) -> Cow<'_, Self> {
        let is_drawn = self.chance.is_empty() || self.drawn.seed() == seed;
        if is_drawn && self.noise.is_none() {
            return Cow::Borrowed(self);
        }
        let mut drawn = Self { noise: None, ..self.clone() };
        drawn.drawn = self.chance.draw(self, seed);
        if let Some(noise) = self.noise {
            noise.stray(&mut drawn, seed);
        }
        Cow::Owned(drawn)
    }

    /// The instants at which any number may change, in order, each once; the start is one of them.
    pub fn changes(&self) -> Vec<SimTime> {
        let mut times = BTreeSet::from([SimTime::START]);
        for track in self.tracks.all() {
            times.extend(track.changes(self.step, self.duration));
        }
        times.extend(self.drawn.changes(self));
        times.into_iter().collect()
    }
}
