//! What the parts of a move take, learnt from migrations that were measured.
//!
//! Through each phase's times a line is laid, over the memory of the service or, where the phase sends, over what it sent. The lines
//! together are the [`Costs`] by which moves are predicted, here and by the scheduler. How good they are is told by leaving out: each
//! size is predicted from all others.
//!
//! | module | what lives there |
//! |---|---|
//! | [`measured`] | migrations that were measured, and the JSON that they may come in |
//! | [`part`] | which phase belongs to which cost |
//! | [`fit`] | a line through times, and how far one may rely on it |
//! | [`leave`] | sizes, and how well each is predicted from the others |
//! | [`mod@file`] | the result as the file that scheduler and scenarios read |

use serde::Serialize;
use sterna_core::cost::{Costs, Left, Line, ROUND_TRIPS};
use sterna_policies::quantity::{Bytes, Millis, Percent};

pub mod file;
pub mod fit;
pub mod leave;
pub mod measured;
pub mod part;

use fit::{Fit, Point};
use leave::Size;
use measured::Measured;
use part::{Over, Part};

/// Sizes that a calibration needs: two for a line, and one to try it on.
pub const LEAST_SIZES: usize = 3;

/// Measurements that nothing can be learnt from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalibrateError {
    /// There is none.
    #[error(
        "there is no migration to learn from: none of a service that was moved live, with the times of its phases"
    )]
    Nothing,
    /// They are too much alike.
    #[error(
        "{migrations} migrations of {} are too few sizes: a line needs two and another one to try it on; measure services of \
         {LEAST_SIZES} sizes at least, each some times", list(.sizes)
    )]
    TooFewSizes {
        /// How many there are.
        migrations: usize,
        /// Their sizes.
        sizes: Vec<Bytes>,
    },
}

fn list(sizes: &[Bytes]) -> String {
    sizes.iter().map(Bytes::to_string).collect::<Vec<_>>().join(" and ")
}

/// The line through what one phase took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phase {
    /// Which; `other` for what lies between the phases.
    pub phase: String,
    /// Over what.
    pub over: Over,
    /// The line.
    #[serde(flatten)]
    pub fit: Fit,
    /// Mean of the relative errors of each size's times, predicted from all others; `None` where there are too few sizes.
    pub left_out_error: Option<f64>,
}

/// What was learnt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// How many migrations it was learnt from.
    pub migrations: usize,
    /// How well whole migrations are told, by size.
    pub sizes: Vec<Size>,
    /// Mean of the relative errors of whole migrations, each size predicted from all others.
    pub duration_error: f64,
    /// The same of downtimes, where they were measured.
    pub downtime_error: Option<f64>,
    /// The lines, in the order of the phases.
    pub phases: Vec<Phase>,
    /// The part of a memory that was left of what was sent ahead; `None` where nothing was.
    pub left: Option<Left>,
    /// What of it moves are predicted by.
    #[serde(skip)]
    pub costs: Costs,
}

/// Learns.
///
/// # Errors
/// Where there is too little to learn from.
pub fn calibrate(measured: &[Measured]) -> Result<Calibration, CalibrateError> {
    if measured.is_empty() {
        return Err(CalibrateError::Nothing);
    }
    let groups = leave::groups(measured);
    if groups.len() < LEAST_SIZES {
        let sizes = groups.iter().map(|group| leave::middle(group)).collect();
        return Err(CalibrateError::TooFewSizes { migrations: measured.len(), sizes });
    }
    let lines = leave::lines(measured.iter());
    let leave::Tried { sizes, duration_error, downtime_error, by_phase } = leave::tried(&groups, &lines);
    let phases: Vec<Phase> = lines
        .into_iter()
        .map(|(phase, fit)| Phase {
            over: Part::of(&phase).map_or(Over::Memory, Part::over),
            left_out_error: by_phase.get(&phase).copied(),
            phase,
            fit,
        })
        .collect();
    let left = left(measured);
    let costs = costs(&phases, left, round_trip(measured));
    Ok(Calibration { migrations: measured.len(), sizes, duration_error, downtime_error, phases, left, costs })
}

/// A line through what was left of memories that were sent ahead.
fn left(measured: &[Measured]) -> Option<Left> {
    let of = |one: &Measured| {
        let sent = one.phases.iter().find(|took| Part::of(&took.phase) == Some(Part::Transfer))?.sent;
        one.ahead.then(|| Point { at: one.memory.as_mib(), took: sent.as_mib() })
    };
    let points: Vec<Point> = measured.iter().filter_map(of).collect();
    let fit = Fit::of(&points)?;
    let share = Percent::from_f64((fit.per_mib * 100.0).min(100.0))?;
    Some(Left { constant: Bytes((fit.constant * 1_048_576.0).round() as u64), share })
}

/// The mean round trip of the links that were crossed, in milliseconds; none where it is not known.
fn round_trip(measured: &[Measured]) -> f64 {
    let known: f64 = measured.iter().filter_map(|one| one.round_trip).sum();
    known / measured.len().max(1) as f64
}

/// The lines of the phases, added up to the parts that moves are predicted by. A part of which nothing was measured is as it is
/// without a calibration.
///
/// Round trips are in no cost either: each prediction adds those of its own link, so those that were measured are taken out.
fn costs(phases: &[Phase], left: Option<Left>, round_trip: f64) -> Costs {
    let assumed = Costs::default();
    let millis = |value: f64| Millis::from_f64(value).unwrap_or(Millis::ZERO);
    let sum = |part: Part| {
        let mut of = phases.iter().filter(|phase| Part::of(&phase.phase) == Some(part)).peekable();
        of.peek()?;
        let (constant, per_mib) = of.fold((0.0, 0.0), |(constant, per_mib), phase| {
            // What a byte takes to cross is the link's to say, wherever a move goes.
            let slope = if phase.over == Over::Memory { phase.fit.per_mib } else { 0.0 };
            (constant + phase.fit.constant, per_mib + slope)
        });
        Some(Line { constant: millis(constant), per_mib: millis(per_mib) })
    };
    let beside = [sum(Part::Beside), sum(Part::Sync)].into_iter().flatten().reduce(|a, b| Line {
        constant: a.constant.saturating_add(b.constant),
        per_mib: a.per_mib.saturating_add(b.per_mib),
    });
    let without = |time: Millis, round_trips: i64| {
        time.saturating_sub(millis(round_trip * round_trips as f64)).max(Millis::ZERO)
    };
    let beside = beside.map(|line| Line { constant: without(line.constant, ROUND_TRIPS), ..line });
    Costs {
        dump: sum(Part::Dump).unwrap_or(assumed.dump),
        restore: sum(Part::Restore).unwrap_or(assumed.restore),
        around: sum(Part::Around).unwrap_or(assumed.around),
        beside: beside.unwrap_or(assumed.beside),
        opening: sum(Part::Transfer).map_or(assumed.opening, |line| without(line.constant, 1)),
        left: left.unwrap_or(assumed.left),
    }
}
