//! Points of a migration at which a test can have a fault strike, each named by a text.
//!
//! With the feature `faults`, and only with it, an agent looks into `/run/sterna/faults` whenever it comes to such a point. A file
//! `armed` there holds the text of one point. The agent that gets to it renames `armed` to `reached`, and then either stands
//! still until somebody removes `reached` (so that the fault, whatever it is, strikes at exactly this instant), or does the
//! damage itself, where only it can: a byte that arrives wrong, a call that is made twice, an answer that is lost.
//! Without the feature nothing of this is in the program; the names alone remain.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::migration::phase::Phase;
use crate::migration::table::Undo;

// Its tests need no program with the feature.
#[cfg(any(feature = "faults", test))]
#[cfg_attr(not(feature = "faults"), allow(dead_code, reason = "only its tests"))]
mod active;
#[cfg(feature = "faults")]
pub use active::*;
#[cfg(not(feature = "faults"))]
mod inactive;
#[cfg(not(feature = "faults"))]
pub use inactive::*;

/// What the destination is about to do, or has just done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AtArrival {
    /// About to make the container.
    Reserve,
    /// The note that the image is still to come is left, the engine not yet called.
    Prepare,
    /// The note that the image is there is left, the engine not yet called, or its runtime still waiting.
    Restore,
    /// Restored and held, not yet answered.
    Restored,
    /// The certificate is accepted, the register does not say so yet.
    TakeOver,
    /// The register says that the service is owned here; its processes still stand.
    Released,
    /// About to tidy up after the source is gone.
    Finish,
    /// About to give up what is held.
    Discard,
}

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carried {
    /// CRIU's image.
    Memory,
    /// Pages of memory, while the service runs.
    Ahead,
    /// The writable layer.
    Layer,
    /// A named volume.
    Volume,
}

/// A call of one agent to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// What speaks against the migration?
    Check,
    /// Make the container.
    Reserve,
    /// Make everything ready but the image.
    Prepare,
    /// Restore it, held.
    Restore,
    /// Show it.
    Restored,
    /// Let it run.
    Release,
    /// The source is gone.
    Finish,
    /// Give it up.
    Discard,
}

/// One point. Its text is what [`fmt::Display`] writes and [`FromStr`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// The source is about to enter a phase.
    Before(Phase),
    /// What makes up the phase is done; the register does not have it yet.
    Done(Phase),
    /// The register has the phase.
    After(Phase),
    /// The source is about to undo something.
    BeforeUndo(Undo),
    /// It is undone.
    DoneUndo(Undo),
    /// The commit is about to be written into the register.
    BeforeCommit,
    /// The register says `commit`; nobody knows yet.
    DoneCommit,
    /// At the destination.
    Arrival(AtArrival),
    /// One byte of a stream arrives wrong.
    Corrupt(Carried),
    /// A stream ends before its end.
    Truncate(Carried),
    /// The connection of a stream breaks, once much of it has crossed, or all but its end.
    Break(Carried),
    /// A call is made again after its answer has come.
    Duplicate(Call),
    /// A call is made twice at once.
    Race(Call),
    /// A call is carried out, and its answer never comes.
    DropAnswer(Call),
}

/// Not the text of a point.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no point at which a fault can strike; those that are stand in sterna_executor::fault")]
pub struct UnknownPoint(String);

impl AtArrival {
    /// All, in the order of a migration.
    pub const ALL: [Self; 8] = [
        Self::Reserve,
        Self::Prepare,
        Self::Restore,
        Self::Restored,
        Self::TakeOver,
        Self::Released,
        Self::Finish,
        Self::Discard,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Prepare => "prepare",
            Self::Restore => "restore",
            Self::Restored => "restored",
            Self::TakeOver => "take-over",
            Self::Released => "released",
            Self::Finish => "finish",
            Self::Discard => "discard",
        }
    }
}

impl Carried {
    /// All.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Ahead, Self::Layer, Self::Volume];

    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Ahead => "ahead",
            Self::Layer => "layer",
            Self::Volume => "volume",
        }
    }
}

impl Call {
    /// All, in the order of a migration.
    pub const ALL: [Self; 8] = [
        Self::Check,
        Self::Reserve,
        Self::Prepare,
        Self::Restore,
        Self::Restored,
        Self::Release,
        Self::Finish,
        Self::Discard,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Reserve => "reserve",
            Self::Prepare => "prepare",
            Self::Restore => "restore",
            Self::Restored => "restored",
            Self::Release => "release",
            Self::Finish => "finish",
            Self::Discard => "discard",
        }
    }
}

const UNDOS: [Undo; 3] = [Undo::ThawSource, Undo::DeleteImage, Undo::DiscardDestination];

const fn undo_name(undo: Undo) -> &'static str {
    match undo {
        Undo::ThawSource => "undo-thaw-source",
        Undo::DeleteImage => "undo-delete-image",
        Undo::DiscardDestination => "undo-discard-destination",
    }
}

impl Point {
    /// Every point there is.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for phase in Phase::ALL {
            if phase == Phase::Committed {
                all.extend([Self::BeforeCommit, Self::DoneCommit]);
            } else {
                all.extend([Self::Before(phase), Self::Done(phase), Self::After(phase)]);
            }
        }
        all.extend(UNDOS.into_iter().flat_map(|undo| [Self::BeforeUndo(undo), Self::DoneUndo(undo)]));
        all.extend(AtArrival::ALL.map(Self::Arrival));
        all.extend(
            Carried::ALL
                .into_iter()
                .flat_map(|part| [Self::Corrupt(part), Self::Truncate(part), Self::Break(part)]),
        );
        all.extend(
            Call::ALL
                .into_iter()
                .flat_map(|call| [Self::Duplicate(call), Self::Race(call), Self::DropAnswer(call)]),
        );
        all
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Before(phase) => format!("before:{phase}"),
            Self::Done(phase) => format!("done:{phase}"),
            Self::After(phase) => format!("after:{phase}"),
            Self::BeforeUndo(undo) => format!("before:{}", undo_name(*undo)),
            Self::DoneUndo(undo) => format!("done:{}", undo_name(*undo)),
            Self::BeforeCommit => "before:decide-commit".to_owned(),
            Self::DoneCommit => "done:decide-commit".to_owned(),
            Self::Arrival(at) => format!("arrival-{}", at.name()),
            Self::Corrupt(part) => format!("corrupt:{}", part.name()),
            Self::Truncate(part) => format!("truncate:{}", part.name()),
            Self::Break(part) => format!("break:{}", part.name()),
            Self::Duplicate(call) => format!("duplicate:{}", call.name()),
            Self::Race(call) => format!("race:{}", call.name()),
            Self::DropAnswer(call) => format!("drop-answer:{}", call.name()),
        };
        f.pad(&text)
    }
}

impl FromStr for Point {
    type Err = UnknownPoint;
    fn from_str(text: &str) -> Result<Self, UnknownPoint> {
        let wanted = text.trim();
        Self::all()
            .into_iter()
            .find(|point| point.to_string() == wanted)
            .ok_or_else(|| UnknownPoint(wanted.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_point_has_a_text_of_its_own_and_is_found_by_it() {
        let all = Point::all();
        let texts: BTreeSet<String> = all.iter().map(Point::to_string).collect();
        assert_eq!(texts.len(), all.len());
        for point in all {
            assert_eq!(format!("{point}\n").parse(), Ok(point));
        }
        assert_eq!("after:committed".parse::<Point>(), Err(UnknownPoint("after:committed".into())));
    }
}
