//! What a move is going to cost: a line through what moves cost that were measured, corrected by what the pair's own have cost.

use serde::{Deserialize, Serialize};
use sterna_core::plan::MoveCost;
use sterna_policies::quantity::{Bytes, Millis};

use super::phase::Phase;
use super::report::{Outcome, Report};

/// What a move has to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Resident memory.
    pub memory: Bytes,
    /// Writable layer and volumes.
    pub files: Bytes,
    /// The image, where the destination lacks it; else zero.
    pub image: Bytes,
}

/// A prediction, and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// What the move is predicted to cost.
    pub cost: MoveCost,
    /// Moves between the two nodes that it was learnt from. None: it rests on what other nodes have shown.
    pub learnt_from: usize,
}

/// Milliseconds of a dump and of a restore, each a constant part and a part per MiB: measured with CRIU 4.2.1 by runc on an idle
/// machine of two cores, from 4 MiB to 1 GiB.
const DUMP: (f64, f64) = (300.0, 0.5);
const RESTORE: (f64, f64) = (350.0, 0.5);
/// Freezing, proving, committing, releasing together: measured, as above.
const AROUND: f64 = 100.0;
/// Checking, reserving, and cleaning up after it: measured, as above.
const BESIDE: f64 = 700.0;
/// What crosses between two nodes of one machine in a millisecond: 190 MiB/s, measured at 256 MiB of memory.
const LINK: f64 = 190.0 * 1048.576;
/// Memory that does not tell the link's speed: opening the stream takes longer than sending it.
const TELLING: Bytes = Bytes::from_mib(8);

fn line((constant, per_mib): (f64, f64), memory: Bytes) -> f64 {
    constant + per_mib * memory.0 as f64 / 1_048_576.0
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The time that one phase took, in milliseconds, and what it sent.
fn phase(report: &Report, wanted: Phase) -> Option<(f64, Bytes)> {
    let record = report.phases.iter().find(|one| one.phase == wanted)?;
    Some((record.took.as_f64(), record.bytes))
}

/// Predicts a move from what it has to carry and the reports of past moves between the same two nodes, newest first.
pub fn predict(load: Load, past: &[Report]) -> Forecast {
    let moved: Vec<&Report> = past
        .iter()
        .filter(|one| one.outcome == Outcome::Moved && phase(one, Phase::Dumped).is_some())
        .collect();
    let scale = |wanted: Phase, model: (f64, f64)| {
        let ratio = |report: &&Report| {
            let (took, _) = phase(report, wanted)?;
            Some(took / line(model, phase(report, Phase::Transferred)?.1))
        };
        median(moved.iter().filter_map(ratio).collect()).unwrap_or(1.0)
    };
    let together = |phases: &[Phase], without: f64| {
        let sum = |report: &&Report| phases.iter().filter_map(|one| Some(phase(report, *one)?.0)).sum();
        median(moved.iter().map(sum).collect()).unwrap_or(without)
    };
    let rate = |report: &&Report| {
        let (took, bytes) = phase(report, Phase::Transferred)?;
        (bytes >= TELLING && took > 0.0).then(|| bytes.0 as f64 / took)
    };
    let link = median(moved.iter().filter_map(rate).collect()).unwrap_or(LINK);
    let dump = line(DUMP, load.memory) * scale(Phase::Dumped, DUMP);
    let restore = line(RESTORE, load.memory) * scale(Phase::Restored, RESTORE);
    let around = together(&[Phase::Frozen, Phase::Verified, Phase::Committed, Phase::Released], AROUND);
    let beside = together(&[Phase::Checked, Phase::Cleaned], BESIDE);
    let downtime = around + dump + load.memory.0 as f64 / link + restore;
    let before = (load.files.0 + load.image.0) as f64 / link;
    // At most 2^63 nanoseconds in a float that is no longer than that.
    let millis = |value: f64| Millis::from_micros((value * 1e6) as i64);
    Forecast {
        cost: MoveCost {
            downtime: millis(downtime),
            duration: millis(beside + before + downtime),
            bytes: Bytes(load.memory.0 + load.files.0 + load.image.0),
        },
        learnt_from: moved.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::order::MigrationId;
    use crate::migration::report::PhaseRecord;

    fn load(mib: u64) -> Load {
        Load { memory: Bytes::from_mib(mib), ..Load::default() }
    }

    fn report(slower: f64) -> Report {
        let memory = Bytes::from_mib(64);
        let record = |phase, took: f64, bytes| PhaseRecord {
            phase,
            took: Millis::from_micros((took * 1e6) as i64),
            bytes,
        };
        Report {
            phases: vec![
                record(Phase::Dumped, line(DUMP, memory) * slower, Bytes::ZERO),
                record(Phase::Transferred, memory.0 as f64 / LINK * slower, memory),
                record(Phase::Restored, line(RESTORE, memory) * slower, Bytes::ZERO),
                record(Phase::Released, AROUND * slower, Bytes::ZERO),
                record(Phase::Cleaned, BESIDE * slower, Bytes::ZERO),
            ],
            ..Report::example(MigrationId::new())
        }
    }

    #[test]
    fn without_past_moves_it_rests_on_measured_constants() {
        let forecast = predict(load(0), &[]);
        assert_eq!(forecast.learnt_from, 0);
        assert_eq!(forecast.cost.downtime.as_f64().round(), 750.0);
        let bigger = predict(load(1024), &[]);
        assert!(bigger.cost.downtime.as_f64() > 6000.0 && bigger.cost.duration > bigger.cost.downtime);
        assert_eq!(bigger.cost.bytes, Bytes::from_mib(1024));
    }

    #[test]
    fn files_and_image_take_time_but_no_downtime() {
        let more = Load { files: Bytes::from_mib(190), image: Bytes::from_mib(190), ..load(1) };
        let (with, without) = (predict(more, &[]), predict(load(1), &[]));
        assert_eq!(with.cost.downtime, without.cost.downtime);
        let longer = with.cost.duration.as_f64() - without.cost.duration.as_f64();
        assert_eq!(longer.round(), 2000.0);
    }

    #[test]
    fn past_moves_of_the_pair_correct_it() {
        let plain = predict(load(64), &[]).cost.downtime.as_f64();
        let learnt = predict(load(64), &[report(2.0), report(2.0), report(9.0)]);
        assert_eq!(learnt.learnt_from, 3);
        let ratio = learnt.cost.downtime.as_f64() / plain;
        assert!((ratio - 2.0).abs() < 0.01, "the median counts, not the odd one: {ratio}");
    }

    #[test]
    fn what_was_not_moved_teaches_nothing() {
        let undone = Report {
            outcome: Outcome::RolledBack { after: Phase::Dumped, reason: String::new() },
            ..report(5.0)
        };
        assert_eq!(predict(load(64), &[undone]), predict(load(64), &[]));
    }
}
