//! Which model a service's moves follow, where they are no checkpoints.

use sterna_core::cost::Line;
use sterna_policies::quantity::{Bytes, MibPerSecond, Millis};

use super::cold::Cold;
use super::passage::Passage;
use super::path::Path;
use super::postcopy::PostCopy;
use super::precopy::PreCopy;
use super::rounds::{Until, Writing};

/// How the moves of a service go. Times that are a line grow with its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It is stopped, and started anew at the destination.
    Cold {
        /// Making the container at the destination ready.
        prepare: Line,
        /// Stopping it.
        stop: Millis,
        /// Starting it until it serves.
        start: Millis,
    },
    /// Its memory crosses in rounds while it runs, what is left while it stands still.
    PreCopy {
        /// How fast it writes its memory.
        rate: MibPerSecond,
        /// The part of it that it writes again and again; `None` for all of it.
        working_set: Option<Bytes>,
        /// When rounds end.
        until: Until,
        /// Making both ends ready.
        prepare: Line,
        /// Stopping at the source and going on at the destination, beside what crosses.
        resume: Line,
    },
    /// It goes on at the destination first, and its memory is fetched afterwards.
    PostCopy {
        /// What it can't run without.
        state: Bytes,
        /// Making both ends ready.
        prepare: Line,
        /// Freezing and writing down the state.
        freeze: Millis,
        /// Going on at the destination.
        resume: Millis,
    },
}

impl Way {
    /// How a move goes of a service with so much memory.
    pub fn passage(&self, memory: Bytes, path: Path) -> Passage {
        match *self {
            Self::Cold { prepare, stop, start } => {
                Cold { image: Bytes::ZERO, path, prepare: prepare.at(memory), stop, start }.passage()
            }
            Self::PreCopy { rate, working_set, until, prepare, resume } => {
                let writing = Writing { memory, rate, working_set: working_set.unwrap_or(memory) };
                let (prepare, resume) = (prepare.at(memory), resume.at(memory));
                PreCopy { writing, path, until, prepare, resume }.passage().0
            }
            Self::PostCopy { state, prepare, freeze, resume } => {
                // What is made ready is cleaned up in the same time.
                let (prepare, clean) = (prepare.at(memory), Millis::ZERO);
                let state = state.min(memory);
                PostCopy { memory, state, path, prepare, freeze, resume, clean }.passage()
            }
        }
    }

    /// What going on at the source takes once the service stands still: what was stopped is started anew.
    pub const fn back(&self) -> Millis {
        match self {
            Self::Cold { start, .. } => *start,
            Self::PreCopy { .. } | Self::PostCopy { .. } => Millis::ZERO,
        }
    }

    /// Whether what the service writes on the way matters.
    pub const fn minds_writes(&self) -> bool {
        matches!(self, Self::PreCopy { .. })
    }
}
